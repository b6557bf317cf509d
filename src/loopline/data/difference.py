"""What changed between two tables: rows, columns, cells and distributions, in sentences.

Rows are matched by key columns where there are any, else by content as a multiset: a row that
stands twice in one table and once in the other counts as one row added or removed. Matching works
on row digests (`loopline.data.fingerprint`), so every type takes part and integer widths do not
matter.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.fingerprint import column_digests, logical_type, row_digests
from loopline.digest import bytes_digest
from loopline.errors import DataError
from loopline.words import counted

Kind = Literal["number", "time", "category", "other"]

NUM_EXAMPLES = 5
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_ID_NAME = re.compile(
    r"(?:^|[^a-zA-Z])(?i:id|key|uuid|guid)$|(?<=[a-z])(?:I[Dd]|Key|KEY|Uuid|UUID|Guid|GUID)$"
)
_SHOWN_SHIFTS = 8
_TOLD_DISTANCE = 0.01  # shifts below 1 percentage point stay out of the text, not out of the data


@dataclass(frozen=True, slots=True)
class CellChange:
    """One changed cell of a row that is in both tables; `key` names the row."""

    key: Mapping[str, Any]
    column: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class ColumnShift:
    """How the values of one shared column moved.

    Args:
        name: the column.
        kind: how it was compared; None of the value fields is filled for ``other``.
        missing: share of missing cells before and after.
        distance: 0 (same distribution) to 1. Numbers and times: the largest difference between the
            two cumulative shares at the deciles of the first table (Kolmogorov-Smirnov on a grid).
            Categories: total variation. At least the change of the missing share.
        before: statistics of the first table's values: mean, std, min, quantiles, max, or
            the number of distinct values.
        after: the same of the second table.
        new: the most frequent values that only the second table has, with their counts.
        num_new: how many such values there are.
        vanished: the most frequent values that only the first table has, with their counts.
        num_vanished: how many such values there are.
        moves: values whose share moved most, with the share before and after.
    """

    name: str
    kind: Kind
    missing: tuple[float, float]
    distance: float
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    new: tuple[tuple[Any, int], ...] = ()
    num_new: int = 0
    vanished: tuple[tuple[Any, int], ...] = ()
    num_vanished: int = 0
    moves: tuple[tuple[Any, float, float], ...] = ()

    def __str__(self) -> str:
        parts = []
        if self.kind == "number" and self.before["mean"] != self.after["mean"]:
            parts.append(
                f"mean {_show(self.before['mean'])} → {_show(self.after['mean'])}; "
                f"median {_show(self.before['p50'])} → {_show(self.after['p50'])}"
            )
        if self.kind == "time" and self.before != self.after:
            parts.append(
                f"{self.before['min']} … {self.before['max']} → "
                f"{self.after['min']} … {self.after['max']}"
            )
        if self.missing[0] != self.missing[1]:
            parts.append(f"missing {_percent(self.missing[0])} → {_percent(self.missing[1])}")
        if self.num_new:
            parts.append(f"{_counted(self.num_new, 'new value')} ({_listed(self.new)})")
        if self.num_vanished:
            parts.append(f"{_counted(self.num_vanished, 'value')} gone ({_listed(self.vanished)})")
        parts.extend(
            f"{value!r} {_percent(a)} → {_percent(b)}" for value, a, b in self.moves[:2] if a and b
        )
        return f"{self.name}: " + "; ".join(parts or ["the same"]) + "."


@dataclass(frozen=True, slots=True)
class TableDifference:
    """The difference of two tables; `str()` gives it in sentences, `to_dict` as plain data.

    Args:
        num_rows: rows of the first and of the second table.
        key: the columns that matched the rows; empty when rows were matched by content.
        added: rows only in the second table (with a key: rows whose key is new).
        removed: rows only in the first table.
        changed: rows with the same key and another content in the shared columns.
        unchanged: rows with the same content in the shared columns.
        added_columns: columns only in the second table.
        removed_columns: columns only in the first.
        renamed_columns: (before, after) of removed and added columns with the same values.
        retyped_columns: (name, logical type before, after).
        changed_cells: changed cells of each column that has any, in rows matched by key.
        added_examples: up to 5 added rows.
        removed_examples: up to 5 removed rows.
        changed_examples: up to 5 changed cells a column.
        shifts: one for each shared column, in the first table's order.
    """

    num_rows: tuple[int, int]
    key: tuple[str, ...]
    added: int
    removed: int
    changed: int
    unchanged: int
    added_columns: tuple[str, ...]
    removed_columns: tuple[str, ...]
    renamed_columns: tuple[tuple[str, str], ...]
    retyped_columns: tuple[tuple[str, str, str], ...]
    changed_cells: Mapping[str, int]
    added_examples: tuple[Mapping[str, Any], ...]
    removed_examples: tuple[Mapping[str, Any], ...]
    changed_examples: tuple[CellChange, ...]
    shifts: tuple[ColumnShift, ...]

    @property
    def is_empty(self) -> bool:
        """True when both tables hold the same rows in the same columns."""
        return not (
            self.added
            or self.removed
            or self.changed
            or self.added_columns
            or self.removed_columns
            or self.retyped_columns
        )

    def shift(self, name: str) -> ColumnShift:
        """The shift of one shared column.

        Raises:
            DataError: the column is not in both tables.
        """
        for shift in self.shifts:
            if shift.name == name:
                return shift
        raise DataError(f"There is no column {name!r} in both tables.")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: times as ISO text, bytes as hex, NaN and infinities as text."""
        data: dict[str, Any] = _plain(asdict(self))
        return data

    def __str__(self) -> str:
        if self.is_empty:
            return f"The same {_counted(self.num_rows[0], 'row')} in the same columns."
        how = f"matched by {_named(self.key)}" if self.key else "matched by their whole content"
        counts = [f"{self.added:,} added", f"{self.removed:,} removed"]
        if self.key:
            counts.append(f"{self.changed:,} changed")
        lines = [
            f"{_counted(self.num_rows[0], 'row')} before, {self.num_rows[1]:,} after: "
            f"{', '.join(counts)}, {self.unchanged:,} unchanged ({how})."
        ]
        lines.extend(f"Column {a!r} is now called {b!r}." for a, b in self.renamed_columns)
        renamed = {name for pair in self.renamed_columns for name in pair}
        for names, what in ((self.added_columns, "added"), (self.removed_columns, "removed")):
            left = [name for name in names if name not in renamed]
            if left:
                lines.append(f"{_counted(len(left), 'column')} {what}: {_named(left)}.")
        lines.extend(
            f"Column {name!r} was {before} and is {after}."
            for name, before, after in self.retyped_columns
        )
        for name, count in sorted(self.changed_cells.items(), key=lambda item: -item[1]):
            example = next(change for change in self.changed_examples if change.column == name)
            where = ", ".join(f"{part} {value!r}" for part, value in example.key.items())
            lines.append(
                f"{name} changed in {_counted(count, 'row')}, as in {where}: "
                f"{_show(example.before)} → {_show(example.after)}."
            )
        told = [
            shift
            for shift in self.shifts
            if shift.distance >= _TOLD_DISTANCE and shift.name not in self.key
        ]
        told.sort(key=lambda shift: -shift.distance)
        lines.extend(str(shift) for shift in told[:_SHOWN_SHIFTS])
        if len(told) > _SHOWN_SHIFTS:
            lines.append(f"{_counted(len(told) - _SHOWN_SHIFTS, 'further column')} moved less.")
        return "\n".join(lines)


def compare_tables(
    a: pl.DataFrame, b: pl.DataFrame, key: str | Sequence[str] | None = None
) -> TableDifference:
    """Say what is different in table `b`, seen from table `a`.

    Args:
        a: the table before.
        b: the table after.
        key: the column or columns whose values name a row. Default: the first shared column whose
            name ends in id, key, uuid or guid and whose values are complete and unique in both
            tables; without one, rows are matched by content and nothing counts as changed. An
            empty sequence asks for that.

    Raises:
        DataError: a key column is not in both tables, has two types, or repeats a value.

    >>> import polars as pl
    >>> a = pl.DataFrame({"id": [1, 2, 3], "price": [5.0, 6.0, 7.0]})
    >>> b = pl.DataFrame({"id": [2, 3, 4], "price": [6.0, 7.5, 8.0]})
    >>> print(str(compare_tables(a, b)).splitlines()[0])
    3 rows before, 3 after: 1 added, 1 removed, 1 changed, 1 unchanged (matched by 'id').
    """
    both = [name for name in a.columns if name in b.columns]
    retyped = tuple(
        (name, before, after)
        for name in both
        if (before := logical_type(a.schema[name])) != (after := logical_type(b.schema[name]))
    )
    same = [name for name in both if name not in {name for name, _, _ in retyped}]
    names = _key_columns(a, b, key, same)
    rows_a, rows_b = row_digests(a.select(same)), row_digests(b.select(same))
    changed_cells: dict[str, int] = {}
    changes: list[CellChange] = []
    if names:
        match = _match_by_key(a, b, names, given=key is not None)
        where = np.flatnonzero((rows_a[match.in_a] != rows_b[match.in_b]).any(axis=1))
        changed_a, changed_b = a[match.in_a[where]], b[match.in_b[where]]
        for name in same:
            if name not in names:
                count, examples = _changed_cells(changed_a, changed_b, names, name)
                changes += examples
                if count:
                    changed_cells[name] = count
        num_changed, unchanged = len(where), len(match.in_a) - len(where)
    else:
        match = _match_by_content(rows_a, rows_b) if same else _no_match(a.height, b.height)
        num_changed, unchanged = 0, len(match.in_a)
    added = tuple(name for name in b.columns if name not in a.columns)
    removed = tuple(name for name in a.columns if name not in b.columns)
    return TableDifference(
        num_rows=(a.height, b.height),
        key=names,
        added=len(match.only_b),
        removed=len(match.only_a),
        changed=num_changed,
        unchanged=unchanged,
        added_columns=added,
        removed_columns=removed,
        renamed_columns=_renamed(a.select(removed), b.select(added)),
        retyped_columns=retyped,
        changed_cells=changed_cells,
        added_examples=_examples(b[match.only_b[:NUM_EXAMPLES]]),
        removed_examples=_examples(a[match.only_a[:NUM_EXAMPLES]]),
        changed_examples=tuple(changes),
        shifts=tuple(_shift(a[name], b[name]) for name in both),
    )


# --- matching rows --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Match:
    """Positions of matched rows (pairwise) and of the rows that only one table has."""

    in_a: NDArray[np.intp]
    in_b: NDArray[np.intp]
    only_a: NDArray[np.intp]
    only_b: NDArray[np.intp]


def _key_columns(
    a: pl.DataFrame, b: pl.DataFrame, key: str | Sequence[str] | None, same: list[str]
) -> tuple[str, ...]:
    if key is not None:
        names = (key,) if isinstance(key, str) else tuple(key)
        for name in names:
            for frame, which in ((a, "first"), (b, "second")):
                if name not in frame.columns:
                    raise DataError(
                        f"The key column {name!r} is not in the {which} table, which has "
                        f"{_named(frame.columns[:20])}. A key must be in both tables."
                    )
            if name not in same:
                raise DataError(
                    f"The key column {name!r} is {logical_type(a.schema[name])} in the first "
                    f"table and {logical_type(b.schema[name])} in the second; a key must have one "
                    "type. Convert one of them."
                )
        return names
    for name in same:
        if _ID_NAME.search(name) and logical_type(a.schema[name]) in ("integer", "string"):
            columns = (a[name], b[name])
            if all(not c.null_count() and c.n_unique() == len(c) for c in columns):
                return (name,)
    return ()


def _match_by_key(
    a: pl.DataFrame, b: pl.DataFrame, names: tuple[str, ...], *, given: bool
) -> _Match:
    keys = []
    for frame, which in ((a, "first"), (b, "second")):
        digests = _as_frame(row_digests(frame.select(names)))
        if given and digests.select("high", "low").n_unique() != frame.height:
            repeated = digests.select("high", "low").is_duplicated().arg_true()
            row = frame.select(names).row(int(repeated[0]), named=True)
            found = ", ".join(f"{name} = {value!r}" for name, value in row.items())
            raise DataError(
                f"The key {_named(names)} must name each row once; in the {which} table "
                f"{len(repeated):,} rows share their key with another, such as {found}. "
                "Add a column to the key, or compare without one."
            )
        keys.append(digests)
    return _joined(keys[0], keys[1], ["high", "low"])


def _match_by_content(rows_a: NDArray[np.uint64], rows_b: NDArray[np.uint64]) -> _Match:
    """Pair the k-th copy of a row in one table with the k-th copy in the other."""
    copy = pl.int_range(pl.len(), dtype=pl.UInt32).over("high", "low").alias("copy")
    a, b = _as_frame(rows_a).with_columns(copy), _as_frame(rows_b).with_columns(copy)
    return _joined(a, b, ["high", "low", "copy"])


def _no_match(num_a: int, num_b: int) -> _Match:
    nothing = np.empty(0, dtype=np.intp)
    return _Match(nothing, nothing, np.arange(num_a), np.arange(num_b))


def _as_frame(digests: NDArray[np.uint64]) -> pl.DataFrame:
    frame = pl.DataFrame(
        {"high": np.ascontiguousarray(digests[:, 0]), "low": np.ascontiguousarray(digests[:, 1])}
    )
    return frame.with_row_index("row")


def _joined(a: pl.DataFrame, b: pl.DataFrame, on: list[str]) -> _Match:
    pairs = a.join(b, on=on, how="inner", suffix="_b", maintain_order="left")
    in_a, in_b = (pairs[name].to_numpy().astype(np.intp) for name in ("row", "row_b"))
    return _Match(in_a, in_b, _others(in_a, a.height), _others(in_b, b.height))


def _others(rows: NDArray[np.intp], total: int) -> NDArray[np.intp]:
    left = np.ones(total, dtype=bool)
    left[rows] = False
    return np.flatnonzero(left)


def _changed_cells(
    a: pl.DataFrame, b: pl.DataFrame, names: tuple[str, ...], column: str
) -> tuple[int, list[CellChange]]:
    """Number and examples of the differing cells of one column in tables with the same rows."""
    differ = (row_digests(a.select(column)) != row_digests(b.select(column))).any(axis=1)
    rows = np.flatnonzero(differ)
    changes = [
        CellChange(
            {name: a[name][row] for name in names},
            column,
            _cell(a[column], row),
            _cell(b[column], row),
        )
        for row in rows[:NUM_EXAMPLES].tolist()
    ]
    return len(rows), changes


def _cell(series: pl.Series, row: int) -> Any:
    value = series[row]
    if isinstance(value, bytes):
        return _told(value)
    return value.to_list() if isinstance(value, pl.Series) else value


def _told(content: bytes) -> str:
    """A file's bytes, for people: how many, and the start of their digest."""
    return f"{counted(len(content), 'byte')} ({bytes_digest(content)[:8]})"


def _examples(frame: pl.DataFrame) -> tuple[dict[str, Any], ...]:
    rows = frame.to_dicts()
    return tuple(
        {name: _told(cell) if isinstance(cell, bytes) else cell for name, cell in row.items()}
        for row in rows
    )


def _renamed(gone: pl.DataFrame, came: pl.DataFrame) -> tuple[tuple[str, str], ...]:
    """Pairs of columns with the same values; each column at most once."""
    if gone.height != came.height or not gone.width or not came.width:
        return ()
    found: dict[str, str] = {}
    for name, digest in column_digests(came).items():
        found.setdefault(digest, name)
    pairs = []
    for name, digest in column_digests(gone).items():
        if digest in found:
            pairs.append((name, found.pop(digest)))
    return tuple(pairs)


# --- shifts of values -----------------------------------------------------------------------------


def _shift(a: pl.Series, b: pl.Series) -> ColumnShift:
    missing = (_share(a.null_count(), len(a)), _share(b.null_count(), len(b)))
    kind = _kind(a.dtype)
    moved = abs(missing[0] - missing[1])
    if kind != _kind(b.dtype) or kind == "other":
        return ColumnShift(a.name, "other", missing, moved, {}, {})
    a, b = a.drop_nulls(), b.drop_nulls()
    if kind == "category":
        return _category_shift(a, b, missing, moved)
    numbers_a, numbers_b = _numbers(a), _numbers(b)
    distance = max(moved, _grid_distance(numbers_a, numbers_b))
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    if kind == "number":
        before, after = _number_summary(numbers_a), _number_summary(numbers_b)
    else:
        before, after = _time_summary(a), _time_summary(b)
    return ColumnShift(a.name, kind, missing, distance, before, after)


def _kind(dtype: pl.DataType) -> Kind:
    if dtype.is_numeric():
        return "number"
    if isinstance(dtype, pl.Date | pl.Datetime | pl.Time | pl.Duration):
        return "time"
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum | pl.Boolean):
        return "category"
    return "other"


def _numbers(values: pl.Series) -> NDArray[np.float64]:
    """Sorted values as floats without NaN and infinities; microseconds for times, else days."""
    if isinstance(values.dtype, pl.Datetime | pl.Duration):
        values = values.dt.cast_time_unit("us")
    numbers = values.to_physical() if values.dtype.is_temporal() else values
    floats = numbers.cast(pl.Float64).to_numpy()
    return np.sort(floats[np.isfinite(floats)])


def _number_summary(values: NDArray[np.float64]) -> dict[str, float | None]:
    names = ["mean", "std", "min", *(f"p{round(100 * share):02d}" for share in _QUANTILES), "max"]
    if not len(values):
        return dict.fromkeys(names)
    spread = float(values.std(ddof=1)) if len(values) > 1 else None
    points = [float(point) for point in np.quantile(values, (0, *_QUANTILES, 1))]
    return dict(zip(names, [float(values.mean()), spread, *points], strict=True))


def _time_summary(values: pl.Series) -> dict[str, str | None]:
    return {
        "min": _text(values.min()),
        "p50": _text(values.sort()[(len(values) - 1) // 2]) if len(values) else None,
        "max": _text(values.max()),
    }


def _grid_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Largest difference of the cumulative shares at the deciles of `a`; 1 against nothing."""
    if not len(a) or not len(b):
        return float(len(a) != len(b))
    grid = np.quantile(a, np.linspace(0, 1, 11), method="lower")
    shares = [np.searchsorted(values, grid, side="right") / len(values) for values in (a, b)]
    under = float(np.searchsorted(b, grid[0], side="left")) / len(b)
    return max(under, float(np.abs(shares[0] - shares[1]).max()))


def _category_shift(
    a: pl.Series, b: pl.Series, missing: tuple[float, float], moved: float
) -> ColumnShift:
    counted_a, counted_b = (
        series.cast(pl.String).alias("value").value_counts(name=name)
        for series, name in ((a, "before"), (b, "after"))
    )
    # Shares are compared as whole numbers, so equal shares of unlike totals are equal.
    table = (
        counted_a.join(counted_b, on="value", how="full", coalesce=True)
        .with_columns(pl.col("before", "after").fill_null(0).cast(pl.Int64))
        .with_columns(move=pl.col("after") * len(a) - pl.col("before") * len(b))
    )
    total = len(a) * len(b)
    distance = int(table["move"].abs().sum()) / (2 * total) if total else 0.0
    new = table.filter(pl.col("before") == 0).select("value", "after")
    vanished = table.filter(pl.col("after") == 0).select("value", "before")
    moves = table.filter((pl.col("move") != 0) & (pl.col("before") > 0) & (pl.col("after") > 0))
    moves = _first(moves.with_columns(pl.col("move").abs()), "move")
    return ColumnShift(
        a.name,
        "category",
        missing,
        max(moved, distance),
        {"distinct": counted_a.height},
        {"distinct": counted_b.height},
        new=_most(new, "after"),
        num_new=new.height,
        vanished=_most(vanished, "before"),
        num_vanished=vanished.height,
        moves=tuple(
            (value, was / len(a), now / len(b))
            for value, was, now in moves.select("value", "before", "after").iter_rows()
        ),
    )


def _most(values: pl.DataFrame, by: str) -> tuple[tuple[Any, int], ...]:
    return tuple(_first(values, by).rows())


def _first(values: pl.DataFrame, by: str) -> pl.DataFrame:
    """The rows with the largest `by`, equal ones in the order of their values.

    Sorting all of a million values that stand once would cost seconds; this looks at the ties only.
    """
    if values.height > NUM_EXAMPLES:
        least = values[by].top_k(NUM_EXAMPLES).min()
        tied = values.filter(pl.col(by) == least)
        last = tied["value"].bottom_k(min(NUM_EXAMPLES, tied.height)).max()
        values = values.filter(
            (pl.col(by) > least) | ((pl.col(by) == least) & (pl.col("value") <= last))
        )
    return values.sort(by, "value", descending=[True, False]).head(NUM_EXAMPLES)


# --- words ----------------------------------------------------------------------------------------


def _share(count: int, total: int) -> float:
    return count / total if total else 0.0


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _text(value: Any) -> str | None:
    return None if value is None else _plain_scalar(value)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _named(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _listed(values: Sequence[tuple[Any, int]]) -> str:
    return ", ".join(f"{value!r} {count:,}×" for value, count in values[:3])


def _show(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, float):
        return f"{value:.6g}"
    return repr(value) if isinstance(value, str) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> str:
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)
