"""How near two rows must be to be copies: an excess of near pairs that does not fall with r.

The argument is told in `loopline.data.duplicates.numbers`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from loopline.data.duplicates.clusters import Ints, connected

EXCESS = 0.1  # honest pairs among the copies, at most
CHANCE = 1e-3  # of an excess as large among honest rows
ISOLATION = 2.0


def copy_radius(
    radii: NDArray[np.float64],
    counts: NDArray[np.float64],
    tolerance: float,
    most_columns: float = 1.0,
) -> float | None:
    """The greatest distance at which pairs are copies rather than near neighbours, if there is one.

    With T copies and honest pairs falling as r**d, the pairs within r are T + a r**d; so those
    between r and 2 r, over 2**d - 1, are the honest ones within r, and the ratio of those between
    2 r and 4 r to those between r and 2 r is 2**d, whatever T is.

    Args:
        radii: falling, in steps of half an octave.
        counts: pairs within each radius.
        tolerance: the greatest radius to be accepted.
        most_columns: the steepest fall that is believed, at least 1.

    Returns:
        A radius at which honest pairs are at most a tenth of those within it, and at which as many
        of the pairs within some wider radius R (2 r or more) would lie within r by chance, each
        with probability (r / R)**d, in less than one case of 1,000 (Chernoff's bound).

    >>> radii = 0.1 * 2.0 ** (-np.arange(10) / 2)
    >>> copy_radius(radii, 1000 * radii, 0.05) is None
    True
    >>> copy_radius(radii, np.where(radii > 0.01, 20.0, 0.0), 0.05)
    0.05
    """
    for place in range(2, radii.size):
        radius, within = float(radii[place]), float(counts[place])
        if radius > tolerance * (1 + 1e-9) or within < 1:
            continue
        fall = _fall(counts, place, most_columns)
        honest = max(counts[place - 2] - within, 0.0) / (2.0**fall - 1)
        if honest > EXCESS * within:
            continue
        shares = {w: float(radius / radii[w]) ** fall for w in range(place - 2, -1, -2)}
        chance = min(_chance(within, float(counts[w]), share) for w, share in shares.items())
        if chance <= CHANCE:
            return round(radius, 12)
    return None


def _fall(counts: NDArray[np.float64], place: int, most: float) -> float:
    """The exponent with which honest pairs fall around a radius, on the careful side."""
    if place < 4:
        return 1.0
    inner = max(float(counts[place - 2] - counts[place]), 0.0)
    outer = max(float(counts[place - 4] - counts[place - 2]), 0.0)
    least = outer - 2 * math.sqrt(outer)
    if least <= 0:
        return 1.0
    return min(max(math.log2(least / (inner + 2 * math.sqrt(inner) + 1)), 1.0), most)


def _chance(within: float, total: float, share: float) -> float:
    """Chernoff's bound on the chance that `within` or more of `total` fall into `share`."""
    total = max(total, within)
    part = within / total
    if part <= share:
        return 1.0
    bound = part * math.log(part / share)
    if part < 1.0:
        bound += (1 - part) * math.log((1 - part) / (1 - share))
    return math.exp(-total * bound)


def isolated(
    num_rows: int, left: Ints, right: Ints, distance: NDArray[np.float64], radius: float
) -> NDArray[np.bool_]:
    """Which pairs within `radius` belong to clusters with no other row near.

    Args:
        num_rows: rows in all.
        left: one row of each pair.
        right: the other.
        distance: of the pairs, up to twice the radius.
        radius: pairs within it make the clusters.

    Returns:
        True for pairs of clusters whose nearest outside row is at least twice as far as their
        longest link.

    >>> left, right = np.array([0, 2, 3]), np.array([1, 3, 4])
    >>> isolated(5, left, right, np.array([0.1, 0.1, 0.15]), 0.12).tolist()
    [True, False, False]
    """
    inside = distance <= radius
    codes = connected(num_rows, left[inside], right[inside])
    longest = np.zeros(num_rows)
    np.maximum.at(longest, codes[left[inside]], distance[inside])
    nearest = np.full(num_rows, np.inf)
    across = codes[left] != codes[right]
    for end in (left, right):
        np.minimum.at(nearest, codes[end[across]], distance[across])
    alone = nearest >= ISOLATION * longest
    return inside & alone[codes[left]]
