"""Every table-like object becomes the same frame in canonical types."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, datetime, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.errors import DataError
from loopline.frames import as_frame, canonical

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")


def test_number_types_are_widened():
    """Small integers become Int64, small floats and decimals Float64, and values stay."""
    frame = as_frame(
        pl.DataFrame(
            {
                "i": pl.Series([1, -2], dtype=pl.Int8),
                "u": pl.Series([1, 2], dtype=pl.UInt64),
                "f": pl.Series([0.5, 0.25], dtype=pl.Float32),
                "d": pl.Series([Decimal("1.50"), None], dtype=pl.Decimal(10, 2)),
            }
        )
    )
    assert frame.dtypes == [pl.Int64, pl.Int64, pl.Float64, pl.Float64]
    assert frame.rows() == [(1, 1, 0.5, 1.5), (-2, 2, 0.25, None)]


def test_too_large_unsigned_numbers_stay_unsigned():
    """A UInt64 column keeps its type when, and only when, Int64 cannot hold it."""
    assert as_frame({"a": pl.Series([2**63], dtype=pl.UInt64)}).dtypes == [pl.UInt64]
    assert as_frame({"a": pl.Series([2**63 - 1], dtype=pl.UInt64)}).dtypes == [pl.Int64]


def test_words_and_times_have_one_type_each():
    """Categories and all-null columns become text; dates with time count microseconds."""
    frame = as_frame(
        pl.DataFrame(
            {
                "c": pl.Series(["x", None], dtype=pl.Categorical),
                "e": pl.Series(["x", "y"], dtype=pl.Enum(["y", "x"])),
                "n": [None, None],
                "t": pl.Series([datetime(2020, 1, 1), None], dtype=pl.Datetime("ns", "UTC")),
                "d": pl.Series([timedelta(seconds=1), None], dtype=pl.Duration("ms")),
            }
        )
    )
    assert frame.dtypes == [
        *(pl.String, pl.String, pl.String),
        *(pl.Datetime("us", "UTC"), pl.Duration("us")),
    ]
    assert frame["e"].to_list() == ["x", "y"]


def test_nan_is_missing_and_infinity_stays():
    """NaN becomes null, an infinity is a value."""
    frame = as_frame({"a": [1.0, float("nan"), float("inf")]})
    assert frame["a"].to_list() == [1.0, None, float("inf")]


def test_pandas_frame():
    """Nullable, categorical, object and datetime columns of pandas keep their meaning."""
    frame = as_frame(
        pd.DataFrame(
            {
                "i": pd.array([1, None], dtype="Int64"),
                "f": [1.5, np.nan],
                "c": pd.Categorical([3, None]),
                "o": np.array([True, None], dtype=object),
                "d": pd.to_datetime(["2020-01-01", None]),
            },
            index=[7, 8],
        )
    )
    assert frame.columns == ["i", "f", "c", "o", "d"]
    assert frame.rows() == [(1, 1.5, 3, True, datetime(2020, 1, 1)), (None,) * 5]


def test_pandas_index_is_kept_only_when_named():
    """A named index becomes a column."""
    frame = pd.DataFrame({"a": [1]}, index=pd.Index([5], name="key"))
    assert as_frame(frame).to_dicts() == [{"key": 5, "a": 1}]


def test_arrow_tables_and_batches():
    """Arrow tables and record batches are read without a detour."""
    assert as_frame(pa.table({"a": [1, None]})).to_dicts() == [{"a": 1}, {"a": None}]
    assert as_frame(pa.record_batch({"a": ["x"]})).to_dicts() == [{"a": "x"}]


def test_numpy_columns_keep_their_type():
    """A datetime64 array stays a date with time, whatever its unit."""
    frame = as_frame({"d": np.array(["2020-01-02"], dtype="datetime64[ns]"), "n": np.arange(1)})
    assert frame.rows() == [(datetime(2020, 1, 2), 0)]


def test_rows_fill_what_they_lack():
    """A row that lacks a key has a missing cell there."""
    assert as_frame([{"a": 1}, {"b": date(2020, 1, 1)}]).rows() == [
        (1, None),
        (None, date(2020, 1, 1)),
    ]


def test_whole_and_decimal_numbers_join():
    """Ints and floats in one column are floats; integers beyond 64 bits are text."""
    frame = as_frame({"a": [1, 2.5], "b": [2**70, 1]})
    assert frame.rows() == [(1.0, str(2**70)), (2.5, "1")]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"a": [1, "x"]}, "'a' mixes types \\(1 int, 1 str\\)"),
        ({"a": [1, 2], "b": [1]}, "same number of cells"),
        ({"a": [object()]}, "Python objects"),
        ({"a": "text"}, "must be a sequence of cells"),
        ({}, "no columns"),
        ([], "no rows"),
        (3, "got builtins.int"),
        (pd.Series([1]), "to_frame"),
        (pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"]), "repeated: 'a'"),
        (pa.table([[1], [2]], names=["x", "x"]), "repeated: 'x'"),
    ],
)
def test_refusals(bad, said):
    """What is no table is refused with the column and the reason."""
    with pytest.raises(DataError, match=said):
        as_frame(bad)


def test_canonical_is_idempotent_and_shares_memory():
    """A frame in canonical types comes back as the same columns."""
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", None]})
    assert canonical(frame).equals(frame, null_equal=True)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.none() | st.floats(allow_nan=True) | st.integers(-(2**53), 2**53), min_size=1))
def test_numbers_survive(values):
    """Any mix of ints and floats keeps its values; only NaN turns into missing."""
    cells = as_frame({"a": values})["a"].to_list()
    for cell, value in zip(cells, values, strict=True):
        if value is None or value != value:
            assert cell is None
        else:
            assert cell == value


def test_no_library_is_imported_for_a_mapping():
    """Turning a mapping into a frame imports neither pandas nor pyarrow."""
    code = (
        "import sys; from loopline.frames import as_frame; as_frame({'a': [1]});"
        "sys.exit(int('pandas' in sys.modules or 'pyarrow' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
