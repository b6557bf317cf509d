"""Group and time together: test on later rows of groups that training never saw.

A cut in time puts the latest share of the rows behind it. A group that lives wholly before the cut
trains, one that lives wholly behind it tests. A group on both sides of the cut cannot keep all its
rows: it goes to one side, and its rows on the other are excluded. Groups are sent to the test side
in random order until the test share (of the rows that are kept) is reached, so the rule serves
both short-lived groups (few rows are lost) and panels in which every group lives all the time
(about half of the rows are lost; the certificate counts them).

Folds expand forward as in `loopline.splits.time`, with the same rule at each cut.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loopline.errors import SplitError
from loopline.seeds import child_seed
from loopline.splits.base import TOLERANCE, HeldOut, Sides, Splitter, check_units
from loopline.splits.deal import dense, shares_unit, shuffled_units
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
from loopline.splits.time import (
    UNIT_REASON,
    before_gap,
    known_order,
    latest,
    period_edges,
    reasons,
)

Mask = NDArray[np.bool_]


class GroupTimeSplitter(Splitter):
    """Later rows of unseen groups test; what straddles either border is excluded."""

    def hold_out(self, rows: SplitRows, settings: SplitSettings, seed: int) -> HeldOut:
        """See `Splitter.hold_out`."""
        check_units(rows, 2, "A training and a test side")
        late = latest(rows, settings.test_share)
        train, test, early, lost = cut_both_ways(rows, late, settings, settings.test_share, seed)
        side = np.full(rows.num_rows, EXCLUDED, dtype=np.int8)
        side[train], side[test] = TRAIN, TEST
        kept = int(train.sum() + test.sum())
        asked = settings.test_share
        if train.any() and test.any():
            miss = abs(test.sum() / kept - asked)
            if miss > max(TOLERANCE * min(asked, 1.0 - asked), 1.0 / kept):
                raise SplitError(
                    f"The test side should hold {asked:.1%} of the rows that are kept and can only "
                    f"hold {test.sum() / kept:.1%} ({int(test.sum())} of {kept}), because groups "
                    "stay "
                    "whole. Use another share or a finer group column."
                )
        tied = (early | late) & ~train & ~test
        return HeldOut(side, lost | reasons(UNIT_REASON, tied))

    def fold(self, rows: SplitRows, settings: SplitSettings, seed: int) -> Sides:
        """See `Splitter.fold`."""
        order = known_order(rows)
        edges = period_edges(order, settings.num_folds)
        folds = np.full((rows.num_rows, settings.num_folds), UNUSED, dtype=np.int8)
        for fold, (start, stop) in enumerate(zip(edges, [*edges[1:], None], strict=True)):
            until = order < stop if stop is not None else np.ones(rows.num_rows, dtype=bool)
            late = until & (order >= start)
            share = float(late.sum() / until.sum())
            train, valid, _, _ = cut_both_ways(
                rows, late, settings, share, child_seed(seed, "fold", fold)
            )
            folds[train, fold] = FOLD_TRAIN
            folds[valid, fold] = FOLD_VALID
        return folds


def cut_both_ways(
    rows: SplitRows, late: Mask, settings: SplitSettings, share: float, seed: int
) -> tuple[Mask, Mask, Mask, dict[str, int]]:
    """Rows before a cut and rows behind it that have no unit in common.

    Returns:
        The early rows kept, the late rows kept, all early rows that are early enough, and why the
        others are not.
    """
    early, lost = before_gap(rows, late, settings.gap)
    both = shares_unit(rows.units, early) & shares_unit(rows.units, late)
    to_test = np.zeros(rows.num_rows, dtype=bool)
    if both.any():
        codes, num_units = dense(rows.units[both])
        order = shuffled_units(rows.keys[both], codes, num_units, seed)
        before = np.bincount(codes[early[both]], minlength=num_units)[order]
        behind = np.bincount(codes[late[both]], minlength=num_units)[order]
        test = int((late & ~both).sum()) + np.concatenate([[0], np.cumsum(behind)])
        train = int((early & ~both).sum()) + before.sum() - np.concatenate([[0], np.cumsum(before)])
        usable = (test > 0) & (train > 0)
        miss = np.abs(test / np.maximum(test + train, 1) - share) + np.where(usable, 0.0, 2.0)
        chosen = np.zeros(num_units, dtype=bool)
        chosen[order[: int(np.argmin(miss))]] = True
        to_test[both] = chosen[codes]
    return early & ~(both & to_test), late & ~(both & ~to_test), early, lost
