"""The ledger: append-only, exact, and clear about its troubles, on SQLite and PostgreSQL."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine as sqlalchemy_engine
from sqlalchemy import text
from sqlalchemy.pool import NullPool

from loopline.errors import EnvironmentProblem, InputError, IntegrityError, LooplineError
from loopline.store import ledger_sqlite as module
from loopline.store.ledger import Ledger

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a ledger that does not exist yet, on each kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/made/ledger.db"
    return str(request.getfixturevalue("postgres_url"))


def driver(url: str) -> str:
    """The URL with the driver named, for SQLAlchemy itself."""
    return url.replace("postgresql://", "postgresql+psycopg://")


def test_events_come_back_as_they_were_appended(url: str) -> None:
    """Everything given to `append` is read back, in order, by another ledger."""
    with Ledger.open(url) as ledger:
        first = ledger.append("run.started", run="r1", data={"seed": 0, "of": (1, 2.5, None)})
        second = ledger.append("artifact", run="r1", subject="snapshot-ab", data={"ü\x00": "\n'"})
        third = ledger.append("vault.opened", run="r2")
    with Ledger.open(url) as ledger:
        assert ledger.events() == [first, second, third]
    assert first.data == {"seed": 0, "of": [1, 2.5, None]}
    assert second.data == {"ü\x00": "\n'"}
    assert (third.run, third.subject, third.data) == ("r2", None, {})
    assert first.id < second.id < third.id
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", first.time)


def test_events_are_chosen_by_kind_run_subject_and_number(url: str) -> None:
    """Every filter and their combination, from either end."""
    with Ledger.open(url) as ledger:
        for number in range(6):
            ledger.append(f"k{number % 2}", run=f"r{number % 3}", subject=f"s{number}")

        def numbers(**chosen: object) -> list[int]:
            return [int(str(event.subject)[1:]) for event in ledger.events(**chosen)]

        assert numbers(kind="k1") == [1, 3, 5]
        assert numbers(run="r2") == [2, 5]
        assert numbers(kind="k1", run="r2") == [5]
        assert numbers(subject="s4") == [4]
        assert numbers(newest_first=True, limit=2) == [5, 4]
        assert numbers(limit=2) == [0, 1]
        assert numbers(limit=0) == []
        assert numbers(kind="k' OR 1=1 --") == []
        with pytest.raises(InputError, match="`limit` must be 0 or more, got -1"):
            ledger.events(limit=-1)


def test_database_refuses_to_change_the_past(url: str) -> None:
    """Not even SQL that goes round Loopline can change or remove an event."""
    with Ledger.open(url) as ledger:
        kept = ledger.append("run.started", data={"x": 1})
        statements = ["UPDATE events SET kind = 'x'", "DELETE FROM events"]
        if url.startswith("sqlite"):
            statements.append("INSERT OR REPLACE INTO events SELECT * FROM events")
        else:
            statements.append("TRUNCATE events")
        engine = sqlalchemy_engine(driver(url), poolclass=NullPool)
        for statement in statements:
            with (
                pytest.raises(Exception, match="the ledger is append-only"),
                engine.connect() as connection,
            ):
                connection.execute(text(statement))
        engine.dispose()
        assert ledger.events() == [kept]


def test_event_that_was_changed_under_the_triggers_is_told(url: str) -> None:
    """A changed event does not come back as if it had been appended so."""
    with Ledger.open(url) as ledger:
        ledger.append("run.started", data={"x": 1})
        ledger.append("run.finished", data={"x": 1})
        engine = sqlalchemy_engine(driver(url), poolclass=NullPool)
        with engine.begin() as connection:
            trigger = "events_no_update" if "sqlite" in url else "events_no_change ON events"
            connection.execute(text(f"DROP TRIGGER {trigger}"))
            connection.exec_driver_sql("UPDATE events SET data = '{\"x\":2}' WHERE id = 2")
        engine.dispose()
        assert len(ledger.events(kind="run.started")) == 1
        with pytest.raises(IntegrityError, match=r"Event 2 of the ledger .* is damaged"):
            ledger.events()


def test_data_that_is_not_plain_is_refused(url: str) -> None:
    """NaN, sets, NUL and empty kinds are refused, and nothing is appended."""
    with Ledger.open(url) as ledger:
        for wrong in ({"x": float("nan")}, {"x": {1}}, {"x": "\udcff"}):
            with pytest.raises(InputError, match="plain data"):
                ledger.append("note", data=wrong)
        for named in ({"run": "a\x00b"}, {"subject": "\udcff"}):
            with pytest.raises(InputError, match=f"The {next(iter(named))} of an event"):
                ledger.append("note", **named)
        with pytest.raises(InputError, match="kind of an event"):
            ledger.append("")
        assert ledger.events() == []


def test_newer_ledger_is_refused(url: str) -> None:
    """A ledger that a newer Loopline wrote is left alone."""
    Ledger.open(url).close()
    engine = sqlalchemy_engine(driver(url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("UPDATE ledger_format SET version = 2"))
    engine.dispose()
    with pytest.raises(EnvironmentProblem, match="format 2, this Loopline reads up to 1"):
        Ledger.open(url)


APPEND = """
import sys
from loopline.store.ledger import Ledger
with Ledger.open(sys.argv[1]) as ledger:
    for number in range(int(sys.argv[3])):
        ledger.append("note", run=sys.argv[2], data={"number": number})
"""


def test_eight_processes_open_and_append_at_once(url: str, start: Start) -> None:
    """Eight processes make the ledger together and lose none of 8 x 25 events."""
    children = [start(APPEND, url, f"r{number}", "25") for number in range(8)]
    for child in children:
        _, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
    with Ledger.open(url) as ledger:
        assert len({event.id for event in ledger.events()}) == 200
        for number in range(8):
            found = [event.data["number"] for event in ledger.events(run=f"r{number}")]
            assert found == list(range(25))


def test_appended_event_survives_a_kill(url: str, start: Start) -> None:
    """What `append` returned for is there after `kill -9`, and the ledger goes on."""
    program = APPEND + "        print(number, flush=True)\n"
    for number in range(4):
        child = start(program, url, f"r{number}", "100000")
        assert child.stdout is not None
        seen = [int(child.stdout.readline()) for _ in range(5 + number)]
        child.kill()
        # not `communicate`, which passes over what `readline` has buffered
        seen += [int(line) for line in child.stdout.read().split()]
        child.wait()
        with Ledger.open(url) as ledger:
            found = [event.data["number"] for event in ledger.events(run=f"r{number}")]
            assert found[: len(seen)] == seen
            assert len(found) <= len(seen) + 1


def test_ledger_works_on_in_a_forked_child(url: str) -> None:
    """A child that was forked with the ledger open uses connections of its own."""
    ledger = Ledger.open(url)
    ledger.append("note", run="parent")
    context = multiprocessing.get_context("fork")
    children = [
        context.Process(target=lambda: [ledger.append("note", run="child") for _ in range(10)])
        for _ in range(2)
    ]
    for child in children:
        child.start()
    for _ in range(10):
        ledger.append("note", run="parent")
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    assert len(ledger.events(run="child")) == 20
    assert len(ledger.events(run="parent")) == 11
    ledger.close()


def test_sqlite_is_set_up_to_be_durable(tmp_path: Path) -> None:
    """Write-ahead log, full synchronisation, and a wait of half a minute or more for others."""
    with Ledger.open(f"sqlite:///{tmp_path}/l.db") as ledger:

        def pragma(name: str) -> object:
            return next(iter(ledger._database.select(f"PRAGMA {name}", {})[0].values()))

        assert pragma("journal_mode") == "wal"
        assert pragma("synchronous") == 2
        assert int(str(pragma("busy_timeout"))) >= 30_000


def test_damaged_files_are_told(tmp_path: Path) -> None:
    """A file that is no database, and one with damaged pages, give exit code 4."""
    path = tmp_path / "l.db"
    path.write_bytes(b"these are not the bytes of a database" * 300)
    with pytest.raises(IntegrityError, match=r"l\.db is damaged \(file is not a database\)"):
        Ledger.open(f"sqlite:///{path}")
    path.unlink()
    with Ledger.open(f"sqlite:///{path}") as ledger:
        for number in range(300):
            ledger.append("note", data={"number": number, "text": "x" * 100})
    data = bytearray(path.read_bytes())
    assert len(data) > 40_000
    for position in range(8192, len(data)):
        data[position] = 0xA5
    path.write_bytes(data)
    with pytest.raises(LooplineError) as caught, Ledger.open(f"sqlite:///{path}") as ledger:
        ledger.events()
    assert isinstance(caught.value, IntegrityError)


def test_flipped_bytes_of_a_sqlite_file_never_give_another_event(tmp_path: Path) -> None:
    """A flipped bit anywhere is an error or harmless; no event ever reads differently."""
    path = tmp_path / "l.db"
    with Ledger.open(f"sqlite:///{path}") as ledger:
        for number in range(20):
            ledger.append("note", run="r", data={"number": number})
        expected = {event.id: event for event in ledger.events()}
    whole = path.read_bytes()
    for position in range(11, len(whole), 211):
        data = bytearray(whole)
        data[position] ^= 4
        path.write_bytes(data)
        for rest in ("-wal", "-shm"):
            path.with_name(path.name + rest).unlink(missing_ok=True)
        try:
            with Ledger.open(f"sqlite:///{path}") as ledger:
                found = ledger.events()
        except LooplineError:
            continue
        for event in found:
            assert event == expected.get(event.id, event)


def test_locked_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that another program keeps locked is told after the wait."""
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.2)
    path = tmp_path / "l.db"
    ledger = Ledger.open(f"sqlite:///{path}")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(EnvironmentProblem, match="another program holds it; close that program"):
        ledger.append("note")
    assert ledger.events() == []
    other.execute("ROLLBACK")
    other.close()
    ledger.append("note")
    ledger.close()


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_a_file_that_vanishes_is_told(tmp_path: Path, how: str) -> None:
    """Nothing is written into a file that nobody would find; put back, it goes on."""
    path, away = tmp_path / "l.db", tmp_path / "away.db"
    with Ledger.open(f"sqlite:///{path}") as ledger:
        ledger.append("note", subject="before")
        if how == "removed":
            path.unlink()
        else:
            path.rename(away)
        if how == "replaced":
            path.touch()
        with pytest.raises(EnvironmentProblem, match="removed, moved or replaced while it was in"):
            ledger.append("note", subject="lost")
        assert [event.subject for event in ledger.events()] == ["before"]
        if how == "moved":
            away.rename(path)
            ledger.append("note", subject="after")
            assert [event.subject for event in ledger.events()] == ["before", "after"]


def test_wrong_urls_are_refused(tmp_path: Path) -> None:
    """Other databases, paths and nonsense get the two forms that work."""
    for wrong in ("mysql://x/y", str(tmp_path / "l.db"), "", "postgresql"):
        with pytest.raises(InputError, match="database URL such as 'sqlite:///ledger"):
            Ledger.open(wrong)


def test_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg the message names what to install."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'loopline\[postgres\]'"):
        Ledger.open("postgresql://host/name")


def test_unreachable_server_is_told_without_the_password() -> None:
    """A server that is not there is told; the password is not."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(EnvironmentProblem, match="check that the server runs") as caught:
        Ledger.open("postgresql://ann:hid:den@127.0.0.1:9/x?password=hidden2&connect_timeout=2")
    assert "hid" not in str(caught.value)
    assert "ann" in str(caught.value)


@pytest.mark.postgres
def test_wrong_password_and_database_are_told(postgres_url: str) -> None:
    """PostgreSQL's own refusals come as one sentence, without the password."""
    head, _, tail = postgres_url.rpartition("@")
    password = head.rpartition(":")[2]
    wrong = f"{head.rpartition(':')[0]}:wrong-secret@{tail}"
    with pytest.raises(EnvironmentProblem, match="check the user and the password") as caught:
        Ledger.open(wrong)
    assert "wrong-secret" not in str(caught.value)
    with pytest.raises(EnvironmentProblem, match="create the database or role first") as caught:
        Ledger.open(postgres_url.rpartition("/")[0] + "/absent")
    assert password not in str(caught.value)
    with Ledger.open(postgres_url) as ledger:
        assert password not in ledger.address


def test_memory_ledger_serves_tests(tmp_path: Path) -> None:
    """``sqlite://`` is a ledger in memory, gone with the process."""
    with Ledger.open("sqlite://") as ledger:
        ledger.append("note")
        assert len(ledger.events()) == 1
    assert os.listdir(tmp_path) in ([], ["cache"])


# ---- one at a time, and reading where nothing can be written ------------------------------------


@pytest.mark.postgres
def test_one_machine_waits_for_the_other(postgres_url: str) -> None:
    """Who comes second is told so and goes on when the first has ended."""
    order: list[str] = []
    inside, may_end = threading.Event(), threading.Event()

    def first() -> None:
        with Ledger.open(postgres_url) as ledger, ledger.alone("run-1", lambda: None):
            inside.set()
            assert may_end.wait(20)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(20)
    with Ledger.open(postgres_url) as ledger:
        with ledger.alone("run-2", lambda: order.append("waits for another run")):
            order.append("other run")
        with ledger.alone("run-1", may_end.set):
            order.append("second")
    thread.join(20)
    assert order == ["other run", "first", "second"]


def test_a_sqlite_ledger_locks_nothing(tmp_path: Path) -> None:
    """One machine has the lock of a file; the ledger adds none."""
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger, ledger.alone("a", lambda: None):
        ledger.append("note")


def test_a_read_only_ledger_is_read(tmp_path: Path) -> None:
    """Where nothing can be written, events can be read and an event is refused."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    with Ledger.open(url) as ledger:
        ledger.append("note", data={"a": 1})
    program = (
        "import sys\n"
        "from loopline.errors import EnvironmentProblem\n"
        "from loopline.store.ledger import Ledger\n"
        "ledger = Ledger.open(sys.argv[1])\n"
        "print([event.data for event in ledger.events()])\n"
        "try:\n"
        "    ledger.append('more')\n"
        "except EnvironmentProblem as error:\n"
        "    print(error)\n"
    )
    head = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    if head and shutil.which("setpriv") is None:
        pytest.skip("root ignores permissions, and there is no setpriv")
    (tmp_path / "ledger.db").chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        done = subprocess.run(
            [*head, sys.executable, "-W", "error", "-c", program, url],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        tmp_path.chmod(0o755)
    assert done.stdout.startswith("[{'a': 1}]\n"), done.stderr
    assert "it cannot be written; choose a folder that can be written" in done.stdout
