"""Columns, or the order of the rows, that may say when a row happened, found by values alone.

Dates, numbers that grow along the rows, year, month and day in columns of their own, and, where no
column tells, rows whose neighbours resemble each other. The target is never looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.audit.alike import Columns
from loopline.data.schema import Schema

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Kind = Literal["declared", "dates", "parts", "counter", "rows"]
MIN_TIMES = 20
MIN_ROWS = 60
STRETCH_ROWS = 20_000
MAX_MISSING = 0.05
MAX_CANDIDATES = 3
SURE = 0.5
ALONG = 0.5
"""Rank correlation of neighbouring rows, in the middle feature, from which rows are in order."""
APART = 10
FADES = 2.0
"""Mean squared distance of rows ten apart, in that of neighbours, that speaks for time."""
_NOT_WHEN = re.compile(r"birth|dob|born|expir|due|deadline|valid|until", re.IGNORECASE)
_TIME_WORD = re.compile(
    r"(^|[^a-z])(date|datetime|time|timestamp|ts|epoch|period|when|created|updated|at)([^a-z]|$)"
)
_PARTS = (
    ("year", re.compile(r"^(year|yr|yyyy)$")),
    ("month", re.compile(r"^(month|mnth|mon|mm)$")),
    ("day", re.compile(r"^(day|dom|dayofmonth|day_of_month|dd)$")),
    ("hour", re.compile(r"^(hour|hr|hh)$")),
    ("minute", re.compile(r"^(minute|min|mi)$")),
)
_RANGES = {"month": (1, 12), "day": (1, 31), "hour": (0, 24), "minute": (0, 60)}


@dataclass(frozen=True, eq=False)
class TimeCandidate:
    """Columns, or the order of the rows, that may say when a row happened.

    Args:
        columns: together they give the time, the coarsest first; empty for the order of the rows.
        order: rank of each row of the table in time, equal for equal times, shape (rows,); rows
            whose time is missing have -1.
        kind: `declared`: the schema says so; `dates`: a date or datetime; `parts`: year, month, day
            … in columns of their own; `counter`: a number that grows along the rows or is named
            like a time; `rows`: the order of the rows themselves.
        num_times: distinct times.
        sorted: whether the rows stand in this order.
        confidence: 0 to 1.
    """

    columns: tuple[str, ...]
    order: Ints
    kind: Kind
    num_times: int
    sorted: bool
    confidence: float

    @property
    def sure(self) -> bool:
        """Whether it is when the row happened, and not just a number or date of the row."""
        return bool(self.columns) and self.confidence >= SURE


def propose_times(frame: pl.DataFrame, schema: Schema) -> list[TimeCandidate]:
    """Columns that may say when a row happened, likeliest first.

    Args:
        frame: the table. The target column is never looked at.
        schema: types and roles; columns of role `time` are taken over as they are.

    >>> from loopline.data.schema import Column
    >>> frame = pl.DataFrame({"n": range(100), "x": [i % 7 for i in range(100)], "y": [0.0] * 100})
    >>> columns = (Column("n", "number"), Column("x", "number"), Column("y", "number", "target"))
    >>> [found.columns for found in propose_times(frame, Schema(columns, "regression"))]
    [('n',)]
    """
    declared = [name for name in schema.with_role("time") if name in frame.columns]
    found = []
    if declared:
        candidate = _candidate(frame, tuple(declared), "declared", 1.0)
        return [candidate] if candidate is not None else []
    if frame.height < MIN_ROWS:
        return []
    present = set(frame.columns)
    free = [
        column.name
        for column in schema.columns
        if column.role in ("feature", "id", "ignore") and column.name in present
    ]
    dates = [name for name in free if frame[name].dtype.is_temporal()]
    dates = [name for name in dates if isinstance(frame[name].dtype, pl.Date | pl.Datetime)]
    dates = [name for name in dates if not _NOT_WHEN.search(name)]
    for name in dates:
        alone = len(dates) == 1 or bool(_TIME_WORD.search(name.lower()))
        found.append(_candidate(frame, (name,), "dates", 0.6 if alone else 0.3))
    parts = _parts(frame, free)
    if parts:
        found.append(_candidate(frame, parts, "parts", 0.6))
    for name in free:
        series = frame[name]
        if name in parts or not series.dtype.is_numeric() or series.null_count():
            continue
        named = bool(_TIME_WORD.search(name.lower()))
        if _grows(series):
            found.append(_candidate(frame, (name,), "counter", 0.6 if named else 0.4))
        elif named and series.n_unique() >= max(MIN_TIMES, series.len() // 100):
            found.append(_candidate(frame, (name,), "counter", 0.3))
    known = [each for each in found if each is not None and each.num_times >= MIN_TIMES]
    known = _distinct_orders(known)
    grouped = bool(schema.with_role("group"))
    if not grouped and not any(each.sorted for each in known) and rows_in_order(frame, schema):
        order = np.arange(frame.height, dtype=np.int64)
        known.append(TimeCandidate((), order, "rows", frame.height, True, 0.3))
    known.sort(key=lambda each: (-each.confidence, -each.num_times, each.columns))
    return known[:MAX_CANDIDATES]


def _candidate(
    frame: pl.DataFrame, names: tuple[str, ...], kind: Kind, confidence: float
) -> TimeCandidate | None:
    times = frame.select(names)
    missing = np.zeros(frame.height, dtype=bool)
    for name in names:
        missing |= times[name].is_null().to_numpy()
        if times[name].dtype.is_float():
            missing |= times[name].is_nan().fill_null(value=False).to_numpy()
    if missing.mean() > MAX_MISSING or missing.all():
        return None
    # A struct ranks by its first field, then by the next: year, month, day.
    key = times.to_series() if len(names) == 1 else times.to_struct("time")
    ranks = key.rank("dense").cast(pl.Int64).fill_null(0).to_numpy().astype(np.int64) - 1
    ranks[missing] = -1
    known = ranks[~missing]
    num_times = int(np.unique(known).size)
    in_order = bool((np.diff(known) >= 0).all() or (np.diff(known) <= 0).all())
    sure = min(0.95, confidence + 0.2 * in_order) if kind != "declared" else 1.0
    return TimeCandidate(names, ranks, kind, num_times, in_order, round(sure, 2))


def _grows(series: pl.Series) -> bool:
    if series.len() < 3 or not (series.is_sorted() or series.is_sorted(descending=True)):
        return False
    return series.n_unique() >= max(MIN_TIMES, series.len() // 100)


def _parts(frame: pl.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    """Columns named year, month, day …, from the coarsest down, whose values can be such."""
    chosen: list[str] = []
    for part, pattern in _PARTS:
        name = next((name for name in names if pattern.match(name.lower())), None)
        fits = name is not None and _fits(frame[name], part)
        if name is None or not fits:
            if part in ("year", "month"):
                continue
            break
        chosen.append(name)
    first = chosen[0].lower() if chosen else ""
    return tuple(chosen) if len(chosen) >= 2 and _PARTS[0][1].match(first) else ()


def _fits(series: pl.Series, part: str) -> bool:
    if not series.dtype.is_numeric() or series.null_count():
        return False
    low, high = _RANGES.get(part, (-1e9, 1e9))
    return bool((series >= low).all() and (series <= high).all())


def _distinct_orders(found: list[TimeCandidate]) -> list[TimeCandidate]:
    """Of candidates that give the same order the surest one is kept."""
    kept: list[TimeCandidate] = []
    for each in sorted(found, key=lambda one: (-one.confidence, one.columns)):
        if not any(_same_order(each.order, other.order) for other in kept):
            kept.append(each)
    return kept


def _same_order(a: Ints, b: Ints) -> bool:
    """Whether two orders agree but for ties (or run against each other all the way)."""
    both = (a >= 0) & (b >= 0)
    if both.sum() < 3:
        return False
    ranked = a[both][np.lexsort((a[both], b[both]))]
    steps = np.diff(ranked)
    return bool((steps >= 0).all() or (steps <= 0).all())


def rows_in_order(frame: pl.DataFrame, schema: Schema) -> bool:
    """Whether neighbouring rows resemble each other in the greater part of the features.

    >>> from loopline.data.schema import Column
    >>> walk = np.cumsum(np.random.default_rng(0).normal(size=(300, 2)), axis=0)
    >>> frame = pl.DataFrame({"a": walk[:, 0], "b": walk[:, 1], "y": [0.0] * 300})
    >>> columns = (Column("a", "number"), Column("b", "number"), Column("y", "number", "target"))
    >>> rows_in_order(frame, Schema(columns, "regression"))
    True
    """
    types = {column.name: column.type for column in schema.columns}
    names = [
        name
        for name in schema.features
        if types[name] == "number" and frame[name].dtype.is_numeric()
    ]
    ranks = Columns.read(_stretches(frame.select(names)), names).ranks
    if ranks.shape[1] < 2 or ranks.shape[0] < MIN_ROWS:
        return False
    along = [correlation(column[:-1], column[1:]) for column in ranks.T]
    if np.median(along) < ALONG:
        return False
    # Tables sorted by a group or laid out by design are alike within a block whatever the distance,
    # or repeat each other's cells; along time likeness fades with distance.
    near, far = ranks[1:] - ranks[:-1], ranks[APART:] - ranks[:-APART]
    repeats = float(np.median((near == 0.0).mean(axis=0)))
    fades = np.median((far**2).mean(axis=0) / np.maximum((near**2).mean(axis=0), 1e-12))
    return bool(repeats <= 0.5 and fades >= FADES)


def _stretches(frame: pl.DataFrame) -> pl.DataFrame:
    """Three stretches of a long table: from its beginning, its middle and its end."""
    if frame.height <= 3 * STRETCH_ROWS:
        return frame
    starts = (0, (frame.height - STRETCH_ROWS) // 2, frame.height - STRETCH_ROWS)
    return pl.concat([frame.slice(start, STRETCH_ROWS) for start in starts])


def correlation(a: Floats, b: Floats) -> float:
    """Pearson's correlation; 0 where one side does not vary.

    >>> correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))
    1.0
    """
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return round(float(a @ b) / scale, 12) if scale > 0 else 0.0
