"""How a source is written down: what the settings may fix and what reading has found out.

A `TableFormat` is plain, frozen data. Fields that are given rule; the others are detected. What
`read_table` returns is the *resolved* format, with the type of every column in it: reading the next
file of the same kind with it gives the same types, whatever luck that file's cells would have had.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

import polars as pl

from loopline.errors import DataError, SettingsError

Kind = Literal[
    "csv", "jsonl", "json", "parquet", "arrow", "excel", "sql", "frame", "folder", "text"
]
Unreadable = Literal["refuse", "missing"]
UNREADABLE_ADVICE = (
    "Correct the file; or, to have such cells read as missing, set `unreadable: missing` under "
    "`data.format` in the settings and run the line again."
)

MISSING_MARKERS: tuple[str, ...] = (
    *("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "null", "NULL", "Null"),
    *("None", "NONE", "none", "?", "-", "--", "NaT", "(null)", "\\N"),
)
MISSING_WORDS: tuple[str, ...] = (
    *("unknown", "missing", "not available", "not applicable", "not known", "not given"),
    *("undefined", "unavailable", "unspecified", "tbd", "none", "nil", "n.a.", "na", "n/a", "."),
    *("#value!", "#div/0!", "#ref!", "#name?", "#num!", "null", "nan", "void", "blank", "empty"),
)
"""Words, in any case, that mean a missing cell in a column whose other cells are numbers or dates.

In a column of words they are an answer as any other.
"""

_DTYPES: dict[str, pl.DataType] = {
    "Int64": pl.Int64(),
    "UInt64": pl.UInt64(),
    "Float64": pl.Float64(),
    "Boolean": pl.Boolean(),
    "String": pl.String(),
    "Date": pl.Date(),
    "Datetime": pl.Datetime("us"),
    "Time": pl.Time(),
    "Duration": pl.Duration("us"),
}
_ZONED = re.compile(r"Datetime\[(.+)\]")


@dataclass(frozen=True, slots=True)
class TableFormat:
    r"""How a table is written in its source; None means "find out".

    Args:
        kind: the kind of source; None goes by the file's ending, then by its first bytes.
        delimiter: what stands between two cells of a text table, one character.
        quote: what encloses a cell; "" when quote marks are ordinary characters.
        encoding: any name Python knows, such as "utf-8", "cp1252" or "utf-16".
        decimal: "." or ",".
        thousands: what groups the digits of a number: "", ",", "." or a blank.
        missing: the words that stand for a missing cell. None: `MISSING_MARKERS`. The empty cell
            is always missing.
        header: whether the first row names the columns.
        columns: the names of the columns, in order; they replace a header.
        comment: lines that start so are passed over; "" when there are none.
        skip_rows: lines before the header (or the first row) that are no part of the table.
        strip: whether blanks around a cell are no part of it.
        dates: for columns of dates, their format in `strftime` codes ("%d/%m/%Y").
        units: column to the way its amounts are written: "$#", "#%", "€#,#" (decimal comma).
        images: columns of paths to be read as images; paths start at the table's folder and stay
            inside it.
        sheet: the sheet of a workbook; None takes the only one with cells.
        table: the table of a database.
        query: the SELECT that makes the table; instead of `table`.
        document_bytes: plain text is divided into documents of at most so many bytes; where it is
            given, a file whose name and content say nothing else is plain text.
        dtypes: column name to type name: Int64, UInt64, Float64, Boolean, String, Date, Datetime,
            "Datetime[UTC]" (any zone), Time, Duration.
        unreadable: what becomes of a cell that is not of its column's given type: "refuse" raises,
            "missing" makes it a missing cell and counts it.

    >>> TableFormat.from_dict(TableFormat(delimiter=";").to_dict()).delimiter
    ';'
    """

    kind: Kind | None = None
    delimiter: str | None = None
    quote: str | None = None
    encoding: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    missing: tuple[str, ...] | None = None
    header: bool | None = None
    columns: tuple[str, ...] | None = None
    comment: str | None = None
    skip_rows: int | None = None
    strip: bool | None = None
    dates: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    images: tuple[str, ...] | None = None
    sheet: str | None = None
    table: str | None = None
    query: str | None = None
    document_bytes: int | None = None
    dtypes: Mapping[str, str] = field(default_factory=dict)
    unreadable: Unreadable = "refuse"

    def __post_init__(self) -> None:
        problems = [
            f"`{name}` must be one character, got {value!r}."
            for name, value in (("delimiter", self.delimiter), ("quote", self.quote or '"'))
            if value is not None and (len(value) != 1 or ord(value) > 127 or value in "\r\n")
        ]
        if self.kind is not None and self.kind not in get_args(Kind):
            problems.append(
                f"`kind` must be one of {', '.join(get_args(Kind))}, got {self.kind!r}."
            )
        if self.decimal not in (None, ".", ","):
            problems.append(f"`decimal` must be '.' or ',', got {self.decimal!r}.")
        if self.decimal is not None and self.decimal == self.thousands:
            problems.append(f"`decimal` and `thousands` are both {self.decimal!r}.")
        if self.delimiter is not None and self.delimiter == self.quote:
            problems.append(f"`delimiter` and `quote` are both {self.delimiter!r}.")
        if self.document_bytes is not None and self.document_bytes < 1:
            problems.append(f"`document_bytes` must be at least 1, got {self.document_bytes}.")
        if self.skip_rows is not None and self.skip_rows < 0:
            problems.append(f"`skip_rows` must be >= 0, got {self.skip_rows}.")
        if self.unreadable not in get_args(Unreadable):
            problems.append(f"`unreadable` must be 'refuse' or 'missing', got {self.unreadable!r}.")
        if self.table and self.query:
            problems.append("`table` and `query` are both given; a source has one of them.")
        problems += [
            f"`units` of {name!r} must be a sign and #, such as '$#', got {unit!r}."
            for name, unit in self.units.items()
            if unit.count("#") not in (1, 2) or len(unit) == unit.count("#")
        ]
        for name, told in self.dtypes.items():
            try:
                dtype_of(told)
            except DataError as error:
                problems.append(f"`dtypes` of {name!r}: {error}")
        if problems:
            raise SettingsError(problems, where="format")

    def to_dict(self) -> dict[str, Any]:
        """Plain data without the fields that say nothing; `from_dict` reads it back."""
        plain = asdict(self)
        for name in ("missing", "columns", "images"):
            if plain[name] is not None:
                plain[name] = list(plain[name])
        return {name: value for name, value in plain.items() if value not in (None, {})}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> TableFormat:
        """Read what `to_dict` wrote.

        Raises:
            SettingsError: an unknown field or a value that does not fit.
        """
        known = {entry.name for entry in fields(TableFormat)}
        unknown = [name for name in data if name not in known]
        if unknown:
            raise SettingsError(
                [f"There is no setting `{name}`." for name in unknown], where="format"
            )
        plain = dict(data)
        for name in ("missing", "columns", "images"):
            if plain.get(name) is not None:
                plain[name] = tuple(plain[name])
        return TableFormat(**plain)


def dtype_of(name: str) -> pl.DataType:
    """The polars type of a type name.

    Raises:
        DataError: no such name.

    >>> dtype_of("Datetime[UTC]")
    Datetime(time_unit='us', time_zone='UTC')
    """
    if name in _DTYPES:
        return _DTYPES[name]
    zoned = _ZONED.fullmatch(name)
    if zoned:
        return pl.Datetime("us", zoned.group(1))
    raise DataError(f"There is no type {name!r}; types are {', '.join(_DTYPES)}, Datetime[zone].")


def dtype_name(dtype: pl.DataType) -> str | None:
    """The name of a canonical type; None for nested and binary columns, which need no name.

    >>> dtype_name(pl.Datetime("us", "UTC")), dtype_name(pl.List(pl.Int64()))
    ('Datetime[UTC]', None)
    """
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        return f"Datetime[{dtype.time_zone}]"
    return next((name for name, known in _DTYPES.items() if known == dtype), None)
