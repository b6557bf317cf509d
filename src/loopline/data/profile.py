"""What is in a table, column by column: type, missing cells, distinct values, range."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

MAX_SHOWN = 4


@dataclass(frozen=True)
class ColumnProfile:
    """One column at a glance.

    Args:
        name: the column.
        dtype: its type in the table.
        num_missing: missing cells.
        num_distinct: distinct values, missing not counted.
        values: its range, or its most frequent values, in a few words.
    """

    name: str
    dtype: str
    num_missing: int
    num_distinct: int
    values: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def profile(frame: pl.DataFrame) -> list[ColumnProfile]:
    """Look at every column of a table.

    >>> [(c.name, c.num_missing, c.values) for c in profile(pl.DataFrame({"a": [1, None, 3]}))]
    [('a', 1, '1 … 3')]
    """
    return [_column(frame[name]) for name in frame.columns]


def _column(series: pl.Series) -> ColumnProfile:
    present = series.drop_nulls()
    nested = series.dtype.is_nested()
    return ColumnProfile(
        name=series.name,
        dtype=str(series.dtype),
        num_missing=series.null_count(),
        num_distinct=0 if nested else present.n_unique(),
        values="" if nested or present.is_empty() else _values(present),
    )


def _values(present: pl.Series) -> str:
    if present.dtype == pl.Binary():
        sizes = present.bin.size().to_list()
        return f"files of {min(sizes):,} … {max(sizes):,} bytes"
    if present.dtype.is_numeric() or present.dtype.is_temporal():
        low, high = present.min(), present.max()
        return f"{_short(low)} … {_short(high)}" if low != high else _short(low)
    counts = (
        present.value_counts()
        .sort(["count", present.name], descending=[True, False])
        .head(MAX_SHOWN)
    )
    shown = ", ".join(_short(value) for value in counts[present.name])
    return shown + (", …" if present.n_unique() > MAX_SHOWN else "")


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else text[:23] + "…"
