"""Blends as plain data: how members' predictions become one, and members that are plain data.

Needs numpy alone, as `loopline.models.portable`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.models.portable import (
    Portable,
    PortableModel,
    Predictor,
    open_estimator,
)

Floats = NDArray[np.float64]

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


def mean_of(predictions: Sequence[Floats]) -> Floats:
    """The mean of models' predictions of the same rows."""
    if len(predictions) == 1:
        return predictions[0]
    return np.asarray(np.mean(predictions, axis=0))


def portable_blend(members: Sequence[Sequence[PortableModel]], combiner: Combiner) -> PortableModel:
    """Members as one model: their columns side by side, each estimator with its part of them.

    Args:
        members: for each member that has a weight the models whose mean it is.
        combiner: how the members become one; weights of 0 are left out.
    """
    kept = replace(combiner, weights=tuple(weight for weight in combiner.weights if weight != 0))
    columns: list[str] = []
    readings: list[Any] = []
    widths: list[int] = []
    parts: list[list[dict[str, Any]]] = []
    arrays: dict[str, NDArray[Any]] = {}
    files: dict[str, bytes] = {}
    packages: dict[str, None] = {}
    for place, member in enumerate(members):
        parts.append([])
        for number, model in enumerate(member):
            prefix, start = f"m{place}-{number}-", sum(widths)
            columns += model.columns
            readings += model.readings
            widths += model.widths
            given = model.estimator
            arrays |= {f"{prefix}{name}": array for name, array in given.arrays.items()}
            files |= {f"{prefix}{name}": data for name, data in given.files.items()}
            packages |= dict.fromkeys(given.packages)
            part = {"prefix": prefix, "kind": given.kind, "data": dict(given.data)}
            parts[-1].append({**part, "start": start, "stop": sum(widths)})
    data = {"combiner": kept.to_dict(), "members": parts}
    estimator = Portable("blend", data, arrays, files, tuple(packages))
    return PortableModel(tuple(columns), tuple(readings), estimator, tuple(widths))


@dataclass(frozen=True)
class Part:
    """One model of a member of a blend.

    Args:
        estimator: the model as plain data.
        start: the first of its columns in the blend's matrix.
        stop: the column behind its last.
    """

    estimator: Portable
    start: int
    stop: int


def members_of(portable: Portable) -> list[list[Part]]:
    """The members of a blend that `portable_blend` made, each the models whose mean it is."""
    return [[_part(portable, part) for part in member] for member in portable.data["members"]]


def _part(portable: Portable, part: Mapping[str, Any]) -> Part:
    prefix = part["prefix"]
    own = Portable(
        part["kind"],
        part["data"],
        {n.removeprefix(prefix): a for n, a in portable.arrays.items() if n.startswith(prefix)},
        {n.removeprefix(prefix): d for n, d in portable.files.items() if n.startswith(prefix)},
    )
    return Part(own, part["start"], part["stop"])


class PortableBlend:
    """A blend that answers.

    Args:
        portable: the estimator that `portable_blend` made.
    """

    def __init__(self, portable: Portable) -> None:
        self._combiner = Combiner.from_dict(portable.data["combiner"])
        self._members: list[list[tuple[Predictor, int, int]]] = [
            [(open_estimator(part.estimator), part.start, part.stop) for part in member]
            for member in members_of(portable)
        ]

    def predict(self, values: Floats) -> Floats:
        """Class probabilities (rows, classes) or values (rows,)."""
        return self._combiner.apply(
            [
                mean_of(
                    [
                        model.predict(np.ascontiguousarray(values[:, start:stop]))
                        for model, start, stop in member
                    ]
                )
                for member in self._members
            ]
        )

    def predict_one(self, values: Floats) -> Floats:
        """One row."""
        return self.predict(values).reshape(-1)
