"""The baseline: what can be said without looking at a single feature.

Every candidate has to beat it. It answers with the class shares of the training rows (the share of
each label where a row has several), or with one value: the mean (best for squared error), the
median (best for absolute error), or the last value in time (hard to beat on slow series). Of texts
that are predicted it knows the shares of bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.schema import Task
from loopline.digest import canonical_json
from loopline.errors import SettingsError
from loopline.models.base import (
    MEDIAN_METRICS,
    Family,
    FitContext,
    FittedModel,
    Floats,
    Params,
)
from loopline.models.boosting import weighted_median
from loopline.models.captions import CaptionPrior
from loopline.models.ngram import NgramModel
from loopline.models.parameters import Rule
from loopline.models.portable import Portable, PortableModel
from loopline.models.table import class_factors, read_facts, row_weights
from loopline.splits.views import TrainView


class BaselineModel(FittedModel):
    """One answer for every row."""

    family = "baseline"

    def __init__(self, task: Task, answer: Floats, params: Mapping[str, Any]) -> None:
        self.task = task
        self.params = dict(params)
        self._answer = answer

    def predict(self, frame: pl.DataFrame) -> Floats:
        """The same answer, once a row."""
        if self.task == "regression":
            return np.full(frame.height, self._answer[0])
        return np.tile(self._answer, (frame.height, 1))

    def predict_row(self, row: Mapping[str, Any]) -> Floats:
        """The answer."""
        del row
        return self._answer.copy()

    def portable(self) -> PortableModel:
        """See `FittedModel.portable`."""
        values = {"values": self.task == "regression"}
        return PortableModel((), (), Portable("constant", values, {"answer": self._answer}))

    def save(self, folder: Path) -> None:
        """Write `model.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.json").write_text(self._text(), encoding="utf-8")

    @property
    def size_bytes(self) -> int:
        """Bytes of `model.json`."""
        return len(self._text().encode())

    def _text(self) -> str:
        facts = {
            "format": 1,
            "family": self.family,
            "task": self.task,
            "params": self.params,
            "answer": self._answer.tolist(),
        }
        return canonical_json(facts) + "\n"


class Baseline(Family):
    """Class shares, or one value; uses weights and class weights, but no feature."""

    name = "baseline"
    complexity = 0
    tasks: frozenset[Task] = frozenset(
        {"binary", "multiclass", "multilabel", "regression", "language", "retrieval"}
    )
    rules: ClassVar[Mapping[str, Rule]] = {
        "statistic": Rule("choice", words=("mean", "median", "last")),
    }

    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """`statistic` ("mean", "median" or "last" in time) for regression, nothing else."""
        del num_rows
        return {"statistic": "mean"} if task == "regression" else {}

    def aim(self, task: Task, metric: str) -> dict[str, Any]:
        """The median for the metrics that it serves best."""
        return {"statistic": "median"} if task == "regression" and metric in MEDIAN_METRICS else {}

    def fit(
        self, train: TrainView, valid: TrainView | None, params: Params, context: FitContext
    ) -> FittedModel:
        """Count the classes (or bytes), or take the statistic of the training targets."""
        del valid
        task = train.schema.task
        settings = self.resolve(params, task, train.num_rows)
        if task == "language":
            return NgramModel.counted(self.name, train, 1, settings)
        if task == "retrieval":
            return CaptionPrior.counted(train, settings)
        target = train.target
        factors = class_factors(
            target, train.weight, train.schema.num_classes, context.class_weight
        )
        weight = row_weights(target, train.weight, factors)
        if task == "regression":
            value = _statistic(settings["statistic"], target, weight, train.order)
            return BaselineModel(task, np.array([value]), settings)
        if task == "multilabel":
            return BaselineModel(task, np.average(target, axis=0, weights=weight), settings)
        mass = np.bincount(target, weights=weight, minlength=train.schema.num_classes)
        return BaselineModel(task, mass / mass.sum(), settings)

    def load(self, folder: Path) -> FittedModel:
        """Read a saved baseline."""
        facts = read_facts(folder, self.name)
        if facts["task"] == "language":
            return NgramModel.read(self.name, folder)
        if facts["task"] == "retrieval":
            return CaptionPrior.read(folder)
        return BaselineModel(facts["task"], np.array(facts["answer"]), facts["params"])


def _statistic(
    name: str, target: Floats, weight: Floats | None, order: NDArray[np.int64] | None
) -> float:
    if name == "median":
        return weighted_median(target, weight)
    if name == "last":
        if order is None:
            raise SettingsError(
                [
                    '`statistic` of the baseline family is "last", which needs rows in time order, '
                    "but the split knows no time column; name one, or use mean or median."
                ]
            )
        chosen = order == order.max()
        target, weight = target[chosen], None
    return float(np.average(target, weights=weight))
