"""Out-of-fold predictions: what a small model says of rows that it has never seen.

An audit prices and ranks by predictions, and a prediction of a row that took part in its own fit
says nothing. So an `OutOfFold` cannot be made by hand: `cross_fit` makes it, and
`OutOfFold.of_folds` takes it from the stored folds of a race, and both prove it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.data.duplicates.clusters import mixed
from loopline.data.schema import has_classes
from loopline.errors import DataError, LeakError
from loopline.models.base import FitContext
from loopline.models.families import family
from loopline.seeds import child_seed
from loopline.splits.deal import deal, row_keys, shares_unit
from loopline.splits.rows import digest_codes, numbered
from loopline.splits.views import TrainView

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NUM_FOLDS = 3
SMALL: dict[str, Any] = {"rounds": 60, "num_leaves": 15, "learning_rate": 0.1}
"""The small model of an audit; it has to tell differences, not to win."""
SHOWN = {"lightgbm": "LightGBM"}
_DOOR = object()


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Predictions of rows, each by a model that was fitted without the row and its unit.

    Args:
        view: the rows.
        fold: which fold predicted each row, shape (rows,); -1 where no fold did.
        prediction: class probabilities (rows, classes) or values (rows,); NaN where fold is -1.
        model: what was fitted, in a few words.
        door: kept by this module.
    """

    view: TrainView
    fold: Ints
    prediction: Floats
    model: str
    door: object

    def __post_init__(self) -> None:
        if self.door is not _DOOR:
            raise LeakError(
                "Out-of-fold predictions cannot be made by hand, because then nothing would tell "
                "them from predictions of rows that the model was fitted on; use `cross_fit`."
            )

    @property
    def known(self) -> NDArray[np.bool_]:
        """Rows that a fold predicted, shape (rows,)."""
        return self.fold >= 0

    @staticmethod
    def of_folds(
        view: TrainView,
        rows: Sequence[Ints],
        predictions: Sequence[Floats],
        trained_on: Sequence[Ints],
        model: str,
    ) -> OutOfFold:
        """Put the folds of a race together.

        Args:
            view: all training rows.
            rows: for each fold the rows it predicted, as positions in the table.
            predictions: for each fold what it said.
            trained_on: for each fold the rows it was fitted on, as positions in the table.
            model: what was fitted.

        Raises:
            LeakError: a fold predicts a row, or a unit, that it was fitted on.
        """
        fold = np.full(view.num_rows, -1, dtype=np.int64)
        prediction: Floats | None = None
        for number, (mine, said, fitted) in enumerate(
            zip(rows, predictions, trained_on, strict=True)
        ):
            here, there = _places(view, mine), _places(view, fitted)
            trained = np.zeros(view.num_rows, dtype=bool)
            trained[there] = True
            both = view.units[here][shares_unit(view.units, trained)[here]]
            if both.size:
                raise LeakError(
                    f"Fold {number} predicts {np.unique(both).size:,} units that its model was "
                    "fitted on; such predictions are in-sample and say nothing. Cross-fit by units."
                )
            if prediction is None:
                prediction = np.full((view.num_rows, *said.shape[1:]), np.nan)
            prediction[here] = said
            fold[here] = number
        if prediction is None:
            raise DataError("There are no folds to take predictions from.")
        return OutOfFold(view, fold, prediction, model, _DOOR)


def _places(view: TrainView, rows: Ints) -> Ints:
    """Where rows of the table stand in a view; rows that are not in it are left out."""
    order = np.argsort(view.positions, kind="stable")
    found = np.searchsorted(view.positions, rows, sorter=order)
    found = order[np.minimum(found, order.size - 1)]
    return np.asarray(found[view.positions[found] == rows], dtype=np.int64)


def assign_folds(
    view: TrainView, units: Ints, *, num_folds: int = NUM_FOLDS, seed: int = 0
) -> Ints:
    """The fold of each row, units whole, class shares kept; shape (rows,).

    Rows that are equal in every cell are dealt apart unless a unit holds them together.
    """
    labels = view.target if has_classes(view.schema.task) else None
    shares = (1.0 / num_folds,) * num_folds
    _, occurrence = numbered(digest_codes(view.digests))
    keys = mixed(row_keys(view.digests) + occurrence)
    dealt = deal(units, keys, shares, child_seed(seed, "audit folds"), labels)
    return np.asarray(dealt, dtype=np.int64)


def forward_folds(order: Ints, *, num_folds: int = NUM_FOLDS) -> Ints:
    """The block of time of each row, equal times together: block 0 is only ever trained on.

    >>> forward_folds(np.arange(8), num_folds=3)
    array([-1, -1,  0,  0,  1,  1,  2,  2])
    """
    distinct, rank = np.unique(order, return_inverse=True)
    blocks = rank * (num_folds + 1) // max(1, distinct.size)
    return np.asarray(blocks - 1, dtype=np.int64)


def _known_by_then(
    view: TrainView, rest: NDArray[np.bool_], here: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The rows of the rest whose label window had ended when the held-out rows begin.

    All of the rest where the folds do not go forward in the time of the windows.
    """
    if view.reach is None or view.order is None or not here.any() or not rest.any():
        return rest
    first = view.order[here].min()
    if view.order[rest].max() >= first:
        return rest
    known = rest & (view.reach < first)
    return known if known.any() else rest


def cross_fit(
    view: TrainView,
    fold: Ints,
    *,
    forward: bool = False,
    without: Sequence[str] = (),
    model: str = "lightgbm",
    params: dict[str, Any] | None = None,
    threads: int = 1,
    seed: int = 0,
) -> OutOfFold:
    """Fit a small model for each fold on the other rows, and predict the fold.

    Args:
        view: training rows.
        fold: the fold of each row, from `assign_folds` or `forward_folds`; rows of fold -1 are
            never predicted.
        forward: fit on earlier folds only (and on rows of fold -1); where the split has label
            windows, only on rows whose label was known by then.
        without: features to leave out.
        model: the family.
        params: its parameters; the small model's by default.
        threads: for the fit.
        seed: of the fit.

    Raises:
        DataError: no fold has rows on both sides.

    >>> from loopline.data.schema import Column, Schema
    >>> from loopline.testing.splitters import view_of
    >>> import polars as pl
    >>> x = np.arange(300) % 7
    >>> columns = (Column("x", "number"), Column("y", "number", "target"))
    >>> view = view_of(pl.DataFrame({"x": x, "y": 2.0 * x}), Schema(columns, "regression"))
    >>> found = cross_fit(view, assign_folds(view, np.arange(300)))
    >>> bool(np.abs(found.prediction - view.target).max() < 0.5)
    True
    """
    chosen = view.without(without) if without else view
    kind = family(model)
    given = params if params is not None else (SMALL if model == "lightgbm" else {})
    said: Floats | None = None
    done = np.full(view.num_rows, -1, dtype=np.int64)
    for number in range(int(fold.max()) + 1 if fold.size else 0):
        here = fold == number
        rest = fold < number if forward else fold != number
        if forward:
            rest = _known_by_then(view, rest, here)
        if not here.any() or not rest.any():
            continue
        train = chosen.subset(rest)
        if has_classes(view.schema.task) and np.unique(train.target).size < 2:
            continue
        fit = FitContext(child_seed(seed, "audit fit", str(number)), threads=threads)
        fitted = kind.fit(train, None, kind.resolve(given, view.schema.task, train.num_rows), fit)
        part = fitted.predict_view(chosen.subset(here))
        if said is None:
            said = np.full((view.num_rows, *part.shape[1:]), np.nan)
        said[here] = part
        done[here] = number
    if said is None:
        raise DataError(
            f"{view.num_rows:,} rows cannot be cross-fitted: no fold has rows of two classes on "
            "its other side."
        )
    return OutOfFold(
        view,
        done,
        said,
        f"a small {SHOWN.get(model, model)} model" if params is None else model,
        _DOOR,
    )
