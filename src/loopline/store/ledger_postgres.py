"""The ledger in PostgreSQL, by SQLAlchemy and psycopg (extra `loopline[postgres]`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from loopline.errors import EnvironmentProblem
from loopline.store.database import FORMAT, INSERT, Database, check_format, problem, wrong_url

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_ADVISORY_LOCK = 7_302_951_846  # any number, the same in every Loopline: guards the first opening
_KEEPALIVE = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}
_TABLES = (
    "CREATE TABLE ledger_format (version INTEGER NOT NULL)",
    """CREATE TABLE events (
    id BIGSERIAL NOT NULL PRIMARY KEY, time TEXT NOT NULL, kind TEXT NOT NULL,
    run TEXT, subject TEXT, data TEXT NOT NULL, digest TEXT NOT NULL
    )""",
    "CREATE INDEX events_by_kind ON events (kind, id)",
    "CREATE INDEX events_by_run ON events (run, id)",
    "CREATE INDEX events_by_subject ON events (subject, id)",
)
_TRIGGERS = (
    """CREATE OR REPLACE FUNCTION loopline_refuse_change() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$""",
    """CREATE TRIGGER events_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION loopline_refuse_change()""",
)


class PostgresDatabase(Database):
    """A database on a server, which several machines may use.

    Args:
        url: ``postgresql://user@host/name``.
        address: the URL as messages show it.

    Raises:
        InputError: another URL.
        EnvironmentProblem: not reachable, a newer Loopline's, or the extra is missing.
    """

    def __init__(self, url: str, address: str) -> None:
        self._engine = _engine(url, address)
        self._address = address
        self._process = os.getpid()
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def append(self, row: Mapping[str, Any]) -> int:
        """See `Database.append`."""
        from sqlalchemy import text

        with self._connection() as connection:
            found = connection.execute(text(f"{INSERT} RETURNING id"), dict(row)).scalar_one()
            connection.commit()
        return int(found)

    def select(self, query: str, values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """See `Database.select`."""
        from sqlalchemy import text

        with self._connection() as connection:
            return [dict(row) for row in connection.execute(text(query), dict(values)).mappings()]

    @contextmanager
    def alone(self, key: int, waiting: Callable[[], None]) -> Iterator[Callable[[], bool]]:
        """See `Database.alone`; freed by the server when the process or the machine dies."""
        from sqlalchemy.exc import DBAPIError

        with self._connection() as connection:
            if not _taken(connection, key):
                waiting()
                connection.exec_driver_sql(f"SELECT pg_advisory_lock({key})")
                connection.commit()
            ours = True

            def held() -> bool:
                nonlocal ours
                ours = ours and _alive(connection)
                try:
                    ours = ours or _taken(connection, key)
                except DBAPIError as error:
                    connection.rollback()
                    raise problem(error.orig or error, self._address) from error
                return ours

            try:
                yield held
            finally:
                with suppress(DBAPIError):  # a lost connection has freed it already
                    connection.exec_driver_sql(f"SELECT pg_advisory_unlock({key})")
                    connection.commit()

    def close(self) -> None:
        """See `Database.close`."""
        self._engine.dispose()

    def _prepare(self) -> None:
        from sqlalchemy import inspect, text

        with self._connection() as connection:
            if not inspect(connection).has_table("ledger_format"):
                _create(connection)
            versions = connection.execute(text("SELECT version FROM ledger_format")).scalars().all()
            connection.rollback()
        check_format(versions, self._address)

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
            raise problem(error.orig or error, self._address) from error


def _alive(connection: Connection) -> bool:
    """Whether a connection is still the one that it was; else its next statement connects anew."""
    from sqlalchemy.exc import DBAPIError

    try:
        connection.exec_driver_sql("SELECT 1")
        connection.commit()
    except DBAPIError:
        connection.rollback()
        return False
    return True


def _taken(connection: Connection, key: int) -> bool:
    """Take a lock if it is free, on a connection that the server gives up soon after its machine.

    A machine that loses its power says no goodbye: by default the server asks after it two hours
    later. Here it asks after 30 seconds of silence, and frees the lock half a minute later.
    """
    for name, value in _KEEPALIVE.items():
        connection.exec_driver_sql(f"SET {name} = {value}")
    free = connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({key})").scalar()
    connection.commit()
    return bool(free)


def _create(connection: Connection) -> None:
    """Make the tables, unless another process has made them meanwhile."""
    from sqlalchemy import inspect

    connection.rollback()
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
    if not inspect(connection).has_table("ledger_format"):
        for statement in (*_TABLES, *_TRIGGERS):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"INSERT INTO ledger_format (version) VALUES ({FORMAT})")
    connection.commit()


def _engine(url: str, address: str) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise wrong_url(address) from error
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise wrong_url(address)
    if parsed.drivername in {"postgresql", "postgres"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        return create_engine(parsed, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            f"The ledger {address} needs the driver {error.name!r}: "
            "pip install 'loopline[postgres]'."
        ) from error
