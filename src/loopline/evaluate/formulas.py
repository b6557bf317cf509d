"""The formula of every metric, with how much each row moves it.

Each function gives the metric's value and its *influence*: one number a row, psi_i, such that the
error of the value is about ``sum(w_i * psi_i) / sum(w_i)`` (the empirical influence function,
Hampel 1974). From it follow, in one pass and for any metric alike, the standard error, the error
when rows come in units (sum psi within the unit first), and the error of the paired difference of
two models (subtract their psi). For the AUC this is DeLong's method (DeLong et al. 1988) with the
fast ranks of Sun & Xu (2014).

All functions are exact under weights: a row of weight 2 counts as that row standing there twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loopline.evaluate.rows import Floats, Ints, Rows

Scale = Literal[
    "identity",
    "log",
    "root",
    "logit",
    "wilson",
    "f1",
    "fisher",
    "below_one",
    "quantile",
    "calibration",
]
"""The scale on which a metric's interval is built; see `loopline.evaluate.intervals`."""

PROBABILITY_FLOOR = float(np.finfo(np.float64).eps)
"""Log loss takes no probability for smaller than this, so that one row costs at most 36.04."""

CALIBRATION_BINS = 15
ROWS_PER_BIN = 20


@dataclass(frozen=True, eq=False)
class Scored:
    """A metric's value on some rows and what its interval needs.

    Args:
        value: the metric; NaN where it is not defined, and then `reason` says why.
        influence: psi of each row, shape (rows,), weighted mean 0; None for the metrics whose
            error is found by resampling.
        scale: the scale on which the interval is built.
        support: the rows that the value rests on (a recall rests on the positive rows).
        reason: why the value or the influence is missing.
        dearest: the most that one row can cost, where a price list says so; else 0.
    """

    value: float
    influence: Floats | None = None
    scale: Scale = "identity"
    support: NDArray[np.bool_] | None = None
    reason: str = ""
    dearest: float = 0.0


def undefined(reason: str) -> Scored:
    """A metric that has no value on these rows."""
    return Scored(value=float("nan"), reason=reason)


def mean_of(contribution: Floats, rows: Rows, scale: Scale) -> Scored:
    """A metric that is a mean over rows, from what each row gives to it."""
    value = float(np.average(contribution, weights=rows.weight))
    return Scored(value, contribution - value, scale)


def _root_of_mean(squares: Floats, rows: Rows) -> Scored:
    mean = float(np.average(squares, weights=rows.weight))
    root = float(np.sqrt(mean))
    influence = (squares - mean) / (2 * root) if root > 0 else np.zeros_like(squares)
    return Scored(root, influence, "root")


# Probabilities ------------------------------------------------------------------------------------


def log_loss(rows: Rows) -> Scored:
    """Mean of minus the logarithm of the probability given to what is true.

    Of several labels a row, each of which is there or not: the mean over them.
    """
    if rows.task in ("binary", "multilabel"):
        given = np.where(rows.y == 1, rows.prediction, 1.0 - rows.prediction)
    else:
        given = rows.prediction[np.arange(rows.num_rows), rows.y]
    losses = -np.log(np.clip(given, PROBABILITY_FLOOR, 1.0))
    return mean_of(losses.mean(axis=1) if rows.task == "multilabel" else losses, rows, "log")


def brier(rows: Rows) -> Scored:
    """Mean squared distance of the probabilities from the truth (multiclass: summed, 0 … 2)."""
    if rows.task == "binary":
        return mean_of((rows.prediction - rows.y) ** 2, rows, "log")
    truth = np.zeros_like(rows.prediction)
    truth[np.arange(rows.num_rows), rows.y] = 1.0
    return mean_of(((rows.prediction - truth) ** 2).sum(axis=1), rows, "log")


def auc(rows: Rows) -> Scored:
    """Area under the ROC curve; multiclass: mean over classes of one against the rest.

    Out-of-fold predictions come from several models, whose scores need not share a scale, so only
    rows of one fold are compared: sum over folds of concordant pairs / sum over folds of pairs.
    A constant per fold then has 0.5, where pooling the folds gives less (Forman & Scholz 2010).
    """
    if rows.task == "binary":
        return binary_auc(Ladder.build(rows, *rows.distinct), rows.y == 1, rows.weight)
    present = np.flatnonzero(np.bincount(rows.y, weights=rows.weight, minlength=rows.num_classes))
    if len(present) < 2:
        return undefined("only one class is present")
    parts = []
    for k in present:
        ladder = Ladder.of_column(rows, int(k))
        parts.append(binary_auc(ladder, rows.y == k, rows.weight))
    parts = [part for part in parts if np.isfinite(part.value)]
    if not parts:
        return undefined("no fold has rows of two classes")
    value = float(np.mean([part.value for part in parts]))
    influences = [part.influence for part in parts if part.influence is not None]
    if len(influences) < len(parts):
        return Scored(value, None, "logit", reason="a class has fewer than two rows")
    counts = np.bincount(rows.y, minlength=rows.num_classes)
    rarest = int(present[np.argmin(counts[present])])
    return Scored(value, np.mean(influences, axis=0), "logit", rows.y == rarest)


@dataclass(frozen=True, eq=False)
class Ladder:
    """Distinct scores, rising within each fold, one fold after another.

    Args:
        step: the step of each row, shape (rows,).
        starts: first step of each fold.
        fold: fold of each row, shape (rows,).
        num_steps: number of steps.
    """

    step: Ints
    starts: Ints
    fold: Ints
    num_steps: int

    @staticmethod
    def build(rows: Rows, values: Floats, place: Ints) -> Ladder:
        """The ladder of scores given as distinct values and each row's place among them."""
        if rows.folds is None:
            fold = np.zeros(len(place), dtype=np.int64)
            return Ladder(place, np.zeros(1, dtype=np.int64), fold, len(values))
        steps, step = np.unique(rows.folds * len(values) + place, return_inverse=True)
        starts = np.unique(steps // len(values), return_index=True)[1]
        return Ladder(step.reshape(-1), starts, rows.folds, len(steps))

    @staticmethod
    def of_column(rows: Rows, column: int) -> Ladder:
        """The ladder of one column of a matrix of probabilities."""
        values, place = np.unique(rows.prediction[:, column], return_inverse=True)
        return Ladder.build(rows, values, place.reshape(-1))

    def mass(self, weight: Floats) -> Floats:
        """Weight on each step."""
        return np.asarray(np.bincount(self.step, weights=weight, minlength=self.num_steps))

    def up_to(self, mass: Floats) -> Floats:
        """Sum over the steps of the same fold up to and including each."""
        return np.concatenate([np.cumsum(part) for part in np.split(mass, self.starts[1:])])

    def from_on(self, mass: Floats) -> Floats:
        """Sum over the steps of the same fold from each on."""
        parts = np.split(mass, self.starts[1:])
        return np.concatenate([np.cumsum(part[::-1])[::-1] for part in parts])

    def of_fold(self, weight: Floats) -> Floats:
        """The weight of each row's whole fold, shape (rows,)."""
        return np.asarray(np.bincount(self.fold, weights=weight)[self.fold])


def binary_auc(ladder: Ladder, positive: NDArray[np.bool_], weight: Floats) -> Scored:
    """The AUC of scores of which only the order within each fold is given.

    With U the weight of concordant pairs and D that of all pairs of one fold, the influence of a
    row is W (u - AUC d) / D, where u and d are the concordant pairs and the pairs it takes part in.
    """
    w_positive, w_negative = weight * positive, weight * ~positive
    if w_positive.sum() == 0 or w_negative.sum() == 0:
        return undefined("only one class is present")
    positives, negatives = ladder.mass(w_positive), ladder.mass(w_negative)
    # Weight of the other class on the right side of each step; ties count half.
    below = ladder.up_to(negatives) - 0.5 * negatives
    above = ladder.from_on(positives) - 0.5 * positives
    of_positive, of_negative = ladder.of_fold(w_positive), ladder.of_fold(w_negative)
    pairs = float(w_positive @ of_negative)
    if pairs == 0:
        return undefined("no fold has rows of both classes")
    value = float(positives @ below) / pairs
    num_positive = int(np.count_nonzero(w_positive))
    num_negative = int(np.count_nonzero(w_negative))
    if min(num_positive, num_negative) < 2:
        return Scored(value, None, "logit", reason="a class has fewer than two rows")
    # The factors n / (n - 1) make the sum of squares DeLong's unbiased variance.
    share = float(weight.sum()) / pairs
    for_positive = share * np.sqrt(num_positive / (num_positive - 1))
    for_negative = share * np.sqrt(num_negative / (num_negative - 1))
    influence = np.where(
        positive,
        (below[ladder.step] - value * of_negative) * for_positive,
        (above[ladder.step] - value * of_positive) * for_negative,
    )
    rarer = positive if num_positive <= num_negative else ~positive
    return Scored(value, influence, "logit", rarer)


def pr_auc(rows: Rows) -> Scored:
    """Average precision: the mean, over positive rows, of the precision at their score.

    The influence follows from writing it as E[Y A(S)/B(S)] / E[Y] with A(t) = P(Y=1, S>=t) and
    B(t) = P(S>=t), and differentiating A, B and E[Y]. Out of fold, A and B count the rows of the
    positive row's own fold, for the reason that `auc` gives.
    """
    return average_precision(Ladder.build(rows, *rows.distinct), rows.y == 1, rows.weight)


def average_precision(ladder: Ladder, positive: NDArray[np.bool_], weight: Floats) -> Scored:
    """`pr_auc` of scores of which only the order within each fold is given."""
    total = float(weight.sum())
    share = float(weight[positive].sum()) / total
    if share == 0:
        return undefined("no row is positive")
    hits = ladder.mass(weight * positive) / total
    reached = ladder.from_on(hits)
    flagged = ladder.from_on(ladder.mass(weight) / total)
    # A group of rows without weight at the very top has neither hits nor rows above it.
    precision = np.divide(reached, flagged, out=np.zeros_like(reached), where=flagged > 0)
    value = float(hits @ precision) / share
    per_row = np.divide(hits, flagged, out=np.zeros_like(hits), where=flagged > 0)
    gain = ladder.up_to(per_row) / share
    loss = ladder.up_to(per_row * precision) / share
    step = ladder.step
    influence = positive * ((precision[step] - value) / share + gain[step]) - loss[step]
    return Scored(value, influence, "logit", positive)


def ece(rows: Rows) -> Scored:
    """Expected calibration error over bins of equal weight, less what chance alone would show.

    Multiclass: the most probable class's probability against whether it was right. The plain sum
    of |gap| is above 0 even for a perfect model; twice the sum less its expectation under noise
    of the estimated size (folded normal) takes most of that away (Kumar et al. 2019, section 4).
    """
    bins = calibration_bins(rows)
    share, gap = bins.share, bins.gap
    error = np.sqrt(bins.variance)
    value = max(0.0, float(share @ (2 * np.abs(gap) - folded_mean(gap, error))))
    signs = np.sign(gap)[bins.code]
    influence = signs * bins.residual
    return Scored(value, influence - np.average(influence, weights=rows.weight), "calibration")


@dataclass(frozen=True, eq=False)
class CalibrationBins:
    """Rows put into bins of about equal weight by their probability.

    Args:
        code: bin of each row.
        share: weight of each bin, summing to 1.
        gap: observed rate less mean probability, by bin.
        variance: of each gap, rows taken as independent.
        residual: outcome less probability, by row.
    """

    code: Ints
    share: Floats
    gap: Floats
    variance: Floats
    residual: Floats


def outcome_and_probability(rows: Rows) -> tuple[Floats, Floats]:
    """What calibration compares: 0/1 outcomes and the probabilities stated for them."""
    if rows.task == "binary":
        return rows.y.astype(np.float64), rows.prediction
    label = rows.label
    return (label == rows.y).astype(np.float64), rows.prediction.max(axis=1)


def calibration_bins(rows: Rows, num_bins: int | None = None) -> CalibrationBins:
    """Bin rows by probability; equal probabilities always share a bin."""
    outcome, probability = outcome_and_probability(rows)
    wanted = num_bins or min(CALIBRATION_BINS, max(1, rows.num_rows // ROWS_PER_BIN))
    code = equal_mass_bins(probability, rows.weight, wanted)
    mass = np.bincount(code, weights=rows.weight)
    residual = outcome - probability
    gap = np.bincount(code, weights=rows.weight * residual) / mass
    counts = np.maximum(np.bincount(code), 2)
    squares = np.bincount(code, weights=(rows.weight * (residual - gap[code])) ** 2)
    variance = squares / mass**2 * counts / (counts - 1)
    return CalibrationBins(code, mass / mass.sum(), gap, variance, residual)


def equal_mass_bins(value: Floats, weight: Floats, num_bins: int) -> Ints:
    """Bin code of each row, 0 … at most num_bins - 1, without empty bins; ties stay together.

    >>> equal_mass_bins(np.array([0.1, 0.4, 0.2, 0.9]), np.ones(4), 2).tolist()
    [0, 1, 0, 1]
    """
    _, group = np.unique(value, return_inverse=True)
    group = group.reshape(-1)
    mass = np.bincount(group, weights=weight)
    middle = (np.cumsum(mass) - 0.5 * mass) / mass.sum()
    raw = np.minimum((middle * num_bins).astype(np.int64), num_bins - 1)[group]
    weighted = np.bincount(raw, weights=weight, minlength=num_bins) > 0
    # Rows without weight may stand alone in a bin: they join the nearest bin below (or the first).
    position = np.maximum(np.cumsum(weighted) - 1, 0)
    return np.asarray(position[raw], dtype=np.int64)


def folded_mean(mean: Floats, error: Floats) -> Floats:
    """Expected |X| of a normal X with that mean and standard error (Leone et al. 1961)."""
    safe = np.where(error > 0, error, 1.0)
    ratio = mean / safe
    from scipy.special import ndtr  # comes with scikit-learn and lightgbm

    density = np.sqrt(2 / np.pi) * safe * np.exp(-0.5 * ratio**2)
    folded = density + mean * (1 - 2 * ndtr(-ratio))
    return np.where(error > 0, folded, np.abs(mean))


# Labels -------------------------------------------------------------------------------------------


def accuracy(rows: Rows) -> Scored:
    """Share of rows whose label is right."""
    right = (rows.label == rows.y).astype(np.float64)
    scored = mean_of(right, rows, "wilson")
    return Scored(scored.value, scored.influence, "wilson", rows.weight > 0)


def cost(rows: Rows, false_positive: float, false_negative: float) -> Scored:
    """Mean price of a row's mistake."""
    label = rows.label
    price = false_positive * ((label == 1) & (rows.y == 0))
    price = price + false_negative * ((label == 0) & (rows.y == 1))
    scored = mean_of(price.astype(np.float64), rows, "log")
    possible = (false_positive * (label == 1).any(), false_negative * (label == 0).any())
    return replace(scored, dearest=float(max(possible)))


@dataclass(frozen=True, eq=False)
class _Shares:
    """Per class: hit, true and predicted share of the weight, and the rows behind each."""

    label: Ints
    hit: Floats
    true: Floats
    predicted: Floats
    present: NDArray[np.int64]


def _shares(rows: Rows) -> _Shares:
    label, size = rows.label, rows.num_classes
    total = rows.weight.sum()
    true = np.bincount(rows.y, weights=rows.weight, minlength=size) / total
    predicted = np.bincount(label, weights=rows.weight, minlength=size) / total
    hit = np.bincount(rows.y, weights=rows.weight * (label == rows.y), minlength=size) / total
    return _Shares(label, hit, true, predicted, np.flatnonzero(true + predicted))


def _class_ratio(
    rows: Rows, shares: _Shares, on_true: float, on_predicted: float
) -> tuple[Floats, Floats]:
    """Hit share over a mix of true and predicted share, by class, and its influence, by row.

    (1, 0) gives recalls, (0, 1) precisions, (1/2, 1/2) F1. A class whose denominator is 0 has the
    value 0, as scikit-learn does with ``zero_division=0``. The influence is of the macro mean.
    """
    base = on_true * shares.true + on_predicted * shares.predicted
    value = np.divide(shares.hit, base, out=np.zeros_like(base), where=base > 0)
    scale = np.divide(1.0, base, out=np.zeros_like(base), where=base > 0)
    right = shares.label == rows.y
    influence = right * scale[rows.y] - on_true * (value * scale)[rows.y]
    influence = influence - on_predicted * (value * scale)[shares.label]
    return value, influence


def _one_class_ratio(rows: Rows, shares: _Shares, on_true: float, on_predicted: float) -> Scored:
    """The ratio of class 1 alone: precision, recall or F1 of a binary task."""
    base = float(on_true * shares.true[1] + on_predicted * shares.predicted[1])
    value = float(shares.hit[1]) / base
    true, predicted = rows.y == 1, shares.label == 1
    influence = (true & predicted) - value * (on_true * true + on_predicted * predicted)
    support = (true & (on_true > 0)) | (predicted & (on_predicted > 0))
    scale: Scale = "f1" if on_true > 0 and on_predicted > 0 else "wilson"
    return Scored(value, influence / base, scale, support & (rows.weight > 0))


def _macro(rows: Rows, shares: _Shares, on_true: float, on_predicted: float) -> Scored:
    value, influence = _class_ratio(rows, shares, on_true, on_predicted)
    classes = shares.present
    there = np.flatnonzero(shares.true)
    rarest = int(there[np.argmin(shares.true[there])])
    return Scored(float(value[classes].mean()), influence / len(classes), "logit", rows.y == rarest)


def f1(rows: Rows) -> Scored:
    """Harmonic mean of precision and recall; multiclass: mean over classes."""
    shares = _shares(rows)
    if rows.task == "multiclass":
        return _macro(rows, shares, 0.5, 0.5)
    if shares.true[1] + shares.predicted[1] == 0:
        return undefined("no row is positive or labelled positive")
    return _one_class_ratio(rows, shares, 0.5, 0.5)


def precision(rows: Rows) -> Scored:
    """Share of the rows labelled positive that are; multiclass: mean over classes."""
    shares = _shares(rows)
    if rows.task == "multiclass":
        return _macro(rows, shares, 0.0, 1.0)
    if shares.predicted[1] == 0:
        return undefined("no row is labelled positive")
    return _one_class_ratio(rows, shares, 0.0, 1.0)


def recall(rows: Rows) -> Scored:
    """Share of the positive rows that are found; multiclass: mean over classes."""
    shares = _shares(rows)
    if rows.task == "multiclass":
        return _macro(rows, shares, 1.0, 0.0)
    if shares.true[1] == 0:
        return undefined("no row is positive")
    return _one_class_ratio(rows, shares, 1.0, 0.0)


def balanced_accuracy(rows: Rows) -> Scored:
    """Mean of the classes' recalls, over the classes that are present."""
    shares = _shares(rows)
    present = np.flatnonzero(shares.true)
    if len(present) < 2:
        return undefined("only one class is present")
    value, influence = _class_ratio(rows, shares, 1.0, 0.0)
    rarest = int(present[np.argmin(shares.true[present])])
    return Scored(float(value[present].mean()), influence / len(present), "logit", rows.y == rarest)


def mcc(rows: Rows) -> Scored:
    """Matthews correlation of truth and label (multiclass: Gorodkin's R_K); 0 for one label."""
    shares = _shares(rows)
    true, predicted = shares.true, shares.predicted
    spread_true, spread_predicted = 1 - float(true @ true), 1 - float(predicted @ predicted)
    if np.count_nonzero(true) < 2:
        return undefined("only one class is present")
    if np.count_nonzero(predicted) < 2:
        return Scored(0.0, np.zeros(rows.num_rows), "fisher", reason="all rows get one label")
    root = np.sqrt(spread_true * spread_predicted)
    agreement = float(shares.hit.sum())
    chance = float(true @ predicted)
    value = (agreement - chance) / root
    by_row = (shares.label == rows.y) - true[shares.label] - predicted[rows.y]
    over = (by_row - agreement + 2 * chance) / root
    under = (true @ true - true[rows.y]) / spread_true
    under = under + (predicted @ predicted - predicted[shares.label]) / spread_predicted
    rarest = int(np.flatnonzero(true)[np.argmin(true[true > 0])])
    # d(spread) = -2 (share - sum of squares), hence the plus sign and no factor 1/2.
    return Scored(float(value), over - value * under, "fisher", rows.y == rarest)


# Operating points ---------------------------------------------------------------------------------


def operating_points(rows: Rows) -> tuple[Floats, Floats, Floats, float]:
    """Distinct scores from high to low, and the weights of hits and false alarms at each.

    Returns:
        (thresholds, hits, false alarms, positive weight) where ``hits[i]`` is the weight of
        positive rows with a score >= ``thresholds[i]``.
    """
    thresholds, group = rows.distinct
    positive = rows.weight * (rows.y == 1)
    hits: Floats = np.cumsum(np.bincount(group, weights=positive)[::-1], dtype=np.float64)
    negative = rows.weight - positive
    alarms: Floats = np.cumsum(np.bincount(group, weights=negative)[::-1], dtype=np.float64)
    return thresholds[::-1], hits, alarms, float(hits[-1])


def cuts(scores: Floats) -> Floats:
    """Thresholds that tell distinct scores apart, from "label nothing" to "label all" (0).

    Between two neighbouring scores every threshold does the same; the middle is taken.

    Args:
        scores: distinct scores from high to low, as `operating_points` gives them.

    Returns:
        One threshold more than there are scores; the first labels nothing.

    >>> cuts(np.array([0.75, 0.25])).tolist()
    [1.0, 0.5, 0.0]
    """
    middle = 0.5 * (scores[:-1] + scores[1:])
    # Two scores may be so near that their middle rounds onto the lower one.
    middle = np.where(middle > scores[1:], middle, scores[:-1])
    nothing = 1.0 if scores[0] < 1.0 else float(np.nextafter(1.0, 2.0))
    return np.concatenate([[nothing], middle, [0.0]])


def nearest_half(thresholds: Floats) -> float:
    """The threshold nearest 1/2, of two as near the higher one."""
    away = np.abs(thresholds - 0.5)
    return float(thresholds[np.lexsort((-thresholds, away))[0]])


def precision_at_recall(rows: Rows, least: float) -> Scored:
    """Precision at the highest threshold whose recall is at least `least`."""
    _, hits, alarms, total = operating_points(rows)
    if total == 0:
        return undefined("no row is positive")
    # A hair of tolerance: sums of weights such as 0.1 must reach the recall they reach on paper.
    place = int(np.argmax(hits >= least * total * (1 - 1e-12)))
    return Scored(float(hits[place] / (hits[place] + alarms[place])), None, "logit", rows.y == 1)


def recall_at_precision(rows: Rows, least: float) -> Scored:
    """Largest recall among the thresholds whose precision is at least `least`; 0 if none is."""
    _, hits, alarms, total = operating_points(rows)
    if total == 0:
        return undefined("no row is positive")
    good = (hits > 0) & (hits >= least * (hits + alarms) * (1 - 1e-12))
    if not good.any():
        return Scored(0.0, None, "logit", rows.y == 1, f"no threshold has precision {least:g}")
    return Scored(float(hits[good].max() / total), None, "logit", rows.y == 1)


# Values -------------------------------------------------------------------------------------------


def mae(rows: Rows) -> Scored:
    """Mean absolute error."""
    return mean_of(np.abs(rows.prediction - rows.y), rows, "log")


def rmse(rows: Rows) -> Scored:
    """Root of the mean squared error."""
    return _root_of_mean((rows.prediction - rows.y) ** 2, rows)


def r2(rows: Rows) -> Scored:
    """One less the squared error over the variance of the target."""
    mean = np.average(rows.y, weights=rows.weight)
    deviation = (rows.y - mean) ** 2
    variance = float(np.average(deviation, weights=rows.weight))
    if variance == 0:
        return undefined("the target is constant")
    squares = (rows.prediction - rows.y) ** 2
    error = float(np.average(squares, weights=rows.weight))
    influence = -(squares - error) / variance + error / variance**2 * (deviation - variance)
    return Scored(1 - error / variance, influence, "below_one")


def mape(rows: Rows) -> Scored:
    """Mean absolute error relative to the true value."""
    if (rows.y == 0).any():
        return undefined("the target has zeros, for which a relative error has no meaning")
    return mean_of(np.abs((rows.prediction - rows.y) / rows.y), rows, "log")


def rmsle(rows: Rows) -> Scored:
    """Root of the mean squared error of log(1 + value); predictions below 0 count as 0."""
    if (rows.y < 0).any():
        return undefined("the target has values below 0, which have no logarithm here")
    return _root_of_mean((np.log1p(np.maximum(rows.prediction, 0)) - np.log1p(rows.y)) ** 2, rows)


def pinball(rows: Rows, quantile: float) -> Scored:
    """Mean pinball loss of predictions of the given quantile."""
    error = rows.y - rows.prediction
    return mean_of(np.maximum(quantile * error, (quantile - 1) * error), rows, "log")


def median_ae(rows: Rows) -> Scored:
    """Median absolute error."""
    error = np.abs(rows.prediction - rows.y)
    value = weighted_quantile(error, rows.weight, 0.5)
    return Scored(value, None, "quantile")


def weighted_quantile(value: Floats, weight: Floats, level: float) -> float:
    """Quantile of a weighted sample: the inverse distribution, the middle where it is flat.

    >>> weighted_quantile(np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4), 0.5)
    2.5
    """
    kept = weight > 0
    order = np.argsort(value[kept], kind="stable")
    ordered, mass = value[kept][order], np.cumsum(weight[kept][order])
    aim = level * mass[-1]
    slack = 1e-12 * mass[-1]
    low = int(np.searchsorted(mass, aim - slack, side="left"))
    high = int(np.searchsorted(mass, aim + slack, side="left"))
    last = len(ordered) - 1
    return float(0.5 * (ordered[min(low, last)] + ordered[min(high, last)]))


# Language -----------------------------------------------------------------------------------------


def bits_per_byte(rows: Rows) -> Scored:
    """Sum of the nats over the sum of the bytes, in bits: a ratio, so long texts count for more.

    Its influence is that of a ratio of means: (nats / ln 2 - value * bytes) / mean bytes.
    """
    return _bits(rows)


def byte_perplexity(rows: Rows) -> Scored:
    """2 to the bits per byte."""
    bits = _bits(rows)
    assert bits.influence is not None
    value = float(np.exp2(bits.value))
    return Scored(value, bits.influence * value * np.log(2.0))


def mean_reciprocal_rank(rows: Rows) -> Scored:
    """Mean of 1 / rank."""
    return mean_of(1.0 / rows.prediction, rows, "below_one")


def recall_at(most: int, rows: Rows) -> Scored:
    """Share of the rows whose rank is at most so large; half of a rank counts as not reached."""
    scored = mean_of((rows.prediction <= most).astype(np.float64), rows, "wilson")
    return Scored(scored.value, scored.influence, "wilson", rows.weight > 0)


def nats_per_row(rows: Rows) -> Scored:
    """Mean of the nats of a row's text."""
    return mean_of(rows.prediction, rows, "log")


def _bits(rows: Rows) -> Scored:
    bits = rows.prediction / np.log(2.0)
    size = float(np.average(rows.y, weights=rows.weight))
    value = float(np.average(bits, weights=rows.weight)) / size
    return Scored(value, (bits - value * rows.y) / size)
