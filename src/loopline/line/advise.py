"""What to do next about a run: the steps, what each is worth, and the command that takes it.

Everything is measured or extrapolated on out-of-fold rows; test labels stay closed, so advice can
be asked for as often as one likes. What is fitted for it is kept as the run's own artifacts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loopline.data.schema import is_audited
from loopline.errors import DataError, SettingsError
from loopline.evaluate.intervals import LEVEL, Estimate
from loopline.line.curves import Curve, fits_to_make, learning_curve, shares_of
from loopline.line.finished import FinishedRun, finished_run
from loopline.line.more_search import more_search
from loopline.line.pricing import (
    Ground,
    broken_limits,
    drop_columns_step,
    families,
    idle_columns,
    unraced_family,
    unraced_family_step,
    unused_columns,
    without_columns,
)
from loopline.line.pricing_decisions import calibrations, thresholds
from loopline.line.pricing_labels import fix_labels_step, suspected_labels, without_suspects
from loopline.line.project import Project
from loopline.line.refits import Refitted, Variant, as_run, can_refit, is_known, num_folds, refit
from loopline.line.regions import Regions
from loopline.line.steps import Advice, Step, Unpriced, ranked
from loopline.line.trial import OutOfTime
from loopline.progress import Reporter
from loopline.words import counted, estimate

LEAST_BUDGET = 60.0
USUAL_TIMES = 5.0
"""Without a budget, pricing may take this many times the fits of the whole race, and 60 s."""
FAR = 10
"""The curve is told for twice the rows, and for so many times."""


def advise(
    project: Project,
    which: str,
    *,
    budget_seconds: float | None = None,
    reporter: Reporter | None = None,
) -> Advice:
    """Say what is worth doing next about a finished run.

    Args:
        project: where the run is.
        which: its id or the start of it, a line's name, or "latest".
        budget_seconds: begin no further fit that would pass this; by default five times the fits
            of the run's race, and a minute at least. What was fitted before is free.
        reporter: hears of what is fitted.

    Raises:
        NotFoundError: there is no such run, or it did not finish.
        SettingsError: a budget below zero.
    """
    if budget_seconds is not None and not budget_seconds >= 0:
        raise SettingsError([f"A budget must be 0 seconds or more, got {budget_seconds:g}."])
    run = finished_run(project, which, reporter)
    return _Pricing(run, budget_seconds).advice()


@dataclass
class _Pricing:
    """One asking: what was priced so far, and the time left for more."""

    run: FinishedRun
    budget_seconds: float | None
    started: float = field(default_factory=time.monotonic)
    steps: list[Step] = field(default_factory=list)
    unpriced: list[Unpriced] = field(default_factory=list)
    curve: Curve | None = None

    def __post_init__(self) -> None:
        self.ground = Ground(self.run)
        self.run.deadline = self.started + self.budget

    @property
    def budget(self) -> float:
        """Seconds that pricing may take."""
        if self.budget_seconds is not None:
            return self.budget_seconds
        fitted = sum(self._race_seconds(name) for name in self.run.raced)
        return max(LEAST_BUDGET, USUAL_TIMES * fitted)

    def _race_seconds(self, name: str) -> float:
        return as_run(self.run, name).seconds

    def advice(self) -> Advice:
        """Price what can be priced, the free steps first."""
        self.steps += families(self.ground)
        self.unpriced += [
            Unpriced("family", f"{name}: left out by the limits of the settings; {broken[0]}.")
            for name in self.run.raced
            if (broken := broken_limits(self.run, name))
        ]
        self.steps += thresholds(self.ground)
        self.steps += calibrations(self.ground)
        if can_refit(self.run):
            self._rows()
            self._columns()
            self._labels()
            self._families()
            self._search()
        else:
            told = f"{self.run.chosen} is put together from others: rows, columns and labels are"
            self.unpriced.append(
                Unpriced("more_rows", f"{told} priced for single candidates only.")
            )
        kept = [step for step in self.steps if math.isfinite(step.worth.low)]
        level = 1 - (1 - LEVEL) / max(1, len(kept))
        steps = ranked([step.at_level(level) for step in kept])
        score = Estimate.from_dict(self.run.summary["out_of_fold"][self.run.metric])
        return Advice(
            run=self.run.id,
            chosen=self.run.chosen,
            metric=self.run.metric,
            score=score,
            sentence=_sentence(steps, self.run.metric, level),
            steps=tuple(steps),
            unpriced=tuple(self.unpriced),
            cautions=tuple(_cautions(self.run)),
            level=level,
            curve=None if self.curve is None else _told(self.curve),
        )

    def _affordable(self, kind: str, what: str, seconds: float) -> bool:
        left = self.budget - (time.monotonic() - self.started)
        if seconds <= left:
            return True
        needed = math.ceil(seconds + time.monotonic() - self.started)
        self.unpriced.append(
            Unpriced(
                kind,
                f"{what} would take about {counted(math.ceil(seconds), 'second')} to price, and "
                f"{max(0.0, left):.0f} s of the budget are left.",
                f"loopline advise {self.run.id} --budget {needed}",
            )
        )
        return False

    def _priced(
        self,
        kind: str,
        what: str,
        variant: Variant,
        make: Callable[[Refitted], Step],
        *,
        times: float = 1.0,
    ) -> None:
        seconds = times * self.ground.fit_seconds
        if not is_known(self.run, variant) and not self._affordable(kind, what, seconds):
            return
        try:
            self.steps.append(make(refit(self.run, variant)))
        except OutOfTime:
            self._out_of_time(kind, what)

    def _out_of_time(self, kind: str, what: str) -> None:
        self.unpriced.append(
            Unpriced(
                kind,
                f"{what}: the budget was used up midway; what was fitted is kept.",
                f"loopline advise {self.run.id} --budget {math.ceil(2 * self.budget + 1)}",
            )
        )

    def _rows(self) -> None:
        if self.run.raced[self.run.chosen].spec.family == "baseline":
            self.unpriced.append(Unpriced("more_rows", "A constant learns nothing from more rows."))
            return
        if not shares_of(self.run):
            self.unpriced.append(
                Unpriced("more_rows", "More rows: there are too few for a learning curve.")
            )
            return
        seconds = fits_to_make(self.run) * self.ground.fit_seconds
        if seconds and not self._affordable("more_rows", "More rows", seconds):
            return
        try:
            self.curve = learning_curve(self.run)
        except OutOfTime:
            self._out_of_time("more_rows", "More rows")
            return
        except DataError as error:
            self.unpriced.append(Unpriced("more_rows", f"More rows: {error}"))
            return
        self.steps.append(self._rows_step(self.curve))
        if not is_audited(self.run.schema.task):  # slices need one class or number a row
            return
        where = Regions(self.ground, self.curve).step()
        if where is not None:
            self.steps.append(where)

    def _rows_step(self, curve: Curve) -> Step:
        law = curve.law
        now = self.ground.now(curve.metric)
        far = law.gain(FAR * law.largest)
        what = "a history twice as long" if curve.by_time else "twice the rows"
        return Step(
            "more_rows",
            f"Collect {what}",
            f"{FAR} times the rows would be worth about {estimate(far.to_dict())}. Learned from "
            f"{counted(len(curve.points), 'size')} between {curve.points[0].num_rows:,.0f} and "
            f"{curve.points[-1].num_rows:,.0f} rows, scored on the same rows.",
            curve.metric.name,
            now,
            law.gain(2 * law.largest),
            self.ground.command(),
            basis="extrapolated",
            cost_seconds=2 * self.ground.fit_seconds,
            facts={"times": 2, f"times_{FAR}": far.to_dict()},
            draws=law.gains(2 * law.largest),
        )

    def _columns(self) -> None:
        idle = idle_columns(self.run)
        if idle:
            self._priced(
                "drop_columns",
                "Leaving out idle columns",
                without_columns(idle),
                lambda found: drop_columns_step(self.ground, idle, found),
            )
        self.unpriced += unused_columns(self.run)

    def _labels(self) -> None:
        suspects = suspected_labels(self.run)
        if suspects.number:
            self._priced(
                "fix_labels",
                "The suspected labels",
                without_suspects(self.run),
                lambda found: fix_labels_step(self.ground, suspects, found),
                times=2.0,
            )

    def _families(self) -> None:
        variant = unraced_family(self.run)
        if variant is not None:
            self._priced(
                "family",
                variant.label,
                variant,
                lambda found: unraced_family_step(self.ground, variant, found),
                times=3.0,
            )

    def _search(self) -> None:
        if self.run.raced[self.run.chosen].spec.family == "baseline":
            return
        found = more_search(self.ground)
        if isinstance(found, Step):
            self.steps.append(found)
        else:
            self.unpriced.append(found)


def _cautions(run: FinishedRun) -> list[str]:
    """What weakens all prices of a run."""
    folds = [run.prepared.fold(number)[0].num_rows for number in range(num_folds(run))]
    if run.prepared.train.order is None or len(folds) < 2:
        return []
    return [
        f"The split goes forward in time: its folds learned from {min(folds):,} to {max(folds):,} "
        f"rows and the released model from {run.prepared.train.num_rows:,}, so what helps a short "
        "history may not help the whole."
    ]


def _told(curve: Curve) -> dict[str, Any]:
    law = curve.law
    return {
        "metric": curve.metric.name,
        "by_time": curve.by_time,
        "points": [point.to_dict() for point in curve.points],
        "gains": {str(times): law.gain(times * law.largest).to_dict() for times in (2, 4, FAR)},
        "seconds": round(curve.seconds, 2),
    }


def _sentence(steps: list[Step], main: str, level: float) -> str:
    sure = [step for step in steps if step.verdict == "worth it" and not step.aside]
    simpler = [step for step in steps if step.verdict == "as good and simpler"]
    head = f"{counted(len(steps), 'step')} priced"
    if not steps:
        return "Nothing could be priced."
    if sure:
        best = sure[0]
        told = (
            f"{head}; most is gained by this: {_small(best.title)} "
            f"({best.metric} better by {estimate(best.worth.to_dict())})."
        )
    elif simpler:
        told = (
            f"{head}; none surely improves {main}, but this costs nothing that can be measured: "
            f"{_small(simpler[0].title)}."
        )
    else:
        told = f"{head}; nothing here is worth it: every interval holds 0 or lies below."
    return f"{told} Each interval is one of {100 * level:.4g} %, so that all hold with 95 %."


def _small(title: str) -> str:
    return title[:1].lower() + title[1:]
