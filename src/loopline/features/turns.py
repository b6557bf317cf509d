"""Units that columns are mistaken for, and how to turn them back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

FACTORS = {
    "times 1,000": 1000.0, "times 100": 100.0, "times 10": 10.0, "divided by 10": 0.1,
    "divided by 100": 0.01, "divided by 1,000": 0.001, "times 60": 60.0, "divided by 60": 1 / 60,
    "times 3,600": 3600.0, "divided by 3,600": 1 / 3600, "in centimetres for inches": 2.54,
    "in inches for centimetres": 1 / 2.54, "in pounds for kilograms": 2.2046,
    "in kilograms for pounds": 1 / 2.2046, "in kilometres for miles": 1.6093,
    "in miles for kilometres": 1 / 1.6093,
}  # fmt: skip

Turn = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _divided(factor: float) -> Turn:
    return lambda values: values / factor


TURNS: Mapping[str, Turn] = {
    **{words: _divided(factor) for words, factor in FACTORS.items()},
    "in degrees Fahrenheit for Celsius": lambda values: (values - 32) / 1.8,
    "in degrees Celsius for Fahrenheit": lambda values: values * 1.8 + 32,
}
"""Words for the unit that values seem to be in, and what makes them right again."""
