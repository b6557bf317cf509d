"""The formulas of metrics where a row has several labels, with how much each row moves them.

A row's labels are seen together and depend on each other, so the row stays the piece that an
interval counts: what its labels give is summed before anything is squared. *Micro* pools all pairs
of a row and a label, so frequent labels weigh more; *macro* is the mean over labels, each alike.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from loopline.evaluate.formulas import (
    Ladder,
    Scored,
    average_precision,
    binary_auc,
    mean_of,
    undefined,
)
from loopline.evaluate.rows import Floats, Rows

FEWEST = 2
"""Rows with a label, and without it, that a ranking needs to have an error."""
_Ranking = Callable[[Ladder, NDArray[np.bool_], Floats], Scored]


def micro_f1(rows: Rows) -> Scored:
    """Harmonic mean of precision and recall over all pairs of a row and a label.

    2 TP / (2 TP + FP + FN), a ratio of two means over rows; the influence is that of a ratio.
    """
    label = rows.label
    hits = ((label == 1) & (rows.y == 1)).sum(axis=1).astype(np.float64)
    either = (label + rows.y).sum(axis=1).astype(np.float64)
    size = float(np.average(either, weights=rows.weight))
    if size == 0:
        return undefined("no row has a label or is given one")
    value = 2 * float(np.average(hits, weights=rows.weight)) / size
    return Scored(value, (2 * hits - value * either) / size, "logit", either > 0)


def macro_f1(rows: Rows) -> Scored:
    """Mean over labels of their F1, over the labels that some row has or is given."""
    label, weight = rows.label, rows.weight / rows.weight.sum()
    hits = (label == 1) & (rows.y == 1)
    size = weight @ label + weight @ rows.y
    there = np.flatnonzero(size > 0)
    if not there.size:
        return undefined("no row has a label or is given one")
    value = 2 * (weight @ hits)[there] / size[there]
    either = (label[:, there] + rows.y[:, there]) * (value / size[there])
    influence = (hits[:, there] * (2 / size[there]) - either).mean(axis=1)
    return Scored(float(value.mean()), influence, "logit", _of_rarest(rows))


def jaccard(rows: Rows) -> Scored:
    """Mean over rows of |given and true| / |given or true| labels; 1 where both are empty."""
    given, true = rows.label == 1, rows.y == 1
    either = (given | true).sum(axis=1)
    both = (given & true).sum(axis=1)
    share = np.divide(both, either, out=np.ones(rows.num_rows), where=either > 0)
    return mean_of(share, rows, "below_one")


def subset_accuracy(rows: Rows) -> Scored:
    """Share of rows whose whole set of labels is right."""
    scored = mean_of((rows.label == rows.y).all(axis=1).astype(np.float64), rows, "wilson")
    return Scored(scored.value, scored.influence, "wilson", rows.weight > 0)


def macro_auc(rows: Rows) -> Scored:
    """Mean over labels of the area under the ROC curve."""
    return _mean_ranking(rows, binary_auc)


def macro_pr_auc(rows: Rows) -> Scored:
    """Mean over labels of the average precision."""
    return _mean_ranking(rows, average_precision)


def _mean_ranking(rows: Rows, ranking: _Ranking) -> Scored:
    """The mean over the labels that two rows have and two lack; the others are told."""
    counted = rows.weight > 0
    have = rows.y[counted].sum(axis=0, dtype=np.int64)
    usable = np.flatnonzero((have >= FEWEST) & (have <= counted.sum() - FEWEST))
    total, influence, found = 0.0, np.zeros(rows.num_rows), 0
    for column in usable.tolist():
        part = ranking(Ladder.of_column(rows, column), rows.y[:, column] == 1, rows.weight)
        if part.influence is None or not np.isfinite(part.value):
            continue
        total, influence, found = total + part.value, influence + part.influence, found + 1
    if not found:
        return undefined(f"no label has {FEWEST} rows with it and {FEWEST} without it")
    left = rows.num_classes - found
    reason = ""
    if left:
        reason = (
            f"over {found:,} of {rows.num_classes:,} labels: {left:,} have fewer than {FEWEST} "
            "rows with or without them here"
        )
    return Scored(total / found, influence / found, "logit", _of_rarest(rows), reason)


def _of_rarest(rows: Rows) -> NDArray[np.bool_]:
    """The rows with the rarest label that any row has."""
    counts = rows.y.sum(axis=0, dtype=np.int64)
    there = np.flatnonzero(counts)
    if not there.size:
        return np.ones(rows.num_rows, dtype=bool)
    return np.asarray(rows.y[:, there[np.argmin(counts[there])]] == 1)
