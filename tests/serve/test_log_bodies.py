"""Bodies in the prediction log: what they say is what the model saw, or the row is kept instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serve.conftest import Serve, plain
from tests.serve.test_door import CELLS, CONTRACT
from tests.serve.test_records import logged

from loopline.data.schema import Column, Schema
from loopline.errors import DataError
from loopline.features.contract import InputContract
from loopline.serve.log_bodies import Bodies
from loopline.serve.log_table import _columns

BODIES = Bodies(CONTRACT.columns)
USUAL = {
    "x": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5) | st.none(),
    "size": st.integers(0, 200) | st.floats(0, 200) | st.none(),
    "height": st.floats(150, 190) | st.integers(150, 190) | st.none(),
    "city": st.sampled_from(["Lima", "Köln", "Oslo"]) | st.none(),
    "flag": st.booleans() | st.none(),
    "day": st.sampled_from(["2020-05-01", "2021-03-04", "2020-05-01T10:00:00", None]),
}


class _Model:
    """What `_columns` asks of a model."""

    columns = CONTRACT.columns


def read_alike(rows: list[dict[str, Any]]) -> int:
    """Assert that the bodies taken say what the contract gives; how many were taken."""
    taken: list[bytes] = []
    checked: list[tuple[Any, ...]] = []
    for row in rows:
        body = json.dumps(row).encode()
        try:
            read = orjson.loads(body)  # as a request is
            found, _, usual = CONTRACT.inspect_row(read)
        except (orjson.JSONDecodeError, DataError):  # a refused row is logged by nobody
            continue
        if usual and BODIES.say(body, read):
            taken.append(body)
            checked.append(tuple(found.values()))
    if taken:
        wanted = _columns(_Model(), checked)  # type: ignore[arg-type]  # its columns suffice
        found = BODIES.read(taken)
        assert found.schema == wanted.schema
        assert found.equals(wanted)
    return len(taken)


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries(USUAL), min_size=1, max_size=6))
def test_usual_rows_are_read_as_the_contract_reads_them(rows: list[dict[str, Any]]) -> None:
    """Cells and types from the bytes are those that the model saw, to the bit."""
    read_alike(rows)


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries(CELLS, optional={"junk": st.integers()}), max_size=4))
def test_no_odd_row_is_read_otherwise(rows: list[dict[str, Any]]) -> None:
    """Of any rows those that bytes may stand for are read alike, the others are not taken."""
    read_alike(rows)


def test_most_usual_rows_are_taken() -> None:
    """A plain row without a colon in a text goes the short way, one with a time of day does not."""
    row = {"x": 1.5, "size": 20, "height": 170.0, "city": "Lima", "flag": True, "day": "2020-05-01"}
    assert read_alike([row, row | {"x": None}, row | {"size": 20.0}]) == 3
    assert read_alike([row | {"day": "2020-05-01T10:00:00"}]) == 0


def test_whole_numbers_stay_whole_unless_a_fraction_comes() -> None:
    """A lot of whole numbers has their type, a lot with a fraction the one of fractions."""
    row = {"x": 0.0, "height": 170.0, "city": "Lima", "flag": True, "day": "2020-05-01"}
    for sizes, wanted in (([20, 21.0], pl.Int64), ([20, 20.5], pl.Float64)):
        bodies = [orjson.dumps(row | {"size": size}) for size in sizes]
        found = BODIES.read(bodies)["size"]
        assert found.dtype == wanted
        assert found.to_list() == sizes


def test_a_member_that_comes_twice_is_logged_as_the_model_saw_it(
    serve: Serve, releases: Any, rows: Any, tmp_path: Path
) -> None:
    """Two values for one column: the log holds the one that was predicted from."""
    client = serve(releases["binary"], store=tmp_path)
    body = orjson.dumps(plain(rows)[0])
    assert body.startswith(b'{"x":')
    for first in (b'{"x":-1.25,', b'{"city":"Oslo",'):
        head = {"Content-Type": "application/json"}
        assert client.post("/predict", first + body[1:], head).status == 200
    log = logged(client, tmp_path)
    wanted = plain(rows)[0]
    assert log["input.x"].to_list() == [wanted["x"]] * 2
    assert log["input.city"].to_list() == [wanted["city"]] * 2


@pytest.mark.parametrize("broken", [False, True])
def test_rows_and_bodies_give_one_log(
    serve: Serve, releases: Any, rows: Any, tmp_path: Path, broken: bool, monkeypatch: Any
) -> None:
    """60 usual rows one by one are logged as one table of them is, even if their bytes fail."""
    calls = []
    read = Bodies.read

    def reading(self: Bodies, bodies: list[bytes]) -> pl.DataFrame:
        calls.append(len(bodies))
        if broken:
            raise pl.exceptions.ComputeError("no JSON")
        return read(self, bodies)

    monkeypatch.setattr(Bodies, "read", reading)
    client = serve(releases["binary"], store=tmp_path)
    for row in plain(rows):
        assert client.post("/predict", row).status == 200
    log = logged(client, tmp_path)
    assert sum(calls) > 0
    wanted = releases["binary"].predict(rows)
    for name in wanted.columns:
        np.testing.assert_array_equal(log[name].to_numpy(), wanted[name].to_numpy())
    inputs = log.select(pl.col(f"input.{name}").alias(name) for name in rows.columns)
    assert inputs.equals(rows)


@pytest.mark.parametrize(("largest", "able"), [(2**53 - 1, True), (2**53, False)])
def test_whole_numbers_beyond_floating_point_are_kept_as_rows(largest: int, able: bool) -> None:
    """Where training held whole numbers that 53 bits do not tell apart no body is taken."""
    schema = Schema((Column("n", "number"), Column("k", "category")), "regression")
    table = pl.DataFrame({"n": [1, largest], "k": [1, 2]})
    columns = InputContract.learn(table, schema).columns
    assert Bodies(columns).say(b'{"n":1,"k":2}', {"n": 1, "k": 2}) is able
    levels = pl.DataFrame({"n": [1, 2], "k": [1, largest]})
    columns = InputContract.learn(levels, schema).columns
    assert Bodies(columns).say(b'{"n":1,"k":2}', {"n": 1, "k": 2}) is able
