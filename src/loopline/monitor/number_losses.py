"""Watching a model that predicts a number.

Without labels the loss of a row is taken from reference rows with similar predictions, which
assumes that the relation to the outcome is as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loopline.monitor.losses import TOP, Floats, Losses
from loopline.monitor.reference import Reference

BINS = 10


@dataclass(frozen=True, eq=False)
class NumberLosses(Losses):
    """Losses of rows that have a number each, in units of the usual error.

    Args:
        name: ``absolute error``.
        edges: bins of predictions; None without outcomes.
        by_bin: the mean loss of each bin.
        unit: the reference's mean absolute error.
        top: the largest loss that counts.
    """

    edges: Floats | None = None
    by_bin: Floats | None = None
    unit: float = 1.0
    top: float = np.inf
    states_chances = False

    @staticmethod
    def learn(reference: Reference) -> NumberLosses:
        """See `Losses.learn`."""
        assert reference.prediction is not None
        stated = np.asarray(reference.prediction, dtype=np.float64).reshape(-1)
        if reference.target is None:
            return NumberLosses("absolute error")
        off = np.abs(np.asarray(reference.target, dtype=np.float64) - stated)
        unit = float(off.mean()) or 1.0
        top = max(float(np.quantile(off, TOP)) / unit, 1.0)
        edges = np.unique(np.quantile(stated, np.linspace(0, 1, BINS + 1)[1:-1]))
        place = np.searchsorted(edges, stated)
        loss = np.minimum(off / unit, top)
        sums = np.bincount(place, weights=loss, minlength=edges.size + 1)
        counts = np.bincount(place, minlength=edges.size + 1)
        by_bin = np.where(counts > 0, sums / np.maximum(counts, 1), loss.mean())
        return NumberLosses("absolute error", edges, by_bin, unit, top)

    def of(self, prediction: Floats, outcome: Floats) -> Floats:
        """See `Losses.of`: the absolute error."""
        known = np.isfinite(outcome)
        y = np.where(known, outcome, 0)
        loss = np.minimum(np.abs(y - prediction.reshape(-1)) / self.unit, self.top)
        return np.where(known, loss, np.nan)

    def expected(self, prediction: Floats) -> Floats:
        """See `Losses.expected`: that of reference rows with similar predictions."""
        if self.by_bin is None or self.edges is None:
            return np.full(len(prediction), np.nan)
        return self.by_bin[np.searchsorted(self.edges, prediction.reshape(-1))]

    def residual(self, prediction: Floats, outcome: Floats) -> tuple[Floats, Floats]:
        """See `Losses.residual`: outcome minus prediction, in usual errors; the second is NaN."""
        off = np.clip((outcome - prediction.reshape(-1)) / self.unit, -self.top, self.top)
        return off, np.full_like(off, np.nan)
