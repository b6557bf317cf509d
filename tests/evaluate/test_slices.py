"""Slices: which rows they hold, what they are called, and how many tests of them are paid for."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.errors import DataError
from loopline.evaluate.slices import Slice, holm, slices_of


def rows_by_title(found: list[Slice]) -> dict[str, list[int]]:
    return {part.title: part.rows.tolist() for part in found}


def test_a_category_gives_one_slice_a_level_and_one_of_missing_cells() -> None:
    """Levels and empty cells are slices; a level with too few rows is not."""
    frame = pl.DataFrame({"c": ["a", "b", None, "a", "b", None, "z"]})
    found = rows_by_title(slices_of(frame, {"c": "category"}, fewest_rows=2))
    assert found == {"c = 'a'": [0, 3], "c = 'b'": [1, 4], "c is missing": [2, 5]}


def test_a_number_gives_quarters_with_equal_values_together() -> None:
    """Eight values in quarters of two; NaN cells are missing ones."""
    frame = pl.DataFrame({"x": [1.0, 2, 3, 4, 5, 6, 7, 8, float("nan"), float("nan")]})
    found = rows_by_title(slices_of(frame, {"x": "number"}, fewest_rows=2))
    assert found == {
        "x <= 2": [0, 1],
        "2 < x <= 4": [2, 3],
        "4 < x <= 6": [4, 5],
        "x > 6": [6, 7],
        "x is missing": [8, 9],
    }


def test_a_number_with_few_values_gives_these_values() -> None:
    """Grades are not cut into quarters that would tear equal values apart or leave one empty."""
    frame = pl.DataFrame({"x": [1] * 9 + [2, 2, 3, 3]})
    found = rows_by_title(slices_of(frame, {"x": "number"}, fewest_rows=1))
    assert [len(rows) for rows in found.values()] == [9, 2, 2]


def test_times_are_told_as_times() -> None:
    """A quarter of a time column is named by its dates, not by microseconds."""
    days = [dt.datetime(2026, 1, day) for day in range(1, 9)]
    found = slices_of(pl.DataFrame({"t": days}), {"t": "datetime"}, fewest_rows=2)
    assert found[0].title == "t <= 2026-01-02 00:00:00"


def test_constant_columns_texts_and_names_give_no_slice() -> None:
    """A slice of all rows says nothing, nor does one of a single text or name."""
    frame = pl.DataFrame(
        {"k": [1] * 2000, "t": ["some text"] * 2000, "n": [f"name {i}" for i in range(2000)]}
    )
    assert slices_of(frame, {"k": "number", "t": "text", "n": "category"}, fewest_rows=1) == []


def test_a_column_without_a_type_is_refused() -> None:
    """Cutting by guesswork is not done."""
    with pytest.raises(DataError, match="No type is known of the columns x"):
        slices_of(pl.DataFrame({"x": [1]}), {})


@given(st.lists(st.integers(-5, 5) | st.none(), min_size=1, max_size=60))
def test_the_slices_of_a_column_are_disjoint(values: list[int | None]) -> None:
    """No row stands in two slices of one column, and none is lost when all sizes are allowed."""
    frame = pl.DataFrame({"x": values}, schema={"x": pl.Int64})
    found = slices_of(frame, {"x": "number"}, fewest_rows=1)
    rows = [row for part in found for row in part.rows.tolist()]
    assert len(rows) == len(set(rows))
    if len({value for value in values if value is not None}) > 1:
        assert sorted(rows) == list(range(len(values)))


def test_holm_by_hand() -> None:
    """0.01 of three costs 0.03, 0.02 costs 0.04, 0.9 stays; order is kept."""
    assert holm([0.9, 0.01, 0.02]).tolist() == [0.9, 0.03, 0.04]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_only_raises_and_keeps_the_order(chances: list[float]) -> None:
    """An adjusted chance is never below the raw one, and a smaller raw one never ends above."""
    raised = holm(chances)
    assert (raised >= np.array(chances)).all()
    assert (np.diff(raised[np.argsort(chances, kind="stable")]) >= 0).all()
