"""The ledger: what happened, in order, never changed afterwards.

Runs, stages, openings of the test vault and releases are events. The database itself refuses
UPDATE and DELETE (triggers), each event carries a digest of its content, and one process or fifty
may append at the same time. SQLite is the default, PostgreSQL serves several machines.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopline.digest import canonical_json, value_digest
from loopline.errors import (
    EnvironmentProblem,
    InputError,
    IntegrityError,
    LooplineError,
)
from loopline.store.address import shown
from loopline.store.disk import disk_problems
from loopline.store.manifest import plain_data

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MetaData, Table
    from sqlalchemy.exc import DBAPIError

FORMAT = 1
BUSY_SECONDS = 60.0
_ADVISORY_LOCK = 7_302_951_846  # any number, the same in every Loopline: guards the first opening

_SQLITE_TRIGGERS = (
    """CREATE TRIGGER IF NOT EXISTS events_no_update BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    """CREATE TRIGGER IF NOT EXISTS events_no_delete BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    # INSERT OR REPLACE deletes without telling the trigger above
    """CREATE TRIGGER IF NOT EXISTS events_no_replace BEFORE INSERT ON events
    WHEN EXISTS (SELECT 1 FROM events WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
)
_POSTGRES_TRIGGERS = (
    """CREATE OR REPLACE FUNCTION loopline_refuse_change() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$""",
    """CREATE TRIGGER events_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION loopline_refuse_change()""",
)


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        id: its place in the ledger; larger is later.
        time: UTC, ISO 8601 with microseconds, by the clock of the machine that appended it.
        kind: what happened, for example ``"run.started"``.
        run: the run it belongs to, if any.
        subject: the artifact, file or release that it is about, if any.
        data: plain data.
    """

    id: int
    time: str
    kind: str
    run: str | None
    subject: str | None
    data: dict[str, Any]


class Ledger:
    """An append-only table of events, safe for many threads and processes.

    >>> import tempfile
    >>> with Ledger.open(f"sqlite:///{tempfile.mkdtemp()}/ledger.db") as ledger:
    ...     _ = ledger.append("run.started", run="r1", data={"seed": 0})
    ...     [(event.kind, event.data) for event in ledger.events(run="r1")]
    [('run.started', {'seed': 0})]
    """

    def __init__(self, engine: Engine, events: Table, address: str) -> None:
        self._engine = engine
        self._events = events
        self._process = os.getpid()
        self.address = address

    @staticmethod
    def open(url: str) -> Ledger:
        """Open a ledger, and make it when it is not there.

        Args:
            url: ``"sqlite:///folder/ledger.db"`` (a file on a local disk: SQLite's write-ahead
                log does not work on network file systems) or ``"postgresql://user@host/name"``.

        Raises:
            InputError: a URL of another kind of database.
            EnvironmentProblem: not reachable, not writable, locked for a minute, written by a
                newer Loopline, or the extra ``loopline[postgres]`` is missing.
            IntegrityError: the file is not a database, or is damaged.
        """
        address = shown(url)
        engine = _engine(url, address)
        metadata, events = _tables()
        ledger = Ledger(engine, events, address)
        try:
            ledger._prepare(metadata)
        except LooplineError:
            engine.dispose()
            raise
        return ledger

    def append(
        self,
        kind: str,
        *,
        run: str | None = None,
        subject: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> Event:
        """Write one event; when this returns, the event survives a crash.

        Raises:
            InputError: an empty kind, or data that is not plain.
            EnvironmentProblem: the database cannot be written now; nothing was appended.
        """
        if not kind:
            raise InputError("The kind of an event is a text such as 'run.started', got ''.")
        for name, text in (("kind", kind), ("run", run), ("subject", subject)):
            _check_text(name, text)
        plain = plain_data(data or {}, f"data of the event {kind!r}")
        row: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="microseconds"),
            "kind": kind,
            "run": run,
            "subject": subject,
            "data": canonical_json(plain),
        }
        with self._connection() as connection:
            result = connection.execute(
                self._events.insert().values(**row, digest=value_digest(row))
            )
            key = result.inserted_primary_key
            connection.commit()
        assert key is not None
        return Event(int(key[0]), row["time"], kind, run, subject, plain)

    def events(
        self,
        *,
        kind: str | None = None,
        run: str | None = None,
        subject: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[Event]:
        """The events that match every given value, in order of their ids.

        Args:
            kind: only of this kind.
            run: only of this run.
            subject: only about this subject.
            limit: at most so many, 0 or more.
            newest_first: from the latest back.

        Raises:
            IntegrityError: an event that matches is damaged; names its id.
            EnvironmentProblem: the database cannot be read now.
        """
        if limit is not None and limit < 0:
            raise InputError(f"`limit` must be 0 or more, got {limit}.")
        table = self._events
        query = table.select()
        for column, value in ((table.c.kind, kind), (table.c.run, run), (table.c.subject, subject)):
            if value is not None:
                query = query.where(column == value)
        query = query.order_by(table.c.id.desc() if newest_first else table.c.id.asc())
        if limit is not None:
            query = query.limit(limit)
        with self._connection() as connection:
            rows = connection.execute(query).mappings().all()
        return [self._event(dict(row)) for row in rows]

    @contextmanager
    def alone(self, name: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the lock `name` among all machines that use this ledger.

        PostgreSQL keeps it with a connection and frees it when the process or the machine dies.
        SQLite serves one machine, on which a lock of a file does the same; there nothing is held.

        Args:
            name: what is locked.
            waiting: called once when another one holds it, before waiting for it.

        Raises:
            EnvironmentProblem: the database cannot be reached.
        """
        if self._engine.dialect.name == "sqlite":
            yield
            return
        from sqlalchemy.exc import DBAPIError

        key = int(value_digest(name)[:15], 16)
        with self._connection() as connection:
            free = connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({key})").scalar()
            connection.commit()
            if not free:
                waiting()
                connection.exec_driver_sql(f"SELECT pg_advisory_lock({key})")
                connection.commit()
            try:
                yield
            finally:
                with suppress(DBAPIError):  # a lost connection has freed it already
                    connection.exec_driver_sql(f"SELECT pg_advisory_unlock({key})")
                    connection.commit()

    def close(self) -> None:
        """Close every connection; the ledger opens new ones when it is used again."""
        self._engine.dispose()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _event(self, row: dict[str, Any]) -> Event:
        number = row.pop("id")
        expected = row.pop("digest")
        if not isinstance(row["data"], str) or value_digest(row) != expected:
            raise IntegrityError(
                f"Event {number} of the ledger {self.address} is damaged: its content has another "
                "digest than when it was appended. Bring the ledger back from a copy."
            )
        return Event(number, row["time"], row["kind"], row["run"], row["subject"],
                     json.loads(row["data"]))  # fmt: skip

    def _prepare(self, metadata: MetaData) -> None:
        from sqlalchemy import inspect

        with self._connection() as connection:
            if not inspect(connection).has_table("ledger_format"):
                self._create(connection, metadata)
            version = connection.execute(metadata.tables["ledger_format"].select()).scalars().all()
            connection.rollback()
        if len(version) != 1 or not isinstance(version[0], int):
            raise IntegrityError(f"The ledger {self.address} has no valid version: {version}.")
        if version[0] > FORMAT:
            raise EnvironmentProblem(
                f"The ledger {self.address} has format {version[0]}, this Loopline reads up to "
                f"{FORMAT}: install a newer Loopline."
            )

    def _create(self, connection: Connection, metadata: MetaData) -> None:
        is_sqlite = connection.dialect.name == "sqlite"
        connection.rollback()
        if is_sqlite:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
        from sqlalchemy import inspect

        if not inspect(connection).has_table("ledger_format"):
            metadata.create_all(connection)
            for statement in _SQLITE_TRIGGERS if is_sqlite else _POSTGRES_TRIGGERS:
                connection.exec_driver_sql(statement)
            connection.execute(metadata.tables["ledger_format"].insert().values(version=FORMAT))
        if is_sqlite:
            connection.exec_driver_sql("COMMIT")
        connection.commit()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        from sqlalchemy.exc import DBAPIError

        if os.getpid() != self._process:
            # a forked child must not share its parent's connections
            self._engine.dispose(close=False)
            self._process = os.getpid()
        try:
            with self._engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise _problem(error, self.address) from error


def _check_text(name: str, text: str | None) -> None:
    if text is None:
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"The {name} of an event must be plain UTF-8 text: {error}.") from error
    if "\x00" in text:
        raise InputError(f"The {name} of an event holds a NUL character: {text!r}.")


def _tables() -> tuple[MetaData, Table]:
    from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text

    metadata = MetaData()
    Table("ledger_format", metadata, Column("version", Integer, nullable=False))
    events = Table(
        "events",
        metadata,
        Column(
            "id",
            BigInteger().with_variant(Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        Column("time", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("run", Text),
        Column("subject", Text),
        Column("data", Text, nullable=False),
        Column("digest", Text, nullable=False),
        Index("events_by_kind", "kind", "id"),
        Index("events_by_run", "run", "id"),
        Index("events_by_subject", "subject", "id"),
        sqlite_autoincrement=True,
    )
    return metadata, events


def _engine(url: str, address: str) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError
    from sqlalchemy.pool import StaticPool

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise InputError(_wrong_url(address)) from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            engine = create_engine(
                parsed, poolclass=StaticPool, connect_args={"check_same_thread": False}
            )
        else:
            if _is_read_only(Path(parsed.database)):
                return _read_only_engine(Path(parsed.database))
            folder = Path(parsed.database).parent
            with disk_problems(f"make the folder {folder} of the ledger"):
                folder.mkdir(parents=True, exist_ok=True)
            engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
        _configure_sqlite(engine)
        return engine
    if backend not in {"postgresql", "postgres"}:
        raise InputError(_wrong_url(address))
    if parsed.drivername in {"postgresql", "postgres"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        return create_engine(parsed, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            f"The ledger {address} needs the driver {error.name!r}: "
            "pip install 'loopline[postgres]'."
        ) from error


def _is_read_only(file: Path) -> bool:
    """Whether a ledger can be read where it lies and not be written.

    SQLite's write-ahead log needs a file beside the ledger even to read. Without a writer there is
    no log, and the file can be read as it is.
    """
    log = file.with_name(file.name + "-wal")
    writable = os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)
    return file.is_file() and not writable and not (log.is_file() and log.stat().st_size)


def _read_only_engine(file: Path) -> Engine:
    import sqlite3

    from sqlalchemy import create_engine

    def connect() -> sqlite3.Connection:
        address = f"{file.resolve().as_uri()}?mode=ro&immutable=1"
        return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)

    return create_engine("sqlite://", creator=connect)


def _wrong_url(address: str) -> str:
    return (
        "The ledger needs a database URL such as 'sqlite:///ledger.db' or "
        f"'postgresql://user@host/name', got {address!r}."
    )


def _configure_sqlite(engine: Engine) -> None:
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: object) -> None:
        del record
        # each statement is its own transaction; `_create` opens its own
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")
        _switch_to_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA recursive_triggers=ON")


def _switch_to_wal(connection: Any) -> None:
    """Write-ahead logging, so that readers never wait; the switch itself ignores busy_timeout."""
    import sqlite3

    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] not in {"wal", "memory"}:
                connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _problem(error: DBAPIError, address: str) -> LooplineError:
    """The error to raise for what the database said; never holds the password."""
    said = (
        shown(str(error.orig).strip().splitlines()[0]) if str(error.orig).strip() else "no reason"
    )
    low = said.lower()
    if "append-only" in low:
        return InputError(f"The ledger {address} is append-only: events are never changed.")
    if "not a database" in low or "malformed" in low or "corrupt" in low:
        return IntegrityError(
            f"The ledger {address} is damaged ({said}). Bring it back from a copy, or move it away."
        )
    advice = {
        "locked": "another program holds it; close that program and run the same command again",
        "readonly": "it cannot be written; choose a folder that can be written",
        "unable to open": "its folder or file cannot be opened or written",
        "full": "the disk is full; free some space and run the same command again",
        "does not exist": "create the database or role first",
        "password": "check the user and the password",
        "refused": "check that the server runs and that host and port are right",
        "resolve": "check the host name",
    }
    for word, advise in advice.items():
        if word in low:
            return EnvironmentProblem(f"The ledger {address} cannot be used: {advise} ({said}).")
    return EnvironmentProblem(f"The ledger {address} cannot be used ({said}).")
