"""What does giving up early save, and is the best as good?

    python benchmarks/search_pruning.py whole runs.jsonl [--seeds 2]    # whole searches, real
    python benchmarks/search_pruning.py limits replay.jsonl             # other limits, replayed
    python benchmarks/search_pruning.py whole runs.jsonl --into results/search.json

`whole`: two searches of the linear family and LightGBM by TPE, 128 trials on five folds, equal but
for `prune`. Told at 64 and at 128 trials: the work in fits of a fold (a sample counts by its rows;
a fit that was given up on its way counts whole), the processor time of the trials, the best
out-of-fold score, and what the winner's fold models score on the test rows, which chose nothing.

`limits`: 128 random trials of LightGBM fitted whole on five folds, then given up by the rule under
several limits, in 200 orders of 64 and of all of them.

Real tables (LOOPLINE_DATA, default ../shared/data). Each line of a file is one search; what is
there is not made again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from search_optimism import DATES, mean, truths
from search_trials import BARE, Case, gathered, hunt_of, put

from loopline.evaluate.intervals import student_tail
from loopline.evaluate.metrics import metric
from loopline.evaluate.rows import Units
from loopline.line.race import metric_name
from loopline.line.search import Hunt
from loopline.line.trial import run_trial
from loopline.line.trial_scores import OUT_OF_FOLD, fold_sizes, full
from loopline.search.record import Record
from loopline.select.compare import compare_rows
from loopline.splits.spec import FOLD_VALID

FEW = {"rounds": 60}
COUNTS = (64, 128)
BOUNDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
ORDERS = 200
CASES = {
    "telco": Case(
        "telco_churn/Telco-Customer-Churn.csv", "Churn", "lightgbm", 3_500, FEW, ("customerID",)
    ),
    "wine": Case("wine_quality/wine_quality.csv", "quality", "lightgbm", 3_500, FEW),
    "california": Case(
        "california_housing/housing.csv", "median_house_value", "lightgbm", 3_500, FEW
    ),
    "bike hour": Case("bike_sharing/hour.csv", "cnt", "lightgbm", 3_500, FEW, DATES),
    "adult": Case(
        "adult/adult.data", "column_15", "lightgbm", 3_500, FEW, ("column_3",), read=BARE
    ),
}


def conducted(hunt: Hunt) -> list[tuple[Record, float]]:
    """All trials of a search, each with its processor time."""
    found = []
    while (trial := hunt.study.ask()) is not None:
        began = time.process_time()
        record = run_trial(hunt.context, hunt.prepared, hunt._job(trial))
        hunt.study.tell(record)
        found.append((record, time.process_time() - began))
    return found


def side(hunt: Hunt, made: list[tuple[Record, float]], count: int) -> dict[str, Any]:
    """What the first trials of a search cost and found."""
    chosen = metric(metric_name(hunt.context, hunt.prepared))
    records = [record for record, _ in made[:count]]
    rows = fold_sizes(hunt.prepared)[1]
    work = [1.0 if step.rows is None else step.rows / rows for step in hunt.steps]
    winner = hunt.study.best(records)
    return {
        "fits": sum(sum(work[: max(1, len(record.steps))]) for record in records),
        "on_the_way": sum(record.state == "pruned" and not record.steps for record in records),
        "cpu_seconds": round(sum(seconds for _, seconds in made[:count]), 2),
        "best": winner.value,
        "winner": [winner.number, winner.arm],
        "truth": truths(hunt, chosen, winner)["truth"],
        "complete": sum(record.state == "complete" for record in records),
        "boosted": sum(record.arm == "lightgbm" for record in records),
    }


def whole(name: str, seed: int) -> dict[str, Any]:
    """Both searches of one table and seed."""
    found: dict[str, Any] = {"table": name, "seed": seed}
    for prune in (True, False):
        with tempfile.TemporaryDirectory() as store:
            hunt = hunt_of(
                CASES[name], "bayesian", seed, store, trials=max(COUNTS), prune=prune, folds=5,
                beside=("linear",),
            )  # fmt: skip
            made = conducted(hunt)
            for count in COUNTS:
                found.setdefault(str(count), {})["pruned" if prune else "whole"] = side(
                    hunt, made, count
                )
            found["sign"] = metric(metric_name(hunt.context, hunt.prepared)).sign
    for count in COUNTS:
        entry = found[str(count)]
        for kind in ("fits", "cpu_seconds"):
            entry[f"{kind}_saved"] = round(entry["whole"][kind] / entry["pruned"][kind], 3)
    return found


def whole_told(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios and differences over all runs."""
    told: dict[str, Any] = {"part": "pruning", "runs": rows, "searches": len(rows)}
    for count in map(str, COUNTS):
        own = [row[count] for row in rows]
        told[count] = {
            **{
                f"{kind}_saved": {
                    "median": median(entry[f"{kind}_saved"] for entry in own),
                    "range": [f([entry[f"{kind}_saved"] for entry in own]) for f in (min, max)],
                }
                for kind in ("fits", "cpu_seconds")
            },
            **{
                f"{score}_lost_in_percent": mean(
                    [
                        100
                        * row["sign"]
                        * (row[count]["whole"][score] - row[count]["pruned"][score])
                        / abs(row[count]["whole"][score])
                        for row in rows
                    ]
                )
                for score in ("best", "truth")
            },
        }  # fmt: skip
    return told


def chances(hunt: Hunt, records: list[Record]) -> tuple[Any, np.ndarray]:
    """A function of two trials: the chance that one is better after each fold; all values."""
    chosen = metric(metric_name(hunt.context, hunt.prepared))
    arrays = [load_file(hunt.context.store.get(str(r.artifact)).path(OUT_OF_FOLD)) for r in records]
    view = hunt.prepared.train.at(arrays[0]["rows"])
    fold = (hunt.prepared.split.folds[arrays[0]["rows"]] == FOLD_VALID).argmax(axis=1)
    parts = [fold <= last for last in range(fold.max())]
    units = [Units.build(None, int(part.sum())) for part in parts]
    cut = [
        [
            chosen.rows(view.target[part], full(each["prediction"])[part], folds=fold[part])
            for part in parts
        ]
        for each in arrays
    ]
    known: dict[tuple[int, int], list[float]] = {}

    def chance(mine: int, other: int) -> list[float]:
        if (mine, other) not in known:
            found = [
                compare_rows(chosen, b, a, each)
                for a, b, each in zip(cut[mine], cut[other], units, strict=True)
            ]
            known[mine, other] = [
                student_tail(d.value / d.standard_error, d.freedom) if d.standard_error else 0.5
                for d in found
            ]
        return known[mine, other]

    return chance, chosen.sign * np.array([record.value for record in records])


def limits(name: str, seed: int) -> dict[str, Any]:
    """Random trials of one table under several limits."""
    with tempfile.TemporaryDirectory() as store:
        hunt = hunt_of(CASES[name], "random", seed, store, trials=max(COUNTS), folds=5)
        records = [record for record, _ in conducted(hunt) if record.state == "complete"]
        chance, value = chances(hunt, records)
        rng = np.random.default_rng(0)
        found = {}
        for count in COUNTS:
            orders = [rng.permutation(np.arange(1, len(value)))[: count - 1] for _ in range(ORDERS)]
            for bound in BOUNDS:
                saved, lost = zip(
                    *(replayed(order, chance, value, bound) for order in orders), strict=True
                )
                found[f"{count} trials, limit {bound}"] = {
                    "saved": round(median(saved), 2), "share_of_gain_lost": round(fmean(lost), 4)
                }  # fmt: skip
    return {"table": name, "seed": seed, "limits": found}


def replayed(order: Any, chance: Any, value: Any, bound: float) -> tuple[float, float]:
    """How many times fewer fits one order takes, and the share of what was won that it loses."""
    best, fits = 0, 5
    for trial in map(int, order):
        below = [step for step, each in enumerate(chance(trial, best)) if each < bound]
        fits += below[0] + 1 if below else 5
        if not below and value[trial] > value[best]:
            best = trial
    top = max(value[0], value[order].max())
    return 5 * (len(order) + 1) / fits, float((top - value[best]) / ((top - value[0]) or 1.0))


def limits_told(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """By limit and number of trials, over the tables."""
    keys = list(rows[0]["limits"])
    return {
        "part": "limits", "runs": rows,
        "means": {
            key: {
                "saved": round(median(row["limits"][key]["saved"] for row in rows), 2),
                "share_of_gain_lost": round(
                    fmean(row["limits"][key]["share_of_gain_lost"] for row in rows), 4
                ),
            }
            for key in keys
        },
    }  # fmt: skip


PARTS = {"whole": (whole, whole_told), "limits": (limits, limits_told)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(CASES))
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    make, tell = PARTS[given.part]
    seeds = range(0 if given.into else given.seeds)
    wanted = [(name, seed) for seed in seeds for name in given.only]
    found = tell(gathered(given.runs, ("table", "seed"), wanted, make))
    print(json.dumps({key: value for key, value in found.items() if key != "runs"}, indent=1))
    if given.into:
        put(given.into, found["part"], found)


if __name__ == "__main__":
    main()
