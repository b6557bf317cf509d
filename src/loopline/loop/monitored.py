"""The monitor as the loop asks it: windows since the champion was made, judged in their order.

Each look replays all windows from the first, so a controller that was killed says what it would
have said, and the budget of false pages is kept as by a monitor that never stopped. Only what a
window opens that nobody was told of is a notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import polars as pl

from loopline.errors import DataError
from loopline.line.finished import FinishedRun
from loopline.line.reference import reference_of, times_of
from loopline.loop.watching import Notice
from loopline.monitor.alarm import Alarm, in_order
from loopline.monitor.class_losses import codes_of
from loopline.monitor.settings import MonitorSettings
from loopline.monitor.watcher import Watcher
from loopline.monitor.window import Window, cut


class MonitorWatch:
    """Asks `loopline.monitor`.

    Args:
        settings: its budget, windows and floors.
    """

    def __init__(self, settings: MonitorSettings | None = None) -> None:
        self._settings = settings or MonitorSettings()

    def look(
        self, champion: FinishedRun, rows: pl.DataFrame, bounds: Sequence[int] = ()
    ) -> Sequence[Notice]:
        """What the newest window shows that those before did not, the weightiest first.

        Args:
            champion: the run that made the champion.
            rows: all rows since, in the source's columns, oldest first.
            bounds: how many of them there were at each earlier look.
        """
        try:
            watcher = Watcher.learn(
                reference_of(champion.project, champion.release), self._settings
            )
        except DataError as error:
            return [Notice("quality", "reference", str(error), page=False)]
        windows, told = self._windows(champion, rows, bounds)
        new: list[Alarm] = []
        for number, window in enumerate(windows):
            alarms = watcher.check(window).alarms
            if number >= told:
                new += [alarm for alarm in alarms if alarm.state == "new"]
        impacts: set[str] = set()
        return [
            Notice(alarm.kind, alarm.subject, said(alarm, impacts), alarm.page)
            for alarm in in_order(new)
        ]

    def _windows(
        self, champion: FinishedRun, rows: pl.DataFrame, bounds: Sequence[int]
    ) -> tuple[list[Window], int]:
        """All windows, and how many of them earlier looks have told of."""
        whole = _window(champion, rows)
        if whole.time is not None or self._settings.window_rows is not None:
            seen = 0
            if bounds and bounds[-1]:
                seen = len(cut(whole.take(np.arange(bounds[-1])), self._settings, end=False)[0])
            return list(cut(whole, self._settings, end=False)[0]), seen
        edges = sorted({0, *bounds, rows.height})
        parts = [whole.take(np.arange(a, b)) for a, b in pairwise(edges)]
        return parts, max(0, len(parts) - 1)


def _window(champion: FinishedRun, rows: pl.DataFrame) -> Window:
    release = champion.release
    repaired = release.repaired(rows)
    checked, _ = release.contract.check(
        repaired.select(name for name in repaired.columns if name not in release.expected)
    )
    target = release.schema.target
    given = {str(row): label for row, label in enumerate(repaired[target].to_list())}
    labels = np.fromiter(codes_of(given, release.classes).values(), np.float64)
    return Window(checked, release.raw(checked), (), times_of(repaired, champion.schema), labels)


def said(alarm: Alarm, impacts: set[str]) -> str:
    """An alarm in words; what does the same to the model as one before it does not say so again.

    Args:
        alarm: the alarm.
        impacts: what was said of the model before; added to.
    """
    told = f"{alarm.sentence.rstrip('.')}."
    if alarm.since and "since" not in told:
        told += f" Since {alarm.since}."
    impact = "" if alarm.impact is None else str(alarm.impact).rstrip(".")
    if impact and alarm.kind != "performance" and impact not in impacts:
        impacts.add(impact)
        told += f" {impact}."
    return told
