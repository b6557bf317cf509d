"""What a wrong answer costs, row by row, and what it will probably cost before labels are there.

Without labels the loss of a row is estimated from the probabilities themselves, once they are
calibrated on the reference (CBPE: a row answered with 0.8 is wrong with 0.2). That assumes that
inputs move and the relation to the outcome does not: **no concept drift**. A changed relation shows
only when labels come. For numbers the loss of a row is taken from reference rows with similar
predictions, which assumes the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.data.schema import has_classes
from loopline.evaluate.calibration import Calibration, fit_calibration
from loopline.evaluate.metrics import metric as read_metric
from loopline.monitor.reference import Reference

Floats = NDArray[np.float64]
ISOTONIC_ROWS, TEMPERATURE_ROWS = 1_000, 100
BINS = 10
TOP = 0.995
"""Losses of numbers above this quantile of the reference count as that quantile."""
ASSUMES = "from the predictions alone, which assumes that outcomes still follow as before"


@dataclass(frozen=True, eq=False)
class Losses:
    """Losses of rows, in [0, 1] for classes and in units of the usual error for numbers.

    Args:
        name: ``error`` (share of wrong labels), ``Brier score`` or ``absolute error``.
        task: what is predicted.
        threshold: where a probability becomes class 1.
        calibration: of the reference's probabilities; None without outcomes, or for numbers.
        edges: numbers: bins of predictions.
        by_bin: numbers: the mean loss of each bin.
        unit: numbers: the reference's mean absolute error.
        top: numbers: the largest loss that counts.
    """

    name: str
    task: str
    threshold: float = 0.5
    calibration: Calibration | None = None
    edges: Floats | None = None
    by_bin: Floats | None = None
    unit: float = 1.0
    top: float = np.inf

    @staticmethod
    def learn(reference: Reference) -> Losses:
        """From the reference's predictions, and outcomes where it has them."""
        assert reference.prediction is not None
        if not has_classes(reference.task):
            return _learn_numbers(reference)
        name = "error"
        if reference.metric and read_metric(reference.metric).needs == "probability":
            name = "Brier score"
        calibration = None
        target = reference.target
        if target is not None and reference.num_rows >= TEMPERATURE_ROWS:
            several = np.unique(target).size > 1
            kind = "isotonic" if reference.num_rows >= ISOTONIC_ROWS else "temperature"
            if several:
                codes = np.asarray(target, dtype=np.int64)
                calibration = fit_calibration(kind, codes, reference.prediction)
        return Losses(name, reference.task, reference.threshold, calibration)

    def of(self, prediction: Floats, outcome: Floats) -> Floats:
        """Losses of rows whose outcomes are known; NaN where the outcome is."""
        known = np.isfinite(outcome)
        y = np.where(known, outcome, 0)
        if not has_classes(self.task):
            loss = np.minimum(np.abs(y - prediction.reshape(-1)) / self.unit, self.top)
        else:
            given = columns_of(prediction)
            codes = np.clip(y.astype(np.int64), 0, given.shape[1] - 1)
            if self.name == "error":
                loss = (self.labels(prediction) != y).astype(np.float64)
            else:
                truth = np.eye(given.shape[1])[codes]
                loss = ((given - truth) ** 2).sum(axis=1) / 2
        return np.where(known, loss, np.nan)

    def expected(self, prediction: Floats) -> Floats:
        """Losses that the predictions themselves let expect."""
        if not has_classes(self.task):
            if self.by_bin is None or self.edges is None:
                return np.full(len(prediction), np.nan)
            return self.by_bin[np.searchsorted(self.edges, prediction.reshape(-1))]
        given = columns_of(prediction)
        chance = given if self.calibration is None else self.calibration.apply(given)
        if self.name == "error":
            return np.asarray(
                1 - chance[np.arange(len(given)), self.labels(prediction)], dtype=np.float64
            )
        return np.asarray(
            ((given**2).sum(axis=1) - 2 * (given * chance).sum(axis=1) + 1) / 2, dtype=np.float64
        )

    def residual(self, prediction: Floats, outcome: Floats) -> tuple[Floats, Floats]:
        """How far outcomes lie above what was stated, and the same where more was stated.

        Binary: outcome minus probability. Several classes: whether the likeliest was right, minus
        its probability. Numbers: outcome minus prediction, in usual errors.
        """
        if not has_classes(self.task):
            off = np.clip((outcome - prediction.reshape(-1)) / self.unit, -self.top, self.top)
            return off, np.full_like(off, np.nan)
        given = columns_of(prediction)
        if given.shape[1] == 2:
            stated, came = given[:, 1], outcome
        else:
            best = given.argmax(axis=1)
            stated = given[np.arange(len(given)), best]
            came = np.where(np.isfinite(outcome), (best == outcome).astype(np.float64), np.nan)
        return came - stated, (came - stated) * 2 * (stated - 0.5)

    def labels(self, prediction: Floats) -> NDArray[np.int64]:
        """The classes that are answered."""
        given = columns_of(prediction)
        if given.shape[1] == 2:
            return (given[:, 1] >= self.threshold).astype(np.int64)
        return np.asarray(given.argmax(axis=1), dtype=np.int64)


def columns_of(prediction: Floats) -> Floats:
    """Probabilities as (rows, classes), also of a binary task given as (rows,)."""
    if prediction.ndim == 2:
        return prediction
    return np.column_stack([1 - prediction, prediction])


def _learn_numbers(reference: Reference) -> Losses:
    assert reference.prediction is not None
    stated = np.asarray(reference.prediction, dtype=np.float64).reshape(-1)
    if reference.target is None:
        return Losses("absolute error", "regression")
    off = np.abs(np.asarray(reference.target, dtype=np.float64) - stated)
    unit = float(off.mean()) or 1.0
    top = max(float(np.quantile(off, TOP)) / unit, 1.0)
    edges = np.unique(np.quantile(stated, np.linspace(0, 1, BINS + 1)[1:-1]))
    place = np.searchsorted(edges, stated)
    loss = np.minimum(off / unit, top)
    sums = np.bincount(place, weights=loss, minlength=edges.size + 1)
    counts = np.bincount(place, minlength=edges.size + 1)
    by_bin = np.where(counts > 0, sums / np.maximum(counts, 1), loss.mean())
    return Losses("absolute error", "regression", 0.5, None, edges, by_bin, unit, top)


def codes_of(labels: Mapping[str, Any], classes: tuple[Any, ...]) -> dict[str, float]:
    """Labels as codes of classes (by value or by its text), or as numbers; NaN where unreadable."""
    table: dict[Any, float] = {}
    for code, label in enumerate(classes):
        table[label] = float(code)
        table.setdefault(str(label), float(code))

    def read(label: Any) -> float:
        if classes:
            found = table.get(label)
            return (
                float("nan")
                if found is None and (found := table.get(str(label))) is None
                else found
            )
        try:
            return float(label)
        except (TypeError, ValueError):
            return float("nan")

    return {name: read(label) for name, label in labels.items()}
