"""Judging the rows of a window: columns one by one, predictions, expected loss, all together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.monitor.alarm import Alarm, Impact, LineChange
from loopline.monitor.clock import Span
from loopline.monitor.joint import Telling, joint_rows
from loopline.monitor.judge import TABLE, column_alarm, lead, statistics_table
from loopline.monitor.learning import Learned, output_scores
from loopline.monitor.line_metric import LineMetric
from loopline.monitor.quality import look_alarm, schema_alarms
from loopline.monitor.scan import History
from loopline.monitor.scores import Column
from loopline.monitor.window import Window
from loopline.words import figure

Floats = NDArray[np.float64]
NUM_SHOWN = 5


@dataclass(eq=False)
class RowWatch:
    """What rows themselves show, without their outcomes.

    Args:
        learned: what is normal.
        features: the last windows' features.
        outputs: the last windows' predictions and expected losses; None without a model.
        line: what the newest window does to the line's own metric, where that can be estimated.
    """

    learned: Learned
    features: History
    outputs: History | None
    line: LineChange | None = None

    @cached_property
    def _line_metric(self) -> LineMetric | None:
        return LineMetric.learn(self.learned.reference, self.learned.losses)

    def judge(
        self, window: Window, first: int, start: str, ids: Sequence[str]
    ) -> tuple[list[Alarm], pl.DataFrame, list[str]]:
        """Judge a window of at least one row.

        Args:
            window: the rows.
            first: place of the first one in the stream.
            start: when the window began, for people.
            ids: of the rows.

        Returns:
            What stands out, the table of all questions, and what was odd.
        """
        learned, remarks = self.learned, []
        time = window.time if learned.clock.timed else None
        span = Span.of(learned.clock, time, first, window.num_rows)
        chance = learned.budget.chance("column") / max(len(learned.columns), 1)
        kept = [column for column in learned.columns if column.name not in window.left_out]
        found = schema_alarms(kept, window.frame, start, learned.reference.frame.columns)
        reads, scores, looked = self._read(window, chance, start)
        found += looked
        self.features.add(scores, span, start)
        self.line = None
        if window.prediction is not None and self.outputs is not None:
            if window.prediction.shape[1:] == learned.reference.row_shape:
                self._answer(window.prediction, span, start)
            else:
                remarks.append("The predictions have another shape than the reference's.")
        elif self.outputs is not None:
            remarks.append("The window has no predictions, so only its features were judged.")
        out_of_order = {alarm.subject for alarm in found if alarm.what != "new"}
        moved = [
            alarm
            for alarm in self._moved(reads, scores, ids, chance)
            if alarm.subject not in out_of_order
        ]
        found = [self._weighed(alarm) for alarm in (*found, *moved)]
        found += self._predictions() + self._expected()
        if not moved and not out_of_order:
            found += self._joint(scores, time, start)
        return found, self._table(chance), remarks

    def _read(
        self, window: Window, chance: float, start: str
    ) -> tuple[dict[str, pl.Series], Floats, list[Alarm]]:
        """Cells, their scores, and columns that are out of order, whose scores do not count."""
        reads: dict[str, pl.Series] = {}
        parts = [np.zeros((window.num_rows, 0))]
        found = []
        for column in self.learned.columns:
            nothing = np.full((window.num_rows, len(column.questions)), np.nan)
            if column.name not in window.frame.columns:
                parts.append(nothing)
                continue
            read = column.read(window.frame[column.name])
            reads[column.name] = read
            alarm = look_alarm(column, read, chance, start)
            if alarm is not None:
                found.append(replace(alarm, rows=()))
            parts.append(column.score(read) if alarm is None else nothing)
        return reads, np.hstack(parts), found

    def _answer(self, prediction: Floats, span: Span, start: str) -> None:
        assert self.outputs is not None
        assert self.learned.losses is not None
        scores = output_scores(self.learned.output_columns, self.learned.losses, prediction)
        self.outputs.add(scores, span, start)
        metric = self._line_metric
        self.line = None if metric is None else metric.change(prediction)

    def _moved(
        self, reads: dict[str, pl.Series], scores: Floats, ids: Sequence[str], chance: float
    ) -> list[Alarm]:
        if not self.learned.columns:
            return []
        scan = self.features.scan()
        found = []
        for column in self.learned.columns:
            place = self.learned.places[column.name]
            alarm = column_alarm(column, place, self.features, scan, chance, self.learned.settings)
            if alarm is not None and column.name in reads:
                rows = _showing(scores[:, place.start + int(alarm.facts["question"])], alarm, ids)
                words = _values_words(column, reads[column.name], alarm)
                found.append(replace(alarm, rows=rows, sentence=alarm.sentence + words))
        return found

    def _predictions(self) -> list[Alarm]:
        """The clearest move of the predictions; one alarm, whichever class it is about."""
        columns = self.learned.output_columns
        if self.outputs is None or not self.outputs.sums or not columns:
            return []
        scan = self.outputs.scan()
        chance = self.learned.budget.chance("prediction") / len(columns)
        found: list[Alarm] = []
        at = 0
        for column in columns:
            place = slice(at, at + len(column.questions))
            at = place.stop
            alarm = column_alarm(column, place, self.outputs, scan, chance, self.learned.settings)
            if alarm is not None:
                found.append(alarm)
        if not found:
            return []
        best = min(found, key=lambda alarm: alarm.p or 0.0)
        sentence = best.sentence.replace("Column 'prediction' lies", "Predictions lie")
        impact = self.impact(int(best.facts["windows"]))
        return [
            replace(best, kind="prediction", subject="prediction", sentence=sentence, impact=impact)
        ]

    def _expected(self) -> list[Alarm]:
        if self.outputs is None or not self.outputs.sums or self.learned.losses is None:
            return []
        score = len(self.outputs.questions) - 1
        chance, margin = self.learned.budget.chance("estimated"), self.learned.settings.margin
        rise = lead(self.outputs, self.outputs.scan(), score, chance, margin)
        if rise is None:
            return []
        losses = self.learned.losses
        name = losses.name
        usual = float(self.outputs.law.mean[score])
        sentence = (
            f"The {name} {losses.expects} is {usual + rise.effect:.3f} "
            f"[{usual + rise.low:.3f}, {usual + rise.high:.3f}], where {usual:.3f} was normal; "
            f"since {rise.since} ({losses.why})."
        )
        return [
            Alarm(
                "estimated", "worse", "expected loss", True, sentence, rise.effect, rise.low,
                rise.high, name, rise.since, self.impact(rise.windows), (), rise.p,
                facts={"windows": rise.windows, "score": score},
            )
        ]  # fmt: skip

    def impact(self, back: int) -> Impact:
        """The estimated rise of the loss over the last windows, from the predictions alone."""
        losses = self.learned.losses
        if losses is None or self.outputs is None:
            why = "the reference has no predictions."
            return Impact("loss", None, None, None, why)
        if self.outputs.sums:
            effect, error, _ = self.outputs.over(back)
            value, spread = float(effect[-1]), 1.96 * float(error[-1])
            if np.isfinite(spread):
                ends = (value - spread, value + spread)
                return Impact(losses.name, value, *ends, losses.why, self.line)
        return Impact(losses.name, None, None, None, "no predictions came.")

    def _suffers(self, impact: Impact) -> bool:
        return (
            impact.change is not None
            and impact.low is not None
            and impact.low > 0
            and impact.change >= self.learned.settings.margin
        )

    def _weighed(self, alarm: Alarm) -> Alarm:
        """Does a moved column page? If the model leans on it, or if the model suffers."""
        if alarm.what == "new":
            return replace(alarm, page=False)
        impact = self.impact(int(alarm.facts.get("windows", 1)))
        importance = self.learned.importance
        share = importance.get(alarm.subject, 0.0) if importance else 1.0
        page = share >= self.learned.settings.important or self._suffers(impact)
        words = (
            ""
            if page
            else " The model leans little on it and does not seem to suffer, so this is a note."
        )
        return replace(alarm, page=page, impact=impact, sentence=alarm.sentence + words)

    def _joint(self, scores: Floats, time: Floats | None, start: str) -> list[Alarm]:
        if self.learned.joint is None:
            return []
        seconds = float(time.max() - time.min()) if time is not None else 0.0
        told = self.learned.joint.tell(scores, seconds)
        if told is None or told.p >= self.learned.budget.chance("joint"):
            return []
        impact = self._weighted(told)
        page = impact.change is None or self._suffers(impact)
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
        rows = joint_rows(reference.num_rows)[told.places]
        outcome = np.asarray(reference.target, dtype=np.float64)[rows]
        loss = losses.of(np.asarray(reference.prediction)[rows], outcome)
        weight = told.weights / told.weights.sum()
        value = float(weight @ loss)
        reach = 1.96 * float(
            np.sqrt(((weight * (loss - value)) ** 2).sum() + loss.var() / loss.size)
        )
        change = value - float(loss.mean())
        why = "from reference rows weighted to look like these, which assumes no concept drift"
        return Impact(losses.name, change, change - reach, change + reach, why)

    def _table(self, chance: float) -> pl.DataFrame:
        parts = [pl.DataFrame(schema=TABLE)]
        if self.learned.columns:
            parts.append(
                statistics_table(self.features, self.features.scan(), chance, self.learned.places)
            )
        if self.outputs is not None and self.outputs.sums:
            share = self.learned.budget.chance("prediction")
            parts.append(statistics_table(self.outputs, self.outputs.scan(), share, None))
        return pl.concat(parts)


def _showing(score: Floats, alarm: Alarm, ids: Sequence[str]) -> tuple[str, ...]:
    """Rows of the window that show a move best."""
    value = score if (alarm.effect or 0) >= 0 else -score
    value = np.where(np.isfinite(value), value, -np.inf)
    order = np.argsort(-value, kind="stable")[:NUM_SHOWN]
    return tuple(ids[int(row)] for row in order if value[row] > 0)


def _values_words(column: Column, read: pl.Series, alarm: Alarm) -> str:
    if alarm.what not in ("shift", "spread", "length") or not column.quantiles:
        return ""
    cells = read.str.len_chars() if column.type == "text" else read
    median = cells.median()
    if not isinstance(median, int | float):
        return ""
    now, before = figure(float(median)), figure(column.quantiles[2])
    whose = "The median length" if column.type == "text" else "Its median"
    return f" {whose} in this window is {now}, in the reference {before}."
