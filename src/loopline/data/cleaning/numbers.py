"""Checks of number columns: impossible, isolated, rescaled, rounded and far values."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.cleaning.column import ColumnView, block_bounds, sample_rows
from loopline.data.cleaning.finding import Finding
from loopline.data.cleaning.repair import Repair

SENTINELS = frozenset(
    sign * value
    for sign in (1, -1)
    for value in (
        *(10**digits - 1 for digits in range(1, 11)),
        *(int("8" * digits) for digits in range(2, 7)),
        *(int("7" * digits) for digits in range(2, 7)),
        *(99.9, 999.9, 9999.9, 999.99, 9999.99, 99.99, 1e20, 1e30, 1e36),
        *(2**15 - 1, 2**31 - 1, 2**63 - 1),
    )
) | {-1.0, -(2**15), -(2**31), -(2**63)}
NOT_NEGATIVE = frozenset(
    (
        "age",
        "ages",
        "price",
        "prices",
        "cost",
        "count",
        "counts",
        "cnt",
        "num",
        "number",
        "qty",
        "quantity",
        "size",
        "length",
        "weight",
        "height",
        "width",
        "distance",
        "duration",
        "hours",
        "minutes",
        "seconds",
        "days",
        "months",
        "years",
        "year",
        "fare",
        "salary",
        "wage",
        "income",
        "tenure",
        "population",
        "rooms",
        "bedrooms",
        "households",
        "area",
        "volume",
        "total",
        "charge",
        "charges",
        "mileage",
        "stock",
        "speed",
        "windspeed",
        "humidity",
        "hum",
    )
)
BINS = 10  # a decade, in the search for units
EXACT = 2**53  # above this, not every integer is a Float64


def is_number(view: ColumnView) -> bool:
    """Whether the column holds numbers that are to be read as numbers."""
    return view.values.dtype.is_numeric() and not isinstance(view.values.dtype, pl.Decimal)


def find_infinite(view: ColumnView) -> list[Finding]:
    """Infinite numbers, which no sum survives."""
    if not view.values.dtype.is_float():
        return []
    infinite = view.values.is_infinite().fill_null(value=False)
    if not infinite.any():
        return []
    repair = Repair.replace(
        view.name, {float("inf"): None, float("-inf"): None}, "infinite: made missing"
    )
    sentence = f"Column {view.name!r} is infinite in {{}}."
    return [view.found("infinite", infinite, sentence, repair=repair)]


def find_sentinels(view: ColumnView) -> list[Finding]:
    """Numbers such as -999 that stand for "no value": known, repeated and far from all others."""
    if not is_number(view) or (view.column.role == "target" and view.column.type != "number"):
        return []
    rest = _finite(view)
    taken: list[float] = []
    evidence = ""
    for side in ("low", "high", "low", "high"):
        if not len(rest):
            break
        value = float(rest.min() if side == "low" else rest.max())
        here = rest == value
        count = int(here.sum())
        others = rest[~here]
        if value not in SENTINELS or count < 2 or len(others) < 10:
            continue
        seen = _isolated(value, others, side)
        if seen:
            taken.append(value)
            rest = others
            evidence = evidence or f"it stands {count} times, {seen}"
    if not taken:
        return []
    where = view.values.cast(pl.Float64).is_in(taken).fill_null(value=False)
    codes = view.values.filter(where).unique().sort().to_list()
    shown = ", ".join(f"{value:g}" for value in taken)
    sentence = f"Column {view.name!r} holds {shown} in {{}}, which looks like a code for missing: "
    repair = Repair.replace(view.name, [(code, None) for code in codes], "code for missing")
    return [view.found("sentinel", where, sentence + evidence + ".", repair=repair)]


def _isolated(value: float, others: NDArray[np.float64], side: str) -> str:
    low, high = float(others.min()), float(others.max())
    if low == high:
        return ""
    gap = low - value if side == "low" else value - high
    if gap > high - low:
        return f"{gap:g} away from the next value; all others lie within {low:g} to {high:g}"
    distinct = len(np.unique(others[sample_rows(len(others))]))
    if side == "low" and value < 0 <= low and distinct >= 10:
        return "the only value below zero"
    return ""


def find_negatives(view: ColumnView) -> list[Finding]:
    """Values below zero in a column whose name and other values say that there are none."""
    if not is_number(view) or not view.words & NOT_NEGATIVE:
        return []
    below = (view.values < 0).fill_null(value=False)
    count = int(below.sum())
    if not count or count > 0.05 * (view.num_rows - view.num_missing):
        return []
    lowest = view.values.filter(below).cast(pl.Float64)
    if lowest.n_unique() == 1 and count > 1 and float(lowest[0]) in SENTINELS:
        return []  # told as a sentinel
    sentence = f"Column {view.name!r} is below zero in {{}}; nearly all others are positive."
    return [view.found("negative", below, sentence)]


def find_unit_change(view: ColumnView) -> list[Finding]:
    """A part of the rows in another unit: two like clusters a power of ten (100 or more) apart."""
    if not is_number(view) or view.column.type not in ("number", "category"):
        return []
    below = int((view.values < 0).sum())
    if 0.01 * view.num_rows < below < 0.99 * (view.num_rows - view.num_missing):
        return []  # a quantity around zero has no order of magnitude of its own
    logs = np.abs(view.values.cast(pl.Float64).fill_null(float("nan")).to_numpy())
    with np.errstate(divide="ignore", invalid="ignore"):
        np.log10(logs, out=logs)
    logs[~np.isfinite(logs)] = np.nan
    if np.isfinite(logs).sum() < 20:
        return []
    where = _apart(logs)
    if where is None:
        where = _shifted_blocks(logs)
    if where is None:
        return []
    low, high = _median(logs[~where]), _median(logs[where])
    factor = 10 ** round(abs(high - low))
    sentence = (
        f"Column {view.name!r} looks {factor:g} times as large in {{}} as in the others, with a "
        "like spread: part of it may be in another unit."
    )
    return [view.found("unit_change", pl.Series(where), sentence)]


def _median(x: NDArray[np.float64]) -> float:
    return float(np.nanmedian(x))


def _like(small: NDArray[np.float64], large: NDArray[np.float64]) -> bool:
    """Whether two samples of log10 have about the same shape, some power of ten apart."""
    a = np.quantile(small, [0.25, 0.5, 0.75])
    b = np.quantile(large, [0.25, 0.5, 0.75])
    power = round(float(b[1] - a[1]))
    if power not in (2, 3, 4, 6):
        return False
    # A stretch of the file need not look like the rest, so the quarters may differ more.
    near = np.abs(b - a - power) < np.array([0.5, 0.3, 0.5]) * (1.0 if power > 2 else 0.5)
    return bool(near.all())


def _apart(logs: NDArray[np.float64]) -> NDArray[np.bool_] | None:
    """The smaller of two heaps a power of ten apart, with next to nothing between them."""
    known = logs[np.isfinite(logs)]
    bins = np.floor(known * BINS).astype(np.int64)
    first = int(bins.min())
    counts = np.bincount(bins - first)
    main = int(counts.argmax())
    for power, sign in product((3, 2, 4, 6), (1, -1)):
        about = main + sign * power * BINS
        near = counts[max(about - 3, 0) : max(about + 4, 0)]
        if not len(near) or not near.max():
            continue
        other = max(about - 3, 0) + int(near.argmax())
        low, high = sorted((main, other))
        between = counts[low : high + 1]
        # The emptiest bin, the middle one of several.
        empty = np.flatnonzero(between == between.min())
        cut = (low + int(empty[len(empty) // 2]) + first) / BINS
        small, large = known[known < cut], known[known >= cut]
        fewest = max(5, 0.0005 * len(known))
        if min(len(small), len(large)) < fewest or between.min() > 0.1 * near.max():
            continue
        if small.min() < small.max() and large.min() < large.max() and _like(small, large):
            above: NDArray[np.bool_] = logs >= cut
            return above if len(large) <= len(small) else ~above & np.isfinite(logs)
    return None


def _shifted_blocks(logs: NDArray[np.float64]) -> NDArray[np.bool_] | None:
    """Blocks of rows, in file order, whose whole distribution is a power of ten off."""
    bounds = block_bounds(len(logs))
    if len(logs) < 20 * (len(bounds) - 1):
        return None
    middles = np.array(
        [
            np.nanmedian(block) if np.isfinite(block := logs[a:b]).sum() >= 5 else np.nan
            for a, b in pairwise(bounds.tolist())
        ]
    )
    ordered = np.sort(middles[np.isfinite(middles)])
    if len(ordered) < 10:
        return None
    gaps = np.diff(ordered)
    at = int(gaps.argmax())
    within = max(ordered[at] - ordered[0], ordered[-1] - ordered[at + 1])
    if gaps[at] < 1.5 or within > 0.5:
        return None
    cut = float(ordered[at : at + 2].mean())
    with np.errstate(invalid="ignore"):
        high = middles > cut
    minor = high if high.sum() <= (~high).sum() else ~high & np.isfinite(middles)
    where = np.repeat(minor, np.diff(bounds))
    inside, outside = logs[where & np.isfinite(logs)], logs[~where & np.isfinite(logs)]
    small, large = sorted((inside, outside), key=_median)
    return where if _like(small, large) else None


def find_rounded_ids(view: ColumnView) -> list[Finding]:
    """Long integers that went through a Float64 and lost their last digits."""
    values = view.values
    if values.dtype == pl.Float64 and view.is_key:
        x = _finite(view)
        rounded = (values.abs() >= EXACT).fill_null(value=False)
        if not len(x) or not rounded.any() or (x != np.floor(x)).any():
            return []
    elif values.dtype in (pl.Int64, pl.UInt64):
        rounded = (values >= 2 * EXACT).fill_null(value=False)
        if int(rounded.sum()) < 20:
            return []
        long = values.filter(rounded)
        # A Float64 of this size is a multiple of 4 or more; by chance one integer in four is.
        through = long.cast(pl.Float64).cast(values.dtype, strict=False)
        if (long % 4 != 0).any() or not long.eq_missing(through).all():
            return []
    else:
        return []
    sentence = (
        f"Column {view.name!r} holds whole numbers beyond 2**53 that look rounded in {{}}: they "
        "went through a floating-point type, so different ids may have become one. Read the "
        "source again with this column as text."
    )
    return [view.found("rounded_ids", rounded, sentence)]


def find_outliers(view: ColumnView) -> list[Finding]:
    """Numbers far from the middle, by median and MAD (z above 8) and by quartiles (3 IQR)."""
    if not is_number(view) or view.column.type != "number" or view.column.role == "id":
        return []
    # Quartiles of the same 200,000 rows every time; every row is then held against them.
    x = _finite(ColumnView(view.column, view.values.gather(sample_rows(view.num_rows))))
    if len(x) < 20:
        return []
    low, middle, high = (float(q) for q in np.quantile(x, [0.25, 0.5, 0.75]))
    scale = 1.4826 * float(np.median(np.abs(x - middle)))
    if high == low or scale == 0:
        return []
    reach = 3 * (high - low)
    far = (view.values < low - reach) | (view.values > high + reach)
    far = far & ((view.values - middle).abs() > 8 * scale)
    far = far.fill_null(value=False) & view.values.is_finite()
    count = int(far.sum())
    if not count or count > 0.05 * view.num_rows:
        return []
    sentence = (
        f"Column {view.name!r} is far from its middle ({middle:g}) in {{}}: more than 8 robust "
        "deviations and 3 quartile ranges. Extreme need not mean wrong."
    )
    return [view.found("outliers", far, sentence, "info")]


def _finite(view: ColumnView) -> NDArray[np.float64]:
    x: NDArray[np.float64] = view.values.drop_nulls().cast(pl.Float64).to_numpy()
    return x if bool(np.isfinite(x).all()) else x[np.isfinite(x)]
