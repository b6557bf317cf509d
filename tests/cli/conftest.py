"""The command line in this process: its exit code, what it printed, and one finished project."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from tests.line.conftest import make_table

from loopline.cli.app import app
from loopline.cli.edge import guarded


@dataclass(frozen=True)
class Answer:
    """What a command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout."""
        return json.loads(self.out)

    @property
    def message(self) -> str:
        """The error's text, from either stream."""
        return self.out + self.err

    def refuses(self, code: int, *parts: str) -> None:
        """Assert a refusal with this exit code, these parts of its text, and no traceback."""
        assert self.code == code, self.message
        assert "Traceback" not in self.message
        assert "should not have happened" not in self.message
        for part in parts:
            assert part in self.message


Call = Callable[..., Answer]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs one command in this process."""

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        code = guarded(app, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, with a blank in its path."""
    folder = tmp_path / "my work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("LOOPLINE_STORE", "LOOPLINE_LEDGER"):
        monkeypatch.delenv(name, raising=False)
    return folder


def write_line(folder: Path, frame: pl.DataFrame | bytes, **settings: Any) -> None:
    """A table and a settings file that race baseline and linear on it."""
    name = "d.csv"
    if isinstance(frame, bytes):
        (folder / name).write_bytes(frame)
    elif any(dtype == pl.Binary for dtype in frame.dtypes):
        name = "d.parquet"
        frame.write_parquet(folder / name)
    else:
        frame.write_csv(folder / name)
    data = {"data": {"source": name}, "target": "bought", "models": ["baseline", "linear"]}
    text = yaml.safe_dump({**data, **settings}, allow_unicode=True)
    (folder / "loopline.yaml").write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def project_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished line; tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("project")
    write_line(folder, make_table(120))
    make_table(12, seed=5).drop("bought").write_csv(folder / "new.csv")
    make_table(30, seed=6).write_csv(folder / "labelled.csv")
    assert guarded(app, ["run", str(folder), "--json"]) == 0
    return folder


@pytest.fixture
def in_project(project_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished project as working folder."""
    monkeypatch.chdir(project_folder)
    return project_folder


@pytest.fixture
def copied(project_folder: Path, here: Path) -> Path:
    """A copy of the finished project, free to be damaged, as working folder."""
    import shutil

    shutil.copytree(project_folder, here, dirs_exist_ok=True)
    return here
