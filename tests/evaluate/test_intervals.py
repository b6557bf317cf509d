"""Intervals: DeLong by hand, coverage by simulation, units, small samples, the edges."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest

from loopline.errors import DataError
from loopline.evaluate.intervals import Estimate, estimate
from loopline.evaluate.metrics import metric


def draw(rng, num_rows, num_units=None):
    """Binary rows with calibrated probabilities; units share a part of signal and noise."""
    unit = np.arange(num_rows) if num_units is None else np.arange(num_rows) % num_units
    common = 0.0 if num_units is None else 0.5

    def numbers():
        whole = rng.standard_normal(num_rows if num_units is None else num_units)[unit]
        return math.sqrt(common) * whole + math.sqrt(1 - common) * rng.standard_normal(num_rows)

    signal = numbers()
    y = (1.4 * signal + numbers() > 0.5).astype(np.int64)
    p = 1 / (1 + np.exp(-(2.4 * signal - 0.85)))
    return y, p, unit


def naive_delong(y, p):
    """DeLong's variance straight from its definition, with all pairs written out."""
    gap = p[y == 1][:, None] - p[y == 0][None, :]
    right = (gap > 0) + 0.5 * (gap == 0)
    return (
        np.var(right.mean(axis=1), ddof=1) / len(right)
        + np.var(right.mean(axis=0), ddof=1) / right.shape[1]
    )


def test_auc_error_is_delongs():
    """The AUC's standard error is DeLong's, ties included."""
    y, p, _ = draw(np.random.default_rng(0), 150)
    p = np.round(p, 1)
    found = estimate("auc", y, p).standard_error
    # The shared code multiplies by n / (n - 1), which DeLong's own factors need not.
    assert found**2 * 149 / 150 == pytest.approx(naive_delong(y, p), rel=1e-12)


def test_wilson_by_hand():
    """Accuracy 80 of 100 has Wilson's interval [0.7112, 0.8666]."""
    y = np.zeros(100, dtype=int)
    p = np.where(np.arange(100) < 80, 0.1, 0.9)
    found = estimate("accuracy", y, p)
    assert (round(found.low, 4), round(found.high, 4)) == (0.7112, 0.8666)


def test_few_units_use_students_t():
    """A mean over 5 units has the interval of Student's t with 4 degrees at most, on its scale."""
    y = np.repeat(np.arange(1.0, 6.0), 4)
    found = estimate("mae", y, np.zeros(20), units=np.repeat(np.arange(5), 4))
    assert found.num_units == 5
    assert found.standard_error == pytest.approx(math.sqrt(2.5 / 5))
    assert found.freedom <= 4
    assert found.high >= 3 * math.exp(2.776 * found.standard_error / 3) - 1e-3


def test_units_of_one_row_are_rows():
    """Units that hold one row each change nothing."""
    y, p, unit = draw(np.random.default_rng(1), 200)
    for name in ("auc", "log_loss", "f1", "pr_auc"):
        assert estimate(name, y, p, units=unit + 7) == estimate(name, y, p)


def test_copied_rows_do_not_narrow_the_interval():
    """Each row standing there ten times gives the same interval when units tell."""
    y, p, unit = draw(np.random.default_rng(2), 200)
    copies = [np.repeat(values, 10) for values in (y, p, unit)]
    for name in ("auc", "log_loss", "accuracy", "recall", "mcc"):
        once = estimate(name, y, p)
        again = estimate(name, copies[0], copies[1], units=copies[2])
        fooled = estimate(name, copies[0], copies[1])
        assert again.value == pytest.approx(once.value)
        assert again.half_width == pytest.approx(once.half_width, rel=0.05)
        assert fooled.half_width < 0.4 * once.half_width


LABELLED = ["accuracy", "balanced_accuracy", "f1", "precision", "recall", "mcc", "cost=1,5"]
RESAMPLED = ["precision_at_recall=0.8", "recall_at_precision=0.6"]
EVERY_BINARY = ["auc", "pr_auc", "log_loss", "brier", "ece", *LABELLED, *RESAMPLED]


@pytest.mark.parametrize("name", EVERY_BINARY)
def test_interval_holds_its_value_and_keeps_bounds(name):
    """low <= value <= high within the metric's bounds, for rows, weights and units."""
    rng = np.random.default_rng(3)
    for num_rows in (6, 30, 200):
        y, p, _ = draw(rng, num_rows)
        y[:2] = [0, 1]
        for keywords in (
            {},
            {"weight": rng.random(num_rows) + 0.1},
            {"units": rng.integers(0, num_rows // 2, num_rows)},
        ):
            found = estimate(name, y, p, **keywords)
            if math.isnan(found.low):
                assert found.note
                continue
            low, high = metric(name).bounds
            assert low <= found.low <= found.value <= found.high <= high


def covered(name, truth, trials, num_rows, num_units=None):
    held = 0
    for trial in range(trials):
        y, p, unit = draw(np.random.default_rng([trial, num_rows]), num_rows, num_units)
        found = estimate(name, y, p, units=None if num_units is None else unit)
        held += found.low <= truth <= found.high
    return held / trials


@pytest.fixture(scope="module")
def population():
    return draw(np.random.default_rng(99), 400_000)[:2]


MAIN = ["auc", "pr_auc", "log_loss", "brier", "accuracy", "f1", "recall", "mcc"]


@pytest.mark.parametrize("name", MAIN)
@pytest.mark.parametrize("num_rows", [100, 1000])
def test_coverage_of_rows(name, num_rows, population):
    """95 % intervals hold the truth in 95 % of 400 samples, within 3 binomial errors."""
    truth = metric(name)(*population)
    assert abs(covered(name, truth, 400, num_rows) - 0.95) < 0.033


@pytest.mark.parametrize("name", MAIN)
def test_coverage_of_units(name, population):
    """300 rows of 60 patients: intervals by patient hold the truth as often as they say."""
    truth = metric(name)(*population)
    assert abs(covered(name, truth, 300, 300, 60) - 0.95) < 0.038


def test_ignoring_units_would_not_cover(population):
    """The same rows taken as independent cover too rarely: the units matter."""
    truth, held = metric("auc")(*population), 0
    for trial in range(200):
        y, p, _ = draw(np.random.default_rng([trial, 600]), 600, 30)
        found = estimate("auc", y, p)
        held += found.low <= truth <= found.high
    assert held / 200 < 0.8


@pytest.mark.parametrize("name", ["rmse", "mae", "median_ae", "r2", "pinball=0.2"])
@pytest.mark.parametrize("clustered", [False, True])
def test_coverage_of_values(name, clustered):
    """Regression intervals cover 95 % for errors with ordinary tails."""

    def rows(rng, count):
        unit = np.arange(count) // 4
        shared = rng.standard_normal(count)[unit] if clustered else rng.standard_normal(count)
        signal = 0.7 * shared + 0.7 * rng.standard_normal(count)
        noise = 0.6 * rng.standard_normal(count)[unit] if clustered else 0.0
        return signal + noise + 0.8 * rng.standard_normal(count), signal, unit

    y, prediction, _ = rows(np.random.default_rng(5), 400_000)
    truth, held = metric(name)(y, prediction), 0
    for trial in range(300):
        y, prediction, unit = rows(np.random.default_rng([trial, 6]), 300)
        found = estimate(name, y, prediction, units=unit if clustered else None)
        held += found.low <= truth <= found.high
    assert abs(held / 300 - 0.95) < 0.038


def test_perfect_scores_keep_an_honest_lower_end():
    """A perfect score on few rows is not certain: k of k right allows 0.025 ** (1 / k)."""
    y = np.repeat([0, 1], [20, 10])
    p = np.where(y == 1, 0.9, 0.1)
    for name in ("auc", "pr_auc", "balanced_accuracy"):
        found = estimate(name, y, p)
        assert (found.value, found.high) == (1.0, 1.0)
        assert found.low == pytest.approx(0.025 ** (1 / 10))
    assert estimate("accuracy", y, p).low == pytest.approx(30 / (30 + 1.959964**2), rel=1e-6)


def test_no_interval_says_why():
    """One positive row, one unit or one class: no interval, and a sentence."""
    lonely = estimate("auc", np.array([0, 0, 1]), np.array([0.1, 0.2, 0.9]))
    assert lonely.value == 1.0
    assert math.isnan(lonely.low)
    assert lonely.note == "a class has fewer than two rows"
    one = estimate("mae", np.array([1.0, 2.0]), np.array([1.0, 1.0]), units=np.array([3, 3]))
    assert one.note == "an interval needs two independent units"
    assert str(estimate("auc", np.array([1, 1]), np.array([0.1, 0.2]))) == (
        "undefined (only one class is present)"
    )


def test_heavy_tails_are_told():
    """When a few rows carry the error, the estimate says that its interval may be too short."""
    y = np.zeros(100)
    y[:2] = 100.0
    assert "may be too short" in estimate("rmse", y, np.linspace(0, 1, 100)).note


def test_wrong_units_are_refused():
    """Units need one entry a row."""
    with pytest.raises(DataError, match="`units` must have one entry for each of the 2 rows"):
        estimate("mae", np.zeros(2), np.ones(2), units=np.array([1]))


def test_estimate_is_plain_data():
    """An estimate goes through JSON and back, NaN and infinity included."""
    for found in (
        estimate("auc", np.array([1, 1]), np.array([0.1, 0.2])),
        estimate("accuracy", np.array([0, 1]), np.array([0.1, 0.2])),
        Estimate(1.0, 0.0, 2.0, "by hand", 3),
    ):
        data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert str(Estimate.from_dict(data).to_dict()) == str(found.to_dict())


def test_bootstrap_is_a_function_of_the_seed():
    """The resampled intervals are equal for equal seeds and differ for others."""
    y, p, _ = draw(np.random.default_rng(8), 200)
    first, again, other = (
        estimate("precision_at_recall=0.8", y, p, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_a_million_rows_are_quick():
    """DeLong's interval of a million rows takes seconds, not minutes."""
    y, p, _ = draw(np.random.default_rng(9), 1_000_000)
    start = time.process_time()
    estimate("auc", y, p)
    assert time.process_time() - start < 5
