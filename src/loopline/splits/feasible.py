"""The proposed split, made: with fewer folds where the rows do not give as many.

Groups of very different sizes, or a class that occurs in part of the time only, can make five folds
impossible and three possible. Where nobody asked for a number of folds, fewer are tried before the
table is refused, and the reason says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.schema import Schema
from loopline.errors import SplitError
from loopline.splits.propose import propose_split
from loopline.splits.split import Split, make_split

FEWER = (3, 2)
"""Numbers of folds that are tried in turn when the proposed number is impossible."""


def make_feasible_split(
    frame: pl.DataFrame,
    schema: Schema,
    digests: NDArray[np.uint64],
    given: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    feature_digests: Callable[[], NDArray[np.uint64]] | None = None,
    copies: NDArray[np.uint64] | None = None,
    alike: NDArray[np.int64] | None = None,
) -> tuple[Split, str]:
    """Propose a split and make it, with fewer folds if need be.

    Args:
        frame: all rows.
        schema: roles and task.
        digests: (rows, 2) row digests.
        given: what a person decided (see `propose_split`); a number of folds is kept as it is.
        seed: of the split's random choices.
        feature_digests: gives the row digests of the feature columns, called where needed.
        copies: (rows, 2) digests that say which rows are copies; those of the features when absent.
        alike: code of the near duplicates of each row.

    Returns:
        The split, and why it is cut so.

    Raises:
        SettingsError: settings that contradict each other.
        SplitError: the table cannot be divided, whatever the number of folds.

    >>> from loopline.data.fingerprint import row_digests
    >>> from loopline.data.schema import Column
    >>> frame = pl.DataFrame({"t": range(100), "y": [0] * 20 + [0, 1] * 40})
    >>> columns = (Column("t", "number", "time"), Column("y", "category", "target"))
    >>> schema = Schema(columns, "binary", (0, 1))
    >>> given = {"duplicates": "ignore"}
    >>> split, reason = make_feasible_split(frame, schema, row_digests(frame), given)
    >>> split.num_folds, "5 are not possible" in reason
    (2, True)
    """
    settings, reason = propose_split(
        schema, frame, given, seed=seed, feature_digests=feature_digests
    )
    if copies is None and settings.duplicates == "features" and feature_digests is not None:
        copies = feature_digests()
    asked = {"folds", "num_folds"} & {name for name, value in (given or {}).items() if value}
    first: SplitError | None = None
    for folds in (settings.num_folds, *(() if asked else FEWER)):
        if folds > settings.num_folds:
            continue
        try:
            made = make_split(
                frame,
                schema,
                digests,
                replace(settings, num_folds=folds),
                feature_digests=copies,
                alike=alike,
            )
        except SplitError as error:
            first = first or error
            continue
        if first is not None:
            why = str(first).splitlines()[0].split(": ")[0].rstrip(".")
            reason += f" {folds} folds, because {settings.num_folds} are not possible ({why})."
        return made, reason
    assert first is not None
    raise first
