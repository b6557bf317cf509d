"""Estimators as ONNX nodes: a matrix in, probabilities or values out, in doubles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from loopline.errors import InputError
from loopline.evaluate.calibration import Calibration
from loopline.models.portable import SINGLE_LIMIT, Portable, PortableModel
from loopline.models.portable_blend import LEAST, Combiner, members_of
from loopline.release.exports.onnx_catboost import add_catboost
from loopline.release.exports.onnx_columns import between_knots
from loopline.release.exports.onnx_graph import Graph
from loopline.release.exports.onnx_network import add_network, restored_by
from loopline.release.exports.onnx_trees import lightgbm_trees, xgboost_trees

_LOG_FLOOR = 1e-15


def refuse_estimator(portable: Portable) -> None:
    """Refuse a model that ONNX cannot express exactly, before a graph is begun.

    Raises:
        InputError: names the model, and forms that answer for it.
    """
    if portable.kind == "blend":
        for member in members_of(portable):
            for part in member:
                refuse_estimator(part.estimator)
        return
    name = _name(portable)
    if name not in _MODELS:
        raise InputError(
            f"The {name} model has no exact form in ONNX. Export `--to folder`, which answers as "
            "the release does, or `--to docker`."
        )


@dataclass(frozen=True)
class Numbers:
    """The matrix that an estimator reads.

    Args:
        name: its tensor, double (rows, columns).
        most: the largest code that each column may hold where it holds those of levels, else 0.
    """

    name: str
    most: tuple[float, ...]

    def part(self, graph: Graph, start: int, stop: int) -> Numbers:
        """Some of the columns."""
        cut = graph.add("Slice", self.name, *_bounds(graph, start, stop))
        return Numbers(cut, self.most[start:stop])


def largest_codes(model: PortableModel) -> tuple[float, ...]:
    """For each column of the matrix the largest code of its levels, 0 where it has none."""
    found: list[float] = []
    for reading, width in zip(model.readings, model.widths, strict=True):
        if reading.kind == "level":
            found += np.nan_to_num(reading.arrays["table"]).max(axis=0).tolist()
        else:
            found += [0.0] * width
    return tuple(found)


def add_estimator(graph: Graph, portable: Portable, matrix: Numbers) -> str:
    """Add an estimator; gives (rows, classes), or (rows, 1) for values.

    Raises:
        InputError: a kind that ONNX cannot express; names it.
    """
    refuse_estimator(portable)
    return _MODELS[_name(portable)](graph, portable, matrix)


def _name(portable: Portable) -> str:
    return str(portable.data.get("library") or portable.kind)


def add_calibration(graph: Graph, calibration: Calibration | None, shares: str) -> str:
    """Add the map from probabilities to calibrated ones."""
    if calibration is None or calibration.kind == "none":
        return shares
    if calibration.num_classes == 2:
        positive = graph.add("Slice", shares, *_column(graph, 1))
        if calibration.kind == "isotonic":
            mapped = between_knots(graph, positive, *calibration.knots[0])
        else:
            mapped = _with_temperature(graph, positive, calibration.inverse_temperature)
        return _both(graph, mapped)
    if calibration.kind == "temperature":
        logs = graph.add(
            "Mul", _logs(graph, shares), graph.constant(calibration.inverse_temperature)
        )
        return graph.add("Softmax", logs, axis=1)
    columns = [
        between_knots(graph, graph.add("Slice", shares, *_column(graph, code)), *knots)
        for code, knots in enumerate(calibration.knots)
    ]
    whole = graph.add("Concat", *columns, axis=1)
    total = graph.add("ReduceSum", whole, graph.constant([1], np.int64), keepdims=1)
    return graph.add("Div", whole, total)


def _constant(graph: Graph, portable: Portable, matrix: Numbers) -> str:
    answer = np.atleast_2d(portable.arrays["answer"])
    rows = graph.add("Shape", matrix.name, start=0, end=1)
    one = graph.constant([1], np.int64)
    return graph.add("Expand", graph.constant(answer), graph.add("Concat", rows, one, axis=0))


def _linear(graph: Graph, portable: Portable, matrix: Numbers) -> str:
    arrays = portable.arrays
    centred = graph.add("Sub", matrix.name, graph.constant(arrays["center"]))
    ready = graph.add("Div", centred, graph.constant(arrays["scale"]))
    products = graph.add("MatMul", ready, graph.constant(arrays["coefficients"]))
    scores = graph.add("Add", products, graph.constant(arrays["intercepts"]))
    num_classes = int(portable.data["num_classes"])
    return _shares(graph, scores, len(arrays["intercepts"])) if num_classes else scores


def _lightgbm(graph: Graph, portable: Portable, matrix: Numbers) -> str:
    data = portable.data
    text = portable.files["model.txt"].decode()
    targets = data["num_classes"] if data["num_classes"] > 2 else 1
    scores = lightgbm_trees(text, targets).add_to(graph, _wide(graph, matrix.name, data), targets)
    if data["num_classes"] and "objective=" not in text:  # a forest's trees add up to shares
        return _both(graph, scores) if targets == 1 else scores
    if data["num_classes"]:
        return _shares(graph, scores, targets)
    if "objective=poisson" in text:
        scores = graph.add("Exp", scores)
    return restored_by(graph, scores, data)


def _xgboost(graph: Graph, portable: Portable, matrix: Numbers) -> str:
    data = portable.data
    trees, base = xgboost_trees(portable.files[data["file"]])
    low, high = graph.constant(-SINGLE_LIMIT), graph.constant(SINGLE_LIMIT)
    missing = graph.add("IsNaN", matrix.name)
    clipped = graph.add("Min", graph.add("Max", matrix.name, low), high)
    single = graph.cast(graph.cast(clipped, "float"), "double")
    kept = graph.add("Where", missing, matrix.name, single)
    scores = trees.add_to(graph, kept, len(base))
    return _of_scores(graph, graph.add("Add", scores, graph.constant(base)), len(base), data)


def _catboost(graph: Graph, portable: Portable, matrix: Numbers) -> str:
    scores, width = add_catboost(graph, portable, matrix.name, matrix.most)
    return _of_scores(graph, scores, width, portable.data)


def _network(graph: Graph, portable: Portable, matrix: Numbers) -> str:
    return add_network(graph, portable, matrix.name)


def _untrained(graph: Graph, portable: Portable, matrix: Numbers) -> str:
    """Boosted trees that found nothing to learn: the same scores for every row."""
    base = portable.arrays["base"]
    answer = Portable("constant", arrays={"answer": base})
    return _of_scores(graph, _constant(graph, answer, matrix), len(base), portable.data)


def _of_scores(graph: Graph, scores: str, width: int, data: Any) -> str:
    if not data["num_classes"]:
        return restored_by(graph, graph.add("Exp", scores) if data["log_link"] else scores, data)
    present = data["present"]
    if len(present) == 1:
        shares = graph.add("Add", graph.add("Sub", scores, scores), graph.constant([[1.0]]))
        shares = graph.add("Slice", shares, *_column(graph, 0))
    else:
        shares = _shares(graph, scores, width)
    if len(present) == data["num_classes"]:
        return shares
    places = np.zeros((len(present), data["num_classes"]))
    places[np.arange(len(present)), present] = 1.0
    return graph.add("MatMul", shares, graph.constant(places))


def _blend(graph: Graph, portable: Portable, matrix: Numbers) -> str:
    combiner = Combiner.from_dict(portable.data["combiner"])
    sums = combiner.kind == "mean"
    weighed = []
    for weight, member in zip(combiner.weights, members_of(portable), strict=True):
        answers = [
            add_estimator(graph, part.estimator, matrix.part(graph, part.start, part.stop))
            for part in member
        ]
        mean = graph.add("Div", _sum(graph, answers), graph.constant(float(len(answers))))
        if not sums and len(combiner.intercept) > 1:
            mean = _centred_logs(graph, mean)
        weighed.append(graph.add("Mul", mean, graph.constant(weight)))
    total = _sum(graph, weighed)
    if sums:
        return total
    total = graph.add("Add", total, graph.constant([combiner.intercept]))
    return graph.add("Softmax", total, axis=1) if len(combiner.intercept) > 1 else total


def _sum(graph: Graph, parts: Sequence[str]) -> str:
    """The sum of parts, one by one: onnxruntime has neither `Sum` nor `Mean` for doubles."""
    return reduce(lambda total, part: graph.add("Add", total, part), parts)


def _centred_logs(graph: Graph, shares: str) -> str:
    """See `loopline.models.portable_blend.logarithms`."""
    low, high = graph.constant(LEAST), graph.constant(1 - LEAST)
    logs = graph.add("Log", graph.add("Min", graph.add("Max", shares, low), high))
    mean = graph.add("ReduceMean", logs, graph.constant([1], np.int64), keepdims=1)
    return graph.add("Sub", logs, mean)


_MODELS = {
    "constant": _constant,
    "linear": _linear,
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "catboost": _catboost,
    "boosted": _untrained,
    "network": _network,
    "blend": _blend,
}


def _shares(graph: Graph, scores: str, width: int) -> str:
    if width == 1:
        return _both(graph, graph.add("Sigmoid", scores))
    return graph.add("Softmax", scores, axis=1)


def _both(graph: Graph, positive: str) -> str:
    other = graph.add("Sub", graph.constant([[1.0]]), positive)
    return graph.add("Concat", other, positive, axis=1)


def _wide(graph: Graph, matrix: str, data: Any) -> str:
    """LightGBM was given one column of zeros where the matrix has none."""
    if data["num_columns"]:
        return matrix
    rows = graph.add("Shape", matrix, start=0, end=1)
    one = graph.constant([1], np.int64)
    return graph.add("Expand", graph.constant([[0.0]]), graph.add("Concat", rows, one, axis=0))


def _with_temperature(graph: Graph, positive: str, power: float) -> str:
    other = graph.add("Sub", graph.constant([[1.0]]), positive)
    odds = graph.add("Sub", _logs(graph, positive), _logs(graph, other))
    return graph.add("Sigmoid", graph.add("Mul", odds, graph.constant(power)))


def _logs(graph: Graph, shares: str) -> str:
    floor, top = graph.constant(_LOG_FLOOR), graph.constant(1.0)
    return graph.add("Log", graph.add("Min", graph.add("Max", shares, floor), top))


def _column(graph: Graph, number: int) -> tuple[str, str, str]:
    return _bounds(graph, number, number + 1)


def _bounds(graph: Graph, start: int, stop: int) -> tuple[str, str, str]:
    return tuple(graph.constant([value], np.int64) for value in (start, stop, 1))  # type: ignore[return-value]
