"""What the door lets in and what it holds, and which rows a retraining may see."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.loop.conftest import Shop, customers, told

from loopline.line.files import read_line
from loopline.line.spec import make_spec
from loopline.loop.attempt import _both_apart, retrained
from loopline.loop.diary import Diary


def with_more(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Customers with a memo that four of five lack, and a flag that one in twenty has."""
    rng = np.random.default_rng(seed)
    memo = np.where(rng.random(frame.height) < 0.8, np.nan, rng.normal(size=frame.height))
    flag = (rng.random(frame.height) < 0.05).astype(int)
    return frame.with_columns(memo=pl.Series(memo).fill_nan(None), flag=pl.Series(flag)).select(
        "x", "z", "city", "memo", "flag", "bought"
    )


def test_what_stands_still_by_its_nature_is_taken(tmp_path: Path) -> None:
    """A column that is mostly missing may be missing in all rows of a file, and a rare flag may
    stand in none: neither holds the file."""
    (tmp_path / "data").mkdir()
    shop = Shop(tmp_path)
    shop.settings(models=["baseline"])
    shop.put("a.csv", with_more(customers(1000, 0), 0))
    shop.look()
    calm = with_more(customers(300, 1), 1).with_columns(
        memo=pl.lit(None, pl.Float64), flag=pl.lit(0)
    )
    shop.put("b.csv", calm)
    news = shop.look()
    assert told(news, "held") == []
    assert told(news, "arrived") == ["data/b.csv came with 300 rows."]


def test_a_short_file_says_nothing_of_units(shop: Shop) -> None:
    """In 50 rows a value that stands still may be chance: taken."""
    shop.put("b.csv", customers(50, 1).with_columns(z=pl.lit(0.5)))
    assert told(shop.look(), "arrived") == ["data/b.csv came with 50 rows."]


def test_a_file_that_grows_keeps_the_rows_that_were_taken(shop: Shop) -> None:
    """While its next rows are being written, those that were taken before still count."""
    shop.settings(loop={"patience": 600})
    file = shop.put("b.csv", customers(300, 1))
    shop.look()
    with file.open("a") as opened:
        opened.write("0.1,0.2,Bo")
    old = time.time() - 100
    os.utime(file, (old, old))
    shop.put("c.csv", customers(100, 2))
    news = shop.look()
    assert "middle of a line" in told(news, "waiting")[0]
    assert told(news, "looked")[0].startswith("400 new rows, 400 of them labelled.")


def test_a_retraining_spends_no_row_on_a_test_side(shop: Shop) -> None:
    """The rows that decide are the test: the line is run on all the others, on nothing else."""
    shop.put("b.csv", customers(700, 1, flipped=1))
    shop.look()
    with shop.project() as project:
        (begun,) = Diary(project.ledger, "shop").entries("triggered")
        summary = project.run("latest").summary
    assert summary is not None
    assert summary["split"]["num_train"] == begun.data["rows"]["train"]
    assert summary["split"]["num_test"] == 0


@pytest.mark.parametrize(
    "fixed",
    [
        {"data": {"source": "a.csv", "test": "t.csv"}},
        {"split": {"method": "predefined", "column": "side"}},
    ],
)
def test_a_split_that_the_settings_fix_is_left_alone(fixed: dict) -> None:
    """A test table of its own, or a column that says each row's side, stays as it is said."""
    spec = make_spec({"data": {"source": "a.csv"}, "target": "y", **fixed})
    assert retrained(spec) is spec
    free = make_spec({"data": {"source": "a.csv"}, "target": "y"})
    assert retrained(free).split.test == 0.0


def test_trusted_rows_that_the_champion_was_trained_on_have_its_guesses_out_of_fold(
    shop: Shop,
) -> None:
    """What the first champion says of its own training rows would flatter it: for these stands
    what it said of them before it had seen them."""
    rows = customers(1000, 0)
    with shop.project() as project:
        assert read_line(shop.folder).spec.line_name == "shop"
        champion = project.release("shop@champion")
        found = _both_apart(project, champion, champion, rows)
        assert found is not None
        seen = champion.probabilities(rows)[0][:, 1]
    assert 600 < found.num_rows < 1000
    flattered = np.isin(found.champion.prediction.round(12), seen.round(12))
    assert flattered.mean() < 0.1
    assert np.isin(found.challenger.prediction.round(12), seen.round(12)).all()
