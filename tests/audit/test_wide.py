"""Wide tables are looked at in bounded time, and what stands out is still found."""

from __future__ import annotations

import numpy as np
import polars as pl

from loopline.audit.columns import column_findings
from loopline.audit.wide import LOOKED_AT, narrowed
from loopline.data.schema import Column, Schema
from loopline.splits.views import TrainView
from loopline.testing.splitters import view_of


def _wide(num_columns: int = 1_200) -> TrainView:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    values = {f"x{number}": rng.normal(size=400) for number in range(num_columns)}
    values["half"] = np.where(y == 1, rng.normal(size=400), np.nan)
    frame = pl.DataFrame(values).with_columns(pl.col("half").fill_nan(None))
    frame = frame.with_columns(
        pl.Series("word", np.where(y == 1, "a", "b")), pl.Series("late", y * 2.0), pl.Series("y", y)
    )
    types = {"word": "category"}
    columns = tuple(
        Column(name, types.get(name, "number"), "target" if name == "y" else "feature")  # type: ignore[arg-type]
        for name in frame.columns
    )
    return view_of(frame, Schema(columns, "binary", (0, 1)))


def test_a_narrow_table_stays_as_it_is() -> None:
    """Up to a thousand features all are looked at."""
    view = _wide(100)
    assert narrowed(view) is view


def test_numbers_words_and_empty_cells_that_tell_stay() -> None:
    """Of a wide table the columns most related to the target are kept."""
    kept = narrowed(_wide()).schema.features
    assert len(kept) == LOOKED_AT
    assert {"half", "word", "late"} <= set(kept)


def test_a_leak_among_many_columns_is_found() -> None:
    """Width does not hide a copy of the target."""
    leaks = {
        name
        for finding in column_findings(_wide())
        if finding.severity == "leak"
        for name in finding.columns
    }
    assert {"late", "word"} <= leaks
