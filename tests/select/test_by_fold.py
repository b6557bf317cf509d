"""Comparing ways of fitting: the folds' disagreement counts."""

from __future__ import annotations

import numpy as np
import pytest

from loopline.evaluate.metrics import metric
from loopline.evaluate.rows import Rows, Units
from loopline.select.by_fold import compare_fits
from loopline.select.compare import compare_rows

FOLDS = np.arange(500) // 100


def two_ways(extra: np.ndarray, seed: int = 0) -> tuple[Rows, Rows]:
    """Regressions whose squared errors differ by a noise and by `extra`, fold by fold."""
    rng = np.random.default_rng(seed)
    y = np.zeros(500)
    first = Rows.build(
        y, np.sqrt(1 + extra[FOLDS] + 0.03 * rng.normal(size=500)), values="regression"
    )
    second = Rows.build(y, np.sqrt(1 + 0.03 * rng.normal(size=500)), values="regression")
    return first, second


def test_folds_that_agree_leave_the_interval_as_it_is() -> None:
    """Where the folds differ by no more than their rows explain, nothing is added."""
    rng = np.random.default_rng(1)
    errors = rng.normal(size=(2, 500))
    errors -= np.array([errors[:, k == FOLDS].mean(axis=1) for k in range(5)]).T[:, FOLDS]
    first, second = (Rows.build(np.zeros(500), 2 + e / 9, values="regression") for e in errors)
    goal, units = metric("mae"), Units(None, 500)
    assert compare_fits(goal, first, second, units, FOLDS) == compare_rows(
        goal, first, second, units
    )


def test_folds_that_disagree_widen_it() -> None:
    """One fold that gains much and four that lose prove nothing, whatever the rows say."""
    first, second = two_ways(np.array([0.1, 0.1, 0.1, -0.6, 0.1]))
    goal, units = metric("rmse"), Units(None, 500)
    rows_alone = compare_rows(goal, first, second, units)
    found = compare_fits(goal, first, second, units, FOLDS)
    assert rows_alone.low > 0
    assert found.low < 0 < found.high
    assert found.value == rows_alone.value
    assert "the folds' disagreement" in found.method


def test_intervals_hold_under_luck_of_learning() -> None:
    """Folds whose true differences scatter around 0: 95 % intervals hold 0 in 92 % or more."""
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(150):
        first, second = two_ways(0.05 * rng.normal(size=5), seed=trial)
        found = compare_fits(metric("rmse"), first, second, Units(None, 500), FOLDS)
        held += found.low <= 0 <= found.high
    assert held >= 138


def test_a_single_fold_says_nothing_of_luck() -> None:
    """Without a second fold the interval over rows is all there is."""
    first, second = two_ways(np.zeros(5))
    goal, units = metric("mae"), Units(None, 500)
    one = compare_fits(goal, first, second, units, np.zeros(500, np.int64))
    assert one == compare_rows(goal, first, second, units)


def test_a_metric_that_a_fold_does_not_have_leaves_the_interval_over_rows() -> None:
    """A fold of one class has no AUC; the folds are then not asked."""
    rng = np.random.default_rng(0)
    y = np.array([0, 1] * 200 + [1] * 100)
    a, b = (Rows.build(y, rng.random(500)) for _ in range(2))
    goal, units = metric("auc"), Units(None, 500)
    assert compare_fits(goal, a, b, units, FOLDS).low == pytest.approx(
        compare_rows(goal, a, b, units).low
    )
