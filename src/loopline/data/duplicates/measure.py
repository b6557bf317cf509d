"""Number columns as points, and the distances of near pairs among them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.duplicates.cells import NUM_GRIDS, near_pairs
from loopline.data.duplicates.clusters import Ints, Keys, distinct_pairs
from loopline.progress import Step
from loopline.seeds import child_seed

Floats = NDArray[np.float32]
MOST = 0.75  # of the columns must differ where noise is the reason
_SAMPLE = 512
_HUGE = 1e150
_FAR = 200  # neighbours of a sampled row that are looked at
_PILOT = 8  # every so many sampled rows tell how far that is
_PAIRS_BLOCK = 1 << 16


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
    kept: list[Floats] = []
    counts = np.zeros(rows.size, dtype=np.int32)
    for name in columns:
        values = frame[name]
        if values.dtype.is_temporal():
            values = values.to_physical()
        cells = values.cast(pl.Float64).to_numpy()[rows]
        known = np.isfinite(cells)
        present = cells[known]
        if not present.size:
            continue
        largest = float(np.abs(present).max())
        if largest > _HUGE:  # its square would not fit
            present = present / largest
        middle = float(np.median(present))
        inner = np.clip(present - middle, *np.quantile(present - middle, (0.01, 0.99)))
        spread = float(inner.std()) or float((present - middle).std())
        if not 0.0 < spread < math.inf:
            continue
        column = np.zeros(rows.size, dtype=np.float32)
        column[known] = np.clip((present - middle) / spread, -1e6, 1e6)
        kept.append(column)
        counts += known
    if not kept:
        return np.zeros((rows.size, 0), dtype=np.float32), counts
    return np.ascontiguousarray(np.stack(kept, axis=1)), counts


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
    sample = np.sort(rng.choice(num_rows, sample_size(num_rows), replace=False))
    counts = np.zeros((2, radii.size))
    squares = np.einsum("ij,ij->i", points, points)
    squares *= np.float32(1 - 1e-5)  # the product below cancels in float32: rather too many hits
    limit = np.float32(radii[0] ** 2 * width)
    several = bool((keys != keys[0]).any())
    block = max(1, (1 << 23) // num_rows)
    for start in range(0, sample.size, block):
        mine = sample[start : start + block]
        apart = (points[mine] * np.float32(-2)) @ points.T
        apart += squares
        apart += squares[mine, None]
        if several:
            apart[keys[mine, None] != keys] = np.inf
        apart[np.arange(mine.size), mine] = np.inf
        if num_rows > _FAR:  # farther than so many neighbours nothing is counted
            kth = np.partition(apart[::_PILOT], _FAR, axis=1)[:, _FAR]
            limit = min(limit, np.float32(np.median(kth)))
        one, other = np.divmod(np.flatnonzero(apart <= limit), num_rows)
        found = measured(points, mine[one], other)
        noisy = found.only(found.differ >= MOST * present[found.left])
        counts += np.stack([noisy.counts(radii), found.counts(radii)])
    counts[:, radii**2 * width > limit] = np.inf
    return counts


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
