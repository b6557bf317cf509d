"""Half a file is never read: every way of being unfinished is waited for and told."""

from __future__ import annotations

import os
import time
from pathlib import Path

import polars as pl
import pytest
from tests.loop.conftest import FakeClock

from loopline.loop.steady import Steady


@pytest.fixture
def steady() -> Steady:
    return Steady(10.0, 600.0, FakeClock().clock())


def write(file: Path, content: bytes, age: float = 100.0) -> Path:
    file.write_bytes(content)
    then = time.time() - age
    os.utime(file, (then, then))
    return file


def test_a_quiet_file_is_whole(tmp_path: Path, steady: Steady) -> None:
    """A CSV that ends in a line end and has not changed for 100 s is taken."""
    assert steady.wait_for(write(tmp_path / "a.csv", b"x,y\n1,2\n")) is None


def test_a_file_that_just_changed_waits(tmp_path: Path, steady: Steady) -> None:
    """Changed 2 s ago where 10 s of quiet are asked for."""
    told = steady.wait_for(write(tmp_path / "a.csv", b"x,y\n1,2\n", age=2))
    assert told is not None
    assert "still being written" in told


@pytest.mark.parametrize("name", ["a.csv.part", "a.tmp", "a.csv.crdownload", ".a.csv", "a.csv~"])
def test_unfinished_names_are_passed_over(tmp_path: Path, steady: Steady, name: str) -> None:
    """Names that copying programs give to what is not finished."""
    assert "unfinished" in str(steady.wait_for(write(tmp_path / name, b"x\n1\n")))


def test_an_empty_file_waits(tmp_path: Path, steady: Steady) -> None:
    """No byte has come yet."""
    assert "empty so far" in str(steady.wait_for(write(tmp_path / "a.csv", b"")))


def test_a_cut_off_parquet_waits(tmp_path: Path, steady: Steady) -> None:
    """Every truncation of a Parquet file misses its closing mark; the whole one has it."""
    whole = tmp_path / "whole.parquet"
    pl.DataFrame({"x": range(100)}).write_parquet(whole)
    data = whole.read_bytes()
    for size in (5, len(data) // 2, len(data) - 1):
        assert "cut off" in str(steady.wait_for(write(tmp_path / f"{size}.parquet", data[:size])))
    assert steady.wait_for(write(tmp_path / "b.parquet", data)) is None


def test_an_open_last_line_is_waited_for_and_then_taken(tmp_path: Path, steady: Steady) -> None:
    """Text without a last line end waits for `patience`, then it counts as written that way."""
    assert "middle of a line" in str(steady.wait_for(write(tmp_path / "a.csv", b"x\n1\n2")))
    assert steady.wait_for(write(tmp_path / "b.csv", b"x\n1\n2", age=700)) is None


def test_a_time_ahead_of_the_clock_is_watched(tmp_path: Path) -> None:
    """A file from the future is taken after `settle` by the clock that never jumps."""
    clock = FakeClock()
    steady = Steady(10.0, 0.0, clock.clock())
    file = write(tmp_path / "a.csv", b"x\n1\n", age=-86_400)
    assert "still being written" in str(steady.wait_for(file))
    clock.ticks = 11
    assert steady.wait_for(file) is None


def test_a_file_that_grows_while_watched_starts_anew(tmp_path: Path) -> None:
    """Each change of size sets the wait back."""
    clock = FakeClock()
    steady = Steady(10.0, 0.0, clock.clock())
    steady.wait_for(write(tmp_path / "a.csv", b"x\n1\n", age=-100))
    clock.ticks = 9
    steady.wait_for(write(tmp_path / "a.csv", b"x\n1\n2\n", age=-100))
    clock.ticks = 12
    assert steady.wait_for(tmp_path / "a.csv") is not None
    clock.ticks = 20
    assert steady.wait_for(tmp_path / "a.csv") is None


def test_a_file_that_is_gone_waits(tmp_path: Path, steady: Steady) -> None:
    """Removed between listing and looking: told, no failure."""
    assert "went away" in str(steady.wait_for(tmp_path / "a.csv"))


def test_a_file_written_anew_at_its_size_starts_anew(tmp_path: Path) -> None:
    """Other bytes of the same length: the time of the file says that it changed."""
    clock = FakeClock()
    steady = Steady(10.0, 0.0, clock.clock())
    steady.wait_for(write(tmp_path / "a.csv", b"x\n1\n", age=-100))
    clock.ticks = 9
    steady.wait_for(write(tmp_path / "a.csv", b"x\n2\n", age=-200))
    clock.ticks = 12
    assert steady.wait_for(tmp_path / "a.csv") is not None


def test_a_parquet_whose_head_has_not_come_waits(tmp_path: Path, steady: Steady) -> None:
    """Parts that arrive out of order: the mark at the end alone makes no whole file."""
    assert "cut off" in str(steady.wait_for(write(tmp_path / "a.parquet", b"\0" * 40 + b"PAR1")))
