"""Evaluations: the standard sets, the confusion matrix, resolvable differences, curves."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from loopline.errors import DataError, SettingsError
from loopline.evaluate.evaluation import (
    confusion,
    curves,
    evaluate_predictions,
    resolvable_difference,
)
from loopline.evaluate.intervals import estimate
from loopline.select.compare import compare


def binary(num_rows=3000, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.random(num_rows)
    return (rng.random(num_rows) < p).astype(int), p


def every_number(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from every_number(part)
    elif value is not None:
        yield value


def test_standard_metrics_with_further_ones():
    """The standard metrics come first, further ones after, each equal to its own estimate."""
    y, p = binary()
    found = evaluate_predictions(
        "binary", ("no", "yes"), y, p, threshold=0.3, metrics=["recall_at_precision=0.9", "auc"]
    )
    assert list(found)[-1] == "recall_at_precision=0.9"
    assert found["f1"] == estimate("f1", y, p, threshold=0.3)
    assert found["auc"].low < found["auc"].value < found["auc"].high


def test_every_task_is_evaluated():
    """Multiclass and regression have standard sets without gaps."""
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(3), 300)
    many = evaluate_predictions("multiclass", ("a", "b", "c"), rng.integers(0, 3, 300), p)
    y = rng.standard_normal(300)
    values = evaluate_predictions("regression", (), y, y + rng.standard_normal(300))
    for found in (*many.values(), *values.values()):
        assert math.isfinite(found.low)
        assert math.isfinite(found.high)


def test_predictions_of_another_task_are_refused():
    """Predictions must have the shape of the task."""
    y, p = binary(10)
    with pytest.raises(DataError, match="The task is multiclass with 3 classes"):
        evaluate_predictions("multiclass", ("a", "b", "c"), y, p)
    with pytest.raises(SettingsError, match="rmse is a metric of regression tasks"):
        evaluate_predictions("binary", (0, 1), y, p, metrics=["rmse"])


def test_confusion_by_hand():
    """Rows are true classes, columns are labels, at the threshold, with weights beside counts."""
    y, p = np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.25, 0.9])
    found = confusion(("no", "yes"), y, p, threshold=0.25, weight=np.array([1.0, 2, 3, 4]))
    assert found.counts == ((1, 1), (0, 2))
    assert found.weights == ((1, 2), (0, 7))
    many = confusion("abc", np.array([0, 2]), np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]))
    assert many.counts == ((0, 1, 0), (0, 0, 0), (0, 0, 1))
    assert many.threshold is None


def test_resolvable_difference_is_seen_with_80_percent_power():
    """Two models that differ by the stated amount are told apart about 80 times in 100."""
    rng = np.random.default_rng(2)

    def paired(size, gain):
        shared = 9 + rng.standard_normal(size)
        better = shared - gain + 0.5 * rng.standard_normal(size)
        return np.zeros(size), better, shared + 0.5 * rng.standard_normal(size)

    y, a, b = paired(600, 0.0)
    stated = resolvable_difference("mae", estimate("mae", y, a), paired=compare("mae", y, a, b))
    assert stated.difference == pytest.approx(2.8 * math.sqrt(0.5 / 600), rel=0.08)
    seen = sum(compare("mae", *paired(600, stated.difference)).low > 0 for _ in range(400))
    assert abs(seen / 400 - 0.8) < 0.08
    assert stated.sentence == (
        "On 600 independent observations two models whose mae differs by under 0.081 cannot be "
        "told apart."
    )


def test_resolution_shrinks_with_the_root_of_the_rows():
    """Four times the rows resolve half the difference; an unknown error says so."""
    y, p = binary(4000)
    few = resolvable_difference("auc", estimate("auc", y[:1000], p[:1000]))
    many = resolvable_difference("auc", estimate("auc", y, p))
    assert many.difference == pytest.approx(few.difference / 2, rel=0.1)
    unknown = resolvable_difference("auc", estimate("auc", np.array([1, 1]), np.array([0.1, 0.2])))
    assert math.isnan(unknown.difference)
    assert "is not known" in unknown.sentence


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_curves_are_short_plain_and_finite(task):
    """Every curve has at most 200 points and goes through JSON without NaN."""
    rng = np.random.default_rng(3)
    if task == "regression":
        y = rng.standard_normal(5000)
        found = curves(task, (), y, y + rng.standard_normal(5000))
    else:
        size = 2 if task == "binary" else 3
        p = rng.dirichlet(np.ones(size), 5000)
        found = curves(task, ["a", "b", "c"][:size], rng.integers(0, size, 5000), p)
    json.dumps(found, allow_nan=False)

    def lists(value):
        if isinstance(value, dict):
            for part in value.values():
                yield from lists(part)
        elif isinstance(value, list):
            yield value

    assert all(len(line) <= 200 for line in lists(found))
    assert len(list(every_number(found))) > 50


def test_thinned_roc_keeps_its_area():
    """The 200 points of the ROC curve enclose the AUC to three digits, ends included."""
    y, p = binary(20_000)
    roc = curves("binary", (0, 1), y, p)["roc"]
    x, height = np.array(roc["false_positive_rate"]), np.array(roc["recall"])
    assert (x[0], height[0], x[-1], height[-1]) == (0, 0, 1, 1)
    area = float((np.diff(x) * (height[1:] + height[:-1]) / 2).sum())
    assert area == pytest.approx(estimate("auc", y, p).value, abs=1e-3)


def test_curves_of_one_class_have_no_roc():
    """Without both classes the ROC and PR curves are None and the rest is there."""
    found = curves("binary", ("no", "yes"), np.zeros(50, dtype=int), np.linspace(0, 1, 50))
    assert found["roc"] is None
    assert sum(found["histogram"]["shares"]["no"]) == pytest.approx(1)
    assert sum(found["histogram"]["shares"]["yes"]) == 0


def test_residuals_show_a_bend():
    """A model that misses a bend has residuals that follow the prediction."""
    x = np.linspace(-1, 1, 2000)
    found = curves("regression", (), x**2 + x, x + 1 / 3)["residuals"]
    assert found["mean"][0] > 0.4
    assert found["mean"][len(found["mean"]) // 2] < -0.2


def test_constant_regression_has_curves():
    """Constant predictions and residuals do not break the curves."""
    found = curves("regression", (), np.ones(30), np.ones(30))
    assert sum(found["residual_histogram"]["share"]) == pytest.approx(1)
    assert found["predicted"]["predicted"] == [1.0]
