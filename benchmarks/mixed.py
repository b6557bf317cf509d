"""Is a row of several parts worth more than each of its parts?

Rows of a census row, a headline and a written digit (`examples/mixed_rows/make.py`). The multimodal
family learns from three quarters of them, once with all parts and once with each part alone; the
last quarter is scored once. Differences of the AUC are paired, with 95 % intervals. The boosted
trees read the table and the texts' terms, and stand beside it.

    python benchmarks/mixed.py [--out benchmarks/results/mixed.json] [--rows 4000] [--threads 1]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl

from loopline.data.schema import Column, Schema
from loopline.evaluate.intervals import Estimate, estimate
from loopline.models.base import FitContext
from loopline.models.families import family
from loopline.release.environment import environment
from loopline.select.compare import compare
from loopline.splits.split import all_train
from loopline.splits.views import TrainView

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("LOOPLINE_DATA", HERE.parents[1] / "shared" / "data"))
SUBSETS = {"all": ("table", "text", "image"), "table": ("table",), "text": ("text",),
           "image": ("image",)}  # fmt: skip
HELD_OUT, VALID = 0.25, 0.15


def maker() -> ModuleType:
    """The script that makes the rows."""
    place = HERE.parent / "examples" / "mixed_rows" / "make.py"
    spec = importlib.util.spec_from_file_location("mixed_rows", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def view(frame: pl.DataFrame) -> TrainView:
    """All rows, to learn from."""
    numbers = maker().NUMBERS

    def kind(name: str) -> Any:
        known = {"headline": "text", "digit": "image"}
        return known.get(name, "number" if name in numbers else "category")

    columns = [Column(name, kind(name)) for name in frame.columns if name != "answer"]
    columns.append(Column("answer", "category", "target"))
    digests = np.random.default_rng(0).integers(0, 2**63, (frame.height, 2)).astype(np.uint64)
    return all_train(digests).train_view(frame, Schema(tuple(columns), "binary", ("no", "yes")))


def part_of(name: str) -> str:
    """The part that a column belongs to."""
    return {"headline": "text", "digit": "image"}.get(name, "table")


def shown(found: Estimate) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}


def measure(rows: int, threads: int, params: dict[str, Any]) -> dict[str, Any]:
    """Scores with all parts and with each alone, and the paired differences of the AUC."""
    module = maker()
    frame = module.mixed_rows(DATA, rows)
    cut = round(rows * (1 - HELD_OUT))
    train, test = view(frame[:cut]), frame[cut:]
    y = (test["answer"] == "yes").to_numpy().astype(np.int64)
    found: dict[str, Any] = {}
    told: dict[str, np.ndarray] = {}
    runs = [(name, "multimodal", parts) for name, parts in SUBSETS.items()]
    for name, kind, parts in [*runs, ("trees", "lightgbm", ("table", "text"))]:
        others = [n for n in train.schema.features if part_of(n) not in parts]
        rows_of = train.without(others) if others else train
        held = rows_of.holdout(VALID, 0)
        assert held is not None
        started, used = time.perf_counter(), time.process_time()
        given = params if kind == "multimodal" else {}
        model = family(kind).fit(*held, given, FitContext(seed=0, threads=threads))
        told[name] = model.predict(test)
        entry = {each: shown(estimate(each, y, told[name])) for each in ("accuracy", "auc")}
        entry |= {"seconds": time.perf_counter() - started, "cpu": time.process_time() - used}
        found[name] = entry
        print(name, json.dumps(entry), flush=True)
    better = {
        name: shown(compare("auc", y, told["all"], told[name])) for name in told if name != "all"
    }
    return {"rows": {"train": cut, "test": rows - cut}, "scores": found, "all_minus": better}


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--out", type=Path)
    reader.add_argument("--rows", type=int, default=4_000)
    reader.add_argument("--threads", type=int, default=1)
    reader.add_argument("--epochs", type=float, default=40.0)
    options = reader.parse_args()
    result = {
        "cores": len(os.sched_getaffinity(0)),
        "threads": options.threads,
        "machine": platform.machine(),
        "load": os.getloadavg()[0],
        "versions": environment(),
        **measure(options.rows, options.threads, {"epochs": options.epochs}),
    }
    print(json.dumps(result["all_minus"], indent=2))
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
