"""What the best of many trials would score on rows that did not choose it.

The best score of a search is too good: among many trials some are lucky on these very rows. The
correction needs no further fit. Units of rows are resampled from the out-of-fold predictions of all
complete trials; the best trial on a resample is scored on the units that the resample left out. The
mean of these scores is what the search's winner can be expected to score, and their quantiles are
its interval. That Bayesian proposals learned from these very rows is not seen: of the luck of
random trials nothing measurable is left, of TPE's less than half (`benchmarks/search_optimism.py`).

Source: Tsamardinos, Greasidou & Borboudakis, "Bootstrapping the out-of-sample predictions for
efficient and accurate cross-validation", Machine Learning 2018 (BBC-CV). Where a metric has
influence values, a resample's score is taken from them (exact for means, first order for the AUC),
which makes 400 resamples of 100 trials a matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.evaluate.metrics import Metric
from loopline.evaluate.rows import Floats, Rows, Units

REPEATS, MANY_UNITS_REPEATS = 400, 100
MANY_UNITS = 50_000
"""So many units shift less from one resample to the next: fewer of them say as much."""
EXACT_REPEATS = 100
EXACT_TRIALS = 20
"""Metrics without influence values are scored anew on every resample, for the best trials only."""
_BLOCK_CELLS = 2_000_000


@dataclass(frozen=True)
class Optimism:
    """The best score of a search, and what it is worth.

    Args:
        best: the best trial's score on the rows that chose it.
        corrected: the expected score of a winner on rows that did not choose it.
        low: lower end of its 95 % interval.
        high: upper end.
        num_trials: complete trials among which the best was chosen.
        optimism: by how much the best score is too good, in the metric's unit, at least 0.
    """

    best: float
    corrected: float
    low: float
    high: float
    num_trials: int
    optimism: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def corrected(
    metric: Metric, trials: Sequence[Rows], units: Units, *, seed: int
) -> Optimism | None:
    """Correct the best score for having been chosen.

    Args:
        metric: by which the best is chosen.
        trials: the same rows with the out-of-fold predictions of each complete trial.
        units: which rows are one unit.
        seed: of the resamples.

    Returns:
        None when there are fewer than two trials or ten units, or no trial has a score.

    >>> from loopline.evaluate.metrics import metric as read
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, 300)
    >>> guesses = [Rows.build(y, rng.random(300)) for _ in range(40)]
    >>> found = corrected(read("auc"), guesses, Units.build(None, 300), seed=0)
    >>> found.best > 0.55, abs(found.corrected - 0.5) < 0.03
    (True, True)
    """
    scored = [metric.score(rows) for rows in trials]
    usable = [number for number, each in enumerate(scored) if not math.isnan(each.value)]
    if len(usable) < 2 or units.count < 10:
        return None
    values = metric.sign * np.array([scored[number].value for number in usable])
    if all(scored[number].influence is not None for number in usable):
        influence = [scored[number].influence for number in usable]
        held = _by_influence(values, influence, trials[usable[0]], units, metric.sign, seed)
    else:
        best_first = np.argsort(-values, kind="stable")[:EXACT_TRIALS]
        held = _by_scoring(metric, [trials[usable[place]] for place in best_first], units, seed)
    held = held[np.isfinite(held)]
    if held.size < 10:
        return None
    best = float(values.max())
    mean = min(best, float(held.mean()))
    low, high = np.quantile(held, [0.025, 0.975])
    ends = sorted((metric.sign * float(low), metric.sign * float(high)))
    return Optimism(
        metric.sign * best, metric.sign * mean, ends[0], ends[1], len(usable), best - mean
    )


def _by_influence(
    values: Floats,
    influence: Sequence[NDArray[Any] | None],
    rows: Rows,
    units: Units,
    sign: float,
    seed: int,
) -> Floats:
    """Scores of the units left out, from sums of influence values within units."""
    parts = [sign * rows.weight * each for each in influence if each is not None]
    sums = np.stack([units.sums(part) for part in parts], axis=1)
    mass = units.sums(rows.weight)
    rng = np.random.default_rng(seed)
    repeats = REPEATS if units.count <= MANY_UNITS else MANY_UNITS_REPEATS
    block = max(1, _BLOCK_CELLS // units.count)
    held = []
    for start in range(0, repeats, block):
        draws = _draws(rng, min(block, repeats - start), units.count)
        inside = values + (draws @ sums) / (draws @ mass)[:, None]
        winner = inside.argmax(axis=1)
        out = (draws == 0).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            outside = values + (out @ sums) / (out @ mass)[:, None]
        held.append(outside[np.arange(len(winner)), winner])
    return np.concatenate(held)


def _by_scoring(metric: Metric, trials: Sequence[Rows], units: Units, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    held = []
    for _ in range(EXACT_REPEATS):
        draw = _draws(rng, 1, units.count)[0]
        weight = trials[0].weight * units.spread(draw)
        inside = [metric.sign * metric.score(rows.reweighted(weight)).value for rows in trials]
        if all(math.isnan(value) for value in inside):
            continue
        winner = trials[int(np.nanargmax(inside))]
        rest = winner.weight * units.spread((draw == 0).astype(np.float64))
        if rest.sum() > 0:
            held.append(metric.sign * metric.score(winner.reweighted(rest)).value)
    return np.array(held, dtype=np.float64)


def _draws(rng: np.random.Generator, repeats: int, count: int) -> Floats:
    """How often each unit is in each resample, shape (repeats, units)."""
    return np.stack(
        [
            np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float64)
            for _ in range(repeats)
        ]
    )
