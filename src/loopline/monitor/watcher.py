"""The watch over one model: learns what is normal, judges windows, keeps its promise on pages.

`learn` once, then `check` each window in the order of time, and `observe` labels whenever they come.
All that is remembered between windows is plain data: a watcher that was saved after any window and
loaded again goes on as if it had not stopped. A watcher judges one stream in one process; it is not
shared between threads. A new release gets a new watcher, learned from its own reference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.monitor.alarm import Alarm, Impact, in_order
from loopline.monitor.clock import Span
from loopline.monitor.joint import Telling, joint_rows
from loopline.monitor.judge import (
    TABLE,
    OpenAlarms,
    column_alarm,
    lead,
    outcome_alarms,
    statistics_table,
)
from loopline.monitor.learning import Learned, output_scores
from loopline.monitor.losses import ASSUMES
from loopline.monitor.outcomes import Outcomes
from loopline.monitor.quality import look_alarms, schema_alarms
from loopline.monitor.reference import Reference
from loopline.monitor.scan import History, Scan
from loopline.monitor.scores import Column, Question
from loopline.monitor.service import ServiceWatch
from loopline.monitor.settings import MonitorSettings
from loopline.monitor.window import Window
from loopline.words import figure

Floats = NDArray[np.float64]
OF_LABELS = {"performance", "calibration", "slice"}
OF_ROWS = {"column", "joint", "prediction", "schema", "quality", "estimated"}
_STATE, _SETTINGS = "state.json", "settings.json"


@dataclass(frozen=True)
class Checked:
    """What one window, or some labels, showed.

    Args:
        alarms: opened, still open and closed just now, in the order of weight.
        table: one row a column: what is asked of it, how far it moved, since how many windows, and
            how far it had to move to be told.
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
        features: the last windows' features.
        outputs: the last windows' predictions and expected losses; None without a model.
        outcomes: labels, and rows that wait for theirs; None without outcomes in the reference.
        service: what is usual of the service.
        open: alarms that last.
        num_windows: windows that were checked.
        num_rows: their rows.
    """

    learned: Learned
    features: History
    outputs: History | None = None
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
        outputs = learned.outputs
        return Watcher(
            learned,
            History(learned.law, learned.questions),
            None if outputs is None else History(outputs.law, outputs.questions),
            learned.outcomes(),
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the reference could not tell, as sentences."""
        return self.learned.remarks

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
        remarks = list(window.remarks)
        found: list[Alarm] = []
        if window.service is not None:
            found += self.service.check(
                window.service, self.learned.budget.chance("service"), self.learned.settings, start
            )
        table = _empty_table()
        clean: set[tuple[str, str]] = set()
        kinds: set[str] = set()
        if not window.num_rows:
            remarks.append("The window has no rows, so only the service was looked at.")
        else:
            more, table, clean = self._judge(window, start, remarks)
            found += more
            kinds |= OF_ROWS
        if window.labels is not None and window.num_rows:
            ids = self._ids(window)
            given = {
                name: float(code)
                for name, code in zip(ids, window.labels, strict=True)
                if np.isfinite(code)
            }
            labelled, judged = self._take(self._decoded(given), remarks)
            found += labelled
            kinds |= judged
        if window.service is not None:
            kinds.add("service")
            clean |= {("service", "errors")}
            clean |= {("service", f"latency {name}") for name in window.service.latency}
        alarms = self._settled(found, clean, kinds)
        self.num_rows += window.num_rows
        return Checked(tuple(in_order(alarms)), table, tuple(remarks), window.num_rows, start)

    def observe(self, labels: Mapping[str, Any]) -> Checked:
        """Take labels of rows that were checked earlier: in any order, late, again, or unknown.

        Args:
            labels: class label (or number) by row id.
        """
        remarks: list[str] = []
        found, judged = self._take(labels, remarks)
        alarms = self._settled(found, set(), judged)
        return Checked(tuple(in_order(alarms)), _empty_table(), tuple(remarks), len(labels), "")

    def _judge(
        self, window: Window, start: str, remarks: list[str]
    ) -> tuple[list[Alarm], pl.DataFrame, set[tuple[str, str]]]:
        found = schema_alarms(self.learned.columns, window.frame, start)
        chance = self.learned.budget.chance("column") / max(len(self.learned.columns), 1)
        parts, looked, reads = [], {}, {}
        for column in self.learned.columns:
            if column.name not in window.frame.columns:
                parts.append(np.full((window.num_rows, len(column.questions)), np.nan))
                continue
            read = column.read(window.frame[column.name])
            reads[column.name] = read
            parts.append(column.score(read))
            alarm = look_alarms(column, read, chance, start)
            if alarm is not None:
                looked[column.name] = alarm
        scores = np.hstack(parts) if parts else np.zeros((window.num_rows, 0))
        span = Span.of(self.learned.clock, self._time(window), self.num_rows, window.num_rows)
        self.features.add(scores, span, start)
        found += looked.values()
        ids = self._ids(window)
        self._answered(window, span, start, ids, remarks)
        scan = self.features.scan() if self.learned.columns else None
        moved = set()
        if scan is not None:
            for column in self.learned.columns:
                if column.name in looked or column.name not in reads:
                    moved.add(column.name)
                    continue
                alarm = column_alarm(
                    column,
                    self.learned.places[column.name],
                    self.features,
                    scan,
                    chance,
                    self.learned.settings,
                )
                if alarm is not None:
                    place = self.learned.places[column.name]
                    rows = _showing(scores[:, place], alarm, column.questions, ids)
                    words = _values_words(column, reads[column.name], alarm)
                    found.append(replace(alarm, rows=rows, sentence=alarm.sentence + words))
                    moved.add(column.name)
        found = [self._weighed(alarm) for alarm in found]
        outputs, output_scan = self._outputs(ids)
        found += outputs
        if not moved:
            found += self._joint(scores, window, start)
        table = self._table(scan, output_scan, chance)
        facts = {cause for cause, alarm in self.open.alarms.items() if "score" not in alarm.facts}
        return found, table, {cause for cause in facts if cause[0] in OF_ROWS}

    def _settled(
        self, found: list[Alarm], clean: set[tuple[str, str]], kinds: set[str]
    ) -> list[Alarm]:
        """Open, keep and close; what has come back starts anew."""
        histories = [(self.features, {"column", "quality"})]
        if self.outputs is not None and self.outputs.sums:
            histories.append((self.outputs, {"prediction", "estimated"}))
        if self.outcomes is not None and self.outcomes.history.sums:
            histories.append((self.outcomes.history, OF_LABELS))
        for history, about in histories:
            clean = clean | self.open.gone(history, about & kinds)
        alarms = self.open.update(found, clean, kinds)
        for alarm in alarms:
            if alarm.state == "closed" and "score" in alarm.facts:
                for history, about in histories:
                    if alarm.kind in about:
                        history.forget(int(alarm.facts["score"]))
        return alarms

    def _answered(
        self, window: Window, span: Span, start: str, ids: list[str], remarks: list[str]
    ) -> None:
        if self.outputs is None or self.learned.losses is None:
            return
        if window.prediction is None:
            remarks.append("The window has no predictions, so only its features were judged.")
            return
        if window.prediction.ndim != np.ndim(self.learned.reference.prediction):
            remarks.append("The predictions have another shape than the reference's.")
            return
        scores = output_scores(self.learned.output_columns, self.learned.losses, window.prediction)
        self.outputs.add(scores, span, start)
        if self.outcomes is not None:
            remarks += self.outcomes.remember(
                ids, self._time(window), window.prediction, window.frame
            )

    def _outputs(self, ids: list[str]) -> tuple[list[Alarm], Scan | None]:
        if self.outputs is None or not self.outputs.sums:
            return [], None
        scan = self.outputs.scan()
        found: list[Alarm] = []
        width = len(self.outputs.questions) - 1
        share = self.learned.budget.chance("prediction")
        best: Alarm | None = None
        at = 0
        for column in self.learned.output_columns:
            place = slice(at, at + len(column.questions))
            at = place.stop
            alarm = column_alarm(
                column,
                place,
                self.outputs,
                scan,
                share / len(self.learned.output_columns),
                self.learned.settings,
            )
            if alarm is not None and (best is None or (alarm.p or 0) < (best.p or 0)):
                best = replace(alarm, kind="prediction", subject="prediction")
        if best is not None:
            found.append(replace(best, page=True, impact=self.impact(int(best.facts["windows"]))))
        rise = lead(
            self.outputs,
            scan,
            width,
            self.learned.budget.chance("estimated"),
            self.learned.settings.margin,
        )
        if rise is not None:
            name = self.learned.losses.name if self.learned.losses else "loss"
            effect, low, high, since, back, p = rise
            found.append(
                Alarm(
                    "estimated", "worse", "expected loss", True,
                    f"The {name} that the predictions let expect rose by "
                    f"{effect:.3f} [{low:.3f}, {high:.3f}] ({ASSUMES}).",
                    effect, low, high, name, since, self.impact(back), (), p,
                    facts={"windows": back, "score": width},
                )
            )  # fmt: skip
        return found, scan

    def impact(self, back: int) -> Impact:
        """The estimated rise of the loss over the last windows, from the predictions alone."""
        if self.learned.losses is None or self.outputs is None or not self.outputs.sums:
            why = (
                "there are no predictions in the reference."
                if self.learned.losses is None
                else "no predictions came."
            )
            return Impact("loss", None, None, None, why)
        effect, error, _ = self.outputs.over(back)
        value, spread = float(effect[-1]), float(error[-1])
        if not np.isfinite(spread):
            return Impact(self.learned.losses.name, None, None, None, "no predictions came.")
        return Impact(
            self.learned.losses.name, value, value - 1.96 * spread, value + 1.96 * spread, ASSUMES
        )

    def _weighed(self, alarm: Alarm) -> Alarm:
        """Does a moved column page? If the model leans on it, or if the model suffers."""
        impact = self.impact(int(alarm.facts.get("windows", 1)))
        share = self.learned.importance.get(alarm.subject) if self.learned.importance else 1.0
        leaned_on = (0.0 if share is None else share) >= self.learned.settings.important
        suffers = (
            impact.change is not None
            and impact.low is not None
            and impact.low > 0
            and impact.change >= self.learned.settings.margin
        )
        page = (leaned_on or suffers) and alarm.what != "new"
        words = (
            ""
            if page or alarm.what == "new"
            else (" The model leans little on it and does not seem to suffer, so this is a note.")
        )
        return replace(alarm, page=page, impact=impact, sentence=alarm.sentence + words)

    def _joint(self, scores: Floats, window: Window, start: str) -> list[Alarm]:
        if self.learned.joint is None:
            return []
        time = self._time(window)
        seconds = float(time.max() - time.min()) if time is not None else 0.0
        told = self.learned.joint.tell(scores, seconds)
        if told is None or told.p >= self.learned.budget.chance("joint"):
            return []
        impact = self._weighted(told)
        page = bool(
            impact.change is not None
            and impact.low is not None
            and impact.low > 0
            and impact.change >= self.learned.settings.margin
        )
        sentence = (
            f"A small model tells these rows from the reference's with an AUC of {told.auc}, where "
            f"{told.usual:.3f} is usual, though no single column stands out."
        )
        if not page:
            sentence += " The model does not seem to suffer, so this is a note."
        return [
            Alarm(
                "joint", "shift", "all columns", page, sentence, told.auc.value, told.auc.low,
                told.auc.high, "AUC", start, impact, (), told.p, facts={"usual": told.usual},
            )
        ]  # fmt: skip

    def _weighted(self, told: Telling) -> Impact:
        """The rise of the loss when the reference is weighted to look like the window."""
        reference, losses = self.learned.reference, self.learned.losses
        if losses is None or reference.prediction is None or reference.target is None:
            return self.impact(1)
        assert self.learned.joint is not None
        rows = joint_rows(reference.num_rows)[told.places]
        loss = losses.of(
            np.asarray(reference.prediction)[rows], np.asarray(reference.target, float)[rows]
        )
        weight = told.weights / told.weights.sum()
        value = float(weight @ loss)
        error = float(np.sqrt(((weight * (loss - value)) ** 2).sum() + loss.var() / loss.size))
        change = value - float(loss.mean())
        why = "from reference rows weighted to look like these, which assumes no concept drift"
        return Impact(losses.name, change, change - 1.96 * error, change + 1.96 * error, why)

    def _take(self, labels: Mapping[str, Any], remarks: list[str]) -> tuple[list[Alarm], set[str]]:
        if not labels:
            return [], set()
        if self.outcomes is None:
            remarks.append(
                "Labels came, but the reference has no outcomes to compare them with; they were "
                "left aside."
            )
            return [], set()
        _, told = self.outcomes.take(labels)
        remarks += told
        found: dict[tuple[str, str], Alarm] = {}
        scans = self.outcomes.judge()
        for scan, _ in scans:
            alarms = outcome_alarms(
                self.outcomes, scan, self.learned.budget, self.learned.settings, self._label_rate()
            )
            found |= {alarm.cause: alarm for alarm in alarms}
        return list(found.values()), set(OF_LABELS) if scans else set()

    def _label_rate(self) -> float:
        """Chunks of labels in the time of a window, if every row gets its label."""
        assert self.outcomes is not None
        rows = self.learned.reference.rows_a_day or self.learned.settings.rows_a_day
        if rows is None:
            rows = self.num_rows / max(self.num_windows, 1) * self.learned.budget.windows_a_day
        chunks = rows / self.learned.budget.windows_a_day / self.outcomes.chunk
        return max(chunks, 1e-3)

    def _decoded(self, codes: Mapping[str, float]) -> dict[str, Any]:
        classes = self.learned.reference.classes
        if not classes:
            return dict(codes)
        return {
            name: classes[int(code)] if 0 <= code < len(classes) else None
            for name, code in codes.items()
        }

    def _ids(self, window: Window) -> list[str]:
        if window.ids:
            return list(window.ids)
        return [str(self.num_rows + place) for place in range(window.num_rows)]

    def _time(self, window: Window) -> Floats | None:
        return window.time if self.learned.clock.timed else None

    def _start(self, window: Window) -> str:
        if window.time is not None and window.num_rows and np.isfinite(window.time).any():
            return iso(float(np.nanmin(window.time)))
        return f"window {self.num_windows + 1}"

    def _table(self, scan: Scan | None, output: Scan | None, chance: float) -> pl.DataFrame:
        parts = []
        if scan is not None:
            parts.append(statistics_table(self.features, scan, chance, self.learned.places))
        if output is not None and self.outputs is not None:
            parts.append(
                statistics_table(
                    self.outputs, output, self.learned.budget.chance("prediction"), None
                )
            )
        return pl.concat(parts) if parts else _empty_table()

    def save(self, folder: Path) -> None:
        """Write reference, settings and all that is remembered, as data."""
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "reference.json").exists():
            self.learned.reference.save(folder)
        self.save_state(folder)

    def save_state(self, folder: Path) -> None:
        """Write settings and what is remembered, without the reference, which never changes."""
        kept = {
            "settings": self.learned.settings.model_dump(mode="json"),
            "seed": self.learned.seed,
        }
        (folder / _SETTINGS).write_text(json.dumps(kept), encoding="utf-8")
        state: dict[str, Any] = {
            "features": self.features.to_dict(),
            "outputs": self.outputs.to_dict() if self.outputs else None,
            "service": self.service.to_dict(),
            "open": self.open.to_dict(),
            "num_windows": self.num_windows,
            "num_rows": self.num_rows,
            "outcomes": self.outcomes.save(folder) if self.outcomes else None,
        }
        (folder / _STATE).write_text(json.dumps(state, allow_nan=False), encoding="utf-8")

    @staticmethod
    def load(folder: Path, reference: Reference | None = None) -> Watcher:
        """Go on from what `save` wrote, or `save_state` beside a reference kept elsewhere.

        Args:
            folder: what was written.
            reference: the one it was learned from; by default the folder's own.
        """
        kept = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        settings = MonitorSettings.model_validate(kept["settings"])
        watcher = Watcher.learn(reference or Reference.load(folder), settings, int(kept["seed"]))
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        watcher.features.restore(state["features"])
        if watcher.outputs is not None:
            watcher.outputs.restore(state["outputs"])
        if watcher.outcomes is not None:
            watcher.outcomes.restore(folder, state["outcomes"])
        watcher.service = ServiceWatch.from_dict(state["service"])
        watcher.open = OpenAlarms.from_dict(state["open"])
        watcher.num_windows = int(state["num_windows"])
        watcher.num_rows = int(state["num_rows"])
        return watcher


def iso(seconds: float) -> str:
    """A time as people and machines read it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _showing(
    scores: Floats, alarm: Alarm, questions: list[Question], ids: list[str]
) -> tuple[str, ...]:
    """Rows of the window that show a move best."""
    k = int(alarm.facts["question"])
    value = scores[:, k] * (1 if (alarm.effect or 0) >= 0 else -1)
    value = np.where(np.isfinite(value), value, -np.inf)
    order = np.argsort(-value, kind="stable")[:5]
    return tuple(ids[int(row)] for row in order if np.isfinite(value[row]) and value[row] > 0)


def _values_words(column: Column, read: pl.Series, alarm: Alarm) -> str:
    if column.type != "number" or alarm.what not in ("shift", "spread") or not column.quantiles:
        return ""
    median = read.median()
    if not isinstance(median, int | float):
        return ""
    now, before = figure(float(median)), figure(column.quantiles[2])
    return f" Its median in this window is {now}, in the reference {before}."


def _empty_table() -> pl.DataFrame:
    return pl.DataFrame(schema=TABLE)
