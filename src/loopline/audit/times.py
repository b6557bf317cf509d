"""Time, priced: the later predicted from the earlier, against a random deal.

Where labels of neighbouring times resemble each other, rows dealt at random let a model look them
up; a deployed model sees only the past. The gap is measured with equally many training rows on both
sides of the comparison (the same forward scheme once with the true order and once with a shuffled
one), so that learning from fewer rows is not mistaken for time, and rows near in time count as one
observation in its interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.audit.crossfit import forward_folds
from loopline.audit.finding import Finding, Remedy, Worth
from loopline.audit.future import future_findings
from loopline.audit.price import Pricing, worth_of
from loopline.audit.time_search import (
    MIN_ROWS,
    MIN_TIMES,
    TimeCandidate,
    correlation,
    propose_times,
)
from loopline.data.schema import has_classes
from loopline.seeds import child_seed
from loopline.splits.deal import dense
from loopline.splits.views import TrainView
from loopline.words import figure

__all__ = ["TimeCandidate", "measure_times", "propose_times"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
MAX_CLASSES = 30
"""With more classes nothing is priced: one small model would cost minutes."""
MIN_BLOCKS = 10
"""An interval counts at least so many stretches of time as observations."""
FADED = 0.1
"""Correlation of labels below which two rows count as separate observations."""


def measure_times(
    view: TrainView, candidates: Sequence[TimeCandidate], pricing: Pricing
) -> list[Finding]:
    """Whether time matters: later rows predicted from earlier ones, against a random deal.

    Args:
        view: training rows of a table whose rows the candidates' orders stand for.
        candidates: from `propose_times`.
        pricing: how to measure.

    Returns:
        A finding for each candidate: `repairable` where the gap is surely above zero and a column
        gives the order, `warning` where only the order of the rows does, else `note`; and a warning
        for each feature that knows later labels better than it could.
    """
    found: list[Finding] = []
    looked = False
    for candidate in sorted(candidates, key=lambda each: each.kind != "declared"):
        order = candidate.order[view.positions]
        known = np.flatnonzero(order >= 0)
        if known.size < MIN_ROWS or np.unique(order[known]).size < MIN_TIMES:
            if candidate.kind == "declared":
                found.append(_few(view, candidate, known.size))
            continue
        part = view if known.size == view.num_rows else view.subset(known)
        ranks = dense(order[known])[0]
        found.append(_measured(part, candidate, ranks, pricing))
        if not looked and (candidate.sure or bool(found[-1].facts["matters"])):
            found += future_findings(part, ranks)
            looked = True
    return found


def _few(view: TrainView, candidate: TimeCandidate, num_known: int) -> Finding:
    text = (
        f"The time {_told(candidate)} has {candidate.num_times:,} distinct values on {num_known:,} "
        "training rows, too few to tell what a forward split changes."
    )
    return Finding(
        check="time",
        severity="note",
        sentence=text,
        columns=candidate.columns,
        num_rows=num_known,
        share=num_known / max(1, view.num_rows),
        facts={"columns": list(candidate.columns), "matters": False, "role": "time"},
    )


def _measured(view: TrainView, candidate: TimeCandidate, order: Ints, pricing: Pricing) -> Finding:
    along = label_memory(view, order)
    worth = price_forward(view, order, along.length, pricing)
    matters = worth is not None and worth.matters
    name = _told(candidate)
    number = int(order.max()) + 1
    ties = "" if number == view.num_rows else f", {view.num_rows / number:.1f} rows each"
    told = f"{name[0].upper()}{name[1:]} gives {number:,} times{ties}"
    told += f"; labels of neighbouring times correlate by {along.first:.2f}"
    if worth is None:
        text = f"{told}; what a forward split changes was not measured."
    else:
        verb = (
            "on equally many training rows a random split claims"
            if matters
            else "a forward split is not surely worse than a random one:"
        )
        text = (
            f"{told}; {verb} {worth.metric} {figure(worth.claimed.value)}, predicting the later "
            f"from the earlier gives {figure(worth.repaired.value)}."
        )
    severity: Literal["repairable", "warning", "note"] = "note"
    if matters and candidate.kind != "declared":
        severity = "repairable" if candidate.sure else "warning"
    settings = {"columns": {name: {"role": "time"} for name in candidate.columns}}
    remedy = None
    if severity == "repairable":
        remedy = Remedy(f"Split forward in time by {name}.", settings)
    elif severity == "warning" and candidate.columns:
        remedy = Remedy(
            f"If {name} is when the row happened, split forward in time by it; no other column "
            "and no order of the rows says so.",
            settings,
        )
    elif severity == "warning":
        remedy = Remedy(
            "The rows stand in an order that no column holds: add a column with the time, or the "
            "number of the row, and give it `role: time`."
        )
    return Finding(
        check="time",
        severity=severity,
        sentence=text,
        columns=candidate.columns,
        num_rows=view.num_rows,
        share=1.0,
        rows=tuple(int(row) for row in view.positions[np.argsort(order, kind="stable")[:5]]),
        confidence=candidate.confidence,
        worth=worth,
        remedy=remedy,
        facts={
            "columns": list(candidate.columns),
            "matters": matters,
            "role": "time" if candidate.columns else "",
            "kind": candidate.kind,
            "times": number,
            "sorted": candidate.sorted,
            "label_correlation": round(along.first, 4),
            "block_times": along.length,
        },
    )


def _told(candidate: TimeCandidate) -> str:
    if not candidate.columns:
        return "the order of the rows"
    return " with ".join(repr(name) for name in candidate.columns)


@dataclass(frozen=True)
class Memory:
    """How long labels remember.

    Args:
        first: correlation of the labels of neighbouring times.
        length: times after which it has faded below `FADED`; at most a `MIN_BLOCKS`-th of all.
    """

    first: float
    length: int


def label_memory(view: TrainView, order: Ints) -> Memory:
    """Autocorrelation of the mean label along time (for several classes, of the worst one).

    Args:
        view: training rows.
        order: dense rank of each row in time, shape (rows,).
    """
    number = int(order.max()) + 1
    counts = np.bincount(order, minlength=number)
    longest = max(1, number // MIN_BLOCKS)
    first, length = 0.0, 1
    for values in _label_numbers(view):
        series = np.bincount(order, values, minlength=number) / np.maximum(counts, 1)
        here = correlation(series[:-1], series[1:]) if number > 2 else 0.0
        first = here if abs(here) > abs(first) else first
        lag = 1
        while lag < longest and correlation(series[:-lag], series[lag:]) > FADED:
            lag = max(lag + 1, int(lag * 1.5))
        length = max(length, min(lag, longest))
    return Memory(first, length)


def _label_numbers(view: TrainView) -> list[Floats]:
    """The target as numbers; one indicator for each of the most frequent classes."""
    if not has_classes(view.schema.task):
        ranks = pl.Series(view.target).rank("average").to_numpy()
        return [np.asarray(ranks, dtype=np.float64)]
    counts = np.bincount(view.target)
    frequent = np.argsort(-counts, kind="stable")[: 1 if counts.size <= 2 else 5]
    return [(view.target == code).astype(np.float64) for code in frequent]


def price_forward(view: TrainView, order: Ints, block_times: int, pricing: Pricing) -> Worth | None:
    """The score of a random deal and of a forward one, with equally many training rows in both.

    Args:
        view: training rows.
        order: dense rank of each row in time, shape (rows,).
        block_times: times that count as one observation in the interval.
        pricing: how to measure.

    Returns:
        None when there are too many classes or too few features or rows.
    """
    if not view.schema.features or view.schema.num_classes > MAX_CLASSES:
        return None
    rng = np.random.default_rng(child_seed(pricing.seed, "time"))
    rows = np.arange(view.num_rows)
    if rows.size > pricing.max_rows:
        rows = np.sort(rng.choice(rows, pricing.max_rows, replace=False))
    part, ranks = view.subset(rows), order[rows]
    blocks = ranks // block_times
    true = forward_folds(ranks)
    # The shuffled deal has folds of exactly the same sizes.
    dealt = [rng.permutation(true) for _ in pricing.seeds]
    if has_classes(view.schema.task) and np.unique(part.target[true == -1]).size < 2:
        return None
    claimed = [pricing.fit(part, fold, forward=True) for fold in dealt]
    later = pricing.fit(part, true, forward=True)
    if not np.logical_and.reduce([each.known for each in (*claimed, later)]).any():
        return None
    return worth_of(part, claimed, [later] * len(claimed), blocks, pricing)
