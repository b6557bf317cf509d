"""The split of a snapshot as a stored value: side and fold of every row, and the proof.

A `Split` is made once (`loopline.splits.make.make_split`), saved as data, and from then on only
read. It knows rows by their digests, so it can be laid over the same rows in another order
(`align`), and it is the only maker of views.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.schema import Schema
from loopline.digest import combined_digest, value_digest
from loopline.errors import IntegrityError, SettingsError, SplitError
from loopline.splits.base import Splitter
from loopline.splits.certificate import Certificate, assignment_digest, prove, rows_digest
from loopline.splits.clock import clock_gap
from loopline.splits.rows import read_rows
from loopline.splits.spec import EXCLUDED, FOLD_TRAIN, FOLD_VALID, TEST, TRAIN, SplitSettings
from loopline.splits.splitters import SPLITTERS
from loopline.splits.views import (
    SharedRows,
    TestView,
    TrainView,
    encode_target,
    feature_table,
    open_test_view,
    open_train_view,
    read_weight,
)

FORMAT = 1
ROWS_FILE = "rows.parquet"
SPLIT_FILE = "split.json"
TIME_FILES = ("order", "clock", "until", "reach")
"""Arrays that a split without time does not have."""


@dataclass(frozen=True, eq=False)
class Split:
    """Which rows train, validate and test.

    Args:
        settings: what was asked.
        digests: (rows, 2) identity of each row.
        side: (rows,) 0 train, 1 test, 2 excluded.
        folds: (rows, folds) 0 unused, 1 train, 2 validation; test and excluded rows are unused.
        units: (rows,) rows that must stay together share a code.
        order: (rows,) rank in time, equal for equal times; None when the method knows no time.
        clock: (rows,) the first time column as microseconds or numbers; only kept for a gap.
        certificate: the proof that nothing straddles, with its counts.
        until: (rows,) the end of each label window on that clock; only kept for a gap.
        reach: (rows,) the latest rank in time within the window; None without label windows.
    """

    settings: SplitSettings
    digests: NDArray[np.uint64]
    side: NDArray[np.int8]
    folds: NDArray[np.int8]
    units: NDArray[np.int64]
    order: NDArray[np.int64] | None
    clock: NDArray[Any] | None
    certificate: Certificate
    until: NDArray[Any] | None = None
    reach: NDArray[np.int64] | None = None

    @property
    def num_rows(self) -> int:
        """Rows of the snapshot, all sides together."""
        return int(self.side.size)

    @property
    def num_folds(self) -> int:
        """Number of folds, 0 when there are none."""
        return int(self.folds.shape[1])

    @cached_property
    def id(self) -> str:
        """Digest of settings and assignment, the same whatever the order of the rows."""
        assigned = assignment_digest(self.digests, self.side, self.folds)
        return combined_digest([value_digest(self.settings.to_dict()), assigned])

    @cached_property
    def test_digest(self) -> str:
        """Identity of the test set: the digest of its row digests, order left out."""
        return rows_digest(self.digests[self.side == TEST])

    # --- views -----------------------------------------------------------------------------------

    def train_view(
        self, table: pl.DataFrame, schema: Schema, digests: NDArray[np.uint64] | None = None
    ) -> TrainView:
        """All training rows of the table the split was made from.

        Args:
            table: the snapshot's rows, in the order of the split's `digests`.
            schema: roles and task.
            digests: the table's row digests. Give them wherever they are at hand: they are
                compared with the split's, so rows in another order cannot slip in.

        Raises:
            DataError: target or weight cannot be used, or a column is missing.
            IntegrityError: the table has other rows, or the same rows in another order.
        """
        shared = self._shared(table, schema, digests)
        return open_train_view(shared, np.flatnonzero(self.side == TRAIN))

    def fold_views(
        self,
        fold: int,
        table: pl.DataFrame | TrainView,
        schema: Schema | None = None,
        digests: NDArray[np.uint64] | None = None,
    ) -> tuple[TrainView, TrainView]:
        """Training and validation rows of one fold; neither holds a test row.

        Args:
            fold: 0 to `num_folds` - 1.
            table: the snapshot's rows, or the split's `train_view`, which saves decoding the
                target again.
            schema: roles and task; not needed with a view.
            digests: the table's row digests, compared with the split's.

        Raises:
            SplitError: there is no such fold.
        """
        if not 0 <= fold < self.num_folds:
            raise SplitError(f"There is no fold {fold}; the split has {self.num_folds}, from 0.")
        part = self.folds[:, fold]
        if isinstance(table, TrainView):
            here = part[table.positions]
            return table.subset(here == FOLD_TRAIN), table.subset(here == FOLD_VALID)
        if schema is None:
            raise SplitError("`fold_views` of a table needs its schema.")
        shared = self._shared(table, schema, digests)
        return (
            open_train_view(shared, np.flatnonzero(part == FOLD_TRAIN)),
            open_train_view(shared, np.flatnonzero(part == FOLD_VALID)),
        )

    def test_view(
        self, table: pl.DataFrame, schema: Schema, digests: NDArray[np.uint64] | None = None
    ) -> TestView:
        """The test rows' features; their labels are the vault's."""
        self._same_rows(digests)
        shared = SharedRows(
            schema=schema,
            features=feature_table(table, schema, self.num_rows),
            side=self.side,
            target=np.empty(0),
            weight=None,
            units=self.units,
            order=self.order,
            clock=None,
            gap=0.0,
            digests=self.digests,
        )
        return open_test_view(shared, np.flatnonzero(self.side == TEST))

    def _same_rows(self, digests: NDArray[np.uint64] | None) -> None:
        if digests is None or digests is self.digests or np.array_equal(digests, self.digests):
            return
        self.align(digests)
        raise IntegrityError(
            "The table has the split's rows in another order; use `split.align(digests)` first."
        )

    def _shared(
        self, table: pl.DataFrame, schema: Schema, digests: NDArray[np.uint64] | None
    ) -> SharedRows:
        self._same_rows(digests)
        features = feature_table(table, schema, self.num_rows)
        rows = np.flatnonzero(self.side == TRAIN)
        known = encode_target(table[schema.target], schema, rows)
        blank = np.nan if known.dtype.kind == "f" else -1
        target = np.full((self.num_rows, *known.shape[1:]), blank, dtype=known.dtype)
        target[rows] = known
        weight = None
        if schema.weight is not None:
            weight = np.full(self.num_rows, np.nan)
            weight[rows] = read_weight(table[schema.weight], rows)
        return SharedRows(
            schema=schema,
            features=features,
            side=self.side,
            target=target,
            weight=weight,
            units=self.units,
            order=self.order,
            clock=self.clock,
            gap=clock_gap(self.settings.gap, self.clock),
            digests=self.digests,
            until=self.until,
            reach=self.reach,
        )

    # --- identity --------------------------------------------------------------------------------

    def align(self, digests: NDArray[np.uint64]) -> Split:
        """The same split laid over the same rows in another order.

        Rows of equal digest are equal in every cell; the first of them here is matched with the
        first of them there, and so on.

        Raises:
            IntegrityError: a row was added, removed or changed.
        """
        if digests.shape == self.digests.shape and np.array_equal(digests, self.digests):
            # The table's array, mapped from its file, in place of a copy of 16 bytes a row.
            return self if digests is self.digests else replace(self, digests=digests)
        mine = np.lexsort((self.digests[:, 1], self.digests[:, 0]))
        theirs = np.lexsort((digests[:, 1], digests[:, 0]))
        if digests.shape != self.digests.shape or not np.array_equal(
            self.digests[mine], digests[theirs]
        ):
            raise IntegrityError(describe_row_change(self.digests, digests))
        place = np.empty(self.num_rows, dtype=np.int64)
        place[theirs] = mine
        return replace(
            self,
            digests=digests,
            side=self.side[place],
            folds=self.folds[place],
            units=self.units[place],
            order=None if self.order is None else self.order[place],
            clock=None if self.clock is None else self.clock[place],
            until=None if self.until is None else self.until[place],
            reach=None if self.reach is None else self.reach[place],
        )

    # --- data ------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the split into an existing folder: one Parquet file and one JSON file."""
        columns: dict[str, NDArray[Any]] = {
            "digest_0": self.digests[:, 0],
            "digest_1": self.digests[:, 1],
            "side": self.side,
            "unit": self.units,
        }
        for name in TIME_FILES:
            values = getattr(self, name)
            if values is not None:
                columns[name] = values
        for fold in range(self.num_folds):
            columns[f"fold_{fold}"] = self.folds[:, fold]
        pl.DataFrame(columns).write_parquet(folder / ROWS_FILE, compression="zstd")
        text = json.dumps(
            {
                "format": FORMAT,
                "settings": self.settings.to_dict(),
                "certificate": self.certificate.to_dict(),
            },
            sort_keys=True,
            indent=1,
        )
        (folder / SPLIT_FILE).write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Split:
        """Read what `save` wrote.

        Raises:
            IntegrityError: the files are not those of a split, or of a newer format.
        """
        try:
            data = json.loads((folder / SPLIT_FILE).read_text(encoding="utf-8"))
            rows = pl.read_parquet(folder / ROWS_FILE, glob=False)
        except (OSError, ValueError, pl.exceptions.PolarsError) as problem:
            raise IntegrityError(f"{folder} does not hold a readable split: {problem}") from problem
        if data.get("format") != FORMAT:
            raise IntegrityError(
                f"{folder / SPLIT_FILE} has format {data.get('format')!r}; this version reads "
                f"{FORMAT}."
            )
        folds = [name for name in rows.columns if name.startswith("fold_")]
        return Split(
            settings=SplitSettings.from_dict(data["settings"]),
            digests=np.column_stack([rows["digest_0"].to_numpy(), rows["digest_1"].to_numpy()]),
            side=rows["side"].to_numpy(),
            folds=(
                np.column_stack([rows[name].to_numpy() for name in folds])
                if folds
                else np.zeros((rows.height, 0), dtype=np.int8)
            ),
            units=rows["unit"].to_numpy(),
            certificate=Certificate.from_dict(data["certificate"]),
            **{
                name: rows[name].to_numpy() if name in rows.columns else None for name in TIME_FILES
            },
        )

    def counts(self) -> dict[str, int]:
        """Rows on each side."""
        found = np.bincount(self.side, minlength=3)
        return {
            "train": int(found[TRAIN]),
            "test": int(found[TEST]),
            "excluded": int(found[EXCLUDED]),
        }


def describe_row_change(before: NDArray[np.uint64], after: NDArray[np.uint64]) -> str:
    """One sentence that names a row that was added, removed or changed."""
    old = pl.DataFrame({"a": before[:, 0], "b": before[:, 1]}).with_row_index("row")
    new = pl.DataFrame({"a": after[:, 0], "b": after[:, 1]}).with_row_index("row")
    occurrence = pl.int_range(pl.len()).over("a", "b").alias("n")
    old, new = old.with_columns(occurrence), new.with_columns(occurrence)
    gone = old.join(new, on=["a", "b", "n"], how="anti").sort("row")
    come = new.join(old, on=["a", "b", "n"], how="anti").sort("row")
    parts = []
    if gone.height:
        parts.append(
            f"{gone.height} rows of the split are not in the table (first: row {gone['row'][0]} of "
            f"the split, digest {gone['a'][0]:016x}{gone['b'][0]:016x})"
        )
    if come.height:
        parts.append(
            f"{come.height} rows of the table are not in the split (first: row {come['row'][0]} of "
            f"the table, digest {come['a'][0]:016x}{come['b'][0]:016x})"
        )
    return "The rows are not those the split was made from: " + " and ".join(parts) + "."


def all_train(
    digests: NDArray[np.uint64],
    *,
    units: NDArray[np.int64] | None = None,
    order: NDArray[np.int64] | None = None,
) -> Split:
    """A split without a test side: every row is for training.

    For tables whose test rows live elsewhere, and for the tests of features and models.

    >>> split = all_train(np.arange(6, dtype=np.uint64).reshape(3, 2))
    >>> split.counts()
    {'train': 3, 'test': 0, 'excluded': 0}
    """
    rows = digests.shape[0]
    return Split(
        settings=SplitSettings("predefined", num_folds=0),
        digests=digests,
        side=np.full(rows, TRAIN, dtype=np.int8),
        folds=np.zeros((rows, 0), dtype=np.int8),
        units=np.arange(rows, dtype=np.int64) if units is None else np.asarray(units, np.int64),
        order=None if order is None else np.asarray(order, np.int64),
        clock=None,
        certificate=Certificate(
            num_rows=rows,
            num_train=rows,
            num_test=0,
            num_excluded=0,
            num_folds=0,
            rows_digest=rows_digest(digests),
        ),
    )


def make_split(
    table: pl.DataFrame,
    schema: Schema,
    digests: NDArray[np.uint64],
    settings: SplitSettings,
    *,
    feature_digests: NDArray[np.uint64] | None = None,
    alike: NDArray[np.int64] | None = None,
    splitter: Splitter | None = None,
) -> Split:
    """Divide the rows of a table, and prove that nothing straddles.

    Args:
        table: all rows.
        schema: roles, task and classes.
        digests: (rows, 2) digest of each row: `loopline.data.fingerprint.row_digests`.
        settings: what is asked for (`loopline.splits.propose` proposes one).
        feature_digests: (rows, 2) digests of the feature columns alone; computed when absent.
        alike: codes of near duplicates; rows with the same code share a side.
        splitter: the one to use, by default that of ``settings.method``.

    Returns:
        The split with its certificate. The same rows in another order get the same sides.

    Raises:
        DataError: a column the split needs cannot be used (empty groups, times, labels).
        SettingsError: a setting has no effect.
        SplitError: the declared structure cannot be honoured, or the method would ignore it.
    """
    ignored = ignored_structure(schema, settings)
    rows = read_rows(table, schema, digests, settings, feature_digests, alike)
    assigned = (splitter or SPLITTERS[settings.method]).assign(rows, settings)
    certificate = prove(
        rows,
        digests,
        assigned.side,
        assigned.folds,
        settings,
        excluded=assigned.reasons,
        ignored={name: table[name] for name in ignored},
    )
    if certificate.broken:
        raise IntegrityError(
            f"Method {settings.method!r} made a split whose proof failed: "
            + " ".join(claim.sentence for claim in certificate.broken)
        )
    return Split(
        settings=settings,
        digests=digests,
        side=assigned.side,
        folds=assigned.folds,
        units=rows.units,
        order=rows.order,
        clock=rows.clock if settings.gap > 0.0 else None,
        certificate=certificate,
        until=rows.until if settings.gap > 0.0 else None,
        reach=rows.reach,
    )


def ignored_structure(schema: Schema, settings: SplitSettings) -> tuple[str, ...]:
    """Columns declared as group or time that the settings leave out.

    A predefined split may leave time out: the person decided which rows test.

    Raises:
        SplitError: there are some, and the settings do not say that this is meant.
        SettingsError: the settings say so, and there are none.
    """
    group = [name for name in schema.with_role("group") if name not in settings.group]
    time = [name for name in schema.with_role("time") if name not in settings.time]
    if settings.method == "predefined":
        time = []
    if settings.ignore_structure and not group and not time:
        raise SettingsError(
            ["`ignore_structure` has no effect: no group or time column is ignored. Remove it."],
            "split",
        )
    if (group or time) and not settings.ignore_structure:
        better = "group_time" if (settings.group or group) and (settings.time or time) else ""
        better = better or ("group" if group else "time")
        told = [f"{name!r} (role group)" for name in group] + [
            f"{name!r} (role time)" for name in time
        ]
        raise SplitError(
            f"Method {settings.method!r} would ignore {', '.join(told)}: rows that belong together "
            f"would stand on both sides. Use method {better!r}, change the role, or set "
            "`ignore_structure` to say that this is meant."
        )
    return (*group, *time)
