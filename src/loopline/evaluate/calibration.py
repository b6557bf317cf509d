"""Making stated probabilities honest, and showing how honest they are.

A `Calibration` is learned from out-of-fold predictions (never from rows that the model was fitted
on, never from the test set), stored as plain data and applied to every later prediction. Both kinds
keep the order of the scores: isotonic exactly (it may make two scores equal), temperature up to
rounding in the last place, so the AUC stays what it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from loopline.errors import DataError, SettingsError
from loopline.evaluate import formulas
from loopline.evaluate.intervals import LEVEL, student_quantile
from loopline.evaluate.rows import Floats, Rows, plain

CalibrationKind = Literal["none", "isotonic", "temperature"]
CALIBRATION_KINDS: tuple[str, ...] = get_args(CalibrationKind)

_LOG_FLOOR = 1e-15
_SHARPEST, _FLATTEST = 20.0, 0.01
"""Limits of 1 / temperature: perfectly separated rows would send it to infinity."""


@dataclass(frozen=True)
class Calibration:
    """A learned map from probabilities to calibrated probabilities.

    Args:
        kind: "none", "isotonic" or "temperature".
        num_classes: number of probability columns.
        inverse_temperature: the power that probabilities are raised to before they are made to
            sum to 1 again; below 1 softens. 1 for the other kinds.
        knots: isotonic only: for each class (binary: class 1 alone) the probabilities and the
            calibrated values between which the map is linear.
    """

    kind: CalibrationKind
    num_classes: int
    inverse_temperature: float = 1.0
    knots: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()

    def apply(self, prediction: NDArray[Any]) -> Floats:
        """Calibrated probabilities, of the same shape as given: (rows,) or (rows, classes).

        Each row is treated alone, so one row and a million rows give the same bits.

        Raises:
            DataError: the number of columns is not the one that was learned.
        """
        given = np.asarray(prediction, dtype=np.float64)
        columns = given.shape[1] if given.ndim == 2 else 2
        if columns != self.num_classes:
            raise DataError(
                f"This calibration was learned for {self.num_classes} classes, "
                f"got predictions of the shape {given.shape}."
            )
        if self.kind == "none":
            return given
        if self.num_classes == 2:
            positive = given if given.ndim == 1 else given[:, 1]
            mapped = self._positive(positive)
            both: Floats = np.column_stack([1.0 - mapped, mapped])
            return mapped if given.ndim == 1 else both
        if self.kind == "temperature":
            return _softmax(_logs(given) * self.inverse_temperature)
        by_class: Floats = np.column_stack(
            [_interpolate(given[:, k], *self.knots[k]) for k in range(self.num_classes)]
        )
        return _shares(by_class)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it back to the same bits."""
        return {
            "kind": self.kind,
            "num_classes": self.num_classes,
            "inverse_temperature": self.inverse_temperature,
            "knots": [[list(x), list(y)] for x, y in self.knots],
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Calibration:
        """Read what `to_dict` wrote."""
        return Calibration(
            kind=data["kind"],
            num_classes=int(data["num_classes"]),
            inverse_temperature=float(data["inverse_temperature"]),
            knots=tuple((tuple(x), tuple(y)) for x, y in data["knots"]),
        )

    def _positive(self, positive: Floats) -> Floats:
        if self.kind == "isotonic":
            return _interpolate(positive, *self.knots[0])
        odds = (_logs(positive) - _logs(1.0 - positive)) * self.inverse_temperature
        return _expit(odds)


def fit_calibration(
    kind: str,
    y: NDArray[Any],
    out_of_fold: NDArray[Any],
    *,
    weight: NDArray[Any] | None = None,
) -> Calibration:
    """Learn a calibration from out-of-fold predictions.

    - ``"temperature"``: one number, found by Newton's method on the log loss (Guo et al. 2017).
      Safe from about 100 rows, and never reorders anything.
    - ``"isotonic"``: the best monotone steps (Zadrozny & Elkan 2002), linear between them; for
      several classes one map a class, then made to sum to 1. Follows any monotone distortion but
      wants 1,000 rows or more. Values stay off 0 and 1 by one part in (weight + 2), so that the
      log loss stays finite.
    - ``"none"``: leaves probabilities as they are.

    Args:
        kind: one of the above.
        y: class codes, shape (rows,).
        out_of_fold: predictions for rows that the predicting model has not seen.
        weight: weight of each row.

    Raises:
        SettingsError: no such kind.
        DataError: arrays that do not fit, or only one class in `y` (nothing can be learned).

    >>> y = np.tile([0, 1, 1, 1], 100)
    >>> fitted = fit_calibration("isotonic", y, np.full(400, 0.5))
    >>> fitted.apply(np.array([0.5])).tolist()
    [0.75]
    """
    if kind not in CALIBRATION_KINDS:
        raise SettingsError(
            [f"`calibration` must be one of {', '.join(CALIBRATION_KINDS)}, got {kind!r}."]
        )
    rows = Rows.build(y, out_of_fold, weight=weight)
    if kind == "none":
        return Calibration("none", rows.num_classes)
    if np.count_nonzero(np.bincount(rows.y, weights=rows.weight)) < 2:
        raise DataError(
            "A calibration needs rows of at least two classes; all rows given have "
            f"the class code {rows.y[0]}."
        )
    if kind == "temperature":
        return Calibration("temperature", rows.num_classes, _inverse_temperature(rows))
    if rows.task == "binary":
        return Calibration("isotonic", 2, knots=(_steps(rows.prediction, rows.y == 1, rows),))
    knots = tuple(_steps(rows.prediction[:, k], rows.y == k, rows) for k in range(rows.num_classes))
    return Calibration("isotonic", rows.num_classes, knots=knots)


def _logs(probability: Floats) -> Floats:
    return np.log(np.clip(probability, _LOG_FLOOR, 1.0))


def _expit(odds: Floats) -> Floats:
    small: Floats = np.exp(-np.abs(odds))
    larger: Floats = np.where(odds >= 0, 1.0, small)
    return larger / (1.0 + small)


def _softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return _shares(raised)


def _shares(positive: Floats) -> Floats:
    return np.asarray(positive / positive.sum(axis=1, keepdims=True), dtype=np.float64)


def _inverse_temperature(rows: Rows) -> float:
    """Minimise the weighted log loss over the power; it is convex, so Newton inside a bracket."""
    logits = _logs(rows.probabilities)
    weight = rows.weight / rows.weight.sum()
    given = weight @ logits[np.arange(rows.num_rows), rows.y]
    low, high, power = _FLATTEST, _SHARPEST, 1.0
    for _ in range(100):
        stated = _softmax(logits * power)
        mean = (stated * logits).sum(axis=1)
        slope = float(weight @ mean - given)
        curve = float(weight @ ((stated * logits**2).sum(axis=1) - mean**2))
        low, high = (low, power) if slope > 0 else (power, high)
        step = power - slope / curve if curve > 0 else math.inf
        following = step if low < step < high else 0.5 * (low + high)
        if abs(following - power) <= 1e-12 * power:
            return following
        power = following
    return power


def _steps(
    score: Floats, positive: NDArray[np.bool_], rows: Rows
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The isotonic steps as knots: the ends of every level piece."""
    from sklearn.isotonic import isotonic_regression

    distinct, group = np.unique(score[rows.weight > 0], return_inverse=True)
    group = group.reshape(-1)
    weight = rows.weight[rows.weight > 0]
    mass = np.bincount(group, weights=weight)
    rate = np.bincount(group, weights=weight * positive[rows.weight > 0]) / mass
    level = np.asarray(isotonic_regression(rate, sample_weight=mass), dtype=np.float64)
    least = 1.0 / (float(mass.sum()) + 2.0)
    level = np.maximum.accumulate(np.clip(level, least, 1.0 - least))
    change = np.flatnonzero(np.diff(level) != 0)
    ends = np.unique(np.concatenate([[0], change, change + 1, [len(level) - 1]]))
    return tuple(distinct[ends].tolist()), tuple(level[ends].tolist())


def _interpolate(value: Floats, at: tuple[float, ...], level: tuple[float, ...]) -> Floats:
    """Linear between knots, level outside, and monotone to the last bit."""
    knots, levels = np.asarray(at), np.asarray(level)
    right = np.searchsorted(knots, value, side="right")
    left = np.clip(right - 1, 0, len(knots) - 1)
    right = np.clip(right, 0, len(knots) - 1)
    width = knots[right] - knots[left]
    inside = width > 0
    part = np.divide(value - knots[left], width, out=np.zeros_like(value), where=inside)
    part = np.clip(part, 0.0, 1.0)
    # Every operation rounds monotonically and `part` stays below 1 before the next knot, so the
    # result never passes the knot's value.
    drawn: Floats = levels[left] + part * (levels[right] - levels[left])
    return drawn


@dataclass(frozen=True)
class ReliabilityBin:
    """One point of the reliability curve.

    Args:
        stated: mean probability stated in the bin.
        observed: share of its rows where it came true.
        low: lower end of the 95 % Wilson interval of `observed`.
        high: upper end.
        num_rows: rows in the bin.
        weight: their weight.
    """

    stated: float
    observed: float
    low: float
    high: float
    num_rows: int
    weight: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return plain(asdict(self))


def reliability(
    y: NDArray[Any],
    prediction: NDArray[Any],
    *,
    weight: NDArray[Any] | None = None,
    num_bins: int = 10,
) -> tuple[ReliabilityBin, ...]:
    """Stated against observed, in bins of about equal weight.

    Multiclass: the most probable class's probability against how often it is right. The intervals
    count a weighted bin as (sum w)^2 / sum w^2 rows.

    Raises:
        DataError: the arrays do not fit together.
        SettingsError: `num_bins` below 1.
    """
    if num_bins < 1:
        raise SettingsError([f"`num_bins` must be >= 1, got {num_bins}."])
    rows = Rows.build(y, prediction, weight=weight)
    outcome, stated = formulas.outcome_and_probability(rows)
    code = formulas.equal_mass_bins(stated, rows.weight, num_bins)
    mass = np.bincount(code, weights=rows.weight)
    trials = mass**2 / np.bincount(code, weights=rows.weight**2)
    mean = np.bincount(code, weights=rows.weight * stated) / mass
    rate = np.bincount(code, weights=rows.weight * outcome) / mass
    low, high = wilson(rate, trials)
    counts = np.bincount(code)
    return tuple(
        ReliabilityBin(
            stated=float(mean[k]),
            observed=float(rate[k]),
            low=float(low[k]),
            high=float(high[k]),
            num_rows=int(counts[k]),
            weight=float(mass[k]),
        )
        for k in range(len(mass))
    )


def wilson(share: Floats, trials: Floats, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Wilson's interval (1927) of shares, each seen in that many independent trials.

    >>> low, high = wilson(np.array([0.8]), np.array([100.0]))
    >>> round(float(low[0]), 4), round(float(high[0]), 4)
    (0.7112, 0.8666)
    """
    square = student_quantile((1 + level) / 2, math.inf) ** 2
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    spread = np.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    step = math.sqrt(square) / (1 + square / trials) * spread
    return np.clip(middle - step, 0.0, share), np.clip(middle + step, share, 1.0)


def ece(y: NDArray[Any], prediction: NDArray[Any], *, weight: NDArray[Any] | None = None) -> float:
    """Expected calibration error with chance's share taken off; see `formulas.ece`."""
    return formulas.ece(Rows.build(y, prediction, weight=weight)).value
