"""The `search` part of the settings: what it takes, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from loopline.errors import SettingsError
from loopline.line.spec import Spec, json_schema, make_spec


def spec(**more: Any) -> Spec:
    search = more.pop("search", {})
    return make_spec({"data": {"source": "a.csv"}, "target": "y", "search": search, **more})


def problems(**more: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        spec(**more)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (45, 45.0),
        ("90s", 90.0),
        ("10m", 600.0),
        ("1h30m", 5400.0),
        ("0.5h", 1800.0),
        ("2d", 172800),
    ],
)
def test_budgets_may_be_written_as_people_do(given: Any, seconds: float) -> None:
    """Seconds, or numbers with units."""
    assert spec(search={"budget": given}).search.budget == seconds  # type: ignore[union-attr]


@pytest.mark.parametrize("given", ["10 parsecs", "m10", "", -5, 0, "0s", "nan", [1]])
def test_other_budgets_are_refused(given: Any) -> None:
    """What is no duration above 0 is an error."""
    assert "`search.budget`" in problems(search={"budget": given})


def test_no_search_is_the_default() -> None:
    """A file without `search` has none; an empty part is a search with its defaults."""
    assert make_spec({"data": {"source": "a.csv"}, "target": "y"}).search is None
    found = spec().search
    assert found is not None
    assert (found.method, found.parallel, found.prune, found.warm) == ("auto", 1, True, True)


def test_all_problems_of_a_search_are_told_at_once() -> None:
    """A wrong range, an unknown parameter, an unknown family: three sentences."""
    told = problems(
        models=["linear", "lightgbm"],
        search={
            "families": ["lightgmb"],
            "space": {"lightgbm": {"num_leaves": [50, 5]}, "linear": {"penality": [0.1, 1]}},
        },
    )
    assert "Did you mean `lightgbm`?" in told
    told = problems(
        models=["linear", "lightgbm"],
        search={"space": {"lightgbm": {"num_leaves": [50, 5]}, "linear": {"penality": [0.1, 1]}}},
    )
    assert "ends at 5, not above its start 50" in told
    assert "Did you mean `penalty`?" in told


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"search": {"trails": 5}}, "Did you mean `trials`?"),
        ({"search": {"trials": 0}}, "`search.trials` must be >= 1"),
        ({"search": {"parallel": 0}}, "`search.parallel` must be >= 1"),
        ({"search": {"method": "genetic"}}, "`search.method` must be one of"),
        ({"search": {"budget": 60}, "budget_seconds": 5}, "Keep `search.budget`"),
        (
            {"models": ["linear"], "search": {"families": "lightgbm"}},
            "which is not among `models` (linear)",
        ),
        (
            {"models": ["linear"], "search": {"space": {"lightgbm": {"l2": [0.1, 1]}}}},
            "which is not among `models` (linear)",
        ),
        (
            {
                "models": [{"lightgbm": {"num_leaves": 9}}],
                "search": {"space": {"lightgbm": {"num_leaves": [5, 50]}}},
            },
            "has no effect: `models` gives `num_leaves` a value",
        ),
        (
            {
                "models": ["linear", "lightgbm"],
                "search": {"families": "linear", "space": {"lightgbm": {"l2": [0.1, 1]}}},
            },
            "`search.families` leaves lightgbm out",
        ),
        (
            {"models": ["linear"], "search": {"start": {"linaer": [{"penalty": 1}]}}},
            "Did you mean `linear`?",
        ),
        (
            {"models": ["linear"], "search": {"turns": ["linaer", "linear"]}},
            "`search.turns` names linaer, which is no candidate. Did you mean `linear`?",
        ),
        (
            {
                "models": ["mlp"], "parallel": {"processes": 2}, "search": {"parallel": 2},
            },
            "Keep one of the two",
        ),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_refused(more: dict[str, Any], told: str) -> None:
    """Unknown, wrong, contradicting and idle settings, each with what to do."""
    assert told in problems(**more)


def test_a_parameter_of_one_task_may_be_searched_while_the_task_is_open() -> None:
    """`l1_ratio` exists for regression: fine while the task is not given, refused for classes."""
    search = {"space": {"linear": {"l1_ratio": [0.1, 0.9]}}}
    assert spec(models=["linear"], search=search).search is not None
    assert "no parameter `l1_ratio`" in problems(models=["linear"], task="binary", search=search)


def test_the_schema_knows_the_search() -> None:
    """Editors complete the part, and take a budget as text or number."""
    part = json_schema()["$defs"]["SearchSpec"]["properties"]
    kinds = {option.get("type") for option in part["budget"]["anyOf"][0]["anyOf"]}
    assert kinds == {"number", "string"}
    assert set(part) >= {"method", "trials", "budget", "parallel", "prune", "space", "warm"}


def test_a_search_is_part_of_a_lines_identity() -> None:
    """Two budgets are two runs."""
    assert spec(search={"budget": 60}).digest() != spec(search={"budget": 90}).digest()
