"""`loopline monitor` on what a stream may bring: each a stated finding, never a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.cli.conftest import Answer, Call
from tests.line.test_monitoring import START, label, log, made, project, rows

from loopline.line.monitor_stream import Stream
from loopline.line.project import Project

__all__ = ["made", "project"]
WINDOWS = ("--set", "monitor.window=100", "--set", "monitor.rate=1000/day")


@pytest.fixture
def look(call: Call, project: Project, here: Path) -> Any:
    """`loopline monitor` on the project's log, in a folder without a settings file."""
    assert here.exists()
    store = str(project.local_folder)

    def run(*more: str) -> Answer:
        given = more if "--set" in more else (*WINDOWS, *more)
        return call("monitor", "latest", "--store", store, *given)

    return run


def test_windows_of_one_row(project: Project, look: Any) -> None:
    """Three windows of a row each: judged, and silent."""
    log(project, rows(3, 1), "a")
    done = look("--set", "monitor.window=1", "--set", "monitor.rate=1000/day")
    assert (done.code, "3 new rows in 3 windows" in done.out) == (0, True), done.message
    assert "No alarm." in done.out


def test_an_empty_window(look: Any) -> None:
    """Nothing was answered: told, exit code 0, also where the rest is to be judged."""
    for more in ((), ("--end",), ("--fail",)):
        done = look(*more)
        assert (done.code, "0 new rows in 0 windows" in done.out) == (0, True)


def test_the_rest_of_one_row_is_judged_at_the_end(project: Project, look: Any) -> None:
    """101 rows: one window, and `--end` makes a window of the last row."""
    log(project, rows(101, 1), "a")
    assert "100 new rows in 1 window; 1 row waits for more." in look().out
    done = look("--end")
    assert (done.code, "1 new row in 1 window" in done.out) == (0, True), done.message


def test_a_table_without_rows_is_refused(call: Call, project: Project, here: Path) -> None:
    """New rows that are none, and a table to compare that has none: exit code 2, in a sentence."""
    rows(0, 1).write_csv(here / "none.csv")
    rows(300, 1).write_csv(here / "old.csv")
    store = str(project.local_folder)
    call("monitor", "latest", "none.csv", "--store", store).refuses(2, "no rows")
    call("monitor", "--reference", "old.csv", "none.csv").refuses(2, "no rows")


def test_a_column_that_vanishes(call: Call, project: Project, here: Path) -> None:
    """New rows without a column that the model needs are refused by name; of two tables it is a
    page."""
    rows(300, 1).drop("load").write_csv(here / "gone.csv")
    rows(300, 2).write_csv(here / "old.csv")
    store = str(project.local_folder)
    call("monitor", "latest", "gone.csv", "--store", store).refuses(2, "load")
    done = call("monitor", "--reference", "old.csv", "gone.csv", "--fail")
    assert done.code == 3
    assert "[PAGE] Column 'load' is gone" in done.out


def test_a_column_whose_values_are_all_missing(project: Project, look: Any) -> None:
    """The service answers rows without a load; the monitor pages."""
    table = rows(100, 1).with_columns(load=pl.lit(None, pl.Float64))
    log(project, table, "a")
    done = look("--fail")
    assert done.code == 3
    assert "[PAGE] Column 'load' is missing in all of 100 rows." in done.out


def test_a_clock_that_jumps_back(project: Project, look: Any) -> None:
    """The service's machine is set back by ten days within a window: told, and all rows count."""
    log(project, rows(60, 1), "a")
    assert "60 rows wait for more." in look().out
    log(project, rows(60, 2), "b", START - 864_000)
    done = look()
    assert (done.code, "100 new rows in 1 window" in done.out) == (0, True), done.message
    assert "The clock jumped back once, by up to 867,540 seconds." in done.out


def test_rows_that_come_twice(project: Project, look: Any) -> None:
    """The same requests logged twice: each row counts once."""
    log(project, rows(100, 1), "a")
    log(project, rows(100, 1), "a", START + 10_000)
    done = look()
    assert done.code == 0
    assert "100 rows had been seen before and count once." in done.out


def test_late_duplicate_and_unknown_labels(project: Project, look: Any) -> None:
    """Labels after their window, one twice, one corrected, one of a row that nobody asked for:
    counted and told; the rest is judged."""
    table = rows(100, 1)
    log(project, table, "a")
    look()
    truth = table["fails"].to_list()
    label(project, "a", truth)
    label(project, "a", [not truth[0]])
    label(project, "nobody", [True, False])
    done = look()
    assert (done.code, ", 102 labels" in done.out) == (0, True), done.message
    assert "2 labels named rows that are not known" in done.out
    label(project, "a", [truth[0]])
    assert "1 label contradicted an earlier one; the first counts here." in look().out


def test_poisoned_labels_page(project: Project, look: Any) -> None:
    """Every label is the other one: nothing tells the monitor that it is poison, so it pages that
    the model is wrong; the loop doubts it."""
    table = rows(400, 1)
    log(project, table, "a")
    label(project, "a", [not each for each in table["fails"].to_list()])
    done = look("--fail")
    assert done.code == 3
    assert "[PAGE] The Brier score is" in done.out or "[PAGE] The error is" in done.out


def test_two_monitors_at_once(project: Project, look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one judged the same rows meanwhile: the first is told, and nothing counts twice."""
    log(project, rows(100, 1, shift=2.0), "a")
    keep, other = Stream.keep, []

    def late(self: Stream, *given: Any) -> Any:
        if not other:
            other.append(None)
            other[0] = look()
        return keep(self, *given)

    monkeypatch.setattr(Stream, "keep", late)
    look().refuses(2, "Another monitor judged the same rows")
    assert "[PAGE]" in other[0].out
    assert "0 new rows in 0 windows" in look().out


def test_a_monitor_that_was_killed(
    project: Project, look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its look was written: the same command judges the same rows again."""
    log(project, rows(100, 1, shift=2.0), "a")

    def die(*given: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Stream, "keep", die)
        assert look().code == 130
    assert "[PAGE]" in look().out


def test_a_column_that_the_log_leaves_out_pages_nobody(
    project: Project, look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left out on purpose, it is told as not watched; the other columns are watched as before."""
    hstack = pl.DataFrame.hstack

    def without(self: pl.DataFrame, columns: Any, **more: Any) -> pl.DataFrame:
        kept = [each for each in columns if each.name != "input.kind"]
        return hstack(self, kept, **more)

    with monkeypatch.context() as patch:
        patch.setattr(pl.DataFrame, "hstack", without)
        log(project, rows(100, 1, shift=2.0), "a")
    done = look()
    assert "The log leaves out kind: not watched." in done.out
    assert "[PAGE]" in done.out
    assert "Column 'heat'" in done.out
    assert "is gone" not in done.out
