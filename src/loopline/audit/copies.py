"""Columns that are the label with errors, or decide it in pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.audit.alike import value_codes
from loopline.audit.skill import Skill, Skills
from loopline.data.schema import has_classes
from loopline.splits.views import TrainView

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MIN_ROWS = 20
COPY = 0.85
"""Rows of every class on which a renamed label must agree to be looked at."""
EQUAL = 0.5
"""Part of the rows, away from the most frequent value, on which a number equals the label."""
FEW_VALUES = 20
"""Numbers with fewer distinct values agree by chance, which is taken off."""
FILLED = 0.1
"""Part of the rows on which a copy must be filled in."""
COVERED = 0.95
PAIR_COLUMNS = 30
PAIR_ROWS = 2_000
DECIDED = 0.999
"""2·AUC - 1 from which a pair decides the class."""


@dataclass(frozen=True)
class Copy:
    """A column that says the label, with errors.

    Args:
        columns: one, or the two whose combination says it.
        agreement: share of rows that agree, in the worst class.
        formula: how they say it, such as `'a' - 'b'`.
    """

    columns: tuple[str, ...]
    agreement: float
    formula: str


def noisy_copy(series: pl.Series, view: TrainView) -> Copy | None:
    """The label under other names, or the number itself, with some cells wrong.

    Args:
        series: a column of the view.
        view: training rows.

    >>> from loopline.data.schema import Column, Schema
    >>> from loopline.testing.splitters import view_of
    >>> y = np.tile([0, 1], 100)
    >>> said = np.where(np.arange(200) % 40 == 0, 1 - y, y)
    >>> columns = (Column("said", "number"), Column("y", "category", "target"))
    >>> frame = pl.DataFrame({"said": said, "y": y})
    >>> view = view_of(frame, Schema(columns, "binary", (0, 1)))
    >>> noisy_copy(view.column("said"), view).agreement
    0.95
    """
    if not has_classes(view.schema.task):
        return _equal_number(series, view.target)
    return _renamed(series, view.target)


def _renamed(series: pl.Series, codes: Ints) -> Copy | None:
    if series.dtype.is_nested() or series.dtype == pl.Object():
        return None
    filled = series.is_not_null().to_numpy()
    if filled.mean() < FILLED:
        return None
    values, codes = value_codes(series.filter(pl.Series(filled))), codes[filled]
    counts = np.bincount(values)
    present = np.bincount(codes)
    classes = np.flatnonzero(present)
    frequent = np.flatnonzero(counts >= MIN_ROWS)
    if classes.size < 2 or present[classes].min() < MIN_ROWS or frequent.size != classes.size:
        return None
    if counts[frequent].sum() < COVERED * values.size:
        return None
    table = np.stack([np.bincount(codes[values == one], minlength=present.size)
                      for one in frequent]) if classes.size <= 1000 else None  # fmt: skip
    if table is None:
        return None
    # By shares of the classes, so that a rare class keeps its name among many errors of the rest.
    shares = table[:, classes] / present[classes]
    means = shares.argmax(axis=1)
    if np.unique(means).size != classes.size:
        return None
    recall = shares[np.arange(frequent.size), means]
    worst = float(recall.min())
    if worst < COPY:
        return None
    return Copy((series.name,), round(worst, 6), f"{series.name!r}")


def _equal_number(series: pl.Series, y: Floats) -> Copy | None:
    if not series.dtype.is_numeric():
        return None
    values = series.cast(pl.Float64).fill_null(np.nan).to_numpy()
    usual, counts = np.unique(y, return_counts=True)
    filled = np.isfinite(values)
    varied = filled & (y != usual[np.argmax(counts)])
    if varied.sum() < MIN_ROWS or filled.mean() < FILLED:
        return None
    same = np.abs(values - y) <= 1e-6 * np.abs(y)
    share = float(same[varied].mean())
    if usual.size < FEW_VALUES:
        beyond = _beyond_chance(values[filled], y[filled], same[filled])
        told = beyond >= EQUAL and share >= COPY
    else:
        # Numbers that are often the same agree by chance.
        told = share >= max(EQUAL, 3.0 * float(counts.max()) / y.size)
    return Copy((series.name,), round(share, 6), f"{series.name!r}") if told else None


def _beyond_chance(values: Floats, y: Floats, same: NDArray[np.bool_]) -> float:
    """Cohen's kappa of a number and the label: agreement with what chance gives taken off.

    >>> y = np.array([1.0, 1.0, 2.0, 2.0])
    >>> _beyond_chance(y, y, y == y), _beyond_chance(y[::-1], y, y[::-1] == y)
    (1.0, -1.0)
    """
    kinds, counts = np.unique(y, return_counts=True)
    mine = np.array([float((values == kind).mean()) for kind in kinds])
    chance = float(mine @ (counts / y.size))
    return (float(same.mean()) - chance) / (1.0 - chance) if chance < 1.0 else 0.0


def deciding_pairs(skills: Skills, names: Sequence[str], alone: dict[str, Skill]) -> list[Copy]:
    """Pairs of numbers whose difference, sum, ratio or product parts two classes exactly.

    Pairs of which one number does so alone are left out.

    Args:
        skills: the training view and its folds.
        names: number columns.
        alone: what each tells alone.
    """
    view = skills.view
    if view.schema.task != "binary" or np.bincount(view.target, minlength=2).min() < 2 * MIN_ROWS:
        return []
    chosen = sorted(names, key=lambda name: (-alone[name].value, name))[:PAIR_COLUMNS]
    values = {name: view.column(name).cast(pl.Float64).fill_null(np.nan).to_numpy()
              for name in chosen}  # fmt: skip
    rows = _balanced(view.target)
    found = []
    for first, second in combinations(sorted(chosen), 2):
        if max(alone[first].value, alone[second].value) >= 0.95:
            continue
        for formula, made in _combined(values[first][rows], values[second][rows]):
            if _parted(made, view.target[rows]) < DECIDED:
                continue
            whole = dict(_combined(values[first], values[second]))[formula]
            parted = _parted(whole, view.target)
            if parted >= DECIDED:
                told = formula.format(repr(first), repr(second))
                found.append(Copy((first, second), round(parted, 6), told))
                break
    return found


def _balanced(codes: Ints) -> Ints:
    rng = np.random.default_rng(0)
    parts = []
    for code in (0, 1):
        rows = np.flatnonzero(codes == code)
        if rows.size > PAIR_ROWS // 2:
            rows = rng.choice(rows, PAIR_ROWS // 2, replace=False)
        parts.append(rows)
    return np.sort(np.concatenate(parts))


def _combined(a: Floats, b: Floats) -> Iterator[tuple[str, Floats]]:
    yield "{} - {}", a - b
    yield "{} + {}", a + b
    yield "{} · {}", a * b
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        yield "{} / {}", np.where(b == 0.0, np.nan, a / np.where(b == 0.0, 1.0, b))


def _parted(values: Floats, codes: Ints) -> float:
    """|2·AUC - 1| of a number as a score (ties count half); 0 where half the cells are empty."""
    known = np.isfinite(values)
    positive = codes[known] == 1
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    if known.mean() < 0.5 or min(num_positive, num_negative) < MIN_ROWS:
        return 0.0
    ordered = np.sort(values[known][~positive])
    mine = values[known][positive]
    below = np.searchsorted(ordered, mine, side="left")
    up_to = np.searchsorted(ordered, mine, side="right")
    wins = float((below + up_to).sum()) / 2.0
    return abs(2.0 * wins / (num_positive * num_negative) - 1.0)


def is_earlier_label(series: pl.Series, view: TrainView, order: Ints | None) -> bool:
    """Whether a column is the label of the row before it in time, which is honest.

    Args:
        series: a column of the view.
        view: training rows.
        order: rank in time of each row; None when no time is known.
    """
    if order is None or view.num_rows < MIN_ROWS:
        return False
    rows = np.argsort(order, kind="stable")
    labels = pl.Series(view.target[rows])
    codes, mine = value_codes(labels), value_codes(series.gather(rows))
    # Renamed or not, the earlier label makes as many pairs with the column as there are values.
    pairs = np.unique(np.stack([codes[:-1], mine[1:]]), axis=1, return_counts=True)[1]
    kinds = max(np.unique(codes).size, 1)
    top = np.sort(pairs)[::-1][:kinds]
    return bool(top.sum() >= 0.999 * (codes.size - 1))
