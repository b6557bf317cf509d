"""Six tables with fixed training and test rows: Loopline beside published AutoGluon numbers.

    python benchmarks/tasks.py --out benchmarks/results/tasks.json

The rows come from a separate folder of task definitions (`LOOPLINE_TASKS`, by default
`../shared/tasks` beside the project), which holds `tasks.py` with `load` and `score`, and
`autogluon.md` with the scores of AutoGluon on exactly these rows. Loopline gets the training rows
as data, the test rows as the official test file, and the group or time column by name; everything
else is its default. Its test predictions are scored by the task's own function, not by Loopline.
The seconds are those of the whole line on this machine: reading, cleaning, split, five folds of
each candidate, the final fit, evaluation and release.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import loopline

ROOT = Path(__file__).resolve().parents[1]
TASKS = Path(os.environ.get("LOOPLINE_TASKS", ROOT.parent / "shared/tasks"))
CALLS = 2000


def load_tasks() -> Any:
    """The module with the fixed rows and scores."""
    file = TASKS / "tasks.py"
    if not file.is_file():
        sys.exit(f"There is no {file}; set LOOPLINE_TASKS to the folder of task definitions.")
    spec = importlib.util.spec_from_file_location("fixed_tasks", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fixed_tasks"] = module
    spec.loader.exec_module(module)
    return module


def published() -> dict[str, list[dict[str, str]]]:
    """The published rows by task, as they stand in the page's table."""
    found: dict[str, list[dict[str, str]]] = {}
    heads: list[str] = []
    for line in (TASKS / "autogluon.md").read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not heads:
            heads = cells
        elif not set(line) <= set("|- "):
            row = dict(zip(heads, cells, strict=True))
            found.setdefault(row["task"], []).append(row)
    return found


def measure(task: Any, module: Any, folder: Path) -> dict[str, Any]:
    """One line on one task, scored by the task's own function."""
    train, test = folder / "train.parquet", folder / "test.parquet"
    pl.from_pandas(task.train).write_parquet(train)
    pl.from_pandas(task.test).write_parquet(test)
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.monotonic()
    result = loopline.fit(
        str(train),
        task.target,
        test=str(test),
        task=task.kind,
        metric=task.metric,
        group=task.group or (),
        time=task.time or (),
        store=folder / "store",
        progress=False,
    )
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    release = result.release
    frame = pl.read_parquet(test)
    began = time.monotonic()
    predicted = release.predict(frame)
    batch = frame.height / (time.monotonic() - began)
    name = "prediction" if task.kind == "regression" else f"probability_{release.classes[1]}"
    rows = frame.drop(task.target).head(200).to_dicts()
    times = []
    for number in range(CALLS):
        start = time.perf_counter()
        release.predict_one(rows[number % len(rows)])
        times.append(time.perf_counter() - start)
    p50, p99 = np.quantile(np.array(times[CALLS // 4 :]) * 1e3, [0.5, 0.99])
    summary = result.summary
    return {
        "metric": task.metric,
        "fingerprint": module.fingerprint(task),
        "chosen": summary["chosen"],
        "why": summary["why"],
        "test": module.score(task, predicted[name].to_numpy()),
        "test_interval": [summary["test"][task.metric][end] for end in ("low", "high")],
        "own_validation": summary["out_of_fold"][task.metric],
        "candidates": {
            entry["name"]: entry["metrics"][task.metric] for entry in summary["candidates"]
        },
        "constant": module.trivial(task),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1
        ),
        "one_row_p50_ms": round(float(p50), 3),
        "one_row_p99_ms": round(float(p99), 3),
        "batch_rows_per_second": round(batch),
        "size_mb": round(summary["measured"]["size_bytes"] / 1e6, 3),
        "load_before": os.getloadavg()[0],
    }


def number(value: float) -> str:
    """Four digits, or whole numbers when large."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def show(name: str, found: dict[str, Any], others: list[dict[str, str]]) -> None:
    """One block a task: Loopline's line, then the published ones."""
    low, high = (number(end) for end in found["test_interval"])
    own = found["own_validation"]
    print(
        f"\n{name} ({found['metric']}; constant {number(found['constant'])})\n"
        f"  {'Loopline ' + found['chosen']:22} test {number(found['test']):>8} [{low}, {high}]  "
        f"own validation {number(own['value'])} [{number(own['low'])}, {number(own['high'])}]  "
        f"{found['seconds']:.0f} s  p99 {found['one_row_p99_ms']:.2f} ms  {found['size_mb']:.2f} MB"
    )
    for row in others:
        print(
            f"  {'AutoGluon ' + row['preset']:22} test {row['test']:>8} "
            f"[{row['95 % interval (unit resampled)']}]  own validation {row['own validation']}  "
            f"{row['fit s']} s  p99 {row['one row p50 / p99 ms'].split('/')[1].strip()} ms  "
            f"{row['disk MB']} MB"
        )


def main() -> None:
    """Run the tasks and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*")
    options = parser.parse_args()
    module = load_tasks()
    others = published()
    results: dict[str, Any] = {}
    for name in options.only or module.names():
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(module.load(name), module, Path(folder))
        show(name, results[name], others.get(name, []))
        results[name]["published"] = others.get(name, [])
        if options.out:
            data = {
                "loopline": loopline.__version__,
                "python": platform.python_version(),
                "cores": os.cpu_count(),
                "tasks": results,
            }
            text = json.dumps(data, indent=1, ensure_ascii=False)
            options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
