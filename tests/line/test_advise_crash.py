"""Advice that is killed goes on from the last whole fit and comes to the same answer."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from tests.line.processes import finish, start, write_project

from loopline.line.project import open_project


def told(text: str) -> dict[str, object]:
    """The answer without what differs from run to run: seconds measured, and ids."""
    data: dict[str, object] = json.loads(text)
    steps = data["steps"]
    assert isinstance(steps, list)
    keep = ("kind", "title", "verdict", "worth")
    return {"steps": [{name: step[name] for name in keep} for step in steps]}


@pytest.mark.slow
def test_killed_advice_goes_on_and_says_the_same(tmp_path: Path) -> None:
    """SIGKILL after the first, the third and the sixth fit; the fourth asking gives it all."""
    folders = [write_project(tmp_path / name, models=["linear"]) for name in ("whole", "killed")]
    for folder in folders:
        assert finish(start(folder, "run", "--json"))[0] == 0
    code, whole, _ = finish(start(folders[0], "advise", "--json"))
    assert code == 0
    made = 0
    for after in (1, 3, 6):
        child = start(folders[1], "advise", "--json")
        with open_project(folders[1] / ".loopline") as project:
            while child.poll() is None and len(project.store.ids("refit")) < made + after:
                time.sleep(0.01)
            if child.poll() is None:
                os.kill(child.pid, signal.SIGKILL)
            finish(child)
            before, made = made, len(project.store.ids("refit"))
            assert made > before
    code, killed, _ = finish(start(folders[1], "advise", "--json"))
    assert code == 0
    assert told(killed) == told(whole)
    with (
        open_project(folders[0] / ".loopline") as one,
        open_project(folders[1] / ".loopline") as two,
    ):
        assert one.store.ids("refit") == two.store.ids("refit")
