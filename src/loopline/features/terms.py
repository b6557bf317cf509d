"""Terms of texts: words, pairs of words and runs of letters, as hashes; see `features.texts`.

Needs numpy alone, so that single rows are read without tables.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_BUCKETS = 2**20
LETTER_RUNS = (3, 4)

Floats = NDArray[np.float64]

PRIME = 0x9E3779B97F4A7C15
INVERSE = pow(PRIME, -1, 2**64)
SALT = 0x9E3779B9
MIXERS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, None))
"""The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): shifts and factors in turn."""
TOP = 44
"""Bits above this one make the bucket."""
_BLANK = ord(" ")
_ASCII_WORD = re.compile(r"[a-z0-9]+")
"""The words of `normalised_text` for ASCII, the usual case."""


@dataclass(frozen=True, eq=False)
class TermWeights:
    """The terms that have a column, and what each weighs.

    Args:
        buckets: int64, rising: the buckets with a column.
        weights: the inverse document frequency of each.
    """

    buckets: NDArray[np.int64]
    weights: Floats

    def weigh(self, words: list[str]) -> Floats:
        """Weights of normalised texts, shape (texts, columns); each text has length 1."""
        if not len(self.buckets):
            return np.empty((len(words), 0))
        rows, buckets = terms(words)
        width = len(self.buckets)
        columns = self._column_of[buckets]
        known = columns >= 0
        flat = rows[known] * width + columns[known]
        counts = np.bincount(flat, minlength=len(words) * width).reshape(len(words), width)
        weights: Floats = np.sqrt(counts) * self.weights
        filled = np.flatnonzero(weights)
        # bincount adds in order, so a text alone and in a table have the same length to the bit.
        squares = weights.ravel()[filled] ** 2
        lengths = np.sqrt(np.bincount(filled // width, weights=squares, minlength=len(words)))
        return weights / np.where(lengths > 0, lengths, 1.0)[:, None]

    @cached_property
    def _column_of(self) -> NDArray[np.int64]:
        columns = np.full(NUM_BUCKETS, -1, dtype=np.int64)
        columns[self.buckets] = np.arange(len(self.buckets))
        return columns


def normalised_text(text: str) -> str | None:
    """Lower case, words parted by one blank, nothing but letters, marks and digits.

    Returns:
        None for a text with a character that this Python's tables do not know, or know under
        another Unicode version than other libraries may.

    >>> normalised_text("Zürich, 8001!  (CH)")
    'zürich 8001 ch'
    """
    lowered = text.lower()
    if text.isascii():
        return " ".join(_ASCII_WORD.findall(lowered))
    kinds = [unicodedata.category(letter) for letter in lowered]
    if "Cn" in kinds or "Cs" in kinds:
        return None
    kept = (
        letter if kind[0] in "LMN" else " " for letter, kind in zip(lowered, kinds, strict=True)
    )
    return " ".join("".join(kept).split())


def terms(words: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every term of every normalised text: the text's row and the term's bucket."""
    padded = [f" {text} " for text in words]
    letters = np.frombuffer("".join(padded).encode("utf-32-le"), dtype=np.uint32)
    if not len(letters):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    lengths = np.array([len(text) for text in padded])
    row_of = np.repeat(np.arange(len(padded)), lengths)
    blank = letters == _BLANK
    powers = np.cumprod(np.full(len(letters), PRIME, dtype=np.uint64))
    inverses = np.cumprod(np.full(len(letters), INVERSE, dtype=np.uint64))
    sums = np.zeros(len(letters) + 1, dtype=np.uint64)
    np.cumsum(letters * powers, out=sums[1:])
    rows, buckets = [], []
    for salt, (starts, stops) in enumerate(_spans(row_of, blank)):
        rows.append(row_of[starts])
        buckets.append(_mixed((sums[stops] - sums[starts]) * inverses[starts], salt))
    return np.concatenate(rows), np.concatenate(buckets)


def _spans(row_of: NDArray[Any], blank: NDArray[np.bool_]) -> Iterator[tuple[Any, Any]]:
    """Where words, word pairs and letter runs start and stop."""
    starts = np.flatnonzero(blank[:-1] & ~blank[1:]) + 1
    stops = np.flatnonzero(~blank[:-1] & blank[1:]) + 1
    yield starts, stops
    together = row_of[starts[:-1]] == row_of[starts[1:]]
    yield starts[:-1][together], stops[1:][together]
    for size in LETTER_RUNS:
        inside = np.ones(max(0, len(blank) - size + 1), dtype=bool)
        for offset in range(1, size - 1):
            inside &= ~blank[offset : offset + len(inside)]
        at = np.flatnonzero(inside)
        yield at, at + size


def _mixed(hashes: NDArray[np.uint64], salt: int) -> NDArray[np.int64]:
    mixed = hashes + np.uint64(salt * SALT)
    for shift, factor in MIXERS:
        mixed = mixed ^ (mixed >> np.uint64(shift))
        if factor is not None:
            mixed = mixed * np.uint64(factor)
    return (mixed >> np.uint64(TOP)).astype(np.int64)
