"""FastAPI as a careful engineer writes it: pydantic checks the row, numpy makes the matrix."""

from __future__ import annotations

from by_hand import CODES, COLUMNS, probability
from fastapi import FastAPI
from pydantic import BaseModel, create_model


def kind(column: dict) -> type:
    if column["name"] in CODES:
        return str
    return bool if column["kind"] == "boolean" else float


fields = {column["name"]: (kind(column) | None, ...) for column in COLUMNS}
Row: type[BaseModel] = create_model("Row", **fields)
app = FastAPI()


@app.post("/predict")
async def predict(row: Row) -> dict[str, float]:
    return {"probability": probability(row.model_dump())}
