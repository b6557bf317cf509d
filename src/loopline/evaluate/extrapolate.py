"""What more rows would bring: a power law with an offset through a learning curve, and beyond it.

Learning curves of well-behaved learners are described best by ``a + b n^-c`` and its relatives
(Viering and Loog, "The shape of learning curves: a review", IEEE TPAMI 2022; Mohr, Viering, Loog
and van Rijn, "LCDB 1.0", ECML 2022, where the four-parameter kin win by a hair and fit worse from
few sizes). A least-squares curve through six points says nothing of how far it can be trusted, so
nothing is fitted to a point here: all curves are weighed by how well they agree with the sizes
measured, and what they say of other sizes is spread as they are.

- The exponent c runs over a grid; for each, the curve is a straight line in two unknowns, its
  losses at the smallest and at the largest size, with a known answer under Gaussian noise.
  A flat prior on these two and on log c (0.05 to 2) lets a nearly logarithmic curve be what it is.
- The noise has three parts: which rows were scored (the same at all sizes, so most of it cancels
  in a gain), which rows were learned from, and that the curve is no exact power law.
- The offset cannot be better than the metric's best value.
- The second unknown may make the curve rise: where more rows bring nothing the interval says so.

How often such intervals hold the truth is measured in ``benchmarks/advice.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopline.errors import DataError
from loopline.evaluate.intervals import LEVEL, Estimate

Floats = NDArray[np.float64]

FEWEST_SIZES = 3
EXPONENTS = np.geomspace(0.05, 2.0, 40)
DRAWS = 4_000
MISFIT = 0.1
"""Standard deviation of how far a true curve is from a power law at a size that was measured, as a
share of what is gained from there to the largest size."""
BEYOND = 0.3
"""The same of a gain beyond the largest size, for one doubling; it grows with the root of their
number."""


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """All power laws that agree with a learning curve, as draws.

    Args:
        sizes: the sizes measured, rising.
        losses: the losses there, lower is better.
        offset: a of each draw.
        scale: b of each draw, of ``b (n / largest)^-c``.
        exponent: c of each draw.
        noise: standard deviation of the loss at the largest size by the rows learned from.
        seed: of the draws of what is beyond the sizes measured.
    """

    sizes: Floats
    losses: Floats
    offset: Floats
    scale: Floats
    exponent: Floats
    noise: float
    seed: int

    @property
    def largest(self) -> float:
        """The largest size measured."""
        return float(self.sizes[-1])

    def at(self, size: float) -> Floats:
        """The loss of each draw at a size."""
        return np.asarray(
            self.offset + self.scale * (size / self.largest) ** -self.exponent, dtype=np.float64
        )

    def gains(self, size: float, *, with_luck: bool = False) -> Floats:
        """How much lower the loss is at `size` than at the largest size measured, draw by draw.

        Beyond what the curves say it holds that no curve is an exact power law: the further one
        looks, the more that may show.

        Args:
            size: rows to learn from, above 0.
            with_luck: the gain of one fit on rows yet to be drawn, not of such fits on average.
        """
        rng = np.random.default_rng(self.seed)
        wrong = rng.standard_normal(self.offset.size)
        gained = self._off(size, wrong)
        if size > 2 * self.largest:  # whatever is wrong far out, more rows undo nothing
            near = self._off(2 * self.largest, wrong)
            gained = np.where(near > 0, np.maximum(gained, near), np.minimum(gained, near))
        if with_luck:
            luck = self.noise * math.sqrt(self.largest / size)
            gained += luck * rng.standard_normal(gained.size)
        return np.asarray(gained, dtype=np.float64)

    def _off(self, size: float, wrong: Floats) -> Floats:
        """The gain that a power law foretells, and by how much it is off in each draw."""
        doublings = abs(math.log2(size / self.largest))
        gained = self.at(self.largest) - self.at(size)
        return np.asarray(gained * (1 + BEYOND * math.sqrt(doublings) * wrong), dtype=np.float64)

    def gain(self, size: float, *, level: float = LEVEL) -> Estimate:
        """How much lower the loss would be at `size`, with its interval.

        Args:
            size: rows to learn from, above 0.
            level: nominal coverage.
        """
        return summed_up(self.gains(size), level)


def summed_up(draws: Floats, level: float) -> Estimate:
    """Draws as an estimate: their median and their central share."""
    low, middle, high = np.quantile(draws, [(1 - level) / 2, 0.5, (1 + level) / 2])
    return Estimate(
        float(middle),
        float(low),
        float(high),
        "power laws weighed by their fit",
        num_units=0,
        level=level,
        standard_error=float(draws.std(ddof=1)),
    )


def fit_power_law(
    sizes: Floats,
    losses: Floats,
    covariance: Floats,
    *,
    noise: Floats | None = None,
    floor: float = -math.inf,
    seed: int = 0,
) -> PowerLaw:
    """Weigh all power laws with an offset by how well they agree with a learning curve.

    Args:
        sizes: rows learned from, rising, at least three sizes.
        losses: the loss at each, lower is better; scores that should be high with their sign
            turned.
        covariance: (sizes, sizes), of the losses by the rows they were measured on.
        noise: variance of each loss by the rows that were learned from; 0 by default.
        floor: the best loss there can be.
        seed: of the draws.

    Raises:
        DataError: fewer than three sizes, sizes that do not rise, or numbers that are not finite.

    >>> sizes = np.array([100.0, 200, 400, 800])
    >>> law = fit_power_law(sizes, 0.1 + 2 / np.sqrt(sizes), 1e-10 * np.eye(4))
    >>> bool(abs(law.gain(1600).value - (2 / 800**0.5 - 2 / 1600**0.5)) < 0.002)
    True
    """
    sizes, losses = np.asarray(sizes, np.float64), np.asarray(losses, np.float64)
    luck = np.zeros(sizes.size) if noise is None else np.asarray(noise, np.float64)
    _check(sizes, losses, covariance)
    gained = losses - losses[-1]
    unit = float(np.abs(gained).max()) or 1.0
    error = covariance + np.diag(luck + (MISFIT * gained) ** 2 + (1e-6 * unit) ** 2)
    precision = np.linalg.inv(error)
    weights, middles, roots = [], [], []
    for exponent in EXPONENTS:
        falling = (sizes / sizes[-1]) ** -exponent
        share = (falling - 1.0) / (falling[0] - 1.0)
        basis = np.column_stack([share, 1.0 - share])
        known = basis.T @ precision @ basis
        spread = np.linalg.inv(known)
        middle = spread @ basis.T @ precision @ losses
        rest = losses - basis @ middle
        misfit = float(rest @ precision @ rest)
        weights.append(-misfit / 2 - np.linalg.slogdet(known)[1] / 2)
        middles.append(middle)
        roots.append(np.linalg.cholesky(spread))
    offset, scale, exponent_drawn = _draws(
        np.array(weights), np.array(middles), np.array(roots), sizes, floor, seed
    )
    return PowerLaw(
        sizes, losses, offset, scale, exponent_drawn, float(math.sqrt(luck[-1])), seed + 1
    )


def _check(sizes: Floats, losses: Floats, covariance: Floats) -> None:
    if sizes.size < FEWEST_SIZES:
        raise DataError(f"A learning curve needs at least {FEWEST_SIZES} sizes, got {sizes.size}.")
    if losses.shape != sizes.shape or covariance.shape != (sizes.size, sizes.size):
        raise DataError(
            f"{sizes.size} sizes need as many losses and a square covariance; got the shapes "
            f"{losses.shape} and {covariance.shape}."
        )
    if not (np.isfinite(sizes).all() and np.isfinite(losses).all()):
        raise DataError("Sizes and losses of a learning curve must be finite numbers.")
    if sizes[0] <= 0 or (np.diff(sizes) <= 0).any():
        raise DataError(f"The sizes of a learning curve must rise from above 0, got {sizes}.")


def _draws(
    weights: Floats,
    middles: Floats,
    roots: Floats,
    sizes: Floats,
    floor: float,
    seed: int,
) -> tuple[Floats, Floats, Floats]:
    """Offsets, scales and exponents; those better than the floor are drawn again."""
    rng = np.random.default_rng(seed)
    chance = np.exp(weights - weights.max())
    chance /= chance.sum()
    kept: list[tuple[Floats, Floats, Floats]] = []
    number = 0
    for _ in range(50):
        pick = rng.choice(EXPONENTS.size, DRAWS, p=chance)
        ends = middles[pick] + np.einsum("nij,nj->ni", roots[pick], rng.standard_normal((DRAWS, 2)))
        exponent = EXPONENTS[pick]
        scale = (ends[:, 0] - ends[:, 1]) / ((sizes[0] / sizes[-1]) ** -exponent - 1.0)
        offset = ends[:, 1] - scale
        fits = offset >= floor
        kept.append((offset[fits], scale[fits], exponent[fits]))
        number += int(fits.sum())
        if number >= DRAWS:
            break
    if not number:  # the curve itself is at the floor: it can only stay there
        flat = np.full(DRAWS, max(floor, float(middles[-1][1])))
        return flat, np.zeros(DRAWS), np.ones(DRAWS)
    offset, scale, exponent = (np.concatenate(part)[:DRAWS] for part in zip(*kept, strict=True))
    return offset, scale, exponent
