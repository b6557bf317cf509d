"""Near copies among texts: MinHash over word shingles, banded, each candidate verified.

Sources: A. Broder, "On the resemblance and containment of documents" (1997): the share of equal
minima of random permutations estimates the Jaccard similarity of two sets; P. Indyk and R.
Motwani (1998) and Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4: bands
of minima make pairs above a similarity meet. With 10 bands of 4 minima, two texts of similarity
0.8 meet with probability 1 - (1 - 0.8**4)**10 = 0.995. What meets is verified on all its shingles.

Against a library: see ``benchmarks/duplicates.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.cores import in_threads
from loopline.data.duplicates.clusters import (
    Ints,
    Keys,
    distinct_pairs,
    first_rows,
    grouped,
    mixed,
    pairs_in_runs,
    run_starts,
)
from loopline.data.duplicates.kinds import DuplicateSettings, Links
from loopline.data.duplicates.shingles import blocks, shingles_of, text_keys, words_of
from loopline.progress import Step
from loopline.seeds import child_seed

MAX_CHARS = 1_000_000
NUM_BANDS = 10
BAND_ROWS = 4
REACH = 15  # texts of one bucket are compared with so many that follow
RESEMBLING = 0.5
"""Least similarity of the word groups of two texts that may be copies by their words alone."""
LONG = 20
"""Words that both must have for it: in a short text one other word is another meaning."""
_SLACK = 0.25  # four standard deviations of 40 minima at a similarity of 0.8
_PAIRS_BLOCK = 1 << 13
_PAIR_BITS, _HASH_BITS = np.uint64(64 - 48), np.uint64(48)


Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class TextFacts:
    """What is known of each text of a column.

    Args:
        keys: equal for texts of the same words in the same order.
        counts: number of words.
    """

    keys: Keys
    counts: Ints


def text_facts(texts: pl.Series) -> TextFacts:
    """Key and number of words of every text.

    >>> facts = text_facts(pl.Series(["Good morning!", "good MORNING", None]))
    >>> facts.counts.tolist(), bool(facts.keys[0] == facts.keys[1])
    ([2, 2, 0], True)
    """

    def work(block: pl.Series) -> tuple[Keys, Ints]:
        words = words_of(block)
        return text_keys(words), words.counts

    parts = list(in_threads(work, [block for _, block in blocks(_bounded(texts))]))
    empty = np.zeros(0, dtype=np.int64)
    return TextFacts(
        np.concatenate([keys for keys, _ in parts] or [empty.astype(np.uint64)]),
        np.concatenate([counts for _, counts in parts] or [empty]),
    )


def alike_texts(
    texts: pl.Series,
    facts: TextFacts,
    settings: DuplicateSettings,
    *,
    seed: int = 0,
    step: Step | None = None,
) -> Links:
    """All pairs of near copies among texts of enough words (a chain of pairs for equal texts).

    Args:
        texts: strings.
        facts: their `text_facts`.
        settings: least similarity, shingles, and the words a text must have.
        seed: draws the permutations.
        step: told the share that is done.

    Returns:
        Verified pairs with their similarity: that of their word groups or, in longer texts whose
        word groups resemble each other, that of their words. Equal texts are linked to the first of
        them.
    """
    enough = np.flatnonzero(facts.counts >= settings.text_words)
    first = enough[first_rows(facts.keys[enough])] if enough.size else enough
    copies = first != enough
    # Distinct texts in the order of their keys: the clusters do not depend on the order of rows.
    kept = enough[~copies]
    kept = kept[np.argsort(facts.keys[kept], kind="stable")]
    chosen = _bounded(texts.gather(kept))
    left, right, likeness = _verified_pairs(chosen, facts.counts[kept], settings, seed, step)
    return Links(
        np.concatenate([first[copies], kept[left]]),
        np.concatenate([enough[copies], kept[right]]),
        np.concatenate([np.ones(int(copies.sum())), likeness]),
    )


def _bounded(texts: pl.Series) -> pl.Series:
    """Texts cut at a million characters, so that one of them cannot fill the memory."""
    longest = texts.str.len_bytes().max()
    return texts.str.head(MAX_CHARS) if isinstance(longest, int) and longest > MAX_CHARS else texts


def _verified_pairs(
    texts: pl.Series, words: Ints, settings: DuplicateSettings, seed: int, step: Step | None
) -> tuple[Ints, Ints, NDArray[np.float64]]:
    none = np.zeros(0, dtype=np.int64)
    if len(texts) < 2:
        return none, none, np.zeros(0)
    bands, minima = _signatures(texts, settings.shingle_words, seed, step)
    left, right = none, none
    least = settings.text_similarity - _SLACK
    for band in range(NUM_BANDS):
        # Within a bucket, texts that share the next band too stand side by side.
        other = mixed(bands[(band + 1) % NUM_BANDS]) >> np.uint64(44)
        order, starts = _bucketed(bands[band], other)
        new_left, new_right = pairs_in_runs(order, starts, REACH)
        close = _agreement(minima, new_left, new_right) >= least
        left, right = distinct_pairs(
            len(texts),
            np.concatenate([left, new_left[close]]),
            np.concatenate([right, new_right[close]]),
        )
    likeness = jaccard(texts, left, right, settings.shingle_words)
    # One word in twelve changed breaks one word group in six: such texts are told by their words.
    loose = (likeness >= RESEMBLING) & (likeness < settings.text_similarity)
    loose &= np.minimum(words[left], words[right]) >= LONG
    likeness[loose] = jaccard(texts, left[loose], right[loose], 1, repeats=True)
    true = likeness >= settings.text_similarity
    return left[true], right[true], likeness[true]


def _bucketed(keys: Keys, inner: Keys) -> tuple[Ints, Ints]:
    """Rows of equal keys side by side, ordered by `inner` within; large buckets only pay for it."""
    order, starts = grouped(keys)
    sizes = np.diff(starts, append=order.size)
    large = sizes > REACH + 1
    if large.any():
        run = np.repeat(np.arange(starts.size), sizes)
        at = np.flatnonzero(large[run])
        rows = order[at]
        order[at] = rows[np.lexsort((rows, inner[rows], run[at]))]
    return order, starts


def _signatures(
    texts: pl.Series, width: int, seed: int, step: Step | None
) -> tuple[list[Keys], NDArray[np.uint16]]:
    """One key a band and text, and 16 bits of every minimum: (texts, minima)."""
    num_minima = NUM_BANDS * BAND_ROWS
    rng = np.random.default_rng(child_seed(seed, "minhash"))
    factors = rng.integers(0, 2**32, num_minima, dtype=np.uint32) | np.uint32(1)
    shifts = rng.integers(0, 2**32, num_minima, dtype=np.uint32)
    bands = [np.empty(len(texts), dtype=np.uint64) for _ in range(NUM_BANDS)]
    minima = np.empty((len(texts), num_minima), dtype=np.uint16)
    todo = list(blocks(texts))

    def work(task: tuple[int, pl.Series]) -> None:
        start, block = task
        hashes, text = shingles_of(words_of(block), width)
        short = (hashes >> np.uint64(32)).astype(np.uint32)
        firsts = np.searchsorted(text, np.arange(len(block)))
        here = slice(start, start + len(block))
        room = np.empty_like(short)
        for band in range(NUM_BANDS):
            key = np.zeros(len(block), dtype=np.uint64)
            for place in range(band * BAND_ROWS, (band + 1) * BAND_ROWS):
                np.bitwise_xor(short, shifts[place], out=room)
                np.multiply(room, factors[place], out=room)
                least = np.minimum.reduceat(room, firsts)
                minima[here, place] = least.astype(np.uint16)
                key = mixed(key + least)
            bands[band][here] = key

    for _ in in_threads(work, todo):
        if step is not None:
            step.advance(1 / len(todo))
    return bands, minima


def _agreement(minima: NDArray[np.uint16], left: Ints, right: Ints) -> NDArray[np.float64]:
    """Share of equal minima of each pair: an estimate of its similarity."""
    share = np.empty(left.size)
    size = 1 << 18
    for start in range(0, left.size, size):
        part = slice(start, start + size)
        share[part] = (minima[left[part]] == minima[right[part]]).mean(axis=1)
    return share


def jaccard(
    texts: pl.Series, left: Ints, right: Ints, width: int, *, repeats: bool = False
) -> NDArray[np.float64]:
    """The Jaccard similarity of pairs of texts: shared shingles by shingles in either.

    Args:
        texts: strings.
        left: one text of each pair.
        right: the other.
        width: words in a shingle.
        repeats: count a shingle as often as it stands in a text.

    Returns:
        (pairs,) from 0 to 1; 0 where neither text has a shingle. Exact but for collisions of
        48-bit hashes within a pair (about 1e-11 for texts of 50 words).

    >>> texts = pl.Series(["a b c d e", "a b c d f", "A, b, c; d e?"])
    >>> jaccard(texts, np.array([0, 0]), np.array([1, 2]), 2).tolist()
    [0.6, 1.0]
    >>> texts = pl.Series(["a a b", "a b b"])
    >>> jaccard(texts, np.array([0]), np.array([1]), 1, repeats=True).tolist()
    [0.5]
    """
    likeness = np.zeros(left.size)
    sizes = texts.str.len_bytes().fill_null(0).to_numpy().astype(np.int64)
    ends = np.cumsum(np.maximum(sizes[left], sizes[right]) + 1)
    todo: list[slice] = []
    start = 0
    while start < left.size:
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + (1 << 21), side="right"))
        stop = min(max(stop, start + 1), start + _PAIRS_BLOCK)
        todo.append(slice(start, stop))
        start = stop

    def side(rows: Ints) -> Keys:
        distinct, place = np.unique(rows, return_inverse=True)
        hashes, text = shingles_of(words_of(texts.gather(distinct)), width)
        starts = np.searchsorted(text, np.arange(distinct.size + 1))
        counts = np.diff(starts)[place]
        pair = np.repeat(np.arange(rows.size, dtype=np.uint64), counts)
        offset = np.arange(pair.size) - np.repeat(np.cumsum(counts) - counts, counts)
        mine = hashes[np.repeat(starts[place], counts) + offset]
        keys = (pair << _HASH_BITS) | (mine >> _PAIR_BITS)
        keys.sort()
        starts = run_starts(keys)
        if not repeats:
            distinct_keys: Keys = keys[starts]
            return distinct_keys
        # The second of two equal shingles becomes one of its own, and so on.
        place = np.arange(keys.size) - np.repeat(starts, np.diff(starts, append=keys.size))
        numbered: Keys = mixed(keys + place.astype(np.uint64)) >> _PAIR_BITS
        numbered |= keys >> _HASH_BITS << _HASH_BITS
        return numbered

    def work(part: slice) -> None:
        sides = side(left[part]), side(right[part])
        both = np.concatenate(sides)
        both.sort()
        size = len(left[part])
        shared = _per_pair(both[1:][both[1:] == both[:-1]], size)
        union = _per_pair(both, size) - shared
        np.divide(shared, union, out=likeness[part], where=union > 0)

    for _ in in_threads(work, todo):
        pass
    return likeness


def _per_pair(keys: Keys, size: int) -> Ints:
    counts: Ints = np.bincount((keys >> _HASH_BITS).astype(np.int64), minlength=size)
    return counts
