"""Labels that arrive later: each is on the disk before the caller hears that it was taken.

A label names the request that was answered. Labels are events: a second, different one for the
same row is a correction and is kept beside the first; the same one again (a caller that did not
hear the answer) changes nothing. Kept in one SQLite file, whose commits are synchronised to the
disk and which several workers may share.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from loopline.errors import EnvironmentProblem, NotFoundError
from loopline.store.disk import disk_problems, make_folder

FEEDBACK_FILE = "feedback.db"
BUSY_SECONDS = 10.0
_TABLE = """
CREATE TABLE IF NOT EXISTS feedback (
    place INTEGER PRIMARY KEY, request_id TEXT NOT NULL, row INTEGER NOT NULL,
    version TEXT NOT NULL, label TEXT NOT NULL, time TEXT NOT NULL
)
"""
_INDEX = "CREATE INDEX IF NOT EXISTS feedback_request ON feedback (request_id, row)"
_NEWEST = "SELECT label FROM feedback WHERE request_id = ? AND row = ? ORDER BY place DESC LIMIT 1"
_INSERT = "INSERT INTO feedback (request_id, row, version, label, time) VALUES (?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Label:
    """One label.

    Args:
        request_id: the id that came with the answer.
        row: the row of that request, from 0.
        version: the release that answered, 12 hex digits.
        label: a class, a number, or the list of labels that the row has.
    """

    request_id: str
    row: int
    version: str
    label: str | int | float | bool | Sequence[str | int | float | bool]


class Feedback:
    """The labels of one service's folder. Use it from one thread.

    Args:
        folder: where the file lies; made when it is missing.

    Raises:
        EnvironmentProblem: the file cannot be made or read.

    >>> import tempfile
    >>> feedback = Feedback(Path(tempfile.mkdtemp()))
    >>> label = Label("id", 0, "0123456789ab", "yes")
    >>> feedback.add([label]), feedback.add([label])
    (['new'], ['known'])
    >>> feedback.close()
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FEEDBACK_FILE
        with disk_problems(f"keep labels in {folder}"):
            make_folder(folder)
        with self._problems():
            self._database = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.execute(_TABLE)
            self._database.execute(_INDEX)

    def add(self, labels: Sequence[Label]) -> list[str]:
        """Keep labels, all or none; when this returns they survive a power cut.

        Returns:
            For each label ``new``, ``known`` (it was there) or ``correction``.

        Raises:
            EnvironmentProblem: a full disk, a busy file; nothing was kept.
        """
        with self._problems():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                became = [self._add(label) for label in labels]
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
        return became

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _add(self, label: Label) -> str:
        text = orjson.dumps(label.label).decode()
        before = self._database.execute(_NEWEST, (label.request_id, label.row)).fetchone()
        if before is not None and before[0] == text:
            return "known"
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        self._database.execute(_INSERT, (label.request_id, label.row, label.version, text, now))
        return "new" if before is None else "correction"

    @contextmanager
    def _problems(self) -> Any:
        try:
            yield
        except sqlite3.Error as error:
            raise EnvironmentProblem(
                f"The labels in {self._path} cannot be kept now: {error}. Nothing was taken; "
                "send them again later."
            ) from error


def read_feedback(folder: str | Path, *, after: int = 0) -> pl.DataFrame:
    """The newest label of each answered row, in the order in which they came.

    Args:
        folder: the service's folder.
        after: only what came after this `place`.

    Returns:
        A table of request_id, row, version, label (text as JSON writes it), time, `changes`, the
        number of labels that came before, and `place`, which rises with each label that comes.

    Raises:
        NotFoundError: no label has been kept there.
    """
    path = Path(folder) / FEEDBACK_FILE
    if not path.is_file():
        raise NotFoundError(f"No label has been kept in {str(folder)!r}.")
    query = (
        "SELECT request_id, row, version, label, time, COUNT(*) - 1, MAX(place) AS newest "
        "FROM feedback GROUP BY request_id, row HAVING newest > ? ORDER BY newest"
    )
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        found: Iterable[tuple[Any, ...]] = database.execute(query, (after,)).fetchall()
    names = ("request_id", "row", "version", "label", "time", "changes", "place")
    types = (pl.String, pl.Int64, pl.String, pl.String, pl.String, pl.Int64, pl.Int64)
    return pl.DataFrame(list(found), schema=dict(zip(names, types, strict=True)), orient="row")
