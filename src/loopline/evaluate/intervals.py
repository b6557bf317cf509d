"""Intervals for every metric: how far the score could be off because the rows are few.

The method follows from the metric's influence values (`loopline.evaluate.formulas`): they are
summed within each unit, their squares give the standard error, and the interval is built on a
scale on which the metric is nearly normal and from which it cannot leave its bounds.

- AUC: DeLong's variance on the logit scale.
- shares of rows (accuracy, precision, recall): Wilson's interval with the effective number of rows.
- F1: Wilson's interval of TP / (TP + FP + FN), of which F1 is a function.
- means of losses and their roots (log loss, RMSE …): as if the next row were the worst yet
  (`loopline.evaluate.tails`); R2 likewise; MCC: Fisher's z.
- calibration error: the multiples of the gaps seen under which their sum is usual
  (`loopline.evaluate.gaps`).
- median error: the distribution-free interval between order statistics (Woodruff 1952).
- precision at recall, recall at precision: bootstrap over units for the standard error.

Quantiles are Student's, with degrees of freedom from the units' own fourth moments (Satterthwaite):
few units, or few that carry the variance, give wider intervals.

**Where it holds and where it fails** (nominal 95 %; 2,000 simulated test sets a case, 400 for the
resampled metrics; `benchmarks/intervals.py` has the script and every number). From 100 to 5,000
rows, independent or in units of 2 to 10 rows, coverage is 93 to 97 % in 279 of 280 cases and 92.9 %
in one (R2 with heavy tails, 100 rows in 17 units); the calibration error's is 93 to 98 %. An RMSE
whose error comes from few rows: `benchmarks/tails.py`, and the table in `docs/honest-numbers.md`.

Losses of a kind that is rarer than one row of the set are seen by no method; the estimate's `note`
says when a few rows carry half of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.evaluate.formulas import (
    Scored,
    weighted_quantile,
)
from loopline.evaluate.gaps import PROFILE, Gaps
from loopline.evaluate.metrics import Metric
from loopline.evaluate.metrics import metric as read_metric
from loopline.evaluate.rows import Floats, Rows, Units, plain
from loopline.evaluate.tails import Moments, half_carriers, next_worst
from loopline.words import figure, interval

LEVEL = 0.95
BOOTSTRAP_REPEATS = 400
FEW = 8.0
"""Below this many degrees of freedom an interval says that it may be too short."""
WITHIN_FOLDS = ("auc", "pr_auc", "macro_auc", "macro_pr_auc")
"""Metrics of the order of scores: out of fold they compare rows of one fold only."""
BOOTSTRAP_ROWS = 20_000
"""Larger tables are resampled from this many rows; the error shrinks with the root of the rest."""


@dataclass(frozen=True)
class Estimate:
    """A number with the interval it could as well have been.

    Args:
        value: the metric on these rows; NaN where it is not defined.
        low: lower end; NaN where there is no interval.
        high: upper end.
        method: how the interval was made, in a few words.
        num_units: number of independent units (rows, or groups of rows) behind it.
        level: share of repetitions whose interval holds the truth.
        standard_error: of the value, on its own scale; NaN where unknown.
        freedom: degrees of freedom of the standard error; infinite where it counts as known.
        note: why there is no value or no interval, or what to beware of.
    """

    value: float
    low: float
    high: float
    method: str
    num_units: int
    level: float = LEVEL
    standard_error: float = float("nan")
    freedom: float = float("inf")
    note: str = ""

    @property
    def half_width(self) -> float:
        """Half the length of the interval."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        if math.isnan(self.value):
            return f"undefined ({self.note})"
        if math.isnan(self.low):
            return f"{figure(self.value)} [no interval: {self.note}]"
        return interval(self.value, self.low, self.high)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; NaN and infinity become None."""
        return plain(asdict(self))

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Estimate:
        """Read what `to_dict` wrote."""
        nan = float("nan")
        fixed: dict[str, Any] = {
            key: nan if value is None and key != "freedom" else value for key, value in data.items()
        }
        if fixed.get("freedom", 0) is None:
            fixed["freedom"] = math.inf
        return Estimate(**fixed)


def estimate(
    metric: Metric | str,
    y: NDArray[Any],
    prediction: NDArray[Any],
    *,
    units: NDArray[Any] | None = None,
    weight: NDArray[Any] | None = None,
    threshold: float = 0.5,
    level: float = LEVEL,
    seed: int = 0,
) -> Estimate:
    """A metric with its interval.

    Args:
        metric: the metric or its name.
        y: class codes or values, shape (rows,).
        prediction: as `FittedModel.predict` gives it; binary also (rows,).
        units: rows with equal entries count as one unit (a patient, a customer); None when rows
            are independent.
        weight: weight of each row.
        threshold: where a probability becomes the label 1 (binary).
        level: nominal coverage, in (0, 1).
        seed: of the bootstrap; only two metrics use it.

    Raises:
        DataError: the arrays do not fit together or the metric does not score such a task.

    >>> import numpy as np
    >>> y = np.repeat([0, 1], 50)
    >>> p = np.where(np.arange(100) % 5 == 0, 1 - y, y) * 0.8 + 0.1
    >>> str(estimate("accuracy", y, p))
    '0.8000 [0.7112, 0.8666]'
    """
    chosen = read_metric(metric) if isinstance(metric, str) else metric
    rows = chosen.rows(y, prediction, weight=weight, threshold=threshold)
    return estimate_rows(chosen, rows, Units.build(units, rows.num_rows), level=level, seed=seed)


def estimate_rows(
    metric: Metric, rows: Rows, units: Units, *, level: float = LEVEL, seed: int = 0
) -> Estimate:
    """`estimate` on rows that were checked before (many metrics of the same rows)."""
    scored = metric.score(rows)
    if math.isnan(scored.value):
        return _without_interval(scored.value, "none", units, level, scored.reason)
    if units.count < 2:
        return _without_interval(
            scored.value, "none", units, level, "an interval needs two independent units"
        )
    if scored.scale == "quantile":
        return _median_interval(scored, rows, units, level)
    if scored.scale == "calibration":
        return _calibration_interval(scored, rows, units, level)
    if scored.influence is not None:
        error, freedom = influence_error(scored.influence, rows, units)
        method = _METHODS[scored.scale]
        if metric.name in ("auc", "macro_auc"):
            method = "DeLong, logit scale"
    elif scored.reason:
        return _without_interval(scored.value, "none", units, level, scored.reason)
    else:
        error, freedom = bootstrap_error(metric, rows, None, units, seed), float(units.count - 1)
        method = "bootstrap, logit scale"
    if rows.folds is not None and metric.name in WITHIN_FOLDS:
        method += ", within folds"
    if units.code is not None:
        method += ", clustered"
    low, high = _ends(
        scored,
        rows,
        units,
        error=error,
        freedom=freedom,
        level=level,
        bounds=metric.bounds,
    )
    note = scored.reason
    if not note and scored.scale in {"log", "root"}:
        note = _tail_note(scored, rows, units)
    elif not note and freedom < FEW and freedom < units.count - 1:
        note = "a few rows carry most of the error: the interval may be too short"
    return Estimate(scored.value, low, high, method, units.count, level, error, freedom, note)


_METHODS = {
    "identity": "Student",
    "log": "Student, one worse row",
    "root": "Student, one worse row",
    "logit": "Student, logit scale",
    "wilson": "Wilson",
    "f1": "Wilson of the Jaccard share",
    "fisher": "Student, Fisher's z",
    "below_one": "Student, one worse row",
}


def influence_error(influence: Floats, rows: Rows, units: Units) -> tuple[float, float]:
    """Standard error from influence values and its degrees of freedom (Satterthwaite 1946)."""
    found = Moments.of(0.0, units.sums(rows.weight * influence), float(rows.weight.sum()))
    return found.error, found.freedom


def bootstrap_error(
    metric: Metric, rows: Rows, other: Rows | None, units: Units, seed: int
) -> float:
    """Standard error by resampling whole units; of the difference rows - other where given."""
    rng = np.random.default_rng(seed)
    shrink = 1.0
    if rows.num_rows > BOOTSTRAP_ROWS:
        rows, other, units, shrink = _fewer(rows, other, units, rng)
    values = []
    for _ in range(BOOTSTRAP_REPEATS):
        # A multinomial draw, seven times as fast as numpy's own.
        drawn = np.bincount(rng.integers(units.count, size=units.count), minlength=units.count)
        weight = rows.weight * units.spread(drawn.astype(np.float64))
        if weight.sum() <= 0:
            continue
        value = metric.score(rows.reweighted(weight)).value
        if other is not None:
            value -= metric.score(other.reweighted(weight)).value
        if not math.isnan(value):
            values.append(value)
    return float(np.std(values, ddof=1)) * shrink if len(values) > 1 else float("nan")


def _fewer(
    rows: Rows, other: Rows | None, units: Units, rng: np.random.Generator
) -> tuple[Rows, Rows | None, Units, float]:
    """A random part of the units with about BOOTSTRAP_ROWS rows, and the root of its share."""
    keep_units = max(2, round(units.count * BOOTSTRAP_ROWS / rows.num_rows))
    chosen = np.zeros(units.count, dtype=bool)
    chosen[rng.choice(units.count, size=keep_units, replace=False)] = True
    index = np.flatnonzero(chosen if units.code is None else chosen[units.code]).astype(np.int64)
    part = None if other is None else other.take(index)
    return rows.take(index), part, units.take(index), math.sqrt(keep_units / units.count)


def student_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t; the normal one for infinite degrees of freedom.

    >>> round(student_quantile(0.975, 10), 3), round(student_quantile(0.975, float("inf")), 3)
    (2.228, 1.96)
    """
    if math.isinf(freedom):
        return NormalDist().inv_cdf(probability)
    from scipy.special import stdtrit  # comes with scikit-learn and lightgbm

    return float(stdtrit(freedom, probability))


def student_tail(value: float, freedom: float) -> float:
    """Chance that Student's t exceeds `value`."""
    if math.isinf(freedom):
        return 1 - NormalDist().cdf(value)
    from scipy.special import stdtr

    return float(stdtr(freedom, -value))


def _without_interval(value: float, method: str, units: Units, level: float, note: str) -> Estimate:
    nan = float("nan")
    return Estimate(value, nan, nan, method, units.count, level, note=note)


def _ends(
    scored: Scored,
    rows: Rows,
    units: Units,
    *,
    error: float,
    freedom: float,
    level: float,
    bounds: tuple[float, float],
) -> tuple[float, float]:
    value, scale = scored.value, scored.scale
    quantile = student_quantile((1 + level) / 2, freedom)
    if scale in {"wilson", "f1"}:
        return _wilson_ends(scored, rows, units, error=error, quantile=quantile, level=level)
    if scale == "logit" and 0 < value < 1:
        step = quantile * error / (value * (1 - value))
        middle = math.log(value / (1 - value))
        return _inverse_logit(middle - step), _inverse_logit(middle + step)
    if scale == "fisher" and abs(value) < 1:
        step = quantile * error / (1 - value**2)
        return math.tanh(math.atanh(value) - step), math.tanh(math.atanh(value) + step)
    if scale in {"logit", "fisher"}:
        return _perfect_ends(scored, units, level, bounds)
    if scale in {"log", "root"} and value > 0:
        low, high = _loss_ends(scored, rows, units, level)
        return low, min(high, bounds[1])
    if scale == "below_one" and value < 1:
        return _share_ends(scored, rows, units, level)
    if scale == "log" and not math.isinf(bounds[1]):
        return 0.0, bounds[1] * (1 - ((1 - level) / 2) ** (1 / units.count))
    return max(value - quantile * error, bounds[0]), min(value + quantile * error, bounds[1])


def _loss_ends(scored: Scored, rows: Rows, units: Units, level: float) -> tuple[float, float]:
    """The ends for a mean of losses or its root; see `loopline.evaluate.tails`."""
    mean, sums = _loss(scored, rows, units)
    seen = Moments.of(mean, sums, float(rows.weight.sum()))
    feared = seen.fearing(_feared(scored, rows, units, sums))
    quantile = student_quantile((1 + level) / 2, seen.freedom)
    low, high = seen.steady_end(quantile), max(seen.end(quantile), feared.end(quantile))
    if scored.scale == "root":
        low, high = math.sqrt(low), math.sqrt(high)
    return min(low, scored.value), max(high, scored.value)  # whatever rounding did


def _feared(scored: Scored, rows: Rows, units: Units, sums: Floats) -> float:
    """How far above the mean the worst unit may lie that could have been drawn and was not.

    Single rows on a price list have no tail: nothing is dearer than the dearest mistake, and it is
    feared only where no row shows it.
    """
    assert scored.influence is not None
    worst = next_worst(sums) if units.code is not None or not scored.dearest else 0.0
    dearest = scored.dearest - scored.value
    if float(scored.influence.max()) < dearest * (1 - 1e-9):
        worst = max(worst, dearest * float(rows.weight.mean()))
    return max(worst, 0.0)


def _share_ends(scored: Scored, rows: Rows, units: Units, level: float) -> tuple[float, float]:
    """The ends for R2, whose 1 - R2 can be too small and too large for want of a row."""
    mean, sums = _loss(scored, rows, units)
    seen = Moments.of(mean, sums, float(rows.weight.sum()))
    quantile = student_quantile((1 + level) / 2, seen.freedom)
    more = seen.fearing(max(float(sums.max()), 0.0))
    less = seen.fearing(min(float(sums.min()), 0.0))
    low = min(seen.end(-quantile), less.end(-quantile))
    high = max(seen.end(quantile), more.end(quantile))
    return 1 - high, 1 - low


def _loss(scored: Scored, rows: Rows, units: Units) -> tuple[float, Floats]:
    """The mean loss behind a metric, and each unit's sum of weighted distances from it."""
    assert scored.influence is not None
    sums = units.sums(rows.weight * scored.influence)
    if scored.scale == "root":  # the squares, of whose mean the metric is the root
        return scored.value**2, sums * (2 * scored.value)
    if scored.scale == "below_one":
        return 1 - scored.value, -sums
    return scored.value, sums


def _tail_note(scored: Scored, rows: Rows, units: Units) -> str:
    """Whether so few rows carry half of the loss that others, not seen, may carry as much."""
    mean, sums = _loss(scored, rows, units)
    few = half_carriers(sums + mean * units.sums(rows.weight))
    if not few:
        return ""
    kind = "rows" if units.code is None else "units"
    verb = "carries" if few == 1 else "carry"
    return f"{few} of {units.count:,} {kind} {verb} half of the loss: the interval may be too short"


def _inverse_logit(value: float) -> float:
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))


def _perfect_ends(
    scored: Scored, units: Units, level: float, bounds: tuple[float, float]
) -> tuple[float, float]:
    """At the edge of the scale the error is 0: use the exact bound of k successes in k trials.

    For the AUC, k disjoint pairs of a positive and a negative row are independent trials, so the
    bound holds; it is wide, as it must be.
    """
    count = units.count if scored.support is None else units.count_where(scored.support)
    reach = (bounds[1] - bounds[0]) * (1 - ((1 - level) / 2) ** (1 / max(count, 1)))
    if scored.value >= bounds[1]:
        return bounds[1] - reach, bounds[1]
    return bounds[0], bounds[0] + reach


def _wilson_ends(
    scored: Scored, rows: Rows, units: Units, *, error: float, quantile: float, level: float
) -> tuple[float, float]:
    """Wilson's interval with the number of independent trials that would give this error."""
    share, slope = scored.value, 1.0
    if scored.scale == "f1":
        share, slope = scored.value / (2 - scored.value), 2 / (2 - scored.value) ** 2
    mask = np.ones(rows.num_rows, dtype=bool) if scored.support is None else scored.support
    weight = rows.weight[mask]
    most = float(weight.sum() ** 2 / (weight @ weight))
    if units.code is None and rows.weight.min() == rows.weight.max():
        trials, quantile = most, student_quantile((1 + level) / 2, math.inf)
    elif error > 0 and 0 < share < 1:
        trials = min(most, share * (1 - share) / (error * slope) ** 2)
    else:
        trials = min(most, float(units.count_where(mask)))
    trials = max(trials, 1.0)
    square = quantile**2
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    spread = share * (1 - share) / trials + square / (4 * trials**2)
    step = quantile / (1 + square / trials) * math.sqrt(spread)
    low, high = max(0.0, middle - step), min(1.0, middle + step)
    if share in {0.0, 1.0}:  # rounding must not push the value out of its own interval
        low, high = (0.0, high) if share == 0 else (low, 1.0)
    if scored.scale == "f1":
        return 2 * low / (1 + low), 2 * high / (1 + high)
    return low, high


def _median_interval(scored: Scored, rows: Rows, units: Units, level: float) -> Estimate:
    error = np.abs(rows.prediction - rows.y)
    below = (error <= scored.value).astype(np.float64)
    below -= np.average(below, weights=rows.weight)
    spread, _ = influence_error(below, rows, units)
    # The share of rows below the true median is a proportion around 1/2; its error cannot be less.
    spread = max(spread, 0.5 / math.sqrt(rows.num_rows))
    freedom = math.inf if units.code is None else float(units.count - 1)
    step = student_quantile((1 + level) / 2, freedom) * spread
    low = 0.0 if step >= 0.5 else weighted_quantile(error, rows.weight, 0.5 - step)
    high = float(error.max()) if step >= 0.5 else weighted_quantile(error, rows.weight, 0.5 + step)
    quantile = student_quantile((1 + level) / 2, math.inf)
    return Estimate(
        scored.value,
        low,
        high,
        "order statistics" + (", clustered" if units.code is not None else ""),
        units.count,
        level,
        (high - low) / (2 * quantile),
        freedom,
    )


def _calibration_interval(scored: Scored, rows: Rows, units: Units, level: float) -> Estimate:
    gaps = Gaps.of(rows, units)
    quantile = student_quantile((1 + level) / 2, gaps.freedom)
    low, high = gaps.ends(PROFILE * quantile)
    return Estimate(
        scored.value,
        min(low, scored.value),
        min(max(high, scored.value), 1.0),
        "sums of gaps usual under a multiple" + (", clustered" if units.code is not None else ""),
        units.count,
        level,
        gaps.sum_if(1.0)[1],
        gaps.freedom,
    )
