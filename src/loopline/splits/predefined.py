"""Predefined split: a column says where each row belongs; we only prove that it is honest.

The column holds `train`, `validation` and `test`, or `test` and the number of the fold in which a
training row validates (`train` there: in none). Duplicates, groups or times that
straddle the sides are refused with examples; near duplicates of a held-out row leave training. With
label windows the column need not go forward: a training row whose window meets one that is held
out, or comes nearer than the gap before or after it (the embargo), leaves training. Where the
column marks no validation rows, the folds are dealt within the training side: forward if time
columns are named, otherwise at random with classes kept, groups and duplicates whole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loopline.errors import SplitError
from loopline.splits.base import HeldOut, Sides, Splitter
from loopline.splits.certificate import in_window
from loopline.splits.deal import num_codes, shares_unit
from loopline.splits.dealt import dealt_folds, validating
from loopline.splits.rows import SplitRows
from loopline.splits.spec import (
    EXCLUDED,
    FOLD_TRAIN,
    FOLD_VALID,
    TEST,
    TRAIN,
    UNUSED,
    SplitSettings,
)
from loopline.splits.time import TimeSplitter, reasons

WINDOW_REASON = "whose label window meets that of a test row"


class PredefinedSplitter(Splitter):
    """Takes sides and folds from a column and refuses them when anything straddles."""

    def hold_out(self, rows: SplitRows, settings: SplitSettings, seed: int) -> HeldOut:
        """See `Splitter.hold_out`. No effect of the seed."""
        del seed
        part = _known_part(rows)
        test = part == -1
        refuse_straddling(rows, ~test, test, "the training and the test side")
        if rows.order is not None and rows.reach is None and test.any() and not test.all():
            latest_train, first_test = rows.order[~test].max(), rows.order[test].min()
            if first_test <= latest_train:
                here = int(rows.places[np.flatnonzero(test & (rows.order == first_test))[0]])
                there = int(rows.places[np.flatnonzero(~test & (rows.order == latest_train))[0]])
                raise SplitError(
                    f"The split column {settings.column!r} does not go forward in time: test row "
                    f"{here} is not later than training row {there}. Correct the column, or leave "
                    "the time columns out of the split settings."
                )
        side = np.where(test, TEST, TRAIN).astype(np.int8)
        copies, near = must_leave(rows, ~test, test, settings.gap)
        side[copies | near] = EXCLUDED
        lost = reasons("near duplicate of a test row", copies)
        return HeldOut(side, lost | reasons(WINDOW_REASON, near & ~copies))

    def fold(self, rows: SplitRows, settings: SplitSettings, seed: int) -> Sides:
        """See `Splitter.fold`. The seed has an effect only where the column makes no folds."""
        part = _known_part(rows)
        numbers = np.unique(part[part >= 0])
        if not numbers.size:
            if rows.order is not None:
                return TimeSplitter().fold(rows, settings, seed)
            return dealt_folds(rows, settings.num_folds, seed, rows.labels)
        number = np.where(part >= 0, np.searchsorted(numbers, part), -1).astype(np.int8)
        folds = validating(number, numbers.size)
        for fold in range(numbers.size):
            train, valid = folds[:, fold] == FOLD_TRAIN, folds[:, fold] == FOLD_VALID
            refuse_straddling(rows, train, valid, f"training and validation of fold {fold}")
            copies, near = must_leave(rows, train, valid, settings.gap)
            folds[copies | near, fold] = UNUSED
        return folds


def must_leave(
    rows: SplitRows, left: NDArray[np.bool_], right: NDArray[np.bool_], gap: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Training rows that a given split must not keep: near duplicates, and met label windows."""
    none = np.zeros(rows.num_rows, dtype=bool)
    copies = none if rows.alike is None else left & shares_unit(rows.alike, right)
    near = none if rows.reach is None else in_window(rows, left, right, gap)
    return copies, near


def _known_part(rows: SplitRows) -> NDArray[np.int64]:
    if rows.part is None:
        raise SplitError(
            "Method 'predefined' needs `column`: the column that says train, validation or test, "
            "or "
            "the number of a fold."
        )
    return rows.part


def refuse_straddling(
    rows: SplitRows, left: NDArray[np.bool_], right: NDArray[np.bool_], where: str
) -> None:
    """Refuse, with an example, when duplicates or groups stand on both sides."""
    structures = [("rows with equal features", rows.twins)]
    structures += [(f"rows of one {name!r}", codes) for name, codes in rows.groups.items()]
    for what, codes in structures:
        both = left & shares_unit(codes, right)
        if both.any():
            row = int(np.flatnonzero(both)[0])
            other = int(np.flatnonzero(right & (codes == codes[row]))[0])
            raise SplitError(
                f"The given split puts {what} on both sides of {where}: "
                f"{num_codes(codes[both])} such sets, for example row {int(rows.places[row])} "
                f"and row {int(rows.places[other])}. Drop the rows of one side, correct the "
                "column, "
                "or, if such rows are separate observations, change `duplicates` or `group`."
            )
