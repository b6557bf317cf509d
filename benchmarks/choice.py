"""Is the simplest model chosen where it should be, and are limits kept when measured again?

Three questions, each with whole lines (`loopline.fit`):

1. Data drawn from a linear model: how often is the linear family chosen over LightGBM?
2. Data that needs an interaction: how often are the trees?
3. A limit on the latency of one row, a third above what the chosen model had in a run without:
   is it kept when the released model is measured again in a process of its own?

    python benchmarks/choice.py [--draws 100] [--limits 20] [--out benchmarks/results/choice.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import loopline
from loopline.errors import LimitError
from loopline.line.measuring import measure
from loopline.release.environment import environment

ROWS, COLUMNS = 600, 5
MODELS = ["baseline", "linear", "lightgbm"]
ROOM = 4 / 3


def table(seed: int, kind: str, task: str) -> pl.DataFrame:
    """Five columns, of which the target needs three; signal and noise weigh about the same."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((ROWS, COLUMNS))
    linear = x[:, 0] - 0.7 * x[:, 1] + 0.5 * x[:, 2]
    crossed = 1.5 * x[:, 0] * x[:, 1] + 0.5 * x[:, 2]
    raw = linear if kind == "linear" else crossed
    if task == "regression":
        y: Any = raw + rng.standard_normal(ROWS)
    else:
        y = np.where(rng.random(ROWS) < 1 / (1 + np.exp(-1.5 * raw)), "yes", "no")
    return pl.DataFrame({**{f"x{place}": x[:, place] for place in range(COLUMNS)}, "y": y})


def chosen(kind: str, task: str, draws: int) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for seed in range(draws):
        with tempfile.TemporaryDirectory() as store:
            result = loopline.fit(
                table(seed, kind, task), "y", models=MODELS, store=store, progress=False
            )
            counts[result.summary["chosen"]] += 1
    return dict(counts)


def again(seed: int) -> dict[str, Any]:
    """One line with a limit near what the model needs, and the release measured once more."""
    frame = table(seed, "crossed" if seed % 2 else "linear", "regression")
    with tempfile.TemporaryDirectory() as store:

        def fit(**settings: Any) -> loopline.Result:
            return loopline.fit(
                frame, "y", models=MODELS, store=store, settings=settings, progress=False
            )

        loose = fit(constraints={"latency_p99": 10.0}).summary
        entry = next(e for e in loose["candidates"] if e["name"] == loose["chosen"])
        first = entry["measured"]["latency_p99"]
        limit = first * ROOM
        try:
            result = fit(constraints={"latency_p99": limit})
        except LimitError:
            return {"limit": limit, "refused": True}
        folder = Path(store) / "again"
        folder.mkdir()
        result.release.save(folder / "release")
        frame.drop("y").head(500).write_parquet(folder / "rows.parquet")
        found = measure(folder, 2.0, "http")["latency_p99"]
        return {
            "limit": limit,
            "chosen": result.summary["chosen"],
            "again": found,
            "broken": found > limit,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--limits", type=int, default=20)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    began = time.monotonic()
    counts = {}
    for kind in ("linear", "crossed"):
        for task in ("regression", "binary"):
            counts[f"{kind} {task}"] = chosen(kind, task, arguments.draws)
            print(kind, task, counts[f"{kind} {task}"], flush=True)
    limited = [again(seed) for seed in range(arguments.limits)]
    broken = sum(entry.get("broken", False) for entry in limited)
    refused = sum(entry.get("refused", False) for entry in limited)
    print(f"limits broken when measured again: {broken} of {len(limited)}, refused {refused}")
    data = {
        "rows": ROWS,
        "draws": arguments.draws,
        "chosen": counts,
        "limits": limited,
        "seconds": round(time.monotonic() - began, 1),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "versions": environment(),
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
