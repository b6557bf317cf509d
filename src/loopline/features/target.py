"""Target encoding: a category of many values becomes the mean target of its level.

A level's encoding is its mean pulled towards the mean of all training rows, with the strength of
`smoothing` rows (Micci-Barreca, 2001: "A preprocessing scheme for high-cardinality categorical
attributes"): ``(sum + smoothing * prior) / (count + smoothing)``.

A row that helped to make its own encoding tells the model its own label, which then looks like
skill. So the training matrix never holds the encodings that serving uses:

- without time, units are dealt into folds and a row is encoded by the rows of the *other* folds;
- with time, a row is encoded by rows that are strictly *earlier*, its own unit left out.

The prior is one number for all rows. (A prior per fold would be low exactly where the fold's own
labels are high, which a tree can read.) Serving uses all training rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from loopline.features.base import Floats, Output
from loopline.features.categories import LevelStep, OrdinalStep

Codes = NDArray[np.int64]


def _no_table() -> Floats:
    return np.empty((0, 0))


@dataclass(frozen=True, eq=False)
class TargetStep(LevelStep):
    """The mean target of the level: one output, or one a class for three and more classes.

    Args:
        suffixes: what each output's name adds to the column's, for example ``target`` or a class.
        encodings: shape (levels + 2, outputs): the levels, unseen (the prior), missing.
    """

    kind: ClassVar[str] = "target"
    suffixes: tuple[str, ...] = ()
    encodings: Floats = field(default_factory=_no_table)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """One for each suffix."""
        return tuple(Output(f"{self.source}~{name}", self.source) for name in self.suffixes)

    def lookup(self) -> Floats:
        """See `LevelStep.lookup`."""
        return self.encodings


@dataclass(frozen=True)
class Outcome:
    """What encodings are made of: target columns, weights, units and order of the training rows.

    Args:
        targets: shape (rows, outputs): indicators of the class, or the values.
        suffixes: a name for each.
        weight: shape (rows,), mean 1, or None.
        units: rows of a unit never encode one another.
        order: rank in time, or None.
    """

    targets: Floats
    suffixes: tuple[str, ...]
    weight: Floats | None
    units: Codes
    order: Codes | None

    @property
    def prior(self) -> Floats:
        """The (weighted) mean of each target column."""
        if not len(self.targets):
            return np.zeros(self.targets.shape[1])
        return np.asarray(np.average(self.targets, axis=0, weights=self.weight))


def learn_target(
    coder: OrdinalStep, codes: Codes, outcome: Outcome, *, smoothing: float
) -> TargetStep:
    """The encodings that serving uses: from all training rows.

    Args:
        coder: the column's levels and its policy for missing cells; a missing cell that stays
            missing is a level of its own.
        codes: code of each training row over `coder`'s levels, missing cells replaced.
        outcome: targets and weights.
        smoothing: strength of the prior in rows, 0 or more.
    """
    sums, weights = _sums(codes, outcome, len(coder.levels) + 2)
    return TargetStep(
        coder.source,
        coder.levels,
        coder.by_number,
        coder.refuse,
        coder.replacement,
        suffixes=outcome.suffixes,
        encodings=_pulled(sums, weights[:, None], outcome.prior, smoothing),
    )


def encode_training(
    codes: Codes, outcome: Outcome, *, smoothing: float, num_folds: int, seed: int
) -> Floats:
    """Encodings of the training rows, none of them made with its own label; (rows, outputs)."""
    if outcome.order is not None:
        return _encode_forward(codes, outcome, outcome.order, smoothing)
    return _encode_crossed(codes, outcome, smoothing, num_folds, seed)


def _encode_crossed(
    codes: Codes, outcome: Outcome, smoothing: float, num_folds: int, seed: int
) -> Floats:
    uniques, inverse = np.unique(outcome.units, return_inverse=True)
    num_folds = min(num_folds, len(uniques))
    if num_folds < 2:
        return np.tile(outcome.prior, (len(codes), 1))
    fold_of_unit = np.random.default_rng(seed).permutation(len(uniques)) % num_folds
    folds = fold_of_unit[inverse]
    num_codes = int(codes.max()) + 1
    sums, weights = _sums(folds * num_codes + codes, outcome, num_folds * num_codes)
    sums = sums.reshape(num_folds, num_codes, -1)
    weights = weights.reshape(num_folds, num_codes, 1)
    out = np.empty((len(codes), sums.shape[2]))
    for fold in range(num_folds):
        # The others are added up, not subtracted from the whole: what rounding leaves of a
        # subtraction still tells the row's own label.
        others = np.arange(num_folds) != fold
        table = _pulled(
            sums[others].sum(axis=0), weights[others].sum(axis=0), outcome.prior, smoothing
        )
        rows = folds == fold
        out[rows] = table[codes[rows]]
    return out


def _encode_forward(codes: Codes, outcome: Outcome, order: Codes, smoothing: float) -> Floats:
    weight = np.ones(len(codes)) if outcome.weight is None else outcome.weight
    whole = np.zeros(len(codes), dtype=np.int64)
    before = _before(weight, codes, whole, order) - _before(weight, codes, outcome.units, order)
    out = np.empty(outcome.targets.shape)
    for column, prior in enumerate(outcome.prior):
        weighted = weight * outcome.targets[:, column]
        sums = _before(weighted, codes, whole, order)
        sums -= _before(weighted, codes, outcome.units, order)
        out[:, column] = _pulled(sums, np.maximum(before, 0.0), prior, smoothing)
    return out


def _before(values: Floats, codes: Codes, units: Codes, order: Codes) -> Floats:
    """Sum of the values of strictly earlier rows with the same code and unit, for each row."""
    by = np.lexsort((order, units, codes))
    sorted_codes, sorted_units, sorted_order = codes[by], units[by], order[by]
    new_group = np.ones(len(by), dtype=bool)
    new_group[1:] = (np.diff(sorted_codes) != 0) | (np.diff(sorted_units) != 0)
    new_time = new_group.copy()
    new_time[1:] |= np.diff(sorted_order) != 0
    running = np.concatenate([[0.0], np.cumsum(values[by])])
    places = np.arange(len(by))
    group_start = np.maximum.accumulate(np.where(new_group, places, 0))
    time_start = np.maximum.accumulate(np.where(new_time, places, 0))
    out = np.empty(len(by))
    out[by] = running[time_start] - running[group_start]
    return out


def _sums(codes: Codes, outcome: Outcome, size: int) -> tuple[Floats, Floats]:
    """Weighted target sums (size, outputs) and weights (size,) of each code."""
    weights = np.bincount(codes, weights=outcome.weight, minlength=size).astype(np.float64)
    sums = np.empty((size, outcome.targets.shape[1]))
    for column in range(sums.shape[1]):
        values = outcome.targets[:, column]
        if outcome.weight is not None:
            values = values * outcome.weight
        sums[:, column] = np.bincount(codes, weights=values, minlength=size)
    return sums, weights


def _pulled(sums: Floats, weights: Floats, prior: Floats, smoothing: float) -> Floats:
    strength = weights + smoothing
    known = strength > 0
    return np.where(known, (sums + smoothing * prior) / np.where(known, strength, 1.0), prior)
