"""Where a label's probability becomes a label, for rows with several: one threshold for all labels.

One threshold is one number chosen on all pairs of a row and a label, so a label with few rows
borrows from the others; a threshold a label would follow the noise of the rare ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.evaluate.intervals import estimate_rows
from loopline.evaluate.metrics import metric
from loopline.evaluate.rows import Rows, Units
from loopline.evaluate.threshold import Threshold, choose_threshold
from loopline.words import figure

GOAL = "micro_f1"


def choose_label_threshold(
    y: NDArray[Any],
    out_of_fold: NDArray[Any],
    *,
    weight: NDArray[Any] | None = None,
    units: NDArray[Any] | None = None,
) -> Threshold:
    """The threshold for all labels with the largest micro F1 on out-of-fold predictions.

    Args:
        y: 0 and 1, shape (rows, labels).
        out_of_fold: probabilities from models that have not seen the row, of the same shape.
        weight: weight of each row.
        units: rows with equal entries count as one unit in the interval.

    Raises:
        DataError: the arrays do not fit together, or every row has all labels, or none has any.

    >>> y = np.array([[1, 0], [0, 1], [0, 0]])
    >>> choose_label_threshold(y, np.array([[0.4, 0.1], [0.2, 0.3], [0.1, 0.1]])).value
    0.25
    """
    rows = Rows.build(y, out_of_fold, values="multilabel", weight=weight)
    size = rows.num_classes
    own = np.arange(rows.num_rows) if units is None else np.asarray(units)
    found = choose_threshold(
        rows.y.reshape(-1).astype(np.int64),
        rows.prediction.reshape(-1),
        weight=np.repeat(rows.weight, size),
        units=np.repeat(own, size),
    )
    at = replace(rows, threshold=found.value)
    achieved = estimate_rows(metric(GOAL), at, Units.build(units, rows.num_rows))
    sentence = (
        f"{figure(found.value)} is the best threshold out of fold, one for all labels: micro F1 "
        f"{achieved}, precision {figure(found.scores['precision'])}, recall "
        f"{figure(found.scores['recall'])} over all pairs of a row and a label. At 0.5 the micro "
        f"F1 would be {figure(found.scores_at_half['f1'])}."
    )
    return replace(found, goal=GOAL, achieved=achieved, sentence=sentence)
