"""Roles that take a column away from the model or decide the split: time, id, weight, group.

Each is given only on strong evidence, which its reason states; weak evidence becomes a remark
inside the reason, and the column stays a feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from loopline.data.names import (
    NOT_EVENT_TIME,
    TIME_NAMES,
    WEIGHT_NAMES,
    entity_name,
    is_id_name,
    is_time_name,
    squeeze,
)
from loopline.data.schema import Column

SAMPLE_ROWS = 100_000
_NUM_GROUPS_LOOKED_AT = 500
_MIN_ROWS_FOR_ID = 20


@dataclass(frozen=True, slots=True)
class Facts:
    """What is measured of one column before anything is decided."""

    dtype: pl.DataType
    num_rows: int
    num_missing: int
    num_distinct: int  # in the sample, missing not counted
    num_sampled: int  # cells in the sample that are not missing

    @property
    def distinct_share(self) -> float:
        """Distinct values over the cells looked at."""
        return self.num_distinct / max(self.num_sampled, 1)


def propose_time(
    columns: list[Column], frame: pl.DataFrame, facts: Mapping[str, Facts], target: str | None
) -> list[Column]:
    """Give the role `time` to the one column that orders the rows best, when it is clear enough."""
    found: list[tuple[int, int, str]] = []
    remarks: dict[str, str] = {}
    for place, column in enumerate(columns):
        if column.role != "feature" or column.name == target:
            continue
        if column.type == "datetime":
            rank, why = _rank_datetime(frame[column.name], facts[column.name])
        elif frame[column.name].dtype.is_numeric() and is_time_name(column.name):
            rank, why = _rank_number(frame[column.name], facts[column.name])
        else:
            continue
        remarks[column.name] = why
        if rank:
            found.append((-rank, place, column.name))
    best = min(found)[2] if found else None
    changed = []
    for column in columns:
        if column.name == best:
            changed.append(replace(column, role="time", reason=remarks[column.name]))
        elif column.name in remarks:
            why = f"{best!r} orders the rows already" if best else remarks[column.name]
            changed.append(replace(column, reason=f"{column.reason}; {why}"))
        else:
            changed.append(column)
    return changed


def _rank_datetime(series: pl.Series, facts: Facts) -> tuple[int, str]:
    if NOT_EVENT_TIME.search(series.name):
        return 0, "its name says it is not when the row happened"
    if facts.num_missing > facts.num_rows * 0.05:
        return 0, "too many missing cells to order the rows by it (role: time if you want to)"
    if facts.num_distinct < 3:
        return 0, "too few distinct dates to order the rows by"
    named = squeeze(series.name) in TIME_NAMES
    if _monotone(series):
        return (3 if named else 2), "dates, and the rows stand in their order"
    if named:
        return 1, "dates, and the name says when the row happened"
    return 0, "a date that may or may not be when the row happened (role: time if it is)"


def _rank_number(series: pl.Series, facts: Facts) -> tuple[int, str]:
    if facts.num_distinct >= _MIN_ROWS_FOR_ID and not facts.num_missing and _monotone(series):
        return 1, "the name says time and the rows stand in its order"
    return 0, "the name says time but the rows do not stand in its order (role: time if it is)"


def _monotone(series: pl.Series) -> bool:
    cells = series.drop_nulls()
    return len(cells) > 2 and (cells.is_sorted() or cells.is_sorted(descending=True))


def propose_id(column: Column, series: pl.Series, facts: Facts) -> Column:
    """Role `id` for values that name the row: nothing learnt of them holds for another row."""
    if column.type not in ("number", "category") or facts.dtype.is_float():
        return column
    named = is_id_name(column.name)
    if facts.num_missing or facts.distinct_share < 0.95 or facts.num_rows < 3:
        return column
    if not named and facts.num_rows < _MIN_ROWS_FOR_ID:
        return column
    num_distinct = series.n_unique()
    if facts.dtype.is_integer():
        if num_distinct < facts.num_rows:
            return column
        if _is_row_index(series):
            return replace(column, role="id", reason="counts the rows one by one")
        if named:
            return replace(
                column, role="id", reason="a distinct value in every row, named like an id"
            )
        return column
    if num_distinct == facts.num_rows:
        return replace(column, role="id", reason="a distinct word in every row")
    share = num_distinct / facts.num_rows
    if named and share >= 0.99:
        return replace(column, role="id", reason=f"{share:.1%} distinct, named like an id")
    if share >= 0.95:
        remark = (
            f"{column.reason}; nearly every row has its own word (role: id if it names the row)"
        )
        return replace(column, reason=remark)
    return column


def _is_row_index(series: pl.Series) -> bool:
    low, high = series.min(), series.max()
    assert isinstance(low, int)
    assert isinstance(high, int)
    return low in (0, 1) and high - low + 1 == len(series) and series.is_sorted()


def propose_weight(columns: list[Column], frame: pl.DataFrame, target: str | None) -> list[Column]:
    """Role `weight` for the first column of numbers >= 0 that is named like a sample weight."""
    changed, given = [], False
    for column in columns:
        series = frame[column.name]
        if (
            given
            or column.name == target
            or column.role not in ("feature", "id")
            or squeeze(column.name) not in WEIGHT_NAMES
            or not series.dtype.is_numeric()
        ):
            changed.append(column)
        elif series.null_count() or not bool((series >= 0).all()) or not series.is_finite().all():
            reason = f"{column.reason}; named like a sample weight but has cells that are none"
            changed.append(replace(column, reason=reason))
        else:
            reason = "named like a sample weight: how much a row counts, not what it is like"
            changed.append(replace(column, role="weight", reason=reason))
            given = True
    return changed


def propose_groups(
    columns: list[Column], frame: pl.DataFrame, facts: Mapping[str, Facts], target: str | None
) -> list[Column]:
    """Role `group` for columns that say whose row it is, when that one has several rows."""
    by_name = {column.name: column for column in columns}
    others = [
        name for name, column in by_name.items() if column.role == "feature" and name != target
    ]
    changed = []
    for column in columns:
        kind = entity_name(column.name)
        fact = facts[column.name]
        candidate = (
            kind is not None
            and column.name != target
            and column.role == "feature"
            and column.type in ("number", "category")
            and not (fact.dtype.is_float() and not _whole(frame[column.name]))
        )
        if not candidate:
            changed.append(column)
            continue
        changed.append(_judge_group(column, frame, fact, kind == "id", others))
    return changed


def _judge_group(
    column: Column, frame: pl.DataFrame, facts: Facts, named_id: bool, others: list[str]
) -> Column:
    series = frame[column.name]
    num_groups = series.n_unique()
    rows_each = facts.num_rows / max(num_groups, 1)
    if num_groups < 3 or rows_each < 1.05:
        return column
    steady = _steady_within(frame, column.name, [name for name in others if name != column.name])
    told = f"{num_groups:,} values, {rows_each:.1f} rows each"
    if steady and (named_id or num_groups >= 20):
        names = ", ".join(repr(name) for name in steady[:3])
        return replace(
            column,
            role="group",
            reason=f"{told}; the name says whose row it is; constant within one: {names}",
        )
    if named_id:
        return replace(column, role="group", reason=f"{told}; the name says whose row it is")
    return replace(
        column, reason=f"{column.reason}; may say whose row it is (role: group if it does)"
    )


def _steady_within(frame: pl.DataFrame, group: str, others: list[str]) -> list[str]:
    """Columns that are constant inside nearly every group, though not when rows are dealt anew."""
    keys = frame[group].drop_nulls().unique(maintain_order=True)
    step = -(-len(keys) // _NUM_GROUPS_LOOKED_AT)
    rows = frame.select(group, *others).filter(
        pl.col(group).is_in(keys.gather_every(step).implode())
    )
    rows = rows.head(SAMPLE_ROWS)
    dealt = rows.with_columns(
        pl.col(others).gather((pl.int_range(pl.len()) * _stride(rows.height)) % pl.len())
    )
    true, chance = (_constant_share(table, group, others) for table in (rows, dealt))
    return [name for name in others if true[name] >= 0.95 and chance[name] <= 0.5]


def _stride(num_rows: int) -> int:
    """A step that visits every row once in an order unlike the table's."""
    step = int(num_rows * 0.618) | 1
    while num_rows > 1 and _gcd(step, num_rows) != 1:
        step += 1
    return step


def _gcd(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a


def _constant_share(rows: pl.DataFrame, group: str, others: list[str]) -> dict[str, float]:
    if not others:
        return {}
    repeated = rows.filter(pl.len().over(group) >= 2)
    counts = repeated.group_by(group).agg(pl.col(others).n_unique() == 1)
    return {name: float(counts[name].mean() or 0.0) for name in others}  # type: ignore[arg-type]


def _whole(series: pl.Series) -> bool:
    cells = series.drop_nulls()
    return bool((cells == cells.round(0)).all())
