"""FastAPI as most tutorials write it: a plain `def`, a pandas table of one row, categories."""

from __future__ import annotations

import pandas as pd
from by_hand import BOOSTER, CODES, COLUMNS
from fastapi import FastAPI
from fastapi_numpy import Row

app = FastAPI()


@app.post("/predict")
def predict(row: Row) -> dict[str, float]:
    table = pd.DataFrame([row.model_dump()])
    for column in COLUMNS:
        name = column["name"]
        if name in CODES:
            table[name] = table[name].map(CODES[name]).astype(float)
        else:
            table[name] = table[name].astype(float)
    return {"probability": float(BOOSTER.predict(table.to_numpy(), num_threads=1)[0])}
