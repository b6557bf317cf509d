"""Can the window's rows be told from the reference's by all columns together?

A classifier that tells them apart better than chance shows a shift (Lopez-Paz and Oquab 2017), also
where each column alone looks as before. It is a ridge regression on ranks, levels, missing cells
and products of the columns that matter most, fitted on every second row and asked about the
others, which costs milliseconds. Days differ, so a classifier tells even normal days apart a
little: what is normal is found by asking the same of stretches of the reference. The odds that it
gives are weights under which the reference's losses become an estimate of the window's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loopline.evaluate.intervals import Estimate, estimate, student_tail
from loopline.monitor.scores import Question

Floats = NDArray[np.float64]
MOST_PRODUCTS = 10
MOST_FEATURES = 200
REFERENCE_ROWS, WINDOW_ROWS = 1_500, 1_000
KEPT_ROWS = 20_000
FEWEST = 40
REPEATS = 24
MOST_WEIGHT = 20.0
_RIDGE = 0.02


@dataclass(frozen=True)
class Telling:
    """How well a window can be told from the reference.

    Args:
        auc: of the classifier, with its interval.
        usual: mean AUC of the reference's own stretches of that size.
        p: chance of so high an AUC without a shift.
        weights: of the reference's rows, so that they look like the window's.
        places: which rows of the reference these are.
    """

    auc: Estimate
    usual: float
    p: float
    weights: Floats = field(repr=False)
    places: NDArray[np.int64] = field(repr=False)


@dataclass(eq=False)
class Joint:
    """Tells windows from the reference.

    Args:
        scores: of the reference's rows, (rows, scores), as `loopline.monitor.scores` makes them.
        time: of its rows; None when unknown.
        products: columns of `scores` whose products are looked at.
        used: columns of `scores` that are looked at.
    """

    scores: Floats
    time: Floats | None
    used: NDArray[np.int64]
    products: NDArray[np.int64]
    _usual: dict[tuple[int, int], tuple[float, float]] = field(default_factory=dict)

    @staticmethod
    def learn(
        scores: Floats,
        time: Floats | None,
        questions: Sequence[Question],
        importance: Sequence[float],
    ) -> Joint:
        """Choose what to look at: the scores of the most important columns."""
        order = np.argsort(-np.asarray(importance), kind="stable")
        used = np.sort(order[:MOST_FEATURES])
        shifts = [int(k) for k in order if questions[int(k)].what in ("shift", "level")]
        return Joint(scores, time, used, np.array(shifts[:MOST_PRODUCTS], dtype=np.int64))

    def tell(self, window: Floats, span_seconds: float) -> Telling | None:
        """How well the window's rows are told from the reference's; None for too few rows."""
        if len(window) < FEWEST or not self.used.size:
            return None
        window = _spaced(window, WINDOW_ROWS)
        places = _places(len(self.scores), REFERENCE_ROWS)
        score, side = self._score(window, self.scores[places])
        rank = _ranked(score)
        auc = estimate("auc", side, rank)
        mean, spread = self._normal(len(window), span_seconds)
        distance = (auc.value - mean) / max(spread, 1e-9)
        weights = _odds(score[len(window) :], score[: len(window)])
        return Telling(auc, mean, student_tail(distance, REPEATS - 1), weights, places)

    def _normal(self, rows: int, span_seconds: float) -> tuple[float, float]:
        """Mean and spread of the AUC over stretches of the reference."""
        size = round(2 * math.log2(rows))
        length = round(2 * math.log2(max(span_seconds, 1.0)))
        if (size, length) not in self._usual:
            self._usual[size, length] = self._resampled(rows, span_seconds)
        return self._usual[size, length]

    def _resampled(self, rows: int, span_seconds: float) -> tuple[float, float]:
        total = len(self.scores)
        found = []
        starts = np.linspace(0, max(total - rows, 0), REPEATS).astype(np.int64)
        for start in starts.tolist():
            stop = start + rows
            if self.time is not None and span_seconds > 0:
                stop = int(np.searchsorted(self.time, self.time[start] + span_seconds))
            stop = max(min(stop, total), start + 2)
            inside = np.arange(start, stop)
            if inside.size < FEWEST:
                inside = np.arange(start, min(start + rows, total))
            part = _spaced(self.scores[inside], rows)
            rest = np.concatenate([np.arange(start), np.arange(stop, total)])
            if rest.size < FEWEST or len(part) < FEWEST // 2:
                continue
            rest = rest[_places(rest.size, REFERENCE_ROWS)]
            score, side = self._score(part, self.scores[rest])
            found.append(_auc(score, side))
        if len(found) < 4:
            return 0.5, 0.5
        spread = float(np.std(found, ddof=1))
        least = math.sqrt((rows + 1) / (12.0 * rows * min(rows, 1_000)))
        return float(np.mean(found)), max(spread, least) * math.sqrt(1 + 1 / len(found))

    def _score(self, window: Floats, reference: Floats) -> tuple[Floats, NDArray[np.int64]]:
        """Out-of-fold scores of both, the window's first, and which side each row is from."""
        both = np.vstack([window, reference])
        side = np.r_[np.ones(len(window), np.int64), np.zeros(len(reference), np.int64)]
        design = self._design(both)
        fold = np.r_[np.arange(len(window)) % 2, np.arange(len(reference)) % 2]
        score = np.empty(len(both))
        for part in (0, 1):
            score[fold == part] = design[fold == part] @ _fit(
                design[fold != part], side[fold != part]
            )
        return score, side

    def _design(self, scores: Floats) -> Floats:
        filled = np.nan_to_num(scores, nan=0.0)
        lead = filled[:, self.products]
        a, b = np.triu_indices(lead.shape[1], 1)
        return np.hstack([filled[:, self.used], lead[:, a] * lead[:, b]])


def joint_rows(num_rows: int) -> NDArray[np.int64]:
    """The reference's rows from which windows are told."""
    return _places(num_rows, KEPT_ROWS)


def _fit(design: Floats, side: NDArray[np.int64]) -> Floats:
    """Ridge regression of the side, both sides with the same weight."""
    shares = np.where(side == 1, 0.5 / max((side == 1).sum(), 1), 0.5 / max((side == 0).sum(), 1))
    mean = shares @ design
    centred = design - mean
    spread = np.sqrt(shares @ centred**2)
    spread[spread < 1e-9] = np.inf
    centred = centred / spread
    weighted = shares[:, None] * centred
    gram = weighted.T @ centred
    gram[np.diag_indices_from(gram)] += _RIDGE * (1 + design.shape[1] / 50)
    slope = np.linalg.solve(gram, weighted.T @ (side - 0.5))
    return np.asarray(slope / spread, dtype=np.float64)


def _auc(score: Floats, side: NDArray[np.int64]) -> float:
    rank = _ranked(score) * score.size + 0.5
    ones = int(side.sum())
    return float((rank[side == 1].sum() - ones * (ones + 1) / 2) / (ones * (side.size - ones)))


def _ranked(score: Floats) -> Floats:
    """Mid-ranks scaled into (0, 1)."""
    ordered = np.sort(score)
    low = np.searchsorted(ordered, score, side="left")
    high = np.searchsorted(ordered, score, side="right")
    return (low + high) / (2 * score.size)


def _odds(reference: Floats, window: Floats) -> Floats:
    """Weights of reference rows: odds of being the window's, by a logistic curve of the score."""
    x = np.r_[window, reference]
    centre, spread = float(x.mean()), float(x.std()) or 1.0
    z = (x - centre) / spread
    y = np.r_[np.ones(window.size), np.zeros(reference.size)]
    share = np.where(y == 1, 0.5 / window.size, 0.5 / reference.size)
    slope = np.zeros(2)
    design = np.column_stack([np.ones_like(z), z])
    for _ in range(15):
        p = 1 / (1 + np.exp(-np.clip(design @ slope, -30, 30)))
        curve = (design * (share * p * (1 - p))[:, None]).T @ design
        curve[np.diag_indices_from(curve)] += 1e-4
        slope = slope + np.linalg.solve(curve, design.T @ (share * (y - p)) - 1e-4 * slope)
    odds = np.exp(np.clip(design[window.size :] @ slope, -10, 10))
    return np.asarray(np.minimum(odds / odds.mean(), MOST_WEIGHT), dtype=np.float64)


def _places(rows: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).round().astype(np.int64))


def _spaced(values: Floats, most: int) -> Floats:
    return values if len(values) <= most else values[_places(len(values), most)]
