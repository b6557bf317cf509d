"""Families that learn from a numeric matrix: the preprocessing is done once, here, for all.

A `TableFamily` names its recipe and writes `fit_matrix` and `load_estimator`; what it gets is a
clean float64 matrix with targets and weights, what it gives is an `Estimator`. The `TableModel`
around it joins the fitted preprocessing with the estimator, so that what trained is what serves.

Sample weights reach `fit_matrix` scaled to a mean of 1: only their ratios carry meaning, and
without this a table weighed in millionths would meet every regulariser a million times as strong.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.schema import Task
from loopline.digest import canonical_json
from loopline.errors import DataError, EnvironmentProblem, IntegrityError
from loopline.features.base import Output
from loopline.features.fit import fit_graph
from loopline.features.graph import FeatureGraph
from loopline.features.rows import Rows, ViewRows, blocks
from loopline.features.settings import Recipe
from loopline.models.base import Family, FitContext, FittedModel, Floats, Params
from loopline.models.portable import Portable, PortableModel
from loopline.seeds import child_seed
from loopline.splits.views import TestView, TrainView

_FORMAT = 1
_BLOCK_CELLS = 8_388_608
"""Cells of the matrix that `TableModel.predict` holds at a time: 64 MB."""


@dataclass(frozen=True)
class Matrix:
    """Rows as numbers, with what is to be learned from them.

    Args:
        rows: float64 of shape (rows, outputs), NaN only where the recipe keeps it; a family that
            reads it in blocks never has to hold it whole.
        target: class codes (int64) or values (float64), shape (rows,).
        weight: shape (rows,), mean 1; None when every row counts the same.
        units: rows that must stay together share a unit, shape (rows,).
        order: rank in time, shape (rows,), or None.
        outputs: what each column is, one entry a column of `rows`.
    """

    rows: Rows
    target: NDArray[Any]
    weight: Floats | None
    units: NDArray[np.int64]
    order: NDArray[np.int64] | None
    outputs: tuple[Output, ...]

    @cached_property
    def values(self) -> Floats:
        """All rows in C order, held as long as this object."""
        return self.rows.matrix()


class Estimator(ABC):
    """What a table family learns: a matrix in, predictions out. A value; it never changes."""

    params: dict[str, Any]
    """The parameters as resolved by the fit (rounds used, penalty chosen); plain data."""

    @abstractmethod
    def predict(self, values: Floats) -> Floats:
        """Predict a C-ordered matrix (rows, outputs).

        Returns:
            Class probabilities (rows, classes) or values (rows,).
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write data files into a folder (same estimator, same bytes)."""

    @abstractmethod
    def importances(self) -> Floats:
        """How much each matrix column counts, shape (outputs,), in any unit, none negative."""

    @abstractmethod
    def portable(self) -> Portable:
        """What it learned as plain data, which `loopline.models.portable` predicts with."""

    def predict_one(self, values: Floats) -> Floats:
        """Predict one row, shape (1, outputs); gives shape (classes,) or (1,)."""
        return self.predict(values).reshape(-1)

    def contributions(self, values: Floats) -> Floats | None:
        """Additive contributions to the raw score, (rows, outputs) or (rows, outputs, classes)."""
        del values
        return None


class TableModel(FittedModel):
    """A fitted feature graph with the estimator that was trained on its matrix."""

    concurrent = True

    def __init__(
        self,
        *,
        family: str,
        task: Task,
        num_classes: int,
        params: Mapping[str, Any],
        graph: FeatureGraph,
        estimator: Estimator,
        size_bytes: int = 0,
    ) -> None:
        self.family = family
        self.task = task
        self.num_classes = num_classes
        self.params = dict(params)
        self.graph = graph
        self.estimator = estimator
        self._size_bytes = size_bytes

    def predict(self, frame: pl.DataFrame) -> Floats:
        """Predict a table; the matrix is made in blocks of rows, so memory stays bounded."""
        shape = (frame.height, self.num_classes) if self.num_classes else (frame.height,)
        out = np.empty(shape)
        for start, block in self._blocks(frame):
            out[start : start + block.height] = self.estimator.predict(self.graph.transform(block))
        return out

    def predict_view(self, view: TrainView | TestView) -> Floats:
        """Predict the rows of a view, of which a block at a time is gathered."""
        shape = (view.num_rows, self.num_classes) if self.num_classes else (view.num_rows,)
        out = np.empty(shape)
        for start, stop in blocks(view.num_rows):
            out[start:stop] = self.predict(view.block(start, stop))
        return out

    def predict_row(self, row: Mapping[str, Any]) -> Floats:
        """Predict one row without building a table; shape (classes,) or (1,)."""
        return self.estimator.predict_one(self.graph.transform_row(row))

    def rearranged(
        self, frame: pl.DataFrame, start: int, stop: int
    ) -> Callable[[Sequence[str], NDArray[np.int64]], Floats]:
        """See `FittedModel.rearranged`: features are made once and change their places.

        A matrix of more than 64 MB is not held; the features are then made at each call.
        """
        if frame.height * len(self.graph.outputs) > _BLOCK_CELLS:
            return super().rearranged(frame, start, stop)
        values = self.graph.transform(frame)
        rows, sources = values[start:stop].copy(), self._sources()

        def answer(columns: Sequence[str], order: NDArray[np.int64]) -> Floats:
            places = [place for name in columns for place in sources.get(name, ())]
            rows[:, places] = values[np.ix_(order[start:stop], np.array(places, dtype=np.int64))]
            prediction = self.estimator.predict(rows)
            rows[:, places] = values[start:stop, places]
            return prediction

        return answer

    def contributions(self, frame: pl.DataFrame) -> dict[str, Floats] | None:
        """Contributions of the matrix columns, summed over those that a raw feature gave."""
        parts: dict[str, list[Floats]] = {}
        for _, block in self._blocks(frame):
            values = self.estimator.contributions(self.graph.transform(block))
            if values is None:
                return None
            for source, columns in self._sources().items():
                parts.setdefault(source, []).append(values[:, columns].sum(axis=1))
        return {source: np.concatenate(blocks) for source, blocks in parts.items()}

    def importances(self) -> dict[str, float] | None:
        """Share of each raw feature in the model; all 0 when the model uses none."""
        values = self.estimator.importances()
        total = float(values.sum()) or 1.0
        return {
            source: float(values[columns].sum()) / total
            for source, columns in self._sources().items()
        }

    def portable(self) -> PortableModel:
        """See `FittedModel.portable`."""
        readings = tuple(step.reading() for step in self.graph.steps)
        widths = tuple(step.width for step in self.graph.steps)
        return PortableModel(self.graph.columns, readings, self.estimator.portable(), widths)

    @property
    def size_bytes(self) -> int:
        """Bytes of the saved files; known once the model was saved or loaded."""
        return self._size_bytes

    def save(self, folder: Path) -> None:
        """Write `model.json`, `features/` and `estimator/` into an empty folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("features", "estimator"):
            (folder / name).mkdir()
        self.graph.save(folder / "features")
        self.estimator.save(folder / "estimator")
        facts = {
            "format": _FORMAT,
            "family": self.family,
            "task": self.task,
            "num_classes": self.num_classes,
            "params": self.params,
        }
        (folder / "model.json").write_text(canonical_json(facts) + "\n", encoding="utf-8")
        self._size_bytes = folder_bytes(folder)

    def _blocks(self, frame: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        rows = max(1024, _BLOCK_CELLS // max(1, len(self.graph.outputs)))
        for start in range(0, frame.height, rows):
            yield start, frame.slice(start, rows)

    def _sources(self) -> dict[str, list[int]]:
        sources: dict[str, list[int]] = {}
        for position, output in enumerate(self.graph.outputs):
            sources.setdefault(output.source, []).append(position)
        return sources


class TableFamily(Family):
    """A family that learns from the matrix of a fitted feature graph."""

    recipe: ClassVar[Recipe]
    """How raw columns become numbers: "trees" or "linear"."""

    @abstractmethod
    def fit_matrix(
        self,
        train: Matrix,
        valid: Matrix | None,
        *,
        task: Task,
        num_classes: int,
        params: Params,
        context: FitContext,
    ) -> Estimator:
        """Learn from a matrix.

        Args:
            train: values (rows, outputs), targets (class codes or values) and weights of mean 1.
            valid: the rows to stop early or to choose on, in the same columns; None without.
            task: what is predicted.
            num_classes: number of classes, 0 for regression. Not every class needs to occur.
            params: all parameters of the family, checked.
            context: seed, threads and the reporter.
        """

    @abstractmethod
    def load_estimator(self, folder: Path) -> Estimator:
        """Read what `Estimator.save` wrote."""

    def fit(
        self, train: TrainView, valid: TrainView | None, params: Params, context: FitContext
    ) -> TableModel:
        """Fit the preprocessing on the training view, then the estimator on its matrix.

        Raises:
            SettingsError: an unknown parameter or a value outside its range.
            DataError: no rows, or weights that weigh nothing.
        """
        task, num_classes = train.schema.task, train.schema.num_classes
        settings = self.resolve(params, task, train.num_rows)
        factors = class_factors(train.target, train.weight, num_classes, context.class_weight)
        weight = row_weights(train.target, train.weight, factors)
        seed = child_seed(context.seed, "features")
        graph, rows = fit_graph(train, self.recipe, seed, context.features)
        matrix = _matrix(rows, weight)
        held = None
        if valid is not None and self.uses_validation and weighs(valid, factors):
            weight = row_weights(valid.target, valid.weight, factors)
            held = _matrix(ViewRows(valid, graph), weight)
        estimator = self.fit_matrix(
            matrix,
            held,
            task=task,
            num_classes=num_classes,
            params=settings,
            context=context,
        )
        return TableModel(
            family=self.name,
            task=task,
            num_classes=num_classes,
            params=estimator.params,
            graph=graph,
            estimator=estimator,
        )

    def load(self, folder: Path) -> TableModel:
        """Read a saved model.

        Raises:
            IntegrityError: the folder does not hold a model of this family.
            EnvironmentProblem: a newer Loopline wrote it.
        """
        facts = read_facts(folder, self.name)
        estimator = self.load_estimator(folder / "estimator")
        estimator.params = dict(facts["params"])
        return TableModel(
            family=self.name,
            task=facts["task"],
            num_classes=facts["num_classes"],
            params=facts["params"],
            graph=FeatureGraph.load(folder / "features"),
            estimator=estimator,
            size_bytes=folder_bytes(folder),
        )


def _matrix(rows: ViewRows, weight: Floats | None) -> Matrix:
    view = rows.view
    return Matrix(rows, view.target, weight, view.units, view.order, rows.graph.outputs)


def weighs(view: TrainView, factors: Floats | None) -> bool:
    """Whether any row of a view counts, so that a loss over its rows is a number."""
    weight = np.ones(view.num_rows) if view.weight is None else view.weight
    return bool((weight if factors is None else weight * factors[view.target]).any())


def read_facts(folder: Path, family: str) -> dict[str, Any]:
    """The content of a model folder's `model.json`, checked for family and format.

    Raises:
        IntegrityError: the file is missing, damaged or of another family.
        EnvironmentProblem: a newer Loopline wrote it.
    """
    path = folder / "model.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} is not a readable model file: {error}") from error
    if not isinstance(facts, dict) or facts.get("family") != family:
        raise IntegrityError(f"{path} does not describe a model of the {family} family.")
    if facts.get("format") != _FORMAT:
        raise EnvironmentProblem(
            f"{path} has format {facts.get('format')}; this Loopline reads format {_FORMAT}. "
            "Update Loopline."
        )
    return facts


def class_factors(
    target: NDArray[Any],
    weight: Floats | None,
    num_classes: int,
    class_weight: str | None,
) -> Floats | None:
    """Factor of each class that makes all classes weigh the same; None where nothing is asked.

    Args:
        target: class codes (rows,).
        weight: sample weights (rows,) or None.
        num_classes: number of classes, 0 for regression (then None is returned).
        class_weight: "balanced" or None.
    """
    if class_weight != "balanced" or not num_classes:
        return None
    mass = np.bincount(target, weights=weight, minlength=num_classes).astype(np.float64)
    present = mass > 0
    factors = np.zeros(num_classes)
    factors[present] = mass.sum() / (present.sum() * mass[present])
    return factors


def row_weights(
    target: NDArray[Any], weight: Floats | None, factors: Floats | None
) -> Floats | None:
    """Sample weights times class factors, scaled to a mean of 1; None when all rows weigh the same.

    Raises:
        DataError: no rows, a weight that is negative or not finite, or all weights 0.
    """
    if target.shape[0] == 0:
        raise DataError("A model cannot be fitted on 0 rows: the training view is empty.")
    if weight is None and factors is None:
        return None
    rows = np.ones(target.shape[0]) if weight is None else np.asarray(weight, dtype=np.float64)
    if not np.isfinite(rows).all() or (rows < 0).any():
        raise DataError("Every sample weight must be finite and >= 0; the weight column is not.")
    if factors is not None:
        rows = rows * factors[target]
    largest = float(rows.max())
    if largest == 0.0:
        raise DataError("All sample weights are 0, so no row counts; at least one must be > 0.")
    rows = rows / largest
    scaled: Floats = rows / rows.mean()
    return scaled


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
