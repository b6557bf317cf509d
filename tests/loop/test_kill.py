"""`kill -9` of the controller at any moment: the same command goes on and decides the same."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.line.processes import assert_whole
from tests.loop.conftest import Shop, customers

from loopline.line.project import open_project
from loopline.loop.diary import Diary


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `loopline watch` in a project's folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "loopline", "watch", *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def decisions(folder: Path) -> list[tuple[str, str, bool]]:
    """What was decided: attempt, challenger, promoted; and nothing else may differ."""
    with open_project(folder / ".loopline") as project:
        diary = Diary(project.ledger, "shop")
        assert len(project.aliases.history("shop", "champion")) == 2
        assert len(diary.entries("triggered")) == len(diary.entries("decided")) == 1
        return [
            (e.data["attempt"], e.data["challenger"], e.data["promoted"])
            for e in diary.entries("decided")
        ]


def waiting(shop: Shop) -> None:
    """A shop in which one look has everything to do, to a promotion."""
    with shop.project() as project:
        Diary(project.ledger, "shop").tell("confirmed", "confirmed", why="known")
    shop.put("b.csv", customers(1000, 1, turned=True))


def settle(folder: Path) -> None:
    """Look until it is decided."""
    for _ in range(5):
        child = start(folder, "--once")
        _, err = child.communicate(timeout=200)
        assert child.returncode == 0, err
        with open_project(folder / ".loopline") as project:
            if Diary(project.ledger, "shop").entries("decided"):
                return
        time.sleep(1.0)
    raise AssertionError("Five looks decided nothing.")


def campaign(shop: Shop, kills: int, seed: int) -> None:
    """Kill controllers at random moments until so many died; each world decides as undisturbed."""
    waiting(shop)
    calm = shop.folder.parent / "calm"
    shutil.copytree(shop.folder, calm)
    began = time.monotonic()
    settle(calm)
    seconds, expected = time.monotonic() - began, decisions(calm)
    chance, dead, number = random.Random(seed), 0, 0
    while dead < kills:
        number += 1
        world = shop.folder.parent / f"world{number}"
        shutil.copytree(shop.folder, world)
        for _ in range(min(4, kills - dead)):
            child = start(world, "--once")
            try:
                child.wait(chance.uniform(0.15, 0.95) * seconds)
            except subprocess.TimeoutExpired:
                child.kill()
            child.communicate()
            if child.returncode != -signal.SIGKILL:
                break
            dead += 1
        settle(world)
        assert decisions(world) == expected
        with open_project(world / ".loopline") as project:
            assert list(project.aliases.all()) == ["shop@champion"]
        assert_whole(world)


def test_a_killed_controller_decides_the_same(shop: Shop) -> None:
    """Two controllers die at random moments of a look that ends in a promotion."""
    campaign(shop, 2, seed=1)


@pytest.mark.slow
def test_killed_controllers_decide_the_same(shop: Shop) -> None:
    """Sixty of them."""
    campaign(shop, 60, seed=2)


@pytest.mark.slow
def test_killed_controllers_decide_the_same_with_a_shadow(shop: Shop) -> None:
    """Twenty of them, of which some die around the trial on live requests, to which none comes."""
    shop.settings(loop={"shadow": {"requests": 1, "within": 0.5}})
    campaign(shop, 20, seed=3)


def test_the_second_controller_ends_and_the_first_goes_on(shop: Shop) -> None:
    """While a controller runs, `--once` says who holds the lease (exit code 2); Ctrl-C ends it."""
    first = start(shop.folder, "--set", "loop.poll=0.2")
    time.sleep(0.1)
    lock = shop.folder / ".loopline"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(lock.rglob("watch-*.lock")):
        time.sleep(0.05)
    time.sleep(0.3)
    second = start(shop.folder, "--once")
    _, err = second.communicate(timeout=60)
    assert second.returncode == 2
    assert f"Process {first.pid} on" in err
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    assert first.returncode == 0
