"""The input contract: what the training table looked like, and what a new table may look like.

Learned with the model and kept in its release. At the door it turns a caller's table into training
types and order, says every problem of the table in one error, and remarks on what is allowed but
odd (values never seen, numbers outside the training range). What may stand for what:

- whole numbers for fractions and the reverse, booleans and 0/1 for one another, numbers as text
  ("12.5") where numbers are expected; text that was a number is counted in the remarks;
- numbers where text is expected, spelled as the table would spell them;
- dates, datetimes and ISO 8601 text for one another;
- a `pathlib.Path` for the bytes of an image, in a single row; never text, which may come from far.

An image that cannot be decoded is read as missing, which a remark tells; a table none of whose
images can be decoded is refused.

Text that is no number in a number column is a problem (``on_bad_value="error"``) or becomes missing
(``"missing"``, counted in the remarks).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from loopline.cores import in_threads
from loopline.data.cleaning.texts import MOJIBAKE
from loopline.data.pixels import contents, readable
from loopline.data.schema import ColumnType, Missing, Schema
from loopline.errors import DataError, SettingsError
from loopline.features.cells import BOOLEANS, WANTED, CellReader, Kind, UnreadError, cell_reader
from loopline.features.reading import as_floats, as_texts, parse_numbers, parse_times
from loopline.words import counted

if TYPE_CHECKING:
    from loopline.splits.views import TrainView

OnBadValue = Literal["error", "missing"]
MAX_LEVELS = 1000
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SHOWN = 5
MANY_UNSEEN = 0.5
SHARE_ROWS = 100_000
"""Cells of a column, evenly spaced, on which the share of its most common value is counted."""
_DTYPES: dict[str, Any] = {
    "integer": pl.Int64,
    "float": pl.Float64,
    "boolean": pl.Boolean,
    "text": pl.String,
    "date": pl.Date,
    "datetime": pl.Datetime("us"),
    "seconds": pl.Float64,
    "image": pl.Binary,
}

Looker = Callable[[Any], "Remark | None"]


@dataclass(frozen=True, slots=True)
class InputColumn:
    """What training knew about one raw feature column.

    Args:
        name: the column.
        type: its type in the schema.
        kind: how its cells are stored: what `InputContract.check` gives back.
        zone: time zone of a datetime column that had one.
        missing: its policy for missing cells.
        missing_share: share of training cells that were missing.
        low: smallest finite number, or earliest time in microseconds since 1970; None for others.
        high: largest number or latest time.
        quantiles: training quantiles of a number at `QUANTILES`; empty for others.
        levels: the category's levels as text, sorted; empty when there are more than 1,000.
        num_levels: number of levels, 0 for columns that are no category.
        top_share: share of the most common value among cells that are not missing; 1 where it was
            not counted (texts, images, releases made before it was).
    """

    name: str
    type: ColumnType
    kind: Kind
    zone: str | None = None
    missing: Missing = "auto"
    missing_share: float = 0.0
    low: float | None = None
    high: float | None = None
    quantiles: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()
    num_levels: int = 0
    top_share: float = 1.0

    @property
    def dtype(self) -> Any:
        """The polars type of the checked column."""
        return pl.Datetime("us", self.zone) if self.zone else _DTYPES[self.kind]


@dataclass(frozen=True, slots=True)
class Remark:
    """Something odd that is allowed.

    Args:
        column: where.
        what: ``extra``, ``absent``, ``converted``, ``unread``, ``unseen`` or ``outside``.
        count: number of rows.
        share: `count` over the rows of the table.
        text: one sentence for people.
    """

    column: str
    what: str
    count: int
    share: float
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class InputContract:
    """What a table must look like to be predicted.

    Args:
        columns: one a raw feature column, in training order.
        on_bad_value: what to do with a cell that cannot be read as its column's type.
        on_absent: ``error`` refuses a table that lacks a column; ``missing`` reads it as all
            missing, if the column's `missing` policy allows missing cells.

    >>> table = pl.DataFrame({"age": [20, 30], "city": ["Bonn", None]})
    >>> from loopline.data.schema import Column
    >>> schema = Schema((Column("age", "number"), Column("city", "category")), "regression")
    >>> contract = InputContract.learn(table, schema)
    >>> contract.check_row({"age": "25", "city": "Bonn", "note": "ignored"})
    {'age': 25, 'city': 'Bonn'}
    """

    columns: tuple[InputColumn, ...]
    on_bad_value: OnBadValue = "error"
    on_absent: OnBadValue = "error"

    def __post_init__(self) -> None:
        problems = [
            f"`{name}` must be error or missing, got {value!r}."
            for name, value in (("on_bad_value", self.on_bad_value), ("on_absent", self.on_absent))
            if value not in ("error", "missing")
        ]
        if problems:
            raise SettingsError(problems, "input contract")

    @staticmethod
    def learn(
        data: TrainView | pl.DataFrame,
        schema: Schema | None = None,
        *,
        on_bad_value: OnBadValue = "error",
        on_absent: OnBadValue = "error",
    ) -> InputContract:
        """Learn the contract of a training view, column by column.

        Args:
            data: the training rows; a table needs `schema`.
            schema: the schema, by default the view's.
            on_bad_value: see the class.
            on_absent: see the class.
        """
        if isinstance(data, pl.DataFrame):
            if schema is None:
                raise DataError("A contract learned from a table needs the table's schema.")
            gather: Callable[[str], pl.Series] = data.get_column
        else:
            schema, gather = schema or data.schema, data.column
        known = {column.name: column for column in schema.columns}

        def learn(name: str) -> InputColumn:
            return _learn_column(gather(name), known[name].type, known[name].missing)

        return InputContract(tuple(in_threads(learn, schema.features)), on_bad_value, on_absent)

    def check(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[Remark, ...]]:
        """The table in training types and column order, and remarks on what is allowed but odd.

        Extra columns are dropped (and remarked on). A number column that held whole numbers in
        training stays Float64 when a fraction comes.

        Raises:
            DataError: the table breaks the contract; every problem is told in one error.
        """
        remarks: list[Remark] = []
        return self._checked(frame, remarks), tuple(remarks)

    def check_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """One row in training types; extra keys are dropped. Agrees with `check`.

        Raises:
            DataError: the row breaks the contract; every problem is told.
        """
        try:
            return {name: read(row[name]) for name, read in self._readers}
        except (KeyError, UnreadError):
            return self._row_by_table(row, None)

    def inspect_row(
        self, row: Mapping[str, Any], *, expected: Collection[str] = ()
    ) -> tuple[dict[str, Any], tuple[Remark, ...], bool]:
        """`check_row`, with the remarks that `check` makes on a table of that one row.

        What a column allows is laid out once, and only odd cells are looked at closely.

        Returns:
            The row, the remarks, and whether each cell came as the column holds it (a whole number
            may stand for a fraction, and the reverse) and is nothing odd.

        Args:
            row: values by column name.
            expected: further columns that may come without a remark.

        Raises:
            DataError: the row breaks the contract; every problem is told.
        """
        try:
            checked = {name: read(row[name]) for name, read in self._usual}
        except (KeyError, UnreadError):
            return *self._inspect_unusual(row, expected), False
        if len(row) > len(checked):
            extra = [name for name in row if name not in checked and name not in expected]
            return checked, tuple(self._extra(extra)), True
        return checked, (), True

    def _inspect_unusual(
        self, row: Mapping[str, Any], expected: Collection[str]
    ) -> tuple[dict[str, Any], tuple[Remark, ...]]:
        try:
            checked = {name: read(row[name]) for name, read in self._readers}
        except (KeyError, UnreadError):
            remarks: list[Remark] = []
            checked = self._row_by_table(row, remarks)
            return checked, tuple(
                r for r in remarks if r.what != "extra" or r.column not in expected
            )
        odd = [told for name, look in self._lookers if (told := look(checked[name])) is not None]
        if len(row) > len(checked):
            extra = [name for name in row if name not in checked and name not in expected]
            odd = [*self._extra(extra), *odd]
        return checked, tuple(odd)

    def odd_cells(self, values: pl.Series) -> pl.Series:
        """Which cells of a checked column were never seen or lie outside the training range."""
        column = next(column for column in self.columns if column.name == values.name)
        odd = pl.repeat(False, len(values), dtype=pl.Boolean, eager=True)
        for mask in (_unseen(column, values), _outside(column, values)):
            odd = odd if mask is None else odd | mask.fill_null(value=False)
        return odd

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it back."""
        columns = [asdict(column) for column in self.columns]
        for column in columns:
            column["quantiles"] = list(column["quantiles"])
            column["levels"] = list(column["levels"])
        return {
            "columns": columns,
            "on_bad_value": self.on_bad_value,
            "on_absent": self.on_absent,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> InputContract:
        """Read what `to_dict` wrote."""
        columns = tuple(
            InputColumn(
                **{
                    **column,
                    "quantiles": tuple(column["quantiles"]),
                    "levels": tuple(column["levels"]),
                }
            )
            for column in data["columns"]
        )
        return InputContract(columns, data["on_bad_value"], data["on_absent"])

    def _checked(self, frame: pl.DataFrame, remarks: list[Remark] | None) -> pl.DataFrame:
        problems: list[str] = []
        made: list[pl.Series] = []
        present = set(frame.columns)
        if remarks is not None:
            known = {column.name for column in self.columns}
            extra = (name for name in frame.columns if name not in known)
            remarks += self._extra(extra, frame.height)
        for column in self.columns:
            if column.name not in present:
                made.append(pl.Series(column.name, [None] * frame.height, dtype=column.dtype))
                self._note_absent(column, frame.height, problems, remarks)
                continue
            values = frame.get_column(column.name)
            try:
                read, unread = _read(column, values)
            except DataError as error:
                problems.append(str(error))
                continue
            if column.kind == "image" and read.null_count() == len(read) > values.null_count():
                problems.append(f"No cell of column {column.name!r} can be decoded as an image.")
                continue
            if unread is not None and unread.any():
                self._note_unread(column, values, unread, problems, remarks)
            if column.missing == "error" and read.null_count():
                rows = read.is_null().arg_true().to_list()
                problems.append(
                    f"Column {column.name!r} must have no missing cell (missing='error'), but "
                    f"{len(rows):,} of {len(read):,} rows have none (rows {_listed(rows)})."
                )
            if remarks is not None:
                remarks += _odd(column, values, read)
            made.append(read)
        if problems:
            raise DataError(_told(problems))
        return pl.DataFrame(made)

    @staticmethod
    def _extra(names: Iterable[str], height: int = 1) -> list[Remark]:
        return [
            Remark(name, "extra", height, 1.0, f"Column {name!r} is not used by the model.")
            for name in names
        ]

    def _note_absent(
        self,
        column: InputColumn,
        height: int,
        problems: list[str],
        remarks: list[Remark] | None,
    ) -> None:
        if self.on_absent == "error" or column.missing == "error":
            problems.append(f"Column {column.name!r} ({WANTED[column.kind]}) is absent; add it.")
        elif remarks is not None:
            text = f"Column {column.name!r} is absent and is read as missing in every row."
            remarks.append(Remark(column.name, "absent", height, 1.0, text))

    def _note_unread(
        self,
        column: InputColumn,
        values: pl.Series,
        unread: pl.Series,
        problems: list[str],
        remarks: list[Remark] | None,
    ) -> None:
        rows = unread.arg_true().to_list()
        shown = ", ".join(f"row {row}: {values[row]!r}" for row in rows[:SHOWN])
        text = (
            f"Column {column.name!r} must hold {WANTED[column.kind]}, but {len(rows):,} of "
            f"{len(values):,} rows do not ({shown})."
        )
        if self.on_bad_value == "error":
            problems.append(text)
        elif remarks is not None:
            text += " They are read as missing."
            remarks.append(Remark(column.name, "unread", len(rows), len(rows) / len(values), text))

    @cached_property
    def _readers(self) -> list[tuple[str, CellReader]]:
        return [(column.name, _row_reader(column)) for column in self.columns]

    @cached_property
    def _usual(self) -> list[tuple[str, CellReader]]:
        return [(column.name, _usual_reader(column)) for column in self.columns]

    @cached_property
    def _lookers(self) -> list[tuple[str, Looker]]:
        made = [(column.name, _looker(column)) for column in self.columns]
        return [(name, look) for name, look in made if look is not None]

    def _row_by_table(self, row: Mapping[str, Any], remarks: list[Remark] | None) -> dict[str, Any]:
        names = [column.name for column in self.columns if column.name in row]
        if remarks is not None:
            known = {column.name for column in self.columns}
            remarks += self._extra(name for name in row if name not in known)
        row = {name: contents(value) for name, value in row.items()}
        series = [_series_of(name, row[name]) for name in names]
        frame = pl.DataFrame(series) if series else pl.DataFrame({"": [None]})
        noted: list[Remark] = []
        checked = self._checked(frame, noted if remarks is not None else None).row(0, named=True)
        if remarks is not None:
            remarks += [remark for remark in noted if remark.what != "extra"]
        return checked


def _learn_column(values: pl.Series, kind_of: ColumnType, missing: Missing) -> InputColumn:
    kind, zone = _kind(values, kind_of)
    known = InputColumn(values.name, kind_of, kind, zone)
    read, _ = _read(known, values)
    gone = read.null_count()
    low = high = None
    quantiles: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()
    num_levels = 0
    if kind_of == "number":
        x = as_floats(read)
        x = x[np.isfinite(x)]
        gone = len(read) - len(x)
        if len(x):
            low, high = float(x.min()), float(x.max())
            quantiles = tuple(np.quantile(x, QUANTILES).tolist())
    elif kind_of == "datetime" and len(read) > gone:
        micros = read.drop_nulls().cast(pl.Datetime("us", zone)).cast(pl.Int64)
        low, high = float(micros.min()), float(micros.max())  # type: ignore[arg-type]  # int64
    elif kind_of == "category":
        seen = as_texts(read).drop_nulls().unique().sort()
        num_levels = len(seen)
        levels = tuple(seen.to_list()) if num_levels <= MAX_LEVELS else ()
    return InputColumn(
        name=values.name,
        type=kind_of,
        kind=kind,
        zone=zone,
        missing=missing,
        missing_share=gone / len(read) if len(read) else 0.0,
        low=low,
        high=high,
        quantiles=quantiles,
        levels=levels,
        num_levels=num_levels,
        top_share=1.0 if kind_of in ("text", "image") else _top_share(read),
    )


def _top_share(read: pl.Series) -> float:
    present = read.drop_nulls()
    if present.is_empty():
        return 1.0
    if len(present) > SHARE_ROWS:  # counting millions of different numbers takes tables of memory
        present = present.gather_every(len(present) // SHARE_ROWS)
    counts = present.unique_counts()
    return float(counts.to_numpy().max()) / len(present)


def _kind(values: pl.Series, kind_of: ColumnType) -> tuple[Kind, str | None]:
    dtype = values.dtype
    if dtype == pl.Boolean:
        return "boolean", None
    if kind_of == "image":
        return "image", None
    if kind_of == "datetime":
        if isinstance(dtype, pl.Datetime):
            return "datetime", dtype.time_zone
        return ("date" if dtype == pl.Date else "datetime"), None
    if dtype.is_integer():
        return ("float" if dtype in (pl.UInt64, pl.Int128) else "integer"), None
    if dtype.is_numeric():
        return "float", None
    if isinstance(dtype, pl.Duration) or dtype == pl.Time:
        return "seconds", None
    if kind_of in ("number", "boolean"):
        return "float", None
    return "text", None


def _read(column: InputColumn, values: pl.Series) -> tuple[pl.Series, pl.Series | None]:
    """A column in its training type, and which cells held something that could not be read."""
    dtype = values.dtype
    if dtype == pl.Null:
        return values.cast(column.dtype), None
    if column.kind == "image":
        return _read_images(column, values), None
    if dtype.is_nested() or dtype in (pl.Object, pl.Binary):
        raise DataError(
            f"Column {column.name!r} must hold {WANTED[column.kind]}, got the type {dtype}."
        )
    if column.kind == "text":
        return as_texts(values), None
    if column.kind in ("date", "datetime"):
        return _read_times(column, values)
    if column.kind == "boolean":
        return _read_booleans(column, values)
    return _read_numbers(column, values)


def _read_images(column: InputColumn, values: pl.Series) -> pl.Series:
    if values.dtype != pl.Binary():
        raise DataError(
            f"Column {column.name!r} must hold {WANTED['image']}, got the type {values.dtype}. A "
            "table in a file may hold paths; a row may hold a `pathlib.Path`."
        )
    return values.set(~readable(values), None)


def _read_numbers(column: InputColumn, values: pl.Series) -> tuple[pl.Series, pl.Series | None]:
    dtype, unread = values.dtype, None
    if dtype == pl.String:
        numbers = parse_numbers(values)
        unread = numbers.is_null() & values.is_not_null()
    elif isinstance(dtype, (pl.Date, pl.Datetime)) or (
        column.kind != "seconds" and (isinstance(dtype, pl.Duration) or dtype == pl.Time)
    ):
        raise DataError(
            f"Column {column.name!r} must hold {WANTED[column.kind]}, got the type {dtype}."
        )
    elif (
        dtype.is_integer()
        and column.kind == "integer"
        and (whole := values.cast(pl.Int64, strict=False)).null_count() == values.null_count()
    ):
        return whole, None
    elif dtype == pl.Float64:
        numbers = values
    else:
        numbers = pl.Series(values.name, as_floats(values)).fill_nan(None)
    finite = numbers.is_finite()
    if not finite.all() or numbers.null_count():
        numbers = numbers.set(~finite.fill_null(value=False), None)
    if column.kind == "integer" and bool(((numbers % 1 == 0) & (numbers.abs() < 2**53)).all()):
        numbers = numbers.cast(pl.Int64)
    return numbers, unread


def _read_booleans(column: InputColumn, values: pl.Series) -> tuple[pl.Series, pl.Series | None]:
    dtype = values.dtype
    if dtype == pl.Boolean:
        return values, None
    if dtype == pl.String:
        read = (
            values.str.strip_chars()
            .str.to_lowercase()
            .replace_strict(
                list(BOOLEANS), list(BOOLEANS.values()), default=None, return_dtype=pl.Boolean
            )
        )
    elif dtype.is_numeric():
        numbers = values.cast(pl.Float64)
        zero_or_one = (numbers == 0) | (numbers == 1)
        read = (numbers == 1).set(~zero_or_one.fill_null(value=False), None)
        values = values.set(numbers.is_nan().fill_null(value=False), None)
    else:
        raise DataError(f"Column {column.name!r} must hold true or false, got the type {dtype}.")
    return read, read.is_null() & values.is_not_null()


def _read_times(column: InputColumn, values: pl.Series) -> tuple[pl.Series, pl.Series | None]:
    dtype, unread = values.dtype, None
    if dtype == pl.String:
        times = parse_times(values, column.zone)
        unread = times.is_null() & values.is_not_null()
    elif isinstance(dtype, pl.Datetime):
        times = values.cast(pl.Datetime("us", dtype.time_zone))
        if dtype.time_zone is not None:
            times = times.dt.convert_time_zone(column.zone or "UTC").dt.replace_time_zone(None)
    elif dtype == pl.Date:
        times = values.cast(pl.Datetime("us"))
    else:
        raise DataError(
            f"Column {column.name!r} must hold {WANTED[column.kind]}, got the type {dtype}."
        )
    if column.kind == "date":
        return times.cast(pl.Date), unread
    if column.zone is not None:
        times = times.dt.replace_time_zone(column.zone, ambiguous="earliest", non_existent="null")
    return times, unread


def _odd(column: InputColumn, values: pl.Series, read: pl.Series) -> list[Remark]:
    remarks = []
    rows = max(1, len(read))
    if column.kind == "image":
        lost = (read.is_null() & values.is_not_null()).arg_true().to_list()
        if lost:
            text = (
                f"{counted(len(lost), 'image')} of column {column.name!r} cannot be decoded (rows "
                f"{_listed(lost)}) and read as missing."
            )
            remarks.append(Remark(column.name, "unread", len(lost), len(lost) / rows, text))
    numeric = column.kind in ("integer", "float", "seconds")
    if numeric and values.dtype == pl.String:
        count = len(read) - read.null_count()
        text = f"Column {column.name!r} holds numbers as text in {count:,} of {len(read):,} rows."
        if count:
            remarks.append(Remark(column.name, "converted", count, count / rows, text))
    unseen = _unseen(column, read)
    if unseen is not None:
        bad = unseen.arg_true().to_list()
        if bad:
            shown = ", ".join(
                repr(value) for value in read[bad].unique(maintain_order=True)[:SHOWN]
            )
            text = (
                f"Column {column.name!r} holds values never seen in training in {len(bad):,} of "
                f"{len(read):,} rows ({shown})."
            )
            if as_texts(read[bad]).str.contains(MOJIBAKE).any():
                text += " They look like text read in the wrong encoding: give its `encoding`."
            elif len(bad) >= MANY_UNSEEN * (len(read) - read.null_count()) and len(bad) >= SHOWN:
                text += " That is most of them: are its encoding and spelling those of training?"
            remarks.append(Remark(column.name, "unseen", len(bad), len(bad) / rows, text))
    outside = _outside(column, read)
    if outside is not None:
        count = int(outside.sum())
        if count:
            text = (
                f"Column {column.name!r} lies outside the training range in {count:,} of "
                f"{len(read):,} rows."
            )
            remarks.append(Remark(column.name, "outside", count, count / rows, text))
    return remarks


def _unseen(column: InputColumn, read: pl.Series) -> pl.Series | None:
    """Which cells hold a level that training never saw; None where every level may come."""
    if not column.levels:
        return None
    return ~as_texts(read).is_in(list(column.levels)) & read.is_not_null()


def _outside(column: InputColumn, read: pl.Series) -> pl.Series | None:
    """Which cells lie outside the training range; None for columns that have none."""
    if column.low is None or column.high is None:
        return None
    numbers = read if column.type == "number" else read.cast(pl.Datetime("us")).cast(pl.Int64)
    return (numbers < column.low) | (numbers > column.high)


def _row_reader(column: InputColumn) -> CellReader:
    """The happy path of one cell; anything unusual is left to the table path."""
    return cell_reader(column.kind, column.zone, none_allowed=column.missing != "error")


def _usual_reader(column: InputColumn) -> CellReader:
    """One cell as most are: read, and not odd; by one call, since a row pays for each column.

    Any other cell raises `UnreadError`, and its row is read and looked at cell by cell.
    """
    read, look = _row_reader(column), _looker(column)
    levels = frozenset(column.levels)
    low = math.inf if column.low is None else column.low
    high = -math.inf if column.high is None else column.high

    def number(value: Any) -> Any:
        if type(value) is float and low <= value <= high:  # NaN is not within
            return value
        return other(value)

    def level(value: Any) -> Any:
        if type(value) is str and value in levels:
            return value
        return other(value)

    def other(value: Any) -> Any:
        found = read(value)
        if look is not None and look(found) is not None:
            raise UnreadError
        return found

    if column.kind == "float" and not levels:
        return number
    return level if column.kind == "text" and levels else other


def _looker(column: InputColumn) -> Looker | None:
    """What tells whether one checked cell is odd; None for a column where no cell can be.

    An ordinary cell is passed here, any other is looked at by `_odd` as a table's would be.
    """
    low, high, levels = column.low, column.high, frozenset(column.levels)
    numeric = column.kind in ("integer", "float", "seconds") and not levels

    def by_table(value: Any) -> Remark | None:
        fraction = type(value) is float  # a fraction may come where training had whole numbers
        cell = pl.Series(column.name, [value], dtype=pl.Float64 if fraction else column.dtype)
        found = _odd(column, cell, cell)
        return found[0] if found else None

    def level(value: Any) -> Remark | None:
        return None if value in levels or value is None else by_table(value)

    def within(value: Any) -> Remark | None:
        if value is None or low <= value <= high:
            return None
        return Remark(column.name, "outside", 1, 1.0, _OUTSIDE.format(column.name))

    if levels:
        return level if column.kind == "text" else by_table
    if low is None or high is None:
        return None
    return within if numeric else by_table


_OUTSIDE = "Column {0!r} lies outside the training range in 1 of 1 rows."


def _series_of(name: str, value: Any) -> pl.Series:
    try:
        return pl.Series(name, [value])
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"Column {name!r} got {value!r} ({type(value).__name__}), which is not a value of a "
            f"table; give a number, text, date or None."
        ) from error


def _listed(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows[:SHOWN])) + (", …" if len(rows) > SHOWN else "")


def _told(problems: list[str]) -> str:
    if len(problems) == 1:
        return f"The table does not fit the model's input contract: {problems[0]}"
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return f"The table does not fit the model's input contract; {len(problems)} problems:\n{lines}"
