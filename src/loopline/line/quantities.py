"""Quantities as people write them in settings: "5 ms", "10m", "150 MB", "1000/s", "2 J"."""

from __future__ import annotations

import re
from typing import Any

_SECONDS = {
    **{"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0},
    **{"m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0},
}
_PARTS = re.compile(r"(?:\d+(?:\.\d+)?\s*[dhms]\s*){2,}")
_BYTES = {
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("kMGT", 1)},
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)},
    "KB": 1000,
}
_RATES = {"/s": 1.0, "/min": 1 / 60, "rows/s": 1.0}
_JOULES = {"mJ": 1e-3, "J": 1.0, "kJ": 1e3}
_FORM = re.compile(r"\s*([0-9][0-9_,]*(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)\s*([^\d\s].*?)?\s*")


def read_duration(value: Any) -> Any:
    """Seconds from a number of seconds or a text such as "5ms", "90s", "10m", "2h".

    >>> read_duration("10m"), read_duration("5 ms"), read_duration("1h30m"), read_duration(3)
    (600.0, 0.005, 5400.0, 3)
    """
    if isinstance(value, str) and _PARTS.fullmatch(value.strip()):
        parts = re.findall(r"(\d+(?:\.\d+)?)\s*([dhms])", value)
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return _read(value, _SECONDS, "a time such as 5ms, 30s, 10m or 2h")


def read_bytes(value: Any) -> Any:
    """Bytes from a number or a text such as "150MB" or "2 GiB".

    >>> read_bytes("150MB"), read_bytes("1 KiB")
    (150000000.0, 1024.0)
    """
    return _read(value, _BYTES, "a size such as 500kB, 150MB or 2GiB")


def read_rate(value: Any) -> Any:
    """Rows a second from a number or a text such as "1000/s".

    >>> read_rate("1_000/s")
    1000.0
    """
    return _read(value, _RATES, "a rate such as 1000/s")


def read_energy(value: Any) -> Any:
    """Joules from a number or a text such as "5J".

    >>> read_energy("20 mJ")
    0.02
    """
    return _read(value, _JOULES, "an energy such as 20mJ or 5J")


def read_floor(value: Any) -> Any:
    """A share from a number or a text such as ">= 0.90".

    >>> read_floor(">= 0.90"), read_floor(0.9), read_floor("95 %")
    (0.9, 0.9, 0.95)
    """
    if not isinstance(value, str):
        return value
    text = value.strip().removeprefix(">=").strip()
    share = text.removesuffix("%").strip()
    try:
        number = float(share)
    except ValueError:
        raise ValueError(f"must be a share such as 0.9 or '>= 0.90', got {value!r}") from None
    return number / 100 if text.endswith("%") else number


def _read(value: Any, units: dict[str, float], what: str) -> Any:
    if not isinstance(value, str):
        return value
    found = _FORM.fullmatch(value)
    unit = "" if found is None else (found[2] or "")
    if found is None or (unit and unit not in units):
        raise ValueError(f"must be {what}, got {value!r}")
    number = float(found[1].replace(",", "").replace("_", ""))
    return round(number * units.get(unit, 1.0), 12)
