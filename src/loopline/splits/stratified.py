"""Stratified split: at random, with the class shares of the whole table on every side.

Classes are kept exactly up to rounding where no row has a duplicate; units of several rows are
never cut for it. For regression the strata are ten (fewer below 500 rows) quantile bins.
"""

from __future__ import annotations

from loopline.splits.base import HeldOut, Sides, Splitter
from loopline.splits.dealt import balanced_sides, dealt_folds
from loopline.splits.rows import SplitRows
from loopline.splits.spec import SplitSettings


class StratifiedSplitter(Splitter):
    """Sides and folds at random within each class or bin."""

    def hold_out(self, rows: SplitRows, settings: SplitSettings, seed: int) -> HeldOut:
        """See `Splitter.hold_out`."""
        return balanced_sides(rows, settings.test_share, seed, rows.labels)

    def fold(self, rows: SplitRows, settings: SplitSettings, seed: int) -> Sides:
        """See `Splitter.fold`."""
        return dealt_folds(rows, settings.num_folds, seed, rows.labels)
