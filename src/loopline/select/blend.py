"""Weights of a blend, chosen on out-of-fold predictions, and what such a blend truly scores.

Weights that are chosen on the rows they are scored on flatter themselves. So the predictions by
which a blend races are cross-fitted: those of a fold's rows use weights that were chosen on the
other folds (where folds follow each other in time on the earlier ones only, but for the first
fold). The blend that is released uses weights of all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.evaluate.metrics import Metric
from loopline.evaluate.rows import Floats
from loopline.models.portable_blend import Combiner, logarithms

GREEDY_STEPS = 40
PATIENCE = 5
"""Steps without a better score after which the greedy selection ends."""
MOST_ROWS = 20_000
"""Rows on which the greedy selection scores: its choice does not get better by more."""
SHRINKAGE = 10.0
"""Rows' worth of pull of the stacked weights towards an even mean."""

Fit = Callable[
    [Sequence[Floats], NDArray[Any], "NDArray[Any] | None", "NDArray[Any] | None"], Combiner
]


def cross_fitted(
    fit: Fit,
    predictions: Sequence[Floats],
    y: NDArray[Any],
    folds: NDArray[np.int64],
    *,
    weight: NDArray[Any] | None = None,
    forward: bool = False,
) -> tuple[Floats, list[Combiner], Combiner]:
    """Honest out-of-fold predictions of a blend, each fold's combiner, and the one of all rows.

    Args:
        fit: chooses a combiner for predictions, targets, folds and weights of some rows.
        predictions: one array a member, out of fold, of shape (rows, classes) or (rows,).
        y: class codes or values, shape (rows,).
        folds: the fold of each row, from 0.
        weight: weight of each row.
        forward: folds follow each other in time: a fold's combiner is chosen on earlier ones. The
            first one's is chosen on the later ones, as its members' parameters are; an even mean
            of good members and bad ones would stand against members that had been chosen.
    """
    even = Combiner("mean", tuple(1 / len(predictions) for _ in predictions))
    combined = np.empty_like(predictions[0])
    combiners = []
    for fold in range(int(folds.max()) + 1):
        known = folds < fold if forward and fold > 0 else folds != fold
        combiner = even
        if known.any():
            combiner = fit(
                [each[known] for each in predictions],
                y[known],
                folds[known],
                None if weight is None else weight[known],
            )
        here = folds == fold
        combined[here] = combiner.apply([each[here] for each in predictions])
        combiners.append(combiner)
    return combined, combiners, fit(predictions, y, folds, weight)


def greedy(metric: Metric, seed: int) -> Fit:
    """Greedy selection with replacement: the member that helps the metric most, again and again."""

    def fit(
        predictions: Sequence[Floats],
        y: NDArray[Any],
        folds: NDArray[Any] | None,
        weight: NDArray[Any] | None,
    ) -> Combiner:
        rows = _sample(len(y), seed)
        members = [each[rows] for each in predictions]
        part = None if folds is None else folds[rows]
        weights = None if weight is None else weight[rows]

        def score(combined: Floats) -> float:
            found = metric.score(metric.rows(y[rows], combined, weight=weights, folds=part)).value
            return -np.inf if np.isnan(found) else metric.sign * found

        return Combiner("mean", _selected(members, score))

    return fit


def _selected(members: Sequence[Floats], score: Callable[[Floats], float]) -> tuple[float, ...]:
    counts = np.zeros(len(members))
    total = np.zeros_like(members[0])
    best, best_counts, since = -np.inf, counts, 0
    for step in range(1, GREEDY_STEPS + 1):
        scores = [score((total + member) / step) for member in members]
        place = int(np.argmax(scores))
        counts = counts.copy()
        counts[place] += 1
        total = total + members[place]
        if scores[place] > best + 1e-12:
            best, best_counts, since = scores[place], counts, 0
        else:
            since += 1
        if since >= PATIENCE:
            break
    if not best_counts.any():
        best_counts = np.ones(len(members))
    return tuple(float(count) for count in best_counts / best_counts.sum())


def _sample(num_rows: int, seed: int) -> NDArray[np.int64]:
    if num_rows <= MOST_ROWS:
        return np.arange(num_rows)
    drawn = np.random.default_rng(seed).choice(num_rows, MOST_ROWS, replace=False)
    return np.sort(drawn)


def stacked(
    predictions: Sequence[Floats],
    y: NDArray[Any],
    folds: NDArray[Any] | None,
    weight: NDArray[Any] | None,
) -> Combiner:
    """A linear model on the members' predictions, pulled towards their even mean.

    For classes: softmax of a weighted sum of log probabilities, by least log loss. For values:
    least squares. Both with an intercept.
    """
    del folds
    weights = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)
    if predictions[0].ndim == 1:
        return _stacked_values(predictions, y, weights)
    return _stacked_classes(predictions, y, weights)


def _stacked_values(predictions: Sequence[Floats], y: NDArray[Any], weight: Floats) -> Combiner:
    matrix = np.column_stack(predictions)
    centre, target = np.average(matrix, axis=0, weights=weight), np.average(y, weights=weight)
    off, wanted = matrix - centre, y - target
    count = matrix.shape[1]
    even = np.full(count, 1 / count)
    spread = np.average(np.square(off), axis=0, weights=weight).mean()
    gram = (off * weight[:, None]).T @ off + SHRINKAGE * spread * np.eye(count)
    right = (off * weight[:, None]).T @ wanted + SHRINKAGE * spread * even
    solved = np.linalg.solve(gram, right)
    return Combiner("linear", tuple(solved.tolist()), (float(target - centre @ solved),))


def _stacked_classes(predictions: Sequence[Floats], y: NDArray[Any], weight: Floats) -> Combiner:
    from scipy.optimize import minimize

    scores = np.stack([logarithms(each) for each in predictions])
    count, num_rows, classes = scores.shape
    even = np.full(count, 1 / count)
    places = np.arange(num_rows)
    total = weight.sum()

    def loss(x: Floats) -> tuple[float, Floats]:
        raw = np.tensordot(x[:count], scores, axes=1) + x[count:]
        raw -= raw.max(axis=1, keepdims=True)
        shares = np.exp(raw)
        shares /= shares.sum(axis=1, keepdims=True)
        pull = SHRINKAGE / total
        value = -(weight * np.log(np.maximum(shares[places, y], 1e-300))).sum() / total
        value += 0.5 * pull * (np.square(x[:count] - even).sum() + np.square(x[count:]).sum())
        shares[places, y] -= 1
        shares *= (weight / total)[:, None]
        slope = np.tensordot(scores, shares, axes=([1, 2], [0, 1])) + pull * (x[:count] - even)
        return float(value), np.concatenate([slope, shares.sum(axis=0) + pull * x[count:]])

    start = np.concatenate([even, np.zeros(classes)])
    found = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return Combiner("linear", tuple(found[:count].tolist()), tuple(found[count:].tolist()))
