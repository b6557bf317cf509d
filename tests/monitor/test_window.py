"""Cutting a stream, and rows that are out of order."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.errors import DataError
from loopline.monitor.settings import MonitorSettings
from loopline.monitor.window import Window, cut, joined


def _window(num_rows: int, step: float = 3600.0) -> Window:
    return Window(
        pl.DataFrame({"x": np.arange(float(num_rows))}),
        ids=tuple(map(str, range(num_rows))),
        time=np.arange(num_rows) * step,
    )


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 17))
def test_pieces_give_the_same_windows_as_the_whole(pieces: list[int], size: int) -> None:
    """Cutting in pieces, with what is left carried on, gives the windows of one cut."""
    whole = _window(sum(pieces))
    settings = MonitorSettings(window=size)
    want, rest = cut(whole, settings)
    found, left, at = [], None, 0
    for piece in pieces:
        part = whole.take(np.arange(at, at + piece))
        at += piece
        more, left = cut(part if left is None else joined([left, part]), settings)
        found += more
    assert [w.ids for w in found] == [w.ids for w in want]
    assert (left.ids if left else ()) == (rest.ids if rest else ())


def test_windows_by_time_are_whole_days_and_the_last_waits() -> None:
    """Fifty hours are two days and a rest, which is a window only at the end."""
    windows, rest = cut(_window(50), MonitorSettings(window="1d"))
    assert [w.num_rows for w in windows] == [24, 24]
    assert rest is not None
    assert rest.num_rows == 2
    assert len(cut(_window(50), MonitorSettings(window="1d"), end=True)[0]) == 3


def test_windows_by_time_sort_clocks_that_jump() -> None:
    """Rows that come late belong to the day of their time."""
    window = _window(48).take(np.array([*range(30, 48), *range(30)]))
    windows, _ = cut(window, MonitorSettings(window="1d"), end=True)
    assert [w.num_rows for w in windows] == [24, 24]
    assert windows[0].ids[0] == "0"


def test_windows_by_time_need_times() -> None:
    """Rows without times cannot be cut into days; the error says what to set."""
    with pytest.raises(DataError, match="number of rows"):
        cut(Window(pl.DataFrame({"x": [1.0]})), MonitorSettings(window="1d"))


def test_duplicates_jumps_and_lost_times_are_told_and_put_right() -> None:
    """A row twice counts once; a clock that jumps back and a missing time are told."""
    window = Window(
        pl.DataFrame({"x": [1.0, 2.0, 2.0, 3.0]}),
        ids=("a", "b", "b", "c"),
        time=np.array([100.0, np.nan, 50.0, 10.0]),
    )
    tidy = window.tidied()
    assert tidy.ids == ("a", "b", "c")
    assert tidy.time is not None
    assert np.isfinite(tidy.time).all()
    told = " ".join(tidy.remarks)
    assert "1 row came again" in told
    assert "1 row had no time" in told
    assert "jumped back" in told


def test_parts_must_fit() -> None:
    """A prediction for another number of rows is refused."""
    with pytest.raises(DataError, match="3 rows"):
        Window(pl.DataFrame({"x": [1, 2, 3]}), np.array([0.5]))


def test_no_rows_give_no_window() -> None:
    """Nothing is cut into nothing."""
    assert cut(_window(0), MonitorSettings(window=5)) == ([], None)


def test_rows_without_any_time_have_none() -> None:
    """Not one row knows when it was: told, and the window goes on without times."""
    made = Window(pl.DataFrame({"x": [1.0, 2.0]}), time=np.full(2, np.nan)).tidied()
    assert made.time is None
    assert made.remarks == ("2 rows had no time.",)


def test_ids_that_do_not_fit_are_refused() -> None:
    """Two rows with one id."""
    with pytest.raises(DataError, match="2 rows, but 1 ids"):
        Window(pl.DataFrame({"x": [1.0, 2.0]}), ids=("a",))


def test_nothing_is_cut_into_nothing() -> None:
    """No rows and no times: no window, also where windows are cut by time."""
    empty = Window(pl.DataFrame({"x": []}, schema={"x": pl.Float64}))
    assert cut(empty, MonitorSettings(window="1d")) == ([], None)
