"""Do the test rows look like the training rows? By features, column by column, and by labels.

A classifier that can tell test rows from training rows better than chance shows a shift (Lopez-Paz
and Oquab, "Revisiting Classifier Two-Sample Tests", 2017). Which columns moved is asked one by one:
numbers by the difference of mean ranks and of spread, categories by the share of each level, every
column by its share of missing cells. Errors are summed within units, so 100 rows of one customer
are one observation, and p values are corrected for all that was tested (Holm 1979).

Only features are read here. `class_shift` compares labels, for whoever has opened the vault anyway.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.audit.crossfit import assign_folds, cross_fit
from loopline.audit.finding import NUM_EXAMPLES, Finding, Remedy
from loopline.audit.price import Pricing, sample_units
from loopline.audit.shift_columns import moved_columns, moved_target
from loopline.data.schema import Column, Schema
from loopline.errors import DataError
from loopline.evaluate.intervals import Estimate, estimate
from loopline.splits.split import all_train
from loopline.splits.views import TestView, TrainView
from loopline.words import interval

SIDE = "__side__"
CLEAR_AUC = 0.55
COMPARED_ROWS = 200_000
"""Rows of both sides on which columns are compared: a difference of 0.1 standard deviations, the
least that is told, is then some eighteen standard errors of independent rows."""
FEWEST_ROWS = 20
SHOWN_COLUMNS = 10


def shift_findings(train: TrainView, test: TestView, *, pricing: Pricing) -> list[Finding]:
    """Whether test rows differ from training rows in their features, and in which columns.

    Args:
        train: training rows.
        test: test rows; their labels are not in them and not read.
        pricing: seed, threads and number of rows of the classifier.

    Returns:
        One finding, or none where no shift shows.

    Raises:
        DataError: a side has fewer than 20 rows.
    """
    if min(train.num_rows, test.num_rows) < FEWEST_ROWS:
        raise DataError(
            f"A shift can be looked for with at least {FEWEST_ROWS} rows a side; there are "
            f"{train.num_rows:,} training rows and {test.num_rows:,} test rows."
        )
    if not train.schema.features:
        return []
    auc = domain_auc(train, test, pricing)
    here, there = _sampled(train, test, COMPARED_ROWS, pricing.seed)
    moves = moved_columns(train.subset(here), test, there)
    clear = np.isfinite(auc.low) and auc.low > 0.5 and auc.value > CLEAR_AUC
    if not clear and not moves:
        return []
    meaning = _meaning(train)
    tells = (
        f"A small model tells test rows from training rows with an AUC of "
        f"{interval(auc.value, auc.low, auc.high)}, where 0.5 is chance."
    )
    listed = "; ".join(move.what for move in moves[:NUM_EXAMPLES])
    rest = len(moves) - NUM_EXAMPLES
    more = f"; and {rest:,} more" if rest > 0 else ""
    named = f" Columns that moved: {listed}{more}." if moves else " No single column stands out."
    if here.size < train.num_rows:
        named += (
            f" Columns were compared on {here.size:,} of {train.num_rows:,} training rows and "
            f"{there.size:,} of {test.num_rows:,} test rows."
        )
    return [
        Finding(
            check="split_shift",
            severity="warning" if clear and not _by_nature(train) else "note",
            sentence=f"{tells}{named} {meaning}",
            columns=tuple(dict.fromkeys(move.column for move in moves))[:SHOWN_COLUMNS],
            num_rows=test.num_rows,
            share=1.0,
            splits=("train", "test"),
            confidence=round(1.0 - min((move.p for move in moves), default=0.05), 4),
            remedy=Remedy(_remedy(train)),
            facts={
                "auc": auc.to_dict(),
                "moves": [
                    {
                        "column": move.column,
                        "what": move.what,
                        "effect": round(move.effect, 4),
                        "kind": move.kind,
                        "p": move.p,
                    }
                    for move in moves[:SHOWN_COLUMNS]
                ],
                "num_moved": len(moves),
            },
        )
    ]


def domain_auc(train: TrainView, test: TestView, pricing: Pricing) -> Estimate:
    """AUC of a cross-fitted model that tells test rows from training rows; NaN where undefined.

    Args:
        train: training rows.
        test: test rows.
        pricing: seed, threads, and the most rows to use.
    """
    names = list(train.schema.features)
    rows, there = _sampled(train, test, pricing.max_rows, pricing.seed)
    here = train.subset(rows)
    frame = pl.concat([here.frame(names), test.frame(names)[there]])
    side = np.r_[np.zeros(here.num_rows, np.int64), np.ones(there.size, np.int64)]
    units = np.unique(np.r_[here.units, test.units[there]], return_inverse=True)[1]
    columns = [column for column in train.schema.columns if column.role == "feature"]
    schema = Schema((*columns, Column(SIDE, "category", "target")), "binary", (0, 1))
    digests = np.concatenate([here.digests, test.digests[there]])
    part = all_train(digests, units=units).train_view(
        frame.with_columns(pl.Series(SIDE, side)), schema
    )
    fold = assign_folds(part, part.units, seed=pricing.seed)
    try:
        out = cross_fit(part, fold, threads=pricing.threads, seed=pricing.seed)
    except DataError as error:
        nan = float("nan")
        return Estimate(nan, nan, nan, "none", part.num_rows, note=str(error))
    known = out.known
    return estimate("auc", part.target[known], out.prediction[known], units=part.units[known])


def _sampled(
    train: TrainView, test: TestView, max_rows: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of both sides in their proportion, whole units, together at most about so many."""
    share = min(1.0, max_rows / (train.num_rows + test.num_rows))
    here = sample_units(train, train.units, max(1, int(share * train.num_rows)), seed)
    there = sample_units(test, test.units, max(1, int(share * test.num_rows)), seed)
    return here, there


def _by_nature(train: TrainView) -> bool:
    """Whether the sides may differ: later rows and other groups do, rows at random should not."""
    return train.order is not None or bool(train.schema.with_role("group"))


def _meaning(train: TrainView) -> str:
    if train.order is not None:
        return (
            "The test rows are later than the training rows, so a shift is what time did; the test "
            "score shows what it costs, and it will go on after the release."
        )
    if np.unique(train.units).size < train.num_rows:
        return (
            "The split keeps groups whole, so the sides hold different groups and may differ by "
            "them; with few groups the test score depends on which were drawn."
        )
    return (
        "The rows were not split by time or group, so the sides should look alike; either the "
        "split was given from outside, or the draw is an unlucky one."
    )


def _remedy(train: TrainView) -> str:
    if train.order is not None:
        return "Keep the split; leave out columns that only count time, or retrain more often."
    if np.unique(train.units).size < train.num_rows:
        return (
            "Keep the split; collect more groups, and read the test interval rather than the score."
        )
    return "Find out how the test rows were chosen, or let Loopline split the table."


def class_shift(
    train: TrainView,
    test_target: NDArray[Any],
    *,
    test_units: NDArray[np.int64] | None = None,
) -> Finding | None:
    """Whether the labels of the test rows differ from those of the training rows.

    For the evaluate stage, which has opened the vault anyway; nothing here opens it.

    Args:
        train: training rows.
        test_target: class codes or values of the test rows, as `TestLabels.target`.
        test_units: their units, as `TestLabels.units`; each row alone by default.

    Returns:
        The finding, or None where labels do not differ surely.
    """
    target = np.asarray(test_target)
    if min(train.num_rows, target.size) < FEWEST_ROWS:
        return None
    told = moved_target(train, target, test_units)
    if not told:
        return None
    listed = "; ".join(move.what for move in told[:NUM_EXAMPLES])
    return Finding(
        check="class_shift",
        severity="warning",
        sentence=f"The labels differ between training and test: {listed}. {_meaning(train)}",
        columns=(train.schema.target,),
        num_rows=int(target.size),
        share=1.0,
        splits=("train", "test"),
        confidence=round(1.0 - min(move.p for move in told), 4),
        remedy=Remedy(_remedy(train)),
        facts={
            "moves": [{"what": move.what, "effect": round(move.effect, 4)} for move in told],
        },
    )
