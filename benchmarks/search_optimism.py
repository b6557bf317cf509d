"""Is the corrected score of a search nearer to the truth than its best score?

    python benchmarks/search_optimism.py runs.jsonl [--seeds 20]
    python benchmarks/search_optimism.py runs.jsonl --into results/search.json

Eight real tables (LOOPLINE_DATA, default ../shared/data). A search of LightGBM (40 rounds) makes 60
trials on three folds of about 300 rows: few rows and many trials, where the best score is too good.
The truth comes from rows of the table that neither trained nor chose anything (mostly 2,700): there
the winner's three fold models are scored as they were out of fold. They are the very models whose
score is claimed, so that nothing but the choice lies between the two. The final model, of all
training rows, is scored there too.

"Off" is how much too good a claimed score is (negative: too low), whether high or low is good.
Units are standard errors of the claimed score, by its own interval.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from search_trials import BARE, Case, gathered, hunt_of, put

from loopline.evaluate.metrics import Metric, metric
from loopline.line.race import (
    fit_view,
    fold_stage,
    metric_name,
    resolve_params,
)
from loopline.line.search import Hunt
from loopline.models.families import family
from loopline.search.record import Record
from loopline.splits.spec import TEST
from loopline.splits.views import encode_target

LEARN, TRIALS = 300, 60
ROUNDS = {"rounds": 40}
DATES = ("casual", "registered", "instant", "dteday")
CASES = {
    "titanic": Case("titanic/titanic.csv", "survived", "lightgbm", 891, ROUNDS, ("alive",)),
    "telco": Case(
        "telco_churn/Telco-Customer-Churn.csv", "Churn", "lightgbm", 3_000, ROUNDS, ("customerID",)
    ),
    "wine": Case("wine_quality/wine_quality.csv", "quality", "lightgbm", 3_000, ROUNDS),
    "california": Case(
        "california_housing/housing.csv", "median_house_value", "lightgbm", 3_000, ROUNDS
    ),
    "bike day": Case("bike_sharing/day.csv", "cnt", "lightgbm", 731, ROUNDS, DATES),
    "bike hour": Case("bike_sharing/hour.csv", "cnt", "lightgbm", 3_000, ROUNDS, DATES),
    "adult": Case(
        "adult/adult.data", "column_15", "lightgbm", 3_000, ROUNDS, ("column_3",), read=BARE
    ),
    "concrete": Case("uci_splits_small/concrete/data.txt", "column_9", "lightgbm", 1_030, ROUNDS),
}


def truths(hunt: Hunt, chosen: Metric, record: Record) -> dict[str, float]:
    """A trial's score on the test rows, by its fold models and by a final one."""
    context, prepared = hunt.context, hunt.prepared
    entry = hunt._entry(record.arm, record.params)
    folds = hunt.steps[-1].fold + 1
    models = [
        family(entry.family).load(fold_stage(context, prepared, entry, number).path("model"))
        for number in range(folds)
    ]
    final = fit_view(
        context, prepared, entry, prepared.train,
        resolve_params(context, prepared, entry, prepared.train.num_rows), "final",
        stop_early=True,
    )  # fmt: skip
    rows = np.flatnonzero(prepared.split.side == TEST)
    target = encode_target(prepared.table[prepared.schema.target], prepared.schema, rows)
    of_folds = np.concatenate([model.predict_view(prepared.test) for model in models])
    which = np.repeat(np.arange(folds), len(rows))
    return {
        "truth": chosen.score(chosen.rows(np.tile(target, folds), of_folds, folds=which)).value,
        "final": chosen.score(
            chosen.rows(target, final.predict_view(prepared.test), folds=np.zeros(len(rows), int))
        ).value,
    }


def measured(name: str, method: str, seed: int) -> dict[str, Any]:
    """One search: what it claims, and the truth."""
    with tempfile.TemporaryDirectory() as store:
        hunt = hunt_of(
            CASES[name], method, seed, store, trials=TRIALS, learn=LEARN, rows_seed=seed
        )  # fmt: skip
        hunt.restore()
        hunt.run()
        told = hunt.finish().summary["optimism"]
        chosen = metric(metric_name(hunt.context, hunt.prepared))
        winner = hunt.study.best(hunt.study.records)
        return {
            "table": name, "method": method, "seed": seed, "metric": chosen.name,
            "sign": chosen.sign, **told, **truths(hunt, chosen, winner),
        }  # fmt: skip


def mean(values: list[float]) -> list[float]:
    """Mean with the ends of its 95 % interval."""
    half = 1.96 * stdev(values) / len(values) ** 0.5
    return [round(fmean(values) + step, 5) for step in (0.0, -half, half)]


def told(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How far off both scores are, by table and over all."""
    for row in rows:
        row["error"] = max((row["high"] - row["low"]) / 3.92, 1e-12)
        for side in ("best", "corrected"):
            row[f"{side}_off"] = row["sign"] * (row[side] - row["truth"])
    parts = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        tables = {
            name: {
                "metric": found[0]["metric"], "runs": len(found),
                **{f"{side}_off": mean([row[f"{side}_off"] for row in found])
                   for side in ("best", "corrected")},
                "final_better_by": mean(
                    [row["sign"] * (row["final"] - row["truth"]) for row in found]
                ),
            }
            for name in CASES
            if len(found := [row for row in own if row["table"] == name]) > 1
        }  # fmt: skip
        changed = [row for row in own if row["optimism"] > 0]
        parts[method] = {
            "runs": len(own),
            "off_in_errors": {
                side: mean([row[f"{side}_off"] / row["error"] for row in own])
                for side in ("best", "corrected")
            },
            "rms_off_in_errors": {
                side: round(
                    fmean([(row[f"{side}_off"] / row["error"]) ** 2 for row in own]) ** 0.5, 3
                )
                for side in ("best", "corrected")
            },
            "corrected_nearer": round(
                fmean([abs(r["corrected_off"]) < abs(r["best_off"]) for r in changed]), 3
            ),
            "truth_in_interval": round(
                fmean([row["low"] <= row["truth"] <= row["high"] for row in own]), 3
            ),
            "tables": tables,
        }
    return {"part": "optimism", "learn": LEARN, "trials": TRIALS, "methods": parts}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=list(CASES))
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    seeds = range(0 if given.into else given.seeds)
    wanted = [
        (name, method, seed)
        for seed in seeds
        for name in given.only
        for method in ("bayesian", "random")
    ]
    found = told(gathered(given.runs, ("table", "method", "seed"), wanted, measured))
    print(json.dumps(found, indent=1))
    if given.into:
        put(given.into, "optimism", found)


if __name__ == "__main__":
    main()
