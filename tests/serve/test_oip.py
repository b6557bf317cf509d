"""Open Inference Protocol v2: metadata, JSON and binary tensors, and what breaks the protocol."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.serve.conftest import Client, plain

KINDS = {"x": "FP64", "height": "FP64", "size": "INT64", "flag": "BOOL"}
LENGTH = "Inference-Header-Content-Length"


def tensors(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON tensors."""
    data = plain(rows)
    return [
        {"name": name, "datatype": KINDS.get(name, "BYTES"), "shape": [len(data), 1],
         "data": [row[name] for row in data]}
        for name in rows.columns
    ]  # fmt: skip


def packed(rows: pl.DataFrame) -> tuple[list[dict[str, Any]], bytes]:
    """Rows as binary tensors: their heads, and the bytes of all."""
    heads, parts = [], []
    for tensor in tensors(rows):
        cells = tensor.pop("data")
        if tensor["datatype"] == "BYTES":
            each = [str(cell).encode() for cell in cells]
            data = b"".join(len(cell).to_bytes(4, "little") + cell for cell in each)
        else:
            kind = {"FP64": "<f8", "INT64": "<i8", "BOOL": "?"}[tensor["datatype"]]
            filled = [np.nan if cell is None else cell for cell in cells]
            data = np.array(filled, dtype=kind).tobytes()
        heads.append(tensor | {"parameters": {"binary_data_size": len(data)}})
        parts.append(data)
    return heads, b"".join(parts)


def ask(client: Client, request: Any, data: bytes = b"", length: int | None = None) -> Any:
    """An inference with binary data behind its JSON."""
    head = json.dumps(request).encode()
    headers = {LENGTH: str(len(head) if length is None else length)}
    return client.post("/v2/models/binary/infer", head + data, headers)


def test_binary_tensors_both_ways(client: Client, releases: Any, rows: pl.DataFrame) -> None:
    """Binary inputs give the bits of `predict`, in binary outputs where these are asked for."""
    inputs, data = packed(rows)
    answer = ask(client, {"inputs": inputs, "parameters": {"binary_data_output": True}}, data)
    size = int(answer.headers[LENGTH.lower()])
    told = json.loads(answer.body[:size])
    wanted = releases["binary"].predict(rows)
    labels, chances = told["outputs"]
    start = size + labels["parameters"]["binary_data_size"]
    found = np.frombuffer(answer.body[start:], "<f8").reshape(chances["shape"])
    assert np.array_equal(found, wanted.drop("prediction").to_numpy())
    first = answer.body[size : size + 4]
    assert answer.body[size + 4 : size + 4 + int.from_bytes(first, "little")] in (b"yes", b"no")


def test_one_output_as_json(client: Client, rows: pl.DataFrame) -> None:
    """Only the outputs that were asked for come, each in its own encoding."""
    wanted = [{"name": "probability", "parameters": {"binary_data": False}}]
    told = ask(client, {"inputs": tensors(rows), "outputs": wanted, "id": "a"}).json()
    assert [tensor["name"] for tensor in told["outputs"]] == ["probability"]
    assert told["id"] == "a"


def test_metadata(client: Client) -> None:
    """A client learns names, types and shapes before it asks."""
    told = client.get("/v2/models/multiclass").json()
    assert {"name": "size", "datatype": "INT64", "shape": [-1]} in told["inputs"]
    assert told["outputs"] == [
        {"name": "prediction", "datatype": "INT64", "shape": [-1]},
        {"name": "probability", "datatype": "FP64", "shape": [-1, 3]},
    ]
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/models/multiclass/ready").status == 200
    assert client.get("/v2/models/nothing/ready").status == 404


def changed(rows: pl.DataFrame, **change: Any) -> list[dict[str, Any]]:
    """Tensors of which the one of `size` differs."""
    return [t | change if t["name"] == "size" else t for t in tensors(rows)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shape": [2]}, "its shape says 2"),
        ({"shape": [60, 2]}, "needs the `shape`"),
        ({"shape": [-60]}, "needs the `shape`"),
        ({"shape": "60"}, "needs the `shape`"),
        ({"shape": [10**18]}, "its shape says"),
        ({"datatype": "INT65"}, "needs a `datatype`"),
        ({"datatype": "UINT8"}, ""),
        ({"datatype": "INT8", "data": [300] * 60}, "numbers beyond INT8"),
        ({"data": ["a"] * 60}, "cells that are no INT64"),
        ({"data": [1.5] * 60}, "cells that are no INT64"),
        ({"data": [[[1]]] * 60}, "cells that are no INT64"),
        ({"data": None}, "needs a list of `data`"),
        ({"name": 5}, "an object with a `name`"),
        ({"name": "x"}, "came twice"),
        ({"parameters": 3}, "`parameters` must be an object"),
        ({"parameters": {"binary_data_size": 8}}, "does not fit the body"),
        ({"parameters": {"binary_data_size": -8}}, "does not fit the body"),
    ],
)
def test_tensors_that_break_the_protocol(
    client: Client, rows: pl.DataFrame, change: dict[str, Any], told: str
) -> None:
    """Each is 400 with the tensor's name and the rule."""
    answer = ask(client, {"inputs": changed(rows, **change)})
    if told:
        assert answer.status == 400
        assert told in answer.json()["error"]
    else:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ([], "an object with a list of `inputs`"),
        ({"inputs": []}, "one tensor for each column"),
        ({"inputs": {}}, "an object with a list of `inputs`"),
        ({"inputs": [1]}, "an object with a `name`"),
    ],
)
def test_requests_that_break_the_protocol(client: Client, request_: Any, told: str) -> None:
    """What is no request is 400."""
    answer = ask(client, request_)
    assert (answer.status, told in answer.json()["error"]) == (400, True)


def test_binary_data_that_lies(client: Client, rows: pl.DataFrame) -> None:
    """Too many bytes, too few, lengths beyond the body, and outputs that are not there."""
    inputs, data = packed(rows)
    for sent, told in ((data + b"x", "belong to no input"), (data[:-1], "does not fit the body")):
        answer = ask(client, {"inputs": inputs}, sent)
        assert (answer.status, told in answer.json()["error"]) == (400, True)
    for length in (10**9, "x", "-1"):
        answer = ask(client, {"inputs": inputs}, data, length)  # type: ignore[arg-type]
        assert (answer.status, "is not a length" in answer.json()["error"]) == (400, True)
    (city,) = [n for n, tensor in enumerate(inputs) if tensor["name"] == "city"]
    before = sum(t["parameters"]["binary_data_size"] for t in inputs[:city])
    lied = data[:before] + b"\xff\xff\xff\x7f" + data[before + 4 :]
    answer = ask(client, {"inputs": inputs}, lied)
    assert (answer.status, "elements with lengths" in answer.json()["error"]) == (400, True)
    answer = ask(client, {"inputs": tensors(rows), "outputs": [{"name": "secret"}]})
    assert (answer.status, "has the outputs prediction" in answer.json()["error"]) == (400, True)


def test_single_precision_means_what_it_says(client: Client, rows: pl.DataFrame) -> None:
    """FP32 cells are the nearest single-precision numbers, in JSON as in binary."""
    one = rows.head(1)
    as_single = [t | {"datatype": "FP32"} if t["name"] == "height" else t for t in tensors(one)]
    row = plain(one)[0]
    row["height"] = float(np.float32(row["height"]))
    got = ask(client, {"inputs": as_single}).json()["outputs"][1]["data"]
    wanted = client.post("/predict/binary", row).json()["probability"]
    assert got == list(wanted.values())
