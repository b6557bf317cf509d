"""What families should share under a time budget: trials alike, or the time.

A search of six families with the same budget, on the training rows of tasks of `automl_rows.py`:
once as it is (trials count by their seconds, and a dear first trial that is measurably behind is
given up), once with every trial counted alike and none given up for what it would take. Told are
the trials, the seconds of each family, and the best score out of fold of each family and of all.
The test rows of the tasks are not touched.

    python benchmarks/search_shares.py --out benchmarks/results/search_shares.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import automl_rows
from automl_line import run_line, write

from loopline.line import search
from loopline.line.search_arms import TRIAL
from loopline.line.search_budget import Clock
from loopline.search.study import Study

TASKS = ("california_housing", "adult", "telco_churn", "concrete")


def run(name: str, seconds: float) -> dict[str, Any]:
    """One search; what became of its trials."""
    rows = automl_rows.load(name)
    facts = rows.facts
    with tempfile.TemporaryDirectory() as store:
        result = run_line(facts, rows.train, Path(store), search={"budget": seconds})
        told = result.summary["search"]
        events = result._project.ledger.events(kind=TRIAL, subject=told["study"])
        records = [event.data["record"] for event in events]
    families: dict[str, Any] = {}
    for arm in dict.fromkeys(record["arm"] for record in records):
        own = [record for record in records if record["arm"] == arm]
        done = [record["value"] for record in own if record["state"] == "complete"]
        best = (max if facts.metric == "auc" else min)(done) if done else None
        took = round(sum(record["seconds"] for record in own), 1)
        families[arm] = {"trials": len(own), "whole": len(done), "seconds": took, "best": best}
    return {
        "metric": facts.metric,
        "rows": len(rows.train),
        "trials": len(records),
        "best": told["best"]["value"],
        "chosen": result.summary["chosen"],
        "chosen_value": result.summary["out_of_fold"][facts.metric]["value"],
        "families": families,
    }


def alike(name: str, seconds: float) -> dict[str, Any]:
    """The same where every trial counts alike and none is dear."""

    def plain(*given: Any, **named: Any) -> Study:
        return Study(*given, **{**named, "timed": False})

    with (
        patch.object(Clock, "dear", lambda self: float("inf")),
        patch.object(search, "Study", plain),
    ):
        return run(name, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*", default=TASKS)
    parser.add_argument("--seconds", type=float, default=150.0)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for name in options.only:
        found = results[name] = {
            "by_trials": alike(name, options.seconds),
            "by_time": run(name, options.seconds),
        }
        for way, each in found.items():
            print(name, way, each["trials"], each["best"], each["chosen"], each["chosen_value"])
            print("   ", json.dumps(each["families"]), flush=True)
        write(options.out, seconds=options.seconds, tasks=results)


if __name__ == "__main__":
    main()
