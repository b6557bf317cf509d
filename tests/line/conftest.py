"""Small tables with known truth, and lines over them that run in about a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import loopline


def make_table(num_rows: int = 240, seed: int = 0) -> pl.DataFrame:
    """A binary table: two useful columns, one category, missing cells, no duplicates."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=num_rows), rng.normal(size=num_rows)
    city = rng.choice(["Bonn", "Kyoto", "Lima"], num_rows)
    score = 1.5 * x - z + (city == "Lima") + rng.normal(scale=0.7, size=num_rows)
    income = [
        None if gap < 0.05 else float(value)
        for gap, value in zip(rng.random(num_rows), z, strict=True)
    ]
    return pl.DataFrame(
        {"x": x, "income": income, "city": city, "bought": np.where(score > 0.4, "yes", "no")}
    )


@pytest.fixture(scope="session")
def table() -> pl.DataFrame:
    return make_table()


@pytest.fixture
def write_line(tmp_path: Path, table: pl.DataFrame) -> Callable[..., Path]:
    """Writes a table and a settings file into a fresh folder and gives the file's path."""
    import yaml

    def write(frame: pl.DataFrame | None = None, **settings: Any) -> Path:
        (table if frame is None else frame).write_csv(tmp_path / "customers.csv")
        data: dict[str, Any] = {
            "data": {"source": "customers.csv"},
            "target": "bought",
            "models": ["baseline", "linear"],
        }
        data |= settings
        file = tmp_path / "loopline.yaml"
        file.write_text(yaml.safe_dump(data), encoding="utf-8")
        return file

    return write


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, table: pl.DataFrame) -> loopline.Result:
    """One finished run that read-only tests share."""
    store = tmp_path_factory.mktemp("finished")
    return loopline.fit(table, "bought", models=["baseline", "linear"], store=store, progress=False)
