"""What wrong answers cost where each row has its own price: a fraud of 20 is not one of 2,000.

Everything reduces to what is there for single prices: a row's price is that of the error that it
can have (a false alarm if it is negative, a miss if it is positive), the cost of a threshold is the
sum of the prices of the rows that it gets wrong, and the cost a row is a mean, with the interval of
a mean of heavy-tailed values.

Source: Elkan 2001, "The foundations of cost-sensitive learning", for costs that depend on the
example.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.errors import DataError
from loopline.evaluate.formulas import cuts, nearest_half, operating_points
from loopline.evaluate.intervals import Estimate, estimate_rows
from loopline.evaluate.metrics import metric
from loopline.evaluate.rows import Floats, Rows, Units
from loopline.evaluate.threshold import Threshold
from loopline.words import figure


@dataclass(frozen=True, eq=False)
class RowPrices:
    """Prices of the two errors, row by row.

    Args:
        name: how the cost is called, such as "cost=1,amount".
        false_positive: price of a false alarm, shape (rows,), finite and >= 0.
        false_negative: price of a miss, shape (rows,), finite and >= 0.

    Raises:
        DataError: a price that is missing, infinite or negative; the message names the row.
    """

    name: str
    false_positive: Floats
    false_negative: Floats

    def __post_init__(self) -> None:
        for what, values in (
            ("false alarm", self.false_positive),
            ("miss", self.false_negative),
        ):
            wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
            if wrong.size:
                raise DataError(
                    f"The price of a {what} must be a number >= 0 in every row; row "
                    f"{int(wrong[0])} has {values[wrong[0]]} ({wrong.size:,} such rows). Fill or "
                    "correct them, or give one price for all rows."
                )

    def of(self, y: NDArray[Any]) -> Floats:
        """The price of getting each row wrong, shape (rows,)."""
        return np.where(y == 1, self.false_negative, self.false_positive)


def cost_a_row(
    prices: RowPrices,
    y: NDArray[Any],
    probability: NDArray[Any],
    threshold: float,
    *,
    weight: NDArray[Any] | None = None,
    units: NDArray[Any] | None = None,
) -> Estimate:
    """The mean cost of a row when probabilities of at least `threshold` are labelled 1.

    >>> prices = RowPrices("cost", np.array([1.0, 1.0, 9.0]), np.array([5.0, 7.0, 5.0]))
    >>> cost_a_row(prices, np.array([1, 1, 0]), np.array([0.9, 0.2, 0.8]), 0.5).value
    5.333333333333333
    """
    truth, guess = np.asarray(y), np.asarray(probability, dtype=np.float64)
    lost = prices.of(truth) * ((guess >= threshold) != (truth == 1))
    mean = metric("mae")
    rows = mean.rows(lost, np.zeros_like(lost), weight=weight)
    return estimate_rows(mean, rows, Units.build(units, len(truth)))


def cheapest_threshold(
    y: NDArray[Any],
    out_of_fold: NDArray[Any],
    prices: RowPrices,
    *,
    weight: NDArray[Any] | None = None,
    units: NDArray[Any] | None = None,
) -> Threshold:
    """The threshold of the lowest cost on out-of-fold predictions.

    Args:
        y: class codes 0 and 1, shape (rows,).
        out_of_fold: probabilities of class 1 from models that have not seen the row, shape
            (rows,) or (rows, 2).
        prices: of these rows.
        weight: weight of each row.
        units: rows with equal entries count as one unit in the interval.

    >>> y = np.array([0, 0, 1, 1])
    >>> prices = RowPrices("cost", np.ones(4), np.array([1.0, 1.0, 0.1, 9.0]))
    >>> cheapest_threshold(y, np.array([0.1, 0.5, 0.3, 0.9]), prices).value
    0.7
    """
    rows = Rows.build(y, out_of_fold, weight=weight)
    priced = replace(rows, weight=rows.weight * prices.of(rows.y))
    scores, saved, paid, total = operating_points(priced)
    thresholds = cuts(scores)
    cost = np.concatenate([[total], paid + total - saved])
    tied = np.flatnonzero(cost <= cost.min() + 1e-12 * max(1.0, float(cost.max())))
    value = nearest_half(thresholds[tied])

    def at(threshold: float) -> Estimate:
        return cost_a_row(
            prices, rows.y, rows.prediction, threshold, weight=rows.weight, units=units
        )

    scored = {name: metric(name).score(replace(rows, threshold=value)).value for name in _TOLD}
    half = {name: metric(name).score(replace(rows, threshold=0.5)).value for name in _TOLD}
    achieved, plain = at(value), at(0.5)
    sentence = (
        f"{figure(value)} is the best out of fold for the lowest cost by each row's own prices "
        f"({prices.name.removeprefix('cost=')}): cost a row {achieved}, precision "
        f"{figure(scored['precision'])}, recall {figure(scored['recall'])}. At 0.5 it would be "
        f"cost a row {figure(plain.value)}, precision {figure(half['precision'])}, recall "
        f"{figure(half['recall'])}."
    )
    return Threshold(value, prices.name, achieved, sentence, scored, half)


_TOLD = ("precision", "recall", "f1")
