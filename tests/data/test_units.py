"""Amounts with a unit, and words for missing among numbers: read as what they mean, and told."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data.sources import TableFormat, read_table
from loopline.data.units import find_unit, plain_numbers, read_unit_row, read_units
from loopline.errors import DataError, SettingsError


def read(tmp_path: Path, text: str, fmt: TableFormat | None = None, name: str = "t.csv"):
    """The table that a file of this text is."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_table(path, format=fmt)


@pytest.mark.parametrize(
    ("cells", "unit", "numbers"),
    [
        (["$68.35", "$1,204", "-$3"], "$#", [68.35, 1204.0, -3.0]),
        (["€1.234,50", "€ 3", "€-7,5"], "€#,#", [1234.5, 3.0, -7.5]),
        (["1,234 USD", "5 USD", "6.50 USD"], "#USD", [1234.0, 5.0, 6.5]),
        (["12 %", "3.5%", "-1 %"], "#%", [12.0, 3.5, -1.0]),
        (["12,5 %", "3 %"], "#,#%", [12.5, 3.0]),
        (["US$5", "US$6"], "US$#", [5.0, 6.0]),
        (["1 234,50 €", "3 €"], "#,#€", [1234.5, 3.0]),
    ],
)
def test_amounts_are_numbers(tmp_path, cells, unit, numbers):
    """A column whose cells all carry one sign in one place is read as numbers, and told."""
    table = read(tmp_path, "a\tb\n" + "".join(f"{cell}\tx\n" for cell in cells), name="t.tsv")
    assert table.frame["a"].to_list() == numbers
    assert table.format.units == {"a": unit}
    assert any(note.startswith("'a' has ") for note in table.facts.notes)


def test_missing_cells_beside_amounts(tmp_path):
    """Blank cells and words for missing may stand among amounts."""
    table = read(tmp_path, "a,b\n$1,x\n,x\nNA,x\n$2.5,x\n")
    assert table.frame["a"].to_list() == [1.0, None, None, 2.5]


def test_mixed_currencies_stay_text(tmp_path):
    """Two currencies in a column are no numbers of one kind, and a note says so."""
    table = read(tmp_path, "a,b\n$1,x\n€2,x\n$3,x\n")
    assert table.frame["a"].dtype == pl.String
    assert (
        "'a' has amounts written in several ways ($, €) and stays text; give them one unit to "
        "have numbers"
    ) in table.facts.notes


@pytest.mark.parametrize("cells", [["$1", "2"], ["$a", "$b"], ["5 kg", "6 kg"], ["$", "$"]])
def test_what_is_no_amount(cells):
    """A cell without the sign, words, and other units leave a column as it is."""
    assert find_unit(pl.Series(cells)) is None


def test_the_next_file_is_read_alike(tmp_path):
    """The resolved format reads further amounts, and numbers without the sign, into numbers."""
    fmt = read(tmp_path, 'a,b\n"$1,200.50",x\n$2,x\n').format
    fmt = TableFormat.from_dict(fmt.to_dict())
    assert read(tmp_path, "a,b\n$7,x\n8.5,x\nunknown,x\n", fmt).frame["a"].to_list() == [
        *(7.0, 8.5, None),
    ]
    with pytest.raises(DataError, match=r"'a' cannot be read as Float64 written as '\$1'"):
        read(tmp_path, "a,b\n$7,x\n€8,x\n", fmt)


def test_a_unit_of_a_format_is_checked():
    """A unit without a place for the number is refused."""
    with pytest.raises(SettingsError, match="must be a sign and #"):
        TableFormat(units={"a": "$"})


@pytest.mark.parametrize("make", [pl.DataFrame, lambda data: pl.DataFrame(data).to_pandas()])
def test_frames_with_amounts(make):
    """Text amounts in a frame are read as those of a file."""
    table = read_table(make({"a": ["$5", "$6"], "b": ["x", "y"]}))
    assert table.frame["a"].to_list() == [5.0, 6.0]
    assert table.format.units == {"a": "$#"}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=8), st.booleans())
def test_every_amount_comes_back(cents, comma):
    """Grouped amounts with two decimals come back exactly, whichever sign is the decimal mark."""
    written = [f"${cent / 100:,.2f}" for cent in cents]
    if comma:
        written = [word.translate(str.maketrans(",.", ".,")) for word in written]
    cells = pl.Series(written)
    unit = find_unit(cells)
    assert unit == ("$#,#" if comma else "$#")
    assert plain_numbers(cells, unit).cast(pl.Float64).to_list() == [cent / 100 for cent in cents]


# ---- words for missing ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("others", "dtype"),
    [
        (["1", "2", "3"], pl.Int64),
        (["1.5", "2", "3"], pl.Float64),
        (["2020-01-02", "2020-01-03"], pl.Date),
        (["true", "false"], pl.Boolean),
        (["$1", "$2"], pl.Float64),
    ],
)
@pytest.mark.parametrize("word", ["unknown", "Unknown", "not available", "n.a.", "#DIV/0!"])
def test_words_among_numbers_are_missing(tmp_path, others, dtype, word):
    """A word for missing in a column of numbers, dates or truth values is a missing cell."""
    table = read(tmp_path, "a,b\n" + "".join(f"{cell},x\n" for cell in [*others, word]))
    assert table.frame["a"].dtype == dtype
    assert table.frame["a"].to_list()[-1] is None
    assert (
        f"{word!r} in 'a' read as missing (1 cell), the other cells are no words"
        in table.facts.notes
    )


def test_many_words_among_few_numbers(tmp_path):
    """The share of the words plays no part."""
    table = read(tmp_path, "a,b\n" + "unknown,x\n" * 30 + "4,x\n5,x\n")
    assert table.frame["a"].drop_nulls().to_list() == [4, 5]


def test_words_among_words_are_words(tmp_path):
    """In a column of words, unknown is an answer as any other."""
    table = read(tmp_path, "a,b\nunknown,x\nred,x\nUnknown,x\n")
    assert table.frame["a"].to_list() == ["unknown", "red", "Unknown"]
    assert read(tmp_path, "a,b\nunknown,x\nunknown,x\n").frame["a"].dtype == pl.String


def test_one_other_word_keeps_the_text(tmp_path):
    """A cell that is neither a number nor a word for missing leaves the column text."""
    table = read(tmp_path, "a,b\n" + "1,x\n" * 40 + "unknown,x\nbroken,x\n")
    assert table.frame["a"].dtype == pl.String


# ---- what a later file may hold ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "cells", "expected"),
    [
        ("Boolean", ["1", "0", "TRUE"], [True, False, True]),
        ("Int64", ["1", "2.5", "3"], [1.0, 2.5, 3.0]),
        ("Int64", ["1", "2.0", "3"], [1, 2, 3]),
        ("Float64", ["1", "not available", "3"], [1.0, None, 3.0]),
    ],
)
def test_known_types_in_other_words(tmp_path, dtype, cells, expected):
    """Truth values as 0 and 1, fractions among whole numbers and words for missing are read."""
    fmt = TableFormat(dtypes={"a": dtype})
    table = read(tmp_path, "a,b\n" + "".join(f"{cell},x\n" for cell in cells), fmt)
    assert table.frame["a"].to_list() == expected


def test_iso_dates_are_read_whatever_the_format(tmp_path):
    """A date format that was found in training does not stop ISO dates, which have one meaning."""
    fmt = read(tmp_path, "a,b\n31.12.2020,x\n01.02.2021,x\n").format
    assert fmt.dates == {"a": "%d.%m.%Y"}
    later = read(tmp_path, "a,b\n2022-03-04,x\n", fmt).frame["a"]
    assert str(later[0]) == "2022-03-04"


def test_cells_of_two_currencies_are_no_column_of_amounts():
    """Dollars and euros are not added up in silence: the column stays text."""
    assert find_unit(pl.Series(["$3", "€3"])) is None
    assert find_unit(pl.Series(["$3", "3 $"])) is None


def test_a_column_with_one_cell_that_is_no_amount_stays_text():
    """A cell of another unit, or of words, keeps the whole column as it is written."""
    for odd in ("€3", "three", "$1,2,3", "$"):
        frame = pl.DataFrame({"price": ["$5", odd, None]})
        assert read_units(frame, {"price": "$#"}).equals(frame)


@pytest.mark.parametrize("cell", ["$5", " $1,204.50", "-$3", "€3", "three", "", None, 7, 2.5])
def test_a_row_is_read_as_its_table_is(cell):
    """One row gives what a table of that row gives, cells that are no amount included."""
    row, units = {"price": cell, "city": "Bonn"}, {"price": "$#"}
    assert dict(read_unit_row(row, units)) == read_units(pl.DataFrame([row]), units).row(
        0, named=True
    )
