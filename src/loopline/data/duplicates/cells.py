"""Candidates for near rows in O(n log n): random grids, refined until few rows share a cell.

One grid cuts one column after another into cells, at random offsets, and only as long as a cell
still holds many rows; so a pair of near rows has to survive only as many cuts as are needed to tell
n rows apart. Where all columns are used up, the next round cuts four times finer. A few such grids
find nearly every pair whose distance is small against the cells (locality sensitive hashing after
Datar, Immorlica, Indyk and Mirrokni, "Locality-sensitive hashing scheme based on p-stable
distributions", 2004, with axis-parallel cuts and an adaptive number of them). The pairs are
candidates: the caller measures them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from loopline.data.duplicates.clusters import Ints, Keys, grouped, mixed, pairs_in_runs
from loopline.seeds import child_seed

NUM_GRIDS = 8
CELL_ROWS = 8
_WIDEST = 1.0
_NARROWEST = 1e-6
_MOST_CUTS = 64


def near_pairs(
    points: NDArray[np.float32], keys: Keys, *, seed: int = 0, num_grids: int = NUM_GRIDS
) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of rows that share a small cell, grid by grid.

    Args:
        points: (rows, columns), each column in units of its spread.
        keys: (rows,) only rows of the same key are ever paired; scrambled words.
        seed: draws offsets and the order of the columns.
        num_grids: how many grids.

    Yields:
        Left and right row numbers, left < right, each pair once in a grid; at most
        ``CELL_ROWS / 2`` pairs a row.

    >>> points = np.array([[0.0], [5.0], [0.0001]], dtype=np.float32)
    >>> left, right = next(near_pairs(points, np.array([1, 2, 1], dtype=np.uint64)))
    >>> left.tolist(), right.tolist()
    ([0], [2])
    """
    num_rows, num_columns = points.shape
    every = np.arange(num_rows, dtype=np.int64)
    for grid in range(num_grids):
        rng = np.random.default_rng(child_seed(seed, "grid", grid))
        left: list[Ints] = []
        right: list[Ints] = []
        rows, code = _sift(every, mixed(keys), left, right)
        columns = rng.permutation(num_columns)
        for cut in range(_MOST_CUTS):
            width = _WIDEST * 0.25 ** (cut // num_columns)
            if not rows.size or width < _NARROWEST:
                break
            column = columns[cut % num_columns]
            cell = np.floor(points[rows, column] / width + rng.random()).astype(np.int64)
            code = mixed(code + mixed(cell.view(np.uint64)))
            rows, code = _sift(rows, code, left, right)
        if rows.size:  # many rows within a narrowest cell: all equal, or nearly
            order, starts = grouped(code)
            sizes = np.diff(starts, append=order.size)
            first = rows[np.repeat(order[starts], sizes)]
            other = rows[order]
            far = first != other
            left.append(np.minimum(first, other)[far])
            right.append(np.maximum(first, other)[far])
        empty = np.zeros(0, dtype=np.int64)
        yield np.concatenate([empty, *left]), np.concatenate([empty, *right])


def _sift(rows: Ints, code: Keys, left: list[Ints], right: list[Ints]) -> tuple[Ints, Keys]:
    """Take the pairs of small cells, forget rows that are alone, go on with large cells."""
    order, starts = grouped(code)
    sizes = np.diff(starts, append=order.size)
    small = (sizes > 1) & (sizes <= CELL_ROWS)
    large = sizes > CELL_ROWS
    if small.any():
        mine = order[np.repeat(small, sizes)]
        ends = np.cumsum(sizes[small])
        a, b = pairs_in_runs(rows[mine], ends - sizes[small], CELL_ROWS - 1)
        left.append(a)
        right.append(b)
    more = np.sort(order[np.repeat(large, sizes)])
    return rows[more], code[more]
