"""What two runs were made of, side by side: settings, rows, columns, division, code, packages.

Test labels stay closed: rows are compared without the target, and the target on training rows only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.data.difference import TableDifference, compare_tables
from loopline.line.finished import FinishedRun
from loopline.line.official import PART
from loopline.line.paired import same_rows, shared_columns
from loopline.splits.spec import TRAIN
from loopline.words import counted

Change = tuple[str, Any, Any]
"""A dotted key with its value before and after; None where it is not there."""
SHOWN = 60
LARGE = 3
"""A part of the settings with more keys than this is told whole where one run has none of it."""


def dotted(data: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys.

    >>> dotted({"split": {"folds": 5}, "models": ["linear"], "columns": {}})
    {'split.folds': 5, 'models': ['linear'], 'columns': {}}
    """
    found: dict[str, Any] = {}
    for key, value in data.items():
        place = f"{path}{key}"
        if isinstance(value, Mapping) and value:
            found |= dotted(value, f"{place}.")
        else:
            found[place] = value
    return found


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """The keys whose values differ, in order; a large part that one side lacks is one change.

    >>> changes({"seed": 0, "a": {"b": 1}}, {"seed": 1, "a": {"b": 1}})
    [('seed', 0, 1)]
    """
    one, two = _without_lacking(before, after), _without_lacking(after, before)
    one, two = dotted(one), dotted(two)
    one = {key: value for key, value in one.items() if value != {}}
    two = {key: value for key, value in two.items() if value != {}}
    return [
        (key, _spread_out(one.get(key)), _spread_out(two.get(key)))
        for key in sorted({*one, *two})
        if one.get(key) != two.get(key)
    ]


def _without_lacking(data: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with large parts that the other lacks wrapped, so that they stay whole."""
    return {
        key: (value,)
        if isinstance(value, Mapping) and len(value) > LARGE and not other.get(key)
        else value
        for key, value in data.items()
    }


def _spread_out(value: Any) -> Any:
    return dict(value[0]) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Made:
    """What differs between two runs, apart from their scores.

    Args:
        settings: dotted keys of the settings file.
        columns: columns whose role or type differs, as "role type" before and after.
        rows: what changed in the table without the target; None when both trained on the same
            snapshot.
        relabelled: training rows of both runs with equal features and other targets.
        target_shift: how the target moved on the training rows, in a sentence; empty where it did
            not.
        split: sentences on how the rows are divided otherwise; empty when they are not.
        code: whether Loopline's own code differs.
        environment: packages and their versions before and after.
    """

    settings: tuple[Change, ...]
    columns: tuple[Change, ...]
    rows: TableDifference | None
    relabelled: int
    target_shift: str
    split: tuple[str, ...]
    code: bool
    environment: tuple[Change, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        same_rows_there = self.rows is None or self.rows.is_empty
        return same_rows_there and not (
            self.settings
            or self.columns
            or self.relabelled
            or self.split
            or self.code
            or self.environment
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""

        def listed(pairs: tuple[Change, ...]) -> list[dict[str, Any]]:
            return [{"key": key, "before": one, "after": two} for key, one, two in pairs]

        return {
            "settings": listed(self.settings),
            "columns": listed(self.columns),
            "rows": None if self.rows is None else self.rows.to_dict(),
            "relabelled": self.relabelled,
            "target_shift": self.target_shift,
            "split": list(self.split),
            "code": self.code,
            "environment": listed(self.environment),
        }

    def sentences(self) -> list[str]:
        """For a person, most telling first."""
        told = [
            f"{key}: {_shown(before)} → {_shown(after)}" for key, before, after in self.settings
        ]
        lines = ["Settings: " + "; ".join(told) + "."] if told else ["Settings: the same."]
        lines.append("Data: " + (" ".join(self._data()) or "the same rows and columns."))
        lines.append("Split: " + (" ".join(self.split) or "the same."))
        made = [
            f"{key} {before or '–'} → {after or '–'}" for key, before, after in self.environment
        ]
        if self.code:
            made.insert(0, "Loopline's own code differs")
        lines.append("Code and packages: " + ("; ".join(made) or "the same") + ".")
        return lines

    def _data(self) -> list[str]:
        told = [] if self.rows is None or self.rows.is_empty else str(self.rows).splitlines()
        told += [
            f"{name} was {before or 'not there'} and is {after or 'not there'}."
            for name, before, after in self.columns
        ]
        if self.relabelled:
            told.append(
                f"{counted(self.relabelled, 'training row')} "
                f"{'has' if self.relabelled == 1 else 'have'} another target than before."
            )
        return [*told, *([self.target_shift] if self.target_shift else [])]


def _shown(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def what_differs(first: FinishedRun, second: FinishedRun) -> Made:
    """Compare what two runs were made of; the second is seen from the first."""
    one, two = first.release.facts, second.release.facts
    settings = changes(_settings(one), _settings(two))
    rows, relabelled, shift = _rows(first, second)
    return Made(
        settings=tuple(settings),
        columns=tuple(_columns(first, second)),
        rows=rows,
        relabelled=relabelled,
        target_shift=shift,
        split=tuple(_split(first, second)),
        code=one["code"] != two["code"],
        environment=tuple(changes(one["environment"], two["environment"])),
    )


def _settings(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they were written down, candidates by name and not by place."""
    models = {
        entry["name"]: {"family": entry["family"], **entry["params"]}
        for entry in facts["spec"]["models"]
    }
    return {**facts["spec"], "models": models, "threads": facts["threads"]}


def _columns(first: FinishedRun, second: FinishedRun) -> list[Change]:
    def roles(run: FinishedRun) -> dict[str, str]:
        return {column.name: f"{column.role} ({column.type})" for column in run.schema.columns}

    return changes(roles(first), roles(second))


def _rows(first: FinishedRun, second: FinishedRun) -> tuple[TableDifference | None, int, str]:
    if first.prepared.plan.snapshot_id == second.prepared.plan.snapshot_id:
        return None, 0, ""
    before, after = first.prepared.table, second.prepared.table
    closed = {first.schema.target, second.schema.target, PART}
    here = before.drop(name for name in closed if name in before.columns)
    there = after.drop(name for name in closed if name in after.columns)
    found = compare_tables(here, there)
    target = first.schema.target
    if target != second.schema.target or target not in shared_columns(before, after):
        return found, 0, ""
    mine, theirs = _training(first), _training(second)
    one, two = before[mine], after[theirs]
    columns = [name for name in shared_columns(before, after) if name != target]
    at, beside = same_rows(one.select(columns), two.select(columns), copies=False)
    differs = one[target][at].ne_missing(two[target][beside])
    moved = compare_tables(one.select(target), two.select(target), ()).shifts[0]
    shift = "" if moved.distance < TOLD else f"On training rows, {moved}"
    return found, int(differs.sum()), shift


TOLD = 0.01
"""A target that moved by less than this share of its rows is not told of."""


def _training(run: FinishedRun) -> NDArray[np.int64]:
    return np.flatnonzero(run.prepared.split.side == TRAIN).astype(np.int64)


def same_division(first: FinishedRun, second: FinishedRun) -> bool:
    """Whether every row stands on the same side and in the same fold in both runs."""
    one, two = first.prepared, second.prepared
    if one.split_artifact.id == two.split_artifact.id:
        return True
    if one.plan.snapshot_id != two.plan.snapshot_id:
        return False
    return all(
        np.array_equal(getattr(one.split, name), getattr(two.split, name))
        for name in ("side", "folds", "units")
    )


def _split(first: FinishedRun, second: FinishedRun) -> list[str]:
    one, two = first.prepared.split_artifact, second.prepared.split_artifact
    if same_division(first, second):
        return []
    before, after = one.meta["certificate"], two.meta["certificate"]
    told = []
    if one.meta["reason"] != two.meta["reason"]:
        told.append(f"Before: {one.meta['reason']} After: {two.meta['reason']}")
    counts = [
        f"{before[key]:,} → {after[key]:,} {noun}"
        for key, noun in (
            ("num_train", "training rows"),
            ("num_test", "test rows"),
            ("num_folds", "folds"),
        )
        if before[key] != after[key]
    ]
    if counts:
        told.append(f"{', '.join(counts)}.")
    if first.prepared.plan.snapshot_id == second.prepared.plan.snapshot_id:
        moved = int((first.prepared.split.side != second.prepared.split.side).sum())
        if moved:
            told.append(f"{counted(moved, 'row')} changed sides.")
    if before["test_digest"] != after["test_digest"]:
        told.append("The test rows are not the same, so test scores cannot be set side by side.")
    elif not told:
        told.append("The same test rows; training rows lie in other folds.")
    return told
