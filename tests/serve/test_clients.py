"""Clients that others wrote for the Open Inference Protocol, each in an environment of its own.

`LOOPLINE_CLIENTS` names a folder with a virtual environment of each package (`FOLDER/kserve`,
`FOLDER/mlserver`); without it a client runs in this environment where its package is installed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.serve.conftest import Client
from tests.serve.test_oip import tensors

HERE = Path(__file__).parent / "clients"


def python_with(package: str) -> str:
    """An interpreter that has the package; skips the test where there is none."""
    own = Path(os.environ.get("LOOPLINE_CLIENTS", os.devnull)) / package / "bin" / "python"
    if own.exists():
        return str(own)
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed, and LOOPLINE_CLIENTS has no {package}")
    return sys.executable


def told_by(package: str, client: Client, rows: pl.DataFrame) -> Any:
    """What a client of others got for rows."""
    done = subprocess.run(
        [python_with(package), str(HERE / f"{package}_client.py"), client.running.url, "binary"],
        input=json.dumps(tensors(rows)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def whole(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows without missing cells, which not every client can write."""
    return rows.drop_nulls()


def agrees(told: Any, releases: Any, rows: pl.DataFrame) -> None:
    """Labels and probabilities are the release's own, to the bit."""
    wanted = releases["binary"].predict(rows)
    assert told["prediction"] == wanted["prediction"].to_list()
    found = np.array(told["probability"]).reshape(len(rows), -1)
    assert np.array_equal(found, wanted.drop("prediction").to_numpy())


def test_kserves_client(client: Client, releases: Any, rows: pl.DataFrame) -> None:
    """KServe's `InferenceRESTClient`: health, JSON and binary tensors with missing cells, refusals.

    A model that is not there is an error with our sentence in it.
    """
    told = told_by("kserve", client, rows)
    assert (told["live"], told["ready"], told["model"], told["nothing"]) == (True,) * 3 + (False,)
    for way in ("json", "binary"):
        assert told[way]["id"] == "from-kserve"
        agrees(told[way], releases, rows)
    assert "404" in told["refused"]
    assert "nothing" in told["refused"]


def test_mlservers_codecs(client: Client, releases: Any, whole: pl.DataFrame) -> None:
    """What MLServer's codecs write is read, and what we answer its codecs read."""
    told = told_by("mlserver", client, whole)
    for way in ("columns", "table"):
        agrees(told[way], releases, whole)
    assert told["columns"]["id"] == "from-mlserver"
