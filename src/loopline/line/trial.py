"""One trial of a search: a candidate fitted step by step, compared, and given up or finished.

A trial fits through the very functions of the race, with the same seeds, so its out-of-fold
predictions are those that the race would get. The fits of a trial that is the best of its family so
far are kept where the race looks for them; of the others only the predictions are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from loopline.errors import EnvironmentProblem, IntegrityError, LooplineError
from loopline.evaluate.metrics import metric
from loopline.line.context import LineContext, stage_key
from loopline.line.divide import Prepared
from loopline.line.interrupt import Interrupt
from loopline.line.race import (
    FIT_VERSION,
    PREDICTION,
    FoldFit,
    fit_fold,
    fit_view,
    fold_settings,
    keep_fold,
    metric_name,
    resolve_params,
)
from loopline.line.rehearsal import rehearse
from loopline.line.spec import Candidate
from loopline.line.trial_rungs import Ladder, Leader
from loopline.line.trial_scores import OUT_OF_FOLD, Ints, Rival, Scorer, slim
from loopline.models.base import Floats, GivenUp
from loopline.models.families import family
from loopline.progress import SilentReporter, Step
from loopline.search.pruning import FIRST_CHANCE, SAMPLE_SHARE, SLACK, limit
from loopline.search.pruning import Step as TrialStep
from loopline.search.record import NO_TIME, Record, Trial, better
from loopline.seeds import child_seed
from loopline.words import figure

_FAILURES = (LooplineError, ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError)


class OutOfTime(Exception):  # noqa: N818  # not an error: the trial was asked to stop
    """The time for the trial is over; nothing of it counts."""


@dataclass(frozen=True)
class Job:
    """What a trial needs to know beside the line.

    Args:
        trial: number, arm and parameters.
        entry: the candidate with all of its parameters.
        steps: what is fitted, in this order.
        rival: the artifact with the predictions of the arm's best complete trial that the study
            may know, of another arm's while the arm has none; None while there is none at all.
        to_beat: the best value of the arm so far, None while it has none; fits of a trial that is
            no better are not kept.
        dear: seconds from which an arm's first trial is given up where it is measurably behind;
            None without a budget. With one, what the model would take afterwards is measured.
        skipped: whether there was no time for it when the search was made that is made again.
    """

    trial: Trial
    entry: Candidate
    steps: tuple[TrialStep, ...]
    rival: str | None
    to_beat: float | None
    dear: float | None = None
    skipped: bool = False

    @property
    def first(self) -> bool:
        """Whether the arm has no complete trial yet, so that the rival is of another one."""
        return self.to_beat is None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a process of its own."""
        return {
            "trial": {**vars(self.trial), "params": dict(self.trial.params)},
            "entry": self.entry.model_dump(),
            "steps": [vars(step) for step in self.steps],
            "rival": self.rival,
            "to_beat": self.to_beat,
            "dear": self.dear,
            "skipped": self.skipped,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Job:
        """Read what `to_dict` wrote."""
        return Job(
            Trial(**data["trial"]),
            Candidate(**data["entry"]),
            tuple(TrialStep(**step) for step in data["steps"]),
            data["rival"],
            data["to_beat"],
            data["dear"],
            data["skipped"],
        )


class Watch(SilentReporter):
    """Tells nothing, and ends a fit at its next round or epoch when it is to stop.

    Args:
        deadline: when, by the monotonic clock; None for never.
        interrupt: whether somebody asked to stop; None where nobody can.
        joining: when a trial ends that has no time of its own any more; None for never.
    """

    def __init__(
        self, deadline: float | None, interrupt: Interrupt | None, joining: float | None = None
    ) -> None:
        super().__init__()
        self._deadline, self._interrupt, self._joining = deadline, interrupt, joining
        self.stopped = False
        self.given_up = False

    def expect(self, end: float) -> None:
        """Raise `OutOfTime` when a trial that ends then would be too late to join.

        Args:
            end: by the monotonic clock.
        """
        if self._joining is not None and end > self._joining:
            self.stopped = self.given_up = True
            raise OutOfTime

    def check(self) -> None:
        """Raise `OutOfTime` when the time is over, or somebody asked to stop."""
        self.expect(time.monotonic())
        late = self._deadline is not None and time.monotonic() > self._deadline
        if late or (self._interrupt is not None and self._interrupt.asked):
            self.stopped = True
            raise OutOfTime

    @contextmanager
    def step(self, name: str, total: float | None = None) -> Iterator[Step]:
        """A step whose every advance looks at the clock."""
        del name, total
        self.check()
        yield _WatchedStep(self)


class _WatchedStep:
    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def advance(self, amount: float = 1.0) -> None:
        del amount
        self._watch.check()

    def describe(self, text: str) -> None:
        del text


@dataclass
class _Progress:
    """What a trial has so far: for each fold rows, predictions and parameters, and new fits."""

    rows: list[Ints] = field(default_factory=list)
    predictions: list[Floats] = field(default_factory=list)
    fitted: list[Mapping[str, Any]] = field(default_factory=list)
    fits: dict[int, FoldFit] = field(default_factory=dict)
    sample: Floats | None = None
    ladder: Ladder | None = None
    steps: list[float] = field(default_factory=list)


def run_trial(
    context: LineContext,
    prepared: Prepared,
    job: Job,
    deadline: float | None = None,
    interrupt: Interrupt | None = None,
    joining: float | None = None,
) -> Record:
    """Run a trial to its end.

    A failure belongs to the trial and is recorded with its reason, and so is that it would not end
    before `joining`; a full disk, a damaged store or a ledger that has gone are raised.

    Raises:
        OutOfTime: the deadline came first, or an interrupt.
        EnvironmentProblem: the machine lacks something.
        IntegrityError: stored bytes are damaged.
    """
    began = time.monotonic()
    if job.skipped:
        return without_time(job)
    watch = Watch(deadline, interrupt, joining)
    quiet = replace(context, reporter=watch)
    progress = _Progress()
    try:
        found = _run(quiet, prepared, job, progress, watch)
    except (EnvironmentProblem, IntegrityError):
        raise
    except OutOfTime:
        if not watch.given_up:
            raise
        found = without_time(job)
    except _FAILURES as error:
        if watch.given_up:
            found = without_time(job)
        elif watch.stopped:  # the library made an error of its own of what ended it
            raise OutOfTime from error
        else:
            found = _record(job, "failed", reason=str(error) or type(error).__name__)
    return replace(found, seconds=round(time.monotonic() - began, 4))


def without_time(job: Job) -> Record:
    """The record of a trial for which there was no time."""
    return _record(job, "failed", reason=NO_TIME)


def _run(
    context: LineContext, prepared: Prepared, job: Job, progress: _Progress, watch: Watch
) -> Record:
    rival = None if job.rival is None else Rival.open(context, prepared, job.rival)
    for name in family(job.entry.family).packages:  # their import says nothing of the pace
        with suppress(ImportError):
            import_module(name)
    began, sizes = time.monotonic(), [SAMPLE_SHARE if step.rows else 1.0 for step in job.steps]
    behind = False
    for place, step in enumerate(job.steps):
        watch.check()
        if place:
            whole = (time.monotonic() - began) * sum(sizes) / sum(sizes[:place])
            watch.expect(began + whole)
            if behind and job.dear is not None and whole > job.dear:
                return without_time(job)
        try:
            chance, behind, value = _take(context, prepared, job, step, progress, rival)
        except GivenUp:
            assert progress.ladder is not None
            return _record(job, "pruned", progress, progress.ladder.value, progress.ladder.reason)
        if not np.isfinite(value):
            name = metric_name(context, prepared)
            reason = f"{name} is not defined for its predictions ({step.label})"
            return _record(job, "failed", reason=reason)
        progress.steps.append(value)
        last = place == len(job.steps) - 1
        allowed = limit(step, first=job.first)
        if chance < allowed and not last:
            goal = "near the best" if job.first else "the best of its family"
            reason = f"after {step.label}: {figure(value)}, the chance to be {goal} is {chance:.1%}"
            return _record(job, "pruned", progress, value, reason)
    return _finish(context, prepared, job, progress)


def _take(
    context: LineContext,
    prepared: Prepared,
    job: Job,
    step: TrialStep,
    progress: _Progress,
    rival: Rival | None,
) -> tuple[float, bool, float]:
    """Fit one step.

    Returns:
        The chance that the trial is better than the rival (a first one: near it), whether a first
        one is measurably behind it, and its score so far.
    """
    if step.rows is None:
        kind = family(job.entry.family)
        if step.rung_chance and kind.comparable_on_its_way(job.entry.params):
            leader = None if job.first else Leader.open(context, job.rival)
            progress.ladder = Ladder(context, prepared, leader, step.rung_chance)
            _add(
                progress,
                step.fold,
                fit_fold(context, prepared, job.entry, step.fold, progress.ladder),
            )
        else:
            _fold(context, prepared, job.entry, step.fold, progress)
        rows, mine = np.concatenate(progress.rows), np.concatenate(progress.predictions)
        fold = np.repeat(np.arange(len(progress.rows)), [len(part) for part in progress.rows])
        other = None if rival is None else rival.at(rows)
    else:
        mine, rows = _sample(context, prepared, job.entry, step)
        progress.sample = mine
        fold = np.zeros(len(rows), dtype=np.int64)
        other = None if rival is None else rival.sample
    scorer = Scorer(context, prepared, rows, fold)
    value = scorer.value(mine)
    if other is None:
        return 1.0, False, value
    if not job.first:
        return scorer.chance(mine, other), False, value
    behind = scorer.chance(mine, other) < FIRST_CHANCE
    return (scorer.chance(mine, other, SLACK) if behind else 1.0), behind, value


def _fold(
    context: LineContext, prepared: Prepared, entry: Candidate, number: int, progress: _Progress
) -> None:
    """Fit one fold, or take what an earlier run of the same settings left in the store."""
    known = context.known(_fold_key(context, prepared, entry, number))
    if known is not None:
        arrays = load_file(known.path(PREDICTION))
        progress.rows.append(arrays["rows"])
        progress.predictions.append(arrays["prediction"])
        progress.fitted.append(dict(known.meta["params"]))
        return
    _add(progress, number, fit_fold(context, prepared, entry, number))


def _add(progress: _Progress, number: int, fit: FoldFit) -> None:
    progress.rows.append(fit.rows)
    progress.predictions.append(fit.prediction)
    progress.fitted.append(dict(fit.model.params))
    progress.fits[number] = fit


def _fold_key(context: LineContext, prepared: Prepared, entry: Candidate, number: int) -> str:
    return stage_key(
        "fit",
        FIT_VERSION,
        settings=fold_settings(context, prepared, entry, number),
        inputs={"split": prepared.split_artifact.id},
    )


def _sample(
    context: LineContext, prepared: Prepared, entry: Candidate, step: TrialStep
) -> tuple[Floats, Ints]:
    train, valid = prepared.fold(step.fold)
    assert step.rows is not None
    part = train.sample(step.rows, child_seed(context.spec.seed, "search", "sample"))
    params = resolve_params(context, prepared, entry, part.num_rows)
    model = fit_view(context, prepared, entry, part, params, "sample", stop_early=True)
    return model.predict_view(valid), valid.positions.astype(np.int64)


def _finish(context: LineContext, prepared: Prepared, job: Job, progress: _Progress) -> Record:
    """Put the predictions into the store, and the fits where they are the arm's best so far."""
    rows, prediction = np.concatenate(progress.rows), np.concatenate(progress.predictions)
    order = np.argsort(rows, kind="stable")
    arrays: dict[str, NDArray[Any]] = {"rows": rows[order], "prediction": slim(prediction[order])}
    if progress.sample is not None:
        arrays["sample"] = slim(progress.sample)
    if progress.ladder is not None:
        arrays |= progress.ladder.arrays()
    value, costs = progress.steps[-1], {}
    higher = metric(metric_name(context, prepared)).higher_is_better
    if job.to_beat is None or better(value, job.to_beat, higher):
        _keep(context, prepared, job.entry, progress)
        if job.dear is not None:
            limits = context.spec.constraints.limits().given
            costs = rehearse(prepared, job.entry.family, progress.fits, over_http=bool(limits))
    artifact = context.store.put(
        "trial",
        lambda folder: save_file(arrays, Path(folder) / OUT_OF_FOLD),
        meta={"candidate": job.entry.name, "params": job.entry.params},
        inputs={"split": prepared.split_artifact.id},
    )
    found = _record(job, "complete", progress, value)
    return replace(found, artifact=artifact.id, costs=costs)


def _keep(context: LineContext, prepared: Prepared, entry: Candidate, progress: _Progress) -> None:
    for number, fit in progress.fits.items():
        artifact = keep_fold(context, prepared, entry, number, fit)
        context.store.bind(_fold_key(context, prepared, entry, number), artifact.id)


def _record(
    job: Job,
    state: Any,
    progress: _Progress | None = None,
    value: float | None = None,
    reason: str = "",
) -> Record:
    trial = job.trial
    steps = () if progress is None else tuple(progress.steps)
    fitted = () if progress is None else tuple(progress.fitted)
    return Record(
        trial.number, trial.arm, trial.params, trial.origin, state, value, steps, fitted,
        reason=reason,
    )  # fmt: skip
