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
        num_rows: how many rows there are.
        most: the most pieces that a row holds.
    """

    length: int
    rows: Ints
    starts: Ints
    sizes: Ints
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
    >>> found.rows.tolist(), found.starts.tolist(), found.sizes.tolist()
    ([0, 0, 1, 2], [0, 4, 7, 12], [3, 2, 5, 3])
    """
    starts, sizes = _pieces(ends, length)
    rows = np.empty_like(starts)
    open_rows: list[list[int]] = []  # row, tokens in it
    num_rows = 0
    for number, size in enumerate(sizes.tolist()):
        fit = next((entry for entry in open_rows if entry[1] + size <= length), None)
        if fit is None:
            fit = [num_rows, 0]
            num_rows += 1
            open_rows = [*open_rows[-_OPEN + 1 :], fit]
        rows[number] = fit[0]
        fit[1] += size
        if fit[1] == length:
            open_rows.remove(fit)
    order = np.argsort(rows, kind="stable")
    rows, starts, sizes = (part[order] for part in (rows, starts, sizes))
    most = int(np.bincount(rows, minlength=1).max())
    return Pack(length, rows, starts, sizes, num_rows, most)


_OPEN = 64
"""Rows with room that are looked at."""


def _pieces(ends: Ints, length: int) -> tuple[Ints, Ints]:
    starts, sizes = [], []
    for first, last in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        for start in range(first, last - 1, length):
            starts.append(start)
            sizes.append(min(length, last - 1 - start))
    return np.array(starts, dtype=np.int64), np.array(sizes, dtype=np.int64)


@dataclass(frozen=True)
class Texts:
    """Documents as tokens.

    Args:
        tokens: of all documents, one after another.
        ends: cumulative lengths from 0, shape (documents + 1,).
        scored: which tokens are to be guessed (the answers of instructions); None for all but the
            first of each document.
        weight: how much each document's tokens count, shape (documents,); None for all alike.
    """

    tokens: NDArray[Any]
    ends: Ints
    scored: NDArray[np.bool_] | None = None
    weight: NDArray[np.float32] | None = None

    @property
    def num_documents(self) -> int:
        """Number of documents."""
        return int(self.ends.size - 1)


def packed_rows(place: Pack, texts: Texts, rows: Ints, fill: int = 0) -> dict[str, NDArray[Any]]:
    """The arrays of some rows, by the names that a decoder's `forward` has.

    Args:
        place: where everything stands.
        texts: what was packed.
        rows: row numbers, shape (rows,).
        fill: the token that fills up.

    Returns:
        `tokens` and `targets`, int64 of shape (rows, length). Where rows hold several documents
        also `positions`, of that shape, and `ends`, int32 of shape (rows * (most + 1) + 1,), where
        filling up counts as a document and documents of length 0 stand at the end. `weight`,
        float32 of shape (rows, length), where documents have weights.
    """
    shape = (rows.size, place.length)
    found: dict[str, NDArray[Any]] = {
        "tokens": np.full(shape, fill, dtype=np.int64),
        "targets": np.full(shape, IGNORED, dtype=np.int64),
    }
    if place.most > 1:
        found["positions"] = np.zeros(shape, dtype=np.int64)
        ends = np.full(rows.size * (place.most + 1) + 1, rows.size * place.length, dtype=np.int32)
        ends[0] = 0
        found["ends"] = ends
    if texts.weight is not None:
        found["weight"] = np.zeros(shape, dtype=np.float32)
    number = 0
    bounds = np.searchsorted(place.rows, np.stack([rows, rows + 1]))
    for line, (first, last) in enumerate(bounds.T.tolist()):
        number = _filled_row(place, texts, found, line, range(first, last), number)
    return found


def _filled_row(
    place: Pack, texts: Texts, found: dict[str, NDArray[Any]], line: int, pieces: range, number: int
) -> int:
    """Put pieces into a row; gives how many documents there are now."""
    end = 0
    for piece in pieces:
        start, size = int(place.starts[piece]), int(place.sizes[piece])
        span, after = slice(end, end + size), slice(start + 1, start + size + 1)
        aim = texts.tokens[after].astype(np.int64)
        if texts.scored is not None:
            aim = np.where(texts.scored[after], aim, IGNORED)
        found["tokens"][line, span] = texts.tokens[start : start + size]
        found["targets"][line, span] = aim
        if texts.weight is not None:
            document = np.searchsorted(texts.ends, start, side="right") - 1
            found["weight"][line, span] = texts.weight[document]
        end += size
        if place.most > 1:
            found["positions"][line, span] = np.arange(size)
            number += 1
            found["ends"][number] = line * place.length + end
    if place.most > 1 and end < place.length:
        found["positions"][line, end:] = np.arange(place.length - end)
        number += 1
        found["ends"][number] = (line + 1) * place.length
    return number
