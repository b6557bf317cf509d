"""Loopline's line on the rows of `automl_rows.py`: no test part, columns as the task tells them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import automl_rows
import pandas as pd
import polars as pl
from safetensors.numpy import load_file

import loopline
from loopline.release.environment import environment

MODELS = ("baseline", "linear", "lightgbm", "xgboost", "catboost", "forest", "mlp")
"""The families that race on a table."""


def run_line(
    facts: automl_rows.Facts,
    frame: pd.DataFrame,
    store: Path,
    models: Sequence[str] = MODELS,
    **settings: Any,
) -> loopline.Result:
    """Run the line on some training rows."""
    return loopline.fit(
        pl.from_pandas(frame),
        facts.target,
        task=facts.kind,
        metric=facts.metric,
        models=list(models),
        store=store,
        progress=False,
        settings={"split": {"test": 0}, "columns": automl_rows.roles(facts), **settings},
    )


def out_of_fold(result: loopline.Result, candidate: Mapping[str, Any]) -> dict[str, Any]:
    """A candidate's predictions, with "rows" and "fold" of each."""
    stored = result._project.store.get(candidate["artifact"])
    return dict(load_file(stored.path("out_of_fold.safetensors")))


def write(out: Path | None, **results: Any) -> None:
    """The results so far, with what made them; nothing without a file."""
    made = {"python": platform.python_version(), "cores": os.cpu_count(), "versions": environment()}
    if out:
        out.write_text(json.dumps({**made, **results}, indent=1) + "\n", encoding="utf-8")
