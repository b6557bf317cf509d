"""What the ledger asks of its database, so that each brings what it needs and no more.

SQLite comes with Python; PostgreSQL needs SQLAlchemy and a driver. A service that keeps its ledger
in a file does without the 12 MB and the tenth of a second of SQLAlchemy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from loopline.errors import EnvironmentProblem, InputError, IntegrityError, LooplineError
from loopline.store.address import shown

FORMAT = 1
"""The version of the tables that this Loopline makes."""
COLUMNS = ("time", "kind", "run", "subject", "data", "digest")
INSERT = f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES ({', '.join(f':{n}' for n in COLUMNS)})"


class Database(ABC):
    """The tables of one ledger, which are made when it is opened.

    It is used from any thread, and from a process that was forked, until `close`.
    """

    @abstractmethod
    def append(self, row: Mapping[str, Any]) -> int:
        """Write one event and give its id; when this returns, it survives a crash."""

    @abstractmethod
    def select(self, query: str, values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Rows of a query, whose values stand in it as ``:name``."""

    @abstractmethod
    def alone(
        self, key: int, waiting: Callable[[], None]
    ) -> AbstractContextManager[Callable[[], bool]]:
        """Hold a lock among all machines; nothing where only one machine can use the database.

        The context gives what tells whether the lock is held now, see `Ledger.alone`.
        """

    @abstractmethod
    def close(self) -> None:
        """Close every connection; the next call opens new ones."""


def check_format(versions: Sequence[Any], address: str) -> None:
    """Refuse tables that this Loopline does not know.

    Raises:
        IntegrityError: the version is none.
        EnvironmentProblem: a newer Loopline made them.
    """
    if len(versions) != 1 or not isinstance(versions[0], int):
        raise IntegrityError(f"The ledger {address} has no valid version: {list(versions)}.")
    if versions[0] > FORMAT:
        raise EnvironmentProblem(
            f"The ledger {address} has format {versions[0]}, this Loopline reads up to "
            f"{FORMAT}: install a newer Loopline."
        )


def wrong_url(address: str) -> InputError:
    """The error for a URL of no database that a ledger can be in."""
    return InputError(
        "The ledger needs a database URL such as 'sqlite:///ledger.db' or "
        f"'postgresql://user@host/name', got {address!r}."
    )


def problem(told: BaseException, address: str) -> LooplineError:
    """The error to raise for what the database said; never holds the password."""
    lines = str(told).strip().splitlines()
    said = shown(lines[0]) if lines else "no reason"
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
