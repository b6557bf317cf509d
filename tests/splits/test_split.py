"""A split as a stored value: making, proving, saving, aligning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data.fingerprint import row_digests
from loopline.data.schema import Column, Schema
from loopline.errors import DataError, IntegrityError, SettingsError, SplitError
from loopline.splits.base import HeldOut
from loopline.splits.certificate import assignment_digest
from loopline.splits.random import RandomSplitter
from loopline.splits.spec import TEST, TRAIN, SplitSettings
from loopline.splits.split import SPLIT_FILE, Split, make_split
from loopline.splits.verify import verify


def people(num_rows=400, seed=0):
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "age": rng.integers(18, 90, num_rows),
            "pay": rng.normal(size=num_rows).round(2),
            "home": [f"h{value}" for value in rng.integers(0, num_rows // 5, num_rows)],
            "day": rng.integers(0, 60, num_rows),
            "left": rng.choice(["no", "yes"], num_rows, p=[0.7, 0.3]),
        }
    )
    return pl.concat([frame, frame.sample(num_rows // 10, seed=1)])


def schema_with(**roles):
    columns = [
        Column("age", "number"),
        Column("pay", "number"),
        Column("home", "category", roles.get("home", "ignore")),
        Column("day", "number", roles.get("day", "ignore")),
        Column("left", "category", "target"),
    ]
    return Schema(tuple(columns), "binary", ("no", "yes"))


PLAIN = schema_with()
BY_HOME = schema_with(home="group")
BY_DAY = schema_with(day="time")
BOTH = schema_with(home="group", day="time")

CASES = {
    "random": (PLAIN, SplitSettings("random")),
    "stratified": (PLAIN, SplitSettings("stratified")),
    "group": (BY_HOME, SplitSettings("group", group=("home",))),
    "group_stratified": (BY_HOME, SplitSettings("group_stratified", group=("home",))),
    "time": (BY_DAY, SplitSettings("time", time=("day",), gap=2.0, num_folds=3)),
    "group_time": (
        BOTH,
        SplitSettings("group_time", group=("home",), time=("day",), num_folds=2),
    ),
}


def made(name="stratified", frame=None):
    frame = people() if frame is None else frame
    schema, asked = CASES[name]
    return make_split(frame, schema, row_digests(frame), asked), frame, schema


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_border_is_proven(name):
    """Each method's certificate proves every required claim at the test border and every fold."""
    split, _, _ = made(name)
    claims = split.certificate.claims
    assert {claim.border for claim in claims} == {
        "test",
        *(f"fold {number}" for number in range(split.num_folds)),
    }
    assert all(claim.proven for claim in claims)
    structures = {claim.structure for claim in claims}
    assert {"rows", "features"} <= structures
    assert ("group home" in structures) == ("group" in name)
    assert ("time" in structures) == ("time" in name)


@pytest.mark.parametrize("name", sorted(CASES))
def test_verify_passes_and_names_a_moved_row(name):
    """The proof holds on the data in another order, and fails with the row when one was moved."""
    split, frame, schema = made(name)
    assert verify(split, frame.reverse(), schema) == split.certificate
    row = int(np.flatnonzero(split.side == TEST)[7])
    side, folds = split.side.copy(), split.folds.copy()
    side[row], folds[row] = TRAIN, 1
    with pytest.raises(IntegrityError, match=rf"row {row}\b|training row and row|not early enough"):
        verify(replace(split, side=side, folds=folds), frame, schema)


def test_verify_names_a_row_whose_fold_was_changed():
    """A single lonely row put into another fold is found by replaying the split."""
    split, frame, schema = made("random")
    sizes = np.bincount(split.units)
    alone = (sizes[split.units] == 1) & (split.side == TRAIN) & (split.folds[:, 0] == 2)
    row = int(np.flatnonzero(alone)[0])
    folds = split.folds.copy()
    folds[row] = [1, 2, 1, 1, 1]
    with pytest.raises(IntegrityError, match=f"row {row} has another part in fold 0"):
        verify(replace(split, folds=folds), frame, schema)


def test_verify_names_rows_added_removed_and_changed():
    """A table with other rows is refused with the first row that differs."""
    split, frame, schema = made()
    with pytest.raises(IntegrityError, match=r"1 rows of the split are not in the table \(first"):
        verify(split, frame.slice(1), schema)
    with pytest.raises(IntegrityError, match=r"of the table are not in the split \(first: row 440"):
        verify(split, pl.concat([frame, frame.head(1)]), schema)
    changed = frame.with_columns(age=pl.when(pl.int_range(pl.len()) == 17).then(3).otherwise("age"))
    with pytest.raises(IntegrityError, match=r"\(first: row 17 of the table"):
        verify(split, changed, schema)


def test_a_forged_certificate_is_refused():
    """Counts that are not those of the rows are found."""
    split, frame, schema = made()
    forged = replace(split, certificate=replace(split.certificate, num_units=1))
    with pytest.raises(IntegrityError, match="num_units differ"):
        verify(forged, frame, schema)


def test_a_splitter_that_cuts_units_makes_no_split():
    """Whatever the splitter, a split whose proof fails is never given out."""

    class Careless(RandomSplitter):
        def hold_out(self, rows, settings, seed):
            side = np.random.default_rng(seed).random(rows.num_rows) < settings.test_share
            return HeldOut(np.where(side, TEST, TRAIN).astype(np.int8))

    table, schema = people(), schema_with()
    frame = pl.concat([table, table.head(200)])
    asked = SplitSettings("random", num_folds=0)
    with pytest.raises(IntegrityError, match="made a split whose proof failed: Training and test"):
        make_split(frame, schema, row_digests(frame), asked, splitter=Careless())


def test_a_split_of_a_newer_format_is_not_read(tmp_path):
    """The format of the file is looked at before anything is taken from it."""
    split, _, _ = made()
    split.save(tmp_path)
    text = (tmp_path / SPLIT_FILE).read_text()
    (tmp_path / SPLIT_FILE).write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(IntegrityError, match="has format 2; this version reads 1"):
        Split.load(tmp_path)


@pytest.mark.parametrize("num_folds", [0, 3, 40])
def test_the_digest_of_an_assignment_knows_every_place(num_folds):
    """A row on another side, or with another part in any fold, gives another digest."""
    digests = np.random.default_rng(0).integers(0, 2**63, (5, 2)).astype(np.uint64)
    side, folds = np.zeros(5, dtype=np.int8), np.ones((5, num_folds), dtype=np.int8)
    known = {assignment_digest(digests, side, folds)}
    for row in range(5):
        moved = side.copy()
        moved[row] = TEST
        known.add(assignment_digest(digests, moved, folds))
    for fold in range(num_folds):
        other = folds.copy()
        other[2, fold] = 2
        known.add(assignment_digest(digests, side, other))
    assert len(known) == 1 + 5 + num_folds


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_order_of_rows_plays_no_part(name):
    """A shuffled table gets the same split, row for row, and the same id."""
    split, frame, _ = made(name)
    shuffle = np.random.default_rng(3).permutation(frame.height)
    again, _, _ = made(name, frame[shuffle])
    assert np.array_equal(again.side, split.side[shuffle])
    assert np.array_equal(again.folds, split.folds[shuffle])
    assert np.array_equal(again.units, split.units[shuffle])
    assert again.id == split.id
    assert again.certificate == split.certificate


@pytest.mark.parametrize("name", ["stratified", "time"])
def test_saved_and_loaded_is_the_same(name, tmp_path):
    """A split comes back from its two data files array for array."""
    split, _, _ = made(name)
    split.save(tmp_path)
    again = Split.load(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.parquet", "split.json"]
    for array in ("digests", "side", "folds", "units", "order", "clock"):
        left, right = getattr(split, array), getattr(again, array)
        assert (left is None and right is None) or (
            np.array_equal(left, right) and left.dtype == right.dtype
        ), array
    assert again.settings == split.settings
    assert again.certificate == split.certificate
    assert again.id == split.id


def test_saved_twice_gives_the_same_bytes(tmp_path):
    """Nothing but the split decides the files' bytes."""
    split, _, _ = made()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        split.save(tmp_path / name)
    for name in ("rows.parquet", "split.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_damaged_file_is_refused(tmp_path):
    """A folder that holds no split says so."""
    made()[0].save(tmp_path)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(IntegrityError, match="does not hold a readable split"):
        Split.load(tmp_path)


def test_align_follows_the_rows():
    """Laid over a shuffled table, every row keeps its side, fold and unit."""
    split, frame, schema = made("group")
    shuffle = np.random.default_rng(5).permutation(frame.height)
    moved = split.align(row_digests(frame[shuffle]))
    assert np.array_equal(moved.side, split.side[shuffle])
    assert np.array_equal(moved.units, split.units[shuffle])
    assert verify(moved, frame[shuffle], schema)


def test_equal_features_share_a_side_whatever_their_target():
    """Two rows of equal features and different labels are one unit."""
    frame = people()
    twin = frame.head(1).with_columns(
        left=pl.when(pl.col("left") == "no").then(pl.lit("yes")).otherwise(pl.lit("no")),
        day=pl.lit(99, dtype=pl.Int64),
    )
    split, _, _ = made("random", pl.concat([frame, twin]))
    assert split.units[0] == split.units[-1]
    assert split.side[0] == split.side[-1]


def test_duplicates_and_groups_hang_together():
    """A duplicate of a row of home 1 in home 2 ties both homes into one unit."""
    frame = pl.DataFrame(
        {
            "age": [1, 2, 1, 4, *range(10, 26)],
            "pay": [0.5, 1.0, 0.5, 2.0, *[float(i) for i in range(16)]],
            "home": ["h1", "h1", "h2", "h2", *[f"z{i}" for i in range(16)]],
            "day": [0] * 20,
            "left": ["no", "yes"] * 10,
        }
    )
    asked = SplitSettings("group", group=("home",), num_folds=0)
    split = make_split(frame, BY_HOME, row_digests(frame), asked)
    assert np.unique(split.units[:4]).size == 1
    assert split.certificate.num_units == 17


def test_ignoring_duplicates_counts_them():
    """`duplicates: ignore` lets equal rows part, and the certificate says how many did."""
    frame = pl.concat([people()] * 3)
    asked = SplitSettings("random", duplicates="ignore")
    split = make_split(frame, PLAIN, row_digests(frame), asked)
    claim = next(claim for claim in split.certificate.claims if claim.structure == "rows")
    assert not claim.required
    assert claim.straddling > 100
    assert verify(split, frame.reverse(), PLAIN) == split.certificate


def test_common_values_are_set_apart_and_others_are_not():
    """One value on 30 % of the rows is dealt row by row; rarer duplicates stay together."""
    frame = people(700)
    blank = pl.concat([frame.head(1)] * 300)
    both = pl.concat([frame, blank])
    with pytest.raises(SplitError, match=r"has 30\d rows \(\d+\.\d%\).*`common_share`"):
        make_split(both, PLAIN, row_digests(both), SplitSettings("random"))
    asked = SplitSettings("random", common_share=0.05)
    split = make_split(both, PLAIN, row_digests(both), asked)
    assert np.unique(split.side[-300:]).size == 2
    assert 300 <= split.certificate.num_common <= 303
    assert all(claim.proven for claim in split.certificate.claims)
    sizes = np.bincount(split.units)
    assert sizes.max() >= 2
    assert verify(split, both.reverse(), PLAIN) == split.certificate


def test_declared_structure_is_not_ignored_in_silence():
    """A group or time column that the method leaves out is an error, unless it is meant."""
    frame = people()
    with pytest.raises(
        SplitError, match=r"would ignore 'home' \(role group\), 'day' \(role time\)"
    ):
        make_split(frame, BOTH, row_digests(frame), SplitSettings("random"))
    asked = SplitSettings("random", ignore_structure=True)
    split = make_split(frame, BOTH, row_digests(frame), asked)
    told = [claim for claim in split.certificate.claims if claim.structure == "ignored home"]
    assert told[0].straddling > 10
    assert not told[0].required
    with pytest.raises(SettingsError, match="`ignore_structure` has no effect"):
        make_split(frame, PLAIN, row_digests(frame), asked)


def test_two_time_columns_are_compared_in_turn():
    """The day decides before the hour; the gap counts on the day."""
    frame = pl.DataFrame(
        {
            "age": range(20),
            "pay": [0.0] * 20,
            "home": [str(i % 4) for i in range(20)],
            "day": [d for d in range(5) for _ in range(4)],
            "left": ["no", "yes"] * 10,
        }
    )
    schema = schema_with(home="time", day="time")
    frame = frame.with_columns(pl.col("home").cast(pl.Int64))
    asked = SplitSettings("time", time=("day", "home"), test_share=0.25, gap=1.0, num_folds=0)
    split = make_split(frame, schema, row_digests(frame), asked)
    assert split.side.tolist() == [0] * 12 + [2] * 3 + [1] * 5


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("home", ["a", None, "b", None], r"group column 'home' is empty in 2 rows \(row 1, 3\)"),
        ("day", [1, None, 2, 3], r"time column 'day' is empty or not finite in 1 rows \(row 1\)"),
        ("left", ["no", "yes", None, "no"], r"target 'left' is empty in 1 of 4 rows.*row 2"),
        ("left", ["no", "yes", "maybe", "no"], r"holds 'maybe' \(row 2\)"),
    ],
)
def test_cells_that_a_split_cannot_use_are_named(column, values, message):
    """Empty groups and times and unknown labels are refused with their rows."""
    frame = people().head(4).with_columns(pl.Series(column, values))
    asked = SplitSettings("group_time", group=("home",), time=("day",))
    with pytest.raises(DataError, match=message):
        make_split(frame, BOTH, row_digests(frame), asked)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["train", "test", "tset", "train"], r"holds 'tset' \(row 2\)"),
        (["train", None, "test", "train"], r"empty in 1 rows \(row 1\)"),
        (["0", "validation", "test", "1"], "both 'validation' and fold numbers"),
    ],
)
def test_a_given_column_is_read_strictly(values, message):
    """Unknown words, empty cells and mixed kinds of folds are refused."""
    frame = people().head(4).with_columns(part=pl.Series(values))
    asked = SplitSettings("predefined", column="part")
    with pytest.raises(DataError, match=message):
        make_split(frame, PLAIN, row_digests(frame), asked)


def test_a_given_column_is_followed():
    """train, validation and test become sides and one fold."""
    frame = people(200).head(100).with_columns(age=pl.int_range(pl.len()))
    part = ["train"] * 60 + ["validation"] * 20 + ["test"] * 20
    frame = frame.with_columns(part=pl.Series(part))
    split = make_split(frame, PLAIN, row_digests(frame), SplitSettings("predefined", column="part"))
    assert split.side.tolist() == [0] * 80 + [1] * 20
    assert split.folds[:, 0].tolist() == [1] * 60 + [2] * 20 + [0] * 20


def test_settings_tell_all_problems_at_once():
    """Three wrong settings give three sentences."""
    with pytest.raises(SettingsError) as problem:
        SplitSettings("random", test_share=1.5, num_folds=1, gap=3.0)
    assert len(problem.value.problems) == 3
    assert "`gap` needs a method that knows time" in str(problem.value)
    with pytest.raises(SettingsError, match="`fold` is not a setting"):
        SplitSettings.from_dict({"method": "random", "fold": 3})


@given(seed=st.integers(0, 1000), rows=st.integers(30, 200), name=st.sampled_from(sorted(CASES)))
@settings(max_examples=30, deadline=None)
def test_any_split_verifies_and_no_moved_row_passes(seed, rows, name):
    """For any table: the proof holds, and with any one row on another side it fails."""
    frame = people(rows, seed)
    try:
        split, _, schema = made(name, frame)
    except SplitError:
        return
    verify(split, frame, schema)
    row = seed % frame.height
    side = split.side.copy()
    side[row] = (side[row] + 1) % 3
    with pytest.raises(IntegrityError):
        verify(replace(split, side=side), frame, schema)
