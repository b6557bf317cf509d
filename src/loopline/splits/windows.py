"""Label windows: the stretch of time over which the label of a row came about.

A label such as "defaulted within 90 days" is known only at the end of its window. A training row
whose window meets the window of a held-out row has seen part of what it is to be tested on, so it
is purged; and where a gap is asked for, rows whose window comes nearer than that are left out too,
before the held-out window and behind it (the embargo).

Windows are closed: one that ends at the very time at which another starts meets it. They are
compared as ranks in time, so that rows of equal times are told apart by the further time columns,
and distances are measured on the clock of the first time column.

Source: M. López de Prado, "Advances in Financial Machine Learning", Wiley 2018, section 7.4.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.schema import Schema
from loopline.errors import DataError, LeakError
from loopline.splits.clock import clock_of, rows_named
from loopline.splits.deal import Ints

Mask = NDArray[np.bool_]
NO_FEATURE = ("ignore", "id")
"""Roles that keep a column from every model."""


def refuse_as_feature(schema: Schema, name: str) -> None:
    """Refuse when the end of the label's window would reach a model.

    Raises:
        LeakError: the column has a role in which it is used.
    """
    role = schema.named(name).role
    if role not in NO_FEATURE:
        raise LeakError(
            f"The column {name!r} ends the label's window (`label_end`) and has the role {role}; "
            "it is known only after the outcome, so it must not be used otherwise. Give it "
            "`role: ignore`."
        )


def window_ends(start: pl.Series, end: pl.Series, clock: NDArray[Any]) -> NDArray[Any]:
    """The end of each row's window on the clock of its start; an empty end is the start.

    Args:
        start: the first time column.
        end: the column of the ends, of the same kind.
        clock: `start` as `time_ranks` gives it.

    Raises:
        DataError: the two columns are of different kinds (numbers, dates, times with and without
            time zone), an end is not finite, or a window ends before it starts (rows are named).

    >>> start, end = pl.Series("day", [1, 2]), pl.Series("known", [3, None])
    >>> window_ends(start, end, clock_of(start)).tolist()
    [3.0, 2.0]
    """
    if end.dtype == pl.Null:
        return clock
    here, there = _kind(start.dtype), _kind(end.dtype)
    if here != there:
        raise DataError(
            f"The label's window starts in {start.name!r} ({here}) and ends in {end.name!r} "
            f"({there}); the two cannot be compared. Bring both to one kind, and times to one "
            "time zone."
        )
    if end.dtype.is_float():
        end = end.fill_nan(None)
    empty = end.is_null()
    if empty.all():
        return clock
    some = end.drop_nulls()[0]
    until = np.where(empty.to_numpy(), clock, clock_of(end.fill_null(some)))
    wrong = pl.Series(until < clock)
    if wrong.any():
        raise DataError(
            f"The label's window ends before it starts in {rows_named(wrong)}: {end.name!r} must "
            f"not be earlier than {start.name!r}. Correct the cells, or leave them empty where the "
            "label is known at once."
        )
    return until


def _kind(dtype: pl.DataType) -> str:
    if dtype.is_numeric():
        return "numbers"
    if isinstance(dtype, pl.Datetime):
        return "times with a time zone" if dtype.time_zone else "times without a time zone"
    named = {"Date": "dates", "Time": "times of a day"}
    return named.get(str(dtype), "durations" if isinstance(dtype, pl.Duration) else f"type {dtype}")


def window_reach(order: Ints, clock: NDArray[Any], until: NDArray[Any]) -> Ints:
    """The latest rank in time that lies within each row's window; at least the row's own rank.

    >>> window_reach(np.array([0, 1, 2]), np.array([1.0, 5.0, 9.0]), np.array([6.0, 5.0, 9.0]))
    array([1, 1, 2])
    """
    sort = np.lexsort((order, clock))
    place = np.searchsorted(clock[sort], until, side="right") - 1
    return np.where(until > clock, np.maximum(order[sort][np.maximum(place, 0)], order), order)


def meets(
    left: Mask,
    right: Mask,
    *,
    order: Ints,
    reach: Ints,
    clock: NDArray[Any],
    until: NDArray[Any],
    gap: float = 0.0,
) -> Mask:
    """Rows of `left` whose window meets, or comes nearer than the gap to, a window of `right`.

    Args:
        left: the training rows, shape (rows,).
        right: the rows held out, shape (rows,).
        order: where each window starts, as a rank in time.
        reach: where it ends, as a rank in time.
        clock: where it starts on the clock.
        until: where it ends on the clock.
        gap: least distance, in the clock's units; 0 for none.

    Returns:
        (rows,) false outside `left`. In time n log n.

    >>> start, end = np.array([0, 2, 4]), np.array([1, 4, 5])
    >>> held = np.array([False, False, True])
    >>> meets(~held, held, order=start, reach=end, clock=start, until=end)
    array([False,  True, False])
    """
    found = np.zeros(left.size, dtype=bool)
    here, there = np.flatnonzero(left), np.flatnonzero(right)
    if not here.size or not there.size:
        return found
    found[here] = _touching(order[here], reach[here], order[there], reach[there], "right")
    if gap > 0.0:
        found[here] |= _touching(
            clock[here] - gap, until[here] + gap, clock[there], until[there], "left"
        )
    return found


def _touching(
    start: NDArray[Any],
    end: NDArray[Any],
    held_start: NDArray[Any],
    held_end: NDArray[Any],
    side: Literal["left", "right"],
) -> Mask:
    """Whether [start, end] meets any held-out window; with side "left" touching ends do not count.

    Of the held-out windows that start before `end`, the one that ends last decides.
    """
    sort = np.argsort(held_start, kind="stable")
    furthest = np.maximum.accumulate(held_end[sort])
    before = np.searchsorted(held_start[sort], end, side=side) - 1
    last = furthest[np.maximum(before, 0)]
    return np.asarray((before >= 0) & (last >= start if side == "right" else last > start))
