"""Two machines, one PostgreSQL ledger and one store: one of them watches, the other takes over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.loop.conftest import FakeClock, Shop, customers, told

import loopline.loop.controller as controllers
from loopline.errors import ConflictError, EnvironmentProblem
from loopline.line.files import read_line
from loopline.line.project import Project, open_project
from loopline.loop.controller import Controller
from loopline.loop.diary import Diary, Entry
from loopline.loop.lease import lease
from loopline.progress import SilentReporter

HOLD = """
import sys, time
from loopline.line.project import open_project
from loopline.loop.lease import lease
with open_project(sys.argv[1], ledger=sys.argv[2]) as project:
    with lease(project, "shop", wait=False, tell=print):
        print("held", flush=True)
        time.sleep(600)
"""


@dataclass
class Machine:
    """A folder with its own copy of the data and its own cache; store and ledger are shared."""

    shop: Shop
    store: str
    ledger: str
    cache: Path

    @property
    def surroundings(self) -> dict[str, str]:
        return {
            **os.environ, "LOOPLINE_CACHE": str(self.cache), "OMP_NUM_THREADS": "1",
            "POLARS_MAX_THREADS": "1", "LOOPLINE_STORE": self.store, "LOOPLINE_LEDGER": self.ledger,
        }  # fmt: skip

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "loopline", "watch", *arguments],
            cwd=self.shop.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self.surroundings,
        )  # fmt: skip

    def hold(self) -> subprocess.Popen[str]:
        """A process that holds the lease and does nothing else."""
        child = subprocess.Popen(
            [sys.executable, "-c", HOLD, self.store, self.ledger],
            stdout=subprocess.PIPE, text=True, env=self.surroundings,
        )  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        return child

    def project(self) -> Project:
        return open_project(self.store, ledger=self.ledger)

    def entries(self, what: str) -> list[Entry]:
        with self.project() as project:
            return Diary(project.ledger, "shop").entries(what)


@pytest.fixture
def pair(tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> list[Machine]:
    """Two machines with the same line; this process is the first one."""
    made: list[Machine] = []
    for name in ("one", "two"):
        shop = Shop(tmp_path / name)
        (shop.folder / "data").mkdir(parents=True)
        shop.settings()
        shop.put("a.csv", customers(1000, 0))
        made.append(Machine(shop, f"local://{tmp_path}/store", postgres_url, tmp_path / f"c{name}"))
    monkeypatch.setenv("LOOPLINE_CACHE", str(made[0].cache))
    return made


@pytest.fixture
def machines(pair: list[Machine]) -> list[Machine]:
    """Two machines whose line has a champion, and one file whose rows would replace it."""
    look(pair[0])
    with pair[0].project() as project:
        Diary(project.ledger, "shop").tell("confirmed", "confirmed", why="known")
    for machine in pair:
        machine.shop.put("b.csv", customers(1000, 1, turned=True))
    return pair


def look(machine: Machine, clock: FakeClock | None = None) -> list[Entry]:
    """One look of a controller in this process."""
    with machine.project() as project:
        line = read_line(machine.shop.folder)
        given = (clock or FakeClock()).clock()
        return Controller(project, line, SilentReporter(), clock=given).once()


def until(holds: Any, child: subprocess.Popen[str], seconds: float = 60) -> None:
    """Wait until something holds, as long as a process lives."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.postgres
def test_another_machine_finishes_what_a_killed_one_began(machines: list[Machine]) -> None:
    """`kill -9` in the middle of an attempt: `loopline watch --once` elsewhere gets the lease and
    decides that very attempt, once."""
    one, two = machines
    first = one.start()
    until(lambda: one.entries("triggered"), first)
    first.kill()
    first.communicate()
    assert not one.entries("decided")
    second = two.start("--once")
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert "Promoted" in out
    (began,), (decided,) = two.entries("triggered"), two.entries("decided")
    assert began.data["attempt"] == decided.data["attempt"]
    with two.project() as project:
        assert len(project.aliases.history("shop", "champion")) == 2


@pytest.mark.postgres
def test_a_waiting_machine_goes_on_when_the_first_is_killed(pair: list[Machine]) -> None:
    """A second controller says that another machine watches, waits, and watches as soon as that
    one is dead."""
    one, two = pair
    first = one.hold()
    second = two.start("--set", "loop.poll=0.2")
    assert second.stderr is not None
    assert "A controller elsewhere watches 'shop' already. Waiting" in second.stderr.readline()
    assert not two.entries("arrived")
    first.kill()
    first.communicate()
    until(lambda: two.entries("arrived"), second)
    second.send_signal(signal.SIGTERM)
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err


@pytest.mark.postgres
def test_a_clock_that_jumps_frees_no_lease(
    machines: list[Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease has no term: a holder whose clock stands ten years off holds it all the same, and
    what it began is finished by a machine whose clock is right."""
    one, two = machines
    clock = FakeClock(offset=-10 * 365 * 86_400)

    def die(*given: Any) -> Any:
        raise KeyboardInterrupt

    with one.project() as project, lease(project, "shop", wait=False, tell=print) as held:
        with monkeypatch.context() as patch:
            patch.setattr("loopline.loop.decide.Decider._judged", die)
            with pytest.raises(KeyboardInterrupt):
                look(one, clock)
        monkeypatch.setenv("LOOPLINE_CACHE", str(two.cache))
        with two.project() as other:
            waits = lease(other, "shop", wait=False, tell=print)
            with pytest.raises(ConflictError, match="A controller elsewhere"), waits:
                pass
        assert held()
    with two.project() as other, lease(other, "shop", wait=False, tell=print):
        news = look(two)
    assert "Promoted" in told(news, "decided")[0]
    assert len(two.entries("triggered")) == 1


def cut(ledger: str) -> None:
    """Break every connection to the ledger, as a network or a restart of the server does."""
    import psycopg

    with psycopg.connect(ledger, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.postgres
def test_a_lease_that_broke_is_taken_anew(
    pair: list[Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks and nobody else came: the holder holds it again, others are refused."""
    one, two = pair
    with one.project() as project, lease(project, "shop", wait=False, tell=print) as held:
        assert held()
        cut(one.ledger)
        assert held()
        monkeypatch.setenv("LOOPLINE_CACHE", str(two.cache))
        with two.project() as other:
            waits = lease(other, "shop", wait=False, tell=print)
            with pytest.raises(ConflictError), waits:
                pass


@pytest.mark.postgres
def test_a_holder_whose_lease_went_to_another_looks_no_more(
    pair: list[Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks and another machine takes over: the first stands still, says so once,
    and goes on when the other has ended."""
    one, two = pair
    said: list[str] = []
    looks: list[str] = []
    with one.project() as project, lease(project, "shop", wait=False, tell=said.append) as held:
        monkeypatch.setenv("LOOPLINE_CACHE", str(two.cache))
        cut(one.ledger)
        line = read_line(one.shop.folder)
        clock = FakeClock().clock()
        controller = Controller(project, line, SilentReporter(), clock=clock)
        monkeypatch.setattr(controller, "once", lambda: looks.append("look"))
        with two.project() as other, lease(other, "shop", wait=False, tell=print):
            turns = iter([False] * 400)
            controller.run(lambda: next(turns, True), held)
            assert looks == []
        turns = iter([False])
        controller.run(lambda: next(turns, True), held)
    assert looks == ["look"]
    assert len(said) == 1
    assert "a controller elsewhere watches 'shop' since" in said[0]


@pytest.mark.postgres
def test_a_machine_without_power_frees_the_lease_within_a_minute(postgres_url: str) -> None:
    """The server asks after a silent holder: 30 s, then three times within half a minute."""
    with open_project("memory://store", ledger=postgres_url) as project:
        with project.ledger.alone("shop", lambda: None):
            pass
        asked = {
            name: project.ledger._database.select(f"SHOW {name}", {})[0][name]
            for name in ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
        }
    assert list(asked.values()) == ["30", "10", "3"]


def test_a_ledger_that_is_away_ends_no_controller(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be written down while the server restarts: the controller looks again."""
    turns, tries = iter([False, False]), []

    def away() -> list[Entry]:
        tries.append(1)
        raise EnvironmentProblem("The ledger cannot be used.")

    with shop.project() as project:
        line = read_line(shop.folder)
        controller = Controller(project, line, SilentReporter(), clock=shop.time.clock())
        monkeypatch.setattr(controller, "once", away)
        controller.run(lambda: next(turns, True))
    assert len(tries) >= 1


def test_one_window_that_two_controllers_decided_is_one_window(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A controller that lost its lease decides on the same rows as the one that took over: the
    change counts as seen in one window, not in two."""
    begin = controllers.begin

    def twice(project: Project, diary: Diary, *given: Any) -> Any:
        controller = Controller(
            project, read_line(shop.folder), SilentReporter(), clock=shop.time.clock()
        )
        assert controller._decider.finish(begin(project, diary, *given))
        return begin(project, diary, *given)

    monkeypatch.setattr(controllers, "begin", twice)
    shop.put("b.csv", customers(1000, 1, turned=True))
    decided = told(shop.look(), "decided")
    assert len(decided) == 2
    assert all("seen in 1 of 2 windows" in sentence for sentence in decided)


def test_a_rollback_is_done_once(shop: Shop) -> None:
    """Two controllers that both saw a bad promotion: the second takes back nothing more."""
    with shop.project() as project:
        for release in ("release-1", "release-2"):
            last = project.aliases.promote("shop", "champion", release)
        project.aliases.rollback("shop", after=last.event)
        with pytest.raises(ConflictError, match="moved by somebody else"):
            project.aliases.rollback("shop", after=last.event)
        assert project.aliases.get("shop", "champion") == "release-1"
