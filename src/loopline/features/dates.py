"""Dates and times: calendar parts and elapsed days, those that vary in training.

Trees get the parts as they are (2024, 5, 31, …). Linear models get the repeating ones as a sine and
a cosine, so that December lies next to January, and the elapsed days standardised.
`loopline.features.calendar` computes the parts, for arrays and for plain integers alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.errors import DataError
from loopline.features.base import NAN, Floats, Output, Step, refuse_missing
from loopline.features.calendar import PERIODS, WAVES, elapsed_days, iso_micros, parts_of
from loopline.features.readers import Reading
from loopline.features.reading import as_micros

TREE_PARTS = ("year", "month", "day", "weekday", "hour", "minute", "day_of_year", "elapsed")
LINEAR_PARTS = ("month", "day", "weekday", "hour", "minute", "elapsed")


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
        values_of = parts_of(micros)
        for part in self.parts:
            if part == "elapsed":
                out[:, place] = (elapsed_days(micros, self.origin) - self.center) / self.scale
            elif self.cyclic and part in PERIODS:
                number = values_of(part)
                sines, cosines = WAVES[part]
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

    def reading(self) -> Reading:
        """See `Step.reading`."""
        data = {
            "parts": list(self.parts),
            "cyclic": self.cyclic,
            "origin": self.origin,
            "center": self.center,
            "scale": self.scale,
            "indicator": self.indicator,
            "absent": None if self.refuse else self.one_by_table(None),
        }
        return Reading("time", data)


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
    values_of = parts_of(known)
    parts = tuple(
        part
        for part in (LINEAR_PARTS if linear else TREE_PARTS)
        if len(np.unique(known if part == "elapsed" else values_of(part))) > 1
    )
    center, scale = 0.0, 1.0
    if linear and "elapsed" in parts:
        days = elapsed_days(known, origin)
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
