"""Is a strong column a leak? The evidence, measured: how exact it is, and the cliff without it.

An honestly strong column has company: other columns measure the same thing less well, and a model
without it is somewhat worse. A copy of the label stands alone on a cliff: it is (nearly) exact, and
without it the model falls to what the problem honestly allows. Neither alone is proof; both are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from loopline.audit.crossfit import OutOfFold, assign_folds, cross_fit, forward_folds
from loopline.audit.finding import Worth
from loopline.audit.price import Pricing, sample_units, worth_of
from loopline.audit.skill import Skill, skill_of
from loopline.audit.times import label_memory
from loopline.data.schema import has_classes
from loopline.errors import DataError
from loopline.splits.deal import dense
from loopline.splits.views import TrainView

Ints = NDArray[np.int64]
ALONE = 0.9
"""Units in the rows from which rows count as standing alone but for time."""
MAX_CLASSES = 30
"""With more classes no small model is fitted: it would cost minutes."""
MIN_ROWS = 60
MAX_TEXTS = 1_500


class Evidence:
    """Small models of one training view, fitted once for each set of left-out columns.

    Args:
        view: training rows.
        pricing: how to measure.
    """

    def __init__(self, view: TrainView, pricing: Pricing) -> None:
        self.pricing = pricing
        types = {column.name: column.type for column in view.schema.columns}
        # Trees on thousands of words cost minutes and are no better than a linear model there.
        texts = any(types[name] == "text" for name in view.schema.features)
        self.model = "linear" if texts else "lightgbm"
        most = min(pricing.max_rows, MAX_TEXTS) if texts else pricing.max_rows
        rows = sample_units(view, view.units, most, pricing.seed)
        self.view = view if rows.size == view.num_rows else view.subset(rows)
        self.folds = [assign_folds(self.view, self.view.units, seed=seed) for seed in pricing.seeds]
        self._fits: dict[tuple[frozenset[str], int], OutOfFold | None] = {}

    @property
    def possible(self) -> bool:
        """Whether models can be fitted here at all."""
        return self.view.num_rows >= MIN_ROWS and self.view.schema.num_classes <= MAX_CLASSES

    def without(self, columns: Collection[str], dealing: int = 0) -> OutOfFold | None:
        """Out-of-fold predictions without some columns; None where nothing can be fitted.

        Args:
            columns: features to leave out.
            dealing: which dealing of the rows into folds.
        """
        key = (frozenset(columns), dealing)
        if key not in self._fits:
            self._fits[key] = self._fit(key[0], dealing)
        return self._fits[key]

    def _fit(self, columns: frozenset[str], dealing: int) -> OutOfFold | None:
        out = [name for name in self.view.schema.features if name in columns]
        if not self.possible or len(out) == len(self.view.schema.features):
            return None
        try:
            return self._cross_fit(out, self.folds[dealing])
        except DataError:  # too few rows of two classes for a fold
            return None

    def _cross_fit(
        self, columns: Collection[str], fold: Ints, *, forward: bool = False
    ) -> OutOfFold:
        return cross_fit(
            self.view,
            fold,
            forward=forward,
            without=sorted(columns),
            model=self.model,
            threads=self.pricing.threads,
            seed=self.pricing.seed,
        )

    def skill_without(self, columns: Collection[str]) -> Skill | None:
        """What all other columns tell together; None where nothing can be fitted."""
        found = self.without(columns)
        if found is None:
            return None
        known = found.known
        said, y = found.prediction[known], self.view.target[known]
        task = self.view.schema.task
        if task == "binary":
            said = said[:, 1]
        elif task == "multiclass":
            said = np.argmax(said, axis=1)
        return skill_of(task, y, said, self.view.units[known])

    def worth(self, columns: Sequence[str], leaks: Collection[str]) -> Worth | None:
        """The price of some columns in a table from which all other leaks are gone already.

        Where the split goes forward in time, so do the folds: a random deal would leave the score
        without the columns too good.
        """
        others = frozenset(leaks) - frozenset(columns)
        if self._forward is not None:
            return self._worth_forward(others, frozenset(columns), *self._forward)
        claimed, repaired = self._dealt(others), self._dealt(others | frozenset(columns))
        if claimed is None or repaired is None:
            return None
        return worth_of(self.view, claimed, repaired, self.view.units, self.pricing)

    @cached_property
    def _forward(self) -> tuple[Ints, Ints] | None:
        """Folds forward in time and the stretches that count once; None without a time."""
        if self.view.order is None:
            return None
        ranks = dense(self.view.order)[0]
        fold = forward_folds(ranks)
        first = self.view.target[fold == -1]
        if not first.size or not (fold >= 0).any():
            return None
        if has_classes(self.view.schema.task) and np.unique(first).size < 2:
            return None
        stretches = ranks // label_memory(self.view, ranks).length
        grouped = np.unique(self.view.units).size < ALONE * self.view.num_rows
        return fold, self.view.units if grouped else stretches

    def _worth_forward(
        self, others: frozenset[str], columns: frozenset[str], fold: Ints, units: Ints
    ) -> Worth | None:
        if not self.possible or len(others | columns) >= len(self.view.schema.features):
            return None
        claimed, repaired = (
            [self._cross_fit(out, fold, forward=True)] for out in (others, others | columns)
        )
        return worth_of(self.view, claimed, repaired, units, self.pricing)

    def _dealt(self, columns: frozenset[str]) -> list[OutOfFold] | None:
        fits = [self.without(columns, number) for number in range(len(self.folds))]
        known = [each for each in fits if each is not None]
        return known if len(known) == len(fits) else None
