"""Dates and times: calendar parts and elapsed days, those that vary in training.

Trees get the parts as they are (2024, 5, 31, …). Linear models get the repeating ones as a sine and
a cosine, so that December lies next to January, and the elapsed days standardised.
Parts are computed with whole-number arithmetic (Howard Hinnant, "chrono-compatible low-level date
algorithms": civil_from_days), written once for arrays and for plain integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.errors import DataError
from loopline.features.base import NAN, Floats, Output, Reader, Step, refuse_missing
from loopline.features.reading import (
    DAY_MICROS,
    as_micros,
    date_micros,
    datetime_micros,
    iso_micros,
)

PERIODS = {"month": 12, "day": 31, "weekday": 7, "hour": 24, "minute": 60, "day_of_year": 366}
"""The repeating parts and their lengths."""
TREE_PARTS = ("year", "month", "day", "weekday", "hour", "minute", "day_of_year", "elapsed")
LINEAR_PARTS = ("month", "day", "weekday", "hour", "minute", "elapsed")

_WAVES = {
    name: tuple(
        # Twelve digits, so that no machine's mathematics library can make a difference.
        [round(wave(2 * math.pi * k / period), 12) + 0.0 for k in range(period + 1)]
        for wave in (math.sin, math.cos)
    )
    for name, period in PERIODS.items()
}


@dataclass(frozen=True, eq=False)
class DatetimeStep(Step):
    """Parts of one date or time.

    Args:
        source: the raw column.
        parts: names out of `TREE_PARTS`, in that order.
        cyclic: whether repeating parts become a sine and a cosine.
        origin: the earliest training time, in microseconds since 1970; `elapsed` counts from it.
        center: subtracted from the elapsed days, which `scale` then divides (0 and 1 for trees).
        scale: see `center`.
        zone: the time zone of the training column, None when it had none.
        fill_micros: what a missing time is read as; None gives NaN in every part.
        refuse: whether a missing cell is an error.
        indicator: whether a last output says which cells were missing.
    """

    kind: ClassVar[str] = "datetime"
    source: str
    parts: tuple[str, ...]
    cyclic: bool
    origin: int
    center: float = 0.0
    scale: float = 1.0
    zone: str | None = None
    fill_micros: int | None = None
    refuse: bool = False
    indicator: bool = False

    @property
    def outputs(self) -> tuple[Output, ...]:
        """One or two a part, then the indicator."""
        names: list[str] = []
        for part in self.parts:
            waves = ("sin", "cos") if self.cyclic and part in PERIODS else ()
            names += [f"{self.source}.{part}.{wave}" for wave in waves] or [f"{self.source}.{part}"]
        names += [f"{self.source}=missing"] * self.indicator
        return tuple(Output(name, self.source) for name in names)

    def fill(self, values: pl.Series, out: Floats) -> None:
        """See `Step.fill`."""
        micros, missing = as_micros(values, self.zone)
        if self.refuse:
            refuse_missing(self.source, missing)
        if missing.any() and self.fill_micros is not None:
            micros = np.where(missing, self.fill_micros, micros)
        place = 0
        values_of = _parts_of(micros)
        for part in self.parts:
            if part == "elapsed":
                out[:, place] = (
                    (micros - self.origin) / float(DAY_MICROS) - self.center
                ) / self.scale
            elif self.cyclic and part in PERIODS:
                number = values_of(part)
                sines, cosines = _WAVES[part]
                out[:, place] = np.array(sines)[number]
                place += 1
                out[:, place] = np.array(cosines)[number]
            else:
                out[:, place] = values_of(part)
            place += 1
        if self.fill_micros is None:
            out[missing, :place] = NAN
        if self.indicator:
            out[:, place] = missing

    def row_reader(self) -> Reader:
        """See `Step.row_reader`."""
        slow = self.one_by_table
        absent = None if self.refuse else self.one_by_table(None)

        def read(value: Any) -> Sequence[float]:
            kind = type(value)
            micros: int | None = None
            if kind is str:
                micros = iso_micros(value)
            elif kind is datetime and value.tzinfo is None:
                micros = datetime_micros(value)
            elif kind is date:
                micros = date_micros(value)
            elif value is None and absent is not None:
                return absent
            return slow(value) if micros is None else self._of_micros(micros)

        return read

    def _of_micros(self, micros: int) -> list[float]:
        out: list[float] = []
        values_of = _parts_of(micros)
        for part in self.parts:
            if part == "elapsed":
                out.append(((micros - self.origin) / float(DAY_MICROS) - self.center) / self.scale)
            elif self.cyclic and part in PERIODS:
                number = values_of(part)
                out += (_WAVES[part][0][number], _WAVES[part][1][number])
            else:
                out.append(float(values_of(part)))
        if self.indicator:
            out.append(0.0)
        return out


def learn_datetime(
    values: pl.Series, *, linear: bool, missing: str, constant: Any = None
) -> DatetimeStep:
    """Learn the parts that vary, the origin and the fill of a training column.

    Args:
        values: the column's training rows.
        linear: sines and cosines instead of numbers, elapsed days standardised, an indicator
            when a cell is missing here.
        missing: ``keep``, ``error``, ``mean``, ``median``, ``most_frequent`` or ``constant``.
        constant: ISO text for ``constant``.

    Raises:
        DataError: text that is no ISO date, or a missing cell under ``error``.
    """
    zone = getattr(values.dtype, "time_zone", None)
    micros, gone = as_micros(values, zone)
    if missing == "error":
        refuse_missing(values.name, gone)
    known = micros[~gone]
    origin = int(known.min()) if len(known) else 0
    values_of = _parts_of(known)
    parts = tuple(
        part
        for part in (LINEAR_PARTS if linear else TREE_PARTS)
        if len(np.unique(known if part == "elapsed" else values_of(part))) > 1
    )
    center, scale = 0.0, 1.0
    if linear and "elapsed" in parts:
        days = (known - origin) / float(DAY_MICROS)
        center, scale = float(days.mean()), float(days.std())
    return DatetimeStep(
        source=values.name,
        parts=parts,
        cyclic=linear,
        origin=origin,
        center=center,
        scale=scale,
        zone=zone,
        fill_micros=_fill_micros(known, missing, constant, values.name),
        refuse=missing == "error",
        indicator=missing not in ("keep", "error") and bool(gone.any()),
    )


def _fill_micros(known: NDArray[np.int64], missing: str, constant: Any, name: str) -> int | None:
    if missing in ("keep", "error"):
        return None
    if missing == "constant":
        micros = iso_micros(constant) if isinstance(constant, str) else None
        if micros is None:
            raise DataError(
                f"Column {name!r} has missing='constant', which for dates needs ISO 8601 text such "
                f"as 2024-05-31 as `fill`, got {constant!r}."
            )
        return micros
    if not len(known):
        return 0
    if missing == "mean":
        origin = int(known.min())
        return origin + round(float((known - origin).mean()))
    if missing == "median":
        return int(np.sort(known)[(len(known) - 1) // 2])
    uniques, counts = np.unique(known, return_counts=True)
    return int(uniques[np.argmax(counts)])


def _parts_of(micros: Any) -> Callable[[str], Any]:
    """The calendar parts of an int64 array or a plain integer, each computed when asked for."""
    days = micros // DAY_MICROS
    seconds = (micros - days * DAY_MICROS) // 1_000_000
    civil: list[tuple[Any, Any, Any, Any]] = []

    def of(part: str) -> Any:
        if part == "weekday":
            return (days + 3) % 7
        if part == "hour":
            return seconds // 3600
        if part == "minute":
            return seconds // 60 % 60
        if not civil:
            civil.append(_civil(days))
        return civil[0][("year", "month", "day", "day_of_year").index(part)]

    return of


def _civil(days: Any) -> tuple[Any, Any, Any, Any]:
    shifted = days + 719_468
    era = shifted // 146_097
    day_of_era = shifted - era * 146_097
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    from_march = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * from_march + 2) // 153
    day = from_march - (153 * month_from_march + 2) // 5 + 1
    after_new_year = month_from_march // 10
    month = month_from_march + 3 - 12 * after_new_year
    year = year_of_era + era * 400 + after_new_year
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    day_of_year = from_march + 1 + (59 + leap) * (1 - after_new_year) - 306 * after_new_year
    return year, month, day, day_of_year
