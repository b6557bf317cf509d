"""Rows that are equal in every cell, and rows that are equal but for the spelling of words."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.cleaning.texts import spelling_key
from loopline.data.duplicates.clusters import Ints, Keys, run_starts
from loopline.data.duplicates.kinds import Links
from loopline.data.duplicates.texts import TextFacts
from loopline.data.fingerprint import row_digests

NUMBER_TYPES = ("number", "datetime")
_LEVELS_LIMIT = 200_000


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
    frame: pl.DataFrame, types: Mapping[str, str], facts: Mapping[str, TextFacts]
) -> RowKeys:
    """Compare all rows exactly, by spelling, and by everything but the numbers.

    Args:
        frame: feature columns.
        types: the type of each column.
        facts: `text_facts` of the text columns.

    >>> frame = pl.DataFrame({"town": ["Köln", "koln ", "Bonn"], "size": [1.0, 1.0, 2.0]})
    >>> keys = row_keys(frame, {"town": "category", "size": "number"}, {})
    >>> keys.exact.tolist(), keys.spelling.tolist()
    ([0, 1, 2], [0, 0, 2])
    """
    digests = row_digests(frame)
    exact, order = _equal_rows(digests)
    rank = np.empty(frame.height, dtype=np.int64)
    rank[order] = np.arange(frame.height)
    numbers = number_columns(frame, types)
    plain = pl.DataFrame(
        [
            _spelled(frame[name], types.get(name, "other"), facts.get(name))
            for name in frame.columns
            if name not in numbers
        ]
    )
    changed = any(
        frame[name].dtype in (pl.String, pl.Categorical, pl.Enum) for name in plain.columns
    )
    spelling = exact
    if changed:
        both = plain.with_columns(frame.select(numbers)) if numbers else plain
        spelling = _equal_rows(row_digests(both))[0]
    holes = frame.select(_missing(frame[name]).alias(name) for name in numbers)
    words = row_digests(pl.concat([plain, holes], how="horizontal")) if frame.width else digests
    return RowKeys(exact, spelling, words[:, 0].copy(), rank)


def _missing(values: pl.Series) -> pl.Expr:
    """What a number column says instead of a number: nothing, more or less than every number."""
    column = pl.col(values.name)
    if not values.dtype.is_float():
        return column.is_null().cast(pl.Int8)
    endless = pl.when(column == float("inf")).then(2).when(column == float("-inf")).then(3)
    return (
        pl.when(column.is_null() | column.is_nan()).then(1).otherwise(endless.otherwise(0))
    ).cast(pl.Int8)


def _equal_rows(digests: Keys) -> tuple[Ints, Ints]:
    """The first equal row of every row, and the rows in the order of their digests."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    new = np.ones(order.size, dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(order.size, dtype=np.int64)
    starts = np.flatnonzero(new)
    first[order] = np.repeat(order[starts], np.diff(starts, append=order.size))
    return first, order  # lexsort is stable, so the first of a run has the lowest number


def _spelled(values: pl.Series, kind: str, facts: TextFacts | None) -> pl.Series:
    """A column whose cells are equal where they differ in spelling only."""
    if facts is not None:
        present = values.is_not_null() & (pl.Series(facts.counts) > 0)
        # A text without any word (signs alone) stays as it is written.
        key = pl.Series(values.name, facts.keys).cast(pl.String)
        return (
            pl.select(pl.when(present).then(pl.lit("w") + pl.lit(key)).otherwise(pl.lit(values)))
            .to_series()
            .alias(values.name)
        )
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.dtype != pl.String or kind == "image":
        return values
    levels = values.drop_nulls().unique()
    if len(levels) > _LEVELS_LIMIT:
        return values.str.normalize("NFKC").str.strip_chars().str.to_lowercase()
    spelled = [spelling_key(_without_accents(level)) for level in levels.to_list()]
    return values.replace_strict(levels, pl.Series(spelled, dtype=pl.String), default=None)


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
