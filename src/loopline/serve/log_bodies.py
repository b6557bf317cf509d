"""Rows of the prediction log read back from the bodies that brought them, hundreds at once.

A usual row of JSON says what the model saw, so the log keeps the bytes that came instead of two
dozen objects: they are there already, weigh a third, and are parsed for the log in one call that
does not hold the interpreter. Whether the bytes may stand for the row is decided before, by what
the contract did with it (nothing) and by `Bodies.say`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from loopline.features.contract import InputColumn, InputContract

_EXACT = 2.0**53
"""Whole numbers below it are told apart in 64-bit floating point."""
_NUMBERS = ("integer", "float", "seconds")
_TIMES = ("date", "datetime")


class Bodies:
    """Reads the bodies of one model's usual rows.

    Args:
        columns: what the contract knows. With images among them no body is taken.
    """

    def __init__(self, columns: Sequence[InputColumn]) -> None:
        self._columns = columns
        self._able = bool(columns) and all(_is_exact(column) for column in columns)
        self._type = pl.Struct({column.name: _said_as(column) for column in columns})
        times = tuple(column for column in columns if column.kind in _TIMES)
        self._times = InputContract(times) if times else None

    def say(self, body: bytes, row: Mapping[str, Any]) -> bool:
        """Whether a body may stand for the usual row that was read from it.

        A member that comes twice counts by its last value for the model and by its first here. Each
        member has one colon, so as many colons as members leave no room for another; a text with a
        colon in it is kept as a row, which costs more and says the same.

        >>> column = InputColumn("x", "number", "float")
        >>> Bodies([column]).say(b'{"x": 1.5}', {"x": 1.5})
        True
        >>> Bodies([column]).say(b'{"x": 1, "x": 1.5}', {"x": 1.5})
        False
        """
        return self._able and body.count(b":") == len(row)

    def read(self, bodies: Sequence[bytes]) -> pl.DataFrame:
        """The rows, as the contract gives them.

        In few calls: at each of them polars gives the interpreter away and has to ask for it again.

        Raises:
            PolarsError: a body is no row of these columns.
            DataError: a time cannot be read.
        """
        texts = pl.Series(bodies, dtype=pl.Binary).cast(pl.String)
        cells = texts.str.json_decode(self._type).struct.unnest()
        if self._times is not None:
            cells = cells.with_columns(self._times.check(cells)[0])
        for place, column in enumerate(self._columns):
            if column.kind == "integer":
                cells.replace_column(place, _whole(cells.to_series(place)))
        return cells


def _is_exact(column: InputColumn) -> bool:
    if column.kind == "integer":  # read by way of floating point, as fractions may come too
        usual = column.levels or (column.low, column.high)
        return all(value is not None and abs(float(value)) < _EXACT for value in usual)
    return column.kind != "image"


def _said_as(column: InputColumn) -> Any:
    """The type in which JSON says a column's cells."""
    if column.kind in _NUMBERS:
        return pl.Float64()
    return pl.String() if column.kind in _TIMES else column.dtype


def _whole(values: pl.Series) -> pl.Series:
    """Whole numbers as such, unless a fraction came."""
    x = values.to_numpy()
    whole = np.isnan(x) | (np.floor(x) == x)
    return values.cast(pl.Int64) if whole.all() else values
