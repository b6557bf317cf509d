"""Time split: train on the past, test on the latest rows.

The test side is the latest share of the rows; equal times are never cut. With a gap, a training
row lies at least that far before the first test row; rows in between are excluded. A training row
that equals a test row in all features is excluded too, so the test side stays whole. With label
windows a training row's window ends before the first test row, by the gap (purging).

Folds expand forward: the training rows are cut into `num_folds` + 1 periods of about equal size;
fold `j` trains on the periods 0 … `j` and validates on period `j` + 1, with the same gap and the
same rule for duplicates. The first period therefore never validates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loopline.errors import SplitError
from loopline.splits.base import HeldOut, Sides, Splitter, check_share
from loopline.splits.clock import clock_gap
from loopline.splits.deal import Ints, latest_share, shares_unit
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

GAP_REASON = "in the gap"
WINDOW_REASON = "whose label was not known yet"
UNIT_REASON = "tied to rows of the later side"


class TimeSplitter(Splitter):
    """The latest rows test; earlier rows that hang together with them leave."""

    def hold_out(self, rows: SplitRows, settings: SplitSettings, seed: int) -> HeldOut:
        """See `Splitter.hold_out`. No effect of the seed."""
        del seed
        late = latest(rows, settings.test_share)
        kept, lost = before_gap(rows, late, settings.gap)
        tied = kept & shares_unit(rows.units, late)
        side = np.full(rows.num_rows, EXCLUDED, dtype=np.int8)
        side[late] = TEST
        side[kept & ~tied] = TRAIN
        return HeldOut(side, lost | reasons(UNIT_REASON, tied))

    def fold(self, rows: SplitRows, settings: SplitSettings, seed: int) -> Sides:
        """See `Splitter.fold`. No effect of the seed."""
        del seed
        order = known_order(rows)
        edges = period_edges(order, settings.num_folds)
        folds = np.full((rows.num_rows, settings.num_folds), UNUSED, dtype=np.int8)
        for fold, (start, stop) in enumerate(zip(edges, [*edges[1:], None], strict=True)):
            until = order < stop if stop is not None else np.ones(rows.num_rows, dtype=bool)
            late = until & (order >= start)
            kept, _ = before_gap(rows, late, settings.gap)
            folds[kept & ~shares_unit(rows.units, late), fold] = FOLD_TRAIN
            folds[late, fold] = FOLD_VALID
        return folds


def known_order(rows: SplitRows) -> Ints:
    """The ranks in time; splitters in time are only ever given rows that have them."""
    assert rows.order is not None
    return rows.order


def latest(rows: SplitRows, share: float) -> NDArray[np.bool_]:
    """The latest share of the rows, equal times kept together.

    Raises:
        SplitError: all times are equal, or so many that the share cannot be met.
    """
    order = known_order(rows)
    if order.min() == order.max():
        raise SplitError(
            f"All {rows.num_rows} rows have the same time, so no row is later than another. Use a "
            "finer time column (several are compared from first to last), or another method."
        )
    late = order >= latest_share(order, share)
    check_share_of_time(rows, late, share)
    return np.asarray(late)


def check_share_of_time(rows: SplitRows, late: NDArray[np.bool_], share: float) -> None:
    """Refuse when equal times make the share impossible."""
    order = known_order(rows)
    counts = np.bincount(order)
    try:
        check_share(rows, late, share, "The test side")
    except SplitError:
        first = int(np.flatnonzero(order == int(np.argmax(counts)))[0])
        raise SplitError(
            f"The latest {share:.1%} of {rows.num_rows} rows cannot be cut off: equal times stay "
            f"together, {int(counts.max())} rows have the time of row {int(rows.places[first])}, "
            "and "
            f"the nearest cut holds {late.mean():.1%}. Use a finer time column or another share."
        ) from None


def before_gap(
    rows: SplitRows, late: NDArray[np.bool_], gap: float
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """The rows before the late ones that keep the gap and whose label was known in time.

    Also why the others before were left out: reason → rows.
    """
    order = known_order(rows)
    first = order[late].min()
    early = order < first
    kept = early if rows.reach is None else early & (rows.reach < first)
    lost = reasons(WINDOW_REASON, early & ~kept)
    if gap <= 0.0:
        return kept, lost
    assert rows.clock is not None
    ends = rows.clock if rows.until is None else rows.until
    far = ends <= rows.clock[late].min() - clock_gap(gap, rows.clock)
    return kept & far, lost | reasons(GAP_REASON, kept & ~far)


def period_edges(order: Ints, num_folds: int) -> list[int]:
    """First ranks of the validation periods 1 … `num_folds`, of about equal numbers of rows.

    >>> period_edges(np.array([0, 1, 2, 3, 4, 5]), 2)
    [2, 4]
    """
    counts = np.bincount(order)
    ranks = np.flatnonzero(counts)
    before = np.concatenate([[0], np.cumsum(counts[ranks])])[:-1]
    wanted = np.arange(1, num_folds + 1) * (order.size / (num_folds + 1))
    nearest = np.abs(before[None, :] - wanted[:, None]).argmin(axis=1)
    if np.unique(nearest).size < num_folds or nearest[0] == 0:
        raise SplitError(
            f"{num_folds} forward folds need {num_folds + 1} periods of about equal size; the "
            f"{order.size} training rows have {ranks.size} distinct times, the largest with "
            f"{int(counts.max())} rows. Use fewer folds or a finer time column."
        )
    return [int(ranks[place]) for place in nearest]


def reasons(reason: str, rows: NDArray[np.bool_]) -> dict[str, int]:
    """Why rows were excluded and how many; empty when there are none."""
    return {reason: int(rows.sum())} if rows.any() else {}
