"""New files of a line's source: waited for, looked over, taken or held.

A file that was taken lies in the store as it was read, so what a later attempt trains on does not
depend on whether the file is still there. A file that breaks the champion's contract, misses a
column, or shows another unit is *held*: told of, not used, until it is repaired or a person accepts
it. The champion goes on meanwhile.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from loopline.data.snapshot import open_snapshot
from loopline.digest import file_digest
from loopline.errors import DataError, InputError, NotFoundError
from loopline.line.context import LineContext
from loopline.line.project import Project
from loopline.line.source import locate
from loopline.loop.diary import Diary
from loopline.loop.steady import Clock, Steady
from loopline.release.bundle import Release
from loopline.serve.window import judge
from loopline.splits.views import target_codes
from loopline.words import counted

KIND = "arrival"
FILE = "arrival.parquet"
FEWEST_TO_JUDGE = 100
"""A file with fewer rows than this says nothing of units and missing columns."""
FINE_QUANTILES = 5
"""A number with so many different quantiles does not stand still by the season."""
AHEAD = timedelta(days=1)
"""Rows whose time lies further ahead than this have a wrong clock."""


@dataclass(frozen=True)
class Arrival:
    """One file that was taken.

    Args:
        file: its name, relative to the settings file.
        digest: of its bytes.
        artifact: where its rows are.
        event: the number of the entry that tells of it; larger is later.
    """

    file: str
    digest: str
    artifact: str
    event: int


class Arrivals:
    """The files of one line's source.

    Args:
        project: store and ledger.
        diary: where arrivals are written down.
        context: the line's settings and folder.
        clock: what time it is.
    """

    def __init__(self, project: Project, diary: Diary, context: LineContext, clock: Clock) -> None:
        loop = context.spec.loop
        self._project, self._diary, self._context = project, diary, context
        self._clock = clock
        self._steady = Steady(loop.settle, loop.patience, clock)

    def look(self, champion: Release) -> list[Arrival]:
        """Take what has come, and give what is there now, oldest first."""
        taken = self._taken()
        present: list[Arrival] = []
        for file in self._files():
            name = self._name(file)
            if (why := self._steady.wait_for(file)) is not None:
                self._wait(name, why)
                present += [one for one in taken.values() if one.file == name][-1:]
                continue
            digest = file_digest(file)
            arrival = taken.get((name, digest)) or self._take(file, name, digest, champion)
            if arrival is not None:
                present.append(arrival)
        return sorted(present, key=lambda arrival: arrival.event)

    def unfinished(self) -> list[str]:
        """Why the source cannot be read as a whole yet, a sentence each; empty when it can."""
        told = [self._steady.wait_for(file) for file in self._files()]
        return [why for why in told if why is not None]

    def frame(self, arrival: Arrival) -> pl.DataFrame:
        """The rows of a file that was taken."""
        return pl.read_parquet(self._project.store.get(arrival.artifact).path(FILE))

    def _files(self) -> list[Path]:
        place = locate(self._context, self._context.spec.data.source)
        if "://" in place or Path(place).is_dir():
            raise InputError(
                f"`loopline watch` follows files: `data.source` must be a file or a glob such as "
                f"data/*.csv, got {self._context.spec.data.source!r}."
            )
        found = [place] if Path(place).is_file() else sorted(glob.glob(place, recursive=True))
        return [Path(name) for name in found if Path(name).is_file()]

    def _name(self, file: Path) -> str:
        try:
            return file.resolve().relative_to(self._context.folder.resolve()).as_posix()
        except ValueError:
            return str(file)

    def _taken(self) -> dict[tuple[str, str], Arrival]:
        found = {}
        for entry in self._diary.entries("arrived"):
            data = entry.data
            arrival = Arrival(data["file"], data["digest"], data["artifact"], entry.id)
            found[arrival.file, arrival.digest] = arrival
        return found

    def _wait(self, name: str, why: str) -> None:
        told = [
            entry.data["file"] for entry in self._diary.entries("waiting") if entry.sentence == why
        ]
        if name not in told:
            self._diary.tell("waiting", why, file=name)

    def _take(self, file: Path, name: str, digest: str, champion: Release) -> Arrival | None:
        said = [e for e in self._diary.entries() if e.data.get("digest") == digest]
        last = said[-1].what if said else ""
        if last == "held":
            return None
        try:
            frame = self._read(file, champion)
        except (InputError, pl.exceptions.PolarsError) as error:
            if self._steady.patient(file):
                self._wait(name, f"{name} cannot be read yet: {error}")
            else:
                self._hold(name, digest, str(error))
            return None
        if last != "accepted":
            problems = broken(champion, frame, self._clock.now())
            if problems:
                self._hold(name, digest, " ".join(problems))
                return None
        artifact = self._project.store.put(
            KIND, lambda folder: frame.write_parquet(folder / FILE), meta={"digest": digest}
        )
        self._project.ledger.append("artifact", subject=artifact.id)
        entry = self._diary.tell(
            "arrived", f"{name} came with {counted(frame.height, 'row')}.",
            file=name, digest=digest, artifact=artifact.id, rows=frame.height,
        )  # fmt: skip
        return Arrival(name, digest, artifact.id, entry.id)

    def _read(self, file: Path, champion: Release) -> pl.DataFrame:
        frame = champion.read(str(file)).frame
        return as_source(frame, source_types(self._project, champion))

    def _hold(self, name: str, digest: str, why: str) -> None:
        self._diary.tell(
            "held", f"{name} is held and not used: {why} Repair it, or take it as it is with "
            f"`loopline watch --accept {name}`.",
            file=name, digest=digest, why=why,
        )  # fmt: skip


def source_types(project: Project, champion: Release) -> dict[str, pl.DataType]:
    """The columns of the table that the champion's line read, with their types."""
    return open_snapshot(project.store, source_snapshot(project, champion)).dtypes


def source_snapshot(project: Project, champion: Release) -> str:
    """The id of the snapshot of the source that a release was made from."""
    name = champion.artifact.inputs.get("replay")
    if name is None:
        raise NotFoundError(
            f"{champion.id[:20]} keeps no rows of its source. Run its line again and promote the "
            "new release."
        )
    return project.store.get(name).inputs["snapshot"]


def as_source(frame: pl.DataFrame, types: dict[str, pl.DataType]) -> pl.DataFrame:
    """A table with the source's columns and types; a column that no model needs may be absent.

    Raises:
        DataError: a cell is not of its column's type.
    """
    try:
        return frame.select(
            pl.col(name).cast(dtype) if name in frame.columns else pl.lit(None, dtype).alias(name)
            for name, dtype in types.items()
        )
    except pl.exceptions.PolarsError as error:
        raise DataError(f"Some cells are not of their column's type: {error}") from error


def broken(champion: Release, frame: pl.DataFrame, now: float) -> list[str]:
    """What makes rows unfit to train on, a sentence each: columns, units, clocks, unknown classes.

    Args:
        champion: whose contract the rows must keep.
        frame: the rows, in the source's types.
        now: seconds since 1970.
    """
    if frame.is_empty():
        return ["It holds no rows."]
    try:
        repaired = champion.repaired(frame)
        checked, _ = champion.contract.check(
            repaired.select(name for name in repaired.columns if name not in champion.expected)
        )
        known = repaired.filter(pl.col(champion.schema.target).is_not_null())
        if known.height:
            target_codes(known[champion.schema.target], champion.schema)
    except DataError as error:
        return [str(error)]
    columns = champion.contract.columns
    found = [
        f"Column {column.name!r} is missing in all {counted(frame.height, 'row')}."
        for column in columns
        if checked[column.name].null_count() == frame.height and column.missing_share < 0.5
    ]
    if frame.height >= FEWEST_TO_JUDGE:
        told = judge(columns, {column.name: checked[column.name].to_list() for column in columns})
        fine = {column.name for column in columns if len(set(column.quantiles)) >= FINE_QUANTILES}
        found += [
            remark.text
            for remark in told
            if remark.what in ("unit", "swapped")
            or (remark.column in fine and checked[remark.column].null_count() < frame.height)
        ]
    return [*found, *_ahead(champion, frame, now)]


def _ahead(champion: Release, frame: pl.DataFrame, now: float) -> Sequence[str]:
    limit = datetime.fromtimestamp(now, UTC) + AHEAD
    told = []
    for name in champion.schema.with_role("time"):
        if name in frame.columns and frame[name].dtype in (pl.Datetime, pl.Date):
            seconds = frame[name].cast(pl.Datetime("us")).dt.epoch("s")
            ahead = int((seconds > limit.timestamp()).sum())
            if ahead:
                told.append(
                    f"{counted(ahead, 'row')} of {name!r} lie more than a day ahead of this "
                    "machine's clock: one of the two is wrong."
                )
    return told


def held_digest(diary: Diary, file: str) -> str:
    """The digest of the newest held content of a file.

    Raises:
        NotFoundError: no file of this name is held.
    """
    held = [entry for entry in diary.entries("held") if entry.data["file"] == file]
    if not held:
        known = sorted({entry.data["file"] for entry in diary.entries("held")})
        raise NotFoundError(f"No file {file!r} is held. Held are: {', '.join(known) or 'none'}.")
    return str(held[-1].data["digest"])
