"""Do promised floors for precision and recall hold on new rows?

Scores and labels are drawn from populations that are known, a threshold is promised from a sample,
and the true precision or recall at that threshold is read from two million other rows. Told are the
share of promises that hold, beside that of the usual way (the threshold that has the floor on the
sample), and how often a promise could be made.

    python benchmarks/promises.py [--draws 2000] [--out benchmarks/results/promises.json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.errors import DataError
from loopline.evaluate.promise import Floors, promise
from loopline.evaluate.threshold import choose_threshold
from loopline.release.environment import environment

POPULATION = 2_000_000


@dataclass(frozen=True)
class Case:
    """Log odds are normal: `shift` sets how rare positives are, `spread` how well they show."""

    rows: int
    shift: float
    spread: float
    precision: float | None = None
    recall: float | None = None
    group: int = 0
    calibrated: bool = True


CASES = (
    Case(200, -1.0, 2.0, recall=0.8),
    Case(300, -2.0, 2.0, recall=0.9),
    Case(500, 0.0, 2.0, recall=0.9),
    Case(3000, -3.0, 2.0, recall=0.95),
    Case(20_000, -4.0, 2.0, recall=0.9),
    Case(500, 0.0, 2.0, recall=0.9, calibrated=False),
    Case(2000, 0.0, 2.0, recall=0.9, group=10),
    Case(3000, -2.0, 2.0, recall=0.9, group=30),
    Case(500, 0.0, 2.0, precision=0.8),
    Case(2000, 0.0, 3.0, precision=0.9),
    Case(2000, 0.0, 3.0, precision=0.95),
    Case(2000, 0.0, 3.0, precision=0.95, calibrated=False),
    Case(20_000, -2.0, 2.0, precision=0.9),
    Case(5000, -2.0, 3.0, precision=0.8),
    Case(2000, 0.0, 3.0, precision=0.9, group=10),
    Case(20_000, 0.0, 4.0, precision=0.85, recall=0.85),
    Case(500, 0.0, 2.0, precision=0.9),
    Case(1000, 1.0, 1.0, precision=0.9),
    Case(5000, -3.0, 2.0, precision=0.8),
)
"""The last three are floors near what is in reach: a promise is often not possible."""


def draw(
    rng: np.random.Generator, case: Case, rows: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64] | None]:
    odds = case.spread * rng.standard_normal(rows) + case.shift
    units, shared = None, np.zeros(rows)
    if case.group:
        units = np.arange(rows) // case.group
        shared = rng.standard_normal(units[-1] + 1)[units]
    y = (rng.random(rows) < 1 / (1 + np.exp(-odds - shared))).astype(np.int64)
    told = odds if case.calibrated else 0.3 * odds - 1
    return y, 1 / (1 + np.exp(-told)), units


def measure(case: Case, draws: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    y, score, _ = draw(rng, case, POPULATION)
    order = np.argsort(-score)
    ranked, hits = -score[order], np.cumsum(y[order])
    precision, recall = hits / np.arange(1, y.size + 1), hits / hits[-1]
    floors = Floors(case.precision, case.recall)
    aim = ",".join(
        f"{name}>={value}"
        for name, value in (("precision", case.precision), ("recall", case.recall))
        if value is not None
    )

    def holds(threshold: float) -> bool:
        place = max(0, int(np.searchsorted(ranked, -threshold, side="right")) - 1)
        return bool(
            (case.precision is None or precision[place] >= case.precision)
            and (case.recall is None or recall[place] >= case.recall)
        )

    made = kept = usual = tried = 0
    for _ in range(draws):
        sample, p, units = draw(rng, case, case.rows)
        found = promise(sample, p, floors, units=units)
        if found.verdict == "yes":
            made += 1
            kept += holds(float(found.threshold or 0.0))
        try:
            usual += holds(choose_threshold(sample, p, aim).value)
            tried += 1
        except DataError:
            continue
    return {
        "case": {name: value for name, value in vars(case).items() if value is not None},
        "promised": made / draws,
        "kept": kept / made if made else None,
        "broken_of_all": (made - kept) / draws,
        "usual_way_kept": usual / tried if tried else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    began = time.monotonic()
    results = []
    for number, case in enumerate(CASES):
        found = measure(case, arguments.draws, number)
        results.append(found)
        usual = found["usual_way_kept"]
        print(
            f"{found['case']}: promised {found['promised']:.2f}, kept {found['kept']:.3f}, "
            f"usual way {'–' if usual is None else f'{usual:.3f}'}",
            flush=True,
        )
    data = {
        "draws": arguments.draws,
        "seconds": round(time.monotonic() - began, 1),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "versions": environment(),
        "cases": results,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
