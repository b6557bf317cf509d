"""Numbers and names in sentences: digits that agree, one hint for a mistyped name."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loopline.words import counted, estimate, figure, interval, nearest, sentence

FINITE = st.floats(-1e9, 1e9, allow_nan=False)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0.0000"), (0.5, "0.5000"), (0.0908, "0.0908"), (0.0034, "0.00340"),
        (0.000341, "0.000341"), (1.0169, "1.017"), (9.29, "9.290"), (63.218, "63.22"),
        (448.4, "448.4"), (1234.5, "1,234"), (45210.1, "45,210"), (-0.25, "-0.2500"),
        (3e-9, "3.00e-09"), (float("nan"), "–"), (None, "–"),
    ],
)  # fmt: skip
def test_figures_by_hand(number: float | None, text: str) -> None:
    """About four digits that count, thousands grouped, a dash for no number."""
    assert figure(number) == text


@settings(max_examples=200, deadline=None)
@given(FINITE, FINITE, FINITE)
@example(0.0, -0.01, 0.01)
@example(8.5, 7.1, 1234.0)
def test_an_interval_has_one_number_of_decimals(value: float, low: float, high: float) -> None:
    """Value and ends are told with equally many decimals, so they can be compared by eye."""
    low, value, high = sorted([value, low, high])
    told = interval(value, low, high)
    decimals = {len(part) for part in re.findall(r"\d\.(\d+)(?!e)", told)}
    assert len(decimals) <= 1


def test_an_interval_without_length_or_ends_is_the_value_alone() -> None:
    """A constant's AUC is 0.5 and nothing else; what is not known is a dash."""
    assert interval(0.5, 0.5, 0.5) == "0.5000"
    assert interval(0.5, None, None) == "0.5000"
    assert estimate(None) == estimate({"value": None}) == "–"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("splt", "Did you mean `split`?"),
        ("SPLIT", "Did you mean `split`?"),
        ("colour", "Known here: `data`, `split`."),
    ],
)
def test_nearest_name(name: str, told: str) -> None:
    """The nearest name whatever its case, else all names."""
    assert nearest(name, ["data", "split"]) == told


def test_remarks_become_sentences() -> None:
    """A capital for a plain word, none for an id; one full stop."""
    assert sentence("quote marks are ordinary") == "Quote marks are ordinary."
    assert sentence("run-3f was made") == "run-3f was made."
    assert sentence("Done.") == "Done."
    assert counted(1, "row") == "1 row"
    assert counted(12000, "row") == "12,000 rows"
