"""The bytes of a text table before it is read: its head, its decoding, a sample of its rows.

The sample is the head, and pieces from the middle and the end; how numbers are written is judged
on all of its columns together.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from loopline.data.cells import CellRules
from loopline.data.csv_dialect import Dialect
from loopline.data.table_format import MISSING_MARKERS, TableFormat
from loopline.errors import DataError

HEAD_BYTES = 1 << 20
MAX_LINE_BYTES = 16 << 20
_PIECE_BYTES = 256 << 10


def head_of(source: Path | bytes, name: str) -> bytes:
    """The first megabyte, or as much as it takes to see the end of a line."""
    if isinstance(source, bytes):
        head = source[:HEAD_BYTES]
        if len(head) < len(source) and b"\n" not in head and b"\r" not in head:
            head = source[:MAX_LINE_BYTES]
        size = len(source)
    else:
        size = source.stat().st_size
        with source.open("rb") as file:
            head = file.read(HEAD_BYTES)
            if len(head) < size and b"\n" not in head and b"\r" not in head:
                head += file.read(MAX_LINE_BYTES - len(head))
    if not head:
        raise DataError(f"{name} is empty (0 bytes).")
    if len(head) < size and b"\n" not in head and b"\r" not in head:
        raise DataError(
            f"{name} is no text table: its first line has no end within {MAX_LINE_BYTES >> 20} MB "
            f"(the file has {size >> 20:,} MB). Is a line break missing, or is it no text?"
        )
    if head.count(b"\n") < 50 and len(head) < size:
        # Long rows: see more of them than the first megabyte holds.
        head = _first(source, MAX_LINE_BYTES + HEAD_BYTES)
        if len(head) - head.rfind(b"\n") > MAX_LINE_BYTES and b"\n" in head:
            num_lines = head.count(b"\n")
            raise DataError(
                f"{name} is no text table: line {num_lines + 1:,} has no end within "
                f"{MAX_LINE_BYTES >> 20} MB. Is a line break missing?"
            )
    return head


def check_lines(source: Path | bytes, name: str) -> None:
    """Refuse a line without end far behind the head.

    A line longer than two blocks fills one whole block, so a look at the start of each is enough.

    Raises:
        DataError: names the line.
    """
    block = MAX_LINE_BYTES // 2
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    for place in range(block, size - block, block):
        if b"\n" in _part(source, place, _PIECE_BYTES) or b"\n" in _part(source, place, block):
            continue
        line = 1 + sum(_part(source, start, block).count(b"\n") for start in range(0, place, block))
        raise DataError(
            f"{name} is no text table: line {line:,} has no end within {block >> 20} MB. Is a "
            "line break missing, or a part of the file damaged?"
        )


def start_of(data: bytes, least: int = 0) -> bytes:
    """The part of a text in memory that its dialect is judged on."""
    return data[: max(HEAD_BYTES, least)]


def _first(source: Path | bytes, count: int) -> bytes:
    if isinstance(source, bytes):
        return source[:count]
    with source.open("rb") as file:
        return file.read(count)


def all_bytes(source: Path | bytes) -> bytes:
    """The whole content of a file, or of one in memory."""
    return source if isinstance(source, bytes) else source.read_bytes()


def decoded(source: Path | bytes, encoding: str, name: str) -> bytes:
    """The whole content in UTF-8.

    Raises:
        DataError: it is not written in that encoding throughout.
    """
    data = all_bytes(source)
    try:
        return data.decode(encoding).encode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not written in {encoding}: byte {error.start:,} "
            f"(0x{data[error.start]:02x}) cannot be read. Give another `encoding`, or none."
        ) from None


def cell_rules(
    sample: pl.DataFrame, dialect: Dialect, fmt: TableFormat
) -> tuple[CellRules, list[str]]:
    """What stands for missing and how numbers are written, given or found in the sample."""
    missing = fmt.missing if fmt.missing is not None else MISSING_MARKERS
    decimal, thousands = fmt.decimal or ".", fmt.thousands or ""
    notes: list[str] = []
    if fmt.decimal is None:
        decimal, thousands = _number_style(sample, dialect.delimiter, fmt.thousands)
        if decimal == ",":
            notes.append("decimal comma")
        elif thousands and fmt.thousands is None:
            notes.append("comma groups the digits of numbers")
    day_first = decimal == "," or dialect.delimiter == ";"
    rules = CellRules(missing, decimal, thousands, dialect.strip, day_first)
    return rules, notes


def _number_style(sample: pl.DataFrame, delimiter: str, thousands: str | None) -> tuple[str, str]:
    """Decimal mark and digit grouping, from all columns that hold a comma between digits."""
    with_marks = sample.select(pl.all().str.contains(r"^\s*[+-]?\d*,\d").any()).row(0)
    if not any(with_marks):
        return ".", thousands or ""
    comma = point = grouped = 0
    for name in sample.columns:
        cells = sample[name].str.strip_chars().drop_nulls()
        cells = cells.filter((cells != "") & ~cells.is_in(MISSING_MARKERS))
        numbers = cells.filter(cells.str.contains(r"^[+-]?\d[\d.,]*$|^[+-]?[.,]\d+$"))
        if numbers.is_empty() or len(numbers) < 0.9 * len(cells):
            continue
        with_comma = numbers.filter(numbers.str.contains(",", literal=True))
        point += bool(numbers.str.contains(r"^[+-]?\d+\.\d+$").any() and with_comma.is_empty())
        if with_comma.is_empty():
            continue
        if with_comma.str.contains(r"^[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?$").all():
            grouped += 1
        elif with_comma.str.contains(r"^[+-]?(?:\d{1,3}(?:\.\d{3})+|\d*),\d+$").all():
            comma += 1
    if comma:
        return ",", thousands or "."
    if grouped and (point or delimiter == ","):
        return ".", thousands if thousands is not None else ","
    if grouped and delimiter == ";":
        return ",", thousands or "."
    return ".", thousands or ("," if grouped else "")


def sample_of(source: Path | bytes, head: bytes, dialect: Dialect, size: int) -> pl.DataFrame:
    """Rows from the head, the middle and the end, every cell as text."""
    cut = head if len(head) >= size else head[: head.rfind(b"\n") + 1]
    start = 0
    for _ in range(dialect.skip_lines):
        start = cut.find(b"\n", start) + 1
    pieces = [_parse_piece(cut[start:], dialect)]
    if not dialect.multiline and size > len(head) + 4 * _PIECE_BYTES:
        for place in (size // 2, size - _PIECE_BYTES):
            piece = _part(source, place, _PIECE_BYTES)
            first, last = piece.find(b"\n") + 1, piece.rfind(b"\n") + 1
            pieces.append(_parse_piece(piece[first:last], dialect))
    frames = [piece for piece in pieces if piece is not None]
    if not frames:
        return pl.DataFrame(schema=dict.fromkeys(dialect.names, pl.String))
    return pl.concat(frames)


def _part(source: Path | bytes, place: int, count: int) -> bytes:
    if isinstance(source, bytes):
        return source[place : place + count]
    with source.open("rb") as file:
        file.seek(place)
        return file.read(count)


def _parse_piece(piece: bytes, dialect: Dialect) -> pl.DataFrame | None:
    """Some rows as text, or None where they cannot be read alone; the full pass judges those."""
    if not piece.strip():
        return None
    try:
        return pl.read_csv(
            piece,
            schema=dict.fromkeys(dialect.names, pl.String),
            has_header=False,
            separator=dialect.delimiter,
            quote_char=dialect.quote or None,
            comment_prefix=dialect.comment or None,
            truncate_ragged_lines=True,
            encoding="utf8-lossy",
        )
    except pl.exceptions.PolarsError:
        return None
