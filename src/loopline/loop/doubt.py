"""Reasons to doubt new labels: they run against the model, jumped without cause, or have one giver.

None of them proves poison; each is a pattern that wrong labels make easily and a changing world
hardly. They are looked for in the champion's answers to fresh rows, which no label has touched.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from loopline.evaluate.rows import Floats, Rows
from loopline.words import figure

REVERSED_ERROR = 0.01
FEWEST_OF_ORIGIN = 30
"""An origin with fewer fresh rows than this says nothing alone."""
JUMP = 0.15
"""A class share that moves by more than this, while the inputs say nothing, is told of."""
FOLLOWED = 0.5
"""The inputs explain a jump when the predicted share moved by this part of it."""
FIVE_ERRORS = 5.0
LOSS_NAMES = {"binary": "log loss", "multiclass": "log loss", "regression": "squared error"}
"""What `losses` gives, by task."""


def losses(rows: Rows) -> Floats:
    """Each row's loss: log loss, clipped at 1e-6, or the squared error; shape (rows,)."""
    if rows.task == "regression":
        return np.asarray((rows.prediction - rows.y) ** 2, dtype=np.float64)
    given = rows.probabilities[np.arange(rows.num_rows), rows.y]
    return np.asarray(-np.log(np.clip(given, 1e-6, 1.0)), dtype=np.float64)


def agreement(rows: Rows) -> tuple[float, float]:
    """How far answers and labels go together, and its standard error where they do not at all.

    Spearman's correlation of label and answer for two classes and for values; for more classes
    the share of right answers above that of answers dealt at random.
    """
    n = rows.num_rows
    if rows.task == "multiclass":
        k = rows.num_classes
        right = float(np.mean(rows.label == rows.y))
        shares = [np.bincount(codes, minlength=k) / n for codes in (rows.label, rows.y)]
        by_chance = float(shares[0] @ shares[1])
        return right - by_chance, math.sqrt(max(by_chance * (1 - by_chance), 1e-12) / n)
    ranks = [_ranks(np.asarray(values, dtype=np.float64)) for values in (rows.y, rows.prediction)]
    spread = [float(np.std(values)) for values in ranks]
    if min(spread) == 0 or n < 3:
        return 0.0, 1.0
    together = float(np.mean((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean())))
    return together / (spread[0] * spread[1]), 1 / math.sqrt(n - 1)


def reversed_labels(rows: Rows) -> str | None:
    """A sentence when the labels surely run against the answers, else None.

    >>> y = np.tile([0, 1], 100)
    >>> rows = Rows.build(1 - y, np.where(y == 1, 0.8, 0.2))
    >>> reversed_labels(rows)
    'The fresh labels run against the champion (agreement -1.00): they look swapped.'
    """
    value, error = agreement(rows)
    if value < -2.33 * error:  # one-sided 1 %
        return (
            f"The fresh labels run against the champion (agreement {value:.2f}): they look swapped."
        )
    return None


def moved_labels(before: Rows, after: Rows) -> str | None:
    """A sentence when a class became more frequent and the inputs give no reason, else None."""
    if before.task == "regression":
        return None
    old = np.bincount(before.y, minlength=before.num_classes) / before.num_rows
    new = np.bincount(after.y, minlength=before.num_classes) / after.num_rows
    code = int(np.argmax(np.abs(new - old)))
    moved = float(new[code] - old[code])
    predicted = after.probabilities[:, code].mean() - before.probabilities[:, code].mean()
    error = math.sqrt(
        old[code] * (1 - old[code]) / before.num_rows + new[code] * (1 - new[code]) / after.num_rows
    )
    followed = float(predicted) / moved if moved else 1.0
    if abs(moved) <= max(JUMP, FIVE_ERRORS * error) or followed >= FOLLOWED:
        return None
    return (
        f"The share of class {code} went from {figure(float(old[code]))} to "
        f"{figure(float(new[code]))}, and the inputs give no reason for it."
    )


def one_origin(champion: Rows, challenger: Rows, origins: NDArray[np.generic]) -> str | None:
    """A sentence when the challenger's gain comes from one of several origins alone, else None.

    The gain of every other origin together must then be less than a fifth of that one's a row, or
    a loss.
    """
    gains = losses(champion) - losses(challenger)
    names, code, counts = np.unique(origins, return_inverse=True, return_counts=True)
    if len(names) < 2 or len(gains) - counts.max() < FEWEST_OF_ORIGIN:
        return None
    means = np.bincount(code, weights=gains) / counts
    able = np.flatnonzero(counts >= FEWEST_OF_ORIGIN)
    if not able.size:
        return None
    lead = int(able[np.argmax(means[able])])
    others = gains[code != lead]
    if means[lead] <= 0 or others.mean() >= means[lead] / 5:
        return None
    return (
        f"The change comes from {str(names[lead])!r} alone, who gave {counts[lead]:,} of "
        f"{len(gains):,} fresh labels: the other origins do not show it."
    )


def _ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[place], dtype=np.float64)
