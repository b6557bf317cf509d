"""Differences of two tables: rows, columns, cells, values, and the sentences about them."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data.difference import compare_tables
from loopline.digest import bytes_digest, canonical_json
from loopline.errors import DataError


def before() -> pl.DataFrame:
    """Four orders."""
    return pl.DataFrame(
        {
            "order_id": [1, 2, 3, 4],
            "price": [10.0, 20.0, None, 40.0],
            "city": ["Bonn", "Bonn", "Köln", "Ulm"],
            "day": [dt.date(2024, 1, day) for day in (1, 2, 3, 4)],
        }
    )


def after() -> pl.DataFrame:
    """Order 1 is gone, 2 is cheaper, 3 has a price and a city, 5 and 6 are new."""
    return pl.DataFrame(
        {
            "order_id": [6, 5, 4, 3, 2],
            "price": [1.0, 2.0, 40.0, 30.0, 19.0],
            "city": ["Ulm", "Rom", "Ulm", "Bonn", "Bonn"],
            "day": [dt.date(2024, 1, day) for day in (6, 5, 4, 3, 2)],
        }
    )


def test_rows_by_key() -> None:
    """Hand-counted: two orders added, one removed, two changed, one untouched."""
    found = compare_tables(before(), after(), key="order_id")
    assert (found.added, found.removed, found.changed, found.unchanged) == (2, 1, 2, 1)
    assert found.num_rows == (4, 5)
    assert found.changed_cells == {"price": 2, "city": 1}
    assert [row["order_id"] for row in found.added_examples] == [6, 5]
    assert [row["order_id"] for row in found.removed_examples] == [1]
    cells = [(c.key["order_id"], c.column, c.before, c.after) for c in found.changed_examples]
    assert cells == [
        (2, "price", 20.0, 19.0),
        (3, "price", None, 30.0),
        (3, "city", "Köln", "Bonn"),
    ]


def test_id_column_is_found() -> None:
    """A shared, complete, unique column named like an id is the key when none is given."""
    assert compare_tables(before(), after()).key == ("order_id",)
    assert compare_tables(before(), after(), key=()).key == ()


@pytest.mark.parametrize(
    ("name", "values", "is_key"),
    [
        ("id", [1, 2, 3], True),
        ("customerID", ["a", "b", "c"], True),
        ("PassengerId", [1, 2, 3], True),
        ("uuid", ["a", "b", "c"], True),
        ("paid", [1, 2, 3], False),
        ("id", [1, 1, 2], False),
        ("id", [1, 2, None], False),
        ("id", [1.0, 2.0, 3.0], False),
        ("amount", [1, 2, 3], False),
    ],
)
def test_what_counts_as_an_id(name: str, values: list[object], is_key: bool) -> None:
    """The name says id, key, uuid or guid; values are whole numbers or text, complete, unique."""
    table = pl.DataFrame({name: values})
    assert compare_tables(table, table[:2]).key == ((name,) if is_key else ())


def test_rows_by_content_are_counted() -> None:
    """Without a key, copies count: three of a row against one are two removed."""
    a = pl.DataFrame({"x": [7, 7, 7, 8]})
    b = pl.DataFrame({"x": [9, 7, 8, 8]})
    found = compare_tables(a, b)
    assert (found.added, found.removed, found.changed, found.unchanged) == (2, 2, 0, 2)
    assert found.removed_examples == ({"x": 7}, {"x": 7})
    assert found.added_examples == ({"x": 9}, {"x": 8})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=12), st.lists(st.integers(0, 4), max_size=12))
def test_counts_add_up(left: list[int], right: list[int]) -> None:
    """Multiset arithmetic: what a has is removed or unchanged, what b has is added or unchanged."""
    found = compare_tables(
        pl.DataFrame({"x": left}, schema={"x": pl.Int64}),
        pl.DataFrame({"x": right}, schema={"x": pl.Int64}),
    )
    common = sum(min(left.count(value), right.count(value)) for value in range(5))
    assert found.unchanged == common
    assert found.removed == len(left) - common
    assert found.added == len(right) - common
    assert found.is_empty == (sorted(left) == sorted(right))


def test_equal_tables_in_another_form() -> None:
    """Row order, column order, chunks and integer width are no difference."""
    other = pl.concat([before()[2:], before()[:2]]).select(reversed(before().columns))
    found = compare_tables(before(), other.cast({"order_id": pl.Int16}))
    assert found.is_empty
    assert all(shift.distance == 0 for shift in found.shifts)
    assert str(found) == "The same 4 rows in the same columns."


def test_nan_is_unchanged() -> None:
    """A NaN that stays is no change; a NaN that becomes null is one."""
    a = pl.DataFrame({"id": [1, 2], "x": [float("nan"), float("nan")]})
    b = pl.DataFrame({"id": [1, 2], "x": [float("nan"), None]})
    assert compare_tables(a, a.clone()).is_empty
    assert compare_tables(a, b).changed_cells == {"x": 1}


def test_composite_and_missing_keys() -> None:
    """Several columns may name a row, and a missing part is a value like another."""
    a = pl.DataFrame({"shop": ["a", "a", None], "day": [1, 2, 1], "x": [1, 2, 3]})
    b = pl.DataFrame({"shop": [None, "a", "a"], "day": [1, 2, 1], "x": [3, 5, 1]})
    found = compare_tables(a, b, key=["shop", "day"])
    assert (found.added, found.removed, found.changed) == (0, 0, 1)
    assert dict(found.changed_examples[0].key) == {"shop": "a", "day": 2}


def test_columns_added_removed_renamed_retyped() -> None:
    """Columns are told apart by name and logical type; equal values show a new name."""
    a = pl.DataFrame({"id": [1, 2], "old": [5, 6], "gone": [1, 1], "kind": [1, 2]})
    b = pl.DataFrame({"id": [1, 2], "new": [5, 6], "more": [8, 9], "kind": ["1", "2"]})
    found = compare_tables(a, b)
    assert found.added_columns == ("new", "more")
    assert found.removed_columns == ("old", "gone")
    assert found.renamed_columns == (("old", "new"),)
    assert found.retyped_columns == (("kind", "integer", "string"),)
    assert (found.changed, found.unchanged) == (0, 2)
    assert not found.is_empty


def test_nothing_in_common() -> None:
    """Tables without a shared column are all added and all removed but for their number."""
    found = compare_tables(pl.DataFrame({"a": [1, 2]}), pl.DataFrame({"b": [1, 2, 3]}))
    assert found.added_columns == ("b",)
    assert found.shifts == ()
    assert (found.removed, found.added, found.unchanged) == (2, 3, 0)


def test_number_shift_by_hand() -> None:
    """0..10 against the same plus 5: five of the eleven lie above the old maximum."""
    a = pl.DataFrame({"x": [*range(11), None]})
    b = pl.DataFrame({"x": [float(k) for k in range(5, 16)]})
    shift = compare_tables(a, b).shift("x")
    assert shift.kind == "number"
    assert shift.missing == (1 / 12, 0.0)
    assert (shift.before["mean"], shift.after["mean"]) == (5.0, 10.0)
    assert (shift.before["p25"], shift.before["p95"]) == (2.5, 9.5)
    assert shift.before["std"] == pytest.approx(np.std(np.arange(11), ddof=1))
    assert shift.distance == pytest.approx(5 / 11)


def test_shift_below_the_old_minimum_is_seen() -> None:
    """Values that all lie below the first table's smallest have distance 1."""
    shift = compare_tables(pl.DataFrame({"x": [5, 6]}), pl.DataFrame({"x": [1, 2]})).shift("x")
    assert shift.distance == 1.0


def test_category_shift_by_hand() -> None:
    """New, vanished and moved values, with counts and shares."""
    a = pl.DataFrame({"c": ["a"] * 6 + ["b"] * 3 + ["gone"]})
    b = pl.DataFrame({"c": ["a"] * 2 + ["b"] * 4 + ["new"] * 3 + ["fresh"]})
    shift = compare_tables(a, b).shift("c")
    assert shift.new == (("new", 3), ("fresh", 1))
    assert shift.vanished == (("gone", 1),)
    assert (shift.num_new, shift.num_vanished) == (2, 1)
    assert [(value, x, y) for value, x, y in shift.moves] == [("a", 0.6, 0.2), ("b", 0.3, 0.4)]
    assert shift.distance == pytest.approx((0.4 + 0.1 + 0.1 + 0.3 + 0.1) / 2)
    assert (shift.before, shift.after) == ({"distinct": 3}, {"distinct": 4})


def test_many_new_values_show_the_first_five() -> None:
    """The most frequent come first, equally frequent ones in the order of their names."""
    letters = [*"hgfedcba", "h", "b"]
    shift = compare_tables(pl.DataFrame({"c": ["old"]}), pl.DataFrame({"c": letters})).shift("c")
    assert shift.new == (("b", 2), ("h", 2), ("a", 1), ("c", 1), ("d", 1))
    assert shift.num_new == 8


def test_time_shift() -> None:
    """Dates are told by their range and median."""
    shift = compare_tables(before(), after()).shift("day")
    assert shift.kind == "time"
    assert dict(shift.before) == {"min": "2024-01-01", "p50": "2024-01-02", "max": "2024-01-04"}
    assert shift.after["max"] == "2024-01-06"


def test_odd_values_do_not_stop_it() -> None:
    """NaN, infinities, all-null, empty and nested columns have a shift and plain data."""
    a = pl.DataFrame(
        {
            "x": [float("nan"), float("inf"), 1.0],
            "n": pl.Series([None] * 3, dtype=pl.Float64),
            "l": [[1], None, []],
            "b": [b"\xff", b"", None],
            "t": [dt.timedelta(1), None, dt.timedelta(2)],
            "z": [dt.time(1), None, dt.time(2)],
            "o": [{"d": dt.date(2024, 1, 1)}, None, {"d": None}],
            "y": [True, None, False],
        }
    )
    for other in (a.clear(), a.reverse(), a[:1], a.head(2)):
        found = compare_tables(a, other)
        canonical_json(found.to_dict())
        assert str(found)
        assert all(0 <= shift.distance <= 1 for shift in found.shifts)
    plain = compare_tables(a, a.clear()).to_dict()["removed_examples"]
    start = bytes_digest(b"\xff")[:8]
    assert plain[0]["b"] == f"1 byte ({start})"
    assert plain[0]["x"] == "nan"
    assert plain[0]["o"] == {"d": "2024-01-01"}


def test_the_sentences() -> None:
    """The text says counts first, then columns, cells with an example, and shifts."""
    changed = after().rename({"day": "date"}).with_columns(note=pl.lit("x"))
    assert str(compare_tables(before(), changed)).splitlines() == [
        "4 rows before, 5 after: 2 added, 1 removed, 2 changed, 1 unchanged "
        "(matched by 'order_id').",
        "2 columns added: 'date', 'note'.",
        "1 column removed: 'day'.",
        "price changed in 2 rows, as in order_id 2: 20 → 19.",
        "city changed in 1 row, as in order_id 3: 'Köln' → 'Bonn'.",
        "price: mean 23.3333 → 18.4; median 20 → 19; missing 25.0 % → 0.0 %.",
        "city: 1 new value ('Rom' 1×); 1 value gone ('Köln' 1×); 'Ulm' 25.0 % → 40.0 %; "
        "'Bonn' 50.0 % → 40.0 %.",
    ]


def test_repeated_keys_are_refused() -> None:
    """A key that names two rows is refused with an example."""
    twice = pl.concat([before(), before()[:1]])
    with pytest.raises(DataError, match=r"second table 2 rows share .* such as order_id = 1"):
        compare_tables(before(), twice, key="order_id")


def test_unknown_and_retyped_keys_are_refused() -> None:
    """A key must be in both tables and have one type."""
    with pytest.raises(DataError, match="key column 'nr' is not in the first table, which has"):
        compare_tables(before(), after(), key="nr")
    text = after().cast({"order_id": pl.String})
    with pytest.raises(DataError, match="integer in the first table and string in the second"):
        compare_tables(before(), text, key="order_id")


def test_unknown_shift_is_refused() -> None:
    """Asking for a column that is not shared says so."""
    with pytest.raises(DataError, match="no column 'nr' in both"):
        compare_tables(before(), after()).shift("nr")


def test_real_customers(data_dir) -> None:
    """Real customers with one row dropped, one price changed: exactly that is found."""
    path = next(data_dir("telco_churn").glob("*.csv"))
    a = pl.read_csv(path)
    b = a[1:].with_columns(
        pl.when(pl.col("customerID") == a["customerID"][5])
        .then(pl.lit(99.0))
        .otherwise("MonthlyCharges")
        .alias("MonthlyCharges")
    )
    found = compare_tables(a, b)
    assert found.key == ("customerID",)
    assert (found.added, found.removed, found.changed) == (0, 1, 1)
    assert found.changed_cells == {"MonthlyCharges": 1}
