"""Calibration: learned maps, monotone to the bit, stored as data; reliability and its error."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from loopline.errors import DataError, SettingsError
from loopline.evaluate.calibration import Calibration, ece, fit_calibration, reliability
from loopline.evaluate.metrics import metric


def distorted(seed, num_rows=4000, power=2.0):
    """Outcomes drawn from known probabilities, and the same probabilities made too sharp."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(0.02, 0.98, num_rows)
    odds = (true / (1 - true)) ** power
    return (rng.random(num_rows) < true).astype(int), odds / (1 + odds), true


def test_temperature_finds_the_distortion():
    """Probabilities sharpened by the power 2 are softened by about 1/2."""
    y, p, true = distorted(0, 20_000)
    fitted = fit_calibration("temperature", y, p)
    assert fitted.inverse_temperature == pytest.approx(0.5, abs=0.02)
    assert np.abs(fitted.apply(p) - true).max() < 0.02


def test_temperature_is_the_minimum():
    """No power nearby has a smaller log loss, also for weights and four classes."""
    rng = np.random.default_rng(1)
    raw = rng.dirichlet(np.ones(4), 500) ** 2
    p = raw / raw.sum(axis=1, keepdims=True)
    y, w = rng.integers(0, 4, 500), rng.random(500)
    best = fit_calibration("temperature", y, p, weight=w)
    loss = metric("log_loss")
    for factor in (0.9, 0.99, 1.01, 1.1):
        other = Calibration("temperature", 4, best.inverse_temperature * factor)
        assert loss(y, best.apply(p), weight=w) <= loss(y, other.apply(p), weight=w)


def test_temperature_keeps_every_order():
    """The temperature changes neither the AUC nor any label."""
    y, p, _ = distorted(2)
    mapped = fit_calibration("temperature", y, p).apply(p)
    assert metric("auc")(y, mapped) == pytest.approx(metric("auc")(y, p), abs=1e-6)
    assert np.array_equal(mapped >= 0.5, p >= 0.5)


def test_separated_rows_do_not_send_the_temperature_to_infinity():
    """Perfectly separated rows give a finite, storable temperature."""
    y, p = np.array([0, 0, 1, 1]), np.array([0.4, 0.45, 0.55, 0.6])
    fitted = fit_calibration("temperature", y, p)
    assert 1 < fitted.inverse_temperature <= 20


def test_isotonic_equals_sklearn_at_the_learned_scores():
    """At every learned score the map is scikit-learn's isotonic regression."""
    y, p, _ = distorted(3, 500)
    w = np.random.default_rng(3).integers(1, 4, 500).astype(float)
    expected = IsotonicRegression().fit(p, y, sample_weight=w).predict(p)
    least = 1 / (w.sum() + 2)
    found = fit_calibration("isotonic", y, p, weight=w).apply(p)
    assert np.allclose(found, np.clip(expected, least, 1 - least), atol=1e-12)


def test_isotonic_repairs_the_calibration_error():
    """On fresh rows the isotonic map takes most of the calibration error away."""
    y, p, _ = distorted(4, 20_000)
    fresh_y, fresh_p, _ = distorted(5, 20_000)
    before = ece(fresh_y, fresh_p)
    assert before > 0.08
    assert ece(fresh_y, fit_calibration("isotonic", y, p).apply(fresh_p)) < 0.015


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["isotonic", "temperature"]))
def test_maps_are_monotone_and_in_bounds(seed, kind):
    """A larger probability never gets a smaller one (isotonic: to the last bit), all in [0, 1]."""
    y, p, _ = distorted(seed, 60)
    y[:2] = [0, 1]
    fitted = fit_calibration(kind, y, np.round(p, 2))
    grid = np.sort(np.concatenate([np.linspace(0, 1, 2001), p, np.nextafter(np.round(p, 2), 0)]))
    mapped = fitted.apply(grid)
    assert (np.diff(mapped) >= (0 if kind == "isotonic" else -1e-15)).all()
    assert mapped.min() >= 0
    assert mapped.max() <= 1


def test_steps_do_not_overshoot_by_rounding():
    """Just below a knot the map never exceeds the knot's own value, for 2,000 random pieces."""
    rng = np.random.default_rng(0)
    below = np.nextafter(0.7, 0)
    for low, high in np.sort(rng.random((2000, 2)), axis=1).tolist():
        piece = Calibration("isotonic", 2, knots=(((0.1, 0.7), (low, high)),))
        assert piece.apply(np.array([below]))[0] <= high


@pytest.mark.parametrize("kind", ["none", "isotonic", "temperature"])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_stored_calibration_gives_the_same_bits(kind, num_classes):
    """Through JSON and back, for the table and for a single row, the bits are the same."""
    rng = np.random.default_rng(6)
    p = rng.dirichlet(np.ones(num_classes), 300)
    fitted = fit_calibration(kind, rng.integers(0, num_classes, 300), p)
    again = Calibration.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    whole = again.apply(p)
    assert np.array_equal(whole, fitted.apply(p))
    assert np.allclose(whole.sum(axis=1), 1)
    for row in (0, 7, 299):
        assert np.array_equal(again.apply(p[row : row + 1])[0], whole[row])


def test_isotonic_never_states_certainty():
    """The map stays off 0 and 1, so that one surprise does not cost an infinite log loss."""
    y, p = np.repeat([0, 1], 50), np.repeat([0.2, 0.8], 50)
    assert fit_calibration("isotonic", y, p).apply(np.array([0.0, 1.0])).tolist() == [
        1 / 102,
        1 - 1 / 102,
    ]


def test_refusals():
    """A wrong kind, one class only, or another number of classes is refused."""
    y, p = np.array([0, 1]), np.array([0.1, 0.9])
    with pytest.raises(SettingsError, match="must be one of none, isotonic, temperature, got 'x'"):
        fit_calibration("x", y, p)
    with pytest.raises(DataError, match="at least two classes; all rows given have the class"):
        fit_calibration("isotonic", np.array([1, 1]), p)
    with pytest.raises(DataError, match="learned for 2 classes"):
        fit_calibration("none", y, p).apply(np.full((1, 3), 1 / 3))


def test_ece_of_honest_probabilities_is_near_zero():
    """For calibrated probabilities the debiased error is far below the plain one."""
    plain, found = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        p = rng.random(500)
        y = (rng.random(500) < p).astype(int)
        order = np.argsort(p)
        parts = np.array_split(order, 15)
        plain.append(sum(len(q) / 500 * abs(y[q].mean() - p[q].mean()) for q in parts))
        found.append(ece(y, p))
    assert np.mean(found) < 0.62 * np.mean(plain)


def test_ece_by_hand():
    """All rows stated 0.9, 60 % true: the error is 0.3, up to what chance shows."""
    y = np.tile([1, 1, 1, 0, 0], 400)
    assert ece(y, np.full(2000, 0.9)) == pytest.approx(0.3, abs=1e-9)


def test_reliability_by_hand():
    """Two stated probabilities make two bins with Wilson's intervals."""
    y, p = np.array([0, 0, 0, 1] * 5 + [1, 1, 1, 0] * 5), np.repeat([0.2, 0.7], 20)
    low, high = reliability(y, p, num_bins=2)
    assert (low.stated, low.observed, low.num_rows) == (pytest.approx(0.2), 0.25, 20)
    assert (high.stated, high.observed) == (pytest.approx(0.7), 0.75)
    assert (round(low.low, 3), round(low.high, 3)) == (0.112, 0.469)


def test_weighted_reliability_counts_effective_rows():
    """Equal weights of any size leave the interval as it is; unequal ones widen it."""
    y, p = np.tile([0, 1], 50), np.full(100, 0.5)
    once = reliability(y, p)[0]
    assert reliability(y, p, weight=np.full(100, 7.0))[0].low == pytest.approx(once.low)
    unequal = reliability(y, p, weight=np.where(np.arange(100) < 10, 10.0, 0.1))[0]
    assert unequal.high - unequal.low > 1.5 * (once.high - once.low)


@pytest.mark.parametrize("kind", ["isotonic", "temperature"])
def test_a_weight_counts_like_copies_of_the_row(kind):
    """Weights of 1 to 3 give the calibration of a table in which the rows stand that often."""
    rng = np.random.default_rng(5)
    p = rng.random(300).round(2) * 0.98 + 0.01
    y = (rng.random(300) < p**2).astype(int)
    weight = rng.integers(1, 4, 300)
    weighted = fit_calibration(kind, y, p, weight=weight.astype(float))
    copied = fit_calibration(kind, np.repeat(y, weight), np.repeat(p, weight))
    at = np.linspace(0.01, 0.99, 50)
    assert weighted.apply(at) == pytest.approx(copied.apply(at), abs=1e-9)
    assert np.abs(weighted.apply(at) - fit_calibration(kind, y, p).apply(at)).max() > 1e-3
