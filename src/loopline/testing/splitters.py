"""Conformance kit of splitters."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.schema import Schema
from loopline.splits.split import all_train
from loopline.splits.views import TrainView


def view_of(
    frame: pl.DataFrame,
    schema: Schema,
    *,
    units: NDArray[Any] | None = None,
    order: NDArray[Any] | None = None,
) -> TrainView:
    """A training view of a whole frame, for the tests of features and models.

    Row identities are drawn from the row numbers, so equal rows count as different rows.

    >>> from loopline.data.schema import Column
    >>> schema = Schema((Column("x", "number"), Column("y", "number", "target")), "regression")
    >>> view_of(pl.DataFrame({"x": [1.0, 2.0], "y": [0.5, 0.25]}), schema).target
    array([0.5 , 0.25])
    """
    digests = np.random.default_rng(0).integers(0, 2**64, (frame.height, 2), dtype=np.uint64)
    return all_train(digests, units=units, order=order).train_view(frame, schema)
