"""Two runs on the rows that both scored out of fold: how much better one is, overall and in parts.

Rows are matched by what stands in them, so runs of different snapshots can be compared wherever
they share rows. Each run brings its own calibration and its own decision threshold, because that
is what it would serve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.duplicates.clusters import merged
from loopline.data.fingerprint import logical_type, row_digests
from loopline.data.schema import ColumnType, Role, has_classes
from loopline.evaluate.intervals import LEVEL, Estimate, estimate_rows, student_tail
from loopline.evaluate.metrics import Metric, metric, standard_metrics
from loopline.evaluate.rows import Rows, Units
from loopline.evaluate.slices import FEWEST_ROWS, Slice, holm, slices_of
from loopline.line.finished import FinishedRun
from loopline.line.official import PART
from loopline.select.compare import at_level, compare_rows

Ints = NDArray[np.int64]
FEWEST_UNITS = 10
"""A difference on fewer independent units than this is not told."""
FEWEST_OF_CLASS = 10
"""A slice with fewer rows of a class than this is not tested."""


@dataclass(frozen=True)
class Line:
    """One metric of two runs on the same rows.

    Args:
        metric: its name.
        before: the first run's score with its interval.
        after: the second run's.
        difference: how much better the second is (positive: better), with the paired interval.
    """

    metric: str
    before: Estimate
    after: Estimate
    difference: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "metric": self.metric,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "difference": self.difference.to_dict(),
        }


@dataclass(frozen=True)
class SliceLine:
    """The difference in one slice.

    Args:
        column: the column that makes the slice.
        title: which rows.
        num_rows: how many.
        before: the first run's score there.
        after: the second run's.
        difference: how much better the second is, with the interval that decided: wider than 95 %
            where many slices were looked at.
        chance: chance of so large a difference without a true one, raised for the number of slices.
        elsewhere: the difference on all other rows.
        apart: chance of a difference so unlike that of the other rows, raised likewise.
    """

    column: str
    title: str
    num_rows: int
    before: float
    after: float
    difference: Estimate
    chance: float
    elsewhere: float
    apart: float

    @property
    def stands_out(self) -> bool:
        """Whether the difference is surely unlike that of the other rows."""
        return self.apart <= 1 - LEVEL

    @property
    def found(self) -> bool:
        """Whether the difference stands out from chance among all slices looked at."""
        return self.chance <= 1 - LEVEL

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "column": self.column,
            "title": self.title,
            "num_rows": self.num_rows,
            "before": _number(self.before),
            "after": _number(self.after),
            "difference": self.difference.to_dict(),
            "chance": self.chance,
            "found": self.found,
            "elsewhere": _number(self.elsewhere),
            "apart": self.apart,
            "stands_out": self.stands_out,
        }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True, eq=False)
class Pair:
    """Two runs on the rows that both scored.

    Args:
        rows: places of the rows in the first run's snapshot.
        before: rows as the first run scored them.
        after: the same rows, in the same order, as the second run did.
        observed: which rows count as one observation; those that either run keeps together.
        weighted: whether rows have weights, the same in both runs.
    """

    rows: Ints
    before: Rows
    after: Rows
    observed: Ints
    weighted: bool

    @property
    def units(self) -> Units:
        """The independent pieces that an interval may count."""
        return Units.build(self.observed, self.rows.size)


def pair_of(first: FinishedRun, second: FinishedRun) -> Pair | None:
    """The rows that both runs scored out of fold; None when there are too few to compare.

    Both runs must have the same target, task and classes.
    """
    mine, theirs = first.scored(), second.scored()
    here, there = _matched(first, second, mine.rows, theirs.rows)
    if here.size < FEWEST_ROWS:
        return None
    one, two = first.outcomes(mine.rows[here]), second.outcomes(theirs.rows[there])
    observed = merged(
        np.unique(first.observed(one), return_inverse=True)[1].astype(np.int64),
        np.unique(second.observed(two), return_inverse=True)[1].astype(np.int64),
    )
    if np.unique(observed).size < FEWEST_UNITS:
        return None
    same = (
        one.weight is not None and two.weight is not None and np.array_equal(one.weight, two.weight)
    )
    weight = one.weight if same else None
    task = first.schema.task

    def rows(run: FinishedRun, prediction: NDArray[Any], folds: Ints) -> Rows:
        return Rows.build(
            one.target,
            prediction,
            values=None if has_classes(task) else task,
            weight=weight,
            threshold=run.threshold,
            folds=folds,
        )

    return Pair(
        rows=mine.rows[here],
        before=rows(first, mine.prediction[here], mine.fold[here]),
        after=rows(second, theirs.prediction[there], theirs.fold[there]),
        observed=observed,
        weighted=same,
    )


def _matched(
    first: FinishedRun, second: FinishedRun, mine: Ints, theirs: Ints
) -> tuple[Ints, Ints]:
    """Places, within the rows that each run scored, of the rows that are the same."""
    if first.prepared.plan.snapshot_id == second.prepared.plan.snapshot_id:
        _, here, there = np.intersect1d(mine, theirs, assume_unique=True, return_indices=True)
        return here.astype(np.int64), there.astype(np.int64)
    before, after = first.prepared.table, second.prepared.table
    shared = shared_columns(before, after)
    whole = set(before.columns) - {PART} == set(after.columns) - {PART} == set(shared)
    return same_rows(before.select(shared)[mine], after.select(shared)[theirs], copies=whole)


def shared_columns(before: pl.DataFrame, after: pl.DataFrame) -> list[str]:
    """The columns that both tables have in one logical type."""
    return [
        name
        for name in before.columns
        if name != PART
        and name in after.columns
        and logical_type(before.schema[name]) == logical_type(after.schema[name])
    ]


def same_rows(before: pl.DataFrame, after: pl.DataFrame, *, copies: bool) -> tuple[Ints, Ints]:
    """Pair equal rows of two tables with the same columns.

    Args:
        before: the one table.
        after: the other.
        copies: pair the k-th copy of a row here with the k-th copy there. Otherwise rows that
            stand twice in either table are left out: where columns are missing, equal rows may be
            different things.

    Returns:
        Places in the one and in the other, pair by pair, in the order of the first.

    >>> a, b = pl.DataFrame({"x": [1, 2, 2, 3]}), pl.DataFrame({"x": [3, 2, 1]})
    >>> [places.tolist() for places in same_rows(a, b, copies=True)]
    [[0, 1, 3], [2, 1, 0]]
    >>> [places.tolist() for places in same_rows(a, b, copies=False)]
    [[0, 3], [2, 0]]
    """
    keys = ["a", "b"]
    one, two = _keyed(before), _keyed(after)
    if copies:
        copy = pl.int_range(pl.len(), dtype=pl.UInt32).over(keys).alias("copy")
        one, two, keys = one.with_columns(copy), two.with_columns(copy), [*keys, "copy"]
    else:
        one, two = (table.filter(pl.len().over(keys) == 1) for table in (one, two))
    pairs = one.join(two, on=keys, how="inner", suffix="_there", maintain_order="left")
    return (
        pairs["row"].to_numpy().astype(np.int64),
        pairs["row_there"].to_numpy().astype(np.int64),
    )


def _keyed(frame: pl.DataFrame) -> pl.DataFrame:
    digests = row_digests(frame)
    return pl.DataFrame(
        {"a": np.ascontiguousarray(digests[:, 0]), "b": np.ascontiguousarray(digests[:, 1])}
    ).with_row_index("row")


def metric_lines(pair: Pair, names: Sequence[str], *, level: float, seed: int) -> list[Line]:
    """Scores and paired differences of the metrics, in their order, the task's own after them."""
    units = pair.units
    wanted = [metric(name, pair.before.task) for name in names]
    wanted += [entry for entry in standard_metrics(pair.before.task) if entry not in wanted]
    return [
        Line(
            entry.name,
            estimate_rows(entry, pair.before, units, seed=seed),
            estimate_rows(entry, pair.after, units, seed=seed),
            compare_rows(entry, pair.after, pair.before, units, level=level, seed=seed),
        )
        for entry in wanted
    ]


def slice_lines(pair: Pair, parts: Sequence[Slice], name: str, *, seed: int) -> list[SliceLine]:
    """The paired difference in each slice that has enough rows, surest first.

    Args:
        pair: the runs' rows.
        parts: slices of exactly these rows.
        name: the metric.
        seed: of the bootstrap, for metrics that need it.
    """
    entry = metric(name, pair.before.task)
    told = [
        (part, differences)
        for part in parts
        if (differences := _inside_and_outside(pair, part, entry, seed)) is not None
    ]
    chances = [two_sided(inside) for _, (inside, _) in told]
    apart = holm([_unlike(inside, outside) for _, (inside, outside) in told])
    raised = holm(chances)
    lines = []
    for place, number in enumerate(np.argsort(chances, kind="stable").tolist()):
        part, (inside, outside) = told[number]
        lines.append(
            SliceLine(
                part.column,
                part.title,
                len(part),
                entry.score(pair.before.take(part.rows)).value,
                entry.score(pair.after.take(part.rows)).value,
                at_level(inside, 1 - (1 - LEVEL) / (len(told) - place)),
                float(raised[number]),
                outside.value,
                float(apart[number]),
            )
        )
    return lines


def _inside_and_outside(
    pair: Pair, part: Slice, entry: Metric, seed: int
) -> tuple[Estimate, Estimate] | None:
    """The paired difference in a slice and on all other rows; None where a slice says too little.

    Where too few rows are outside, that difference is not a number.
    """
    inside = np.zeros(pair.rows.size, dtype=bool)
    inside[part.rows] = True
    units = pair.units
    found = []
    for mask in (inside, ~inside):
        rows = np.flatnonzero(mask).astype(np.int64)
        before, after, mine = pair.before.take(rows), pair.after.take(rows), units.take(rows)
        if mine.count < FEWEST_UNITS or _poor(before):
            nan = float("nan")
            found.append(Estimate(nan, nan, nan, "none", mine.count))
        else:
            found.append(compare_rows(entry, after, before, mine, seed=seed))
    return None if math.isnan(found[0].low) else (found[0], found[1])


def _unlike(inside: Estimate, outside: Estimate) -> float:
    """Chance of two differences so unlike when they are the same; 1 where one is not known.

    Units with rows on both sides make both differences move alike, which is not made use of.
    """
    if math.isnan(outside.low):
        return 1.0
    squares = inside.standard_error**2, outside.standard_error**2
    error = math.sqrt(sum(squares))
    if error <= 0:
        return 1.0 if inside.value == outside.value else 0.0
    parts = sum(
        square**2 / each.freedom for square, each in zip(squares, (inside, outside), strict=True)
    )
    freedom = sum(squares) ** 2 / parts if parts > 0 else math.inf
    return min(1.0, 2 * student_tail(abs(inside.value - outside.value) / error, freedom))


def _poor(rows: Rows) -> bool:
    """Whether a class has too few rows for a score of them to mean anything."""
    if not has_classes(rows.task):
        return False
    counts = np.bincount(rows.y, minlength=rows.num_classes)
    return bool(rows.task == "binary" and counts.min() < FEWEST_OF_CLASS)


def two_sided(difference: Estimate) -> float:
    """Chance of a difference at least as large, either way, when there is none."""
    if difference.standard_error <= 0:
        return 1.0 if difference.value == 0 else 0.0
    tail = student_tail(abs(difference.value) / difference.standard_error, difference.freedom)
    return min(1.0, 2 * tail)


def slices_of_run(
    run: FinishedRun, rows: Ints, roles: Sequence[Role] = ("feature", "time", "group", "ignore")
) -> list[Slice]:
    """Slices of some of a run's rows by the columns of some roles; never by the target."""
    types: dict[str, ColumnType] = {
        column.name: column.type
        for column in run.schema.columns
        if column.role in roles
        and column.role != "target"
        and column.name not in (PART, *run.prepared.left_out)
    }
    return slices_of(run.prepared.table.select(list(types))[rows], types)
