"""Networks in a line: a kill in the midst of a fit, and a line under torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.line.processes import finish, outcome, run, start, write_project

MODELS: list[Any] = [{"mlp": {"epochs": 30, "width": 16, "members": 2, "patience": 0}}]


def fits(folder: Path) -> list[Path]:
    """The folders of fits that are going on."""
    place = folder / ".loopline" / "fits"
    return list(place.glob("*")) if place.exists() else []


@pytest.mark.slow
def test_a_fit_that_is_killed_goes_on_in_the_line(tmp_path: Path) -> None:
    """Killed in each of three fits, the line gives the digests of an uninterrupted one."""
    whole = run(write_project(tmp_path / "whole", models=MODELS))
    folder = write_project(tmp_path / "killed", models=MODELS)
    seen: set[str] = set()
    for _ in range(3):
        child = start(folder, "run", "--json")
        while child.poll() is None:
            here = {place.name for place in fits(folder)} - seen
            if here:
                time.sleep(0.2)
                seen |= here
                break
            time.sleep(0.002)
        child.kill()
        child.communicate()
    assert outcome(run(folder)) == outcome(whole)
    assert fits(folder) == []


@pytest.mark.slow
def test_a_line_runs_under_torchrun(tmp_path: Path) -> None:
    """Two processes of one command give one summary, and the network's readings name both."""
    folder = write_project(tmp_path / "line", models=MODELS, audit="report")
    child = subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
            "-m", "loopline", "run", "--json",
        ],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    code, out, err = finish(child)
    assert code == 0, err[-3000:]
    summary = json.loads(out)
    assert {entry["name"] for entry in summary["candidates"]} == {"baseline", "mlp"}
    alone = run(write_project(tmp_path / "alone", models=MODELS, audit="report"))
    scores = [
        next(entry for entry in each["candidates"] if entry["name"] == "mlp")["metrics"]["auc"]
        for each in (summary, alone)
    ]
    assert scores[0]["value"] == pytest.approx(scores[1]["value"], abs=0.05)
