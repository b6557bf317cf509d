"""The rivals of `automl.py`, each run in a process (and, but for one, an environment) of its own.

    python benchmarks/automl_rivals.py SYSTEM FOLDER SECONDS

FOLDER holds what `automl_rows.write` wrote; `prediction.npy` and `told.json` are written into it.
Imports numpy, pandas and the rival alone.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from automl_rows import Rows, read

THREADS = 2
SEED = 0
Predict = Callable[[pd.DataFrame], Any]


def lightgbm(rows: Rows, folder: Path, seconds: float) -> tuple[Predict, dict[str, Any]]:
    """LightGBM as a careful user tunes it: Optuna, honest folds, early stopping, a final fit."""
    import lightgbm as lgb
    import optuna
    from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit

    del folder
    facts = rows.facts
    began = time.monotonic()
    features = [c for c in rows.train if c not in (facts.target, *facts.hidden)]

    def matrix(frame: pd.DataFrame) -> pd.DataFrame:
        made = frame[features].copy()
        for name in made:
            if pd.api.types.is_datetime64_any_dtype(made[name]):
                made[f"{name}_hour"] = made[name].dt.hour
                made[f"{name}_weekday"] = made[name].dt.weekday
                made[f"{name}_month"] = made[name].dt.month
                made[name] = made[name].astype("int64")
            elif not pd.api.types.is_numeric_dtype(made[name]):
                known = sorted(rows.train[name].dropna().astype(str).unique())
                made[name] = pd.Categorical(made[name].astype(str), categories=known)
        return made

    x, y = matrix(rows.train), rows.train[facts.target]
    if facts.time:
        order = np.argsort(rows.train[facts.time].to_numpy(), kind="stable")
        x, y = x.iloc[order], y.iloc[order]
        folds = list(TimeSeriesSplit(5).split(x))
    elif facts.group:
        folds = list(GroupKFold(5).split(x, y, rows.train[facts.group]))
    elif facts.kind == "binary":
        folds = list(StratifiedKFold(5, shuffle=True, random_state=SEED).split(x, y))
    else:
        folds = list(KFold(5, shuffle=True, random_state=SEED).split(x))
    metric = {"auc": "auc", "rmse": "rmse", "mae": "l1"}[facts.metric]
    objective = {"auc": "binary", "rmse": "regression", "mae": "regression_l1"}[facts.metric]
    data = lgb.Dataset(x, y, free_raw_data=False)

    def settings(trial: Any) -> dict[str, Any]:
        return {
            "objective": objective,
            "metric": metric,
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.2, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 4, 256, log=True),
            "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 2, 100, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.4, 1.0),
            "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
            "bagging_freq": 1,
            "lambda_l2": trial.suggest_float("lambda_l2", 1e-3, 100.0, log=True),
            "num_threads": THREADS,
            "seed": SEED,
            "verbosity": -1,
        }

    def trial(trial: Any) -> float:
        found = lgb.cv(
            settings(trial),
            data,
            4000,
            folds=folds,
            callbacks=[lgb.early_stopping(50, verbose=False)],
        )
        scores = found[f"valid {metric}-mean"]
        trial.set_user_attr("rounds", len(scores))
        return float(scores[-1])

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize" if facts.metric == "auc" else "minimize",
        sampler=optuna.samplers.TPESampler(seed=SEED),
    )
    study.optimize(trial, timeout=0.95 * seconds - (time.monotonic() - began))
    best = study.best_trial
    model = lgb.train(
        settings(optuna.trial.FixedTrial(best.params)), data, best.user_attrs["rounds"]
    )
    told = {"validation": best.value, "trials": len(study.trials)}
    told["bytes"] = len(model.model_to_string().encode())
    return lambda frame: model.predict(matrix(frame), num_threads=1), told


def flaml(rows: Rows, folder: Path, seconds: float) -> tuple[Predict, dict[str, Any]]:
    """FLAML with its defaults for tables, told of groups and time."""
    from flaml import AutoML

    del folder
    facts = rows.facts
    train = rows.train
    given: dict[str, Any] = {}
    if facts.time:
        train = train.sort_values(facts.time, kind="stable")
        given = {"split_type": "time"}
    elif facts.group:
        given = {"split_type": "group", "groups": train[facts.group]}
    features = [c for c in train if c not in (facts.target, *facts.hidden)]
    automl = AutoML()
    automl.fit(
        X_train=train[features],
        y_train=train[facts.target],
        task="classification" if facts.kind == "binary" else "regression",
        metric={"auc": "roc_auc", "rmse": "rmse", "mae": "mae"}[facts.metric],
        time_budget=seconds,
        n_jobs=THREADS,
        eval_method="cv",
        seed=SEED,
        verbose=0,
        **given,
    )
    loss = float(automl.best_loss)
    told = {
        "validation": 1 - loss if facts.metric == "auc" else loss,
        "chosen": automl.best_estimator,
    }

    def predict(frame: pd.DataFrame) -> Any:
        if facts.kind == "binary":
            return automl.predict_proba(frame[features])[:, 1]
        return automl.predict(frame[features])

    return predict, told


def _autogluon(preset: str) -> Callable[..., tuple[Predict, dict[str, Any]]]:
    def fit(rows: Rows, folder: Path, seconds: float) -> tuple[Predict, dict[str, Any]]:
        from autogluon.tabular import TabularPredictor

        facts = rows.facts
        metric = {"auc": "roc_auc", "rmse": "rmse", "mae": "mean_absolute_error"}[facts.metric]
        structure = {"group_on": facts.group} if facts.group else {"time_on": facts.time}
        predictor = TabularPredictor(
            label=facts.target,
            problem_type=facts.kind,
            eval_metric=metric,
            path=str(folder / "model"),
            verbosity=0,
            learner_kwargs={"ignored_columns": list(facts.hidden)},
        )
        predictor.fit(
            rows.train,
            presets=preset,
            time_limit=seconds,
            num_cpus=THREADS,
            validation_structure=structure if facts.group or facts.time else None,
        )
        board = predictor.leaderboard(silent=True)
        told = {
            "validation": abs(float(board["score_val"].iloc[0])),
            "bytes": predictor.disk_usage(),
            "chosen": str(board["model"].iloc[0]),
        }
        predictor.persist()

        def predict(frame: pd.DataFrame) -> Any:
            if facts.kind == "binary":
                return predictor.predict_proba(frame)[1].to_numpy()
            return predictor.predict(frame).to_numpy()

        return predict, told

    return fit


SYSTEMS = {
    "lightgbm": lightgbm,
    "flaml": flaml,
    "autogluon-medium": _autogluon("medium_quality"),
    "autogluon-best": _autogluon("best_quality"),
}


def one_row(predict: Predict, frame: pd.DataFrame, seconds: float = 5.0) -> dict[str, float]:
    """Milliseconds of one row, warm."""
    rows = [frame.iloc[[place]] for place in range(min(50, len(frame)))]
    for row in rows[:5]:
        predict(row)
    times: list[float] = []
    end = time.monotonic() + seconds
    while len(times) < 40 or (time.monotonic() < end and len(times) < 2000):
        began = time.perf_counter()
        predict(rows[len(times) % len(rows)])
        times.append(1e3 * (time.perf_counter() - began))
    p50, p99 = np.quantile(times, [0.5, 0.99])
    return {"one_row_p50_ms": float(p50), "one_row_p99_ms": float(p99)}


def main() -> None:
    system, place, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    rows = read(place)
    began = time.monotonic()
    predict, told = SYSTEMS[system](rows, place, seconds)
    told["fit_seconds"] = time.monotonic() - began
    test = rows.test.drop(columns=rows.facts.target)
    np.save(place / "prediction.npy", np.asarray(predict(test), dtype=np.float64))
    told |= one_row(predict, test)
    (place / "told.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
