"""Rows that are judged together, and how a stream of answered rows is cut into them.

Nothing that a stream may bring stops the watch: windows of no row or one, clocks that jump back,
rows that come twice. Each is put right where that is possible and told in the window's remarks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.errors import DataError
from loopline.monitor.settings import MonitorSettings
from loopline.words import counted, times

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Service:
    """How the service itself did while a window's rows were answered.

    Args:
        requests: how many came.
        errors: how many of them failed for the service's own fault.
        latency: seconds by name of the quantile, such as ``{"p50": 0.002, "p99": 0.011}``.
    """

    requests: int
    errors: int = 0
    latency: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Window:
    """Answered rows in the order in which they came.

    Args:
        frame: their features, as the model saw them.
        prediction: what was answered, shaped as the reference's; None without a model.
        ids: names of the rows, by which labels find them; row numbers where none are given.
        time: seconds since 1970 (UTC); None or NaN where unknown.
        labels: outcomes that are known already: class codes or values (rows,), or 0 and 1 (rows,
            labels); NaN or None where not.
        service: how the service did meanwhile.
        remarks: what was odd about the rows themselves.
        left_out: columns that whoever kept the rows left out on purpose; that they are absent is no
            finding.

    Raises:
        DataError: parts whose lengths differ.
    """

    frame: pl.DataFrame
    prediction: Floats | None = None
    ids: tuple[str, ...] = ()
    time: Floats | None = None
    labels: Floats | None = None
    service: Service | None = None
    remarks: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        rows = self.frame.height
        if self.frame.width == 0 and self.prediction is not None:
            rows = len(self.prediction)
        for name in ("prediction", "time", "labels"):
            part = getattr(self, name)
            if part is not None:
                object.__setattr__(self, name, np.asarray(part, dtype=np.float64))
                if len(part) != rows:
                    raise DataError(f"The window has {rows} rows, but its {name} has {len(part)}.")
        if self.ids and len(self.ids) != rows:
            raise DataError(f"The window has {rows} rows, but {len(self.ids)} ids.")

    @property
    def num_rows(self) -> int:
        """Rows of it."""
        return self.frame.height

    def take(self, rows: NDArray[np.int64]) -> Window:
        """Some of its rows, with its service and remarks."""

        def of(part: Floats | None) -> Floats | None:
            return None if part is None else part[rows]

        ids = tuple(self.ids[int(row)] for row in rows) if self.ids else ()
        return Window(
            self.frame[rows], of(self.prediction), ids, of(self.time), of(self.labels),
            self.service, self.remarks, self.left_out,
        )  # fmt: skip

    def tidied(self) -> Window:
        """Each id once, times filled in, and what was odd told; the order of coming stays."""
        remarks = list(self.remarks)
        window = self
        if self.ids and len(set(self.ids)) < len(self.ids):
            first: dict[str, int] = {}
            for place, name in enumerate(self.ids):
                first.setdefault(name, place)
            window = self.take(np.array(list(first.values()), dtype=np.int64))
            again = self.num_rows - len(first)
            remarks.append(f"{counted(again, 'row')} came again and count once.")
        if window.time is not None and window.num_rows:
            time, told = _filled(window.time)
            window = replace(window, time=time)
            remarks += told
        return replace(window, remarks=tuple(remarks))


def _filled(time: Floats) -> tuple[Floats | None, list[str]]:
    """Times without gaps, and what was odd about them."""
    lost, told = ~np.isfinite(time), []
    if lost.any():
        told.append(f"{counted(int(lost.sum()), 'row')} had no time.")
        known = np.flatnonzero(~lost)
        if not known.size:
            return None, told
        time = np.interp(np.arange(time.size), known, time[known])
    back = np.diff(time)
    jumps = int((back < -1.0).sum())
    if jumps:
        told.append(
            f"The clock jumped back {times(jumps)}, by up to {-float(back.min()):,.0f} seconds."
        )
    return time, told


def joined(windows: Sequence[Window]) -> Window:
    """Rows of several batches as one; a part that one of them lacks is lacking."""
    windows = [window for window in windows if window.num_rows] or list(windows[:1])
    if len(windows) == 1:
        return windows[0]

    def all_of(name: str) -> Any:
        parts = [getattr(window, name) for window in windows]
        return None if any(part is None for part in parts) else np.concatenate(parts)

    every = all(window.ids for window in windows)
    ids = tuple(name for window in windows for name in window.ids) if every else ()
    labels = None
    shape = next((w.labels.shape[1:] for w in windows if w.labels is not None), None)
    if shape is not None:
        labels = np.concatenate(
            [
                np.full((window.num_rows, *shape), np.nan)
                if window.labels is None
                else window.labels
                for window in windows
            ]
        )
    return Window(
        pl.concat([window.frame for window in windows], how="diagonal_relaxed"),
        all_of("prediction"),
        ids,
        all_of("time"),
        labels,
        windows[-1].service,
        tuple(remark for window in windows for remark in window.remarks),
        frozenset().union(*(window.left_out for window in windows)),
    )


def cut(
    rows: Window, settings: MonitorSettings, *, end: bool = False
) -> tuple[list[Window], Window | None]:
    """Cut rows into whole windows; what does not fill one is given back for the next call.

    Rows of windows by time are put in the order of their times first. Cutting a stream in pieces
    gives the same windows as cutting it at once, as long as pieces do not overlap in time.

    Args:
        rows: what has gathered, oldest first.
        settings: the size of a window.
        end: whether nothing more comes, so that the rest is a window too.

    Raises:
        DataError: windows by time of rows without times.
    """
    if rows.num_rows == 0:
        return [], None
    size = settings.window_rows
    if size is not None:
        whole = rows.num_rows // size
        edges = [k * size for k in range(whole + 1)]
    else:
        if rows.time is None:
            raise DataError(
                f"`window: {settings.window}` cuts by time, but the rows have none; give them "
                "times, or set `window` to a number of rows."
            )
        order = np.argsort(np.where(np.isfinite(rows.time), rows.time, -np.inf), kind="stable")
        if (np.diff(order) < 0).any():
            rows = rows.take(order.astype(np.int64))
        assert rows.time is not None
        place = np.floor(rows.time / (settings.window_seconds or 1.0))
        starts = np.flatnonzero(np.r_[True, place[1:] != place[:-1]])
        edges = starts.tolist()
    if not edges:
        edges = [0]
    windows = [rows.take(np.arange(a, b)) for a, b in pairwise(edges) if b > a]
    rest = rows.take(np.arange(edges[-1], rows.num_rows))
    if rest.num_rows == 0:
        return windows, None
    return ([*windows, rest], None) if end else (windows, rest)
