"""Dealing units out to sides in stated shares: the arithmetic under every random split.

A *unit* is a set of rows that must share a side. Three rules hold for every function here: a unit
is never cut; the outcome depends on the rows and the seed, never on the order in which the rows
came; and where all units are single rows the shares are exact up to rounding, for every class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loopline.data.duplicates.clusters import mixed, sorted_order

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]

SPARSE = 16
"""Codes that reach further than so many times their number are sorted to be numbered."""
GREEDY_UNITS = 20_000
"""At most so many units are placed one by one; the rest, being small, is dealt in bulk."""


def latest_share(order: Ints, share: float) -> int:
    """The rank from which on the rows make up the latest share, as near as ties allow.

    At least one rank is left before it where there are two.

    >>> latest_share(np.array([0, 1, 2, 3, 3]), 0.2)
    3
    """
    counts = np.bincount(order)
    ranks = np.flatnonzero(counts)
    if ranks.size < 2:
        return int(ranks[0])
    after = np.cumsum(counts[ranks][::-1])[::-1]
    return int(ranks[1 + np.argmin(np.abs(after[1:] - share * order.size))])


def shares_unit(units: Ints, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """For each row, whether its unit has a chosen row.

    >>> shares_unit(np.array([0, 1, 0]), np.array([True, False, False]))
    array([ True, False,  True])
    """
    flag = np.zeros(int(units.max()) + 1 if units.size else 0, dtype=bool)
    flag[units[chosen]] = True
    return flag[units]


def row_keys(digests: Keys) -> Keys:
    """One scrambled 64-bit word a row from its 128-bit digest."""
    return mixed(digests[:, 0]) ^ digests[:, 1]


def num_codes(codes: Ints) -> int:
    """How many different codes there are (codes are small numbers: no sorting, no hashing)."""
    return int(np.count_nonzero(np.bincount(codes))) if codes.size else 0


def dense(codes: Ints) -> tuple[Ints, int]:
    """Renumber codes to 0 … count-1 without gaps, keeping their order; also the count.

    >>> dense(np.array([7, 3, 7]))
    (array([1, 0, 1]), 2)
    """
    if codes.size == 0:
        return codes.astype(np.int64), 0
    if codes.min() < 0 or codes.max() > SPARSE * codes.size:
        names, places = np.unique(codes, return_inverse=True)
        return places.astype(np.int64), names.size
    present = np.zeros(int(codes.max()) + 1, dtype=bool)
    present[codes] = True
    number = np.cumsum(present, dtype=np.int64) - 1
    return number[codes], int(number[-1]) + 1


def shuffled_units(keys: Keys, units: Ints, num_units: int, seed: int) -> Ints:
    """Unit codes in an order that is random by seed and free of the order of the rows.

    The key of a unit is the scrambled minimum of its rows' seeded keys. The scrambling after the
    minimum matters: without it large units would come first. Equal 64-bit keys (odds below one in
    a million at five million units) fall back on the unit code.
    """
    start = mixed(np.array([seed], dtype=np.uint64))[0]
    lowest = np.full(num_units, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(lowest, units, mixed(keys ^ start))
    return sorted_order(mixed(lowest))


def take(sizes: Ints, target: int) -> NDArray[np.bool_]:
    """Choose units, first come first, whose sizes sum as near to `target` as that rule gets.

    A unit that would overshoot is passed over; at the end one more is taken if that is nearer.

    >>> take(np.array([3, 9, 2, 1]), 6)
    array([ True, False,  True,  True])
    """
    chosen = np.zeros(sizes.size, dtype=bool)
    waiting = np.arange(sizes.size)
    deficit = int(target)
    while deficit > 0:
        waiting = waiting[sizes[waiting] <= deficit]
        if not waiting.size:
            break
        total = np.cumsum(sizes[waiting])
        count = int(np.searchsorted(total, deficit, side="right"))
        chosen[waiting[:count]] = True
        deficit -= int(total[count - 1])
        waiting = waiting[count:]
    if deficit > 0 and not chosen.all():
        left = np.flatnonzero(~chosen)
        smallest = left[np.argmin(sizes[left])]
        if abs(int(sizes[smallest]) - deficit) < deficit:
            chosen[smallest] = True
    return chosen


def class_targets(counts: Ints, shares: Sequence[float], num_units: Ints) -> Ints:
    """Rows of each class that each side should get: shape (sides, classes), columns sum to counts.

    Two sides: the first side's total is exact and the leftover rows go to the classes with the
    largest fractions. More sides: each class is spread within one row, the totals likewise.
    A class with at least as many units as there are sides gets at least one row on every side.

    >>> class_targets(np.array([7, 3]), (0.2, 0.8), np.array([7, 3]))
    array([[1, 1],
           [6, 2]])
    """
    wanted = np.outer(shares, counts)
    targets = np.floor(wanted + 1e-9).astype(np.int64)
    fraction = wanted - targets
    if len(shares) == 2:
        missing = round(float(shares[0]) * int(counts.sum())) - int(targets[0].sum())
        targets[0, np.argsort(-fraction[0], kind="stable")[:missing]] += 1
        targets[1] = counts - targets[0]
    else:
        for label in range(counts.size):
            left = int(counts[label] - targets[:, label].sum())
            behind = targets.sum(axis=1) - np.asarray(shares) * counts[: label + 1].sum()
            targets[np.argsort(behind, kind="stable")[:left], label] += 1
    for label in np.flatnonzero(num_units >= len(shares)).tolist():
        for empty in np.flatnonzero(targets[:, label] == 0):
            targets[np.argmax(targets[:, label]), label] -= 1
            targets[empty, label] += 1
    return targets


def deal(
    units: Ints, keys: Keys, shares: Sequence[float], seed: int, labels: Ints | None = None
) -> NDArray[np.int8]:
    """Deal whole units out to sides, in the given shares, for every class if labels are given.

    Units of several rows are placed first, larger ones earlier and in random order within a power
    of two, each where it most lowers the squared distance from the shares; the single rows then
    fill what is missing, class by class, in random order.

    Args:
        units: (rows,) unit codes.
        keys: (rows,) identity of each row as 64 random bits.
        shares: one per side, summing to 1.
        seed: of the random order.
        labels: (rows,) codes of the classes (or bins) whose shares are to be kept.

    Returns:
        (rows,) number of the side of each row.
    """
    codes, num_units = dense(units)
    classes, num_classes = (np.zeros(codes.size, np.int64), 1) if labels is None else dense(labels)
    order = shuffled_units(keys, codes, num_units, seed)
    sizes = np.bincount(codes, minlength=num_units)
    top = np.zeros(num_units, dtype=np.int64)
    np.maximum.at(top, codes, classes)
    targets = class_targets(
        np.bincount(classes, minlength=num_classes), shares, np.bincount(top, minlength=num_classes)
    )
    side = np.full(num_units, -1, dtype=np.int8)
    several = order[sizes[order] > 1]
    if several.size:
        bucket = np.frexp(sizes[several].astype(np.float64))[1]
        several = several[np.argsort(-bucket, kind="stable")]
        limit = max(1, min(GREEDY_UNITS, 8_000_000 // num_classes))
        _place_one_by_one(several[:limit], codes, classes, targets, shares=shares, side=side)
        _place_in_bulk(several[limit:], top, sizes, shares, side)
    placed = side[codes] >= 0
    cell = side[codes[placed]].astype(np.int64) * num_classes + classes[placed]
    have = np.bincount(cell, minlength=targets.size).reshape(targets.shape)
    _fill_with_single_rows(order[sizes[order] == 1], top, targets - have, side)
    return np.asarray(side[codes])


def _place_one_by_one(
    chosen: Ints,
    codes: Ints,
    classes: Ints,
    targets: Ints,
    *,
    shares: Sequence[float],
    side: NDArray[np.int8],
) -> None:
    """Greedy: each unit goes where Σ (have - target)² / (share · class size²) grows least."""
    num_classes = targets.shape[1]
    position = np.full(side.size, -1, dtype=np.int64)
    position[chosen] = np.arange(chosen.size)
    rows = position[codes] >= 0
    cell = position[codes[rows]] * num_classes + classes[rows]
    content = np.bincount(cell, minlength=chosen.size * num_classes).reshape(-1, num_classes)
    scale = 1.0 / np.maximum(targets.sum(axis=0), 1).astype(np.float64) ** 2
    share = np.asarray(shares)
    missing = targets.astype(np.float64)
    for unit, part in zip(chosen, content.astype(np.float64), strict=True):
        weighed = part * scale
        cost = (float(weighed @ part) - 2.0 * (missing @ weighed)) / share
        best = int(np.argmin(cost))
        side[unit] = best
        missing[best] -= part


def _place_in_bulk(
    chosen: Ints, top: Ints, sizes: Ints, shares: Sequence[float], side: NDArray[np.int8]
) -> None:
    """Cut each class's run of units, in random order, at the cumulated shares."""
    bounds = np.cumsum(shares)[:-1]
    for run in _runs(chosen, top):
        middle = np.cumsum(sizes[run]) - sizes[run] / 2
        side[run] = np.searchsorted(bounds, middle / sizes[run].sum(), side="right")


def _fill_with_single_rows(chosen: Ints, top: Ints, missing: Ints, side: NDArray[np.int8]) -> None:
    for run in _runs(chosen, top):
        need = np.maximum(missing[:, top[run[0]]], 0)
        count = _apportioned(need, run.size)
        side[run] = np.repeat(np.arange(count.size, dtype=np.int8), count)


def _runs(chosen: Ints, top: Ints) -> list[Ints]:
    """The chosen units, class by class, each run in the order it came."""
    if not chosen.size:
        return []
    label = top[chosen]
    if label.max() < 2**15:
        label = label.astype(np.int16)  # sorted by radix, in linear time
    ordered = chosen[np.argsort(label, kind="stable")]
    edges = np.flatnonzero(np.diff(top[ordered])) + 1
    return np.split(ordered, edges)


def _apportioned(need: Ints, total: int) -> Ints:
    """Whole numbers in proportion to `need` that sum to `total` (largest remainders)."""
    weight = need.astype(np.float64) if need.sum() else np.ones(need.size)
    wanted = weight * (total / weight.sum())
    count: Ints = np.floor(wanted + 1e-9).astype(np.int64)
    rest = total - int(count.sum())
    count[np.argsort(-(wanted - count), kind="stable")[:rest]] += 1
    return count
