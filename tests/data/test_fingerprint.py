"""Content digests of tables: what is equal, what differs, and that neither ever changes."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data import fingerprint
from loopline.data.fingerprint import (
    column_digests,
    digests_without,
    logical_type,
    row_digests,
    table_digest,
)
from loopline.data.string_views import StringViews
from loopline.errors import DataError

BERLIN = pl.Datetime("us", "Europe/Berlin")
LONG = "0123456789" * 30


def every_type() -> pl.DataFrame:
    """Four rows of every type that a table may hold, with a null in each column."""
    day = dt.date(2024, 2, 29)
    moment = dt.datetime(2024, 2, 29, 12, 30, 15, 123456)
    columns = {
        "integer": pl.Series([1, -7, None, 2**62]),
        "unsigned": pl.Series([1, 2**63, None, 2**64 - 1], dtype=pl.UInt64),
        "huge": pl.Series([1, 2**100, None, -(2**100)], dtype=pl.Int128),
        "small": pl.Series([1, -7, None, 100], dtype=pl.Int8),
        "float": pl.Series([0.5, float("nan"), None, -1e300]),
        "single": pl.Series([0.5, float("inf"), None, -2.25], dtype=pl.Float32),
        "boolean": pl.Series([True, False, None, True]),
        "string": pl.Series(["", "abc", None, LONG]),
        "unicode": pl.Series(["é", "日本語テキスト", None, "🙂" * 20]),
        "binary": pl.Series([b"", b"\x00", None, b"\x00" * 400]),
        "date": pl.Series([day, dt.date(1900, 1, 1), None, dt.date(9999, 12, 31)]),
        "datetime": pl.Series([moment, dt.datetime(1900, 1, 1), None, moment]),
        "zoned": pl.Series([moment, dt.datetime(1900, 1, 1), None, moment]).dt.replace_time_zone(
            "Europe/Berlin"
        ),
        "nano": pl.Series([1, 1_000_000_001, None, -1]).cast(pl.Datetime("ns")),
        "time": pl.Series([dt.time(0), dt.time(23, 59, 59, 999999), None, dt.time(1)]),
        "duration": pl.Series([dt.timedelta(0), dt.timedelta(days=-3), None, dt.timedelta(1)]),
        "decimal": pl.Series([Decimal("1.50"), Decimal("-0.01"), None, Decimal(100)]),
        "category": pl.Series(["a", "b", None, "a"], dtype=pl.Categorical),
        "list": pl.Series([[], [1, None, 3], None, [3, 1]]),
        "strings": pl.Series([[], ["", None], None, [LONG, "x"]]),
        "array": pl.Series([[1, 2], [2, 1], None, [0, 0]], dtype=pl.Array(pl.Int64, 2)),
        "struct": pl.Series(
            [{"a": 1, "b": ["x"]}, {"a": None, "b": []}, None, {"a": 2, "b": None}],
            dtype=pl.Struct({"a": pl.Int64, "b": pl.List(pl.String)}),
        ),
        "nested": pl.Series([[{"x": [1.0]}], [], None, [{"x": None}, {"x": []}]]),
        "empty": pl.Series([None] * 4, dtype=pl.Null),
    }
    return pl.DataFrame(columns)


def equal(left: pl.Series, right: pl.Series) -> bool:
    """Do two columns give their rows the same digests?"""
    frames = [series.alias("x").to_frame() for series in (left, right)]
    return bool((row_digests(frames[0]) == row_digests(frames[1])).all())


@pytest.mark.parametrize(
    ("table", "digest"),
    [
        (pl.DataFrame(), "01942ba4da04f5a35d352778231afadcba0b7670165cab9f68968937f4b70944"),
        (every_type().clear(), "01008b1870e017974f0c7d2a1bf0bc2360721281014f7cfe104f6d260d7da21d"),
        (every_type(), "fd0ce37ee6d12c9d6fcef39ad9ceeee0e3241a86a67bf4f12f324dd4124aafc5"),
        (
            pl.DataFrame({"x": [LONG[:k] for k in range(300)]}),
            "34dc3066c37295c96f32a847a70fefc8f97e0f1592311d45d3cd39631cece3b3",
        ),
    ],
    ids=["nothing", "no rows", "every type", "lengths"],
)
def test_golden_digests_never_change(table: pl.DataFrame, digest: str) -> None:
    """The digest of fixed tables is the one that was written down with format 1."""
    assert table_digest(table) == digest


def test_golden_row_and_column() -> None:
    """The digest of one fixed row, and of one fixed column, is the one that was written down."""
    table = pl.DataFrame({"a": [1], "b": ["x"]})
    assert [f"{part:016x}" for part in row_digests(table)[0].tolist()] == [
        "dd3b18173acf43ce",
        "47b1cf72dee22fce",
    ]
    assert column_digests(table)["b"][:32] == "583794ec490335764bc1638a518afbb7"


def test_another_process_gives_the_same_digest() -> None:
    """Nothing of a process (string hash seed, caches) takes part in a digest."""
    code = (
        "import polars as pl; from loopline.data.fingerprint import table_digest;"
        "print(table_digest(pl.DataFrame({'s': pl.Series(['b', 'a'], dtype=pl.Categorical)})))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == table_digest(pl.DataFrame({"s": ["a", "b"]}))


def mixed_tables() -> st.SearchStrategy[pl.DataFrame]:
    """Small tables of five types with repeated rows and nulls."""
    row = st.fixed_dictionaries(
        {
            "i": st.none() | st.integers(-(2**63), 2**63 - 1),
            "f": st.none() | st.floats(width=64),
            "s": st.none() | st.text(max_size=40),
            "d": st.none() | st.dates(),
            "l": st.none() | st.lists(st.none() | st.integers(-5, 5), max_size=4),
        }
    )
    schema = {"i": pl.Int64, "f": pl.Float64, "s": pl.String, "d": pl.Date}
    full = {**schema, "l": pl.List(pl.Int64)}
    return st.lists(row, min_size=1, max_size=12).map(lambda rows: pl.DataFrame(rows, schema=full))


@settings(max_examples=40, deadline=None)
@given(mixed_tables(), st.randoms(use_true_random=False))
def test_order_and_chunks_take_no_part(table: pl.DataFrame, random) -> None:
    """Permuted rows, permuted columns and other chunks keep the digest."""
    order = list(range(table.height))
    random.shuffle(order)
    names = list(table.columns)
    random.shuffle(names)
    cut = random.randint(0, table.height)
    moved = table[order].select(names)
    pieces = pl.concat([moved[:cut], moved[cut:]], rechunk=False)
    assert table_digest(pieces) == table_digest(table)
    assert (row_digests(pieces) == row_digests(table)[order]).all()


@settings(max_examples=40, deadline=None)
@given(mixed_tables(), st.data())
def test_any_one_cell_counts(table: pl.DataFrame, data) -> None:
    """Another value or null in any one cell changes that row's digest, and only that row's."""
    row = data.draw(st.integers(0, table.height - 1))
    name = data.draw(st.sampled_from(table.columns))
    values = table[name].to_list()
    others = {"i": 12345, "f": 0.125, "s": "other", "d": dt.date(2001, 2, 3), "l": [7]}
    values[row] = None if values[row] is not None else others[name]
    changed = table.with_columns(pl.Series(name, values, dtype=table.schema[name]))
    differ = (row_digests(changed) != row_digests(table)).any(axis=1)
    assert differ.tolist() == [k == row for k in range(table.height)]
    assert table_digest(changed) != table_digest(table)


@settings(max_examples=40, deadline=None)
@given(mixed_tables(), st.data())
def test_columns_are_taken_off_a_digest(table: pl.DataFrame, data) -> None:
    """What is left of row digests without some columns is the digest of the other columns."""
    gone = data.draw(st.sets(st.sampled_from(table.columns), max_size=table.width - 1))
    left = digests_without(table, row_digests(table), gone)
    assert (left == row_digests(table.drop(gone))).all()


def test_columns_are_taken_off_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 64 rows and one block of all give the same digests, the last rows too."""
    rows = 1000
    table = pl.DataFrame({"x": np.arange(rows), "s": many_texts(rows), "y": np.arange(rows) % 7})
    digests, left = row_digests(table), row_digests(table.drop("s"))
    monkeypatch.setattr(fingerprint, "_BLOCK_BYTES", 1)
    assert (digests_without(table, digests, ["s"]) == left).all()


def test_a_missing_string_is_empty_whatever_its_view_holds() -> None:
    """A cell that was masked keeps its bytes in memory; its length is 0 and its digest a null's."""
    texts = pl.Series("x", ["a string of 22 bytes !", "short", LONG])
    masked = texts.set(pl.Series([True, False, True]), None)
    assert StringViews(masked).lengths.tolist() == [0, 5, 0]
    nulls = row_digests(pl.DataFrame({"x": pl.Series([None], dtype=pl.String)}))
    assert (row_digests(masked.to_frame())[[0, 2]] == nulls).all()


@settings(max_examples=40, deadline=None)
@given(mixed_tables())
def test_rows_of_a_concatenation_keep_their_digests(table: pl.DataFrame) -> None:
    """A row's digest does not depend on the rows around it; a table twice is another table."""
    twice = pl.concat([table, table])
    assert (row_digests(twice) == np.concatenate([row_digests(table)] * 2)).all()
    assert table_digest(twice) != table_digest(table)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=2, max_size=2, unique=True))
def test_different_strings_differ(texts: list[str]) -> None:
    """Two texts that are not equal have different digests in both lanes."""
    digests = row_digests(pl.DataFrame({"x": texts}))
    assert (digests[0] != digests[1]).all()


@pytest.mark.parametrize("name", every_type().columns)
def test_every_cell_of_every_type_counts(name: str) -> None:
    """For each type: rows with different cells differ, and null is no value."""
    column = every_type().select(name)
    distinct = column.to_series().cast(pl.String) if name == "category" else column.to_series()
    expected = len({repr(value) for value in distinct.to_list()})
    assert len(np.unique(row_digests(column), axis=0)) == expected


@pytest.mark.parametrize("name", every_type().columns)
def test_a_dropped_column_counts(name: str) -> None:
    """Leaving out any column, even one that is all null, changes the table digest."""
    table = every_type()
    assert table_digest(table.drop(name)) != table_digest(table)


@pytest.mark.parametrize("length", [*range(0, 14), 20, 21, 251, 252, 253, 254, 300, 5000])
def test_every_byte_of_a_string_counts(length: int) -> None:
    """Changing any byte of a string of any length changes both lanes, and so does one byte more."""
    base = bytes(65 + k % 23 for k in range(length))
    places = range(length) if length < 400 else range(0, length, 97)
    others = [base[:k] + b"!" + base[k + 1 :] for k in places]
    others += [base + b"\0", base + b"A", base[:-1] + b"" if length else b"z"]
    digests = row_digests(pl.DataFrame({"x": [base, *others]}))
    assert (digests[1:] != digests[0]).all()
    assert len(np.unique(digests, axis=0)) == len(others) + 1


def test_strings_beside_each_other_do_not_matter() -> None:
    """A string's digest is the same alone and among 2,000 strings of other lengths."""
    texts = [LONG[: k % 290] + str(k) for k in range(2000)]
    together = row_digests(pl.DataFrame({"x": texts}))
    for k in (0, 3, 100, 252, 255, 1999):
        alone = row_digests(pl.DataFrame({"x": [texts[k]]}))[0]
        assert (together[k] == alone).all()


def many_texts(num_rows: int) -> pl.Series:
    """Texts of 0 to 300 bytes in 40 chunks, each with a buffer of its own; some are missing."""
    rng = np.random.default_rng(0)
    ends = rng.choice([3, 8, 12, 13, 17, 20, 40, 260, 300], num_rows)
    texts = [None if k % 11 == 0 else f"{k}{LONG}"[: int(end)] for k, end in enumerate(ends)]
    step = max(1, num_rows // 40)
    parts = [pl.Series("x", texts[k : k + step]) for k in range(0, num_rows, step)]
    return pl.concat(parts, rechunk=False)


def test_where_a_string_lies_takes_no_part() -> None:
    """Chunks, slices, gathered rows and other buffers keep the digest of every string."""
    column = many_texts(2000)
    digests = row_digests(column.to_frame())
    again = row_digests(pl.DataFrame({"x": column.to_list()}))
    assert (again == digests).all()
    assert (row_digests(column[137:1500].to_frame()) == digests[137:1500]).all()
    order = np.random.default_rng(1).permutation(2000)
    assert (row_digests(column[order].to_frame()) == digests[order]).all()
    assert (row_digests(column.filter(column.is_null()).to_frame()) == digests[0]).all()
    assert row_digests(column.head(0).to_frame()).shape == (0, 2)


def test_words_of_a_string_are_those_of_the_format() -> None:
    """Each row is digested as the format says, here word by word in plain Python."""
    column = many_texts(300).fill_null("")
    keys = fingerprint._plan("x", ["x"], pl.String()).keys
    found = row_digests(column.to_frame())
    for row, text in enumerate(column.to_list()):
        data = text.encode()
        head = int.from_bytes(data[:4], "little") | len(data) << 32
        words = [(head, 0)]
        if len(data) > 252:
            tail = blake3(data).digest(length=16)
            words += [(int.from_bytes(tail[:8], "little"), 32)]
            words += [(int.from_bytes(tail[8:], "little"), 33)]
        else:
            rest = [data[k : k + 8] for k in range(4, len(data), 8)]
            words += [(int.from_bytes(part, "little"), 1 + k) for k, part in enumerate(rest)]
        sums = np.zeros((2, 1), dtype=np.uint64)
        for word, place in words:
            sums += fingerprint._mix(np.array([word], dtype=np.uint64), keys[place])
        out = np.empty((1, 2), dtype=np.uint64)
        fingerprint._finish(sums, out)
        assert (out[0] == found[row]).all(), text


def test_cell_of_row_ten_thousand_and_one() -> None:
    """A changed cell far down a long table is seen, in its row only."""
    table = pl.DataFrame({"x": np.arange(140_000), "s": ["a"] * 140_000})
    changed = table.with_columns(
        pl.when(pl.col("x") == 10_000).then(pl.lit("b")).otherwise("s").alias("s")
    )
    differ = (row_digests(table) != row_digests(changed)).any(axis=1)
    assert np.flatnonzero(differ).tolist() == [10_000]


def test_threads_and_blocks_take_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, two threads and blocks of 64 rows give the same digests."""
    rng = np.random.default_rng(3)
    table = pl.DataFrame(
        {
            "x": rng.normal(size=140_000),
            "s": [LONG[: k % 280] for k in range(140_000)],
            "l": rng.integers(0, 9, (140_000, 3)),
        }
    )
    one = row_digests(table, threads=1)
    assert (row_digests(table, threads=2) == one).all()
    monkeypatch.setattr(fingerprint, "_BLOCK_BYTES", 1)
    assert (row_digests(table[:3000]) == one[:3000]).all()


@pytest.mark.parametrize(
    "dtype", [pl.Int8, pl.Int16, pl.Int32, pl.UInt8, pl.UInt32, pl.UInt64, pl.Int128, pl.UInt128]
)
def test_integer_width_takes_no_part(dtype: type[pl.DataType]) -> None:
    """The same whole numbers are equal whatever type holds them."""
    numbers = pl.Series([0, 1, 100, None])
    assert equal(numbers, numbers.cast(dtype))


def test_large_unsigned_is_not_negative() -> None:
    """2**64 - 1 and -1 share their bits but not their digest; 2**63 is equal in wider types."""
    top = pl.Series([2**64 - 1, 2**63], dtype=pl.UInt64)
    assert not equal(top, pl.Series([-1, -(2**63)]))
    assert equal(top, top.cast(pl.Int128))
    assert equal(top, top.cast(pl.UInt128))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pl.Series([0.0]), pl.Series([-0.0])),
        (pl.Series([0.5, -2.25]), pl.Series([0.5, -2.25], dtype=pl.Float32)),
        (pl.Series(["a", None]), pl.Series(["a", None], dtype=pl.Categorical)),
        (pl.Series(["a", None]), pl.Series(["a", None], dtype=pl.Enum(["b", "a"]))),
        (pl.Series([[1, 2]]), pl.Series([[1, 2]], dtype=pl.Array(pl.Int64, 2))),
        (pl.Series([{"a": 1, "b": 2}]), pl.Series([{"b": 2, "a": 1}])),
        (pl.Series([5, None]).cast(pl.Datetime("ms")), pl.Series([5000, None]).cast(pl.Datetime)),
        (
            pl.Series([5000, None]).cast(pl.Duration("ns")),
            pl.Series([5, None]).cast(pl.Duration("us")),
        ),
        (
            pl.Series([Decimal("1.50"), Decimal("100")]),
            pl.Series([Decimal("1.5"), Decimal("100")], dtype=pl.Decimal(20, 4)),
        ),
    ],
    ids=["zero", "f32", "categorical", "enum", "array", "struct", "ms", "ns", "decimal"],
)
def test_equal_values_of_another_form_are_equal(left: pl.Series, right: pl.Series) -> None:
    """Width, unit, scale, encoding and the order of struct fields take no part."""
    assert equal(left, right)


def test_nans_are_one_and_not_null() -> None:
    """Every NaN is the same value; it is neither null nor zero."""
    bits = np.array([0x7FF8000000000000, 0xFFF8000000000123], dtype=np.uint64).view(np.float64)
    digests = row_digests(pl.DataFrame({"x": pl.Series([*bits, None, 0.0], dtype=pl.Float64)}))
    assert len(np.unique(digests, axis=0)) == 3
    assert (digests[0] == digests[1]).all()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pl.Series([1]), pl.Series([1.0])),
        (pl.Series([1]), pl.Series([True])),
        (pl.Series([1]), pl.Series(["1"])),
        (pl.Series(["a"]), pl.Series([b"a"])),
        (pl.Series([0], dtype=pl.Int32).cast(pl.Date), pl.Series([0])),
        (pl.Series([0]).cast(pl.Datetime("us")), pl.Series([0]).cast(BERLIN)),
        (pl.Series([0]).cast(pl.Datetime("us")), pl.Series([0]).cast(pl.Duration("us"))),
        (pl.Series([None], dtype=pl.Int64), pl.Series([None], dtype=pl.String)),
        (pl.Series([1001]).cast(pl.Datetime("ns")), pl.Series([1]).cast(pl.Datetime("us"))),
        (pl.Series([2**62]).cast(pl.Datetime("ms")), pl.Series([0]).cast(pl.Datetime("us"))),
        (pl.Series([[1, 2]]), pl.Series([[2, 1]])),
        (pl.Series([[[1], [2]]]), pl.Series([[[1, 2], []]])),
        (pl.Series([[None]], dtype=pl.List(pl.Int64)), pl.Series([[]], dtype=pl.List(pl.Int64))),
        (pl.Series([{"a": 1, "b": 2}]), pl.Series([{"a": 2, "b": 1}])),
        (pl.Series([{"a": 1}]), pl.Series([{"b": 1}])),
        (pl.Series([{"a": None}, {"a": 1}])[:1], pl.Series([None, {"a": 1}])[:1]),
    ],
)
def test_other_values_or_types_differ(left: pl.Series, right: pl.Series) -> None:
    """Logical type, order inside lists, nesting and nulls all count, in both lanes."""
    frames = [series.alias("x").to_frame() for series in (left, right)]
    assert (row_digests(frames[0]) != row_digests(frames[1])).all()


def test_names_count() -> None:
    """The same values under another name, or two names exchanged, are another table."""
    table = pl.DataFrame({"a": [1, 2], "b": [2, 1]})
    assert table_digest(table) != table_digest(table.rename({"a": "c"}))
    assert table_digest(table[:1]) != table_digest(table[:1].rename({"a": "b", "b": "a"}))


def test_column_names_of_an_empty_table_count() -> None:
    """A table without rows still has columns and types."""
    table = pl.DataFrame(schema={"a": pl.Int64})
    digests = {
        table_digest(table),
        table_digest(table.rename({"a": "b"})),
        table_digest(table.cast(pl.String)),
        table_digest(pl.DataFrame()),
    }
    assert len(digests) == 4


def test_one_collided_lane_is_sorted_by_the_other() -> None:
    """Rows that share their first lane keep the table digest independent of their order."""
    table = pl.DataFrame({"x": [1, 2, 3]})
    digests = np.array([[5, 9], [5, 1], [2, 7]], dtype=np.uint64)
    assert table_digest(table, digests) == table_digest(table, digests[::-1].copy())
    assert table_digest(table, digests) == table_digest(table, digests[[1, 0, 2]])


def test_lanes_collide_no_more_than_chance() -> None:
    """Of 200,000 small-number rows, each half-lane has as many collisions as random bits have."""
    numbers = np.arange(200_000)
    table = pl.DataFrame({"a": numbers % 50, "b": numbers // 50 % 50, "c": numbers // 2500})
    digests = row_digests(table)
    halves = digests.view("<u4").reshape(-1, 4)
    for half in halves.T:  # expected 200,000**2 / 2**33 = 4.7; 20 has probability 1e-7
        assert len(half) - len(np.unique(half)) < 20
    assert len(np.unique(digests[:, 0])) == len(np.unique(digests[:, 1])) == 200_000


def test_column_digests_know_values_not_names() -> None:
    """Columns with the same values in any order share a digest; one more duplicate does not."""
    table = pl.DataFrame({"a": [1, 1, 2], "b": [2, 1, 1], "c": [1, 2, 2]})
    digests = column_digests(table)
    assert list(digests) == ["a", "b", "c"]
    assert digests["a"] == digests["b"] != digests["c"]


def test_logical_types_in_words() -> None:
    """Logical types are told as people say them."""
    assert logical_type(pl.List(pl.Int8)) == "list (integer)"
    assert logical_type(pl.Struct({"b": pl.Date, "a": pl.Enum(["x"])})) == (
        "struct (a: string, b: date)"
    )
    assert logical_type(BERLIN) == "datetime (Europe/Berlin)"


def test_objects_are_refused() -> None:
    """A column of Python objects has no defined content; the message names the column."""
    table = pl.DataFrame({"ok": [1], "odd": pl.Series([object()], dtype=pl.Object)})
    for compute in (row_digests, table_digest, column_digests):
        with pytest.raises(DataError, match="Column 'odd' has the type Object"):
            compute(table)


def test_digests_of_another_table_are_refused() -> None:
    """Row digests that cannot belong to the table are not taken."""
    with pytest.raises(DataError, match=r"shape \(2, 2\), one row for each row .* of shape \(3, 2"):
        table_digest(pl.DataFrame({"x": [1, 2]}), np.zeros((3, 2), dtype=np.uint64))


def test_real_table_has_unique_and_repeated_rows(data_dir) -> None:
    """On the real wines, equal digests are exactly equal rows."""
    table = pl.read_csv(data_dir("wine_quality") / "wine_quality.csv", infer_schema_length=None)
    assert len(np.unique(row_digests(table), axis=0)) == table.unique().height < table.height
