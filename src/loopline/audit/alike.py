"""How much more alike rows of one value are than rows of different values, column by column.

Numbers are compared by the intraclass correlation of their ranks (Shrout and Fleiss 1979, the
one-way form ICC(1)), words by chance-corrected agreement (the pairs of one value that agree, beyond
all pairs that agree). Both are 1 for a column that is constant within each value, about 0 where the
value says nothing, and need no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MIN_FILLED = 0.5
"""A column takes part when so many of its cells are filled in."""


@dataclass(frozen=True, eq=False)
class Columns:
    """Columns ready to be compared within groups.

    Args:
        numbers: names of the number columns.
        ranks: their ranks, scaled to 0..1, shape (rows, numbers).
        words: names of the other columns.
        codes: their values as codes, one array of shape (rows,) each.
    """

    numbers: tuple[str, ...]
    ranks: Floats
    words: tuple[str, ...]
    codes: tuple[Ints, ...]

    @staticmethod
    def read(frame: pl.DataFrame, names: Sequence[str]) -> Columns:
        """Take the columns that can be compared: filled in for the greater part, not constant."""
        numbers, ranks, words, codes = [], [], [], []
        for name in names:
            series = frame[name]
            if series.dtype.is_nested() or series.dtype in (pl.Binary(), pl.Object()):
                continue
            if series.null_count() > (1.0 - MIN_FILLED) * series.len() or series.n_unique() < 2:
                continue
            if series.dtype.is_numeric() or series.dtype.is_temporal():
                numbers.append(name)
                ranks.append(_ranks(series))
            else:
                words.append(name)
                codes.append(value_codes(series))
        table = np.stack(ranks, axis=1) if ranks else np.zeros((frame.height, 0))
        return Columns(tuple(numbers), table, tuple(words), tuple(codes))

    def only(self, rows: NDArray[np.int64]) -> Columns:
        """The same columns on some rows."""
        return Columns(
            self.numbers, self.ranks[rows], self.words, tuple(code[rows] for code in self.codes)
        )


def _ranks(series: pl.Series) -> Floats:
    ranks = series.rank("average").cast(pl.Float64)
    middle = 0.5 * (series.len() - series.null_count() + 1)
    return np.asarray(ranks.fill_null(middle).to_numpy() / max(1, series.len()))


def value_codes(series: pl.Series) -> Ints:
    """Equal values, equal codes, numbered by first appearance; empty cells count as one value.

    >>> value_codes(pl.Series(["b", "a", None, "b"]))
    array([0, 1, 2, 0])
    """
    first = pl.DataFrame({"v": series}).with_row_index("i")
    found = first.select(pl.col("i").first().over("v"))["i"].to_numpy()
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def alikeness(groups: Ints, columns: Columns) -> dict[str, float]:
    """How alike rows of one group are in each column, about 0 (not at all) to 1 (constant).

    Args:
        groups: code of the group of each row, shape (rows,).
        columns: what is compared.

    >>> frame = pl.DataFrame({"age": [30, 30, 51, 51], "city": ["A", "A", "B", "B"]})
    >>> alikeness(np.array([0, 0, 1, 1]), Columns.read(frame, ["age", "city"]))
    {'age': 1.0, 'city': 1.0}
    """
    order = np.argsort(groups, kind="stable")
    codes = groups[order]
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    sizes = np.diff(np.r_[starts, codes.size]).astype(np.float64)
    result: dict[str, float] = {}
    if columns.numbers:
        for name, value in zip(
            columns.numbers, _icc(columns.ranks[order], starts, sizes), strict=True
        ):
            result[name] = float(value)
    for name, values in zip(columns.words, columns.codes, strict=True):
        result[name] = _agreement(groups, sizes, values)
    return result


def _icc(values: Floats, starts: Ints, sizes: Floats) -> Floats:
    num_rows, num_groups = float(sizes.sum()), sizes.size
    if num_groups < 2 or num_rows <= num_groups:
        return np.zeros(values.shape[1])
    centred = values - values.mean(axis=0)
    sums = np.add.reduceat(centred, starts, axis=0)
    between = (sums**2 / sizes[:, None]).sum(axis=0)
    within = np.maximum((centred**2).sum(axis=0) - between, 0.0)
    mean_between = between / (num_groups - 1)
    mean_within = within / (num_rows - num_groups)
    usual = (num_rows - (sizes**2).sum() / num_rows) / (num_groups - 1)
    scale = mean_between + (usual - 1.0) * mean_within
    found = np.divide(mean_between - mean_within, scale, out=np.zeros_like(scale), where=scale > 0)
    return np.asarray(np.round(found, 12))


def _agreement(groups: Ints, sizes: Floats, values: Ints) -> float:
    _, cells = np.unique(groups * (int(values.max()) + 1) + values, return_counts=True)
    counts = np.bincount(values).astype(np.float64)
    total = float(sizes.sum())
    pairs = float((sizes * (sizes - 1)).sum())
    if pairs <= 0 or total < 2:
        return 0.0
    within = float((cells * (cells - 1.0)).sum()) / pairs
    overall = float((counts * (counts - 1)).sum()) / (total * (total - 1))
    return round((within - overall) / (1 - overall), 12) if overall < 1 else 0.0
