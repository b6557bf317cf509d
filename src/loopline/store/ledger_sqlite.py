"""The ledger in a file of SQLite, by Python's own module."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from loopline.errors import EnvironmentProblem
from loopline.store.database import FORMAT, INSERT, Database, check_format, problem, wrong_url
from loopline.store.disk import disk_problems

BUSY_SECONDS = 60.0
_URL = re.compile(r"sqlite(?:\+pysqlite)?://(?:/(?P<file>[^?]*))?")
_TABLES = (
    "CREATE TABLE IF NOT EXISTS ledger_format (version INTEGER NOT NULL)",
    """CREATE TABLE IF NOT EXISTS events (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, kind TEXT NOT NULL,
    run TEXT, subject TEXT, data TEXT NOT NULL, digest TEXT NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS events_by_kind ON events (kind, id)",
    "CREATE INDEX IF NOT EXISTS events_by_run ON events (run, id)",
    "CREATE INDEX IF NOT EXISTS events_by_subject ON events (subject, id)",
)
_TRIGGERS = (
    """CREATE TRIGGER IF NOT EXISTS events_no_update BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    """CREATE TRIGGER IF NOT EXISTS events_no_delete BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    # INSERT OR REPLACE deletes without telling the trigger above
    """CREATE TRIGGER IF NOT EXISTS events_no_replace BEFORE INSERT ON events
    WHEN EXISTS (SELECT 1 FROM events WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
)


class SqliteDatabase(Database):
    """One file, and one connection to it that threads take in turns.

    Args:
        url: ``sqlite:///<path>``, or ``sqlite://`` for one in memory.
        address: the URL as messages show it.

    Raises:
        InputError: another URL.
        EnvironmentProblem: the file cannot be opened, or a newer Loopline wrote it.
        IntegrityError: the file is no database, or is damaged.
    """

    def __init__(self, url: str, address: str) -> None:
        found = _URL.fullmatch(url)
        if found is None:
            raise wrong_url(address)
        name = found["file"] or ":memory:"
        self._file = None if name == ":memory:" else Path(name)
        self._address = address
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._opened: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def append(self, row: Mapping[str, Any]) -> int:
        """See `Database.append`.

        Raises:
            EnvironmentProblem: the file cannot be written, or is no longer where it was opened.
        """
        with self.connection() as connection:
            self._refuse_if_gone()
            number = connection.execute(INSERT, dict(row)).lastrowid
        assert number is not None
        return number

    def select(self, query: str, values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """See `Database.select`."""
        with self.connection() as connection:
            found = connection.execute(query, dict(values))
            names = [one[0] for one in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def alone(self, key: int, waiting: Callable[[], None]) -> nullcontext[Callable[[], bool]]:
        """SQLite serves one machine, on which a lock of a file does the same: nothing is held."""
        del key, waiting
        return nullcontext(lambda: True)

    def close(self) -> None:
        """See `Database.close`; one in memory ends."""
        with self._lock:
            if self._opened is not None and os.getpid() == self._process:
                self._opened.close()
            self._opened = None

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time; each statement is its own transaction."""
        with self._lock:
            if os.getpid() != self._process:  # a forked child must not use its parent's
                self._opened, self._process = None, os.getpid()
            try:
                if self._opened is None:
                    self._opened = self._open()
                    self._identity = None if self._file is None else _identity(self._file)
                yield self._opened
            except sqlite3.Error as error:
                raise problem(error, self._address) from error

    def _open(self) -> sqlite3.Connection:
        if self._file is None:
            return _configured(_connected(":memory:"))
        if _is_read_only(self._file):
            return _connected(f"{self._file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        folder = self._file.parent
        with disk_problems(f"make the folder {folder} of the ledger"):
            folder.mkdir(parents=True, exist_ok=True)
        return _configured(_connected(str(self._file)))

    def _refuse_if_gone(self) -> None:
        """SQLite writes on into a file that was removed or renamed, where nobody would find it."""
        if self._file is not None and _identity(self._file) != self._identity:
            raise EnvironmentProblem(
                f"The ledger {self._address} has gone: its file was removed, moved or replaced "
                "while it was in use. Put it back and run the same command again."
            )

    def _prepare(self) -> None:
        with self.connection() as connection:
            known = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'ledger_format'"
            if connection.execute(known).fetchone() is None:
                _create(connection)
            versions = connection.execute("SELECT version FROM ledger_format").fetchall()
        check_format([version for (version,) in versions], self._address)


def _identity(file: Path) -> tuple[int, int] | None:
    """Which file lies at a path; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _connected(address: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(
        address, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=uri
    )


def _configured(connection: sqlite3.Connection) -> sqlite3.Connection:
    try:
        _switch_to_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA recursive_triggers=ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _create(connection: sqlite3.Connection) -> None:
    """Make the tables, all or none, unless another process has made them meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in (*_TABLES, *_TRIGGERS):
            connection.execute(statement)
        if connection.execute("SELECT 1 FROM ledger_format").fetchone() is None:
            connection.execute("INSERT INTO ledger_format (version) VALUES (?)", (FORMAT,))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _is_read_only(file: Path) -> bool:
    """Whether a ledger can be read where it lies and not be written.

    SQLite's write-ahead log needs a file beside the ledger even to read. Without a writer there is
    no log, and the file can be read as it is.
    """
    log = file.with_name(file.name + "-wal")
    writable = os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)
    return file.is_file() and not writable and not (log.is_file() and log.stat().st_size)


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Write-ahead logging, so that readers never wait; the switch itself ignores busy_timeout."""
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
