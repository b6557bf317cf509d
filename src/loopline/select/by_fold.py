"""A difference of two ways of fitting: the folds tell how much of it is luck of the rows.

A paired interval over rows holds for the very models that were compared. Who asks whether a change
of columns or of family pays asks for more: whether it would pay with other training rows too. The
folds are such other rows. Where they disagree by more than their own rows explain, the rest is luck
of learning, and the interval is widened by it.

The added variance is that of the folds' differences beyond what their rows explain, times
``1/k + 1/(k - 1)``: training sets of folds overlap, so folds are less independent than they look
(Nadeau and Bengio, "Inference for the generalization error", Machine Learning 2003).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from loopline.evaluate.intervals import Estimate, student_quantile
from loopline.evaluate.metrics import Metric
from loopline.evaluate.rows import Rows, Units
from loopline.select.compare import compare_rows


def compare_fits(
    metric: Metric, a: Rows, b: Rows, units: Units, folds: NDArray[np.int64], *, seed: int = 0
) -> Estimate:
    """How much better the fits of `a` are than those of `b`, with the luck of learning counted.

    Args:
        metric: the metric.
        a: out-of-fold predictions of the one way of fitting.
        b: those of the other, of the same rows.
        units: which rows count as one observation.
        folds: which fold's models predicted each row, the same in both.
        seed: of the bootstrap, for metrics that need it.

    >>> y, fold = np.tile([0.0, 1.0], 50), np.arange(100) // 20
    >>> a, b = (Rows.build(y, y + e, values="regression") for e in (0.1 * (1 + fold), 0.3))
    >>> from loopline.evaluate.metrics import metric
    >>> plain = compare_rows(metric("mae"), a, b, Units(None, 100))
    >>> wide = compare_fits(metric("mae"), a, b, Units(None, 100), fold)
    >>> plain.value == wide.value, wide.half_width > 2 * plain.half_width
    (True, True)
    """
    whole = compare_rows(metric, a, b, units, seed=seed)
    numbers = np.unique(folds)
    if math.isnan(whole.low) or numbers.size < 2:
        return whole
    gained, errors = [], []
    for number in numbers.tolist():
        rows = np.flatnonzero(folds == number).astype(np.int64)
        here, there = a.take(rows), b.take(rows)
        part = compare_rows(metric, here, there, units.take(rows), seed=seed)
        scale = _scale(metric, there)
        gained.append(part.value / scale)
        errors.append(part.standard_error / scale)
    if not np.isfinite([*gained, *errors]).all():
        return whole
    return _widened(whole, np.array(gained), np.array(errors), _scale(metric, b))


def _scale(metric: Metric, rows: Rows) -> float:
    """What folds are compared on: losses without an upper end in proportion, others as they are."""
    value = metric.score(rows).value
    return value if math.isinf(metric.bounds[1]) and value > 0 else 1.0


def _widened(
    whole: Estimate, gained: NDArray[np.float64], errors: NDArray[np.float64], scale: float
) -> Estimate:
    count = gained.size
    beyond = max(0.0, float(gained.var(ddof=1) - (errors**2).mean()))
    luck = beyond * (1 / count + 1 / (count - 1)) * scale**2
    if luck <= 0:
        return whole
    of_rows = whole.standard_error**2
    error = math.sqrt(of_rows + luck)
    parts = luck**2 / (count - 1)
    if math.isfinite(whole.freedom):
        parts += of_rows**2 / whole.freedom
    freedom = error**4 / parts
    step = student_quantile((1 + whole.level) / 2, freedom) * error
    return replace(
        whole,
        low=whole.value - step,
        high=whole.value + step,
        method=f"{whole.method}, with the folds' disagreement",
        standard_error=error,
        freedom=freedom,
        note="",
    )
