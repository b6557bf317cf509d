"""How well does each text model name the intent of a bank customer's question, and at what price?

The official files of banking77: 10,003 questions to learn from, 3,080 to be scored on, 77 intents.
The recipe was chosen on a tenth of the training rows; the test file is read once, at the end. The
rivals are the linear family on weighted terms, a linear head on the frozen encoder, and the encoder
tuned whole or by adapters, in the same run.

    python benchmarks/banking77.py [--out benchmarks/results/banking77.json] [--only full]
        [--precision bf16] [--keep FOLDER]

`--keep` names a folder for checkpoints: started again, a killed fit goes on from the last one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopline.data.schema import Column, Schema
from loopline.models.base import FitContext, FittedModel
from loopline.models.families import family
from loopline.release.environment import environment
from loopline.splits.split import all_train
from loopline.splits.views import TrainView

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("LOOPLINE_DATA", HERE.parents[1] / "shared" / "data")) / "banking77"
WAYS = ("terms", "head", "lora", "full")
PENALTY_SHARE = 0.1


def view(frame: pl.DataFrame, classes: tuple[str, ...]) -> TrainView:
    columns = (Column("text", "text"), Column("category", "category", "target"))
    digests = np.random.default_rng(0).integers(0, 2**63, (frame.height, 2)).astype(np.uint64)
    return all_train(digests).train_view(frame, Schema(columns, "multiclass", classes))


def fit(way: str, train: TrainView, context: FitContext, params: dict[str, Any]) -> FittedModel:
    """As a line does: what the held-out tenth settles, then a fit on all rows."""
    kind = family("linear" if way == "terms" else "text")
    if way in ("full", "lora"):
        return kind.fit(train, None, params, context)
    part = train.holdout(PENALTY_SHARE, 0)
    assert part is not None
    settled = kind.consolidate([kind.fit(part[0], part[1], params, context).params])
    return kind.fit(train, None, settled, context)


def params_of(way: str, penalty: float | None, precision: str) -> dict[str, Any]:
    if way == "terms":
        return {}
    if way == "head":
        return {"tune": "head"}
    return {"tune": way, "penalty": penalty or "auto", "precision": precision}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    train, test = (pl.read_csv(DATA / f"{name}.csv") for name in ("train", "test"))
    classes = tuple(sorted(train["category"].unique()))
    rows = view(train, classes)
    code = np.array([classes.index(name) for name in test["category"]])
    result: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0)),
        "threads": options.threads,
        "machine": platform.machine(),
        "load": os.getloadavg()[0],
        "versions": environment(),
        "rows": {"train": train.height, "test": test.height},
        "scores": {},
    }
    penalty = options.penalty
    for way in options.only or WAYS:
        folder = None if options.keep is None else options.keep / way
        context = FitContext(seed=0, threads=options.threads, folder=folder, digests={"way": way})
        began, cpu = time.perf_counter(), time.process_time()
        model = fit(way, rows, context, params_of(way, penalty, options.precision))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        if way == "head":
            penalty = float(model.params["penalty"])
        predicted = model.predict(test.select("text"))
        chosen = predicted[np.arange(code.size), code]
        result["scores"][way] = {
            "accuracy": round(float((predicted.argmax(axis=1) == code).mean()), 4),
            "log_loss": round(float(-np.log(np.maximum(chosen, 1e-15)).mean()), 4),
            "fit_seconds": round(seconds, 1),
            "fit_cpu_seconds": round(cpu, 1),
            "params": model.params,
        }
        print(way, json.dumps(result["scores"][way]), flush=True)
        if options.out is not None:
            options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="+", choices=WAYS)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--penalty", type=float)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=Path)
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
