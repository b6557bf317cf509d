"""Parts of a table that have a name: a category, a quarter of a number's range, missing cells.

A score over all rows hides where a model fails. Slices are made from the columns alone, before any
prediction or target is looked at, so that whoever tests many of them knows how many there were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.schema import ColumnType
from loopline.errors import DataError
from loopline.words import figure

MOST_LEVELS = 12
"""Of a column with more categories than this, the most frequent ones become slices."""
MOST_DISTINCT = 1_000
"""A column with more categories than this names things, not kinds of things."""
FEWEST_ROWS = 50
"""A slice with fewer rows than this says more about chance than about itself."""
SAID_LETTERS = 40


@dataclass(frozen=True, eq=False)
class Slice:
    """Some rows of a table, by what stands in one column.

    Args:
        column: the column.
        title: which rows, for a person: ``city = 'Lima'``, ``28 < age <= 37``.
        rows: their places in the table that was cut, rising.
    """

    column: str
    title: str
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.rows.size)


def slices_of(
    frame: pl.DataFrame,
    types: Mapping[str, ColumnType],
    *,
    fewest_rows: int = FEWEST_ROWS,
) -> list[Slice]:
    """The slices of a table: categories, quarters of numbers and times, and missing cells.

    A slice that holds all rows, or too few, is left out. Texts and images have no slices but their
    missing cells.

    Args:
        frame: the rows, with the columns to cut by.
        types: the type of each column of the frame.
        fewest_rows: slices with fewer rows are left out, >= 1.

    Raises:
        DataError: a column of the frame has no type.

    >>> frame = pl.DataFrame({"city": ["Rome"] * 3 + ["Oslo"] * 2, "age": [1, 2, 3, 4, 5]})
    >>> found = slices_of(frame, {"city": "category", "age": "number"}, fewest_rows=2)
    >>> [(part.title, len(part)) for part in found]
    [("city = 'Oslo'", 2), ("city = 'Rome'", 3), ('age <= 2', 2)]
    """
    unknown = [name for name in frame.columns if name not in types]
    if unknown:
        raise DataError(f"No type is known of the columns {', '.join(unknown)}; slices need one.")
    found: list[Slice] = []
    for name in frame.columns:
        series = frame[name]
        found += _cut(series, types[name])
        empty = series.is_null()
        if series.dtype.is_float():
            empty |= series.is_nan().fill_null(False)
        found.append(Slice(name, f"{name} is missing", _places(empty)))
    return [part for part in found if fewest_rows <= len(part) < frame.height]


def _cut(series: pl.Series, kind: ColumnType) -> list[Slice]:
    if kind in ("category", "boolean"):
        return _levels(series)
    if kind == "number" and series.dtype.is_numeric():
        return _quarters(series)
    if kind == "datetime" and series.dtype.is_temporal():
        return _quarters(series)
    return []


def _levels(series: pl.Series) -> list[Slice]:
    counts = series.drop_nulls().value_counts(name="rows")
    if counts.height > MOST_DISTINCT:
        return []
    kept = counts.sort("rows", series.name, descending=[True, False]).head(MOST_LEVELS)
    return [
        Slice(series.name, f"{series.name} = {_said(level)}", _places(series == level))
        for level in kept[series.name].sort().to_list()
    ]


def _quarters(series: pl.Series) -> list[Slice]:
    """Quarters by rank, equal values together; the values themselves where there are few."""
    floats = series.to_physical().cast(pl.Float64).to_numpy()
    values = np.asarray(floats, dtype=np.float64)
    known = np.isfinite(values)
    distinct = np.unique(values[known])
    if distinct.size < 2:
        return []
    if distinct.size <= 4:
        edges = distinct[:-1]
    else:
        edges = np.unique(np.quantile(values[known], (0.25, 0.5, 0.75), method="lower"))
        edges = edges[edges < distinct[-1]]
    place = np.searchsorted(edges, values, side="left")
    return [
        Slice(
            series.name,
            _between(series, values, edges, part),
            np.flatnonzero(known & (place == part)).astype(np.int64),
        )
        for part in range(edges.size + 1)
    ]


def _between(
    series: pl.Series, values: NDArray[np.float64], edges: NDArray[np.float64], part: int
) -> str:
    def said(edge: float) -> str:
        if series.dtype.is_temporal():
            return str(series[int(np.flatnonzero(values == edge)[0])])
        return f"{edge:g}" if float(f"{edge:g}") == edge else figure(edge)

    name = series.name
    if part == 0:
        return f"{name} <= {said(edges[0])}"
    if part == edges.size:
        return f"{name} > {said(edges[-1])}"
    return f"{said(edges[part - 1])} < {name} <= {said(edges[part])}"


def _said(level: object) -> str:
    text = repr(level)
    return text if len(text) <= SAID_LETTERS else f"{text[: SAID_LETTERS - 1]}…"


def _places(mask: pl.Series) -> NDArray[np.int64]:
    return np.flatnonzero(mask.fill_null(False).to_numpy()).astype(np.int64)


def holm(chances: Sequence[float] | Iterable[float]) -> NDArray[np.float64]:
    """Chances of error, raised so that one below 0.05 is a finding among all of them.

    The chance of any false finding is then at most 5 %, whatever is true of the others and however
    the tests hang together (Holm, "A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 1979).

    Args:
        chances: two-sided p-values, 0 to 1.

    Returns:
        The adjusted ones, in the order given.

    >>> holm([0.01, 0.04, 0.5]).round(3).tolist()
    [0.03, 0.08, 0.5]
    """
    given = np.array(list(chances), dtype=np.float64)
    order = np.argsort(given, kind="stable")
    factors = np.arange(given.size, 0, -1)
    raised = np.minimum(1.0, np.maximum.accumulate(given[order] * factors))
    found = np.empty_like(given)
    found[order] = raised
    return found
