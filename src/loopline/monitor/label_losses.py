"""Watching a model that gives each row any of several labels.

A row costs the mean over the labels of what each of them costs: wrong or not (Hamming loss), or the
squared distance from the truth (Brier score). Without outcomes each label's calibrated probability
tells what it will cost, as for two classes, with the same assumption.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopline.evaluate.calibration import Calibration
from loopline.monitor.class_losses import calibrated, loss_name
from loopline.monitor.losses import WRONG, Floats, Losses, by_name
from loopline.monitor.reference import Reference


@dataclass(frozen=True, eq=False)
class LabelLosses(Losses):
    """Losses of rows that have any of several labels, in [0, 1].

    Args:
        name: ``Hamming loss`` or ``Brier score``, both as means over the labels.
        labels: in code order.
        threshold: from which probability on a label is given.
        calibrations: of each label's probabilities; None where too little is known of it.
    """

    labels: tuple[Any, ...] = ()
    threshold: float = 0.5
    calibrations: tuple[Calibration | None, ...] = ()

    @staticmethod
    def learn(reference: Reference) -> LabelLosses:
        """See `Losses.learn`."""
        assert reference.prediction is not None
        num_labels = reference.prediction.shape[1]
        calibrations: tuple[Calibration | None, ...] = (None,) * num_labels
        if reference.target is not None:
            matrix = np.asarray(reference.target, dtype=np.int64)
            calibrations = tuple(
                calibrated(matrix[:, code], reference.prediction[:, code])
                for code in range(num_labels)
            )
        name = loss_name(reference.metric, "Hamming loss")
        labels = reference.classes or by_name(reference)
        return LabelLosses(name, labels, reference.threshold, calibrations)

    @property
    def num_outcomes(self) -> int:
        """See `Losses.num_outcomes`: one number a label, 1 or 0."""
        return len(self.labels)

    def of(self, prediction: Floats, outcome: Floats) -> Floats:
        """See `Losses.of`.

        >>> losses = LabelLosses("Hamming loss", ("a", "b"))
        >>> losses.of(np.array([[0.9, 0.8]]), np.array([[1.0, 0.0]])).tolist()
        [0.5]
        """
        if self.name == "Brier score":
            return np.asarray(((prediction - outcome) ** 2).mean(axis=1), dtype=np.float64)
        wrong = (prediction >= self.threshold) != (outcome == 1)
        known = np.isfinite(outcome).all(axis=1)
        return np.where(known, wrong.mean(axis=1), np.nan)

    def expected(self, prediction: Floats) -> Floats:
        """See `Losses.expected`: from each label's calibrated probability."""
        chance = np.column_stack(
            [
                prediction[:, code] if one is None else one.apply(prediction[:, code])
                for code, one in enumerate(self.calibrations)
            ]
        )
        if self.name == "Brier score":
            cost = prediction**2 - 2 * prediction * chance + chance
        else:
            cost = np.where(prediction >= self.threshold, 1 - chance, chance)
        return np.asarray(cost.mean(axis=1), dtype=np.float64)

    def residual(self, prediction: Floats, outcome: Floats) -> tuple[Floats, Floats]:
        """See `Losses.residual`: outcome minus probability, as a mean over the labels."""
        off = outcome - prediction
        return off.mean(axis=1), (off * 2 * (prediction - 0.5)).mean(axis=1)

    def outputs(self, prediction: Floats) -> dict[str, Floats]:
        """See `Losses.outputs`: each label's probability."""
        return {
            f"probability of {label!r}": prediction[:, code]
            for code, label in enumerate(self.labels)
        }

    def read(self, labels: Mapping[str, Any]) -> dict[str, Floats]:
        """See `Losses.read`: lists of labels, or their JSON.

        >>> losses = LabelLosses("Hamming loss", ("a", "b"))
        >>> told = losses.read({"1": ["b"], "2": '["a", "b"]', "3": [], "4": ["c"], "5": "b"})
        >>> [outcome.tolist() for outcome in told.values()]
        [[0.0, 1.0], [1.0, 1.0], [0.0, 0.0], [inf, inf], [inf, inf]]
        """
        codes = {label: code for code, label in enumerate(self.labels)}
        return {name: self._outcome(label, codes) for name, label in labels.items()}

    def _outcome(self, given: Any, codes: Mapping[Any, int]) -> Floats:
        outcome = np.zeros(len(codes))
        if isinstance(given, str):
            try:
                given = json.loads(given)
            except ValueError:
                given = None
        if not isinstance(given, list | tuple) or not all(_known(one, codes) for one in given):
            return np.full(len(codes), WRONG)
        outcome[[codes[one] for one in given]] = 1.0
        return outcome

    def valid(self, outcome: Floats) -> Floats:
        """See `Losses.valid`: rows of 0 and 1 alone."""
        whole = ((outcome == 0) | (outcome == 1)).all(axis=-1, keepdims=True)
        return np.where(whole, outcome, WRONG)


def _known(label: Any, codes: Mapping[Any, int]) -> bool:
    return isinstance(label, str) and label in codes
