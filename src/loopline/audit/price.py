"""What a finding is worth: the same small model, scored as claimed and as repaired.

Two kinds of claim are priced here: columns (with them and without), and structure (rows dealt at
random against whole groups); `loopline.audit.times` prices time likewise. Everything happens
inside the training view; no test label is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loopline.audit.crossfit import OutOfFold, assign_folds, cross_fit
from loopline.audit.finding import Worth
from loopline.evaluate.intervals import Estimate, estimate_rows
from loopline.evaluate.metrics import Metric, default_metric, metric
from loopline.evaluate.rows import Rows, Units
from loopline.select.compare import compare_rows
from loopline.splits.deal import dense
from loopline.splits.views import TestView, TrainView

Ints = NDArray[np.int64]
MAX_ROWS = 20_000
"""Rows that a price is measured on; the interval tells what that leaves open."""
MAX_TEXTS = 4_000
"""The same where there are texts, which take a hundred times as long."""
NUM_DEALINGS = 2
"""How often rows are dealt into folds for one price."""


@dataclass(frozen=True)
class Pricing:
    """How prices are measured.

    Args:
        metric: its name; the task's default when empty.
        seed: of folds and fits.
        threads: for the fits.
        max_rows: rows to measure on, drawn unit by unit.
    """

    metric: str = ""
    seed: int = 0
    threads: int = 1
    max_rows: int = MAX_ROWS

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the dealings that a price is averaged over."""
        return tuple(self.seed + number for number in range(NUM_DEALINGS))

    def fit(
        self, view: TrainView, fold: Ints, *, forward: bool = False, without: Sequence[str] = ()
    ) -> OutOfFold:
        """Cross-fit the small model: boosted trees, or a linear one where there are texts."""
        return cross_fit(
            view,
            fold,
            forward=forward,
            without=without,
            model="linear" if has_texts(view) else "lightgbm",
            threads=self.threads,
            seed=self.seed,
        )

    def rows(self, view: TrainView, units: Ints) -> NDArray[np.int64]:
        """Positions of the rows that a price is measured on."""
        most = min(self.max_rows, MAX_TEXTS) if has_texts(view) else self.max_rows
        return sample_units(view, units, most, self.seed)

    def metric_for(self, view: TrainView) -> str:
        """The metric of a view's task."""
        return self.metric or default_metric(view.schema.task).name


def has_texts(view: TrainView) -> bool:
    """Whether a feature of the view is text."""
    types = {column.name: column.type for column in view.schema.columns}
    return any(types[name] == "text" for name in view.schema.features)


def sample_units(
    view: TrainView | TestView, units: Ints, max_rows: int, seed: int
) -> NDArray[np.int64]:
    """Positions of at most about `max_rows` rows, whole units only, in the view's order."""
    if view.num_rows <= max_rows:
        return np.arange(view.num_rows)
    codes, number = dense(units)
    sizes = np.bincount(codes)
    drawn = np.random.default_rng(seed).permutation(number)
    total = np.cumsum(sizes[drawn])
    kept = drawn[: max(2, int(np.searchsorted(total, max_rows, side="right")))]
    chosen = np.zeros(number, dtype=bool)
    chosen[kept] = True
    return np.flatnonzero(chosen[codes])


def price_columns(
    view: TrainView, columns: Sequence[str], pricing: Pricing, *, units: Ints | None = None
) -> Worth | None:
    """The score with some columns and without them; None when no feature would be left.

    Args:
        view: training rows.
        columns: the suspects.
        pricing: how to measure.
        units: rows that stay together and count once; the view's by default.
    """
    if set(view.schema.features) <= set(columns):
        return None
    mine = view.units if units is None else units
    rows = pricing.rows(view, mine)
    part, mine = view.subset(rows), mine[rows]
    folds = [assign_folds(part, mine, seed=seed) for seed in pricing.seeds]
    claimed = [pricing.fit(part, fold) for fold in folds]
    repaired = [pricing.fit(part, fold, without=columns) for fold in folds]
    return worth_of(part, claimed, repaired, mine, pricing)


def price_structure(view: TrainView, together: Ints, pricing: Pricing) -> Worth:
    """The score with rows dealt at random, and with rows of one group dealt together.

    Args:
        view: training rows.
        together: code of the group of each row, shape (rows,).
        pricing: how to measure.
    """
    rows = pricing.rows(view, together)
    part, groups = view.subset(rows), together[rows]
    alone = np.arange(part.num_rows, dtype=np.int64)
    claimed, repaired = (
        [pricing.fit(part, assign_folds(part, units, seed=seed)) for seed in pricing.seeds]
        for units in (alone, groups)
    )
    return worth_of(part, claimed, repaired, groups, pricing)


def worth_of(
    view: TrainView,
    claimed: Sequence[OutOfFold],
    repaired: Sequence[OutOfFold],
    units: Ints,
    pricing: Pricing,
) -> Worth:
    """Cross-fits of the same rows as a price, on the rows that all of them predicted.

    One dealing of rows into folds differs from the next by about as much as the rows' own error
    (on 1,200 independent rows the standard deviation of such a difference was 0.0097 AUC beside a
    standard error of 0.0066), so a single pair would find a price where there is none in 8 to 17 of
    100 tables. The mean over two dealings, with the spread between them added to the error,
    found none in 62 tables. The two scores carry the same spread, because they are meant as
    those of the small model on such rows, not of the models of one dealing.
    """
    known = np.logical_and.reduce([each.known for each in (*claimed, *repaired)])
    chosen = metric(pricing.metric_for(view))
    y, weight = view.target[known], None if view.weight is None else view.weight[known]
    together = Units.build(units[known], int(known.sum()))

    def rows(each: OutOfFold) -> Rows:
        said, fold = each.prediction[known], each.fold[known]
        return chosen.rows(y, said, weight=weight, folds=fold)

    first, second = ([rows(each) for each in side] for side in (claimed, repaired))
    return Worth(
        metric=chosen.name,
        claimed=_within(chosen, _mean([estimate_rows(chosen, each, together) for each in first])),
        repaired=_within(chosen, _mean([estimate_rows(chosen, each, together) for each in second])),
        difference=_mean(
            [
                compare_rows(chosen, one, two, together)
                for one, two in zip(first, second, strict=True)
            ]
        ),
        model=claimed[0].model,
    )


def _within(chosen: Metric, found: Estimate) -> Estimate:
    """An interval that does not leave the values that the metric can take."""
    low, high = chosen.bounds
    return replace(found, low=max(found.low, low), high=min(found.high, high))


def _mean(parts: Sequence[Estimate]) -> Estimate:
    """The mean of estimates of one thing, with their mean reach and their spread."""
    values = np.array([part.value for part in parts])
    value = float(values.mean())
    reach = [(part.value - part.low, part.high - part.value) for part in parts]
    below, above = (float(np.mean(side)) for side in zip(*reach, strict=True))
    if len(parts) > 1:
        error = 1.96 * float(values.std(ddof=1)) / len(parts) ** 0.5
        below, above = (float(np.hypot(side, error)) for side in (below, above))
    method = parts[0].method + ", two dealings"
    return replace(parts[0], value=value, low=value - below, high=value + above, method=method)
