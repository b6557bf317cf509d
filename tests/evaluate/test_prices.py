"""Costs with a price for each row: by hand, beside single prices, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from loopline.errors import DataError
from loopline.evaluate.metrics import metric
from loopline.evaluate.prices import RowPrices, cheapest_threshold, cost_a_row
from loopline.evaluate.threshold import choose_threshold

Y = np.array([0, 0, 0, 1, 1, 1])
P = np.array([0.1, 0.4, 0.7, 0.3, 0.6, 0.9])


def prices(alarms, misses):
    return RowPrices("cost=a,b", np.asarray(alarms, float), np.asarray(misses, float))


def test_a_row_pays_only_for_the_error_it_has():
    """At 0.5: a false alarm of price 4 and a miss of price 7 over six rows."""
    found = cost_a_row(prices([1, 2, 4, 99, 99, 99], [99, 99, 99, 7, 8, 9]), Y, P, 0.5)
    assert found.value == pytest.approx((4 + 7) / 6)


def test_the_cheapest_threshold_by_hand():
    """Missing the row at 0.3 costs 100: labels reach down to it, past the cheap alarm at 0.4."""
    dear = prices([1, 1, 1, 0, 0, 0], [0, 0, 0, 100, 1, 1])
    assert cheapest_threshold(Y, P, dear).value == pytest.approx(0.2)
    cheap = prices([1, 5, 1, 0, 0, 0], [0, 0, 0, 0.5, 3, 3])
    assert cheapest_threshold(Y, P, cheap).value == pytest.approx(0.5)


def test_equal_prices_are_the_single_price():
    """With the same two prices in every row, threshold and cost are those of `cost=1,5`."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(500)
    y = (rng.random(500) < 1 / (1 + np.exp(-2 * x))).astype(np.int64)
    p = 1 / (1 + np.exp(-x))
    single = choose_threshold(y, p, "cost=1,5")
    mine = cheapest_threshold(y, p, prices(np.ones(500), np.full(500, 5.0)))
    assert mine.value == single.value
    rule = metric("cost=1,5")
    scored = rule.score(rule.rows(y, p, threshold=single.value)).value
    assert mine.achieved.value == pytest.approx(scored)


def test_weights_multiply_prices():
    """A row of weight 3 counts as three rows."""
    row_prices = prices([1, 2, 4, 0, 0, 0], [0, 0, 0, 7, 8, 9])
    thrice = np.array([0, 1, 2, 2, 2, 3, 4, 5])
    weight = np.array([1, 1, 3, 1, 1, 1])
    repeated = RowPrices(
        "cost=a,b", row_prices.false_positive[thrice], row_prices.false_negative[thrice]
    )
    found = cost_a_row(row_prices, Y, P, 0.5, weight=weight)
    assert found.value == pytest.approx(cost_a_row(repeated, Y[thrice], P[thrice], 0.5).value)
    even = prices(np.ones(6), np.ones(6))
    heavy = np.array([1, 1, 1, 10, 1, 1])
    assert cheapest_threshold(Y, P, even).value == pytest.approx(0.5)
    assert cheapest_threshold(Y, P, even, weight=heavy).value == pytest.approx(0.2)


def test_nothing_is_labelled_where_alarms_are_dear():
    """Every false alarm costs more than all misses: the threshold lies above every score."""
    value = cheapest_threshold(
        Y, np.minimum(P, 0.7), prices([9, 9, 9, 0, 0, 0], [0, 0, 0, 1, 1, 1])
    )
    assert value.value > 0.7


@pytest.mark.parametrize("bad", [np.nan, -1.0, np.inf])
def test_a_price_that_is_none_is_refused_with_its_row(bad):
    """A missing, negative or infinite price names the row and how many such rows there are."""
    with pytest.raises(DataError, match=r"row 2 has .* \(1 such rows\)"):
        prices([1, 1, bad, 1], [1, 1, 1, 1])
