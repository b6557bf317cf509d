"""The whole line on a million rows against a hand-written script that trains the same model.

    python benchmarks/line.py            # writes benchmarks/results/line.json

One candidate (LightGBM, 100 rounds of 31 leaves; the baseline takes part as always), 3 folds, from
the file to a release with test metrics; `line_by_hand.py` reads, splits, cross-validates, fits and
scores likewise. Both run as whole processes, in turns, with OpenMP's threads asleep while they wait
(Loopline's command sets that itself): spinning ones would measure the machine's other work. Goal:
at most 1.5 times as long (medians). The audit's three stages take part; what the ratio is without
them, which is the same work as the script's, is told beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
from tables import Child, run_child, write_table

RESULTS = Path(__file__).parent / "results" / "line.json"
BY_HAND = Path(__file__).parent / "line_by_hand.py"
AUDIT = ("structure", "audit", "review")
"""Stages that look for leaks, wrong labels and poor rows, which the script by hand does not."""
SETTINGS = """\
data: {{source: {file}}}
target: target
models:
  - name: lightgbm
    family: lightgbm
    params: {{rounds: {rounds}, patience: {rounds}, num_leaves: 31}}
split: {{test: 0.2, folds: 3}}
threads: {threads}
"""


def run_line(folder: Path, store: Path) -> tuple[Child, dict]:
    shutil.rmtree(store, ignore_errors=True)
    command = [sys.executable, "-m", "loopline", "run", "loopline.yaml", "--json"]
    child = run_child(command, folder, LOOPLINE_STORE=str(store))
    return child, json.loads(child.output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--format", choices=("parquet", "csv"), default="parquet")
    given = parser.parse_args()
    ours: list[Child] = []
    theirs: list[Child] = []
    stages: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = f"table.{given.format}"
        size = write_table(folder / file, given.rows, 30, 6)
        (folder / "loopline.yaml").write_text(
            SETTINGS.format(file=file, rounds=given.rounds, threads=given.threads)
        )
        by_hand = [
            sys.executable, BY_HAND, file, "model.txt", str(given.rounds), str(given.threads)
        ]  # fmt: skip
        summary: dict = {}
        scores: dict = {}
        for _ in range(given.repeats):
            child = run_child(by_hand, folder, OMP_WAIT_POLICY="passive")
            scores = json.loads(child.output)
            theirs.append(child)
            child, summary = run_line(folder, folder / "store")
            ours.append(child)
            for entry in summary["stages"]:
                stages.setdefault(entry["stage"], []).append(entry["seconds"])
            print(f"by hand {theirs[-1].seconds:.1f} s, loopline {ours[-1].seconds:.1f} s")
    results = {
        "seconds": {
            "loopline": [round(child.seconds, 1) for child in ours],
            "by hand": [round(child.seconds, 1) for child in theirs],
            "ratio of medians": round(_median(ours, "seconds") / _median(theirs, "seconds"), 2),
            "the same without the audit's stages": round(
                (_median(ours, "seconds") - sum(map(statistics.median, map(stages.get, AUDIT))))
                / _median(theirs, "seconds"),
                2,
            ),
        },
        "processor_seconds": {
            "loopline": round(_median(ours, "cpu_seconds"), 1),
            "by hand": round(_median(theirs, "cpu_seconds"), 1),
            "ratio of medians": round(
                _median(ours, "cpu_seconds") / _median(theirs, "cpu_seconds"), 2
            ),
        },
        "peak_megabytes": {
            "loopline": round(_median(ours, "peak_bytes") / 1e6),
            "by hand": round(_median(theirs, "peak_bytes") / 1e6),
            "table": round(size / 1e6),
        },
        "stage_seconds": {name: round(statistics.median(all_), 2) for name, all_ in stages.items()},
        "auc": {
            "loopline": {
                "out of fold": summary["out_of_fold"]["auc"]["value"],
                "test": summary["test"]["auc"]["value"],
            },
            "by hand": scores,
        },
        "setting": {
            "rows": given.rows,
            "columns": 30,
            "strings": 6,
            "format": given.format,
            "rounds": given.rounds,
            "leaves": 31,
            "folds": 3,
            "threads": given.threads,
            "OMP_WAIT_POLICY": "passive",
            "cores": os.cpu_count(),
            "load_at_end": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
            "lightgbm": lightgbm.__version__,
            "numpy": np.__version__,
            "polars": pl.__version__,
        },
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))


def _median(children: list[Child], name: str) -> float:
    return statistics.median(getattr(child, name) for child in children)


if __name__ == "__main__":
    main()
