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
from pathlib import Path
from typing import Any

import polars as pl

from loopline.data.schema import Task
from loopline.digest import canonical_json
from loopline.errors import InputError, IntegrityError
from loopline.models.base import Family, FitContext, FittedModel, Floats, Params
from loopline.models.portable import PortableModel
from loopline.models.portable_blend import Combiner, mean_of, portable_blend
from loopline.splits.views import TestView, TrainView

FACTS = "blend.json"


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
        return self._combined([mean_of([m.predict(frame) for m in each]) for each in self._members])

    def predict_row(self, row: Mapping[str, Any]) -> Floats:
        """One row by the members' own fast paths."""
        found = [mean_of([m.predict_row(row) for m in each]) for each in self._members]
        if self.task == "regression":
            return self._combined(found)
        return self._combined([one.reshape(1, -1) for one in found]).reshape(-1)

    def predict_view(self, view: TrainView | TestView) -> Floats:
        """The rows of a view, each member in its own way."""
        found = [mean_of([m.predict_view(view) for m in each]) for each in self._members]
        return self._combined(found)

    def _combined(self, predictions: Sequence[Floats]) -> Floats:
        return self._combiner.apply(predictions)

    @property
    def families(self) -> tuple[str, ...]:
        """The families of all members."""
        found = (name for each in self._members for model in each for name in model.families)
        return tuple(dict.fromkeys(found))

    def portable(self) -> PortableModel:
        """See `FittedModel.portable`: every member that has a weight has such a form, or none."""
        weighed = [
            [model.portable() for model in member]
            for member, weight in zip(self._members, self._combiner.weights, strict=True)
            if weight != 0
        ]
        return portable_blend(weighed, self._combiner)

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
