"""What each column is (type) and what it is for (role): the facts every later stage reads.

A `Schema` is a value. Inference (`loopline.data.inference`) proposes one with a reason for every
entry; the settings file may overrule any of it; from then on nothing guesses again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

from loopline.errors import DataError

ColumnType = Literal["number", "boolean", "category", "datetime", "text", "image", "other"]
Role = Literal["feature", "target", "group", "time", "weight", "id", "ignore"]
Task = Literal["binary", "multiclass", "multilabel", "regression", "language", "retrieval"]
Missing = Literal["auto", "mean", "median", "most_frequent", "constant", "keep", "error"]
Label = str | int | float | bool

COLUMN_TYPES: tuple[str, ...] = get_args(ColumnType)
ROLES: tuple[str, ...] = get_args(Role)


def has_classes(task: str) -> bool:
    """Whether a task gives each row exactly one of some labels.

    >>> has_classes("binary"), has_classes("multilabel"), has_classes("regression")
    (True, False, False)
    """
    return task in ("binary", "multiclass")


def has_labels(task: str) -> bool:
    """Whether rows have labels at all, one or several; otherwise each row has a number.

    >>> has_labels("multiclass"), has_labels("multilabel"), has_labels("regression")
    (True, True, False)
    """
    return has_classes(task) or task == "multilabel"


def holds_answer(task: Task) -> bool:
    """Whether the features hold what is predicted, so that a look for leaks would find them.

    >>> holds_answer("language"), holds_answer("regression")
    (True, False)
    """
    return task in ("language", "retrieval")


def is_audited(task: Task) -> bool:
    """Whether columns, groups, times and labels are looked at for what they give away.

    Not where the features hold the answer, and not yet where a row has several labels.

    >>> is_audited("binary"), is_audited("multilabel")
    (True, False)
    """
    return not holds_answer(task) and task != "multilabel"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, type, role, and why we think so.

    Args:
        name: as in the table.
        type: how its values are to be read.
        role: what it is for. Only `feature` columns ever reach a model's inputs.
        reason: one phrase for the person who reads the settings file.
        missing: what to do with missing cells of a feature. `auto` lets the model family's recipe
            decide, `keep` passes them on (trees), `error` refuses them, `constant` uses `fill`.
        fill: the constant for ``missing="constant"``.
    """

    name: str
    type: ColumnType
    role: Role = "feature"
    reason: str = ""
    missing: Missing = "auto"
    fill: Label | None = None


@dataclass(frozen=True)
class Schema:
    """The columns of a table with their types and roles, and the task they make.

    Args:
        columns: one entry a column, in table order.
        task: what is predicted. "language": the text of a row itself; the target is the number of
            its bytes, a prediction the nats that a model needs for them (`loopline.data.language`).
            "retrieval": a row's caption among others, from its image; the target is a number that
            stands for the caption, a prediction its rank (`loopline.data.retrieval`).
            "multilabel": which of some labels a row has, none or several; a prediction is one
            probability a label (`loopline.data.multilabel`).
        classes: the labels in code order (label `classes[i]` has code `i`); for a binary task the
            class of interest stands last, so its probability is column 1. Empty without classes.
    """

    columns: tuple[Column, ...]
    task: Task
    classes: tuple[Label, ...] = ()

    def named(self, name: str) -> Column:
        """The column of that name. Raises `DataError` when there is none."""
        found = self._by_name.get(name)
        if found is not None:
            return found
        raise DataError(f"There is no column {name!r}; the table has {self._names()}.")

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    def with_role(self, role: Role) -> tuple[str, ...]:
        """Names of the columns with that role, in table order."""
        return tuple(column.name for column in self.columns if column.role == role)

    @property
    def target(self) -> str:
        """The target column's name."""
        (name,) = self.with_role("target")
        return name

    @cached_property
    def features(self) -> tuple[str, ...]:
        """The columns that a model may see, in table order."""
        return self.with_role("feature")

    @property
    def weight(self) -> str | None:
        """The sample-weight column's name, if there is one."""
        names = self.with_role("weight")
        return names[0] if names else None

    @property
    def num_classes(self) -> int:
        """Number of classes (or labels of a multilabel task); 0 where rows have numbers."""
        return len(self.classes)

    def changed(self, name: str, **changes: Any) -> Schema:
        """A copy with fields of one column replaced."""
        self.named(name)
        return replace(
            self,
            columns=tuple(
                replace(column, **changes) if column.name == name else column
                for column in self.columns
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it back."""
        return {
            "columns": [asdict(column) for column in self.columns],
            "task": self.task,
            "classes": list(self.classes),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Schema:
        """Read what `to_dict` wrote."""
        return Schema(
            columns=tuple(Column(**column) for column in data["columns"]),
            task=data["task"],
            classes=tuple(data["classes"]),
        )

    def _names(self) -> str:
        names = [column.name for column in self.columns]
        return ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
