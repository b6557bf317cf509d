"""A step that would make a run better: what it is worth, what it costs, and how it is taken.

Every worth is how much better the score gets, with an interval that is widened for the number of
steps looked at, so that the best of many is not taken for more than it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from loopline.evaluate.extrapolate import Floats, summed_up
from loopline.evaluate.intervals import Estimate
from loopline.evaluate.metrics import metric
from loopline.select.compare import at_level
from loopline.words import counted, estimate

Verdict = Literal[
    "worth it", "as good and simpler", "hardly anything", "may be nothing", "not worth it"
]
VERDICTS: tuple[Verdict, ...] = (
    "worth it",
    "as good and simpler",
    "hardly anything",
    "may be nothing",
    "not worth it",
)
MOST_LOST = 0.02
"""What makes a model simpler is as good when surely no more than this share of the way to a perfect
score is lost."""
LEAST_SHARE = 0.005
"""What surely helps, but by less than this share of the way to a perfect score, is hardly worth it.
"""


@dataclass(frozen=True)
class Step:
    """One thing that could be done next.

    Args:
        kind: more_rows, label_where, fix_labels, drop_columns, family, threshold, calibration or
            search.
        title: what to do, in a few words.
        sentence: what it is worth and why, for a person.
        metric: the metric of its worth.
        now: the run's out-of-fold score in that metric.
        worth: how much better that metric gets (positive: better), with its interval.
        command: what does it.
        basis: "measured" on out-of-fold rows, or "extrapolated".
        cost_seconds: computing time that it takes, about; people's time is not counted.
        simpler: whether it makes the model or its input smaller, so that it pays already when
            hardly anything is lost.
        margin: how much a simpler model may lose by the settings (`objective.margin`).
        aside: whether it serves another aim than the run's metric, and so stands behind the others.
        facts: further numbers.
        draws: the worth as draws, for extrapolated steps.
    """

    kind: str
    title: str
    sentence: str
    metric: str
    now: float
    worth: Estimate
    command: str
    basis: Literal["measured", "extrapolated"] = "measured"
    cost_seconds: float = 0.0
    simpler: bool = False
    margin: float = 0.0
    aside: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    draws: Floats | None = field(default=None, repr=False, compare=False)

    def at_level(self, level: float) -> Step:
        """The same step with the interval of another level."""
        if self.draws is not None:
            return replace(self, worth=summed_up(self.draws, level))
        return replace(self, worth=at_level(self.worth, level))

    @property
    def verdict(self) -> Verdict:
        """What the interval says."""
        worth = self.worth
        if math.isfinite(worth.low) and worth.low > 0:
            return "worth it" if self.of_what_is_left >= LEAST_SHARE else "hardly anything"
        if math.isfinite(worth.high) and worth.high < 0:
            return "not worth it"
        if self.simpler and worth.low >= -max(self.margin, MOST_LOST * self._left):
            return "as good and simpler"
        return "may be nothing"

    @property
    def of_what_is_left(self) -> float:
        """The worth as a share of what separates the score from a perfect one: any metric's scale.

        0 where nothing is left.
        """
        return self.worth.value / self._left if self._left > 0 else 0.0

    @property
    def _left(self) -> float:
        """What separates the score from a perfect one; 0 where no score is perfect."""
        goal = metric(self.metric)
        left = abs((goal.bounds[1] if goal.higher_is_better else goal.bounds[0]) - self.now)
        return left if math.isfinite(left) else 0.0

    def lines(self, number: int) -> list[str]:
        """The step as a terminal shows it, under its number."""
        cost = self.cost_seconds
        return [
            f"{number}. {self.title}: {self.verdict}",
            f"   {self.metric} better by {estimate(self.worth.to_dict())}, {self.basis}"
            + (f"; about {_time(cost)} of computing" if cost else "")
            + ".",
            f"   {self.sentence}",
            f"   $ {self.command}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "kind": self.kind,
            "title": self.title,
            "sentence": self.sentence,
            "verdict": self.verdict,
            "metric": self.metric,
            "now": self.now,
            "of_what_is_left": self.of_what_is_left,
            "worth": self.worth.to_dict(),
            "basis": self.basis,
            "cost_seconds": round(self.cost_seconds, 1),
            "command": self.command,
            "simpler": self.simpler,
            "aside": self.aside,
            "facts": dict(self.facts),
        }


@dataclass(frozen=True)
class Unpriced:
    """A step whose worth was not measured, and why.

    Args:
        kind: as in `Step`, or add_columns.
        reason: for a person.
        command: what would price it or do it; empty where nothing can.
    """

    kind: str
    reason: str
    command: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"kind": self.kind, "reason": self.reason, "command": self.command}


@dataclass(frozen=True)
class Advice:
    """What to do next about a run.

    Args:
        run: the run's id.
        chosen: its candidate.
        metric: the metric that ranks.
        score: its score out of fold.
        sentence: the advice in short.
        steps: what could be done, best first.
        unpriced: what was not measured, and why.
        cautions: what weakens all of it, one sentence each.
        level: of each worth's interval; all of them together hold with 95 %.
        curve: the learning curve as plain data; None where there is none.
    """

    run: str
    chosen: str
    metric: str
    score: Estimate
    sentence: str
    steps: tuple[Step, ...]
    unpriced: tuple[Unpriced, ...]
    cautions: tuple[str, ...]
    level: float
    curve: Mapping[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data (what ``loopline advise --json`` prints)."""
        return {
            "run": self.run,
            "chosen": self.chosen,
            "metric": self.metric,
            "score": self.score.to_dict(),
            "sentence": self.sentence,
            "steps": [step.to_dict() for step in self.steps],
            "unpriced": [entry.to_dict() for entry in self.unpriced],
            "cautions": list(self.cautions),
            "level": self.level,
            "curve": None if self.curve is None else dict(self.curve),
        }

    def __str__(self) -> str:
        lines = [
            f"{self.run} ({self.chosen}): {self.metric} {estimate(self.score.to_dict())} out of "
            "fold.",
            self.sentence,
            *(f"! {text}" for text in self.cautions),
        ]
        aside = False
        for number, step in enumerate(self.steps, start=1):
            if step.aside and not aside:
                aside = True
                lines += ["", f"For another aim than {self.metric}:"]
            lines += ["", *step.lines(number)]
        if self.unpriced:
            lines += ["", "Not priced:"]
            for entry in self.unpriced:
                lines.append(f"- {entry.reason}")
                if entry.command:
                    lines.append(f"  $ {entry.command}")
        return "\n".join(lines)


def _time(seconds: float) -> str:
    if seconds < 90:
        return counted(max(1, round(seconds)), "second")
    if seconds < 5400:
        return counted(round(seconds / 60), "minute")
    return f"{seconds / 3600:.1f} hours"


def ranked(steps: Sequence[Step]) -> list[Step]:
    """Best first: what surely pays, then what is as good and simpler, then the rest.

    Within each, larger shares of what separates the score from a perfect one stand first; steps for
    another aim than the run's stand behind all.

    Args:
        steps: with their final intervals.
    """

    def place(step: Step) -> tuple[bool, int, float, str]:
        return step.aside, VERDICTS.index(step.verdict), -step.of_what_is_left, step.kind

    return sorted(steps, key=place)
