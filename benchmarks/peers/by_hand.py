"""What the hand-written peers share: the model file and how a row becomes its numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import lightgbm
import numpy as np

FOLDER = Path(os.environ["PEER_FOLDER"])
COLUMNS = json.loads((FOLDER / "columns.json").read_text())
CODES = {column["name"]: column["codes"] for column in COLUMNS if column["codes"]}
BOOSTER = lightgbm.Booster(model_file=str(FOLDER / "model.txt"))


def matrix(rows: list[dict]) -> np.ndarray:
    """Rows as the numbers that the model was trained on."""
    nan = float("nan")
    made = []
    for row in rows:
        cells = []
        for column in COLUMNS:
            value = row[column["name"]]
            codes = CODES.get(column["name"])
            if value is None:
                cells.append(nan)
            elif codes is not None:
                cells.append(codes.get(value, nan))
            else:
                cells.append(float(value))
        made.append(cells)
    return np.array(made)


def probability(row: dict) -> float:
    """The probability of the second class."""
    return float(BOOSTER.predict(matrix([row]), num_threads=1)[0])
