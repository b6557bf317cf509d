"""The synthetic tables and the child processes that the benchmarks of the whole line share."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

BLOCK = 250_000


@dataclass(frozen=True)
class Child:
    """How one child process went."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


def run_child(command: Sequence[str | Path], folder: Path, **environment: str) -> Child:
    """Run a command to its end; its own wall time, processor time and peak of resident memory."""
    output = folder / "child.out"
    began = time.perf_counter()
    with output.open("wb") as out, (folder / "child.err").open("wb") as err:
        process = subprocess.Popen(  # its rusage is waited for below, not by subprocess
            [str(part) for part in command],
            cwd=folder,
            stdout=out,
            stderr=err,
            env={**os.environ, **environment},
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit((folder / "child.err").read_text()[-4000:])
    unit = 1 if sys.platform == "darwin" else 1024
    return Child(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * unit, output.read_text())


def own_peak_bytes() -> int:
    """Peak of resident memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def make_table(rows: int, columns: int, strings: int, seed: int) -> pl.DataFrame:
    """A mixed table: numbers with 2 % missing, strings of few values, a binary target.

    Made block by block, so that a table of any length costs its own size and no more.
    """
    rng = np.random.default_rng(seed)
    levels = [np.array([f"level {code}" for code in range(4 * (k + 1))]) for k in range(strings)]
    weights = rng.normal(size=columns) / np.sqrt(columns)
    parts = []
    for start in range(0, rows, BLOCK):
        size = min(BLOCK, rows - start)
        cells: dict[str, object] = {}
        score = rng.normal(size=size)
        for place in range(columns - strings):
            values = rng.normal(size=size)
            score += 3 * weights[place] * np.sin(values * (1 + place % 3))
            values[rng.random(size) < 0.02] = np.nan
            cells[f"number_{place}"] = pl.Series(values, nan_to_null=True)
        for place in range(strings):
            codes = rng.integers(0, len(levels[place]), size)
            score += (codes % 3 - 1) * 0.4
            cells[f"string_{place}"] = levels[place][codes]
        cells["target"] = np.where(score > 0, "yes", "no")
        parts.append(pl.DataFrame(cells))
    return pl.concat(parts, rechunk=True)


def write_table(path: Path, rows: int, columns: int, strings: int, seed: int = 0) -> int:
    """Write such a table as CSV or Parquet; gives its size in memory (`estimated_size`), bytes."""
    frame = make_table(rows, columns, strings, seed)
    if path.suffix == ".csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)
    return int(frame.estimated_size())
