"""Spaces: what they hold, how the settings change them, and what is refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data.schema import Column, Schema
from loopline.errors import SettingsError
from loopline.models.families import FAMILY_NAMES, family
from loopline.models.parameters import Rule
from loopline.models.space import (
    Choice,
    DataFacts,
    Dimension,
    Integer,
    Number,
    dimension_from_dict,
    read_space,
)

DEFAULTS = {"leaves": 31, "rate": 0.1, "kind": "a", "on": False}
RULES = {
    "leaves": Rule("integer", low=2, high=1000),
    "rate": Rule("number", low=0.0, above_low=True, high=1.0),
    "kind": Rule("choice", words=("a", "b", "c")),
    "on": Rule("flag"),
}
OWN: dict[str, Dimension] = {
    "leaves": Integer(4, 255, log=True),
    "rate": Number(0.01, 0.3, log=True),
}


def read(**given: Any) -> dict[str, Dimension]:
    return read_space("trees", given, OWN, DEFAULTS, RULES)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("num_rows", [20, 1_000, 1_000_000])
@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_a_familys_space_holds_legal_values_only(name: str, num_rows: int, task: Any) -> None:
    """Every point of every family's space is one of its parameters and allowed by its rules."""
    kind = family(name)
    facts = DataFacts(task, num_rows, {"number": 5, "category": 2}, 3)
    usual = kind.defaults(task, num_rows)
    for parameter, dimension in kind.space(facts).items():
        assert parameter in usual
        assert set(dimension.when) <= set(usual)
        for value in dimension.points(7):
            assert dimension.contains(value)
            assert kind.rules[parameter].problem(value) is None
        if isinstance(dimension, Integer | Number):
            assert dimension.low < dimension.high


def test_smoothing_of_categories_is_searched_only_where_there_are_some() -> None:
    """LightGBM's `cat_smooth` depends on the columns, `num_leaves` on the rows."""
    kind = family("lightgbm")
    without = kind.space(DataFacts("binary", 1_000, {"number": 5}, 2))
    with_some = kind.space(DataFacts("binary", 1_000, {"number": 5, "category": 1}, 2))
    assert "cat_smooth" not in without
    assert "cat_smooth" in with_some
    assert without["num_leaves"] == Integer(4, 100, log=True)


def test_the_baseline_has_nothing_to_search() -> None:
    """A family that declares no space has none."""
    assert family("baseline").space(DataFacts("binary", 100, {"number": 1}, 2)) == {}


def test_facts_count_features_by_type() -> None:
    """Only features count, each under its type."""
    columns = (
        Column("a", "number"), Column("b", "number"), Column("c", "category"),
        Column("id", "category", "id"), Column("y", "category", "target"),
    )  # fmt: skip
    facts = DataFacts.of(Schema(columns, "binary", ("no", "yes")), 80)
    assert facts.to_dict() == {
        "task": "binary", "num_rows": 80, "columns": {"category": 1, "number": 2}, "num_classes": 2,
    }  # fmt: skip


dimensions = st.one_of(
    st.tuples(st.integers(1, 50), st.integers(1, 500), st.booleans()).map(
        lambda p: Integer(p[0], p[0] + p[1], log=p[2])
    ),
    st.tuples(st.floats(1e-6, 1e3), st.floats(0.1, 1e3), st.booleans()).map(
        lambda p: Number(p[0], p[0] + p[1], log=p[2], when={"kind": ("a",)})
    ),
    st.lists(st.sampled_from(["x", "y", 1, 2.5, True, False]), min_size=1, unique_by=repr).map(
        lambda options: Choice(tuple(options))
    ),
)


@given(dimensions)
@settings(max_examples=60, deadline=None)
def test_a_dimension_survives_json(dimension: Dimension) -> None:
    """To JSON and back gives an equal dimension."""
    assert dimension_from_dict(json.loads(json.dumps(dimension.to_dict()))) == dimension


@given(dimensions, st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_points_lie_inside_and_differ(dimension: Dimension, most: int) -> None:
    """A grid's points are distinct values of the dimension, at most as many as asked for."""
    points = dimension.points(most)
    assert all(dimension.contains(point) for point in points)
    assert len({repr(point) for point in points}) == len(points)
    assert isinstance(dimension, Choice) or len(points) <= most


def test_a_range_replaces_a_familys_own_and_keeps_its_scale() -> None:
    """`[low, high]` keeps the log scale; null takes the parameter out; options make a choice."""
    found = read(leaves=[15, 63], rate=None, kind=["a", "c"], on=[True, False])
    assert found == {
        "leaves": Integer(15, 63, log=True),
        "kind": Choice(("a", "c")),
        "on": Choice((True, False)),
    }


def test_a_mapping_says_scale_and_condition() -> None:
    """`{low, high, log, when}` is taken as it is."""
    found = read(rate={"low": 0.1, "high": 0.2, "log": False, "when": {"kind": "b"}})
    assert found["rate"] == Number(0.1, 0.2, when={"kind": ("b",)})
    assert found["rate"].active({"kind": "b"})
    assert not found["rate"].active({"kind": "a"})


def test_three_numbers_are_options() -> None:
    """A list of other than two numbers is a choice."""
    assert read(leaves=[7, 15, 31])["leaves"] == Choice((7, 15, 31))


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"leafs": [2, 9]}, "Did you mean `leaves`?"),
        ({"leaves": [9, 2]}, "has a range that ends at 2, not above its start 9"),
        ({"leaves": [9, 9]}, "not above its start 9"),
        ({"leaves": [1, 9]}, "must be an integer >= 2"),
        ({"leaves": [2.5, 9]}, "must be an integer"),
        ({"rate": [0.0, 0.5]}, "must be a number > 0"),
        ({"rate": {"low": 0.1}}, "needs `high`"),
        ({"rate": {"low": 0.1, "high": 0.2, "logs": True}}, "Did you mean `log`?"),
        ({"rate": {"low": 0.1, "high": 0.2, "log": "yes"}}, "it is true or false"),
        ({"rate": {"low": 0.1, "high": math.inf}}, "needs numbers as the ends"),
        ({"rate": {"low": 0.1, "high": 0.2, "when": {"kin": "a"}}}, "Did you mean `kind`?"),
        ({"rate": 0.1}, "A value that is not searched belongs under `models`"),
        ({"kind": []}, "needs at least one option"),
        ({"kind": ["a", "d"]}, 'must be "a" or "b" or "c", got \'d\''),
        ({"kind": ["a", "a"]}, "names an option twice"),
        ({"kind": {"low": 1, "high": 2}}, "takes no range"),
        ({"on": [None, True]}, "options are words, numbers, true or false"),
    ],
)
def test_wrong_ranges_are_refused_with_the_reason(entry: dict[str, Any], told: str) -> None:
    """Each wrong range is answered by a sentence that says what is wrong with it."""
    with pytest.raises(SettingsError) as caught:
        read(**entry)
    assert told in str(caught.value)


def test_a_log_scale_needs_a_start_above_zero() -> None:
    """A log scale cannot start at 0."""
    with pytest.raises(SettingsError, match="needs low > 0"):
        read_space("t", {"l2": {"low": 0, "high": 1, "log": True}}, {}, {"l2": 0.0}, {})


def test_all_problems_are_told_at_once() -> None:
    """Three wrong parameters give three sentences."""
    with pytest.raises(SettingsError) as caught:
        read(leafs=[1, 2], leaves=[9, 2], kind=["z"])
    assert len(caught.value.problems) == 3
