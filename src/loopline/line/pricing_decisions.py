"""What another calibration or another threshold is worth, each fold's set by the other folds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from loopline.data.schema import has_classes
from loopline.evaluate.calibration import fit_calibration
from loopline.evaluate.intervals import Estimate
from loopline.evaluate.metrics import Metric, metric
from loopline.evaluate.rows import Rows
from loopline.evaluate.threshold import choose_threshold
from loopline.line.choosing import goal as threshold_goal
from loopline.line.curves import rows_of
from loopline.line.pricing import Ground
from loopline.line.steps import Step
from loopline.words import figure

LEAST_ROWS_ISOTONIC = 1_000
"""Monotone steps follow noise on fewer rows than this."""
AIMS = ("f1", "balanced_accuracy", "accuracy")
"""What a threshold may be set for without prices or floors, which a person has to name."""


def calibrations(ground: Ground) -> list[Step]:
    """What a calibration would do to the log loss, fitted on the other folds."""
    run = ground.run
    given = run.context.spec.calibration not in (None, "none")
    if not has_classes(run.schema.task) or given or run.raced[run.chosen].spec.family == "baseline":
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
            weight=ground.view.weight,
        )

    return ground.between(rows(after), rows(before.label), goal)
