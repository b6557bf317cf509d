"""What each next step is worth, measured on rows that no model of the comparison has seen.

Each function gives steps, or none where there is nothing to do. What costs a fit goes through
`loopline.line.refits`, so it is made once. No test label takes part in any of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.evaluate.intervals import Estimate
from loopline.evaluate.metrics import Metric, metric
from loopline.evaluate.rows import Rows, Units
from loopline.line.again import again
from loopline.line.curves import rows_of
from loopline.line.finished import FinishedRun, Scored
from loopline.line.project import read_json
from loopline.line.refits import Refitted, Variant, as_run
from loopline.line.spec import Candidate
from loopline.line.steps import Step, Unpriced
from loopline.models.families import CORE_FAMILIES, family
from loopline.seeds import child_seed
from loopline.select.by_fold import compare_fits
from loopline.splits.views import TrainView
from loopline.words import counted

Floats = NDArray[np.float64]
SHOWN_COLUMNS = 6


class Ground:
    """What every price is measured from: the run's own out-of-fold predictions.

    Args:
        run: the finished run.
    """

    def __init__(self, run: FinishedRun) -> None:
        self.run = run
        self.scored = run.scored()
        self.view = run.outcomes(self.scored.rows)
        self.units = Units.build(run.observed(self.view), self.view.num_rows)
        self.plain = as_run(run)
        self.goal = metric(run.metric, run.schema.task)

    @property
    def fit_seconds(self) -> float:
        """What fitting the chosen candidate in all folds took."""
        return self.plain.seconds

    def rows(self, prediction: Floats) -> Rows:
        """Predictions of the run's rows, ready to be scored."""
        return rows_of(self.run, replace(self.scored, prediction=prediction), self.view)

    def now(self, goal: Metric) -> float:
        """The present score in a metric."""
        return goal.score(rows_of(self.run, self.scored, self.view)).value

    def better(
        self, other: Scored, goal: Metric | None = None, where: NDArray[np.bool_] | None = None
    ) -> Estimate:
        """How much better other predictions of the same rows are than the run's, uncalibrated.

        Args:
            other: predictions of all the run's rows.
            goal: the metric (default: the one that ranks).
            where: rows to compare on (default: all).
        """
        after = rows_of(self.run, other, self.view)
        return self.between(after, rows_of(self.run, self.plain.scored, self.view), goal, where)

    def between(
        self,
        after: Rows,
        before: Rows,
        goal: Metric | None = None,
        where: NDArray[np.bool_] | None = None,
    ) -> Estimate:
        """How much better the one is than the other."""
        seed = child_seed(self.run.context.spec.seed, "advise")
        units, folds = self.units, self.scored.fold
        if where is not None:
            rows = np.flatnonzero(where).astype(np.int64)
            after, before = after.take(rows), before.take(rows)
            units, folds = units.take(rows), folds[rows]
        return compare_fits(goal or self.goal, after, before, units, folds, seed=seed)

    def command(self, **overrides: Any) -> str:
        """What runs the line again with other settings."""
        return again(self.run, overrides)


def families(ground: Ground) -> list[Step]:
    """What the more complex candidates of the race would add to the chosen one."""
    run = ground.run
    mine = family(run.raced[run.chosen].spec.family).complexity
    return [
        _family_step(ground, name, as_run(run, name))
        for name, raced in run.raced.items()
        if family(raced.spec.family).complexity > mine and not broken_limits(run, name)
    ]


def broken_limits(run: FinishedRun, name: str) -> list[str]:
    """The limits of the settings that a candidate breaks, a sentence each."""
    return [
        str(limit)
        for line in run.decision["comparisons"]
        if line["name"] == name
        for limit in line.get("broken", ())
    ]


def unraced_family(run: FinishedRun) -> Variant | None:
    """The simplest core family above the chosen one, where the race had none above it."""
    mine = family(run.raced[run.chosen].spec.family).complexity
    raced = [family(entry.spec.family).complexity for entry in run.raced.values()]
    types = {run.schema.named(name).type for name in run.schema.features}
    if any(complexity > mine for complexity in raced) or types <= {"image"}:
        return None
    for name in CORE_FAMILIES:
        if family(name).complexity > mine and run.schema.task in family(name).tasks:
            return Variant(f"{name}, which was not raced", {}, Candidate(name=name, family=name))
    return None


def unraced_family_step(ground: Ground, variant: Variant, found: Refitted) -> Step:
    """What a family that was not raced would add."""
    assert variant.candidate is not None
    return _family_step(ground, variant.candidate.name, found)


def _family_step(ground: Ground, name: str, found: Refitted) -> Step:
    run = ground.run
    times = found.seconds / max(ground.fit_seconds, 1e-9)
    told = f"It takes {times:.1f} times the fitting time of {run.chosen}. " if times >= 1.5 else ""
    return Step(
        "family",
        f"Choose {name} in place of {run.chosen}",
        f"{told}Both predicted the same rows out of fold.",
        ground.goal.name,
        ground.now(ground.goal),
        ground.better(found.scored),
        ground.command(models=[name]),
        cost_seconds=found.seconds,
        facts={"candidate": name, "fit_seconds": found.seconds},
    )


def idle_columns(run: FinishedRun) -> tuple[str, ...]:
    """Features that could be shuffled without a measurable loss, by the run's own importance."""
    evaluation = run.project.store.get(run.summary["digests"]["evaluation"])
    importance = read_json(evaluation, "evaluation.json")["importance"]
    idle = tuple(
        name
        for name, drop in importance.items()
        if name in run.schema.features and (drop["low"] is None or drop["low"] <= 0)
    )
    return idle if len(idle) < len(run.schema.features) else ()


def without_columns(names: Sequence[str]) -> Variant:
    """The candidate without some features."""

    def cut(view: TrainView) -> TrainView:
        return view.without(names)

    return Variant(
        f"without {counted(len(names), 'column')}", {"without": sorted(names)}, learn=cut, score=cut
    )


def drop_columns_step(ground: Ground, names: Sequence[str], found: Refitted) -> Step:
    """What leaving out idle columns changes."""
    shown = ", ".join(names[:SHOWN_COLUMNS]) + (" …" if len(names) > SHOWN_COLUMNS else "")
    left = len(ground.run.schema.features) - len(names)
    return Step(
        "drop_columns",
        f"Leave out {counted(len(names), 'column')}: {shown}",
        f"Shuffling {'it' if len(names) == 1 else 'any of them'} costs nothing that can be "
        f"measured; the model was fitted again without {'it' if len(names) == 1 else 'them all'}, "
        f"on the {counted(left, 'column')} left.",
        ground.goal.name,
        ground.now(ground.goal),
        ground.better(found.scored),
        ground.command(**{f"columns.{name}.role": "ignore" for name in names}),
        cost_seconds=found.seconds,
        simpler=True,
        margin=ground.run.context.spec.objective.margin,
        facts={"columns": list(names)},
    )


def unused_columns(run: FinishedRun) -> list[Unpriced]:
    """Columns that no model sees, and why none of them is priced as a feature.

    A column that names things is learned by heart, and one that a person left out may be filled in
    after the outcome; both would seem to be worth much on rows that share them.
    """
    given = {name for name, column in run.context.spec.columns.items() if column.role is not None}
    told = [
        Unpriced(
            "add_columns",
            f"{column.name} is no feature: {column.reason}. If it says whose row it is, make it a "
            "group.",
            again(run, {f"columns.{column.name}.role": "group"}),
        )
        for column in run.schema.columns
        if column.role == "id"
        and column.name not in given
        and run.prepared.table[column.name].n_unique() < run.prepared.table.height
    ]
    left_out = [
        column.name
        for column in run.schema.columns
        if column.role in ("ignore", "id") and column.name in given
    ]
    if left_out:
        told.append(
            Unpriced(
                "add_columns",
                f"{', '.join(left_out[:SHOWN_COLUMNS])}: left out by the settings. Only a person "
                "knows what is known when predicting; `loopline compare` tells what one brings.",
                again(run, {f"columns.{left_out[0]}.role": "feature"}),
            )
        )
    return told
