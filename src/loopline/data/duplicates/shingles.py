"""Texts as hashes of their words: 64 bits a word, computed from the bytes of many texts at once.

A word is a run of letters and digits, without case and accents. In scripts that put no blanks
between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) every character is one.
A word's hash is a polynomial over its bytes modulo 2**64 (Karp and Rabin, "Efficient randomized
pattern-matching algorithms", 1987), taken as a difference of two running sums, so no word is ever
cut out as a string. Speed: ``benchmarks/duplicates.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.duplicates.clusters import Ints, Keys, mixed

BLOCK_BYTES = 1 << 21  # the arrays of a block then stay near the caches
_BASE = 0x2545_F491_4F6C_DD1D  # odd, so it has an inverse modulo 2**64
_INVERSE = pow(_BASE, -1, 1 << 64)
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"


def _letters() -> NDArray[np.uint8]:
    """What each byte stands for: 0 parts words, ASCII capitals are small, the rest is itself."""
    table = np.zeros(256, dtype=np.uint8)
    for code in range(256):
        if code >= 0x80 or chr(code).isalnum():
            table[code] = ord(chr(code).lower()) if code < 0x80 else code
    return table


_LETTER = _letters()
_VALUE = mixed(np.arange(256, dtype=np.uint64))


@dataclass(frozen=True, eq=False)
class Words:
    """The words of some texts.

    Args:
        hashes: (words,) one 64-bit hash a word, in reading order.
        starts: (texts + 1,) where each text's words begin in `hashes`.
    """

    hashes: Keys
    starts: Ints

    @property
    def counts(self) -> Ints:
        """Number of words of each text."""
        return np.diff(self.starts)

    def texts(self) -> Ints:
        """Which text each word is in."""
        return np.repeat(np.arange(self.starts.size - 1), self.counts)


def folded(texts: pl.Series) -> pl.Series:
    """Texts without accents, in small letters, with blanks between words; ASCII stays as it is.

    Args:
        texts: strings; missing ones become empty.

    >>> folded(pl.Series(["Crème  brûlée!", "ＡＢＣ", "Plain Text", None])).to_list()
    ['creme brulee ', 'abc', 'Plain Text', '']
    """
    texts = texts.fill_null("")
    wide = texts.str.len_bytes() != texts.str.len_chars()
    if not wide.any():
        return texts
    other = (
        texts.filter(wide)
        .str.normalize("NFKD")
        .str.replace_all("[\u0300-\u036f]", "")
        .str.normalize("NFKC")
        .str.to_lowercase()
        .str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ")
    )
    unspaced = other.str.contains(f"[{_UNSPACED}]")
    if unspaced.any():
        spaced = other.filter(unspaced).str.replace_all(f"([{_UNSPACED}])", " $1 ")
        other = other.scatter(unspaced.arg_true(), spaced)
    return texts.clone().scatter(wide.arg_true(), other)


def words_of(texts: pl.Series) -> Words:
    """The hashes of the words of a block of texts (a few megabytes; see `blocks`).

    Args:
        texts: strings; missing ones have no words.

    >>> words = words_of(pl.Series(["One two", None, "two, ONE!"]))
    >>> words.counts.tolist(), bool(words.hashes[0] == words.hashes[3])
    ([2, 0, 2], True)
    """
    plain = folded(texts)
    num_texts = len(plain)
    joined = plain.str.join("\n").item() if num_texts else ""
    letters = _LETTER[np.frombuffer(joined.encode(), dtype=np.uint8)]
    ends_of_text = np.cumsum(plain.str.len_bytes().to_numpy().astype(np.int64) + 1)
    inside = letters != 0
    edges = np.flatnonzero(np.diff(inside, prepend=False, append=False))
    first, last = edges[::2], edges[1::2]
    powers, inverses = _powers(letters.size)
    sums = np.zeros(letters.size + 1, dtype=np.uint64)
    np.cumsum(_VALUE[letters] * powers, out=sums[1:])
    hashes = mixed((sums[last] - sums[first]) * inverses[first])
    starts = np.zeros(num_texts + 1, dtype=np.int64)
    starts[1:] = np.searchsorted(first, ends_of_text)
    return Words(hashes, starts)


_KNOWN: list[tuple[Keys, Keys]] = []


def _powers(size: int) -> tuple[Keys, Keys]:
    """The powers of the base and of its inverse, kept from one block to the next."""
    if not _KNOWN or _KNOWN[0][0].size < size:
        room = max(size, BLOCK_BYTES + BLOCK_BYTES // 2)
        steps = np.full((2, room), [[_BASE], [_INVERSE]], dtype=np.uint64)
        steps[:, 0] = 1
        powers = np.cumprod(steps, axis=1)
        _KNOWN[:] = [(powers[0], powers[1])]
    powers, inverses = _KNOWN[0]
    return powers[:size], inverses[:size]


def shingles_of(words: Words, width: int) -> tuple[Keys, Ints]:
    """Hashes of every `width` words in a row, and the text each is in.

    Texts of fewer words have none.

    >>> words = words_of(pl.Series(["a b c", "x", "a b"]))
    >>> hashes, texts = shingles_of(words, 2)
    >>> texts.tolist(), bool(hashes[0] == hashes[2])
    ([0, 0, 2], True)
    """
    text = words.texts()
    count = words.hashes.size - width + 1
    if count <= 0:
        return np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    whole = np.flatnonzero(text[:count] == text[width - 1 :])
    hashes = np.zeros(whole.size, dtype=np.uint64)
    for step in range(width):
        hashes = mixed(hashes + words.hashes[whole + step])
    return hashes, text[whole]


def text_keys(words: Words) -> Keys:
    """64 bits for the whole sequence of words of each text; equal for equal texts.

    >>> keys = text_keys(words_of(pl.Series(["One, two", "ONE TWO", "two one", "", None])))
    >>> [bool(keys[0] == key) for key in keys], bool(keys[3] == keys[4])
    ([True, True, False, False, False], True)
    """
    place = np.arange(words.hashes.size) - np.repeat(words.starts[:-1], words.counts)
    parts = mixed(words.hashes + mixed(place.astype(np.uint64)))
    sums = np.zeros(parts.size + 1, dtype=np.uint64)
    np.cumsum(parts, out=sums[1:])
    keys: Keys = mixed(sums[words.starts[1:]] - sums[words.starts[:-1]])
    return keys


def blocks(texts: pl.Series) -> Iterator[tuple[int, pl.Series]]:
    """Cut a column into blocks of about two megabytes: the first row of each, and its texts."""
    ends = np.cumsum(texts.str.len_bytes().fill_null(0).to_numpy().astype(np.int64) + 1)
    start = 0
    while start < len(texts):
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + BLOCK_BYTES, side="right"))
        stop = max(stop, start + 1)
        yield start, texts.slice(start, stop - start)
        start = stop
