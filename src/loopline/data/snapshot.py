"""Snapshots: a table as an immutable artifact that is named by its content.

A snapshot holds Parquet parts (``rows-00000.parquet`` …), every row digest (``rows.npy``) and
the table digest, which is its identity. The same rows in another order therefore give the same id;
the first writer's order and integer widths are the ones that stay, and `Snapshot.rows` is always in
the order of `Snapshot.frame`. Parquet is compressed with zstd level 1: on a mixed table half the
bytes of an uncompressed file for 1.5 times its writing time, and level 3 saved nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.fingerprint import digest_of_rows, row_digests, table_digest
from loopline.errors import DataError, IntegrityError, NotFoundError

if TYPE_CHECKING:
    from loopline.store.artifacts import Artifact, Store

KIND = "snapshot"
FORMAT = "loopline-snapshot-1"

_ROWS_FILE = "rows.npy"
_PART_BYTES = 1 << 29  # a part in memory: what one reader holds at once
_GROUP_BYTES = 1 << 25
_GROUP_ROWS = 1 << 17


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One immutable table in a store. Get one from `write_snapshot` or `open_snapshot`."""

    artifact: Artifact
    _cache: dict[str, pl.DataFrame] = field(default_factory=dict, repr=False, compare=False)
    _mapped: dict[str, NDArray[np.uint64]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def id(self) -> str:
        """The artifact id, ``snapshot-<64 hex>``; equal for equal content."""
        return self.artifact.id

    @property
    def digest(self) -> str:
        """The table digest (`loopline.data.fingerprint.table_digest`)."""
        return str(self.artifact.meta["digest"])

    @property
    def num_rows(self) -> int:
        """Rows of the table."""
        return int(self.artifact.meta["num_rows"])

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names in table order."""
        return tuple(name for name, _ in self.artifact.meta["columns"])

    @property
    def dtypes(self) -> dict[str, pl.DataType]:
        """Column types in table order, read from the Parquet footer."""
        return dict(pl.read_parquet_schema(self._parts()[0]))

    @property
    def parent(self) -> str | None:
        """Id of the snapshot that this one was made from, if any."""
        parent = self.artifact.meta["parent"]
        return None if parent is None else str(parent)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was known of the source when the snapshot was written; plain data."""
        facts: Mapping[str, Any] = self.artifact.meta["facts"]
        return facts

    def frame(self) -> pl.DataFrame:
        """The table as it was written; read once per `Snapshot` and then shared, never copied."""
        if "frame" not in self._cache:
            self._cache["frame"] = pl.read_parquet(self._parts(), glob=False)
        return self._cache["frame"]

    def forget(self, larger_than: int = 0) -> bool:
        """Let the table go from memory; `frame` reads it again when it is asked for.

        Args:
            larger_than: a table of up to so many bytes stays.

        Returns:
            Whether no table is held any more.
        """
        held = self._cache.get("frame")
        if held is not None and held.estimated_size() > larger_than:
            self._cache.clear()
        return not self._cache

    def scan(self) -> pl.LazyFrame:
        """The table as a lazy query, for work that needs few columns or few rows."""
        return pl.scan_parquet(self._parts(), glob=False)

    def rows(self) -> NDArray[np.uint64]:
        """The row digests in table order, shape (num_rows, 2), mapped read-only from the file.

        Raises:
            IntegrityError: the file does not hold one digest a row.
        """
        if "rows" not in self._mapped:  # a second mapping would count its pages a second time
            self._mapped["rows"] = self._read_rows()
        return self._mapped["rows"]

    def _read_rows(self) -> NDArray[np.uint64]:
        path = self.artifact.path(_ROWS_FILE)
        mapped = self.num_rows > 0  # an empty file cannot be mapped
        try:
            digests = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise IntegrityError(f"{self.id}: {_ROWS_FILE} cannot be read ({error}).") from error
        if digests.shape != (self.num_rows, 2) or digests.dtype != np.uint64:
            raise IntegrityError(
                f"{self.id}: {_ROWS_FILE} must hold uint64 of shape ({self.num_rows}, 2), it has "
                f"{digests.dtype} of shape {digests.shape}."
            )
        found: NDArray[np.uint64] = digests
        return found

    def verify(self) -> None:
        """Prove from the Parquet content that rows and digests are the ones that were written.

        Raises:
            IntegrityError: a part, a row digest or the table digest does not fit; the message names
                the file and the first row.
        """
        stored = self._read_rows()
        start = 0
        for path in self._parts():
            try:
                part = pl.read_parquet(path, glob=False)
            except (pl.exceptions.PolarsError, OSError) as error:
                raise IntegrityError(f"{self.id}: {path.name} cannot be read ({error}).") from error
            found = row_digests(part)
            expected = stored[start : start + part.height]
            if expected.shape != found.shape:
                raise IntegrityError(
                    f"{self.id}: {path.name} ends at row {start + part.height:,}, but the snapshot "
                    f"has {self.num_rows:,} rows."
                )
            wrong = np.flatnonzero((found != expected).any(axis=1))
            if len(wrong):
                raise IntegrityError(
                    f"{self.id}: {path.name} differs from {_ROWS_FILE} in {len(wrong):,} rows, "
                    f"first in row {start + int(wrong[0]):,}."
                )
            start += part.height
        if start != self.num_rows:
            raise IntegrityError(
                f"{self.id}: the parts hold {start:,} rows, the snapshot has {self.num_rows:,}."
            )
        digest = digest_of_rows(self.dtypes, stored)
        if digest != self.digest:
            raise IntegrityError(
                f"{self.id}: the table digest is {digest}, the snapshot was written with "
                f"{self.digest}."
            )

    def _parts(self) -> list[Path]:
        names = sorted(name for name in self.artifact.files if name.endswith(".parquet"))
        return [self.artifact.path(name) for name in names]


def write_snapshot(
    store: Store,
    frame: pl.DataFrame,
    *,
    parent: Snapshot | str | None = None,
    facts: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str] | None = None,
) -> Snapshot:
    """Store a table under its content digest.

    A table with the same content that is already there is returned as it is, with the parent and
    facts of its first writer.

    Args:
        store: where to put it.
        frame: the table, best in canonical types (`loopline.data.sources`).
        parent: the snapshot it was made from, for example before cleaning.
        facts: plain data about the source, kept with the snapshot.
        inputs: further artifacts it was made from, role -> id.

    Raises:
        DataError: no columns, or a column whose type has no digest or no Parquet form.
    """
    _check_storable(frame)
    digests = row_digests(frame)
    digest = table_digest(frame, digests)
    parent_id = parent.id if isinstance(parent, Snapshot) else parent
    meta = {
        "format": FORMAT,
        "digest": digest,
        "num_rows": frame.height,
        "columns": [[name, str(dtype)] for name, dtype in frame.schema.items()],
        "parent": parent_id,
        "facts": dict(facts or {}),
    }
    lineage = dict(inputs or {})
    if parent_id is not None:
        lineage["parent"] = parent_id

    def write(folder: Path) -> None:
        _write_parts(frame, folder)
        np.save(folder / _ROWS_FILE, digests, allow_pickle=False)

    return Snapshot(store.put(KIND, write, meta=meta, inputs=lineage, identity=digest))


def open_snapshot(store: Store, snapshot_id: str) -> Snapshot:
    """The snapshot of that id.

    Raises:
        NotFoundError: there is no such artifact, or it is not a snapshot.
        IntegrityError: it was written in a format that this version does not know.
    """
    artifact = store.get(snapshot_id)
    if artifact.kind != KIND:
        raise NotFoundError(f"{snapshot_id} is a {artifact.kind}, not a snapshot.")
    if artifact.meta.get("format") != FORMAT:
        raise IntegrityError(
            f"{snapshot_id} has the format {artifact.meta.get('format')!r}; this version of "
            f"Loopline reads {FORMAT!r}. Use the version that wrote it."
        )
    return Snapshot(artifact)


def _check_storable(frame: pl.DataFrame) -> None:
    if not frame.width:
        raise DataError("A snapshot needs at least one column; the table has none.")
    for name, dtype in frame.schema.items():
        if _has_empty_struct(dtype):
            raise DataError(
                f"Column {name!r} has the type {dtype}: a struct without fields has no Parquet "
                "form. Drop the column or give the struct a field."
            )


def _has_empty_struct(dtype: Any) -> bool:
    if isinstance(dtype, pl.Struct):
        return not dtype.fields or any(_has_empty_struct(part.dtype) for part in dtype.fields)
    return isinstance(dtype, pl.List | pl.Array) and _has_empty_struct(dtype.inner)


def _write_parts(frame: pl.DataFrame, folder: Path) -> None:
    row_bytes = max(1, int(frame.estimated_size()) // max(1, frame.height))
    part_rows = max(1, _PART_BYTES // row_bytes)
    group_rows = max(1, min(_GROUP_ROWS, _GROUP_BYTES // row_bytes))
    for number, start in enumerate(range(0, max(1, frame.height), part_rows)):
        name = f"rows-{number:05d}.parquet"
        try:
            frame.slice(start, part_rows).write_parquet(
                folder / name,
                compression="zstd",
                compression_level=1,
                row_group_size=group_rows,
            )
        except (pl.exceptions.ComputeError, pl.exceptions.InvalidOperationError) as error:
            kinds = ", ".join(f"{column!r} ({dtype})" for column, dtype in frame.schema.items())
            raise DataError(
                f"The table cannot be written as Parquet: {error}. Convert or drop the column that "
                f"it names; the table has {kinds}."
            ) from error
