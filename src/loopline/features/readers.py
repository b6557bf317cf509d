"""Reading one raw value as numbers: what single rows go through, in plain Python and numpy.

A fitted step says what it learned as a `Reading`, plain data; `open_reader` makes a function of it.
The same code answers a row wherever that is: in a training process, in a service, and in
`loopline.runtime`, where neither polars nor anything else but numpy is installed. It therefore
imports nothing else. What a reader does not know by itself it hands to `slow`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.features.calendar import (
    PERIODS,
    WAVES,
    date_micros,
    datetime_micros,
    elapsed_days,
    iso_micros,
    parts_of,
)
from loopline.features.terms import TermWeights, normalised_text

Reader = Callable[[Any], Sequence[float]]
SingleReader = Callable[[Any], float]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """What a step does to one value, as plain data.

    Args:
        kind: which reader, a key of `READERS`.
        data: JSON values; `absent` are the outputs of a missing cell, None where it is refused.
        arrays: learned arrays.
    """

    kind: str
    data: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def open_reader(reading: Reading, slow: Reader) -> Reader:
    """The function that a reading describes.

    Args:
        reading: what a step said of itself.
        slow: reads what the fast path does not, or refuses it.
    """
    return READERS[reading.kind](reading, slow)


def open_single(reading: Reading, slow: Reader) -> SingleReader:
    """`open_reader` of a reading of one output, which comes without a sequence around it."""
    read = open_reader(reading, slow)
    make = SINGLES.get(reading.kind)
    single = None if make is None else make(reading, read)
    return (lambda value: read(value)[0]) if single is None else single


def single_number(reading: Reading, read: Reader) -> SingleReader | None:
    """A number as it is; None where it is scaled."""
    if _one_number(reading) is not None:
        return None

    def read_one(value: Any) -> float:
        if type(value) is float and value - value == 0.0:
            return value
        return read(value)[0]

    return read_one


def single_level(reading: Reading, read: Reader) -> SingleReader | None:
    """The number of a level that is text; None for levels that are numbers."""
    if reading.data["by_number"]:
        return None
    numbers = reading.arrays["table"][:, 0].tolist()
    get = dict(zip(reading.data["levels"], numbers[:-2], strict=True)).get
    unseen = numbers[-2]

    def read_one(value: Any) -> float:
        return get(value, unseen) if type(value) is str else read(value)[0]

    return read_one


def number_reader(reading: Reading, slow: Reader) -> Reader:
    """A number: scaled by `center` and `scale`, or by `knots` and `scores`, or as it is."""
    absent = _absent(reading)
    two = bool(reading.data["indicator"])
    transform = _one_number(reading)

    def read(value: Any) -> Sequence[float]:
        if type(value) is not float:
            if type(value) is bool or (type(value) is int and -(2**63) <= value < 2**63):
                value = float(value)
            else:
                return slow(value)
        if value - value != 0.0 or absent is None:
            return slow(value) if absent is None else absent
        if transform is not None:
            value = transform(value)
        return (value, 0.0) if two else (value,)

    def read_or_absent(value: Any) -> Sequence[float]:
        return absent if value is None and absent is not None else read(value)

    return read_or_absent


def level_reader(reading: Reading, slow: Reader) -> Reader:
    """A category: the row of `table` at its level, then one for unseen and one for missing."""
    rows: list[tuple[float, ...]] = [tuple(row) for row in reading.arrays["table"].tolist()]
    known: dict[Any, tuple[float, ...]] = dict(zip(reading.data["levels"], rows[:-2], strict=True))
    get = known.get
    unseen, absent = rows[-2], rows[-1]
    refuse = bool(reading.data["refuse"])

    def read_text(value: Any) -> Sequence[float]:
        if type(value) is str:
            return get(value, unseen)
        return absent if value is None and not refuse else slow(value)

    def read_number(value: Any) -> Sequence[float]:
        kind = type(value)
        if kind is float or kind is bool or (kind is int and -(2**53) <= value <= 2**53):
            if value - value == 0.0:
                return get(value, unseen)
            return slow(value) if refuse else absent
        return absent if value is None and not refuse else slow(value)

    return read_number if reading.data["by_number"] else read_text


def time_reader(reading: Reading, slow: Reader) -> Reader:
    """A date or time: its `parts`, as numbers or as waves."""
    absent = _absent(reading)
    of_micros = _one_time(reading.data)

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
        return slow(value) if micros is None else of_micros(micros)

    return read


def text_reader(reading: Reading, slow: Reader) -> Reader:
    """A text: its sizes and the weights of its terms. Takes about 0.1 ms, most of it numpy's."""
    absent = _absent(reading)
    weights = TermWeights(reading.arrays["buckets"], reading.arrays["weights"])
    sizes, indicator = bool(reading.data["sizes"]), bool(reading.data["indicator"])

    def read(value: Any) -> Sequence[float]:
        if type(value) is not str:
            return absent if value is None and absent is not None else slow(value)
        words = normalised_text(value)
        if words is None:
            return slow(value)
        row: list[float] = [float(len(value)), float(len(words.split()))] if sizes else []
        row += weights.weigh([words])[0].tolist()
        if indicator:
            row.append(0.0)
        return row

    return read


SINGLES: Mapping[str, Callable[[Reading, Reader], SingleReader | None]] = {
    "number": single_number,
    "level": single_level,
}
"""What reads a step of one output faster than its reader does."""

READERS: Mapping[str, Callable[[Reading, Reader], Reader]] = {
    "number": number_reader,
    "level": level_reader,
    "time": time_reader,
    "text": text_reader,
}


def _absent(reading: Reading) -> tuple[float, ...] | None:
    given = reading.data["absent"]
    return None if given is None else tuple(given)


def _one_number(reading: Reading) -> Callable[[float], float] | None:
    if len(reading.arrays["knots"]):
        return _between_knots(reading.arrays["knots"], reading.arrays["scores"])
    center, scale = reading.data["center"], reading.data["scale"]
    if center is None or scale is None:
        return None
    return lambda x: (x - center) / scale


def _between_knots(knots: Floats, scores: Floats) -> Callable[[float], float]:
    places, heights = knots.tolist(), scores.tolist()
    slopes, last = (np.diff(scores) / np.diff(knots)).tolist(), len(places) - 2
    low, high = places[0], places[-1]

    def score(x: float) -> float:
        x = min(max(x, low), high)
        at = min(bisect_right(places, x) - 1, last)
        return float(heights[at] + (x - places[at]) * slopes[at])

    return score


def _one_time(data: Mapping[str, Any]) -> Callable[[int], list[float]]:
    parts, cyclic, indicator = tuple(data["parts"]), data["cyclic"], data["indicator"]
    origin, center, scale = data["origin"], data["center"], data["scale"]

    def of_micros(micros: int) -> list[float]:
        out: list[float] = []
        values_of = parts_of(micros)
        for part in parts:
            if part == "elapsed":
                out.append((elapsed_days(micros, origin) - center) / scale)
            elif cyclic and part in PERIODS:
                number = values_of(part)
                out += (WAVES[part][0][number], WAVES[part][1][number])
            else:
                out.append(float(values_of(part)))
        if indicator:
            out.append(0.0)
        return out

    return of_micros
