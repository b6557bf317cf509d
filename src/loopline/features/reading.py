"""Reading a raw column as numbers, texts or times: the one place where types are converted.

The steps and the input contract both read through these functions, so a value means the same thing
at both doors. Nothing is guessed: text that is no number or no ISO date is refused by name.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.errors import DataError
from loopline.features.base import Floats

_LOCAL_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_OFFSET_FORMAT = "%Y-%m-%d %H:%M:%S%.f%z"


def as_floats(values: pl.Series) -> Floats:
    """A column as float64, missing cells as NaN. Zero-copy (read-only) for Float64 without nulls.

    Booleans become 0 and 1, durations seconds, times of day seconds after midnight.

    Raises:
        DataError: text that is no number, or a type that holds no numbers.
    """
    dtype = values.dtype
    if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
        return _numpy(values if dtype == pl.Float64 else values.cast(pl.Float64))
    if isinstance(dtype, pl.Duration):
        return _numpy(values.cast(pl.Duration("us")).cast(pl.Int64).cast(pl.Float64)) / 1e6
    if dtype == pl.Time:
        return _numpy(values.cast(pl.Int64).cast(pl.Float64)) / 1e9
    if dtype == pl.String:
        numbers = parse_numbers(values)
        refuse_unread(values, numbers, "a number")
        return _numpy(numbers)
    raise DataError(f"Column {values.name!r} must hold numbers, got the type {dtype}.")


def as_texts(values: pl.Series) -> pl.Series:
    """A column as String, missing cells null.

    Raises:
        DataError: a type that has no spelling (lists, structs, objects).
    """
    dtype = values.dtype
    if dtype == pl.String:
        return values
    if dtype.is_nested() or dtype in (pl.Object, pl.Binary):
        raise DataError(f"Column {values.name!r} must hold text, got the type {dtype}.")
    return values.cast(pl.String)


def as_micros(values: pl.Series, zone: str | None) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """A column as microseconds since 1970 on the wall clock of `zone`, and which cells are missing.

    Args:
        values: dates, datetimes or ISO 8601 text. Times with a zone are turned to `zone` (UTC when
            None); times without one are taken as they stand.
        zone: the zone of the training column, None when it had none.

    Raises:
        DataError: text that is no ISO date, or a type that holds no times.
    """
    dtype = values.dtype
    if dtype == pl.String:
        times = parse_times(values, zone)
        refuse_unread(values, times, "an ISO 8601 date such as 2024-05-31 or 2024-05-31T13:45:00")
    elif dtype in (pl.Date, pl.Null):
        times = values.cast(pl.Datetime("us"))
    elif isinstance(dtype, pl.Datetime):
        times = _on_the_wall(values.cast(pl.Datetime("us", dtype.time_zone)), zone)
    else:
        raise DataError(f"Column {values.name!r} must hold dates or times, got the type {dtype}.")
    missing = times.is_null().to_numpy()
    return times.cast(pl.Int64).fill_null(0).to_numpy(), missing


def parse_numbers(values: pl.Series) -> pl.Series:
    """Text as Float64, null where it is no number; blanks around it do not matter."""
    return values.str.strip_chars().cast(pl.Float64, strict=False)


def parse_times(values: pl.Series, zone: str | None) -> pl.Series:
    """ISO 8601 text as wall-clock Datetime("us"), null where it is none."""
    text = values.str.strip_chars().str.replace("T", " ", literal=True)
    result = text.str.to_datetime(_LOCAL_FORMATS[0], strict=False, time_unit="us")
    for form in _LOCAL_FORMATS[1:]:
        if result.null_count() == text.null_count():
            return result
        other = text.str.to_datetime(form, strict=False, time_unit="us")
        result = _first(result, other)
    if result.null_count() == text.null_count():
        return result
    shifted = text.str.replace(r"Z$", "+00:00").str.to_datetime(
        _OFFSET_FORMAT, strict=False, time_unit="us", time_zone="UTC"
    )
    return _first(result, _on_the_wall(shifted, zone))


def refuse_unread(values: pl.Series, read: pl.Series, wanted: str) -> None:
    """Refuse cells that hold something but could not be read.

    Raises:
        DataError: names the column, the first rows and their values.
    """
    if read.null_count() == values.null_count():
        return
    rows = (read.is_null() & values.is_not_null()).arg_true().to_list()
    shown = ", ".join(f"row {row}: {values[row]!r}" for row in rows[:5])
    raise DataError(
        f"Column {values.name!r} must hold {wanted}, but {len(rows)} of {len(values)} rows do not "
        f"(rows counted from 0; {shown}). Correct them or leave them empty."
    )


def _numpy(values: pl.Series) -> Floats:
    return values.to_numpy()


def _first(one: pl.Series, other: pl.Series) -> pl.Series:
    return one.zip_with(one.is_not_null(), other)


def _on_the_wall(times: pl.Series, zone: str | None) -> pl.Series:
    if getattr(times.dtype, "time_zone", None) is None:
        return times
    return times.dt.convert_time_zone(zone or "UTC").dt.replace_time_zone(None)
