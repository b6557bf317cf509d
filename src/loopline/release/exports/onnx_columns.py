"""Raw columns as ONNX nodes: what `features.readers` does to one value, for a tensor of them.

| cells | tensor (rows, 1) | a missing cell |
|---|---|---|
| numbers, truth values | double | NaN |
| categories, text | string | `<missing>`, or what the model's metadata says |
| dates and times | int64, microseconds since 1970 on the wall clock | the smallest int64 |

A column that several members of a blend read is one input all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.data.cleaning.repair import BLANKS, VALUE_KINDS, Repair, repair_row
from loopline.errors import InputError
from loopline.features.readers import Reading
from loopline.release.exports.onnx_graph import Graph
from loopline.release.exports.onnx_texts import add_text
from loopline.release.exports.onnx_times import MISSING_TIME, add_time, micros_of

Nodes = str
"""The name of a tensor (rows, outputs)."""


@dataclass(frozen=True)
class ColumnInput:
    """One raw column of the model.

    Args:
        name: the column and the input.
        kind: double, string or int64.
        missing: the text of a missing cell, for strings.
    """

    name: str
    kind: str
    missing: str = ""

    def tensor(self, cells: Sequence[Any]) -> NDArray[Any]:
        """Cells in training types as the input takes them, (rows, 1)."""
        if self.kind == "string":
            texts = [self.missing if cell is None else str(cell) for cell in cells]
            return np.array(texts, dtype=object).reshape(-1, 1)
        if self.kind == "int64":
            return np.array([micros_of(cell) for cell in cells], dtype=np.int64).reshape(-1, 1)
        numbers = [math.nan if cell is None else float(cell) for cell in cells]
        return np.array(numbers, dtype=np.float64).reshape(-1, 1)


def add_columns(
    graph: Graph, columns: Sequence[str], readings: Sequence[Reading], repairs: Sequence[Repair]
) -> tuple[list[ColumnInput], list[Nodes]]:
    """Add what reads columns: one input for each, and the outputs of each reading in order.

    Raises:
        InputError: a step or a repair that ONNX has no operators for; names it.
    """
    asked: dict[str, list[Reading]] = {}
    for column, reading in zip(columns, readings, strict=True):
        asked.setdefault(column, []).append(reading)
    own = {
        column: [each for each in repairs if each.column == column and each.kind in VALUE_KINDS]
        for column in asked
    }
    inputs = {}
    for column, its in asked.items():
        for reading in its:
            _refuse(column, reading, own[column])
        inputs[column] = _input(column, its, own[column])
        graph.input(column, inputs[column].kind)
    parts = [
        _READINGS[reading.kind](graph, inputs[column], reading, own[column])
        for column, reading in zip(columns, readings, strict=True)
    ]
    return list(inputs.values()), parts


def _refuse(column: str, reading: Reading, repairs: Sequence[Repair]) -> None:
    if reading.kind not in _READINGS:
        raise InputError(
            f"ONNX cannot express the step {reading.kind!r} of column {column!r}. Export `--to "
            "folder`, which needs numpy alone, or `--to docker`; or give the column `role: ignore` "
            "and run the line again."
        )
    makes = {"int64": (), "double": ("replace_values",), "string": ("replace_values", "strip")}
    hard = [each.kind for each in repairs if each.kind not in makes[_kind(reading)]]
    if hard:
        raise InputError(
            f"ONNX cannot express the repair {hard[0]!r} of column {column!r}. Export with "
            "`--repaired` and make it before asking the model, or export `--to folder`, which "
            "makes it itself."
        )


def _input(column: str, readings: Sequence[Reading], repairs: Sequence[Repair]) -> ColumnInput:
    kinds = {_kind(reading) for reading in readings}
    if len(kinds) > 1:
        raise InputError(
            f"ONNX cannot express column {column!r}, which the members of this model read as "
            f"{' and as '.join(sorted(kinds))}. Export `--to folder` or `--to docker`."
        )
    (kind,) = kinds
    if kind != "string":
        return ColumnInput(column, kind)
    taken = {old for repair in repairs for old, _ in repair.mapping}
    for reading in readings:
        taken |= set(reading.data.get("levels", ()))
    mark = "<missing>"
    while mark in taken:
        mark = f"<{mark}>"
    return ColumnInput(column, kind, mark)


def _kind(reading: Reading) -> str:
    if reading.kind == "time":
        return "int64"
    if reading.kind == "number" or reading.data.get("by_number"):
        return "double"
    return "string"


def _number(graph: Graph, given: ColumnInput, reading: Reading, repairs: Sequence[Repair]) -> Nodes:
    x = _replaced(graph, given.name, repairs)
    missing = _not_finite(graph, x)
    value = _transformed(graph, graph.add("Where", missing, graph.constant([[0.0]]), x), reading)
    absent = reading.data["absent"]
    instead = math.nan if absent is None else absent[0]
    out = graph.add("Where", missing, graph.constant([[instead]]), value)
    if reading.data["indicator"]:
        out = graph.add("Concat", out, graph.cast(missing, "double"), axis=1)
    return out


def _transformed(graph: Graph, x: str, reading: Reading) -> str:
    if len(reading.arrays["knots"]):
        return between_knots(graph, x, reading.arrays["knots"], reading.arrays["scores"])
    center, scale = reading.data["center"], reading.data["scale"]
    if center is None or scale is None:
        return x
    return graph.add("Div", graph.add("Sub", x, graph.constant(center)), graph.constant(scale))


def between_knots(graph: Graph, x: str, knots: Any, heights: Any) -> str:
    """A value (rows, 1) on the line through knots, flat outside."""
    places, levels = np.asarray(knots, dtype=float), np.asarray(heights, dtype=float)
    if len(places) == 1:
        places, levels = np.append(places, places[0] + 1.0), np.append(levels, levels[0])
    x = graph.add("Min", graph.add("Max", x, graph.constant(places[0])), graph.constant(places[-1]))
    passed = graph.cast(graph.add("GreaterOrEqual", x, graph.constant(places[None, 1:-1])), "int64")
    at = graph.add("ReduceSum", passed, graph.constant([1], np.int64), keepdims=1)
    slopes = np.diff(levels) / np.diff(places)
    start, low, slope = (
        graph.select(table[:, None], at) for table in (places[:-1], levels[:-1], slopes)
    )
    along = graph.add("Mul", graph.add("Sub", x, start), slope)
    return graph.add("Add", low, along)


def _level(graph: Graph, given: ColumnInput, reading: Reading, repairs: Sequence[Repair]) -> Nodes:
    levels, table = reading.data["levels"], reading.arrays["table"]
    count = len(levels)
    if reading.data["by_number"]:
        x = _replaced(graph, given.name, repairs)
        missing = _not_finite(graph, x)
        known = graph.encode(x, [*map(float, levels), math.nan], [*range(count), count + 1], count)
        index = graph.add("Where", missing, graph.constant([[count + 1]], np.int64), known)
        return graph.select(table, index)
    strips = [place for place, repair in enumerate(repairs, 1) if repair.kind == "strip"]
    first, rest = repairs[: max(strips, default=0)], repairs[max(strips, default=0) :]
    codes = {level: code for code, level in enumerate(levels)}
    asked = {*levels, *(old for repair in rest for old, _ in repair.mapping)}
    keys = sorted(key for key in asked if isinstance(key, str))
    ends = [repair_row({given.name: key}, rest)[given.name] for key in keys]
    places = [count + 1 if end is None else codes.get(end, count) for end in ends]
    text = _repaired(graph, given, first)
    index = graph.encode(text, [*keys, given.missing], [*places, count + 1], count)
    return graph.select(table, index)


def _time(graph: Graph, given: ColumnInput, reading: Reading, repairs: Sequence[Repair]) -> Nodes:
    del repairs
    return add_time(graph, given.name, reading)


def _text(graph: Graph, given: ColumnInput, reading: Reading, repairs: Sequence[Repair]) -> Nodes:
    return add_text(graph, _repaired(graph, given, repairs), given.missing, reading)


def _repaired(graph: Graph, given: ColumnInput, repairs: Sequence[Repair]) -> str:
    """Texts after repairs, in order; what is replaced by nothing is the mark of missing."""
    text = given.name
    for repair in repairs:
        before = text
        if repair.kind == "strip":
            text = graph.once(("strip", before), partial(_stripped, graph, before))
        else:
            change = partial(_respelt, graph, before, given.missing, repair)
            text = graph.once((repair, before), change)
    return text


def _stripped(graph: Graph, text: str) -> str:
    """Texts without blanks at both ends: each is one token, from its first letter to its last."""
    blanks = "".join(f"\\x{{{ord(blank):x}}}" for blank in BLANKS)
    flat = graph.add("Reshape", text, graph.constant([-1], np.int64))
    cut = graph.add(
        "Tokenizer",
        graph.add("Concat", flat, graph.constant(["x"], object), axis=0),  # it wants one at least
        domain="com.microsoft",
        mark=0,
        mincharnum=1,
        pad_value="",
        tokenexp=f"(?s)[^{blanks}](?:.*[^{blanks}])?",
    )
    cut = graph.tell(cut, "string", ("texts", "tokens"))
    start, axes = graph.constant([0, 0], np.int64), graph.constant([0, 1], np.int64)
    return graph.add("Slice", cut, start, graph.add("Shape", text), axes)


def _respelt(graph: Graph, text: str, missing: str, repair: Repair) -> str:
    """Whole texts after one `replace_values`."""
    pairs = [(old, new) for old, new in repair.mapping if isinstance(old, str)]
    if not pairs:
        return text
    ends = [missing if new is None else str(new) for _, new in pairs]
    place = graph.encode(text, [old for old, _ in pairs], range(len(pairs)), -1)
    other = graph.add("Less", place, graph.constant([[0]], np.int64))
    place = graph.add("Max", place, graph.constant([[0]], np.int64))
    found = graph.add("Gather", graph.constant(ends, object), place, axis=0)
    return graph.add("Where", other, text, found)


_READINGS = {"number": _number, "level": _level, "time": _time, "text": _text}


def _not_finite(graph: Graph, x: str) -> str:
    return graph.add("Or", graph.add("IsNaN", x), graph.add("IsInf", x))


def _replaced(graph: Graph, x: str, repairs: Sequence[Repair]) -> str:
    """Numbers after `replace_values`, all pairs of one repair at once."""
    for repair in repairs:
        given = x
        for old, new in repair.mapping:
            if not isinstance(old, int | float) or not math.isfinite(old):
                continue  # a number that is not finite is missing in any case
            instead = math.nan if new is None else float(new)  # type: ignore[arg-type]  # a number
            same = graph.add("Equal", given, graph.constant([[float(old)]]))
            x = graph.add("Where", same, graph.constant([[instead]]), x)
    return x


def input_facts(inputs: Sequence[ColumnInput]) -> Mapping[str, str]:
    """What each input takes, for the model's metadata."""
    told = {
        "double": "number; NaN where missing; true is 1, false 0",
        "int64": f"microseconds since 1970-01-01 00:00; {MISSING_TIME} where missing",
    }
    return {
        f"input.{each.name}": told.get(each.kind, f"text; {each.missing!r} where missing")
        for each in inputs
    }
