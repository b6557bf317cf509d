"""How many labels are wrong: the share that stays wrong where the model is surest.

Counting disagreements over all rows mixes wrong labels with hard rows. Wrong labels remain where
classes no longer overlap, hard rows do not; so the rate is read off the rows that the model is
surest of, class by class, as deep as it stays the same, and extrapolated to the very surest. The
idea is that of anchor points (Liu and Tao, "Classification with Noisy Labels by Importance
Reweighting", TPAMI 2016); the depth is chosen as in Lepski's method: as far as the interval agrees
with all shallower ones.

**What it assumes.** Labels are wrong as often on easy rows as on hard ones of the same class. Where
people err mostly on hard rows, the rate is too low, and the ranked list has more to offer than it
says. `benchmarks/label_errors.py` measures the coverage of the interval at planted noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopline.evaluate.intervals import LEVEL, Estimate, student_quantile
from loopline.evaluate.rows import Units
from loopline.seeds import child_seed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
REPEATS = 100
MAX_ROWS = 100_000
"""Rows that the rate is read off; more would make the interval shorter, hardly truer."""
FEWEST_ROWS = 100
FEWEST_PER_CLASS = 5
FEWEST_SHARE = 0.02
GROWTH = 1.3
SOLVED_CLASSES = 100
"""Classes up to which the shares of the true classes are solved for; beyond, the given ones do."""
METHOD = "surest rows, bootstrap over units"


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows with their depth: 0 for the surest of their predicted class, 1 for the least sure."""

    best: Ints
    given: Ints
    depth: Floats
    num_classes: int

    def rates(self, depth: float, weight: Floats) -> tuple[float, float]:
        """Share of wrong labels down to a depth, and extrapolated to depth 0."""
        rows = np.flatnonzero(self.depth <= depth)
        best, heavy = self.best[rows], weight[rows]
        counts = _sums(best, heavy, self.num_classes)
        shares = self._true_shares(rows, heavy, counts, weight)
        pull = heavy * (shares / np.maximum(counts, 1e-300))[best]
        total = float(pull.sum())
        if total <= 0.0:
            return 0.0, 0.0
        pull /= total
        wrong = best != self.given[rows]
        at = self.depth[rows]
        mean, rate = float(pull @ at), float(pull @ wrong)
        spread = float(pull @ (at - mean) ** 2)
        slope = float(pull @ ((at - mean) * wrong)) / spread if spread > 0 else 0.0
        return rate, rate - slope * mean

    def _true_shares(self, rows: Ints, heavy: Floats, counts: Floats, weight: Floats) -> Floats:
        """Share of each true class: given shares = mixing of true shares, solved for the latter."""
        size = self.num_classes
        given = _sums(self.given, weight, size)
        given /= given.sum()
        if size > SOLVED_CLASSES:
            return np.asarray(np.where(counts > 0, given, 0.0))
        cells = self.best[rows] * size + self.given[rows]
        mixing = _sums(cells, heavy, size * size).reshape(size, size)
        seen = counts > 0
        mixing[seen] /= counts[seen, None]
        mixing[~seen] = np.eye(size)[~seen]
        solved = np.linalg.lstsq(mixing.T, given, rcond=None)[0].clip(0.0)
        return np.asarray(solved / solved.sum())


def class_noise(
    best: Ints, sure: Floats, given: Ints, units: Ints, num_classes: int, seed: int
) -> Estimate:
    """The share of wrong labels with its interval.

    The interval's upper end belongs to the depth that was chosen, the lower end to whichever is
    lower of that depth and of the extrapolation, so a depth chosen too deep does not turn hard
    rows into wrong labels.

    Args:
        best: most probable class of each row, shape (rows,).
        sure: its probability.
        given: class codes of the labels.
        units: rows that count together.
        num_classes: number of classes.
        seed: of sampling and bootstrap.
    """
    rng = np.random.default_rng(child_seed(seed, "label noise"))
    groups = Units.build(units, given.size)
    if given.size > MAX_ROWS:
        drawn = groups.spread(rng.random(groups.count)) < MAX_ROWS / given.size
        best, sure, given, units = best[drawn], sure[drawn], given[drawn], units[drawn]
        groups = Units.build(units, given.size)
    rows = _Rows(best, given, _depths(best, sure, num_classes), num_classes)
    depth = _chosen_depth(rows)
    rate, limit = rows.rates(depth, np.ones(given.size))
    repeats = np.array(
        [
            rows.rates(depth, groups.spread(rng.poisson(1.0, groups.count).astype(np.float64)))
            for _ in range(REPEATS)
        ]
    )
    used = int((rows.depth <= depth).sum())
    errors = np.maximum(repeats.std(axis=0), np.sqrt(0.5) / used)
    freedom = float(max(1, groups.count - 1))
    step = student_quantile((1 + LEVEL) / 2, freedom) * errors
    note = "" if used >= FEWEST_ROWS else f"read off {used} rows only"
    return Estimate(
        value=rate,
        low=max(0.0, min(rate - step[0], limit - step[1])),
        high=min(1.0, rate + float(step[0])),
        method=METHOD,
        num_units=groups.count,
        standard_error=float(errors[0]),
        freedom=freedom,
        note=note,
    )


def _sums(codes: Ints, values: Floats, size: int) -> Floats:
    return np.asarray(np.bincount(codes, weights=values, minlength=size), dtype=np.float64)


def _depths(best: Ints, sure: Floats, num_classes: int) -> Floats:
    order = np.lexsort((np.arange(best.size), -sure, best))
    counts = np.bincount(best, minlength=num_classes)
    first = np.cumsum(counts) - counts
    depth = np.empty(best.size)
    mine = best[order]
    depth[order] = (np.arange(best.size) - first[mine] + 0.5) / counts[mine]
    return depth


def _chosen_depth(rows: _Rows) -> float:
    """As deep as the rate agrees with every shallower one within one standard error."""
    size = rows.given.size
    even = np.ones(size)
    classes = np.unique(rows.best).size
    least = max(FEWEST_ROWS / size, FEWEST_PER_CLASS * classes / size, FEWEST_SHARE)
    depth = chosen = min(1.0, least)
    roof = np.inf
    while True:
        rate, _ = rows.rates(depth, even)
        used = int((rows.depth <= depth).sum())
        error = np.sqrt(rate * (1.0 - rate) * used + 0.5) / max(used, 1)
        if rate - error > roof:
            return chosen
        roof, chosen = min(roof, rate + error), depth
        if depth >= 1.0:
            return chosen
        depth = min(1.0, depth * GROWTH)
