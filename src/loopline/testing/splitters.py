"""Conformance kit of splitters: what every member of the family must keep.

A new splitter is proven by one test::

    @pytest.mark.parametrize("seed", range(20))
    def test_my_splitter_keeps_its_promises(seed):
        check_splitter(MySplitter(), SplitSettings("random"), example_rows(seed))

Every check raises `AssertionError` with a sentence that names the broken promise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.schema import Schema
from loopline.splits.base import TOLERANCE, Assignment, Splitter
from loopline.splits.certificate import borders, in_window, straddling, too_late
from loopline.splits.rows import SplitRows, connected
from loopline.splits.spec import (
    EXCLUDED,
    FOLD_TRAIN,
    FOLD_VALID,
    TEST,
    TIME_METHODS,
    TRAIN,
    UNUSED,
    SplitSettings,
)
from loopline.splits.split import all_train
from loopline.splits.views import TrainView
from loopline.splits.windows import window_reach


def view_of(
    frame: pl.DataFrame,
    schema: Schema,
    *,
    units: NDArray[Any] | None = None,
    order: NDArray[Any] | None = None,
) -> TrainView:
    """A training view of a whole frame, for the tests of features and models.

    Row identities are drawn from the row numbers, so equal rows count as different rows.

    >>> from loopline.data.schema import Column
    >>> schema = Schema((Column("x", "number"), Column("y", "number", "target")), "regression")
    >>> view_of(pl.DataFrame({"x": [1.0, 2.0], "y": [0.5, 0.25]}), schema).target
    array([0.5 , 0.25])
    """
    digests = np.random.default_rng(0).integers(0, 2**64, (frame.height, 2), dtype=np.uint64)
    return all_train(digests, units=units, order=order).train_view(frame, schema)


def example_rows(
    seed: int,
    num_rows: int = 300,
    *,
    num_groups: int = 60,
    num_times: int = 80,
    twin_share: float = 0.2,
    num_classes: int = 3,
    near_share: float = 0.0,
    longest_window: int = 0,
) -> SplitRows:
    """Rows with duplicates, two group columns that overlap, tied times, classes and a part column.

    On request with near duplicates and label windows.

    Args:
        seed: of everything drawn.
        num_rows: rows.
        num_groups: distinct values of the group column.
        num_times: distinct times at most; groups live for about a tenth of the time.
        twin_share: part of the rows that repeat another row.
        num_classes: classes, of falling frequency.
        near_share: part of the rows that nearly repeat another row; units keep them together.
        longest_window: steps of time after which labels are known at most; 0 for no windows.
    """
    rng = np.random.default_rng(seed)
    twins = np.arange(num_rows)
    repeated = rng.random(num_rows) < twin_share
    twins[repeated] = rng.integers(0, num_rows, int(repeated.sum()))
    group = rng.integers(0, num_groups, num_rows)
    house = group // 2  # coarser: two groups a house, so the structures overlap
    start = rng.integers(0, num_times, num_groups)
    order = (start[group] + rng.integers(0, max(2, num_times // 10), num_rows)) % num_times
    shares = 1.0 / np.arange(1, num_classes + 1)
    rows = SplitRows(
        keys=rng.integers(0, 2**64, num_rows, dtype=np.uint64),
        units=connected(twins, [group, house]),
        twins=twins,
        groups={"group": group, "house": house},
        order=order,
        clock=order * 10.0,
        labels=rng.choice(num_classes, num_rows, p=shares / shares.sum()),
        classes=tuple("abcdefghij"[:num_classes]),
        places=np.arange(num_rows),
    )
    cut = np.searchsorted(np.sort(order), order) > 0.8 * num_rows
    part = np.where(cut, -1, rng.integers(0, 3, num_rows))
    rows = replace(rows, part=part.astype(np.int64))
    if near_share:
        rows = _with_near_duplicates(rows, near_share, rng)
    return _with_windows(rows, longest_window, rng) if longest_window else rows


def _with_near_duplicates(rows: SplitRows, share: float, rng: np.random.Generator) -> SplitRows:
    codes = np.arange(rows.num_rows)
    near = rng.random(rows.num_rows) < share
    codes[near] = rng.integers(0, rows.num_rows, int(near.sum()))
    alike = connected(rows.twins, [codes])
    return replace(rows, alike=alike, units=connected(rows.units, [alike]))


def _with_windows(rows: SplitRows, longest: int, rng: np.random.Generator) -> SplitRows:
    assert rows.order is not None
    assert rows.clock is not None
    until = (rows.order + rng.integers(0, longest + 1, rows.num_rows)) * 10.0
    return replace(rows, until=until, reach=window_reach(rows.order, rows.clock, until))


def check_splitter(
    splitter: Splitter, settings: SplitSettings, rows: SplitRows, *, same_in_any_order: bool = True
) -> Assignment:
    """Run a splitter and check everything that `loopline.splits.base` promises.

    Args:
        splitter: the member under test.
        settings: with the method's name; its share, folds, gap and seed are used.
        rows: for example `example_rows`; units must follow the structures the method honours.
        same_in_any_order: also run it on the rows in another order.

    Returns:
        The assignment, for further checks.

    Raises:
        AssertionError: a promise is broken.
        SplitError: the splitter refuses these rows, which is its right.
    """
    frozen = [array.copy() for array in (rows.keys, rows.units)]
    assigned = splitter.assign(rows, settings)
    side, folds = assigned.side, assigned.folds
    _must(np.array_equal(frozen[0], rows.keys), "the splitter must not change its input")
    _must(np.array_equal(frozen[1], rows.units), "the splitter must not change its input")
    _check_values(side, folds, rows)
    for border, left, right in borders(side, folds):
        _must(bool(left.any() and right.any()), f"{border} must have rows on both sides")
        # A given split makes no units: what it must keep together is checked one by one.
        given = settings.method == "predefined"
        for codes in (rows.twins, *rows.groups.values()) if given else (rows.units,):
            count = straddling(codes, left, right)[0]
            _must(count == 0, f"{count} units straddle {border}")
        if settings.method in TIME_METHODS:
            late, _ = too_late(rows, left, right, settings.gap)
            _must(not late.any(), f"{int(late.sum())} training rows of {border} are not earlier")
        if rows.alike is not None:
            count = straddling(rows.alike, left, right)[0]
            _must(count == 0, f"{count} sets of near duplicates straddle {border}")
        if rows.reach is not None:
            near = in_window(rows, left, right, settings.gap)
            _must(not near.any(), f"{int(near.sum())} label windows meet across {border}")
    if settings.method != "predefined" and settings.test_share:
        _check_share(side, settings)
    again = splitter.assign(rows, settings)
    _must(np.array_equal(again.side, side), "the same seed must give the same sides")
    _must(np.array_equal(again.folds, folds), "the same seed must give the same folds")
    if same_in_any_order:
        _check_order(splitter, settings, rows, assigned)
    return assigned


def _check_values(side: NDArray[np.int8], folds: NDArray[np.int8], rows: SplitRows) -> None:
    _must(side.shape == (rows.num_rows,), "there must be one side for each row")
    _must(folds.shape[0] == rows.num_rows, "there must be one part for each row and fold")
    _must(bool(np.isin(side, (TRAIN, TEST, EXCLUDED)).all()), "sides are 0, 1 or 2")
    _must(bool(np.isin(folds, (UNUSED, FOLD_TRAIN, FOLD_VALID)).all()), "parts are 0, 1 or 2")
    _must(bool((folds[side != TRAIN] == UNUSED).all()), "a row that does not train has no fold")
    _must(bool(((folds == FOLD_VALID).sum(axis=1) <= 1).all()), "no row may validate in two folds")


def _check_share(side: NDArray[np.int8], settings: SplitSettings) -> None:
    counts = np.bincount(side, minlength=3)
    asked = settings.test_share
    # A method in time measures its cut on all rows, `group_time` on those that are kept.
    total = side.size if settings.method == "time" else int(counts[TRAIN] + counts[TEST])
    slack = TOLERANCE * min(asked, 1.0 - asked) * total
    miss = abs(int(counts[TEST]) - asked * total)
    _must(miss <= max(slack, 1.0), f"the test side has {counts[TEST]} of {total} rows")


def _check_order(
    splitter: Splitter, settings: SplitSettings, rows: SplitRows, assigned: Assignment
) -> None:
    shuffle = np.random.default_rng(0).permutation(rows.num_rows)
    moved = splitter.assign(_reordered(rows, shuffle), settings)
    _must(
        np.array_equal(moved.side, assigned.side[shuffle]),
        "sides must not depend on the order of the rows",
    )
    _must(
        np.array_equal(moved.folds, assigned.folds[shuffle]),
        "folds must not depend on the order of the rows",
    )


def _reordered(rows: SplitRows, shuffle: NDArray[np.int64]) -> SplitRows:
    def moved(values: NDArray[Any] | None) -> Any:
        return None if values is None else values[shuffle]

    return replace(
        rows,
        keys=moved(rows.keys),
        units=moved(rows.units),
        twins=moved(rows.twins),
        separate=moved(rows.separate),
        groups={name: moved(codes) for name, codes in rows.groups.items()},
        alike=moved(rows.alike),
        order=moved(rows.order),
        clock=moved(rows.clock),
        until=moved(rows.until),
        reach=moved(rows.reach),
        labels=moved(rows.labels),
        part=moved(rows.part),
    )


def _must(holds: bool, promise: str) -> None:
    if not holds:
        raise AssertionError(promise)
