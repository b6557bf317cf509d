"""Which rows belong to the same hour, day and week, and where in the season they lie.

Rows of one day are alike beyond what the season explains, so a window of one day says less than
its rows suggest. The clock cuts time into nested blocks, by which `loopline.monitor.law` learns how
much less. Where rows have no times their order is cut instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.monitor.settings import Season

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
HOUR, DAY, WEEK = 3600.0, 86_400.0, 604_800.0
FEWEST_BLOCKS = 8
PERIODS = 3
"""Whole days or weeks that a season is learned from, at least."""
ROW_BLOCKS = (16.0, 128.0, 1024.0, 8192.0)
MONDAY = 4 * DAY
"""Weeks begin on Mondays; 1 January 1970 was a Thursday."""


@dataclass(frozen=True)
class Clock:
    """How time is cut.

    Args:
        timed: whether rows have times; else their places in the stream are cut.
        lengths: of the nested blocks, shortest first: seconds, or rows.
        hours: whether the hour of the day matters.
        weekdays: whether the day of the week matters.
    """

    timed: bool
    lengths: tuple[float, ...]
    hours: bool = False
    weekdays: bool = False

    @staticmethod
    def learn(time: Floats | None, num_rows: int, season: Season = "auto") -> Clock:
        """What a reference is long and dense enough for.

        Args:
            time: seconds since 1970 of its rows, rising; None when unknown.
            num_rows: how many there are.
            season: what the settings ask for.
        """
        if time is None:
            lengths = [size for size in ROW_BLOCKS if num_rows / size >= FEWEST_BLOCKS]
            return Clock(False, tuple(lengths))
        span = float(time[-1] - time[0])
        lengths, finer = [], num_rows
        for length in (HOUR, DAY, WEEK):
            blocks = np.unique(_block(time, length)).size
            if blocks < FEWEST_BLOCKS:
                break
            if blocks < 0.7 * finer:
                lengths.append(length)
            elif lengths:  # as many as of the shorter ones: times that are dates have no hours
                lengths[-1] = length
            else:
                continue
            finer = blocks
        hour = np.unique(_hour(time)).size > 1
        return Clock(
            True,
            tuple(lengths),
            hours=season in ("auto", "day", "week") and hour and span >= (PERIODS - 0.1) * DAY,
            weekdays=season in ("auto", "week") and span >= (PERIODS - 0.1) * WEEK,
        )

    def blocks(self, time: Floats | None, start: int, num_rows: int) -> list[Ints]:
        """The block of each row at each length.

        Args:
            time: of the rows.
            start: place of the first row in the stream, which counts where there are no times.
            num_rows: how many.
        """
        if self.timed and time is not None:
            return [_block(time, length) for length in self.lengths]
        place = np.arange(start, start + num_rows, dtype=np.float64)
        return [np.floor(place / length).astype(np.int64) for length in self.lengths]

    def cells(self, time: Floats | None) -> list[Ints]:
        """Where in the season each row lies: hour of the day (0-23), day of the week (0-6)."""
        found: list[Ints] = []
        if time is None:
            return found
        if self.hours:
            found.append(_hour(time))
        if self.weekdays:
            found.append(_weekday(time))
        return found

    @property
    def cell_sizes(self) -> list[int]:
        """Number of cells of each part of the season."""
        return [24] * self.hours + [7] * self.weekdays


def _block(time: Floats, length: float) -> Ints:
    shifted = time - MONDAY if length == WEEK else time
    return np.asarray(np.floor(shifted / length), dtype=np.int64)


def _hour(time: Floats) -> Ints:
    return np.asarray(np.floor(time / HOUR) % 24, dtype=np.int64)


def _weekday(time: Floats) -> Ints:
    return np.asarray(np.floor((time - MONDAY) / DAY) % 7, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Span:
    """When the rows of a window were, in as few numbers as the law needs.

    Args:
        rows: how many rows.
        blocks: for each length, the blocks and how many rows lie in each.
        cells: for each part of the season, rows in each cell.
    """

    rows: int
    blocks: tuple[tuple[Ints, Ints], ...]
    cells: tuple[Ints, ...]

    @staticmethod
    def of(clock: Clock, time: Floats | None, start: int, num_rows: int) -> Span:
        """Of rows, by their times or places."""
        blocks = [
            np.unique(codes, return_counts=True) for codes in clock.blocks(time, start, num_rows)
        ]
        sizes = clock.cell_sizes
        places = clock.cells(time) or [np.zeros(0, dtype=np.int64)] * len(sizes)
        cells = [np.bincount(p, minlength=size) for p, size in zip(places, sizes, strict=True)]
        return Span(num_rows, tuple(blocks), tuple(cells))


@dataclass(frozen=True, eq=False)
class Crowd:
    """How the rows of several look-backs are spread over blocks and seasons.

    Args:
        shared: for each look-back and length, the sum over blocks of their squared shares of rows.
        cells: for each part of the season, the share of rows in each cell, (look-backs, cells).
    """

    shared: Floats
    cells: tuple[Floats, ...]


class Trail:
    """The spans of the last windows, kept side by side so that look-backs are summed quickly."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._ids: list[Ints] = []
        self._counts: list[Ints] = []
        self._lengths: list[list[int]] = []
        self._cells: list[Ints] = []

    @property
    def rows(self) -> list[int]:
        """Rows of each window, oldest first."""
        return self._rows

    def add(self, span: Span) -> None:
        """Remember a window."""
        if not self._rows:
            self._ids = [np.zeros(0, dtype=np.int64) for _ in span.blocks]
            self._counts = [np.zeros(0, dtype=np.int64) for _ in span.blocks]
            self._lengths = [[] for _ in span.blocks]
            self._cells = [np.zeros((0, cell.size), dtype=np.int64) for cell in span.cells]
        self._rows.append(span.rows)
        for level, (ids, counts) in enumerate(span.blocks):
            self._ids[level] = np.concatenate([self._ids[level], ids])
            self._counts[level] = np.concatenate([self._counts[level], counts])
            self._lengths[level].append(ids.size)
        for part, cell in enumerate(span.cells):
            self._cells[part] = np.vstack([self._cells[part], cell])

    def drop(self) -> None:
        """Forget the oldest window."""
        del self._rows[0]
        for level, lengths in enumerate(self._lengths):
            cut = lengths.pop(0)
            self._ids[level] = self._ids[level][cut:]
            self._counts[level] = self._counts[level][cut:]
        self._cells = [cell[1:] for cell in self._cells]

    def crowd(self, backs: Sequence[int]) -> Crowd:
        """Of look-backs.

        Args:
            backs: how many of the last windows each takes, rising.
        """
        chosen = np.array(backs) - 1
        rows = np.maximum(np.cumsum(self._rows[::-1]), 1)[chosen].astype(np.float64)
        shared = np.zeros((len(backs), len(self._ids)))
        for level, lengths in enumerate(self._lengths):
            ends = np.cumsum(lengths[::-1])[chosen]
            ids, counts = self._ids[level], self._counts[level]
            code = np.unique(ids, return_inverse=True)[1].reshape(-1)
            for place, end in enumerate(ends.tolist()):
                held = np.bincount(code[ids.size - end :], weights=counts[ids.size - end :])
                shared[place, level] = held @ held
        cells = []
        for cell in self._cells:
            sums = np.cumsum(cell[::-1], axis=0)[chosen].astype(np.float64)
            cells.append(sums / np.maximum(sums.sum(axis=1, keepdims=True), 1.0))
        return Crowd(shared / rows[:, None] ** 2, tuple(cells))

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "rows": list(self._rows),
            "ids": [part.tolist() for part in self._ids],
            "counts": [part.tolist() for part in self._counts],
            "lengths": [list(part) for part in self._lengths],
            "cells": [part.tolist() for part in self._cells],
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Trail:
        """Read what `to_dict` wrote."""
        trail = Trail()
        trail._rows = list(data["rows"])
        trail._ids = [np.array(part, dtype=np.int64) for part in data["ids"]]
        trail._counts = [np.array(part, dtype=np.int64) for part in data["counts"]]
        trail._lengths = [list(part) for part in data["lengths"]]
        trail._cells = [np.array(part, dtype=np.int64) for part in data["cells"]]
        return trail
