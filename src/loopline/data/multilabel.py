"""Several labels a row as a task: each label is there or not, and a row may have none.

The settings name a column of lists, or of texts in which a separator stands between the labels. A
column of its own is made of it, the labels of a row sorted and written as JSON, so that every stage
that works on texts of a target (digests, duplicates, splits) works on sets of labels. The named
column holds the answer and reaches no model. A prediction is one probability a label; they need not
sum to 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.inference import infer_columns
from loopline.data.overrides import apply_overrides, near_names
from loopline.data.schema import Column, Schema
from loopline.data.targets import MAX_CLASSES
from loopline.errors import DataError, SettingsError

SUFFIX = "_labels"
FEW_ROWS = 5
"""Labels of fewer rows are told: what is measured of them rests on next to nothing."""
_TOLD = 5
_FEWEST_JOINED = 20
_LONGEST = 40


def labels_column(named: str) -> str:
    """The name of the column that holds a row's labels as JSON.

    >>> labels_column("tags")
    'tags_labels'
    """
    return f"{named}{SUFFIX}"


def with_labels(
    frame: pl.DataFrame, named: str, overrides: Mapping[str, Mapping[str, Any]]
) -> pl.DataFrame:
    """The table with the labels of each row in one form.

    Args:
        frame: the rows.
        named: the column of lists, or of texts with a separator between the labels.
        overrides: what the settings say of columns; `separator` of the named one counts.

    Raises:
        DataError: there is no such column, a cell is missing, a label is empty, or the cells are
            neither lists nor texts with a separator.
        SettingsError: a separator for a column of lists.

    >>> frame = pl.DataFrame({"tags": [["b", "a"], []]})
    >>> with_labels(frame, "tags", {})["tags_labels"].to_list()
    ['["a", "b"]', '[]']
    """
    if named not in frame.columns:
        raise DataError(f"There is no target column {named!r}{near_names(named, frame.columns)}")
    sets = _label_sets(frame[named], overrides.get(named, {}).get("separator"))
    _refuse_missing(sets)
    texts = [_as_json(labels) for labels in _without_empty(sets)]
    return frame.with_columns(pl.Series(labels_column(named), texts, dtype=pl.String()))


def _label_sets(cells: pl.Series, separator: str | None) -> pl.Series:
    """The cells as lists of texts; null where a cell is missing."""
    name, dtype = cells.name, cells.dtype
    if isinstance(dtype, pl.List | pl.Array) and not dtype.inner.is_nested():
        if separator is not None:
            raise SettingsError(
                [
                    f"`columns.{name}.separator` has no effect: {name!r} holds lists, whose labels "
                    "stand apart already. Remove it."
                ]
            )
        return cells.cast(pl.List(pl.String()))
    if dtype != pl.String():
        raise DataError(
            f"`task: multilabel` needs a column of lists of labels, or of texts with a separator "
            f"between them; {name!r} is of type {dtype}. Name another target, or leave `task` out."
        )
    if separator is None:
        raise DataError(
            f"`task: multilabel` must know what stands between the labels in {name!r}, whose cells "
            f"are texts (the first is {_first(cells)}). Name it, as in `columns: {{{name}: "
            '{separator: "|"}}`, or give lists (JSON Lines, Parquet).'
        )
    frame = pl.DataFrame({"cell": cells})
    parts = pl.col("cell").str.split(separator).list.eval(pl.element().str.strip_chars())
    nothing = pl.col("cell").str.replace_all(separator, "", literal=True).str.strip_chars() == ""
    empty = pl.lit([], dtype=pl.List(pl.String()))
    return frame.select(pl.when(nothing).then(empty).otherwise(parts).alias(name))[name]


def _refuse_missing(sets: pl.Series) -> None:
    missing = sets.null_count()
    if not missing:
        return
    if missing == len(sets):
        raise DataError(f"The target {sets.name!r} has no label: all {missing:,} are missing.")
    raise DataError(
        f"The target {sets.name!r} is missing in {missing:,} of {len(sets):,} rows "
        f"({_rows(sets.is_null())}); nobody knows which labels such a row has. Drop them, or, "
        "where they have none, write an empty list, or in texts the separator alone."
    )


def _without_empty(sets: pl.Series) -> list[list[str]]:
    """The lists, none of them with a label that is missing or blank."""
    labels: list[list[str | None]] = sets.to_list()
    wrong = [
        row
        for row, found in enumerate(labels)
        if any(label is None or not label.strip() for label in found)
    ]
    if wrong:
        shown = ", ".join(map(str, wrong[:_TOLD])) + (", …" if len(wrong) > _TOLD else "")
        raise DataError(
            f"{len(wrong):,} of {len(labels):,} rows have an empty label in {sets.name!r} (counted "
            f"from 0: {shown}). A row without labels has an empty list; leave empty labels out."
        )
    return labels  # type: ignore[return-value]


def _as_json(labels: Iterable[str]) -> str:
    return json.dumps(sorted(set(labels)), ensure_ascii=False)


def _first(cells: pl.Series) -> str:
    known = cells.drop_nulls().head(1)
    return "missing" if known.is_empty() else f"{known[0]!r:.60}"


def _rows(mask: pl.Series) -> str:
    rows = mask.arg_true()
    more = ", …" if rows.len() > _TOLD else ""
    return f"counted from 0: {', '.join(map(str, rows.head(_TOLD).to_list()))}{more}"


def multilabel_schema(
    frame: pl.DataFrame, named: str, overrides: Mapping[str, Mapping[str, Any]]
) -> Schema:
    """The schema of rows with several labels: the classes are the labels, sorted.

    Args:
        frame: with or without the made column.
        named: the column of labels.
        overrides: as in `infer_schema`, and `separator` for the named column.

    Raises:
        DataError: fewer than two labels, more than 1,000, or every row with all of them.
        SettingsError: a separator that stands in no cell, or overrides that do not fit.
    """
    frame = with_labels(frame, named, overrides)
    target = labels_column(named)
    separator = overrides.get(named, {}).get("separator")
    if separator is not None and not frame[named].str.contains(separator, literal=True).any():
        raise SettingsError(
            [
                f"`columns.{named}.separator` {separator!r} stands in no cell of {named!r} (the "
                f"first is {_first(frame[named])}). Name the one that does; where each row has one "
                "label, say `task: multiclass`."
            ]
        )
    cells, counts = _counted(frame[target])
    labels = tuple(sorted({label for cell in cells for label in json.loads(cell)}))
    _refuse_labels(labels, named)
    matrix = label_matrix(cells, labels)
    remark = _remark(matrix, counts, labels, named)
    rest = {name: entry for name, entry in overrides.items() if name not in (named, target)}
    taken = {str(entry["role"]) for entry in rest.values() if "role" in entry}
    told = f"target of a multilabel task: {len(labels):,} labels of {named!r}{remark}"
    around = infer_columns(frame.drop(named), target=target, taken=taken)
    known = {column.name: column for column in around}
    known[named] = Column(named, "other", "ignore", "holds the labels")
    known[target] = Column(target, "category", "target", told)
    schema = Schema(tuple(known[name] for name in frame.columns), "multilabel", labels)
    return apply_overrides(schema, frame, rest)


def likely_separator(cells: pl.Series) -> tuple[str, str] | None:
    """What parts the labels in a column of texts, and why; None unless it is beyond doubt.

    At least 20 cells and a tenth of all have the separator, the parts are short, nearly all of them
    come again, and they are far fewer than the different cells.

    >>> cells = pl.Series("tags", ["a|b", "a", "c|a", "b|c", "a|b|c"] * 10)
    >>> likely_separator(cells)
    ('|', "'|' stands in 80 % of the texts and parts them into 3 labels that come again")
    """
    if cells.dtype != pl.String():
        return None
    known = cells.drop_nulls()
    for separator in ("|", ";"):
        joined = int(known.str.contains(separator, literal=True).sum())
        if joined < _FEWEST_JOINED or joined < 0.1 * len(known):
            continue
        parts = known.str.split(separator).explode().str.strip_chars()
        parts = parts.filter(parts != "")
        counts = parts.value_counts(name="rows")
        again = int(counts.filter(pl.col("rows") > 1)["rows"].sum())
        if (
            2 <= counts.height <= min(MAX_CLASSES, 0.5 * known.n_unique() + 3)
            and int(parts.str.len_chars().max() or 0) <= _LONGEST  # type: ignore[arg-type]
            and again >= 0.99 * len(parts)
        ):
            share = f"{100 * joined / len(known):.0f} %"
            return separator, (
                f"{separator!r} stands in {share} of the texts and parts them into "
                f"{counts.height:,} labels that come again"
            )
    return None


def _counted(target: pl.Series) -> tuple[pl.Series, NDArray[np.int64]]:
    """The different sets of labels, sorted, and the rows of each."""
    found = target.value_counts(name="rows").sort(target.name)
    return found[target.name], found["rows"].to_numpy().astype(np.int64)


def _refuse_labels(labels: Sequence[str], named: str) -> None:
    if not labels:
        raise DataError(f"No row has a label in {named!r}, so there is nothing to learn.")
    if len(labels) == 1:
        raise DataError(
            f"The only label in {named!r} is {labels[0]!r}, which a row has or not: that is a "
            "binary task. Make a column of truth values of it and name that as the target."
        )
    if len(labels) > MAX_CLASSES:
        raise DataError(
            f"The target {named!r} has {len(labels):,} distinct labels; at most {MAX_CLASSES:,} "
            "are supported. Is the separator right? Join labels, or leave out the rarest."
        )


def _remark(
    matrix: NDArray[np.int8], counts: NDArray[np.int64], labels: Sequence[str], named: str
) -> str:
    """What a reader should know of how often labels stand; "" where there is nothing."""
    rows = counts @ matrix.astype(np.int64)
    total = int(counts.sum())
    if (rows == total).all():
        raise DataError(
            f"Every row has all {len(labels):,} labels of {named!r}, so there is nothing to learn. "
            "Take rows that lack some."
        )
    remarks = []
    always = [label for label, count in zip(labels, rows, strict=True) if count == total]
    if always:
        remarks.append(f"every row has {_shown(always)}, of which nothing can be learned")
    rare = [label for label, count in zip(labels, rows, strict=True) if count < FEW_ROWS]
    if rare:
        verb = "stands" if len(rare) == 1 else "stand"
        remarks.append(
            f"{len(rare):,} of {len(labels):,} {verb} in fewer than {FEW_ROWS} rows "
            f"({_shown(rare)}), too few to learn or to measure"
        )
    if (matrix.sum(axis=1) == 1).all():
        remarks.append("each row has exactly one, which `task: multiclass` would make use of")
    return "".join(f"; {remark}" for remark in remarks)


def _shown(labels: Sequence[str]) -> str:
    return ", ".join(map(repr, labels[:_TOLD])) + (" …" if len(labels) > _TOLD else "")


def labels_of(schema: Schema) -> str:
    """The column that the settings named."""
    return schema.target.removesuffix(SUFFIX)


def label_matrix(cells: pl.Series, labels: Sequence[Any]) -> NDArray[np.int8]:
    """Which label each row has, shape (rows, labels), 1 or 0.

    Args:
        cells: the made column.
        labels: in code order.

    Raises:
        DataError: a label that is not among them, with the row.

    >>> label_matrix(pl.Series("tags_labels", ['["b"]', '[]']), ("a", "b")).tolist()
    [[0, 1], [0, 0]]
    """
    codes = {label: code for code, label in enumerate(labels)}
    found = cells.unique()
    matrix = np.zeros((len(found), len(labels)), dtype=np.int8)
    for place, cell in enumerate(found):
        for label in json.loads(cell):
            if label not in codes:
                row = int((cells == cell).arg_max() or 0)
                raise DataError(
                    f"The target {cells.name!r} holds the label {label!r} (row {row}), which is "
                    f"not one of the {len(labels):,} that were learned: {_shown(list(labels))}. "
                    "Correct the label, or train with rows that have it."
                )
            matrix[place, codes[label]] = 1
    places = cells.replace_strict(found, np.arange(len(found)), return_dtype=pl.Int64)
    rows: NDArray[np.int8] = matrix[places.to_numpy()]
    return rows


def told_labels(has: NDArray[np.bool_], labels: Sequence[Any]) -> list[list[Any]]:
    """The labels of each row as lists, in code order.

    Args:
        has: shape (rows, labels).
        labels: in code order.

    >>> told_labels(np.array([[True, False], [False, False]]), ("a", "b"))
    [['a'], []]
    """
    return [[labels[code] for code in np.flatnonzero(row).tolist()] for row in has]


def rarest_labels(matrix: NDArray[np.int8]) -> NDArray[np.int64]:
    """The rarest label of each row, by which rows are dealt out to sides; one code more for none.

    Rows of the rarest label make a stratum of their own, then those of the next that are left: so
    whoever keeps the strata's shares keeps each label's about, the rarest best.

    Source: after Sechidis et al., "On the Stratification of Multi-Label Data", 2011, which deals
    out the rows of the rarest label first; ties there go by what is wanted most, here by order.

    >>> rarest_labels(np.array([[1, 1], [1, 0], [0, 0]], dtype=np.int8)).tolist()
    [1, 0, 2]
    """
    counts = matrix.sum(axis=0, dtype=np.int64)
    order = np.argsort(counts, kind="stable")
    first = matrix[:, order].argmax(axis=1)
    found: NDArray[np.int64] = np.where(matrix.any(axis=1), order[first], matrix.shape[1])
    return found
