"""The real tables and their traps."""

from __future__ import annotations

from datetime import date

import polars as pl

from loopline.data.sources import TableFormat, read_table


def test_adult(data_dir):
    """No header, leading blanks, "?" for missing, a blank line; a remark in the test file."""
    train = read_table(data_dir("adult") / "adult.data")
    assert train.frame.shape == (32_561, 15)
    assert "'?' read as missing in 3 columns (4,262 cells)" in train.facts.notes
    assert train.frame["column_2"][0] == "State-gov"
    test = read_table(data_dir("adult") / "adult.test")
    assert test.frame.shape == (16_281, 15)
    assert "1 line before the table passed over" in test.facts.notes
    assert test.frame.schema == train.frame.schema


def test_telco(data_dir):
    """11 blank cells do not turn TotalCharges into text."""
    table = read_table(data_dir("telco_churn") / "Telco-Customer-Churn.csv")
    assert table.frame["TotalCharges"].dtype == pl.Float64
    assert table.frame["TotalCharges"].null_count() == 11
    assert (
        "11 blank cells in TotalCharges read as missing, the rest are numbers" in table.facts.notes
    )


def test_mammography(data_dir):
    """Labels in single quotes are numbers, and there is no header."""
    table = read_table(data_dir("mammography") / "mammography.csv")
    assert table.frame.shape == (11_183, 7)
    assert dict(table.frame["column_7"].value_counts().iter_rows()) == {-1: 10_923, 1: 260}


def test_sms_spam(data_dir):
    """The message that swallows lines is pointed at."""
    table = read_table(data_dir("sms_spam") / "smsspamcollection.tsv")
    assert table.frame.height == 5_572
    assert any("look like rows" in note for note in table.facts.notes)


def test_bike(data_dir):
    """Days are dates."""
    frame = read_table(data_dir("bike_sharing") / "hour.csv").frame
    assert frame["dteday"][0] == date(2011, 1, 1)
    assert frame.height == 17_379


def test_concrete_and_yacht(data_dir):
    """Tabs with blanks round the numbers, and blanks alone, both separate cells."""
    folder = data_dir("uci_splits_small")
    assert read_table(folder / "concrete" / "data.txt").frame.shape == (1_030, 9)
    yacht = read_table(folder / "yacht" / "data.txt").frame
    assert yacht.shape == (308, 7)
    assert all(dtype.is_numeric() for dtype in yacht.dtypes)


def test_packed_reviews(data_dir):
    """50,000-character cells with commas and quotes survive in a .gz."""
    frame = read_table(data_dir("imdb_with_label_errors") / "imdb_test.csv.gz").frame
    assert frame.shape == (25_000, 4)
    assert frame["sentiment"].n_unique() == 2


def test_series_glob(data_dir):
    """Seven files with two kinds of line ends and whole or decimal values join."""
    table = read_table(str(data_dir("nab_known_cause") / "*.csv"))
    assert table.frame.height == 69_561
    assert table.frame.dtypes == [pl.Datetime("us"), pl.Float64]


def test_a_second_reading_with_the_format_is_equal(data_dir):
    """The resolved format reads the same file into the same frame."""
    for name, file in (("titanic", "titanic.csv"), ("adult", "adult.data")):
        first = read_table(data_dir(name) / file)
        fmt = TableFormat.from_dict(first.format.to_dict())
        again = read_table(data_dir(name) / file, format=fmt)
        assert again.frame.equals(first.frame, null_equal=True)
        assert again.format == first.format
