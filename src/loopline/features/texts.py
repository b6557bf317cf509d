"""Short text: TF-IDF weights of a bounded number of words, word pairs and letter runs.

A text is lower-cased and cut into words. Its terms are the words, pairs of neighbouring words, and
runs of 3 and 4 letters inside a word (a blank marks the word's edges). A term is known by its hash
in 2**20 buckets (a polynomial over the letters modulo 2**64, mixed), so nothing but numbers is
stored and a rare collision costs little. Training chooses the buckets that get a column; a cell's
weight is ``sqrt(times in the text) * log((1 + texts) / (1 + texts with the term))``, and the
weights of each text have length 1 (Salton and Buckley, 1988: "Term-weighting approaches in
automatic text retrieval"; a square root damps the counts because it is rounded alike everywhere).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.errors import DataError
from loopline.features.base import NAN, Floats, Output, Step, refuse_missing
from loopline.features.readers import Reading
from loopline.features.reading import as_texts
from loopline.features.terms import NUM_BUCKETS, TermWeights, terms

BLOCK_TEXTS = 2048
LEARN_LETTERS = 8_000_000
"""Terms are chosen from so many letters of training text at most, spread evenly over the rows."""


def _no_buckets() -> NDArray[np.int64]:
    return np.empty(0, dtype=np.int64)


def _no_weights() -> Floats:
    return np.empty(0)


@dataclass(frozen=True, eq=False)
class TextStep(Step):
    """The weights of chosen terms of one text, and for trees its length and number of words.

    Args:
        source: the raw column.
        sizes: whether the first two outputs are the number of letters and of words.
        replacement: the text that a missing cell is read as; None gives weights 0, sizes NaN.
        refuse: whether a missing cell is an error.
        indicator: whether a last output says which cells were missing.
        buckets: int64, rising: the buckets with a column.
        weights: the inverse document frequency of each.
    """

    kind: ClassVar[str] = "text"
    source: str
    sizes: bool
    replacement: str | None = None
    refuse: bool = False
    indicator: bool = False
    buckets: NDArray[np.int64] = field(default_factory=_no_buckets)
    weights: Floats = field(default_factory=_no_weights)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Sizes, one a bucket, indicator."""
        names = ["letters", "words"] * self.sizes
        names += [f"term{bucket}" for bucket in self.buckets.tolist()]
        made = [Output(f"{self.source}~{name}", self.source) for name in names]
        made += [Output(f"{self.source}=missing", self.source)] * self.indicator
        return tuple(made)

    def fill(self, values: pl.Series, out: Floats) -> None:
        """See `Step.fill`."""
        texts = as_texts(values)
        missing = texts.is_null().to_numpy()
        if self.refuse:
            refuse_missing(self.source, missing)
        texts = texts.fill_null(self.replacement or "")
        for start in range(0, len(texts), BLOCK_TEXTS):
            block = texts.slice(start, BLOCK_TEXTS)
            rows = slice(start, start + len(block))
            letters = block.str.len_chars().to_numpy() if self.sizes else None
            self._write(normalised(block), letters, missing[rows], out[rows])

    def reading(self) -> Reading:
        """See `Step.reading`."""
        data = {
            "sizes": self.sizes,
            "indicator": self.indicator,
            "absent": None if self.refuse else self.one_by_table(None),
        }
        return Reading("text", data, {"buckets": self.buckets, "weights": self.weights})

    def _write(
        self, words: list[str], letters: Any, missing: NDArray[np.bool_], out: Floats
    ) -> None:
        first = 2 * self.sizes
        if self.sizes:
            out[:, 0] = letters
            out[:, 1] = [len(text.split()) for text in words]
            if self.replacement is None:
                out[missing, :2] = NAN
        if self.indicator:
            out[:, -1] = missing
        if len(self.buckets):
            out[:, first : first + len(self.buckets)] = self._terms.weigh(words)

    @cached_property
    def _terms(self) -> TermWeights:
        return TermWeights(self.buckets, self.weights)


def normalised(texts: pl.Series) -> list[str]:
    """Lower case, words parted by one blank, nothing else but letters and digits (no nulls)."""
    bare = texts.str.to_lowercase().str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ")
    return bare.str.strip_chars(" ").to_list()


def learn_text(
    values: pl.Series,
    groups: NDArray[np.int64],
    *,
    size: int,
    sizes: bool,
    missing: str,
    constant: Any = None,
    indicator: bool,
) -> TextStep:
    """Choose the terms of a training column and weigh them.

    Terms in at least 3 texts and in at most 4 of 5 are ranked by the chi-square statistic between
    "the text has the term" and the row's group; the best `size` get a column.

    Args:
        values: the column's training rows.
        groups: class of each row (0, 1, …), its rarest label where it has several, or below/above
            the median target for regression.
        size: number of term columns.
        sizes: whether to give the length and number of words.
        missing: ``keep``, ``error`` or ``constant``.
        constant: the text for ``constant``.
        indicator: whether to add the indicator when a cell is missing here.

    Raises:
        DataError: a missing policy that text does not have, or a missing cell under ``error``.
    """
    texts = as_texts(values)
    gone = texts.is_null().to_numpy()
    if missing == "error":
        refuse_missing(values.name, gone)
    elif missing not in ("keep", "constant") or (missing == "constant" and constant is None):
        raise DataError(
            f"Column {values.name!r} is text, whose `missing` may be auto, keep, error or constant "
            f"with a `fill`, got {missing!r}."
        )
    buckets, weights = _choose_terms(texts.fill_null(""), groups, size)
    return TextStep(
        source=values.name,
        sizes=sizes,
        replacement=str(constant) if missing == "constant" else None,
        refuse=missing == "error",
        indicator=indicator and bool(gone.any()),
        buckets=buckets,
        weights=weights,
    )


def _choose_terms(
    texts: pl.Series, groups: NDArray[np.int64], size: int
) -> tuple[NDArray[np.int64], Floats]:
    if size == 0 or not len(texts):
        return _no_buckets(), _no_weights()
    letters = int(texts.str.len_chars().sum())
    stride = max(1, math.ceil(letters / LEARN_LETTERS))
    texts, groups = texts.gather_every(stride), groups[::stride]
    totals = np.bincount(groups).astype(np.float64)
    counts = np.zeros((len(totals), NUM_BUCKETS))
    for start in range(0, len(texts), BLOCK_TEXTS):
        rows, buckets = terms(normalised(texts.slice(start, BLOCK_TEXTS)))
        pairs = np.unique(rows * NUM_BUCKETS + buckets)
        group = groups[start + pairs // NUM_BUCKETS]
        for code in range(len(totals)):
            counts[code] += np.bincount(pairs[group == code] % NUM_BUCKETS, minlength=NUM_BUCKETS)
    present = counts.sum(axis=0)
    able = np.flatnonzero((present >= 3) & (present <= 0.8 * len(texts)))
    expected = totals[:, None] * present[None, able] / len(texts)
    seen = counts[:, able]
    share = present[able] / len(texts)
    known = expected > 0
    score = (((seen - expected) ** 2) / np.where(known, expected, 1.0)).sum(axis=0) / (1 - share)
    best = able[np.lexsort((able, -score))[:size]]
    best.sort()
    weights = [round(math.log((1 + len(texts)) / (1 + count)), 12) for count in present[best]]
    return best.astype(np.int64), np.array(weights)
