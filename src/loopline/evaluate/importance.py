"""How much the score drops when one column is shuffled: what a model lives on.

Works for any model through its `predict`; costs one prediction a column and repeat, and less where
the model makes its features once (`shuffled`).
Columns that carry the same information share the credit, so shuffle them as one group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.errors import DataError, SettingsError
from loopline.evaluate.formulas import Scored
from loopline.evaluate.intervals import LEVEL, Estimate, influence_error, student_quantile
from loopline.evaluate.metrics import Metric
from loopline.evaluate.metrics import metric as read_metric
from loopline.evaluate.rows import Floats, Rows, Units
from loopline.seeds import child_seed

Rearranged = Callable[[Sequence[str], NDArray[np.int64]], Floats]
"""Predicts all rows with the named columns' cells in the given order, the others in their place."""


def permutation_importance(
    predict: Callable[[pl.DataFrame], Floats],
    frame: pl.DataFrame,
    y: NDArray[Any],
    metric: Metric | str,
    *,
    repeats: int = 5,
    seed: int = 0,
    max_rows: int | None = 10_000,
    weight: NDArray[Any] | None = None,
    units: NDArray[Any] | None = None,
    threshold: float = 0.5,
    groups: Mapping[str, Sequence[str]] | None = None,
    shuffled: Callable[[pl.DataFrame], Rearranged] | None = None,
) -> dict[str, Estimate]:
    """The loss of score for each column when its values are shuffled among the rows.

    Each column has a random stream of its own, drawn from its name, so adding a column leaves the
    others' numbers as they are. The interval covers both the rows and the shuffles.

    Args:
        predict: a fitted model's `predict`.
        frame: rows that the model was not fitted on, its feature columns only.
        y: class codes or values, shape (rows,).
        metric: the score.
        repeats: shuffles of each column, >= 1.
        seed: root of the streams.
        max_rows: use this many rows at most, drawn without replacement; None for all.
        weight: weight of each row.
        units: rows with equal entries count as one unit in the interval.
        threshold: where a probability becomes the label 1 (binary).
        groups: name -> columns shuffled together, instead of every column alone.
        shuffled: makes from a table what predicts it with columns' cells in another order, equal
            to `predict` of the shuffled table (`loopline.models.base.FittedModel.rearranged`). By
            default the table is shuffled and predicted.

    Returns:
        Name -> drop in the "better" direction (positive: the model needs the column), the
        largest first.

    Raises:
        SettingsError: `repeats` or `max_rows` below 1, or a group with a column that is not there.
        DataError: the frame and `y` differ in length, or the metric is not defined on the rows.

    >>> frame = pl.DataFrame({"a": [0.1, 0.9] * 50, "b": [0.5] * 100})
    >>> found = permutation_importance(
    ...     lambda table: table["a"].to_numpy(), frame, np.tile([0, 1], 50), "brier"
    ... )
    >>> list(found), found["b"].value
    (['a', 'b'], 0.0)
    """
    chosen = read_metric(metric) if isinstance(metric, str) else metric
    wanted = _wanted(frame, groups, repeats, max_rows)
    truth = np.asarray(y)
    if frame.height != len(truth):
        raise DataError(f"The table has {frame.height} rows and the target has {len(truth)}.")
    index = _drawn(frame.height, max_rows, seed)
    table, truth = frame[index], truth[index]
    mass = None if weight is None else np.asarray(weight)[index]
    shared = Units.build(None if units is None else np.asarray(units)[index], len(index))
    whole = chosen.rows(truth, predict(table), weight=mass, threshold=threshold)
    base = chosen.score(whole)
    if math.isnan(base.value):
        raise DataError(
            f"Importance cannot be measured by {chosen.name} on these rows: {base.reason}."
        )
    answer = rearranged(predict, table) if shuffled is None else shuffled(table)
    result = {}
    for name, columns in wanted.items():
        parts = []
        for repeat in range(repeats):
            rng = np.random.default_rng(child_seed(seed, "importance", name, repeat))
            order = rng.permutation(len(index))
            moved = answer(columns, order)
            rows = chosen.rows(truth, moved, weight=mass, threshold=threshold)
            parts.append(chosen.score(rows))
        result[name] = _drop(chosen, base, parts, whole, shared)
    return dict(sorted(result.items(), key=lambda item: (-item[1].value, item[0])))


def rearranged(predict: Callable[[pl.DataFrame], Floats], table: pl.DataFrame) -> Rearranged:
    """The plain way: put the columns' cells in the order, and predict the table.

    >>> table = pl.DataFrame({"a": [1.0, 2.0], "b": [10.0, 20.0]})
    >>> answer = rearranged(lambda frame: (frame["a"] + frame["b"]).to_numpy(), table)
    >>> answer(["b"], np.array([1, 0])).tolist()
    [21.0, 12.0]
    """

    def answer(columns: Sequence[str], order: NDArray[np.int64]) -> Floats:
        return predict(table.with_columns(table[column][order] for column in columns))

    return answer


def _wanted(
    frame: pl.DataFrame,
    groups: Mapping[str, Sequence[str]] | None,
    repeats: int,
    max_rows: int | None,
) -> dict[str, tuple[str, ...]]:
    problems = []
    if repeats < 1:
        problems.append(f"`repeats` must be >= 1, got {repeats}.")
    if max_rows is not None and max_rows < 1:
        problems.append(f"`max_rows` must be >= 1 or None, got {max_rows}.")
    known = set(frame.columns)
    wanted: dict[str, tuple[str, ...]] = {name: (name,) for name in frame.columns}
    if groups is not None:
        wanted = {name: tuple(columns) for name, columns in groups.items()}
    for name, columns in wanted.items():
        missing = [column for column in columns if column not in known]
        if missing:
            problems.append(
                f"The group {name!r} names the column {missing[0]!r}, which is not there."
            )
    if problems:
        raise SettingsError(problems)
    return wanted


def _drawn(num_rows: int, max_rows: int | None, seed: int) -> NDArray[np.int64]:
    if max_rows is None or num_rows <= max_rows:
        return np.arange(num_rows)
    rng = np.random.default_rng(child_seed(seed, "importance", "rows"))
    return np.sort(rng.choice(num_rows, size=max_rows, replace=False)).astype(np.int64)


def _drop(
    metric: Metric, base: Scored, parts: Sequence[Scored], rows: Rows, units: Units
) -> Estimate:
    drops = np.array([metric.sign * (base.value - part.value) for part in parts])
    value, repeats = float(drops.mean()), len(parts)
    between = float(drops.var(ddof=1)) / repeats if repeats > 1 else 0.0
    moved = [part.influence for part in parts if part.influence is not None]
    if units.count < 2 or (repeats < 2 and not moved):
        nan = float("nan")
        return Estimate(value, nan, nan, "none", units.count, note="too little to tell an error")
    error, freedom, method = 0.0, float(max(repeats - 1, 1)), "shuffles only"
    if base.influence is not None and len(moved) == repeats:
        error, freedom = influence_error(base.influence - np.mean(moved, axis=0), rows, units)
        method = "paired influence and shuffles"
    total = math.sqrt(error**2 + between)
    step = student_quantile((1 + LEVEL) / 2, freedom) * total
    return Estimate(value, value - step, value + step, method, units.count, LEVEL, total, freedom)
