"""What does a further family bring to a blend?

Tasks of `automl_rows.py` (at most 8,000 training rows; the test rows are not touched). Every family
is fitted with its defaults on the same five folds; then blends of a linear model and three kinds of
boosted trees, and of these with a forest, a network, or both, are weighed and scored as the line
does it: each fold by weights that the other folds chose.

    python benchmarks/members.py --out benchmarks/results/members.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import automl_rows
from automl_line import out_of_fold, run_line, write

import loopline
from loopline.evaluate.metrics import metric
from loopline.select.blend import cross_fitted, greedy, stacked

TASKS = (
    "concrete", "wine_quality", "titanic", "telco_churn", "mammography", "california_housing",
    "parkinsons",
)  # fmt: skip
MEMBERS = ("linear", "lightgbm", "xgboost", "catboost")
FURTHER: tuple[tuple[str, ...], ...] = ((), ("forest",), ("mlp",), ("forest", "mlp"))
MOST_ROWS = 8_000


def fitted(name: str, store: Path) -> tuple[automl_rows.Facts, Any, loopline.Result]:
    """A race of all families with their defaults."""
    rows = automl_rows.load(name)
    facts, frame = rows.facts, rows.train
    if len(frame) > MOST_ROWS:
        frame = frame.sample(MOST_ROWS, random_state=0).reset_index(drop=True)
    result = run_line(facts, frame, store, audit="report")
    return facts, frame[facts.target].to_numpy(), result


def measured(name: str, folder: Path) -> dict[str, Any]:
    """Scores of the families alone and of the blends."""
    facts, target, result = fitted(name, folder / "store")
    goal = metric(facts.metric)
    said: dict[str, Any] = {}
    for entry in result.summary["candidates"]:
        arrays = out_of_fold(result, entry)
        said[entry["name"]] = arrays["prediction"]
        rows, folds = arrays["rows"], arrays["fold"]
    y = target[rows].astype("int64" if facts.kind == "binary" else "float64")

    def score(prediction: Any) -> float:
        return float(goal.score(goal.rows(y, prediction, folds=folds)).value)

    found: dict[str, Any] = {
        "metric": facts.metric,
        "alone": {each: score(prediction) for each, prediction in said.items()},
    }
    for more in FURTHER:
        members = [said[each] for each in (*MEMBERS, *more)]
        ways = {"blend": greedy(goal, 0), "stack": stacked}
        found[" and ".join(more) or "none"] = {
            way: score(cross_fitted(fit, members, y, folds)[0]) for way, fit in ways.items()
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = {}
    for name in TASKS:
        with tempfile.TemporaryDirectory() as place:
            results[name] = measured(name, Path(place))
        print(name, json.dumps(results[name]), flush=True)
    write(options.out, tasks=results)


if __name__ == "__main__":
    main()
