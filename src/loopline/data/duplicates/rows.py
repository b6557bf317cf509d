"""Rows that are equal in every cell, and rows that are equal but for the spelling of words."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.cleaning.texts import spelling_key
from loopline.data.duplicates.clusters import Ints, Keys, run_starts, sorted_order
from loopline.data.duplicates.kinds import Links
from loopline.data.duplicates.texts import TextFacts
from loopline.data.fingerprint import row_digests

NUMBER_TYPES = ("number", "datetime")
_LEVELS_LIMIT = 200_000
_PACKED = 31
"""Number columns of whose holes one 64-bit word can tell."""


@dataclass(frozen=True, eq=False)
class RowKeys:
    """What rows are compared by; equal codes mean equal rows.

    Args:
        exact: the first row that is equal in every cell.
        spelling: the first row that is equal but for spelling.
        words: codes of everything but the numbers (with which numbers are missing), spelling
            aside.
        rank: places the rows in an order that depends on their content alone.
    """

    exact: Ints
    spelling: Ints
    words: Keys
    rank: Ints


def number_columns(frame: pl.DataFrame, types: Mapping[str, str]) -> tuple[str, ...]:
    """The columns that are compared by distance: numbers and times.

    >>> number_columns(pl.DataFrame({"a": [1.5], "b": ["x"]}), {"a": "number", "b": "category"})
    ('a',)
    """
    return tuple(
        name
        for name, dtype in frame.schema.items()
        if types.get(name) in NUMBER_TYPES and (dtype.is_numeric() or dtype.is_temporal())
    )


def row_keys(
    frame: pl.DataFrame,
    types: Mapping[str, str],
    facts: Mapping[str, TextFacts],
    digests: Keys | None = None,
) -> RowKeys:
    """Compare all rows exactly, by spelling, and by everything but the numbers.

    Args:
        frame: feature columns.
        types: the type of each column.
        facts: `text_facts` of the text columns.
        digests: (rows, 2) row digests of the frame, where they are at hand.

    >>> frame = pl.DataFrame({"town": ["Köln", "koln ", "Bonn"], "size": [1.0, 1.0, 2.0]})
    >>> keys = row_keys(frame, {"town": "category", "size": "number"}, {})
    >>> keys.exact.tolist(), keys.spelling.tolist()
    ([0, 1, 2], [0, 0, 2])
    """
    if digests is None:
        digests = row_digests(frame)
    exact, order = _equal_rows(digests)
    rank = np.empty(frame.height, dtype=np.int64)
    rank[order] = np.arange(frame.height)
    numbers = number_columns(frame, types)
    spelled = [
        _spelled(frame[name], types.get(name, "other"), facts.get(name))
        for name in frame.columns
        if name not in numbers
    ]
    plain = pl.DataFrame([values for values, _ in spelled])
    spelling = exact
    if any(changed for _, changed in spelled):
        both = plain.with_columns(frame.select(numbers)) if numbers else plain
        spelling = _equal_rows(row_digests(both))[0]
    words = digests
    if frame.width:
        words = row_digests(pl.DataFrame([*plain.get_columns(), *_holes(frame, numbers)]))
    return RowKeys(exact, spelling, words[:, 0].copy(), rank)


def _holes(frame: pl.DataFrame, numbers: tuple[str, ...]) -> list[pl.Series]:
    """What number columns say instead of a number, two bits a column in as few as can be."""
    packed = []
    for start in range(0, len(numbers), _PACKED):
        names = numbers[start : start + _PACKED]
        bits = np.zeros(frame.height, dtype=np.int64)
        for place, name in enumerate(names):
            values = frame[name]
            if values.null_count():
                bits |= values.is_null().to_numpy().astype(np.int64) << (2 * place)
            if values.dtype.is_float() and not values.is_finite().all():
                bits |= _endless(values) << (2 * place)
        packed.append(pl.Series(names[0], bits))
    return packed


def _endless(values: pl.Series) -> Ints:
    """1 for no number, 2 for more and 3 for less than every number, else 0."""
    cells = values.to_numpy()
    codes: Ints = np.isnan(cells).astype(np.int64)
    codes[cells == np.inf] = 2
    codes[cells == -np.inf] = 3
    return codes


def _equal_rows(digests: Keys) -> tuple[Ints, Ints]:
    """The first equal row of every row, and the rows in the order of their digests."""
    order = sorted_order(digests[:, 0])
    if _torn(digests[order]):
        order = np.lexsort((digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    new = np.ones(order.size, dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(order.size, dtype=np.int64)
    starts = np.flatnonzero(new)
    first[order] = np.repeat(order[starts], np.diff(starts, append=order.size))
    return first, order  # both sorts are stable, so the first of a run has the lowest number


def _torn(ordered: Keys) -> bool:
    """Whether two digests agree in the half that was sorted by, and not in the other."""
    same = ordered[1:, 0] == ordered[:-1, 0]
    return bool((same & (ordered[1:, 1] != ordered[:-1, 1])).any())


def _spelled(values: pl.Series, kind: str, facts: TextFacts | None) -> tuple[pl.Series, bool]:
    """A column whose cells are equal where they differ in spelling only, and whether any do."""
    if facts is not None:
        present = values.is_not_null() & (pl.Series(facts.counts) > 0)
        # A text without any word (signs alone) stays as it is written.
        key = pl.Series(values.name, facts.keys).cast(pl.String)
        said = pl.when(present).then(pl.lit("w") + pl.lit(key)).otherwise(pl.lit(values))
        return pl.select(said).to_series().alias(values.name), True
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.dtype != pl.String or kind == "image":
        return values, False
    levels = values.drop_nulls().unique()
    if len(levels) > _LEVELS_LIMIT:
        return values.str.normalize("NFKC").str.strip_chars().str.to_lowercase(), True
    spelled = [spelling_key(_without_accents(level)) for level in levels.to_list()]
    if len(set(spelled)) == len(spelled):
        return values, False
    keys = pl.Series(spelled, dtype=pl.String)
    return values.replace_strict(levels, keys, default=None), True


def _without_accents(text: str) -> str:
    """Accents of the Latin, Greek and Cyrillic scripts taken off; other marks carry meaning."""
    if text.isascii():
        return text
    parts = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFC", "".join(c for c in parts if not "\u0300" <= c <= "\u036f"))


def exact_links(keys: RowKeys) -> Links:
    """Every row linked to the first row that equals it.

    >>> frame = pl.DataFrame({"a": [1, 2, 1]})
    >>> links = exact_links(row_keys(frame, {"a": "number"}, {}))
    >>> links.left.tolist(), links.right.tolist()
    ([0], [2])
    """
    return _to_first(keys.exact, np.arange(keys.exact.size) != keys.exact)


def spelling_links(keys: RowKeys) -> Links:
    """Distinct rows linked to the first row of the same spelling."""
    rows = np.arange(keys.exact.size)
    return _to_first(keys.spelling, (keys.exact == rows) & (keys.spelling != rows))


def _to_first(first: Ints, copies: NDArray[np.bool_]) -> Links:
    right = np.flatnonzero(copies)
    return Links(first[right], right, np.ones(right.size))


def leaders(keys: RowKeys) -> Ints:
    """One row of each spelling, in the order of their content.

    Which row stands for its equals, and where it stands, depends on what the rows hold and not on
    where they lie in the table, up to equals among themselves.
    """
    order = np.argsort(keys.rank)
    order = order[np.argsort(keys.spelling[order], kind="stable")]
    chosen = order[run_starts(keys.spelling[order])]
    return chosen[np.argsort(keys.rank[chosen])]
