"""Where rows come in time, is what scored best on the folds best afterwards?

The training rows of the tasks of `automl_rows.py` that go forward in time are cut at several
points: at most the last 8,000 rows before the cut are learned from, and what follows it, as long
as 18 % of the rows, is the future. Every family is fitted with its defaults, blends are weighed as
the line does it, and all are scored out of fold and in the future. Told is how each rule of choice
does there, in the future loss of what it takes. The test rows of the tasks are not touched.

    python benchmarks/blend_in_time.py --out benchmarks/results/blend_in_time.json

Tasks that are in the file are not measured again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import automl_rows
import numpy as np
import polars as pl
from automl_line import MODELS, out_of_fold, run_line, write
from numpy.typing import NDArray

from loopline.evaluate.metrics import metric
from loopline.line import race
from loopline.models.portable_blend import Combiner
from loopline.select.blend import cross_fitted, greedy, stacked

TASKS = ("bike_sharing", "elec2", "ett")
FAMILIES = MODELS[1:]
CUTS = (0.55, 0.64, 0.73, 0.82)
FUTURE = 0.18
MOST_ROWS = 8_000
Floats = NDArray[np.float64]


def fitted(
    facts: automl_rows.Facts, past: Any, future: Any, family: str
) -> tuple[dict[str, Any], Floats]:
    """A family's out-of-fold arrays and its predictions of the future, be it above a constant."""
    entered = race.candidates

    def alone(*given: Any) -> Any:
        return [each for each in entered(*given) if each.family == family]

    with tempfile.TemporaryDirectory() as store, patch.object(race, "candidates", alone):
        result = run_line(facts, past, Path(store), [family], audit="report")
        arrays = out_of_fold(result, result.summary["candidates"][0])
        told = result.release.predict(pl.from_pandas(future.drop(columns=facts.target)))
        names = ["prediction"]
        if facts.kind == "binary":
            names = [f"probability_{each}" for each in result.release.classes]
        values = told.select(names).to_numpy().astype(np.float64)
    return arrays, values if facts.kind == "binary" else values[:, 0]


def measured(name: str, cut: float) -> dict[str, Any]:
    """Scores on the folds and in the future, of each family and of the blends."""
    rows = automl_rows.load(name)
    facts = rows.facts
    table = rows.train.sort_values(facts.time, kind="stable").reset_index(drop=True)
    at = round(cut * len(table))
    past = table[max(0, at - MOST_ROWS) : at].reset_index(drop=True)
    future = table[at : at + round(FUTURE * len(table))].reset_index(drop=True)
    goal = metric(facts.metric)
    kind = "int64" if facts.kind == "binary" else "float64"
    later = future[facts.target].to_numpy().astype(kind)
    members, ahead = {}, {}
    for family in FAMILIES:
        arrays, ahead[family] = fitted(facts, past, future, family)
        members[family] = arrays["prediction"]
    held, folds = arrays["rows"], arrays["fold"]
    y = past[facts.target].to_numpy()[held].astype(kind)

    def score(prediction: Any) -> float:
        return float(goal.score(goal.rows(y, prediction, folds=folds)).value)

    def then(prediction: Any) -> float:
        return float(goal.score(goal.rows(later, prediction)).value)

    found: dict[str, Any] = {
        each: {"folds": score(members[each]), "future": then(ahead[each])} for each in FAMILIES
    }
    mine, theirs = list(members.values()), list(ahead.values())
    for way, fit in {"blend": greedy(goal, 0), "stack": stacked}.items():
        made, _, combiner = cross_fitted(fit, mine, y, folds, forward=True)
        found[way] = {"folds": score(made), "future": then(combiner.apply(theirs))}
        found[way]["weights"] = [round(float(each), 3) for each in combiner.weights]
    ranked = sorted(FAMILIES, key=lambda each: -goal.sign * found[each]["folds"])
    for count in (2, 3, 4, 6):
        best = ranked[:count]
        even = Combiner("mean", tuple(1 / count for _ in best))
        found[f"mean of {count}"] = {
            "folds": score(even.apply([members[each] for each in best])),
            "future": then(even.apply([ahead[each] for each in best])),
        }
    return {"metric": facts.metric, "past": len(past), "future": len(future), "scores": found}


def rules(scores: dict[str, Any], sign: float) -> dict[str, str]:
    """What each rule takes."""
    alone = max(FAMILIES, key=lambda each: sign * scores[each]["folds"])
    line = max((*FAMILIES, "blend", "stack"), key=lambda each: sign * scores[each]["folds"])
    mixed = max(("blend", "stack"), key=lambda each: sign * scores[each]["folds"])
    found = {"the best score": line, "the best family": alone, "the better blend": mixed}
    return found | {each: each for each in scores if each not in FAMILIES}


def table(cuts: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """For each task and rule the mean share of loss above the best in hindsight, in percent."""
    found: dict[str, dict[str, float]] = {}
    for name, entries in cuts.items():
        lost: dict[str, list[float]] = {}
        for entry in entries:
            scores, sign = entry["scores"], metric(entry["metric"]).sign
            loss = {
                each: (1 - told["future"]) if sign > 0 else told["future"]
                for each, told in scores.items()
            }
            least = min(loss.values())
            for rule, taken in rules(scores, sign).items():
                lost.setdefault(rule, []).append(100 * (loss[taken] / least - 1))
        found[name] = {rule: round(float(np.mean(each)), 2) for rule, each in lost.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*", default=TASKS)
    options = parser.parse_args()
    cuts: dict[str, list[dict[str, Any]]] = {}
    if options.out and options.out.is_file():
        cuts = json.loads(options.out.read_text(encoding="utf-8"))["cuts"]
    for name in [each for each in options.only if each not in cuts]:
        for cut in CUTS:
            cuts.setdefault(name, []).append(measured(name, cut))
            print(name, cut, json.dumps(cuts[name][-1]), flush=True)
        write(options.out, above_the_best_percent=table(cuts), cuts=cuts)
    print(json.dumps(table(cuts), indent=1))


if __name__ == "__main__":
    main()
