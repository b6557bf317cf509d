"""A run's learning curve: its candidate on shares of every fold's training rows.

The shares are nested and keep units whole. Where the split knows time, a share is the latest part
of the training rows, so the curve tells what a longer history is worth. All sizes are scored on the
same validation rows, so what the curve gains from size to size is known far better than any score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.data.schema import has_classes
from loopline.errors import DataError
from loopline.evaluate.extrapolate import FEWEST_SIZES, PowerLaw, fit_power_law
from loopline.evaluate.formulas import Scored as Scoring
from loopline.evaluate.metrics import Metric, default_metric, metric
from loopline.evaluate.rows import Rows, Units
from loopline.line.finished import FinishedRun, Scored
from loopline.line.refits import Refitted, Variant, as_run, is_known, num_folds, refit
from loopline.seeds import child_seed
from loopline.splits.deal import dense, latest_share, row_keys, shuffled_units
from loopline.splits.views import TrainView, strata

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Shares of the training rows that are fitted beside all of them."""
REPEATS = {1 / 16: 3, 1 / 8: 3, 1 / 4: 3, 1 / 2: 2}
"""How often a share is drawn anew: small ones are cheap, and their luck is the largest."""
FADING = 1.5
"""How fast the luck of the rows learned from fades: its variance falls as n to this power. The
excess loss of a parametric model gives 2, the noise of a local one 1."""
FEWEST_ROWS = 60
FEWEST_UNITS = 8
FEWEST_OF_CLASS = 5


@dataclass(frozen=True)
class CurvePoint:
    """One size of a learning curve.

    Args:
        share: of each fold's training rows.
        num_rows: mean rows learned from.
        score: of all validation rows together, mean over the draws of the share.
        error: standard error of that score by the rows learned from; the rows scored are the same
            at every size and take no part.
        repeats: how many draws.
        seconds: of all their fits.
    """

    share: float
    num_rows: float
    score: float
    error: float
    repeats: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "share": self.share,
            "num_rows": round(self.num_rows, 1),
            "score": self.score,
            "error": self.error,
            "repeats": self.repeats,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, eq=False)
class Curve:
    """A learning curve and what lies beyond it.

    Args:
        metric: what was measured.
        points: from few rows to all.
        law: all power laws that agree with the points; losses are scores with the sign of lower is
            better.
        by_time: whether shares are the latest rows rather than random ones.
        draws: what was predicted at each point, draw by draw.
        covariance: of the points' scores by the rows that were scored, (points, points).
    """

    metric: Metric
    points: tuple[CurvePoint, ...]
    law: PowerLaw
    by_time: bool
    draws: tuple[tuple[Refitted, ...], ...]
    covariance: Floats

    @property
    def seconds(self) -> float:
        """What all fits of the curve took."""
        return sum(point.seconds for point in self.points[:-1])


def nested_part(view: TrainView, share: float, seed: int) -> TrainView:
    """A share of a training view that is part of every larger share of the same seed.

    Units are kept whole and classes keep their shares; where the split knows time it is the latest
    part, and the seed has no effect.

    Args:
        view: the rows.
        share: of the rows, above 0 and at most 1.
        seed: of the order in which units join.
    """
    if share >= 1:
        return view
    if view.order is not None:
        return view.subset(view.order >= latest_share(view.order, share))
    return view.subset(_joins_at(view, seed) < share)


def _joins_at(view: TrainView, seed: int) -> Floats:
    """The share from which on each row takes part, in [0, 1); equal within a unit."""
    codes, count = dense(view.units)
    order = shuffled_units(row_keys(view.digests), codes, count, seed)
    sizes = np.bincount(codes, minlength=count)[order]
    label = np.zeros(count, dtype=np.int64)
    kept = strata(view.target, view.schema.task)
    if kept is not None:
        np.maximum.at(label, codes, kept)
    labels = label[order]
    joins = np.empty(count)
    for each in np.unique(labels):
        mine = labels == each
        before = np.cumsum(sizes[mine]) - sizes[mine]
        joins[order[mine]] = before / sizes[mine].sum()
    return joins[codes]


def shares_of(run: FinishedRun) -> tuple[float, ...]:
    """The shares that a run has rows and units enough for; empty when a curve makes no sense."""
    least = 0.0
    for number in range(num_folds(run)):
        view = run.prepared.fold(number)[0]
        least = max(
            least,
            FEWEST_ROWS / view.num_rows,
            FEWEST_UNITS / dense(view.units)[1],
        )
        if has_classes(view.schema.task):
            counts = np.bincount(view.target, minlength=view.schema.num_classes)
            least = max(least, FEWEST_OF_CLASS / max(1, int(counts[counts > 0].min())))
    if least <= SHARES[0]:
        return SHARES
    if least > 0.5:
        return ()
    return tuple(float(round(share, 4)) for share in np.geomspace(least, 1.0, 5)[:-1])


def learning_curve(run: FinishedRun, shares: Sequence[float] | None = None) -> Curve:
    """Fit the chosen candidate on shares of the rows, or find them, and weigh what lies beyond.

    Args:
        run: a finished run.
        shares: to fit beside all rows; by default those that the rows suffice for.

    Raises:
        DataError: too few rows, units or rows of a class for three sizes.
    """
    wanted = shares_of(run) if shares is None else tuple(shares)
    if len(wanted) + 1 < FEWEST_SIZES:
        raise DataError(
            "The rows are too few for a learning curve: half of a fold's training rows must hold "
            f"at least {FEWEST_ROWS} rows, {FEWEST_UNITS} independent units and "
            f"{FEWEST_OF_CLASS} rows of every class."
        )
    by_time = run.prepared.fold(0)[0].order is not None
    draws = [_draws(run, share, by_time) for share in wanted]
    draws.append([as_run(run)])
    return _curve(run, (*wanted, 1.0), draws, by_time)


def _draws(run: FinishedRun, share: float, by_time: bool) -> list[Refitted]:
    return [refit(run, variant) for variant in _variants(run, share, by_time)]


def _variants(run: FinishedRun, share: float, by_time: bool) -> list[Variant]:
    repeats = 1 if by_time else REPEATS.get(share, 3 if share <= 0.3 else 2)
    found = []
    for repeat in range(repeats):
        seed = child_seed(run.context.spec.seed, "curve", repeat)
        told = "" if repeats == 1 else f", draw {repeat + 1} of {repeats}"

        def learn(view: TrainView, seed: int = seed) -> TrainView:
            return nested_part(view, share, seed)

        found.append(
            Variant(
                f"{run.chosen} on {100 * share:.3g} % of the rows{told}",
                {"share": share, "draw": repeat},
                learn=learn,
            )
        )
    return found


def fits_to_make(run: FinishedRun) -> float:
    """How many times all rows a learning curve still has to be fitted on, all its shares summed."""
    by_time = run.prepared.fold(0)[0].order is not None
    return sum(
        share
        for share in shares_of(run)
        for variant in _variants(run, share, by_time)
        if not is_known(run, variant)
    )


def curve_metric(run: FinishedRun) -> Metric:
    """The metric that ranks, or the task's own where that one has no smooth error."""
    wanted = metric(run.metric, run.schema.task)
    scored = run.scored()
    view = run.outcomes(scored.rows)
    known = wanted.score(rows_of(run, scored, view)).influence is not None
    return wanted if known else default_metric(run.schema.task)


def rows_of(run: FinishedRun, scored: Scored, view: TrainView) -> Rows:
    """Predictions of training rows, ready to be scored."""
    return Rows.build(
        view.target,
        scored.prediction,
        values=None if has_classes(run.schema.task) else run.schema.task,
        weight=view.weight,
        threshold=run.threshold,
        folds=scored.fold,
    )


def _curve(
    run: FinishedRun, shares: Sequence[float], draws: Sequence[Sequence[Refitted]], by_time: bool
) -> Curve:
    goal = curve_metric(run)
    view = run.outcomes(draws[-1][0].scored.rows)
    units = Units.build(run.observed(view), view.num_rows)
    values: list[Floats] = []
    moved: list[Floats] = []
    folds: list[Floats] = []
    for same in draws:
        rows = [rows_of(run, each.scored, view) for each in same]
        scored = [goal.score(each) for each in rows]
        values.append(np.array([each.value for each in scored]))
        moved.append(_mean_influence(scored))
        folds.append(_by_fold(goal, rows[0]))
    weight = np.ones(view.num_rows) if view.weight is None else view.weight
    sums = np.column_stack([units.sums(weight * each) for each in moved])
    covariance = sums.T @ sums / weight.sum() ** 2 * units.count / (units.count - 1)
    sizes = np.array([np.mean([each.num_rows for each in same]) for same in draws])
    noise = luck(values, folds, sizes, np.array(shares), by_time=by_time)
    losses = np.array([-goal.sign * float(each.mean()) for each in values])
    best = goal.bounds[1] if goal.higher_is_better else goal.bounds[0]
    law = fit_power_law(
        sizes,
        losses,
        covariance,
        noise=noise,
        floor=-goal.sign * best,
        seed=child_seed(run.context.spec.seed, "extrapolate"),
    )
    points = tuple(
        CurvePoint(
            share,
            float(size),
            float(value.mean()),
            float(np.sqrt(variance)),
            len(same),
            sum(each.seconds for each in same),
        )
        for share, size, value, variance, same in zip(
            shares, sizes, values, noise, draws, strict=True
        )
    )
    return Curve(goal, points, law, by_time, tuple(tuple(same) for same in draws), covariance)


def _mean_influence(scored: Sequence[Scoring]) -> Floats:
    parts = [each.influence for each in scored if each.influence is not None]
    assert len(parts) == len(scored), "curve_metric takes metrics with influences only"
    return np.asarray(np.mean(parts, axis=0), dtype=np.float64)


def luck(
    values: Sequence[Floats],
    folds: Sequence[Floats],
    sizes: Floats,
    shares: Floats,
    *,
    by_time: bool,
) -> Floats:
    """Variance of each size's mean score by the rows that were learned from.

    Args:
        values: the score of each draw, for each size.
        folds: the score of each fold in the first draw, for each size.
        sizes: rows learned from.
        shares: of the training rows.
        by_time: whether a share can be drawn in one way only; then the folds have to tell.
    """
    return _of_folds(folds) if by_time else _of_draws(values, sizes, shares)


def _by_fold(goal: Metric, rows: Rows) -> Floats:
    assert rows.folds is not None
    return np.array(
        [
            goal.score(rows.take(np.flatnonzero(rows.folds == number).astype(np.int64))).value
            for number in range(int(rows.folds.max()) + 1)
        ]
    )


def _of_draws(values: Sequence[Floats], sizes: Floats, shares: Floats) -> Floats:
    """Variance of each mean score by the rows learned from, told by the draws of all sizes.

    Draws from the same rows overlap, so their variance is too small by the share that is drawn.
    """
    squares, free = 0.0, 0
    for value, size, share in zip(values, sizes, shares, strict=True):
        if value.size > 1:
            squares += float(((value - value.mean()) ** 2).sum()) * size**FADING / (1 - share)
            free += value.size - 1
    repeats = np.array([value.size for value in values])
    return np.asarray(squares / max(free, 1) / sizes**FADING / repeats, dtype=np.float64)


def _of_folds(folds: Sequence[Floats]) -> Floats:
    """The same from how unlike the folds gain, where a share can be drawn in one way only."""
    gained = np.array([fold - folds[-1] for fold in folds])
    count = np.isfinite(gained).sum(axis=1)
    found = np.nanvar(gained, axis=1, ddof=1) / np.maximum(count, 1)
    found[-1] = found[-2]
    return np.asarray(np.nan_to_num(found), dtype=np.float64)
