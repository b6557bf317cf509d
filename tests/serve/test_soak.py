"""Long runs: memory stays where it is, and nothing fails while models are replaced."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.serve.conftest import plain
from tests.serve.test_process import first, process

import loopline

LOAD = Path(__file__).resolve().parents[2] / "benchmarks" / "serving_load.py"
TURNS, REQUESTS = 6, 100_000


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


@pytest.mark.slow
def test_memory_is_flat_and_swaps_fail_nothing(
    releases: Any, rows: Any, store: Path, tmp_path: Path
) -> None:
    """Six times 100,000 requests with the log on, a promotion in each: every one is answered, and
    memory after the last is within 15 MB of that after the first."""
    body = tmp_path / "row.json"
    body.write_text(json.dumps(plain(rows)[0]))
    place = ("--store", str(store), "--folder", str(tmp_path / "labels"))
    names = ("binary", "other")
    with loopline.open_project(store) as project:
        project.promote(releases["binary"].id)
        arguments = ("binary@champion", "--port", "0", *place, "--set", "swap_seconds=0.2")
        with process(*arguments, "--json") as started:
            port = first(started)["url"].rsplit(":", 1)[1]
            found = []
            for turn in range(TURNS):
                command = [sys.executable, str(LOAD), port, "/predict", str(body), "8"]
                load = subprocess.Popen([*command, str(REQUESTS)], stdout=subprocess.PIPE)
                project.promote(releases[names[(turn + 1) % 2]].id)
                told, _ = load.communicate()
                assert load.returncode == 0
                assert json.loads(told)["requests"] == REQUESTS
                found.append(resident_mb(started.pid))
            started.terminate()
            assert started.wait(60) == 0
    assert max(found[1:]) - found[0] < 15, found
