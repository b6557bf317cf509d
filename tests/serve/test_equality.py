"""What comes over HTTP is what `Release.predict` says, to the bit, whatever the way in."""

from __future__ import annotations

import io
from typing import Any

import polars as pl
import pytest
from tests.serve.conftest import TARGETS, Client, Serve, mixed_table, plain

import loopline

TASKS = list(TARGETS)
ARROW = "application/vnd.apache.arrow.stream"


def expected(release: Any, rows: pl.DataFrame) -> list[dict[str, Any]]:
    """What `predict` says, as JSON tells it."""
    table = release.predict(rows)
    told = []
    for row in table.to_dicts():
        answer = {"prediction": row["prediction"]}
        if release.classes:
            answer["probability"] = {str(c): row[f"probability_{c}"] for c in release.classes}
        told.append(answer)
    return told


@pytest.mark.parametrize("task", TASKS)
def test_single_rows(client: Client, releases: Any, rows: pl.DataFrame, task: str) -> None:
    """Each row sent alone gets what `predict` says of a table of that row, every bit of it."""
    for place, row in enumerate(plain(rows)):
        (answer,) = expected(releases[task], rows[place : place + 1])
        got = client.post(f"/predict/{task}", row).json()
        assert {name: got[name] for name in answer} == answer


@pytest.mark.parametrize("task", TASKS)
def test_lists_of_rows(client: Client, releases: Any, rows: pl.DataFrame, task: str) -> None:
    """A list of rows gets a list of the same predictions."""
    got = client.post(f"/predict/{task}", plain(rows)).json()
    assert got["predictions"] == expected(releases[task], rows)


@pytest.mark.parametrize("task", TASKS)
def test_long_lists(client: Client, releases: Any, task: str) -> None:
    """A list that is worked on in threads gets the same answers as a short one."""
    rows = mixed_table(1500, seed=9).drop(list(TARGETS.values()))
    got = client.post(f"/predict/{task}", plain(rows)).json()
    assert got["predictions"] == expected(releases[task], rows)


@pytest.mark.parametrize("task", TASKS)
def test_arrow(client: Client, releases: Any, rows: pl.DataFrame, task: str) -> None:
    """An Arrow stream gets an Arrow stream back that equals the table of `predict`."""
    body = io.BytesIO()
    rows.write_ipc_stream(body)
    got = client.post(f"/predict/{task}", body.getvalue(), {"Content-Type": ARROW})
    assert got.headers["content-type"] == ARROW
    assert pl.read_ipc_stream(io.BytesIO(got.body)).equals(releases[task].predict(rows))


@pytest.mark.parametrize("task", TASKS)
def test_csv(client: Client, releases: Any, rows: pl.DataFrame, task: str, tmp_path: Any) -> None:
    """CSV is read as the release reads a file, and CSV comes back; its floats are whole."""
    file = tmp_path / "rows.csv"
    rows.write_csv(file)
    got = client.post(f"/predict/{task}", file.read_bytes(), {"Content-Type": "text/csv"})
    wanted = releases[task].predict(str(file))
    read = pl.read_csv(io.BytesIO(got.body), schema=wanted.schema)
    assert read.equals(wanted)


@pytest.mark.parametrize("task", TASKS)
def test_inference_protocol(client: Client, releases: Any, rows: pl.DataFrame, task: str) -> None:
    """The Open Inference Protocol's tensors hold the same numbers."""
    kinds = {"x": "FP64", "height": "FP64", "size": "INT64", "flag": "BOOL"}
    data = plain(rows)
    inputs = [
        {"name": name, "datatype": kinds.get(name, "BYTES"), "shape": [len(data)],
         "data": [row[name] for row in data]}
        for name in rows.columns
    ]  # fmt: skip
    got = client.post(f"/v2/models/{task}/infer", {"id": "mine", "inputs": inputs}).json()
    tensors = {tensor["name"]: tensor for tensor in got["outputs"]}
    table = releases[task].predict(rows)
    assert got["id"] == "mine"
    assert tensors["prediction"]["data"] == table["prediction"].to_list()
    if releases[task].classes:
        flat = table.select(pl.selectors.starts_with("probability")).to_numpy().ravel().tolist()
        assert tensors["probability"]["shape"] == [len(data), len(releases[task].classes)]
        assert tensors["probability"]["data"] == flat


def test_the_promotion_gate_asks_the_service(serve: Serve, tmp_path: Any) -> None:
    """The kept rows of a release with true and false as classes are answered over HTTP as in
    training, so the gate lets it pass."""
    table = mixed_table(200, seed=2).drop("bought", "kind", "spent")
    settings = {"name": "gate", "columns": {"day": {"role": "feature"}}}
    given = {"models": "linear", "store": tmp_path, "progress": False, "settings": settings}
    release = loopline.fit(table, "flag", **given).release
    client = serve(release)
    with loopline.open_project(tmp_path) as project:
        url = f"http://127.0.0.1:{client.port}/predict"
        move = project.promote(release.id, through=url)
    assert move.proof["largest"]["over HTTP"] <= 1e-12


def test_short_and_ordinary_way_agree(client: Client, rows: pl.DataFrame) -> None:
    """The short way's answer is the ordinary way's but for the id (an Origin forces that way)."""
    origin = {"Origin": f"http://127.0.0.1:{client.port}"}
    for row in plain(rows)[:10]:
        one = client.post("/predict/binary", row)
        other = client.post("/predict/binary", row, origin)
        assert one.json() | {"id": 0} == other.json() | {"id": 0}
        assert one.headers | {"content-length": 0} == other.headers | {"content-length": 0}


def test_contributions(client: Client, releases: Any, rows: pl.DataFrame) -> None:
    """`/explain` tells what `Release.explain` tells, for one row and for several."""
    wanted = releases["binary"].explain(rows).to_dicts()
    data = plain(rows)
    assert client.post("/explain/binary", data[0]).json()["contributions"] == wanted[0]
    got = client.post("/explain/binary", data).json()["rows"]
    assert [row["contributions"] for row in got] == wanted


def test_remarks_are_those_of_the_contract(client: Client, releases: Any, rows: Any) -> None:
    """An odd row gets the contract's own remarks, on the fast path too."""
    row = plain(rows)[0] | {"size": 9999, "city": "Atlantis", "day": "2031-01-01", "junk": 1}
    frame = pl.DataFrame([row])
    _, wanted = releases["binary"].predict_frame(frame)
    got = client.post("/predict/binary", row).json()
    assert sorted(remark["text"] for remark in got["remarks"]) == sorted(wanted)
    assert {r["what"] for r in got["remarks"]} == {"outside", "unseen", "extra"}
