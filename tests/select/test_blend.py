"""Weights of blends: by hand, by property, and honest by cross-fitting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.evaluate.metrics import metric
from loopline.select.blend import cross_fitted, greedy, stacked


def two_halves(rng, rows=600):
    """A target that is the sum of two signals, each seen by one of two members."""
    a, b = rng.standard_normal(rows), rng.standard_normal(rows)
    y = a + b + 0.5 * rng.standard_normal(rows)
    return y, [2 * a, 2 * b]


def folds(rows, count=5):
    return np.arange(rows) % count


def test_greedy_finds_the_even_mean_of_two_halves():
    """By symmetry both members weigh the same, and the mean is better than each."""
    y, members = two_halves(np.random.default_rng(0))
    rmse = metric("rmse")
    found = greedy(rmse, 0)(members, y, folds(600), None)
    assert found.weights == pytest.approx((0.5, 0.5), abs=0.06)
    alone = rmse.score(rmse.rows(y, members[0])).value
    assert rmse.score(rmse.rows(y, found.apply(members))).value < 0.75 * alone


def test_a_useless_member_gets_no_weight():
    """A member of noise is left out by the greedy way."""
    rng = np.random.default_rng(1)
    y = rng.standard_normal(500)
    good, noise = y + 0.1 * rng.standard_normal(500), 3 * rng.standard_normal(500)
    assert greedy(metric("rmse"), 0)([noise, good], y, folds(500), None).weights == (0.0, 1.0)


def test_stacking_recovers_a_linear_rule():
    """y = 3 + 2 a - b: least squares finds weights and intercept."""
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal(5000), rng.standard_normal(5000)
    found = stacked([a, b], 3 + 2 * a - b, None, None)
    assert found.weights == pytest.approx((2, -1), abs=0.02)
    assert found.intercept == pytest.approx((3,), abs=0.02)


def test_stacking_sharpens_timid_probabilities():
    """A member whose log odds are half of the truth gets twice the weight."""
    rng = np.random.default_rng(3)
    truth = 1.5 * rng.standard_normal(20_000)
    y = (rng.random(20_000) < 1 / (1 + np.exp(-truth))).astype(np.int64)
    p = 1 / (1 + np.exp(-truth / 2))
    found = stacked([np.column_stack([1 - p, p])], y, None, None)
    assert found.weights[0] == pytest.approx(2.0, abs=0.1)


def test_cross_fitting_gives_noise_no_credit():
    """50 members of noise: weights of all rows promise R2 above 0, the cross-fitted score does not.

    This is the leak that cross-fitting closes: a stack scored on the rows of its weights.
    """
    rng = np.random.default_rng(4)
    y = rng.standard_normal(200)
    members = [rng.standard_normal(200) for _ in range(50)]
    r2 = metric("r2")
    combined, _, whole = cross_fitted(stacked, members, y, folds(200))
    assert r2.score(r2.rows(y, whole.apply(members))).value > 0.1
    assert r2.score(r2.rows(y, combined)).value < 0.0


def test_a_fold_s_weights_do_not_depend_on_its_own_rows():
    """Targets of fold 2 are replaced by nonsense: fold 2's weights stay, others change."""
    y, members = two_halves(np.random.default_rng(5))
    part = folds(600)
    other = np.where(part == 2, 100.0, y)
    _, before, _ = cross_fitted(stacked, members, y, part)
    _, after, _ = cross_fitted(stacked, members, other, part)
    assert before[2] == after[2]
    assert before[0] != after[0]


def test_forward_folds_use_earlier_rows_only():
    """In time, a fold's weights come from earlier folds, the first one's from the later ones."""
    y, members = two_halves(np.random.default_rng(6))
    part = np.repeat(np.arange(5), 120)
    other = np.where(part >= 3, 100.0, y)
    _, before, _ = cross_fitted(stacked, members, y, part, forward=True)
    _, after, _ = cross_fitted(stacked, members, other, part, forward=True)
    assert before[1:4] == after[1:4]
    assert before[4] != after[4]
    own = np.where(part == 0, -100.0, y)
    _, without, _ = cross_fitted(stacked, members, own, part, forward=True)
    assert without[0] == before[0]
    assert without[1] != before[1]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.integers(2, 4))
def test_combined_probabilities_are_probabilities(seed, count, classes):
    """Whatever the members say, each row sums to 1 and nothing leaves [0, 1]."""
    rng = np.random.default_rng(seed)
    members = [rng.dirichlet(np.full(classes, 0.3), 40) for _ in range(count)]
    y = rng.integers(0, classes, 40)
    for way in (greedy(metric("log_loss"), 0), stacked):
        found = way(members, y, None, None).apply(members)
        assert np.allclose(found.sum(axis=1), 1)
        assert ((found >= 0) & (found <= 1)).all()


def test_heavy_rows_count_more():
    """Rows of weight 0 take no part in the weights."""
    y, members = two_halves(np.random.default_rng(7))
    weight = np.where(np.arange(600) < 300, 1.0, 0.0)
    nonsense = np.where(weight > 0, y, 50.0)
    assert stacked(members, nonsense, None, weight).weights == pytest.approx(
        stacked(members, y, None, weight).weights
    )
