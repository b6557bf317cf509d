"""Views: what a fit, and what a prediction, may see of a table.

A `TrainView` is the only thing that `fit` accepts. It holds no test label anywhere, not even out
of reach: the arrays behind it were blanked on the test rows before it was made. Views are made by
`Split.train_view`, `Split.fold_views` and `Split.test_view`, and cut further by `TrainView.subset`
and `TrainView.holdout`; there is no other door.

Rows are indices into one shared table, and columns are gathered when they are asked for, so five
folds of five million rows cost five index arrays, not five tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.fingerprint import row_digests
from loopline.data.multilabel import label_matrix, rarest_labels
from loopline.data.schema import Schema, Task, has_classes
from loopline.errors import DataError, IntegrityError, LeakError, SettingsError
from loopline.seeds import child_seed
from loopline.splits.deal import deal, latest_share, row_keys, shares_unit
from loopline.splits.spec import TRAIN

_DOOR = object()
DIGESTED_ROWS = 1 << 18
"""Rows whose features are gathered together to be digested."""


@dataclass(frozen=True, eq=False)
class SharedRows:
    """What all views of one split share: whole-table arrays, test labels blanked.

    `target` is -1 (classes, labels) or NaN (regression) on every row that is not a training row.
    """

    schema: Schema
    features: pl.DataFrame
    side: NDArray[np.int8]
    target: NDArray[Any]
    weight: NDArray[np.float64] | None
    units: NDArray[np.int64]
    order: NDArray[np.int64] | None
    clock: NDArray[Any] | None
    gap: float
    digests: NDArray[np.uint64]
    until: NDArray[Any] | None = None
    reach: NDArray[np.int64] | None = None


class _View:
    """Columns of some rows of a shared table."""

    def __init__(self, shared: SharedRows, rows: NDArray[np.int64], door: object) -> None:
        if door is not _DOOR:
            raise LeakError(
                f"{type(self).__name__} cannot be made by hand, because then nothing would keep "
                "test rows out; ask the split: train_view, fold_views or test_view."
            )
        self._shared = shared
        self._rows = rows

    @property
    def schema(self) -> Schema:
        """Types and roles of the table's columns."""
        return self._shared.schema

    @property
    def num_rows(self) -> int:
        """Number of rows of this view."""
        return int(self._rows.size)

    @property
    def positions(self) -> NDArray[np.int64]:
        """Where the view's rows stand in the table, shape (rows,)."""
        return self._rows

    @property
    def digests(self) -> NDArray[np.uint64]:
        """Identity of each row, shape (rows, 2)."""
        return self._shared.digests[self._rows]

    def column(self, name: str) -> pl.Series:
        """One feature column, gathered now.

        Raises:
            LeakError: the column exists but is not a feature (the target, a group, the time …).
            DataError: there is no such column.
        """
        self._check(name)
        series = self._shared.features.get_column(name)
        return series if self._is_whole_table else series.gather(self._rows)

    def frame(self, names: Sequence[str] | None = None) -> pl.DataFrame:
        """Feature columns (all of them by default) as a frame, gathered now.

        Raises:
            LeakError: a named column is not a feature.
            DataError: there is no such column.
        """
        for name in names or ():
            self._check(name)
        chosen = list(self.schema.features if names is None else names)
        return self._gathered(self._shared.features.select(chosen))

    def block(self, start: int, stop: int) -> pl.DataFrame:
        """All feature columns of the view's rows from `start` to `stop` (not included)."""
        features = self._shared.features
        if not features.width:
            return pl.DataFrame(height=self._rows[start:stop].size)
        if self._is_whole_table:
            return features.slice(start, stop - start)
        return features[self._rows[start:stop]]

    def feature_digests(self) -> NDArray[np.uint64]:
        """Row digests of the feature columns alone, shape (rows, 2); equal where features are.

        Made block by block, so no copy of the table is needed.
        """
        digests = np.empty((self.num_rows, 2), dtype=np.uint64)
        for start in range(0, self.num_rows, DIGESTED_ROWS):
            stop = min(start + DIGESTED_ROWS, self.num_rows)
            digests[start:stop] = row_digests(self.block(start, stop))
        return digests

    def _gathered(self, frame: pl.DataFrame) -> pl.DataFrame:
        if not frame.width:
            return pl.DataFrame(height=self.num_rows)
        if self._is_whole_table:
            return frame
        return frame[self._rows]

    @cached_property
    def _is_whole_table(self) -> bool:
        rows = self._rows
        whole = self._shared.side.size
        return bool(rows.size == whole and np.array_equal(rows, np.arange(whole)))

    def _check(self, name: str) -> None:
        column = self.schema.named(name)
        if column.role != "feature":
            raise LeakError(
                f"Column {name!r} has the role {column.role!r}; a view gives feature columns only. "
                "Use `target`, `weight`, `units` or `order` where the view has them."
            )

    def __len__(self) -> int:
        return self.num_rows

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.num_rows:,} rows, {len(self.schema.features)} features)"
        )


class TestView(_View):
    """The test rows' features: enough to predict, nothing to score with.

    The labels are behind `loopline.splits.vault.Vault.open`, which counts.
    """

    __test__ = False

    @property
    def target(self) -> NDArray[Any]:
        """Refused, always.

        Raises:
            LeakError: the labels of test rows are the vault's.
        """
        raise LeakError(
            "A view of the test rows has no labels, so that nothing can be fitted on them or "
            "decided by them; the vault gives them for scoring: `Vault.open`."
        )

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """Unit of each row, shape (rows,)."""
        return self._shared.units[self._rows]


class TrainView(_View):
    """Training rows with their target: the only thing that `fit` accepts."""

    @cached_property
    def target(self) -> NDArray[Any]:
        """Class codes (int64) or values (float64), shape (rows,).

        Of a multilabel task which labels each row has, 0 or 1 (int8), shape (rows, labels).
        """
        return _locked(self._shared.target[self._rows])

    @cached_property
    def weight(self) -> NDArray[np.float64] | None:
        """Sample weights >= 0, shape (rows,), or None when every row counts the same."""
        weight = self._shared.weight
        return None if weight is None else _locked(weight[self._rows])

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """Rows that must stay together share a unit, shape (rows,)."""
        return _locked(self._shared.units[self._rows])

    @cached_property
    def order(self) -> NDArray[np.int64] | None:
        """Rank in time, equal for equal times, shape (rows,); None when the split knows no time."""
        order = self._shared.order
        return None if order is None else _locked(order[self._rows])

    @cached_property
    def reach(self) -> NDArray[np.int64] | None:
        """Latest rank in time within each row's label window, shape (rows,).

        None when the split knows no label windows. A label was known before a row of rank `r`
        when its reach is below `r`.
        """
        reach = self._shared.reach
        return None if reach is None else _locked(reach[self._rows])

    def subset(self, positions: NDArray[Any]) -> TrainView:
        """The view of some of this view's rows.

        Args:
            positions: row numbers within this view (repeats allowed), or a boolean mask of its
                length.

        Raises:
            DataError: a position outside the view, or a mask of another length.
        """
        chosen = np.asarray(positions)
        if chosen.dtype == np.bool_:
            if chosen.shape != (self.num_rows,):
                raise DataError(
                    f"The mask has shape {chosen.shape}; the view has {self.num_rows} rows."
                )
            chosen = np.flatnonzero(chosen)
        elif chosen.size == 0:
            chosen = chosen.astype(np.int64)
        elif chosen.dtype.kind not in "iu" or chosen.min() < 0 or chosen.max() >= self.num_rows:
            raise DataError(
                f"Positions must be whole numbers from 0 to {self.num_rows - 1} in a view of "
                f"{self.num_rows} rows."
            )
        return TrainView(self._shared, self._rows[chosen], _DOOR)

    def at(self, positions: NDArray[Any]) -> TrainView:
        """The view of some of this view's rows, named by where they stand in the table.

        Args:
            positions: row numbers in the table, as `positions` gives them.

        Raises:
            LeakError: a row is not one of this view's rows (a test row, for instance).
        """
        wanted = np.asarray(positions, dtype=np.int64)
        size = self._shared.side.size
        mine = np.zeros(size, dtype=bool)
        mine[self._rows] = True
        inside = (wanted >= 0) & (wanted < size)
        strange = wanted[~inside] if not inside.all() else wanted[~mine[wanted]]
        if strange.size:
            raise LeakError(
                f"{strange.size} of {wanted.size} rows are not in this training view, the first is "
                f"row {int(strange[0])} of the table."
            )
        return TrainView(self._shared, wanted, _DOOR)

    def without(self, names: Sequence[str]) -> TrainView:
        """The same rows with fewer features: what a model sees when some columns are left out.

        Args:
            names: features to leave out.

        Raises:
            DataError: there is no such column.
            LeakError: a column is not a feature.
        """
        gone, features = set(names), set(self.schema.features)
        for name in gone - features:
            self._check(name)
        schema = replace(
            self.schema,
            columns=tuple(
                replace(column, role="ignore") if column.name in gone else column
                for column in self.schema.columns
            ),
        )
        shared = replace(
            self._shared, schema=schema, features=self._shared.features.select(schema.features)
        )
        return TrainView(shared, self._rows, _DOOR)

    def with_features(self, table: pl.DataFrame, schema: Schema) -> TrainView:
        """The same rows under another schema of the same target, with other feature columns.

        Args:
            table: the rows that the view was made from, in the same order.
            schema: the roles to see the rows with; target, task and classes as before.

        Raises:
            DataError: a column is missing.
            IntegrityError: the table has another number of rows.
            LeakError: the schema has another target, task or classes.
        """
        mine = self.schema
        if (schema.target, schema.task, schema.classes) != (mine.target, mine.task, mine.classes):
            raise LeakError(
                f"A view of the target {mine.target!r} cannot be turned into one of "
                f"{schema.target!r}; make a split for it."
            )
        features = feature_table(table, schema, self._shared.side.size)
        return TrainView(replace(self._shared, schema=schema, features=features), self._rows, _DOOR)

    def sample(self, num_rows: int, seed: int) -> TrainView:
        """At most `num_rows` rows drawn by the seed, in the order of this view."""
        if num_rows >= self.num_rows:
            return self
        drawn = np.random.default_rng(seed).choice(self.num_rows, num_rows, replace=False)
        return self.subset(np.sort(drawn))

    def holdout(self, share: float, seed: int) -> tuple[TrainView, TrainView] | None:
        """Cut off a part for early stopping or tuning, as honestly as the split itself.

        Where the split knows time, the part is the latest `share` of the rows: equal times stay
        together, the split's gap is kept, and the labels of the rest were known by then. Earlier
        rows of a unit that reaches into the part are left out of both. Otherwise whole units are
        dealt by the seed, class shares kept.

        Args:
            share: of the rows for the second view, in (0, 1).
            seed: of the random choice; no effect where time decides.

        Returns:
            (the rest, the part held out), both in the row order of this view; None when there are
            too few units or times for two sides. Nothing is ever cut through a unit.

        Raises:
            SettingsError: a share outside (0, 1).
        """
        if not 0.0 < share < 1.0:
            raise SettingsError([f"The share to hold out must lie between 0 and 1, got {share}."])
        order = self.order
        if order is None:
            held = self._dealt(share, child_seed(seed, "holdout"))
            kept = ~held
        else:
            kept, held = self._cut_forward(order, share)
        if not kept.any() or not held.any():
            return None
        return self.subset(kept), self.subset(held)

    def _dealt(self, share: float, seed: int) -> NDArray[np.bool_]:
        labels = strata(self.target, self.schema.task)
        held = deal(self.units, row_keys(self.digests), (share, 1.0 - share), seed, labels) == 0
        return np.asarray(held)

    def _cut_forward(
        self, order: NDArray[np.int64], share: float
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        if not order.size:
            return np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)
        held = order >= latest_share(order, share)
        kept = ~held & ~shares_unit(self.units, held)
        if not held.any():
            return kept, held
        if self.reach is not None:
            kept &= self.reach < order[held].min()
        clock, until = self._shared.clock, self._shared.until
        if clock is not None:
            ends = (clock if until is None else until)[self._rows]
            kept &= ends <= clock[self._rows][held].min() - self._shared.gap
        return kept, held


def open_train_view(shared: SharedRows, rows: NDArray[np.int64]) -> TrainView:
    """Make the view of some training rows. For `Split` only.

    Raises:
        LeakError: a row is not on the training side.
    """
    wrong = rows[shared.side[rows] != TRAIN]
    if wrong.size:
        raise LeakError(
            f"A training view may hold training rows only; {wrong.size} of {rows.size} are not, "
            f"the first is row {int(wrong[0])}."
        )
    return TrainView(shared, rows, _DOOR)


def open_test_view(shared: SharedRows, rows: NDArray[np.int64]) -> TestView:
    """Make the view of the test rows. For `Split` only."""
    return TestView(shared, rows, _DOOR)


def feature_table(table: pl.DataFrame, schema: Schema, num_rows: int) -> pl.DataFrame:
    """The feature columns of a table, without copying.

    Raises:
        DataError: a column of the schema is missing.
        IntegrityError: the table has another number of rows than the split.
    """
    known = set(table.columns)
    missing = [column.name for column in schema.columns if column.name not in known]
    if missing:
        raise DataError(f"The table lacks columns that its schema names: {', '.join(missing)}.")
    if table.height != num_rows:
        raise IntegrityError(
            f"The split was made for {num_rows} rows and the table has {table.height}; "
            "use the snapshot the split was made from."
        )
    return table.select(schema.features)


def encode_target(series: pl.Series, schema: Schema, rows: NDArray[np.int64]) -> NDArray[Any]:
    """The target of some rows as numbers: class codes (int64) or finite values (float64).

    Of a multilabel task a matrix of 0 and 1 (int8), shape (rows, labels).

    Args:
        series: the whole target column.
        schema: task and classes; the label ``classes[i]`` becomes `i`.
        rows: the rows wanted; no other row's label is looked at.

    Raises:
        DataError: an empty cell, a label that is no class, or a value that is no finite number,
            with the row.
    """
    wanted = series if rows.size == series.len() else series[rows]
    if wanted.null_count():
        first = int(rows[int(wanted.is_null().arg_max() or 0)])
        raise DataError(
            f"The target {series.name!r} is empty in {wanted.null_count()} of {wanted.len()} rows, "
            f"the first is row {first}; drop these rows before splitting."
        )
    if schema.task == "multilabel":
        return label_matrix(wanted, schema.classes)
    if not has_classes(schema.task):
        return _as_values(wanted, rows)
    found = wanted.unique()
    codes = {label: code for code, label in enumerate(schema.classes)}
    unknown = [value for value in found.to_list() if value not in codes]
    if unknown:
        first = int(rows[int((wanted == unknown[0]).arg_max() or 0)])
        raise DataError(
            f"The target {series.name!r} holds {unknown[0]!r} (row {first}), which is not one of "
            "the "
            f"classes {list(schema.classes)}; correct the label or the schema."
        )
    new = [codes[value] for value in found.to_list()]
    return wanted.replace_strict(found, new, return_dtype=pl.Int64).to_numpy().astype(np.int64)


def target_codes(series: pl.Series, schema: Schema) -> NDArray[Any]:
    """The whole of a target column as numbers; see `encode_target`.

    >>> from loopline.data.schema import Column
    >>> schema = Schema((Column("y", "category", "target"),), "binary", ("no", "yes"))
    >>> target_codes(pl.Series("y", ["yes", "no"]), schema)
    array([1, 0])
    """
    return encode_target(series, schema, np.arange(series.len()))


def strata(target: NDArray[Any], task: Task) -> NDArray[np.int64] | None:
    """What a random division keeps the shares of: classes, or each row's rarest label; else None.

    Args:
        target: as `encode_target` gives it.
        task: what is predicted.
    """
    if task == "multilabel":
        return rarest_labels(target)
    return target if has_classes(task) else None


def _as_values(wanted: pl.Series, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    if not (wanted.dtype.is_numeric() or wanted.dtype == pl.Boolean):
        raise DataError(
            f"The target {wanted.name!r} has type {wanted.dtype}; regression needs numbers."
        )
    values = wanted.cast(pl.Float64).to_numpy().astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        raise DataError(
            f"The target {wanted.name!r} must be finite; {wrong.size} rows are not, the first is "
            f"row {int(rows[wrong[0]])} with {values[wrong[0]]}."
        )
    return values


def read_weight(series: pl.Series, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sample weights of some rows, checked: numbers, finite, >= 0, not all zero.

    Raises:
        DataError: any other weight, with the row.
    """
    wanted = series if rows.size == series.len() else series[rows]
    if not wanted.dtype.is_numeric():
        raise DataError(f"The weight {series.name!r} has type {wanted.dtype}; weights are numbers.")
    values = wanted.cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0.0)))
    if wrong.size:
        cell = wanted[int(wrong[0])]
        raise DataError(
            f"The weight {series.name!r} must be finite and >= 0; {wrong.size} rows break this, "
            "the "
            f"first is row {int(rows[wrong[0]])} with {'an empty cell' if cell is None else cell}."
        )
    if values.size and not values.any():
        raise DataError(f"The weight {series.name!r} is zero in all {values.size} rows.")
    return values


def _locked(values: NDArray[Any]) -> NDArray[Any]:
    """The same array, read-only: it is handed to code that we do not know."""
    values.flags.writeable = False
    return values
