"""Four promises that hold only as long as one line stands, each seen to fail without it."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.serve.conftest import Client, Serve, plain

import loopline
from loopline.errors import SettingsError
from loopline.serve.feedback import Feedback, Label, read_feedback
from loopline.serve.server import Server
from loopline.serve.service import Service
from loopline.serve.settings import ServeSettings

_KILLED = """
import os, signal, sys
from pathlib import Path
from loopline.serve.feedback import Feedback, Label
feedback = Feedback(Path(sys.argv[1]))
print(feedback.add([Label("id", 0, "0123456789ab", "yes")]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_label_outlives_the_process_that_took_it(tmp_path: Path) -> None:
    """A process that is killed right after it said "new" leaves the label on the disk."""
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "['new']\n", done.stderr
    assert done.returncode == -9
    assert read_feedback(tmp_path)["label"].to_list() == ['"yes"']


def test_commits_of_labels_wait_for_the_disk(tmp_path: Path) -> None:
    """SQLite synchronises each commit (FULL): a power cut takes no label that was answered."""
    feedback = Feedback(tmp_path)
    assert feedback._database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert not feedback._database.in_transaction
    feedback.add([Label("id", 0, "0123456789ab", "yes")])
    assert not feedback._database.in_transaction
    feedback.close()


def test_a_full_disk_refuses_labels_and_keeps_those_it_has(
    serve: Serve, releases: Any, rows: pl.DataFrame, tmp_path: Path
) -> None:
    """Where SQLite finds no room, all labels of the request are 507, and taken when sent again."""
    client = serve(releases["binary"], store=tmp_path)
    ids = [client.post("/predict", row).json()["id"] for row in plain(rows)[:20]]
    assert client.post("/feedback", {"id": ids[0], "label": "yes"}).json() == {"taken": "new"}
    feedback = client.service._feedback
    assert feedback is not None
    database = feedback._database
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count={pages}")
    many = client.post("/predict", plain(rows) * 50).json()["id"]
    labels = [{"id": many, "row": row, "label": "no"} for row in range(3_000)]
    refused = client.post("/feedback", labels)
    assert refused.status == 507
    assert "nothing was taken" in refused.json()["error"]
    assert client.metric("feedback_total", outcome="failed") == len(labels)
    assert read_feedback(tmp_path / "service").height == 1
    database.execute("PRAGMA max_page_count=1000000")
    again = client.post("/feedback", labels)
    assert again.json() == {"taken": ["new"] * len(labels)}
    assert read_feedback(tmp_path / "service").height == 1 + len(labels)


@pytest.mark.parametrize("body", ["row", "rows"])
def test_a_heavy_model_holds_up_no_other(
    serve: Serve, releases: Any, rows: pl.DataFrame, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A light model answers while a heavy one beside it still works on its request."""
    client = serve(releases["binary"], releases["regression"])
    heavy = client.service.deployments["binary"].champion
    begun, let_go = threading.Event(), threading.Event()
    usual, usual_row = heavy.release.raw, heavy.release.raw_row

    def slow(frame: pl.DataFrame) -> Any:
        begun.set()
        let_go.wait(10)
        return usual(frame)

    def slow_row(row: Any) -> Any:
        begun.set()
        let_go.wait(10)
        return usual_row(row)

    monkeypatch.setattr(heavy, "row_seconds", 1.0)
    monkeypatch.setattr(heavy.release, "raw", slow)
    monkeypatch.setattr(heavy, "_raw_row", slow_row)
    data = plain(rows)[0] if body == "row" else plain(rows)[:3]
    answered: list[Any] = []
    asker = threading.Thread(target=lambda: answered.append(client.post("/predict/binary", data)))
    asker.start()
    try:
        assert begun.wait(10)
        light = client.post("/predict/regression", plain(rows)[0])
        assert (light.status, answered, let_go.is_set()) == (200, [], False)
        assert client.get("/v2/health/live").status == 200
        assert not answered
    finally:
        let_go.set()
        asker.join()
    assert answered[0].status == 200


def test_no_port_is_opened_beyond_this_machine_without_a_token(
    releases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal comes before anything is bound, from Python and from the server itself."""
    bound: list[Any] = []
    usual = socket.socket.bind

    class Noted(socket.socket):
        def bind(self, address: Any) -> None:
            bound.append(address)
            usual(self, address)

    monkeypatch.setattr(socket, "socket", Noted)
    with pytest.raises(SettingsError, match="that needs a token"):
        loopline.open_service(releases["binary"], settings={"host": "0.0.0.0"})
    service = Service(ServeSettings(host="0.0.0.0"))
    with pytest.raises(SettingsError, match="that needs a token"), service.closed_on_error():
        Server(service)
    assert bound == []
    with loopline.open_service(releases["binary"]) as running:
        assert Client(running).get("/v2/health/live").status == 200
    assert [address[0] for address in bound] == ["127.0.0.1"]
