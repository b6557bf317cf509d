"""How many trials does Bayesian search need to be as good as random search after 64?

    python benchmarks/search_trials.py trials.jsonl [--only SPACE ...] [--seeds 0 1 ...]
    python benchmarks/search_trials.py trials.jsonl --into results/search.json

Ten spaces: ten real tables (LOOPLINE_DATA, default ../shared/data) under five families with the
spaces that these declare; most boosted trees have 40 or 60 rounds at most, so that a trial takes a
fraction of a second. Every trial is a real one: proposed by the study of `loopline search` and
fitted on the three folds of the line's split, pruning off, by one thread. For each space and seed
random search makes 64 trials, then Bayesian search makes trials until one is at least as good as
the best of those. Both have the same rows, folds and fit seeds, and both begin with the family's
defaults, which count as the first trial. Bayesian search then draws up to ten trials at random, the
very ones of random search: the runs in which the best is not among these are told apart. Where 64
trials do not suffice the count is 65, which is above every limit that is asked for. It counts
trials, not time.

Each line of the file is one space and seed; what is there is not made again, so that the script can
be stopped at any time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl

from loopline.evaluate.metrics import metric
from loopline.line.context import LineContext
from loopline.line.divide import split
from loopline.line.prepare import ingest, plan
from loopline.line.project import open_project
from loopline.line.race import metric_name
from loopline.line.search import Hunt, begin
from loopline.line.source import source_key
from loopline.line.spec import make_spec
from loopline.line.structure import structure
from loopline.line.trial import run_trial
from loopline.progress import SilentReporter
from loopline.search.record import Record

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("LOOPLINE_DATA", ROOT.parent / "shared" / "data"))
TRIALS = 64
SHARED = 11
"""Both methods make at most so many equal trials: the defaults, and ten random ones."""


@dataclass(frozen=True)
class Case:
    """A space: a table and a family.

    Args:
        file: under DATA.
        target: its column; a number counts columns of a table without header.
        family: what is searched.
        rows: so many of the table's, drawn once.
        given: parameters that are not searched.
        ignore: columns left out.
        read: of `polars.read_csv`.
    """

    file: str
    target: str
    family: str
    rows: int
    given: dict[str, Any] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    read: dict[str, Any] = field(default_factory=dict)

    def frame(self, seed: int = 0) -> pl.DataFrame:
        """At most so many rows, drawn by a seed of their own."""
        place = DATA / self.file
        if place.suffix == ".txt":
            values = np.loadtxt(place)
            frame = pl.DataFrame(values, schema=[f"column_{n + 1}" for n in range(values.shape[1])])
        else:
            given = {"infer_schema_length": None, "null_values": ["", "?", " ?"], **self.read}
            frame = pl.read_csv(place, **given)
            if not given.get("has_header", True):
                frame.columns = [f"column_{n + 1}" for n in range(frame.width)]
        drawn = frame.sample(min(self.rows, frame.height), seed=seed, shuffle=True)
        return drawn.drop_nulls(self.target)


BARE = {"has_header": False}
FEW = {"rounds": 60}
CASES = {
    "titanic lightgbm": Case(
        "titanic/titanic.csv", "survived", "lightgbm", 891, ignore=("alive",)
    ),
    "telco catboost": Case(
        "telco_churn/Telco-Customer-Churn.csv", "Churn", "catboost", 1_000, {"rounds": 40},
        ignore=("customerID",),
    ),
    "wine lightgbm": Case("wine_quality/wine_quality.csv", "quality", "lightgbm", 1_000, FEW),
    "california xgboost": Case(
        "california_housing/housing.csv", "median_house_value", "xgboost", 1_000, FEW,
    ),
    "bike day lightgbm": Case(
        "bike_sharing/day.csv", "cnt", "lightgbm", 731, FEW,
        ignore=("casual", "registered", "instant", "dteday"),
    ),
    "mammography xgboost": Case(
        "mammography/mammography.csv", "column_7", "xgboost", 1_200, FEW,
        read={**BARE, "quote_char": "'"},
    ),
    "adult lightgbm": Case(
        "adult/adult.data", "column_15", "lightgbm", 1_000, FEW, ("column_3",), read=BARE
    ),
    "concrete catboost": Case(
        "uci_splits_small/concrete/data.txt", "column_9", "catboost", 800, {"rounds": 40},
    ),
    "energy mlp": Case(
        "uci_splits_small/energy/data.txt", "column_9", "mlp", 400, {"epochs": 4}
    ),
    "bike hour linear": Case(
        "bike_sharing/hour.csv", "cnt", "linear", 1_000,
        ignore=("casual", "registered", "instant", "dteday"),
    ),
}  # fmt: skip


def hunt_of(
    case: Case,
    method: str,
    seed: int,
    store: str,
    *,
    trials: int = TRIALS,
    learn: int | None = None,
    rows_seed: int = 0,
    prune: bool = False,
    folds: int = 3,
    beside: tuple[str, ...] = (),
) -> Hunt:
    """A search as `loopline search` begins it.

    Args:
        case: table and family.
        method: of the search.
        seed: of the line: split, fits and proposals.
        store: a folder.
        trials: how many at most.
        learn: rows for the search, the others being test rows; None for four fifths.
        rows_seed: of the rows drawn from the table.
        prune: whether trials may be given up.
        folds: of the split.
        beside: further families.
    """
    frame = case.frame(rows_seed)
    test = 0.2 if learn is None else 1 - learn / frame.height
    roles = {name: {"role": "ignore"} for name in case.ignore}
    spec = make_spec(
        {
            "data": {"source": "frame"}, "target": case.target, "columns": roles, "seed": seed,
            "models": [*beside, {case.family: case.given} if case.given else case.family],
            "threads": 1,
            "search": {"method": method, "trials": trials, "prune": prune, "warm": False},
            "split": {"folds": folds, "test": test}, "audit": "report", "store": store,
        }
    )  # fmt: skip
    project = open_project(store)
    context = LineContext(spec, Path(store), project.store, project.ledger, SilentReporter())
    planned = plan(context, ingest(context, source_key(context, frame), frame))
    return begin(context, split(context, planned, structure(context, planned)))


def searched(
    hunt: Hunt, known: dict[str, float], goal: float | None = None
) -> list[dict[str, Any]]:
    """The trials up to the first that is at least as good as the goal.

    Args:
        hunt: the search.
        known: values by parameters, of the same folds; added to.
        goal: where to end; None for all trials.
    """
    sign = metric(metric_name(hunt.context, hunt.prepared)).sign
    found: list[dict[str, Any]] = []
    while (trial := hunt.study.ask()) is not None:
        key = json.dumps(dict(trial.params), sort_keys=True)
        if key not in known:
            known[key] = run_trial(hunt.context, hunt.prepared, hunt._job(trial)).value
        value = known[key]
        made = (trial.number, trial.arm, trial.params, trial.origin)
        state = "failed" if value is None else "complete"
        hunt.study.tell(Record(*made, state, value, () if value is None else (value,)))
        found.append({"params": dict(trial.params), "origin": trial.origin, "value": value})
        if goal is not None and value is not None and sign * value >= sign * goal:
            break
    return found


def best(trials: list[dict[str, Any]], sign: float) -> float:
    """The best value of some trials."""
    return sign * max(sign * each["value"] for each in trials if each["value"] is not None)


def measured(name: str, seed: int) -> dict[str, Any]:
    """Both searches of one space and seed."""
    case, known, began = CASES[name], {}, time.process_time()
    with tempfile.TemporaryDirectory() as store:
        hunt = hunt_of(case, "random", seed, store)
        sign = metric(metric_name(hunt.context, hunt.prepared)).sign
        drawn = searched(hunt, known)
        goal = best(drawn, sign)
        hunt = hunt_of(case, "bayesian", seed, store)
        asked = searched(hunt, known, goal)
    reached = sign * best(asked, sign) >= sign * goal
    return {
        "space": name, "seed": seed, "needed": len(asked) if reached else TRIALS + 1,
        "goal": goal, "defaults": drawn[0]["value"], "best": best(asked, sign),
        "random_found_at": next(n for n, t in enumerate(drawn, 1) if t["value"] == goal),
        "sampler": hunt.decision.sampler, "dimensions": len(hunt.study.arms[0].space),
        "cpu_seconds": round(time.process_time() - began, 1), "random": drawn, "bayesian": asked,
    }  # fmt: skip


def told(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts by space and their median, with its interval and what it hides."""
    spaces = {
        name: sorted((row for row in rows if row["space"] == name), key=lambda row: row["seed"])
        for name in CASES
    }
    needed = {name: [row["needed"] for row in found] for name, found in spaces.items() if found}

    every = [count for counts in needed.values() for count in counts]
    apart = [row for row in rows if row["random_found_at"] > SHARED]
    missed = [
        abs(row["goal"] - row["best"]) / (abs(row["goal"] - row["defaults"]) or math.inf)
        for row in rows
        if row["needed"] > TRIALS
    ]
    return {
        "part": "bayesian", "trials": TRIALS, "needed": needed,
        "median": median(every),
        "interval": interval(list(needed.values())),
        "median_of_space_medians": median(median(counts) for counts in needed.values()),
        "not_within_64": sum(count > TRIALS for count in every), "runs": len(every),
        "share_of_gain_missed_then": round(median(missed), 3) if missed else None,
        "random_best_not_in_shared_start": {
            "runs": len(apart), "median": median(row["needed"] for row in apart)
        },
        "samplers": {name: found[0]["sampler"] for name, found in spaces.items() if found},
        "dimensions": {name: found[0]["dimensions"] for name, found in spaces.items() if found},
        "cpu_seconds": round(math.fsum(row["cpu_seconds"] for row in rows)),
    }  # fmt: skip


def interval(needed: list[list[int]], repeats: int = 2_000) -> list[float]:
    """95 % interval of the median, from resamples of the seeds within each space."""
    rng = np.random.default_rng(0)
    drawn = [
        np.median(np.concatenate([rng.choice(counts, len(counts)) for counts in needed]))
        for _ in range(repeats)
    ]
    return [float(end) for end in np.quantile(drawn, [0.025, 0.975])]


def gathered(file, names, wanted, make, told=lambda row: row):
    """Rows of a file of JSON lines, once those that are wanted and missing were measured and added.

    `names` are the keys by which a row is known, `wanted` their values, which `make` takes.
    """
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    rows = [json.loads(line) for line in text.splitlines()]
    done = {tuple(row[name] for name in names) for row in rows}
    for key in wanted:
        if key in done:
            continue
        rows.append(make(*key))
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(rows[-1]) + "\n")
        print(json.dumps(told(rows[-1])), flush=True)
    return rows


def put(into, part, found):
    """Write what was found into a file of results, as one of its parts."""
    before = json.loads(into.read_text(encoding="utf-8"))
    into.write_text(json.dumps({**before, part: found}, indent=1) + "\n", encoding="utf-8")


def brief(row):
    """What is shown of a run while others go on."""
    return {key: row[key] for key in ("space", "seed", "needed", "random_found_at", "cpu_seconds")}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("trials", type=Path)
    parser.add_argument("--only", nargs="*", default=list(CASES))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(10)))
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    wanted = [] if given.into else [(name, seed) for seed in given.seeds for name in given.only]
    found = told(gathered(given.trials, ("space", "seed"), wanted, measured, brief))
    print(json.dumps(found, indent=1))
    if given.into:
        put(given.into, "bayesian", found)


if __name__ == "__main__":
    main()
