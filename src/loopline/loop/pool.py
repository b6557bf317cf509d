"""All rows that a loop may use, in the order of their time or arrival, and what each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.fingerprint import row_digests
from loopline.data.snapshot import open_snapshot
from loopline.line.project import Project
from loopline.loop.arrivals import source_snapshot
from loopline.loop.cut import not_among
from loopline.loop.diary import Diary
from loopline.release.bundle import Release

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pool:
    """The rows of a loop.

    Args:
        frame: in the source's columns and types, oldest first.
        digests: (rows, 2) their identities.
        new: rows that the champion's makers did not know.
        labelled: rows with a label.
        used: rows that decided before.
        seconds: time of each row since 1970; None where the line has no column of dates.
    """

    frame: pl.DataFrame
    digests: NDArray[np.uint64]
    new: Mask
    labelled: Mask
    used: Mask
    seconds: NDArray[np.float64] | None

    @property
    def fresh(self) -> pl.DataFrame:
        """The rows that came since the champion was made."""
        return self.frame.filter(self.new)

    @property
    def labels_since(self) -> int:
        """Labelled rows that came after those that decided last."""
        able = np.flatnonzero(self.new & self.labelled)
        used = np.flatnonzero(self.used)
        return int((able > used[-1]).sum()) if len(used) else len(able)

    @property
    def fresh_labels(self) -> int:
        """How many of them have a label."""
        return int((self.new & self.labelled).sum())


def gather(
    project: Project, diary: Diary, champion: Release, pieces: Sequence[pl.DataFrame]
) -> Pool:
    """Put files and answered rows together.

    Args:
        project: store and ledger.
        diary: which rows attempts set aside or used.
        champion: whose makers knew some of the rows.
        pieces: tables in the source's columns and types, in the order of their arrival.
    """
    frame = pl.concat(pieces, how="vertical")
    times = [
        name
        for name in champion.schema.with_role("time")
        if name in frame.columns and not frame[name].dtype.is_nested()
    ]
    if times:
        frame = frame.sort(times, maintain_order=True, nulls_last=False)
    digests = row_digests(frame)
    known = [_digests(project, source_snapshot(project, champion))]
    used, maker = [], _maker(diary, champion)
    for entry in diary.entries("triggered"):
        used.append(_digests(project, entry.data["gate"]))
        if entry.data["attempt"] == maker:
            known = [np.load(project.store.get(entry.data["known"]).path("rows.npy"))]
    return Pool(
        frame,
        digests,
        not_among(digests, np.concatenate(known)),
        frame[champion.schema.target].is_not_null().to_numpy(),
        ~not_among(digests, np.concatenate(used)) if used else np.zeros(len(digests), np.bool_),
        _seconds(frame, times),
    )


def _maker(diary: Diary, champion: Release) -> str | None:
    """The attempt that made the champion; None for one that the loop did not make."""
    for entry in diary.entries("trained"):
        if entry.data["release"] == champion.id:
            return str(entry.data["attempt"])
    return None


def _digests(project: Project, snapshot: str) -> NDArray[np.uint64]:
    return np.asarray(open_snapshot(project.store, snapshot).rows())


def _seconds(frame: pl.DataFrame, times: Sequence[str]) -> NDArray[np.float64] | None:
    if not times or frame[times[0]].dtype not in (pl.Datetime, pl.Date):
        return None
    microseconds = frame[times[0]].cast(pl.Datetime("us")).dt.epoch("us")
    return microseconds.cast(pl.Float64).fill_null(0.0).to_numpy() / 1e6
