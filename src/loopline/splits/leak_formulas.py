"""Sums, differences, products and ratios of two or three columns, screened on a few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PAIR_COLUMNS = 2_000
"""A search of all pairs of more columns takes many minutes."""
TRIPLE_COLUMNS = 60
"""Combinations of three are looked for among at most so many numeric columns."""
MIN_KNOWN = 0.25
"""Part of the screening rows on which a combination must have a value."""
COARSE = 0.02
"""A rounding step that is more of the target's spread is no rounding."""
MAX_DECIMALS = 6


def _over(a: Any, b: Any) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(b == 0.0, np.nan, a / np.where(b == 0.0, 1.0, b))


FORMULAS: dict[str, tuple[Callable[..., Floats], str]] = {
    "sum": (lambda a, b: np.asarray(a + b), "{} + {}"),
    "difference": (lambda a, b: np.asarray(a - b), "{} - {}"),
    "difference reversed": (lambda a, b: np.asarray(b - a), "{1} - {0}"),
    "product": (lambda a, b: np.asarray(a * b), "{} · {}"),
    "ratio": (_over, "{} / {}"),
    "ratio reversed": (lambda a, b: _over(b, a), "{1} / {0}"),
    "sum of three": (lambda a, b, c: np.asarray(a + b + c), "{} + {} + {}"),
    "difference ab-c": (lambda a, b, c: np.asarray(a + b - c), "{0} + {1} - {2}"),
    "difference ac-b": (lambda a, b, c: np.asarray(a + c - b), "{0} + {2} - {1}"),
    "difference bc-a": (lambda a, b, c: np.asarray(b + c - a), "{1} + {2} - {0}"),
    "difference a-bc": (lambda a, b, c: np.asarray(a - b - c), "{0} - {1} - {2}"),
    "difference b-ac": (lambda a, b, c: np.asarray(b - a - c), "{1} - {0} - {2}"),
    "difference c-ab": (lambda a, b, c: np.asarray(c - a - b), "{2} - {0} - {1}"),
    "product abc": (lambda a, b, c: np.asarray(a * b * c), "{} · {} · {}"),
    "ratio ab/c": (lambda a, b, c: _over(a * b, c), "{0} · {1} / {2}"),
    "ratio ac/b": (lambda a, b, c: _over(a * c, b), "{0} · {2} / {1}"),
    "ratio bc/a": (lambda a, b, c: _over(b * c, a), "{1} · {2} / {0}"),
    "ratio a/bc": (lambda a, b, c: _over(a, b * c), "{0} / ({1} · {2})"),
    "ratio b/ac": (lambda a, b, c: _over(b, a * c), "{1} / ({0} · {2})"),
    "ratio c/ab": (lambda a, b, c: _over(c, a * b), "{2} / ({0} · {1})"),
}
"""Kind → (the formula, how it is written). The first word of a kind is what a finding is called."""
_PAIRS = [kind for kind in FORMULAS if kind.split(" ")[-1] in
          {"sum", "difference", "product", "ratio", "reversed"}]  # fmt: skip
_TRIPLES = [kind for kind in FORMULAS if kind not in _PAIRS]


def screened(
    matrix: Floats, y: Floats, slack: float = 0.0
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Combinations that agree on nearly all of a few rows; nearly every other one stops here.

    Args:
        matrix: columns on a few rows, shape (columns, rows).
        y: the target on these rows.
        slack: how far a combination may be off everywhere.

    Yields:
        (kind, places of its columns), pairs before triples.

    >>> a, b = np.arange(1.0, 9.0), np.array([3.0, 1, 4, 1, 5, 9, 2, 6])
    >>> list(screened(np.stack([a, b]), a + b))
    [('sum', (0, 1))]
    """
    num_columns = matrix.shape[0]
    if num_columns > PAIR_COLUMNS:
        return
    for kind in _PAIRS:
        formula = FORMULAS[kind][0]
        for first in range(num_columns - 1):
            later = matrix[first + 1 :]
            for place in np.flatnonzero(_fits(formula(matrix[first], later), y, slack)):
                yield kind, (first, first + 1 + int(place))
    if num_columns > TRIPLE_COLUMNS:
        return
    for first, second in combinations(range(num_columns), 2):
        later = matrix[second + 1 :]
        if not later.size:
            continue
        for kind in _TRIPLES:
            made = FORMULAS[kind][0](matrix[first], matrix[second], later)
            for place in np.flatnonzero(_fits(made, y, slack)):
                yield kind, (first, second, second + 1 + int(place))


def _fits(values: Floats, y: Floats, slack: float) -> NDArray[np.bool_]:
    known = np.isfinite(values)
    scale = 1e-9 * max(float(np.abs(y).max()), 1e-300)
    with np.errstate(invalid="ignore"):
        same = np.abs(values - y) <= np.maximum(1e-6 * np.abs(y) + scale, slack)
    enough = known.sum(axis=-1) >= MIN_KNOWN * y.size
    return np.asarray(enough & ((same & known).sum(axis=-1) >= 0.95 * known.sum(axis=-1)))


def rounding(y: Floats) -> float:
    """Half the step that a target is rounded to; 0 where it is not, or so coarsely that much fits.

    >>> round(rounding(np.linspace(0, 100, 401).round(1)), 6), rounding(np.array([0.0, 1.0, 2.0]))
    (0.05, 0.0)
    """
    spread = float(y.std())
    for decimals in range(MAX_DECIMALS + 1):
        if np.abs(y - np.round(y, decimals)).max() <= 1e-9 * max(1.0, float(np.abs(y).max())):
            step = 10.0**-decimals
            return 0.5 * step * (1.0 + 1e-9) if step <= COARSE * spread else 0.0
    return 0.0
