"""Random sides and folds of whole units: what the random, stratified and group splitters share."""

from __future__ import annotations

import numpy as np

from loopline.splits.base import HeldOut, Sides, check_share, check_units
from loopline.splits.deal import Ints, deal, dense, shuffled_units, take
from loopline.splits.rows import SplitRows
from loopline.splits.spec import FOLD_TRAIN, FOLD_VALID, TEST, TRAIN


def random_sides(rows: SplitRows, share: float, seed: int) -> HeldOut:
    """Units in random order go to the test side until its share is reached."""
    check_units(rows, 2, "A training and a test side")
    codes, num_units = dense(rows.units)
    order = shuffled_units(rows.keys, codes, num_units, seed)
    sizes = np.bincount(codes, minlength=num_units)
    side = np.full(num_units, TRAIN, dtype=np.int8)
    target = min(max(1, round(share * rows.num_rows)), rows.num_rows - 1)
    side[order[take(sizes[order], target)]] = TEST
    check_share(rows, side[codes] == TEST, share, "The test side")
    return HeldOut(side[codes])


def balanced_sides(rows: SplitRows, share: float, seed: int, labels: Ints | None) -> HeldOut:
    """Units are dealt so that every class keeps its share on both sides."""
    check_units(rows, 2, "A training and a test side")
    parts = deal(rows.units, rows.keys, (share, 1.0 - share), seed, labels)
    side = np.where(parts == 0, TEST, TRAIN).astype(np.int8)
    check_share(rows, side == TEST, share, "The test side")
    return HeldOut(side)


def dealt_folds(rows: SplitRows, num_folds: int, seed: int, labels: Ints | None) -> Sides:
    """Every row validates in exactly one fold and trains in the others."""
    check_units(rows, num_folds, f"{num_folds} folds")
    parts = deal(rows.units, rows.keys, (1.0 / num_folds,) * num_folds, seed, labels)
    for fold in range(num_folds):
        check_share(rows, parts == fold, 1.0 / num_folds, f"The validation rows of fold {fold}")
    return validating(parts, num_folds)


def validating(parts: Sides, num_folds: int) -> Sides:
    """Folds from the number of the fold that each row validates in (negative: in none)."""
    folds = np.full((parts.size, num_folds), FOLD_TRAIN, dtype=np.int8)
    rows = np.flatnonzero(parts >= 0)
    folds[rows, parts[rows]] = FOLD_VALID
    return folds
