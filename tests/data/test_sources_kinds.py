"""Sources that carry their types: JSON, Parquet, Arrow, workbooks, databases, URLs, frames."""

from __future__ import annotations

import builtins
import sqlite3
from datetime import date, datetime

import fsspec
import polars as pl
import pytest

from loopline.data.readers import safe_url
from loopline.data.sources import TableFormat, read_table
from loopline.errors import DataError, EnvironmentProblem, NotFoundError

FRAME = pl.DataFrame(
    {
        "n": [1, 2, None],
        "f": [0.5, float("nan"), 2.0],
        "s": ["x", None, "00123"],
        "d": [date(2020, 1, 2), None, date(2020, 3, 4)],
        "b": [True, False, None],
    }
)
READ = FRAME.with_columns(pl.col("f").fill_nan(None))


def test_parquet_and_arrow(tmp_path):
    """Parquet and Arrow files give back the table they hold, also without an ending."""
    FRAME.write_parquet(tmp_path / "t.parquet")
    FRAME.write_ipc(tmp_path / "t.feather")
    FRAME.write_ipc_stream(tmp_path / "t.arrows")
    (tmp_path / "noending").write_bytes((tmp_path / "t.parquet").read_bytes())
    for name in ("t.parquet", "t.feather", "t.arrows", "noending"):
        table = read_table(tmp_path / name)
        assert table.frame.equals(READ, null_equal=True), name
        assert table.format.dtypes["d"] == "Date"


def test_json_lines(tmp_path):
    """JSON keeps its types; text that is a date in every row becomes dates; nesting is kept."""
    path = tmp_path / "t.jsonl"
    path.write_text(
        '{"a": 1, "t": "2020-01-02T03:04:05", "zip": "00123", "l": [1]}\n'
        '{"a": 2.5, "t": "2020-01-03T00:00:00", "zip": "7", "l": []}\n'
    )
    frame = read_table(path).frame
    assert frame["a"].to_list() == [1.0, 2.5]
    assert frame["t"][0] == datetime(2020, 1, 2, 3, 4, 5)
    assert frame["zip"].to_list() == ["00123", "7"]
    assert frame["l"].dtype == pl.List(pl.Int64)


def test_json_array(tmp_path):
    """A JSON array of objects is a table too."""
    path = tmp_path / "t.json"
    path.write_text('[{"a": 1, "b": "x"}, {"a": 2, "b": null}]')
    assert read_table(path).frame.rows() == [(1, "x"), (2, None)]


def test_damaged_files(tmp_path):
    """A damaged file is refused with its name and kind."""
    for name in ("t.parquet", "t.feather", "t.jsonl"):
        (tmp_path / name).write_bytes(b'{"a": 1}\n{"a": \x00 no, }' * 3)
        with pytest.raises(DataError, match=rf"{name} cannot be read as"):
            read_table(tmp_path / name)
    (tmp_path / "t.csv.gz").write_bytes(b"\x1f\x8b\x08 cut short")
    with pytest.raises(DataError, match=r"t.csv.gz cannot be unpacked"):
        read_table(tmp_path / "t.csv.gz")


def test_empty_parquet_is_refused(tmp_path):
    """A table without rows is refused."""
    FRAME.head(0).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t.parquet has no rows"):
        read_table(tmp_path / "t.parquet")


@pytest.fixture
def workbook(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    pytest.importorskip("fastexcel")
    book = openpyxl.Workbook()
    book.active.title = "one"
    for row in (["a", "b"], [1, "x"], [2.5, None]):
        book.active.append(row)
    path = tmp_path / "t.xlsx"
    book.save(path)
    return book, path


def test_workbook(workbook):
    """The only sheet with cells is read."""
    assert read_table(workbook[1]).frame.rows() == [(1.0, "x"), (2.5, None)]


def test_workbook_sheets(workbook):
    """Of several sheets one must be named; a mistyped one is answered with the near ones."""
    book, path = workbook
    for row in (["c"], [7]):
        book.create_sheet("two").append(row) if "two" not in book.sheetnames else book[
            "two"
        ].append(row)
    book.save(path)
    with pytest.raises(DataError, match=r"2 sheets with cells \('one', 'two'\)"):
        read_table(path)
    assert read_table(path, format=TableFormat(sheet="two")).frame.rows() == [(7,)]
    with pytest.raises(DataError, match=r"no sheet 'tow'; did you mean 'two'"):
        read_table(path, format=TableFormat(sheet="tow"))


def test_workbook_needs_the_extra(workbook, monkeypatch):
    """Without the extra the sentence says what to install."""
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "fastexcel":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EnvironmentProblem, match=r"loopline\[excel\]"):
        read_table(workbook[1])


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table orders (id integer, price numeric(8,2), day date, mixed)")
        connection.executemany(
            "insert into orders values (?, ?, ?, ?)",
            [(1, 2.5, "2020-01-02", 7), (2, None, "2020-01-03", "x")],
        )
    connection.close()
    return f"sqlite:///{path}"


def test_sql_table_and_query(shop):
    """A table in the URL and a query in the format give typed columns."""
    frame = read_table(f"{shop}?table=orders").frame
    assert frame.rows() == [(1, 2.5, date(2020, 1, 2), "7"), (2, None, date(2020, 1, 3), "x")]
    query = TableFormat(query="select id, day from orders where id > 1")
    assert read_table(shop, format=query).frame.rows() == [(2, date(2020, 1, 3))]


@pytest.mark.parametrize(
    ("tail", "fmt", "said"),
    [
        ("?table=order", TableFormat(), "no table 'order'; did you mean 'orders'"),
        ("", TableFormat(), "give either"),
        ("", TableFormat(query="select nix from orders"), "no such column"),
        ("", TableFormat(query="select * from orders where id > 9"), "has no rows"),
        ("", TableFormat(query="select id, id from orders"), "repeated: 'id'"),
        ("x?table=t", TableFormat(), "no SQLite file"),
    ],
)
def test_sql_refusals(shop, tail, fmt, said):
    """The database's refusal is one sentence."""
    with pytest.raises(DataError, match=said):
        read_table(shop + tail, format=fmt)


def test_passwords_stay_secret():
    """Neither the error nor the facts tell a password."""
    url = "postgresql+psycopg://ann:hush@127.0.0.1:1/db?table=t&connect_timeout=1&password=hush2"
    assert "hush" not in safe_url(url)
    pytest.importorskip("psycopg")
    with pytest.raises(DataError) as caught:
        read_table(url)
    assert "hush" not in str(caught.value)


def test_fsspec_urls():
    """Files behind URLs are fetched; globs work; a missing one is told."""
    system = fsspec.filesystem("memory")
    system.pipe("/in/a.csv", b"x,y\n1,2\n")
    system.pipe("/in/b.csv", b"x,y\n3,4\n")
    assert read_table("memory://in/a.csv").frame.rows() == [(1, 2)]
    assert read_table("memory://in/*.csv").frame.rows() == [(1, 2), (3, 4)]
    with pytest.raises(NotFoundError, match=r"memory://in/c.csv"):
        read_table("memory://in/c.csv")
    with pytest.raises(DataError, match=r"cannot be fetched"):
        read_table("nosuchscheme://in/c.csv")


def test_frames():
    """A frame goes through with its types told."""
    table = read_table(FRAME)
    assert table.frame.equals(READ, null_equal=True)
    assert table.facts.kind == "frame"
    with pytest.raises(DataError, match=r"no rows"):
        read_table(FRAME.head(0))


def test_resolved_format_recasts_a_typed_file(tmp_path):
    """A Parquet file of another integer luck is read into the types of the format."""
    fmt = read_table(pl.DataFrame({"a": [1.5], "b": ["1"]})).format
    pl.DataFrame({"a": [1], "b": [2]}).write_parquet(tmp_path / "t.parquet")
    frame = read_table(tmp_path / "t.parquet", format=TableFormat(dtypes=fmt.dtypes)).frame
    assert frame.rows() == [(1.0, "2")]
    pl.DataFrame({"b": ["x"]}).write_parquet(tmp_path / "u.parquet")
    with pytest.raises(DataError, match=r"'b' cannot be read as Int64"):
        read_table(tmp_path / "u.parquet", format=TableFormat(dtypes={"b": "Int64"}))
