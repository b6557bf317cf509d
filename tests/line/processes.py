"""Lines that run in processes of their own, to be killed, doubled and compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from tests.line.conftest import make_table

from loopline.line.project import open_project
from loopline.store.artifacts import Store

SETTINGS: dict[str, Any] = {
    "data": {"source": "customers.csv"},
    "target": "bought",
    "threads": 1,
    "split": {"folds": 3},
    "models": ["baseline", "linear", {"lightgbm": {"rounds": 10}}],
}
SECONDS = 240.0


def write_project(folder: Path, **settings: Any) -> Path:
    """A table of 300 rows and a line over it."""
    folder.mkdir(parents=True, exist_ok=True)
    make_table(300).write_csv(folder / "customers.csv")
    text = yaml.safe_dump(SETTINGS | settings)
    (folder / "loopline.yaml").write_text(text, encoding="utf-8")
    return folder


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `loopline` in a project's folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "loopline", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
    )


def finish(child: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a process; its exit code and what it said."""
    try:
        out, err = child.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        out, err = child.communicate()
        raise AssertionError(f"still running after {SECONDS} s: {err[-2000:]}") from None
    return child.returncode, out, err


def summary_of(child: subprocess.Popen[str]) -> dict[str, Any]:
    """The summary that a `loopline run --json` printed."""
    code, out, err = finish(child)
    assert code == 0, f"exit code {code}: {out[-500:]} {err[-3000:]}"
    summary: dict[str, Any] = json.loads(out)
    return summary


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run the project's line to its end; its summary."""
    return summary_of(start(folder, "run", "--json", *arguments))


def outcome(summary: dict[str, Any]) -> dict[str, str]:
    """Release id and every stage's artifact id."""
    return {"release": summary["release"], **summary["digests"]}


def assert_whole(folder: Path) -> int:
    """Every listed artifact proves its bytes, has its inputs, and the ledger can be read."""
    if not (folder / ".loopline" / "format.json").exists():
        return 0
    with open_project(folder / ".loopline") as project:
        ids = set(project.store.ids())
        for name in ids:
            project.store.verify(name)
            assert set(project.store.get(name).inputs.values()) <= ids
        for event in project.ledger.events(kind="stage.finished"):
            assert event.subject in ids
        project.runs()
    return len(ids)


def leftovers(store: Store) -> int:
    """Unfinished work that a collector would remove."""
    return store.collect(store.ids(), grace_seconds=0.0, dry_run=True).num_leftovers


def kill_at_stage(child: subprocess.Popen[str], line: str) -> None:
    """`kill -9` a process once it told this line of progress."""
    assert child.stderr is not None
    for told in child.stderr:
        if told.startswith(line):
            break
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL
