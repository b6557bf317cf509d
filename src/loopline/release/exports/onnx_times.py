"""Dates and times as ONNX nodes: what `features.calendar` does to one, for a tensor of them."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np

from loopline.features.calendar import (
    DAY_MICROS,
    PERIODS,
    WAVES,
    date_micros,
    datetime_micros,
)
from loopline.features.readers import Reading
from loopline.release.exports.onnx_graph import Graph

MISSING_TIME = -(2**63)
"""What stands for a missing time among microseconds."""
_ERA_DAYS = 146_097


def micros_of(cell: Any) -> int:
    """A date, a time or None as the model takes it."""
    if cell is None:
        return MISSING_TIME
    return datetime_micros(cell) if isinstance(cell, dt.datetime) else date_micros(cell)


def add_time(graph: Graph, given: str, reading: Reading) -> str:
    """Add what reads times; gives (rows, outputs).

    Args:
        graph: where nodes are added.
        given: microseconds, int64 (rows, 1).
        reading: how the column is read.
    """
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
        return graph.select(np.empty((1, 0)), parts.zero())
    whole = graph.add("Concat", *outs, axis=1)
    return graph.add("Where", missing, graph.constant([absent]), whole)


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
