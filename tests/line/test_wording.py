"""Stages that hold sentences are made again by another version; the rest is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import loopline
from loopline.line import context


def test_another_version_words_its_plan_anew(
    table: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an upgrade no sentence of the older version is shown, and nothing is fitted again."""

    def stages(margin: float) -> dict[str, bool]:
        given: dict[str, Any] = {"objective": {"margin": margin}}  # moves the choice only
        result = loopline.fit(
            table, "bought", models="baseline", store=tmp_path, progress=False, settings=given
        )
        return {entry["stage"]: entry["found"] for entry in result.summary["stages"]}

    stages(0.01)
    before = stages(0.02)
    assert before["plan"]
    assert before["split"]
    monkeypatch.setattr(context, "__version__", "999")
    upgraded = stages(0.03)
    assert not upgraded["plan"]
    assert not upgraded["split"]
    assert upgraded["fit baseline fold 1"]
