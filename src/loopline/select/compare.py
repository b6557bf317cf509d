"""Two models on the same rows: how much better one is, and how sure that is.

Both models meet the same easy and the same hard rows, so their difference is known far better than
either score. The paired error comes from the difference of the two influence values of each row,
summed within units: for the AUC this is DeLong's paired test (DeLong et al. 1988).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.errors import DataError
from loopline.evaluate.intervals import (
    LEVEL,
    Estimate,
    bootstrap_error,
    influence_error,
    student_quantile,
    student_tail,
)
from loopline.evaluate.metrics import Metric
from loopline.evaluate.metrics import metric as read_metric
from loopline.evaluate.rows import Rows, Units


def compare(
    metric: Metric | str,
    y: NDArray[Any],
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    units: NDArray[Any] | None = None,
    weight: NDArray[Any] | None = None,
    threshold: float = 0.5,
    level: float = LEVEL,
    seed: int = 0,
) -> Estimate:
    """How much better `a` is than `b`: positive means better, whatever the metric's direction.

    With few units (patients, customers) the interval uses Student's t with that many units less
    one, so 42 patients count as 42, however many rows each of them has.

    Args:
        metric: the metric or its name.
        y: class codes or values, shape (rows,).
        a: predictions of the one model, as `FittedModel.predict` gives them.
        b: predictions of the other, of the same shape.
        units: rows with equal entries count as one unit.
        weight: weight of each row.
        threshold: where a probability becomes the label 1 (binary).
        level: nominal coverage.
        seed: of the bootstrap, which the median error, the calibration error and the operating
            points use.

    Returns:
        The difference with its paired interval. NaN with a note when the metric is not defined.

    Raises:
        DataError: the arrays do not fit together.

    >>> y = np.tile([0, 1], 200)
    >>> good, fair = np.where(y == 1, 0.8, 0.2), np.full(400, 0.5)
    >>> compare("brier", y, good, fair).value
    0.21
    """
    chosen = read_metric(metric) if isinstance(metric, str) else metric
    rows_a = chosen.rows(y, a, weight=weight, threshold=threshold)
    rows_b = chosen.rows(y, b, weight=weight, threshold=threshold)
    if rows_a.prediction.shape != rows_b.prediction.shape:
        raise DataError(
            f"Both models must predict the same classes; the shapes are {np.shape(a)} "
            f"and {np.shape(b)}."
        )
    return compare_rows(
        chosen, rows_a, rows_b, Units.build(units, rows_a.num_rows), level=level, seed=seed
    )


def compare_rows(
    metric: Metric, a: Rows, b: Rows, units: Units, *, level: float = LEVEL, seed: int = 0
) -> Estimate:
    """`compare` on rows that were checked before (many candidates on the same rows)."""
    nan = float("nan")
    if np.array_equal(a.prediction, b.prediction):
        return Estimate(
            0.0, 0.0, 0.0, "equal predictions", units.count, level, 0.0, note="equal predictions"
        )
    first, second = metric.score(a), metric.score(b)
    value = round(metric.sign * (first.value - second.value), 15)
    if math.isnan(value) or units.count < 2:
        reason = first.reason or second.reason or "a comparison needs two independent units"
        return Estimate(value, nan, nan, "none", units.count, level, note=reason)
    if (
        first.influence is not None
        and second.influence is not None
        and first.scale != "calibration"
    ):
        error, freedom = influence_error(first.influence - second.influence, a, units)
        method = "paired DeLong" if metric.name == "auc" else "paired influence"
        if metric.name == "accuracy":
            error, method = _with_two_more(error, a), "paired, two pseudo-rows"
    elif metric.name in _SMOOTH and (first.reason or second.reason):
        reason = first.reason or second.reason
        return Estimate(value, nan, nan, "none", units.count, level, note=reason)
    else:
        error, freedom = bootstrap_error(metric, a, b, units, seed), float(units.count - 1)
        method = "paired bootstrap"
    if units.code is not None:
        method += ", clustered"
    step = student_quantile((1 + level) / 2, freedom) * error
    note = "" if error > 0 else "both score every row alike"
    return Estimate(
        value, value - step, value + step, method, units.count, level, error, freedom, note
    )


_SMOOTH = frozenset({"auc"})
"""Metrics whose error has a formula whenever it can be had at all."""


def _with_two_more(error: float, rows: Rows) -> float:
    """Add one row that each model alone gets right (Bonett & Price 2012), against zero errors."""
    return math.sqrt(error**2 + 2 / (rows.num_rows + 2) ** 2)


def at_level(difference: Estimate, level: float) -> Estimate:
    """The same difference with an interval of another level."""
    if math.isnan(difference.low):
        return difference
    step = student_quantile((1 + level) / 2, difference.freedom) * difference.standard_error
    return Estimate(
        difference.value,
        difference.value - step,
        difference.value + step,
        difference.method,
        difference.num_units,
        level,
        difference.standard_error,
        difference.freedom,
        difference.note,
    )


def chance_beyond(difference: Estimate, margin: float) -> float:
    """Two-sided p-value of "the difference is not more than `margin`"; 1 where nothing is known."""
    if math.isnan(difference.low):
        return 1.0
    above = difference.value - margin
    if difference.standard_error <= 0:
        return 0.0 if above > 0 else 1.0
    return min(1.0, 2 * student_tail(above / difference.standard_error, difference.freedom))
