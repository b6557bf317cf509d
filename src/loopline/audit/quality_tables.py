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

from loopline.audit.quality_rows import RowQuality, judged, robust_z

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


def score_rows(frame: pl.DataFrame, types: Mapping[str, str]) -> RowQuality:
    """The quality of each row of a table.

    Args:
        frame: feature columns.
        types: the type of each column, as in a schema; columns that are not named are left out.

    >>> ages = [*range(20, 80), -4]
    >>> score_rows(pl.DataFrame({"age": ages}), {"age": "number"}).of(60)
    ['impossible value']
    """
    names = [name for name in types if name in frame.columns]
    impossible = np.zeros(frame.height, dtype=bool)
    far = np.zeros(frame.height, dtype=np.int64)
    for name in names:
        if types[name] != "number" or not frame[name].dtype.is_numeric():
            continue
        values = frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        impossible |= impossible_values(name, values)
        far += far_values(values)
    found = {
        SPARSE: _sparse(frame, names),
        IMPOSSIBLE: impossible,
        FAR_OUT: far >= FEWEST_FAR,
    }
    return judged(frame.height, found, HARM)


def _sparse(frame: pl.DataFrame, names: list[str]) -> Bools:
    """Rows with far more missing cells than the others; columns without any value do not count."""
    used = [name for name in names if frame[name].null_count() < frame.height]
    if len(used) < FEWEST_CELLS:
        return np.zeros(frame.height, dtype=bool)
    missing = np.zeros(frame.height)
    for name in used:
        gone = frame[name].is_null()
        if frame[name].dtype.is_float():
            gone = gone | frame[name].is_nan().fill_null(value=True)
        missing += gone.to_numpy()
    share = missing / len(used)
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
    distinct = np.unique(values[known])
    if known.sum() < FEWEST_ROWS or distinct.size < 10:
        return np.zeros(values.size, dtype=bool)
    middle = float(np.median(values[known]))
    # A signed log tames honest long tails (incomes, counts); far there too means far indeed.
    scale = max(float(np.median(np.abs(values[known] - middle))), 1e-300)
    with np.errstate(over="ignore"):
        bent = np.sign(values - middle) * np.log1p(np.abs(values - middle) / scale)
    far = (np.abs(robust_z(values)) > FAR) & (np.abs(robust_z(bent)) > FAR / 2)
    return np.asarray(far & known)
