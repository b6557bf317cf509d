"""ONNX on real tables: texts, CatBoost's categories and blends answer as the release does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loopline
from loopline.data.sources import read_table
from loopline.release.exports.forms import export

pytest.importorskip("onnxruntime")

DataDir = Callable[[str], Path]


def sms(data_dir: DataDir) -> tuple[pl.DataFrame, str]:
    """Short messages, with their length and share of signs."""
    path = data_dir("sms_spam") / "smsspamcollection.tsv"
    return pl.read_csv(path, separator="\t", quote_char=None), "label"


def banking(data_dir: DataDir) -> tuple[pl.DataFrame, str]:
    """Questions to a bank, 77 intents."""
    return pl.read_csv(data_dir("banking77") / "train.csv"), "category"


def adult(data_dir: DataDir) -> tuple[pl.DataFrame, str]:
    """8 categories and 6 numbers of 6,000 adults."""
    frame = read_table(data_dir("adult") / "adult.data").frame
    return frame.sample(6_000, seed=0), frame.columns[-1]


def housing(data_dir: DataDir) -> tuple[pl.DataFrame, str]:
    """A category, 8 numbers with gaps, and a value."""
    frame = read_table(data_dir("california_housing") / "housing.csv").frame
    return frame.sample(5_000, seed=1), "median_house_value"


FEW = {"rounds": 60}
THREE = ["linear", {"lightgbm": FEW}, {"catboost": FEW}]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "models", "more"),
    [
        (sms, ["linear"], {}),
        (sms, [{"lightgbm": FEW}], {}),
        (banking, ["linear"], {}),
        (adult, [{"catboost": FEW}], {}),
        (housing, [{"catboost": FEW}], {}),
        (adult, [*THREE, {"xgboost": FEW}], {"select": "best"}),
        (housing, THREE, {"select": "best"}),
    ],
    ids=["sms-linear", "sms-trees", "banking", "adult", "housing", "adult-blend", "housing-blend"],
)
def test_real_tables(
    table: Any, models: list[Any], more: dict[str, Any], data_dir: DataDir, tmp_path: Path
) -> None:
    """1,000 kept and 300 made-up rows differ by less than 1e-6; without XGBoost by rounding."""
    frame, target = table(data_dir)
    result = loopline.fit(
        frame,
        target,
        models=models,
        store=tmp_path / "store",
        progress=False,
        settings={"threads": 1, "split": {"folds": 2}, **more},
    )
    assert (result.release.facts["family"] == "blend") == bool(more)
    with loopline.open_project(tmp_path / "store") as project:
        done = export(result.release, "onnx", tmp_path / "onnx", store=project.store)
    assert done.remarks[0].startswith("Proved on 1,000 kept rows and 300 made-up rows")
    largest = float(done.remarks[0].split("largest difference ")[1].split(",")[0])
    assert largest <= (1e-6 if len(models) == 4 else 1e-12)
