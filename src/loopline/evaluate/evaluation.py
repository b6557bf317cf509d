"""Everything an evaluation shows, and what the rows are too few to tell.

Metrics with intervals, the confusion matrix at the threshold, the points of every curve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.data.schema import Label, Task, has_classes, holds_answer
from loopline.errors import DataError
from loopline.evaluate.calibration import reliability
from loopline.evaluate.formulas import equal_mass_bins, operating_points, weighted_quantile
from loopline.evaluate.intervals import LEVEL, Estimate, estimate_rows
from loopline.evaluate.metrics import Metric, metric, standard_metrics
from loopline.evaluate.rows import Floats, Rows, Units

CURVE_POINTS = 200
"""No curve has more points than this: enough for any screen, small enough for any page."""

HISTOGRAM_BINS = 20
AGREEMENT = 0.8
"""Correlation of two good models' scores over the same rows, assumed where none was measured."""


def evaluate_predictions(
    task: Task,
    classes: Sequence[Label],
    y: NDArray[Any],
    prediction: NDArray[Any],
    *,
    threshold: float = 0.5,
    units: NDArray[Any] | None = None,
    weight: NDArray[Any] | None = None,
    folds: NDArray[Any] | None = None,
    seed: int = 0,
    metrics: Sequence[str | Metric] = (),
    level: float = LEVEL,
) -> dict[str, Estimate]:
    """Score predictions by the task's standard metrics, each with its interval.

    Args:
        task: what is predicted.
        classes: the labels in code order; empty for regression.
        y: class codes or values, shape (rows,), or which labels each row has, (rows, labels).
        prediction: as `FittedModel.predict` gives it.
        threshold: where a probability becomes the label 1 (binary) or a label (multilabel).
        units: rows with equal entries count as one unit.
        weight: weight of each row.
        folds: which model predicted each row, for out-of-fold predictions.
        seed: of the bootstrap.
        metrics: further metrics, after the standard ones.
        level: nominal coverage.

    Returns:
        Metric name -> estimate, in the order to be shown.

    Raises:
        DataError: the arrays do not fit the task or each other.
        SettingsError: a further metric that does not exist or that the task does not have.

    >>> y = np.tile([0, 1], 50)
    >>> found = evaluate_predictions("binary", ("no", "yes"), y, np.where(y == 1, 0.9, 0.1))
    >>> list(found)[:3], found["accuracy"].value
    (['auc', 'pr_auc', 'log_loss'], 1.0)
    """
    rows = _rows(task, classes, y, prediction, threshold=threshold, weight=weight, folds=folds)
    shared = Units.build(units, rows.num_rows)
    wanted = {entry.name: entry for entry in standard_metrics(task)}
    for further in metrics:
        entry = metric(further if isinstance(further, str) else further.name, task)
        wanted.setdefault(entry.name, entry)
    return {
        name: estimate_rows(entry, rows, shared, level=level, seed=seed)
        for name, entry in wanted.items()
    }


@dataclass(frozen=True)
class Confusion:
    """How often each class got each label.

    Args:
        classes: the labels in code order.
        counts: rows by true class (outer) and given label (inner).
        weights: their weight, likewise.
        threshold: what made a probability the last label (binary); None otherwise.
    """

    classes: tuple[Label, ...]
    counts: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[float, ...], ...]
    threshold: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "classes": list(self.classes),
            "counts": [list(line) for line in self.counts],
            "weights": [list(line) for line in self.weights],
            "threshold": self.threshold,
        }


def confusion(
    classes: Sequence[Label],
    y: NDArray[Any],
    prediction: NDArray[Any],
    *,
    threshold: float = 0.5,
    weight: NDArray[Any] | None = None,
) -> Confusion:
    """The confusion matrix at the threshold. Raises `DataError` when the arrays do not fit.

    >>> confusion(("no", "yes"), np.array([0, 1, 1]), np.array([0.2, 0.4, 0.9])).counts
    ((1, 0), (1, 1))
    """
    task: Task = "binary" if len(classes) == 2 else "multiclass"
    rows = _rows(task, classes, y, prediction, threshold=threshold, weight=weight)
    size = rows.num_classes
    cell = rows.y * size + rows.label
    counts = np.bincount(cell, minlength=size * size).reshape(size, size)
    weights = np.bincount(cell, weights=rows.weight, minlength=size * size).reshape(size, size)
    return Confusion(
        tuple(classes),
        tuple(tuple(line) for line in counts.tolist()),
        tuple(tuple(line) for line in weights.tolist()),
        threshold if task == "binary" else None,
    )


@dataclass(frozen=True)
class Resolution:
    """What difference the rows can show.

    Args:
        difference: smallest true difference between two models that would be seen with 80 % power
            at the 5 % level, in units of the metric; NaN where unknown.
        sentence: for the reader.
    """

    difference: float
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        known = math.isfinite(self.difference)
        return {"difference": self.difference if known else None, "sentence": self.sentence}


def resolvable_difference(
    metric_or_name: Metric | str,
    score: Estimate,
    *,
    paired: Estimate | None = None,
    agreement: float = AGREEMENT,
) -> Resolution:
    """The smallest difference between two models that a test set of this size can show.

    Two models are judged on the same rows, so what counts is the error of their paired difference:
    that of `paired` (from `loopline.select.compare`) where there is one, else the score's own
    error times sqrt(2 (1 - agreement)).

    Args:
        metric_or_name: the metric.
        score: one model's score on the rows.
        paired: a measured comparison of two models on these rows.
        agreement: correlation of the two models' errors that is assumed without `paired`.

    >>> accuracy = Estimate(0.9, 0.87, 0.93, "Wilson", 400, standard_error=0.015)
    >>> resolvable_difference("accuracy", accuracy).sentence.partition(" two models ")[2]
    'whose accuracy differs by under 2.7 points cannot be told apart.'
    """
    chosen = metric(metric_or_name) if isinstance(metric_or_name, str) else metric_or_name
    if paired is not None:
        error = paired.standard_error
    else:
        error = score.standard_error * math.sqrt(2 * (1 - agreement))
    size = f"{score.num_units:,} independent observations"
    if not math.isfinite(error) or error <= 0:
        return Resolution(
            float("nan"),
            f"What difference in {chosen.name} {size} can show is not known.",
        )
    normal = NormalDist()
    difference = (normal.inv_cdf(0.975) + normal.inv_cdf(0.8)) * error
    if chosen.bounds == (0.0, 1.0):
        amount = f"{100 * difference:.2g} points"
    else:
        amount = f"{difference:.2g}"
    return Resolution(
        difference,
        f"On {size} two models whose {chosen.name} differs by under {amount} cannot be told apart.",
    )


# Curves -------------------------------------------------------------------------------------------


def curves(
    task: Task,
    classes: Sequence[Label],
    y: NDArray[Any],
    prediction: NDArray[Any],
    *,
    weight: NDArray[Any] | None = None,
) -> dict[str, Any]:
    """The points of every chart of a report: plain data, at most 200 points a curve.

    Returns:
        - binary: ``roc`` (false_positive_rate, recall, threshold), ``pr`` (recall, precision,
          threshold), ``reliability`` (bins with intervals), ``histogram`` (edges, and the share of
          each class's weight by bin of probability).
        - multiclass: ``roc`` a class (one against the rest), ``reliability`` of the most probable
          class, ``histogram`` of its probability, split by right and wrong.
        - regression: ``predicted`` (bins of equal weight: predicted, mean and quantiles of the
          truth), ``residuals`` (the same bins: mean and quantiles of truth less prediction),
          ``residual_histogram``.
        - language and retrieval: nothing; a text's bits, or a rank, are one number.
        - multilabel: nothing yet.

    Raises:
        DataError: the arrays do not fit the task or each other.
    """
    rows = _rows(task, classes, y, prediction, threshold=0.5, weight=weight)
    if holds_answer(task) or task == "multilabel":
        return {}
    if not has_classes(task):
        return _value_curves(rows)
    bins = [entry.to_dict() for entry in reliability(y, prediction, weight=weight)]
    if task == "binary":
        by_class = {str(label): rows.y == code for code, label in enumerate(classes)}
        return {
            **_operating_curves(rows),
            "reliability": bins,
            "histogram": _histogram(rows.prediction, rows.weight, by_class),
        }
    one_against_rest = {}
    for code, label in enumerate(classes):
        part = Rows(
            "binary", (rows.y == code).astype(np.int64), rows.prediction[:, code], rows.weight
        )
        one_against_rest[str(label)] = _operating_curves(part)["roc"]
    right = rows.label == rows.y
    top = rows.prediction.max(axis=1)
    return {
        "roc": one_against_rest,
        "reliability": bins,
        "histogram": _histogram(top, rows.weight, {"right": right, "wrong": ~right}),
    }


def _operating_curves(rows: Rows) -> dict[str, Any]:
    threshold, hits, alarms, total = operating_points(rows)
    positive = total
    negative = float(rows.weight.sum()) - positive
    if positive <= 0 or negative <= 0:
        return {"roc": None, "pr": None}
    recall, false_rate = hits / positive, np.clip(alarms / negative, 0.0, 1.0)
    flagged = hits + alarms
    precision = np.divide(hits, flagged, out=np.ones_like(hits), where=flagged > 0)
    # Points spaced along the curve's own length, so that neither axis starves.
    length = recall + false_rate
    kept = _spaced(length, CURVE_POINTS - 1)
    roc = {
        "false_positive_rate": [0.0, *false_rate[kept].tolist()],
        "recall": [0.0, *recall[kept].tolist()],
        "threshold": [None, *threshold[kept].tolist()],
    }
    by_recall = _spaced(recall, CURVE_POINTS)
    pr = {
        "recall": recall[by_recall].tolist(),
        "precision": precision[by_recall].tolist(),
        "threshold": threshold[by_recall].tolist(),
        "share_positive": positive / (positive + negative),
    }
    return {"roc": roc, "pr": pr}


def _spaced(position: Floats, count: int) -> NDArray[np.int64]:
    """Indices of at most `count` points of a rising sequence, evenly spread, ends included."""
    if len(position) <= count:
        return np.arange(len(position))
    aims = np.linspace(position[0], position[-1], count)
    found = np.minimum(np.searchsorted(position, aims), len(position) - 1)
    found[-1] = len(position) - 1
    return np.unique(found)


def _histogram(
    probability: Floats, weight: Floats, parts: dict[str, NDArray[np.bool_]]
) -> dict[str, Any]:
    edges = np.linspace(0.0, 1.0, HISTOGRAM_BINS + 1)
    code = np.clip((probability * HISTOGRAM_BINS).astype(np.int64), 0, HISTOGRAM_BINS - 1)
    shares = {}
    for name, mask in parts.items():
        mass = np.bincount(code[mask], weights=weight[mask], minlength=HISTOGRAM_BINS)
        total = mass.sum()
        shares[name] = (mass / total if total > 0 else mass).tolist()
    return {"edges": edges.tolist(), "shares": shares}


def _value_curves(rows: Rows) -> dict[str, Any]:
    num_bins = max(1, min(CURVE_POINTS // 4, rows.num_rows // 10))
    code = equal_mass_bins(rows.prediction, rows.weight, num_bins)
    residual = rows.y - rows.prediction
    centre = _by_bin(rows.prediction, rows.weight, code)["mean"]
    low, high = float(residual.min()), float(residual.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    mass, edges = np.histogram(
        residual, bins=HISTOGRAM_BINS, range=(low, high), weights=rows.weight
    )
    return {
        "predicted": {"predicted": centre, **_by_bin(rows.y, rows.weight, code)},
        "residuals": {"predicted": centre, **_by_bin(residual, rows.weight, code)},
        "residual_histogram": {"edges": edges.tolist(), "share": (mass / mass.sum()).tolist()},
    }


def _by_bin(value: Floats, weight: Floats, code: NDArray[np.int64]) -> dict[str, list[float]]:
    order = np.argsort(code, kind="stable")
    starts = np.searchsorted(code[order], np.arange(1, int(code.max()) + 1))
    result: dict[str, list[float]] = {"mean": [], "low": [], "median": [], "high": []}
    for part in np.split(order, starts):
        result["mean"].append(float(np.average(value[part], weights=weight[part])))
        for name, at in (("low", 0.1), ("median", 0.5), ("high", 0.9)):
            result[name].append(weighted_quantile(value[part], weight[part], at))
    return result


def _rows(
    task: Task,
    classes: Sequence[Label],
    y: NDArray[Any],
    prediction: NDArray[Any],
    *,
    threshold: float,
    weight: NDArray[Any] | None,
    folds: NDArray[Any] | None = None,
) -> Rows:
    rows = Rows.build(
        y,
        prediction,
        values=None if has_classes(task) else task,
        weight=weight,
        threshold=threshold,
        folds=folds,
    )
    if rows.task != task or rows.num_classes != len(classes):
        raise DataError(
            f"The task is {task} with {len(classes)} classes; "
            f"the predictions given have the shape {np.shape(prediction)}."
        )
    return rows
