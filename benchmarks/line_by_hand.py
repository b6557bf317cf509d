"""What a careful person writes without Loopline: polars and LightGBM, 3 folds, one test score.

    python benchmarks/line_by_hand.py TABLE MODEL_FILE ROUNDS THREADS

The other side of `line.py`.
"""

from __future__ import annotations

import json
import sys

import lightgbm
import numpy as np
import polars as pl
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split


def main(table: str, model_file: str, rounds: int, threads: int) -> None:
    frame = pl.read_csv(table) if table.endswith(".csv") else pl.read_parquet(table)
    y = (frame["target"] == "yes").to_numpy().astype(np.int8)
    frame = frame.drop("target")
    strings = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    codes = [pl.col(name).cast(pl.Categorical).to_physical().cast(pl.Float64) for name in strings]
    x = frame.with_columns(codes).to_numpy(order="c")
    places = [frame.columns.index(name) for name in strings]
    settings = {
        "objective": "binary",
        "learning_rate": 0.05,
        "num_leaves": 31,
        "num_threads": threads,
        "seed": 0,
        "verbosity": -1,
    }

    def fit(rows: np.ndarray) -> lightgbm.Booster:
        data = lightgbm.Dataset(
            x[rows], y[rows], categorical_feature=places, params={"verbosity": -1}
        )
        return lightgbm.train(settings, data, rounds)

    train, test = train_test_split(np.arange(len(y)), test_size=0.2, stratify=y, random_state=0)
    out_of_fold = np.empty(len(train))
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    for rest, part in folds.split(train, y[train]):
        out_of_fold[part] = fit(train[rest]).predict(x[train[part]], num_threads=threads)
    model = fit(train)
    model.save_model(model_file)
    told = {
        "out_of_fold": roc_auc_score(y[train], out_of_fold),
        "test": roc_auc_score(y[test], model.predict(x[test], num_threads=threads)),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
