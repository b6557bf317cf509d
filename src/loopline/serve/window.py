"""What no single row shows: a column in another unit, two columns swapped, a column that stands.

The last rows (500 by default) are laid beside what the contract remembers of training. Distances
are between quantiles, in units of the training column's 5-95 % range, so they need no training
data. A flag stays on every answer until a later window is clean; rows are answered all the same.

- *unit*: the window lies more than one range away, and comes to lie on training (within 0.15) when
  divided by a known factor, or turned from degrees Fahrenheit.
- *swapped*: two columns lie far from their own training values and close to each other's.
- *constant*: one value only, where training's most common value had at most 90 % of the rows
  (500 equal rows then have a chance below 1e-22); or nothing but missing cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.features.contract import QUANTILES, InputColumn, Remark
from loopline.features.reading import as_floats, as_texts
from loopline.features.turns import TURNS

FAR, NEAR, CLEARER = 1.0, 0.15, 5.0
MAX_TOP_SHARE = 0.9
MAX_MISSING = 0.9
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
        self.flags: tuple[Remark, ...] = ()

    def add_row(self, row: Mapping[str, Any]) -> bool:
        """Remember a checked row; whether there are enough for `take`."""
        if not self._size:
            return False
        self._rows.append(row)
        self._count += 1
        return self._count >= self._size

    def add_frame(self, frame: pl.DataFrame) -> bool:
        """Remember a checked table, its newest rows if it is long."""
        if not self._size:
            return False
        self._frames.append(frame.tail(self._size))
        self._count += frame.height
        return self._count >= self._size

    def take(self) -> Callable[[], tuple[Remark, ...]]:
        """The work of judging what has gathered, to be done elsewhere; the window starts anew."""
        rows, frames, columns = self._rows, self._frames, self._columns
        self._rows, self._frames, self._count = [], [], 0
        return lambda: judge(columns, _gathered(columns, rows, frames))


@np.errstate(over="ignore", invalid="ignore")  # cells may be as large as floats can be
def judge(columns: Sequence[InputColumn], window: Mapping[str, pl.Series]) -> tuple[Remark, ...]:
    """What looks wrong over a window of checked rows.

    Args:
        columns: what the contract knows.
        window: cells by column.
    """
    found: dict[str, Remark] = {}
    numbers = {c.name: c for c in columns if c.type == "number" and _spread(c) > 0}
    quantiles = {
        name: _quantiles(window[name])
        for name in numbers
        if window[name].null_count() < len(window[name])
    }
    for column in columns:
        if (remark := _constant(column, window[column.name])) is not None:
            found[column.name] = remark
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


def _constant(column: InputColumn, values: pl.Series) -> Remark | None:
    present = values.drop_nulls()
    rows = len(values)
    if present.is_empty():
        if column.missing_share >= MAX_MISSING:
            return None
        text = f"Column {column.name!r} has been missing in the last {rows:,} rows."
    elif column.kind != "image" and column.top_share <= MAX_TOP_SHARE and present.n_unique() == 1:
        text = f"Column {column.name!r} has held one and the same value in the last {rows:,} rows."
    else:
        return None
    return Remark(column.name, "constant", rows, 1.0, text)


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
    columns: Sequence[InputColumn], window: Mapping[str, pl.Series]
) -> list[tuple[str, str]]:
    """Pairs of categories that hold each other's levels and hardly any of their own."""
    known = {column.name: set(column.levels) for column in columns if column.levels}
    held = {name: set(as_texts(window[name]).drop_nulls().to_list()) for name in known}
    strange = [name for name in known if held[name] and not held[name] & known[name]]
    return [
        (one, other)
        for one, other in combinations(strange, 2)
        if held[one] <= known[other] and held[other] <= known[one]
    ]


def _quantiles(values: pl.Series) -> NDArray[np.float64]:
    x = as_floats(values)
    return np.asarray(np.quantile(x[np.isfinite(x)], QUANTILES))


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
) -> dict[str, pl.Series]:
    gathered = {}
    for column in columns:
        parts = [frame[column.name] for frame in frames]
        if rows:
            values = [row[column.name] for row in rows]
            fractions = column.kind == "integer" and any(type(v) is float for v in values)
            dtype = pl.Float64 if fractions else column.dtype
            parts.append(pl.Series(column.name, values, dtype=dtype))
        if column.kind == "integer" and any(part.dtype == pl.Float64 for part in parts):
            parts = [part.cast(pl.Float64) for part in parts]
        gathered[column.name] = pl.concat(parts)
    return gathered
