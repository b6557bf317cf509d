"""A line that is killed at any moment goes on and gives what an uninterrupted one gives."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.line.processes import (
    assert_whole,
    finish,
    leftovers,
    outcome,
    run,
    start,
    write_project,
)

from loopline.line.project import open_project
from loopline.line.verify import verify
from loopline.store.artifacts import Store

KILLS_A_PROJECT = 6


@dataclass(frozen=True)
class Reference:
    """One uninterrupted run.

    Args:
        outcome: its digests.
        names: its artifacts.
        until_work: seconds until its first line of progress.
        seconds: seconds it took.
    """

    outcome: dict[str, str]
    names: frozenset[str]
    until_work: float
    seconds: float


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """An uninterrupted run in a project of its own, timed on a warm machine."""
    run(write_project(tmp_path_factory.mktemp("warm")))
    folder = write_project(tmp_path_factory.mktemp("reference"))
    began = time.monotonic()
    child = start(folder, "run", "--json")
    assert child.stderr is not None
    child.stderr.readline()
    until_work = time.monotonic() - began
    assert finish(child)[0] == 0
    seconds = time.monotonic() - began
    summary = run(folder)
    assert summary["found"]
    names = frozenset(Store.open(folder / ".loopline").ids())
    return Reference(outcome(summary), names, until_work, seconds)


def num_artifacts(project: Path) -> int:
    """How many artifacts stand in the store's folder."""
    return sum(1 for _ in (project / ".loopline" / "artifacts").glob("*/*/*"))


def kill(child: subprocess.Popen[str], after: float) -> bool:
    """`kill -9` a process after so many seconds; False when it ended before."""
    try:
        child.wait(after)
    except subprocess.TimeoutExpired:
        child.kill()
    child.communicate()
    return child.returncode == -signal.SIGKILL


def kill_once(project: Path, reference: Reference, chance: random.Random) -> bool:
    """Kill the project's line: at any second of it, or just after any of its artifacts came.

    Half of the time goes into imports, so seconds alone would hardly meet the later stages.
    """
    child = start(project, "run", "--json")
    missing = len(reference.names) - num_artifacts(project)
    if not missing or chance.random() < 0.3:
        return kill(child, chance.uniform(0, reference.seconds))
    target = len(reference.names) - chance.randrange(missing)
    while child.poll() is None and num_artifacts(project) < target:
        time.sleep(0.001)
    return kill(child, chance.choice([0.0, 0.003, 0.01, 0.03, 0.1]))


def campaign(folder: Path, reference: Reference, num_kills: int, seed: int) -> list[int]:
    """Kill lines at random moments and let each project finish; artifacts at hand at each kill."""
    chance = random.Random(seed)
    counts: list[int] = []
    number = 0
    while len(counts) < num_kills:
        number += 1
        project = write_project(folder / f"{number}")
        for _ in range(min(KILLS_A_PROJECT, num_kills - len(counts))):
            if not kill_once(project, reference, chance):
                break  # it was faster
            counts.append(assert_whole(project))
        summary = run(project)
        assert outcome(summary) == reference.outcome
        store = Store.open(project / ".loopline")
        assert frozenset(store.ids()) == reference.names
        assert_whole(project)
        with open_project(project / ".loopline") as opened:
            verify(opened, summary["release"])
            assert opened.run("latest").state == "finished"
        time.sleep(0.01)
        store.collect(store.ids(), grace_seconds=0.0)
        assert frozenset(store.ids()) == reference.names
    code, out, err = finish(start(project, "verify", "latest"))
    assert code == 0, out + err
    assert run(project)["found"]
    return counts


def test_killed_line_gives_the_same_digests(reference: Reference, tmp_path: Path) -> None:
    """After 12 kills at random moments every project ends with the digests of a quiet run."""
    counts = campaign(tmp_path, reference, 12, seed=5)
    assert len(counts) == 12


@pytest.mark.slow
def test_many_kills_give_the_same_digests(reference: Reference, tmp_path: Path) -> None:
    """After 60 kills, from the first import to the last event, nothing differs or is left over."""
    counts = campaign(tmp_path, reference, 60, seed=6)
    print(f"artifacts at hand at each kill: {counts}")
    assert len(counts) == 60
    assert len(set(counts)) >= 10  # the kills came at different stages


def test_killed_collector_beside_a_running_line(reference: Reference, tmp_path: Path) -> None:
    """Collectors that are killed while a line runs remove no artifact that it uses."""
    project = write_project(tmp_path / "project")
    store = Store.open(project / ".loopline")
    old = time.time() - 7200
    for number in range(60):
        name = store.put("note", lambda folder: None, meta={"n": number}).id
        shelf = project / ".loopline/artifacts/note" / name.removeprefix("note-")[:2]
        os.utime(shelf / name / "manifest.json", (old, old))
    line = start(project, "run", "--json")
    chance = random.Random(7)
    while not (project / ".loopline" / "ledger.db").exists():
        time.sleep(0.02)
    while line.poll() is None:
        collector = start(project, "gc", "--keep", "0", "--grace", "3600")
        kill(collector, chance.uniform(0.5, 1.0) * reference.until_work)
    code, out, err = finish(line)
    assert code == 0, out + err
    code, out, err = finish(start(project, "gc", "--keep", "0", "--grace", "3600"))
    assert code == 0, out + err
    assert frozenset(store.ids()) == reference.names
    assert_whole(project)
    assert outcome(run(project)) == reference.outcome
    assert leftovers(store) == 0


def test_interrupt_gives_130_and_the_same_command_goes_on(
    reference: Reference, tmp_path: Path
) -> None:
    """Ctrl-C ends a line with exit code 130 and no leftovers; run again, it goes on to the end."""
    project = write_project(tmp_path / "project")
    child = start(project, "run")
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("fit the candidates"):
            break
    child.send_signal(signal.SIGINT)
    code, out, err = finish(child)
    assert code == 130, out + err
    assert "Interrupted; run the same command to go on." in err
    assert_whole(project)
    with open_project(project / ".loopline") as opened:
        assert opened.runs()[0].state == "unfinished"
        assert leftovers(opened.store) == 0
    code, out, err = finish(start(project, "run", "--json"))
    assert outcome(json.loads(out)) == reference.outcome
    assert "was interrupted before; going on" in err
