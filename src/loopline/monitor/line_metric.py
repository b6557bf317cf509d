"""What a move does to the metric that the line was chosen by, estimated before labels are there.

Each row counts once as every class, with the calibrated probability of that class as its weight;
the line's own metric of these rows is its expectation (CBPE for any metric with a formula). It is
compared with the same expectation over the reference, so what the calibration gets wrong cancels
out. It assumes that outcomes still follow as before, as the expected loss does. Numbers have no
such estimate: from an expected absolute error no RMSE follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loopline.evaluate.calibration import Calibration
from loopline.evaluate.intervals import influence_error
from loopline.evaluate.metrics import Metric
from loopline.evaluate.metrics import metric as read_metric
from loopline.evaluate.rows import Rows, Units
from loopline.monitor.alarm import LineChange
from loopline.monitor.class_losses import ClassLosses
from loopline.monitor.losses import Losses, columns_of
from loopline.monitor.reference import Reference

Floats = NDArray[np.float64]
SAME = {"error": "accuracy", "Brier score": "brier"}
"""Losses that say what these metrics would."""
MOST_ROWS = 20_000
BINS = 20
FEWEST_ROWS = 30
"""With fewer rows than this a metric of a window says nothing."""


@dataclass(frozen=True, eq=False)
class LineMetric:
    """The line's metric, expected from probabilities.

    Args:
        metric: the metric.
        calibration: of the reference's probabilities.
        threshold: where a probability becomes class 1.
        edges: of bins of what is stated.
        counts: reference rows in each bin.
        chances: the mean calibrated probabilities in each bin, (bins, classes).
        usual: what the reference's own predictions let expect; None before that is known.
    """

    metric: Metric
    calibration: Calibration
    threshold: float
    edges: Floats
    counts: Floats
    chances: Floats
    usual: Expected | None = None

    @staticmethod
    def learn(reference: Reference, losses: Losses | None) -> LineMetric | None:
        """From a reference; None where the metric has no such estimate or the loss says the same.

        Args:
            reference: with predictions, and the name of the line's metric.
            losses: as learned from it.
        """
        if reference.prediction is None or not isinstance(losses, ClassLosses):
            return None
        if losses.calibration is None or not reference.metric:
            return None
        if SAME.get(losses.name) == reference.metric:
            return None
        given = columns_of(np.asarray(reference.prediction, dtype=np.float64))
        stated = _stated(given)
        edges = np.unique(np.quantile(stated, np.linspace(0, 1, BINS + 1)[1:-1]))
        place = np.searchsorted(edges, stated)
        counts = np.bincount(place, minlength=edges.size + 1).astype(np.float64)
        chance = losses.calibration.apply(given)
        sums = [np.bincount(place, weights=part, minlength=edges.size + 1) for part in chance.T]
        chances = (np.column_stack(sums) + 1 / given.shape[1]) / (counts[:, None] + 1)
        line = LineMetric(
            read_metric(reference.metric), losses.calibration, losses.threshold, edges, counts,
            chances,
        )  # fmt: skip
        usual = line.expected(given)
        return None if usual is None else replace(line, usual=usual)

    def change(self, prediction: Floats) -> LineChange | None:
        """How far the metric that a window's predictions let expect lies from the usual one.

        Its interval knows that rows are few and that the calibration was learned from few.

        Args:
            prediction: of the window's rows, as the release states them.

        Returns:
            The change with its 95 % interval; None where the window is too small or too uniform.
        """
        found = self.expected(columns_of(np.asarray(prediction, dtype=np.float64)))
        if found is None or self.usual is None or found.rows < FEWEST_ROWS:
            return None
        lean = found.lean - self.usual.lean
        spread = (self.chances * lean**2).sum(axis=1) - (self.chances * lean).sum(axis=1) ** 2
        learned = float((spread / np.maximum(self.counts, 1.0)).sum())
        change = found.value - self.usual.value
        reach = 1.96 * math.sqrt(found.error**2 + self.usual.error**2 + learned)
        return LineChange(
            self.metric.name, self.usual.value, change, change - reach, change + reach
        )

    def expected(self, given: Floats) -> Expected | None:
        """The metric when each row has each class with its calibrated probability.

        Args:
            given: stated probabilities, (rows, classes).
        """
        given = given[np.isfinite(given).all(axis=1)]
        if len(given) > MOST_ROWS:
            given = given[np.linspace(0, len(given) - 1, MOST_ROWS).astype(np.int64)]
        if not len(given):
            return None
        count, classes = given.shape
        chance = np.clip(self.calibration.apply(given), 0.0, 1.0)
        codes = np.tile(np.arange(classes), count)
        stated = np.repeat(given if classes > 2 else given[:, 1], classes, axis=0)
        rows = Rows.build(codes, stated, weight=chance.reshape(-1), threshold=self.threshold)
        scored = self.metric.score(rows)
        if scored.influence is None or not math.isfinite(scored.value):
            return None
        if scored.scale == "calibration":  # of calibrated chances there is none left to estimate
            return None
        units = Units.build(np.repeat(np.arange(count), classes), rows.num_rows)
        place = np.searchsorted(self.edges, _stated(given))
        lean = [
            np.bincount(place, weights=part, minlength=self.edges.size + 1) / count
            for part in scored.influence.reshape(count, classes).T
        ]
        error = influence_error(scored.influence, rows, units)[0]
        return Expected(scored.value, error, np.column_stack(lean), count)


@dataclass(frozen=True, eq=False)
class Expected:
    """An expected metric.

    Args:
        value: of the rows.
        error: its standard error, were the calibration known.
        lean: how far it moves with the chance of each class in each bin, (bins, classes).
        rows: how many.
    """

    value: float
    error: float
    lean: Floats
    rows: int


def _stated(given: Floats) -> Floats:
    """One number a row by which rows with like chances lie side by side."""
    if given.shape[1] == 2:
        return given[:, 1]
    return np.asarray(given.argmax(axis=1) + given.max(axis=1), dtype=np.float64)
