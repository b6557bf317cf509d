"""Number columns as points, and the distances of near pairs among them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.cores import in_threads
from loopline.data.duplicates.cells import NUM_GRIDS, near_pairs
from loopline.data.duplicates.clusters import Ints, Keys, distinct_pairs, run_starts, sorted_order
from loopline.progress import Step
from loopline.seeds import child_seed

Floats = NDArray[np.float32]
MOST = 0.75  # of the columns must differ where noise is the reason
_SAMPLE = 512
_HUGE = 1e150
_FAR = 200  # neighbours of a sampled row that are looked at
_PILOT = 8  # every so many sampled rows tell how far that is
_PAIRS_BLOCK = 1 << 16
_SPREAD_ROWS = 100_000
"""Rows that tell the spread of a column."""
_MATES, _DISTANCES = 1 << 20, 1 << 23
"""Rows, and distances of rows, that are looked at together."""


@dataclass(frozen=True, eq=False)
class Near:
    """Pairs of near rows, measured.

    Args:
        left: one row of each pair.
        right: the other.
        distance: root mean squared difference over the columns.
        differ: number of columns in which they differ.
    """

    left: Ints
    right: Ints
    distance: NDArray[np.float64]
    differ: NDArray[np.int64]

    def only(self, kept: NDArray[np.bool_]) -> Near:
        """Some of the pairs."""
        return Near(self.left[kept], self.right[kept], self.distance[kept], self.differ[kept])

    def counts(self, radii: NDArray[np.float64]) -> NDArray[np.float64]:
        """(radii,) pairs within each radius."""
        return np.searchsorted(np.sort(self.distance), radii, side="right").astype(np.float64)


def scaled(
    frame: pl.DataFrame, columns: tuple[str, ...], rows: Ints
) -> tuple[Floats, NDArray[np.int32]]:
    """The number columns around their medians in units of their spread; missing cells are 0.

    Also the number of columns that each row has a value in.

    Columns with a single value are left out. Spread: the standard deviation between the first and
    the last percentile, so that a few extreme values do not shrink all the others to nothing.

    >>> frame = pl.DataFrame({"a": [0.0, 2.0, None], "b": [7, 7, 7]})
    >>> points, present = scaled(frame, ("a", "b"), np.arange(3))
    >>> [f"{point:.2f}" for point in points[:, 0]], present.tolist()
    (['-1.02', '1.02', '0.00'], [1, 1, 0])
    """
    points = np.zeros((rows.size, len(columns)), dtype=np.float32)
    counts = np.zeros(rows.size, dtype=np.int32)

    def scale(place: int) -> NDArray[np.bool_] | None:
        values = frame[columns[place]]
        if values.dtype.is_temporal():
            values = values.to_physical()
        cells = values.cast(pl.Float64).to_numpy()[rows]
        known: NDArray[np.bool_] = np.isfinite(cells)
        middle, spread, unit = _spread(cells[known])
        if not 0.0 < spread < math.inf:
            return None
        cells /= unit
        cells -= middle
        cells /= spread
        np.clip(cells, -1e6, 1e6, out=cells)
        points[known, place] = cells[known]
        return known

    kept = []
    for place, known in enumerate(in_threads(scale, range(len(columns)))):
        if known is not None:
            counts += known
            kept.append(place)
    return (points if len(kept) == len(columns) else points[:, kept].copy()), counts


def _spread(present: NDArray[np.float64]) -> tuple[float, float, float]:
    """The middle and the spread of a column's numbers, both in a unit whose square fits.

    Of very many rows every so manieth tells them, as long as those vary: they stand in an order
    that their content gives, so the same rows tell in whatever order the table stands.
    """
    if not present.size:
        return 0.0, 0.0, 1.0
    if present.size > 2 * _SPREAD_ROWS:
        middle, spread, unit = _spread(present[:: present.size // _SPREAD_ROWS])
        if spread > 0.0:
            return middle, spread, unit
    largest = max(float(present.max()), -float(present.min()))
    unit = largest if largest > _HUGE else 1.0
    present = present / unit
    middle = float(np.median(present))
    inner = np.clip(present - middle, *np.quantile(present - middle, (0.01, 0.99)))
    return middle, float(inner.std()) or float((present - middle).std()), unit


def sample_size(num_rows: int) -> int:
    """How many rows are sampled of so many.

    >>> sample_size(10), sample_size(1_000), sample_size(1_000_000)
    (10, 512, 256)
    """
    return min(_SAMPLE if num_rows <= 200_000 else _SAMPLE // 2, num_rows)


def sampled_counts(
    points: Floats,
    present: NDArray[np.int32],
    keys: Keys,
    radii: NDArray[np.float64],
    seed: int,
) -> NDArray[np.float64]:
    """(2, radii) rows within each radius of some hundred rows.

    First those that differ from them in most columns, second all.
    """
    num_rows, width = points.shape
    rng = np.random.default_rng(child_seed(seed, "neighbours"))
    sample = rng.choice(num_rows, sample_size(num_rows), replace=False)
    sample = sample[np.lexsort((sample, keys[sample]))]
    counts = np.zeros((2, radii.size))
    squares = np.einsum("ij,ij->i", points, points)
    squares *= np.float32(1 - 1e-5)  # the product below cancels in float32: rather too many hits
    limit = np.float32(radii[0] ** 2 * width)
    alike = _Alike(points, squares, keys)
    for pilot in sample[::_PILOT]:  # farther than so many neighbours nothing is counted
        mates = alike.mates(pilot)
        if mates.size > _FAR:
            apart = np.concatenate([part[0] for _, _, part in alike.apart(pilot[None], mates)])
            limit = min(limit, np.partition(apart, _FAR)[_FAR])
    for mine in np.split(sample, run_starts(keys[sample])[1:]):
        for some, others, apart in alike.apart(mine, alike.mates(mine[0])):
            one, other = np.divmod(np.flatnonzero(apart <= limit), others.size)
            found = measured(points, some[one], others[other])
            noisy = found.only(found.differ >= MOST * present[found.left])
            counts += np.stack([noisy.counts(radii), found.counts(radii)])
    counts[:, radii**2 * width > limit] = np.inf
    return counts


class _Alike:
    """Distances among rows that agree in all but their numbers."""

    def __init__(self, points: Floats, squares: Floats, keys: Keys) -> None:
        self._points, self._squares, self._keys = points, squares, keys
        self._order = sorted_order(keys)
        self._sorted = keys[self._order]

    def mates(self, row: np.int64) -> Ints:
        """All rows of a row's key in order, itself among them."""
        key = self._keys[row]
        first = int(np.searchsorted(self._sorted, key, side="left"))
        return self._order[first : int(np.searchsorted(self._sorted, key, side="right"))]

    def apart(self, mine: Ints, mates: Ints) -> Iterator[tuple[Ints, Ints, Floats]]:
        """Squared distances in blocks: some of `mine`, some of `mates`, and what lies between.

        Rounded down a little, and endless of a row from itself.
        """
        for start in range(0, mates.size if mates.size > 1 else 0, _MATES):
            others = mates[start : start + _MATES]
            whole = others.size == self._keys.size
            points = self._points if whole else self._points[others]
            squares = self._squares if whole else self._squares[others]
            block = max(1, _DISTANCES // others.size)
            for some in (mine[at : at + block] for at in range(0, mine.size, block)):
                found: Floats = np.matmul(-2 * self._points[some], points.T, dtype=np.float32)
                found += squares
                found += self._squares[some, None]
                place = np.minimum(np.searchsorted(others, some), others.size - 1)
                itself = np.flatnonzero(others[place] == some)
                found[itself, place[itself]] = np.inf
                yield some, others, found


def measured_pairs(
    points: Floats,
    keys: Keys,
    widest: float,
    seed: int,
    step: Step | None,
) -> Near:
    """All candidates of all grids within `widest` of one another, each once."""
    num_rows = points.shape[0]
    empty = np.zeros(0, dtype=np.int64)
    left, right = empty, empty
    for new_left, new_right in near_pairs(points, keys, seed=seed):
        near = measured(points, new_left, new_right, widest)
        left, right = distinct_pairs(
            num_rows,
            np.concatenate([left, near.left]),
            np.concatenate([right, near.right]),
        )
        if step is not None:
            step.advance(1 / NUM_GRIDS)
    return measured(points, left, right)


def measured(
    points: Floats,
    left: Ints,
    right: Ints,
    widest: float = math.inf,
) -> Near:
    """The pairs within `widest`, with their distance."""
    width = points.shape[1]
    parts: list[Near] = []
    for start in range(0, left.size, _PAIRS_BLOCK):
        a, b = left[start : start + _PAIRS_BLOCK], right[start : start + _PAIRS_BLOCK]
        if width > 8 and math.isfinite(widest):  # most candidates are told off by a few columns
            head = points[a, :4] - points[b, :4]
            close = np.einsum("ij,ij->i", head, head) <= width * widest**2
            a, b = a[close], b[close]
        gap = points[a] - points[b]
        distance = np.sqrt(np.einsum("ij,ij->i", gap, gap) / width).astype(np.float64)
        differ = np.count_nonzero(gap, axis=1)
        parts.append(Near(a, b, distance, differ).only(distance <= widest))
    if not parts:
        return Near(left, right, np.zeros(0), np.zeros(0, dtype=np.int64))
    return Near(
        np.concatenate([part.left for part in parts]),
        np.concatenate([part.right for part in parts]),
        np.concatenate([part.distance for part in parts]),
        np.concatenate([part.differ for part in parts]),
    )
