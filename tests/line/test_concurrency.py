"""Several processes on one store: all finish, nothing is made twice, the ledger tells it right."""

from __future__ import annotations

import logging
import secrets
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.line.processes import (
    assert_whole,
    finish,
    kill_at_stage,
    leftovers,
    outcome,
    start,
    summary_of,
    write_project,
)

import loopline
from loopline.line.files import read_line
from loopline.line.project import Project, open_project
from loopline.line.runner import run_line
from loopline.progress import SilentReporter

SMALL = ["baseline", "linear"]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger(request: pytest.FixtureRequest) -> list[str]:
    """Arguments of `loopline run` for each kind of ledger; none for the one in the store."""
    if request.param == "sqlite":
        return []
    return ["--set", f"ledger={request.getfixturevalue('postgres_url')}"]


@pytest.fixture(scope="module")
def s3_address() -> Iterator[str]:
    """The endpoint of an S3 server on loopback."""
    pytest.importorskip("s3fs", reason="s3fs is not installed (pip install 'loopline[s3]')")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # moto's own imports
        server_module = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_url(s3_address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A store in a fresh bucket; the environment leads to the loopback server."""
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anyone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("LOOPLINE_CACHE", str(tmp_path / "cache"))
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = f"loopline-{secrets.token_hex(4)}"
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}/store"


def opened(folder: Path, ledger: list[str]) -> Project:
    """The project of a folder with the ledger of the fixture."""
    url = ledger[1].removeprefix("ledger=") if ledger else None
    return open_project(folder / ".loopline", ledger=url)


def alone(folder: Path, *overrides: str, models: Any = SMALL) -> dict[str, str]:
    """What a line gives in a project of its own, with nobody beside it."""
    write_project(folder, models=models)
    return outcome(loopline.run(folder, overrides=overrides, progress=False).summary)


def made(project: Project) -> list[str]:
    """Artifacts of the stages that were computed, one entry a time."""
    events = project.ledger.events(kind="stage.finished")
    return sorted(str(event.subject) for event in events if not event.data["found"])


def assert_told_in_order(project: Project) -> None:
    """Events have rising ids, and every run that began has ended."""
    events = project.ledger.events()
    assert [event.id for event in events] == sorted({event.id for event in events})
    assert {record.state for record in project.runs()} == {"finished"}


def test_identical_lines_do_the_work_once(tmp_path: Path, ledger: list[str]) -> None:
    """Of three equal commands one computes, the others wait and find; all say the same."""
    folder = write_project(tmp_path / "project", models=SMALL)
    children = [start(folder, "run", "--json", *ledger) for _ in range(3)]
    summaries = [summary_of(child) for child in children]
    assert sorted(summary["found"] for summary in summaries) == [False, True, True]
    expected = alone(tmp_path / "alone")
    assert [outcome(summary) for summary in summaries] == [expected] * 3
    with opened(folder, ledger) as project:
        assert len(project.ledger.events(kind="run.started")) == 1
        assert len(project.ledger.events(kind="run.finished")) == 1
        assert len(project.ledger.events(kind="vault.opened")) == 1
        assert len(made(project)) == len(set(made(project)))
        assert_told_in_order(project)


def test_different_lines_share_one_store(tmp_path: Path) -> None:
    """Two lines with the same data and other metrics run at once, each as if it were alone."""
    folder = write_project(tmp_path / "project", models=SMALL)
    metrics = ["auc", "log_loss"]
    children = [start(folder, "run", "--json", "--set", f"objective.metric={m}") for m in metrics]
    for metric, child in zip(metrics, children, strict=True):
        summary = summary_of(child)
        assert outcome(summary) == alone(tmp_path / metric, f"objective.metric={metric}")
    assert_whole(folder)
    with open_project(folder / ".loopline") as project:
        assert_told_in_order(project)
        assert len(project.releases()) == 2
        assert leftovers(project.store) == 0


def test_four_seeds_at_once(tmp_path: Path, ledger: list[str]) -> None:
    """Four lines with four seeds start in the same moment on a new store, and all finish right."""
    folder = write_project(tmp_path / "project", models="baseline")
    children = [start(folder, "run", "--json", "--set", f"seed={n}", *ledger) for n in range(4)]
    summaries = [summary_of(child) for child in children]
    for seed, summary in enumerate(summaries):
        assert outcome(summary) == alone(tmp_path / f"{seed}", f"seed={seed}", models="baseline")
    with opened(folder, ledger) as project:
        assert_told_in_order(project)
        assert len(project.runs()) == 4
        for name in project.store.ids():
            project.store.verify(name)
        assert leftovers(project.store) == 0
        if project.ledger.address.startswith("sqlite"):
            assert sqlite_check(folder / ".loopline" / "ledger.db") == [("ok",)]


def sqlite_check(file: Path) -> list[Any]:
    """What SQLite's own check says of a database."""
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall()


def test_waiting_line_takes_over_from_a_killed_one(tmp_path: Path) -> None:
    """When the process that runs a line is killed, the one that waits for it goes on with it."""
    folder = write_project(tmp_path / "project", models=SMALL)
    first = start(folder, "run", "--json")
    assert first.stderr is not None
    assert first.stderr.readline().startswith("read the data")  # it holds the lock
    second = start(folder, "run", "--json")
    kill_at_stage(first, "fit the candidates")
    summary = summary_of(second)
    assert outcome(summary) == alone(tmp_path / "alone")
    assert_whole(folder)


def test_store_behind_s3(tmp_path: Path, s3_url: str) -> None:
    """On S3, equal lines at once and a killed one give what a folder gives; work is done once."""
    folder = write_project(tmp_path / "project", models=SMALL)
    place = ["--set", f"store={s3_url}", "--set", f"ledger=sqlite:///{tmp_path}/ledger.db"]
    kill_at_stage(start(folder, "run", "--json", *place), "fit the candidates")
    children = [start(folder, "run", "--json", *place) for _ in range(2)]
    summaries = [summary_of(child) for child in children]
    expected = alone(tmp_path / "alone")
    assert [outcome(summary) for summary in summaries] == [expected] * 2
    assert sorted(summary["found"] for summary in summaries) == [False, True]
    code, out, err = finish(
        start(folder, "verify", "latest", "--store", s3_url, "--ledger", place[3][7:])
    )
    assert code == 0, out + err


def test_store_in_memory(tmp_path: Path) -> None:
    """A store in memory gives the digests of a folder, and finds its run again."""
    folder = write_project(tmp_path / "project", models=SMALL)
    line = read_line(folder)
    address = f"memory://{secrets.token_hex(8)}/store"
    with open_project(address, ledger=f"sqlite:///{tmp_path}/ledger.db") as project:
        first = run_line(project, line.spec, line.folder, SilentReporter())
        again = run_line(project, line.spec, line.folder, SilentReporter())
    assert outcome(first.summary) == alone(tmp_path / "alone")
    assert (first.found, again.found) == (False, True)
