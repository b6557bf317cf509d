"""Which columns differ between training and test rows, and by how much.

Every question to a column is a difference of two means (of ranks, of distances from the middle
rank, of a level's indicator), whose error is summed within units; the p values of all questions are
corrected together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.cores import in_threads
from loopline.data.schema import has_classes
from loopline.evaluate.intervals import student_tail
from loopline.evaluate.rows import Units
from loopline.splits.views import TestView, TrainView
from loopline.words import figure

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
LEVEL = 0.01
"""Corrected p value below which a column has moved."""
SMALL_EFFECT = 0.1
"""Standardised difference below which a move is not told, however sure."""
SMALL_SHARE = 0.03
MAX_LEVELS = 20
MAX_CLASSES = 200


@dataclass(frozen=True)
class Move:
    """How one column differs between the sides.

    Args:
        column: its name.
        what: what moved, in words, with the numbers of both sides.
        effect: standardised difference, or difference of shares; test minus training.
        kind: `difference` or `share`.
        p: chance of so large a difference without a shift, before correction.
    """

    column: str
    what: str
    effect: float
    kind: str
    p: float


def moved_columns(
    train: TrainView, test: TestView, there: NDArray[np.int64] | None = None
) -> list[Move]:
    """Columns that surely differ by more than a little between the sides, largest effect first.

    Args:
        train: training rows.
        test: test rows.
        there: positions of the test rows to compare with; all by default.
    """
    rows = np.arange(test.num_rows) if there is None else there
    sides = _Sides(
        np.r_[np.zeros(train.num_rows, bool), np.ones(rows.size, bool)],
        Units.build(np.r_[train.units, test.units[rows]], train.num_rows + rows.size),
    )

    def look(name: str) -> list[Move]:
        values = pl.concat([train.column(name), test.column(name)[rows]])
        return _column_moves(name, train.schema.named(name).type, values, sides)

    moves = [move for found in in_threads(look, train.schema.features) for move in found]
    strongest: dict[str, Move] = {}
    for move in _surely(moves):
        strongest.setdefault(move.column, move)
    return list(strongest.values())


def moved_target(
    train: TrainView, target: NDArray[Any], units: NDArray[np.int64] | None
) -> list[Move]:
    """How the labels of the test rows surely differ from those of the training rows.

    Args:
        train: training rows.
        target: class codes or values of the test rows.
        units: their units; each row alone when None.
    """
    own = units if units is not None else np.arange(target.size) + train.units.max() + 1
    both = np.r_[train.target, target]
    sides = _Sides(
        np.r_[np.zeros(train.num_rows, bool), np.ones(target.size, bool)],
        Units.build(np.r_[train.units, own], both.size),
    )
    schema = train.schema
    if not has_classes(schema.task):
        known = np.ones(both.size, dtype=bool)
        return _surely(_number_moves(schema.target, both.astype(np.float64), known, sides))
    counts = np.bincount(both, minlength=schema.num_classes)
    common = np.argsort(-counts, kind="stable")[:MAX_CLASSES]
    moves: list[Move] = []
    for code in common[counts[common] > 0]:
        label = repr(schema.classes[int(code)])
        moves += _share_move(schema.target, label, both == code, sides)
    return _surely(moves)


def _surely(moves: Sequence[Move]) -> list[Move]:
    """Moves that are sure after correction and more than a little, largest first."""
    if not moves:
        return []
    sure = holm(np.array([move.p for move in moves])) < LEVEL
    told = [
        move
        for move, yes in zip(moves, sure, strict=True)
        if yes and abs(move.effect) >= (SMALL_EFFECT if move.kind == "difference" else SMALL_SHARE)
    ]
    return sorted(told, key=lambda move: (-abs(move.effect), move.column, move.what))


def holm(p: Floats) -> Floats:
    """P values corrected for their number (Holm 1979).

    >>> holm(np.array([0.01, 0.04, 0.03])).round(2)
    array([0.03, 0.06, 0.06])
    """
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, steps)
    return corrected


@dataclass(frozen=True, eq=False)
class _Sides:
    """Which rows are test rows, and which rows belong together."""

    test: Bools
    units: Units
    fewest: int = field(init=False)
    """Independent units of the smaller side."""

    def __post_init__(self) -> None:
        code = np.arange(self.test.size) if self.units.code is None else self.units.code
        fewest = min(np.unique(code[side]).size for side in (self.test, ~self.test))
        object.__setattr__(self, "fewest", int(fewest))

    def compare(self, values: Floats, known: Bools | None = None) -> tuple[float, float, float]:
        """Mean of the training side, of the test side, and the chance of such a difference."""
        if known is None:
            pull = values.astype(np.float64)
            here, there = ~self.test, self.test
        else:
            pull = np.where(known, values, 0.0)
            here, there = known & ~self.test, known & self.test
        counts = int(here.sum()), int(there.sum())
        if min(counts) < 2:
            return math.nan, math.nan, 1.0
        before, after = float(pull[here].mean()), float(pull[there].mean())
        pull[here] = (before - pull[here]) / counts[0]
        pull[there] = (pull[there] - after) / counts[1]
        if known is not None:
            pull[~known] = 0.0
        sums = self.units.sums(pull)
        count = self.units.count
        error = math.sqrt(float(np.square(sums).sum()) * count / max(1, count - 1))
        # Where nothing varies within a side the difference is as sure as it can be.
        error = max(error, 1e-12)
        p = 2.0 * student_tail(abs(after - before) / error, float(max(1, self.fewest - 1)))
        return before, after, min(1.0, p)


def _column_moves(name: str, kind: str, values: pl.Series, sides: _Sides) -> list[Move]:
    gone = values.is_null().to_numpy()
    if values.dtype.is_float():
        gone = gone | values.is_nan().fill_null(value=True).to_numpy()
    moves = []
    if gone.any() and not gone.all():
        moves += _share_move(name, "missing", gone, sides)
    if gone.all():
        return []
    if kind in ("number", "datetime", "boolean") and not values.dtype.is_nested():
        moves += _number_moves(name, _as_numbers(values), ~gone, sides, plain=kind != "datetime")
    elif kind == "text" and values.dtype == pl.String:
        sizes = values.str.len_chars().fill_null(0).cast(pl.Float64).to_numpy()
        moves += _number_moves(name, sizes, ~gone, sides, word="length of ")
    elif kind == "category":
        moves += _level_moves(name, values, sides)
    return moves


def _as_numbers(values: pl.Series) -> Floats:
    if values.dtype in (pl.Date, pl.Datetime, pl.Time, pl.Duration) or values.dtype.is_temporal():
        values = values.to_physical()
    return values.cast(pl.Float64).fill_null(0.0).fill_nan(0.0).to_numpy()


def _number_moves(
    name: str, values: Floats, known: Bools, sides: _Sides, *, plain: bool = True, word: str = ""
) -> list[Move]:
    """Two questions to a number: is it larger or smaller, and does it spread more or less."""
    mine = values[known]
    distinct, rank = np.unique(mine, return_inverse=True)
    if distinct.size < 2:
        return []
    counts = np.bincount(rank)
    middles = (np.cumsum(counts) - 0.5 * counts) / mine.size
    place = np.zeros(values.size)
    place[known] = middles[rank.reshape(-1)]
    spread = float(place[known].std())
    before, after, p = sides.compare(place, known)
    if not math.isfinite(before):
        return []
    typical = [float(np.median(values[known & side])) for side in (~sides.test, sides.test)]
    effect = (after - before) / max(spread, 1e-12)
    shown = f", median {figure(typical[0])} in training and {figure(typical[1])} in test" * plain
    moves = [
        Move(
            name,
            f"{word}{name!r} is {'higher' if effect > 0 else 'lower'} in test by "
            f"{abs(effect):.2f} standard deviations of its ranks{shown}",
            effect,
            "difference",
            p,
        )
    ]
    away = np.abs(place - 0.5)
    near, far, chance = sides.compare(away, known)
    width = (far - near) / max(float(away[known].std()), 1e-12)
    how = "spreads more" if width > 0 else "spreads less"
    what = f"{word}{name!r} {how} in test, by {abs(width):.2f} standard deviations"
    return [*moves, Move(name, what, width, "difference", chance)]


def _level_moves(name: str, values: pl.Series, sides: _Sides) -> list[Move]:
    """The share of each of the commonest levels, and of levels that training has never seen."""
    counts = values.drop_nulls().value_counts(sort=True)
    levels = sorted(counts.iter_rows(), key=lambda pair: (-pair[1], str(pair[0])))[:MAX_LEVELS]
    moves = []
    for level, _ in levels:
        held = (values == level).fill_null(value=False).to_numpy()
        moves += _share_move(name, repr(level), held, sides)
    return moves + _new_levels(name, values, sides)


def _new_levels(name: str, values: pl.Series, sides: _Sides) -> list[Move]:
    """Levels that training has never seen, where there are more than chance would bring.

    What a further sample brings of new levels is about the share of levels seen once (Good 1953);
    levels of one unit count as seen once, because a further unit brings its own.
    """
    code = np.arange(values.len()) if sides.units.code is None else sides.units.code
    seen = pl.DataFrame({"level": values, "unit": code}).filter(pl.Series(~sides.test))
    counts = seen.drop_nulls().group_by("level").agg(pl.col("unit").n_unique(), pl.len())
    once = float(counts.filter(pl.col("unit") == 1)["len"].sum()) / max(1, seen.height)
    new = ~values.is_in(counts["level"].implode()).fill_null(value=True).to_numpy() & sides.test
    if not new.any() or float(new[sides.test].mean()) < 2.0 * once + SMALL_SHARE:
        return []
    return _share_move(name, "a level that training has not", new, sides)


def _share_move(name: str, what: str, held: Bools, sides: _Sides) -> list[Move]:
    before, after, p = sides.compare(held.astype(np.float64))
    if not math.isfinite(before):
        return []
    text = f"{name!r} is {what} in {100 * before:.1f} % of training and {100 * after:.1f} % of test"
    return [Move(name, text, after - before, "share", p)]
