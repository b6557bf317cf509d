"""From raw scores to class probabilities, exact at both ends of the float range.

Every family whose library would give 32-bit probabilities, or none, ends here, so that the rows
sum to one to the last bits and a score of ±1000 gives 0 and 1 without a warning.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def separate_probabilities(scores: Floats) -> Floats:
    """A probability of its own for each score, the log odds of one label; any shape.

    >>> separate_probabilities(np.array([[0.0, 1000.0]])).tolist()
    [[0.5, 1.0]]
    """
    small = np.exp(-np.abs(scores))
    return np.where(scores >= 0, 1.0, small) / (1.0 + small)


def probabilities(scores: Floats) -> Floats:
    """Class probabilities from scores.

    Args:
        scores: log odds of class 1, shape (rows,); or one score a class, shape (rows, classes).

    Returns:
        Shape (rows, 2) or (rows, classes), float64, C order.

    >>> probabilities(np.array([0.0, 1000.0])).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    if scores.ndim == 1:
        small = np.exp(-np.abs(scores))
        far = small / (1.0 + small)
        near = 1.0 / (1.0 + small)
        positive = scores >= 0
        return np.stack([np.where(positive, far, near), np.where(positive, near, far)], axis=1)
    shifted: Floats = np.exp(scores - scores.max(axis=1, keepdims=True))
    shifted /= shifted.sum(axis=1, keepdims=True)
    return shifted


def with_complement(positive: Floats) -> Floats:
    """Two columns from the probability of class 1, shape (rows,) to (rows, 2)."""
    out = np.empty((positive.shape[0], 2))
    np.subtract(1.0, positive, out=out[:, 0])
    out[:, 1] = positive
    return out
