"""Texts that teach nothing: empty, canned, damaged, in another language, far too long, repeated.

Everything is judged beside the other texts of the column: a corpus of one-word texts has no texts
that are too short, and a corpus of a hundred languages has none that are wrong.

The share of repeated word pairs follows the repetition filters of Rae et al., "Scaling Language
Models: Methods, Analysis & Insights from Training Gopher", 2021, table A1.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.audit.languages import UNKNOWN, languages
from loopline.audit.quality_rows import RowQuality, judged, robust_z
from loopline.data.cleaning.texts import MOJIBAKE
from loopline.words import counted

Bools = NDArray[np.bool_]
EMPTY, CANNED, DAMAGED = "empty", "canned text", "damaged encoding"
LANGUAGE, REPEATED = "another language", "repeats itself"
LONG, SHORT = "far longer than usual", "far shorter than usual"
HARM = {
    EMPTY: 1.0, CANNED: 0.7, DAMAGED: 0.6, LANGUAGE: 0.6, REPEATED: 0.6, LONG: 0.3, SHORT: 0.5,
}  # fmt: skip
VISIBLE = r"[^\s\p{Cc}]"
"""Spaces and control characters alone are an empty text."""
BLOCK_ROWS = 50_000
MAX_CHARACTERS = 20_000
"""Characters of a text that are read; what stands after them is judged by the length alone."""
PIECE = 20
"""Fewest characters of a sentence that can count as canned."""
FEWEST_COPIES = 5
COPIES_SHARE = 0.002
CANNED_SHARE = 0.8
SAMPLE_ROWS = 50_000
"""Rows among which canned sentences are looked for."""
FEWEST_PAIRS = 20
DISTINCT_SHARE = 0.35
MAIN_SHARE = 0.8
"""Share of the rows of known language that the main one must have, before others are wrong."""
FEWEST_KNOWN = 20
FAR = 6.0
FAR_RATIO = 8.0
FEWEST_TEXTS = 20


def score_texts(texts: pl.Series) -> RowQuality:
    """The quality of each text of a column.

    Args:
        texts: strings; a missing cell counts as empty.

    >>> usual = [f"Number {i} is a plain sentence, and it is one of many." for i in range(30)]
    >>> quality = score_texts(pl.Series([*usual, "", "CafÃ© and crÃ¨me are what we had there."]))
    >>> quality.of(30), quality.of(31)
    (['empty'], ['damaged encoding'])
    """
    values = texts.cast(pl.String).fill_null("")
    lengths = values.str.strip_chars().str.len_chars().to_numpy()
    empty = ~values.str.contains(VISIBLE).to_numpy()
    head = values.str.slice(0, MAX_CHARACTERS)
    found = {
        EMPTY: empty,
        CANNED: _canned(head) & ~empty,
        DAMAGED: head.str.contains(MOJIBAKE).to_numpy() & ~empty,
        REPEATED: _repeated(head),
    }
    longer, shorter = _extreme(lengths.astype(np.float64), empty)
    found[LONG], found[SHORT] = longer, shorter
    found[LANGUAGE], skipped = _foreign(head)
    return judged(values.len(), found, HARM, skipped)


def _extreme(lengths: NDArray[np.float64], empty: Bools) -> tuple[Bools, Bools]:
    """Texts whose length is far from the others' on the log scale, and by a large factor too."""
    none = np.zeros(lengths.size, dtype=bool)
    if (~empty).sum() < FEWEST_TEXTS:
        return none, none
    logs = np.full(lengths.size, np.nan)
    logs[~empty] = np.log(lengths[~empty])
    z = robust_z(logs, floor=0.1)
    middle = np.exp(np.nanmedian(logs))
    longer = (z > FAR) & (lengths > FAR_RATIO * middle)
    shorter = (z < -FAR) & (lengths < middle / FAR_RATIO) & ~empty
    return longer, shorter


def _pieces(texts: pl.Series) -> pl.Series:
    """Sentences and lines of each text, without blanks around them."""
    cut = texts.str.replace_all(r"<br\s*/?>", "\n").str.replace_all(r"([.!?])\s+", "$1\n")
    return cut.str.split("\n").list.eval(pl.element().str.strip_chars())


def _canned(texts: pl.Series) -> Bools:
    """Texts that are made of sentences which many other texts have too."""
    num_rows = texts.len()
    none = np.zeros(num_rows, dtype=bool)
    drawn = texts if num_rows <= SAMPLE_ROWS else texts.sample(SAMPLE_ROWS, seed=0)
    pieces = pl.DataFrame({"row": np.arange(drawn.len()), "piece": _pieces(drawn)})
    counts = (
        pieces.explode("piece", empty_as_null=True)
        .filter(pl.col("piece").str.len_chars() >= PIECE)
        .unique()
        .group_by("piece")
        .len()
    )
    least = max(FEWEST_COPIES, int(np.ceil(COPIES_SHARE * drawn.len())))
    often = counts.filter(pl.col("len") >= least)["piece"]
    if not often.len():
        return none
    canned = none.copy()
    for start in range(0, num_rows, BLOCK_ROWS):
        block = texts.slice(start, BLOCK_ROWS)
        long = pl.DataFrame({"row": np.arange(block.len()), "piece": _pieces(block)})
        size = pl.col("piece").str.len_chars()
        parts = (
            long.explode("piece", empty_as_null=True)
            .with_columns(size.alias("size"), pl.col("piece").is_in(often.implode()).alias("often"))
            .group_by("row")
            .agg(
                pl.col("size").sum().alias("all"),
                pl.col("size").filter(pl.col("often")).sum().alias("canned"),
            )
            .sort("row")
        )
        share = parts["canned"].to_numpy() / np.maximum(parts["all"].to_numpy(), 1)
        canned[start + parts["row"].to_numpy()] = share >= CANNED_SHARE
    return canned


def _repeated(texts: pl.Series) -> Bools:
    """Texts in which few word pairs are new."""
    repeated = np.zeros(texts.len(), dtype=bool)
    for start in range(0, texts.len(), BLOCK_ROWS):
        words = texts.slice(start, BLOCK_ROWS).str.to_lowercase().str.extract_all(r"\w+")
        frame = pl.DataFrame({"row": np.arange(words.len()), "word": words})
        pairs = (
            frame.filter(pl.col("word").list.len() > FEWEST_PAIRS)
            .explode("word", empty_as_null=True)
            .with_columns((pl.col("word") + " " + pl.col("word").shift(1)).alias("pair"))
            .filter(pl.col("row") == pl.col("row").shift(1))
            .group_by("row")
            .agg((pl.col("pair").n_unique() / pl.len()).alias("share"))
        )
        few = pairs.filter(pl.col("share") < DISTINCT_SHARE)["row"].to_numpy()
        repeated[start + few] = True
    return repeated


def _foreign(texts: pl.Series) -> tuple[Bools, tuple[str, ...]]:
    """Texts surely in another language than the column's main one."""
    found = languages(texts)
    known = found[found != UNKNOWN]
    none = np.zeros(texts.len(), dtype=bool)
    if known.size < FEWEST_KNOWN:
        return none, ()
    names, counts = np.unique(known, return_counts=True)
    main = names[counts.argmax()]
    if counts.max() < MAIN_SHARE * known.size:
        return none, (
            f"The texts are in {counted(names.size, 'language')} and none has "
            f"{MAIN_SHARE:.0%} of them, so no language is called wrong.",
        )
    return (found != UNKNOWN) & (found != main), ()
