"""What the controller asks a monitor: has the world moved, in sentences.

The loop knows no statistics of drift. It hands a `Watch` the champion and the rows that came since,
and gets notices back; a notice that pages is a trigger (`loopline.loop.triggers`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import polars as pl

if TYPE_CHECKING:
    from loopline.line.finished import FinishedRun


@dataclass(frozen=True)
class Notice:
    """One alarm as the loop hears it.

    Args:
        kind: drift, prediction, performance, quality … as the monitor calls it.
        what: the column, slice or score that moved.
        sentence: what moved, by how much, since when, and what that does to the model.
        page: whether somebody should act; others are only told.
    """

    kind: str
    what: str
    sentence: str
    page: bool = True


class Watch(Protocol):
    """Looks at rows that came since the champion was trained."""

    def look(
        self, champion: FinishedRun, rows: pl.DataFrame, bounds: Sequence[int] = ()
    ) -> Sequence[Notice]:
        """What moved since the last look; empty when nothing did, or too few rows came to say.

        Args:
            champion: the run that made the champion.
            rows: all rows that came since it was made, oldest first, in the source's columns.
            bounds: how many of them there were at each earlier look.
        """


class NoWatch:
    """Sees nothing: retraining is then triggered by labels and by the clock alone."""

    def look(
        self, champion: FinishedRun, rows: pl.DataFrame, bounds: Sequence[int] = ()
    ) -> Sequence[Notice]:
        """Nothing."""
        del champion, rows, bounds
        return ()
