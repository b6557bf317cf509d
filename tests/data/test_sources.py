"""Text tables: what is detected, told, and refused."""

from __future__ import annotations

import gzip
from datetime import date, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data import csv_reader, csv_sample
from loopline.data.inference import infer_schema
from loopline.data.sources import TableFormat, read_table
from loopline.errors import DataError, NotFoundError, SettingsError
from loopline.progress import SilentReporter


@pytest.fixture
def write(tmp_path):
    """Writes a file and gives its path."""

    def make(text, name="t.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


def test_types_are_found(write):
    """Numbers, truth values, dates and words each get their type."""
    table = read_table(
        write("i,f,b,d,t,w\n1,1e5,True,2020-01-02,2020-01-02 03:04:05,yes\n2,.5,false,,,no\n")
    )
    assert table.frame.dtypes == [
        *(pl.Int64, pl.Float64, pl.Boolean, pl.Date, pl.Datetime("us"), pl.String)
    ]
    assert table.frame.row(0) == (
        *(1, 100000.0, True, date(2020, 1, 2), datetime(2020, 1, 2, 3, 4, 5), "yes"),
    )
    assert table.frame.row(1) == (2, 0.5, False, None, None, "no")
    assert table.format.dtypes["t"] == "Datetime"


def test_leading_zeros_stay_text(write):
    """ "00123" is a label: its zeros are kept, and that is told."""
    table = read_table(write("zip,n\n00123,1\n4567,2\n"))
    assert table.frame["zip"].to_list() == ["00123", "4567"]
    assert any("leading zeros" in note for note in table.facts.notes)


def test_integers_beyond_64_bits_stay_text(write):
    """A whole number that Int64 cannot hold is not rounded to a float."""
    frame = read_table(write("n\n99999999999999999999\n1\n")).frame
    assert frame["n"].to_list() == ["99999999999999999999", "1"]


def test_missing_markers_are_counted(write):
    """Words that stand for missing become null, with their number told."""
    table = read_table(write("a,b\n1,x\n?,NA\n3,?\n"))
    assert table.frame.rows() == [(1, "x"), (None, None), (3, None)]
    assert "'?' read as missing in 2 columns (2 cells)" in table.facts.notes
    assert "'NA' read as missing in 1 column (1 cells)" in table.facts.notes


def test_given_missing_markers_rule(write):
    """With `missing` given, only those words are missing."""
    table = read_table(write("a,b\n1,x\n?,NA\n"), format=TableFormat(missing=("NA",)))
    assert table.frame.rows() == [("1", "x"), ("?", None)]


def test_blank_cells_in_numbers(write):
    """A cell of blanks among numbers is missing, not a reason to read text."""
    table = read_table(write("a,total\nx,1.5\ny, \nz,2\n"))
    assert table.frame["total"].to_list() == [1.5, None, 2.0]
    assert "1 blank cell in total read as missing, the rest are numbers" in table.facts.notes


def test_quoted_empty_cell_is_missing(write):
    """An empty cell is missing whether it is quoted or not."""
    assert read_table(write('a,b\nx,""\n"",y\n')).frame.rows() == [("x", None), (None, "y")]


def test_one_word_makes_text_and_is_told(write):
    """One word in a column of numbers makes it text; the note names the cell."""
    rows = "".join(f"{i},{i}\n" for i in range(50))
    table = read_table(write("a,b\n" + rows + "oops,1\n"))
    assert table.frame["a"].dtype == pl.String
    assert table.frame["a"][49] == "49"
    assert any("1 of 51 cells are not numbers" in n and "'oops'" in n for n in table.facts.notes)


def test_type_flip_far_from_the_sample(write, monkeypatch):
    """A word that no sample saw is found by the full pass: nothing is nulled."""
    monkeypatch.setattr(csv_sample, "HEAD_BYTES", 2_000)
    monkeypatch.setattr(csv_sample, "_PIECE_BYTES", 500)
    lines = [f"{i},{i / 2}" for i in range(20_000)]
    lines[7_000] = "abc,1.5"
    table = read_table(write("a,b\n" + "\n".join(lines) + "\n"))
    assert table.frame.dtypes == [pl.String, pl.Float64]
    assert table.frame["a"].null_count() == 0
    assert any("data row 7,001" in note for note in table.facts.notes)


def test_leading_zero_far_from_the_sample(write, monkeypatch):
    """A postal code with a zero that no sample saw keeps it."""
    monkeypatch.setattr(csv_sample, "HEAD_BYTES", 2_000)
    monkeypatch.setattr(csv_sample, "_PIECE_BYTES", 500)
    lines = [f"{10_000 + i},{i}" for i in range(20_000)]
    lines[7_000] = "01234,1"
    frame = read_table(write("zip,b\n" + "\n".join(lines) + "\n")).frame
    assert frame["zip"][7_000] == "01234"


def test_float_far_from_the_sample(write, monkeypatch):
    """Whole numbers that turn out to have decimals become floats, all of them."""
    monkeypatch.setattr(csv_sample, "HEAD_BYTES", 2_000)
    monkeypatch.setattr(csv_sample, "_PIECE_BYTES", 500)
    lines = [f"{i},x" for i in range(20_000)]
    lines[7_000] = "0.25,x"
    frame = read_table(write("a,b\n" + "\n".join(lines) + "\n")).frame
    assert frame["a"].dtype == pl.Float64
    assert frame["a"].sum() == pytest.approx(sum(range(20_000)) - 7_000 + 0.25)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters(write, delimiter):
    """Comma, semicolon, tab and bar are found."""
    text = "\n".join(delimiter.join(row) for row in (["a", "b"], ["1", "x"], ["2", "y"]))
    table = read_table(write(text))
    assert table.format.delimiter == delimiter
    assert table.frame.rows() == [(1, "x"), (2, "y")]


def test_decimal_comma(write):
    """A semicolon table with decimal commas and dotted thousands is read as numbers."""
    table = read_table(write("a;b;d\n1,5;1.234,50;03.04.2020\n2,25;2;05.04.2020\n"))
    assert table.frame.rows() == [
        (1.5, 1234.5, date(2020, 4, 3)),
        (2.25, 2.0, date(2020, 4, 5)),
    ]
    assert "decimal comma" in table.facts.notes


def test_grouped_thousands(write):
    """Quoted numbers with commas between groups of three are numbers."""
    assert read_table(write('a,b\n"1,234",x\n"12,345,678",y\n')).frame["a"].to_list() == [
        1234,
        12345678,
    ]


@pytest.mark.parametrize(
    ("cells", "expected", "told"),
    [
        (["13/01/2020", "02/03/2020"], date(2020, 3, 2), False),
        (["01/13/2020", "02/03/2020"], date(2020, 2, 3), False),
        (["01/02/2020", "02/03/2020"], date(2020, 2, 3), True),
    ],
)
def test_day_or_month_first(write, cells, expected, told):
    """A cell that can be read one way only decides; when none does, the choice is told."""
    table = read_table(write("d,x\n" + "".join(f"{cell},1\n" for cell in cells)))
    assert table.frame["d"][1] == expected
    assert any("day first or month first" in note for note in table.facts.notes) == told


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2020-01-02T03:04:05.25", datetime(2020, 1, 2, 3, 4, 5, 250_000)),
        ("2020/01/02", date(2020, 1, 2)),
        ("2 Jan 2020", date(2020, 1, 2)),
        ("Jan 2, 2020", date(2020, 1, 2)),
        ("2020-01", date(2020, 1, 1)),
        ("1/2/2020 3:04 PM", datetime(2020, 1, 2, 15, 4)),
    ],
)
def test_ways_to_write_a_date(write, cell, expected):
    """Common ways to write a date are read, and the format is kept for the next file."""
    table = read_table(write(f'd;x\n"{cell}";1\n'), format=TableFormat(decimal="."))
    if cell.startswith("1/2"):
        table = read_table(write(f"d,x\n{cell},1\n"))
    assert table.frame["d"][0] == expected
    assert table.format.dates["d"]


def test_offsets_become_utc(write):
    """Times with an offset are one instant in UTC."""
    series = read_table(write("t,x\n2020-01-02T03:00:00Z,1\n2020-01-02T03:00:00+02:00,2\n")).frame[
        "t"
    ]
    assert series.dtype == pl.Datetime("us", "UTC")
    assert (series[0] - series[1]).total_seconds() == 7200


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_encodings(write, encoding):
    """A byte order mark, UTF-16 and Windows text are found."""
    table = read_table(write("naïve,b\ncafé,1\nthé,2\n".encode(encoding)))
    assert table.frame.columns == ["naïve", "b"]
    assert table.frame["naïve"].to_list() == ["café", "thé"]
    assert any(encoding in note for note in table.facts.notes)


def test_encoding_trouble_beyond_the_head(write, monkeypatch):
    """A byte that is not UTF-8 far into the file switches the whole file."""
    monkeypatch.setattr(csv_sample, "HEAD_BYTES", 1_000)
    text = "a,b\n" + "1,plain\n" * 5_000 + "2,café\n"
    table = read_table(write(text.encode("cp1252")))
    assert table.frame["b"][-1] == "café"
    assert table.facts.encoding == "cp1252"


def test_no_header(write):
    """A first row with numbers is data, and that is told."""
    table = read_table(write("39, State-gov, 1\n50, Private, 2\n"))
    assert table.frame.columns == ["column_1", "column_2", "column_3"]
    assert table.frame["column_2"].to_list() == ["State-gov", "Private"]
    assert any("no header row" in note for note in table.facts.notes)


def test_years_as_names(write):
    """Consecutive numbers in the first row are names."""
    assert read_table(write("land,1990,1991,1992\nA,1.5,2,3\nB,4,5,6\n")).frame.columns[1] == "1990"


def test_words_only(write):
    """In a table of words alone the first row is a header unless one of its words comes again."""
    assert read_table(write("text,label\nhi you,a\nno way,b\n")).frame.columns == ["text", "label"]
    assert read_table(write("hi you,a\nno way,b\nwhy not,a\n")).frame.height == 3


def test_remark_before_the_table(write):
    """Lines at the top that are no part of the table are passed over and counted."""
    table = read_table(write("made by hand\n\na,b,c\n1,2,3\n4,5,6\n7,8,9\n1,1,1\n" + "2,2,2\n" * 9))
    assert table.frame.columns == ["a", "b", "c"]
    assert "2 lines before the table passed over" in table.facts.notes


def test_comment_prefix(write):
    """Lines with the given prefix are no rows."""
    text = "# one\na,b\n1,x\n# two\n2,y\n"
    assert read_table(write(text), format=TableFormat(comment="#")).frame.rows() == [
        (1, "x"),
        (2, "y"),
    ]


def test_line_breaks_inside_cells(write):
    """A quoted cell may hold line breaks and delimiters."""
    frame = read_table(write('id,text\n1,"one\ntwo, ""three"""\n2,four\n')).frame
    assert frame["text"].to_list() == ['one\ntwo, "three"', "four"]


def test_stray_quotes(write):
    """Quote marks that would join whole rows are ordinary characters."""
    table = read_table(write('a\tb\tc\nx\t"one\t1\ny\ttwo\t2\nz\tthree"\t3\n', "t.tsv"))
    assert table.frame.height == 3
    assert table.frame["b"][0] == '"one'
    assert "quote marks are read as ordinary characters" in table.facts.notes


def test_stray_quotes_far_from_the_sample(write, monkeypatch):
    """The same beyond the sample: no row is swallowed."""
    monkeypatch.setattr(csv_sample, "HEAD_BYTES", 1_000)
    lines = [f"x\tword\t{i}" for i in range(5_000)]
    lines[4_000], lines[4_002] = 'x\t"one\t1', 'x\ttwo"\t2'
    assert read_table(write("a\tb\tc\n" + "\n".join(lines) + "\n", "t.tsv")).frame.height == 5_000


def test_windows_and_old_mac_line_ends(write):
    """All three kinds of line ends are read."""
    for end in ("\n", "\r\n", "\r"):
        assert read_table(write(f"a,b{end}1,x{end}2,y{end}")).frame.rows() == [(1, "x"), (2, "y")]


def test_blank_lines(write):
    """Blank lines are no rows."""
    table = read_table(write("a,b\n1,x\n\n2,y\n\n"))
    assert table.frame.height == 2
    assert "2 blank lines passed over" in table.facts.notes


def test_blank_names(write):
    """A column without a name gets one, and that is told."""
    table = read_table(write(",a\n1,2\n3,4\n"))
    assert table.frame.columns == ["column_1", "a"]
    assert any("without a name: column_1" in note for note in table.facts.notes)


def test_packed_files(write, tmp_path):
    """.gz and .zst are unpacked on the way."""
    text = b"a,b\n1,x\n2,y\n"
    packed = write(gzip.compress(text), "t.csv.gz")
    assert read_table(packed).frame.height == 2
    pa = pytest.importorskip("pyarrow")
    target = tmp_path / "t.csv.zst"
    with pa.CompressedOutputStream(str(target), "zstd") as file:
        file.write(text)
    assert read_table(target).frame.rows() == [(1, "x"), (2, "y")]


# ---- the resolved format ------------------------------------------------------------------------


def test_resolved_format_reads_the_next_file_alike(write):
    """A later file whose cells would be read otherwise gets the types of the first."""
    first = read_table(write("zip,f,d,w\n00123,1.5,13/01/2020,x\n0456,2,14/02/2020,y\n"))
    later = read_table(
        write("zip,f,d,w\n123,1,01/02/2020,7\n", "later.csv"),
        format=TableFormat.from_dict(first.format.to_dict()),
    )
    assert later.frame.schema == first.frame.schema
    assert later.frame.row(0) == ("123", 1.0, date(2020, 2, 1), "7")


def test_unreadable_cell_is_refused_with_its_place(write):
    """A cell that is not of the given type is named by file, column, value and line."""
    fmt = TableFormat(dtypes={"a": "Int64"})
    with pytest.raises(
        DataError, match=r"later.csv: 1 cell of column 'a' cannot be read as Int64; .*'x'.*line 3"
    ):
        read_table(write("a,b\n1,2\nx,3\n", "later.csv"), format=fmt)


def test_unreadable_cell_as_missing(write):
    """With `unreadable: missing` it becomes missing and is counted."""
    fmt = TableFormat(dtypes={"a": "Int64"}, unreadable="missing")
    table = read_table(write("a,b\n1,2\nx,3\n"), format=fmt)
    assert table.frame["a"].to_list() == [1, None]
    assert table.facts.problems == {"a": 1}


def test_wrong_settings_are_told_together():
    """All wrong fields of a format are in one error."""
    with pytest.raises(SettingsError) as caught:
        TableFormat(delimiter=";;", decimal="x", dtypes={"a": "Int32"})
    assert len(caught.value.problems) == 3
    with pytest.raises(SettingsError, match=r"no setting `sep`"):
        TableFormat.from_dict({"sep": ","})


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_round_trip(tmp_path_factory, rows):
    """What polars writes with given types is read back cell by cell."""
    path = tmp_path_factory.mktemp("round") / "t.csv"
    frame = pl.DataFrame(rows, schema=["i", "f", "s"], orient="row")
    frame.write_csv(path)
    fmt = TableFormat(
        header=True,
        delimiter=",",
        quote='"',
        skip_rows=0,
        decimal=".",
        thousands="",
        strip=False,
        missing=(),
        dtypes={"i": "Int64", "f": "Float64", "s": "String"},
    )
    back = read_table(path, format=fmt).frame
    assert back["i"].to_list() == frame["i"].to_list()
    assert back["f"].to_list() == frame["f"].to_list()
    wanted = [None if not cell.strip() else cell for cell in frame["s"].to_list()]
    assert [None if not (c or "").strip() else c for c in back["s"].to_list()] == wanted


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "header .* but no rows"),
        ("a,b\n1,2\n1,2,3\n1,2\n1,2,3,4\n", "line 3 has 3, line 5 has 4"),
        ("a,b,c\n1,2,3\n1,2\n" + "1,2,3\n" * 5, "line 3 has 2"),
        ("a,b,a\n1,2,3\n", "repeated: 'a'"),
        ('a,b\n1,"x\n2,y\n3,z\n', "opened in line 2 is never closed"),
        (b"a,b\n1,x\0y\n", "zero byte"),
        (bytes(range(256)) * 40, "no text table"),
    ],
)
def test_refusals(write, text, said):
    """What makes no table is refused with the file, the place and the reason."""
    with pytest.raises(DataError, match=said) as caught:
        read_table(write(text))
    assert "t.csv" in str(caught.value)


def test_zero_byte_beyond_the_head(write, monkeypatch):
    """A zero byte far into the file is found too."""
    monkeypatch.setattr(csv_sample, "HEAD_BYTES", 1_000)
    with pytest.raises(DataError, match=r"'b' has a zero byte in data row 5,001"):
        read_table(write(b"a,b\n" + b"1,x\n" * 5_000 + b"1,x\0\n"))


def test_one_endless_line(write, monkeypatch):
    """A file whose first line does not end is refused after a bounded look."""
    monkeypatch.setattr(csv_sample, "MAX_LINE_BYTES", 4 << 20)
    with pytest.raises(DataError, match=r"no end within 4 MB"):
        read_table(write(b"x" * (5 << 20)))


def test_missing_file_names_its_neighbours(write, tmp_path):
    """A mistyped name is answered with the near ones; a folder with what it holds."""
    write("a\n1\n", "train.csv")
    with pytest.raises(NotFoundError, match=r"did you mean 'train.csv'"):
        read_table(tmp_path / "trian.csv")
    with pytest.raises(DataError, match=r"is a folder \(it holds train.csv\)"):
        read_table(tmp_path)
    with pytest.raises(NotFoundError, match=r"No file fits"):
        read_table(str(tmp_path / "*.parquet"))


def test_too_many_columns(write, monkeypatch):
    """More columns than the limit are refused with the limit."""
    monkeypatch.setattr(csv_reader, "MAX_COLUMNS", 3)
    with pytest.raises(DataError, match=r"has 4 columns; at most 3"):
        read_table(write("a,b,c,d\n1,2,3,4\n"))


def test_wrong_given_encoding(write):
    """A given encoding that does not fit is refused, not guessed."""
    with pytest.raises(DataError, match=r"not written in utf-8"):
        read_table(write("a\ncafé\n".encode("cp1252")), format=TableFormat(encoding="utf-8"))
    with pytest.raises(DataError, match=r"no encoding 'utf-99'"):
        read_table(write("a\n1\n"), format=TableFormat(encoding="utf-99"))


def test_a_file_may_lack_a_column_of_the_format(write):
    """A file to predict on lacks the target: the types of the other columns still rule."""
    fmt = TableFormat(dtypes={"a": "String", "y": "Int64"})
    assert read_table(write("a,b\n1,2\n"), format=fmt).frame.rows() == [("1", 2)]


def test_nan_far_from_the_sample(write, monkeypatch):
    """A "nan" that no sample saw is a missing cell, as everywhere."""
    monkeypatch.setattr(csv_sample, "HEAD_BYTES", 2_000)
    monkeypatch.setattr(csv_sample, "_PIECE_BYTES", 500)
    lines = [f"{i}.5,x" for i in range(20_000)]
    lines[7_000] = "nan,x"
    series = read_table(write("a,b\n" + "\n".join(lines) + "\n")).frame["a"]
    assert series.dtype == pl.Float64
    assert series.null_count() == 1


def test_an_endless_line_after_others(write, monkeypatch):
    """A line without end is named by its number."""
    monkeypatch.setattr(csv_sample, "MAX_LINE_BYTES", 4 << 20)
    with pytest.raises(DataError, match=r"line 3 has no end within 4 MB"):
        read_table(write(b"a,b\n1,2\n" + b"x" * (6 << 20)))


def test_an_endless_line_deep_inside(write, monkeypatch):
    """A line without end behind many good ones is named by its number, before all is read."""
    monkeypatch.setattr(csv_sample, "MAX_LINE_BYTES", 4 << 20)
    good = b"a,b\n" + b"1,2\n" * 700_000
    with pytest.raises(DataError, match=r"line 700,002 has no end within 2 MB"):
        read_table(write(good + b"x" * (6 << 20) + b",1\n3,4\n"))
    assert read_table(write(good + b"3,4\n" * 700_000)).frame.height == 1_400_000


def test_too_many_columns_for_a_line():
    """A table that a line cannot look at in minutes is refused with the limit and the way out."""
    wide = pl.DataFrame({f"c{i}": [0, 1] for i in range(20_001)})
    with pytest.raises(DataError, match=r"has 20,001 columns; a line takes up to 20,000"):
        infer_schema(wide, target="c0")


def test_many_columns(write):
    """5,000 columns are read in seconds, each with its type."""
    names = ",".join(f"c{i}" for i in range(5_000))
    rows = "\n".join(",".join(str(i * k) for i in range(5_000)) for k in range(3))
    frame = read_table(write(f"{names}\n{rows}\n")).frame
    assert frame.shape == (3, 5_000)
    assert set(frame.dtypes) == {pl.Int64}


# ---- several files ------------------------------------------------------------------------------


def test_glob_joins_files_in_order(write, tmp_path):
    """Files of a glob are joined in the order of their names; ints and floats widen."""
    write("a,b\n2.5,y\n", "p2.csv")
    write("a,b\n1,x\n", "p1.csv")
    table = read_table(str(tmp_path / "p*.csv"))
    assert table.frame.rows() == [(1.0, "x"), (2.5, "y")]
    assert [name[-6:] for name in table.facts.files] == ["p1.csv", "p2.csv"]


def test_files_that_differ_are_named(write):
    """The file that differs is named with what it lacks."""
    one, two = write("a,b\n1,2\n", "one.csv"), write("a,c\n1,2\n", "two.csv")
    with pytest.raises(
        DataError, match=r"two.csv' differs from .*one.csv'.* lacks 'b' and has 'c'"
    ):
        read_table([one, two])
    three = write("a,b\nx,2\n", "three.csv")
    with pytest.raises(DataError, match=r"column 'a' is Int64 in .* and String in .*three.csv"):
        read_table([one, three])


def test_reporter_hears_the_notes(write):
    """What was detected reaches the reporter."""
    reporter = SilentReporter()
    table = read_table(write("a;b\n1,5;2\n"), reporter=reporter)
    assert tuple(reporter.notes) == table.facts.notes
    assert "decimal comma" in reporter.notes
