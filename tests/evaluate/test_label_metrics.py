"""Metrics of several labels a row: worked by hand, then what must hold of any numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loopline.errors import DataError, SettingsError
from loopline.evaluate.evaluation import evaluate_predictions
from loopline.evaluate.intervals import estimate, estimate_rows
from loopline.evaluate.label_threshold import choose_label_threshold
from loopline.evaluate.metrics import default_metric, metric, standard_metrics
from loopline.evaluate.rows import Rows, Units
from loopline.select.compare import compare

Y = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=np.int8)
P = np.array([[0.9, 0.2], [0.6, 0.4], [0.8, 0.7], [0.1, 0.45]])
BY_HAND = {
    # -ln of what was given to the truth: label a, then label b, over 8 pairs
    "log_loss": -sum(map(math.log, (0.9, 0.4, 0.8, 0.9, 0.8, 0.4, 0.7, 0.55))) / 8,
    "micro_f1": 6 / 8,  # 3 hits, 1 false alarm (row 1, a), 1 miss (row 1, b)
    "macro_f1": (4 / 5 + 2 / 3) / 2,
    "jaccard": (1 + 0 + 1 + 1) / 4,  # the last row has no label and is given none
    "subset_accuracy": 3 / 4,
    "macro_auc": (1 + 3 / 4) / 2,
    "macro_pr_auc": (1 + (1 + 2 / 3) / 2) / 2,
}
NAMES = [entry.name for entry in standard_metrics("multilabel")]


def drawn(num_rows: int = 60, num_labels: int = 4, seed: int = 0) -> tuple[NDArray, NDArray]:  # type: ignore[type-arg]
    """Labels of falling frequency and probabilities that know something of them."""
    rng = np.random.default_rng(seed)
    y = (rng.random((num_rows, num_labels)) < 0.6 / (1 + np.arange(num_labels))).astype(np.int8)
    return y, np.clip(0.3 * y + 0.7 * rng.random(y.shape), 0.0, 1.0)


@pytest.mark.parametrize("name", NAMES)
def test_worked_by_hand(name: str) -> None:
    """Four rows and two labels, small enough for paper."""
    assert metric(name)(Y, P) == pytest.approx(BY_HAND[name], abs=1e-12)


def test_every_standard_metric_is_worked_by_hand() -> None:
    """No metric is shown that this file does not check."""
    assert set(NAMES) == set(BY_HAND)


def test_the_default_is_log_loss() -> None:
    """It needs no threshold, and every label of every row counts."""
    assert default_metric("multilabel").name == "log_loss"


@pytest.mark.parametrize("name", NAMES)
def test_the_same_as_scikit_learn(name: str) -> None:
    """On drawn numbers the values are those of scikit-learn."""
    from sklearn import metrics

    y, p = drawn(300)
    label = p >= 0.5
    theirs = {
        "log_loss": np.mean([metrics.log_loss(y[:, k], p[:, k]) for k in range(y.shape[1])]),
        "micro_f1": metrics.f1_score(y, label, average="micro"),
        "macro_f1": metrics.f1_score(y, label, average="macro"),
        "jaccard": metrics.jaccard_score(y, label, average="samples", zero_division=1),
        "subset_accuracy": metrics.accuracy_score(y, label),
        "macro_auc": metrics.roc_auc_score(y, p, average="macro"),
        "macro_pr_auc": metrics.average_precision_score(y, p, average="macro"),
    }
    assert metric(name)(y, p) == pytest.approx(theirs[name], abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_rows_and_labels_says_nothing(name: str, seed: int) -> None:
    """Shuffled rows and shuffled labels have the same value and the same interval."""
    y, p = drawn(seed=seed)
    rng = np.random.default_rng(seed)
    rows, labels = rng.permutation(y.shape[0]), rng.permutation(y.shape[1])
    one = estimate(name, y, p)
    two = estimate(name, y[rows][:, labels], p[rows][:, labels])
    assert [two.value, two.low, two.high] == pytest.approx([one.value, one.low, one.high], abs=1e-9)
    assert one.low <= one.value <= one.high


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_weight_two_is_a_row_twice(name: str, seed: int) -> None:
    """A row of weight 2 counts as that row standing there twice."""
    y, p = drawn(seed=seed)
    weight = np.random.default_rng(seed).integers(1, 4, y.shape[0])
    twice = np.repeat(np.arange(y.shape[0]), weight)
    weighted = metric(name)(y, p, weight=weight.astype(np.float64))
    assert weighted == pytest.approx(metric(name)(y[twice], p[twice]), abs=1e-9)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "macro_auc"])
def test_influence_is_what_a_little_more_weight_does(name: str) -> None:
    """The influence of a row is the slope of the value in its weight, times the whole weight.

    The AUC's carries DeLong's factors for few rows, so it is left to its own tests.
    """
    y, p = drawn(40)
    chosen, size, step = metric(name), 40, 1e-6
    scored = chosen.score(chosen.rows(y, p))
    assert scored.influence is not None
    for row in range(size):
        weight = np.ones(size)
        weight[row] += step
        slope = (chosen(y, p, weight=weight) - scored.value) / step * size
        assert slope == pytest.approx(scored.influence[row], abs=1e-3)


def test_rows_of_a_unit_count_once() -> None:
    """Every row four times, as one unit: the interval is that of the single rows."""
    y, p = drawn(80)
    four = np.repeat(np.arange(80), 4)
    for name in NAMES:
        once = estimate(name, y, p)
        again = estimate(name, y[four], p[four], units=four)
        assert again.value == pytest.approx(once.value, abs=1e-12)
        wide = (once.high - once.low) * 0.75
        assert again.high - again.low > wide, name


def test_labels_too_rare_to_rank_are_left_out_and_told() -> None:
    """A label of one row, and one that every row has, have no ranking with an error."""
    y, p = drawn(50, 3)
    single = np.zeros((50, 1), dtype=np.int8)
    single[7] = 1
    whole = np.hstack([y, single, np.ones((50, 1), dtype=np.int8)])
    more = np.hstack([p, p[:, :2]])
    for name in ("macro_auc", "macro_pr_auc"):
        found = estimate(name, whole, more)
        assert found.value == pytest.approx(metric(name)(y, p), abs=1e-12)
        assert "over 3 of 5 labels" in found.note


def test_out_of_fold_ranks_compare_rows_of_one_fold() -> None:
    """A constant by fold knows nothing, however the folds' constants differ."""
    y, _ = drawn(200)
    fold = np.arange(200) % 2
    constant = np.where(fold[:, None] == 0, 0.2, 0.8) * np.ones(y.shape)
    found = evaluate_predictions("multilabel", tuple("abcd"), y, constant, folds=fold)
    assert found["macro_auc"].value == 0.5
    assert found["macro_auc"].method.startswith("DeLong, logit scale, within folds")


def test_no_label_anywhere_has_no_f1() -> None:
    """Where no row has a label or is given one, F1 is not defined; everything is right."""
    y, p = np.zeros((5, 2), dtype=np.int8), np.full((5, 2), 0.1)
    assert math.isnan(metric("micro_f1")(y, p))
    assert math.isnan(metric("macro_f1")(y, p))
    assert metric("jaccard")(y, p) == metric("subset_accuracy")(y, p) == 1.0


def test_the_threshold_is_the_best_of_all_pairs() -> None:
    """Pairs from high to low: + + + - - + - -; three flagged have F1 6/7, and no cut has more."""
    found = choose_label_threshold(Y, P)
    assert found.value == pytest.approx(0.65)
    assert found.achieved.value == pytest.approx(6 / 7)
    assert "one for all labels" in found.sentence
    assert "0.7500" in found.sentence  # what 1/2 would reach


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_other_threshold_has_a_larger_micro_f1(seed: int) -> None:
    """The chosen threshold reaches at least what any other does on the same rows."""
    y, p = drawn(seed=seed)
    best = choose_label_threshold(y, p)
    score = metric("micro_f1")
    for other in np.linspace(0.01, 0.99, 30):
        assert score(y, p, threshold=float(other)) <= best.achieved.value + 1e-12


def test_the_better_model_is_seen_as_better() -> None:
    """A paired comparison of knowledge with none excludes 0."""
    y, p = drawn(300)
    shares = np.tile(y.mean(axis=0), (300, 1))
    for name in ("log_loss", "macro_auc", "macro_pr_auc"):
        assert compare(name, y, p, shares).low > 0 or name == "log_loss"
    better = compare("log_loss", y, np.clip(0.8 * y + 0.1, 0, 1), shares)
    assert better.low > 0
    assert better.method == "paired influence"


@pytest.mark.parametrize(
    ("y", "p", "told"),
    [
        (Y, P[:, :1], "one shape"),
        (Y[:3], P, "one shape"),
        (Y * 2, P, "has a label"),
        (Y, P + 0.2, r"lie in \[0, 1\]"),
        (Y, np.where(P > 0.85, np.nan, P), "finite"),
        (Y[:0], P[:0], "at least one row"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(y: NDArray, p: NDArray, told: str) -> None:  # type: ignore[type-arg]
    """Shapes, labels and probabilities are checked before anything is scored."""
    with pytest.raises(DataError, match=told):
        metric("micro_f1")(y, p)


def test_a_metric_of_one_class_a_row_is_refused() -> None:
    """The AUC of a binary task is not that of several labels, and its name is not taken for it."""
    with pytest.raises(DataError, match="multilabel"):
        metric("auc")(Y, P)
    with pytest.raises(SettingsError, match="its metrics are log_loss, micro_f1"):
        metric("accuracy", "multilabel")


def test_an_estimate_needs_two_units() -> None:
    """One unit has no spread, so there is a value and no interval."""
    rows = Rows.build(Y, P, values="multilabel")
    found = estimate_rows(metric("micro_f1"), rows, Units.build(np.zeros(4, np.int64), 4))
    assert math.isnan(found.low)
    assert found.value == 0.75
