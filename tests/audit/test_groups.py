"""Sources of rows are found by values, priced honestly, and honest columns are left in peace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.audit import structure
from loopline.audit.alike import Columns, alikeness
from loopline.audit.group_search import GroupCandidate, _merged, joint_codes
from loopline.audit.groups import measure_groups, propose_groups, shared_labels
from loopline.audit.price import Pricing
from loopline.data.fingerprint import row_digests
from loopline.data.inference import infer_schema
from loopline.data.schema import Column, Schema
from loopline.testing.splitters import view_of


def sources(num=60, rows=12, *, spread=0.4, seed=0, random_labels=True):
    """Rows of sources: six numbers around the source's own, labels drawn once a source."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(num), rows)
    own = rng.normal(size=(num, 6))
    values = own[who] + spread * rng.normal(size=(num * rows, 6))
    label = rng.integers(0, 2, num)[who] if random_labels else rng.integers(0, 2, num * rows)
    frame = pl.DataFrame({f"x{i}": values[:, i] for i in range(6)})
    return frame.with_columns(who=pl.Series(who), y=pl.Series(label))


def found_in(frame, target="y", **overrides):
    schema = infer_schema(frame, target=target, overrides=overrides)
    candidates = propose_groups(frame, schema)
    return measure_groups(view_of(frame, schema), candidates, Pricing())


def told(findings):
    return [(each.severity, each.columns) for each in findings]


def test_likeness_is_the_intraclass_correlation():
    """Ranks 1, 2 | 3, 4: mean squares 4 between and 1/2 within give (4 - 0.5) / (4 + 0.5)."""
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0, 4.0]})
    found = alikeness(np.array([0, 0, 1, 1]), Columns.read(frame, ["x"]))
    assert found["x"] == pytest.approx(3.5 / 4.5)


def test_likeness_of_words_takes_chance_off():
    """Three words, two groups: 1 of 2 pairs agree, by chance 1 of 3: (1/2 - 1/3) / (2/3)."""
    frame = pl.DataFrame({"x": ["a", "a", "b", "c", "b", "c"]})
    groups = np.array([0, 0, 1, 1, 2, 2])
    found = alikeness(groups, Columns.read(frame, ["x"]))
    overall = 6 / 30  # three pairs of fifteen, ordered
    assert found["x"] == pytest.approx((1 / 3 - overall) / (1 - overall))


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_likeness_does_not_depend_on_names_or_order(seed):
    """Renumbered groups and shuffled rows give the same likeness."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 6, 60)
    frame = pl.DataFrame({"x": rng.normal(size=60), "w": rng.choice(list("abc"), 60)})
    first = alikeness(groups, Columns.read(frame, ["x", "w"]))
    moved = rng.permutation(60)
    renamed = rng.permutation(6)[groups]
    second = alikeness(renamed[moved], Columns.read(frame[moved], ["x", "w"]))
    assert first == pytest.approx(second, abs=1e-9)


def test_an_id_with_a_plain_name_is_found_and_its_gap_told():
    """Random labels per source: a random split claims nearly everything, whole groups chance."""
    (finding,) = found_in(sources().rename({"who": "k"}))
    assert (finding.severity, finding.columns) == ("repairable", ("k",))
    assert finding.worth.claimed.value > 0.9
    assert finding.worth.repaired.low < 0.55
    assert finding.worth.difference.low > 0.15
    assert finding.facts["matters"] is True
    assert finding.remedy.settings == {"columns": {"k": {"role": "group"}}}
    assert "a random split claims auc" in finding.sentence


def test_an_opaque_column_that_shares_only_labels_is_held_together():
    """150 customers, features of noise, one label each: the number alone gives it away."""
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(150), 20)
    frame = pl.DataFrame({f"x{i}": rng.normal(size=3000) for i in range(4)}).with_columns(
        k=pl.Series(who), y=pl.Series(rng.integers(0, 2, 150)[who])
    )
    (finding,) = found_in(frame)
    assert (finding.severity, finding.columns) == ("repairable", ("k",))
    assert "have the same answer (100% beyond chance)" in finding.sentence


@pytest.mark.parametrize("answers", ["shared", "own"])
def test_an_opaque_column_of_a_large_table_is_looked_at_on_a_part_first(answers, monkeypatch):
    """Groups of one answer are found as in a small table; without one no split is made for them."""
    monkeypatch.setattr(structure, "LARGE_ROWS", 1_000)
    made = []
    view = structure._Trial.view
    monkeypatch.setattr(
        structure._Trial,
        "view",
        lambda self, *given, **more: made.append(self.frame.height) or view(self, *given, **more),
    )
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(150), 20)
    label = rng.integers(0, 2, 150)[who] if answers == "shared" else rng.integers(0, 2, 3000)
    frame = pl.DataFrame({f"x{i}": rng.normal(size=3000) for i in range(4)}).with_columns(
        k=pl.Series(who), y=pl.Series(label)
    )
    frame = frame[rng.permutation(3000)]  # sorted, the column would count time
    features = [Column(name, "number") for name in frame.columns if name != "y"]
    schema = Schema((*features, Column("y", "category", "target")), "binary", (0, 1))
    found = structure.find_structure(frame, schema, row_digests(frame)).findings
    groups = [each.columns for each in found if each.check == "groups"]
    assert groups == ([("k",)] if answers == "shared" else [])
    assert (3000 in made) == (answers == "shared")
    assert any(rows <= 1_020 for rows in made)


def test_a_declared_group_is_told_with_what_a_random_split_would_claim():
    """A known group is a note with its price."""
    (finding,) = found_in(sources(), who={"role": "group"})
    assert finding.severity == "note"
    assert finding.facts["kind"] == "declared"
    assert finding.worth.matters
    assert "A random split would have claimed auc" in finding.sentence


def test_groups_of_one_row_say_so():
    """A declared group in which every row stands alone changes nothing, in words."""
    frame = sources().with_columns(who=pl.Series(np.arange(720)))
    (finding,) = found_in(frame, who={"role": "group"})
    assert finding.severity == "note"
    assert "has one row in 720 of 720 groups" in finding.sentence


def test_of_visits_within_patients_the_patient_is_taken():
    """Visits lie within patients; keeping them whole is not enough, so the patient is the group."""
    frame = sources(40, 24, spread=0.3)
    frame = frame.with_columns(visit=pl.Series(np.arange(960) // 4)).rename({"who": "patient"})
    frame = frame.with_columns(x0=pl.col("x0") + pl.Series(
        np.random.default_rng(1).normal(size=240)[np.arange(960) // 4]))  # fmt: skip
    schema = infer_schema(frame, target="y", overrides={"patient": {"role": "feature"}})
    schema = schema.changed("visit", role="feature")
    found = measure_groups(view_of(frame, schema), propose_groups(frame, schema), Pricing())
    by_name = {each.columns: each for each in found}
    assert by_name["patient",].severity == "repairable"
    if ("visit",) in by_name:
        assert by_name["visit",].severity == "note"


def test_traits_that_identify_a_source_are_found_without_an_id():
    """Nobody names the source, but two constant columns together do: told, not applied."""
    rng = np.random.default_rng(3)
    frame = sources(40, 15, spread=0.3).drop("who")
    who = np.repeat(np.arange(40), 15)
    frame = frame.with_columns(
        height=pl.Series(rng.integers(150, 180, 40)[who]),
        shoe=pl.Series(rng.integers(36, 46, 40)[who]),
    )
    (finding,) = found_in(frame)
    assert finding.severity == "warning"
    assert finding.columns == ("height", "shoe")
    assert finding.remedy.settings == {}
    assert "role: group" in finding.remedy.sentence


def test_a_plan_and_its_price_do_not_hide_an_id():
    """A plan that fixes other columns of its row makes no finer source of the one that is named."""
    rng = np.random.default_rng(4)
    plan = rng.integers(0, 3, 720)
    frame = sources().rename({"who": "k"}).with_columns(
        plan=pl.Series([f"plan {each}" for each in plan]),
        price=pl.Series(10.0 * plan + rng.normal(size=720)),
        extras=pl.Series(4.0 * plan + rng.normal(size=720)),
    )  # fmt: skip
    order = rng.permutation(720)
    (finding,) = [each for each in found_in(frame[order]) if each.severity != "note"]
    assert (finding.severity, finding.columns) == ("repairable", ("k",))


def test_two_traits_that_say_little_alone_are_found_together():
    """Neither education nor hours names anybody; both together stand for a source."""
    rng = np.random.default_rng(3)
    frame = sources(36, 20, spread=0.3).drop("who")
    who = np.repeat(np.arange(36), 20)
    pairs = rng.permutation(144)[:36]
    frame = frame.with_columns(
        school=pl.Series(pairs[who] % 12), hours=pl.Series(30 + pairs[who] // 12)
    )
    (finding,) = [each for each in found_in(frame) if each.severity == "warning"]
    assert finding.columns == ("hours", "school")
    assert finding.worth.repaired.low < 0.6


def few_sites(seed, *, own):
    """Seven sites of 60 rows; with `own` each has its own calibration and its own labels."""
    rng = np.random.default_rng(seed)
    site = np.repeat(np.arange(7), 60)
    y = rng.random(420) < (np.array([0.1, 0.9, 0.2, 0.8, 0.15, 0.6, 0.4])[site] if own else 0.5)
    moved = rng.normal(size=(7, 4))[site] if own else 0.0
    values = rng.normal(size=(420, 4)) + moved + 0.5 * y[:, None]
    frame = pl.DataFrame({f"x{i}": values[:, i] for i in range(4)})
    return frame.with_columns(
        site=pl.Series([f"site {each}" for each in site]), y=pl.Series(y.astype(int))
    )


def test_few_sites_that_differ_are_told_and_few_that_do_not_are_not():
    """With seven sites a gap is hard to tell from chance; that they differ is said all the same."""
    (finding,) = found_in(few_sites(0, own=True), site={"role": "feature"})
    assert finding.severity in ("warning", "repairable")
    assert finding.columns == ("site",)
    alike = [found_in(few_sites(seed, own=False), site={"role": "feature"}) for seed in range(3)]
    assert [each.severity for found in alike for each in found if each.severity != "note"] == []


def test_honest_categories_and_repeating_numbers_are_no_groups():
    """Ages, codes and regions repeat, and rows of one value resemble each other no more."""
    rng = np.random.default_rng(0)
    n = 2000
    age = rng.integers(18, 80, n)
    frame = pl.DataFrame(
        {
            "age": age,
            "income": age * 100.0 + 500 * rng.normal(size=n),
            "region": rng.choice([f"r{i}" for i in range(25)], n),
            "size": rng.integers(1, 60, n),
            "x": rng.normal(size=n),
            "y": (age + 20 * rng.normal(size=n) > 45).astype(int),
        }
    )
    assert [each for each in found_in(frame) if each.severity != "note"] == []


def test_counts_that_rise_with_others_are_no_names():
    """A number whose neighbours are as much alike as its own rows is a measurement."""
    rng = np.random.default_rng(0)
    size = rng.integers(1, 200, 3000)
    columns = {f"x{i}": size * (1 + 0.1 * rng.normal(size=3000)) for i in range(4)}
    frame = pl.DataFrame({"size": size, **columns, "y": rng.integers(0, 2, 3000)})
    assert propose_groups(frame, infer_schema(frame, target="y")) == []


def test_groups_that_overlap_become_one_and_a_giant_is_refused():
    """Each family shares rows with two patients: together they are one chain of all rows."""
    frame = sources(60, 10, spread=0.3).rename({"who": "patient"})
    frame = frame.with_columns(family=pl.Series((np.arange(600) + 5) // 10))
    schema = infer_schema(frame, target="y")
    schema = schema.changed("patient", role="feature").changed("family", role="feature")
    found = measure_groups(view_of(frame, schema), propose_groups(frame, schema), Pricing())
    assert sorted(each.severity for each in found) == ["repairable", "warning"]
    (giant,) = [each for each in found if each.severity == "warning"]
    assert "join 100% of all rows into one" in giant.sentence


def test_equal_rows_are_no_group():
    """Each row twice: doubles are somebody else's finding."""
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({f"x{i}": rng.normal(size=300).round(1) for i in range(5)})
    frame = pl.concat([frame, frame]).with_columns(y=pl.Series(rng.integers(0, 2, 600)))
    assert found_in(frame) == []


def test_joint_codes_keep_empty_cells_apart():
    """Nobody knows whose row an empty cell is, so it stands alone."""
    frame = pl.DataFrame({"a": ["p", "p", None, None], "b": [1.0, 1.0, 1.0, float("nan")]})
    assert joint_codes(frame, ["a"]).tolist() == [0, 0, 1, 2]
    assert joint_codes(frame, ["a", "b"]).tolist() == [0, 0, 1, 2]


def test_parkinsons_subjects_are_found_without_being_told(data_dir):
    """By values alone, and again from age and sex when the column is gone."""
    path = data_dir("parkinsons_telemonitoring") / "parkinsons_updrs.csv"
    frame = pl.read_csv(path, infer_schema_length=None)
    plain = frame.rename({"subject#": "k"})
    (finding,) = found_in(plain, "total_UPDRS")
    assert told([finding]) == [("repairable", ("k",))]
    assert finding.worth.claimed.value < 1.5 < 3.0 < finding.worth.repaired.value
    (without,) = found_in(frame.drop("subject#"), "total_UPDRS")
    assert told([without]) == [("warning", ("age", "sex"))]


@pytest.mark.parametrize(
    ("folder", "file", "target"),
    [
        ("wine_quality", "wine_quality.csv", "quality"),
        ("california_housing", "housing.csv", "median_house_value"),
        ("telco_churn", "Telco-Customer-Churn.csv", "Churn"),
        ("elec2_drift", "elec.csv", "class"),
    ],
)
def test_clean_tables_have_no_groups(data_dir, folder, file, target):
    """Doubled wines, places, customers of one row each: nothing to hold together."""
    frame = pl.read_csv(data_dir(folder) / file, infer_schema_length=None)
    schema = infer_schema(frame, target=target)
    candidates = propose_groups(frame, schema)
    findings = measure_groups(view_of(frame, schema), candidates, Pricing())
    assert [each for each in findings if each.severity != "note"] == []


def test_adult_has_no_groups(data_dir):
    """Education, country and occupation are categories."""
    path = data_dir("adult") / "adult.data"
    frame = pl.read_csv(path, has_header=False, null_values=[" ?"]).drop_nulls("column_14")
    assert [each for each in found_in(frame, "column_14") if each.severity != "note"] == []


def test_an_opaque_column_that_shares_nothing_is_not_worth_a_word():
    """Numbers like customers', but neither features nor labels in common: nothing is said."""
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(150), 20)
    frame = pl.DataFrame({f"x{i}": rng.normal(size=3000) for i in range(4)}).with_columns(
        k=pl.Series(who), y=pl.Series(rng.integers(0, 2, 3000))
    )
    assert found_in(frame[rng.permutation(3000)]) == []


def test_only_what_matters_gets_a_role():
    """A note, or a gap within chance, changes no column's role; several columns make no group."""
    (finding,) = found_in(sources().rename({"who": "k"}))
    assert structure._role_of(finding) == "group"
    assert structure._role_of(replace(finding, severity="note")) is None
    within = {**finding.facts, "matters": False}
    assert structure._role_of(replace(finding, facts=within)) is None
    assert structure._role_of(replace(finding, columns=("k", "x0"))) is None


@pytest.mark.parametrize(("own", "names"), [(True, True), (False, False)])
def test_labels_that_neighbouring_values_share_too_do_not_make_a_name(own, names):
    """A source's own label is shared within it alone; a dose's effect reaches its neighbours."""
    rng = np.random.default_rng(0)
    value = np.repeat(np.arange(120), 8)
    level = rng.normal(size=120) if own else np.sin(np.arange(120) / 15)
    frame = pl.DataFrame({"value": value, "y": level[value] + rng.normal(0, 0.2, value.size)})
    schema = Schema((Column("value", "number"), Column("y", "number", "target")), "regression")
    candidate = GroupCandidate(
        ("value",), value, "opaque", 120, 8.0, 0.0, (), 0.5, merged=_merged(frame["value"])
    )
    assert (shared_labels(view_of(frame, schema), candidate) > 0.5) == names
