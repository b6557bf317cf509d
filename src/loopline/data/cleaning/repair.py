"""Repairs as data: what is changed, in which column, and the two paths that change it alike.

A value repair (`replace_values`, `strip`, `to_number`) looks at one cell at a time and learns
nothing from the others, so it gives the same answer for a training table, a table to predict and a
single row. A row or column repair (`drop_rows`, `drop_duplicates`, `drop_column`) belongs to the
making of a training table and is never applied to what is to be predicted.

Two values are the same cell when they are of one kind (text, number, truth, date, time stamp) and
equal exactly; NaN equals NaN. `True` is not `1`, and `2**53 + 1` is not `2.0**53`.

Rows need the standard library alone; polars is imported where a table comes.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from loopline.errors import DataError, SettingsError

if TYPE_CHECKING:
    import polars as pl

Cell = str | int | float | bool | dt.date | dt.datetime | None
RepairKind = Literal[
    "replace_values", "strip", "to_number", "drop_rows", "drop_duplicates", "drop_column"
]
VALUE_KINDS: tuple[str, ...] = ("replace_values", "strip", "to_number")
VERSION = 1

# One explicit list: what polars and Python each call white space differs in a few characters.
BLANKS = " \t\n\r\v\f\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u200b\ufeff"  # noqa: E501 - a list
# `[0-9]`, not `\d`: other scripts' digits are parsed by one of the two paths only.
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_NUMBER = re.compile(NUMBER.replace("$", r"\Z"))


@dataclass(frozen=True, slots=True)
class Repair:
    """One change to a table, as data. Make it with one of the named constructors.

    Args:
        kind: what is done.
        column: the column it is done to; empty for row repairs.
        mapping: for `replace_values`: pairs (old value, new value), applied all at once, so that
            a value is replaced at most once. New value None makes the cell missing.
        rows: for `drop_rows`: row numbers in the table as it stands before this repair.
        reason: one phrase for the record.
        version: of the meaning of the kind; a reader refuses one it does not know.
    """

    kind: RepairKind
    column: str = ""
    mapping: tuple[tuple[Cell, Cell], ...] = ()
    rows: tuple[int, ...] = ()
    reason: str = ""
    version: int = VERSION

    @staticmethod
    def replace(
        column: str, mapping: Mapping[Any, Cell] | Iterable[tuple[Cell, Cell]], reason: str = ""
    ) -> Repair:
        """Replace values of one column by others, or by None for missing.

        Raises:
            SettingsError: an empty mapping, or a missing value as the old one: filling missing
                cells is learned on the training rows by the feature step, never here.

        >>> Repair.replace("income", {">50K.": ">50K"}).mapping
        (('>50K.', '>50K'),)
        """
        pairs = tuple(mapping.items() if isinstance(mapping, Mapping) else mapping)
        if not pairs:
            raise SettingsError(["`map` is empty: name at least one value."], f"columns.{column}")
        if any(old is None for old, _ in pairs):
            raise SettingsError(
                ["`map` cannot replace missing cells; use `missing` and `fill` for that."],
                f"columns.{column}",
            )
        keys = [_key(old) for old, _ in pairs]
        if len(set(keys)) < len(keys):
            raise SettingsError(["`map` names the same old value twice."], f"columns.{column}")
        return Repair("replace_values", column, pairs, reason=reason)

    @staticmethod
    def strip(column: str, reason: str = "") -> Repair:
        """Take the blanks off both ends of a text column."""
        return Repair("strip", column, reason=reason)

    @staticmethod
    def to_number(column: str, reason: str = "") -> Repair:
        """Read a text column as Float64; what is no number becomes missing."""
        return Repair("to_number", column, reason=reason)

    @staticmethod
    def drop_rows(rows: Iterable[int], reason: str = "") -> Repair:
        """Drop rows by their number in the table as it stands before this repair."""
        return Repair("drop_rows", rows=tuple(sorted({int(row) for row in rows})), reason=reason)

    @staticmethod
    def drop_duplicates(reason: str = "") -> Repair:
        """Drop every row that equals an earlier row in all columns."""
        return Repair("drop_duplicates", reason=reason)

    @staticmethod
    def drop_column(column: str, reason: str = "") -> Repair:
        """Drop one column."""
        return Repair("drop_column", column, reason=reason)

    def to_dict(self) -> dict[str, Any]:
        """Plain data without non-finite numbers; `from_dict` reads it back."""
        data: dict[str, Any] = {"kind": self.kind, "version": self.version}
        if self.column:
            data["column"] = self.column
        if self.mapping:
            data["mapping"] = [[_packed(old), _packed(new)] for old, new in self.mapping]
        if self.rows:
            data["rows"] = list(self.rows)
        if self.reason:
            data["reason"] = self.reason
        return data

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Repair:
        """Read what `to_dict` wrote.

        Raises:
            DataError: a kind or version that this release of Loopline does not know.
        """
        kind, version = data["kind"], data["version"]
        if kind not in get_args(RepairKind) or version != VERSION:
            raise DataError(
                f"Repair {kind!r} version {version} is unknown here; known are "
                f"{', '.join(get_args(RepairKind))}, version {VERSION}. A newer Loopline wrote it."
            )
        return Repair(
            kind=kind,
            column=data.get("column", ""),
            mapping=tuple((_unpacked(old), _unpacked(new)) for old, new in data.get("mapping", ())),
            rows=tuple(data.get("rows", ())),
            reason=data.get("reason", ""),
            version=version,
        )


def repair_values(frame: pl.DataFrame, repairs: Iterable[Repair]) -> pl.DataFrame:
    """Apply the value repairs to a table, in order; rows and columns stay as they are.

    This is what a release runs on the tables it is asked to predict. Columns that the table lacks
    and repairs of rows or columns are passed over.

    >>> import polars as pl
    >>> frame = pl.DataFrame({"size": [" S", "M"]})
    >>> repair_values(frame, [Repair.strip("size")])["size"].to_list()
    ['S', 'M']
    """
    for repair in repairs:
        if repair.kind in VALUE_KINDS and repair.column in frame.columns:
            frame = frame.with_columns(repaired_column(frame[repair.column], repair))
    return frame


def repair_row(row: Mapping[str, Any], repairs: Iterable[Repair]) -> dict[str, Any]:
    """Apply the value repairs to one row; equals `repair_values` on a table of that one row.

    >>> repair_row({"pay": float("inf")}, [Repair.replace("pay", {float("inf"): None})])
    {'pay': None}
    """
    repaired = dict(row)
    for repair in repairs:
        if repair.kind in VALUE_KINDS and repair.column in repaired:
            repaired[repair.column] = _repaired_cell(repaired[repair.column], repair)
    return repaired


def repaired_column(values: pl.Series, repair: Repair) -> pl.Series:
    """One column after one value repair."""
    import polars as pl

    if repair.kind == "strip":
        return values.str.strip_chars(BLANKS) if values.dtype == pl.String else values
    if repair.kind == "to_number":
        if values.dtype == pl.String:
            text = values.str.strip_chars(BLANKS)
            # `set` over `when`: a Series in, a Series out, and nulls stay nulls.
            return text.set(~text.str.contains(NUMBER), None).cast(pl.Float64)
        return values.cast(pl.Float64) if values.dtype.is_numeric() else values
    return _replaced(values, repair)


def _replaced(values: pl.Series, repair: Repair) -> pl.Series:
    import polars as pl

    old, new = [], []
    for before, after in repair.mapping:
        fitted = _fitted(before, values.dtype)
        if fitted is None:
            continue
        if after is not None and _fitted(after, values.dtype) is None:
            raise DataError(
                f"Column {values.name!r} holds {values.dtype}; {before!r} cannot be replaced by "
                f"{after!r}, which is of another type. Give a value of the column's type."
            )
        old.append(fitted)
        new.append(None if after is None else _fitted(after, values.dtype))
    if not old:
        return values
    before_values = pl.Series(old, dtype=values.dtype)
    after_values = pl.Series(new, dtype=values.dtype)
    return values.replace(before_values, after_values)


def _fitted(value: Cell, dtype: pl.DataType) -> Cell:
    """The value as a cell of that type, exactly; None when no cell of that type can equal it."""
    import polars as pl

    if isinstance(value, bool):
        return value if dtype == pl.Boolean else None
    if isinstance(value, str):
        return value if dtype == pl.String else None
    if isinstance(value, dt.datetime):
        return value if isinstance(dtype, pl.Datetime) and _same_zone(value, dtype) else None
    if isinstance(value, dt.date):
        return value if dtype == pl.Date else None
    if isinstance(value, int | float):
        return _fitted_number(value, dtype)
    return None


def _fitted_number(value: float, dtype: pl.DataType) -> Cell:
    import polars as pl

    if dtype.is_float():
        try:
            near = float(value)
        except OverflowError:
            return None
        if dtype == pl.Float32:
            near = float(pl.Series([near], dtype=pl.Float32)[0])
        return near if near == value or math.isnan(near) else None
    if dtype.is_integer() and math.isfinite(value) and value == int(value):
        low, high = _integer_range(dtype)
        return int(value) if low <= value <= high else None
    return None


def _integer_range(dtype: pl.DataType) -> tuple[int, int]:
    import polars as pl

    zero = pl.lit(0, dtype)
    low, high = pl.select(zero.lower_bound().alias("low"), zero.upper_bound().alias("high")).row(0)
    return int(low), int(high)


def _same_zone(value: dt.datetime, dtype: pl.Datetime) -> bool:
    return (value.tzinfo is None) == (dtype.time_zone is None)


def _repaired_cell(value: Any, repair: Repair) -> Any:
    if repair.kind == "strip":
        return value.strip(BLANKS) if isinstance(value, str) else value
    if repair.kind == "to_number":
        if isinstance(value, str):
            text = value.strip(BLANKS)
            return float(text) if _NUMBER.match(text) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        return value
    key = _key(value)
    for old, new in repair.mapping:
        if _key(old) == key:
            return _of_kind(new, value)
    return value


def _of_kind(new: Cell, value: Any) -> Cell:
    """A number written as the column holds numbers: 0 among floats is 0.0."""
    if isinstance(new, bool) or isinstance(value, bool):
        return new
    if isinstance(value, float) and isinstance(new, int):
        return float(new)
    if isinstance(value, int) and isinstance(new, float) and new.is_integer():
        return int(new)
    return new


def _key(value: Any) -> tuple[str, Any]:
    """What makes two cells the same: their kind and their value."""
    if isinstance(value, bool):
        return ("truth", value)
    if isinstance(value, int | float):
        return ("number", "nan") if value != value else ("number", value)  # noqa: PLR0124 - NaN
    if isinstance(value, dt.datetime):
        return ("time", value) if value.tzinfo is None else ("instant", value)
    return (type(value).__name__, value)


def _packed(value: Cell) -> Any:
    """JSON for one cell: what JSON cannot hold is a one-entry object that names its type."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, dt.datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, dt.date):
        return {"date": value.isoformat()}
    return value


def _unpacked(value: Any) -> Cell:
    if not isinstance(value, Mapping):
        plain: Cell = value
        return plain
    ((name, text),) = value.items()
    if name == "float":
        return float(text)
    if name == "datetime":
        return dt.datetime.fromisoformat(text)
    return dt.date.fromisoformat(text)
