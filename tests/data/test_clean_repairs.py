"""Repairs: both paths alike, everything recorded, everything taken back."""

from __future__ import annotations

import datetime as dt
import json
import math
import struct

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data.clean import Repair, apply_repairs, repair_row, repair_values, undo
from loopline.data.cleaning.record import Record
from loopline.errors import DataError, IntegrityError, SettingsError

FLOATS = st.one_of(
    st.floats(width=64), st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1.0, -999.0])
)
TEXTS = st.one_of(
    st.text(max_size=6), st.sampled_from(["a", " a ", "A", "", "1", " 2.5 ", "-0", "1e999"])
)
INTEGERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, 1, -999]))
DATES = st.dates(dt.date(1900, 1, 1), dt.date(1900, 1, 5))


def cells(kind: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(st.none(), kind)


@st.composite
def frames(draw) -> pl.DataFrame:
    num_rows = draw(st.integers(0, 8))

    def many(kind):
        return draw(st.lists(cells(kind), min_size=num_rows, max_size=num_rows))

    return pl.DataFrame(
        {
            "f": pl.Series(many(FLOATS), dtype=pl.Float64),
            "i": pl.Series(many(INTEGERS), dtype=pl.Int64),
            "s": pl.Series(many(TEXTS), dtype=pl.String),
            "b": pl.Series(many(st.booleans()), dtype=pl.Boolean),
            "d": pl.Series(many(DATES), dtype=pl.Date),
        }
    )


def mappings(kind: st.SearchStrategy, column: str) -> st.SearchStrategy:
    pairs = st.lists(
        st.tuples(kind, cells(kind)), min_size=1, max_size=3, unique_by=lambda pair: repr(pair[0])
    )
    return pairs.filter(lambda p: not {0.0, -0.0} <= {x for x, _ in p} or len(p) == 1).map(
        lambda p: _replace(column, p)
    )


def _replace(column: str, pairs: list) -> Repair:
    unique = {}
    for old, new in pairs:
        unique.setdefault("nan" if old != old else old, (old, new))
    return Repair.replace(column, list(unique.values()))


def _held(repairs: list[Repair]) -> bool:
    """Whether no column of floats is given a whole number that no float holds: that is refused."""
    own = [each for each in repairs if each.column == "i"]
    kinds = [each.kind for each in own]
    made = kinds.index("to_number") if "to_number" in kinds else len(own)
    return all(new is None or float(new) == new for each in own[made:] for _, new in each.mapping)


VALUE_REPAIRS = st.lists(
    st.one_of(
        mappings(FLOATS, "f"),
        mappings(INTEGERS, "i"),
        mappings(TEXTS, "s"),
        mappings(st.booleans(), "b"),
        mappings(DATES, "d"),
        st.sampled_from(["f", "i", "s", "b", "d"]).map(Repair.strip),
        st.sampled_from(["f", "i", "s", "b", "d"]).map(Repair.to_number),
    ),
    max_size=5,
).filter(_held)


def bits(value: object) -> object:
    """A cell such that NaN equals NaN and 0.0 does not equal -0.0."""
    if isinstance(value, float):
        return "nan" if value != value else struct.pack("d", value)
    return value


def exact(frame: pl.DataFrame) -> tuple:
    return frame.schema, [[bits(v) for v in row] for row in frame.iter_rows()]


@st.composite
def frames_and_repairs(draw):
    frame = draw(frames())
    repairs = list(draw(VALUE_REPAIRS))
    # A text map after to_number has nothing to fit; the other order is what plans give.
    if draw(st.booleans()):
        repairs.append(Repair.drop_duplicates())
    elif len(frame):
        repairs.append(Repair.drop_rows(draw(st.sets(st.integers(0, len(frame) - 1)))))
    if draw(st.booleans()):
        repairs.append(Repair.drop_column(draw(st.sampled_from(frame.columns))))
    return frame, repairs


@settings(max_examples=150, deadline=None)
@given(frames_and_repairs())
def test_undo_gives_the_original_back_exactly(case):
    """undo(apply(x)) equals x: values by their bits, types, column order, row order."""
    frame, repairs = case
    before = exact(frame)
    cleaned = apply_repairs(frame, repairs)
    assert exact(undo(cleaned.frame, cleaned.record)) == before
    assert exact(frame) == before


@settings(max_examples=150, deadline=None)
@given(frames(), VALUE_REPAIRS)
def test_the_row_path_equals_the_table_path(frame, repairs):
    """Repairing row by row gives, bit for bit, what repairing the table gives."""
    table = repair_values(frame, repairs)
    rows = [repair_row(row, repairs) for row in frame.iter_rows(named=True)]
    assert [{k: bits(v) for k, v in row.items()} for row in rows] == [
        {k: bits(v) for k, v in row.items()} for row in table.iter_rows(named=True)
    ]


def test_a_whole_number_that_no_float_holds_is_refused_in_a_column_of_floats():
    """2^53 + 1 has no float of its own: the repair is refused, with or without rows."""
    repairs = [Repair.to_number("i"), Repair.replace("i", [(0, 2**53 + 1)])]
    for cells in ([], [0, 1]):
        with pytest.raises(DataError, match="'i' holds Float64; 0 cannot be replaced by 9007199"):
            repair_values(pl.DataFrame({"i": pl.Series(cells, dtype=pl.Int64)}), repairs)


@pytest.mark.parametrize(
    ("cell", "pair"), [(1.0, (1, 0)), (1, (1, 0.0)), (True, (True, False)), (2.5, (2.5, -0.0))]
)
def test_a_replaced_number_is_of_the_columns_kind(cell, pair):
    """A map of whole numbers on a column of floats gives floats in a row as in a table."""
    repair = Repair.replace("c", [pair])
    (in_table,) = repair_values(pl.DataFrame({"c": [cell]}), [repair])["c"].to_list()
    in_row = repair_row({"c": cell}, [repair])["c"]
    assert (type(in_row), bits(in_row)) == (type(in_table), bits(in_table))


@settings(max_examples=50, deadline=None)
@given(frames(), VALUE_REPAIRS)
def test_training_and_prediction_repair_values_alike(frame, repairs):
    """`apply_repairs` and `repair_values` agree on value repairs."""
    assert exact(apply_repairs(frame, repairs).frame) == exact(repair_values(frame, repairs))


@settings(max_examples=100, deadline=None)
@given(VALUE_REPAIRS)
def test_repairs_survive_json(repairs):
    """A repair written as JSON and read back is the same repair, infinities and dates included."""
    for repair in repairs:
        again = Repair.from_dict(json.loads(json.dumps(repair.to_dict(), allow_nan=False)))
        assert repr(again) == repr(repair)


def test_the_record_survives_the_disk(tmp_path):
    """A record saved and loaded still takes every repair back."""
    frame = pl.DataFrame({"a": [1.0, math.inf, math.inf], "b": ["x", " x", " x"], "c": [1, 2, 2]})
    repairs = [
        Repair.replace("a", {math.inf: None}),
        Repair.strip("b"),
        Repair.drop_duplicates(),
        Repair.drop_column("c"),
    ]
    cleaned = apply_repairs(frame, repairs)
    cleaned.record.save(tmp_path / "record")
    record = Record.load(tmp_path / "record")
    assert record.repairs == tuple(repairs)
    assert [step.count for step in record.steps] == [2, 2, 1, 1]
    assert undo(cleaned.frame, record).equals(frame)


def test_replacing_is_done_all_at_once():
    """Swapping two values by one map swaps them; nothing is replaced twice."""
    repair = Repair.replace("s", {"a": "b", "b": "a"})
    frame = pl.DataFrame({"s": ["a", "b", "c"]})
    assert repair_values(frame, [repair])["s"].to_list() == ["b", "a", "c"]
    assert repair_row({"s": "a"}, [repair]) == {"s": "b"}


def test_true_is_not_one():
    """A map of the number 1 leaves True alone, in tables and in rows."""
    repair = Repair.replace("b", {1: None})
    assert repair_row({"b": True}, [repair]) == {"b": True}
    assert repair_values(pl.DataFrame({"b": [True]}), [repair])["b"].to_list() == [True]


def test_long_integers_are_compared_exactly():
    """2**53 + 1 is not the float 2.0**53, which a comparison in Float64 would say."""
    repair = Repair.replace("i", {2.0**53: 0})
    frame = pl.DataFrame({"i": [2**53, 2**53 + 1]})
    assert repair_values(frame, [repair])["i"].to_list() == [0, 2**53 + 1]
    assert repair_row({"i": 2**53 + 1}, [repair]) == {"i": 2**53 + 1}


def test_prediction_inputs_keep_their_rows():
    """Row and column repairs are never applied to what is to be predicted."""
    frame = pl.DataFrame({"a": [1, 1], "b": [2, 2]})
    repairs = [Repair.drop_duplicates(), Repair.drop_rows([0]), Repair.drop_column("b")]
    assert repair_values(frame, repairs).equals(frame)
    assert repair_row({"a": 1, "b": 2}, repairs) == {"a": 1, "b": 2}


def test_absent_columns_are_passed_over_at_prediction():
    """A table or row without the repaired column is left as it is."""
    repairs = [Repair.strip("gone"), Repair.replace("gone", {"a": "b"})]
    assert repair_row({"a": 1}, repairs) == {"a": 1}
    assert repair_values(pl.DataFrame({"a": [1]}), repairs).columns == ["a"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (" 12 ", 12.0), ("-.5", -0.5), ("1e3", 1000.0), ("1.", 1.0), ("+7", 7.0),
        ("1_000", None), ("0x10", None), ("nan", None), ("inf", None), ("٣", None), ("", None),
        ("1\n", 1.0), ("1 2", None),
    ],
)  # fmt: skip
def test_both_paths_read_the_same_numbers(text, number):
    """What counts as a number is written down, not left to two parsers."""
    repair = Repair.to_number("s")
    assert repair_row({"s": text}, [repair])["s"] == number
    assert repair_values(pl.DataFrame({"s": [text]}), [repair])["s"].to_list() == [number]


def test_a_new_value_of_another_type_is_refused():
    """A map that would change the column's type is refused by name."""
    frame = pl.DataFrame({"i": [1, 2]})
    with pytest.raises(DataError, match=r"Column 'i' holds Int64; 1 cannot be replaced by 'one'"):
        apply_repairs(frame, [Repair.replace("i", {1: "one"})])


def test_missing_cells_cannot_be_mapped():
    """Filling missing cells belongs to the features, which learn on training rows only."""
    with pytest.raises(SettingsError, match=r"columns\.a: `map` cannot replace missing cells"):
        Repair.replace("a", {None: "x"})


def test_an_empty_map_is_refused():
    """A setting without effect is an error."""
    with pytest.raises(SettingsError, match="`map` is empty"):
        Repair.replace("a", {})


def test_the_same_old_value_twice_is_refused():
    """Which of two new values would win is not left to chance; 1 and 1.0 are one value."""
    with pytest.raises(SettingsError, match="same old value twice"):
        Repair.replace("a", [(1, 2), (1.0, 3)])


def test_repairs_of_absent_columns_are_refused_in_training():
    """In training, a repair that names no column of the table is a mistake."""
    with pytest.raises(DataError, match="names column 'x', which the table lacks; it has a"):
        apply_repairs(pl.DataFrame({"a": [1]}), [Repair.strip("x")])


def test_rows_beyond_the_table_are_refused():
    """Dropping row 5 of a table of two is a mistake, told with the rows there are."""
    with pytest.raises(DataError, match="names row 5; the table has rows 0 to 1"):
        apply_repairs(pl.DataFrame({"a": [1, 2]}), [Repair.drop_rows([5])])


def test_undo_refuses_another_table():
    """A record is of no use on a table of another length."""
    cleaned = apply_repairs(pl.DataFrame({"a": [1, 2]}), [Repair.drop_rows([1])])
    with pytest.raises(IntegrityError, match="left 1 rows, this table has 2"):
        undo(pl.DataFrame({"a": [1, 2]}), cleaned.record)


def test_undo_leaves_the_given_table_alone():
    """Putting a dropped column back does not change the caller's table."""
    frame = pl.DataFrame({"a": [1], "b": [2]})
    cleaned = apply_repairs(frame, [Repair.drop_column("a")])
    undo(cleaned.frame, cleaned.record)
    assert cleaned.frame.columns == ["b"]


def test_a_newer_repair_is_refused():
    """A repair of an unknown version is not guessed at."""
    with pytest.raises(DataError, match="'strip' version 2 is unknown here"):
        Repair.from_dict({"kind": "strip", "version": 2, "column": "a"})


def test_lists_and_structs_come_back():
    """Rows and columns with nested values are dropped and put back too."""
    frame = pl.DataFrame({"l": [[1], [2], None], "s": [{"q": 1}, {"q": 2}, None], "x": [1, 2, 3]})
    repairs = [Repair.drop_rows([1]), Repair.drop_column("l")]
    cleaned = apply_repairs(frame, repairs)
    assert undo(cleaned.frame, cleaned.record).equals(frame)


def test_a_signed_zero_comes_back():
    """Replacing 0.0 by 0.0 turns -0.0 into 0.0, and undo turns it back."""
    frame = pl.DataFrame({"f": [-0.0, 1.0]})
    cleaned = apply_repairs(frame, [Repair.replace("f", {0.0: 0.0})])
    assert exact(undo(cleaned.frame, cleaned.record)) == exact(frame)


def test_an_integer_that_no_float_holds_matches_no_float():
    """A map of 2**53 + 1 leaves the Float64 2.0**53 alone."""
    repair = Repair.replace("f", {2**53 + 1: 0})
    assert repair_values(pl.DataFrame({"f": [2.0**53]}), [repair])["f"].to_list() == [2.0**53]
    assert repair_row({"f": 2.0**53}, [repair]) == {"f": 2.0**53}
