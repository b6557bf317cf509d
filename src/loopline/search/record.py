"""Trials and what became of them: the facts from which a study is built again at any time.

A trial is asked for (number, arm, parameters), run, and recorded once, whole, never changed. All
that a search knows stands in its records; the sampler has no memory besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

State = Literal["complete", "pruned", "failed"]
Origin = Literal["defaults", "start", "lead", "grid", "random", "tpe", "gp"]


NO_TIME = "there was no time for all of it"
"""Why a trial failed that a blend could not have waited for; its arm is tried no further."""


@dataclass(frozen=True)
class Trial:
    """Parameters to be tried.

    Args:
        number: its place in the study, from 0.
        arm: the candidate whose parameters they are.
        params: the searched parameters alone.
        origin: who proposed them; "start" are those of `search.start` and of earlier studies,
            "lead" those that vary the first dimension alone.
    """

    number: int
    arm: str
    params: Mapping[str, Any]
    origin: Origin


@dataclass(frozen=True)
class Record:
    """What became of a trial.

    Args:
        number: its place in the study.
        arm: the candidate whose parameters were tried.
        params: the searched parameters.
        origin: who proposed them.
        state: "complete" (fitted on every fold), "pruned" (given up before) or "failed".
        value: the metric out of fold, on all folds for a complete trial, else on what was done;
            None for a failed one.
        steps: the metric after each step: the sample first where there was one, then fold by fold.
        fitted: the parameters as each fold resolved them (rounds used, penalty chosen).
        seconds: how long it took.
        reason: why it was pruned or failed.
        artifact: holds the out-of-fold predictions of a complete trial.
        costs: seconds that its model would take in what follows a search, by name.
    """

    number: int
    arm: str
    params: Mapping[str, Any]
    origin: Origin
    state: State
    value: float | None = None
    steps: tuple[float, ...] = ()
    fitted: tuple[Mapping[str, Any], ...] = ()
    seconds: float = 0.0
    reason: str = ""
    artifact: str | None = None
    costs: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it back.

        >>> made = Record(0, "linear", {"penalty": 1.0}, "defaults", "failed", reason="no rows")
        >>> Record.from_dict(made.to_dict()) == made
        True
        """
        data = asdict(self)
        return {**data, "steps": list(self.steps), "fitted": [dict(each) for each in self.fitted]}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Record:
        """Read what `to_dict` wrote."""
        fixed = dict(data)
        fixed["steps"] = tuple(fixed["steps"])
        fixed["fitted"] = tuple(fixed["fitted"])
        return Record(**fixed)

    def facts(self) -> dict[str, Any]:
        """All but how long things took: equal for equal studies."""
        timed = ("seconds", "costs")
        return {name: value for name, value in self.to_dict().items() if name not in timed}


def better(value: float, other: float, higher: bool) -> bool:
    """Whether `value` is the better score.

    >>> better(0.9, 0.8, higher=True), better(0.9, 0.8, higher=False)
    (True, False)
    """
    return value > other if higher else value < other
