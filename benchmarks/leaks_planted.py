"""What planting a leak gives: the table to audit, and what is true of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from leaks_tables import Base

Rng = np.random.Generator
Strength = tuple[str, Any]


@dataclass(frozen=True)
class Planted:
    """A table with a leak.

    Args:
        frame: what is audited.
        clean: the same rows as they are once repaired: without the leaking columns.
        test: rows of the same source that nothing was planted into, columns as in `clean`.
        checks: kinds of finding that name this leak.
        columns: a finding must name one of these; empty where it is about rows.
        units: rows that belong together, shape (rows of `clean`,); each row alone when None.
        series: further series of the same making, in order of time, where a repaired score means
            the later by the earlier; their mean is the truth, because one future is not.
        split: what is decided about the split beforehand.
        noise: share of wrong labels that was planted.
        priced_by: kinds of finding whose price can be held against the truth; all when None.
    """

    frame: pl.DataFrame
    clean: pl.DataFrame
    test: pl.DataFrame
    checks: frozenset[str]
    columns: frozenset[str] = frozenset()
    units: np.ndarray | None = None
    series: tuple[pl.DataFrame, ...] = ()
    split: Mapping[str, Any] = field(default_factory=dict)
    noise: float | None = None
    priced_by: frozenset[str] | None = None


Plant = Callable[[Base, pl.DataFrame, pl.DataFrame, Any, Rng], Planted | None]


@dataclass(frozen=True)
class LeakType:
    """One kind of leak.

    Args:
        name: in words.
        number: in the usual list of forty kinds (Kapoor and Narayanan 2023 and others).
        plant: plants it: (base, rows to plant into, untouched rows, strength, random) → `Planted`.
        bases: gives the tables.
        strengths: (in words, value).
        num_rows: rows to plant into.
        counted: whether it counts in the recall. What no column and no value can show is planted
            and told all the same, beside the others.
    """

    name: str
    number: int
    plant: Plant
    bases: Callable[[], Sequence[Base]]
    strengths: Sequence[Strength]
    num_rows: int = 1_500
    counted: bool = True


def positive(frame: pl.DataFrame, base: Base) -> np.ndarray:
    """Which rows are of the rarer of two classes (regression: above the median)."""
    values = frame[base.target]
    if base.task == "regression":
        return (values > values.median()).to_numpy()
    rarest = base.frame[base.target].value_counts().sort("count", base.target)[base.target][0]
    return (values == rarest).to_numpy()


def with_column(frame: pl.DataFrame, name: str, values: Any) -> pl.DataFrame:
    """A frame with one more column, at a place in the middle."""
    middle = frame.width // 2
    series = values.alias(name) if isinstance(values, pl.Series) else pl.Series(name, values)
    return frame.insert_column(middle, series) if name not in frame.columns else frame


def measured(frame: pl.DataFrame, base: Base) -> list[str]:
    """Features that are numbers with many values."""
    return [
        name
        for name in base.features
        if frame[name].dtype.is_numeric() and frame[name].n_unique() > 20
    ]
