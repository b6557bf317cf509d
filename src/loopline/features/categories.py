"""Categories: ordinal codes for trees, one-hot columns for linear models.

Every category step is a list of known levels and a small table with one row a level, one for a
value never seen in training, and one for a missing cell. Transforming looks up the code of each
cell and takes that row.

Levels are keyed by their text, or by their number when the column holds numbers (so 3, 3.0 and
True/1 mean the same level on every path).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.errors import DataError
from loopline.features.base import NAN, Floats, Output, Step, refuse_missing
from loopline.features.readers import Reading
from loopline.features.reading import as_floats, as_texts

Level = str | float


@dataclass(frozen=True, eq=False)
class LevelStep(Step):
    """A category step: `levels` and the table that `lookup` gives.

    Args:
        source: the raw column.
        levels: the known levels in code order, sorted; all text or all numbers.
        by_number: whether levels are numbers.
        refuse: whether a missing cell is an error.
        replacement: the level that a missing cell is read as, None when it stays missing.
    """

    source: str
    levels: tuple[Level, ...]
    by_number: bool
    refuse: bool
    replacement: Level | None

    @abstractmethod
    def lookup(self) -> Floats:
        """Outputs for each level, then for an unseen value, then for a missing cell."""

    @cached_property
    def _table(self) -> Floats:
        table = np.ascontiguousarray(self.lookup(), dtype=np.float64)
        if self.replacement is not None:
            table = table.copy()
            known = self.replacement in self.levels
            table[-1] = table[self.levels.index(self.replacement) if known else -2]
        return table

    @cached_property
    def _known(self) -> Any:
        """The levels as polars' Enum, or as a sorted array."""
        if self.by_number:
            return np.array(self.levels, dtype=np.float64)
        return pl.Enum([str(level) for level in self.levels])

    def codes(self, values: pl.Series) -> NDArray[np.int64]:
        """Code of each cell: its level's, then one for unseen (levels), one for missing (+1)."""
        at, missing = self._number_codes(values) if self.by_number else self._text_codes(values)
        if missing is not None:
            if self.refuse:
                refuse_missing(self.source, missing)
            at[missing] = len(self.levels) + 1
        return at

    def _number_codes(
        self, values: pl.Series
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        x, count = as_floats(values), len(self.levels)
        if not count:
            return np.zeros(len(x), dtype=np.int64), ~np.isfinite(x)
        at = np.minimum(np.searchsorted(self._known, x), count - 1)
        return np.where(self._known[at] == x, at, count), ~np.isfinite(x)

    def _text_codes(self, values: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        texts, count = as_texts(values), len(self.levels)
        # Polars takes 40 µs for a null mask that is nearly always empty; null_count is free.
        missing = texts.is_null().to_numpy() if texts.null_count() else None
        if not count:
            return np.zeros(len(texts), dtype=np.int64), missing
        found = texts.cast(self._known, strict=False).to_physical()
        if found.null_count():
            found = found.cast(pl.UInt32).fill_null(count)
        return found.to_numpy().astype(np.int64), missing

    def fill(self, values: pl.Series, out: Floats) -> None:
        """See `Step.fill`."""
        codes = self.codes(values)
        if out.shape[1] == 1:
            out[:, 0] = self._table[codes, 0]
        else:
            out[:] = self._table[codes]

    def reading(self) -> Reading:
        """See `Step.reading`."""
        data = {"levels": list(self.levels), "by_number": self.by_number, "refuse": self.refuse}
        return Reading("level", data, {"table": self._table})


@dataclass(frozen=True, eq=False)
class OrdinalStep(LevelStep):
    """One output: the level's code 0, 1, …; NaN for unseen and (by default) for missing.

    Args:
        missing_code: whether a missing cell has a code of its own, the one after the last level.
    """

    kind: ClassVar[str] = "ordinal"
    missing_code: bool = False

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The code."""
        return (Output(self.source, self.source, len(self.levels) + int(self.missing_code)),)

    def lookup(self) -> Floats:
        """See `LevelStep.lookup`."""
        missing = float(len(self.levels)) if self.missing_code else NAN
        return np.array([*map(float, range(len(self.levels))), NAN, missing]).reshape(-1, 1)


@dataclass(frozen=True, eq=False)
class OneHotStep(LevelStep):
    """One output a level, and where training had them one for rare and one for missing cells.

    A value never seen in training counts as rare; without a rare column all outputs are 0.

    Args:
        rare: whether there is a column for levels that were too rare to have their own.
        missing_level: whether there is a column for missing cells.
    """

    kind: ClassVar[str] = "onehot"
    rare: bool = False
    missing_level: bool = False

    @property
    def outputs(self) -> tuple[Output, ...]:
        """One a level, then rare, then missing."""
        names = [_spelled(level) for level in self.levels]
        names += ["(rare)"] * self.rare + ["(missing)"] * self.missing_level
        return tuple(Output(f"{self.source}={name}", self.source) for name in names)

    def lookup(self) -> Floats:
        """See `LevelStep.lookup`."""
        count = len(self.levels)
        table = np.zeros((count + 2, len(self.outputs)))
        table[np.arange(count), np.arange(count)] = 1.0
        if self.rare:
            table[count, count] = 1.0
        if self.missing_level:
            table[count + 1, -1] = 1.0
        return table


@dataclass(frozen=True)
class Levels:
    """The levels of a training column with their numbers of rows, sorted by level."""

    source: str
    values: tuple[Level, ...]
    counts: tuple[int, ...]
    num_missing: int
    by_number: bool

    def most_frequent(self) -> Level | None:
        """The level with most rows (the first in order among equals), None when there is none."""
        if not self.values:
            return None
        return self.values[int(np.argmax(self.counts))]


def count_levels(values: pl.Series) -> Levels:
    """Count the levels of a training column.

    Raises:
        DataError: a column whose type has no spelling (lists, structs).
    """
    dtype = values.dtype
    if dtype.is_numeric() or dtype == pl.Boolean:
        x = as_floats(values)
        known = np.isfinite(x)
        uniques, counts = np.unique(x[known], return_counts=True)
        return Levels(
            values.name,
            tuple(float(value) + 0.0 for value in uniques),
            tuple(counts.tolist()),
            len(x) - int(known.sum()),
            by_number=True,
        )
    texts = as_texts(values)
    table = texts.drop_nulls().alias("level").value_counts().sort("level")
    return Levels(
        values.name,
        tuple(table["level"].to_list()),
        tuple(table["count"].to_list()),
        texts.null_count(),
        by_number=False,
    )


def missing_parts(levels: Levels, missing: str, constant: Any) -> tuple[bool, Level | None]:
    """What a `missing` policy means for a category: (refuse, replacement level).

    Raises:
        DataError: a policy that needs numbers (mean, median), a constant that is not there, or a
            missing cell under ``error``.
    """
    if missing == "error":
        if levels.num_missing:
            raise DataError(
                f"Column {levels.source!r} must have no missing cell (missing='error'), but "
                f"{levels.num_missing} training rows have none. Fill them in, or choose another "
                f"`missing` for the column."
            )
        return True, None
    if missing == "keep":
        return False, None
    if missing == "most_frequent":
        return False, levels.most_frequent()
    if missing == "constant":
        if constant is None or (levels.by_number and isinstance(constant, str)):
            wanted = "a number" if levels.by_number else "a value"
            raise DataError(
                f"Column {levels.source!r} has missing='constant', which needs {wanted} as `fill`, "
                f"got {constant!r}."
            )
        return False, float(constant) if levels.by_number else spelled_constant(constant)
    raise DataError(
        f"Column {levels.source!r} is a category, which has no {missing}; its `missing` may be "
        f"auto, keep, error, most_frequent or constant."
    )


def learn_ordinal(
    levels: Levels, *, missing: str, constant: Any = None, missing_code: bool = False
) -> OrdinalStep:
    """Codes in the sorted order of the levels, the same whatever the order of the rows."""
    refuse, replacement = missing_parts(levels, missing, constant)
    values = _with_level(levels.values, replacement)
    return OrdinalStep(
        levels.source, values, levels.by_number, refuse, replacement, missing_code=missing_code
    )


def learn_onehot(
    levels: Levels, *, missing: str, constant: Any = None, max_levels: int, min_count: int
) -> OneHotStep:
    """Columns for the `max_levels` most frequent levels with at least `min_count` rows.

    All other levels share the rare column.
    """
    refuse, replacement = missing_parts(levels, missing, constant)
    counts = dict(zip(levels.values, levels.counts, strict=True))
    if replacement is not None:
        counts[replacement] = counts.get(replacement, 0) + levels.num_missing
    order = sorted((level for level in counts), key=lambda level: (-counts[level], level))
    kept = [level for level in order[:max_levels] if counts[level] >= min_count]
    return OneHotStep(
        levels.source,
        tuple(sorted(kept)),
        levels.by_number,
        refuse,
        replacement,
        rare=len(kept) < sum(count > 0 for count in counts.values()),
        missing_level=replacement is None and levels.num_missing > 0,
    )


def spelled_constant(value: Any) -> str:
    """A constant as a table would spell it in a text column."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _with_level(values: tuple[Level, ...], extra: Level | None) -> tuple[Level, ...]:
    if extra is None or extra in values:
        return values
    return tuple(sorted([*values, extra]))


def _spelled(level: Level) -> str:
    if isinstance(level, float) and level.is_integer() and abs(level) < 1e15:
        return str(int(level))
    return str(level)
