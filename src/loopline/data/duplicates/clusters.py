"""Clusters from pairs: connected components, and groups of rows that share a key.

Everything here is a function of arrays, in O(n log n) time, without a loop over rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]


def connected(num_rows: int, left: Ints, right: Ints) -> Ints:
    """The connected component of every row, named by its lowest row number.

    Roots of trees are hooked onto smaller roots and the trees are flattened, until no pair joins
    two trees (after Shiloach and Vishkin, "An O(log n) parallel connectivity algorithm", Journal
    of Algorithms 3, 1982, with the smallest neighbour as the hook).

    Args:
        num_rows: how many rows there are.
        left: one end of every pair, row numbers.
        right: the other end.

    Returns:
        (rows,) the lowest row number of the component that each row is in.

    >>> connected(5, np.array([4, 3]), np.array([3, 1]))
    array([0, 1, 2, 1, 1])
    """
    root = np.arange(num_rows, dtype=np.int64)
    low = np.minimum(left, right).astype(np.int64)
    high = np.maximum(left, right).astype(np.int64)
    while True:
        apart = low != high
        if not apart.any():
            return root
        low, high = low[apart], high[apart]
        np.minimum.at(root, high, low)
        while True:
            above = root[root]
            if np.array_equal(above, root):
                break
            root = above
        ends = root[low], root[high]
        low, high = np.minimum(*ends), np.maximum(*ends)


def merged(*codes: Ints) -> Ints:
    """The components of several codings together: rows that share any code share a component.

    Args:
        codes: one or more arrays of shape (rows,); equal numbers mean the same cluster.

    Returns:
        (rows,) the lowest row number of each component.

    >>> merged(np.array([0, 1, 1, 3]), np.array([7, 7, 8, 9]))
    array([0, 0, 0, 3])
    """
    num_rows = codes[0].size
    rows = np.arange(num_rows, dtype=np.int64)
    firsts = [first_rows(code) for code in codes]
    return connected(num_rows, np.tile(rows, len(firsts)), np.concatenate(firsts))


def first_rows(codes: NDArray[np.int64] | Keys) -> Ints:
    """For every row the lowest row number that has the same code.

    >>> first_rows(np.array([9, 4, 9, 4]))
    array([0, 1, 0, 1])
    """
    _, first, place = np.unique(codes, return_index=True, return_inverse=True)
    return first.astype(np.int64)[place]


def sizes_of(clusters: Ints) -> Ints:
    """For every row the number of rows in its cluster.

    >>> sizes_of(np.array([0, 0, 2]))
    array([2, 2, 1])
    """
    return np.bincount(clusters, minlength=clusters.size).astype(np.int64)[clusters]


def mixed(values: Keys) -> Keys:
    """Scramble 64-bit words so that every input bit moves every output bit.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014), the
    finaliser of section 5.

    >>> int(mixed(np.array([1], dtype=np.uint64))[0])
    10451216379200822465
    """
    out = values + np.uint64(0x9E37_79B9_7F4A_7C15)
    out ^= out >> np.uint64(30)
    out *= np.uint64(0xBF58_476D_1CE4_E5B9)
    out ^= out >> np.uint64(27)
    out *= np.uint64(0x94D0_49BB_1331_11EB)
    out ^= out >> np.uint64(31)
    return out


def grouped(keys: Keys) -> tuple[Ints, Ints]:
    """Rows in the order of their keys, and where each run of equal keys begins.

    Key and place are sorted as one packed word, which takes half the time of an indirect sort. The
    lowest bits of the key give way to the place (20 of 64 for a million rows), so rarely two
    different keys stand in one run: only for candidates that are verified afterwards. Keys are to
    be `mixed`.

    Returns:
        (rows,) row numbers, and (runs,) the starts of the runs in them.

    >>> order, starts = grouped(mixed(np.array([5, 6, 5], dtype=np.uint64)))
    >>> sorted(run.tolist() for run in np.split(order, starts[1:]))
    [[0, 2], [1]]
    """
    bits = max(int(keys.size).bit_length(), 1)
    low = np.uint64((1 << bits) - 1)
    packed = (keys & ~low) | np.arange(keys.size, dtype=np.uint64)
    packed.sort()
    order = (packed & low).astype(np.int64)
    packed >>= np.uint64(bits)
    return order, run_starts(packed)


def sorted_order(keys: Keys) -> Ints:
    """Positions that sort random 64-bit keys, equal keys in the order they came.

    Key and position are packed into one word and sorted as plain numbers, which takes a fifth of
    the time of an indirect sort; the few keys whose leading bits agree are put right afterwards.

    >>> sorted_order(np.array([7 << 60, 1 << 60, 7 << 60], dtype=np.uint64))
    array([1, 0, 2])
    """
    if keys.size < 2:
        return np.arange(keys.size, dtype=np.int64)
    bits = int(keys.size - 1).bit_length()
    mask = np.uint64((1 << bits) - 1)
    packed = (keys & ~mask) | np.arange(keys.size, dtype=np.uint64)
    packed.sort()
    order = (packed & mask).astype(np.int64)
    packed >>= np.uint64(bits)
    same = packed[1:] == packed[:-1]
    if same.any():
        tied = np.zeros(keys.size, dtype=bool)
        tied[1:] |= same
        tied[:-1] |= same
        rows = order[tied]
        order[tied] = rows[np.lexsort((rows, keys[rows]))]
    return order


def run_starts(ordered: NDArray[np.int64] | Keys) -> Ints:
    """Where each run of equal values begins.

    >>> run_starts(np.array([4, 4, 7]))
    array([0, 2])
    """
    new = np.ones(ordered.size, dtype=bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return np.flatnonzero(new)


def pairs_in_runs(order: Ints, starts: Ints, reach: int) -> tuple[Ints, Ints]:
    """Pairs of rows at most `reach` places apart in the same run.

    Args:
        order: row numbers.
        starts: where the runs begin in it.
        reach: 1 for neighbours only; runs of up to ``reach + 1`` rows give all their pairs.

    Returns:
        Left and right row numbers, the smaller one left.

    >>> pairs_in_runs(np.array([2, 0, 1, 5, 4]), np.array([0, 3]), 1)
    (array([0, 0, 4]), array([2, 1, 5]))
    """
    size = order.size
    run = np.zeros(size, dtype=np.int32)
    run[starts] = 1
    np.cumsum(run, out=run)
    left: list[Ints] = []
    right: list[Ints] = []
    at = np.arange(size - 1) if size else np.zeros(0, dtype=np.int64)
    for step in range(1, reach + 1):
        at = at[at + step < size]
        at = at[run[at] == run[at + step]]  # later neighbours of the others are in other runs too
        if not at.size:
            break
        left.append(np.minimum(order[at], order[at + step]))
        right.append(np.maximum(order[at], order[at + step]))
    if not left:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    return np.concatenate(left), np.concatenate(right)


def distinct_pairs(num_rows: int, left: Ints, right: Ints) -> tuple[Ints, Ints]:
    """Every pair once, in order.

    >>> distinct_pairs(9, np.array([1, 0, 1]), np.array([2, 3, 2]))
    (array([0, 1]), array([3, 2]))
    """
    codes = np.unique(left * np.int64(num_rows) + right)
    return codes // num_rows, codes % num_rows
