"""Metrics: hand-worked values, scikit-learn as the oracle, names, refusals, degenerate rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from loopline.errors import DataError, SettingsError
from loopline.evaluate.metrics import METRIC_NAMES, default_metric, metric, standard_metrics

Y = np.array([0, 0, 1, 1])
P = np.array([0.1, 0.4, 0.35, 0.8])

BY_HAND = {
    "auc": 3 / 4,
    "pr_auc": (1 + 2 / 3) / 2,
    "log_loss": -(math.log(0.9) + math.log(0.6) + math.log(0.35) + math.log(0.8)) / 4,
    "brier": (0.01 + 0.16 + 0.4225 + 0.04) / 4,
    "accuracy": 3 / 4,
    "balanced_accuracy": 3 / 4,
    "f1": 2 / 3,
    "precision": 1.0,
    "recall": 1 / 2,
    "mcc": 1 / math.sqrt(3),
    "cost=1,5": 5 / 4,
    "precision_at_recall=1": 2 / 3,
    "precision_at_recall=0.5": 1.0,
    "recall_at_precision=0.9": 1 / 2,
    "recall_at_precision=0.6": 1.0,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_binary_by_hand(name):
    """Each binary metric has the value worked by hand on four rows."""
    assert metric(name)(Y, P) == pytest.approx(BY_HAND[name], abs=1e-15)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mae", 1.0),
        ("rmse", math.sqrt(1.5)),
        ("median_ae", 1.0),
        ("r2", 1 - 6 / 5),
        ("mape", (1 + 0.5 + 0 + 0.5) / 4),
        ("pinball=0.25", (0.75 * 1 + 0.25 * 1 + 0 + 0.25 * 2) / 4),
    ],
)
def test_regression_by_hand(name, value):
    """Each regression metric has the value worked by hand on four rows."""
    y, prediction = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 1.0, 3.0, 2.0])
    assert metric(name)(y, prediction) == pytest.approx(value, abs=1e-15)


def binary_rows(seed, num_rows=300):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, num_rows)
    p = np.round(np.clip(rng.beta(2, 3, num_rows) + 0.2 * y, 0, 1), 2)
    return y, p, rng.integers(1, 5, num_rows).astype(float)


def multiclass_rows(seed, num_rows=300):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, num_rows)
    raw = rng.dirichlet(np.ones(4), num_rows) + 0.3 * np.eye(4)[y]
    return y, raw / raw.sum(axis=1, keepdims=True), rng.integers(1, 5, num_rows).astype(float)


LABEL_ORACLE = {
    "accuracy": oracle.accuracy_score,
    "balanced_accuracy": oracle.balanced_accuracy_score,
    "mcc": oracle.matthews_corrcoef,
    "f1": oracle.f1_score,
    "precision": oracle.precision_score,
    "recall": oracle.recall_score,
}
SCORE_ORACLE = {
    "auc": oracle.roc_auc_score,
    "pr_auc": oracle.average_precision_score,
    "log_loss": oracle.log_loss,
    "brier": oracle.brier_score_loss,
}
VALUE_ORACLE = {
    "mae": oracle.mean_absolute_error,
    "rmse": oracle.root_mean_squared_error,
    "r2": oracle.r2_score,
    "mape": oracle.mean_absolute_percentage_error,
    "rmsle": oracle.root_mean_squared_log_error,
    "median_ae": oracle.median_absolute_error,
}


@pytest.mark.parametrize("name", [*LABEL_ORACLE, *SCORE_ORACLE])
def test_binary_equals_sklearn(name):
    """Weighted binary metrics equal scikit-learn's, ties among the scores included."""
    y, p, w = binary_rows(1)
    if name in LABEL_ORACLE:
        expected = LABEL_ORACLE[name](y, (p >= 0.3).astype(int), sample_weight=w)
    else:
        expected = SCORE_ORACLE[name](y, p, sample_weight=w)
    assert metric(name)(y, p, weight=w, threshold=0.3) == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("name", [*LABEL_ORACLE, "auc", "log_loss", "brier"])
def test_multiclass_equals_sklearn(name):
    """Weighted multiclass metrics equal scikit-learn's macro averages."""
    y, p, w = multiclass_rows(2)
    if name in LABEL_ORACLE:
        kind = {"average": "macro"} if name in {"f1", "precision", "recall"} else {}
        expected = LABEL_ORACLE[name](y, p.argmax(axis=1), sample_weight=w, **kind)
    elif name == "brier":
        expected = oracle.brier_score_loss(y, p, sample_weight=w, scale_by_half=False)
    else:
        kind = {"multi_class": "ovr"} if name == "auc" else {}
        expected = SCORE_ORACLE[name](y, p, sample_weight=w, **kind)
    assert metric(name)(y, p, weight=w) == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("name", VALUE_ORACLE)
def test_regression_equals_sklearn(name):
    """Weighted regression metrics equal scikit-learn's."""
    rng = np.random.default_rng(3)
    y = rng.gamma(2, 2, 300) + 0.1
    prediction, w = y * rng.lognormal(0, 0.3, 300), rng.integers(1, 5, 300).astype(float)
    expected = VALUE_ORACLE[name](y, prediction, sample_weight=w)
    assert metric(name)(y, prediction, weight=w) == pytest.approx(expected, abs=1e-13)


def test_pinball_equals_sklearn():
    """The weighted pinball loss equals scikit-learn's."""
    y, p, w = binary_rows(4)
    expected = oracle.mean_pinball_loss(y, p, alpha=0.2, sample_weight=w)
    assert metric("pinball=0.2")(y.astype(float), p, weight=w) == pytest.approx(expected)


EVERY = [*BY_HAND, "ece", *VALUE_ORACLE, "pinball=0.3"]


@pytest.mark.parametrize("name", EVERY)
def test_weight_is_repetition(name):
    """A row of weight 3 counts exactly as three rows."""
    y, p, w = binary_rows(5, 120)
    if metric(name).tasks == {"regression"}:
        y = y + 0.5
    times = w.astype(int)
    if name == "ece":  # its number of bins follows the number of rows, so repeat all rows alike
        times[:] = 1
        w[:] = 2.5
    once, thrice = (
        metric(name)(y, p, weight=w),
        metric(name)(np.repeat(y, times), np.repeat(p, times)),
    )
    assert once == pytest.approx(thrice, rel=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_row_order_and_zero_weight_do_not_count(name):
    """Shuffled rows give the same value, and rows of weight 0 change nothing."""
    y, p, w = binary_rows(6, 100)
    if metric(name).tasks == {"regression"}:
        y = y + 0.5
    w[60:] = 0
    order = np.random.default_rng(0).permutation(100)
    value = metric(name)(y, p, weight=w)
    assert metric(name)(y[order], p[order], weight=w[order]) == pytest.approx(value, rel=1e-12)
    if name != "ece":
        assert metric(name)(y[:60], p[:60], weight=w[:60]) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in EVERY
        if metric(n)
        .formula(metric(n).rows(Y + (0.5 if metric(n).tasks == {"regression"} else 0), P))
        .influence
        is not None
        and n != "ece"
    ],
)
def test_influence_is_the_derivative(name):
    """A row's influence is what a small change of its weight does to the value."""
    y, p, w = binary_rows(7, 80)
    if metric(name).tasks == {"regression"}:
        y = y + 0.5
    entry, total = metric(name), w.sum()
    psi = entry.formula(entry.rows(y, p, weight=w)).influence
    assert float(w @ psi) == pytest.approx(0, abs=1e-9 * total)
    step = 1e-6 * total
    for row in range(0, 80, 9):
        more, less = w.copy(), w.copy()
        more[row] += step
        less[row] -= step
        slope = (entry(y, p, weight=more) - entry(y, p, weight=less)) / (2 * step) * total
        slack = 0.03 if name == "auc" else 1e-5  # the AUC's has DeLong's factor sqrt(n / (n - 1))
        assert psi[row] == pytest.approx(slope, abs=slack * np.abs(psi).max())


def test_arrays_as_models_give_them():
    """Binary probabilities may come as two columns, and classes as small integers or booleans."""
    both = np.column_stack([1 - P, P])
    assert metric("auc")(Y.astype(np.int8), both) == 0.75
    assert metric("auc")(Y.astype(bool), P) == 0.75


def test_names_with_arguments():
    """A name with an argument is read, and spelled one way."""
    assert metric("recall_at_precision=0.90").name == "recall_at_precision=0.9"
    assert metric("cost=1.0,5").name == "cost=1,5"
    assert metric("cost=1,5") == metric("cost=1.0,5")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("aug", "There is no metric 'aug'; did you mean 'auc'?"),
        ("rsme", "did you mean 'rmse'?"),
        ("zzzz", "there are auc, pr_auc"),
        ("auc=3", "The metric auc takes no argument, got 'auc=3'."),
        ("pinball", "needs one number in (0, 1), as in 'pinball=0.9'; got 'pinball'."),
        ("pinball=1", "needs one number"),
        ("recall_at_precision=nan", "needs one number"),
        ("recall_at_precision=high", "needs one number"),
        ("cost=1", "as in 'cost=1,5'"),
        ("cost=-1,2", "both >= 0"),
    ],
)
def test_wrong_names_are_refused(name, message):
    """A wrong name or argument is answered with the right form."""
    with pytest.raises(SettingsError) as caught:
        metric(name)
    assert message in str(caught.value)


def test_metric_of_another_task_is_refused():
    """A metric that the task does not have is refused with those it has."""
    with pytest.raises(SettingsError, match="its metrics are auc, log_loss"):
        metric("rmse", "multiclass")
    with pytest.raises(DataError, match="pr_auc is a metric of binary tasks"):
        metric("pr_auc")(np.array([0, 1, 2]), np.full((3, 3), 1 / 3))


def test_defaults_and_standard_sets():
    """Each task has a default metric, and its standard metrics all belong to it."""
    for task, name in (("binary", "auc"), ("multiclass", "log_loss"), ("regression", "rmse")):
        assert default_metric(task).name == name
        assert all(task in entry.tasks for entry in standard_metrics(task))
        assert name in [entry.name for entry in standard_metrics(task)]
    assert len(set(METRIC_NAMES)) == len(METRIC_NAMES)


@pytest.mark.parametrize(
    ("name", "y", "p", "reason"),
    [
        ("auc", [1, 1], [0.2, 0.3], "only one class is present"),
        ("pr_auc", [0, 0], [0.2, 0.3], "no row is positive"),
        ("balanced_accuracy", [1, 1], [0.2, 0.3], "only one class is present"),
        ("mcc", [1, 1], [0.2, 0.3], "only one class is present"),
        ("precision", [0, 1], [0.2, 0.3], "no row is labelled positive"),
        ("recall", [0, 0], [0.2, 0.3], "no row is positive"),
        ("f1", [0, 0], [0.2, 0.3], "no row is positive or labelled positive"),
        ("r2", [2.0, 2.0], [1.0, 3.0], "the target is constant"),
        ("mape", [0.0, 2.0], [1.0, 3.0], "the target has zeros"),
        ("rmsle", [-1.0, 2.0], [1.0, 3.0], "values below 0"),
        ("recall_at_precision=0.5", [0, 0], [0.2, 0.3], "no row is positive"),
        ("precision_at_recall=0.5", [0, 0], [0.2, 0.3], "no row is positive"),
    ],
)
def test_undefined_is_nan_with_a_reason(name, y, p, reason):
    """Where a metric has no value it is NaN and says why."""
    entry = metric(name)
    scored = entry.formula(entry.rows(np.array(y), np.array(p)))
    assert math.isnan(scored.value)
    assert reason in scored.reason


def test_constant_prediction_is_defined():
    """A constant prediction scores like a guess, without warnings."""
    y, p = np.array([0, 1, 0, 1]), np.full(4, 0.25)
    assert metric("auc")(y, p) == 0.5
    assert metric("pr_auc")(y, p) == 0.5
    assert metric("mcc")(y, p) == 0.0
    assert metric("recall")(y, p) == 0.0


def test_certain_and_wrong_costs_a_bounded_log_loss():
    """A probability of 0 for what happened costs 36.04, not infinity."""
    assert metric("log_loss")(np.array([1]), np.array([0.0])) == pytest.approx(36.0437, abs=1e-4)


@pytest.mark.parametrize(
    ("y", "p", "weight", "message"),
    [
        ([], [], None, "A metric needs at least one row, got none."),
        ([0, 1], [0.5], None, "one entry for each of the 2 rows, got the shape (1,)"),
        ([0, 1], [0.5, np.nan], None, "row 1 has nan"),
        ([0, 1], [0.5, 1.5], None, "Probabilities must lie in [0, 1]; row 1 has 1.5"),
        ([0, 2], [0.5, 0.5], None, "Class codes must lie in 0 … 1"),
        ([0, -1], [0.5, 0.5], None, "row 1 has -1"),
        ([0.0, 1.0], [0.5, 0.5], None, "must be class codes (integers), got float64"),
        ([0, 1], [[0.5, 0.5], [0.5, 0.6]], None, "must sum to 1; row 1 sums to 1.1"),
        ([0, 1], [0.5, 0.5], [1.0], "`weight` must have one entry"),
        ([0, 1], [0.5, 0.5], [1.0, -1.0], "row 1 has -1.0"),
        ([0, 1], [0.5, 0.5], [0.0, 0.0], "all weights are 0"),
    ],
)
def test_wrong_arrays_are_refused(y, p, weight, message):
    """Arrays that cannot be scored are refused with the row that is wrong."""
    with pytest.raises(DataError) as caught:
        metric("auc")(np.array(y), np.array(p), weight=None if weight is None else np.array(weight))
    assert message in str(caught.value)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=2, max_size=25))
def test_auc_is_the_share_of_ordered_pairs(pairs):
    """The AUC equals the share of pairs in the right order, ties counting half."""
    y = np.array([pair[0] for pair in pairs])
    p = np.array([pair[1] for pair in pairs]) / 6
    if y.min() == y.max():
        return
    gap = p[y == 1][:, None] - p[y == 0][None, :]
    assert metric("auc")(y, p) == pytest.approx(((gap > 0) + 0.5 * (gap == 0)).mean())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 1.0))
def test_operating_points_agree_with_sklearns_curve(seed, least):
    """Recall at precision equals the best of scikit-learn's precision-recall curve."""
    y, p, _ = binary_rows(seed, 40)
    if y.max() == 0:
        return
    precision, recall, _ = oracle.precision_recall_curve(y, p)
    reached = recall[:-1][(precision[:-1] >= least) & (recall[:-1] > 0)]
    expected = reached.max() if len(reached) else 0.0
    assert metric(f"recall_at_precision={least!r}")(y, p) == pytest.approx(expected)
