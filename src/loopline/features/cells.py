"""One raw cell in its training type: the input contract's way with single rows.

A reader takes the plain values that JSON gives and dates of Python; whatever else comes it leaves
to others by raising `UnreadError`: the contract reads it as a table of one row. Needs the standard
library alone.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any, Literal

from loopline.features.calendar import EPOCH, iso_micros

Kind = Literal["integer", "float", "boolean", "text", "date", "datetime", "seconds", "image"]
CellReader = Callable[[Any], Any]

BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
"""How truth values may be spelt, in small letters without blanks around them."""
WANTED = {
    "integer": "a number",
    "float": "a number",
    "seconds": "a number of seconds",
    "boolean": "true or false",
    "text": "text",
    "date": "an ISO 8601 date such as 2024-05-31",
    "datetime": "an ISO 8601 date or time such as 2024-05-31T13:45:00",
    "image": "the bytes of an image file",
}
"""What a cell of each kind must hold, in words."""


class UnreadError(Exception):
    """A cell that the fast path leaves to others."""


def cell_reader(kind: Kind, zone: str | None, *, none_allowed: bool) -> CellReader:
    """A function from one cell to its training type.

    Args:
        kind: how training stored the column's cells.
        zone: the time zone of a column that had one; its cells are left to others.
        none_allowed: whether a cell may be missing.
    """

    def none(value: Any) -> None:
        if value is not None or not none_allowed:
            raise UnreadError

    def number(value: Any) -> Any:
        given = type(value)
        if given is float:
            return value if value - value == 0.0 else none(None)
        if given is int and -(2**53) < value < 2**53:
            return float(value)
        return none(value)

    def integer(value: Any) -> Any:
        given = type(value)
        if given is int and -(2**63) <= value < 2**63:
            return value
        if given is float and value - value == 0.0:
            return int(value) if value.is_integer() and abs(value) < 2**53 else value
        return none(value)

    def boolean(value: Any) -> Any:
        return value if type(value) is bool else none(value)

    def text(value: Any) -> Any:
        return value if type(value) is str else none(value)

    def day(value: Any) -> Any:
        if type(value) is str and len(value) == 10 and iso_micros(value) is not None:
            return date.fromisoformat(value)
        return value if type(value) is date else none(value)

    def time(value: Any) -> Any:
        if type(value) is str:
            micros = iso_micros(value)
            if micros is not None:
                return EPOCH + timedelta(microseconds=micros)
        elif type(value) is datetime and value.tzinfo is None:
            return value
        return none(value)

    def zoned(value: Any) -> Any:
        return none(value)

    def image(value: Any) -> Any:
        from loopline.data.pixels import decodes

        if type(value) is bytes and decodes(value):
            return value
        return none(value if type(value) is not bytes else 0)

    if kind == "datetime":
        return zoned if zone else time
    readers: dict[str, CellReader] = {
        "integer": integer,
        "float": number,
        "seconds": number,
        "boolean": boolean,
        "text": text,
        "date": day,
        "image": image,
    }
    return readers[kind]
