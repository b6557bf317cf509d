"""A study: which trial comes next, given the records; equal records give equal studies.

What trial i is depends on the records of those up to i - `parallel` and on nothing else: neither on
the clock, nor on which of the running trials came back first, nor on how often the study was
interrupted. So a killed study goes on as if nothing had happened, and the same seed, number of
trials and `parallel` give the same study on any machine. Where arms share the time, seconds are of
the records; whose turn each trial was is then put down, and the same turns give the same study.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loopline.digest import canonical_json
from loopline.models.space import Value
from loopline.search.arms import Arm, turn
from loopline.search.record import Record, Trial, better
from loopline.search.suggest import GRID_LIMIT, Params, Sampler, grid, suggest
from loopline.seeds import child_seed

REPEATS = 20
"""Times that a proposal which was tried before is asked for anew, the second half at random."""


@dataclass
class Study:
    """Trials asked for and recorded.

    Args:
        arms: the candidates, in the order of simplicity.
        sampler: who proposes.
        higher: whether a higher value is better.
        seed: of every proposal.
        parallel: how many trials run at a time, at least 1.
        limit: how many trials there are at most; None for no limit.
        timed: whether arms share the time in place of the number of trials.
        turns: whose turn each of the first trials is, where that was put down and the arm has
            anything left to try.

    >>> from loopline.models.space import Number
    >>> study = Study([Arm("a", "a", 1, {"x": Number(0, 1)}, defaults={"x": 0.5})], "random", True)
    >>> first = study.ask()
    >>> first.params, study.ask() is None
    ({'x': 0.5}, True)
    """

    arms: Sequence[Arm]
    sampler: Sampler
    higher: bool
    seed: int = 0
    parallel: int = 1
    limit: int | None = None
    timed: bool = False
    turns: Sequence[str] = ()
    asked: list[Trial] = field(default_factory=list)
    _records: dict[int, Record] = field(default_factory=dict, repr=False)
    _points: dict[str, list[Params] | None] = field(default_factory=dict, repr=False)

    def restore(self, records: Sequence[Record]) -> None:
        """Take in what was recorded before; the first record of a number counts."""
        for record in records:
            self._records.setdefault(record.number, record)

    def ask(self) -> Trial | None:
        """The next trial to run; None while it depends on one that has no record, or at the end.

        Trials that have a record already are passed over: they are never run again.
        """
        while True:
            number = len(self.asked)
            if self.limit is not None and number >= self.limit:
                return None
            if not self._known(number):
                return None
            trial = self._next(number)
            if trial is None:
                return None
            self.asked.append(trial)
            if number not in self._records:
                return trial

    def tell(self, record: Record) -> None:
        """Take in the record of a trial that was asked for."""
        assert record.number < len(self.asked), "a trial is told of before it was asked for"
        assert record.number not in self._records, "a trial has one record"
        self._records[record.number] = record

    @property
    def records(self) -> list[Record]:
        """The finished trials up to the first that has no record, in order of their numbers."""
        found: list[Record] = []
        while len(found) in self._records and len(found) < len(self.asked):
            found.append(self._records[len(found)])
        return found

    def told(self, number: int) -> list[Record]:
        """The records on which trial `number` may depend."""
        return [self._records[each] for each in range(max(0, number - self.parallel + 1))]

    def best(self, records: Sequence[Record], arm: str | None = None) -> Record | None:
        """The complete trial with the best value, of one arm or of all; the earlier one of equals.

        Args:
            records: among which.
            arm: only this arm's.
        """
        found: Record | None = None
        for record in records:
            if record.state != "complete" or record.value is None:
                continue
            if arm is not None and record.arm != arm:
                continue
            if found is None or better(record.value, float(found.value or 0.0), self.higher):
                found = record
        return found

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def _known(self, number: int) -> bool:
        return all(each in self._records for each in range(max(0, number - self.parallel + 1)))

    def _next(self, number: int) -> Trial | None:
        recorded = self._records.get(number)
        if recorded is not None:
            return Trial(number, recorded.arm, recorded.params, recorded.origin)
        told = self.told(number)
        done = frozenset(arm.name for arm in self.arms if self._exhausted(arm))
        if number < len(self.turns) and self.turns[number] not in done:
            return self._propose(number, self.arm(self.turns[number]), told)
        arm = turn(
            self.arms, self._counts(), told,
            higher=self.higher, exhausted=done, timed=self.timed,
        )  # fmt: skip
        return None if arm is None else self._propose(number, arm, told)

    def _exhausted(self, arm: Arm) -> bool:
        """Whether an arm has nothing left to try, judged by what was asked alone."""
        tried = self._tried(arm)
        if len(tried) <= len(arm.seeds):
            return False
        points = self._listed(arm)
        return points is not None and all(_key(point) in tried for point in points)

    def _listed(self, arm: Arm) -> list[Params] | None:
        """All points of an arm, in a drawn order; None where they cannot be listed."""
        if arm.name not in self._points:
            seed = child_seed(self.seed, "grid", arm.name)
            if self.sampler == "grid":
                self._points[arm.name] = grid(arm.space, arm.fixed, seed)
            elif math.prod(dimension.size for dimension in arm.space.values()) <= GRID_LIMIT:
                self._points[arm.name] = grid(arm.space, arm.fixed, seed, whole=True)
            else:
                self._points[arm.name] = None
        return self._points[arm.name]

    def _tried(self, arm: Arm) -> set[str]:
        return {_key(trial.params) for trial in self.asked if trial.arm == arm.name}

    def _counts(self) -> dict[str, int]:
        counts = {arm.name: 0 for arm in self.arms}
        for trial in self.asked:
            counts[trial.arm] += 1
        return counts

    def _propose(self, number: int, arm: Arm, told: Sequence[Record]) -> Trial:
        """The arm's next trial, with parameters that were not tried before."""
        own = [trial for trial in self.asked if trial.arm == arm.name]
        if not own:
            return Trial(number, arm.name, dict(arm.defaults), "defaults")
        if len(own) <= len(arm.seeds):
            return Trial(number, arm.name, dict(arm.seeds[len(own) - 1]), "start")
        tried = self._tried(arm)
        for value in () if self.sampler == "grid" else _leading(arm, len(own)):
            params = {**arm.defaults, next(iter(arm.space)): value}
            if _key(params) not in tried:
                return Trial(number, arm.name, params, "lead")
        if self.sampler != "grid":
            running = [trial.params for trial in own if trial.number >= len(told)]
            known = [record for record in told if record.arm == arm.name]
            for repeat in range(REPEATS):
                sampler: Sampler = self.sampler if repeat < REPEATS // 2 else "random"
                params = suggest(
                    arm.space,
                    sampler,
                    told=known,
                    running=running,
                    seed=child_seed(self.seed, "trial", number, repeat),
                    higher=self.higher,
                    fixed=arm.fixed,
                )
                if _key(params) not in tried:
                    return Trial(number, arm.name, params, sampler)
        left = [point for point in self._listed(arm) or [] if _key(point) not in tried]
        assert left, "an arm that has nothing left to try has no turn"
        return Trial(number, arm.name, left[0], "grid")


def _leading(arm: Arm, done: int) -> Sequence[Value]:
    """Values of the first dimension that an arm still tries alone, after `done` trials."""
    return arm.lead if 0 <= done - 1 - len(arm.seeds) < len(arm.lead) else ()


def _key(params: Mapping[str, Any]) -> str:
    return canonical_json(dict(params))


def counted_states(records: Sequence[Record]) -> Mapping[str, int]:
    """How many trials came to each end.

    >>> counted_states([])
    {'complete': 0, 'pruned': 0, 'failed': 0}
    """
    states = {"complete": 0, "pruned": 0, "failed": 0}
    for record in records:
        states[record.state] += 1
    return states


def best_of_each(study: Study, records: Sequence[Record]) -> dict[str, Record]:
    """The best complete trial of every arm that has one."""
    found = {arm.name: study.best(records, arm.name) for arm in study.arms}
    return {name: record for name, record in found.items() if record is not None}


def merged(arm: Arm, params: Mapping[str, Any]) -> dict[str, Any]:
    """An arm's parameters of a trial: the given ones and the searched ones."""
    return {**arm.fixed, **params}
