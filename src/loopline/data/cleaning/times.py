"""Checks of dates and times: codes, far futures, shifted clocks, days read as months.

No wall clock: a time is late or early compared with the others of its column.
"""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.cleaning.column import ColumnView
from loopline.data.cleaning.finding import Finding
from loopline.data.cleaning.repair import Repair

SENTINEL_DATES = tuple(
    dt.date.fromisoformat(text)
    for text in (
        "0001-01-01",
        "1753-01-01",
        "1899-12-30",
        "1899-12-31",
        "1900-01-01",
        "1970-01-01",
        "2099-12-31",
        "2199-12-31",
        "2999-12-31",
        "9999-12-31",
    )
)
SECOND = 1_000_000
DAY = 86_400 * SECOND
LONGEST_ORDER = 200_000


def is_time(view: ColumnView) -> bool:
    """Whether the column holds dates or time stamps."""
    return view.values.dtype == pl.Date or isinstance(view.values.dtype, pl.Datetime)


def microseconds(view: ColumnView) -> NDArray[np.int64]:
    """The known times as microseconds since 1970, in file order."""
    known = view.values.drop_nulls()
    if isinstance(known.dtype, pl.Datetime) and known.dtype.time_zone:
        known = known.dt.replace_time_zone(None)
    return known.cast(pl.Datetime("us")).cast(pl.Int64).to_numpy()


def find_time_sentinels(view: ColumnView) -> list[Finding]:
    """Dates such as 1900-01-01 that stand for "no value": first or last, repeated, far away."""
    if not is_time(view):
        return []
    days = view.values.dt.date()
    taken = []
    for date in SENTINEL_DATES:
        here = (days == date).fill_null(value=False)
        others = days.filter(~here).drop_nulls()
        if int(here.sum()) < 2 or others.n_unique() < 2:
            continue
        first, last = others.min(), others.max()
        assert isinstance(first, dt.date)
        assert isinstance(last, dt.date)
        away = max((first - date).days, (date - last).days)
        if away > max((last - first).days, 365):
            taken.append(date)
    if not taken:
        return []
    where = days.is_in(taken).fill_null(value=False)
    values = view.values.filter(where).unique().sort().to_list()
    shown = ", ".join(date.isoformat() for date in taken)
    sentence = (
        f"Column {view.name!r} says {shown} in {{}}, far from every other date: it looks like a "
        "code for missing."
    )
    repair = Repair.replace(view.name, [(value, None) for value in values], "code for missing")
    return [view.found("sentinel", where, sentence, repair=repair)]


def find_future_times(view: ColumnView) -> list[Finding]:
    """A few times later than all others by more than the time that the others span."""
    if not is_time(view):
        return []
    times = microseconds(view)
    if len(times) < 20:
        return []
    ordered = np.sort(times)
    # At most one row in twenty may be late, after an empty stretch half as long as the rest.
    tail = ordered[int(0.95 * len(ordered)) - 1 :]
    gaps = np.diff(tail)
    at = int(gaps.argmax())
    width = int(tail[at] - ordered[0])
    core = int(ordered[int(0.95 * len(ordered)) - 1] - ordered[int(0.05 * len(ordered))])
    if gaps[at] <= max(core // 2, DAY) or gaps[at] <= width // 4:
        return []
    limit = int(tail[at])
    last = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=limit)
    late = np.zeros(view.num_rows, dtype=np.bool_)
    late[np.flatnonzero(~view.is_missing.to_numpy())] = times > limit
    where = pl.Series(late)
    if (view.values.filter(where).dt.date().is_in(list(SENTINEL_DATES))).all():
        return []  # told as a code for missing
    sentence = (
        f"Column {view.name!r} is later than {last.isoformat(sep=' ')} in {{}}, after a stretch of "
        f"{int(gaps[at]) / DAY:.0f} days without any row: these times may lie in the future."
    )
    return [view.found("future_times", where, sentence)]


def find_clock_shift(view: ColumnView) -> list[Finding]:
    """Times in file order that step back by whole half hours, as another time zone makes them."""
    if not isinstance(view.values.dtype, pl.Datetime):
        return []
    times = microseconds(view)
    if len(times) < 50:
        return []
    steps = np.diff(times)
    back = np.flatnonzero(steps < 0)
    usual = int(np.median(steps))
    half_hour = 1800 * SECOND
    if usual < 0 or usual > DAY or len(back) > max(20, len(times) // 200):
        return []
    regular = usual > 0 and (steps == usual).mean() > 0.9
    if regular:
        off = steps - usual
        odd = (off % half_hour == 0) & (np.abs(off) <= 14 * 3600 * SECOND) & (off != 0)
        # A step forward by whole steps is a gap; back, or off the grid, is a clock.
        shifted = np.flatnonzero(odd & ((steps <= 0) | (off % usual != 0)))
    else:
        near = min(usual, half_hour // 6)
        jump = -steps[back]
        rest = np.minimum(jump % half_hour, half_hour - jump % half_hour)
        ahead = (jump + near * 4 >= half_hour) & (jump <= 14 * 3600 * SECOND)
        shifted = (
            back[ahead & (rest <= max(near * 4, SECOND))] if usual * 4 < half_hour else back[:0]
        )
    if not len(shifted):
        return []
    rows = np.flatnonzero(~view.is_missing.to_numpy())[shifted + 1]
    where = np.zeros(view.num_rows, dtype=np.bool_)
    where[rows] = True
    hours = -(steps[shifted[0]] - (usual if regular else 0)) / (3600 * SECOND)
    sentence = (
        f"Column {view.name!r} follows the file's order but steps by {-hours:+.1f} hours against "
        f"its course at row {rows[0]} (in {{}}): a stretch may be in another time zone."
    )
    return [view.found("clock_shift", pl.Series(where), sentence)]


def find_day_first(view: ColumnView) -> list[Finding]:
    """Dates whose day was read as the month: no day after the 12th, or an order that swaps mend."""
    if not is_time(view):
        return []
    known = view.values.drop_nulls()
    if len(known) < 30:
        return []
    days = known.dt.date()
    of_month = days.dt.day()
    last = of_month.max()
    assert isinstance(last, int)
    unique = days.unique()
    if last <= 12 and of_month.n_unique() >= 10 and len(unique) >= 30:
        sentence = (
            f"Column {view.name!r} has {len(unique)} different dates and none after the 12th of a "
            "month ({}): day and month may have been read the wrong way round."
        )
        return [view.found("day_first", ~view.is_missing, sentence)]
    return _swapped_in_order(view, days)


def _swapped_in_order(view: ColumnView, days: pl.Series) -> list[Finding]:
    """Rows that break the file's time order and mend it once day and month change places."""
    changed = np.flatnonzero(np.diff(days.cast(pl.Int32).to_numpy(), prepend=-(2**31)))
    if not 5 <= len(changed) <= LONGEST_ORDER:
        return []
    compact = days.gather(changed)
    dates = compact.cast(pl.Int32).to_numpy().astype(np.int64)
    breaks = int((np.diff(dates) < 0).sum())
    if not breaks:
        return []
    left, swapped = best_order(dates, exchanged(compact))
    if swapped.sum() < 3 or left > 0.2 * breaks:
        return []
    known = np.repeat(swapped, np.diff(np.append(changed, len(days))))
    where = np.zeros(view.num_rows, dtype=np.bool_)
    where[np.flatnonzero(~view.is_missing.to_numpy())] = known
    sentence = (
        f"Column {view.name!r} breaks the file's time order {breaks} times, and {left} times once "
        "day and month change places in {}: they were read the wrong way round."
    )
    return [view.found("day_first", pl.Series(where), sentence)]


def exchanged(days: pl.Series) -> NDArray[np.int64]:
    """The dates, as days since 1970, with day and month in each other's place where that is one."""
    date = pl.col("date")
    early = pl.when(date.dt.day() <= 12).then(date)
    other = pl.date(early.dt.year(), early.dt.day(), early.dt.month())
    both = pl.DataFrame([days.alias("date")]).select(pl.coalesce(other, date)).to_series()
    swapped: NDArray[np.int64] = both.cast(pl.Int32).to_numpy().astype(np.int64)
    return swapped


def best_order(
    dates: NDArray[np.int64], others: NDArray[np.int64]
) -> tuple[int, NDArray[np.bool_]]:
    """Choose for each place one of two dates so that the order breaks least, swapping least.

    Dynamic programming over the places with two states, O(n).

    Returns:
        The breaks that are left, and where the other date was chosen.

    >>> best_order(np.array([1, 9, 3]), np.array([1, 2, 3]))
    (0, array([False,  True, False]))
    """
    options = np.stack([dates, others], axis=1).tolist()
    costs = [(0, 0), (0, 1)]
    came: list[tuple[int, int]] = []
    for before, here in pairwise(options):
        step = []
        following = []
        for swap in (0, 1):
            ways = [(costs[k][0] + (here[swap] < before[k]), costs[k][1] + swap, k) for k in (0, 1)]
            breaks, swaps, source = min(ways)
            following.append((breaks, swaps))
            step.append(source)
        costs = following
        came.append((step[0], step[1]))
    state = 0 if costs[0] <= costs[1] else 1
    left = costs[state][0]
    chosen = np.zeros(len(dates), dtype=np.bool_)
    for place in range(len(dates) - 1, -1, -1):
        chosen[place] = bool(state)
        if place:
            state = came[place - 1][state]
    return left, chosen
