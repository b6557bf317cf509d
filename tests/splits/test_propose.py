"""The proposed split follows the roles of the columns and tells why."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopline.data.fingerprint import row_digests
from loopline.data.schema import Column, Schema
from loopline.errors import SettingsError
from loopline.splits.propose import propose_split

FRAME = pl.DataFrame(
    {
        "x": np.arange(1000) * 0.5,
        "g": np.arange(1000) // 10,
        "t": np.arange(1000),
        "part": ["train"] * 800 + ["test"] * 200,
        "y": np.arange(1000) % 2,
    }
)


def schema(task="regression", **roles):
    columns = [Column(name, "number", roles.get(name, "ignore")) for name in ("g", "t", "part")]
    classes = () if task == "regression" else (0, 1)
    return Schema((Column("x", "number"), *columns, Column("y", "number", "target")), task, classes)


@pytest.mark.parametrize(
    ("roles", "task", "method"),
    [
        ({}, "regression", "random"),
        ({}, "binary", "stratified"),
        ({"g": "group"}, "regression", "group"),
        ({"g": "group"}, "binary", "group_stratified"),
        ({"t": "time"}, "binary", "time"),
        ({"g": "group", "t": "time"}, "binary", "group_time"),
    ],
)
def test_roles_decide_the_method(roles, task, method):
    """Time, groups and classes ask for the split that honours them."""
    found, reason = propose_split(schema(task, **roles), FRAME)
    assert found.method == method
    assert found.test_share == 0.2
    assert found.num_folds == 5
    assert reason


def test_a_given_method_and_numbers_are_followed():
    """What the settings say goes before; `test` and `folds` are the short names."""
    asked = {"method": "time", "test": 0.3, "folds": 4, "gap": 2.0}
    found, reason = propose_split(schema(t="time"), FRAME, asked, seed=7)
    assert (found.test_share, found.num_folds, found.gap, found.seed) == (0.3, 4, 2.0, 7)
    assert reason.startswith("Time (set by `split.method`): 't' orders the rows")


def test_given_groups_of_classes_are_balanced():
    """`group` with classes keeps their shares as well as groups allow."""
    found, _ = propose_split(schema("binary", g="group"), FRAME, {"method": "group"})
    assert found.method == "group_stratified"


def test_a_given_column_that_goes_forward_makes_forward_folds():
    """Official test rows that are all later bring the time column into the folds."""
    found, _ = propose_split(schema(t="time"), FRAME, {"column": "part"})
    assert (found.method, found.time) == ("predefined", ("t",))
    mixed = FRAME.with_columns(part=pl.col("part").reverse())
    found, _ = propose_split(schema(t="time"), mixed, {"column": "part"})
    assert found.time == ()


def test_few_rows_of_a_class_or_few_groups_lower_the_folds():
    """A class of 4 rows leaves 3 for training, so 3 folds; 6 groups leave 4."""
    rare = FRAME.with_columns(y=(pl.int_range(pl.len()) < 4).cast(pl.Int64))
    found, reason = propose_split(schema("binary"), rare)
    assert found.num_folds == 3
    assert "3 folds, because class 1 has only 4 rows." in reason
    few = FRAME.with_columns(g=pl.int_range(pl.len()) % 6)
    found, reason = propose_split(schema(g="group"), few)
    assert found.num_folds == 4
    assert "there are only 6 groups" in reason


def test_many_rows_need_three_folds():
    """Above 100,000 training rows three folds are precise enough."""
    large = pl.DataFrame({name: np.arange(130_000) for name in ("x", "g", "t", "part", "y")})
    assert propose_split(schema(), large)[0].num_folds == 3


def test_few_rows_bring_a_warning():
    """Below 100 rows the reason says that the test side measures little."""
    assert "measures little" in propose_split(schema(), FRAME.head(50))[1]


def test_feature_digests_at_hand_are_used():
    """Digests that a caller has already are taken, once, and change nothing."""
    columns = (Column("x", "number"), Column("t", "number"), Column("y", "number", "target"))
    calls = []

    def at_hand():
        calls.append(1)
        return row_digests(FRAME.select("x", "t"))

    found = propose_split(Schema(columns, "regression"), FRAME, feature_digests=at_hand)
    assert found == propose_split(Schema(columns, "regression"), FRAME)
    assert len(calls) == 1


def test_repeats_that_cannot_be_avoided_count_as_observations():
    """Four possible values on 1,000 rows must repeat; a default on 30 % is a common value."""
    coarse = FRAME.with_columns(x=pl.col("t") % 4)
    found, reason = propose_split(schema(), coarse)
    assert found.duplicates == "ignore"
    assert "can only take 4 different values together and there are 1,000 rows" in reason
    columns = (Column("x", "number"), Column("z", "number"), Column("y", "number", "target"))
    table = FRAME.select(
        x=pl.when(pl.col("t") < 300).then(0.0).otherwise("x"),
        z=pl.when(pl.col("t") < 300).then(0.0).otherwise(pl.col("x") * 2),
        y="y",
    )
    found, reason = propose_split(Schema(columns, "regression"), table)
    assert (found.duplicates, found.common_share) == ("features", 0.1)
    assert "300 rows share in all features (30.0% of the rows)" in reason


def test_unknown_names_are_refused():
    """A setting that does not exist is an error that lists those that do."""
    with pytest.raises(SettingsError, match="`shuffle` is not a setting; there are method"):
        propose_split(schema(), FRAME, {"shuffle": True})
    with pytest.raises(SettingsError, match="`method` must be auto or one of random"):
        propose_split(schema(), FRAME, {"method": "kfold"})
