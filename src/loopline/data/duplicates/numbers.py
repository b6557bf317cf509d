"""Rows whose numbers differ by a little noise or by rounding, told from rows that are merely near.

Among honest rows, the number of pairs closer than r falls as r**d when r goes to zero, with d the
number of independent ways in which rows differ (the correlation integral of Grassberger and
Procaccia, "Measuring the strangeness of strange attractors", 1983). Copies are an excess at small
distances that does not fall. So rows count as copies only

1. they differ in most of their number columns, as noise makes them do (honest near rows often
   agree in all columns but one or two),
2. up to a distance r at which the pairs that the fall explains are few against all pairs within r,
   and chance does not explain that either. The fall is read off the pairs between r and 2 r and
   between 2 r and 4 r, and never taken to be steeper than the number of columns that differ,
3. where the nearest row outside the cluster is at least twice as far as the longest link inside
   (the nearest-neighbour ratio).

Rounded copies are known by their digits instead: in every column that differs, one row has the
other's number with fewer digits. They count where such pairs are many more than the other near
pairs that differ in as many columns make likely, and where 3 holds.

Where rows lie so dense that their neighbours are no further than the noise, nothing is claimed.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.duplicates.clusters import Ints, Keys
from loopline.data.duplicates.excess import EXCESS, copy_radius, isolated
from loopline.data.duplicates.kinds import DuplicateSettings, Links
from loopline.data.duplicates.measure import (
    MOST,
    Near,
    measured_pairs,
    sample_size,
    sampled_counts,
    scaled,
)
from loopline.progress import Step

ROUND_BY_CHANCE = 0.25  # of honest near cells, one is the other with fewer digits, at most
_HUGE = 1e150
_CROWD = 16.0  # neighbours of a row on average beyond which its distances say nothing
_ENOUGH = 50  # sampled pairs from which on the sample is trusted rather than the candidates
_STEPS = 48  # radii in half octaves: down to 2**-24 of the widest


def alike_numbers(
    frame: pl.DataFrame,
    columns: tuple[str, ...],
    rows: Ints,
    keys: Keys,
    settings: DuplicateSettings,
    *,
    seed: int = 0,
    step: Step | None = None,
) -> Links:
    """Pairs of rows that are copies of one another but for noise or rounding.

    Args:
        frame: the table.
        columns: its number columns.
        rows: distinct rows, in an order that depends on their content alone.
        keys: (table rows,) what the rest of a row must agree in.
        settings: the greatest distance.
        seed: draws the grids and the sample.
        step: told the share that is done.

    Returns:
        Verified pairs; similarity is 1 minus their distance in units of the columns' spread.
    """
    points, present = scaled(frame, columns, rows)
    if points.shape[1] == 0 or rows.size < 2:
        return Links.none()
    keys = keys[rows]
    radii = 4 * settings.number_tolerance * 2.0 ** (-np.arange(_STEPS) / 2)
    size = sample_size(rows.size)
    crowd = sampled_counts(points, present, keys, radii, seed)
    bearable = np.flatnonzero(crowd[1] <= _CROWD * size)
    if not bearable.size:
        return Links.none()
    radii, crowd = radii[bearable[0] :], crowd[0, bearable[0] :]
    near = measured_pairs(points, keys, float(radii[0]), seed, step)
    noisy = near.only(near.differ >= MOST * present[near.left])
    counts = np.where(crowd >= _ENOUGH, crowd * (rows.size / size / 2), noisy.counts(radii))
    steepest = max(MOST * points.shape[1], 1.0)
    found = [_copies(rows.size, noisy, radii, counts, settings, steepest)]
    close = near.only(near.distance <= settings.number_tolerance)
    coarse = _rounded(frame, columns, rows[close.left], rows[close.right])
    for number in range(1, points.shape[1] + 1):
        like = close.differ == number
        rounded = close.only(like & coarse)
        by_chance = int((like & ~coarse).sum()) * ROUND_BY_CHANCE**number
        if rounded.left.size and by_chance <= EXCESS * rounded.left.size:
            kept = isolated(
                rows.size, rounded.left, rounded.right, rounded.distance, float(radii[0])
            )
            found.append(rounded.only(kept))
    left = np.concatenate([part.left for part in found])
    distance = np.concatenate([part.distance for part in found])
    if not left.size:
        return Links.none()
    right = np.concatenate([part.right for part in found])
    middle = f"Half of the pairs lie within {np.median(distance):.2g} of a column's spread."
    return Links(rows[left], rows[right], 1.0 - distance, (middle,))


def _copies(
    num_rows: int,
    near: Near,
    radii: NDArray[np.float64],
    counts: NDArray[np.float64],
    settings: DuplicateSettings,
    steepest: float,
) -> Near:
    radius = copy_radius(radii, counts, settings.number_tolerance, steepest)
    if radius is None:
        return near.only(np.zeros(near.left.size, dtype=bool))
    return near.only(isolated(num_rows, near.left, near.right, near.distance, radius))


def _rounded(
    frame: pl.DataFrame, columns: tuple[str, ...], left: Ints, right: Ints
) -> NDArray[np.bool_]:
    """Pairs of which one row is the other with fewer digits, in every column that differs."""
    down = np.ones(left.size, dtype=bool)
    up = down.copy()
    for name in columns:
        if not left.size or not frame[name].dtype.is_numeric():
            continue
        values = frame[name].cast(pl.Float64)
        one, other = values.gather(left).to_numpy(), values.gather(right).to_numpy()
        same = (one == other) | ~np.isfinite(one)
        down &= same | _fewer_digits(one, other)
        up &= same | _fewer_digits(other, one)
    return down | up


def _fewer_digits(fine: NDArray[np.float64], coarse: NDArray[np.float64]) -> NDArray[np.bool_]:
    equal = np.zeros(fine.size, dtype=bool)
    fine, coarse = np.clip(fine, -_HUGE, _HUGE), np.clip(coarse, -_HUGE, _HUGE)
    for digits in range(-4, 9):
        unit = 10.0**digits
        scaled_up = coarse * unit
        whole = np.rint(scaled_up)
        is_coarse = np.abs(scaled_up - whole) <= 1e-9 * np.abs(scaled_up)
        equal |= is_coarse & (np.abs(fine * unit - whole) <= 0.5 + 1e-9)
    return equal
