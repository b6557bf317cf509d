"""Shift between training and test rows: told where it is, silent where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from loopline.audit import shift
from loopline.audit.price import Pricing
from loopline.audit.shift import class_shift, shift_findings
from loopline.audit.shift_columns import holm, moved_columns
from loopline.data.schema import Column, Schema
from loopline.errors import DataError
from loopline.splits.spec import TEST, TRAIN
from loopline.splits.views import SharedRows, TestView, TrainView, open_test_view, open_train_view


def _sides(
    features: dict[str, Any],
    types: dict[str, Any],
    test: np.ndarray,
    *,
    units: np.ndarray | None = None,
    order: np.ndarray | None = None,
    target: np.ndarray | None = None,
    task: Any = "binary",
) -> tuple[TrainView, TestView]:
    rows = test.size
    columns = tuple(Column(name, types[name]) for name in features)
    schema = Schema(
        (*columns, Column("y", "category", "target")), task, () if task == "regression" else (0, 1)
    )
    labels = np.arange(rows) % 2 if target is None else target
    digests = np.random.default_rng(9).integers(0, 2**64, (rows, 2), dtype=np.uint64)
    shared = SharedRows(
        schema=schema,
        features=pl.DataFrame(features),
        side=np.where(test, TEST, TRAIN).astype(np.int8),
        target=np.where(test, -1, labels),
        weight=None,
        units=np.arange(rows) if units is None else units,
        order=order,
        clock=None,
        gap=0.0,
        digests=digests,
    )
    return (
        open_train_view(shared, np.flatnonzero(~test)),
        open_test_view(shared, np.flatnonzero(test)),
    )


def _random(seed: int, rows: int = 1_500) -> tuple[np.random.Generator, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng, rng.random(rows) < 0.25


def test_random_splits_are_silent() -> None:
    """Of 20 random splits of five columns at most one is told to shift."""
    told = []
    for seed in range(20):
        rng, test = _random(seed)
        features = {
            "a": rng.normal(size=test.size),
            "b": rng.lognormal(size=test.size),
            "c": rng.choice(["x", "y", "z"], test.size),
            "d": np.where(rng.random(test.size) < 0.2, None, rng.random(test.size)),
            "e": rng.integers(0, 5, test.size),
        }
        types = {"a": "number", "b": "number", "c": "category", "d": "number", "e": "number"}
        features["d"] = pl.Series(features["d"].tolist(), dtype=pl.Float64)
        told += shift_findings(*_sides(features, types, test), pricing=Pricing(seed=seed))
    assert len(told) <= 1, [found.sentence for found in told]


@pytest.mark.parametrize("how", ["mean", "spread", "level", "missing", "new level", "length"])
def test_planted_shift_is_named(how: str) -> None:
    """A shift of one column is found, and the column named alone."""
    rng, test = _random(1, 3_000)
    x, noise = rng.normal(size=test.size), rng.normal(size=test.size)
    level = rng.choice(["red", "blue"], test.size)
    kind = "number"
    moved: Any = x
    if how == "mean":
        moved = x + 0.5 * test
    elif how == "spread":
        moved = x * np.where(test, 2.0, 1.0)
    elif how == "level":
        kind, moved = "category", np.where(test & (rng.random(test.size) < 0.3), "red", level)
    elif how == "new level":
        kind, moved = "category", np.where(test & (rng.random(test.size) < 0.2), "green", level)
    elif how == "missing":
        gone = rng.random(test.size) < np.where(test, 0.3, 0.05)
        moved = pl.Series(x).set(pl.Series(gone), None)
    else:
        kind = "text"
        moved = [
            "word " * int(5 + n + 4 * t)
            for n, t in zip(rng.integers(0, 5, test.size), test, strict=True)
        ]
    train, held = _sides({"moved": moved, "still": noise}, {"moved": kind, "still": "number"}, test)
    (found,) = shift_findings(train, held, pricing=Pricing())
    assert found.columns == ("moved",)
    assert "'moved'" in found.sentence
    assert found.splits == ("train", "test")


def test_shift_of_two_columns_together_is_seen_by_the_model() -> None:
    """Columns that move only jointly move no single column, yet the classifier tells the sides."""
    rng, test = _random(2, 4_000)
    a, b = rng.normal(size=(2, test.size))
    b = np.where(test, np.sign(a) * np.abs(b), -np.sign(a) * np.abs(b))
    train, held = _sides({"a": a, "b": b}, {"a": "number", "b": "number"}, test)
    assert moved_columns(train, held) == []
    (found,) = shift_findings(train, held, pricing=Pricing())
    assert found.facts["auc"]["low"] > 0.9
    assert "No single column stands out" in found.sentence
    assert found.severity == "warning"


def test_rows_of_one_unit_are_one_observation() -> None:
    """Thirty customers with a level each: what looks sure by rows is not sure by customers."""
    rng = np.random.default_rng(3)
    units = np.repeat(np.arange(30), 100)
    x = np.repeat(rng.normal(size=30), 100) + 0.1 * rng.normal(size=3_000)
    test = units < 8
    types = {"x": "number"}
    alone = moved_columns(*_sides({"x": x}, types, test))
    together = moved_columns(*_sides({"x": x}, types, test, units=units))
    assert alone
    assert together == []


@pytest.mark.parametrize(
    ("given", "said"),
    [("time", "what time did"), ("units", "different groups"), ("none", "not split by time or")],
)
def test_meaning_depends_on_the_split(given: str, said: str) -> None:
    """A finding says what a shift means for a split by time, by group, or by neither."""
    rng, test = _random(4)
    x = rng.normal(size=test.size) + test
    more: dict[str, Any] = {
        "time": {"order": np.arange(test.size)},
        "units": {"units": np.where(test, 1_000, 0) + np.arange(test.size) % 300},
        "none": {},
    }[given]
    train, held = _sides({"x": x}, {"x": "number"}, test, **more)
    (found,) = shift_findings(train, held, pricing=Pricing())
    assert said in found.sentence


def test_odd_columns_do_not_crash() -> None:
    """All null, constant, ten thousand levels, dates and booleans are gone through."""
    rng, test = _random(5, 12_000)
    start = np.datetime64("2024-01-01T00:00", "us")
    features = {
        "null": pl.Series([None] * test.size, dtype=pl.Float64),
        "same": np.ones(test.size),
        "many": [f"level {i}" for i in rng.integers(0, 10_000, test.size)],
        "when": pl.Series(start + rng.integers(0, 10**12, test.size).astype("timedelta64[us]")),
        "flag": rng.random(test.size) < 0.5,
    }
    types = {"null": "number", "same": "number", "many": "category", "when": "datetime",
             "flag": "boolean"}  # fmt: skip
    assert moved_columns(*_sides(features, types, test)) == []


def test_few_rows_are_refused() -> None:
    """Three rows a side say nothing about a shift."""
    train, held = _sides({"x": np.arange(6.0)}, {"x": "number"}, np.arange(6) % 2 == 0)
    with pytest.raises(DataError, match="at least 20 rows a side"):
        shift_findings(train, held, pricing=Pricing())


def test_a_large_table_is_compared_on_a_part_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The move is found on whole units of a part of the rows, and the finding tells how many."""
    monkeypatch.setattr(shift, "COMPARED_ROWS", 600)
    rng, test = _random(4)
    train, held = _sides(
        {"a": rng.normal(size=test.size) + 2.0 * test, "b": rng.normal(size=test.size)},
        {"a": "number", "b": "number"},
        test,
    )
    (finding,) = shift_findings(train, held, pricing=Pricing())
    assert finding.facts["moves"][0]["column"] == "a"
    assert f" of {train.num_rows:,} training rows and " in finding.sentence
    assert "'a'" in finding.sentence


def test_holm_by_hand() -> None:
    """0.01, 0.02 and 0.5 become 0.03, 0.04 and 0.5."""
    np.testing.assert_allclose(holm(np.array([0.5, 0.01, 0.02])), [0.5, 0.03, 0.04])


def test_class_shift_is_told() -> None:
    """A class of 50 % in training and 70 % in test is told with both shares."""
    rng, test = _random(6)
    train, _ = _sides({"x": np.zeros(test.size)}, {"x": "number"}, test)
    found = class_shift(train, (rng.random(400) < 0.7).astype(int))
    assert found is not None
    assert found.columns == ("y",)
    assert "of training and" in found.sentence
    assert class_shift(train, np.arange(400) % 2) is None


def test_class_shift_of_values() -> None:
    """Values that are higher in test are told, equal ones are not."""
    rng, test = _random(7)
    y = rng.normal(size=test.size)
    train, _ = _sides({"x": y}, {"x": "number"}, test, target=y, task="regression")
    assert class_shift(train, rng.normal(size=400)) is None
    found = class_shift(train, rng.normal(size=400) + 0.5)
    assert found is not None
    assert "'y' is higher in test" in found.sentence


def test_class_shift_of_few_rows_is_none() -> None:
    """Three test labels say nothing."""
    _, test = _random(8)
    train, _ = _sides({"x": np.zeros(test.size)}, {"x": "number"}, test)
    assert class_shift(train, np.array([1, 1, 1])) is None


def test_a_sure_but_tiny_move_is_not_told() -> None:
    """On 60,000 rows 0.06 standard deviations are beyond doubt, and no reason to worry."""
    rng = np.random.default_rng(3)
    test = rng.random(60_000) < 0.5
    train, held = _sides({"x": rng.normal(size=60_000) + 0.06 * test}, {"x": "number"}, test)
    assert moved_columns(train, held) == []
    far, there = _sides({"x": rng.normal(size=60_000) + 0.2 * test}, {"x": "number"}, test)
    assert [move.column for move in moved_columns(far, there)] == ["x"]
