"""Read a text table: one polars pass over the file with types decided from a sample of its rows.

The sample is the head, and pieces from the middle and the end. Columns of clean numbers go
straight to their type; every other column is read as text and given its type from *all* of its
cells. When a column's cells do not hold what the sample promised, that column is read again as
text. So the common file costs what polars costs, and the odd one is never wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from loopline.data.csv_dialect import find_dialect, find_encoding, resolved, single_byte_encoding
from loopline.data.csv_pass import NotUtf8Error, TablePass
from loopline.data.csv_sample import (
    all_bytes,
    cell_rules,
    check_lines,
    decoded,
    head_of,
    sample_of,
    start_of,
)
from loopline.data.table_format import TableFormat, dtype_name
from loopline.errors import DataError

MAX_COLUMNS = 200_000
_PLAIN = ("utf-8", "utf-8-sig")


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
    head = head_of(source, name)
    encoding, note = find_encoding(head, fmt.encoding, name)
    notes = [note] if note else []
    if encoding not in _PLAIN:
        source = decoded(source, encoding, name)
        head = start_of(source, len(head))
    try:
        return _read_utf8(source, head, name, fmt, encoding=encoding, notes=notes)
    except NotUtf8Error:
        if fmt.encoding is not None:
            raise DataError(
                f"{name} is not written in {encoding} throughout. Give another `encoding`, or none."
            ) from None
    data = all_bytes(source)
    encoding, note = single_byte_encoding(data[: 64 << 20], name)
    data = decoded(data, encoding, name)
    return _read_utf8(data, start_of(data), name, fmt, encoding=encoding, notes=[note])


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
        source = all_bytes(source).replace(b"\r", b"\n")
        head = head.replace(b"\r", b"\n")
        notes = [*notes, "lines end with a carriage return"]
    whole = len(head) >= size
    if not whole and b"\n" in head:
        check_lines(source, name)
    text = head.decode("utf-8-sig", errors="ignore")
    dialect, told = find_dialect(text, fmt, name, whole=whole)
    notes = [*notes, *told]
    if len(dialect.names) > MAX_COLUMNS:
        raise DataError(
            f"{name} has {len(dialect.names):,} columns; at most {MAX_COLUMNS:,} are read. Is the "
            "table turned on its side, or the delimiter not the right one?"
        )
    if dialect.delimiter == " ":
        source = re.sub(rb"(?m)^[ \t]+|[ \t]+(?=\r?$)", b"", all_bytes(source))
        source = re.sub(rb"[ \t]+", b" ", source)
        head, size = start_of(source), len(source)
    sample = sample_of(source, head, dialect, size)
    rules, told = cell_rules(sample, dialect, fmt)
    notes += told
    reader = TablePass(source, name, fmt, dialect, rules)
    read = reader.read(sample)
    frame, dialect = read.frame, reader.dialect
    notes += read.notes
    return TextTable(
        frame,
        replace(
            resolved(fmt, dialect, encoding),
            decimal=rules.decimal,
            thousands=rules.thousands,
            missing=tuple(rules.missing),
            dates={**fmt.dates, **read.dates},
            units={**fmt.units, **read.units},
            dtypes={
                column: written
                for column, dtype in frame.schema.items()
                if (written := dtype_name(dtype)) is not None
            },
        ),
        tuple(notes),
        read.problems,
    )
