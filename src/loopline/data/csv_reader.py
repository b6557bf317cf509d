"""Read a text table: one polars pass over the file with types decided from a sample of its rows.

The sample is the head, and pieces from the middle and the end. Columns of clean numbers go
straight to their type; every other column is read as text and given its type from *all* of its
cells. When a column's cells do not hold what the sample promised, that column is read again as
text. So the common file costs what polars costs, and the odd one is never wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from loopline.data.cells import CellRules, ReadColumn, direct_types, read_cells
from loopline.data.csv_dialect import (
    Dialect,
    find_dialect,
    find_encoding,
    joins_rows,
    resolved,
    single_byte_encoding,
)
from loopline.data.csv_rows import RowShapes, scan_rows
from loopline.data.table_format import MISSING_MARKERS, TableFormat, dtype_name, dtype_of
from loopline.errors import DataError
from loopline.frames import canonical

HEAD_BYTES = 1 << 20
MAX_LINE_BYTES = 16 << 20
MAX_COLUMNS = 200_000
_PIECE_BYTES = 256 << 10
_NUM_RETRIES = 3
_PLAIN = ("utf-8", "utf-8-sig")
_FAILED_COLUMN = re.compile(
    r"could not parse `(.*)` as dtype `\w+` at column '(.*)' \(column", re.S
)


@dataclass(frozen=True, slots=True)
class TextTable:
    """What reading one text table gives."""

    frame: pl.DataFrame
    format: TableFormat
    notes: tuple[str, ...]
    problems: Mapping[str, int]  # column -> cells that were not of its type and became missing


def read_text_table(source: Path | bytes, name: str, fmt: TableFormat) -> TextTable:
    """Read one delimited text table.

    Args:
        source: a file, or the bytes of one that had to be unpacked first.
        name: what messages call it.
        fmt: what is known of its format.

    Raises:
        DataError: it is empty, no text, or its rows do not make a table.
    """
    head = _head(source, name)
    encoding, note = find_encoding(head, fmt.encoding, name)
    notes = [note] if note else []
    if encoding not in _PLAIN:
        source = _decoded(source, encoding, name)
        head = source[: max(HEAD_BYTES, len(head))]
    try:
        return _read_utf8(source, head, name, fmt, encoding=encoding, notes=notes)
    except _NotUtf8Error:
        if fmt.encoding is not None:
            raise DataError(
                f"{name} is not written in {encoding} throughout. Give another `encoding`, or none."
            ) from None
    data = _all_bytes(source)
    encoding, note = single_byte_encoding(data[: 64 << 20], name)
    data = _decoded(data, encoding, name)
    return _read_utf8(data, data[:HEAD_BYTES], name, fmt, encoding=encoding, notes=[note])


class _NotUtf8Error(Exception):
    """Bytes beyond the head are not UTF-8."""


def _read_utf8(
    source: Path | bytes,
    head: bytes,
    name: str,
    fmt: TableFormat,
    *,
    encoding: str,
    notes: list[str],
) -> TextTable:
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    if b"\n" not in head and b"\r" in head:
        source = _all_bytes(source).replace(b"\r", b"\n")
        head = head.replace(b"\r", b"\n")
        notes = [*notes, "lines end with a carriage return"]
    whole = len(head) >= size
    text = head.decode("utf-8-sig", errors="ignore")
    dialect, told = find_dialect(text, fmt, name, whole=whole)
    notes = [*notes, *told]
    if len(dialect.names) > MAX_COLUMNS:
        raise DataError(
            f"{name} has {len(dialect.names):,} columns; at most {MAX_COLUMNS:,} are read. Is the "
            "table turned on its side, or the delimiter not the right one?"
        )
    if dialect.delimiter == " ":
        source = re.sub(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)", b"", _all_bytes(source))
        source = re.sub(rb"[ \t]+", b" ", source)
        head, size = source[:HEAD_BYTES], len(source)
    sample = _sample(source, head, dialect, size)
    rules, told = _cell_rules(sample, dialect, fmt)
    notes += told
    reader = _Reader(source, name, fmt, dialect, rules)
    frame, dates, found, problems = reader.read(sample)
    dialect = reader.dialect
    notes += found
    return TextTable(
        frame,
        replace(
            resolved(fmt, dialect, encoding),
            decimal=rules.decimal,
            thousands=rules.thousands,
            missing=tuple(rules.missing),
            dates={**fmt.dates, **dates},
            dtypes={
                column: written
                for column, dtype in frame.schema.items()
                if (written := dtype_name(dtype)) is not None
            },
        ),
        tuple(notes),
        problems,
    )


# ---- bytes --------------------------------------------------------------------------------------


def _head(source: Path | bytes, name: str) -> bytes:
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


def _first(source: Path | bytes, count: int) -> bytes:
    if isinstance(source, bytes):
        return source[:count]
    with source.open("rb") as file:
        return file.read(count)


def _all_bytes(source: Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def _decoded(source: Path | bytes, encoding: str, name: str) -> bytes:
    data = _all_bytes(source)
    try:
        return data.decode(encoding).encode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not written in {encoding}: byte {error.start:,} "
            f"(0x{data[error.start]:02x}) cannot be read. Give another `encoding`, or none."
        ) from None


# ---- the sample ---------------------------------------------------------------------------------


def _cell_rules(
    sample: pl.DataFrame, dialect: Dialect, fmt: TableFormat
) -> tuple[CellRules, list[str]]:
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


def _sample(source: Path | bytes, head: bytes, dialect: Dialect, size: int) -> pl.DataFrame:
    """Rows from the head, the middle and the end, every cell as text."""
    cut = head if len(head) >= size else head[: head.rfind(b"\n") + 1]
    start = 0
    for _ in range(dialect.skip_lines):
        start = cut.find(b"\n", start) + 1
    pieces = [_parse_piece(cut[start:], dialect)]
    if not dialect.multiline and size > len(head) + 4 * _PIECE_BYTES:
        for place in (size // 2, size - _PIECE_BYTES):
            piece = _piece(source, place)
            first, last = piece.find(b"\n") + 1, piece.rfind(b"\n") + 1
            pieces.append(_parse_piece(piece[first:last], dialect))
    frames = [piece for piece in pieces if piece is not None]
    if not frames:
        return pl.DataFrame(schema=dict.fromkeys(dialect.names, pl.String))
    return pl.concat(frames)


def _piece(source: Path | bytes, place: int) -> bytes:
    if isinstance(source, bytes):
        return source[place : place + _PIECE_BYTES]
    with source.open("rb") as file:
        file.seek(place)
        return file.read(_PIECE_BYTES)


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


# ---- the pass over the file ---------------------------------------------------------------------


class _Reader:
    """One text table on its way into a frame."""

    def __init__(
        self,
        source: Path | bytes,
        name: str,
        fmt: TableFormat,
        dialect: Dialect,
        rules: CellRules,
    ) -> None:
        self.source, self.name, self.fmt = source, name, fmt
        self.dialect, self.rules = dialect, rules
        # A resolved format also reads files that lack a column, such as the target when predicting;
        # whoever needs the column says so.
        self.wanted = {
            column: dtype_of(told) for column, told in fmt.dtypes.items() if column in dialect.names
        }

    def read(
        self, sample: pl.DataFrame
    ) -> tuple[pl.DataFrame, dict[str, str], list[str], dict[str, int]]:
        """The frame, the date formats found, notes, and counts of unreadable cells."""
        schema, widths = self._plan(sample)
        frame = self._pass(schema)
        frame = self._checked_digits(frame, widths)
        frame, notes = self._checked_shape(frame)
        if self._swallowed_rows(frame):
            self.dialect = replace(self.dialect, quote="")
            frame, notes = self._checked_shape(self._pass(schema))
            notes.insert(0, "quote marks are read as ordinary characters")
        self._check_text(frame)
        notes.extend(self._row_like_cells(frame))
        columns = []
        dates: dict[str, str] = {}
        problems: dict[str, int] = {}
        markers: dict[str, tuple[int, int]] = {}
        for written in frame.get_columns():
            if written.dtype != pl.String():
                columns.append(written)
                continue
            column, read = written.name, self._read_column(written)
            columns.append(read.series)
            if read.date_format:
                dates[column] = read.date_format
            notes.extend(read.notes)
            for word, count in read.markers.items():
                if word:
                    cells, places = markers.get(word, (0, 0))
                    markers[word] = (cells + count, places + 1)
            if blanks := read.markers.get("", 0):
                notes.extend(_blank_note(read.series, blanks))
            if read.unreadable is not None:
                problems[column] = int(read.unreadable.sum())
                notes.append(
                    f"{problems[column]:,} cells of {column!r} are not "
                    f"{dtype_name(read.series.dtype)} and read as missing"
                )
        notes = [*_marker_notes(markers), *notes]
        # A "nan" that no sample saw was read as a number by polars; here it is a missing cell.
        return canonical(pl.DataFrame(columns)), dates, notes, problems

    def _plan(self, sample: pl.DataFrame) -> tuple[dict[str, pl.DataType], dict[str, int]]:
        """The types to read directly, and for whole numbers their one number of digits, if one."""
        direct = (
            direct_types(sample)
            if self.rules.decimal == "." and not self.rules.thousands and sample.height
            else {}
        )
        schema: dict[str, pl.DataType] = {}
        widths: dict[str, int] = {}
        for column in self.dialect.names:
            dtype, width = direct.get(column, (pl.String(), 0))
            wanted = self.wanted.get(column, dtype)
            if wanted == pl.Float64() and dtype == pl.Int64():
                dtype = wanted
            schema[column] = dtype if dtype == wanted else pl.String()
            if dtype == pl.Int64() and column not in self.wanted and width > 1:
                widths[column] = width
        return schema, widths

    def _pass(self, schema: dict[str, pl.DataType]) -> pl.DataFrame:
        """One polars pass, repeated with a column as text when that one breaks its promise."""
        schema = dict(schema)
        for attempt in range(_NUM_RETRIES + 1):
            try:
                return self._polars(schema)
            except pl.exceptions.PolarsError as error:
                failed = _FAILED_COLUMN.search(str(error))
                column = str(failed.group(2)) if failed else ""
                if not failed or schema.get(column, pl.String()) == pl.String():
                    self._explain(error)
                schema[column] = pl.String()
                if attempt == _NUM_RETRIES - 1:
                    schema = dict.fromkeys(schema, pl.String())
        raise AssertionError("text columns cannot fail to parse")

    def _polars(
        self, schema: Mapping[str, pl.DataType], columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        lazy = pl.scan_csv(
            self.source,
            schema=dict(schema),
            has_header=False,
            skip_lines=self.dialect.skip_lines,
            separator=self.dialect.delimiter,
            quote_char=self.dialect.quote or None,
            comment_prefix=self.dialect.comment or None,
            glob=False,
        )
        if columns is not None:
            lazy = lazy.select(columns)
        return lazy.collect(engine="streaming")

    def _explain(self, error: pl.exceptions.PolarsError) -> None:
        """Turn what polars says into a sentence with line numbers."""
        told = str(error)
        if "utf-8" in told or "utf8" in told:
            raise _NotUtf8Error from None
        shapes = self._scan()
        if shapes.num_ragged:
            raise DataError(
                f"{self.name}: every row must have {len(self.dialect.names)} cells as the first; "
                f"{shapes.told()}. Correct those lines, or enclose cells that contain "
                f"{self.dialect.delimiter!r} in quotes."
            ) from None
        if shapes.open_quote_line is not None:
            raise DataError(
                f"{self.name}: the quote opened in line {shapes.open_quote_line:,} is never "
                "closed. Close it, or give `quote: ''` if quote marks are ordinary characters here."
            ) from None
        raise DataError(
            f"{self.name} cannot be read as a table with delimiter {self.dialect.delimiter!r}: "
            f"{told.splitlines()[0]}. Check its quotes, or give `delimiter` and `quote`."
        ) from None

    def _scan(self, quote: str | None = None) -> RowShapes:
        return scan_rows(
            self.source,
            delimiter=self.dialect.delimiter,
            quote=self.dialect.quote if quote is None else quote,
            width=len(self.dialect.names),
            skip_lines=self.dialect.skip_lines,
            comment=self.dialect.comment,
        )

    def _checked_digits(self, frame: pl.DataFrame, widths: Mapping[str, int]) -> pl.DataFrame:
        """Read columns again as text where a code with leading zeros may have become a number.

        A column whose sampled whole numbers all have the same number of digits may be one of codes
        (postal codes); a smaller number in it then may have lost its zeros.
        """
        suspicious = []
        for column, width in widths.items():
            least = frame[column].min()
            if isinstance(least, int) and 0 <= least < 10 ** (width - 1):
                suspicious.append(column)
        if not suspicious:
            return frame
        schema = {
            column: pl.String() if column in suspicious else dtype
            for column, dtype in frame.schema.items()
        }
        again = self._polars(schema, suspicious)
        return frame.with_columns(again.get_columns())

    def _checked_shape(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
        """Refuse rows that are too short, and drop the blank lines that polars reads as rows."""
        if frame.is_empty():
            raise DataError(
                f"{self.name} has a header ({', '.join(map(repr, self.dialect.names[:6]))}"
                f"{' …' if frame.width > 6 else ''}) but no rows."
            )
        last = frame[frame.columns[-1]]
        if not last.null_count() or frame.width == 1:
            return frame, []
        shapes = self._scan()
        if shapes.num_ragged:
            raise DataError(
                f"{self.name}: every row must have {frame.width} cells; {shapes.told()}. Correct "
                "those lines, or give the right `delimiter` and `quote`."
            )
        if not shapes.blank_rows:
            return frame, []
        keep = pl.Series([True]).new_from_index(0, frame.height).scatter(shapes.blank_rows, False)
        count = len(shapes.blank_rows)
        frame = frame.filter(keep)
        if frame.is_empty():
            raise DataError(f"{self.name} has no rows: all {count:,} lines are blank.")
        return frame, [f"{count:,} blank line{'s' * (count > 1)} passed over"]

    def _swallowed_rows(self, frame: pl.DataFrame) -> bool:
        """Whether stray quote marks have joined lines that are each a whole row by themselves."""
        if self.fmt.quote is not None or not self.dialect.quote or self.dialect.multiline:
            return False
        if frame.width == 1 or not any(
            series.str.contains("\n", literal=True).any()
            for series in frame.get_columns()
            if series.dtype == pl.String()
        ):
            return False
        plain = self._scan(quote="")
        swallowed = plain.num_rows - len(plain.blank_rows) - frame.height
        return not plain.num_ragged and joins_rows(swallowed, frame.width)

    def _row_like_cells(self, frame: pl.DataFrame) -> list[str]:
        """Notes on cells that may have swallowed rows (a comma there is only prose)."""
        if self.dialect.delimiter == "," or not self.dialect.quote:
            return []
        pattern = rf"\n[^\n]*{re.escape(self.dialect.delimiter)}"
        notes = []
        for series in frame.get_columns():
            if series.dtype == pl.String() and series.str.contains("\n", literal=True).any():
                found = series.str.contains(pattern).arg_true()
                if len(found):
                    notes.append(
                        f"{len(found):,} quoted cells of {series.name!r} hold lines that look like "
                        f"rows, the first in data row {int(found[0]) + 1:,}: are its quotes right?"
                    )
        return notes

    def _check_text(self, frame: pl.DataFrame) -> None:
        for column, dtype in frame.schema.items():
            if dtype != pl.String():
                continue
            zero = frame[column].str.contains("\0", literal=True)
            if zero.any():
                row = int(zero.arg_true()[0])
                raise DataError(
                    f"{self.name}: column {column!r} has a zero byte in data row {row + 1:,}. "
                    "The file is damaged or no text; write it anew."
                )

    def _read_column(self, series: pl.Series) -> ReadColumn:
        column = series.name
        read = read_cells(
            series,
            self.rules,
            dtype=self.wanted.get(column),
            date_format=self.fmt.dates.get(column),
        )
        if read.unreadable is not None and self.fmt.unreadable == "refuse":
            row = int(read.unreadable.arg_true()[0])
            raise DataError(
                f"{self.name}: {int(read.unreadable.sum()):,} cells of column {column!r} are not "
                f"{self.fmt.dtypes[column]}, the first is {series[row]!r:.60} in "
                f"{self._place(row)}. Correct them, or give `unreadable: missing` to make them "
                "missing cells."
            )
        return read

    def _place(self, row: int) -> str:
        if self.dialect.multiline or self.dialect.comment:
            return f"data row {row + 1:,}"
        return f"data row {row + 1:,} (line {row + 1 + self.dialect.skip_lines:,})"


def _blank_note(series: pl.Series, blanks: int) -> list[str]:
    if series.dtype == pl.String():
        return []
    rest = "numbers" if series.dtype.is_numeric() else "dates"
    if series.dtype == pl.Boolean():
        rest = "truth values"
    return [
        f"{blanks:,} blank cell{'s' * (blanks > 1)} in {series.name} read as missing, "
        f"the rest are {rest}"
    ]


def _marker_notes(markers: Mapping[str, tuple[int, int]]) -> list[str]:
    return [
        f"{word!r} read as missing in {places} column{'s' * (places > 1)} ({cells:,} cells)"
        for word, (cells, places) in markers.items()
    ]
