"""What an export costs to serve: loading, memory and one row, beside the release itself.

A table of 5,000 rows with 10 numbers and 10 string categories; for each family one release, its
`folder` export (`loopline.runtime`) and its `onnx` export (onnxruntime, one thread). Each is loaded
and asked in a process of its own.

    python benchmarks/exports.py [--rows 5000] [--out benchmarks/results/exports.json]

Needs `loopline[onnx]` and Linux. Times are processor time, the best of five rounds.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import loopline

FAMILIES: dict[str, dict[str, Any]] = {
    "linear": {},
    "lightgbm": {"rounds": 200},
}
ASK = """
import json, sys, time
began = time.process_time()
kind, place, rows = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
if kind == "release":
    import loopline
    model = loopline.load_release(place)
    ask = model.predict_one
elif kind == "folder":
    from loopline.runtime import load
    ask = load(place).predict_one
else:
    import numpy as np, onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(place + "/model.onnx", options)
    kinds = {each.name: each.type for each in session.get_inputs()}
    def ask(row):
        given = {}
        for name, of in kinds.items():
            text = of == "tensor(string)"
            cell = row[name] if row[name] is not None else ("<missing>" if text else float("nan"))
            given[name] = np.array([[cell]], dtype=object if text else np.float64)
        return session.run(None, given)
ask(rows[0])
loaded = time.process_time() - began
best = 1e9
for _ in range(5):
    began = time.process_time()
    for number in range(400):
        ask(rows[number % len(rows)])
    best = min(best, (time.process_time() - began) / 400)
status = open("/proc/self/status").read()  # the peak of this program, not of its parent
memory = int(status.split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps({"load_seconds": round(loaded, 3), "rss_mb": round(memory, 1),
                  "row_microseconds": round(best * 1e6, 1)}))
"""


def make_table(rows: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    score = np.zeros(rows)
    for place in range(10):
        values = rng.normal(size=rows)
        score += values * rng.normal()
        gaps = rng.random(rows) < 0.05
        columns[f"n{place}"] = pl.Series(np.where(gaps, np.nan, values)).fill_nan(None)
    for place in range(10):
        codes = rng.integers(0, 30, rows)
        score += rng.normal(size=30)[codes]
        columns[f"c{place}"] = [f"level {code}" for code in codes]
    columns["y"] = np.where(score + rng.normal(size=rows) > 0, "yes", "no")
    return pl.DataFrame(columns)


def measure(frame: pl.DataFrame, family: str, params: dict[str, Any]) -> dict[str, Any]:
    rows = json.dumps(frame.drop("y").head(50).to_dicts())
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        result = loopline.fit(
            frame,
            "y",
            models=[{family: params}],
            store=place / "store",
            progress=False,
            settings={"split": {"folds": 2}},
        )
        assert result.release.facts["family"] == family
        result.release.save(place / "release")
        found: dict[str, Any] = {}
        with loopline.open_project(place / "store") as project:
            for form in ("folder", "onnx"):
                done = project.export(result.release.id, form, place / form)
                found[f"{form}_proof"] = done.remarks[0]
        for kind in ("release", "folder", "onnx"):
            arguments = [sys.executable, "-c", ASK, kind, str(place / kind), rows]
            told = subprocess.run(arguments, capture_output=True, text=True, check=True)
            found[kind] = json.loads(told.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    frame = make_table(given.rows)
    found: dict[str, Any] = {
        "rows": given.rows,
        "machine": platform.machine(),
        "versions": {
            name: metadata.version(name)
            for name in ("numpy", "polars", "lightgbm", "onnx", "onnxruntime")
        },
        "python": platform.python_version(),
    }
    for family, params in FAMILIES.items():
        found[family] = measure(frame, family, params)
        print(family, json.dumps(found[family], indent=1))
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
