"""The watch over one model: learns what is normal, judges windows, keeps its promise on pages.

`learn` once, then `check` each window in the order of time, and `observe` labels whenever they
come. All that is remembered between windows is plain data: a watcher that was saved after any
window and loaded again goes on as if it had not stopped. A watcher judges one stream in one
process; it is not shared between threads. A new release gets a new watcher with its own reference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.monitor.alarm import Alarm, Impact, in_order
from loopline.monitor.judge import TABLE, OpenAlarms, outcome_alarms
from loopline.monitor.learning import Learned
from loopline.monitor.outcomes import Outcomes
from loopline.monitor.reference import Reference
from loopline.monitor.rows import RowWatch
from loopline.monitor.scan import History
from loopline.monitor.service import ServiceWatch
from loopline.monitor.settings import MonitorSettings
from loopline.monitor.window import Window

Floats = NDArray[np.float64]
OF_LABELS = frozenset({"performance", "calibration", "slice"})
OF_ROWS = frozenset({"column", "joint", "prediction", "schema", "quality", "estimated"})
_OF_FEATURES, _OF_OUTPUTS = frozenset({"column", "quality"}), frozenset({"prediction", "estimated"})
_STATE, _SETTINGS = "state.json", "settings.json"


@dataclass(frozen=True)
class Checked:
    """What one window, or some labels, showed.

    Args:
        alarms: opened, still open and closed just now, in the order of weight.
        table: one row a question to a column: how far it moved over its clearest look-back, in how
            many windows, how likely that is, and how far this window alone had to move to be told.
        remarks: what was odd about the rows or labels themselves, as sentences.
        rows: how many were judged.
        start: when the window began.
    """

    alarms: tuple[Alarm, ...]
    table: pl.DataFrame
    remarks: tuple[str, ...]
    rows: int
    start: str

    @property
    def pages(self) -> tuple[Alarm, ...]:
        """Alarms that have just begun to page."""
        return tuple(alarm for alarm in self.alarms if alarm.page and alarm.state == "new")


@dataclass(eq=False)
class Watcher:
    """Watches one stream of answered rows. Made by `learn` or `load`.

    Args:
        learned: what is normal, which never changes.
        rows: judges rows, and remembers the last windows.
        outcomes: labels, and rows that wait for theirs; None without outcomes in the reference.
        service: what is usual of the service.
        open: alarms that last.
        num_windows: windows that were checked.
        num_rows: their rows.
    """

    learned: Learned
    rows: RowWatch
    outcomes: Outcomes | None = None
    service: ServiceWatch = field(default_factory=ServiceWatch)
    open: OpenAlarms = field(default_factory=OpenAlarms)
    num_windows: int = 0
    num_rows: int = 0

    @staticmethod
    def learn(
        reference: Reference, settings: MonitorSettings | None = None, seed: int = 0
    ) -> Watcher:
        """Learn what is normal.

        Args:
            reference: normal rows; more than 100,000 are thinned evenly.
            settings: by default one page for nothing a month, windows of a day.
            seed: kept with the watcher; nothing is drawn at present, so any seed gives the same.

        Raises:
            SettingsError: columns in the settings that the reference does not have, or slices
                without outcomes to judge them by.

        >>> rng = np.random.default_rng(0)
        >>> reference = Reference(pl.DataFrame({"age": rng.normal(40, 9, 2000)}))
        >>> watcher = Watcher.learn(reference, MonitorSettings(window=200))
        >>> window = Window(pl.DataFrame({"age": rng.normal(46, 9, 200)}))
        >>> [(alarm.subject, alarm.what) for alarm in watcher.check(window).alarms]
        [('age', 'shift')]
        """
        learned = Learned.of(reference, settings or MonitorSettings(), seed)
        asked = learned.outputs
        outputs = None if asked is None else History(asked.law, asked.questions)
        rows = RowWatch(learned, History(learned.law, learned.questions), outputs)
        return Watcher(learned, rows, learned.outcomes())

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the reference could not tell, as sentences."""
        return self.learned.remarks

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """Alarms that are open."""
        return tuple(in_order(self.open.alarms.values()))

    def impact(self, windows: int = 1) -> Impact:
        """The estimated rise of the loss over the last windows, from the predictions alone."""
        return self.rows.impact(windows)

    def check(self, window: Window) -> Checked:
        """Judge a window of answered rows.

        Args:
            window: the rows; labels that it holds are taken as well.

        Returns:
            Its alarms and a table of all columns. Bad input is told there and never raises.
        """
        window = window.tidied()
        start = self._start(window)
        self.num_windows += 1
        remarks, table = list(window.remarks), pl.DataFrame(schema=TABLE)
        found: list[Alarm] = []
        kinds: set[str] = set()
        if window.service is not None:
            chance = self.learned.budget.chance("service")
            found += self.service.check(window.service, chance, self.learned.settings, start)
            kinds.add("service")
        if window.num_rows:
            ids = window.ids or tuple(str(self.num_rows + k) for k in range(window.num_rows))
            more, table, told = self.rows.judge(window, self.num_rows, start, ids)
            labelled, judged = self._answered(window, ids, remarks)
            found += [*more, *labelled]
            remarks += told
            kinds |= OF_ROWS | judged
        else:
            remarks.append("The window has no rows, so only the service was looked at.")
        self.num_rows += window.num_rows
        alarms = self._settled(found, kinds)
        return Checked(tuple(in_order(alarms)), table, tuple(remarks), window.num_rows, start)

    def observe(self, labels: Mapping[str, Any]) -> Checked:
        """Take labels of rows that were checked earlier: in any order, late, again, or unknown.

        Args:
            labels: class label, number, or list of labels by row id.
        """
        remarks: list[str] = []
        losses = self.learned.losses
        given = losses.read(labels) if losses is not None else dict.fromkeys(labels, np.zeros(1))
        found, judged = self._take(given, remarks)
        alarms = self._settled(found, judged)
        table = pl.DataFrame(schema=TABLE)
        return Checked(tuple(in_order(alarms)), table, tuple(remarks), len(labels), "")

    def _answered(
        self, window: Window, ids: tuple[str, ...], remarks: list[str]
    ) -> tuple[list[Alarm], set[str]]:
        """Remember rows that wait for labels, and take labels that came with them."""
        expected = self.learned.reference.row_shape
        prediction = window.prediction
        if (
            self.outcomes is not None
            and prediction is not None
            and prediction.shape[1:] == expected
        ):
            time = window.time if self.learned.clock.timed else None
            remarks += self.outcomes.remember(ids, time, prediction, window.frame)
        if window.labels is None:
            return [], set()
        labels = window.labels.reshape(window.num_rows, -1)
        missing = np.asarray(np.isnan(labels).all(axis=1)).tolist()
        if self.learned.losses is not None:
            labels = self.learned.losses.valid(labels)
        given = {name: row for name, row, no in zip(ids, labels, missing, strict=True) if not no}
        return self._take(given, remarks)

    def _take(
        self, outcomes: Mapping[str, Floats], remarks: list[str]
    ) -> tuple[list[Alarm], set[str]]:
        if not outcomes:
            return [], set()
        if self.outcomes is None:
            remarks.append(
                "Labels came, but the reference has no outcomes to compare them with; they were "
                "left aside."
            )
            return [], set()
        remarks += self.outcomes.take(outcomes)
        budget, settings, rate = self.learned.budget, self.learned.settings, self._chunks()
        found: dict[tuple[str, str], Alarm] = {}
        scans = self.outcomes.judge()
        for scan in scans:
            alarms = outcome_alarms(self.outcomes, scan, budget, settings, rate)
            found |= {alarm.cause: alarm for alarm in alarms}
        return list(found.values()), set(OF_LABELS) if scans else set()

    def _settled(self, found: list[Alarm], kinds: set[str]) -> list[Alarm]:
        """Open, keep and close; what has come back starts anew."""
        histories = [(self.rows.features, _OF_FEATURES)]
        if self.rows.outputs is not None:
            histories.append((self.rows.outputs, _OF_OUTPUTS))
        if self.outcomes is not None:
            histories.append((self.outcomes.history, OF_LABELS))
        clean = self.open.gone_facts(kinds)
        for history, about in histories:
            if history.sums:
                clean |= self.open.gone(history, about & kinds)
        alarms = self.open.update(found, clean, kinds, self.num_windows)
        for alarm in alarms:
            if alarm.state == "closed" and "score" in alarm.facts:
                for history, about in histories:
                    if alarm.kind in about:
                        history.forget(int(alarm.facts["score"]))
        return alarms

    def _chunks(self) -> float:
        """Chunks of labels in the time of a window, if every row gets its label."""
        assert self.outcomes is not None
        windows = self.learned.budget.windows_a_day
        rows = self.learned.settings.rows_a_day or self.learned.reference.rows_a_day
        a_window = self.num_rows / max(self.num_windows, 1) if rows is None else rows / windows
        return max(a_window / self.outcomes.chunk, 1e-3)

    def _start(self, window: Window) -> str:
        if window.time is not None and np.isfinite(window.time).any():
            return iso(float(np.nanmin(window.time)))
        return f"window {self.num_windows + 1}"

    def save(self, folder: Path) -> None:
        """Write reference, settings and all that is remembered, as data."""
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / _SETTINGS).exists():
            self.learned.reference.save(folder)
        self.save_state(folder)

    def save_state(self, folder: Path) -> None:
        """Write settings and what is remembered, without the reference, which never changes."""
        kept = {
            "settings": self.learned.settings.model_dump(mode="json"),
            "seed": self.learned.seed,
        }
        (folder / _SETTINGS).write_text(json.dumps(kept), encoding="utf-8")
        outputs = self.rows.outputs
        state: dict[str, Any] = {
            "features": self.rows.features.to_dict(),
            "outputs": None if outputs is None else outputs.to_dict(),
            "service": self.service.to_dict(),
            "open": self.open.to_dict(),
            "num_windows": self.num_windows,
            "num_rows": self.num_rows,
            "outcomes": None if self.outcomes is None else self.outcomes.save(folder),
        }
        (folder / _STATE).write_text(json.dumps(state, allow_nan=False), encoding="utf-8")

    @staticmethod
    def load(folder: Path, reference: Reference | None = None) -> Watcher:
        """Go on from what `save` wrote, or `save_state` beside a reference that is kept elsewhere.

        Args:
            folder: what was written.
            reference: what was learned from; by default the folder's own.
        """
        kept = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        settings = MonitorSettings.model_validate(kept["settings"])
        watcher = Watcher.learn(reference or Reference.load(folder), settings, int(kept["seed"]))
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        watcher.rows.features.restore(state["features"])
        if watcher.rows.outputs is not None:
            watcher.rows.outputs.restore(state["outputs"])
        if watcher.outcomes is not None:
            watcher.outcomes.restore(folder, state["outcomes"])
        watcher.service = ServiceWatch.from_dict(state["service"])
        watcher.open = OpenAlarms.from_dict(state["open"])
        watcher.num_windows = int(state["num_windows"])
        watcher.num_rows = int(state["num_rows"])
        return watcher


def iso(seconds: float) -> str:
    """A time as people and machines read it, in UTC.

    >>> iso(0)
    '1970-01-01T00:00:00+00:00'
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
