"""Two small releases of one line, made once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from tests.line.conftest import make_table
from tests.store.conftest import small_disk

import loopline
from loopline.line.project import Project, open_project

__all__ = ["small_disk"]

SETTINGS = {"name": "churn", "columns": {"day": {"role": "feature"}}}


def wide_table(num_rows: int = 300, seed: int = 0) -> pl.DataFrame:
    """Numbers, categories, dates and truth values, with blanks to strip and missing cells."""
    row = pl.int_range(pl.len())
    return make_table(num_rows, seed).with_columns(
        day=pl.date(2020, 1, 1) + pl.duration(days=(row * 7) % 90),
        flag=(row % 3) == 0,
        city=pl.when(row % 11 == 0).then(pl.col("city") + " ").otherwise(pl.col("city")),
    )


@dataclass(frozen=True)
class Two:
    """A store with two releases of the line "churn"."""

    store: Path
    linear: str
    trees: str


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Two:
    """The store; tests that write take a copy of it (`project`)."""
    store = tmp_path_factory.mktemp("made") / "store"
    ids = [
        loopline.fit(
            wide_table(),
            "bought",
            models=[family],
            store=store,
            progress=False,
            settings=SETTINGS,
        ).release.id
        for family in ("linear", "lightgbm")
    ]
    return Two(store, *ids)


@pytest.fixture
def project(made: Two, tmp_path: Path) -> Iterator[Project]:
    """A project of the test's own with both releases."""
    shutil.copytree(made.store, tmp_path / "store")
    with open_project(tmp_path / "store", create=False) as opened:
        yield opened
