"""Cells that are not plain: numbers as text, dates for times, 0 and 1 for truth values.

The input contract reads these as a table of one row, with polars. Here the same answers are given
for those of them that can be told for certain; the rest is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from loopline.features.calendar import EPOCH, iso_micros
from loopline.features.cells import BOOLEANS, UnreadError

_BLANKS = " \t\n\r\v\f"
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SHIFTED = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})"
)


def unusual_cell(kind: str, value: Any) -> Any:
    """A cell that the fast path left, in its training type; None for missing.

    Raises:
        UnreadError: it is none, or cannot be told for certain.

    >>> unusual_cell("integer", " 25 "), unusual_cell("boolean", "TRUE"), unusual_cell("text", 7)
    (25, True, '7')
    """
    return None if value is None else _KINDS[kind](value)


def _number(value: Any) -> Any:
    if type(value) is str:
        text = value.strip(_BLANKS)
        if _NUMBER.fullmatch(text) is None:
            raise UnreadError
        value = float(text)
    if type(value) is float:
        return value if math.isfinite(value) else None
    if type(value) is bool or (type(value) is int and -(2**63) <= value < 2**63):
        return float(value)
    raise UnreadError


def _integer(value: Any) -> Any:
    number = _number(value)
    if number is None or not number.is_integer() or abs(number) >= 2**53:
        return number
    return int(number)


def _boolean(value: Any) -> Any:
    if type(value) is str:
        spelt = value.strip(_BLANKS).lower()
        if spelt in BOOLEANS:
            return BOOLEANS[spelt]
    elif type(value) in (int, float) and value in (0, 1):
        return bool(value)
    elif type(value) is float and math.isnan(value):
        return None
    raise UnreadError


def _text(value: Any) -> Any:
    if type(value) is bool:
        return str(value).lower()
    if type(value) is int and -(2**63) <= value < 2**63:
        return str(value)
    if type(value) is date:
        return value.isoformat()
    raise UnreadError


def _time(value: Any) -> Any:
    if type(value) is str:
        text = value.strip(_BLANKS)
        micros = iso_micros(text)
        if micros is not None:
            return EPOCH + timedelta(microseconds=micros)
        if _SHIFTED.fullmatch(text) is None:
            raise UnreadError
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            raise UnreadError from None
    if type(value) is datetime:
        return value if value.tzinfo is None else _in_utc(value)
    if type(value) is date:
        return datetime(value.year, value.month, value.day)
    raise UnreadError


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        raise UnreadError from None


def _day(value: Any) -> Any:
    return _time(value).date()


def _image(value: Any) -> Any:
    del value
    raise UnreadError


_KINDS: Mapping[str, Callable[[Any], Any]] = {
    "integer": _integer,
    "float": _number,
    "seconds": _number,
    "boolean": _boolean,
    "text": _text,
    "date": _day,
    "datetime": _time,
    "image": _image,
}
