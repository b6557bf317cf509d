"""Raw columns as ONNX nodes: what `features.readers` does to one value, for a tensor of them.

| cells | tensor (rows, 1) | a missing cell |
|---|---|---|
| numbers, truth values | double | NaN |
| categories | string | `<missing>`, or what the model's metadata says |
| dates and times | int64, microseconds since 1970 on the wall clock | the smallest int64 |

Text features are hashes of letter runs, which ONNX cannot compute.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.data.cleaning.repair import VALUE_KINDS, Repair, repair_row
from loopline.errors import InputError
from loopline.features.calendar import (
    DAY_MICROS,
    PERIODS,
    WAVES,
    date_micros,
    datetime_micros,
)
from loopline.features.readers import Reading
from loopline.release.exports.onnx_graph import Graph, tensor

MISSING_TIME = -(2**63)
_ERA_DAYS = 146_097

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
            return np.array([_micros(cell) for cell in cells], dtype=np.int64).reshape(-1, 1)
        numbers = [math.nan if cell is None else float(cell) for cell in cells]
        return np.array(numbers, dtype=np.float64).reshape(-1, 1)


def add_column(
    graph: Graph, column: str, reading: Reading, repairs: Sequence[Repair]
) -> tuple[ColumnInput, Nodes]:
    """Add what reads one column.

    Raises:
        InputError: a step or a repair that ONNX has no operators for; names it.
    """
    if reading.kind not in _READINGS:
        raise InputError(
            f"ONNX cannot express the step {reading.kind!r} of column {column!r}: it hashes runs "
            "of letters. Export `--to folder`, which needs numpy alone, or `--to docker`; or give "
            "the column `role: ignore` and run the line again."
        )
    own = [repair for repair in repairs if repair.column == column and repair.kind in VALUE_KINDS]
    hard = [repair.kind for repair in own if repair.kind != "replace_values"]
    if hard or (own and reading.kind == "time"):
        raise InputError(
            f"ONNX cannot express the repair {hard[0] if hard else own[0].kind!r} of column "
            f"{column!r}. Export with `--repaired` and make it before asking the model, or export "
            "`--to folder`, which makes it itself."
        )
    return _READINGS[reading.kind](graph, column, reading, own)


def _number(
    graph: Graph, column: str, reading: Reading, repairs: Sequence[Repair]
) -> tuple[ColumnInput, Nodes]:
    x = _replaced(graph, graph.input(column, "double"), repairs)
    missing = _not_finite(graph, x)
    value = _transformed(graph, graph.add("Where", missing, graph.constant([[0.0]]), x), reading)
    absent = reading.data["absent"]
    instead = math.nan if absent is None else absent[0]
    out = graph.add("Where", missing, graph.constant([[instead]]), value)
    if reading.data["indicator"]:
        out = graph.add("Concat", out, graph.cast(missing, "double"), axis=1)
    return ColumnInput(column, "double"), out


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


def _level(
    graph: Graph, column: str, reading: Reading, repairs: Sequence[Repair]
) -> tuple[ColumnInput, Nodes]:
    levels, table = reading.data["levels"], reading.arrays["table"]
    count = len(levels)
    if reading.data["by_number"]:
        x = _replaced(graph, graph.input(column, "double"), repairs)
        missing = _not_finite(graph, x)
        known = _encoded(graph, x, [*levels, math.nan], [*range(count), count + 1], count)
        index = graph.add("Where", missing, graph.constant([[count + 1]], np.int64), known)
        return ColumnInput(column, "double"), graph.select(table, index)
    codes = {level: code for code, level in enumerate(levels)}
    given = {*levels, *(old for repair in repairs for old, _ in repair.mapping)}
    keys = sorted(key for key in given if isinstance(key, str))
    mark = "<missing>"
    while mark in keys:
        mark = f"<{mark}>"
    ends = [repair_row({column: key}, repairs)[column] for key in keys]
    places = [count + 1 if end is None else codes.get(end, count) for end in ends]
    x = graph.input(column, "string")
    index = _encoded(graph, x, [*keys, mark], [*places, count + 1], count)
    return ColumnInput(column, "string", mark), graph.select(table, index)


def _encoded(graph: Graph, x: str, keys: Sequence[Any], places: Sequence[int], other: int) -> str:
    text = isinstance(keys[0], str)
    return graph.add(
        "LabelEncoder",
        x,
        domain="ai.onnx.ml",
        keys_tensor=tensor(keys, object if text else np.float64),
        values_tensor=tensor(places, np.int64),
        default_tensor=tensor([other], np.int64),
    )


def _time(
    graph: Graph, column: str, reading: Reading, repairs: Sequence[Repair]
) -> tuple[ColumnInput, Nodes]:
    del repairs
    given = graph.input(column, "int64")
    none = graph.constant([[MISSING_TIME]], np.int64)
    missing = graph.add("Equal", given, none)
    micros = graph.add("Where", missing, graph.constant([[0]], np.int64), given)
    parts = _Parts(graph, micros)
    data = reading.data
    outs = []
    for part in data["parts"]:
        if part == "elapsed":
            outs.append(parts.elapsed(data["origin"], data["center"], data["scale"]))
        elif data["cyclic"] and part in PERIODS:
            outs += [graph.select(np.array(wave)[:, None], parts.of(part)) for wave in WAVES[part]]
        else:
            outs.append(graph.cast(parts.of(part), "double"))
    if data["indicator"]:
        outs.append(graph.cast(missing, "double"))
    absent = data["absent"] or [math.nan] * len(outs)
    if not outs:
        return ColumnInput(column, "int64"), graph.select(np.empty((1, 0)), parts.zero())
    whole = graph.add("Concat", *outs, axis=1)
    return (
        ColumnInput(column, "int64"),
        graph.add("Where", missing, graph.constant([absent]), whole),
    )


class _Parts:
    """Calendar parts of microseconds, each added when asked for; see `features.calendar`."""

    def __init__(self, graph: Graph, micros: str) -> None:
        self._graph = graph
        self._micros = micros
        self._day = self._floor(micros, DAY_MICROS)
        self._civil: dict[str, str] = {}

    def zero(self) -> str:
        """An index of zeros."""
        return self._minus(self._micros, self._micros)

    def elapsed(self, origin: int, center: float, scale: float) -> str:
        """Days since the origin, scaled."""
        graph = self._graph
        since = graph.cast(self._plus(self._micros, -origin), "double")
        days = graph.add("Div", since, graph.constant(float(DAY_MICROS)))
        return graph.add(
            "Div", graph.add("Sub", days, graph.constant(center)), graph.constant(scale)
        )

    def of(self, part: str) -> str:
        """One part, int64 (rows, 1)."""
        if part == "weekday":
            return self._rest(self._plus(self._day, 3), 7)
        if part in ("hour", "minute"):
            inside = self._minus(self._micros, self._times(self._day, DAY_MICROS))
            seconds = self._floor(inside, 1_000_000)
            if part == "hour":
                return self._floor(seconds, 3600)
            return self._rest(self._floor(seconds, 60), 60)
        if not self._civil:
            self._civil = self._of_civil()
        return self._civil[part]

    def _of_civil(self) -> dict[str, str]:
        plus, minus, times, floor = self._plus, self._minus, self._times, self._floor
        shifted = plus(self._day, 719_468)
        era = floor(shifted, _ERA_DAYS)
        day_of_era = minus(shifted, times(era, _ERA_DAYS))
        leaps = minus(
            self._add(minus(day_of_era, floor(day_of_era, 1460)), floor(day_of_era, 36_524)),
            floor(day_of_era, 146_096),
        )
        year_of_era = floor(leaps, 365)
        before = minus(
            self._add(times(year_of_era, 365), floor(year_of_era, 4)), floor(year_of_era, 100)
        )
        from_march = minus(day_of_era, before)
        march_month = floor(plus(times(from_march, 5), 2), 153)
        day = plus(minus(from_march, floor(plus(times(march_month, 153), 2), 5)), 1)
        new_year = floor(march_month, 10)
        month = minus(plus(march_month, 3), times(new_year, 12))
        year = self._add(self._add(year_of_era, times(era, 400)), new_year)
        leap = self._leap(year)
        spring = self._graph.add("Mul", plus(leap, 59), plus(times(new_year, -1), 1))
        day_of_year = minus(self._add(plus(from_march, 1), spring), times(new_year, 306))
        return {"year": year, "month": month, "day": day, "day_of_year": day_of_year}

    def _leap(self, year: str) -> str:
        graph = self._graph
        zero = graph.constant([[0]], np.int64)
        by = {n: graph.add("Equal", self._rest(year, n), zero) for n in (4, 100, 400)}
        century = graph.add("Or", graph.add("Not", by[100]), by[400])
        return graph.cast(graph.add("And", by[4], century), "int64")

    def _number(self, value: int) -> str:
        return self._graph.constant([[value]], np.int64)

    def _plus(self, x: str, number: int) -> str:
        return self._graph.add("Add", x, self._number(number))

    def _add(self, x: str, y: str) -> str:
        return self._graph.add("Add", x, y)

    def _minus(self, x: str, y: str) -> str:
        return self._graph.add("Sub", x, y)

    def _times(self, x: str, number: int) -> str:
        return self._graph.add("Mul", x, self._number(number))

    def _rest(self, x: str, number: int) -> str:
        return self._graph.add("Mod", x, self._number(number), fmod=0)

    def _floor(self, x: str, number: int) -> str:
        """Whole division downwards: what is cut off is taken away first."""
        return self._graph.add("Div", self._minus(x, self._rest(x, number)), self._number(number))


_READINGS = {"number": _number, "level": _level, "time": _time}


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


def _micros(cell: Any) -> int:
    if cell is None:
        return MISSING_TIME
    return datetime_micros(cell) if isinstance(cell, dt.datetime) else date_micros(cell)


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
