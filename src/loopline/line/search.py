"""The search of a line: trials on the folds of the stored split, the best of each family races on.

Every finished trial is an event of the ledger, written before anything builds on it, and a complete
one's predictions are an artifact. Whatever stops a search, the same command goes on from its
records and comes to the same study.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from loopline.errors import IntegrityError, LooplineError, NotFoundError, SettingsError
from loopline.evaluate.metrics import metric
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.interrupt import Interrupt, noted
from loopline.line.race import fold_stage, fold_threads, metric_name, refuse_unread
from loopline.line.search_arms import (
    STARTED,
    TRIAL,
    Contest,
    column_key,
    contest,
    study_id,
    warm_seeds,
)
from loopline.line.search_budget import Clock
from loopline.line.search_pool import InThisProcess, Workers
from loopline.line.search_rates import with_first_rates
from loopline.line.search_result import describe, study_artifact
from loopline.line.search_spec import DEFAULT_TRIALS, SearchSpec
from loopline.line.search_worker import line_facts
from loopline.line.spec import Candidate
from loopline.line.trial import Job
from loopline.line.trial_scores import fold_sizes
from loopline.models.families import family
from loopline.models.together import num_started
from loopline.search.arms import Arm
from loopline.search.method import Decision, decide
from loopline.search.pool import Pool, conduct
from loopline.search.pruning import Step, steps
from loopline.search.record import NO_TIME, Record, Trial
from loopline.search.study import Study, best_of_each, merged
from loopline.store.artifacts import Artifact
from loopline.words import counted, figure

TRIAL_VERSION = 3
"""Raised whenever a trial of the same settings would give another answer."""


@dataclass(frozen=True)
class Searched:
    """What a search gave.

    Args:
        entries: the candidates of the race, each with the best parameters that were found.
        artifact: the study.
        summary: what a run's summary tells of it.
        times: when it ended, and how long the rest of the run should take.
    """

    entries: tuple[Candidate, ...]
    artifact: Artifact
    summary: dict[str, Any]
    times: dict[str, float]


def search(context: LineContext, prepared: Prepared) -> Searched:
    """Search the candidates' parameters as the settings ask.

    Raises:
        SettingsError: nothing to search, or fewer trials than candidates.
        LooplineError: not one trial came to its end; the message gives the reasons.
        EnvironmentProblem: the disk is full, or the ledger cannot be reached; every trial that was
            finished before is kept.
    """
    hunt = begin(context, prepared)
    for entry in hunt.contest.others:
        refuse_unread([entry], prepared.schema)
        for number in range(fold_sizes(prepared)[0]):
            fold_stage(context, prepared, entry, number)
    with _alone(context, hunt.id):
        hunt.restore()
        hunt.run()
    return hunt.finish()


def begin(context: LineContext, prepared: Prepared) -> Hunt:
    """A search that is ready to run: who is searched, by whom, in which steps.

    Raises:
        SettingsError: nothing to search, or fewer trials than candidates.
    """
    spec = context.spec.search
    assert spec is not None, "a line without `search` is not searched"
    return Hunt.begin(context, prepared, spec)


@dataclass
class Hunt:
    """One search in progress."""

    context: LineContext
    prepared: Prepared
    spec: SearchSpec
    contest: Contest
    decision: Decision
    id: str
    study: Study
    steps: tuple[Step, ...]
    clock: Clock
    restored: int = 0
    stopped: str = ""
    durations: list[float] = field(default_factory=list)

    @staticmethod
    def begin(context: LineContext, prepared: Prepared, spec: SearchSpec) -> Hunt:
        """See `begin` of this module."""
        if spec.parallel > 1 and num_started() > 1:
            raise SettingsError(
                [
                    f"`search.parallel` is {spec.parallel}, but torchrun has started "
                    f"{num_started()} processes that train each network together. Use one of the "
                    "two."
                ]
            )
        contested = contest(context, prepared, spec)
        refuse_unread(list(contested.searched.values()), prepared.schema)
        num_folds, num_rows = fold_sizes(prepared)
        limit = spec.trials
        grid = spec.method == "grid"
        if limit is None and spec.budget is None and not grid:
            limit = DEFAULT_TRIALS
        if limit is not None and limit < len(contested.arms):
            names = ", ".join(arm.name for arm in contested.arms)
            raise SettingsError(
                [
                    f"`search.trials` is {limit}, fewer than the candidates that are searched "
                    f"({names}): each one's defaults are its first trial. Give at least "
                    f"{len(contested.arms)}."
                ]
            )
        decision = decide(
            spec.method,
            contested.arms,
            limit,
            cells=num_rows * num_folds * contested.facts.num_columns,
            networks=any(family(arm.family).parallel for arm in contested.arms),
        )
        name = study_id(context, prepared, contested, decision.sampler, spec, TRIAL_VERSION)
        study = Study(
            contested.arms,
            decision.sampler,
            metric(metric_name(context, prepared)).higher_is_better,
            seed=context.spec.seed,
            parallel=spec.parallel,
            limit=limit,
            timed=spec.budget is not None,
            turns=spec.turns,
        )
        planned = steps(num_folds, num_rows, prune=spec.prune)
        families = {arm.name: arm.family for arm in contested.arms}
        clock = Clock(context, prepared, spec.budget, families)
        return Hunt(context, prepared, spec, contested, decision, name, study, planned, clock)

    def restore(self) -> None:
        """Take in what was recorded of this very study, and what others found."""
        context, ledger = self.context, self.context.ledger
        events = ledger.events(kind=STARTED, subject=self.id, limit=1)
        if events:
            arms = tuple(Arm.from_dict(entry) for entry in events[0].data["arms"])
        else:
            arms = tuple(
                with_first_rates(context, self.prepared, self.contest.searched[arm.name], arm)
                if self.decision.sampler != "grid"
                else arm
                for arm in self.contest.arms
            )
            if self.spec.warm:
                arms = warm_seeds(
                    ledger, self.id, column_key(self.prepared.schema), arms,
                    metric_name(context, self.prepared), higher=self.study.higher,
                )  # fmt: skip
            ledger.append(
                STARTED,
                run=context.run or None,
                subject=self.id,
                data={
                    "arms": [arm.to_dict() for arm in arms],
                    "columns": column_key(self.prepared.schema),
                    "metric": metric_name(context, self.prepared),
                    "sampler": self.decision.sampler,
                },
            )
        self.study.arms = arms
        records = [
            Record.from_dict(event.data["record"])
            for event in ledger.events(kind=TRIAL, subject=self.id)
        ]
        usable = [record for record in records if self._counts(record)]
        self.study.restore(usable)
        self.restored = len(usable)
        note = context.reporter.note
        note(f"Searching {self._told_arms()} by {self.decision.reason}.")
        warm = sum(len(arm.seeds) for arm in arms) - sum(map(len, self.spec.start.values()))
        if warm:
            note(f"Starts with {counted(warm, 'setting')} that earlier searches found good.")
        if self.restored:
            note(f"{counted(self.restored, 'trial')} of this search were finished before.")

    def _told_arms(self) -> str:
        return ", ".join(
            f"{arm.name} ({counted(len(arm.space), 'parameter')})" for arm in self.study.arms
        )

    def _counts(self, record: Record) -> bool:
        """Whether a trial is not run again: its predictions are still there, and it had time."""
        if record.reason == NO_TIME:
            return False
        if record.artifact is None:
            return True
        try:
            self.context.store.get(record.artifact)
        except (NotFoundError, IntegrityError):
            return False
        return True

    def run(self) -> None:
        """Run trials until there are no more, the time is over, or somebody interrupts.

        Raises:
            KeyboardInterrupt: the interrupt came before anything was found, or a second one.
        """
        with (
            self.context.reporter.step("search", total=self.study.limit) as step,
            noted() as interrupt,
        ):

            def keep(record: Record) -> None:
                self.context.ledger.append(
                    TRIAL,
                    run=self.context.run or None,
                    subject=self.id,
                    data={"record": record.to_dict(), "artifact": record.artifact},
                )
                self.clock.learn(record)
                step.describe(self._board(record))
                step.advance()

            def wanted() -> bool:
                return not interrupt.asked and self.clock.wanted()

            pool = self._pool(interrupt)
            try:
                conduct(self.study, pool, keep, wanted)
                if not self.clock.wanted():
                    self.stopped = "budget"
            except KeyboardInterrupt:  # a library's own, or in another thread than the main one
                interrupt.ask()
            finally:
                pool.close()
            if interrupt.asked:
                self.stopped = "interrupted"
        if self.stopped == "interrupted" and not best_of_each(self.study, self.study.records):
            raise KeyboardInterrupt
        self._tell_stop()

    def _pool(self, interrupt: Interrupt) -> Pool:
        context, prepared, clock = self.context, self.prepared, self.clock
        if self.spec.parallel == 1:
            return InThisProcess(context, prepared, self._job, clock.deadline, interrupt)
        facts = line_facts(context, prepared, fold_threads(context))
        return Workers(facts, self.spec.parallel, self._job, clock.deadline, interrupt)

    def _job(self, trial: Trial) -> Job:
        """What a trial may know: the best ones among those on which it may depend."""
        told = self.study.told(trial.number)
        own = self.study.best(told, trial.arm)
        rival = own or self.study.best(told)
        return Job(
            trial,
            self._entry(trial.arm, trial.params),
            self.steps,
            rival.artifact if rival is not None and self.spec.prune else None,
            None if own is None else own.value,
            dear=self.clock.dear(),
            skipped=trial.number in self.spec.without_time,
        )

    def _entry(self, arm: str, params: Mapping[str, Any]) -> Candidate:
        entry = self.contest.searched[arm]
        return entry.model_copy(update={"params": merged(self.study.arm(arm), params)})

    def _board(self, record: Record) -> str:
        """What the live line shows after each trial."""
        best = self.study.best([*self.study.records, record])
        told = "no trial is complete yet"
        if best is not None:
            name = metric_name(self.context, self.prepared)
            told = f"best {name} {figure(best.value)} by {best.arm}, trial {best.number}"
        done = len(self.study.records) + 1
        left = self.clock.left()
        time = "" if left is None else f", {max(0.0, left):.0f} s left for trials"
        return f"{counted(done, 'trial')}, {told}{time}"

    def _tell_stop(self) -> None:
        records = self.study.records
        note = self.context.reporter.note
        if self.stopped == "interrupted":
            note(
                f"Interrupted: going on with the best of {counted(len(records), 'trial')}. "
                "Interrupt again to stop everything; the same command goes on with the search."
            )
        if self.stopped == "budget" and records:
            note(self.clock.sentence(len(records)))
        for arm in self.study.arms:
            own = [record for record in records if record.arm == arm.name]
            if not own or any(record.state == "complete" for record in own):
                continue
            if any(record.reason == NO_TIME for record in own):
                note(f"The search leaves out {arm.name}: {NO_TIME}. A longer budget tries it.")
                continue
            failed = all(record.state == "failed" for record in own)
            ends = "failed in every trial" if failed else "was given up in every trial"
            note(f"The search leaves out {arm.name}, which {ends}: {own[0].reason}")

    def finish(self) -> Searched:
        """The candidates for the race, the study as an artifact, and what to tell of it."""
        times = self.clock.over()
        records = self.study.records
        best = best_of_each(self.study, records)
        if not best:
            raise LooplineError(_nothing(records, self.clock))
        found = {name: self._entry(name, record.params) for name, record in best.items()}
        entries = [*found.values(), *self.contest.others]
        order = {arm.name: place for place, arm in enumerate(self.study.arms)}
        entries.sort(key=lambda entry: (family(entry.family).complexity, order.get(entry.name, 0)))
        artifact = study_artifact(
            self.context, self.prepared, self.study, records,
            steps=self.steps, contest=self.contest,
        )  # fmt: skip
        self.context.settled["search"] = self._settled(len(records))
        summary = describe(
            artifact, study=self.id, reason=self.decision.reason,
            stopped=self.stopped, restored=self.restored,
        )  # fmt: skip
        return Searched(tuple(entries), artifact, summary, times)

    def _settled(self, done: int) -> dict[str, Any]:
        """The search as it was made: so many trials, by this sampler, from these starts."""
        data = self.spec.model_dump(mode="json", exclude_none=True, exclude={"budget"})
        method = "bayesian" if self.decision.sampler in ("tpe", "gp") else self.decision.sampler
        start = {
            arm.name: [dict(seed) for seed in arm.seeds] for arm in self.study.arms if arm.seeds
        }
        late = [each.number for each in self.study.records if each.reason == NO_TIME]
        found = {
            **data, "method": method, "trials": done, "warm": False, "start": start,
            "without_time": late,
        }  # fmt: skip
        if self.spec.budget is not None:
            found["turns"] = [record.arm for record in self.study.records]
        return found


def _nothing(records: Sequence[Record], clock: Clock) -> str:
    """Why there is no result, with the reasons of the trials."""
    if not records:
        return clock.too_short()
    reasons: dict[str, list[str]] = {}
    for record in records:
        reasons.setdefault(f"{record.arm}: {record.reason}", []).append(str(record.number))
    told = " ".join(
        f"({', '.join(numbers[:5])}{' …' if len(numbers) > 5 else ''}) {reason.removesuffix('.')}."
        for reason, numbers in list(reasons.items())[:5]
    )
    return (
        f"None of the {counted(len(records), 'trial')} of the search came to its end. "
        f"By number: {told} Change the space or the data, or run the line without `search`."
    )


@contextmanager
def _alone(context: LineContext, study: str) -> Iterator[None]:
    """Two runs of one study: the second waits, then finds the first one's trials."""
    locks = context.store.scratch("locks")
    with (locks / f"{study}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            context.reporter.note("Another run is making this very search; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        told = "Another machine is making this very search; waiting for it."
        with context.ledger.alone(study, lambda: context.reporter.note(told)):
            yield
