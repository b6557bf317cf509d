"""From chances to alarms: certainty, a smallest effect, one alarm for each cause."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.evaluate.intervals import student_quantile
from loopline.monitor.alarm import Alarm, Impact, Kind
from loopline.monitor.budget import Budget
from loopline.monitor.scan import History, Scan
from loopline.monitor.scores import Column, Question
from loopline.monitor.settings import MonitorSettings
from loopline.words import counted

if TYPE_CHECKING:
    from loopline.monitor.losses import Losses
    from loopline.monitor.outcomes import Outcomes

Floats = NDArray[np.float64]
TABLE = {
    "column": pl.String, "question": pl.String, "level": pl.String, "effect": pl.Float64,
    "low": pl.Float64, "high": pl.Float64, "unit": pl.String, "windows": pl.Int64,
    "p": pl.Float64, "threshold": pl.Float64, "alarm": pl.Boolean,
}  # fmt: skip
CLEAN_WINDOWS = 2
CLEAN_CHANCE = 0.05
"""An open alarm closes when, over the look-back that opened it, the move has been no less likely
than this in two windows in a row."""


@dataclass(eq=False)
class OpenAlarms:
    """Alarms that last: one for each cause, opened once, closed when its cause has gone.

    Args:
        alarms: by cause.
        clean: how often in a row each was looked at and not found.
    """

    alarms: dict[tuple[str, str], Alarm] = field(default_factory=dict)
    clean: dict[tuple[str, str], int] = field(default_factory=dict)

    def update(
        self,
        found: Sequence[Alarm],
        clean: Collection[tuple[str, str]],
        kinds: Collection[str],
        window: int | None = None,
    ) -> list[Alarm]:
        """Take a window's findings.

        Args:
            found: what stands out in it.
            clean: causes that were looked at and have gone.
            kinds: kinds of alarms that were looked for.
            window: its number.

        Returns:
            Every alarm that is new, still open, or closed just now.
        """
        told: list[Alarm] = []
        for fresh in found:
            alarm, before = replace(fresh, opened=window), self.alarms.get(fresh.cause)
            if before is not None:
                louder = alarm.page and not before.page
                alarm = replace(
                    alarm,
                    state="new" if louder else "open",
                    page=alarm.page or before.page,
                    since=before.since if before.since is not None else alarm.since,
                    opened=window if louder else before.opened,
                )
            self.alarms[alarm.cause] = replace(alarm, state="open")
            told.append(alarm)
        causes = {alarm.cause for alarm in found}
        for cause in list(self.alarms):
            if cause[0] in kinds:
                gone = cause in clean and cause not in causes
                self.clean[cause] = self.clean.get(cause, 0) + 1 if gone else 0
            if self.clean.get(cause, 0) >= CLEAN_WINDOWS:
                told.append(replace(self.alarms.pop(cause), state="closed"))
                self.clean.pop(cause, None)
            elif cause not in causes:
                told.append(self.alarms[cause])
        return told

    def gone_facts(self, kinds: Collection[str]) -> set[tuple[str, str]]:
        """Causes among open alarms of some kinds that are facts of one window and end with it."""
        return {
            cause
            for cause, alarm in self.alarms.items()
            if cause[0] in kinds and "score" not in alarm.facts
        }

    def gone(self, history: History, kinds: Collection[str]) -> set[tuple[str, str]]:
        """Causes among open alarms of some kinds whose move is no longer to be seen.

        Args:
            history: whose scores the alarms are about.
            kinds: kinds of alarms that it tells.
        """
        found = set()
        for cause, alarm in self.alarms.items():
            if cause[0] in kinds and "score" in alarm.facts:
                chance = history.chances(int(alarm.facts["windows"]))[int(alarm.facts["score"])]
                if chance > CLEAN_CHANCE:
                    found.add(cause)
        return found

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain data."""
        return [
            {"alarm": alarm.to_dict(), "clean": self.clean.get(cause, 0)}
            for cause, alarm in self.alarms.items()
        ]

    @staticmethod
    def from_dict(data: Sequence[Mapping[str, Any]]) -> OpenAlarms:
        """Read what `to_dict` wrote."""
        kept = OpenAlarms()
        for entry in data:
            alarm = Alarm.from_dict(entry["alarm"])
            kept.alarms[alarm.cause] = alarm
            kept.clean[alarm.cause] = int(entry["clean"])
        return kept


def column_alarm(
    column: Column,
    place: slice,
    history: History,
    scan: Scan,
    chance: float,
    settings: MonitorSettings,
) -> Alarm | None:
    """The alarm of one column, if one of its questions is answered clearly enough.

    Args:
        column: the column.
        place: its scores.
        history: the last windows.
        scan: what they say.
        chance: of a false alarm that the column may have.
        settings: the smallest effects.
    """
    questions = column.questions
    p = scan.p[place] * len(questions)
    effect = scan.effect[place]
    floors = np.array(
        [settings.floor if q.unit == "sd" else settings.share_floor for q in questions]
    )
    clear = (p < chance) & (np.abs(effect) >= floors)
    if not clear.any():
        return None
    k = _clearest(questions, clear, p, effect)
    question, score = questions[k], place.start + k
    since, back = history.began(score)
    value, low, high = _interval(history, scan, score)
    words = _words(column, k, value, low, high, float(history.law.mean[score]))
    when = f" since {iso_or(since)}" if back > 1 else ""
    return Alarm(
        kind="quality" if question.what in ("missing", "unseen", "characters") else "column",
        what="levels" if question.what == "level" else question.what,
        subject=column.name,
        page=True,
        sentence=f"{words} over the last {counted(int(scan.count[score]), 'row')}{when}.",
        effect=value,
        low=low,
        high=high,
        unit=question.unit,
        since=iso_or(since),
        p=float(p[k]),
        facts={
            "windows": int(scan.back[score]), "score": score, "question": k,
            "level": question.level, "rows": int(scan.count[score]),
        },
    )  # fmt: skip


@dataclass(frozen=True)
class Rise:
    """A loss that has surely risen by more than the margin."""

    effect: float
    low: float
    high: float
    since: str
    windows: int
    p: float


def _clearest(
    questions: Sequence[Question], clear: NDArray[np.bool_], p: Floats, effect: Floats
) -> int:
    """The question that tells a move best.

    A column that lies elsewhere also looks wider, and one with new levels has fewer of the others.
    """
    k = int(np.where(clear, p, np.inf).argmin())
    unseen = [place for place, question in enumerate(questions) if question.what == "unseen"]
    if questions[k].what == "level" and unseen and clear[unseen[0]]:
        return unseen[0]
    moved = [place for place, question in enumerate(questions) if question.what == "shift"]
    if questions[k].what == "spread" and moved and clear[moved[0]]:
        return moved[0] if 2 * abs(effect[moved[0]]) >= abs(effect[k]) else k
    return k


def lead(history: History, scan: Scan, score: int, chance: float, margin: float) -> Rise | None:
    """The rise of a one-sided score, if it is clear and large enough."""
    if scan.p[score] >= chance or scan.effect[score] < margin:
        return None
    value, low, high = _interval(history, scan, score)
    since, _ = history.began(score)
    return Rise(value, low, high, iso_or(since), int(scan.back[score]), float(scan.p[score]))


def outcome_alarms(
    outcomes: Outcomes, scan: Scan, budget: Budget, settings: MonitorSettings, chunks: float
) -> list[Alarm]:
    """Alarms of labels: quality, calibration, slices."""
    found: list[Alarm] = []
    history, losses = outcomes.history, outcomes.losses
    usual = float(history.law.mean[0])
    rows = tuple(name for loss, name in outcomes.worst if loss > 0)
    rise = lead(history, scan, 0, budget.chance("performance", chunks), settings.margin)
    if rise is not None:
        found.append(
            _worse("performance", "loss", "", rise, losses.name, usual, int(scan.count[0]), 0, rows)
        )
    chance = budget.chance("calibration", chunks) / 2
    for k, what in ((1, "bias"), (2, "slope")):
        if scan.p[k] < chance and abs(scan.effect[k]) >= max(settings.margin, settings.share_floor):
            value, low, high = _interval(history, scan, k)
            if low <= 0.0 <= high:
                continue
            unit = "share" if losses.states_chances else losses.name
            facts = {"rows": int(scan.count[k]), "windows": int(scan.back[k]), "score": k}
            found.append(
                Alarm(
                    "calibration", what, "probabilities", True,
                    _off(losses, what, value, low, high), value, low, high, unit,
                    iso_or(history.began(k)[0]), None, rows, float(scan.p[k]), facts=facts,
                )
            )  # fmt: skip
            break
    titles = outcomes.slicer.titles
    for k, title in enumerate(titles, start=3):
        chance = budget.chance("slice", chunks) / len(titles)
        rise = lead(history, scan, k, chance, 2 * settings.margin)
        if rise is not None:
            usual, where = float(history.law.mean[k]), f" where {title}"
            labels = int(scan.count[k])
            found.append(_worse("slice", title, where, rise, losses.name, usual, labels, k, rows))
    return found


def _worse(
    kind: Kind,
    subject: str,
    where: str,
    rise: Rise,
    name: str,
    usual: float,
    labels: int,
    score: int,
    rows: tuple[str, ...],
) -> Alarm:
    sentence = (
        f"The {name}{where} is {usual + rise.effect:.3f} [{usual + rise.low:.3f}, "
        f"{usual + rise.high:.3f}] over the last {counted(labels, 'label')}, where {usual:.3f} was "
        f"normal; since {rise.since}."
    )
    impact = Impact(name, rise.effect, rise.low, rise.high, "measured on labels")
    facts = {"usual": usual, "labels": labels, "windows": rise.windows, "score": score}
    return Alarm(
        kind, "worse", subject, True, sentence, rise.effect, rise.low, rise.high, name, rise.since,
        impact, rows, rise.p, facts=facts,
    )  # fmt: skip


def _off(losses: Losses, what: str, value: float, low: float, high: float) -> str:
    ends = f"[{low:+.3f}, {high:+.3f}]"
    if not losses.states_chances:
        return f"Outcomes lie {value:+.3f} {ends} usual errors from the predictions on average."
    if what == "bias":
        side = "more" if value > 0 else "less"
        return f"What is predicted comes true {side} often than stated: {value:+.3f} {ends}."
    side = "too sure" if value < 0 else "not sure enough"
    return f"The stated probabilities are {side}: outcomes lean {value:+.3f} {ends} from them."


def _interval(history: History, scan: Scan, score: int) -> tuple[float, float, float]:
    """The move with its 95 % interval; a share or error that rose varies more than it used to."""
    value, count = float(scan.effect[score]), max(float(scan.count[score]), 1.0)
    variance = float(scan.error[score]) ** 2
    if history.questions[score].unit in ("share", "error"):
        now = min(max(float(history.law.mean[score]) + value, 0.0), 1.0)
        variance += max(now * (1 - now) - float(history.law.within[score]), 0.0) / count
    reach = student_quantile(0.975, float(scan.freedom[score])) * math.sqrt(variance)
    return value, value - reach, value + reach


def _words(column: Column, k: int, value: float, low: float, high: float, usual: float) -> str:
    question = column.questions[k]
    name = repr(column.name)
    nearer, farther = sorted((abs(low), abs(high)))
    apart = f"{abs(value):.2f} [{nearer:.2f}, {farther:.2f}] standard deviations"
    if question.what == "shift":
        side = "higher" if value > 0 else "lower"
        return f"Column {name} lies {apart} {side} than the reference"
    if question.what == "spread":
        side = "wider" if value > 0 else "closer together"
        return (
            f"The values of column {name} lie {side} than in the reference ({value:+.2f} "
            f"[{low:+.2f}, {high:+.2f}])"
        )
    if question.what == "length":
        side = "longer" if value > 0 else "shorter"
        return f"The texts of column {name} are {apart} {side} than in the reference"
    if question.what == "characters":
        return (
            f"{max(usual + value, 0):.1%} of the characters of {name} are such as the reference "
            f"hardly has, usual are {max(usual, 0):.1%} ({value:+.3f} [{low:+.3f}, {high:+.3f}])"
        )
    subject = {
        "missing": f"{name} is missing",
        "unseen": f"{name} holds levels that the reference never had",
        "level": f"{name} is {question.level!r}",
    }[question.what]
    return (
        f"{subject} in {max(usual + value, 0):.1%} of the rows, usual are {max(usual, 0):.1%} "
        f"({value:+.3f} [{low:+.3f}, {high:+.3f}])"
    )


def iso_or(start: str) -> str:
    """A start that is a number of seconds as UTC ISO 8601; any other as it is."""
    try:
        seconds = float(start)
    except ValueError:
        return start
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def statistics_table(
    history: History, scan: Scan, chance: float, places: Mapping[str, slice] | None
) -> pl.DataFrame:
    """One row a question: the move over its clearest look-back, and what would have been told.

    Args:
        history: the last windows.
        scan: what they say.
        chance: of a false alarm that one column may have.
        places: questions of each column, which share that chance; None where each has it.
    """
    from scipy.special import stdtrit  # comes with scikit-learn

    questions = history.questions
    number = {name: place.stop - place.start for name, place in (places or {}).items()}
    limit = chance / np.array([number.get(question.column, 1) for question in questions])
    _, error, freedom = history.over(1)
    one_side = np.maximum(limit / len(history.lookbacks) / 2, 1e-15)
    reach = -stdtrit(np.minimum(freedom, 1e9), one_side) * error
    half = 1.96 * scan.error
    return pl.DataFrame(
        {
            "column": [question.column for question in questions],
            "question": [question.what for question in questions],
            "level": [question.level for question in questions],
            "effect": scan.effect,
            "low": scan.effect - half,
            "high": scan.effect + half,
            "unit": [question.unit for question in questions],
            "windows": scan.back.astype(np.int64),
            "p": scan.p,
            "threshold": np.where(np.isfinite(reach), reach, np.nan),
            "alarm": scan.p < limit,
        },
        schema=TABLE,
    )
