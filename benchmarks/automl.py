"""Loopline beside AutoGluon, FLAML and a tuned LightGBM: same rows, same five minutes, two cores.

Eleven public tasks with fixed training and test rows (`automl_rows.py`). Each system gets the
training rows with the names of target, group and time column, and SECONDS; its test predictions
are scored here, with intervals over whole groups or days, and compared in pairs.

Loopline runs twice, each time on its own: the simplest model that is good enough, and
`select: best`. The rivals run in environments of their own (`automl_rivals.py`).

    python benchmarks/automl.py --out benchmarks/results/automl.json [--only adult elec2]
        [--systems loopline-best lightgbm] [--python flaml=/path/to/python] [--seconds 300]

A result that is in the file is not made again; predictions of the test rows lie beside it, so that
pairs are compared without a second run. `--table` prints the table of what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import automl_rows
import numpy as np
import pandas as pd
import polars as pl
from automl_line import run_line, write
from numpy.typing import NDArray

from loopline.evaluate.intervals import estimate
from loopline.evaluate.metrics import metric
from loopline.select.compare import compare

HERE = Path(__file__).resolve().parent
RIVALS = ("lightgbm", "flaml", "autogluon-medium", "autogluon-best")
MINE = ("loopline-simplest", "loopline-best")
SYSTEMS = (*MINE, *RIVALS)
Floats = NDArray[np.float64]
Result = dict[str, Any]


def run_loopline(system: str, rows: automl_rows.Rows, folder: Path, seconds: float) -> Result:
    """One choice, with a search and a budget of its own."""
    facts = rows.facts
    began = time.monotonic()
    result = run_line(
        facts,
        rows.train,
        folder / "store",
        search={"budget": seconds},
        select=system.removeprefix("loopline-"),
    )
    took = time.monotonic() - began
    summary, release = result.summary, result.release
    frame = pl.from_pandas(rows.test.drop(columns=facts.target))
    predicted = release.predict(frame)
    name = "prediction" if facts.kind == "regression" else f"probability_{release.classes[1]}"
    measured = summary["measured"]
    return {
        "prediction": predicted[name].to_numpy(),
        "chosen": summary["chosen"],
        "why": summary["why"],
        "validation": summary["out_of_fold"][facts.metric],
        "optimism": summary["search"]["optimism"],
        "trials": summary["search"]["trials"],
        "fit_seconds": took,
        "bytes": measured["size_bytes"],
        "one_row_p50_ms": measured["predict_one_p50_microseconds"] / 1e3,
        "one_row_p99_ms": measured["predict_one_p99_microseconds"] / 1e3,
    }


def run_rival(
    system: str, rows: automl_rows.Rows, folder: Path, seconds: float, python: str
) -> Result:
    """One rival in a process of its own."""
    automl_rows.write(rows, folder)
    command = [python, str(HERE / "automl_rivals.py"), system, str(folder), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{system} on {rows.facts.name} failed:\n{done.stderr[-2000:]}")
    told: dict[str, Any] = json.loads((folder / "told.json").read_text(encoding="utf-8"))
    return {**told, "prediction": np.load(folder / "prediction.npy")}


def score(rows: automl_rows.Rows, prediction: Floats) -> dict[str, float]:
    """The test score with its interval over groups or days."""
    y = rows.test[rows.facts.target].to_numpy()
    found = estimate(rows.facts.metric, y, prediction, units=automl_rows.units(rows))
    return {"value": found.value, "low": found.low, "high": found.high}


def against(rows: automl_rows.Rows, mine: Floats, other: Floats) -> dict[str, float]:
    """How much better `mine` is, with the interval of the pair."""
    y = rows.test[rows.facts.target].to_numpy()
    found = compare(rows.facts.metric, y, mine, other, units=automl_rows.units(rows))
    return {"value": found.value, "low": found.low, "high": found.high}


def table(results: dict[str, Any]) -> str:
    """The committed results as the page shows them."""
    lines = [
        "| task | system | test | 95 % | own validation | one row p99 ms | MB | fit s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, systems in results.items():
        for system, entry in systems.items():
            own, size = entry["validation"], entry.get("bytes")
            own = own["value"] if isinstance(own, dict) else own
            test = entry["test"]
            lines.append(
                f"| {name} | {system} | {test['value']:.5g} | {test['low']:.5g} – "
                f"{test['high']:.5g} | {own:.5g} | {entry['one_row_p99_ms']:.3g} | "
                f"{'–' if size is None else f'{size / 1e6:.3g}'} | {entry['fit_seconds']:.0f} |"
            )
    return "\n".join(lines)


def ranks(results: dict[str, Any]) -> dict[str, float]:
    """Mean rank of each system over the tasks that all of them have."""
    systems = set.intersection(*(set(entries) for entries in results.values()))
    scores = {
        system: [
            -metric(entries[system]["metric"]).sign * entries[system]["test"]["value"]
            for entries in results.values()
        ]
        for system in sorted(systems)
    }
    ranked = pd.DataFrame(scores).rank(axis=1)
    return {name: float(value) for name, value in ranked.mean().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--systems", nargs="*", choices=SYSTEMS, default=[*MINE, "lightgbm"])
    parser.add_argument("--python", nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--keep", type=Path, default=HERE / "results/automl")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    if options.out and options.out.is_file():
        results = json.loads(options.out.read_text(encoding="utf-8"))["tasks"]
    if options.table:
        print(table(results))
        print(ranks(results))
        return
    pythons = dict(entry.split("=", 1) for entry in options.python)
    options.keep.mkdir(exist_ok=True)
    for name in options.only or automl_rows.names():
        rows = automl_rows.load(name)
        entries = results.setdefault(name, {})
        for system in options.systems:
            if system in entries:
                continue
            load = os.getloadavg()[0]
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place)
                if system in MINE:
                    found = run_loopline(system, rows, folder, options.seconds)
                else:
                    python = pythons.get(system.split("-")[0], sys.executable)
                    found = run_rival(system, rows, folder, options.seconds, python)
            prediction = found.pop("prediction")
            np.save(options.keep / f"{name}-{system}.npy", prediction.astype(np.float32))
            entries[system] = {
                "metric": rows.facts.metric,
                "test": score(rows, prediction),
                "load_before": load,
                **found,
            }
            print(name, system, json.dumps(entries[system])[:400], flush=True)
            write(options.out, seconds=options.seconds, tasks=results)
        for mine in MINE:
            for other in list(entries):
                files = [options.keep / f"{name}-{each}.npy" for each in (mine, other)]
                if mine in entries and mine != other and all(file.is_file() for file in files):
                    pair = against(rows, *(np.load(each).astype(np.float64) for each in files))
                    entries[mine].setdefault("better_than", {})[other] = pair
        write(options.out, seconds=options.seconds, tasks=results)
    print(table(results))


if __name__ == "__main__":
    main()
