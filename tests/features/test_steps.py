"""Each step's numbers, worked by hand."""

from __future__ import annotations

import math
from datetime import datetime

import numpy as np
import polars as pl
import pytest

from loopline.errors import DataError
from loopline.features.categories import count_levels, learn_onehot, learn_ordinal
from loopline.features.dates import learn_datetime
from loopline.features.numbers import learn_number
from loopline.features.terms import terms
from loopline.features.texts import learn_text
from loopline.testing.steps import transform

NAN = float("nan")


def same(one, other) -> None:
    np.testing.assert_allclose(one, np.array(other, dtype=float), rtol=1e-12)


def test_standard_scaling_by_hand():
    """1, 3, 5 have mean 3 and deviation sqrt(8/3); a missing cell takes the median, marked."""
    x = pl.Series("x", [1.0, 3.0, 5.0, None])
    step = learn_number(x, scaling="standard", missing="median", indicator=True)
    deviation = math.sqrt(8 / 3)
    same(transform(step, x), [[-2 / deviation, 0], [0, 0], [2 / deviation, 0], [0, 1]])
    assert [output.name for output in step.outputs] == ["x", "x=missing"]


def test_robust_scaling_by_hand():
    """0, 1, 2, 3, 100 have median 2 and quartiles 1 and 3."""
    x = pl.Series("x", [0, 1, 2, 3, 100])
    step = learn_number(x, scaling="robust", missing="mean", indicator=True)
    same(transform(step, x)[:, 0], [-1, -0.5, 0, 0.5, 49])


def test_quantile_scaling_by_hand():
    """The median goes to 0, the map rises, and beyond the ends it is flat."""
    x = pl.Series("x", np.arange(1001.0) ** 3)
    step = learn_number(x, scaling="quantile", missing="median", indicator=False)
    out = transform(step, pl.Series([500.0**3, -5.0, 0.0, 1e12, 1e9, 250.0**3]))[:, 0]
    assert out[0] == 0.0
    assert out[1] == out[2]
    assert out[3] == out[4] == -out[1]
    assert out[5] == pytest.approx(-0.6745, abs=1e-3)  # the lower quartile of the normal law


@pytest.mark.parametrize(
    ("missing", "expected"),
    [("mean", 3.0), ("median", 2.0), ("most_frequent", 1.0), ("constant", -9.0), ("keep", NAN)],
)
def test_fill_values_by_hand(missing, expected):
    """1, 1, 2, 2, 9: mean 3, median 2, and the smaller of two equally frequent values is 1."""
    x = pl.Series("x", [9.0, 2.0, 1.0, 2.0, 1.0, None])
    step = learn_number(x, scaling="none", missing=missing, constant=-9, indicator=False)
    same(transform(step, x)[-1], [expected])


def test_infinity_is_missing():
    """An infinite value is filled and marked like a missing one, in training and in serving."""
    x = pl.Series("x", [1.0, float("inf"), 3.0])
    step = learn_number(x, scaling="none", missing="mean", indicator=True)
    same(transform(step, x), [[1, 0], [2, 1], [3, 0]])


def test_no_indicator_without_missing_cells():
    """A column that was whole in training gets no indicator; a later gap is still filled."""
    step = learn_number(pl.Series("x", [1.0, 3.0]), scaling="none", missing="mean", indicator=True)
    assert len(step.outputs) == 1
    same(transform(step, pl.Series([None], dtype=pl.Float64)), [[2.0]])


@pytest.mark.parametrize("values", [[5.0, 5.0, 5.0], [None, None], [], [0.1] * 7])
@pytest.mark.parametrize("scaling", ["standard", "robust", "quantile"])
def test_constant_and_empty_columns_give_zero(values, scaling):
    """A column that never varies scales to 0, not to rounding noise or a division by zero."""
    x = pl.Series("x", values, dtype=pl.Float64)
    step = learn_number(x, scaling=scaling, missing="median", indicator=False)
    assert not transform(step, x).any()


def test_huge_numbers_do_not_overflow():
    """Mean and deviation of numbers near the largest float are finite."""
    x = pl.Series("x", [1e308, -1e308, 1e308, -1e308])
    step = learn_number(x, scaling="standard", missing="mean", indicator=False)
    same(transform(step, x)[:, 0], [1, -1, 1, -1])


def test_missing_error_names_column_and_rows():
    """Under missing='error' the column, the count and the rows are told, in fit and transform."""
    x = pl.Series("x", [1.0, None, None])
    with pytest.raises(DataError, match=r"'x'.*2 of 3 rows.*1, 2"):
        learn_number(x, scaling="none", missing="error", indicator=False)
    step = learn_number(x.head(1), scaling="none", missing="error", indicator=False)
    with pytest.raises(DataError, match=r"'x'.*1 of 1 rows"):
        step.row_reader()(None)


def test_ordinal_codes_by_hand():
    """Codes follow the sorted levels whatever the order of rows; unseen and missing are NaN."""
    step = learn_ordinal(count_levels(pl.Series("c", ["z", "a", None, "m", "a"])), missing="keep")
    same(transform(step, pl.Series(["a", "m", "z", "A", None]))[:, 0], [0, 1, 2, NAN, NAN])
    assert step.outputs[0].levels == 3


def test_ordinal_own_code_for_missing():
    """With `missing_code` a missing cell has the code after the last level."""
    levels = count_levels(pl.Series("c", ["b", "a", None]))
    step = learn_ordinal(levels, missing="keep", missing_code=True)
    same(transform(step, pl.Series(["b", None, "q"]))[:, 0], [1, 2, NAN])
    assert step.outputs[0].levels == 3


def test_onehot_by_hand():
    """Levels with too few rows share the rare column, where unseen values go too."""
    values = pl.Series("c", ["a"] * 3 + ["b"] * 2 + ["x", "y", None])
    step = learn_onehot(count_levels(values), missing="keep", max_levels=9, min_count=2)
    assert [o.name for o in step.outputs] == ["c=a", "c=b", "c=(rare)", "c=(missing)"]
    same(
        transform(step, pl.Series(["b", "x", "new", None, "a"])),
        [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]],
    )


def test_onehot_keeps_the_most_frequent_levels():
    """Of equally frequent levels the first in order stays when there are too many."""
    values = pl.Series("c", ["b", "b", "c", "c", "a", "a", "d"])
    step = learn_onehot(count_levels(values), missing="keep", max_levels=2, min_count=1)
    assert step.levels == ("a", "b")


def test_onehot_without_rare_levels_gives_zeros_for_unseen():
    """Where training had no rare level, a value never seen has 0 everywhere."""
    step = learn_onehot(
        count_levels(pl.Series("c", ["a", "b"])), missing="keep", max_levels=9, min_count=1
    )
    same(transform(step, pl.Series(["q"])), [[0, 0]])


def test_category_refuses_a_mean():
    """A mean of words is refused with the policies that exist."""
    with pytest.raises(DataError, match=r"no mean.*most_frequent"):
        learn_ordinal(count_levels(pl.Series("c", ["a"])), missing="mean")


def test_datetime_parts_by_hand():
    """29 February 2020, 13:45, a Saturday, is day 60 of its year."""
    start = datetime(2019, 12, 31, 1, 45)
    x = pl.Series("t", [start, datetime(2020, 2, 29, 13, 45)], dtype=pl.Datetime("us"))
    step = learn_datetime(x, linear=False, missing="keep")
    names = [output.name for output in step.outputs]
    expected = ["year", "month", "day", "weekday", "hour", "day_of_year", "elapsed"]
    assert names == [f"t.{part}" for part in expected]  # the minute does not vary
    same(transform(step, x), [[2019, 12, 31, 1, 1, 365, 0], [2020, 2, 29, 5, 13, 60, 60.5]])


def test_datetime_parts_equal_polars():
    """Calendar parts agree with polars over eight centuries."""
    days = pl.date_range(datetime(1600, 1, 1), datetime(2400, 12, 31), "13d", eager=True)
    out = transform(learn_datetime(days, linear=False, missing="keep"), days)
    expected = [
        days.dt.year(), days.dt.month(), days.dt.day(), days.dt.weekday() - 1, days.dt.ordinal_day()
    ]  # fmt: skip
    np.testing.assert_array_equal(out[:, :5], np.array([part.to_numpy() for part in expected]).T)


def test_cyclic_parts_by_hand():
    """March is a quarter of the year in: sine 1, cosine 0; December is at sine 0, cosine 1."""
    x = pl.Series("t", ["2020-03-01", "2020-12-01", "2020-06-01"])
    step = learn_datetime(x, linear=True, missing="median")
    names = [output.name for output in step.outputs]
    assert names[:2] == ["t.month.sin", "t.month.cos"]
    np.testing.assert_array_equal(transform(step, x)[:, :2], [[1, 0], [0, 1], [0, -1]])


def test_text_weights_by_hand():
    """A term in 3 of 6 texts weighs log(7/4); texts have length 1; a text without terms is 0."""
    texts = pl.Series("m", ["win", "win", "win win", "bad", "bad", "bad"])
    groups = np.array([1, 1, 1, 0, 0, 0])
    step = learn_text(texts, groups, size=400, sizes=False, missing="keep", indicator=False)
    np.testing.assert_allclose(step.weights, math.log(7 / 4), rtol=1e-11)
    out = transform(step, pl.Series(["win", "WIN!", "other", None]))
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), [1, 1, 0, 0])
    np.testing.assert_array_equal(out[0], out[1])
    assert np.unique(out[0]).tolist() == pytest.approx([0, 1 / math.sqrt(6)])  # win + 5 runs


def test_text_terms_by_hand():
    """ "ab cd" has two words, one pair, and the runs " ab", "ab ", " cd", "cd ", " ab ", " cd "."""
    rows, buckets = terms(["ab cd", "", "cd"])
    assert np.bincount(rows, minlength=3).tolist() == [9, 0, 4]
    assert set(buckets[rows == 2]) < set(buckets[rows == 0])


def test_text_hash_is_fixed():
    """The bucket of a term of each sort is part of the format: it must never change."""
    assert terms(["a bc"])[1].tolist() == [716791, 974899, 310930, 846830, 389213, 173820, 606195]


def test_text_sizes_by_hand():
    """Trees see the number of letters and of words."""
    texts = pl.Series("m", ["Two words!", "", None])
    step = learn_text(
        texts, np.array([0, 1, 0]), size=3, sizes=True, missing="keep", indicator=False
    )
    same(transform(step, texts)[:, :2], [[10, 2], [0, 0], [NAN, NAN]])
