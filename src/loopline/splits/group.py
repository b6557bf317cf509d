"""Group split: all rows of a customer, patient or device on one side.

Several group columns are several structures: rows that share a value in any of them, or that are
duplicates, hang together, and the connected sets are what is dealt.
"""

from __future__ import annotations

from loopline.splits.base import HeldOut, Sides, Splitter
from loopline.splits.dealt import balanced_sides, dealt_folds, random_sides
from loopline.splits.rows import SplitRows
from loopline.splits.spec import SplitSettings


class GroupSplitter(Splitter):
    """Whole groups at random; folds are balanced in rows."""

    def hold_out(self, rows: SplitRows, settings: SplitSettings, seed: int) -> HeldOut:
        """See `Splitter.hold_out`."""
        return random_sides(rows, settings.test_share, seed)

    def fold(self, rows: SplitRows, settings: SplitSettings, seed: int) -> Sides:
        """See `Splitter.fold`."""
        return dealt_folds(rows, settings.num_folds, seed, None)


class GroupStratifiedSplitter(Splitter):
    """Whole groups, placed greedily so that the classes keep their shares as well as they can."""

    def hold_out(self, rows: SplitRows, settings: SplitSettings, seed: int) -> HeldOut:
        """See `Splitter.hold_out`."""
        return balanced_sides(rows, settings.test_share, seed, rows.labels)

    def fold(self, rows: SplitRows, settings: SplitSettings, seed: int) -> Sides:
        """See `Splitter.fold`."""
        return dealt_folds(rows, settings.num_folds, seed, rows.labels)
