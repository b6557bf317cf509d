"""The prices of wrong answers, where the settings name a column for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.evaluate.prices import RowPrices
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.spec import CostSpec


def row_prices(
    context: LineContext, prepared: Prepared, positions: NDArray[np.int64]
) -> RowPrices | None:
    """Prices of some rows of the table; None where all rows have the same.

    Raises:
        DataError: a price that is missing or negative.
    """
    cost = context.spec.objective.cost
    if cost is None or not cost.columns:
        return None
    return prices_of(cost, lambda name: _numbers(prepared, name)[positions], len(positions))


def prices_of(
    cost: CostSpec, column: Callable[[str], NDArray[np.float64]], num_rows: int
) -> RowPrices:
    """Prices from columns and constants.

    Args:
        cost: the settings.
        column: gives a column's numbers.
        num_rows: how many rows there are.
    """

    def values(price: float | str) -> NDArray[np.float64]:
        return column(price) if isinstance(price, str) else np.full(num_rows, float(price))

    return RowPrices(cost.name, values(cost.false_positive), values(cost.false_negative))


def _numbers(prepared: Prepared, name: str) -> NDArray[np.float64]:
    column = prepared.snapshot.scan().select(pl.col(name).cast(pl.Float64)).collect()[name]
    return column.fill_null(float("nan")).to_numpy()
