"""Columns that carry the answer are found, and honest ones are left in peace."""

from __future__ import annotations

import time

import numpy as np
import polars as pl
import pytest

from loopline.data.schema import Column, Schema
from loopline.digest import canonical_json
from loopline.splits.leaks import find_target_copies
from loopline.testing.splitters import view_of


def audit(columns, target, classes=()):
    frame = pl.DataFrame({**columns, "y": target})
    task = "regression" if not classes else "binary" if len(classes) == 2 else "multiclass"
    schema = Schema(
        tuple(
            Column(
                name,
                "number" if dtype.is_numeric() else "category",
                "target" if name == "y" else "feature",
            )
            for name, dtype in frame.schema.items()
        ),
        task,
        classes,
    )
    return find_target_copies(view_of(frame, schema))


def kinds(found):
    return [(finding.severity, finding.kind, finding.columns) for finding in found]


RNG = np.random.default_rng(0)
N = 1000
NOISE = {f"n{i}": RNG.normal(size=N) for i in range(4)}
Y = RNG.gamma(2.0, 10.0, N)
LABEL = RNG.choice(["no", "yes"], N, p=[0.9, 0.1])


def test_an_equal_column_is_found_despite_a_few_errors():
    """A copy of the target with 2 wrong and 100 empty cells in 3,000 rows is a leak."""
    rng = np.random.default_rng(1)
    target = rng.gamma(2.0, 10.0, 3000)
    copy = pl.Series(target).scatter([5, 6], -1.0).scatter(list(range(100, 200)), None)
    found = audit({"noise": rng.normal(size=3000), "copy": copy}, target)
    assert kinds(found) == [("leak", "equal", ("copy",))]
    assert found[0].sentence == "'copy' equals the target 'y' on 99.9% of 3,000 rows."
    assert found[0].examples[0] == {"copy": target[0], "y": target[0]}
    assert len(found[0].examples) == 5


def test_a_copy_on_some_rows_is_found():
    """Filled in on one row in five, equal to the target there: a leak, and the share is told."""
    rng = np.random.default_rng(1)
    target = rng.gamma(2.0, 10.0, 2000)
    some = pl.Series(rng.random(2000) < 0.2)
    copy = pl.select(pl.when(some).then(pl.Series(target))).to_series()
    found = audit({"noise": rng.normal(size=2000), "copy": copy}, target)
    assert kinds(found) == [("leak", "equal", ("copy",))]
    assert "where it is filled in (" in found[0].sentence
    words = pl.select(pl.when(pl.Series(rng.random(N) < 0.5)).then(pl.Series(LABEL))).to_series()
    codes = (LABEL == "yes").astype(int)
    found = audit({**NOISE, "said": words}, codes, (0, 1))
    assert kinds(found) == [("leak", "one_to_one", ("said",))]


def test_an_honest_column_on_some_rows_is_no_leak():
    """A second reading on a fifth of the rows, and a word that goes with either class."""
    rng = np.random.default_rng(1)
    target = rng.gamma(2.0, 10.0, 2000)
    some = pl.Series(rng.random(2000) < 0.2)
    reading = pl.select(
        pl.when(some).then(pl.Series(target + 5 * rng.normal(size=2000)))
    ).to_series()
    assert kinds(audit({"noise": rng.normal(size=2000), "reading": reading}, target)) == []
    codes = (LABEL == "yes").astype(int)
    word = pl.Series(rng.choice(["a", "b"], N)).scatter(list(range(0, N, 2)), None)
    assert kinds(audit({**NOISE, "word": word}, codes, (0, 1))) == []


def test_a_number_written_as_text_is_compared_as_a_number():
    """The target as words of digits equals it; words that are no numbers are left alone."""
    text = pl.Series([f"{value:.6f}" for value in Y])
    found = audit({**NOISE, "text": text, "word": pl.Series(["red", "blue"] * (N // 2))}, Y)
    assert kinds(found) == [("leak", "equal", ("text",))]


def test_a_rescaled_column_is_found():
    """Fahrenheit for Celsius: the line is told."""
    found = audit({**NOISE, "f": Y * 1.8 + 32.0}, Y)
    assert kinds(found) == [("leak", "affine", ("f",))]
    assert "'f' times 0.555556 plus -17.7778 equals the target" in found[0].sentence


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("sum", lambda a, b: a + b),
        ("difference", lambda a, b: a - b),
        ("difference", lambda a, b: b - a),
        ("product", lambda a, b: a * b),
        ("ratio", lambda a, b: a / b),
        ("ratio", lambda a, b: b / a),
    ],
)
def test_two_columns_that_make_the_target_are_found(kind, make):
    """Sum, difference, product and ratio in both directions, among noise columns."""
    a, b = RNG.integers(1, 90, N), RNG.integers(1, 90, N)
    found = audit({**NOISE, "a": a, "b": b}, make(a, b).astype(np.float64))
    assert kinds(found) == [("leak", kind, ("a", "b"))]


def test_sums_of_three_are_found():
    """Three parts that add up to the target."""
    parts = {name: RNG.integers(0, 50, N) for name in "abc"}
    found = audit({**NOISE, **parts}, sum(parts.values()))
    assert kinds(found) == [("leak", "sum", ("a", "b", "c"))]
    assert found[0].sentence.startswith("'a' + 'b' + 'c' equals the target")


@pytest.mark.parametrize(
    ("kind", "told", "make"),
    [
        ("difference", "'a' + 'b' - 'c'", lambda a, b, c: a + b - c),
        ("difference", "'c' - 'a' - 'b'", lambda a, b, c: c - a - b),
        ("product", "'a' · 'b' · 'c'", lambda a, b, c: a * b * c),
        ("ratio", "'a' · 'b' / 'c'", lambda a, b, c: a * b / c),
        ("ratio", "'b' / ('a' · 'c')", lambda a, b, c: b / (a * c)),
    ],
)
def test_three_columns_that_make_the_target_are_found(kind, told, make):
    """Differences, products and ratios of three columns, among noise columns."""
    parts = {name: RNG.integers(1, 60, N) for name in "abc"}
    found = audit({**NOISE, **parts}, make(*parts.values()).astype(np.float64))
    assert kinds(found) == [("leak", kind, ("a", "b", "c"))]
    assert found[0].sentence.startswith(f"{told} equals the target")


def test_a_rounded_combination_is_found():
    """Price times amount, to the cent."""
    a, b = RNG.gamma(2.0, 10.0, N), RNG.gamma(2.0, 10.0, N)
    found = audit({**NOISE, "a": a, "b": b}, (a * b).round(2))
    assert kinds(found) == [("leak", "product", ("a", "b"))]
    assert "equals the target 'y', rounded, on 100.0%" in found[0].sentence


def test_whole_numbers_of_little_spread_are_no_rounding():
    """A grade from 0 to 9 is near many sums; only exact ones count."""
    a, b = RNG.normal(2.0, 1.0, N), RNG.normal(2.0, 1.0, N)
    grade = np.clip((a + b).round(), 0, 9)
    assert kinds(audit({**NOISE, "a": a, "b": b}, grade)) == []


def test_numbers_near_the_largest_double_do_not_break():
    """Sums that overflow are no match."""
    big = np.where(np.arange(N) % 2 == 0, 1e308, -1e308)
    assert kinds(audit({**NOISE, "big": big, "huge": -big}, Y)) == []


def test_another_name_for_the_class_is_found():
    """Codes for the classes, as words, as numbers or as yes and no, are the target renamed."""
    yes = LABEL == "yes"
    columns = {"word": np.where(yes, "gone", "here"), "flag": yes, "code": np.where(yes, 3, 8)}
    found = audit({**NOISE, **columns}, LABEL, ("no", "yes"))
    assert kinds(found) == [("leak", "one_to_one", (name,)) for name in columns]


def test_a_reason_code_that_tells_the_class_is_found():
    """Ten reasons, each given for one class only, determine it."""
    reason = np.where(LABEL == "yes", RNG.choice(list("abc"), N), RNG.choice(list("vwxyz"), N))
    found = audit({**NOISE, "reason": reason}, LABEL, ("no", "yes"))
    assert kinds(found) == [("leak", "determines", ("reason",))]


def test_a_column_filled_in_after_the_outcome_is_found():
    """A date of leaving that is empty for everyone who stayed."""
    when = pl.Series([f"d{i}" if y == "yes" else None for i, y in enumerate(LABEL)])
    found = audit({**NOISE, "when": when}, LABEL, ("no", "yes"))
    assert kinds(found) == [("leak", "missing", ("when",))]


def test_a_number_that_separates_classes_is_strong_not_a_leak():
    """A threshold that parts the classes perfectly may be honest: it is told only."""
    x = np.where(LABEL == "yes", 5.0, 0.0) + RNG.random(N)
    found = audit({**NOISE, "x": x}, LABEL, ("no", "yes"))
    assert kinds(found) == [("strong", "strong", ("x",))]
    assert "make sure it is known when predicting" in found[0].sentence


def test_a_close_proxy_is_strong_not_a_leak():
    """Correlation 0.999 with noise is no copy."""
    found = audit({**NOISE, "x": Y + RNG.normal(0.0, 0.3, N)}, Y)
    assert kinds(found) == [("strong", "strong", ("x",))]


def test_ids_and_rare_classes_raise_no_alarm():
    """Unique values, a class of 10 rows, and columns that are mostly zero agree by chance only."""
    rare = np.array(["no"] * 990 + ["yes"] * 10)
    columns = {
        **NOISE,
        "id": [f"r{i}" for i in range(N)],
        "zero": (RNG.random(N) < 0.002).astype(int),
        "constant": np.ones(N),
    }
    assert audit(columns, rare, ("no", "yes")) == []
    counts = np.where(np.arange(N) < 990, 0, np.arange(N))
    assert audit({**columns, "mostly": np.zeros(N)}, counts.astype(float)) == []


def test_ten_rows_are_too_few_for_a_refusal():
    """A perfect column of a class, or of values, seen on 10 rows only is told, not refused."""
    rare = np.array(["no"] * 990 + ["yes"] * 10)
    found = audit({**NOISE, "flag": rare == "yes"}, rare, ("no", "yes"))
    assert kinds(found) == [("strong", "strong", ("flag",))]
    counts = np.where(np.arange(N) < 990, 0.0, np.arange(N))
    found = audit({**NOISE, "copy": counts}, counts)
    assert kinds(found) == [("strong", "strong", ("copy",))]


def test_findings_are_plain_data():
    """Not-a-number, infinite and dated cells in the examples still make JSON."""
    values = Y.copy()
    values[:2] = np.nan, np.inf
    told = [finding.to_dict() for finding in audit({**NOISE, "copy": values}, Y)]
    assert [example["copy"] for example in told[0]["examples"]][:2] == [None, "inf"]
    assert canonical_json(told)


@pytest.mark.parametrize("seed", range(30))
def test_honest_tables_raise_no_alarm(seed):
    """Small whole numbers, strong signals and tied values: never a leak on honest tables."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(60, 2000))
    columns = {f"k{i}": rng.integers(0, 4, n) for i in range(8)}
    columns |= {f"c{i}": rng.choice(list("abcdef"), n) for i in range(4)}
    columns |= {f"x{i}": rng.normal(size=n) for i in range(6)}
    signal = columns["x0"] + columns["k0"] + 0.1 * rng.normal(size=n)
    assert not [f for f in audit(columns, signal) if f.severity == "leak"]
    counts = rng.poisson(np.exp(0.3 * columns["x0"]) * (1 + columns["k0"]))
    assert not [f for f in audit(columns, counts) if f.severity == "leak"]
    label = np.where(signal > np.median(signal), "yes", "no")
    assert not [f for f in audit(columns, label, ("no", "yes")) if f.severity == "leak"]


@pytest.mark.slow
def test_a_million_rows_take_seconds():
    """A million rows of 30 columns with a hidden sum are audited in seconds."""
    rng = np.random.default_rng(0)
    columns = {f"x{i}": rng.normal(size=10**6) for i in range(30)}
    target = columns["x7"] + columns["x21"]
    start = time.process_time()
    found = audit(columns, target)
    assert kinds(found) == [("leak", "sum", ("x7", "x21"))]
    assert time.process_time() - start < 15
