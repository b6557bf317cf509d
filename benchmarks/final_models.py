"""What a candidate becomes after its folds: their models, a model of all rows, or both.

Eight of the tasks of `automl_rows.py` whose rows have no order. A fifth of the training rows is
held out five times, by groups where there are any; LightGBM is fitted on the folds of the rest,
each fit ending when a tenth of its rows has stood still for so many rounds. Then the held-out
fifth is answered by the mean of the folds' models, by one model of all rows (of the median of
their rounds), and by the mean of both. The test rows of the tasks are not touched.

    python benchmarks/final_models.py --out benchmarks/results/final_models.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import automl_rows
import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GroupKFold

Floats = NDArray[np.float64]
TASKS = (
    "telco_churn", "wine_quality", "concrete", "titanic", "mammography", "parkinsons",
    "california_housing", "adult",
)  # fmt: skip
PATIENCES = (50, 100, 200)
WAYS = ("folds", "all rows", "both")
MOST_ROWS = 20_000
REPEATS = 5


def prepared(name: str) -> tuple[automl_rows.Facts, Floats, Floats, NDArray[np.int64]]:
    """Facts, features, target and groups of a task's training rows."""
    rows = automl_rows.load(name)
    facts, frame = rows.facts, rows.train
    if len(frame) > MOST_ROWS:
        frame = frame.sample(MOST_ROWS, random_state=0)
    columns = [c for c in frame if c not in (facts.target, *facts.hidden)]
    made = frame[columns].copy()
    for column in columns:
        if not pd.api.types.is_numeric_dtype(made[column]):
            made[column] = made[column].astype("category").cat.codes
    groups = frame[facts.group].to_numpy() if facts.group else np.arange(len(frame))
    target = frame[facts.target].to_numpy(np.float64)
    return facts, made.to_numpy(np.float64), target, pd.factorize(groups)[0]


def held_out(groups: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Which rows belong to a drawn share of the groups."""
    names = np.random.RandomState(seed).permutation(np.unique(groups))
    return np.isin(groups, names[: max(1, int(share * len(names)))])


def answers(
    settings: dict[str, Any],
    x: Floats,
    y: Floats,
    groups: NDArray[np.int64],
    asked: Floats,
    patience: int,
    seed: int,
) -> list[Floats]:
    """What each of `WAYS` says of the rows that are asked."""
    rounds, said = [], []
    for part, _ in GroupKFold(5, shuffle=True, random_state=seed).split(x, groups=groups):
        stop = held_out(groups[part], 0.1, seed)
        data = lgb.Dataset(x[part[~stop]], y[part[~stop]])
        model = lgb.train(
            settings,
            data,
            5_000,
            valid_sets=[lgb.Dataset(x[part[stop]], y[part[stop]], reference=data)],
            callbacks=[lgb.early_stopping(patience, verbose=False)],
        )
        rounds.append(model.best_iteration)
        said.append(np.asarray(model.predict(asked)))
    whole = lgb.train(settings, lgb.Dataset(x, y), int(np.median(rounds)))
    folds, rest = np.mean(said, axis=0), np.asarray(whole.predict(asked))
    return [folds, rest, (folds + rest) / 2]


def measured(name: str) -> dict[str, Any]:
    """Losses of one task, relative to those of the folds' models at the least patience."""
    facts, x, y, groups = prepared(name)
    objective = {"auc": "binary", "rmse": "regression", "mae": "regression_l1"}[facts.metric]
    settings: dict[str, Any] = {
        "objective": objective, "learning_rate": 0.05, "num_leaves": 31, "feature_fraction": 0.7,
        "bagging_fraction": 0.8, "bagging_freq": 1, "num_threads": 2, "verbosity": -1, "seed": 0,
    }  # fmt: skip
    losses, areas = [], []
    for seed in range(REPEATS):
        test = held_out(groups, 0.2, seed)
        loss, area = [], []
        for patience in PATIENCES:
            for said in answers(
                settings, x[~test], y[~test], groups[~test], x[test], patience, seed
            ):
                if facts.kind == "binary":
                    loss.append(float(log_loss(y[test], said)))
                    area.append(float(roc_auc_score(y[test], said)))
                elif facts.metric == "mae":
                    loss.append(float(np.abs(said - y[test]).mean()))
                else:
                    loss.append(float(np.sqrt(np.square(said - y[test]).mean())))
        losses.append(loss)
        areas.append(area)
    relative = 100 * ((np.array(losses) / np.array(losses)[:, [0]]).mean(axis=0) - 1)
    cells = [f"{way}, patience {patience}" for patience in PATIENCES for way in WAYS]
    found: dict[str, Any] = {
        "loss": "log loss" if facts.kind == "binary" else facts.metric,
        "loss_percent": dict(zip(cells, relative.round(3).tolist(), strict=True)),
    }
    if facts.kind == "binary":
        gained = (np.array(areas) - np.array(areas)[:, [0]]).mean(axis=0)
        found["auc_gain"] = dict(zip(cells, gained.round(5).tolist(), strict=True))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = {}
    for name in TASKS:
        results[name] = measured(name)
        print(name, json.dumps(results[name]), flush=True)
    data = {
        "repeats": REPEATS,
        "python": platform.python_version(),
        "lightgbm": lgb.__version__,
        "cores": os.cpu_count(),
        "tasks": results,
    }
    if options.out:
        options.out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
