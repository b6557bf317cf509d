"""Fit the preprocessing on a training view: every column by its type, one column at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.schema import Column, has_classes
from loopline.errors import DataError, LeakError, SettingsError
from loopline.features.base import Floats, Step
from loopline.features.categories import (
    OrdinalStep,
    count_levels,
    learn_onehot,
    learn_ordinal,
)
from loopline.features.dates import learn_datetime
from loopline.features.graph import FeatureGraph
from loopline.features.numbers import learn_number
from loopline.features.rows import ViewRows
from loopline.features.settings import (
    RECIPES,
    ColumnSettings,
    FeatureSettings,
    Recipe,
)
from loopline.features.target import Outcome, encode_training, learn_target
from loopline.features.texts import learn_text
from loopline.seeds import child_seed
from loopline.splits.views import TrainView, strata

Matrix = NDArray[np.float64]
Encoder = Callable[[], Floats]

MAX_LEVELS = {"trees": 128, "linear": 64, "neural": 2_000}
TEXT_SIZE = {"trees": 32, "linear": 256, "neural": 128}


def fit_features(
    view: TrainView, recipe: Recipe, seed: int, settings: FeatureSettings | None = None
) -> tuple[FeatureGraph, Matrix]:
    """Learn the preprocessing from a training view and transform its rows.

    Args:
        view: the training rows; nothing else is ever looked at.
        recipe: ``trees`` passes numbers with NaN for missing, gives categories codes, and encodes
            those of many values by the target; ``linear`` fills, marks what was missing,
            standardises, makes one-hot columns with a rare bucket and weighs text terms;
            ``neural`` does the same but gives categories codes.
        seed: of the folds of cross-fitted target encoding.
        settings: what to do otherwise.

    Returns:
        The graph, and the training matrix: float64, shape (rows, outputs), C order. It equals
        ``graph.transform(view)`` but for target-encoded columns, where a row's encoding is made
        without its own label.

    Raises:
        As `fit_graph`.
    """
    graph, rows = fit_graph(view, recipe, seed, settings)
    return graph, rows.matrix()


def fit_graph(
    view: TrainView, recipe: Recipe, seed: int, settings: FeatureSettings | None = None
) -> tuple[FeatureGraph, ViewRows]:
    """Learn the preprocessing from a training view; its rows as numbers can be asked for later.

    Columns are gathered and learned one after the other, so the peak of memory is one column.

    Args:
        view: as for `fit_features`.
        recipe: as for `fit_features`.
        seed: as for `fit_features`.
        settings: as for `fit_features`.

    Returns:
        The graph, and the training rows, each of its numbers made without the row's own label.

    Raises:
        LeakError: `view` is not a training view.
        SettingsError: wrong settings, all at once.
        DataError: a column cannot be used as its type and policy say.
    """
    expect_train_view(view)
    settings = settings or FeatureSettings()
    every = [view.schema.named(name) for name in view.schema.features]
    columns = [column for column in every if column.type != "image"]
    if recipe not in RECIPES:
        raise SettingsError([f"`recipe` must be one of {', '.join(RECIPES)}, got {recipe!r}."])
    settings.check({column.name: column.type for column in columns})
    if not columns and every:
        raise DataError(
            f"The only features are images ({', '.join(column.name for column in every)}), from "
            "which no table of numbers can be made; the image family reads them."
        )
    if not columns:
        raise DataError("There is no feature column to learn from; give some column that role.")
    fitter = _Fitter(view, recipe, seed, settings)
    learned = [fitter.learn(column) for column in columns]
    learned = [made for made in learned if made[0].outputs]
    graph = FeatureGraph(tuple(step for step, _ in learned), recipe)
    encoded = {place: made() for place, (_, made) in enumerate(learned) if made is not None}
    return graph, ViewRows(view, graph, encoded)


def expect_train_view(view: object) -> None:
    """Refuse to learn from anything but training rows.

    Raises:
        LeakError: `view` is not a training view.
    """
    if not isinstance(view, TrainView):
        raise LeakError(
            f"Features are fitted on a TrainView only, so that no test row can be seen; got "
            f"{type(view).__name__}. Ask the split for its training view."
        )


@dataclass(frozen=True)
class _Fitter:
    view: TrainView
    recipe: Recipe
    seed: int
    settings: FeatureSettings

    @property
    def linear(self) -> bool:
        """Whether missing cells are filled and numbers scaled, as all but trees need."""
        return self.recipe != "trees"

    def learn(self, column: Column) -> tuple[Step, Encoder | None]:
        """The step of one column and, if it differs from the step, what encodes training rows."""
        part = self.settings.columns.get(column.name, ColumnSettings())
        values = self.view.column(column.name)
        if column.type in ("number", "boolean"):
            return self._number(column, part, values), None
        if column.type == "category":
            return self._category(column, part, values)
        if column.type == "datetime":
            missing = self._missing(column, "median")
            return learn_datetime(
                values, linear=self.linear, missing=missing, constant=column.fill
            ), None
        if column.type == "text":
            return self._text(column, part, values), None
        raise DataError(
            f"Column {column.name!r} is of the type {column.type!r}, from which no feature can be "
            f"made; give it the role ignore, or split it into plain columns."
        )

    def _missing(self, column: Column, filled: str) -> str:
        """The policy in force: linear models cannot pass on what is missing, so they fill."""
        if column.missing == "auto":
            return filled if self.linear else "keep"
        if column.missing == "keep" and self.linear:
            return filled
        return column.missing

    def _number(self, column: Column, part: ColumnSettings, values: pl.Series) -> Step:
        boolean = column.type == "boolean"
        scaling = part.scaling or self.settings.scaling or ("standard" if self.linear else "none")
        missing = self._missing(column, "most_frequent" if boolean else "median")
        return learn_number(
            values,
            scaling="none" if boolean else scaling,
            missing=missing,
            constant=_constant_number(column),
            indicator=missing not in ("keep", "error"),
        )

    def _category(
        self, column: Column, part: ColumnSettings, values: pl.Series
    ) -> tuple[Step, Encoder | None]:
        levels = count_levels(values)
        most = part.max_levels or self.settings.max_levels or MAX_LEVELS[self.recipe]
        usual = "onehot" if self.recipe == "linear" else "ordinal"
        many = len(levels.values) > most
        encoding = part.encoding or self.settings.encoding or ("target" if many else usual)
        missing = "keep" if column.missing == "auto" else column.missing
        if encoding == "target":
            return self._target(column, levels, values, missing)
        if encoding == "onehot":
            share = int(np.ceil(self.settings.min_share * self.view.num_rows))
            fewest = part.min_count or max(self.settings.min_count, share)
            step: Step = learn_onehot(
                levels, missing=missing, constant=column.fill, max_levels=most, min_count=fewest
            )
            return step, None
        step = learn_ordinal(
            levels,
            missing=missing,
            constant=column.fill,
            missing_code=self.settings.missing_code or self.linear,
        )
        return step, None

    def _target(
        self, column: Column, levels: Any, values: pl.Series, missing: str
    ) -> tuple[Step, Encoder]:
        coder = learn_ordinal(levels, missing=missing, constant=column.fill)
        codes = _replaced(coder, coder.codes(values))
        outcome = self._outcome()
        step = learn_target(coder, codes, outcome, smoothing=self.settings.smoothing)
        seed = child_seed(self.seed, "target encoding", column.name)

        def encode() -> Floats:
            return encode_training(
                codes,
                outcome,
                smoothing=self.settings.smoothing,
                num_folds=self.settings.num_folds,
                seed=seed,
            )

        return step, encode

    def _outcome(self) -> Outcome:
        view = self.view
        weight = view.weight
        if weight is not None and len(weight) and weight.sum() > 0:
            weight = weight / weight.mean()
        names: tuple[str, ...]
        if view.schema.task == "multilabel":
            targets = view.target.astype(np.float64)
            names = tuple(str(label) for label in view.schema.classes)
        elif not has_classes(view.schema.task):
            targets, names = np.asarray(view.target, dtype=np.float64)[:, None], ("target",)
        elif view.schema.task == "binary":
            targets, names = (view.target == 1).astype(np.float64)[:, None], ("target",)
        else:
            classes = np.arange(view.schema.num_classes)
            targets = (view.target[:, None] == classes).astype(np.float64)
            names = tuple(str(label) for label in view.schema.classes)
        return Outcome(targets, names, weight, view.units, view.order)

    def _text(self, column: Column, part: ColumnSettings, values: pl.Series) -> Step:
        size = part.text_size
        if size is None:
            size = self.settings.text_size
        if size is None:
            size = TEXT_SIZE[self.recipe]
        target = self.view.target
        groups = strata(target, self.view.schema.task)
        if groups is None:
            groups = (target > np.median(target)).astype(np.int64) if len(target) else target
        return learn_text(
            values,
            np.asarray(groups, dtype=np.int64),
            size=size,
            sizes=not self.linear,
            missing="keep" if column.missing == "auto" else column.missing,
            constant=column.fill,
            indicator=self.linear,
        )


def _replaced(coder: OrdinalStep, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Codes with missing cells moved to their replacement level, where there is one."""
    if coder.replacement is None:
        return codes
    count = len(coder.levels)
    return np.where(codes == count + 1, coder.levels.index(coder.replacement), codes)


def _constant_number(column: Column) -> float | None:
    fill = column.fill
    if column.missing != "constant":
        return None
    if fill is None or isinstance(fill, str):
        raise DataError(
            f"Column {column.name!r} has missing='constant', which for numbers needs a number as "
            f"`fill`, got {fill!r}."
        )
    return float(fill)
