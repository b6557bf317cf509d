"""Applying repairs to a training table with a record that takes every one of them back.

The record keeps, for each repair, the cells, rows or column that it changed as they were, so
`undo(apply_repairs(frame, repairs).frame, record)` is the frame again: values (NaN and signed zero
included), types, column order and row order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.cleaning.finding import NUM_EXAMPLES, plain
from loopline.data.cleaning.repair import VALUE_KINDS, Repair, repaired_column
from loopline.errors import DataError, IntegrityError


@dataclass(frozen=True, slots=True)
class Step:
    """One repair as it was applied: what was there before, and where.

    Args:
        repair: what was done.
        rows: numbers of the changed or dropped rows, in the table as it stood before this step.
        before: the old cells of one column (value repairs: one row a changed cell, in the order
            of `rows`), the dropped rows, or the dropped column.
        num_rows: rows of the table before this step.
        position: the dropped column's place; -1 for other repairs.
        changes: up to five (row, before, after) of value repairs.
    """

    repair: Repair
    rows: NDArray[np.int64]
    before: pl.DataFrame
    num_rows: int
    position: int = -1
    changes: tuple[tuple[int, Any, Any], ...] = ()

    @property
    def count(self) -> int:
        """Cells changed, rows dropped, or 1 for a dropped column."""
        return 1 if self.repair.kind == "drop_column" else len(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The step for people: the repair, how much it changed, and examples before and after."""
        return {
            "repair": self.repair.to_dict(),
            "count": self.count,
            "num_rows": self.num_rows,
            "position": self.position,
            "changes": [list(change) for change in self.changes],
        }


@dataclass(frozen=True, slots=True)
class Record:
    """Everything needed to take applied repairs back, step by step."""

    steps: tuple[Step, ...]

    @property
    def repairs(self) -> tuple[Repair, ...]:
        """The repairs, in the order in which they were applied."""
        return tuple(step.repair for step in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """What was done, with counts and examples, without the old cells."""
        return {"steps": [step.to_dict() for step in self.steps]}

    def save(self, folder: Path) -> None:
        """Write `record.json` and one Parquet file of old cells for each step."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "record.json").write_text(text + "\n", encoding="utf-8")
        for index, step in enumerate(self.steps):
            step.before.write_parquet(folder / f"before-{index}.parquet")
            rows = pl.DataFrame({"row": step.rows})
            rows.write_parquet(folder / f"rows-{index}.parquet")

    @staticmethod
    def load(folder: Path) -> Record:
        """Read what `save` wrote."""
        data = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        return Record(
            tuple(
                Step(
                    repair=Repair.from_dict(step["repair"]),
                    rows=pl.read_parquet(folder / f"rows-{index}.parquet")["row"].to_numpy(),
                    before=pl.read_parquet(folder / f"before-{index}.parquet"),
                    num_rows=step["num_rows"],
                    position=step["position"],
                    changes=tuple((row, old, new) for row, old, new in step["changes"]),
                )
                for index, step in enumerate(data["steps"])
            )
        )


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A repaired table and the record that takes the repairs back."""

    frame: pl.DataFrame
    record: Record


def apply_repairs(frame: pl.DataFrame, repairs: Sequence[Repair]) -> Cleaned:
    """Apply repairs to a training table, in the order given, and record what was there before.

    Args:
        frame: the table; it is not changed.
        repairs: from `plan_repairs`, or made by hand.

    Raises:
        DataError: a column that the table lacks, a row number beyond its end, or a new value that
            the column's type cannot hold.

    >>> frame = pl.DataFrame({"city": ["Rome", "ROME"]})
    >>> cleaned = apply_repairs(frame, [Repair.replace("city", {"ROME": "Rome"})])
    >>> cleaned.frame["city"].to_list(), undo(cleaned.frame, cleaned.record).equals(frame)
    (['Rome', 'Rome'], True)
    """
    steps = []
    for repair in repairs:
        frame, step = _applied(frame, repair)
        steps.append(step)
    return Cleaned(frame, Record(tuple(steps)))


def undo(frame: pl.DataFrame, record: Record) -> pl.DataFrame:
    """Take back every repair of the record, last first: the original table, exactly.

    Raises:
        IntegrityError: the table has not the rows that the record's last step left.
    """
    for step in reversed(record.steps):
        expected = step.num_rows - (len(step.rows) if step.repair.kind in _ROW_KINDS else 0)
        if len(frame) != expected:
            raise IntegrityError(
                f"The record's repair {step.repair.kind!r} left {expected} rows, this table has "
                f"{len(frame)}; undo needs the table that the repairs gave."
            )
        frame = _taken_back(frame, step)
    return frame


_ROW_KINDS = ("drop_rows", "drop_duplicates")


def _applied(frame: pl.DataFrame, repair: Repair) -> tuple[pl.DataFrame, Step]:
    if repair.kind in _ROW_KINDS:
        return _rows_dropped(frame, repair)
    if repair.column not in frame.columns:
        raise DataError(
            f"Repair {repair.kind!r} names column {repair.column!r}, which the table lacks; "
            f"it has {', '.join(frame.columns[:20])}."
        )
    if repair.kind in VALUE_KINDS:
        return _cells_changed(frame, repair)
    position = frame.get_column_index(repair.column)
    none = np.empty(0, dtype=np.int64)
    before = frame.select(repair.column)
    return frame.drop(repair.column), Step(repair, none, before, len(frame), position)


def _cells_changed(frame: pl.DataFrame, repair: Repair) -> tuple[pl.DataFrame, Step]:
    old = frame[repair.column]
    new = repaired_column(old, repair)
    same = new.dtype == old.dtype
    rows = _differing(old, new) if same else np.arange(len(old), dtype=np.int64)
    shown = [int(row) for row in rows[:NUM_EXAMPLES]]
    changes = tuple((row, plain(old[row]), plain(new[row])) for row in shown)
    step = Step(repair, rows, old.gather(rows).to_frame(), len(frame), changes=changes)
    return frame.with_columns(new), step


def _differing(old: pl.Series, new: pl.Series) -> NDArray[np.int64]:
    differs = old.ne_missing(new)
    if old.dtype.is_float():  # 0.0 for -0.0 is a change too
        signs = np.signbit(old.to_numpy()) != np.signbit(new.to_numpy())
        differs = differs | pl.Series(signs)
    return differs.arg_true().to_numpy().astype(np.int64)


def _rows_dropped(frame: pl.DataFrame, repair: Repair) -> tuple[pl.DataFrame, Step]:
    if repair.kind == "drop_duplicates":
        rows = (
            (~frame.select(pl.struct(pl.all()).is_first_distinct()).to_series())
            .arg_true()
            .to_numpy()
            .astype(np.int64)
        )
    else:
        rows = np.array(repair.rows, dtype=np.int64)
        if len(rows) and (rows[0] < 0 or rows[-1] >= len(frame)):
            raise DataError(
                f"Repair 'drop_rows' names row {rows[0] if rows[0] < 0 else rows[-1]}; the table "
                f"has rows 0 to {len(frame) - 1}."
            )
    keep = np.ones(len(frame), dtype=np.bool_)
    keep[rows] = False
    step = Step(repair, rows, frame[rows], len(frame))
    return frame.filter(pl.Series(keep)), step


def _taken_back(frame: pl.DataFrame, step: Step) -> pl.DataFrame:
    kind = step.repair.kind
    if kind == "drop_column":
        # A clone: polars inserts in place, and the caller's table is not ours.
        return frame.clone().insert_column(step.position, step.before.to_series())
    if kind in _ROW_KINDS:
        keep = np.ones(step.num_rows, dtype=np.bool_)
        keep[step.rows] = False
        place = np.empty(step.num_rows, dtype=np.int64)
        place[keep] = np.arange(len(frame))
        place[step.rows] = len(frame) + np.arange(len(step.rows))
        return pl.concat([frame, step.before])[place]
    old, new = step.before.to_series(), frame[step.repair.column]
    if old.dtype != new.dtype:
        return frame.with_columns(old)
    place = np.arange(step.num_rows)
    place[step.rows] = step.num_rows + np.arange(len(step.rows))
    return frame.with_columns(pl.concat([new, old]).gather(place))
