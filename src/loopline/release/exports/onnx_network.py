"""The table network as ONNX nodes in doubles; see `loopline.models.portable_network`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.models.portable import Portable
from loopline.models.portable_network import (
    LIMIT,
    Arrangement,
    arrangement_of,
    network_weights,
    num_layers,
)
from loopline.release.exports.onnx_graph import Graph, tensor

Weights = Mapping[str, NDArray[np.float64]]


def add_network(graph: Graph, portable: Portable, matrix: str) -> str:
    """Add a network; gives (rows, classes), or (rows, 1) for values."""
    inputs, net = arrangement_of(portable), network_weights(portable)
    parts = []
    if len(inputs.numbers):
        parts.append(_numbers(graph, inputs, net, matrix))
    parts += _categories(graph, inputs, net, matrix)
    if not parts:
        rows = graph.add("Shape", matrix, start=0, end=1)
        shape = graph.add("Concat", rows, graph.constant([1], np.int64), axis=0)
        parts = [graph.add("Expand", graph.constant(net["constant"][None, :]), shape)]
    one = graph.constant([1], np.int64)
    hidden = graph.add("Unsqueeze", graph.add("Concat", *parts, axis=1), one)
    for layer in range(num_layers(net)):
        hidden = _layer(graph, net, f"layers.{layer}", hidden)
    scores = graph.add(
        "Einsum", hidden, graph.constant(net["head.weight"]), equation="rmw,mwo->rmo"
    )
    scores = graph.add("Add", scores, graph.constant(net["head.bias"]))
    if portable.data["num_classes"]:
        shares = graph.add("Softmax", scores, axis=2)
        return graph.add("ReduceMean", shares, one, keepdims=0)
    return restored_by(graph, graph.add("ReduceMean", scores, one, keepdims=0), portable.data)


def restored_by(graph: Graph, scores: str, data: Mapping[str, Any]) -> str:
    """Values from the scores of a model that was trained on a scaled target."""
    grown = graph.add("Mul", scores, graph.constant(data["scale"]))
    return graph.add("Add", grown, graph.constant(data["offset"]))


def _numbers(graph: Graph, inputs: Arrangement, net: Weights, matrix: str) -> str:
    chosen = graph.add("Gather", matrix, graph.constant(inputs.numbers, np.int64), axis=1)
    centred = graph.add("Sub", chosen, graph.constant(inputs.center))
    ready = graph.add("Div", centred, graph.constant(inputs.scale))
    ready = graph.add("Where", graph.add("IsNaN", ready), graph.constant(0.0), ready)
    ready = graph.add("Min", graph.add("Max", ready, graph.constant(-LIMIT)), graph.constant(LIMIT))
    ready = graph.cast(graph.cast(ready, "float"), "double")
    apart = graph.add("Unsqueeze", ready, graph.constant([2], np.int64))
    turns = graph.add("Mul", graph.add("Mul", graph.constant(2.0 * math.pi), apart),
                      graph.constant(net["numbers.frequency"]))  # fmt: skip
    waves = graph.add("Cos", graph.add("Add", turns, graph.constant(net["numbers.phase"])))
    weight = graph.constant(net["numbers.weight"])
    seen = graph.add("Einsum", waves, weight, equation="rnf,nfw->rnw")
    seen = graph.add("Relu", graph.add("Add", seen, graph.constant(net["numbers.bias"])))
    both = graph.add("Concat", apart, seen, axis=2)
    width = len(inputs.numbers) * (net["numbers.weight"].shape[2] + 1)
    return graph.add("Reshape", both, graph.constant([-1, width], np.int64))


def _categories(graph: Graph, inputs: Arrangement, net: Weights, matrix: str) -> list[str]:
    codes = []
    for place in inputs.codes.tolist():
        cell = graph.add("Gather", matrix, graph.constant([place], np.int64), axis=1)
        code = graph.add("Add", cell, graph.constant(1.0))
        code = graph.add("Where", graph.add("IsNaN", code), graph.constant(0.0), code)
        codes.append(graph.cast(code, "int64"))
    for place, known in inputs.values.items():
        cell = graph.add("Gather", matrix, graph.constant([place], np.int64), axis=1)
        codes.append(
            graph.add(
                "LabelEncoder",
                cell,
                domain="ai.onnx.ml",
                keys_tensor=tensor(known, np.float64),
                values_tensor=tensor(np.arange(1, len(known) + 1), np.int64),
                default_tensor=tensor([0], np.int64),
            )
        )
    return [
        graph.select(net[f"categories.{number}.weight"], code) for number, code in enumerate(codes)
    ]


def _layer(graph: Graph, net: Weights, name: str, hidden: str) -> str:
    given = graph.add("Mul", hidden, graph.constant(net[f"{name}.before"]))
    products = graph.add("MatMul", given, graph.constant(net[f"{name}.weight"].T))
    grown = graph.add("Mul", products, graph.constant(net[f"{name}.after"]))
    return graph.add("Relu", graph.add("Add", grown, graph.constant(net[f"{name}.bias"])))
