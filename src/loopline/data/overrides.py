"""What the settings say about columns: checked against the table, then laid over the proposal.

All problems are told at once, each with what would be right.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, get_args

import polars as pl

from loopline.data.schema import COLUMN_TYPES, ROLES, Column, Missing, Schema
from loopline.errors import SettingsError

_FIELDS = ("type", "role", "missing", "fill")
_MISSING: tuple[str, ...] = get_args(Missing)
_SINGLE_ROLES = ("weight",)


def near_names(name: str, names: Iterable[str]) -> str:
    """The end of an error sentence that offers the names most like the one that was asked for.

    >>> near_names("Chrun", ["Churn", "tenure"])
    "; did you mean 'Churn'?"
    """
    names = list(names)
    folded = {candidate.casefold(): candidate for candidate in reversed(names)}
    near = difflib.get_close_matches(name.casefold(), list(folded), n=3, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(repr(folded[match]) for match in near)}?"
    shown = ", ".join(repr(candidate) for candidate in names[:12])
    return f"; the table has {shown}{' …' if len(names) > 12 else ''}."


def apply_overrides(
    schema: Schema, frame: pl.DataFrame, overrides: Mapping[str, Mapping[str, Any]]
) -> Schema:
    """The schema with the settings' word on single columns.

    Raises:
        SettingsError: every unknown column, field or value that does not fit, in one error.
    """
    problems: list[str] = []
    present = set(frame.columns)
    changed: dict[str, Column] = {}
    for name, entry in overrides.items():
        if name not in present:
            problems.append(f"There is no column {name!r}{near_names(name, frame.columns)}")
            continue
        column = schema.named(name)
        found = _check_entry(column, frame[name], entry)
        problems.extend(found)
        if not found:
            # What the proposal says as well keeps the proposal's reason.
            own = {
                field: value for field, value in entry.items() if getattr(column, field) != value
            }
            said = ", ".join(f"{field}: {value}" for field, value in own.items())
            changes = {**own, "reason": f"set under `columns`: {said}"} if own else {}
            kept = column.role == "ignore" and "role" not in own  # why it is left out still holds
            if kept or column.role == "target":
                changes.pop("reason", None)
            changed[name] = replace(column, **changes)
    schema = replace(
        schema, columns=tuple(changed.get(column.name, column) for column in schema.columns)
    )
    for role in _SINGLE_ROLES:
        names = [column.name for column in schema.columns if column.role == role]
        if len(names) > 1:
            told = ", ".join(repr(name) for name in names)
            problems.append(f"Only one column can have the role {role!r}, got {told}.")
    if problems:
        raise SettingsError(problems, where="columns")
    return schema


def _check_entry(column: Column, series: pl.Series, entry: Mapping[str, Any]) -> list[str]:
    name = column.name
    problems = [
        f"{name!r} has no setting {field!r}; a column has {', '.join(_FIELDS)}."
        for field in entry
        if field not in _FIELDS
    ]
    for field, allowed in (("type", COLUMN_TYPES), ("role", ROLES), ("missing", _MISSING)):
        value = entry.get(field)
        if field in entry and value not in allowed:
            problems.append(
                f"{name!r}: `{field}` must be one of {', '.join(allowed)}, got {value!r}."
            )
    if problems:
        return problems
    return [
        *_check_role(column, series, entry),
        *_check_type(name, series, entry.get("type")),
        *_check_missing(column, series, entry),
    ]


def _check_role(column: Column, series: pl.Series, entry: Mapping[str, Any]) -> list[str]:
    role, name = entry.get("role"), column.name
    if role is None:
        return []
    if (role == "target") != (column.role == "target"):
        return [f"{name!r}: the target is set by `target`, not by a role (got role {role!r})."]
    if role == "weight":
        if not series.dtype.is_numeric():
            return [f"{name!r}: a weight must be a number, the column is {series.dtype}."]
        wrong = (~(series.is_finite() & (series >= 0))).fill_null(value=True)
        if wrong.any():
            row = int(wrong.arg_true()[0])
            return [
                f"{name!r}: a weight must be a finite number >= 0 in every row, but "
                f"{int(wrong.sum()):,} of {len(series):,} rows break that; the first is "
                f"{'missing' if series[row] is None else series[row]} in row {row} (counted from "
                "0). Correct them, or give the column another role."
            ]
    if role == "time" and not (series.dtype.is_numeric() or series.dtype.is_temporal()):
        return [
            f"{name!r}: time must be a date, a time or a number, the column is {series.dtype}; "
            "give its date format when reading it."
        ]
    if role in ("feature", "group", "time") and series.null_count() == len(series):
        return [f"{name!r}: every cell is missing, so it cannot be a {role}."]
    plain = series.dtype == pl.Binary() and entry.get("type", column.type) != "image"
    if role == "feature" and (series.dtype.is_nested() or plain):
        return [
            f"{name!r}: {series.dtype} cells cannot be a feature; take their parts into columns."
        ]
    return []


def _check_type(name: str, series: pl.Series, type_: str | None) -> list[str]:
    dtype = series.dtype
    fits = {
        None: True,
        "number": dtype.is_numeric() or dtype == pl.Boolean(),
        "boolean": dtype == pl.Boolean() or (dtype.is_numeric() and _zero_one(series)),
        "category": dtype.is_numeric() or dtype in (pl.Boolean(), pl.String(), pl.Date()),
        "datetime": isinstance(dtype, pl.Date | pl.Datetime),
        "text": dtype == pl.String(),
        "image": dtype == pl.Binary(),
        "other": True,
    }
    if fits[type_]:
        return []
    return [
        f"{name!r} cannot be of type {type_!r}: its cells are {dtype} "
        f"(first: {_first(series)}). Correct the cells or the format they are read with."
    ]


def _zero_one(series: pl.Series) -> bool:
    numbers = series.drop_nulls().cast(pl.Float64, strict=False)
    return bool(numbers.is_in([0.0, 1.0]).all())


def _first(series: pl.Series) -> str:
    cells = series.drop_nulls().head(1)
    return "none" if cells.is_empty() else f"{cells[0]!r:.40}"


def _check_missing(column: Column, series: pl.Series, entry: Mapping[str, Any]) -> list[str]:
    name, missing = column.name, entry.get("missing", column.missing)
    role, type_ = entry.get("role", column.role), entry.get("type", column.type)
    problems = []
    if "missing" in entry and missing != "auto" and role != "feature":
        problems.append(f"{name!r}: `missing` has no effect on a column with the role {role!r}.")
    if missing in ("mean", "median") and type_ not in ("number", "boolean"):
        problems.append(f"{name!r}: `missing: {missing}` is for numbers, the column is a {type_}.")
    if missing == "constant" and entry.get("fill", column.fill) is None:
        problems.append(f"{name!r}: `missing: constant` needs `fill`.")
    if "fill" in entry:
        fill = entry["fill"]
        if missing != "constant":
            problems.append(f"{name!r}: `fill` has an effect only with `missing: constant`.")
        if series.dtype.is_numeric() and (
            isinstance(fill, bool) or not isinstance(fill, int | float)
        ):
            problems.append(f"{name!r}: `fill` must be a number as the column is, got {fill!r}.")
        if series.dtype == pl.String() and not isinstance(fill, str):
            problems.append(f"{name!r}: `fill` must be text as the column is, got {fill!r}.")
    return problems
