"""What is asked of each column: scores of its cells whose means tell whether it has moved.

Numbers are read as their rank in the reference, so an extreme value counts as one large value and
no more: the rank itself (a shift; in the normal case 1 is one standard deviation) and its distance
from the middle (a change of spread), the first two components of Neyman's smooth test (1937).
Categories are asked for the share of each level and of levels never seen, texts for their length
and for characters that are new, all columns for missing cells. A score whose reference is a single
value still has a variance: that of one row in so many.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.features.reading import parse_numbers
from loopline.monitor.law import Law

Floats = NDArray[np.float64]
Type = Literal["number", "category", "text", "other"]
MOST_LEVELS = 20
MOST_TEXTS, LONGEST_TEXT = 20_000, 10_000
"""So many texts, evenly spaced, and so much of each say which characters the reference has."""
MANY_LEVELS = 1_000
TEXT_SHARE = 0.5
GRID = 4_096


@dataclass(frozen=True)
class Question:
    """One score.

    Args:
        column: the column, or what else it is about.
        what: ``shift``, ``spread``, ``missing``, ``level``, ``unseen``, ``length``, ``characters``,
            ``worse`` …
        unit: ``sd`` or ``share``, or that of a loss.
        level: which level.
        side: 1 where only a rise counts, else 0.
    """

    column: str
    what: str
    unit: str
    level: str = ""
    side: int = 0


@dataclass(frozen=True, eq=False)
class Column:
    """How one column is scored, learned from the reference.

    Args:
        name: the column.
        type: how its cells are read.
        dtype: the polars type of the reference's cells, as text.
        grid: number: sorted values of the reference, thinned; text: sorted lengths.
        levels: category: the levels that have a score, most frequent first.
        known: all levels of the reference; text: characters that more than one of its texts has.
        unseen: the chance of a level never seen, by Good's estimate.
        top_share: share of the most common value among cells.
        run: longest run of one value in the reference.
        missing: share of missing cells.
        quantiles: of a number, or of a text's length, at 5, 25, 50, 75, 95 %.
    """

    name: str
    type: Type
    dtype: str
    grid: Floats = field(default_factory=lambda: np.zeros(0))
    levels: tuple[str, ...] = ()
    known: frozenset[str] = frozenset()
    unseen: float = 0.0
    top_share: float = 1.0
    run: int = 0
    missing: float = 0.0
    quantiles: tuple[float, ...] = ()

    @property
    def questions(self) -> list[Question]:
        """What is asked of it, in the order of `score`'s columns."""
        asked = [Question(self.name, "missing", "share")]
        if self.type == "number":
            asked += [Question(self.name, "shift", "sd"), Question(self.name, "spread", "sd")]
        if self.type == "category":
            asked += [Question(self.name, "level", "share", level) for level in self.levels]
            asked.append(Question(self.name, "unseen", "share", side=1))
        if self.type == "text":
            asked.append(Question(self.name, "length", "sd"))
            asked.append(Question(self.name, "characters", "share", side=1))
        return asked

    @cached_property
    def steps(self) -> tuple[Floats, Floats, Floats]:
        """A number's distinct reference values with the rank just below and just above each."""
        distinct = np.unique(self.grid)
        size = max(self.grid.size, 1)
        low = np.searchsorted(self.grid, distinct, side="left") / size
        high = np.searchsorted(self.grid, distinct, side="right") / size
        return distinct, low, high

    @cached_property
    def strange(self) -> str:
        """A regular expression of one character that is not among the known ones of a text."""
        return f"[^{''.join(sorted(f'{chr(92)}x{{{ord(sign):x}}}' for sign in self.known))}]"

    def read(self, values: pl.Series) -> pl.Series:
        """The cells in the reference's type; what cannot be read is missing."""
        return read_as(values, self.type)

    def score(self, read: pl.Series) -> Floats:
        """Scores of cells that were read, shape (rows, questions); NaN where there is none."""
        if self.type == "number":
            x = read.to_numpy()
            lost = np.isnan(x)
            return np.column_stack([lost.astype(np.float64), *self._ranks(x, lost)])
        missing = read.is_null().to_numpy()
        parts = [missing.astype(np.float64)]
        if self.type == "category":
            parts += self._shares(read, missing)
        if self.type == "text":
            parts += self._texts(read, missing)
        return np.column_stack(parts)

    def _texts(self, read: pl.Series, missing: NDArray[np.bool_]) -> list[Floats]:
        """How long texts are, as a rank, and the share of their characters that are new."""
        length = _lengths(read)
        strange = read.str.count_matches(self.strange).cast(pl.Float64).fill_null(0.0).to_numpy()
        share = np.where(missing, np.nan, strange / np.maximum(length, 1.0))
        return [self._ranks(length, missing)[0], share]

    def _ranks(self, x: Floats, missing: NDArray[np.bool_]) -> list[Floats]:
        low = np.searchsorted(self.grid, x, side="left")
        high = np.searchsorted(self.grid, x, side="right")
        rank = (low + high) / (2 * max(self.grid.size, 1))
        rank[missing] = np.nan
        shift = np.sqrt(12.0) * (rank - 0.5)
        return [shift, np.sqrt(5.0) * (6 * rank**2 - 6 * rank + 1)]

    def _shares(self, read: pl.Series, missing: NDArray[np.bool_]) -> list[Floats]:
        table = {level: place for place, level in enumerate(self.levels)}
        distinct = read.unique()
        place = [
            table.get(text, -1 if text in self.known else -2) if text is not None else -3
            for text in distinct.to_list()
        ]
        codes = (
            pl.DataFrame({"value": read})
            .join(
                pl.DataFrame({"value": distinct, "code": pl.Series(place, dtype=pl.Int64)}),
                on="value",
                how="left",
                nulls_equal=True,
                maintain_order="left",
            )["code"]
            .to_numpy()
        )
        wanted = [*range(len(self.levels)), -2]
        return [np.where(missing, np.nan, (codes == code).astype(np.float64)) for code in wanted]

    def corrected(self, law: Law) -> Law:
        """The law with the chance of a level never seen, which rare levels tell."""
        if self.type != "category":
            return law
        mean, within, skew = law.mean.copy(), law.within.copy(), law.skew.copy()
        chance = self.unseen
        mean[-1], within[-1] = chance, chance * (1 - chance)
        skew[-1] = (1 - 2 * chance) / np.sqrt(chance * (1 - chance))
        return replace(law, mean=mean, within=within, skew=skew)


def number_sums(column: Column, values: NDArray[Any]) -> Floats:
    """Sums of the scores of many numbers, and how many have each, without a score for each.

    The values are sorted, and the reference's distinct values are looked up in them: for many rows
    several times as fast as looking up every row, and the same up to rounding.

    Args:
        column: a number column.
        values: floats or integers; NaN is missing.

    Returns:
        (2, 3): sums and counts for missing, shift, spread.
    """
    ordered = np.sort(values)
    if ordered.dtype.kind == "f":
        count = int(np.searchsorted(ordered, np.nan, side="left"))
    else:
        count = ordered.size
    ordered = ordered[:count]
    edges, low, high = column.steps
    if ordered.dtype == np.float32:
        edges = edges.astype(np.float32)
    less = np.searchsorted(ordered, edges, side="left")
    upto = np.searchsorted(ordered, edges, side="right")
    between = np.diff(np.r_[0, upto]) - (upto - less)
    rank = np.r_[low, (low + high) / 2, 1.0]
    weight = np.r_[between, upto - less, count - (upto[-1] if upto.size else 0)].astype(np.float64)
    shift = np.sqrt(12.0) * (rank - 0.5)
    spread = np.sqrt(5.0) * (6 * rank**2 - 6 * rank + 1)
    sums = [values.size - count, weight @ shift, weight @ spread]
    return np.array([sums, [values.size, count, count]], dtype=np.float64)


def type_of(values: pl.Series) -> Type:
    """How a column's cells are scored."""
    dtype = values.dtype
    if dtype.is_numeric() or dtype.is_temporal():
        return "number"
    if dtype == pl.Boolean:
        return "category"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        distinct = values.n_unique()
        present = max(len(values) - values.null_count(), 1)
        if distinct > MANY_LEVELS or (distinct > 50 and distinct > TEXT_SHARE * present):
            return "text"
        return "category"
    return "other"


def read_as(values: pl.Series, kind: Type) -> pl.Series:
    """Cells as finite floats (numbers, times), texts (categories), or as they are."""
    if kind == "number":
        if values.dtype == pl.String:
            read = parse_numbers(values)
        elif values.dtype.is_temporal():
            read = values.to_physical().cast(pl.Float64)
        elif values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null):
            read = values if values.dtype == pl.Float64 else values.cast(pl.Float64)
        else:
            return pl.Series(values.name, [None] * len(values), dtype=pl.Float64)
        holed = int(np.isnan(read.to_numpy()).sum()) > read.null_count()
        return read.fill_nan(None) if holed else read
    if kind in ("category", "text"):
        if values.dtype.is_nested() or values.dtype == pl.Binary:
            return pl.Series(values.name, [None] * len(values), dtype=pl.String)
        return values.cast(pl.String)
    return values


def learn_column(values: pl.Series) -> Column:
    """How a column of the reference is scored."""
    kind = type_of(values)
    read = read_as(values, kind)
    present = read.drop_nulls()
    missing = 1 - len(present) / max(len(read), 1)
    dtype = str(values.dtype)
    if kind == "other" or not len(present):
        return Column(values.name, "other", dtype, missing=missing)
    if kind == "text":
        return _learn_texts(values.name, dtype, present, missing)
    if kind == "number":
        cells = present.to_numpy().astype(np.float64)
        x = np.sort(cells)
        thin = max(x.size // GRID, 1)
        points = tuple(np.quantile(x, (0.05, 0.25, 0.5, 0.75, 0.95), method="nearest").tolist())
        return Column(
            values.name, kind, dtype, x[thin // 2 :: thin], top_share=_longest(x) / x.size,
            run=_longest(cells), missing=missing, quantiles=points,
        )  # fmt: skip
    counts = present.value_counts(sort=True, name="rows")
    top = float(counts["rows"][0]) / len(present)
    run = int(present.rle().struct.field("len").max() or 0)  # type: ignore[arg-type]
    texts = counts[counts.columns[0]].to_list()
    once = int((counts["rows"] == 1).sum())
    levels = texts[:MOST_LEVELS]
    if len(texts) == 2:
        levels = texts[1:]
    if len(texts) == 1:
        levels = []
    return Column(
        values.name, kind, dtype, levels=tuple(levels), known=frozenset(texts),
        unseen=min((once + 0.5) / (len(present) + 1.0), 0.5), top_share=top, run=run,
        missing=missing,
    )  # fmt: skip


def _learn_texts(name: str, dtype: str, texts: pl.Series, missing: float) -> Column:
    """Lengths, and the characters that more than one text has.

    One that a single text has is as new to the others as one that none has: so what is usual of new
    characters is learned from the reference itself.
    """
    lengths = np.sort(_lengths(texts))
    thin = max(lengths.size // GRID, 1)
    points = tuple(np.quantile(lengths, (0.05, 0.25, 0.5, 0.75, 0.95), method="nearest").tolist())
    read = texts.gather_every(max(len(texts) // MOST_TEXTS, 1)).str.slice(0, LONGEST_TEXT)
    counts = Counter(sign for text in read.to_list() for sign in set(text))
    known = frozenset(sign for sign, number in counts.items() if number > 1) | {" "}
    return Column(
        name, "text", dtype, lengths[thin // 2 :: thin], known=known, missing=missing,
        quantiles=points,
    )  # fmt: skip


def _lengths(texts: pl.Series) -> Floats:
    return texts.str.len_chars().cast(pl.Float64).fill_null(0.0).to_numpy()


def _longest(values: Floats) -> int:
    """The longest stretch of one value."""
    ends = np.flatnonzero(values[1:] != values[:-1])
    return int(np.diff(np.r_[-1, ends, values.size - 1]).max())
