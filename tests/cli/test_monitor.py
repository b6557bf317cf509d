"""`loopline monitor`: what it says, its exit codes, what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.cli.conftest import Call
from tests.line.conftest import make_table


@pytest.fixture
def moved(copied: Path) -> str:
    """New rows with their outcomes, in which one column moved."""
    del copied
    table = make_table(400, seed=3)
    table = table.with_columns(x=pl.col("x") + 2.0)
    table.write_csv("moved.csv")
    return "moved.csv"


def test_new_rows_are_judged_by_a_release(call: Call, moved: str) -> None:
    """The alarm says what moved and what it does; `--fail` ends with 3."""
    done = call("monitor", "latest", moved)
    assert done.code == 0
    assert "400 rows in 1 window." in done.out
    assert "[PAGE]" in done.out
    assert "Column 'x' lies " in done.out
    assert "what it does to the model: " in done.out
    assert call("monitor", "latest", moved, "--fail").code == 3
    data = call("monitor", "latest", moved, "--json").json
    assert {each["subject"] for each in data["windows"][0]["alarms"]} >= {"x"}


def test_rows_of_the_same_world_do_not_fail(call: Call, copied: Path) -> None:
    """No page, exit code 0."""
    make_table(400, seed=4).write_csv("same.csv")
    assert call("monitor", "latest", "same.csv", "--fail").code == 0


def test_two_tables_are_judged_without_a_release(call: Call, moved: str, tmp_path: Path) -> None:
    """No project is needed."""
    make_table(900, seed=5).write_csv("old.csv")
    done = call("monitor", "--reference", "old.csv", moved, "--store", str(tmp_path / "none"))
    assert "Column 'x' lies " in done.out
    assert "'city'" not in done.out


def test_a_service_that_answered_nothing_yet(call: Call, copied: Path) -> None:
    """Nothing is judged, and that is said."""
    assert "0 new rows in 0 windows." in call("monitor", "latest").out


def test_settings_of_the_file_and_of_the_command(call: Call, moved: str) -> None:
    """`monitor` in loopline.yaml rules, and `--set` rules over it; another run is not needed."""
    file = Path("loopline.yaml")
    file.write_text(file.read_text() + "monitor: {window: 150}\n")
    assert "400 rows in 3 windows." in call("monitor", "latest", moved).out
    done = call("monitor", "latest", moved, "--set", "monitor.window=200")
    assert "400 rows in 2 windows." in done.out
    assert "Nothing to do" in call("run").out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("latest", "moved.csv", "--follow"), "leave DATA out"),
        (("latest", "--follow", "--json"), "never ends"),
        (("--reference", "old.csv", "a.csv", "b.csv"), "judged once"),
        (("latest", "--set", "monitor.false_pages=often"), "1/month"),
        (("latest", "no_such.csv"), "no_such.csv"),
        (("nobody", "moved.csv"), "nobody"),
    ],
)
def test_what_makes_no_sense_is_refused(
    call: Call, moved: str, words: tuple[str, ...], told: str
) -> None:
    """In one sentence, exit code 2."""
    del moved
    call("monitor", *words).refuses(2, told)


def test_a_window_of_one_row_and_an_empty_file(call: Call, copied: Path) -> None:
    """One row is judged (and says little); a file without rows is refused as everywhere."""
    make_table(1, seed=1).write_csv("one.csv")
    assert call("monitor", "latest", "one.csv").code == 0
    Path("none.csv").write_text("x,income,city,bought\n")
    done = call("monitor", "latest", "none.csv")
    assert done.code in (0, 2)
    assert "Traceback" not in done.out


def test_a_column_that_is_missing_in_all_rows(call: Call, copied: Path) -> None:
    """It is told as missing, and everything else is judged."""
    table = make_table(300, seed=2).with_columns(income=pl.lit(None, dtype=pl.Float64))
    table.write_csv("gone.csv")
    out = call("monitor", "latest", "gone.csv").out
    assert "'income' is missing in all of 300 rows" in out
    assert np.char.find(out, "Traceback") == -1
