"""Labels that look wrong: a ranked list to look at, the noise they make, and the score it allows.

Only out-of-fold predictions are taken: a model that has seen a wrong label in its own fit agrees
with it. Nothing is ever deleted or changed; of what such lists flag in well-known test sets only
about half was truly wrong (Northcutt, Athalye and Mueller, "Pervasive Label Errors in Test Sets
Destabilize Machine Learning Benchmarks", NeurIPS 2021), so a person has to look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.audit.crossfit import OutOfFold
from loopline.audit.examples import MAX_LETTERS
from loopline.audit.finding import NUM_EXAMPLES, Finding, Remedy
from loopline.audit.labels_joint import (
    NoiseMatrix,
    confident_joint,
    read_confidence,
    thresholds,
)
from loopline.audit.labels_noise import class_noise
from loopline.audit.labels_regression import value_noise
from loopline.data.cleaning.finding import plain
from loopline.data.schema import Label, Schema, has_classes
from loopline.errors import DataError, LeakError
from loopline.evaluate.intervals import Estimate
from loopline.splits.rows import digest_codes
from loopline.splits.views import TrainView
from loopline.words import counted, figure

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
FEWEST_ROWS = 20
"""Rows below which nothing can be said of labels."""
SHARP = 0.75
"""Share of what a constant leaves open from which an odd label is likelier wrong than hard."""
MOST_NOISE = 1 / 3
"""Where more labels than this could be wrong, the columns fail, not the labels."""
FEWEST_VALUES = 20
"""Grades with fewer values than this are off by whole steps without being wrong."""
SHOWN_CELLS = 6
TOLD_RATE = 0.005
"""Noise that is surely above this is a warning, below it a note."""


@dataclass(frozen=True, eq=False)
class LabelReview:
    """Which labels look wrong, and what that means for any score.

    Args:
        score: of each row, higher = more suspicious; NaN where no fold predicted the row. Classes:
            (1 + margin) / 2 from 0 to 1, where margin is the largest probability of another class
            minus that of the given one. Values: the residual in units of its local scale.
        order: rows with a score, most suspicious first.
        suspected: rows whose label is more likely wrong than not, shape (rows,).
        given: class codes or values of the labels, shape (rows,).
        suggested: the best other class of each row, or the predicted value.
        joint: given against true labels (classes only).
        noise_rate: share of wrong labels among the rows, 0 to 1, with its interval.
        ceiling: the best score against labels of this noise that even a perfect model would get.
        ceiling_metric: `accuracy`, or `r2` for values.
        rows: where the rows stand in the table.
        model: whose predictions these are.
        skill: share of what a constant leaves open, and wrong labels leave within reach, that the
            predictions settle, at most 1.
    """

    score: Floats
    order: Ints
    suspected: Bools
    given: NDArray[Any]
    suggested: NDArray[Any]
    joint: NoiseMatrix | None
    noise_rate: Estimate
    ceiling: Estimate
    ceiling_metric: str
    rows: Ints
    model: str
    skill: float

    @property
    def num_suspected(self) -> int:
        """Number of suspected rows."""
        return int(self.suspected.sum())

    @property
    def sharp(self) -> bool:
        """Whether the columns settle so much that an odd label is likelier wrong than hard."""
        told = self.joint is None or self.noise_rate.high <= MOST_NOISE
        return self.skill >= SHARP and told


def review_labels(out: OutOfFold, *, seed: int = 0) -> LabelReview:
    """Rank rows by how wrong their label looks, and estimate how many labels are wrong.

    Classes: confident learning and margin ranking; a row is suspected when another class is more
    probable than the given one, and when no more rows look worse than can be wrong by the upper end
    of the noise rate. Values: residuals in units of the spread among rows of like prediction.
    Sample weights are not used: a label is right or wrong however much it counts.

    Args:
        out: out-of-fold predictions; nothing else is taken, because in-sample predictions agree
            with wrong labels.
        seed: of the bootstrap over units.

    Raises:
        LeakError: `out` is not an `OutOfFold`.
        DataError: fewer than 20 predicted rows, or labels of one class only.

    >>> from loopline.audit.crossfit import assign_folds, cross_fit
    >>> from loopline.data.schema import Column
    >>> from loopline.testing.splitters import view_of
    >>> import polars as pl
    >>> x = np.arange(400) % 20
    >>> y = (x >= 10).astype(int)
    >>> y[7] = 1 - y[7]
    >>> columns = (Column("x", "number"), Column("y", "category", "target"))
    >>> view = view_of(pl.DataFrame({"x": x, "y": y}), Schema(columns, "binary", (0, 1)))
    >>> review = review_labels(cross_fit(view, assign_folds(view, view.units)))
    >>> int(review.order[0]), review.num_suspected
    (7, 1)
    """
    if not isinstance(out, OutOfFold):
        raise LeakError(
            f"Labels are reviewed by out-of-fold predictions only, got {type(out).__name__}: a "
            "model that was fitted on a wrong label agrees with it. Use `cross_fit` or "
            "`OutOfFold.of_folds`."
        )
    known = np.flatnonzero(out.known)
    if known.size < FEWEST_ROWS:
        raise DataError(
            f"Labels can be reviewed with at least {FEWEST_ROWS} rows that were predicted out of "
            f"fold; there are {counted(int(known.size), 'row')}."
        )
    if not has_classes(out.view.schema.task):
        return _review_values(out, known, seed)
    return _review_classes(out, known, seed)


def _review_classes(out: OutOfFold, known: Ints, seed: int) -> LabelReview:
    view = out.view
    num_classes = view.schema.num_classes
    given = np.asarray(view.target[known], dtype=np.int64)
    if np.unique(given).size < 2:
        label = view.schema.classes[int(given[0])]
        raise DataError(
            f"All {known.size:,} labels are {label!r}; labels can be compared only where there are "
            "at least two classes."
        )
    whole = known.size == view.num_rows
    prediction = out.prediction if whole else out.prediction[known]
    least = thresholds(prediction, given, num_classes)
    seen = read_confidence(prediction, given, least)
    noise = class_noise(seen.best, seen.sure, given, view.units[known], num_classes, seed)
    score, order = _placed(0.5 + 0.5 * seen.margin, known, view)
    suspected = _spread(seen.best != given, known, view.num_rows)
    suspected[order[_most(noise, known.size) :]] = False
    base = float(np.bincount(given).max()) / known.size
    right = float((np.argmax(prediction, axis=1) == given).mean())
    return LabelReview(
        score=score,
        order=order,
        suspected=suspected,
        given=view.target,
        suggested=_spread(seen.other, known, view.num_rows, -1),
        joint=confident_joint(seen.confident, given, num_classes),
        noise_rate=noise,
        ceiling=_rest(noise),
        ceiling_metric="accuracy",
        rows=view.positions,
        model=out.model,
        skill=(right - base) / (max(right, 1.0 - noise.value) - base) if right > base else 0.0,
    )


def _review_values(out: OutOfFold, known: Ints, seed: int) -> LabelReview:
    view = out.view
    target, said = view.target[known], out.prediction[known]
    found = value_noise(target, said, view.units[known], seed)
    score, order = _placed(found.score, known, view)
    spread = float(np.square(target - target.mean()).sum())
    skill = 1.0 - float(np.square(target - said).sum()) / spread
    rate, ceiling = found.rate, found.ceiling
    if skill < SHARP or np.unique(target).size < FEWEST_VALUES:
        # What the columns leave open looks the same as a wrong value.
        why = "the columns leave too much of the target open to tell wrong values from odd ones"
        rate, ceiling = _unknown(rate, why), _unknown(ceiling, why)
    return LabelReview(
        score=score,
        order=order,
        suspected=_spread(found.suspected, known, view.num_rows),
        given=view.target,
        suggested=out.prediction,
        joint=None,
        noise_rate=rate,
        ceiling=ceiling,
        skill=skill,
        ceiling_metric="r2",
        rows=view.positions,
        model=out.model,
    )


def _unknown(estimate: Estimate, why: str) -> Estimate:
    nan = float("nan")
    return replace(estimate, value=nan, low=nan, high=nan, note=why)


def _placed(score: Floats, known: Ints, view: TrainView) -> tuple[Floats, Ints]:
    """Scores at their rows, and the rows in order; equal scores by place in the table."""
    whole = np.full(view.num_rows, np.nan)
    whole[known] = score
    return whole, known[np.lexsort((view.positions[known], -score))]


def _spread(values: NDArray[Any], known: Ints, size: int, empty: Any = 0) -> NDArray[Any]:
    whole = np.full(size, empty, dtype=values.dtype)
    whole[known] = values
    return whole


def _most(noise: Estimate, num_rows: int) -> int:
    """Rows that can be wrong at most: hard rows look wrong too, where classes overlap."""
    return int(np.ceil(noise.high * num_rows)) if np.isfinite(noise.high) else num_rows


def _rest(rate: Estimate) -> Estimate:
    return Estimate(
        1.0 - rate.value,
        1.0 - rate.high,
        1.0 - rate.low,
        rate.method,
        rate.num_units,
        rate.level,
        rate.standard_error,
        rate.freedom,
        rate.note,
    )


def label_findings(review: LabelReview, view: TrainView) -> list[Finding]:
    """What a review says, as at most one finding; empty when no label looks wrong.

    Rows that are equal in all features but carry different labels are told with it: at most one of
    such labels can be right, whatever any model thinks. Values are left out of this: two
    measurements of the same thing may well differ.

    Args:
        review: of the view's rows.
        view: the rows that were reviewed.

    Raises:
        DataError: the review is of other rows.
    """
    if not np.array_equal(review.rows, view.positions):
        raise DataError("The review is of other rows than the view; review the view's own rows.")
    disagreeing, clusters = _disagreement(view) if review.joint else (_nowhere(view), 0)
    number = review.num_suspected
    if not number and not clusters:
        return []
    top = review.order[:NUM_EXAMPLES] if number else np.flatnonzero(disagreeing)[:NUM_EXAMPLES]
    reviewed = int(review.order.size)
    warn = bool(number) and review.noise_rate.low > TOLD_RATE and review.sharp
    rate = review.noise_rate
    return [
        Finding(
            check="label_errors",
            severity="warning" if warn else "note",
            sentence=_sentence(review, reviewed, int(disagreeing.sum()), clusters),
            columns=(view.schema.target,),
            num_rows=number,
            share=number / reviewed,
            rows=tuple(int(view.positions[row]) for row in top),
            examples=tuple(_example(review, view, int(row)) for row in top),
            splits=("train",),
            confidence=_confidence(review),
            remedy=Remedy(
                "Look at the rows in the order of the list and correct the labels that are wrong; "
                "nothing was changed or left out."
            ),
            facts={
                "noise_rate": rate.to_dict(),
                "ceiling": review.ceiling.to_dict(),
                "ceiling_metric": review.ceiling_metric,
                "suspected": number,
                "reviewed": reviewed,
                "model": review.model,
                "joint_off_diagonal": review.joint.off_diagonal if review.joint else None,
                "mixed_up": _mixed_up(review, view.schema),
                "disagreeing_rows": int(disagreeing.sum()),
                "disagreeing_clusters": clusters,
            },
        )
    ]


def _sentence(review: LabelReview, reviewed: int, disagreeing: int, clusters: int) -> str:
    parts = []
    number, rate = review.num_suspected, review.noise_rate
    if number:
        verb = "looks" if number == 1 else "look"
        head = f"{counted(number, 'label')} of {reviewed:,} {verb} wrong"
        if not review.sharp:
            head = (
                f"{counted(number, 'label')} of {reviewed:,} disagree most with what the other "
                "rows suggest; where the columns do not settle the label many of them are right, "
                "so look at the first of the list"
            )
        elif np.isfinite(rate.low):
            head += (
                f"; an estimated {_percent(rate.value)} of all labels are wrong, or cannot be told "
                f"from the columns ({_percent(rate.low)} to {_percent(rate.high)})"
            )
        best = review.ceiling
        if np.isfinite(best.low) and review.sharp:
            kind = "an accuracy" if review.ceiling_metric == "accuracy" else "an R2"
            head += (
                f", so even a perfect model would score about {kind} of {figure(best.value)} "
                f"({figure(best.low)} to {figure(best.high)}) against them"
            )
        parts.append(head + ".")
        if review.joint is not None and np.isfinite(rate.low) and review.sharp:
            parts.append(
                "The estimate takes mistakes to be as frequent on easy rows as on hard ones; where "
                "people err on hard rows, more labels are wrong than it says."
            )
    if clusters:
        parts.append(
            f"{counted(disagreeing, 'row')} in {counted(clusters, 'cluster')} are equal in every "
            "feature but carry different labels."
        )
    return " ".join(parts)


def _confidence(review: LabelReview) -> float:
    """How much of the suspected part the noise estimate bears out, 0 to 1."""
    if not review.num_suspected or not np.isfinite(review.noise_rate.value):
        return 0.5
    share = review.num_suspected / review.order.size
    return float(round(min(1.0, max(0.1, review.noise_rate.value / share)), 3))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _label(value: Any, schema: Schema) -> Label | None:
    if not has_classes(schema.task):
        return float(value) if np.isfinite(value) else None
    return schema.classes[int(value)] if value >= 0 else None


def _example(review: LabelReview, view: TrainView, row: int) -> Mapping[str, Any]:
    names = view.schema.features[:SHOWN_CELLS]
    cells = view.subset(np.array([row])).frame(names)
    score = float(review.score[row])
    return {
        "row": int(view.positions[row]),
        "given": _label(review.given[row], view.schema),
        "suggested": _label(review.suggested[row], view.schema),
        "score": round(score, 6) if np.isfinite(score) else None,
        "cells": {name: plain(cells[name][0], MAX_LETTERS) for name in names},
    }


def _mixed_up(review: LabelReview, schema: Schema) -> list[dict[str, Any]]:
    if review.joint is None:
        return []
    return [
        {"given": schema.classes[given], "true": schema.classes[true], "share": round(share, 6)}
        for given, true, share in review.joint.worst_pairs(NUM_EXAMPLES)
    ]


def _nowhere(view: TrainView) -> Bools:
    return np.zeros(view.num_rows, dtype=bool)


def _disagreement(view: TrainView) -> tuple[Bools, int]:
    """Rows equal in every feature to a row of another label, and the number of such clusters."""
    if not view.schema.features:
        return _nowhere(view), 0
    cluster = digest_codes(view.feature_digests())
    sizes = np.bincount(cluster)
    several = np.flatnonzero(sizes[cluster] > 1)
    by_label = several[np.lexsort((view.target[several], cluster[several]))]
    first, second = by_label[:-1], by_label[1:]
    differ = (cluster[first] == cluster[second]) & (view.target[first] != view.target[second])
    mixed = np.zeros(sizes.size, dtype=bool)
    mixed[cluster[first[differ]]] = True
    return mixed[cluster], int(mixed.sum())
