"""How far a window's mean may lie from the reference's by chance, at any window size.

Every question to a column is the mean of a score over the window's rows: a rank, a distance from
the middle rank, whether a cell is missing, whether a level stands in it, a loss. Under a bootstrap
of the reference's own days and weeks the variance of such a mean has a closed form, so no draw is
needed, and it holds for windows of any size and any pattern of traffic:

    var(mean of n rows) = w² / n + Σ over lengths of t² · Σ over blocks (rows in block / n)²

where t² is what rows of the same hour, day or week share (a nested random effect, by the mean
product of pairs of rows, as in analysis of variance), and w² is what remains. What the season
explains is taken off first. The reference's own error is added. Chances of far tails come from
Student's t, with the degrees of freedom of the blocks that carry the variance (Satterthwaite 1946),
and a gamma law for the skewness of the mean, which is close for counts of rare events: 1e-6 needs
no million resamples. What it cannot know: changes slower than the reference is long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopline.monitor.clock import DAY, HOUR, Clock, Crowd, Floats, Ints, Span, Trail

FARTHEST = 1e6
"""Standard errors beyond which chances are no longer told apart."""
FEW_BLOCKS = 6.0
"""With so many of the longest blocks, the error of what they share is counted twice."""


@dataclass(frozen=True, eq=False)
class Law:
    """What is normal of some scores; every array has one entry a score in its last place.

    Args:
        clock: how time is cut.
        mean: of the reference.
        season: for each part of the season, the effect of each cell, (cells, scores).
        within: variance that rows have of their own.
        shared: variance that rows of one block share, (lengths, scores).
        skew: skewness of a row's score.
        rows: rows of the reference that have the score.
        freedom: degrees of freedom of each length's variance.
        own_shared: the reference's own crowding, (lengths,).
        cell_rows: for each part of the season, share of the reference's rows in each cell.
    """

    clock: Clock
    mean: Floats
    season: tuple[Floats, ...]
    within: Floats
    shared: Floats
    skew: Floats
    rows: Floats
    freedom: Floats
    own_shared: Floats
    cell_rows: tuple[Floats, ...]

    @staticmethod
    def learn(scores: Floats, clock: Clock, time: Floats | None) -> Law:
        """From the scores of the reference's rows.

        Args:
            scores: (rows, scores), NaN where a row has none.
            clock: how time is cut.
            time: of the rows, rising; None when unknown.
        """
        known = np.isfinite(scores)
        count = known.sum(axis=0).astype(np.float64)
        safe = np.maximum(count, 1.0)
        rest = np.where(known, scores, 0.0)
        mean = rest.sum(axis=0) / safe
        rest = np.where(known, rest - mean, 0.0)
        cells = clock.cells(time)
        season = _season(rest, cells, clock.cell_sizes, safe / len(scores))
        for codes, effect in zip(cells, season, strict=True):
            rest -= effect[codes] * known
        square = (rest**2).sum(axis=0)
        total = np.maximum(square / safe, _least(scores, safe))
        skew = (rest * rest * rest).sum(axis=0) / safe / total**1.5
        levels = clock.blocks(time, 0, len(scores))
        shared, freedom = _shared(rest, known, levels, clock, square, total)
        trail = Trail()
        trail.add(Span.of(clock, time, 0, len(scores)))
        own = trail.crowd([1])
        return Law(
            clock,
            mean,
            tuple(season),
            np.maximum(total - shared.sum(axis=0), 0.05 * total),
            shared,
            skew,
            count,
            freedom,
            own.shared[0],
            tuple(cell[0] for cell in own.cells),
        )

    @staticmethod
    def side_by_side(laws: Sequence[Law]) -> Law:
        """Several scores' laws of one reference as one."""
        first = laws[0]
        return Law(
            first.clock,
            np.concatenate([law.mean for law in laws]),
            tuple(np.hstack(parts) for parts in zip(*(law.season for law in laws), strict=True)),
            np.concatenate([law.within for law in laws]),
            np.hstack([law.shared for law in laws]),
            np.concatenate([law.skew for law in laws]),
            np.concatenate([law.rows for law in laws]),
            first.freedom,
            first.own_shared,
            first.cell_rows,
        )

    def expected(self, span: Span) -> Floats:
        """The mean that the reference expects of rows at such times."""
        expected = self.mean.copy()
        for counts, effect in zip(span.cells, self.season, strict=False):
            if counts.sum():
                expected += (counts / counts.sum()) @ effect
        return expected

    def variance(self, crowd: Crowd, count: Floats, sparse: Floats) -> tuple[Floats, Floats]:
        """Variance of the difference between a window's mean and the expected one.

        Args:
            crowd: when the rows of each look-back were.
            count: rows that have each score, (look-backs, scores).
            sparse: how many times more rows the look-back has than its windows that have the
                score at all, >= 1, (look-backs, scores): so much fewer blocks it comes from.

        Returns:
            The variance, and its degrees of freedom, both (look-backs, scores).
        """
        rarity = [
            (cells**2 / np.maximum(share, 1e-9)).sum(axis=1)
            for cells, share in zip(crowd.cells, self.cell_rows, strict=False)
        ]
        ones = np.ones(len(count))
        rare = np.max([ones, *rarity], axis=0)
        by_day = np.maximum(rarity[-1], 1.0) if self.clock.weekdays and rarity else ones
        theirs, ours = crowd.shared, self.own_shared * self._rarity(rare, by_day)
        own = np.minimum(rare[:, None] / np.maximum(self.rows, 1.0), 1.0)
        variance = self.within * (1 / np.maximum(count, 1.0) + own)
        variance = variance + sparse * (theirs @ self.shared) + ours @ self.shared
        with np.errstate(divide="ignore", invalid="ignore"):
            both = theirs[:, None, :] * sparse[:, :, None] + ours[:, None, :]
            carried = ((both * self.shared.T) ** 2 / self.freedom).sum(axis=2)
            freedom = np.where(carried > 0, variance**2 / carried, np.inf)
        return variance, freedom

    def tail(self, distance: Floats, variance: Floats, freedom: Floats, count: Floats) -> Floats:
        """Chance that a difference lies at least so far above 0 (below, for negative ones)."""
        total = self.within + self.shared.sum(axis=0)
        z = np.clip(distance / np.sqrt(variance), -FARTHEST, FARTHEST)
        third = self.skew * total**1.5 / np.maximum(count, 1.0) ** 2
        return tail(np.abs(z), freedom, np.sign(z) * third / variance**1.5)

    def _rarity(self, rare: Floats, by_day: Floats) -> Floats:
        """How many times fewer blocks the expected mean of such hours and days comes from."""
        ones = np.ones_like(rare)
        by_length = {HOUR: rare, DAY: by_day} if self.clock.timed else {}
        columns = [by_length.get(length, ones) for length in self.clock.lengths]
        return np.array(columns).T.reshape(len(rare), len(columns))


def tail(z: Floats, freedom: Floats, skew: Floats) -> Floats:
    """Chance that a standardised mean exceeds `z` >= 0: Student's t with a skewness.

    >>> tail(np.array([1.6449]), np.array([np.inf]), np.array([0.0])).round(4)
    array([0.05])
    """
    from scipy.special import gammainc, gammaincc, ndtr, ndtri, stdtr

    finite = np.isfinite(freedom)
    student = stdtr(np.where(finite, np.maximum(freedom, 1.0), 1e9), -z)
    told = finite & (student > 1e-300)
    normal = np.where(told, -ndtri(np.clip(student, 1e-300, 0.5)), z)
    bent = np.where(np.abs(skew) < 1e-3, 1e-3, np.abs(skew))
    shape = 4 / bent**2
    above = gammaincc(shape, shape + normal * np.sqrt(shape))
    below = gammainc(shape, np.maximum(shape - normal * np.sqrt(shape), 0.0))
    skewed = np.where(skew > 0, above, below)
    return np.asarray(np.where(np.abs(skew) < 1e-3, ndtr(-normal), skewed), dtype=np.float64)


def _least(scores: Floats, count: Floats) -> Floats:
    """A variance that even a score which never moved may have: one row in the reference's many."""
    spread = np.maximum(np.nanmax(np.abs(scores), axis=0, initial=0.0), 1.0)
    return np.asarray(spread**2 / (count + 2.0), dtype=np.float64)


def _season(rest: Floats, cells: list[Ints], sizes: list[int], share: Floats) -> list[Floats]:
    """Effects of hours and weekdays together, by least squares over their cells."""
    if not cells:
        return []
    joint = np.ravel_multi_index(tuple(cells), tuple(sizes))
    size = int(np.prod(sizes))
    counts = np.bincount(joint, minlength=size).astype(np.float64)
    sums = _sums_by(rest, joint, size)
    design = np.zeros((size, sum(sizes)))
    offset = 0
    for part, codes in zip(sizes, np.unravel_index(np.arange(size), tuple(sizes)), strict=True):
        design[np.arange(size), offset + codes] = 1.0
        offset += part
    gram = design.T @ (counts[:, None] * design)
    gram[np.diag_indices_from(gram)] += 1e-6 * counts.sum() / size
    effect = np.linalg.solve(gram, design.T @ sums) / np.maximum(share, 1e-12)
    return np.split(effect, np.cumsum(sizes)[:-1])


def _sums_by(values: Floats, codes: Ints, size: int) -> Floats:
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(size))
    sums = np.zeros((size, values.shape[1]))
    filled = np.flatnonzero(np.bincount(codes, minlength=size))
    if filled.size:
        sums[filled] = np.add.reduceat(values[order], starts[filled], axis=0)
    return sums


def _error_of_product(
    sums: Floats,
    counts: Floats,
    rest: Floats,
    known: NDArray[np.bool_],
    starts: Ints,
    product: Floats,
    finer: tuple[Floats, Floats, Ints] | None,
) -> Floats:
    """Standard error of the longest blocks' mean product, from how much blocks differ.

    It is added to the product: blocks that long are few, and what they share with their neighbours,
    which no longer block shows, is then allowed for.
    """
    if finer is None:
        inner_q = np.add.reduceat(rest**2, starts, axis=0)
        inner_p = np.add.reduceat(known.astype(np.float64), starts, axis=0)
    else:
        places = np.searchsorted(finer[2], starts)
        inner_q = np.add.reduceat(finer[0] ** 2, places, axis=0)
        inner_p = np.add.reduceat(finer[1] ** 2, places, axis=0)
    pairs = counts**2 - inner_p
    off = sums**2 - inner_q - product * pairs
    total = np.maximum(pairs.sum(axis=0), 1.0)
    few = starts.size / max(starts.size - 1, 1)
    wary = 1 + FEW_BLOCKS / starts.size
    return np.asarray(wary * np.sqrt((off**2).sum(axis=0) * few) / total, dtype=np.float64)


def _fitted(clock: Clock, length: float) -> int:
    """Effects of the season, and the mean, that were fitted to blocks of a length."""
    if not clock.timed or length > DAY:
        return 1
    return 1 + 6 * clock.weekdays + 23 * (clock.hours and length == HOUR)


def _shared(
    rest: Floats,
    known: NDArray[np.bool_],
    levels: list[Ints],
    clock: Clock,
    square: Floats,
    total: Floats,
) -> tuple[Floats, Floats]:
    """What rows of one block share, for each length, and its degrees of freedom."""
    if not levels:
        return np.zeros((0, rest.shape[1])), np.zeros(0)
    products, freedom = [], []
    before_q, before_p = square, known.sum(axis=0).astype(np.float64)
    before: tuple[Floats, Floats, Ints] | None = None
    own = np.zeros(rest.shape[1])
    for codes, length in zip(levels, clock.lengths, strict=True):
        starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
        sums = np.add.reduceat(rest, starts, axis=0)
        counts = np.add.reduceat(known.astype(np.float64), starts, axis=0)
        q, p = (sums**2).sum(axis=0), (counts**2).sum(axis=0)
        blocks = starts.size
        free = max(blocks - _fitted(clock, length), 1)
        pairs = p - before_p
        product = np.where(pairs > 0, (q - before_q) / np.where(pairs > 0, pairs, 1.0), 0.0)
        products.append(product * blocks / free)
        freedom.append(float(free))
        if length == clock.lengths[-1]:
            own = _error_of_product(sums, counts, rest, known, starts, product, before)
        before_q, before_p = q, p
        before = (sums, counts, starts)
    steps = np.array(products)
    steps[-1] += own
    rising = np.maximum.accumulate(np.maximum(steps[::-1], 0.0), axis=0)
    rising = np.minimum(rising, 0.95 * total)
    shared = np.diff(np.vstack([np.zeros((1, rest.shape[1])), rising]), axis=0)[::-1]
    return np.asarray(shared, dtype=np.float64), np.array(freedom)
