"""Models that give a row any of several labels, behind HTTP: answers, forms, and what refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.serve.conftest import Client

import loopline
from loopline.errors import DataError
from loopline.serve.log import read_log
from loopline.serve.model import ServedModel
from loopline.serve.settings import InputSettings
from loopline.store.artifacts import Store


def table_of(rows: int = 160, seed: int = 0) -> pl.DataFrame:
    """One number that says which of two labels a row has; some have both, some none."""
    x = np.random.default_rng(seed).normal(size=rows)
    tags = [[*(["high"] if v > 0.4 else []), *(["wide"] if abs(v) > 0.8 else [])] for v in x]
    return pl.DataFrame({"x": x, "tags": tags})


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A release of two labels."""
    return loopline.fit(
        table_of(), "tags", task="multilabel", models=[{"linear": {"penalty": 1.0}}],
        settings={"split": {"folds": 2}}, store=tmp_path_factory.mktemp("store"), progress=False,
    ).release  # fmt: skip


@pytest.fixture(scope="module")
def client(release: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The release behind a port."""
    with loopline.open_service(release, store=tmp_path_factory.mktemp("log")) as running:
        yield Client(running)


ROWS = table_of(30, seed=3).drop("tags")


def test_a_row_is_answered_with_a_list(client: Client, release: Any) -> None:
    """JSON tells the labels as a list and one probability a label, as the release itself does."""
    for row in ROWS.head(8).to_dicts():
        answer = client.post("/predict", row).json()
        expected = release.predict_one(row)
        assert answer["prediction"] == expected["prediction"]
        assert answer["probability"] == expected["probability"]


def test_many_rows_are_answered_alike(client: Client, release: Any) -> None:
    """Several rows of JSON, CSV and Arrow give the lists of `Release.predict`."""
    expected = release.predict(ROWS)["prediction"].to_list()
    assert [] in expected
    told = client.post("/predict", ROWS.to_dicts()).json()
    assert [each["prediction"] for each in told["predictions"]] == expected
    csv = client.post("/predict", ROWS.write_csv().encode(), {"Content-Type": "text/csv"})
    cells = pl.read_csv(csv.body)["prediction"]
    assert [json.loads(cell) for cell in cells] == expected


def test_the_inference_protocol_has_a_truth_value_a_label(client: Client, release: Any) -> None:
    """A tensor holds no lists: `prediction` is [rows, labels] of truth values."""
    name = release.name
    told = client.get(f"/v2/models/{name}").json()
    shapes = {entry["name"]: (entry["datatype"], entry["shape"]) for entry in told["outputs"]}
    assert shapes["prediction"] == ("BOOL", [-1, 2])
    body = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [2], "data": [3.0, 0.0]}]}
    outputs = client.post(f"/v2/models/{name}/infer", body).json()["outputs"]
    found = {entry["name"]: entry for entry in outputs}
    raw, _ = release.probabilities(pl.DataFrame({"x": [3.0, 0.0]}))
    assert found["probability"]["data"] == raw.ravel().tolist()
    assert found["prediction"]["data"] == (raw >= release.threshold).ravel().tolist()
    assert found["prediction"]["shape"] == found["probability"]["shape"] == [2, 2]


def test_feedback_is_a_list_of_labels(client: Client) -> None:
    """The labels of a row are taken as a list; sent in another order they are known already."""
    request = client.post("/predict", {"x": 1.0}).json()["id"]
    sent = {"new": ["high", "wide"], "known": ["wide", "high"], "correction": []}
    for became, labels in sent.items():
        answer = client.post("/feedback", {"id": request, "label": labels})
        assert (answer.status, answer.json()) == (200, {"taken": became})


@pytest.mark.parametrize("sent", ["high", ["high", "deep"], {"high": 1}, 3, None, [["high"]]])
def test_what_is_no_list_of_labels_is_refused(client: Client, sent: Any) -> None:
    """A text without a separator to part it, an unknown label, another type: 422 with the rule."""
    request = client.post("/predict", {"x": 1.0}).json()["id"]
    answer = client.post("/feedback", {"id": request, "label": sent})
    assert answer.status == 422
    rule = "are a list of those that it has, each of them one of 'high', 'wide'"
    assert rule in answer.json()["error"]


def test_labels_as_the_table_writes_them_are_read(tmp_path: Path) -> None:
    """Trained on texts with a separator, a service takes such texts, and lists as well."""
    cells = ["|".join(labels) or "|" for labels in table_of()["tags"].to_list()]
    texts = table_of().with_columns(tags=pl.Series(cells))
    release = loopline.fit(
        texts, "tags", task="multilabel", models=[{"linear": {"penalty": 1.0}}],
        settings={"split": {"folds": 2}, "columns": {"tags": {"separator": "|"}}},
        store=tmp_path, progress=False,
    ).release  # fmt: skip
    model = ServedModel(release, InputSettings())
    assert model.check_label("wide| high ") == model.check_label(["high", "wide"])
    assert model.check_label("|") == []
    with pytest.raises(DataError, match=r"or a text with '\|' between them"):
        model.check_label("deep|high")


def test_answers_are_logged(release: Any, tmp_path: Path) -> None:
    """The log holds the lists and the probabilities beside the inputs."""
    with loopline.open_service(release, store=tmp_path) as running:
        Client(running).post("/predict", ROWS.to_dicts())
        Client(running).post("/predict", ROWS.to_dicts()[0])
    logged = read_log(Store.open(tmp_path), name=release.name)
    expected = release.predict(ROWS)["prediction"].to_list()
    assert logged["prediction"].to_list() == [*expected, expected[0]]
    assert {"probability_high", "probability_wide", "input.x"} <= set(logged.columns)
