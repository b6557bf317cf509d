"""The baseline, worked by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.errors import DataError, IntegrityError, SettingsError
from loopline.models.base import FitContext
from loopline.models.baseline import Baseline
from loopline.models.boosting import weighted_median
from loopline.testing.families import make_view

VALUES = pl.DataFrame({"size": [0.0, 0.0, 0.0, 0.0], "target": [1.0, 2.0, 3.0, 10.0]})
LABELS = pl.DataFrame({"size": [0.0] * 4, "target": ["yes", "no", "no", "no"]})
CONTEXT = FitContext(seed=0)


def value(weight=None, order=None, **params):
    view = make_view("regression", VALUES, weight=weight, order=order)
    return float(Baseline().fit(view, None, params, CONTEXT).predict(VALUES)[0])


def test_classes_get_their_shares():
    """One yes in four rows is a quarter; with weight 3 it is a half."""
    model = Baseline().fit(make_view("binary", LABELS), None, {}, CONTEXT)
    assert model.predict(LABELS).tolist() == [[0.75, 0.25]] * 4
    weight = np.array([3.0, 1.0, 1.0, 1.0])
    model = Baseline().fit(make_view("binary", LABELS, weight=weight), None, {}, CONTEXT)
    np.testing.assert_allclose(model.predict_row({}), [0.5, 0.5], rtol=1e-15)


def test_balanced_classes_get_equal_shares():
    """Balanced class weights leave nothing to tell the classes apart."""
    context = FitContext(seed=0, class_weight="balanced")
    model = Baseline().fit(make_view("binary", LABELS), None, {}, context)
    np.testing.assert_allclose(model.predict_row({}), [0.5, 0.5])


def test_the_statistics_are_the_textbook_ones():
    """Mean 4, median 2.5, and with a weight of 9 on the last row 96 / 12 and 10."""
    weight = np.array([1.0, 1.0, 1.0, 9.0])
    assert value() == 4.0
    assert value(statistic="median") == 2.5
    assert value(weight) == pytest.approx(96 / 12)
    assert value(weight, statistic="median") == 10.0


def test_the_last_value_is_the_latest_in_time():
    """`last` takes the row of the largest rank, the mean where several share it."""
    assert value(order=np.array([0, 3, 1, 2]), statistic="last") == 2.0
    assert value(order=np.array([0, 3, 1, 3]), statistic="last") == 6.0


def test_the_last_value_needs_time():
    """Without a time order `last` is refused with what to do."""
    with pytest.raises(SettingsError, match="needs rows in time order"):
        value(statistic="last")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 4)), min_size=1, max_size=12))
def test_a_whole_weight_is_a_row_repeated(rows):
    """The weighted median with whole weights is the median of the repeated rows."""
    values = np.array([float(value) for value, _ in rows])
    weight = np.array([float(count) for _, count in rows])
    if weight.sum() == 0:
        return
    repeated = np.repeat(values, weight.astype(int))
    assert weighted_median(values, weight) == np.median(repeated)


def test_an_empty_view_is_refused():
    """No rows, no model."""
    view = make_view("regression", VALUES).subset(np.zeros(0, dtype=np.int64))
    with pytest.raises(DataError, match="cannot be fitted on 0 rows"):
        Baseline().fit(view, None, {}, CONTEXT)


def test_a_damaged_or_foreign_model_file_is_refused(tmp_path):
    """The message names the file."""
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"model\.json is not a readable model file"):
        Baseline().load(tmp_path)
    (tmp_path / "model.json").write_text('{"family": "linear", "format": 1}')
    with pytest.raises(IntegrityError, match="does not describe a model of the baseline family"):
        Baseline().load(tmp_path)
