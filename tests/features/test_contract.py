"""The input contract: what is let in, what is refused, and what is remarked on."""

from __future__ import annotations

import json
import time
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loopline.data.schema import Column, Schema
from loopline.digest import canonical_json
from loopline.errors import DataError, SettingsError
from loopline.features import contract as contract_module
from loopline.features.contract import InputContract

TABLE = pl.DataFrame(
    {
        "age": [20, 30, 40, None],
        "height": [1.5, 1.75, 2.0, 1.6],
        "member": [True, False, None, True],
        "city": ["Bonn", "Ulm", None, "Bonn"],
        "code": [1, 2, 2, 3],
        "day": [date(2020, 1, 1), date(2020, 6, 1), None, date(2021, 1, 1)],
        "at": pl.Series([datetime(2020, 1, 1, 5)] * 4, dtype=pl.Datetime("us")),
        "note": ["a b", "c", None, ""],
        "unused": [1, 2, 3, 4],
    }
)
TYPES = ("number", "number", "boolean", "category", "category", "datetime", "datetime", "text")
SCHEMA = Schema(
    (
        *(Column(name, kind) for name, kind in zip(TABLE.columns, TYPES, strict=False)),
        Column("unused", "number", "ignore"),
    ),
    "regression",
)
CONTRACT = InputContract.learn(TABLE, SCHEMA)
FEATURES = TABLE.select(SCHEMA.features)


def remarks_of(frame: pl.DataFrame, contract: InputContract = CONTRACT) -> dict:
    return {(r.column, r.what): (r.count, r.share) for r in contract.check(frame)[1]}


def with_column(name: str, values, dtype=None) -> pl.DataFrame:
    return FEATURES.with_columns(pl.Series(name, values, dtype=dtype, strict=False))


def test_learned_facts_by_hand():
    """Ranges, levels and shares are those of the training rows; ignored columns are left out."""
    columns = {column.name: column for column in CONTRACT.columns}
    assert list(columns) == list(SCHEMA.features)
    assert (columns["age"].low, columns["age"].high) == (20.0, 40.0)
    assert columns["age"].quantiles[3] == 30.0
    assert columns["age"].missing_share == 0.25
    assert columns["city"].levels == ("Bonn", "Ulm")
    assert columns["code"].levels == ("1", "2", "3")
    assert columns["day"].low == 1_577_836_800_000_000


def test_training_table_passes_unchanged():
    """The training table itself comes back equal, with no remark."""
    checked, remarks = CONTRACT.check(FEATURES)
    assert_frame_equal(checked, FEATURES)
    assert remarks == ()


def test_order_and_extra_columns():
    """Columns come back in training order; extra ones are dropped and told."""
    checked, remarks = CONTRACT.check(TABLE.select(reversed(TABLE.columns)))
    assert_frame_equal(checked, FEATURES)
    assert [str(remark) for remark in remarks] == ["Column 'unused' is not used by the model."]


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("age", [1.0, 2.0, None, 4.0], [1, 2, None, 4]),
        ("age", [1.5, 2.0, None, 4.0], [1.5, 2.0, None, 4.0]),
        ("age", ["12", " 13 ", None, "1e1"], [12, 13, None, 10]),
        ("age", [True, False, None, True], [1, 0, None, 1]),
        ("height", [1, 2, None, 4], [1.0, 2.0, None, 4.0]),
        ("height", ["12.5", None, "-3", "inf"], [12.5, None, -3.0, None]),
        ("height", [float("nan"), float("inf"), 1.0, 2.0], [None, None, 1.0, 2.0]),
        ("member", [1, 0, None, 1], [True, False, None, True]),
        ("member", ["TRUE", "false", None, "1"], [True, False, None, True]),
        ("city", [1, 2, None, 3], ["1", "2", None, "3"]),
        ("code", ["1", "2", None, "3"], [1, 2, None, 3]),
        ("day", ["2020-05-31", None, "2020-05-31T10:00", "2020-05-31"],
         [date(2020, 5, 31), None, date(2020, 5, 31), date(2020, 5, 31)]),
        ("at", ["2020-05-31", None, "2020-05-31T10:00:00Z", "2020-05-31 10:00:00.5"],
         [datetime(2020, 5, 31), None, datetime(2020, 5, 31, 10),
          datetime(2020, 5, 31, 10, 0, 0, 500_000)]),
        ("at", [date(2020, 5, 31)] * 4, [datetime(2020, 5, 31)] * 4),
        ("note", [None] * 4, [None] * 4),
    ],
)  # fmt: skip
def test_what_may_stand_for_what(name, values, expected):
    """Values that mean the same are read as the training type, in tables and in rows."""
    frame = with_column(name, values)
    assert CONTRACT.check(frame)[0][name].to_list() == expected
    rows = [CONTRACT.check_row(row)[name] for row in frame.iter_rows(named=True)]
    assert rows == expected


def test_all_problems_in_one_error():
    """Absent columns, bad text and wrong types are told together, with rows and values."""
    frame = FEATURES.drop("height").with_columns(
        age=pl.Series(["1", "abc", "x y", "4"]),
        day=pl.Series(["2020-01-01", "31.12.2020", None, None]),
        member=pl.Series([0, 1, 2, None]),
        city=pl.Series([["a"], ["b"], None, None]),
    )
    with pytest.raises(DataError) as caught:
        CONTRACT.check(frame)
    text = str(caught.value)
    assert "5 problems" in text
    for part in ("'height' (a number) is absent", "'age' must hold a number, but 2 of 4 rows",
                 "row 1: 'abc', row 2: 'x y'", "row 1: '31.12.2020'", "row 2: 2",
                 "List(String)"):  # fmt: skip
        assert part in text


def test_row_problems_are_told_together():
    """A bad row gives the same message as a table of that row."""
    row = {**FEATURES.row(0, named=True), "age": "abc", "member": 3}
    del row["height"]
    with pytest.raises(DataError, match="3 problems"):
        CONTRACT.check_row(row)


def test_bad_values_can_become_missing():
    """With on_bad_value='missing' they are empty cells and counted."""
    contract = InputContract.learn(TABLE, SCHEMA, on_bad_value="missing")
    frame = with_column("age", ["1", "abc", None, "4"])
    assert contract.check(frame)[0]["age"].to_list() == [1, None, None, 4]
    assert remarks_of(frame, contract)["age", "unread"] == (1, 0.25)
    assert contract.check_row({**FEATURES.row(0, named=True), "age": "abc"})["age"] is None


def test_absent_columns_can_become_missing():
    """With on_absent='missing' an absent column is empty, unless its policy forbids that."""
    schema = SCHEMA.changed("age", missing="error")
    whole = TABLE.head(3)
    contract = InputContract.learn(whole, schema, on_absent="missing")
    checked, remarks = contract.check(whole.select(SCHEMA.features).drop("note"))
    assert checked["note"].to_list() == [None] * 3
    assert [(r.column, r.what) for r in remarks] == [("note", "absent")]
    with pytest.raises(DataError, match=r"'age'.*absent"):
        contract.check(whole.drop("age"))


def test_missing_error_policy():
    """A column with missing='error' refuses empty cells by row, in tables and rows."""
    schema = SCHEMA.changed("city", missing="error")
    contract = InputContract.learn(TABLE, schema)
    with pytest.raises(DataError, match=r"'city'.*1 of 4 rows.*rows 2"):
        contract.check(FEATURES)
    with pytest.raises(DataError, match="'city'"):
        contract.check_row(FEATURES.row(2, named=True))


def test_remarks_by_hand():
    """Unseen levels, values outside the range and numbers as text are counted."""
    frame = FEATURES.with_columns(
        age=pl.Series(["19", "20", "41", "30"]),
        city=pl.Series(["Bonn", "bonn", "Köln", None]),
        day=pl.Series([date(2019, 12, 31), date(2020, 2, 2), None, date(2022, 1, 1)]),
    )
    assert remarks_of(frame) == {
        ("age", "converted"): (4, 1.0),
        ("age", "outside"): (2, 0.5),
        ("city", "unseen"): (2, 0.5),
        ("day", "outside"): (2, 0.5),
    }
    assert any("'bonn', 'Köln'" in str(remark) for remark in CONTRACT.check(frame)[1])


def test_time_zones_are_kept():
    """A column with a zone comes back in that zone, whatever zone the caller's times have."""
    zoned = TABLE.with_columns(pl.col("at").dt.replace_time_zone("Europe/Berlin"))
    contract = InputContract.learn(zoned, SCHEMA)
    later = FEATURES.with_columns(pl.col("at").dt.replace_time_zone("UTC"))
    checked = contract.check(later)[0]["at"]
    assert checked.dtype == pl.Datetime("us", "Europe/Berlin")
    assert checked.dt.convert_time_zone("UTC").to_list() == later["at"].to_list()
    row = contract.check_row({**FEATURES.row(0, named=True), "at": "2020-07-01T10:00:00+00:00"})
    assert row["at"].astimezone(UTC) == datetime(2020, 7, 1, 10, tzinfo=UTC)


def test_plain_data_round_trip():
    """The contract is plain JSON data and reads back equal."""
    text = canonical_json(CONTRACT.to_dict())
    assert InputContract.from_dict(json.loads(text)) == CONTRACT


def test_levels_are_bounded():
    """Of a column with more than 1,000 levels only their number is kept, and nothing is unseen."""
    frame = pl.DataFrame({"c": [f"v{i}" for i in range(1001)]})
    schema = Schema((Column("c", "category"),), "regression")
    contract = InputContract.learn(frame, schema)
    assert contract.columns[0].levels == ()
    assert contract.columns[0].num_levels == 1001
    assert contract.check(pl.DataFrame({"c": ["new"]}))[1] == ()


def test_wrong_policy_is_refused():
    """Policies are error or missing."""
    with pytest.raises(SettingsError, match="`on_bad_value` must be error or missing, got 'drop'"):
        InputContract((), on_bad_value="drop")


def test_empty_tables():
    """No row passes, without a division by zero."""
    checked, _ = CONTRACT.check(FEATURES.clear())
    assert checked.shape == (0, 8)


CELLS = {
    "age": st.one_of(st.none(), st.integers(-(2**53) + 1, 2**53 - 1)),
    "height": st.one_of(st.none(), st.floats()),
    "member": st.one_of(st.none(), st.booleans()),
    "city": st.one_of(st.none(), st.sampled_from(["Bonn", "bonn", "", "7"])),
    "code": st.one_of(st.none(), st.integers(-5, 5)),
    "day": st.one_of(st.none(), st.dates(date(1700, 1, 1), date(2500, 1, 1))),
    "at": st.one_of(st.none(), st.datetimes(datetime(1700, 1, 1), datetime(2500, 1, 1))),
    "note": st.one_of(st.none(), st.text(max_size=5).filter(str.isprintable)),
}
TEXTS = {
    "age": st.sampled_from(["1", " 2.5", "x", ""]),
    "height": st.sampled_from(["1e400", "nan", "-0", "1_0"]),
    "member": st.sampled_from(["True", "no", "0", 0.0, 1, 2, float("nan")]),
    "at": st.sampled_from(
        ["2020-02-30", "2020-02-29 24:00", "2020-02-29T23:59:59.123", "20200229"]
    ),
    "day": st.sampled_from(["2020-02-29", "2020-2-29", date(2020, 1, 1), datetime(2020, 1, 1, 9)]),
}


@settings(max_examples=150, deadline=None)
@given(
    row=st.fixed_dictionaries(CELLS),
    odd=st.fixed_dictionaries({}, optional=TEXTS),
)
def test_row_agrees_with_table(row, odd):
    """A row is read, or refused, exactly as a table of that row."""
    row = {**row, **odd}
    frame = pl.DataFrame([pl.Series(name, [value]) for name, value in row.items()])
    try:
        expected = CONTRACT.check(frame)[0].row(0, named=True)
    except DataError:
        with pytest.raises(DataError):
            CONTRACT.check_row(row)
        return
    got = CONTRACT.check_row(row)
    assert repr(got) == repr(expected) or got == expected


def test_row_check_is_fast():
    """The happy path of 20 columns takes well under 0.1 ms (about 5 µs on an idle machine)."""
    names = [f"c{i}" for i in range(20)]
    row = {name: ("a" if i % 2 else 1.5) for i, name in enumerate(names)}
    schema = Schema(
        tuple(Column(n, "category" if i % 2 else "number") for i, n in enumerate(names)),
        "regression",
    )
    contract = InputContract.learn(pl.DataFrame([row]), schema)
    contract.check_row(row)
    times = []
    for _ in range(200):
        start = time.perf_counter()
        contract.check_row(row)
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-4


@pytest.mark.parametrize("trained", [pl.Int64, pl.Float64])
@pytest.mark.parametrize("value", [2**53 + 1, 2**63 - 1, 2**63, 10**30, -(2**63) - 1])
def test_a_whole_number_beyond_64_bits_is_not_lost(trained, value):
    """It is read as the nearest fraction, never as missing, in a row as in a table."""
    table = pl.DataFrame({"a": pl.Series([1, 2], dtype=trained)})
    contract = InputContract.learn(table, Schema((Column("a", "number"),), "regression"))
    (in_table,) = contract.check(pl.DataFrame({"a": [value]}))[0]["a"].to_list()
    in_row = contract.check_row({"a": value})["a"]
    assert in_table == pytest.approx(value, rel=1e-15)
    assert (type(in_row), in_row) == (type(in_table), in_table)


def test_a_number_that_no_table_holds_is_refused():
    """A whole number of 400 digits has no fraction near it, and that is said."""
    table = pl.DataFrame({"a": [1.0, 2.0]})
    contract = InputContract.learn(table, Schema((Column("a", "number"),), "regression"))
    with pytest.raises(DataError, match="Column 'a'"):
        contract.check_row({"a": 10**400})


def test_the_most_common_share_of_a_long_column_is_counted_on_a_part() -> None:
    """Half a million cells, of which three in ten are 7: the share is told within a hundredth."""
    values = np.where(np.arange(500_000) % 10 < 3, 7.0, np.arange(500_000))
    counted = []
    part = pl.Series.unique_counts

    def watched(self: pl.Series) -> pl.Series:
        counted.append(len(self))
        return part(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl.Series, "unique_counts", watched)
        share = contract_module._top_share(
            pl.Series("x", np.random.default_rng(0).permutation(values))
        )
    assert share == pytest.approx(0.3, abs=0.01)
    assert counted == [100_000]
