"""Documents packed into rows of equal length, each with its targets and its own positions.

A row holds documents one after another. A document longer than a row is cut into pieces, each of
which starts anew, so a token never sees past its row. Filling up is a document of its own, whose
tokens have no targets. Which document stands where follows from their order alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.nets.lm_loss import IGNORED

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Pack:
    """Where the pieces of documents stand.

    Args:
        length: tokens of a row.
        rows: which row each piece stands in, rising; shape (pieces,).
        starts: its first token in the stream of all documents' tokens; shape (pieces,).
        sizes: its inputs: one fewer than its tokens, since the last is only a target.
        places: where in its row it starts.
        num_rows: how many rows there are.
        most: the most pieces that a row holds, filling up included.
    """

    length: int
    rows: Ints
    starts: Ints
    sizes: Ints
    places: Ints
    num_rows: int
    most: int

    @property
    def filled(self) -> float:
        """Share of the rows' places that hold a token, in (0, 1]."""
        return float(self.sizes.sum()) / (self.num_rows * self.length)


def pack(ends: Ints, length: int) -> Pack:
    """Pack documents into rows, each into the first row that has room among the last few.

    Args:
        ends: cumulative lengths of the documents in tokens, from 0; shape (documents + 1,). A
            document of fewer than two tokens has nothing to be guessed and is left out.
        length: tokens of a row.

    >>> found = pack(np.array([0, 4, 7, 16]), 5)
    >>> found.rows.tolist(), found.places.tolist(), found.sizes.tolist()
    ([0, 0, 1, 2], [0, 3, 0, 0], [3, 2, 5, 3])
    """
    starts, sizes = _pieces(ends, length)
    rows, places = np.empty_like(starts), np.empty_like(starts)
    open_rows: list[list[int]] = []  # row, tokens in it
    num_rows = 0
    for number, size in enumerate(sizes.tolist()):
        fit = next((entry for entry in open_rows if entry[1] + size <= length), None)
        if fit is None:
            fit = [num_rows, 0]
            num_rows += 1
            open_rows = [*open_rows[-_OPEN + 1 :], fit]
        rows[number], places[number] = fit
        fit[1] += size
        if fit[1] == length:
            open_rows.remove(fit)
    order = np.lexsort((places, rows))
    rows, places, starts, sizes = (part[order] for part in (rows, places, starts, sizes))
    most = int(np.bincount(rows, minlength=1).max()) + 1 if rows.size else 1
    return Pack(length, rows, starts, sizes, places, num_rows, most)


_OPEN = 64
"""Rows with room that are looked at."""


def _pieces(ends: Ints, length: int) -> tuple[Ints, Ints]:
    starts, sizes = [], []
    for first, last in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        for start in range(first, last - 1, length):
            starts.append(start)
            sizes.append(min(length, last - 1 - start))
    return np.array(starts, dtype=np.int64), np.array(sizes, dtype=np.int64)


def packed_rows(
    pack: Pack, tokens: NDArray[Any], scored: NDArray[np.bool_] | None, rows: Ints, fill: int = 0
) -> dict[str, NDArray[Any]]:
    """The arrays of some rows, by the names that a decoder's `forward` has.

    Args:
        pack: where everything stands.
        tokens: of all documents, one after another.
        scored: which of them are to be guessed; None for all but the first of each piece.
        rows: row numbers, shape (rows,).
        fill: the token that fills up.

    Returns:
        `tokens`, `targets` and `positions`, int64 of shape (rows, length); `ends`, int32 of
        shape (rows * most + 1,), where documents of length 0 at the end fill up.
    """
    shape = (rows.size, pack.length)
    found = np.full(shape, fill, dtype=np.int64)
    targets = np.full(shape, IGNORED, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
    ends = np.full(rows.size * pack.most + 1, rows.size * pack.length, dtype=np.int32)
    ends[0], number = 0, 0
    bounds = np.searchsorted(pack.rows, np.stack([rows, rows + 1]))
    for line, (first, last) in enumerate(bounds.T.tolist()):
        place = 0
        for piece in range(first, last):
            start, size, place = (
                int(part[piece]) for part in (pack.starts, pack.sizes, pack.places)
            )
            found[line, place : place + size] = tokens[start : start + size]
            after = slice(start + 1, start + size + 1)
            aim = tokens[after].astype(np.int64)
            if scored is not None:
                aim = np.where(scored[after], aim, IGNORED)
            targets[line, place : place + size] = aim
            positions[line, place : place + size] = np.arange(size)
            place += size
            number += 1
            ends[number] = line * pack.length + place
        if place < pack.length:
            positions[line, place:] = np.arange(pack.length - place)
            number += 1
            ends[number] = (line + 1) * pack.length
    return {"tokens": found, "targets": targets, "positions": positions, "ends": ends}
