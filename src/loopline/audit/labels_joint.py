"""Confident learning: which class a row most likely has, and how often labels are mixed up.

A row is confidently of a class when its out-of-fold probability of the class is at least the mean
probability among the rows that carry the class's label. Counting given labels against confident
classes gives the confident joint; scaled to the number of rows of each given label it estimates
how given and true labels stand together.

Source: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
JAIR 2021, sections 3.1 and 3.2 (equations 1 to 3).

Rows are read in blocks and the joint keeps only the pairs that occur, so 200,000 rows of 5,000
classes take a few tens of megabytes beside the predictions themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BLOCK_CELLS = 2_000_000
"""Probabilities looked at at a time (16 MB)."""
ROUNDING = 1e-9
"""A probability this little below the threshold counts as at it: means of equal numbers round."""


@dataclass(frozen=True, eq=False)
class NoiseMatrix:
    """How given and true labels stand together, as the pairs that occur.

    Args:
        given: class code of the given label of each pair, shape (pairs,).
        true: class code of the estimated true label, shape (pairs,).
        share: of all rows, shape (pairs,); they sum to 1.
        num_classes: number of classes.
    """

    given: Ints
    true: Ints
    share: Floats
    num_classes: int

    @property
    def off_diagonal(self) -> float:
        """Share of the rows whose given and true labels differ."""
        return float(self.share[self.given != self.true].sum())

    def dense(self) -> Floats:
        """The whole matrix, shape (classes, classes): row = given, column = true.

        >>> NoiseMatrix(np.array([0, 1]), np.array([0, 0]), np.array([0.75, 0.25]), 2).dense()
        array([[0.75, 0.  ],
               [0.25, 0.  ]])
        """
        matrix = np.zeros((self.num_classes, self.num_classes))
        matrix[self.given, self.true] = self.share
        return matrix

    def worst_pairs(self, number: int) -> list[tuple[int, int, float]]:
        """The pairs (given, true, share) of different labels that are mixed up most."""
        wrong = np.flatnonzero((self.given != self.true) & (self.share > 0))
        best = wrong[np.lexsort((wrong, -self.share[wrong]))[:number]]
        return [(int(self.given[p]), int(self.true[p]), float(self.share[p])) for p in best]


@dataclass(frozen=True, eq=False)
class Confidence:
    """What the probabilities say of each row.

    Args:
        margin: the largest probability of another class minus that of the given one, -1 to 1.
        other: that other class, shape (rows,).
        best: the most probable class, shape (rows,).
        sure: the probability of `best`, shape (rows,).
        confident: the class that the row is confidently of; -1 where there is none.
    """

    margin: Floats
    other: Ints
    best: Ints
    sure: Floats
    confident: Ints


def thresholds(prediction: Floats, given: Ints, num_classes: int) -> Floats:
    """Mean probability of each class among the rows labelled so; infinite where there are none.

    >>> p = np.array([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6]])
    >>> thresholds(p, np.array([0, 0, 1]), 2)
    array([0.8, 0.6])
    """
    own = prediction[np.arange(given.size), given]
    counts = np.bincount(given, minlength=num_classes)
    sums = np.bincount(given, weights=own, minlength=num_classes)
    means = np.full(num_classes, np.inf)
    return np.asarray(np.divide(sums, counts, out=means, where=counts > 0))


def read_confidence(prediction: Floats, given: Ints, least: Floats) -> Confidence:
    """Margin, best class and confident class of every row, block by block.

    Args:
        prediction: class probabilities, shape (rows, classes).
        given: class codes of the labels, shape (rows,).
        least: threshold of each class, shape (classes,).
    """
    size = given.size
    margin, sure = np.empty(size), np.empty(size)
    other, best, confident = (np.empty(size, dtype=np.int64) for _ in range(3))
    for block in _blocks(size, prediction.shape[1]):
        p = np.array(prediction[block], dtype=np.float64)
        here, labels = np.arange(p.shape[0]), given[block]
        best[block] = p.argmax(axis=1)
        sure[block] = p[here, best[block]]
        own = p[here, labels]
        enough = p >= least - ROUNDING
        p[~enough] -= 2.0  # below every class that has reached its threshold
        top = p.argmax(axis=1)
        confident[block] = np.where(enough[here, top], top, -1)
        p[~enough] += 2.0
        p[here, labels] = -1.0
        other[block] = p.argmax(axis=1)
        margin[block] = p[here, other[block]] - own
    return Confidence(margin, other, best, sure, confident)


def confident_joint(confident: Ints, given: Ints, num_classes: int) -> NoiseMatrix:
    """The joint of given and true labels, scaled to the counts of the given ones.

    Every class keeps at least one row on the diagonal, so that a class which no row is confidently
    of is not called wholly wrong.

    Args:
        confident: the class each row is confidently of, -1 for none.
        given: class codes of the labels.
        num_classes: number of classes.
    """
    present = np.flatnonzero(np.bincount(given, minlength=num_classes))
    counted = confident >= 0
    keys = given[counted] * num_classes + confident[counted]
    pairs, counts = np.unique(
        np.concatenate([keys, present * (num_classes + 1)]), return_counts=True
    )
    rows, columns = pairs // num_classes, pairs % num_classes
    diagonal = rows == columns
    shares = counts.astype(np.float64)
    shares[diagonal] = np.maximum(shares[diagonal] - 1.0, 1.0)
    totals = np.bincount(rows, weights=shares, minlength=num_classes)
    labels = np.bincount(given, minlength=num_classes)
    return NoiseMatrix(
        rows, columns, shares / totals[rows] * labels[rows] / given.size, num_classes
    )


def _blocks(num_rows: int, num_classes: int) -> Iterator[slice]:
    step = max(1, BLOCK_CELLS // max(1, num_classes))
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))
