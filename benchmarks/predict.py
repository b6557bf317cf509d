"""How fast a fitted model answers: one row at a time, and a table at a time.

    python benchmarks/predict.py            # writes benchmarks/results/predict.json

One row: the input contract's check, the preprocessing and 100 trees of 31 leaves on 20 mixed
features, in microseconds (goal: half of the rows within 100). A table: `TableModel.predict` from
raw columns against the bare booster on the finished matrix (goal: at least 0.8 of its rows per
second). Both sides of each comparison run in turns in one process; medians are reported.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl

from loopline.data.schema import Column, Schema
from loopline.features.contract import InputContract
from loopline.models.base import FitContext
from loopline.models.lightgbm import LightGBM
from loopline.splits.split import all_train

NUMBERS, FLAGS, CATEGORIES = 12, 2, 6
RESULTS = Path(__file__).parent / "results" / "predict.json"


def make_table(rows: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    columns: dict[str, object] = {}
    score = np.zeros(rows)
    for place in range(NUMBERS):
        values = rng.normal(size=rows)
        score += np.sin(values * (1 + place / 4))
        columns[f"number_{place}"] = np.where(rng.random(rows) < 0.05, np.nan, values)
    for place in range(FLAGS):
        columns[f"flag_{place}"] = rng.random(rows) < 0.5
    for place in range(CATEGORIES):
        codes = rng.integers(0, 5 * (place + 1), rows)
        score += (codes % 3) * 0.5
        columns[f"category_{place}"] = np.array([f"level {code}" for code in range(60)])[codes]
    score += rng.normal(size=rows)
    columns["target"] = np.where(score > np.median(score), "yes", "no")
    frame = pl.DataFrame(columns)
    return frame.with_columns(pl.selectors.float().fill_nan(None))


def fit(frame: pl.DataFrame):
    kinds = {"number": "number", "flag": "boolean", "category": "category"}
    columns = [Column(name, kinds[name.split("_")[0]]) for name in frame.columns[:-1]]
    schema = Schema((*columns, Column("target", "category", "target")), "binary", ("no", "yes"))
    digests = np.random.default_rng(0).integers(0, 2**63, (frame.height, 2)).astype(np.uint64)
    view = all_train(digests).train_view(frame, schema)
    model = LightGBM().fit(view, None, {"rounds": 100}, FitContext(seed=0, threads=2))
    return model, InputContract.learn(view)


def microseconds(call: Callable[[dict], object], rows: list[dict]) -> list[float]:
    taken = []
    for row in rows:
        start = time.perf_counter_ns()
        call(row)
        taken.append((time.perf_counter_ns() - start) / 1000)
    return taken


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the table prediction")
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()

    model, contract = fit(make_table(20_000, 0))
    table = make_table(given.rows, 1).drop("target")
    rows = make_table(5_000, 2).drop("target").to_dicts()
    matrix = model.graph.transform(table)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        booster = lightgbm.Booster(model_file=Path(folder) / "model/estimator/model.txt")

    def whole(row: dict) -> object:
        return model.predict_row(contract.check_row(row))

    microseconds(whole, rows[:500])
    one_row = {
        "check, preprocessing and trees": microseconds(whole, rows),
        "preprocessing and trees": microseconds(model.predict_row, rows),
        "preprocessing only": microseconds(model.graph.transform_row, rows),
        "trees only": microseconds(lambda _: model.estimator.predict_one(matrix[:1]), rows),
        "trees only, LightGBM's own predict": microseconds(
            lambda _: booster.predict(matrix[:1]), rows
        ),
    }
    ours, theirs = [], []
    for _ in range(given.repeats):
        ours.append(seconds(lambda: model.predict(table)))
        theirs.append(seconds(lambda: booster.predict(matrix)))
    batch_ours = given.rows / statistics.median(ours)
    batch_theirs = given.rows / statistics.median(theirs)
    results = {
        "one_row_microseconds": {
            name: {
                "p50": round(float(np.quantile(taken, 0.5)), 1),
                "p99": round(float(np.quantile(taken, 0.99)), 1),
            }
            for name, taken in one_row.items()
        },
        "table_rows_per_second": {
            "rows": given.rows,
            "from raw columns": round(batch_ours),
            "bare booster on the finished matrix": round(batch_theirs),
            "ratio": round(batch_ours / batch_theirs, 3),
        },
        "setting": {
            "features": NUMBERS + FLAGS + CATEGORIES,
            "trees": 100,
            "leaves": 31,
            "cores": os.cpu_count(),
            "load_at_end": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
            "lightgbm": lightgbm.__version__,
            "polars": pl.__version__,
        },
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
