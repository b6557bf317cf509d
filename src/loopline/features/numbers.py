"""Numbers and booleans: missing cells, infinities, scaling.

Infinities are treated as missing. The missing indicator is made only when a cell was missing in
training, since a column that never varies teaches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import NormalDist
from typing import ClassVar, Literal

import numpy as np
import polars as pl

from loopline.errors import DataError
from loopline.features.base import NAN, Floats, Output, Step, refuse_missing
from loopline.features.readers import Reading
from loopline.features.reading import as_floats

Scaling = Literal["none", "standard", "robust", "quantile"]

NUM_KNOTS = 257
"""Landmarks of quantile scaling: every 1/256 of the training rows."""


def _no_floats() -> Floats:
    return np.empty(0)


@dataclass(frozen=True, eq=False)
class NumberStep(Step):
    """One number: filled, scaled, and with an indicator of what was missing.

    Args:
        source: the raw column.
        fill_value: what a missing cell becomes before scaling; None keeps it as NaN.
        refuse: whether a missing cell is an error.
        indicator: whether a second output says which cells were missing.
        center: subtracted from the value; `center` and `scale` are None without scaling.
        scale: what the centred value is divided by.
        knots: for quantile scaling, the training quantiles, strictly rising (else empty).
        scores: the normal scores at the knots; between them the map is linear, outside it is flat.
    """

    kind: ClassVar[str] = "number"
    source: str
    fill_value: float | None = None
    refuse: bool = False
    indicator: bool = False
    center: float | None = None
    scale: float | None = None
    knots: Floats = field(default_factory=_no_floats)
    scores: Floats = field(default_factory=_no_floats)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The number, and its missing indicator where there is one."""
        value = Output(self.source, self.source)
        if not self.indicator:
            return (value,)
        return (value, Output(f"{self.source}=missing", self.source))

    def fill(self, values: pl.Series, out: Floats) -> None:
        """See `Step.fill`."""
        x = as_floats(values)
        known = np.isfinite(x)
        if self.indicator:
            np.logical_not(known, out=out[:, 1], casting="unsafe")
        if not known.all():
            if self.refuse:
                refuse_missing(self.source, ~known)
            x = np.where(known, x, NAN if self.fill_value is None else self.fill_value)
        if len(self.knots):
            out[:, 0] = self._scores_of(x)
        elif self.center is None or self.scale is None:
            out[:, 0] = x
        else:
            with np.errstate(over="ignore"):
                out[:, 0] = (x - self.center) / self.scale

    def reading(self) -> Reading:
        """See `Step.reading`."""
        data = {
            "indicator": self.indicator,
            "center": self.center,
            "scale": self.scale,
            "absent": None if self.refuse else self.one_by_table(None),
        }
        return Reading("number", data, {"knots": self.knots, "scores": self.scores})

    def _slopes(self) -> Floats:
        return np.diff(self.scores) / np.diff(self.knots)

    def _scores_of(self, x: Floats) -> Floats:
        x = np.clip(x, self.knots[0], self.knots[-1])
        at = np.searchsorted(self.knots, x, side="right") - 1
        at = np.minimum(at, len(self.knots) - 2)
        return self.scores[at] + (x - self.knots[at]) * self._slopes()[at]


def learn_number(
    values: pl.Series,
    *,
    scaling: Scaling,
    missing: str,
    constant: float | None = None,
    indicator: bool,
) -> NumberStep:
    """Learn a number step from a training column.

    Args:
        values: the column's training rows.
        scaling: ``standard`` subtracts the mean and divides by the standard deviation (of the rows,
            not n - 1), ``robust`` uses the median and the distance between the quartiles,
            ``quantile`` maps the value to the normal score of its rank, ``none`` leaves it.
            All are learned from the cells that are there.
        missing: ``keep``, ``error``, ``mean``, ``median``, ``most_frequent`` or ``constant``.
        constant: the value for ``constant``.
        indicator: whether to add the indicator when a cell is missing here.

    Raises:
        DataError: text that is no number, or a missing cell under ``error``.
    """
    x = as_floats(values)
    known = np.isfinite(x)
    if missing == "error":
        refuse_missing(values.name, ~known)
    num_missing = len(x) - int(known.sum())
    x = x[known] if num_missing else x
    knots, scores = _knots(x) if scaling == "quantile" else (_no_floats(), _no_floats())
    center, scale = _center_and_scale(x, scaling)
    return NumberStep(
        source=values.name,
        fill_value=_fill_value(x, missing, constant, values.name),
        refuse=missing == "error",
        indicator=indicator and num_missing > 0,
        center=center,
        scale=scale,
        knots=knots,
        scores=scores,
    )


def _fill_value(x: Floats, missing: str, constant: float | None, name: str) -> float | None:
    if missing in ("keep", "error"):
        return None
    if missing == "constant":
        if isinstance(constant, str) or constant is None or not np.isfinite(float(constant)):
            raise DataError(
                f"Column {name!r} has missing='constant', which for numbers needs a finite number "
                f"as `fill`, got {constant!r}."
            )
        return float(constant)
    if not len(x):
        return 0.0
    if missing == "mean":
        return _mean_and_deviation(x)[0]
    if missing == "median":
        return float(np.median(x))
    uniques, counts = np.unique(x, return_counts=True)
    return float(uniques[np.argmax(counts)])


def _center_and_scale(x: Floats, scaling: Scaling) -> tuple[float | None, float | None]:
    if scaling in ("none", "quantile"):
        return None, None
    if not len(x):
        return 0.0, 1.0
    if scaling == "standard":
        mean, deviation = _mean_and_deviation(x)
        return mean, deviation or 1.0
    low, middle, high = (float(q) for q in np.quantile(x, [0.25, 0.5, 0.75]))
    return middle, (high - low) or _mean_and_deviation(x)[1] or 1.0


def _mean_and_deviation(x: Floats) -> tuple[float, float]:
    low, high = float(x.min()), float(x.max())
    if low == high:
        return low, 0.0
    # Squares of numbers beyond 1e150 overflow: shrink them first.
    unit = max(abs(low), abs(high)) if max(abs(low), abs(high)) > 1e150 else 1.0
    scaled = x / unit if unit != 1.0 else x
    return float(scaled.mean()) * unit, float(scaled.std()) * unit


def _knots(x: Floats) -> tuple[Floats, Floats]:
    """Training quantiles and their normal scores; ties share the middle of their ranks."""
    if not len(x):
        return np.array([0.0, 1.0]), np.zeros(2)
    ranks = np.linspace(0.0, 1.0, NUM_KNOTS)
    quantiles = np.quantile(x, ranks)
    knots, first, counts = np.unique(quantiles, return_index=True, return_counts=True)
    middle = ranks[first] / 2 + ranks[first + counts - 1] / 2
    edge = 1 / (2 * NUM_KNOTS)
    normal = NormalDist()
    scores = [round(normal.inv_cdf(min(max(float(p), edge), 1 - edge)), 12) for p in middle]
    if len(knots) == 1:
        return np.array([knots[0], knots[0] + max(1.0, abs(knots[0]))]), np.zeros(2)
    return knots, np.array(scores)
