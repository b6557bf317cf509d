"""The rows that a metric is computed on: truth, prediction and weight, checked once.

Every metric, interval, threshold and curve starts from a `Rows`, so the rules for shapes, classes
and weights stand here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.data.schema import Task, has_labels
from loopline.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SUM_TOLERANCE = 1e-4
"""How far a row of probabilities may be from summing to 1 (float32 models stay well inside)."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one task with checked shapes.

    Args:
        task: what is predicted.
        y: class codes (int64) or values (float64), shape (rows,); multilabel: 0 and 1 (int8), shape
            (rows, labels).
        prediction: binary: probability of the class with code 1, shape (rows,); multiclass and
            multilabel: probabilities, shape (rows, classes); otherwise values, shape (rows,).
        weight: weight of each row, >= 0, all 1 where none was given.
        threshold: a row is labelled 1 (binary), or has a label (multilabel), when its probability
            is >= `threshold`.
        folds: which model predicted each row, shape (rows,), for out-of-fold predictions; ranking
            metrics compare rows of one fold only. None when one model predicted them all.
    """

    task: Task
    y: NDArray[Any]
    prediction: Floats
    weight: Floats
    threshold: float = 0.5
    folds: Ints | None = None
    _found: dict[str, tuple[Floats, Ints]] = field(default_factory=dict, repr=False)

    @staticmethod
    def build(
        y: NDArray[Any],
        prediction: NDArray[Any],
        *,
        values: Task | None = None,
        weight: NDArray[Any] | None = None,
        threshold: float = 0.5,
        folds: NDArray[Any] | None = None,
    ) -> Rows:
        """Check the arrays and bring them into one form.

        A binary task may give probabilities as (rows, 2) or the second column alone as (rows,).

        Args:
            y: class codes or values, shape (rows,), or which labels each row has, (rows, labels).
            prediction: as `FittedModel.predict` gives it.
            values: the task, where rows have numbers; None where they have classes.
            weight: weight of each row, >= 0.
            threshold: where a probability becomes the label 1 (binary).
            folds: which model predicted each row.

        Raises:
            DataError: no rows, lengths that differ, a value that is not finite, a probability
                outside [0, 1], a class code without a column, or weights that are all 0.

        >>> import numpy as np
        >>> Rows.build(np.array([0, 1]), np.array([[0.8, 0.2], [0.4, 0.6]])).task
        'binary'
        """
        truth = np.asarray(y)
        guess = np.asarray(prediction, dtype=np.float64)
        several = values == "multilabel" or (truth.ndim == 2 and truth.shape[1] > 1)
        if several:
            _check_labels(truth, guess)
        else:
            _check_shapes(truth, guess, values is not None)
        num_rows = len(truth)
        if not np.isfinite(guess).all():
            row = int(np.flatnonzero(~np.isfinite(guess.reshape(num_rows, -1)).all(axis=1))[0])
            raise DataError(f"Predictions must be finite numbers; row {row} has {guess[row]}.")
        weights = _checked_weight(weight, num_rows)
        parts = _checked_folds(folds, num_rows)
        if several:
            _check_probabilities(guess, whole=False)
            return Rows("multilabel", truth.astype(np.int8), guess, weights, threshold, parts)
        if values is not None:
            numbers = truth.astype(np.float64)
            if not np.isfinite(numbers).all():
                row = int(np.flatnonzero(~np.isfinite(numbers))[0])
                raise DataError(
                    f"Target values must be finite numbers; row {row} has {truth[row]}."
                )
            return Rows(values, numbers, guess.reshape(num_rows), weights, threshold, parts)
        _check_probabilities(guess)
        num_classes = 2 if guess.ndim == 1 else guess.shape[1]
        codes = _checked_codes(truth, num_classes)
        if num_classes > 2:
            return Rows("multiclass", codes, guess, weights, threshold, parts)
        positive = guess if guess.ndim == 1 else np.ascontiguousarray(guess[:, 1])
        return Rows("binary", codes, positive, weights, threshold, parts)

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.y)

    @property
    def num_classes(self) -> int:
        """Number of classes or labels; 0 where rows have numbers."""
        if not has_labels(self.task):
            return 0
        return 2 if self.task == "binary" else int(self.prediction.shape[1])

    @property
    def probabilities(self) -> Floats:
        """Class probabilities of shape (rows, classes), also for a binary task."""
        if self.task == "binary":
            return np.column_stack([1.0 - self.prediction, self.prediction])
        return self.prediction

    @property
    def label(self) -> Ints:
        """Predicted class codes: by threshold (binary) or the most probable class.

        Of a multilabel task 0 and 1, shape (rows, labels), by threshold.
        """
        if self.task in ("binary", "multilabel"):
            return (self.prediction >= self.threshold).astype(np.int64)
        return np.asarray(self.prediction.argmax(axis=1), dtype=np.int64)

    def take(self, index: NDArray[np.int64]) -> Rows:
        """The rows at these positions."""
        return replace(
            self,
            y=self.y[index],
            prediction=self.prediction[index],
            weight=self.weight[index],
            folds=None if self.folds is None else self.folds[index],
            _found={},
        )

    def reweighted(self, weight: Floats) -> Rows:
        """The same rows with other weights; not checked again."""
        return replace(self, weight=weight)

    @property
    def distinct(self) -> tuple[Floats, Ints]:
        """Distinct predictions (binary, regression), rising, and each row's place among them.

        Sorted once for all metrics and all weights of the same rows.
        """
        if "distinct" not in self._found:
            values, place = np.unique(self.prediction, return_inverse=True)
            self._found["distinct"] = values, place.reshape(-1)
        return self._found["distinct"]


@dataclass(frozen=True, eq=False)
class Units:
    """Which rows belong together: the independent pieces that an interval may count.

    Args:
        code: unit of each row, 0 … count - 1, shape (rows,); None when every row is its own unit.
        count: number of units.
    """

    code: Ints | None
    count: int

    @staticmethod
    def build(units: NDArray[Any] | None, num_rows: int) -> Units:
        """Number the units; None means that rows are independent.

        Raises:
            DataError: the units do not have one entry a row.
        """
        if units is None:
            return Units(None, num_rows)
        given = np.asarray(units)
        if given.shape != (num_rows,):
            raise DataError(
                f"`units` must have one entry for each of the {num_rows} rows, "
                f"got the shape {given.shape}."
            )
        names, code = np.unique(given, return_inverse=True)
        if len(names) == num_rows:
            return Units(None, num_rows)
        return Units(code.reshape(-1).astype(np.int64), len(names))

    def sums(self, values: Floats) -> Floats:
        """Sum of `values` (rows,) within each unit, shape (count,)."""
        if self.code is None:
            return values
        sums = np.bincount(self.code, weights=values, minlength=self.count)
        return np.asarray(sums, dtype=np.float64)

    def spread(self, values: Floats) -> Floats:
        """One value a unit, shape (count,), given to every row of the unit."""
        return values if self.code is None else values[self.code]

    def count_where(self, mask: NDArray[np.bool_]) -> int:
        """Number of units with at least one row in `mask`."""
        if self.code is None:
            return int(np.count_nonzero(mask))
        return int(np.count_nonzero(np.bincount(self.code, weights=mask, minlength=self.count)))

    def take(self, index: NDArray[np.int64]) -> Units:
        """The units of the rows at these positions."""
        if self.code is None:
            return Units(None, len(index))
        return Units.build(self.code[index], len(index))


def _check_shapes(truth: NDArray[Any], guess: Floats, numbers: bool) -> None:
    if truth.ndim != 1:
        raise DataError(f"The target must have the shape (rows,), got {truth.shape}.")
    if len(truth) == 0:
        raise DataError("A metric needs at least one row, got none.")
    if guess.ndim not in {1, 2} or len(guess) != len(truth):
        raise DataError(
            f"Predictions must have one entry for each of the {len(truth)} rows, "
            f"got the shape {guess.shape}."
        )
    if numbers and guess.ndim == 2 and guess.shape[1] != 1:
        raise DataError(f"This task has one predicted value a row, got the shape {guess.shape}.")
    if not numbers and guess.ndim == 2 and guess.shape[1] < 2:
        raise DataError(
            f"Probabilities need a column for each of two or more classes, got {guess.shape}."
        )


def _check_labels(truth: NDArray[Any], guess: Floats) -> None:
    if truth.ndim != 2 or truth.shape != guess.shape or truth.shape[1] < 2:
        raise DataError(
            "Several labels a row need truth and probabilities of one shape (rows, labels), with "
            f"two or more labels; got {truth.shape} and {guess.shape}."
        )
    if len(truth) == 0:
        raise DataError("A metric needs at least one row, got none.")
    wrong = ~np.isin(truth, (0, 1))
    if wrong.any():
        row, label = np.argwhere(wrong)[0]
        raise DataError(
            f"A row has a label (1) or not (0); row {row} has {truth[row, label]} at label {label}."
        )


def _checked_weight(weight: NDArray[Any] | None, num_rows: int) -> Floats:
    if weight is None:
        return np.ones(num_rows)
    weights = np.asarray(weight, dtype=np.float64)
    if weights.shape != (num_rows,):
        raise DataError(
            f"`weight` must have one entry for each of the {num_rows} rows, "
            f"got the shape {weights.shape}."
        )
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(f"Weights must be finite and >= 0; row {row} has {weights[row]}.")
    if weights.sum() <= 0:
        raise DataError("At least one row must have a weight above 0; all weights are 0.")
    return weights


def _checked_folds(folds: NDArray[Any] | None, num_rows: int) -> Ints | None:
    if folds is None:
        return None
    given = np.asarray(folds)
    if given.shape != (num_rows,):
        raise DataError(
            f"`folds` must have one entry for each of the {num_rows:,} rows, "
            f"got the shape {given.shape}."
        )
    return np.unique(given, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _check_probabilities(guess: Floats, *, whole: bool = True) -> None:
    matrix = guess.reshape(len(guess), -1)
    outside = ((matrix < -SUM_TOLERANCE) | (matrix > 1 + SUM_TOLERANCE)).any(axis=1)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise DataError(f"Probabilities must lie in [0, 1]; row {row} has {guess[row]}.")
    if guess.ndim == 2 and whole:
        off = np.abs(matrix.sum(axis=1) - 1.0) > SUM_TOLERANCE
        if off.any():
            row = int(np.flatnonzero(off)[0])
            raise DataError(
                f"The probabilities of a row must sum to 1; row {row} sums to "
                f"{matrix[row].sum():.6g}."
            )


def _checked_codes(truth: NDArray[Any], num_classes: int) -> Ints:
    if truth.dtype.kind not in "iub":
        raise DataError(
            f"The target of a classification must be class codes (integers), got {truth.dtype}."
        )
    codes = truth.astype(np.int64)
    wrong = (codes < 0) | (codes >= num_classes)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"Class codes must lie in 0 … {num_classes - 1} (one probability column a class); "
            f"row {row} has {codes[row]}."
        )
    return codes


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with every NaN or infinite float as None, which JSON can hold."""
    return {
        key: None if isinstance(value, float) and not np.isfinite(value) else value
        for key, value in values.items()
    }
