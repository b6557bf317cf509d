"""The ledger: what happened, in order, never changed afterwards.

Runs, stages, openings of the test vault and releases are events. The database itself refuses
UPDATE and DELETE (triggers), each event carries a digest of its content, and one process or fifty
may append at the same time. SQLite is the default, PostgreSQL serves several machines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from loopline.digest import canonical_json, value_digest
from loopline.errors import InputError, IntegrityError
from loopline.store.address import shown
from loopline.store.database import Database
from loopline.store.manifest import plain_data


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

    def __init__(self, database: Database, address: str) -> None:
        self._database = database
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
        opened: Database
        if url.startswith("sqlite"):
            from loopline.store.ledger_sqlite import SqliteDatabase

            opened = SqliteDatabase(url, address)
        else:
            from loopline.store.ledger_postgres import PostgresDatabase

            opened = PostgresDatabase(url, address)
        return Ledger(opened, address)

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
        number = self._database.append({**row, "digest": value_digest(row)})
        return Event(number, row["time"], kind, run, subject, plain)

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
        given = {"kind": kind, "run": run, "subject": subject}
        values: dict[str, Any] = {name: one for name, one in given.items() if one is not None}
        query = "SELECT * FROM events"
        if values:
            query += f" WHERE {' AND '.join(f'{name} = :{name}' for name in values)}"
        query += f" ORDER BY id {'DESC' if newest_first else 'ASC'}"
        if limit is not None:
            query, values["limit"] = f"{query} LIMIT :limit", limit
        return [self._event(dict(row)) for row in self._database.select(query, values)]

    def alone(
        self, name: str, waiting: Callable[[], None]
    ) -> AbstractContextManager[Callable[[], bool]]:
        """Hold the lock `name` among all machines that use this ledger.

        PostgreSQL keeps it with a connection and frees it when the process or the machine dies.
        SQLite serves one machine, on which a lock of a file does the same; there nothing is held.

        The context gives a function for those who hold it long: whether the lock is held now. A
        connection that broke meanwhile has freed it; then it is taken anew, unless somebody else
        has it, and the function never waits.

        Args:
            name: what is locked.
            waiting: called once when another one holds it, before waiting for it.

        Raises:
            EnvironmentProblem: the database cannot be reached.
        """
        return self._database.alone(int(value_digest(name)[:15], 16), waiting)

    def close(self) -> None:
        """Close every connection; the ledger opens new ones when it is used again."""
        self._database.close()

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


def _check_text(name: str, text: str | None) -> None:
    if text is None:
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"The {name} of an event must be plain UTF-8 text: {error}.") from error
    if "\x00" in text:
        raise InputError(f"The {name} of an event holds a NUL character: {text!r}.")
