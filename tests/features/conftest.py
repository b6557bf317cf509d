"""Training views made by hand for the feature tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopline.data.schema import Column, Schema
from loopline.splits.spec import TRAIN
from loopline.splits.views import SharedRows, TrainView, open_train_view


@pytest.fixture(scope="session")
def make_view() -> Callable[..., TrainView]:
    """Builds a training view from a frame of features, their types (or Columns) and a target."""

    def make(
        frame: pl.DataFrame,
        types: dict[str, str | Column],
        target: Any,
        *,
        task: str = "binary",
        classes: tuple[Any, ...] = (0, 1),
        units: Any = None,
        order: Any = None,
        weight: Any = None,
        rows: Any = None,
    ) -> TrainView:
        columns = tuple(
            kind if isinstance(kind, Column) else Column(name, kind) for name, kind in types.items()
        )
        schema = Schema(
            (*columns, Column("target", "category", "target")),
            task,
            () if task == "regression" else classes,
        )
        size = frame.height
        rows = np.arange(size) if rows is None else np.asarray(rows)
        side = np.full(size, TRAIN + 1, dtype=np.int8)
        side[rows] = TRAIN
        kind = np.float64 if task == "regression" else np.int64
        shared = SharedRows(
            schema=schema,
            features=frame,
            side=side,
            target=np.asarray(target, dtype=kind),
            weight=None if weight is None else np.asarray(weight, dtype=np.float64),
            units=np.arange(size) if units is None else np.asarray(units, dtype=np.int64),
            order=None if order is None else np.asarray(order, dtype=np.int64),
            clock=None,
            gap=0.0,
            digests=np.zeros((size, 2), dtype=np.uint64),
        )
        return open_train_view(shared, rows)

    return make
