"""Fitted models as plain data that predict with numpy and, for trees, their own library.

A fitted model says what it is as a `PortableModel`: how each raw column is read, and an estimator
as numbers and bytes. `open_estimator` makes predictions of it. The families predict through the
same functions, so what `loopline.runtime` answers is what the release answers.
This module imports nothing but numpy and the ground floor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loopline.features.readers import Reading
from loopline.models.probability import probabilities, separate_probabilities

Floats = NDArray[np.float64]

SINGLE_LIMIT = 3.0e38
"""Cells are held inside the 32-bit float range, in which XGBoost and CatBoost read them."""


@dataclass(frozen=True)
class Portable:
    """An estimator as plain data.

    Args:
        kind: which one, a key of `KINDS`.
        data: JSON values.
        arrays: learned arrays.
        files: the model in its library's own format, by file name.
        packages: what must be installed besides numpy.
    """

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class PortableModel:
    """A fitted model as plain data.

    Args:
        columns: the raw columns, in the order of their outputs.
        readings: how each of them becomes numbers.
        estimator: what is done with the numbers.
        widths: outputs of each reading; known when the model is made, not needed to answer.
    """

    columns: tuple[str, ...]
    readings: tuple[Reading, ...]
    estimator: Portable
    widths: tuple[int, ...] = ()


class Predictor(Protocol):
    """What answers a matrix of numbers."""

    def predict(self, values: Floats) -> Floats:
        """Class probabilities (rows, classes) or values (rows,)."""

    def predict_one(self, values: Floats) -> Floats:
        """One row (1, outputs); gives (classes,) or (1,)."""


class Scores(Protocol):
    """What a library of trees answers."""

    def scores(self, values: Floats) -> Floats:
        """Raw scores of a clipped matrix, shape (rows, scores)."""


class _Predictor:
    """A matrix function as a `Predictor`."""

    def __init__(self, predict: Callable[[Floats], Floats]) -> None:
        self.predict = predict

    def predict_one(self, values: Floats) -> Floats:
        return self.predict(values).reshape(-1)


def open_estimator(portable: Portable) -> Predictor:
    """What predicts as the estimator that said this of itself.

    Raises:
        EnvironmentProblem: its library is not installed.
        IntegrityError: its library cannot read the file.
    """
    return KINDS[portable.kind](portable)


def scaled(values: Floats, center: Floats, scale: Floats) -> Floats:
    """Columns shifted and scaled, the same matrix where there is nothing to do."""
    if not center.any() and bool((scale == 1.0).all()):
        return values
    return (values - center) / scale


def linear_prediction(
    scaled_values: Floats,
    coefficients: Floats,
    intercepts: Floats,
    num_classes: int,
    *,
    apart: bool = False,
) -> Floats:
    """Probabilities or values of a linear model.

    Args:
        scaled_values: shape (rows, columns).
        coefficients: shape (columns, scores), one score for two classes and for values.
        intercepts: shape (scores,).
        num_classes: number of classes, 0 for values.
        apart: whether each class is there or not for itself: one score a class, even for two.
    """
    scores = scaled_values @ coefficients + intercepts
    if not num_classes:
        return np.ascontiguousarray(scores[:, 0])
    if apart:
        return separate_probabilities(scores)
    return probabilities(scores[:, 0] if scores.shape[1] == 1 else scores)


def clipped(values: Floats) -> Floats:
    """The matrix with infinities and huge numbers at ±3e38 (NaN stays), and at least one column."""
    if not values.shape[1]:
        return np.zeros((values.shape[0], 1))
    return np.clip(values, -SINGLE_LIMIT, SINGLE_LIMIT)


def restored(scores: Floats, offset: float, scale: float) -> Floats:
    """Values from the predictions of a library that was trained on a scaled target."""
    return scores * scale + offset


@dataclass(frozen=True)
class BoostedPrediction:
    """Predictions from the raw scores of boosted trees.

    Args:
        trees: what the library learned; None when every row scores `base`.
        base: scores of a model without trees, shape (scores,).
        num_classes: number of classes, 0 for values.
        present: codes of the classes that occurred in training; the others get 0.
        offset: of the scaled target.
        scale: of the scaled target.
        log_link: whether a value is the exponential of its score.
    """

    trees: Scores | None
    base: Floats
    num_classes: int
    present: Sequence[int]
    offset: float
    scale: float
    log_link: bool

    def predict(self, values: Floats) -> Floats:
        """Class probabilities (rows, classes) or values (rows,)."""
        rows = values.shape[0]
        if self.trees is None or not rows:
            return self.answers(np.tile(self.base, (rows, 1)))
        return self.answers(self.trees.scores(clipped(values)))

    def answers(self, scores: Floats) -> Floats:
        """What `predict` gives, from raw scores of shape (rows, scores)."""
        rows = scores.shape[0]
        if not self.num_classes:
            raw = np.exp(scores[:, 0]) if self.log_link else scores[:, 0]
            return restored(raw, self.offset, self.scale)
        if len(self.present) == 1:
            shares = np.ones((rows, 1))
        else:
            shares = probabilities(scores[:, 0] if scores.shape[1] == 1 else scores)
        if len(self.present) == self.num_classes:
            return shares
        out = np.zeros((rows, self.num_classes))
        out[:, list(self.present)] = shares
        return out

    def predict_one(self, values: Floats) -> Floats:
        """One row."""
        return self.predict(values).reshape(-1)


def _open_constant(portable: Portable) -> Predictor:
    answer = portable.arrays["answer"]
    values = bool(portable.data["values"])

    def predict(matrix: Floats) -> Floats:
        rows = matrix.shape[0]
        return np.full(rows, answer[0]) if values else np.tile(answer, (rows, 1))

    return _Predictor(predict)


def _open_linear(portable: Portable) -> Predictor:
    arrays, num_classes = portable.arrays, int(portable.data["num_classes"])

    def predict(values: Floats) -> Floats:
        ready = scaled(values, arrays["center"], arrays["scale"])
        return linear_prediction(
            ready,
            arrays["coefficients"],
            arrays["intercepts"],
            num_classes,
            apart=bool(portable.data.get("apart")),
        )

    return _Predictor(predict)


def _open_lightgbm(portable: Portable) -> Predictor:
    from loopline.models.lightgbm_library import LightGBMPrediction

    data = portable.data
    return LightGBMPrediction(
        portable.files["model.txt"].decode(),
        num_columns=data["num_columns"],
        num_classes=data["num_classes"],
        offset=data["offset"],
        scale=data["scale"],
        base=portable.arrays.get("base"),
    )


def _open_boosted(portable: Portable) -> Predictor:
    data = portable.data
    trees: Scores | None = None
    if data["library"]:
        content = portable.files[data["file"]]
        trees = LIBRARIES[data["library"]](content, data["categorical"])
    return BoostedPrediction(
        trees=trees,
        base=portable.arrays["base"],
        num_classes=data["num_classes"],
        present=data["present"],
        offset=data["offset"],
        scale=data["scale"],
        log_link=data["log_link"],
    )


def _open_network(portable: Portable) -> Predictor:
    from loopline.models.portable_network import open_network

    return open_network(portable)


def _open_blend(portable: Portable) -> Predictor:
    from loopline.models.portable_blend import PortableBlend

    return PortableBlend(portable)


def _read_xgboost(data: bytes, categorical: Sequence[int]) -> Scores:
    from loopline.models.xgboost_library import read_xgboost

    del categorical
    return read_xgboost(data)


def _read_catboost(data: bytes, categorical: Sequence[int]) -> Scores:
    from loopline.models.catboost_library import read_catboost

    return read_catboost(data, categorical)


LIBRARIES: Mapping[str, Callable[[bytes, Sequence[int]], Scores]] = {
    "xgboost": _read_xgboost,
    "catboost": _read_catboost,
}
KINDS: Mapping[str, Callable[[Portable], Predictor]] = {
    "constant": _open_constant,
    "linear": _open_linear,
    "lightgbm": _open_lightgbm,
    "boosted": _open_boosted,
    "network": _open_network,
    "blend": _open_blend,
}
