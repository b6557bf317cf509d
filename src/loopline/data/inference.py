"""Propose what every column of a table is and what it is for, each with its reason.

The proposal is careful in one direction: a role that takes a column away from the model or
decides the split (`group`, `time`, `weight`, `id`) is given only on strong evidence, which the
reason states; weak evidence becomes a remark inside the reason, and the column stays a feature.
Whatever the settings say about a column rules over all of it.

Cost: a handful of polars aggregates over the whole table; everything heavier looks at an even
sample of at most `SAMPLE_ROWS` rows, the same for the same table. 5 million rows of 20 columns
take seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from loopline.data.images import holds_images, names_images
from loopline.data.overrides import apply_overrides, near_names
from loopline.data.roles import (
    SAMPLE_ROWS,
    Facts,
    propose_groups,
    propose_id,
    propose_time,
    propose_weight,
)
from loopline.data.schema import Column, ColumnType, Label, Schema, Task, has_classes
from loopline.data.targets import check_target, class_order, infer_task
from loopline.errors import DataError, SettingsError
from loopline.frames import canonical

MAX_COLUMNS = 20_000

__all__ = ["columns_around", "infer_columns", "infer_schema", "infer_task", "refuse_other_role"]


def infer_schema(
    frame: pl.DataFrame,
    *,
    target: str,
    task: Task | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    positive: Label | None = None,
) -> Schema:
    """The schema of a table: type and role of every column, the task and its classes, with reasons.

    Args:
        frame: the table, as `read_table` or `as_frame` gives it.
        target: the column to predict.
        task: what is predicted; None decides by the rules of `loopline.data.targets`.
        overrides: column name to any of `type`, `role`, `missing`, `fill`; they rule.
        positive: the class of interest of a binary task; None decides and says why.

    Raises:
        DataError: the target is absent or cannot be learnt, or the table has no rows.
        SettingsError: the overrides name an unknown column or a value that does not fit; all told
            at once.

    >>> frame = pl.DataFrame({"age": [31, 45, 22], "paid": ["yes", "no", "no"]})
    >>> schema = infer_schema(frame, target="paid")
    >>> schema.task, schema.classes, schema.named("age").role
    ('binary', ('no', 'yes'), 'feature')
    """
    if frame.width > MAX_COLUMNS:
        raise DataError(
            f"The table has {frame.width:,} columns; a line takes up to {MAX_COLUMNS:,}, because "
            "it looks at every column several times. Leave out those that carry nothing, or bring "
            "them together (sums, means, components) before."
        )
    if target not in frame.columns:
        unnamed = all(name == f"column_{place}" for place, name in enumerate(frame.columns, 1))
        hint = " The file was read as one without a header row; `header: true` under `data.format`"
        raise DataError(
            f"There is no target column {target!r}{near_names(target, frame.columns)}"
            + (
                f"{hint} says that it has one, `columns` (`loopline init --columns`) names them."
                if unnamed
                else ""
            )
        )
    if frame.is_empty():
        raise DataError("The table has no rows, so nothing can be inferred from it.")
    frame = canonical(frame)
    overrides = overrides or {}
    labels = frame[target]
    if task is None:
        if labels.null_count():
            check_target(labels, "multiclass")
        task, reason = infer_task(labels)
    else:
        reason = "set by `task`"
    remark = check_target(labels, task)
    classes, interest = class_order(labels, task, positive)
    told = "; ".join(
        part for part in (f"target of a {task} task: {reason}", interest, remark) if part
    )
    # apply_overrides runs last but the roles it takes must already be free for the others to claim.
    taken = {str(entry["role"]) for entry in overrides.values() if "role" in entry}
    columns = [
        replace(column, role="target", type=_target_type(labels, task), reason=told)
        if column.name == target
        else column
        for column in infer_columns(frame, target=target, taken=taken)
    ]
    schema = Schema(columns=tuple(columns), task=task, classes=classes)
    return apply_overrides(schema, frame, overrides)


def _target_type(labels: pl.Series, task: Task) -> ColumnType:
    if not has_classes(task):
        return "number"
    return "boolean" if labels.dtype == pl.Boolean() else "category"


def infer_columns(
    frame: pl.DataFrame, *, target: str | None = None, taken: set[str] | None = None
) -> list[Column]:
    """Type and role of every column, without a word on what is predicted.

    Args:
        frame: the table, in canonical types.
        target: a column whose role is known already; it is left out of the search for structure.
        taken: roles that the settings have given away, so that they are not proposed again.

    >>> frame = pl.DataFrame({"a": [1.5, 2.0], "b": [True, False]})
    >>> [column.type for column in infer_columns(frame)]
    ['number', 'boolean']
    """
    sample = _sample(frame)
    facts = _measure(frame, sample)
    columns = [_basic(frame[name], sample[name], facts[name]) for name in frame.columns]
    columns = _without_file_names(columns, frame, target)
    taken = taken or set()
    if "time" not in taken:
        columns = propose_time(columns, frame, facts, target)
    columns = [
        propose_id(column, frame[column.name], facts[column.name])
        if column.role == "feature" and column.name != target
        else column
        for column in columns
    ]
    if "weight" not in taken:
        columns = propose_weight(columns, frame, target)
    if "group" not in taken:
        columns = propose_groups(columns, frame, facts, target)
    return columns


def _without_file_names(
    columns: list[Column], frame: pl.DataFrame, target: str | None
) -> list[Column]:
    """Names of image files beside images say which row it is, and often, by their folder, more."""
    if all(column.type != "image" for column in columns):
        return columns
    reason = "names the image files"
    return [
        replace(
            column,
            role="ignore" if frame[column.name].is_duplicated().any() else "id",
            reason=reason,
        )
        if column.name != target and names_images(frame[column.name])
        else column
        for column in columns
    ]


def _sample(frame: pl.DataFrame) -> pl.DataFrame:
    """At most `SAMPLE_ROWS` rows, evenly spread, so that a sorted table is seen from end to end."""
    step = -(-frame.height // SAMPLE_ROWS)
    return frame if step <= 1 else frame.gather_every(step)


def _measure(frame: pl.DataFrame, sample: pl.DataFrame) -> dict[str, Facts]:
    missing = frame.null_count().row(0)
    facts = {}
    for name, num_missing in zip(frame.columns, missing, strict=True):
        cells = sample[name].drop_nulls()
        countable = not cells.dtype.is_nested() and cells.dtype not in (pl.Binary(), pl.Object())
        facts[name] = Facts(
            dtype=cells.dtype,
            num_rows=frame.height,
            num_missing=num_missing,
            num_distinct=cells.n_unique() if countable else len(cells),
            num_sampled=len(cells),
        )
    return facts


def _basic(series: pl.Series, sample: pl.Series, facts: Facts) -> Column:
    """Type and reason, and the role `ignore` for columns that can tell a model nothing."""
    name, dtype = series.name, facts.dtype
    type_, reason = _type_of(sample, facts)
    if facts.num_missing == facts.num_rows:
        return Column(name, type_, "ignore", "every cell is missing")
    if type_ == "other":
        return Column(name, "other", "ignore", f"{dtype} cells are not used; {reason}")
    if facts.num_distinct <= 1 and not facts.num_missing and series.n_unique() == 1:
        return Column(name, type_, "ignore", f"one value in every row ({series[0]!r:.40})")
    if facts.num_missing:
        reason += f", {facts.num_missing / facts.num_rows:.1%} missing"
    return Column(name, type_, "feature", reason)


def _type_of(sample: pl.Series, facts: Facts) -> tuple[ColumnType, str]:
    dtype = facts.dtype
    if dtype == pl.Boolean():
        return "boolean", "true or false"
    if dtype.is_integer():
        few = facts.num_distinct <= 20 and facts.num_sampled > facts.num_distinct
        codes = " (type: category if they are codes)" if few and facts.num_distinct > 2 else ""
        return "number", f"whole numbers, {_count(facts)} distinct{codes}"
    if dtype.is_numeric():
        return "number", f"numbers, {_count(facts)} distinct"
    if isinstance(dtype, pl.Date | pl.Datetime):
        return "datetime", "dates" if isinstance(dtype, pl.Date) else "dates with time"
    if dtype == pl.String():
        return _type_of_words(sample.drop_nulls(), facts)
    if holds_images(sample):
        return "image", "image files as bytes"
    if isinstance(dtype, pl.Time | pl.Duration):
        return "other", "turn it into a number, such as seconds, to use it"
    return "other", "take the parts you need into columns of their own to use it"


def _count(facts: Facts) -> str:
    more = "at least " if facts.num_sampled + facts.num_missing < facts.num_rows else ""
    return f"{more}{facts.num_distinct:,}"


def _type_of_words(cells: pl.Series, facts: Facts) -> tuple[ColumnType, str]:
    if cells.is_empty():
        return "category", "no cell is filled"
    head = cells.head(10_000)
    num_words = float((head.str.count_matches(r"\S+").mean()) or 0.0)  # type: ignore[arg-type]
    if num_words >= 3 and facts.distinct_share >= 0.3 and facts.num_distinct > 20:
        return "text", f"{num_words:.0f} words a cell, {facts.distinct_share:.0%} distinct"
    return "category", f"{_count(facts)} distinct words"


def columns_around(
    frame: pl.DataFrame, target: str, overrides: Mapping[str, Mapping[str, Any]]
) -> list[Column]:
    """Columns of a table whose target is made, with no guess at groups, times and weights.

    A guess at structure rests on what predicts a label, and here there is none.

    Args:
        frame: with the made column.
        target: the made column.
        overrides: what the settings say of columns.
    """
    taken = {str(entry["role"]) for entry in overrides.values() if "role" in entry}
    return infer_columns(frame, target=target, taken=taken | {"time", "weight", "group"})


def refuse_other_role(name: str, task: str, overrides: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to take the column that a task predicts from its models.

    Raises:
        SettingsError: the settings give it another role than that of the target or a feature.
    """
    given = overrides.get(name, {}).get("role", "target")
    if given not in ("target", "feature"):
        raise SettingsError(
            [
                f"`columns.{name}.role: {given}` contradicts `target: {name}` with `task: {task}`. "
                "Remove it."
            ]
        )
