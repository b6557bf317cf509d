"""What no single row shows: a column in another unit, two columns swapped, a column that stands.

The last rows (500 by default) are laid beside what the contract remembers of training. Distances
are between quantiles, in units of the training column's 5-95 % range, so they need no training
data. A flag stays on every answer until a later window is clean; rows are answered all the same.
A busy service judges one window a second (`REST_SECONDS`): the next one begins after that.

- *unit*: the window lies more than one range away, and comes to lie on training (within 0.15) when
  divided by a known factor, or turned from degrees Fahrenheit.
- *swapped*: two columns lie far from their own training values and close to each other's.
- *constant*: one value only, where training's most common value had at most 90 % of the rows
  (500 equal rows then have a chance below 1e-22); or nothing but missing cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.features.contract import QUANTILES, InputColumn, Remark
from loopline.features.reading import as_texts
from loopline.features.turns import TURNS

REST_SECONDS = 1.0
"""Between the end of a window and the beginning of the next: rows of then are in none."""
FAR, NEAR, CLEARER = 1.0, 0.15, 5.0
MAX_TOP_SHARE = 0.9
MAX_MISSING = 0.9
Cells = Sequence[Any]
"""Cells of one column, None where one is missing."""
_LOW, _HIGH = QUANTILES.index(0.05), QUANTILES.index(0.95)


class InputWindow:
    """Gathers rows, and gives them out as a table whenever there are enough.

    Args:
        columns: what the contract knows.
        size: rows of a window; 0 never gives one.
    """

    def __init__(self, columns: Sequence[InputColumn], size: int) -> None:
        self._columns = columns
        self._size = size
        self._rows: list[Mapping[str, Any]] = []
        self._frames: list[pl.DataFrame] = []
        self._count = 0
        self._resting = size == 0
        self.flags: tuple[Remark, ...] = ()

    def add_row(self, row: Mapping[str, Any]) -> bool:
        """Remember a checked row; whether there are enough for `take`."""
        if self._resting:
            return False
        self._rows.append(row)
        self._count += 1
        return self._count >= self._size

    def add_frame(self, frame: pl.DataFrame) -> bool:
        """Remember a checked table, its newest rows if it is long."""
        if self._resting:
            return False
        self._frames.append(frame.tail(self._size))
        self._count += frame.height
        return self._count >= self._size

    def take(self) -> Callable[[], tuple[Remark, ...]]:
        """The work of judging what has gathered, to be done elsewhere; then comes `resume`."""
        self._resting = True
        rows, frames, columns = self._rows, self._frames, self._columns
        self._rows, self._frames, self._count = [], [], 0
        return lambda: judge(columns, _gathered(columns, rows, frames))

    def resume(self) -> None:
        """Gather again."""
        self._resting = False


@np.errstate(over="ignore", invalid="ignore")  # cells may be as large as floats can be
def judge(columns: Sequence[InputColumn], window: Mapping[str, Cells]) -> tuple[Remark, ...]:
    """What looks wrong over a window of checked rows.

    Plain Python and one sorted matrix: hundreds of small calls of a table library would each hand
    the interpreter over to the requests and wait to have it back.

    Args:
        columns: what the contract knows.
        window: cells by column, None where one is missing.
    """
    found: dict[str, Remark] = {}
    for column in columns:
        if (remark := _constant(column, window[column.name])) is not None:
            found[column.name] = remark
    numbers = {c.name: c for c in columns if c.type == "number" and _spread(c) > 0}
    quantiles = _quantiles({name: window[name] for name in numbers})
    far = {
        name: distance
        for name in quantiles
        if name not in found and (distance := _distance(quantiles[name], numbers[name])) > FAR
    }
    for one, other in combinations(far, 2):
        crossed = _distance(quantiles[one], numbers[other]) + _distance(
            quantiles[other], numbers[one]
        )
        if crossed < min(2 * NEAR, (far[one] + far[other]) / CLEARER):
            found |= _swapped(one, other, len(window[one]))
    for name, distance in far.items():
        words = _unit(quantiles[name], numbers[name], distance)
        if name not in found and words is not None:
            text = f"Column {name!r} looks {words} over the last {len(window[name]):,} rows."
            found[name] = Remark(name, "unit", len(window[name]), 1.0, text)
    for one, other in _swapped_levels(columns, window):
        found |= _swapped(one, other, len(window[one]))
    return tuple(found.values())


def _constant(column: InputColumn, values: Cells) -> Remark | None:
    rows = len(values)
    first = next((value for value in values if not _is_missing(value)), None)
    if first is None:
        if column.missing_share >= MAX_MISSING:
            return None
        text = f"Column {column.name!r} has been missing in the last {rows:,} rows."
    elif (
        column.kind != "image"
        and column.top_share <= MAX_TOP_SHARE
        and all(value == first or _is_missing(value) for value in values)
    ):
        text = f"Column {column.name!r} has held one and the same value in the last {rows:,} rows."
    else:
        return None
    return Remark(column.name, "constant", rows, 1.0, text)


def _is_missing(value: Any) -> bool:
    return value is None or (type(value) is float and math.isnan(value))


def _unit(found: NDArray[np.float64], column: InputColumn, distance: float) -> str | None:
    """The words for the unit that a column seems to be in; None for none."""
    turned = {words: _distance(turn(found), column) for words, turn in TURNS.items()}
    words = min(turned, key=lambda name: turned[name])
    near = turned[words] < NEAR and turned[words] * CLEARER < distance
    return words if near else None


def _swapped(one: str, other: str, rows: int) -> dict[str, Remark]:
    text = f"Columns {one!r} and {other!r} look swapped over the last {rows:,} rows."
    return {name: Remark(name, "swapped", rows, 1.0, text) for name in (one, other)}


def _swapped_levels(
    columns: Sequence[InputColumn], window: Mapping[str, Cells]
) -> list[tuple[str, str]]:
    """Pairs of categories that hold each other's levels and hardly any of their own."""
    levels = [column for column in columns if column.levels]
    known = {column.name: set(column.levels) for column in levels}
    held = {column.name: _texts(column, window[column.name]) for column in levels}
    strange = [name for name in known if held[name] and not held[name] & known[name]]
    return [
        (one, other)
        for one, other in combinations(strange, 2)
        if held[one] <= known[other] and held[other] <= known[one]
    ]


def _texts(column: InputColumn, values: Cells) -> set[str]:
    """The levels that a window holds, as the contract spells them."""
    found = {value for value in values if value is not None}
    if column.kind == "text":
        return found
    fractions = column.kind == "integer" and any(type(value) is float for value in found)
    cells = pl.Series(column.name, list(found), dtype=pl.Float64 if fractions else column.dtype)
    return set(as_texts(cells).to_list())


def _quantiles(numbers: Mapping[str, Cells]) -> dict[str, NDArray[np.float64]]:
    """Those of each column's finite cells at `QUANTILES`; columns without any are left out."""
    if not numbers:
        return {}
    x = np.array([*numbers.values()], dtype=np.float64)
    x[~np.isfinite(x)] = np.nan
    x.sort(axis=1)  # what is missing comes last
    last = np.isfinite(x).sum(axis=1, keepdims=True) - 1
    places = np.maximum(last, 0) * np.array(QUANTILES)
    below = np.floor(places).astype(np.int64)
    low = np.take_along_axis(x, below, axis=1)
    high = np.take_along_axis(x, np.minimum(below + 1, np.maximum(last, 0)), axis=1)
    found = low + (high - low) * (places - below)
    return {name: found[place] for place, name in enumerate(numbers) if last[place, 0] >= 0}


def _spread(column: InputColumn) -> float:
    return column.quantiles[_HIGH] - column.quantiles[_LOW] if column.quantiles else 0.0


def _distance(found: NDArray[np.float64], column: InputColumn) -> float:
    """Mean distance of the inner quantiles, in 5-95 % ranges of the training column."""
    known = np.array(column.quantiles[_LOW : _HIGH + 1])
    return float(np.abs(found[_LOW : _HIGH + 1] - known).mean() / _spread(column))


def _gathered(
    columns: Sequence[InputColumn],
    rows: Sequence[Mapping[str, Any]],
    frames: Sequence[pl.DataFrame],
) -> dict[str, list[Any]]:
    gathered: dict[str, list[Any]] = {
        column.name: [cell for frame in frames for cell in frame[column.name].to_list()]
        for column in columns
    }
    if rows:  # checked rows have all columns, in the contract's order
        for column, cells in zip(
            columns, zip(*(r.values() for r in rows), strict=True), strict=True
        ):
            gathered[column.name] += cells
    return gathered
