"""Findings: each kind on a small table worked by hand, and silence where nothing is wrong."""

from __future__ import annotations

import datetime as dt
import json
import math

import numpy as np
import polars as pl
import pytest

from loopline.data.clean import (
    CleanPolicy,
    Finding,
    apply_repairs,
    find_problems,
    plan_repairs,
    undo,
)
from loopline.data.cleaning import tables
from loopline.data.cleaning.texts import canonical, spelling_key, unscrambled
from loopline.data.inference import infer_schema
from loopline.data.schema import Column, Schema
from loopline.errors import DataError


def look(values, type_="number", role="feature", name="x", **policy) -> list[Finding]:
    """Findings of one column beside a harmless target."""
    series = pl.Series(name, values)
    frame = pl.DataFrame([series, pl.Series("y", np.arange(len(series)) % 7)])
    schema = Schema((Column(name, type_, role), Column("y", "number", "target")), "regression")
    wanted = find_problems(frame, schema, policy=CleanPolicy(**policy))
    rows = ("label_disagreement", "duplicate_rows")
    return [finding for finding in wanted if finding.kind not in rows]


def kinds(findings: list[Finding], severity: str = "warning") -> list[str]:
    return [finding.kind for finding in findings if finding.severity == severity]


def only(findings: list[Finding], kind: str) -> Finding:
    (found,) = [finding for finding in findings if finding.kind == kind]
    return found


RNG = np.random.default_rng(7)
NORMAL = RNG.normal(50, 5, 1000)


def test_a_finding_tells_count_share_rows_and_survives_json():
    """Count, share, five examples and the repair are there, as plain data."""
    found = only(look([math.inf] * 7 + [1.0, 2.0, 3.0]), "infinite")
    assert (found.count, found.share, found.columns) == (7, 0.7, ("x",))
    assert [(e.row, e.value) for e in found.examples] == [(row, "inf") for row in range(5)]
    assert found.applied
    assert Finding.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


def test_missing_names_what_the_features_will_do():
    """NaN and null both count; the sentence names the column's policy."""
    frame = pl.DataFrame({"x": [1.0, None, math.nan, 4.0], "y": [1, 2, 3, 4]})
    schema = Schema(
        (Column("x", "number", missing="median"), Column("y", "number", "target")), "regression"
    )
    found = only(find_problems(frame, schema), "missing")
    assert found.count == 2
    assert "the training rows' median is put in" in found.sentence


def test_a_missing_target_is_a_warning():
    """A row without its answer can do nothing."""
    frame = pl.DataFrame({"x": [1.0, 2.0], "y": [None, 1.0]})
    schema = Schema((Column("x", "number"), Column("y", "number", "target")), "regression")
    assert only(find_problems(frame, schema), "missing").severity == "warning"


def test_a_missing_burst_is_a_run_and_scattered_cells_are_none():
    """Thirty missing in a row warn; thirty scattered ones only inform."""
    burst = NORMAL.tolist()
    burst[200:230] = [None] * 30
    assert kinds(look(burst)) == ["missing_burst"]
    scattered = NORMAL.tolist()
    for row in RNG.choice(1000, 30, replace=False):
        scattered[row] = None
    assert kinds(look(scattered)) == []


@pytest.mark.parametrize("values", [[3, 3, 3], ["a", "a"], [None, None]])
def test_constant_columns_warn(values):
    """One value, or none, in every row."""
    frame = pl.DataFrame({"x": values, "y": list(range(len(values)))})
    schema = Schema((Column("x", "category"), Column("y", "number", "target")), "regression")
    assert kinds(find_problems(frame, schema)) == ["constant"]
    assert kinds(find_problems(frame, schema.changed("x", role="ignore"))) == []


def test_duplicate_rows_are_counted_and_dropped_only_when_asked():
    """Two extra copies; the default tells, `repair` drops, undo brings back."""
    frame = pl.DataFrame({"x": [1, 2, 1, 1, 3], "y": [0, 1, 0, 0, 1]})
    schema = Schema((Column("x", "number"), Column("y", "number", "target")), "regression")
    found = only(find_problems(frame, schema), "duplicate_rows")
    assert found.count == 2
    assert [(e.row, e.value) for e in found.examples] == [(2, "equals row 0"), (3, "equals row 0")]
    assert plan_repairs(find_problems(frame, schema)) == ()
    policy = CleanPolicy(duplicate_rows="repair")
    cleaned = apply_repairs(frame, plan_repairs([found], policy))
    assert cleaned.frame["x"].to_list() == [1, 2, 3]
    assert undo(cleaned.frame, cleaned.record).equals(frame)


def test_label_disagreement_is_told():
    """Rows that agree in all features and not in the answer are counted."""
    frame = pl.DataFrame({"x": [1, 1, 2, 3], "y": ["a", "b", "a", "a"]})
    schema = Schema(
        (Column("x", "number"), Column("y", "category", "target")), "binary", ("a", "b")
    )
    found = only(find_problems(frame, schema), "label_disagreement")
    assert (found.count, found.columns) == (2, ("y",))
    assert [e.row for e in found.examples] == [0, 1]


def test_equal_columns_and_renamed_columns():
    """A copy warns with a repair; a one-to-one renaming informs, and warns beside the target."""
    frame = pl.DataFrame({"a": [1, 2, 3, 1] * 5, "b": [1.0, 2, 3, 1] * 5, "c": list("xyzx") * 5})
    frame = frame.with_columns(y=pl.Series(np.arange(20) % 2))
    schema = Schema(
        (*(Column(n, "number") for n in "abc"), Column("y", "number", "target")), "regression"
    )
    findings = find_problems(frame, schema, policy=CleanPolicy(duplicate_rows="off"))
    assert only(findings, "duplicate_column").columns == ("a", "b")
    assert only(findings, "renamed_column").columns == ("a", "c")
    assert only(findings, "renamed_column").severity == "info"
    leak = frame.with_columns(d=pl.Series(["no", "yes"] * 10))
    schema = Schema((*schema.columns, Column("d", "category")), "regression")
    found = [f for f in find_problems(leak, schema) if f.columns == ("y", "d")]
    assert [(f.kind, f.severity) for f in found] == [("renamed_column", "warning")]


def test_sentinels_need_repetition_and_distance():
    """-999 twice among ages warns; once, or 99 among values up to 98, does not."""
    ages = RNG.integers(18, 98, 500).tolist()
    found = only(look([*ages, -999, -999]), "sentinel")
    assert found.count == 2
    assert found.repair is not None
    assert found.repair.mapping == ((-999, None),)
    assert "sentinel" not in kinds(look([*ages, -999]))
    assert kinds(look([*ages, 99, 99])) == []


def test_two_sentinels_on_one_side_are_both_found():
    """-9999 does not hide -999."""
    found = only(look([*NORMAL.tolist(), -999.0, -999.0, -9999.0, -9999.0]), "sentinel")
    assert found.count == 4


def test_a_signed_class_is_no_sentinel():
    """-1 beside 0 and 1 is a code with three values."""
    assert kinds(look([-1, 0, 1, 1, -1, 0] * 10)) == []


def test_date_sentinels():
    """1900-01-01 twice, a century before the others, is a code for missing."""
    days = [dt.date(2020, 1, 1) + dt.timedelta(days=k) for k in range(100)]
    found = only(look([*days, dt.date(1900, 1, 1), dt.date(1900, 1, 1)], "datetime"), "sentinel")
    assert found.count == 2


def test_marks_warn_and_words_inform():
    """`?` is a hole; `unknown` may be an answer."""
    assert kinds(look(["a", "b", "?", "a"] * 20, "category")) == ["sentinel"]
    assert kinds(look(["a", "b", "unknown", "a"] * 20, "category"), "info") == ["sentinel"]


def test_negative_ages_by_name():
    """The name says what cannot be below zero."""
    values = [*RNG.integers(1, 90, 500).tolist(), -4, -7]
    assert kinds(look(values, name="customerAge")) == ["negative"]
    assert kinds(look(values, name="balance")) == []


def test_unit_change_in_either_direction():
    """Grams among kilograms, scattered or in a stretch; a wide column is left alone."""
    scattered = NORMAL.copy()
    scattered[RNG.choice(1000, 40, replace=False)] *= 1000
    found = only(look(scattered), "unit_change")
    assert (found.count, "1000 times" in found.sentence) == (40, True)
    stretch = 10 ** RNG.normal(0, 0.8, 5000)
    stretch[3000:4000] /= 1000
    assert only(look(stretch), "unit_change").count == 1000
    assert kinds(look(10 ** RNG.normal(0, 2, 5000))) == []


def test_rounded_ids():
    """Eighteen digits that went through Float64 are seen as floats and as integers again."""
    ids = RNG.integers(10**17, 9 * 10**17, 200)
    assert kinds(look(ids.tolist(), "text", "id")) == []
    assert "rounded_ids" in kinds(look(ids.astype(np.float64), "text", "id"))
    assert "rounded_ids" in kinds(look(ids.astype(np.float64).astype(np.int64), "text", "id"))


def test_outliers_only_inform():
    """Extreme need not mean wrong."""
    findings = look([*NORMAL.tolist(), 500.0])
    assert kinds(findings) == []
    assert only(findings, "outliers").count == 1


def test_keys_that_repeat():
    """A role, or a name and near-uniqueness, makes a key."""
    assert kinds(look([1, 2, 3, 3], "number", "id")) == ["key_not_unique"]
    near = [str(k) for k in range(99)] + ["0"]
    assert kinds(look(near, "text", name="orderID")) == ["key_not_unique"]
    assert kinds(look(near, "text", name="word")) == []
    assert kinds(look([float(text) for text in near], name="orderID")) == []


@pytest.mark.parametrize(
    ("variants", "best"),
    [
        (["Yes", "yes", "YES"], "Yes"),
        ([">50K", ">50K."], ">50K"),
        (["Never-married", "never married", "Never_married"], "never married"),
        (["caf\u00e9", "cafe\u0301"], "caf\u00e9"),
        ([" NEAR BAY", "NEAR  BAY"], "NEAR BAY"),
        (["U.S.A.", "USA"], "USA"),
    ],
)
def test_spellings_are_joined_by_a_rule(variants, best):
    """The spelling that stays is chosen by rule, whatever the counts and the order."""
    assert len({spelling_key(variant) for variant in variants}) == 1
    assert canonical(variants) == canonical(variants[::-1]) == best
    often = [variants[0], *[variants[1]] * 30, *variants[2:], "other"]
    rarely = [*[variants[0]] * 30, variants[1], *variants[2:], "other"]
    first, second = (only(look(v, "category"), "spelling").repair for v in (often, rarely))
    assert first is not None
    assert first == second


@pytest.mark.parametrize(
    ("one", "other"),
    [("m", "M"), ("A", "A-"), ("C", "C++"), ("<=50K", ">50K"), ("1.0", "10"), ("1-2", "12"),
     ("10-20", "10 20"), ("3", "3+"), ("", "."), ("1,5", "15")],
)  # fmt: skip
def test_different_levels_stay_apart(one, other):
    """What may mean something else is never joined."""
    assert "spelling" not in [f.kind for f in look([one, other] * 10, "category")]


def test_the_target_may_be_spelled_right_too():
    """`>50K.` and `>50K` are one class, and the finding says so."""
    frame = pl.DataFrame({"x": [1, 2, 3, 4], "y": [">50K", ">50K.", "<=50K", "<=50K."]})
    schema = Schema((Column("x", "number"), Column("y", "category", "target")), "binary")
    findings = find_problems(frame, schema)
    cleaned = apply_repairs(frame, plan_repairs(findings))
    assert cleaned.frame["y"].to_list() == [">50K", ">50K", "<=50K", "<=50K"]
    assert only(findings, "spelling").columns == ("y",)


def test_edge_blanks_and_empty_text():
    """Blanks around values are taken off by default; blank text is told."""
    findings = look([" a", " b", "  ", "c"] * 5, "category")
    assert kinds(findings) == ["empty_text", "edge_blanks"]
    assert only(findings, "edge_blanks").applied
    assert not only(findings, "empty_text").applied


def test_mixed_types_and_the_repair():
    """Numbers with a few units among them are told; the repair reads the numbers."""
    values = [str(k) for k in range(40)] + ["12 kg", "n/a"]
    found = only(look(values, "category"), "mixed_types")
    assert (found.count, found.repair.kind) == (1, "to_number")
    frame = apply_repairs(pl.DataFrame({"x": values}), [found.repair]).frame
    assert frame["x"].null_count() == 2


def test_mojibake_is_read_again():
    """UTF-8 read as Windows-1252 and Windows-1252 read as Latin-1."""
    assert unscrambled("MÃ¼nchen") == "München"
    assert unscrambled("that\x92s") == "that’s"
    assert unscrambled("Ärger Ñandú «É»") == "Ärger Ñandú «É»"
    found = only(look(["MÃ¼nchen", "Rome", "Oslo"] * 5, "category"), "mojibake")
    assert found.repair.mapping == (("MÃ¼nchen", "München"),)
    assert kinds(look(["Århus", "Çeşme", "Ñandú", "日本", "naïve"] * 5, "category")) == []


def test_newlines_and_formulas():
    """A break in a category and a spreadsheet formula warn; prose and signed text do not."""
    assert kinds(look(["a", "b\nc", "a"] * 5, "category")) == ["embedded_newline"]
    assert kinds(look(["=SUM(A1)", "b"] * 5, "category")) == ["formula"]
    assert kinds(look(["line\nline", "- a point", "@home =)", "+44 20"] * 5, "text")) == []


def test_leading_zeros():
    """Padded ids of one length inform; of several lengths they warn."""
    assert kinds(look(["007", "123", "045"] * 4, "category"), "info") == ["leading_zeros"]
    assert kinds(look(["007", "123", "45"] * 4, "category")) == ["leading_zeros"]


def test_cardinality_burst():
    """Unique codes among three levels, scattered or in a stretch."""
    levels = RNG.choice(["red", "green", "blue"], 2000).tolist()
    for row in RNG.choice(2000, 60, replace=False):
        levels[row] = f"{row:08x}"
    assert kinds(look(levels, "category")) == ["cardinality_burst"]
    zipf = [f"w{min(int(k), 4000)}" for k in RNG.zipf(1.5, 3000)]
    assert kinds(look(zipf, "category")) == []


HOURS = [dt.datetime(2020, 1, 1) + dt.timedelta(hours=k) for k in range(24 * 200)]


def test_future_times_are_late_beside_the_others():
    """Ten years after an empty stretch; a growing log is left alone."""
    late = [*HOURS, *(hour.replace(year=2031) for hour in HOURS[:5])]
    assert kinds(look(late, "datetime")) == ["future_times"]
    assert only(look(late, "datetime"), "future_times").count == 5
    assert kinds(look(HOURS, "datetime")) == []


@pytest.mark.parametrize("hours", [-5, 2])
def test_clock_shift(hours):
    """A stretch of an hourly log in another time zone."""
    shifted = list(HOURS)
    shifted[500:900] = [hour + dt.timedelta(hours=hours) for hour in shifted[500:900]]
    assert "clock_shift" in kinds(look(shifted, "datetime"))
    slow = HOURS[::6]  # two hours against six-hour steps: later, never back
    slow[300:] = [hour + dt.timedelta(hours=2) for hour in slow[300:]]
    assert "clock_shift" in kinds(look(slow, "datetime"))
    gap = HOURS[:500] + HOURS[600:]
    assert kinds(look(gap, "datetime")) == []


def test_day_first():
    """No day after the 12th in a year of dates, and an order that swapping mends."""
    days = [dt.date(2020, 1, 1) + dt.timedelta(days=k) for k in range(365)]
    swapped = [d.replace(day=d.month, month=d.day) if d.day <= 12 else d for d in days]
    assert kinds(look(swapped, "datetime")) == ["day_first"]
    lost = sorted(d for d in swapped if d.day <= 12)
    assert kinds(look(RNG.permutation(lost).tolist(), "datetime")) == ["day_first"]
    assert kinds(look(days, "datetime")) == []
    weeks = [d for d in swapped[186:205] for _ in range(10)]  # 6 to 24 July: one break in order
    assert kinds(look(weeks, "datetime")) == ["day_first"]
    two_shops = days[:100] + days[:100]
    assert kinds(look(two_shops, "datetime")) == []
    monthly = [dt.date(year, month, 1) for year in range(1990, 2020) for month in range(1, 13)]
    assert kinds(look(monthly, "datetime")) == []


def test_truncated_tail():
    """The last row lacks what all others have."""
    frame = pl.DataFrame(
        {"a": range(50), "b": [1.5] * 49 + [None], "c": ["u", "v"] * 24 + ["u", None]}
    )
    schema = Schema(
        (Column("a", "number"), Column("b", "number"), Column("c", "category")), "regression"
    )
    found = only(find_problems(frame, schema), "truncated_tail")
    assert (found.count, found.columns, found.examples[0].row) == (1, ("b", "c"), 49)


def test_swapped_columns_numbers_and_words():
    """Latitude in the longitude, and levels of one column in another."""
    frame = pl.DataFrame(
        {
            "lat": RNG.uniform(32, 42, 500),
            "lon": RNG.uniform(-124, -114, 500),
            "size": RNG.choice(["small", "large"], 500),
            "hue": RNG.choice(["red", "blue"], 500),
        }
    )
    rows = pl.Series(np.arange(500) % 50 == 3)
    swap = frame.with_columns(
        pl.when(rows).then(pl.col(b)).otherwise(pl.col(a)).alias(a)
        for a, b in (("lat", "lon"), ("lon", "lat"), ("size", "hue"), ("hue", "size"))
    )
    types = {"lat": "number", "lon": "number", "size": "category", "hue": "category"}
    schema = Schema(tuple(Column(n, t) for n, t in types.items()), "regression")
    assert kinds(find_problems(frame, schema)) == []
    found = find_problems(swap, schema)
    pairs = [f.columns for f in found if f.kind == "swapped_columns"]
    assert pairs == [("lat", "lon"), ("size", "hue")]
    assert [f.count for f in found if f.kind == "swapped_columns"] == [10, 10]


def test_the_order_of_findings_and_their_bytes_are_fixed():
    """The same table gives the same findings, byte for byte."""
    frame = pl.DataFrame({"x": ["a", "A ", "aa", "AA"] * 30, "y": np.arange(120) % 3})
    schema = Schema((Column("x", "category"), Column("y", "number", "target")), "regression")
    once, twice = (
        json.dumps([finding.to_dict() for finding in find_problems(frame, schema)])
        for _ in range(2)
    )
    assert once == twice


@pytest.mark.parametrize("num_rows", [0, 1, 2])
def test_tiny_tables_are_no_trouble(num_rows):
    """Empty and one-row tables of every type are looked at without an error."""
    frame = pl.DataFrame(
        {
            "n": pl.Series([1.0] * num_rows, dtype=pl.Float64),
            "s": pl.Series(["a"] * num_rows, dtype=pl.String),
            "d": pl.Series([dt.date(2020, 1, 1)] * num_rows, dtype=pl.Date),
            "t": pl.Series([dt.datetime(2020, 1, 1)] * num_rows, dtype=pl.Datetime("us", "UTC")),
            "b": pl.Series([True] * num_rows, dtype=pl.Boolean),
            "l": pl.Series([[1]] * num_rows, dtype=pl.List(pl.Int64)),
            "u": pl.Series([dt.timedelta(1)] * num_rows, dtype=pl.Duration("us")),
            "z": pl.Series([None] * num_rows, dtype=pl.Null),
        }
    )
    types = {"n": "number", "s": "text", "d": "datetime", "t": "datetime", "b": "boolean"}
    schema = Schema(
        tuple(Column(name, types.get(name, "other")) for name in frame.columns), "regression"
    )
    assert {f.kind for f in find_problems(frame, schema)} <= {"constant", "duplicate_rows"}


def test_a_schema_of_another_table_is_refused():
    """Columns that the table lacks are named."""
    schema = Schema((Column("x", "number"),), "regression")
    with pytest.raises(DataError, match="The schema names 'x', which the table lacks; it has a"):
        find_problems(pl.DataFrame({"a": [1]}), schema)


def test_california_housing_is_quiet(data_dir):
    """Ten clean real columns give no warning, and the 207 missing bedrooms are counted."""
    frame = pl.read_csv(data_dir("california_housing") / "housing.csv", infer_schema_length=None)
    findings = find_problems(frame, infer_schema(frame, target="median_house_value"))
    assert kinds(findings) == []
    assert only(findings, "missing").count == 207


def test_wine_quality_has_its_1177_duplicates(data_dir):
    """The published number of duplicate rows, and nothing else to warn of."""
    path = data_dir("wine_quality") / "wine_quality.csv"
    frame = pl.read_csv(path, infer_schema_length=None)
    findings = find_problems(frame, infer_schema(frame, target="quality"))
    assert [(f.kind, f.count) for f in findings if f.severity == "warning"] == [
        ("duplicate_rows", 1177)
    ]


def test_adult_education_stands_twice(data_dir):
    """education and education-num are one column under two names."""
    frame = pl.read_csv(data_dir("adult") / "adult.data", has_header=False).head(-1)
    schema = Schema(
        (
            *(Column(n, "category") for n in frame.columns[:-1]),
            Column(frame.columns[-1], "category", "target"),
        ),
        "binary",
    )
    findings = find_problems(frame, schema)
    assert ("column_3", "column_4") in [f.columns for f in findings if f.kind == "renamed_column"]


def test_titanic_alive_is_the_answer(data_dir):
    """alive renames survived: a warning."""
    frame = pl.read_csv(data_dir("titanic") / "titanic.csv", infer_schema_length=None)
    findings = find_problems(frame, infer_schema(frame, target="survived"))
    found = [f for f in findings if f.kind == "renamed_column" and f.severity == "warning"]
    assert [f.columns for f in found] == [("survived", "alive")]


def test_values_around_zero_have_no_unit():
    """Standardised values spread over many powers of ten near zero; that is no unit change."""
    assert kinds(look(RNG.standard_t(3, 5000))) == []


def test_columns_of_distinct_numbers_are_not_compared_in_pairs(monkeypatch) -> None:
    """Columns with a number of its own in every row all have the same levels in the same rows."""
    compared = []
    equal = tables._equal
    monkeypatch.setattr(
        tables, "_equal", lambda a, b: compared.append((a.name, b.name)) or equal(a, b)
    )
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({f"c{i}": rng.normal(size=50) for i in range(60)})
    frame = frame.with_columns(
        twin=pl.col("c7"), whole=pl.int_range(50), same=pl.int_range(50) * 1.0
    )
    schema = Schema(tuple(Column(name, "number") for name in frame.columns), "regression")
    found = tables.find_equal_columns(frame, schema)
    assert {each.columns for each in found} == {("c7", "twin"), ("whole", "same")}
    assert compared == [("c7", "twin"), ("whole", "same")]
