"""New data for a release in another wrapping than its training data: read rightly, and told."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.line.conftest import make_table

import loopline

ROWS = 150


def table() -> pl.DataFrame:
    """Numbers, dates, truth values, money and words with letters beyond ASCII."""
    row = pl.int_range(pl.len())
    return make_table(ROWS).with_columns(
        day=pl.date(2020, 1, 1) + pl.duration(days=(row * 7) % 90),
        flag=(row % 3) == 0,
        price=pl.format("${}", row % 40),
        city=pl.col("city").replace("Bonn", "Köln"),
    )


@pytest.fixture(scope="module", params=["csv", "parquet", "sql", "frame"])
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A release trained on each kind of source."""
    folder = tmp_path_factory.mktemp(request.param)
    frame = table()
    source: Any = frame
    if request.param == "csv":
        source = str(folder / "d.csv")
        frame.write_csv(source)
    elif request.param == "parquet":
        source = str(folder / "d.parquet")
        frame.write_parquet(source)
    elif request.param == "sql":
        source = f"sqlite:///{folder / 'd.db'}?table=rows"
        with sqlite3.connect(folder / "d.db") as database:
            names = ", ".join(frame.columns)
            database.execute(f"CREATE TABLE rows ({names})")
            cells = [
                tuple(str(cell) if hasattr(cell, "year") else cell for cell in row)
                for row in frame.rows()
            ]
            marks = ", ".join("?" * frame.width)
            database.executemany(f"INSERT INTO rows VALUES ({marks})", cells)
        database.close()
    result = loopline.fit(
        source, "bought", models=["linear"], store=folder / "store", progress=False
    )
    return result.release


@pytest.mark.parametrize("kind", ["csv", "latin", "parquet", "parquet of text", "frame"])
def test_any_source_predicts_any_other(release: Any, tmp_path: Path, kind: str) -> None:
    """The same rows get the same predictions, whatever they come from and are trained on."""
    rows = table().drop("bought")
    expected = release.predict(rows)["prediction"].to_list()
    target = tmp_path / "new"
    if kind == "csv":
        rows.write_csv(target.with_suffix(".csv"))
        source: Any = target.with_suffix(".csv")
    elif kind == "latin":
        source = target.with_suffix(".csv")
        source.write_bytes(rows.write_csv().encode("latin-1"))
    elif kind == "parquet":
        source = target.with_suffix(".parquet")
        rows.write_parquet(source)
    elif kind == "parquet of text":
        source = target.with_suffix(".parquet")
        text = rows.with_columns(pl.col("day").cast(pl.String), pl.col("flag").cast(pl.String))
        text.write_parquet(source)
    else:
        source = rows.to_pandas()
    assert list(release.predict(source)["prediction"]) == expected


def test_another_encoding_is_told(release: Any, tmp_path: Path) -> None:
    """A file in another encoding than that of training is read in its own, with a remark."""
    if release._format.encoding is None:
        pytest.skip("the training data has no encoding")
    file = tmp_path / "n.csv"
    file.write_bytes(table().write_csv().encode("latin-1"))
    read = release.read(str(file))
    assert set(read.frame["city"].unique()) == {"Köln", "Kyoto", "Lima"}
    (remark,) = release.reading_remarks(read)
    assert remark.startswith("The data is written in cp1252, the training data was in utf-8; it")


def test_broken_letters_are_noticed(release: Any) -> None:
    """Unknown values that look like a wrong encoding, or are most of the rows, get a hint."""
    rows = table().with_columns(city=pl.col("city").replace("Köln", "KÃ¶ln"))
    _, remarks = release.predict_frame(rows)
    assert any("read in the wrong encoding: give its `encoding`" in text for text in remarks)
    _, remarks = release.predict_frame(table().with_columns(city=pl.lit("Oslo")))
    assert any("That is most of them" in text for text in remarks)


def test_amounts_in_one_row(release: Any) -> None:
    """A single row takes the amount as it is written and as a number."""
    row = table().row(0, named=True)
    assert release.predict_one(row) == release.predict_one({**row, "price": 0.0})
