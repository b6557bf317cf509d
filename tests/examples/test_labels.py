"""The example line whose rows have several labels, on the real table."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import loopline

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "telco_extras"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """What makes the example's table."""
    spec = importlib.util.spec_from_file_location("make", EXAMPLE / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_extras_of_customers(
    script: ModuleType, data_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    """One logistic regression an extra beats the shares, within the scores that the file states."""
    table = script.customers(data_dir("telco_churn").parent)
    assert (table["extras"].list.len() == 0).sum() == 1_667
    assert not {"MonthlyCharges", "TotalCharges", *script.EXTRAS} & set(table.columns)
    table.write_ndjson(tmp_path / "customers.jsonl")
    text = (EXAMPLE / "loopline.yaml").read_text(encoding="utf-8")
    (tmp_path / "loopline.yaml").write_text(text, encoding="utf-8")
    overrides = ["split.folds=3", "models=[linear]"]
    found = loopline.run(tmp_path, overrides=overrides, progress=False)
    assert found.summary["chosen"] == "linear"
    assert found.summary["test"]["log_loss"]["value"] == pytest.approx(0.4564, abs=0.005)
    assert found.summary["test"]["micro_f1"]["value"] == pytest.approx(0.688, abs=0.02)
