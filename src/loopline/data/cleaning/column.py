"""What every check of one column is handed, and the checks that suit any type."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.cleaning.finding import Finding, examples_at, examples_where
from loopline.data.cleaning.repair import Repair
from loopline.data.schema import Column
from loopline.seeds import child_seed

SAMPLE_ROWS = 200_000
CELL = pl.col("cell")
NUM_BLOCKS = 50


@dataclass(frozen=True)
class ColumnView:
    """One column under examination: its entry in the schema and its values in file order."""

    column: Column
    values: pl.Series

    @property
    def name(self) -> str:
        """The column's name."""
        return self.column.name

    @property
    def num_rows(self) -> int:
        """Rows of the table."""
        return len(self.values)

    @cached_property
    def is_missing(self) -> pl.Series:
        """True where the cell is null or NaN."""
        if self.values.dtype.is_float():
            return self.values.is_null() | self.values.is_nan().fill_null(value=False)
        return self.values.is_null()

    @cached_property
    def num_missing(self) -> int:
        """Cells that are null or NaN."""
        return int(self.is_missing.sum())

    @cached_property
    def levels(self) -> pl.Series | None:
        """The different values of a text column, in code order; None where they are very many.

        A rule about values is cheaper on the levels than on millions of rows.
        """
        if self.values.dtype != pl.String:
            return None
        some = self.values.gather(sample_rows(self.num_rows, 20_000))
        if some.n_unique() > 0.3 * len(some):
            return None
        return self.values.drop_nulls().unique().sort()

    def where(self, condition: pl.Expr) -> pl.Series:
        """True in the rows whose value meets the condition (an expression over `CELL`)."""
        named = self.values.alias("cell")
        if self.levels is None:
            met = pl.DataFrame([named]).select(condition.fill_null(value=False))
            return met.to_series()
        chosen = pl.DataFrame([self.levels.alias("cell")]).filter(condition).to_series()
        if not len(chosen):
            return pl.Series([False]).new_from_index(0, self.num_rows)
        return self.values.is_in(chosen.implode()).fill_null(value=False)

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of the name in lower case: ``customerID`` gives customer and id."""
        parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", self.name)
        return frozenset(part.lower() for part in parts)

    @cached_property
    def is_key(self) -> bool:
        """Whether the role or the name says that the values name single rows."""
        return self.column.role == "id" or bool(self.words & KEY_WORDS)

    def found(
        self,
        kind: str,
        where: pl.Series,
        sentence: str,
        severity: str = "warning",
        repair: Repair | None = None,
    ) -> Finding:
        """A finding of this column about the rows where `where` is true."""
        count = int(where.sum())
        return Finding(
            kind=kind,
            columns=(self.name,),
            count=count,
            share=count / max(self.num_rows, 1),
            sentence=sentence.replace("{}", f"{count:,} of {self.num_rows:,} rows", 1),
            severity="info" if severity == "info" else "warning",
            examples=examples_where(self.values, where),
            repair=repair,
        )


KEY_WORDS = frozenset({"id", "ids", "key", "uuid", "guid", "identifier", "uid"})


@lru_cache(maxsize=2)  # every column asks for the same rows, and drawing them costs 0.1 s
def sample_rows(num_rows: int, limit: int = SAMPLE_ROWS) -> NDArray[np.int64]:
    """Row numbers for the costly checks: all of them, or the same `limit` of them every time."""
    if num_rows <= limit:
        chosen = np.arange(num_rows)
    else:
        draw = np.random.default_rng(child_seed(0, "clean", num_rows))
        chosen = np.unique(draw.integers(0, num_rows, limit))
    chosen.flags.writeable = False
    return chosen


def block_bounds(num_rows: int, num_blocks: int = NUM_BLOCKS) -> NDArray[np.int64]:
    """First rows of equal blocks in file order, with the table's end as the last entry."""
    return np.linspace(0, num_rows, num_blocks + 1).astype(np.int64)


_POLICIES = {
    "auto": "the model family's recipe decides (trees keep it missing, linear ones impute it)",
    "keep": "it stays missing",
    "error": "such rows are refused",
    "mean": "the training rows' mean is put in",
    "median": "the training rows' median is put in",
    "most_frequent": "the training rows' most frequent value is put in",
}


def find_missing(view: ColumnView) -> list[Finding]:
    """Cells without a value, and what the features will do about them."""
    if not view.num_missing or view.num_missing == view.num_rows:
        return []
    column = view.column
    if column.role == "target":
        then = "a row without a target can neither train nor test"
    elif column.role == "feature":
        then = _POLICIES.get(column.missing, f"{column.fill!r} is put in")
    else:
        then = f"the column's role is {column.role}"
    share = view.num_missing / view.num_rows
    sentence = f"Column {view.name!r} has no value in {{}} ({share:.1%}); {then}."
    severity = "warning" if column.role in ("target", "group", "time", "weight") else "info"
    return [view.found("missing", view.is_missing, sentence, severity)]


def find_missing_burst(view: ColumnView) -> list[Finding]:
    """A run of missing cells in file order far longer than chance would make it."""
    missing, rows = view.num_missing, view.num_rows
    if missing < 10 or missing == rows:
        return []
    starts, lengths = runs(view.is_missing.to_numpy())
    longest = int(lengths.max())
    start = int(starts[int(lengths.argmax())])
    # Outside the run the share is what chance has to work with.
    share = (missing - longest + 1) / (rows - longest + 2)
    by_chance = np.log(max(rows, 2)) / -np.log(max(min(share, 1 - 1e-9), 1e-9))
    at_edge = start == 0 or start + longest == rows
    if longest < 10 or longest < 4 * by_chance + 5 or (share < 1e-9 and at_edge):
        return []
    where = np.zeros(rows, dtype=np.bool_)
    where[start : start + longest] = True
    sentence = (
        f"Column {view.name!r} is missing in a single run of {longest:,} rows, from row {start:,} "
        f"on; elsewhere {share:.1%} are missing. A source may have failed for a while."
    )
    return [view.found("missing_burst", pl.Series(where), sentence)]


def runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and lengths of the runs of true entries.

    >>> runs(np.array([False, True, True, False, True]))
    (array([1, 4]), array([2, 1]))
    """
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return edges[::2], edges[1::2] - edges[::2]


def find_constant(view: ColumnView) -> list[Finding]:
    """A column with one value, or none, carries nothing to learn from."""
    if view.num_rows < 2:
        return []
    present = view.values.drop_nulls()
    if present.dtype.is_float():
        present = present.drop_nans()
    if len(present) and not _all_equal(present):
        return []
    if not len(present):
        what = "has no value in any row"
    elif view.num_missing:
        return []  # a value or nothing: the pattern of what is missing may carry information
    else:
        what = f"holds {examples_at(present, [0])[0].value!r} in every row"
    everywhere = pl.Series([True]).new_from_index(0, view.num_rows)
    told = view.column.role != "feature"
    sentence = f"Column {view.name!r} {what}; it carries nothing to learn from."
    repair = None if view.column.role == "target" else Repair.drop_column(view.name, "constant")
    return [view.found("constant", everywhere, sentence, "info" if told else "warning", repair)]


def _all_equal(present: pl.Series) -> bool:
    if present.dtype.is_nested():
        return present.n_unique() == 1
    return bool((present == present.head(1)).all())


def find_repeated_keys(view: ColumnView) -> list[Finding]:
    """Values that should name one row each and stand in several."""
    kind = view.values.dtype
    if not view.is_key or kind.is_nested() or view.column.role in ("group", "target"):
        return []
    if view.column.role != "id" and not (kind == pl.String or kind.is_integer()):
        return []
    repeated = repeats(view.values, view.values.hash(0)) & ~view.is_missing
    count = int(repeated.sum())
    # Without the role, only a column that is nearly a key is taken for one.
    if not count or (view.column.role != "id" and count > 0.1 * view.num_rows):
        return []
    sentence = (
        f"Column {view.name!r} should name one row each; {{}} share their value with another row. "
        "Rows of one entity need the role `group`."
    )
    return [view.found("key_not_unique", repeated, sentence)]


def repeats(values: pl.Series, hashes: pl.Series) -> pl.Series:
    """True for the rows whose value stands more than once, by a sort of the hashes.

    A hash table of five million cells takes many times the memory of the sort; rows whose hashes
    meet are compared by value.
    """
    rows = repeated_hashes(hashes)
    where = np.zeros(len(values), dtype=np.bool_)
    where[rows] = values.gather(rows).is_duplicated().to_numpy()
    return pl.Series(where)


def repeated_hashes(hashes: pl.Series) -> NDArray[np.int64]:
    """Rows whose hash another row has too, in order."""
    ordered = np.sort(hashes.to_numpy())
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return np.empty(0, dtype=np.int64)
    return hashes.is_in(pl.Series(twice).implode()).arg_true().to_numpy().astype(np.int64)
