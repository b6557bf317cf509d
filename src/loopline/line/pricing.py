"""What each next step is worth, measured on rows that no model of the comparison has seen.

Each function gives steps, or none where there is nothing to do. What costs a fit goes through
`loopline.line.refits`, so it is made once. No test label takes part in any of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.audit.crossfit import assign_folds, cross_fit
from loopline.audit.labels import review_labels
from loopline.audit.whole import reviewable
from loopline.evaluate.calibration import fit_calibration
from loopline.evaluate.intervals import Estimate
from loopline.evaluate.metrics import Metric, metric
from loopline.evaluate.rows import Rows, Units
from loopline.evaluate.threshold import choose_threshold
from loopline.line.again import again
from loopline.line.audit import best_known, out_of_fold
from loopline.line.choosing import goal as threshold_goal
from loopline.line.curves import rows_of
from loopline.line.finished import FinishedRun, Scored
from loopline.line.project import read_json
from loopline.line.refits import Refitted, Variant, as_run
from loopline.line.spec import Candidate
from loopline.line.steps import Step
from loopline.models.families import CORE_FAMILIES, family
from loopline.seeds import child_seed
from loopline.select.by_fold import compare_fits
from loopline.splits.views import TrainView
from loopline.words import counted, figure

Floats = NDArray[np.float64]
LEAST_ROWS_ISOTONIC = 1_000
"""Monotone steps follow noise on fewer rows than this."""
AIMS = ("f1", "balanced_accuracy", "accuracy")
"""What a threshold may be set for without prices or floors, which a person has to name."""
SHOWN_COLUMNS = 6
SHOWN_ROWS = 100


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
        if family(name).complexity > mine:
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


def unused_columns(run: FinishedRun) -> tuple[str, ...]:
    """Columns that Loopline, not a person, left out of the features, and that could tell something.

    Who gave a column its role knows why; columns that give the answer away stay out, and so do
    those that name every row.
    """
    table, spec = run.prepared.table, run.context.spec
    found = []
    for column in run.schema.columns:
        given = spec.columns.get(column.name)
        if column.role not in ("ignore", "id") or (given is not None and given.role is not None):
            continue
        if column.name in run.prepared.left_out or column.type == "other":
            continue
        if column.name not in table.columns or column.name.startswith("loopline_"):
            continue
        distinct = table[column.name].n_unique()
        if 2 <= distinct < 0.9 * table.height:
            found.append(column.name)
    return tuple(found)


def with_columns(run: FinishedRun, names: Sequence[str]) -> Variant:
    """The candidate with columns that were left out."""
    schema = run.schema
    for name in names:
        schema = schema.changed(name, role="feature")
    table = run.prepared.table

    def widened(view: TrainView) -> TrainView:
        return view.with_features(table, schema)

    return Variant(
        f"with {counted(len(names), 'further column')}",
        {"with": sorted(names)},
        learn=widened,
        score=widened,
    )


def add_columns_step(ground: Ground, names: Sequence[str], found: Refitted) -> Step:
    """What columns that were left out would add."""
    return Step(
        "add_columns",
        f"Use {counted(len(names), 'further column')}: {', '.join(names[:SHOWN_COLUMNS])}",
        "They were left out for what they look like, not by a person. Make sure that they are "
        "known when predicting.",
        ground.goal.name,
        ground.now(ground.goal),
        ground.better(found.scored),
        ground.command(**{f"columns.{name}.role": "feature" for name in names}),
        cost_seconds=found.seconds,
        facts={"columns": list(names)},
    )


@dataclass(frozen=True)
class Suspects:
    """The labels that the run's own review suspects.

    Args:
        number: how many.
        sharp: whether the columns settle the label so far that an odd one is likelier wrong than
            hard.
    """

    number: int
    sharp: bool


def suspected_labels(run: FinishedRun) -> Suspects:
    """What the run's own review said of labels."""
    review = run.project.store.get(run.summary["digests"]["review"])
    told = [entry for entry in review.meta["findings"] if entry["check"] == "label_errors"]
    return Suspects(
        sum(int(finding["num_rows"]) for finding in told),
        any(finding["severity"] == "warning" for finding in told),
    )


def without_suspects(run: FinishedRun) -> Variant:
    """The candidate on training rows whose labels do not look wrong.

    Suspects are found within each fold's training rows alone, by models of their own: a review that
    had seen the validation rows would keep the rows that agree with them, and so help where
    nothing was wrong.
    """
    seed = child_seed(run.context.spec.seed, "advise labels")
    threads = run.context.spec.num_threads

    def clean(view: TrainView) -> TrainView:
        out = cross_fit(view, assign_folds(view, view.units, seed=seed), threads=threads, seed=seed)
        if not reviewable(out):
            return view
        return view.subset(~review_labels(out, seed=seed).suspected)

    return Variant("without the suspected labels", {"without_suspects": 1}, learn=clean)


def fix_labels_step(ground: Ground, suspects: Suspects, found: Refitted) -> Step:
    """What the suspected labels cost the model.

    Where the columns settle the label, suspects are likelier wrong than right, and the models are
    scored on the other rows. Elsewhere most suspects are rows on which the classes overlap; without
    them any model that never saw such rows seems better, so all rows are scored as labelled.
    """
    run, number = ground.run, suspects.number
    order = suspects_of(run)
    others = ~np.isin(ground.scored.rows, order) if suspects.sharp else None
    rows = "the other rows" if suspects.sharp else "all rows, as they are labelled"
    return Step(
        "fix_labels",
        f"Look at {counted(number, 'label')} that {'looks' if number == 1 else 'look'} wrong",
        f"The model was fitted again without such rows and scored on {rows}. Where the labels are "
        "wrong indeed, mending them is worth at least as much, and makes the score itself truer. "
        "The rows stand in `--json`, the most suspicious first.",
        ground.goal.name,
        ground.now(ground.goal),
        ground.better(found.scored, where=others),
        again(run, {}),
        cost_seconds=found.seconds,
        facts={"suspected": number, "sharp": suspects.sharp, "rows": order[:SHOWN_ROWS].tolist()},
    )


def suspects_of(run: FinishedRun) -> NDArray[np.int64]:
    """Places, in the cleaned table, of the rows whose labels look wrong, worst first."""
    best = best_known(list(run.raced.values()))
    if best is None:
        return np.empty(0, dtype=np.int64)
    review = review_labels(out_of_fold(run.context, run.prepared, best), seed=run.context.spec.seed)
    rows = review.order[review.suspected[review.order]]
    return np.asarray(review.rows[rows], dtype=np.int64)


def calibrations(ground: Ground) -> list[Step]:
    """What a calibration would do to the log loss, fitted on the other folds."""
    run = ground.run
    given = run.context.spec.calibration not in (None, "none")
    if run.schema.task == "regression" or given or run.raced[run.chosen].spec.family == "baseline":
        return []
    kinds = ["temperature"]
    if ground.view.num_rows >= LEAST_ROWS_ISOTONIC:
        kinds.append("isotonic")
    goal = ground.goal if ground.goal.name in ("log_loss", "brier") else metric("log_loss")
    steps = []
    for kind in kinds:
        said = _cross_calibrated(ground, kind)
        if said is None:
            continue
        steps.append(
            Step(
                "calibration",
                f"Calibrate the probabilities ({kind})",
                "Each fold was calibrated by the others. It matters to whoever uses the "
                "probabilities; the order of the rows hardly changes.",
                goal.name,
                ground.now(goal),
                ground.better(replace(ground.scored, prediction=said), goal),
                ground.command(calibration=kind),
                aside=ground.goal.needs != "probability" or ground.goal.name == "auc",
            )
        )
    return steps[:1] if len(steps) == 1 else sorted(steps, key=lambda s: -s.worth.value)[:1]


def _cross_calibrated(ground: Ground, kind: str) -> NDArray[np.float64] | None:
    said = ground.scored.prediction.copy()
    for number in np.unique(ground.scored.fold):
        here = ground.scored.fold == number
        target = ground.view.target[~here]
        if np.unique(target).size < ground.run.schema.num_classes:
            return None
        weight = None if ground.view.weight is None else ground.view.weight[~here]
        learned = fit_calibration(kind, target, ground.scored.prediction[~here], weight=weight)
        said[here] = learned.apply(ground.scored.prediction[here])
    return said


def thresholds(ground: Ground) -> list[Step]:
    """What the decision threshold costs in other aims, each fold's set by the other folds."""
    run = ground.run
    if run.schema.task != "binary" or run.raced[run.chosen].spec.family == "baseline":
        return []
    mine = threshold_goal(run.context)
    present = "f1" if mine is None else mine.kind
    if present not in AIMS:
        return []
    steps = []
    for name in AIMS:
        if name == present:
            continue
        goal = metric(name)
        after = _cross_thresholded(ground, name)
        if after is None:
            continue
        worth = _labels_differ(ground, goal, after, rows_of(run, ground.scored, ground.view))
        aim, old = (kind.replace("_", " ") for kind in (name, present))
        steps.append(
            Step(
                "threshold",
                f"Decide for {aim} rather than {old}",
                f"The threshold of {figure(run.threshold)} was set for {old}; "
                "here each fold's was set by the others.",
                name,
                ground.now(goal),
                worth,
                ground.command(**{"objective.threshold": name}),
                aside=ground.goal.name != name,
            )
        )
    return steps


def _cross_thresholded(ground: Ground, goal: str) -> NDArray[np.int64] | None:
    """The labels that thresholds of the other folds give."""
    said = ground.scored.prediction[:, 1]
    labels = np.zeros(said.size, dtype=np.int64)
    for number in np.unique(ground.scored.fold):
        here = ground.scored.fold == number
        target = ground.view.target[~here]
        if np.unique(target).size < 2:
            return None
        weight = None if ground.view.weight is None else ground.view.weight[~here]
        found = choose_threshold(target, said[~here], goal, weight=weight)
        labels[here] = said[here] >= found.value
    return labels


def _labels_differ(
    ground: Ground, goal: Metric, after: NDArray[np.int64], before: Rows
) -> Estimate:
    """The paired difference of two labellings; a label is a probability of 0 or 1."""

    def rows(labels: NDArray[np.int64]) -> Rows:
        return Rows.build(
            ground.view.target,
            labels.astype(np.float64),
            regression=False,
            weight=ground.view.weight,
        )

    return ground.between(rows(after), rows(before.label), goal)


def is_finite(step: Step) -> bool:
    """Whether a step's worth was found at all."""
    return math.isfinite(step.worth.value) and math.isfinite(step.worth.low)
