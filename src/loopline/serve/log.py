"""The prediction log: what came, what was answered, kept for monitoring without costing a request.

The request path appends to a list in memory and returns: of a usual row the bytes that brought it,
else its cells. A thread packs what has gathered into tables, some hundred rows at a time: these
weigh a quarter of what Python's own values do, and it never holds the interpreter for long. Another
one writes them as Parquet into the store, once a minute or every 4,096 rows, as an artifact of the
kind ``predictions``: whole or absent; a disk that is slow keeps only tables waiting. What waits is
bounded; beyond it, or while the disk is full, rows are dropped and counted, and the service goes
on.

A row is kept as the model saw it (columns ``input.<name>``), with its prediction, the
probabilities, who answered, and which cells were odd. Columns that name persons can be left out,
or kept as keyed hashes, which join rows of one person and say no more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2s
from pathlib import Path
from typing import Any

import polars as pl

from loopline.errors import LooplineError
from loopline.features.contract import Remark
from loopline.models.base import Floats
from loopline.serve.health import Counted, keep
from loopline.serve.log_table import Entry, UsualRows, log_table
from loopline.serve.metrics import Metrics
from loopline.serve.model import ServedModel
from loopline.serve.settings import LogSettings
from loopline.store.artifacts import Artifact, Store

KIND = "predictions"
FILE = "predictions.parquet"
ANSWERED = ("champion", "challenger", "version")
"""Roles whose answer the caller had; a shadow's rows stand in the log twice."""
_RETRY_SECONDS = 5.0
_PACKED_BYTES = 2**20
"""What has gathered is packed into a table when it weighs so much."""
_CELLS_BYTES, _BODY_BYTES = 2048, 512
"""What a row of Python's values weighs, and what a usual one does beside its body; roughly."""
_Group = tuple[str, str]
"""Name and id of the release that answered."""
_Lot = tuple[_Group, Callable[[LogSettings, bytes], pl.DataFrame]]
"""What makes a table of some answers of a release."""


class PredictionLog:
    """Gathers answers and writes them from a thread of its own.

    Args:
        store: where the files go.
        settings: share, sizes, personal columns.
        key: for the hashes of personal columns.
        metrics: where rows written and lost are counted.
        tell: hears of trouble, once an outage.
    """

    def __init__(
        self,
        store: Store,
        settings: LogSettings,
        key: bytes,
        metrics: Metrics,
        tell: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._key = key
        self._metrics = metrics
        self._tell = tell
        self._entries: list[Entry] = []
        self._usual: list[UsualRows] = []
        self._left: list[_Lot] = []
        self._packed: dict[_Group, list[pl.DataFrame]] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._pending = self._loose = self._weight = 0
        self._packing = threading.Lock()
        self._full, self._due = threading.Event(), threading.Event()
        self._ending = False
        self._failing = False
        self._counted, self._kept_at = Counted(metrics), time.monotonic()
        self._threads = [
            threading.Thread(target=work, name=f"prediction-log-{name}", daemon=True)
            for name, work in (("packer", self._pack_on), ("writer", self._write_on))
        ]
        for thread in self._threads:
            thread.start()

    def add(
        self,
        model: ServedModel,
        role: str,
        request_id: str,
        rows: Mapping[str, Any] | pl.DataFrame | bytes,
        raw: Floats,
        remarks: tuple[Remark, ...],
    ) -> None:
        """Remember an answer; never waits for the disk.

        Args:
            model: who answered.
            role: champion, challenger or shadow.
            request_id: the request.
            rows: one row, or a table, as the model saw it: all of its columns in their order; or
                the JSON of a usual row (`ServedModel.bodies`).
            raw: (classes,) or (1,) for one row, else (rows, classes) or (rows,).
            remarks: what was odd.
        """
        if self._settings.share < 1 and not self._is_drawn(request_id):
            return
        now = time.time_ns() // 1000
        body, entry, count = None, None, 1
        if isinstance(rows, bytes):
            body = rows
        else:
            kept = rows if isinstance(rows, pl.DataFrame) else tuple(rows.values())
            entry = Entry(model, role, request_id, now, kept, raw, remarks)
            count = entry.num_rows
        with self._lock:
            if self._pending + count > self._settings.pending_rows:
                self._metrics.add("log_dropped_rows_total", (), count)
                return
            self._pending += count
            self._loose += count
            if body is not None:
                self._usual_of(model, role).add(request_id, now, body, raw)
                self._weight += _BODY_BYTES + len(body)
            elif entry is not None:
                self._entries.append(entry)
                self._weight += _CELLS_BYTES * count
        if self._weight >= _PACKED_BYTES or self._loose >= self._settings.flush_rows:
            self._full.set()

    @property
    def pending(self) -> int:
        """Rows that wait to be written."""
        return self._pending

    def flush(self) -> bool:
        """Write everything that waits; whether it is all on the disk."""
        with self._writing:
            packed = self._pack()
            return self._write_packed() and packed

    def close(self) -> None:
        """Write what waits and end; what cannot be written is counted as lost."""
        self._ending = True
        self._full.set()
        self._due.set()
        for thread in self._threads:
            thread.join()
        self._keep_counts()
        if not self.flush():
            self._metrics.add("log_dropped_rows_total", (), self._pending)

    def _usual_of(self, model: ServedModel, role: str) -> UsualRows:
        """Where usual rows of a model and a role gather; the one before, most of the time."""
        newest = self._usual[-1] if self._usual else None
        if newest is not None and newest.model is model and newest.role == role:
            return newest
        for found in self._usual:
            if found.model is model and found.role == role:
                return found
        self._usual.append(UsualRows(model, role))
        return self._usual[-1]

    def _is_drawn(self, request_id: str) -> bool:
        """A share of the requests, by their id: a request's rows and roles stay together."""
        drawn = int.from_bytes(blake2s(request_id.encode(), digest_size=4).digest(), "big")
        return drawn < self._settings.share * 2**32

    def _pack_on(self) -> None:
        while not self._ending:
            self._full.wait()
            self._full.clear()
            if not self._pack() and not self._ending:
                self._rest()
            if self._pending >= self._settings.flush_rows:
                self._due.set()

    def _write_on(self) -> None:
        seconds, written_at = self._settings.flush_seconds, time.monotonic()
        while not self._ending:
            self._due.wait(max(0.0, written_at + seconds - time.monotonic()))
            self._due.clear()
            whole, late = True, time.monotonic() - written_at >= seconds
            if late or self._pending >= self._settings.flush_rows:
                whole = self.flush()
                written_at = time.monotonic()
            if time.monotonic() - self._kept_at >= seconds:
                self._keep_counts()
            if not whole and not self._ending:
                self._rest()

    def _rest(self) -> None:
        """Before something that failed is tried again."""
        time.sleep(min(_RETRY_SECONDS, self._settings.flush_seconds))

    def _pack(self) -> bool:
        """Turn what has gathered into tables; whether nothing had to be left."""
        with self._packing:
            with self._lock:
                entries, self._entries = self._entries, []
                usual, self._usual = self._usual, []
                self._loose = self._weight = 0
            groups: dict[_Group, list[Entry]] = {}
            for entry in entries:
                groups.setdefault(_group_of(entry.model), []).append(entry)
            lots = [*self._left, *((_group_of(rows.model), rows.table) for rows in usual)]
            lots += ((group, partial(log_table, found)) for group, found in groups.items())
            self._left = []
            for lot in lots:
                group, make = lot
                try:
                    table = make(self._settings, self._key)
                except (LooplineError, pl.exceptions.PolarsError) as error:
                    self._left.append(lot)
                    self._failed(error)
                else:
                    self._packed.setdefault(group, []).append(table)
            return not self._left

    def _write_packed(self) -> bool:
        """Write the tables, one file a release; whether none had to be left."""
        with self._packing:
            packed, self._packed = self._packed, {}
        left: dict[_Group, list[pl.DataFrame]] = {}
        for group, tables in packed.items():
            try:
                table = pl.concat(tables, how="vertical_relaxed")
                self._write(*group, table)
            except (LooplineError, OSError, pl.exceptions.PolarsError) as error:
                left[group] = tables
                self._failed(error)
            else:
                self._failing = False
                self._written(table.height)
        with self._packing:
            for group, tables in left.items():
                self._packed[group] = tables + self._packed.get(group, [])
        return not left

    def _keep_counts(self) -> None:
        """Put down how the service did; where that cannot be written, the next time tells it."""
        self._kept_at = time.monotonic()
        try:
            self._counted.take(lambda served: keep(self._store, served))
        except (LooplineError, OSError) as error:
            self._failed(error)

    def _written(self, count: int) -> None:
        with self._lock:
            self._pending -= count
        self._metrics.add("log_rows_total", (), count)

    def _failed(self, error: Exception) -> None:
        self._metrics.add("log_failures_total")
        if not self._failing:
            self._failing = True
            self._tell("log.failed", {"message": str(error)})

    def _write(self, name: str, release: str, table: pl.DataFrame) -> None:
        def write(folder: Path) -> None:
            # level 1 takes half the time of the usual 3 and gives files of the same size
            table.write_parquet(folder / FILE, compression="zstd", compression_level=1)

        times = table["time"].dt.epoch("ms").to_numpy()
        self._store.put(
            KIND,
            write,
            meta={
                "name": name,
                "release": release,
                "rows": table.height,
                "start": _iso(int(times.min())),
                "end": _iso(int(times.max())),
            },
        )


def _group_of(model: ServedModel) -> _Group:
    return model.name, model.id


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class LogFile:
    """One artifact of the log.

    Args:
        id: the artifact.
        name: of the model.
        release: that answered.
        num_rows: answered rows in it.
        start: time of its first answer, UTC, ISO 8601.
        end: time of its last.
    """

    id: str
    name: str
    release: str
    num_rows: int
    start: str
    end: str

    @staticmethod
    def of(artifact: Artifact) -> LogFile:
        """What the artifact's manifest says."""
        meta = artifact.meta
        return LogFile(
            artifact.id, meta["name"], meta["release"], meta["rows"], meta["start"], meta["end"]
        )


def log_files(
    store: Store,
    *,
    name: str | None = None,
    release: str | None = None,
    known: Collection[str] = (),
) -> list[LogFile]:
    """The files of a store's prediction log, oldest first.

    Args:
        store: the store that the service logged into.
        name: only of the model of this name.
        release: only of this release.
        known: ids that are passed over unopened, so that a long log costs what is new in it.
    """
    passed = set(known)
    found = [LogFile.of(store.get(each)) for each in store.ids(KIND) if each not in passed]
    wanted = [
        file for file in found if name in (None, file.name) and release in (None, file.release)
    ]
    return sorted(wanted, key=lambda file: (file.start, file.id))


def read_files(
    store: Store, files: Iterable[LogFile], columns: Sequence[str] | None = None
) -> pl.DataFrame:
    """Rows of some files of the log, oldest first; columns that a file lacks are null.

    Args:
        store: where they are.
        files: from `log_files`.
        columns: only these, of those that a file has; all by default.

    Returns:
        One row an answered row, with its time and the release that answered. Empty without a file.
    """
    tables = []
    for file in files:
        path = store.get(file.id).path(FILE)
        kept = None
        if columns is not None:
            there = pl.read_parquet_schema(path)
            kept = [name for name in dict.fromkeys([*columns, "time"]) if name in there]
        table = pl.read_parquet(path, columns=kept)
        tables.append(table.with_columns(release=pl.lit(file.release)))
    return pl.concat(tables, how="diagonal_relaxed").sort("time") if tables else pl.DataFrame()


def read_log(store: Store, *, name: str | None = None, release: str | None = None) -> pl.DataFrame:
    """The prediction log of a store, oldest first.

    Args:
        store: the store that the service logged into.
        name: only of the model of this name.
        release: only of this release.

    Returns:
        One row an answered row; columns that a file lacks are null. Empty when nothing was logged.
    """
    return read_files(store, log_files(store, name=name, release=release))
