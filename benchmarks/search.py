"""What does a search save, cost and promise?

    python benchmarks/search.py PART [small] [results.json]

`bayesian`   how many trials does Bayesian search need to reach random search's best of 64?
`pruning`    how much time does giving up early save, and does the best stay as good?
`limits`     what would other limits of giving up have saved and lost, on the same trials?
`overhead`   what does a search cost beside its trials, when one takes a second?
`optimism`   does the corrected score say what the winner scores on rows that chose nothing?

Real tables from LOOPLINE_DATA (default ../shared/data). `small` takes fewer tables and seeds.
Times are compared within one run of this script only.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
from safetensors.numpy import load_file

import loopline
from loopline.data.snapshot import open_snapshot
from loopline.evaluate.intervals import student_tail
from loopline.evaluate.metrics import metric
from loopline.evaluate.rows import Units
from loopline.line import search_pool
from loopline.line.prepare import Plan
from loopline.line.search_arms import TRIAL
from loopline.line.trial_scores import OUT_OF_FOLD, full
from loopline.search.record import Record
from loopline.select.compare import compare_rows
from loopline.splits.spec import FOLD_VALID
from loopline.splits.split import Split

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("LOOPLINE_DATA", ROOT.parent / "shared" / "data"))
TABLES = {
    "titanic": ("titanic/titanic.csv", "survived", ("alive",)),
    "telco": ("telco_churn/Telco-Customer-Churn.csv", "Churn", ("customerID",)),
    "wine": ("wine_quality/wine_quality.csv", "quality", ()),
    "california": ("california_housing/housing.csv", "median_house_value", ()),
    "bike day": ("bike_sharing/day.csv", "cnt", ("casual", "registered", "instant", "dteday")),
    "bike hour": ("bike_sharing/hour.csv", "cnt", ("casual", "registered", "instant", "dteday")),
    "mammography": ("mammography/mammography.csv", None, ()),
}
TRIALS = 64


def table(name, num_rows, seed=0):
    """A table with its target and the columns to leave out, at most so many rows of it."""
    file, target, ignore = TABLES[name]
    frame = pl.read_csv(DATA / file, infer_schema_length=None, null_values=["", "?"])
    if target is None:
        target = frame.columns[-1]
    if frame.height > num_rows:
        frame = frame.sample(num_rows, seed=seed, shuffle=True)
    return frame, target, ignore


def searched(frame, target, ignore, store, models, seed=0, folds=3, **search):
    """A finished search and its records."""
    result = loopline.fit(
        frame, target, ignore=list(ignore), models=models, store=store, progress=False, seed=seed,
        settings={
            "search": {"warm": False, **search}, "audit": "report", "threads": 1,
            "split": {"folds": folds, "test": 0.2},
        },
    )  # fmt: skip
    name = result.summary["search"]["study"]
    events = result._project.ledger.events(kind=TRIAL, subject=name)
    return result, [Record.from_dict(event.data["record"]) for event in events]


def best_so_far(records, higher):
    """The best value after each trial."""
    sign = 1.0 if higher else -1.0
    values = [sign * r.value if r.state == "complete" else -np.inf for r in records]
    return sign * np.maximum.accumulate(values)


def bayesian(small):
    """Trials of Bayesian search until it is as good as random search after 64."""
    names = ("titanic", "wine", "bike day") if small else tuple(TABLES)
    seeds = range(2 if small else 10)
    models = [{"lightgbm": {"rounds": 40 if small else "auto"}}]
    rows = {}
    for name in names:
        frame, target, ignore = table(name, 600 if small else 4_000)
        needed = []
        for seed in seeds:
            curves = {}
            for method in ("random", "bayesian"):
                with tempfile.TemporaryDirectory() as store:
                    result, records = searched(
                        frame, target, ignore, store, models, seed=seed,
                        method=method, trials=TRIALS, prune=False,
                    )  # fmt: skip
                higher = metric(result.summary["metric"]).higher_is_better
                curves[method] = best_so_far(records, higher)
            goal = curves["random"][-1]
            reached = curves["bayesian"] >= goal if higher else curves["bayesian"] <= goal
            needed.append(int(np.argmax(reached)) + 1 if reached.any() else None)
            print(name, seed, needed[-1], flush=True)
        rows[name] = needed
    every = [TRIALS + 1 if n is None else n for counts in rows.values() for n in counts]
    return {"needed": rows, "median": median(every), "not_within_64": every.count(TRIALS + 1)}


def pruning(small):
    """Seconds of all trials and the best score, with and without giving up early."""
    names = ("telco", "wine") if small else ("telco", "wine", "bike hour", "california")
    rows = []
    for name in names:
        frame, target, ignore = table(name, 2_000 if small else 20_000)
        for seed in range(1 if small else 3):
            entry = {"table": name, "seed": seed}
            for prune in (True, False):
                with tempfile.TemporaryDirectory() as store:
                    result, records = searched(
                        frame, target, ignore, store, ["linear", "lightgbm"], seed=seed, folds=5,
                        trials=40 if small else 60, prune=prune,
                    )  # fmt: skip
                side = "pruned" if prune else "whole"
                entry[side] = {
                    "seconds": round(sum(record.seconds for record in records), 2),
                    "best": result.summary["search"]["best"]["value"],
                    "test": result.summary["test"][result.summary["metric"]]["value"],
                    "states": result.summary["search"]["trials"],
                }
            entry["saved"] = round(entry["whole"]["seconds"] / entry["pruned"]["seconds"], 2)
            rows.append(entry)
            print(json.dumps(entry), flush=True)
    return {"runs": rows, "median_saved": median(row["saved"] for row in rows)}


def chances(result, records, sizes):
    """Chance that trial i is better than j after the first k folds, and each trial's value."""
    store, goal = result._project.store, metric(result.summary["metric"])
    arrays = [load_file(store.get(r.artifact).path(OUT_OF_FOLD)) for r in records]
    rows = arrays[0]["rows"]
    digests = result.summary["digests"]
    snapshot = open_snapshot(store, digests["snapshot"])
    split = Split.load(store.get(digests["split"]).path()).align(snapshot.rows())
    schema = Plan(store.get(digests["plan"])).schema
    view = split.train_view(snapshot.frame(), schema, snapshot.rows()).at(rows)
    fold = (split.folds[rows] == FOLD_VALID).argmax(axis=1)
    count = len(records)
    table_of = np.full((count, count, sizes), 0.5)
    for k in range(sizes):
        part = fold <= k
        units = Units.build(None, int(part.sum()))
        of = [
            goal.rows(view.target[part], full(a["prediction"])[part], folds=fold[part])
            for a in arrays
        ]
        for i in range(count):
            for j in range(count):
                if i != j:
                    found = compare_rows(goal, of[j], of[i], units)
                    at = found.value / found.standard_error if found.standard_error else 0.0
                    table_of[i, j, k] = student_tail(at, found.freedom)
    return table_of, np.array([goal.sign * r.value for r in records])


def limits(small):
    """Replays random trials that were fitted whole under several limits, in 200 orders."""
    rows = []
    for name in ("telco", "wine"):
        frame, target, ignore = table(name, 2_500)
        with tempfile.TemporaryDirectory() as store:
            result, records = searched(
                frame, target, ignore, store, ["lightgbm"], folds=5,
                trials=20 if small else 30, prune=False, method="random",
            )  # fmt: skip
            chance, value = chances(result, records, 5)
        count = len(value)
        rng = np.random.default_rng(0)
        for bound in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5):
            saved, lost = [], []
            for _ in range(200):
                order = [0, *rng.permutation(np.arange(1, count))]
                best, fits = order[0], 5
                for i in order[1:]:
                    below = np.flatnonzero(chance[i, best, :4] < bound)
                    fits += int(below[0]) + 1 if below.size else 5
                    if not below.size and value[i] > value[best]:
                        best = i
                saved.append(count * 5 / fits)
                lost.append((value.max() - value[best]) / (value.max() - value[0] or 1.0))
            entry = {"table": name, "limit": bound, "saved": round(median(saved), 2)}
            rows.append({**entry, "share_of_gain_lost": round(float(np.mean(lost)), 4)})
            print(json.dumps(rows[-1]), flush=True)
    return {"limits": rows}


def overhead(small):
    """Wall time beside the trials' own, with trials that sleep a second."""
    seconds, used = [], []

    def sleeping(context, prepared, job, deadline, interrupt):
        began = time.monotonic()
        time.sleep(1.0)
        seconds.append(time.monotonic() - began)
        used.append(time.process_time())
        trial, value = job.trial, float(np.sin(job.trial.number))
        kept = (trial.number, trial.arm, trial.params, trial.origin)
        if trial.number:
            return Record(*kept, "pruned", value, (value,), seconds=seconds[-1])
        return real(context, prepared, job, deadline, interrupt)

    real, search_pool.run_trial = search_pool.run_trial, sleeping
    frame, target, ignore = table("titanic", 400)
    count = 40 if small else 200
    with tempfile.TemporaryDirectory() as store:
        _, records = searched(
            frame, target, ignore, store, ["lightgbm"], trials=count, method="bayesian"
        )
        events = loopline.open_project(store).ledger.events(kind=TRIAL)
    stamps = [np.datetime64(event.time.removesuffix("+00:00")) for event in events]
    wall = float((stamps[-1] - stamps[1]) / np.timedelta64(1, "s"))
    own = sum(seconds[2:])
    cpu = (used[-1] - used[1]) / own
    return {
        "trials": len(records), "wall": wall, "own": own, "overhead": wall / own - 1,
        "processor_share": cpu,
    }  # fmt: skip


def optimism(small):
    """Claimed, corrected and true score of the winner; the truth on rows kept from the search."""
    rows = []
    for seed in range(6 if small else 40):
        frame, target, ignore = table("wine", 6_497, seed=0)
        order = np.random.default_rng(seed).permutation(frame.height)
        part, rest = frame[order[:300]], frame[order[300:]]
        with tempfile.TemporaryDirectory() as store:
            result, _ = searched(
                part, target, ignore, store, [{"lightgbm": {"rounds": 40}}], seed=seed,
                trials=30 if small else 60, prune=False, method="random",
            )  # fmt: skip
            told = result.summary["search"]["optimism"]
            name = result.summary["metric"]
            truth = result.evaluate(rest)[name]["value"]
        rows.append({"best": told["best"], "corrected": told["corrected"], "truth": truth})
        print(json.dumps(rows[-1]), flush=True)
    off = {
        side: float(np.mean([row[side] - row["truth"] for row in rows]))
        for side in ("best", "corrected")
    }
    return {"runs": rows, "mean_off": off}


PARTS = {
    "bayesian": bayesian,
    "pruning": pruning,
    "limits": limits,
    "overhead": overhead,
    "optimism": optimism,
}


def main():
    part, rest = sys.argv[1], sys.argv[2:]
    small = "small" in rest
    found = {"part": part, "small": small, **PARTS[part](small)}
    print(json.dumps({key: value for key, value in found.items() if key != "runs"}, indent=1))
    files = [name for name in rest if name.endswith(".json")]
    for name in files:
        file = Path(name)
        before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        file.write_text(json.dumps({**before, part: found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
