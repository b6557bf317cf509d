"""How a text table is written: encoding, delimiter, quotes, the lines before it, its header.

Everything is judged on the first megabyte. A given field of the `TableFormat` is never questioned;
what is found beside it is said in short sentences.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

from loopline.data.table_format import MISSING_MARKERS, TableFormat
from loopline.errors import DataError

_DELIMITERS = ("\t", ";", "|", ",")
_NUM_ROWS_JUDGED = 1_000
_MAX_LINES_BEFORE = 30
_MAX_CELL_BYTES = 1 << 30
_NUMBER_LIKE = re.compile(
    r"[+-]?(\d[\d.,]*|[.,]\d+)([eE][+-]?\d+)?%?|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?"
)
_DELIMITER_NAMES = {"\t": "tab", " ": "blank"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """A text table's way of writing, complete.

    Args:
        delimiter: between cells.
        quote: around cells, "" for none.
        skip_lines: physical lines before the first row of cells, the header among them.
        header: whether there is a header.
        names: the columns' names.
        strip: blanks around cells are no part of them.
        multiline: cells with line breaks were seen.
        comment: lines that start so are no rows, "" for none.
    """

    delimiter: str
    quote: str
    skip_lines: int
    skip_rows: int
    header: bool
    names: tuple[str, ...]
    strip: bool
    multiline: bool
    comment: str


def find_encoding(head: bytes, given: str | None, name: str) -> tuple[str, str]:
    """The encoding of a file's first bytes and a note when it is not plain UTF-8.

    Raises:
        DataError: the bytes are no text at all, or not in the given encoding.
    """
    if given is not None:
        try:
            codecs.getincrementaldecoder(given)().decode(head)
        except LookupError:
            raise DataError(f"{name}: there is no encoding {given!r}.") from None
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name} is not written in {given}: byte {error.start:,} "
                f"(0x{head[error.start]:02x}) cannot be read. Give another `encoding`, or none."
            ) from None
        return given, ""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if head.startswith(mark):
            return encoding, f"encoding {encoding}"
    if b"\0" in head:
        half = head[: len(head) // 2 * 2]
        for encoding, zeros in (("utf-16-le", half[1::2]), ("utf-16-be", half[::2])):
            if zeros.count(0) > 0.6 * len(zeros):
                return encoding, f"encoding {encoding}"
        place = head.index(b"\0")
        raise DataError(
            f"{name} is no text table: it has a zero byte at offset {place:,}. Is it a binary "
            "file, or was it cut while it was written? Give its `kind`, or write it anew."
        )
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return single_byte_encoding(head, name)
    return "utf-8", ""


def single_byte_encoding(data: bytes, name: str) -> tuple[str, str]:
    """Which one-byte encoding text that is not UTF-8 is in, with the note that says so."""
    control = sum(data.count(bytes([code])) for code in (*range(1, 9), *range(14, 27)))
    if control > max(8, len(data) // 1000):
        raise DataError(
            f"{name} is no text table: {control:,} of its first {len(data):,} bytes are control "
            "codes. Give its `kind` if it is one that Loopline reads."
        )
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1", "encoding latin-1 (the bytes are not UTF-8)"
    return "cp1252", "encoding cp1252 (the bytes are not UTF-8)"


def find_dialect(
    text: str, fmt: TableFormat, name: str, *, whole: bool
) -> tuple[Dialect, list[str]]:
    """Judge a text table by its head.

    Args:
        text: its first lines, decoded.
        fmt: what is given.
        name: of the file, for messages.
        whole: whether `text` is all of it; else the last row may be cut and is not judged.

    Raises:
        DataError: there is no row, or the header names a column twice.
    """
    notes: list[str] = []
    skip = fmt.skip_rows or 0
    body = "".join(text.splitlines(keepends=True)[skip:]) if skip else text
    comment = fmt.comment or ""
    if comment:
        kept = [line for line in body.splitlines(keepends=True) if not line.startswith(comment)]
        body = "".join(kept)
    if not body.strip():
        raise DataError(f"{name} is empty: there is no row in it.")
    delimiter = fmt.delimiter or _find_delimiter(body, fmt.quote, whole=whole)
    quote = fmt.quote if fmt.quote is not None else _find_quote(body, delimiter, whole=whole)
    if quote == "" and fmt.quote is None:
        notes.append("quote marks are read as ordinary characters")
        quote = ""
    if quote == "'" and fmt.quote is None:
        notes.append("cells are quoted with '")
    rows = _rows(body, delimiter, quote, whole=whole)
    counts = [len(cells) for cells, _ in rows if cells]
    width = Counter(counts).most_common(1)[0][0]
    if fmt.skip_rows is None and not comment:
        before = _lines_before(rows, width)
        if before:
            skip = rows[before - 1][1]
            notes.append(f"{skip} line{'s' * (skip > 1)} before the table passed over")
            rows = rows[before:]
    filled = [(cells, line) for cells, line in rows if cells]
    first = filled[0][0]
    data_rows = [cells for cells, _ in filled[1:]]
    header = fmt.header if fmt.header is not None else _has_header(first, data_rows)
    names, told = _names(first, data_rows, width, fmt, header=header, name=name)
    notes.extend(told)
    multiline = any("\n" in cell for cells, _ in filled for cell in cells)
    # Lines of `body` were counted from its own start; the file has the given lines before it.
    header_end = filled[0][1] + (fmt.skip_rows or 0)
    if comment:
        header_end = _line_in_file(text, header_end, skip, comment)
    strip = fmt.strip if fmt.strip is not None else _has_leading_blanks(data_rows or [first])
    if strip and fmt.strip is None:
        notes.append("blanks around cells stripped")
    if width == 1 and fmt.delimiter is None:
        notes.append("one column: no delimiter found")
    if delimiter not in (",", "\t", ";") and fmt.delimiter is None and width > 1:
        notes.append(f"delimiter {_DELIMITER_NAMES.get(delimiter, repr(delimiter))}")
    return (
        Dialect(
            delimiter=delimiter,
            quote=quote,
            skip_lines=header_end if header else skip,
            skip_rows=skip,
            header=header,
            names=names,
            strip=strip,
            multiline=multiline,
            comment=comment,
        ),
        notes,
    )


def _line_in_file(text: str, line: int, skip: int, comment: str) -> int:
    """The number in the file of a line that was counted without the comments."""
    seen = skip
    for number, content in enumerate(text.splitlines()[skip:], start=skip + 1):
        seen += not content.startswith(comment)
        if seen == line:
            return number
    return line


def _find_delimiter(text: str, quote: str | None, *, whole: bool) -> str:
    """The delimiter that gives most rows the same number of cells, more than one."""
    best, best_share = ",", 0.0
    for delimiter in _DELIMITERS:
        share = 0.0
        for mark in [quote] if quote is not None else ['"', ""]:
            counts = [len(cells) for cells, _ in _rows(text, delimiter, mark, whole=whole) if cells]
            width, number = Counter(counts).most_common(1)[0]
            if width > 1:
                share = max(share, number / len(counts))
        if share > best_share + 0.02:
            best, best_share = delimiter, share
    if best_share >= 0.5:
        return best
    lines = [line.split() for line in text.splitlines()[:_NUM_ROWS_JUDGED] if line.strip()]
    if not whole:
        lines = lines[:-1] or lines
    widths = {len(line) for line in lines}
    numeric = sum(bool(_NUMBER_LIKE.fullmatch(cell)) for line in lines for cell in line)
    if len(widths) == 1 and widths != {1} and numeric >= 0.5 * sum(map(len, lines)):
        return " "
    return best


def _find_quote(text: str, delimiter: str, *, whole: bool) -> str:
    if '"' not in text:
        cell = rf"(?:^|{re.escape(delimiter)}) *'[^'\n]*' *(?={re.escape(delimiter)}|\r?$)"
        marks = text.count("'")
        enclosed = len(re.findall(cell, text, flags=re.MULTILINE))
        return "'" if marks >= 4 and marks == 2 * enclosed else '"'
    plain = _rows(text, delimiter, "", whole=whole, limit=len(text))
    widths = {len(cells) for cells, _ in plain if cells}
    if len(widths) == 1 and widths != {1} and len(plain) > 2:
        quoted = _rows(text, delimiter, '"', whole=whole, limit=len(text))
        is_open = whole and text.count('"') % 2 == 1
        if not is_open and joins_rows(len(plain) - len(quoted), *widths):
            return ""
    return '"'


def joins_rows(num_swallowed: int, width: int) -> bool:
    """Whether lines that quotes join, each of `width` cells by itself, are rows by themselves.

    A line of prose may have the delimiters of a row by chance; three in all are no chance.
    """
    return num_swallowed * (width - 1) >= 3


def _rows(
    text: str, delimiter: str, quote: str, *, whole: bool, limit: int = _NUM_ROWS_JUDGED
) -> list[tuple[list[str], int]]:
    """Cells of the first rows, each with the number of the line on which the row ends."""
    rows: list[tuple[list[str], int]] = []
    with _long_cells():
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=delimiter,
            quotechar=quote or '"',
            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
            skipinitialspace=delimiter == " ",
        )
        for cells in reader:
            rows.append((cells, reader.line_num))
            if len(rows) > limit:
                return rows
    return rows if whole or len(rows) < 2 else rows[:-1]


@contextmanager
def _long_cells() -> Iterator[None]:
    """Lift the csv module's limit of 128 KB a cell, which is one for the whole process."""
    before = csv.field_size_limit(_MAX_CELL_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _lines_before(rows: Sequence[tuple[list[str], int]], width: int) -> int:
    """Rows at the top that are no part of the table: remarks with fewer cells than all the rest."""
    counts = [len(cells) for cells, _ in rows]
    if width < 2 or counts.count(width) < 0.8 * sum(count > 0 for count in counts):
        return 0
    first = counts.index(width)
    if first == 0 or first > _MAX_LINES_BEFORE or max(counts[:first]) >= width:
        return 0
    # A header one cell short (row names without a title) is no remark.
    return 0 if counts[first - 1] == width - 1 and width > 2 else first


def _has_header(first: Sequence[str], data_rows: Sequence[Sequence[str]]) -> bool:
    cells = [cell.strip() for cell in first]
    if any(cell in MISSING_MARKERS and cell for cell in cells):
        return False
    numeric = [place for place, cell in enumerate(cells) if _NUMBER_LIKE.fullmatch(cell)]
    if numeric:
        return _counts_up([cells[place] for place in numeric]) and not (
            data_rows and _counts_up([data_rows[0][p] for p in numeric if p < len(data_rows[0])])
        )
    if not data_rows:
        return True
    if len({cell for cell in cells if cell}) < sum(bool(cell) for cell in cells):
        # A repeated word: a header with a fault if numbers stand below, else a row of data.
        return _numbers_below(data_rows)
    if _numbers_below(data_rows):
        return True
    if any(len(cell) > 64 for cell in cells):
        return False
    below = [
        {row[place].strip() for row in data_rows if place < len(row)} for place in range(len(cells))
    ]
    return not any(cell in seen for cell, seen in zip(cells, below, strict=True) if cell)


def _numbers_below(data_rows: Sequence[Sequence[str]]) -> bool:
    width = max(map(len, data_rows))
    for place in range(width):
        column = [
            row[place].strip() for row in data_rows if place < len(row) and row[place].strip()
        ]
        filled = [cell for cell in column if cell not in MISSING_MARKERS]
        if filled and sum(bool(_NUMBER_LIKE.fullmatch(cell)) for cell in filled) >= 0.9 * len(
            filled
        ):
            return True
    return False


def _counts_up(cells: Sequence[str]) -> bool:
    if len(cells) < 3 or not all(cell.strip().isdigit() for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    return all(b - a == 1 for a, b in pairwise(numbers))


def _names(
    first: Sequence[str],
    data_rows: Sequence[Sequence[str]],
    width: int,
    fmt: TableFormat,
    *,
    header: bool,
    name: str,
) -> tuple[tuple[str, ...], list[str]]:
    notes: list[str] = []
    if fmt.columns is not None:
        if len(fmt.columns) != width:
            raise DataError(
                f"{name} has {width:,} columns, {len(fmt.columns):,} names are given in `columns`."
            )
        names = list(fmt.columns)
    elif not header:
        names = [f"column_{place}" for place in range(1, width + 1)]
        if fmt.header is None:
            notes.append("no header row: columns named column_1 …")
    else:
        names = [cell.strip().strip("\ufeff") for cell in first]
        if len(names) == width - 1:
            last_empty = all(not row[-1].strip() for row in data_rows if len(row) == width)
            names = [*names, ""] if last_empty else ["", *names]
        blank = [place for place, told in enumerate(names, start=1) if not told]
        for place in blank:
            names[place - 1] = f"column_{place}"
        if blank:
            told = ", ".join(f"column_{place}" for place in blank[:5])
            notes.append(f"{len(blank)} column{'s' * (len(blank) > 1)} without a name: {told}")
    repeated = [told for told, count in Counter(names).items() if count > 1]
    if repeated:
        told = ", ".join(repr(word) for word in repeated[:10])
        raise DataError(
            f"{name}: column names must be unique; repeated: {told}. Rename them in the file, or "
            "give all names in `columns`"
            + ("." if header else ", and `header: false` if it has none.")
        )
    return tuple(names), notes


def _has_leading_blanks(rows: Sequence[Sequence[str]]) -> bool:
    cells = [cell for row in rows for cell in row[1:] if cell.strip()]
    return bool(cells) and sum(cell[0] == " " for cell in cells) >= 0.5 * len(cells)


def resolved(fmt: TableFormat, dialect: Dialect, encoding: str) -> TableFormat:
    """The format with what was found filled in."""
    return replace(
        fmt,
        kind="csv",
        delimiter=dialect.delimiter,
        quote=dialect.quote,
        encoding=encoding,
        header=dialect.header,
        columns=dialect.names if not dialect.header or fmt.columns else fmt.columns,
        # A file without lines before its table says nothing of the next one's.
        skip_rows=dialect.skip_rows or fmt.skip_rows,
        comment=dialect.comment,
        strip=dialect.strip,
    )
