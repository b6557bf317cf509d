"""Columns that may name the source of a row, found by their values alone.

Rows of one customer, patient, device or file resemble each other. A column is proposed when the
rows of one value are much more alike than rows of different values, in many columns at once, and
when that likeness *jumps* from one value to the next: ages, prices and counts are alike among
neighbours too, identifiers are not. Where no column names the source, features that identify it
together are looked for. The target is never looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.audit.alike import Columns, alikeness, value_codes
from loopline.audit.group_names import (
    looks_like_dates,
    looks_like_tokens,
    when_is_named,
    who_is_named,
)
from loopline.audit.wide import LOOKED_AT, WIDE
from loopline.data.schema import Column, Schema

Ints = NDArray[np.int64]
MIN_ROWS = 40
MIN_VALUES = 10
"""A column with fewer values is a category, unless its name says that it names somebody."""
MIN_NAMED_VALUES = 4
LIKE = 0.25
"""Mean likeness over the other columns, chance taken off, from which rows count as one source's."""
LIKE_NUMBER = 0.35
"""The same for columns of fractions, which are measurements first."""
JUMP = 0.7
"""Where neighbouring values are merged by three, at most this part of the likeness may remain."""
STEADY = 0.95
START = 0.1
"""Likeness from which a column may grow into a combination, which needs `LIKE` in the end."""
GAIN = 0.05
"""A further column joins a combination when it adds so much likeness beyond what it says alone."""
MAX_COMBINED = 3
COARSE = 0.55
"""Of all combinations with so much of the best one's likeness the coarsest is taken."""
SAMPLE_ROWS = 20_000
LARGE_ROWS = 40_000
"""Larger tables are searched in parts of about so many rows."""
LOOK_ROWS = 1_000
MAX_CANDIDATES = 4
GIANT = 0.5
"""Groups whose largest holds more than this part of the rows cannot be split."""
OPAQUE = 0.1
"""A column that other columns resemble by more than this is a measurement, not an opaque name."""
Kind = Literal["id", "traits", "opaque", "declared"]
_Option = tuple[float, tuple[str, ...], dict[str, float]]
"""Likeness beyond chance, columns, and the likeness of each other column."""


@dataclass(frozen=True, eq=False)
class GroupCandidate:
    """Columns whose equal values may mean one source.

    Args:
        columns: together they name the source.
        codes: group of each row of the table, shape (rows,); rows with an empty cell stand alone.
        kind: `id`: one column that names the source; `traits`: features that identify it together;
            `opaque`: several rows a value and nothing else in common, so that only shared labels
            would make it matter; `declared`: the schema says so already.
        num_groups: distinct groups.
        median_rows: rows of the middle group.
        likeness: mean likeness of the other columns within a group, 0 to 1.
        steady: columns that are constant within groups.
        confidence: 0 to 1.
        merged: for a number, codes with neighbouring values merged by three.
    """

    columns: tuple[str, ...]
    codes: Ints
    kind: Kind
    num_groups: int
    median_rows: float
    likeness: float
    steady: tuple[str, ...]
    confidence: float
    merged: Ints | None = None


def propose_groups(frame: pl.DataFrame, schema: Schema) -> list[GroupCandidate]:
    """Columns, or combinations of columns, that may name the source of a row.

    Args:
        frame: the table. The target column is never looked at.
        schema: types and roles; columns of role `group` are taken over as they are.

    Returns:
        Declared groups first, then the likeliest, finest first among equals; at most
        `MAX_CANDIDATES` that are not declared.

    >>> rng = np.random.default_rng(0)
    >>> who = np.repeat(np.arange(30), 10)
    >>> level = {name: rng.normal(size=30)[who] + 0.3 * rng.normal(size=300) for name in "abc"}
    >>> frame = pl.DataFrame({"who": who, **level, "y": rng.normal(size=300)})
    >>> columns = [Column(name, "number") for name in ("who", "a", "b", "c")]
    >>> schema = Schema((*columns, Column("y", "number", "target")), "regression")
    >>> [(found.columns, found.num_groups) for found in propose_groups(frame, schema)]
    [(('who',), 30)]
    """
    found = [
        _candidate(frame, (name,), "declared", {}, 1.0)
        for name in schema.with_role("group")
        if name in frame.columns
    ]
    if frame.height < MIN_ROWS:
        return found
    searches = list(_searches(frame, schema))
    single = _without_parts([search.single(only) for search, only in searches])
    if not found and all(each.kind == "opaque" for each in single):
        single += _combined(frame, [search.grown(only) for search, only in searches])
    single.sort(key=lambda each: (-each.confidence, -each.likeness, each.columns))
    opaque = [each for each in single if each.kind == "opaque"]
    known = [each for each in single if each.kind != "opaque"]
    return found + known[:MAX_CANDIDATES] + opaque[: MAX_CANDIDATES // 2]


def _searches(frame: pl.DataFrame, schema: Schema) -> Iterator[tuple[_Search, str]]:
    """What to search, and which column there; "" for all.

    A large table is searched column by column, each in a part that holds all rows of some of its
    values, so groups are as large there as in the table.
    """
    if frame.height <= LARGE_ROWS:
        yield _Search(frame, schema, frame), ""
        return
    anywhere = np.sort(np.random.default_rng(0).choice(frame.height, LARGE_ROWS, replace=False))
    of_any: _Search | None = None
    for column in _possible(frame, schema):
        values = _whole_values(frame[column.name])
        rows = anywhere if values is None else values
        if not _has_company(value_codes(frame[column.name][rows])):
            continue
        if values is not None:
            yield _Search(frame[rows], schema, frame), column.name
            continue
        of_any = of_any or _Search(frame[rows], schema, frame)
        yield of_any, column.name


def _whole_values(series: pl.Series) -> Ints | None:
    """Rows of a large table that hold all rows of some values; None where it has few values."""
    parts = series.len() // LARGE_ROWS + 1
    if series.to_frame().select(pl.all().approx_n_unique()).item() < 50 * parts:
        return None
    return np.flatnonzero((series.hash(0) % parts == 0).to_numpy())


def _without_parts(
    found: Sequence[tuple[list[GroupCandidate], set[str]]],
) -> list[GroupCandidate]:
    """All candidates but those columns that are parts of a finer combination."""
    parts = {name for _, names in found for name in names}
    return [
        each
        for some, _ in found
        for each in some
        if who_is_named(each.columns[0]) or each.columns[0] not in parts
    ]


def _combined(frame: pl.DataFrame, found: Sequence[list[_Option]]) -> list[GroupCandidate]:
    """The coarsest of the combinations that say nearly as much as the best."""
    options = [option for some in found for option in some]
    if not options:
        return []
    # What grew into a combination is no candidate of its own.
    grown = [set(names) for _, names, _ in options]
    options = [each for each in options if not any(set(each[1]) < whole for whole in grown)]
    enough = COARSE * max(score for score, _, _ in options)
    good = [each for each in options if each[0] >= enough]
    if len(good) > 1:
        good.sort(key=lambda each: (int(joint_codes(frame, each[1]).max()), each[1]))
    score, names, like = good[0]
    return [_candidate(frame, names, "traits", like, min(0.9, 0.3 + score / 2))]


def _possible(frame: pl.DataFrame, schema: Schema) -> list[Column]:
    """Columns that could name sources; of very many those that their names or roles point out."""
    if len(schema.columns) > WIDE:
        few = [column for column in schema.columns if column.role == "id"]
        few += [column for column in schema.columns if who_is_named(column.name)]
        few += list(schema.columns[:LOOKED_AT])
        names = {column.name for column in few[:LOOKED_AT]}
        columns = [column for column in schema.columns if column.name in names]
    else:
        columns = list(schema.columns)
    known = set(frame.columns)
    return [
        column
        for column in columns
        if column.role in ("feature", "id", "ignore")
        and column.type in ("number", "category")
        and column.name in known
        and not frame[column.name].dtype.is_nested()
        and frame[column.name].dtype != pl.Boolean()
        and not looks_like_dates(frame[column.name].head(LOOK_ROWS))
    ]


def _candidate(
    frame: pl.DataFrame,
    names: tuple[str, ...],
    kind: Kind,
    likeness: dict[str, float],
    confidence: float,
) -> GroupCandidate:
    codes = joint_codes(frame, names)
    sizes = np.bincount(codes)
    return GroupCandidate(
        columns=names,
        codes=codes,
        kind=kind,
        num_groups=int(sizes.size),
        median_rows=float(np.median(sizes)) if sizes.size else 0.0,
        likeness=_mean(likeness),
        steady=tuple(name for name, value in likeness.items() if value >= STEADY),
        confidence=round(confidence, 3),
        merged=_merged(frame[names[0]]) if kind == "opaque" else None,
    )


def _merged(series: pl.Series) -> Ints | None:
    """Codes with neighbouring values merged by three; None for words, which have no neighbours."""
    if not series.dtype.is_numeric():
        return None
    ranks = series.rank("dense").fill_null(0).to_numpy().astype(np.int64)
    return value_codes(pl.Series(ranks // 3))


def joint_codes(frame: pl.DataFrame, names: Sequence[str]) -> Ints:
    """Rows with equal cells in all columns share a code; rows with an empty cell stand alone.

    >>> joint_codes(pl.DataFrame({"a": [1, 1, None, None], "b": [2, 2, 2, 2]}), ["a", "b"])
    array([0, 0, 1, 2])
    """
    codes = np.zeros(frame.height, dtype=np.int64)
    empty = np.zeros(frame.height, dtype=bool)
    for name in names:
        series = frame[name]
        empty |= series.is_null().to_numpy()
        if series.dtype.is_float():
            empty |= series.is_nan().fill_null(value=False).to_numpy()
        values = value_codes(series)
        codes = codes * (int(values.max(initial=0)) + 1) + values
        codes = value_codes(pl.Series(codes))
    codes = np.where(empty, codes.size + np.arange(codes.size), codes)
    return value_codes(pl.Series(codes))


def _mean(likeness: dict[str, float]) -> float:
    return float(np.mean([max(0.0, value) for value in likeness.values()])) if likeness else 0.0


def _beyond(
    after: dict[str, float], before: dict[str, float], alone: dict[str, float]
) -> dict[str, float]:
    """What a combination says of each column beyond the sum of what its two parts say.

    >>> _beyond({"a": 0.9, "b": 0.7}, {"a": 0.5, "b": 0.3}, {"a": 0.1, "b": 0.6})
    {'a': 0.3, 'b': 0.0}
    """
    return {
        name: round(max(0.0, value - max(0.0, before[name]) - max(0.0, alone[name])), 12)
        for name, value in after.items()
    }


class _Search:
    """Columns of the distinct rows of a sample, ready to be compared."""

    def __init__(self, frame: pl.DataFrame, schema: Schema, table: pl.DataFrame) -> None:
        self.table = table
        known = set(frame.columns)
        features = [
            column.name
            for column in schema.columns
            if column.role == "feature" and column.type != "text" and column.name in known
        ]
        self.possible = _possible(frame, schema)
        if len(features) > WIDE:
            features = features[:: len(features) // LOOKED_AT]
        # Doubles are alike in everything and would make every column look like a group.
        whole = (
            frame.unique(subset=features, keep="first", maintain_order=True) if features else frame
        )
        self.whole = whole
        self.rng = np.random.default_rng(0)
        self.numeric = {
            column.name for column in self.possible if whole[column.name].dtype.is_numeric()
        }
        self.comparable = Columns.read(whole, features)

    def single(self, only: str = "") -> tuple[list[GroupCandidate], set[str]]:
        """Single columns: by likeness with a jump, or by their name or the look of their values.

        Also gives the columns that are parts of a finer combination.
        """
        found = []
        parts: set[str] = set()
        for column in self.possible:
            if only and column.name != only:
                continue
            if when_is_named(column.name) and not who_is_named(column.name):
                continue
            named = who_is_named(column.name)
            codes = self._groups(column.name, MIN_NAMED_VALUES if named else MIN_VALUES)
            if codes is None:
                continue
            like, score = self._likeness((column.name,), codes)
            fraction = self._fraction(column.name)
            strong = score >= LIKE and not fraction and self._jumps(column.name, score)
            finer = self._best_step((column.name,), codes, score) if strong and not named else None
            if finer is not None:
                # Age says much of who it is, age and sex more: neither names anybody (`combined`).
                parts |= set(finer[0])
                continue
            looks = looks_like_tokens(self.whole[column.name])
            opaque = score <= OPAQUE and self._names_something(column, codes)
            if not (strong or named or looks or opaque):
                continue
            confidence = 0.2 + 0.3 * named + 0.1 * looks + 0.4 * min(1.0, score / 0.5) * strong
            kind: Kind = "id" if strong or (named and codes.max() >= 3) else "opaque"
            found.append(_candidate(self.table, (column.name,), kind, like, min(confidence, 0.99)))
        return found, parts

    def grown(self, only: str = "") -> list[_Option]:
        """Features that identify a source together, grown from the one that says most."""
        options: list[_Option] = []
        for column in self.possible:
            if column.role != "feature" or (only and column.name != only):
                continue
            codes = self._groups(column.name, MIN_VALUES)
            if codes is None:
                continue
            like, score = self._likeness((column.name,), codes)
            if score < START or not self._jumps(column.name, score):
                continue
            names, like, score = self._grow(column.name, codes, like, score)
            least = LIKE_NUMBER if any(self._fraction(name) for name in names) else LIKE
            if score >= least:
                options.append((score, tuple(sorted(names)), like))
        return options

    def _grow(
        self, name: str, codes: Ints, like: dict[str, float], score: float
    ) -> tuple[tuple[str, ...], dict[str, float], float]:
        names: tuple[str, ...] = (name,)
        while len(names) < MAX_COMBINED:
            step = self._best_step(names, codes, score)
            if step is None:
                break
            names, codes, like, score = step
        return names, like, score

    def _best_step(
        self, names: tuple[str, ...], codes: Ints, score: float
    ) -> tuple[tuple[str, ...], Ints, dict[str, float], float] | None:
        best = None
        limit = int(codes.max()) + 1
        here = self._alike(names, codes)
        for column in self.possible:
            if column.name in names or column.role != "feature":
                continue
            values = value_codes(self.whole[column.name])
            num_values = int(values.max()) + 1
            if num_values < 2 or num_values > limit:
                continue
            joint = value_codes(pl.Series(codes * num_values + values))
            if not _has_company(joint):
                continue
            chosen = (*names, column.name)
            # The same columns must be compared before and after, or the mean moves by itself.
            before = {name: value for name, value in here.items() if name != column.name}
            after, found = self._likeness(chosen, joint)
            if _mean(after) - _mean(before) < GAIN:
                continue
            # A plan and its price are alike on every row: that is no mark of a source.
            alone = self._alike(chosen, values)
            if _mean(_beyond(after, before, alone)) < GAIN:
                continue
            if best is None or found > best[3] + 1e-9:
                best = (chosen, joint, after, found)
        return best if best is not None and best[3] >= score * 0.8 else None

    def _groups(self, name: str, least: int) -> Ints | None:
        """Codes of a column that could name sources: several values, several rows each."""
        series = self.whole[name]
        if series.null_count() > 0.5 * series.len():
            return None
        codes = value_codes(series)
        num_values = int(codes.max(initial=-1)) + 1
        if num_values < least or not _has_company(codes):
            return None
        return codes

    def _alike(self, names: tuple[str, ...], codes: Ints) -> dict[str, float]:
        """Likeness of the columns that are not among the names."""
        rows = self._sample(codes)
        found = alikeness(codes[rows], self.comparable.only(rows))
        return {name: value for name, value in found.items() if name not in names}

    def _likeness(self, names: tuple[str, ...], codes: Ints) -> tuple[dict[str, float], float]:
        """Likeness of the other columns, and its mean with what chance gives taken off."""
        rows = self._sample(codes)
        columns = self.comparable.only(rows)
        found = {
            name: value
            for name, value in alikeness(codes[rows], columns).items()
            if name not in names
        }
        if len(found) < 2:
            return found, 0.0
        shuffled = np.random.default_rng(0).permutation(codes[rows])
        chance = {
            name: value for name, value in alikeness(shuffled, columns).items() if name not in names
        }
        return found, _mean(found) - _mean(chance)

    def _sample(self, codes: Ints) -> Ints:
        """Rows of whole groups, at most about `SAMPLE_ROWS`."""
        if codes.size <= SAMPLE_ROWS:
            return np.arange(codes.size)
        sizes = np.bincount(codes)
        drawn = np.random.default_rng(0).permutation(sizes.size)
        total = np.cumsum(sizes[drawn])
        kept = np.zeros(sizes.size, dtype=bool)
        kept[drawn[: max(2, int(np.searchsorted(total, SAMPLE_ROWS, side="right")))]] = True
        rows = np.flatnonzero(kept[codes])
        if rows.size > 2 * SAMPLE_ROWS:
            rows = np.sort(np.random.default_rng(0).choice(rows, SAMPLE_ROWS, replace=False))
        return rows

    def _names_something(self, column: Column, codes: Ints) -> bool:
        """Whether whole numbers or words could be opaque names: several values, several rows."""
        sizes = np.bincount(codes)
        return (
            sizes.size >= 2 * MIN_VALUES
            and float(np.median(sizes)) >= 3
            and not self._fraction(column.name)
        )

    def _jumps(self, name: str, score: float) -> bool:
        """Whether merging neighbouring values destroys the likeness, as it does for names."""
        codes = _merged(self.whole[name])
        if codes is None:
            return True
        _, merged = self._likeness((name,), codes)
        return merged <= JUMP * score

    def _fraction(self, name: str) -> bool:
        series = self.whole[name]
        if not series.dtype.is_float():
            return False
        cells = series.drop_nulls().drop_nans()
        return not bool((cells == cells.round(0)).all())


def _has_company(codes: Ints) -> bool:
    """Whether the middle group has two rows or more, and the table more than a few groups."""
    sizes = np.bincount(codes)
    return bool(np.median(sizes) >= 2 and sizes.max() <= GIANT * codes.size)
