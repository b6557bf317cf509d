"""Watching a model that gives each row one of some classes.

Without labels the loss of a row is estimated from the probabilities themselves, once they are
calibrated on the reference (CBPE: a row answered with 0.8 is wrong with 0.2). That assumes that
inputs move and the relation to the outcome does not: **no concept drift**. A changed relation shows
only when labels come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.evaluate.calibration import Calibration, fit_calibration
from loopline.evaluate.metrics import metric as read_metric
from loopline.monitor.losses import WRONG, Floats, Losses, by_name, columns_of
from loopline.monitor.reference import Reference

ISOTONIC_ROWS, TEMPERATURE_ROWS = 1_000, 100


@dataclass(frozen=True, eq=False)
class ClassLosses(Losses):
    """Losses of rows that have one class each, in [0, 1].

    Args:
        name: ``error`` (share of wrong labels) or ``Brier score``.
        classes: labels in the order of their codes; empty where they are numbers already.
        names: of the classes, for people.
        threshold: where a probability becomes class 1 (binary).
        calibration: of the reference's probabilities; None without outcomes.
    """

    classes: tuple[Any, ...] = ()
    names: tuple[str, ...] = ()
    threshold: float = 0.5
    calibration: Calibration | None = None

    @staticmethod
    def learn(reference: Reference) -> ClassLosses:
        """See `Losses.learn`."""
        assert reference.prediction is not None
        calibration = None
        if reference.target is not None:
            codes = np.asarray(reference.target, dtype=np.int64)
            calibration = calibrated(codes, reference.prediction)
        return ClassLosses(
            loss_name(reference.metric, "error"), reference.classes, by_name(reference),
            reference.threshold, calibration,
        )  # fmt: skip

    def of(self, prediction: Floats, outcome: Floats) -> Floats:
        """See `Losses.of`: wrong or not, or half the squared distance from the truth."""
        known = np.isfinite(outcome)
        y = np.where(known, outcome, 0)
        given = columns_of(prediction)
        if self.name == "error":
            loss = (self.labels(prediction) != y).astype(np.float64)
        else:
            codes = np.clip(y.astype(np.int64), 0, given.shape[1] - 1)
            truth = np.eye(given.shape[1])[codes]
            loss = ((given - truth) ** 2).sum(axis=1) / 2
        return np.where(known, loss, np.nan)

    def expected(self, prediction: Floats) -> Floats:
        """See `Losses.expected`: from the calibrated probabilities."""
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
        """See `Losses.residual`.

        Two classes: outcome minus probability. More: whether the likeliest was right, minus its
        probability.
        """
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

    def outputs(self, prediction: Floats) -> dict[str, Floats]:
        """See `Losses.outputs`: of two classes the second one's probability says it all."""
        given = columns_of(prediction)
        if given.shape[1] == 2:
            return {"prediction": given[:, 1]}
        return {f"probability of {name}": given[:, code] for code, name in enumerate(self.names)}

    def read(self, labels: Mapping[str, Any]) -> dict[str, Floats]:
        """See `Losses.read`: a class by its value or by its text."""
        codes = codes_of(labels, self.classes)
        return {name: self.valid(np.array([code])) for name, code in codes.items()}

    def valid(self, outcome: Floats) -> Floats:
        """See `Losses.valid`: codes of classes that there are."""
        outside = ~((outcome >= 0) & (outcome < max(len(self.names), 2)))
        return np.where(outside, WRONG, outcome)


def loss_name(metric: str, wrong: str) -> str:
    """The loss that is watched: of the probabilities where the line's metric is, else of labels."""
    if metric and read_metric(metric).needs == "probability":
        return "Brier score"
    return wrong


def calibrated(codes: NDArray[np.int64], prediction: Floats) -> Calibration | None:
    """What probabilities mean in the reference; None where too little is known of it."""
    if len(codes) < TEMPERATURE_ROWS or np.unique(codes).size < 2:
        return None
    kind = "isotonic" if len(codes) >= ISOTONIC_ROWS else "temperature"
    return fit_calibration(kind, codes, prediction)


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
