"""Paired comparisons: DeLong by definition, direction, units, coverage, edges."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from loopline.errors import DataError
from loopline.select.compare import at_level, chance_beyond, compare


def two_models(rng, num_rows, num_units=None, edge=0.3):
    """Outcomes and two models' probabilities; the second sees less of the signal."""
    unit = np.arange(num_rows) if num_units is None else np.arange(num_rows) % num_units

    def numbers():
        own = rng.standard_normal(num_rows)
        return own if num_units is None else 0.7 * rng.standard_normal(num_units)[unit] + 0.7 * own

    signal, noise, blur = numbers(), numbers(), numbers()
    y = (signal + noise > 0.4).astype(int)
    a, b = 1.7 * signal - 0.7, 1.7 * (signal + edge * blur) - 0.7
    return y, 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-b)), unit


def test_auc_difference_is_paired_delong():
    """The AUC difference has the paired variance of DeLong, written out over all pairs."""
    y, a, b, _ = two_models(np.random.default_rng(0), 120)
    parts = []
    for p in (a, b):
        gap = p[y == 1][:, None] - p[y == 0][None, :]
        parts.append((gap > 0) + 0.5 * (gap == 0))
    apart = parts[0] - parts[1]
    variance = np.var(apart.mean(axis=1), ddof=1) / len(apart)
    variance += np.var(apart.mean(axis=0), ddof=1) / apart.shape[1]
    found = compare("auc", y, a, b)
    assert found.value == pytest.approx(apart.mean())
    assert found.standard_error**2 * 119 / 120 == pytest.approx(variance, rel=1e-10)
    assert found.method == "paired DeLong"


def test_mean_difference_is_the_paired_t_interval():
    """A difference of means has the standard error of the paired t-test."""
    rng = np.random.default_rng(1)
    y, a, b = np.zeros(40), rng.random(40), rng.random(40) + 0.1
    found = compare("mae", y, a, b)
    assert found.value == pytest.approx((b - a).mean())
    assert found.standard_error == pytest.approx(np.std(b - a, ddof=1) / math.sqrt(40))


@pytest.mark.parametrize("name", ["auc", "log_loss", "f1", "recall_at_precision=0.7", "ece"])
def test_positive_means_the_first_is_better(name):
    """The better model first gives a positive difference, whatever the metric's direction."""
    y, a, _, _ = two_models(np.random.default_rng(2), 1500)
    worse = 0.15 + 0.9 * np.random.default_rng(3).permutation(a) * 0.9
    assert compare(name, y, a, worse).value > 0
    swapped = compare(name, y, worse, a)
    assert swapped.value == pytest.approx(-compare(name, y, a, worse).value)


def test_pairing_narrows_the_interval():
    """Two models that agree on most rows are told apart far better than two scores are."""
    from loopline.evaluate.intervals import estimate

    y, a, b, _ = two_models(np.random.default_rng(4), 1000, edge=0.1)
    assert compare("auc", y, a, b).half_width < 0.4 * estimate("auc", y, a).half_width


@pytest.mark.parametrize("name", ["auc", "log_loss", "accuracy", "pr_auc", "brier"])
@pytest.mark.parametrize("num_units", [None, 42])
def test_coverage_of_the_difference(name, num_units):
    """Paired intervals hold the true difference as often as they say, also for 42 patients."""
    rng = np.random.default_rng(5)
    y, a, b, _ = two_models(rng, 300_000, None if num_units is None else 42_000)
    truth = compare(name, y, a, b).value
    held = 0
    for trial in range(300):
        y, a, b, unit = two_models(np.random.default_rng([trial, 9]), 300, num_units)
        found = compare(name, y, a, b, units=None if num_units is None else unit)
        held += found.low <= truth <= found.high
    # Accuracy's interval has two pseudo-rows more and may cover a little more.
    assert 0.91 < held / 300 <= (1.0 if name == "accuracy" else 0.985)


def test_few_units_widen_by_students_t():
    """With 4 units the interval is at least Student's with 3 degrees of freedom."""
    y, unit = np.zeros(8), np.repeat(np.arange(4), 2)
    a, b = np.zeros(8) + 0.5, 0.5 + np.repeat([0.1, 0.3, 0.2, 0.4], 2)
    found = compare("mae", y, a, b, units=unit)
    error = np.std([0.1, 0.3, 0.2, 0.4], ddof=1) / 2
    assert found.standard_error == pytest.approx(error)
    assert found.half_width >= 3.18 * error
    assert found.num_units == 4


def test_patients_count_on_real_data(data_dir):
    """On 5,875 recordings of 42 patients, a comparison by patient is several times wider."""
    path = data_dir("parkinsons_telemonitoring") / "parkinsons_updrs.csv"
    table = pl.read_csv(path)
    y = table["total_UPDRS"].to_numpy()
    a, b = table["age"].to_numpy() * 0.45, np.full(len(y), y.mean())
    patients = table["subject#"].to_numpy()
    rows, units = compare("rmse", y, a, b), compare("rmse", y, a, b, units=patients)
    assert units.num_units == 42
    assert units.freedom <= 41
    assert units.half_width > 4 * rows.half_width


def test_equal_predictions_differ_by_nothing():
    """Equal predictions give exactly 0 with no width."""
    y, a, _, _ = two_models(np.random.default_rng(6), 50)
    found = compare("auc", y, a, a.copy())
    assert (found.value, found.low, found.high, found.note) == (0, 0, 0, "equal predictions")


def test_equal_labels_are_not_certainty():
    """Equal accuracy on 20 rows still leaves room for a difference."""
    y = np.tile([0, 1], 10)
    found = compare("accuracy", y, np.full(20, 0.1), np.full(20, 0.2))
    assert found.value == 0
    assert found.high > 0.05


def test_undefined_comparisons_say_why():
    """Without both classes there is no AUC to compare, and with one unit no interval."""
    y = np.ones(4, dtype=int)
    found = compare("auc", y, np.full(4, 0.1), np.full(4, 0.2))
    assert math.isnan(found.value)
    assert found.note == "only one class is present"
    single = compare("mae", np.zeros(3), np.ones(3), np.full(3, 2.0), units=np.zeros(3))
    assert (single.value, math.isnan(single.low)) == (1, True)
    assert chance_beyond(single, 0.0) == 1.0
    assert at_level(single, 0.99) is single


def test_levels_and_chances_agree():
    """The two-sided p-value is below 1 - level just when the interval lies beyond 0."""
    y, a, b, _ = two_models(np.random.default_rng(7), 200)
    found = compare("log_loss", y, a, b)
    chance = chance_beyond(found, 0.0)
    assert 0 < chance < 1
    assert at_level(found, 1 - chance).low == pytest.approx(0, abs=1e-9)


def test_predictions_of_other_classes_are_refused():
    """Models with other numbers of classes cannot be compared."""
    y = np.array([0, 1, 2])
    with pytest.raises(DataError, match="Both models must predict the same classes"):
        compare("log_loss", y, np.full((3, 3), 1 / 3), np.full((3, 4), 1 / 4))


def test_seeded_comparisons_repeat():
    """Resampled comparisons are a function of the seed."""
    y, a, b, _ = two_models(np.random.default_rng(8), 200)
    first = compare("precision_at_recall=0.8", y, a, b, seed=3)
    assert first == compare("precision_at_recall=0.8", y, a, b, seed=3)
    assert first != compare("precision_at_recall=0.8", y, a, b, seed=4)
