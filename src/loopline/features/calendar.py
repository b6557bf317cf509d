"""Dates and times in plain whole-number arithmetic, alike for arrays and for single integers.

Parts are computed as in Howard Hinnant, "chrono-compatible low-level date algorithms":
civil_from_days. Needs the standard library alone, so that single rows are read without tables.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

EPOCH = datetime(1970, 1, 1)
"""Where a table's wall-clock times are counted from."""
MICROSECOND = timedelta(microseconds=1)
DAY_MICROS = 86_400_000_000


PERIODS = {"month": 12, "day": 31, "weekday": 7, "hour": 24, "minute": 60, "day_of_year": 366}
"""The repeating parts and their lengths."""

_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{3}(?:[0-9]{3})?)?)?)?"
)
WAVES = {
    name: tuple(
        # Twelve digits, so that no machine's mathematics library can make a difference.
        [round(wave(2 * math.pi * k / period), 12) + 0.0 for k in range(period + 1)]
        for wave in (math.sin, math.cos)
    )
    for name, period in PERIODS.items()
}
"""Sine and cosine of each value of a repeating part."""


def iso_micros(text: str) -> int | None:
    """Microseconds since 1970 of plain ISO text without a zone, None for any other text.

    >>> iso_micros("1970-01-02")
    86400000000
    """
    if _ISO.fullmatch(text) is None:
        return None
    try:
        return datetime_micros(datetime.fromisoformat(text))
    except ValueError:
        return None


def datetime_micros(value: datetime) -> int:
    """Microseconds since 1970 of a datetime without a zone."""
    return (value - EPOCH) // MICROSECOND


def date_micros(value: date) -> int:
    """Microseconds since 1970 of a date's midnight."""
    return (value.toordinal() - 719_163) * DAY_MICROS


def elapsed_days(micros: Any, origin: int) -> Any:
    """Days since `origin`, of microseconds as an array or one integer."""
    return (micros - origin) / float(DAY_MICROS)


def parts_of(micros: Any) -> Callable[[str], Any]:
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
