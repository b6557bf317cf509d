"""Time as whole numbers: ranks of rows in time, and a clock that distances are measured on."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.errors import DataError
from loopline.splits.deal import Ints


def time_ranks(times: pl.DataFrame) -> tuple[Ints, NDArray[Any]]:
    """Dense ranks of rows in time, and the clock of the first column.

    Args:
        times: one or more columns, compared from the first to the last.

    Returns:
        Ranks from 0, equal for equal times; and the first column as microseconds (int64, dates
        and times) or as float64 (numbers).

    Raises:
        DataError: a cell is empty or not finite (the rows are named), or a type has no order in
            time.

    >>> time_ranks(pl.DataFrame({"day": [2, 1, 2], "hour": [0, 5, 3]}))[0]
    array([1, 0, 2])
    """
    ranks: Ints | None = None
    clock: NDArray[Any] | None = None
    for series in times.get_columns():
        values = clock_of(series)
        clock = values if clock is None else clock
        _, codes = np.unique(values, return_inverse=True)
        if ranks is None:
            ranks = codes.astype(np.int64)
        else:
            _, ranks = np.unique(ranks * (int(codes.max()) + 1) + codes, return_inverse=True)
    assert ranks is not None
    assert clock is not None
    return ranks.astype(np.int64), clock


def clock_of(series: pl.Series) -> NDArray[Any]:
    """A time column as microseconds (int64; with a time zone: in UTC) or as numbers (float64).

    Raises:
        DataError: a cell is empty or not finite, or the type has no order in time.

    >>> clock_of(pl.Series("hour", [1, 3])).tolist()
    [1.0, 3.0]
    """
    dtype = series.dtype
    if not (dtype.is_temporal() or dtype.is_numeric()):
        raise DataError(
            f"The time column {series.name!r} has type {dtype}, which has no order in time; read "
            "it "
            "as a date, a time or a number."
        )
    empty = series.is_null()
    if dtype.is_float():
        empty |= ~series.is_finite().fill_null(value=False)
    if empty.any():
        raise DataError(
            f"The time column {series.name!r} is empty or not finite in {rows_named(empty)}; such "
            "rows are neither before nor after the others. Fill the cells or drop the rows."
        )
    if dtype.is_numeric():
        return series.cast(pl.Float64).to_numpy()
    if dtype == pl.Time:
        return series.cast(pl.Int64).to_numpy() // 1000
    target = pl.Duration("us") if dtype == pl.Duration else pl.Datetime("us")
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        target = pl.Datetime("us", dtype.time_zone)
    return series.cast(target).cast(pl.Int64).to_numpy()


def clock_gap(gap: float, clock: NDArray[Any] | None) -> float:
    """The gap in the clock's units: whole numbers are microseconds, fractions are as declared."""
    if clock is None or clock.dtype.kind == "f":
        return gap
    return gap * 1e6


def rows_named(chosen: pl.Series) -> str:
    """How many rows are chosen, and the first five of them.

    >>> rows_named(pl.Series([False, True, True]))
    '2 rows (row 1, 2)'
    """
    rows = chosen.arg_true()
    shown = ", ".join(str(row) for row in rows.head(5).to_list())
    return f"{rows.len()} rows (row {shown}{', …' if rows.len() > 5 else ''})"
