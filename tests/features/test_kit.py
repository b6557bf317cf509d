"""Every kind of step passes the kit."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from loopline.features.categories import count_levels, learn_onehot, learn_ordinal
from loopline.features.dates import learn_datetime
from loopline.features.graph import STEP_KINDS
from loopline.features.numbers import learn_number
from loopline.features.target import Outcome, learn_target
from loopline.features.texts import learn_text
from loopline.testing.steps import CHECKS, StepCase

NUMBERS = pl.Series("x", [1.5, None, -3.0, 8.0, 8.0, float("inf"), float("nan"), 2.25])
WILD = pl.Series("x", [1.5, None, float("nan"), float("inf"), -float("inf"), -0.0, 1e300, 7.0, 8.0])
WORDS = pl.Series("c", ["a", "b", "b", None, "c", "Ünï", "a", "b"])
ODD_WORDS = pl.Series("c", ["a", "A", None, "", "zzz", "Ünï", " b", "c"])
CODES = pl.Series("k", [3, 3, None, 7, -1, 7, 7])
ODD_CODES = pl.Series("k", [3, 4, None, 7, -1, 2**60, -(2**60)])
TIMES = pl.Series(
    "t",
    [datetime(2019, 12, 31, 23, 59), None, datetime(2020, 2, 29, 12), datetime(1969, 7, 20, 1, 2)],
    dtype=pl.Datetime("us"),
)
ODD_TIMES = pl.Series(
    "t",
    [datetime(2400, 2, 29), None, datetime(1700, 3, 1, 5, 6, 7, 89), datetime(2021, 1, 1)],
    dtype=pl.Datetime("us"),
)
TEXTS = pl.Series("m", ["free money now", "see you", "FREE prize", None, "free you now", "see now"])
ODD_TEXTS = pl.Series(
    "m", ["Free!!! free", None, "", "   ", "ÄÖÜ straße 中文", "you " * 50, "i", "ı İ ſ"]
)


def _outcome(size: int) -> Outcome:
    targets = np.arange(2.0 * size).reshape(size, 2) % 3
    return Outcome(targets, ("p", "q"), None, np.arange(size), None)


def _target_step(values: pl.Series, missing: str = "keep", constant: object = None):
    coder = learn_ordinal(count_levels(values), missing=missing, constant=constant)
    return learn_target(coder, coder.codes(values), _outcome(len(values)), smoothing=2.0)


def _number(scaling: str, missing: str, *, indicator: bool):
    return learn_number(
        NUMBERS, scaling=scaling, missing=missing, constant=4.5, indicator=indicator
    )


def _onehot(values: pl.Series, missing: str = "keep"):
    levels = count_levels(values)
    return learn_onehot(levels, missing=missing, constant=7, max_levels=2, min_count=2)


NUMBER_EXTRAS = ("12.5", " 3 ", True, 7, 2**70, None, np.float32(1.5), "inf")
WORD_EXTRAS = (3, 2.5, True, date(2020, 1, 1))
TIME_EXTRAS = (
    "2020-02-29",
    "2020-02-29T01:02:03",
    "2020-02-29 01:02",
    "2020-02-29T01:02:03.123456Z",
    "2020-02-29T01:02:03+02:00",
    date(2021, 5, 6),
    datetime(2021, 5, 6, tzinfo=UTC),
)
MESSAGES = np.array([1, 0, 1, 0, 1, 0])

CASES = {
    "number plain": StepCase(_number("none", "keep", indicator=False), WILD, "abc", NUMBER_EXTRAS),
    "number standard": StepCase(
        _number("standard", "median", indicator=True), WILD, "abc", NUMBER_EXTRAS
    ),
    "number robust": StepCase(
        _number("robust", "mean", indicator=True), WILD, "1,5", NUMBER_EXTRAS
    ),
    "number quantile": StepCase(
        _number("quantile", "most_frequent", indicator=True), WILD, "abc", NUMBER_EXTRAS
    ),
    "number constant": StepCase(
        _number("quantile", "constant", indicator=False), WILD, date(2020, 1, 1)
    ),
    "ordinal": StepCase(
        learn_ordinal(count_levels(WORDS), missing="keep"), ODD_WORDS, ["a"], WORD_EXTRAS
    ),
    "ordinal own code": StepCase(
        learn_ordinal(count_levels(WORDS), missing="keep", missing_code=True), ODD_WORDS
    ),
    "ordinal filled": StepCase(
        learn_ordinal(count_levels(WORDS), missing="constant", constant="zzz"), ODD_WORDS
    ),
    "ordinal numbers": StepCase(
        learn_ordinal(count_levels(CODES), missing="keep"), ODD_CODES, "abc", (3.0, "7", True, 2.5)
    ),
    "onehot": StepCase(_onehot(WORDS), ODD_WORDS, None, WORD_EXTRAS),
    "onehot numbers": StepCase(_onehot(CODES, "constant"), ODD_CODES),
    "onehot filled": StepCase(_onehot(WORDS, "most_frequent"), ODD_WORDS),
    "target": StepCase(_target_step(WORDS), ODD_WORDS, None, WORD_EXTRAS),
    "target numbers": StepCase(_target_step(CODES, "most_frequent"), ODD_CODES),
    "datetime trees": StepCase(
        learn_datetime(TIMES, linear=False, missing="keep"), ODD_TIMES, "31.12.2020", TIME_EXTRAS
    ),
    "datetime linear": StepCase(
        learn_datetime(TIMES, linear=True, missing="median"), ODD_TIMES, 12, TIME_EXTRAS
    ),
    "datetime zone": StepCase(
        learn_datetime(
            TIMES.dt.replace_time_zone("Europe/Berlin"), linear=False, missing="most_frequent"
        ),
        ODD_TIMES.dt.replace_time_zone("UTC"),
        None,
        TIME_EXTRAS,
    ),
    "text linear": StepCase(
        learn_text(TEXTS, MESSAGES, size=20, sizes=False, missing="keep", indicator=True),
        ODD_TEXTS,
        ["a"],
        ("free", 12),
    ),
    "text trees": StepCase(
        learn_text(
            TEXTS, MESSAGES, size=4, sizes=True, missing="constant", constant="x y", indicator=False
        ),
        ODD_TEXTS,
    ),
    "text sizes only": StepCase(
        learn_text(TEXTS, MESSAGES, size=0, sizes=True, missing="keep", indicator=False), ODD_TEXTS
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
def test_every_step_obeys_the_kit(name, check, tmp_path):
    """Each step passes each check of `loopline.testing.steps`."""
    check(CASES[name], tmp_path)


def test_every_kind_has_a_case():
    """No kind of step is left out of the kit."""
    assert {case.step.kind for case in CASES.values()} == set(STEP_KINDS)
