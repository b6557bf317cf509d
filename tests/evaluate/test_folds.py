"""Ranking metrics out of fold: rows are compared with rows that the same model predicted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.errors import DataError
from loopline.evaluate.evaluation import evaluate_predictions
from loopline.evaluate.intervals import estimate_rows
from loopline.evaluate.metrics import metric
from loopline.evaluate.rows import Rows, Units
from loopline.select.candidates import Candidate
from loopline.select.choose import choose


def out_of_fold(seed, num_rows=300, num_folds=5, share=0.3):
    """Labels of coin flips, folds, and the constant that each fold's training rows give."""
    rng = np.random.default_rng(seed)
    y = (rng.random(num_rows) < share).astype(np.int64)
    y[:2] = 0, 1
    folds = rng.integers(0, num_folds, num_rows)
    constant = np.array([y[folds != fold].mean() for fold in range(num_folds)])[folds]
    return rng, y, folds, constant


def test_pairs_of_one_fold_by_hand():
    """Fold a has 1 of 2 pairs right, fold b 1 of 1; pooled, 2 more of 3 wrong pairs would count."""
    y = np.array([1, 0, 0, 1, 0])
    p = np.array([0.5, 0.4, 0.6, 0.2, 0.1])
    folds = np.array([0, 0, 0, 1, 1])
    rows = Rows.build(y, p, folds=folds)
    assert metric("auc").score(rows).value == pytest.approx(2 / 3)
    assert metric("auc")(y, p) == pytest.approx(3 / 6)
    # precision at the positive rows' scores: 1/2 in fold a, 1/1 in fold b
    assert metric("pr_auc").score(rows).value == pytest.approx(3 / 4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_a_constant_has_one_half(seed, weighted):
    """The class share of each fold's training rows ranks nothing: 0.5 without error, any weights.

    Pooled it would lie below 0.5, because a fold with few positives has a larger constant (of rows
    that count alike; weights can outdo it).
    """
    rng, y, folds, constant = out_of_fold(seed)
    weight = rng.integers(1, 5, len(y)).astype(float) if weighted else None
    rows = Rows.build(y, constant, weight=weight, folds=folds)
    found = estimate_rows(metric("auc"), rows, Units.build(None, len(y)))
    assert found.value == 0.5
    assert found.standard_error == pytest.approx(0, abs=1e-15)
    assert metric("auc")(y, constant) < 0.5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_one_fold_is_no_fold(seed):
    """With a single fold every metric and interval is the one without folds."""
    rng, y, _, _ = out_of_fold(seed)
    p = np.clip(0.2 * y + rng.random(len(y)).round(1) * 0.8, 0, 1)
    plain = evaluate_predictions("binary", ("no", "yes"), y, p)
    one = evaluate_predictions("binary", ("no", "yes"), y, p, folds=np.zeros(len(y)))
    for name, found in plain.items():
        assert (one[name].value, one[name].low) == (found.value, found.low), name


@pytest.mark.parametrize("name", ["auc", "pr_auc"])
def test_influence_within_folds_is_the_derivative(name):
    """Each row's influence is the slope of the metric in that row's weight, folds kept apart."""
    rng, y, folds, _ = out_of_fold(1, num_rows=60)
    p = np.clip(0.3 * y + rng.random(60).round(1) * 0.7, 0, 1)
    chosen = metric(name)
    scored = chosen.score(Rows.build(y, p, folds=folds))
    correction = np.ones(60)
    if name == "auc":  # DeLong's n / (n - 1)
        for code in (0, 1):
            count = (y == code).sum()
            correction[y == code] = np.sqrt(count / (count - 1))
    for row in range(0, 60, 7):
        values = []
        for step in (-1e-5, 1e-5):
            weight = np.ones(60)
            weight[row] += step
            rows = Rows.build(y, p, weight=weight, folds=folds)
            values.append(chosen.score(rows).value)
        slope = (values[1] - values[0]) / 2e-5
        assert scored.influence[row] / 60 / correction[row] == pytest.approx(slope, abs=1e-6)


def test_the_interval_covers_within_folds():
    """Over 400 simulated races the 95 % interval of the AUC holds the truth in 93 to 97 %."""
    covered = 0
    truth = 0.7602  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt 2)
    for seed in range(400):
        rng = np.random.default_rng(seed)
        y = (rng.random(400) < 0.3).astype(np.int64)
        folds = rng.integers(0, 5, 400)
        shift = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])[folds]  # each fold's model has its own scale
        p = 1 / (1 + np.exp(-(rng.standard_normal(400) + y + shift)))
        rows = Rows.build(y, p, folds=folds)
        found = estimate_rows(metric("auc"), rows, Units.build(None, 400))
        covered += found.low <= truth <= found.high
    assert 0.93 <= covered / 400 <= 0.97


def test_multiclass_constant_has_one_half():
    """One class against the rest, within folds: the class shares of each fold give 0.5."""
    rng = np.random.default_rng(2)
    y, folds = rng.integers(0, 3, 300), rng.integers(0, 5, 300)
    shares = np.stack(
        [np.bincount(y[folds != k], minlength=3) / (folds != k).sum() for k in range(5)]
    )
    rows = Rows.build(y, shares[folds], folds=folds)
    assert metric("auc").score(rows).value == pytest.approx(0.5, abs=1e-15)


def test_folds_without_pairs_have_no_say():
    """A fold of one class adds nothing; when all are so, the AUC is undefined with the reason."""
    y, p = np.array([1, 1, 0, 1, 0]), np.array([0.1, 0.9, 0.3, 0.6, 0.2])
    rows = Rows.build(y, p, folds=np.array([0, 0, 1, 1, 1]))
    assert metric("auc").score(rows).value == 1.0
    alone = Rows.build(y, p, folds=np.array([0, 0, 1, 0, 1]))
    assert metric("auc").score(alone).reason == "no fold has rows of both classes"


def test_wrong_folds_are_refused():
    """Folds need one entry a row."""
    with pytest.raises(DataError, match=r"`folds` must have one entry for each of the 2 rows, got"):
        Rows.build(np.array([0, 1]), np.array([0.1, 0.2]), folds=np.zeros(3))


def test_every_candidate_is_scored_within_folds():
    """A model whose folds have different scales is not punished, and the baseline has 0.5."""
    rng, y, folds, constant = out_of_fold(3, num_rows=800)
    level = np.array([0.1, 0.3, 0.5, 0.6, 0.7])[folds]
    p = np.clip(level + 0.1 * y + 0.2 * rng.random(800), 0, 1)
    pair = [Candidate("baseline", "baseline", 0, constant), Candidate("trees", "trees", 20, p)]
    within = choose(pair, y, "auc", folds=folds)
    scores = {line.name: line.score for line in within.comparisons}
    assert str(scores["baseline"]) == "0.5000"
    assert scores["trees"].value > choose(pair, y, "auc").comparisons[0].score.value + 0.1
    assert scores["trees"].method == "DeLong, logit scale, within folds"
    assert within.sentence.count("[") == 1
    assert "trees scored best with" in within.sentence
    assert "AUC and beats the baseline by" in within.sentence
