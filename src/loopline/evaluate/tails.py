"""The interval of a mean of losses: what if the next row were the worst yet?

Losses are >= 0 and a few are large. Their mean and its standard error rise together, so a set of
rows without its share of large losses shows too small a mean *and* too small an error. Student's
interval on any scale, and the bootstrap in any form, then end below the truth: of 2,000 sets of 100
rows with errors in proportion to a log-normal value, both miss in one of ten. Two steps answer it.

- **Upper end** as if one more unit had been drawn, and it were the worst yet: the largest loss
  times 2 ** xi, the median of what lies beyond the largest in a tail like that of the five largest
  (xi after Hill 1975). A whole unit where it would carry the error (eight degrees of freedom left,
  or fewer), else a part of one: calm losses hide little, and a whole unit made their intervals
  cover 97 to 98.5 %.
- **Lower end** on the scale on which the error stays the same when the mean rises. The logarithm
  where the error grows with the mean, 1 / mean where it grows with its square; the losses' skewness
  tells (a set that misses the large ones is not a set whose mean is too large).

R2 is one less a ratio: a target far out that no row shows makes it too small, an error that no row
shows too large. Both its ends are set as if one more unit, or that part of it, equalled the largest
of its direction.

Nothing holds its level for every tail on few rows (Bahadur & Savage 1956): losses of a kind that no
row shows cannot be allowed for. `docs/honest-numbers.md` says what was reached where.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from loopline.evaluate.rows import Floats

TAIL_UNITS = 5
"""Largest units from which the tail is judged."""
HEAVIEST = 1.0
"""A tail that falls more slowly than this has no mean, so there would be nothing to estimate."""
CALM_FREEDOM = 8.0
"""A feared unit that leaves more degrees of freedom than this counts in part, this over those."""
CARRIERS = 10
"""At most so many units are named as those that carry half of the loss ..."""
CARRYING_SHARE = 0.08
"""... and only if they are a smaller share of all: a normal error's square has 12 %."""
SAMPLED_EVERY = 100


@dataclass(frozen=True)
class Moments:
    """What the interval of a mean takes from its units.

    Args:
        mean: weighted mean over rows.
        mass: weight of all rows.
        count: number of units, >= 2; not whole where a part of a unit was added.
        second: sum over units of S ** 2, with S the unit's sum of weight times distance from the
            mean in units of `scale`; third, fourth: likewise.
        scale: the largest distance, so that no power leaves the range of numbers.
    """

    mean: float
    mass: float
    count: float
    second: float
    third: float
    fourth: float
    scale: float = 1.0

    @staticmethod
    def of(mean: float, sums: Floats, mass: float) -> Moments:
        """From the unit sums, shape (units,)."""
        scale = float(max(sums.max(), -sums.min())) or 1.0
        parts = sums / scale
        squares = parts**2
        second, third = float(squares.sum()), float(squares @ parts)
        return Moments(mean, mass, len(sums), second, third, float(squares @ squares), scale)

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.scale * math.sqrt(self.second * self.count / (self.count - 1)) / self.mass

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the error (Satterthwaite 1946), at least 1, at most count - 1.

        They match the estimated variance of the variance: with S the unit sums,
        2 (sum S^2)^2 / (sum S^4 - (sum S^2)^2 / units).
        """
        most = float(self.count - 1)
        if self.second <= 0:
            return most
        excess = self.fourth / self.second**2 - 1 / self.count
        return most if excess <= 0 else max(min(most, 2 / excess), 1.0)

    @property
    def growth(self) -> float:
        """Power of the mean with which the error grows, between 1 and 2.

        The regression of the variance on the mean has the slope mu_3 / sigma^2, which makes the
        power mu_3 mean / (2 sigma^4). Few rows show half of a skewed tail's third moment or less,
        so it is doubled.
        """
        if self.second <= 0:
            return 1.0
        level = self.mean / self.scale * self.mass
        return min(max(self.third * level / self.second**2, 1.0), 2.0)

    def with_one_more(self, extra: float, share: float = 1.0) -> Moments:
        """The moments with one more unit of average weight, whose S is `extra`, or a share of it.

        >>> Moments.of(10.0, np.array([-3.0, -2.0, -1.0, 0.0, 6.0]), 5.0).with_one_more(6.0).mean
        11.0
        """
        count, part = self.count, extra / self.scale
        shift = share * part / (count + share)
        new = part - shift  # every centre moves by `shift`
        third = self.third - 3 * shift * self.second - count * shift**3
        fourth = self.fourth - 4 * shift * self.third + 6 * shift**2 * self.second
        return Moments(
            mean=self.mean + shift * self.scale * count / self.mass,
            mass=self.mass * (1 + share / count),
            count=count + share,
            second=self.second + count * shift**2 + share * new**2,
            third=third + share * new**3,
            fourth=fourth + count * shift**4 + share * new**4,
            scale=self.scale,
        )

    def fearing(self, extra: float) -> Moments:
        """The moments with as much of a unit whose S is `extra` as it would carry the error.

        Whole if it left `CALM_FREEDOM` degrees of freedom or fewer, else `CALM_FREEDOM` over those
        that it left.
        """
        whole = self.with_one_more(extra)
        share = CALM_FREEDOM / whole.freedom
        return whole if share >= 1 else self.with_one_more(extra, share)

    def end(self, quantile: float) -> float:
        """`quantile` errors above the mean (below where negative) on the scale of logarithms."""
        if self.mean <= 0:
            return 0.0
        step = quantile * self.error / self.mean
        return self.mean * math.exp(step) if step < 700 else math.inf

    def steady_end(self, quantile: float) -> float:
        """`quantile` errors below the mean on the scale on which the error keeps its size."""
        step, power = quantile * self.error / self.mean, self.growth - 1
        if power < 1e-6:
            return self.end(-quantile)
        return float(self.mean * (1 + power * step) ** (-1 / power))


def next_worst(sums: Floats) -> float:
    """How far the next unit would lie above the mean if it were the worst yet.

    The largest times 2 ** xi: in a tail that falls as size ** (-1 / xi) half of what lies beyond
    the largest is larger than that. xi comes from the units above the mean, at most `TAIL_UNITS` of
    them over the next one, and counts as 1 at most, because a tail of more has no mean. Where a
    single unit lies above the mean there is no tail to judge, and the answer is the largest.

    Args:
        sums: each unit's sum of weighted distances from the mean, shape (units,).
    """
    top = largest(sums, TAIL_UNITS + 1)
    top = top[top > 0]
    if len(top) < 2:
        return float(top.sum())
    tail = min(float(np.log(top[:-1] / top[-1]).mean()), HEAVIEST)
    return float(top[0] * 2.0**tail)


def largest(values: Floats, count: int) -> Floats:
    """The `count` largest values, falling; all of them where there are fewer.

    >>> largest(np.array([3.0, 9.0, 4.0]), 2).tolist()
    [9.0, 4.0]
    """
    if len(values) > SAMPLED_EVERY * 10 * count:
        # The count-th largest of some is a floor for the count largest of all; equal values are
        # many where losses are prices.
        floor = np.partition(values[::SAMPLED_EVERY], -count)[-count]
        above = values[values > floor]
        values = np.concatenate([above, np.full(max(0, count - len(above)), floor)])
    if len(values) > count:
        values = np.partition(values, -count)[-count:]
    return np.sort(values)[::-1]


def half_carriers(losses: Floats) -> int:
    """How many units carry half of the loss, if they are a small part of them; else 0.

    Args:
        losses: the loss of each unit, >= 0, shape (units,).

    >>> half_carriers(np.array([50.0, 50.0] + [1.0] * 98))
    2
    """
    total = float(losses.sum())
    carried = np.cumsum(largest(losses, CARRIERS)) >= total / 2
    place = int(np.argmax(carried)) + 1
    return place if carried.any() and place < CARRYING_SHARE * len(losses) else 0
