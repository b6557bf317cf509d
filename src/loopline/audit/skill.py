"""What one column alone tells of the label, by means that are cross-fitted and never in sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.audit.alike import value_codes
from loopline.audit.crossfit import assign_folds
from loopline.data.schema import Task
from loopline.evaluate.intervals import Estimate, estimate
from loopline.splits.views import TrainView

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BINS = 256
ROWS_PER_BIN = 20
PRIOR_ROWS = 2.0
"""A value's mean is drawn to the overall mean as if by so many more rows."""
MAX_CELLS = 20_000_000


@dataclass(frozen=True)
class Skill:
    """How well something foretells the label.

    Args:
        value: 0 is chance and 1 perfect: 2·AUC - 1 (two classes), accuracy beyond the most frequent
            class (several), R² (regression); at least 0.
        estimate: the AUC, the accuracy or R² with its interval.
        metric: which of them.
    """

    value: float
    estimate: Estimate
    metric: str

    @property
    def error(self) -> float:
        """What is left to perfect, 0 to 1."""
        return 1.0 - self.value

    def told(self) -> str:
        """For a sentence.

        >>> Skill(0.9, Estimate(0.95, 0.94, 0.96, "", 10), "auc").told()
        'AUC 0.950'
        """
        names = {"auc": "AUC", "accuracy": "accuracy", "r2": "R²"}
        return f"{names[self.metric]} {self.estimate.value:.3f}"


def skill_of(task: Task, y: NDArray[Any], said: NDArray[Any], units: Ints | None = None) -> Skill:
    """Rate predictions.

    Args:
        task: decides on the measure.
        y: class codes or values, shape (rows,).
        said: a score (two classes), a class code (several) or a value, shape (rows,).
        units: rows that count once together in the interval.

    >>> skill_of("binary", np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])).value
    1.0
    """
    if task == "binary":
        low, high = (float(said.min()), float(said.max())) if said.size else (0.0, 0.0)
        scaled = (said - low) / (high - low) if high > low else np.full(said.shape, 0.5)
        found = estimate("auc", y, scaled, units=units)
        value = 2.0 * found.value - 1.0
    elif task == "multiclass":
        right = (y == said).astype(np.float64)
        found = estimate("accuracy", np.ones(y.size, dtype=np.int64), right, units=units)
        most = float(np.bincount(y).max()) / y.size
        value = (found.value - most) / (1.0 - most) if most < 1.0 else 0.0
    else:
        found = estimate("r2", y, said, units=units)
        value = found.value
    value = 0.0 if math.isnan(value) else min(1.0, max(0.0, value))
    return Skill(value, found, {"binary": "auc", "multiclass": "accuracy"}.get(task, "r2"))


class Skills:
    """Single columns of one training view, rated on the same folds.

    Args:
        view: training rows (a sample, where the table is large).
        seed: of the folds.
    """

    def __init__(self, view: TrainView, seed: int = 0) -> None:
        self.view = view
        self.task = view.schema.task
        self.y = view.target
        self.fold = assign_folds(view, view.units, seed=seed)

    def of_series(self, series: pl.Series) -> Skill:
        """What a column tells: its values where they are few or words, else its order in bins.

        Of two classes a number may also tell by its order alone, which takes no fit; a number is
        told by a straight line as well, which needs far fewer rows than bins do.
        """
        best = self.of_codes(binned(series))
        if self.task == "multiclass" or not series.dtype.is_numeric():
            return best
        ranks = series.rank("average").fill_null(0.5 * series.len()).to_numpy()
        if self.task == "binary":
            skill = skill_of(self.task, self.y, ranks, self.view.units)
            if skill.estimate.value < 0.5:  # falling: as much above a half the other way round
                skill = skill_of(self.task, self.y, -ranks, self.view.units)
            return skill if skill.value > best.value else best
        for each in (self.by_line(ranks), self.by_line(_filled(series))):
            skill = skill_of(self.task, self.y, each, self.view.units)
            best = skill if skill.value > best.value else best
        return best

    def by_line(self, values: Floats) -> Floats:
        """What a straight line through the other folds' rows says of each row.

        Args:
            values: finite, shape (rows,).
        """
        y = self.y.astype(np.float64)
        said = np.zeros(values.size)
        for fold in range(int(self.fold.max(initial=0)) + 1):
            here = self.fold == fold
            if here.all():
                continue
            x, label = values[~here], y[~here]
            middle, mean = x.mean(), label.mean()
            spread = float((x - middle) @ (x - middle))
            slope = float((x - middle) @ (label - mean)) / spread if spread > 0 else 0.0
            said[here] = mean + slope * (values[here] - middle)
        return said

    def of_codes(self, codes: Ints) -> Skill:
        """What a code for each row tells, shape (rows,)."""
        return skill_of(self.task, self.y, self.foretold(codes), self.view.units)

    def foretold(self, codes: Ints) -> NDArray[Any]:
        """What the other folds' rows of a row's code say.

        Args:
            codes: a code for each row, shape (rows,).

        Returns:
            Their mean label (several classes: their most frequent one), shape (rows,).
        """
        number = int(codes.max(initial=0)) + 1
        if self.task == "multiclass":
            return self._most_frequent(codes, number)
        y = self.y.astype(np.float64)
        said = np.zeros(codes.size)
        for fold in range(int(self.fold.max(initial=0)) + 1):
            here = self.fold == fold
            mean = float(y[~here].mean()) if (~here).any() else 0.0
            counts = np.bincount(codes[~here], minlength=number)
            sums = np.bincount(codes[~here], y[~here], minlength=number)
            said[here] = ((sums + PRIOR_ROWS * mean) / (counts + PRIOR_ROWS))[codes[here]]
        return said

    def _most_frequent(self, codes: Ints, number: int) -> Ints:
        num_classes = int(self.y.max(initial=0)) + 1
        said = np.zeros(codes.size, dtype=np.int64)
        if number * num_classes > MAX_CELLS:
            return said + int(np.argmax(np.bincount(self.y)))
        for fold in range(int(self.fold.max(initial=0)) + 1):
            here = self.fold == fold
            cells = np.bincount(
                codes[~here] * num_classes + self.y[~here], minlength=number * num_classes
            ).reshape(number, num_classes)
            usual = int(np.argmax(cells.sum(axis=0)))
            best = np.where(cells.sum(axis=1) > 0, cells.argmax(axis=1), usual)
            said[here] = best[codes[here]]
        return said


def _filled(series: pl.Series) -> Floats:
    """A number column with its median where it is empty, its extremes drawn in."""
    values = series.cast(pl.Float64).fill_null(np.nan).to_numpy()
    known = values[np.isfinite(values)]
    if not known.size:
        return np.zeros(values.size)
    low, middle, high = np.quantile(known, (0.001, 0.5, 0.999))
    return np.asarray(np.clip(np.where(np.isfinite(values), values, middle), low, high))


def binned(series: pl.Series) -> Ints:
    """Codes of a column's values; numbers and times with many values in bins of equal size.

    >>> binned(pl.Series(["b", None, "a", "b"]))
    array([0, 1, 2, 0])
    """
    if series.dtype.is_nested() or series.dtype in (pl.Object(), pl.Binary()):
        return np.zeros(series.len(), dtype=np.int64)
    codes = value_codes(series)
    number = int(codes.max(initial=-1)) + 1
    bins = min(BINS, max(2, series.len() // ROWS_PER_BIN))
    ordered = series.dtype.is_numeric() or series.dtype.is_temporal()
    if not ordered or number <= bins:
        return codes
    ranks = series.rank("min").cast(pl.Float64).fill_null(0.0).to_numpy()
    return value_codes(pl.Series(np.ceil(ranks * bins / max(1, series.len()))))
