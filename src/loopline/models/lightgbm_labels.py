"""What LightGBM learns where a row has several labels: one tree a label in each round.

LightGBM's own objectives know one class a row, so the gradient is given to it: that of the binary
cross-entropy of each label. All labels share the rounds, as they share the penalty of the linear
family; the rounds stop on the mean loss of held-out rows over labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.models.base import Floats
from loopline.models.probability import separate_probabilities
from loopline.models.table import Matrix

_LEAST_HESSIAN = 1e-16


def label_base(part: Matrix) -> Floats:
    """The log odds of each label's share, from which the trees start; half a row each way.

    Shape (labels,).
    """
    rows = part.target.shape[0]
    share = np.average(part.target, axis=0, weights=part.weight)
    odds: Floats = np.log((share * rows + 0.5) / ((1.0 - share) * rows + 0.5))
    return odds


@dataclass(frozen=True)
class LabelGoal:
    """Labels of some rows as LightGBM's callbacks want them.

    Args:
        target: 0 and 1, shape (rows, labels).
        weight: shape (rows,), or None where rows count alike.
        base: as `label_base` gives it, of the training rows.
    """

    target: NDArray[np.int8]
    weight: Floats | None
    base: Floats

    @staticmethod
    def of(part: Matrix, base: Floats) -> LabelGoal:
        """The labels of a matrix's rows."""
        return LabelGoal(part.target, part.weight, base)

    @property
    def data(self) -> Mapping[str, Any]:
        """Label, weight and first scores for LightGBM's `Dataset`; the label stands for nothing."""
        rows = self.target.shape[0]
        return {
            "label": np.zeros(rows),
            "weight": None,
            "init_score": np.tile(self.base, (rows, 1)),
        }

    def gradient(self, scores: Floats, data: Any) -> tuple[Floats, Floats]:
        """First and second derivative of the loss, shape (rows, labels)."""
        del data
        chance = separate_probabilities(scores)
        slope, bend = chance - self.target, np.maximum(chance * (1.0 - chance), _LEAST_HESSIAN)
        if self.weight is None:
            return slope, bend
        return slope * self.weight[:, None], bend * self.weight[:, None]

    def loss(self, scores: Floats, data: Any) -> tuple[str, float, bool]:
        """Log loss of the rows, the mean over labels; smaller is better."""
        del data
        losses = (np.logaddexp(0.0, scores) - self.target * scores).mean(axis=1)
        return "log_loss", float(np.average(losses, weights=self.weight)), False
