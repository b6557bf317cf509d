"""Find every copy in a table: the one call that the audit and the split make."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from loopline.data.duplicates.clusters import Keys, merged
from loopline.data.duplicates.disagreement import LabelDisagreement, label_disagreement
from loopline.data.duplicates.images import alike_images, read_greys
from loopline.data.duplicates.kinds import (
    Clustered,
    DuplicateSettings,
    Kind,
    Links,
    NearDuplicates,
    clustered,
)
from loopline.data.duplicates.numbers import alike_numbers
from loopline.data.duplicates.rows import (
    exact_links,
    leaders,
    number_columns,
    row_keys,
    spelling_links,
)
from loopline.data.duplicates.texts import TextFacts, alike_texts, text_facts
from loopline.errors import DataError
from loopline.progress import Reporter, SilentReporter, Step
from loopline.seeds import child_seed

__all__ = [
    "DuplicateSettings",
    "Kind",
    "LabelDisagreement",
    "NearDuplicates",
    "find_duplicates",
    "label_disagreement",
]

_DEFAULT = DuplicateSettings()
MOST_REPEATS = 10
"""A text column whose texts stand more often than this on average is a category beside others."""


def find_duplicates(
    frame: pl.DataFrame,
    types: Mapping[str, str],
    *,
    settings: DuplicateSettings = _DEFAULT,
    seed: int = 0,
    digests: Keys | None = None,
    reporter: Reporter | None = None,
) -> NearDuplicates:
    """Find rows that stand in a table more than once, exactly or nearly.

    Copies on both sides of a split make a score look better than it is; the clusters found here
    are to be kept on one side. Every pair is verified by its true similarity. Time grows as
    n log n; a million rows of 30 numbers or a million texts take a minute or two on two cores
    (``benchmarks/duplicates.py``).

    Args:
        frame: the feature columns, without target, ids and record times.
        types: `loopline.data.schema` column types by name, and `image` for columns of paths or
            bytes of images.
        settings: when two rows count as copies.
        seed: draws grids and permutations; the same seed gives the same clusters, in whatever
            order the rows stand.
        digests: (rows, 2) row digests of the frame, where they are at hand.
        reporter: told what is being done.

    Raises:
        DataError: a column has no type.

    >>> frame = pl.DataFrame({"town": ["Bonn", "BONN", "Ulm"], "size": [1.0, 1.0, 3.0]})
    >>> found = find_duplicates(frame, {"town": "category", "size": "number"})
    >>> found.clusters.tolist(), [kind.name for kind in found.kinds]
    ([0, 0, 2], ['spelling'])
    """
    missing = [name for name in frame.columns if name not in types]
    if missing:
        raise DataError(
            f"Every column needs a type to be searched for copies, but there is none for "
            f"{', '.join(map(repr, missing))}; give `types` an entry for each column."
        )
    reporter = reporter or SilentReporter()
    num_rows = frame.height
    found: list[Clustered] = []

    def add(name: str, columns: tuple[str, ...], links: Links, saying: str) -> None:
        if links.left.size or links.remarks:
            found.append(clustered(name, columns, num_rows, links, saying, settings))

    with reporter.step("copies of rows", None):
        texts = [n for n in frame.columns if types[n] == "text" and frame[n].dtype == pl.String]
        facts = {name: text_facts(frame[name]) for name in texts}
        keys = row_keys(frame, types, facts, digests)
    every = tuple(frame.columns)
    add("exact", every, exact_links(keys), "are equal in every feature")
    add("spelling", every, spelling_links(keys), "are equal but for spelling")
    numbers = number_columns(frame, types)
    if numbers:
        rows, words = leaders(keys), keys.words
        del keys  # as large as a fifth of what the search for near rows holds
        with reporter.step("near copies of numbers", 1.0) as step:
            links = alike_numbers(
                frame, numbers, rows, words, settings, seed=child_seed(seed, "numbers"), step=step
            )
        add("numbers", numbers, links, "differ by noise or rounding only")
    for name in texts:
        with reporter.step(f"near copies of texts in {name!r}", 1.0) as step:
            links = _texts(frame[name], facts[name], settings, seed, step, alone=len(every) == 1)
            share = f"{settings.text_similarity:.0%}"
            add("text", (name,), links, f"share at least {share} of their words in {name!r}")
    for name in frame.columns:
        if types[name] == "image" and frame[name].dtype in (pl.String, pl.Binary):
            with reporter.step(f"near copies of images in {name!r}", 2.0) as step:
                greys = read_greys(frame[name], step=step)
                links = alike_images(greys, settings, seed=child_seed(seed, "image"), step=step)
            add("image", (name,), links, f"show the same picture in {name!r}")
    codes = [part.codes for part in found] or [np.arange(num_rows, dtype=np.int64)]
    return NearDuplicates(merged(*codes), tuple(part.kind for part in found))


def _texts(
    texts: pl.Series,
    facts: TextFacts,
    settings: DuplicateSettings,
    seed: int,
    step: Step,
    *,
    alone: bool,
) -> Links:
    """Near copies in one column; none where the column repeats a few texts over and over."""
    long = facts.counts >= settings.text_words
    distinct = np.unique(facts.keys[long]).size
    if not alone and distinct * MOST_REPEATS < int(long.sum()):
        return Links.none(
            f"Column {texts.name!r} has {distinct:,} different texts in {int(long.sum()):,} rows, "
            "like a category, so its texts alone do not make rows copies."
        )
    return alike_texts(texts, facts, settings, seed=child_seed(seed, "text"), step=step)
