"""Wrong values: residuals in units of the spread among rows of like prediction.

A value far from its out-of-fold prediction is suspicious where predictions of that size are usually
close, and ordinary where they are not. So each residual is divided by a local scale: the median of
absolute residuals along the prediction, times 1.4826, which is the standard deviation where
residuals are normal.

How many values are wrong is read off the far tail. Were every value wrong, that is drawn from the
column without regard to its row, a known share of the residuals would lie beyond a cut; the share
that does lie there, divided by that one, is the share of wrong values as soon as no right value
lies beyond the cut. The cut is moved inward as far as the answer stays the same.

Right values with heavy tails cannot be told from wrong ones. So the lower end of the interval
grants right values the tails of Student's t with 3 degrees of freedom, and counts only what lies
beyond even those; with little signal in the features it is then 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.errors import DataError
from loopline.evaluate.intervals import LEVEL, Estimate, student_quantile, student_tail
from loopline.evaluate.rows import Units
from loopline.seeds import child_seed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NORMAL = 1.4826
"""Standard deviation of a normal variable over its median absolute deviation."""
WINDOW_SHARE = 0.05
FEWEST_IN_WINDOW = 25
CUTS = tuple(float(cut) for cut in np.geomspace(3.0, 300.0, 33))
"""Cuts in units of the local scale, from where right values end to where few wrong ones lie."""
FEWEST_BEYOND = 0.1
"""Share of wrong values that must lie beyond a cut for the cut to tell anything."""
FEWEST_EXPECTED = 20
FEWEST_AT_FIRST = 0.25
"""Share of wrong values that must lie beyond the innermost cut, which takes an R2 of about 0.75;
below it right and wrong values scatter too much alike."""
HEAVY = 3.0
"""Degrees of freedom of the heaviest tails that right values are granted."""
METHOD = "far residuals against shuffled ones"
TOO_ROUGH = "the predictions are too rough to tell wrong values from right ones"


@dataclass(frozen=True, eq=False)
class ValueNoise:
    """What residuals say of the labels.

    Args:
        score: |residual| / local scale, shape (rows,).
        suspected: rows beyond the cut at which half of the values are wrong, shape (rows,).
        rate: share of wrong values; NaN where the predictions are too rough to tell.
        ceiling: best R2 against these values.
    """

    score: Floats
    suspected: NDArray[np.bool_]
    rate: Estimate
    ceiling: Estimate


def local_scale(prediction: Floats, residual: Floats) -> Floats:
    """The usual size of a residual at each prediction, shape (rows,), always above zero.

    The median of absolute residuals in blocks along the ordered predictions, joined by straight
    lines and kept above a tenth of the whole column's, so that a lucky block of exact predictions
    does not make its neighbours suspicious.

    >>> residual = np.where(np.arange(200) < 100, 1.0, 10.0) * np.tile([-1, 1], 100)
    >>> scale = local_scale(np.arange(200.0), residual)
    >>> scale[[0, -1]].round(4)
    array([ 1.4826, 14.826 ])
    """
    places, middles = _blocks(prediction, residual)
    order = np.argsort(prediction, kind="stable")
    scale = np.empty(residual.size)
    scale[order] = np.interp(np.arange(residual.size), places, middles)
    return scale


def _blocks(prediction: Floats, residual: Floats) -> tuple[Floats, Floats]:
    """Ranks of the predictions in the middle of each block, and the scale there."""
    size = residual.size
    away = np.abs(residual[np.argsort(prediction, kind="stable")])
    window = max(FEWEST_IN_WINDOW, int(WINDOW_SHARE * size))
    edges = np.linspace(0, size, max(1, size // window) + 1).astype(np.int64)
    middles = np.array([float(np.median(away[a:b])) for a, b in pairwise(edges)])
    whole = float(np.median(away))
    if whole == 0.0:
        positive = away[away > 0]
        whole = float(positive.mean()) if positive.size else 1.0
    return (edges[:-1] + edges[1:] - 1) / 2, NORMAL * np.maximum(middles, 0.1 * whole)


def value_noise(
    y: NDArray[Any], prediction: Floats, units: NDArray[np.int64], seed: int
) -> ValueNoise:
    """Score every value, and estimate how many are wrong.

    Args:
        y: the values.
        prediction: out of fold.
        units: rows that count together.
        seed: of the shuffle.

    Raises:
        DataError: all values are equal.
    """
    y = np.asarray(y, dtype=np.float64)
    if y.min() == y.max():
        raise DataError(
            f"All {y.size:,} values of the target equal {y[0]:g}; none can look wrong beside the "
            "others."
        )
    scale = local_scale(prediction, y - prediction)
    away = np.abs(y - prediction) / scale
    shuffled = np.random.default_rng(child_seed(seed, "shuffled values")).permutation(y)
    strange = np.abs(shuffled - prediction) / scale
    cuts = [
        cut
        for cut in CUTS
        if float((strange > cut).mean()) >= FEWEST_BEYOND
        and int((strange > cut).sum()) >= FEWEST_EXPECTED
    ]
    groups = Units.build(units, y.size)
    if not cuts or float((strange > CUTS[0]).mean()) < FEWEST_AT_FIRST:
        nothing = Estimate(np.nan, np.nan, np.nan, METHOD, groups.count, LEVEL, note=TOO_ROUGH)
        return ValueNoise(away, np.zeros(y.size, dtype=bool), nothing, nothing)
    rates = [_beyond(away, strange, cut, groups) for cut in cuts]
    chosen = _agreeing(rates)
    value, error = rates[chosen]
    freedom = float(max(1, groups.count - 1))
    step = student_quantile((1 + LEVEL) / 2, freedom)
    least = [
        rates[place][0] - _heavy_tail(cuts[place]) / expected - step * rates[place][1]
        for place in (chosen, len(cuts) - 1)
        for expected in [float((strange > cuts[place]).mean())]
    ]
    rate = Estimate(
        min(1.0, value),
        max(0.0, min(least)),
        min(1.0, value + step * error),
        METHOD,
        groups.count,
        LEVEL,
        error,
        freedom,
    )
    return ValueNoise(away, _suspected(away, strange, cuts, rate.value), rate, _ceiling(rate))


def _beyond(away: Floats, strange: Floats, cut: float, groups: Units) -> tuple[float, float]:
    """Share of wrong values by one cut, and its standard error over units."""
    expected = float((strange > cut).mean())
    there = (away > cut).astype(np.float64)
    share = float(there.mean())
    sums = groups.sums(there - share)
    # Half a row's doubt keeps the error above zero where nothing lies beyond the cut.
    variance = (float(sums @ sums) + 0.5) / away.size**2
    # The shuffle is one of many: its own share has an error too.
    relative = (1.0 - expected) / (expected * away.size)
    return share / expected, float(
        np.sqrt(variance / expected**2 + (share / expected) ** 2 * relative)
    )


def _heavy_tail(cut: float) -> float:
    """Share of right values beyond a cut if they scatter as Student's t with 3 degrees."""
    middle = student_quantile(0.75, HEAVY)
    return 2.0 * student_tail(cut * NORMAL * middle, HEAVY)


def _agreeing(rates: list[tuple[float, float]]) -> int:
    """The innermost cut whose rate agrees with all outer ones within a standard error."""
    roof = np.inf
    chosen = len(rates) - 1
    for number in range(len(rates) - 1, -1, -1):
        value, error = rates[number]
        if value - error > roof:
            break
        roof, chosen = min(roof, value + error), number
    return chosen


def _suspected(away: Floats, strange: Floats, cuts: list[float], rate: float) -> NDArray[np.bool_]:
    """Values beyond the innermost cut at which at least half are wrong."""
    for cut in cuts:
        beyond = float((away > cut).mean())
        if beyond > 0 and rate * float((strange > cut).mean()) >= 0.5 * beyond:
            return np.asarray(away > cut)
    return np.zeros(away.size, dtype=bool)


def _ceiling(rate: Estimate) -> Estimate:
    """The best R2 where a share of the values is drawn without regard to the row: (1 - share)^2.

    The best prediction is then (1 - share) times the true value plus a constant, and its variance
    is (1 - share)^2 of the column's.
    """
    return Estimate(
        (1.0 - rate.value) ** 2,
        (1.0 - rate.high) ** 2,
        (1.0 - rate.low) ** 2,
        rate.method,
        rate.num_units,
        rate.level,
        2.0 * (1.0 - rate.value) * rate.standard_error,
        rate.freedom,
    )
