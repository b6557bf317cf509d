"""Small releases of every task, served from a thread, and a client that hides nothing."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import loopline
from loopline.serve.server import RunningService

TARGETS = {"binary": "bought", "multiclass": "kind", "regression": "spent"}


def mixed_table(num_rows: int = 400, seed: int = 0) -> pl.DataFrame:
    """Every type of column, missing cells, letters beyond ASCII, and a target for each task."""
    rng = np.random.default_rng(seed)
    x, size = rng.normal(size=num_rows), rng.integers(1, 200, num_rows)
    city = rng.choice(["Köln", "Kyoto", "Lima", "Oslo"], num_rows)
    flag = rng.random(num_rows) < 0.4
    score = 1.5 * x + (city == "Lima") + 0.01 * size + flag + rng.normal(scale=0.5, size=num_rows)
    frame = pl.DataFrame(
        {
            "x": np.where(rng.random(num_rows) < 0.05, np.nan, x),
            "size": size,
            "height": rng.normal(170, 9, num_rows),
            "city": city,
            "flag": flag,
            "day": np.datetime64("2020-01-01") + rng.integers(0, 900, num_rows),
            "bought": np.where(score > np.median(score), "yes", "no"),
            "kind": np.digitize(score, np.quantile(score, [0.33, 0.66])),
            "spent": score * 10,
        }
    )
    return frame.with_columns(pl.col("x").fill_nan(None))


def fit(folder: Path, task: str, family: str, seed: int = 0) -> Any:
    """A release that predicts one of the targets."""
    table = mixed_table(seed=seed)
    others = [name for kind, name in TARGETS.items() if kind != task]
    return loopline.fit(
        table.drop(others), TARGETS[task], task=task, models={family: {}}, seed=seed,
        settings={"name": task, "columns": {"day": {"role": "feature"}}}, store=folder,
        progress=False,
    ).release  # fmt: skip


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the releases."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="session")
def releases(store: Path) -> dict[str, Any]:
    """A release of each task, and `other`: another family's for the binary task."""
    return {
        "binary": fit(store, "binary", "lightgbm"),
        "multiclass": fit(store, "multiclass", "lightgbm"),
        "regression": fit(store, "regression", "linear"),
        "other": fit(store, "binary", "linear", seed=1),
    }


@pytest.fixture(scope="session")
def rows() -> pl.DataFrame:
    """New rows without targets."""
    return mixed_table(60, seed=7).drop(list(TARGETS.values()))


def plain(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them."""
    return json.loads(json.dumps(rows.to_dicts(), default=str))


@dataclass
class Answered:
    """A status, headers by lower-case name, and a body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Client:
    """Asks one running service."""

    def __init__(self, running: RunningService) -> None:
        self.running = running
        self.service = running.service
        self.port = int(running.url.rsplit(":", 1)[1])

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answered:
        """One request; what is no bytes is sent as JSON."""
        given = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answered(answer.status, named, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answered:
        """GET."""
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Answered:
        """POST."""
        return self.ask("POST", path, body, headers)

    def metric(self, name: str, **labels: str) -> float:
        """A counter's value."""
        return self.service.metrics.value(name, **labels)


Serve = Callable[..., Client]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves releases until the test ends."""
    with ExitStack() as stack:

        def start(*given: Any, **more: Any) -> Client:
            return Client(stack.enter_context(loopline.open_service(*given, **more)))

        yield start


@pytest.fixture(scope="module")
def client(releases: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The three tasks behind one port, with log and labels; for tests that change nothing."""
    place = tmp_path_factory.mktemp("log")
    given = [releases[task] for task in TARGETS]
    with loopline.open_service(*given, store=place) as running:
        yield Client(running)
