"""Rows that cannot be right: almost empty, with impossible values, or far out in several columns.

What a column may hold is read from its name *and* from its other values: an age below zero is
impossible only where nearly all ages are at least zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.audit.quality_rows import (
    RowQuality,
    column_of,
    columns_of,
    judged,
    robust_z,
)
from loopline.cores import in_threads
from loopline.splits.views import TrainView

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
SPARSE, IMPOSSIBLE, FAR_OUT = "almost empty", "impossible value", "far out in several columns"
HARM = {SPARSE: 0.6, IMPOSSIBLE: 0.5, FAR_OUT: 0.3}
SPARSE_SHARE = 0.5
"""Share of a row's cells that are missing, at least, in an almost empty row."""
SPARSE_ABOVE = 0.3
"""How far above the middle row's share of missing cells that must be."""
FEWEST_CELLS = 4
NEARLY_ALL = 0.98
FAR = 10.0
FEWEST_FAR = 2
FEWEST_ROWS = 30
FEWEST_VALUES = 10
FIRST = 10_000
SPREAD_ROWS = 100_000
NEVER_NEGATIVE = re.compile(
    r"(?:^|[^a-z])(?:age|years?|hours?|minutes?|seconds?|duration|tenure|count|number|num|weight|"
    r"height|length|width|area|distance|price|fare|population|rooms?|bedrooms|quantity|qty|size)"
    r"(?:$|[^a-z])"
)
SHARES = re.compile(
    r"(?:^|[^a-z])(?:share|percent|percentage|pct|probability|prob|proportion|fraction|humidity)"
    r"(?:$|[^a-z])"
)
WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
OLDEST = 130.0


def score_rows(frame: pl.DataFrame | TrainView, types: Mapping[str, str]) -> RowQuality:
    """The quality of each row of a table.

    Args:
        frame: feature columns, or a view, whose columns are gathered one by one.
        types: the type of each column, as in a schema; columns that are not named are left out.

    >>> ages = [*range(20, 80), -4]
    >>> score_rows(pl.DataFrame({"age": ages}), {"age": "number"}).of(60)
    ['impossible value']
    """
    known = set(columns_of(frame))
    num_rows, used = len(frame), 0
    missing = np.zeros(num_rows, dtype=np.int32)
    impossible = np.zeros(num_rows, dtype=bool)
    far = np.zeros(num_rows, dtype=np.int32)

    def look(name: str) -> tuple[Bools | None, Bools | None, Bools | None]:
        values = column_of(frame, name)
        gone = _missing(values) if values.null_count() < num_rows else None
        if types[name] != "number" or not values.dtype.is_numeric():
            return gone, None, None
        numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return gone, impossible_values(name, numbers), far_values(numbers)

    for gone, strange, away in in_threads(look, [name for name in types if name in known]):
        if gone is not None:
            used += 1
            missing += gone
        if strange is not None and away is not None:
            impossible |= strange
            far += away
    found = {
        SPARSE: _sparse(missing, used),
        IMPOSSIBLE: impossible,
        FAR_OUT: far >= FEWEST_FAR,
    }
    return judged(num_rows, found, HARM)


def _missing(values: pl.Series) -> Bools:
    gone = values.is_null()
    if values.dtype.is_float():
        gone = gone | values.is_nan().fill_null(value=True)
    return gone.to_numpy()


def _sparse(missing: NDArray[np.int32], used: int) -> Bools:
    """Rows with far more missing cells than the others, of the columns that hold any value."""
    if used < FEWEST_CELLS:
        return np.zeros(missing.size, dtype=bool)
    share = missing / used
    usual = float(np.median(share))
    return np.asarray((share >= SPARSE_SHARE) & (share >= usual + SPARSE_ABOVE))


def impossible_values(name: str, values: Floats) -> Bools:
    """Values that a column of this name cannot have, where nearly all others keep the rule.

    >>> impossible_values("sharePaid", np.array([0.1] * 99 + [1.7])).sum()
    np.int64(1)
    """
    plain = WORD_START.sub("_", name).lower()
    known = np.isfinite(values)
    strange = np.isinf(values)
    if known.sum() < FEWEST_ROWS:
        return strange
    rules = []
    if NEVER_NEGATIVE.search(plain):
        rules.append(values < 0)
        if re.search(r"(?:^|[^a-z])age(?:$|[^a-z])", plain):
            middle = float(np.median(values[known]))
            rules.append(values > OLDEST if 0 < middle < 100 else np.zeros_like(strange))
    if SHARES.search(plain):
        inside = values[known]
        top = 1.0 if np.mean((inside >= 0) & (inside <= 1)) >= NEARLY_ALL else 100.0
        rules.append((values < 0) | (values > top))
    for rule in rules:
        broken = rule & known
        if broken.sum() <= (1.0 - NEARLY_ALL) * known.sum():
            strange |= broken
    return strange


def far_values(values: Floats) -> Bools:
    """Values far from all others, on the plain scale and, where all are positive, on the log's.

    >>> far_values(np.append(np.arange(100.0), 1e9)).sum()
    np.int64(1)
    """
    known = np.isfinite(values)
    if known.sum() < FEWEST_ROWS or _few_values(values[known]):
        return np.zeros(values.size, dtype=bool)
    if not _any_far(values[known]):
        return np.zeros(values.size, dtype=bool)
    far = np.abs(robust_z(values)) > FAR
    middle = float(np.median(values[known]))
    # A signed log tames honest long tails (incomes, counts); far there too means far indeed.
    scale = max(float(np.median(np.abs(values[known] - middle))), 1e-300)
    with np.errstate(over="ignore"):
        bent = np.sign(values - middle) * np.log1p(np.abs(values - middle) / scale)
    return np.asarray(far & (np.abs(robust_z(bent)) > FAR / 2) & known)


def _any_far(values: Floats) -> bool:
    """Whether any value may be far: of many rows a part tells the spread, with room to spare."""
    if values.size <= 2 * SPREAD_ROWS:
        return True
    part = values[:: values.size // SPREAD_ROWS]
    middle = float(np.median(part))
    spread = 1.4826 * float(np.median(np.abs(part - middle)))
    reach = max(float(values.max()) - middle, middle - float(values.min()))
    return spread == 0.0 or reach > 0.8 * FAR * spread


def _few_values(values: Floats) -> bool:
    """Whether there are fewer than ten different values; of many the first may settle it."""
    return bool(
        np.unique(values[:FIRST]).size < FEWEST_VALUES and np.unique(values).size < FEWEST_VALUES
    )
