"""What wrong labels cost a model: fitted again without the suspects, scored out of fold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopline.audit.crossfit import assign_folds, cross_fit
from loopline.audit.labels import review_labels
from loopline.audit.whole import reviewable
from loopline.line.again import again
from loopline.line.audit import best_known, out_of_fold
from loopline.line.finished import FinishedRun
from loopline.line.pricing import Ground
from loopline.line.refits import Refitted, Variant
from loopline.line.steps import Step
from loopline.seeds import child_seed
from loopline.splits.views import TrainView
from loopline.words import counted

SHOWN_ROWS = 100


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
    title = f"Look at {counted(number, 'label')} that {'looks' if number == 1 else 'look'} wrong"
    if not suspects.sharp:
        title = f"Look at the first of {counted(number, 'label')} that disagree with the other rows"
    sense = (
        "Where the labels are wrong indeed, mending them is worth at least as much, and makes the "
        "score itself truer."
        if suspects.sharp
        else "The columns do not settle the label, so most of these labels may well be right."
    )
    rows = "the other rows" if suspects.sharp else "all rows, as they are labelled"
    return Step(
        "fix_labels",
        title,
        f"The model was fitted again without such rows and scored on {rows}. {sense} "
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
