"""Random split: every unit has the same chance; right when rows are independent draws."""

from __future__ import annotations

from loopline.splits.base import HeldOut, Sides, Splitter
from loopline.splits.dealt import dealt_folds, random_sides
from loopline.splits.rows import SplitRows
from loopline.splits.spec import SplitSettings


class RandomSplitter(Splitter):
    """Sides and folds at random; only duplicates are kept together."""

    def hold_out(self, rows: SplitRows, settings: SplitSettings, seed: int) -> HeldOut:
        """See `Splitter.hold_out`."""
        return random_sides(rows, settings.test_share, seed)

    def fold(self, rows: SplitRows, settings: SplitSettings, seed: int) -> Sides:
        """See `Splitter.fold`."""
        return dealt_folds(rows, settings.num_folds, seed, None)
