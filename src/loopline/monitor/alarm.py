"""What the watch says: an alarm with what moved, how far, since when, and what it does.

An alarm is data; nothing in it is computed again when it is shown, sent or stored. One cause has
one alarm, which is opened once, brought up to date while it lasts, and closed when it has gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from loopline.words import figure

Kind = Literal[
    "column", "joint", "prediction", "schema", "quality", "estimated", "performance",
    "calibration", "slice", "service",
]  # fmt: skip
State = Literal["new", "open", "closed"]
KINDS: tuple[Kind, ...] = (
    "performance", "service", "schema", "quality", "prediction", "estimated", "calibration",
    "slice", "column", "joint",
)  # fmt: skip
"""In the order in which a person wants to hear of them."""


@dataclass(frozen=True)
class LineChange:
    """The estimated change of the line's own metric in one window.

    Args:
        metric: its name, such as auc; whether larger is better is the metric's own.
        usual: what the reference's predictions let expect.
        change: how far the window's lie from that.
        low: lower end of its 95 % interval.
        high: upper end.
    """

    metric: str
    usual: float
    change: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.metric} {_change(self.change, self.low, self.high)} in this window"


@dataclass(frozen=True)
class Impact:
    """What a move does to the model, estimated or measured.

    Args:
        metric: what is told, such as ``error`` or ``log_loss``; larger is worse.
        change: the estimated rise; None where it cannot be told.
        low: lower end of its interval.
        high: upper end.
        why: how it was estimated and what that assumes, or why there is none.
        line: the same in the metric that the line was chosen by, where it can be estimated.
    """

    metric: str
    change: float | None
    low: float | None
    high: float | None
    why: str
    line: LineChange | None = None

    def __str__(self) -> str:
        if self.change is None or self.low is None or self.high is None:
            return f"What it does to the model is not known: {self.why}"
        also = "" if self.line is None else f", {self.line}"
        return f"{self.metric} {_change(self.change, self.low, self.high)}{also} ({self.why})"

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Impact:
        """Read the plain data of one."""
        line = data.get("line")
        return Impact(**{**data, "line": None if line is None else LineChange(**line)})


def _change(change: float, low: float, high: float) -> str:
    sign = "+" if change >= 0 else "-"
    size = max(abs(change), (high - low) / 2)
    return f"{sign}{figure(abs(change), size)} [{figure(low, size)}, {figure(high, size)}]"


@dataclass(frozen=True)
class Alarm:
    """One thing that is no longer as it was in the reference.

    Args:
        kind: what was looked at.
        what: what happened to it: ``shift``, ``spread``, ``levels``, ``missing``, ``unit``,
            ``unseen``, ``frozen``, ``absent``, ``type``, ``worse``, ``overconfident`` …
        subject: the column, the slice, or what else it is about.
        page: whether a person is to be woken; these keep the budget. Others are notes.
        sentence: all of it for a person.
        effect: how far it moved.
        low: lower end of its interval.
        high: upper end.
        unit: of the effect: ``sd`` (the reference's standard deviations), ``share``, ``error`` …
        since: when it began, UTC ISO 8601, or ``window 12`` where rows have no time.
        impact: what it does to the model; None where that makes no sense.
        rows: ids of a few rows that show it.
        p: chance of so large a move in one window of this size without a cause.
        state: ``new`` in the window that opens it, ``open`` while it lasts, ``closed`` at its end.
        facts: further numbers.
        opened: the number of the window that opened it, from 1; None where nothing is followed.
    """

    kind: Kind
    what: str
    subject: str
    page: bool
    sentence: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    since: str | None = None
    impact: Impact | None = None
    rows: tuple[str, ...] = ()
    p: float | None = None
    state: State = "new"
    facts: Mapping[str, Any] = field(default_factory=dict)
    opened: int | None = None

    @property
    def cause(self) -> tuple[str, str]:
        """What makes two alarms the same one."""
        return (self.kind, self.subject)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it back."""
        return {**asdict(self), "rows": list(self.rows), "facts": dict(self.facts)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Alarm:
        """Read what `to_dict` wrote."""
        values = dict(data)
        values["rows"] = tuple(values["rows"])
        values["impact"] = Impact.from_dict(values["impact"]) if values["impact"] else None
        return Alarm(**values)


def together(alarms: Iterable[Alarm]) -> list[tuple[Alarm, ...]]:
    """Alarms that one window opened, the weightiest first: what a person hears of as one.

    Columns that move in one window mostly move for one reason, and the model's answers with them.
    What is over stands apart from what lasts. Alarms that are not followed stand alone.
    """
    groups: dict[tuple[Any, ...], list[Alarm]] = {}
    for alarm in in_order(alarms):
        of_window = (alarm.opened, alarm.state == "closed")
        groups.setdefault(alarm.cause if alarm.opened is None else of_window, []).append(alarm)
    return [tuple(group) for group in groups.values()]


def in_order(alarms: Iterable[Alarm]) -> list[Alarm]:
    """Pages first, then by kind, then the least likely first."""

    def place(alarm: Alarm) -> tuple[bool, int, float, str]:
        chance = 1.0 if alarm.p is None else alarm.p
        return (not alarm.page, KINDS.index(alarm.kind), chance, alarm.subject)

    return sorted(alarms, key=place)
