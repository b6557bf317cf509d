"""The door: training's contract, one policy a column, and what only a window of rows shows."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serve.conftest import Serve, mixed_table, plain

from loopline.data.schema import Column, Schema
from loopline.errors import DataError, SettingsError
from loopline.features.contract import QUANTILES, InputContract
from loopline.serve.door import Door, refuse_unknown
from loopline.serve.edge import attempt
from loopline.serve.settings import InputSettings
from loopline.serve.window import InputWindow, _quantiles, judge

CONTRACT = InputContract.learn(
    mixed_table().drop("bought", "kind", "spent"),
    Schema(
        (
            Column("x", "number"), Column("size", "number"), Column("height", "number"),
            Column("city", "category"), Column("flag", "boolean"), Column("day", "datetime"),
        ),
        "regression",
    ),
)  # fmt: skip

CELLS = {
    "x": st.none() | st.floats() | st.integers(-(10**20), 10**20) | st.sampled_from(["1.5", ""]),
    "size": st.none() | st.integers(-300, 300) | st.floats(-5, 400) | st.just("12"),
    "height": st.floats(100, 250) | st.none(),
    "city": st.sampled_from(["Lima", "Köln", "Atlantis", "KÃ¶ln"]) | st.none() | st.integers(0, 3),
    "flag": st.booleans() | st.none() | st.sampled_from([0, 1, "true", "False"]),
    "day": st.sampled_from(["2020-05-01", "2035-01-01", "1990-12-31T10:00:00", None]),
}


@settings(deadline=None)
@given(st.fixed_dictionaries(CELLS, optional={"junk": st.integers(-(2**62), 2**62)}))
def test_a_row_gets_the_remarks_of_a_table_of_that_row(row: dict[str, Any]) -> None:
    """`inspect_row` and `check` agree on cells and remarks for any row, or both refuse it."""
    columns = [pl.Series(name, [value]) for name, value in row.items()]
    found, error = attempt(lambda: CONTRACT.check(pl.DataFrame(columns)))
    if found is None:
        with pytest.raises(DataError, match=re.escape(str(error))):
            CONTRACT.inspect_row(row)
        return
    frame, wanted = found
    checked, remarks, usual = CONTRACT.inspect_row(row)
    assert not (usual and wanted and {r.what for r in wanted} - {"extra"})
    assert checked == frame.row(0, named=True)
    assert sorted(map(str, remarks)) == sorted(map(str, wanted))


def test_expected_columns_get_no_remark() -> None:
    """Columns that training knew without using them may come; others are told."""
    row = dict.fromkeys(column.name for column in CONTRACT.columns) | {"id": 1, "junk": 2}
    assert [r.column for r in CONTRACT.inspect_row(row, expected={"id"})[1]] == ["junk"]
    row["x"] = "1.5"  # the table path
    told = [r.column for r in CONTRACT.inspect_row(row, expected={"id"})[1] if r.what == "extra"]
    assert told == ["junk"]


ODD = {"size": 9999, "city": "Atlantis"}


@pytest.mark.parametrize("several", [False, True])
def test_reject_refuses_odd_cells(serve: Serve, releases: Any, rows: Any, several: bool) -> None:
    """With `reject` a cell beyond training is 422 and named, alone and in a list."""
    client = serve(releases["binary"], settings={"input": {"policy": "reject"}})
    row = plain(rows)[0]
    for change, told in (({"size": 9999}, "'size'"), ({"city": "Atlantis"}, "'city'")):
        answer = client.post("/predict", [row | change] if several else row | change)
        assert (answer.status, told in answer.json()["error"]) == (422, True)
    assert client.post("/predict", [row] if several else row).status == 200
    assert client.post("/predict", row | {"junk": 1}).status == 200


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    "change", [{"size": 9999}, {"size": "huge"}, {"city": "Atlantis"}, {"x": "?"}]
)
def test_impute_reads_odd_cells_as_missing(
    serve: Serve, releases: Any, rows: Any, several: bool, change: dict[str, Any]
) -> None:
    """With `impute` what cannot be used is answered as a missing cell is, with a remark."""
    client = serve(releases["binary"], settings={"input": {"policy": "impute"}})
    row = plain(rows)[0]
    (name,) = change
    wanted = client.post("/predict", row | {name: None}).json()
    sent = row | change
    answer = client.post("/predict", [sent] if several else sent)
    got = answer.json()
    remarks = got["remarks"]
    got = got["predictions"][0] if several else got
    assert got["probability"] == wanted["probability"]
    assert [r["column"] for r in remarks] == [name]
    assert "read as missing" in remarks[0]["text"]


def test_impute_takes_an_absent_column(serve: Serve, releases: Any, rows: Any) -> None:
    """A column that may be imputed may be absent; the others still may not."""
    client = serve(releases["binary"], settings={"input": {"columns": {"x": "impute"}}})
    row = plain(rows)[0]
    wanted = client.post("/predict", row | {"x": None}).json()["probability"]
    del row["x"]
    assert client.post("/predict", row).json()["probability"] == wanted
    del row["city"]
    assert client.post("/predict", row).status == 422


def test_ordinary_rows_are_the_same_under_every_policy(
    serve: Serve, releases: Any, rows: Any
) -> None:
    """A policy changes nothing for rows in which nothing is odd."""
    found = []
    inside = rows.filter(pl.col("height").is_between(150, 190))
    for policy in ("flag", "reject", "impute"):
        client = serve(releases["binary"], settings={"input": {"policy": policy}})
        found.append(client.post("/predict", plain(inside)).json().get("predictions"))
    assert found[0] == found[1] == found[2]


def test_policies_for_no_column_are_refused(releases: Any) -> None:
    """A policy of a column that no model reads is an error that names the nearest."""
    with pytest.raises(SettingsError, match=r"names 'citty', which no served model reads\. .*city"):
        refuse_unknown([CONTRACT], {"input.columns": {"citty": "flag"}, "log.hash": ["x"]})


def test_a_column_that_must_not_miss_cannot_be_imputed(releases: Any) -> None:
    """Imputing is refused at start where the contract allows no missing cell."""
    from dataclasses import replace

    release = releases["binary"]
    columns = tuple(replace(c, missing="error") for c in release.contract.columns)
    facts = release.facts | {"contract": replace(release.contract, columns=columns).to_dict()}
    changed = type(release)(release.artifact)
    changed.facts = facts
    with pytest.raises(SettingsError, match="it must have no missing cell"):
        Door(changed, InputSettings(policy="impute"))


def window(**change: Any) -> dict[str, list[Any]]:
    """500 rows of another seed, some columns changed."""
    table = mixed_table(500, seed=11).drop("bought", "kind", "spent")
    checked, _ = CONTRACT.check(table.with_columns(**change))
    return checked.to_dict(as_series=False)


def flags(found: dict[str, list[Any]]) -> set[tuple[str, str]]:
    """Columns and what is wrong."""
    return {(flag.column, flag.what) for flag in judge(CONTRACT.columns, found)}


def test_a_clean_window_has_no_flag() -> None:
    """Twenty windows of rows like those of training are not flagged."""
    for seed in range(20):
        table = mixed_table(500, seed=100 + seed).drop("bought", "kind", "spent")
        checked, _ = CONTRACT.check(table)
        assert judge(CONTRACT.columns, checked.to_dict(as_series=False)) == ()


@pytest.mark.parametrize(
    ("factor", "words"),
    [(10, "times 10"), (0.1, "divided by 10"), (1000, "times 1,000"), (2.54, "centimetres"),
     (1 / 2.54, "inches")],
)  # fmt: skip
def test_another_unit_is_named(factor: float, words: str) -> None:
    """A column in another unit is flagged with the factor."""
    found = judge(CONTRACT.columns, window(height=pl.col("height") * factor))
    assert [(flag.column, flag.what) for flag in found] == [("height", "unit")]
    assert words in found[0].text


def test_a_shift_is_no_unit() -> None:
    """A column that moved, but to no known unit, is monitoring's to judge, not a unit."""
    assert flags(window(height=pl.col("height") + 60)) == set()


def test_a_unit_must_fit_low_and_high_values() -> None:
    """Values about ten times training's middle, but all alike, are no column times ten."""
    alike = 1700 + pl.int_range(pl.len()) * 0.001
    assert flags(window(height=alike)) == set()


def test_swapped_columns_are_named() -> None:
    """Two columns that hold each other's values are flagged, both."""
    wide = {"x": window()["height"], "height": window()["x"]}
    assert flags(window() | wide) == {("x", "swapped"), ("height", "swapped")}


@pytest.mark.parametrize(
    ("name", "value"), [("height", 170.0), ("city", "Lima"), ("flag", True), ("x", None)]
)
def test_a_column_that_stands_is_named(name: str, value: Any) -> None:
    """One value only, or nothing but missing cells, where training had more."""
    assert flags(window(**{name: pl.lit(value)})) == {(name, "constant")}


def test_a_rare_level_is_not_constant() -> None:
    """A column that was nearly constant in training may be constant in a window."""
    table = pl.DataFrame({"a": ["x"] * 99 + ["y"], "b": range(100)})
    schema = Schema((Column("a", "category"), Column("b", "number")), "regression")
    contract = InputContract.learn(table, schema)
    cells = {"a": ["x"] * 500, "b": [n % 100 for n in range(500)]}
    assert judge(contract.columns, cells) == ()


def test_extreme_values_break_no_window() -> None:
    """Infinite, huge and missing numbers are judged without an error."""
    values = np.array([1e308, -1e308, 0.0, 1.0, 5e-324] * 100)
    assert isinstance(flags(window(height=pl.Series(values))), set)


def test_quantiles_are_those_of_numpy() -> None:
    """A window's quantiles are numpy's, of the finite cells alone."""
    chance = np.random.default_rng(0)
    cells = {name: chance.normal(size=41).tolist() for name in "abc"}
    cells["b"][:7] = [None, math.nan, math.inf, -math.inf, None, None, None]
    cells["c"] = [None] * 41
    found = _quantiles(cells)
    assert sorted(found) == ["a", "b"]
    for name in found:
        finite = [v for v in cells[name] if v is not None and math.isfinite(v)]
        np.testing.assert_allclose(found[name], np.quantile(finite, QUANTILES), rtol=1e-12)


def test_a_window_flag_comes_with_the_answers_and_goes(
    serve: Serve, releases: Any, rows: Any
) -> None:
    """After a window in another unit each answer says so, until a clean window."""
    client = serve(releases["binary"], settings={"input": {"window_rows": 40}})
    data = plain(mixed_table(40, seed=5).drop("bought", "kind", "spent"))
    wrong = [row | {"height": row["height"] * 10} for row in data]
    client.post("/predict", wrong)
    _until(lambda: client.metric("window_flags", what="unit") == 1)
    told = client.post("/predict", data[0]).json()["remarks"]
    assert [(r["column"], r["what"]) for r in told] == [("height", "unit")]

    def clean() -> bool:  # rows that come while the window rests are in none
        client.post("/predict", data)
        return client.metric("window_flags", what="unit") == 0

    _until(clean)
    assert client.post("/predict", data[0]).json()["remarks"] == []


def test_a_window_of_rows_and_tables() -> None:
    """Single rows and tables fill one window."""
    frame = mixed_table(30, seed=4).drop("bought", "kind", "spent")
    checked, _ = CONTRACT.check(frame)
    gathered = InputWindow(CONTRACT.columns, 40)
    assert not gathered.add_frame(checked)
    rows = [CONTRACT.check_row(row) for row in frame.head(10).to_dicts()]
    assert [gathered.add_row(row) for row in rows] == [False] * 9 + [True]
    assert isinstance(gathered.take()(), tuple)
    assert not any(gathered.add_row(row) for row in rows * 5)  # it rests until it is told
    gathered.resume()
    assert [gathered.add_row(row) for row in rows * 4].index(True) == 39
    assert not InputWindow(CONTRACT.columns, 0).add_row(rows[0])


def _until(done: Any, seconds: float = 10.0) -> None:
    import time

    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)
