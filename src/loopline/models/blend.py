"""Several fitted models that answer as one: a weighted mean of them, or a small model on top.

A blend is made from models that stand, so the family is never named in settings and never fits:
`loopline.line.blending` chooses the weights on out-of-fold predictions, each fold's by rows of the
other folds. Each member may be several models of one candidate (those of its folds), whose mean
it is; that is bagging, and costs nothing that was not fitted already (Breiman 1996).

Sources: weights by greedy selection, Caruana, Niculescu-Mizil, Crew & Ksikes 2004, "Ensemble
selection from libraries of models"; the model on top, Wolpert 1992, "Stacked generalization".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopline.data.schema import Task
from loopline.digest import canonical_json
from loopline.errors import InputError, IntegrityError
from loopline.models.base import Family, FitContext, FittedModel, Floats, Params
from loopline.splits.views import TestView, TrainView

FACTS = "blend.json"
LEAST = 1e-7
"""Probabilities are held this far from 0 and 1 before their logarithm is taken."""


@dataclass(frozen=True)
class Combiner:
    """How the members' predictions become one.

    Args:
        kind: "mean", a weighted mean of predictions; "linear", a weighted sum of logarithms of
            probabilities (or of values) with an intercept a class (or one).
        weights: one a member.
        intercept: for "linear": one a class, or one for values.
    """

    kind: str
    weights: tuple[float, ...]
    intercept: tuple[float, ...] = ()

    def apply(self, predictions: Sequence[Floats]) -> Floats:
        """One prediction from the members', each of shape (rows, classes) or (rows,).

        >>> halves = Combiner("mean", (0.5, 0.5))
        >>> halves.apply([np.array([1.0, 3.0]), np.array([3.0, 5.0])]).tolist()
        [2.0, 4.0]
        """
        used = [
            weight * self._scale(prediction)
            for weight, prediction in zip(self.weights, predictions, strict=True)
            if weight != 0
        ]
        total: Floats = np.sum(used, axis=0)
        if self.kind == "mean":
            return total
        total = total + np.array(self.intercept)
        if total.ndim == 1:
            return total
        total -= total.max(axis=1, keepdims=True)
        shares = np.exp(total)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def _scale(self, prediction: Floats) -> Floats:
        if self.kind == "mean" or prediction.ndim == 1:
            return prediction
        return logarithms(prediction)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "kind": self.kind,
            "weights": list(self.weights),
            "intercept": list(self.intercept),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Combiner:
        """Read what `to_dict` wrote."""
        return Combiner(str(data["kind"]), tuple(data["weights"]), tuple(data["intercept"]))


def logarithms(probabilities: Floats) -> Floats:
    """Logarithms of probabilities that are held away from 0 and 1, less their mean in each row."""
    held = np.log(np.clip(probabilities, LEAST, 1 - LEAST))
    return np.asarray(held - held.mean(axis=1, keepdims=True))


class Blend(FittedModel):
    """Members that answer as one.

    Args:
        task: what is predicted.
        members: for each member the models whose mean it is, at least one.
        combiner: how the members' predictions become one.
        names: the members' names, for people.
    """

    family = "blend"

    def __init__(
        self,
        task: Task,
        members: Sequence[Sequence[FittedModel]],
        combiner: Combiner,
        names: Sequence[str],
    ) -> None:
        self.task = task
        self.params = {"members": list(names), "combiner": combiner.to_dict()}
        self.concurrent = all(model.concurrent for member in members for model in member)
        self._members = members
        self._combiner = combiner
        self._names = tuple(names)

    def predict(self, frame: pl.DataFrame) -> Floats:
        """Predict raw feature columns with every member that has a weight."""
        return self._combined([_mean([m.predict(frame) for m in each]) for each in self._members])

    def predict_row(self, row: Mapping[str, Any]) -> Floats:
        """One row by the members' own fast paths."""
        found = [_mean([m.predict_row(row) for m in each]) for each in self._members]
        if self.task == "regression":
            return self._combined(found)
        return self._combined([one.reshape(1, -1) for one in found]).reshape(-1)

    def predict_view(self, view: TrainView | TestView) -> Floats:
        """The rows of a view, each member in its own way."""
        found = [_mean([m.predict_view(view) for m in each]) for each in self._members]
        return self._combined(found)

    def _combined(self, predictions: Sequence[Floats]) -> Floats:
        return self._combiner.apply(predictions)

    @property
    def size_bytes(self) -> int:
        """Bytes of all members together."""
        return sum(model.size_bytes for member in self._members for model in member)

    def save(self, folder: Path) -> None:
        """Write `blend.json` and a folder for each model of each member."""
        facts: dict[str, Any] = {
            "task": self.task,
            "combiner": self._combiner.to_dict(),
            "members": [
                {
                    "name": name,
                    "family": member[0].family,
                    "folders": [f"member{place}_{number}" for number in range(len(member))],
                }
                for place, (name, member) in enumerate(zip(self._names, self._members, strict=True))
            ],
        }
        for told, member in zip(facts["members"], self._members, strict=True):
            for name, model in zip(told["folders"], member, strict=True):
                (folder / name).mkdir()
                model.save(folder / name)
        (folder / FACTS).write_text(canonical_json(facts) + "\n", encoding="utf-8")


def _mean(predictions: Sequence[Floats]) -> Floats:
    if len(predictions) == 1:
        return predictions[0]
    return np.asarray(np.mean(predictions, axis=0))


class BlendFamily(Family):
    """Loads blends; see the module's docstring for how they come about."""

    name = "blend"
    complexity = 100

    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """A blend has no parameters of its own."""
        del task, num_rows
        return {}

    def fit(
        self, train: TrainView, valid: TrainView | None, params: Params, context: FitContext
    ) -> FittedModel:
        """Refuse: a blend is made of fitted models.

        Raises:
            InputError: always.
        """
        del train, valid, params, context
        raise InputError(
            "A blend is made of candidates that are fitted already. Set `select: best` and name "
            "the candidates under `models`."
        )

    def load(self, folder: Path) -> Blend:
        """Read what `Blend.save` wrote."""
        from loopline.models.families import family

        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            members = [
                [family(told["family"]).load(folder / name) for name in told["folders"]]
                for told in facts["members"]
            ]
            names = [str(told["name"]) for told in facts["members"]]
            return Blend(facts["task"], members, Combiner.from_dict(facts["combiner"]), names)
        except (OSError, ValueError, KeyError) as error:
            raise IntegrityError(f"{folder} does not hold a blend: {error}") from error
