"""A search that is killed at any moment: no trial lost, none run twice, the same study."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.line.processes import assert_whole, finish, run, start, summary_of, write_project

from loopline.line.project import open_project
from loopline.line.search_arms import TRIAL
from loopline.search.record import Record

TRIALS = 10
SETTINGS: dict[str, Any] = {"models": ["baseline", "linear", {"lightgbm": {"rounds": 10}}]}


def project(folder: Path, **search: Any) -> Path:
    return write_project(folder, **SETTINGS, search={"trials": TRIALS, **search})


def recorded(folder: Path) -> list[Record]:
    """The trials that the ledger holds, in the order in which they were written."""
    with open_project(folder / ".loopline") as opened:
        events = opened.ledger.events(kind=TRIAL)
    return [Record.from_dict(event.data["record"]) for event in events]


def count(folder: Path) -> int:
    """How many trials are recorded now, read beside the process that writes them."""
    file = folder / ".loopline" / "ledger.db"
    if not file.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5) as connection:
            found = connection.execute("SELECT count(*) FROM events WHERE kind = ?", (TRIAL,))
            return int(found.fetchone()[0])
    except sqlite3.OperationalError:  # it is just being made
        return 0
    finally:
        if "connection" in locals():
            connection.close()


@dataclass(frozen=True)
class Reference:
    """An uninterrupted search: its study, and its records without times."""

    study: str
    facts: list[dict[str, Any]]


def reference_of(folder: Path, **search: Any) -> Reference:
    summary = run(project(folder, **search))
    return Reference(summary["digests"]["study"], [each.facts() for each in recorded(folder)])


def kill_after(child: subprocess.Popen[str], folder: Path, trials: int, more: float) -> bool:
    """`kill -9` once so many trials are recorded, and a little later; False if it ended before."""
    while child.poll() is None and count(folder) < trials:
        time.sleep(0.002)
    try:
        child.wait(more)
    except subprocess.TimeoutExpired:
        child.kill()
    child.communicate()
    return child.returncode == -signal.SIGKILL


def campaign(folder: Path, kills: int, seed: int, **search: Any) -> None:
    """Kill searches at random moments until so many were killed; each ends as the quiet one."""
    chance = random.Random(seed)
    quiet = reference_of(folder / "quiet", **search)
    done, number = 0, 0
    while done < kills:
        number += 1
        place = project(folder / f"{number}", **search)
        for _ in range(min(5, kills - done)):
            before = (
                [record.to_dict() for record in recorded(place)] if done and count(place) else []
            )
            target = chance.randint(count(place), TRIALS)
            child = start(place, "run", "--json")
            if not kill_after(child, place, target, chance.choice([0.0, 0.005, 0.02, 0.1])):
                break
            done += 1
            kept = [record.to_dict() for record in recorded(place)]
            assert kept[: len(before)] == before  # nothing is lost
            assert_whole(place)
        summary = summary_of(start(place, "run", "--json"))
        assert summary["digests"]["study"] == quiet.study
        records = recorded(place)
        assert sorted(record.number for record in records) == list(range(TRIALS))  # none twice
        ordered = sorted(records, key=lambda record: record.number)
        assert [record.facts() for record in ordered] == sorted(
            quiet.facts, key=lambda facts: facts["number"]
        )
        assert_whole(place)


def test_a_killed_search_comes_to_the_same_study(tmp_path: Path) -> None:
    """After 5 SIGKILLs at random moments every trial stands there once, and the study is equal."""
    campaign(tmp_path, 5, seed=1)


@pytest.mark.slow
def test_fifty_kills_lose_nothing(tmp_path: Path) -> None:
    """After 50 SIGKILLs, half of them with two trials at a time, nothing is lost or run twice."""
    campaign(tmp_path / "one", 25, seed=2)
    campaign(tmp_path / "two", 25, seed=3, parallel=2)


def children(parent: int) -> list[int]:
    """Processes that a process started, as Linux tells."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:  # it has just gone
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


@pytest.mark.slow
def test_no_worker_outlives_a_killed_search(tmp_path: Path) -> None:
    """`kill -9` of the search ends its workers; the same command makes the other trials."""
    place = project(tmp_path / "killed", parallel=2)
    child = start(place, "run", "--json")
    while count(place) < 4:
        time.sleep(0.002)
    workers = children(child.pid)
    child.kill()
    child.communicate()
    assert len(workers) == 2
    limit = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < limit
        time.sleep(0.05)
    run(place)
    assert sorted(record.number for record in recorded(place)) == list(range(TRIALS))


def test_ctrl_c_gives_the_best_so_far_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """SIGINT during a search: a release of the best of its trials; run again, all trials."""
    place = project(tmp_path / "stopped")
    child = start(place, "run", "--json")
    while count(place) < 3:
        time.sleep(0.002)
    child.send_signal(signal.SIGINT)
    code, out, err = finish(child)
    assert code == 0, out + err
    assert "Interrupted: going on with the best of" in err
    assert '"stopped": "interrupted"' in out
    whole = run(place)["search"]
    assert (whole["stopped"], whole["trials"]["asked"]) == ("", TRIALS)
