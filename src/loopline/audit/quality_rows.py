"""What a check of quality says of rows: a score from 0 to 1 each, and the reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.splits.views import TrainView

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def column_of(rows: pl.DataFrame | TrainView, name: str) -> pl.Series:
    """One column of a table, or of a view, which gathers it now.

    >>> column_of(pl.DataFrame({"a": [1, 2]}), "a").to_list()
    [1, 2]
    """
    return rows[name] if isinstance(rows, pl.DataFrame) else rows.column(name)


def columns_of(rows: pl.DataFrame | TrainView) -> list[str]:
    """The columns that can be asked for: those of a table, the features of a view.

    >>> columns_of(pl.DataFrame({"a": [1, 2]}))
    ['a']
    """
    return rows.columns if isinstance(rows, pl.DataFrame) else list(rows.schema.features)


@dataclass(frozen=True, eq=False)
class RowQuality:
    """How good each row is, and why not better.

    Args:
        score: 1 = nothing found, 0 = useless; shape (rows,).
        reasons: for each reason the rows it holds for; reasons without rows are left out.
        skipped: why a reason could not be looked for, as sentences.
    """

    score: Floats
    reasons: Mapping[str, Bools]
    skipped: tuple[str, ...] = ()

    @property
    def poor(self) -> Bools:
        """Rows with a reason, shape (rows,)."""
        return self.score < 1.0

    def worst(self, number: int) -> NDArray[np.int64]:
        """The poorest rows, poorest first; equal scores in the order of the table."""
        order = np.lexsort((np.arange(self.score.size), self.score))[:number]
        return np.asarray(order[self.score[order] < 1.0], dtype=np.int64)

    def of(self, row: int) -> list[str]:
        """The reasons of one row."""
        return [reason for reason, where in self.reasons.items() if where[row]]


def judged(
    num_rows: int,
    found: Mapping[str, Bools],
    harm: Mapping[str, float],
    skipped: tuple[str, ...] = (),
) -> RowQuality:
    """Scores from reasons: what is left after each reason took its share.

    Args:
        num_rows: number of rows.
        found: rows of each reason.
        harm: share of a row's worth that a reason takes, 0 to 1.
        skipped: reasons that could not be looked for.

    >>> found = {"empty": np.array([True, False]), "long": np.array([False, True])}
    >>> judged(2, found, {"empty": 1.0, "long": 0.4}).score
    array([0. , 0.6])
    """
    score = np.ones(num_rows)
    for reason, where in found.items():
        score[where] *= 1.0 - harm[reason]
    kept = {reason: where for reason, where in found.items() if where.any()}
    return RowQuality(score, kept, skipped)


def robust_z(values: Floats, *, floor: float = 0.0) -> Floats:
    """Distance from the median in robust standard deviations; NaN stays, 0 where nothing varies.

    The deviation is 1.4826 times the median absolute deviation, which is the standard deviation of
    a normal variable; where more than half of the values are equal, the mean absolute deviation
    times 1.2533 stands in (Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993).

    >>> robust_z(np.array([1.0, 2.0, 3.0, 4.0, 100.0])).round(1)
    array([-1.3, -0.7,  0. ,  0.7, 65.4])
    """
    known = np.isfinite(values)
    z = np.full(values.shape, np.nan)
    if not known.any():
        return z
    middle = float(np.median(values[known]))
    away = np.abs(values[known] - middle)
    spread = max(1.4826 * float(np.median(away)), floor)
    if spread == 0.0:
        spread = 1.2533 * float(away.mean())
    z[known] = 0.0 if spread == 0.0 else (values[known] - middle) / spread
    return z
