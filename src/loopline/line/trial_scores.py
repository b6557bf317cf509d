"""Out-of-fold predictions of trials: kept small, scored by the line's metric, compared in pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from loopline.data.schema import holds_answer
from loopline.evaluate.intervals import student_tail
from loopline.evaluate.metrics import metric
from loopline.evaluate.rows import Units
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.race import metric_name, observed
from loopline.models.base import Floats
from loopline.seeds import child_seed
from loopline.select.compare import compare_rows
from loopline.splits.spec import FOLD_TRAIN

OUT_OF_FOLD = "out_of_fold.safetensors"
Ints = NDArray[np.int64]


def slim(prediction: Floats) -> NDArray[np.float32]:
    """Predictions at half the size: 32 bits, of a binary task the second class alone."""
    if prediction.ndim == 2 and prediction.shape[1] == 2:
        prediction = prediction[:, 1]
    return np.ascontiguousarray(prediction, dtype=np.float32)


def full(prediction: NDArray[np.float32]) -> Floats:
    """What `slim` stored, as metrics read it; rows of classes sum to 1 again."""
    wide = prediction.astype(np.float64)
    if wide.ndim == 1:
        return wide
    shares: Floats = wide / wide.sum(axis=1, keepdims=True)
    return shares


@dataclass(frozen=True)
class Rival:
    """Predictions of the trial to beat.

    Args:
        rows: positions in the table, rising, shape (rows,).
        prediction: out of fold.
        sample: of the first fold's validation rows, by the model of the sample; None without one.
    """

    rows: Ints
    prediction: Floats
    sample: Floats | None

    @staticmethod
    def open(context: LineContext, prepared: Prepared, artifact: str) -> Rival:
        """Read a complete trial's predictions."""
        del prepared
        arrays = load_file(context.store.get(artifact).path(OUT_OF_FOLD))
        sample = full(arrays["sample"]) if "sample" in arrays else None
        return Rival(arrays["rows"], full(arrays["prediction"]), sample)

    def at(self, rows: Ints) -> Floats:
        """Its predictions of these rows."""
        return self.prediction[np.searchsorted(self.rows, rows)]


class Scorer:
    """The line's metric on some training rows.

    Args:
        context: the line.
        prepared: its rows.
        rows: positions in the table, shape (rows,).
        fold: which model predicted each.
    """

    def __init__(self, context: LineContext, prepared: Prepared, rows: Ints, fold: Ints) -> None:
        self.metric = metric(metric_name(context, prepared))
        self._view = prepared.train.at(rows)
        self._fold = fold
        self._units = Units.build(observed(prepared, self._view), len(rows))
        self._seed = child_seed(context.spec.seed, "search", "compare")

    def value(self, prediction: Floats) -> float:
        """The metric's value; NaN where it is not defined."""
        return float(self.metric.score(self._rows(prediction)).value)

    def chance(self, mine: Floats, other: Floats, slack: float = 0.0) -> float:
        """Chance that `mine` is truly the better one, by the paired difference; 1 if unknown.

        Args:
            mine: predictions of the rows.
            other: those of the rival.
            slack: `mine` counts as better where it is behind by no more than this share of what
                the rival gains over the commonest answer.
        """
        difference = compare_rows(
            self.metric,
            self._rows(full(slim(other))),
            self._rows(full(slim(mine))),
            self._units,
            seed=self._seed,
        )
        if np.isnan(difference.value) or np.isnan(difference.standard_error):
            return 1.0
        behind = difference.value - (slack * self._gain(other) if slack else 0.0)
        if difference.standard_error <= 0:
            return 0.0 if behind > 0 else 1.0
        return student_tail(behind / difference.standard_error, difference.freedom)

    def _gain(self, prediction: Floats) -> float:
        """How much better the metric is than that of one answer for every row; 0 if unknown."""
        y, weight = self._view.target, self._view.weight
        if holds_answer(self._view.schema.task):
            return 0.0
        if prediction.ndim == 1 or y.ndim == 2:  # values, or several labels
            usual = np.average(y, axis=0, weights=weight)
        else:
            counts = np.bincount(y, weights=weight, minlength=prediction.shape[1])
            usual = counts / counts.sum()
        gain = self.value(prediction) - self.value(np.tile(usual, (len(y), *[1] * usual.ndim)))
        return abs(gain) if np.isfinite(gain) else 0.0

    def _rows(self, prediction: Floats) -> Any:
        return self.metric.rows(
            self._view.target, prediction, weight=self._view.weight, folds=self._fold
        )


def fold_sizes(prepared: Prepared) -> tuple[int, int]:
    """How many folds there are, and how many training rows the first one has."""
    folds = prepared.split.folds[prepared.train.positions]
    return folds.shape[1], int((folds[:, 0] == FOLD_TRAIN).sum())
