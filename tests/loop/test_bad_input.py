"""`loopline watch` on what a world may bring: each a stated finding, and the champion serves on."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from tests.cli.conftest import Answer, Call, call
from tests.loop.conftest import FakeClock, Shop, customers
from tests.loop.test_labels import serve

import loopline.loop.decide as decide
from loopline.loop.arrivals import Arrivals

__all__ = ["call"]


@pytest.fixture
def look(shop: Shop, call: Call, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`loopline watch --once` in the shop; the champion must be the first one after it."""
    monkeypatch.chdir(shop.folder)
    first = shop.champion()

    def run(*more: str) -> Answer:
        done = call("watch", *(more or ("--once",)))
        assert done.code == 0, done.message
        assert "Traceback" not in done.message
        assert shop.champion() == first
        return done

    return run


def test_a_file_of_one_row(shop: Shop, look: Any) -> None:
    """Taken, looked at, and nothing is trained on it."""
    shop.put("b.csv", customers(1, 1))
    out = look().out
    assert "data/b.csv came with 1 row." in out
    assert "1 new row, 1 of them labelled. Too few labels to say whether the champion" in out
    assert "begins" not in out


HELD = {
    "no row": (lambda table: table.clear(), "but no rows"),
    "a column that vanished": (lambda table: table.drop("z"), "'z'"),
    "all values missing": (
        lambda table: table.with_columns(z=pl.lit(None, pl.Float64)), "is missing in all 300 rows",
    ),
    "another unit": (lambda table: table.with_columns(pl.col("x") * 1000), "times 1,000"),
    "an unknown class": (lambda table: table.with_columns(bought=pl.lit("maybe")), "maybe"),
    "text in a number": (lambda table: table.with_columns(x=pl.lit("high")), "cannot be read as"),
    "no label column": (lambda table: table.drop("bought"), "data/b.csv"),
}  # fmt: skip


@pytest.mark.parametrize("what", HELD)
def test_a_broken_file_is_told_once_and_may_be_accepted(shop: Shop, look: Any, what: str) -> None:
    """Held with the reason and the way out; silent after that. Taken all the same by a person, it
    harms nobody: the champion stays, and no look fails without a sentence."""
    change, told = HELD[what]
    shop.put("b.csv", change(customers(300, 1)))
    out = look().out
    if what == "no label column":
        assert "300 new rows, 0 of them labelled." in out
        return
    assert "data/b.csv is held and not used: " in out
    assert told in out
    assert "Nothing new." in look().out
    assert "is used as it is" in look("--accept", "data/b.csv").out
    look()
    assert "Nothing new." in look().out


def test_a_file_that_arrives_in_halves(shop: Shop, look: Any) -> None:
    """The first half ends in a line's middle: waited for and told; whole, all its rows count."""
    text = customers(300, 1).write_csv()
    file = shop.folder / "data" / "b.csv"
    file.write_text(text[: len(text) // 2])
    assert "b.csv ends in the middle of a line; it is taken when the line ends" in look().out
    assert "Nothing new." in look().out
    file.write_text(text)
    assert "data/b.csv came with 300 rows." in look().out


def test_clocks_that_jump(shop: Shop, look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's clock a year back, then a year ahead: the schedule says that it waits, files
    are taken all the same, and a day later it is due."""
    shop.settings(loop={"every": "30d"})
    clock = FakeClock(offset=-365 * 86_400)
    monkeypatch.setattr("loopline.loop.controller.Clock", clock.clock)
    shop.put("b.csv", customers(100, 1))
    out = look().out
    assert "The clock has gone back behind the last decision" in out
    assert "data/b.csv came with 100 rows." in out
    clock.offset = 365 * 86_400
    assert "365 days have passed since the last attempt." in look().out


def test_late_duplicate_and_unknown_labels(shop: Shop, look: Any) -> None:
    """Labels of answered rows: some come again with another value, some of rows that the log does
    not hold. Each is counted and told, the newest counts."""
    serve(shop, 100, labelled=60, again=10)
    serve(shop, 30, labelled=20, log={"enabled": False})
    out = look().out
    assert "replaced an earlier one; the newest counts." in out
    assert "20 labels are of requests that the log does not hold" in out
    assert "100 new rows, 60 of them labelled." in out
    assert "Nothing new." in look().out


def test_poisoned_labels(shop: Shop, look: Any) -> None:
    """Two files whose labels are all swapped: two attempts, both kept out, with the reason."""
    for number in range(2):
        shop.put(f"b{number}.csv", customers(700, 10 + number, flipped=1))
        out = look().out
        assert "Kept release-" in out
        assert "they look swapped" in out
    told = look("--history").out
    assert told.count("Kept release-") == 2


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError("no room")])
def test_a_retraining_that_fails(
    shop: Shop, look: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A full disk, no memory: told with when it is tried again; the next look leaves it alone,
    and `--history` keeps the sentence."""

    def fail(*given: Any) -> Any:
        raise error

    monkeypatch.setattr(decide, "train", fail)
    shop.put("b.csv", customers(700, 1, flipped=1))
    out = look().out
    assert "The retraining failed and is tried again in 60 s; the champion goes on serving." in out
    assert "Nothing new." in look().out
    assert "The retraining failed" in look("--history").out


def test_a_file_that_vanishes_while_it_is_looked_at(
    shop: Shop, look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moved away between listing and reading: waited for, and no failure."""
    files = Arrivals._files
    gone = shop.folder / "data" / "b.csv"
    with monkeypatch.context() as patch:
        patch.setattr(Arrivals, "_files", lambda self: [*files(self), gone])
        assert "b.csv went away while it was looked at." in look().out
    shop.put("b.csv", customers(300, 1))
    assert "data/b.csv came with 300 rows." in look().out
