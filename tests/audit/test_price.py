"""Prices: the same small model, as claimed and as repaired."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopline.audit.crossfit import OutOfFold, assign_folds, cross_fit, forward_folds
from loopline.audit.price import (
    Pricing,
    price_columns,
    price_structure,
    sample_units,
)
from loopline.audit.times import price_forward
from loopline.data.schema import Column, Schema
from loopline.errors import LeakError
from loopline.splits.views import TrainView
from loopline.testing.splitters import view_of


def _view(values: dict[str, object], task: str = "binary") -> TrainView:
    frame = pl.DataFrame(values)
    columns = tuple(
        Column(name, "number", "target" if name == "y" else "feature") for name in frame.columns
    )
    classes = () if task == "regression" else (0, 1)
    return view_of(frame, Schema(columns, task, classes))  # type: ignore[arg-type]


def _customers(seed: int = 0) -> tuple[TrainView, np.ndarray]:
    """60 customers of 20 similar rows each, with a coin flip for a label."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(60), 20)
    near = rng.normal(size=(60, 4))[codes] + rng.normal(size=(1200, 4)) * 0.05
    view = _view({f"x{i}": near[:, i] for i in range(4)} | {"y": rng.integers(0, 2, 60)[codes]})
    return view, codes


def test_random_labels_per_customer_are_worth_nothing_once_grouped() -> None:
    """Rows dealt at random claim a near perfect AUC; whole customers give chance."""
    view, codes = _customers()
    worth = price_structure(view, codes, Pricing())
    assert worth.claimed.value > 0.95
    assert worth.repaired.low < 0.5 < worth.repaired.high
    assert worth.matters


def test_independent_rows_lose_nothing_by_grouping() -> None:
    """Groups that mean nothing have a price whose interval holds zero."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1200, 3))
    y = (x[:, 0] + rng.normal(size=1200) > 0).astype(int)
    view = _view({f"x{i}": x[:, i] for i in range(3)} | {"y": y})
    worth = price_structure(view, np.repeat(np.arange(240), 5), Pricing())
    assert worth.difference.low <= 0.0 <= worth.difference.high


def test_a_copy_of_the_target_has_its_price() -> None:
    """With the copy the score is perfect, without it the honest one."""
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 800)
    view = _view({"noise": rng.normal(size=800), "copy": y * 2.0, "y": y})
    worth = price_columns(view, ["copy"], Pricing())
    assert worth is not None
    assert worth.claimed.value > 0.999
    assert worth.repaired.low < 0.5 < worth.repaired.high


def test_nothing_is_priced_when_no_feature_would_be_left() -> None:
    """A table of one suspicious column has no repaired score."""
    view = _view({"copy": np.arange(100) % 2, "y": np.arange(100) % 2})
    assert price_columns(view, ["copy"], Pricing()) is None


def test_a_drifting_series_scores_worse_forward() -> None:
    """A value that only drifts with time is known to neighbours and not to the future."""
    time = np.arange(2000)
    y = np.cumsum(np.random.default_rng(3).normal(size=2000))
    view = _view({"t": time, "y": y}, "regression")
    worth = price_forward(view, time, 20, Pricing())
    assert worth is not None
    assert worth.matters


def test_out_of_fold_predictions_cannot_be_made_by_hand() -> None:
    """Predictions from anywhere else could be in-sample; they are refused."""
    view = _view({"x": np.arange(10.0), "y": np.arange(10) % 2})
    with pytest.raises(LeakError, match="cannot be made by hand"):
        OutOfFold(view, np.zeros(10, dtype=np.int64), np.zeros((10, 2)), "mine", object())


def test_folds_that_predict_their_own_units_are_refused() -> None:
    """A fold whose model was fitted on the rows it predicts is in-sample."""
    view = _view({"x": np.arange(10.0), "y": np.arange(10) % 2})
    rows = np.arange(5)
    with pytest.raises(LeakError, match="in-sample"):
        OutOfFold.of_folds(view, [rows], [np.zeros((5, 2))], [np.arange(3, 10)], "linear")


def test_every_row_is_predicted_by_a_model_without_its_unit() -> None:
    """The folds of a cross-fit keep units whole."""
    view, codes = _customers()
    fold = assign_folds(view, codes)
    assert all(np.unique(fold[codes == code]).size == 1 for code in range(60))
    assert cross_fit(view, fold).known.all()


def test_forward_folds_never_predict_the_past() -> None:
    """The first block of time is only learned from, and equal times stay together."""
    fold = forward_folds(np.array([3, 3, 1, 2, 0, 5, 4]), num_folds=2)
    assert fold[4] == -1
    assert fold[0] == fold[1]
    assert (np.diff(fold[np.argsort([3, 3, 1, 2, 0, 5, 4], kind="stable")]) >= 0).all()


def test_a_sample_takes_whole_units() -> None:
    """A unit is priced with all its rows or not at all."""
    view, codes = _customers()
    rows = sample_units(view, codes, 300, 0)
    assert 200 <= rows.size <= 320
    assert all((codes[rows] == code).sum() == 20 for code in np.unique(codes[rows]))


def test_a_sample_follows_its_seed() -> None:
    """The same seed draws the same units, another one draws others."""
    view, codes = _customers()
    first, again, other = (sample_units(view, codes, 300, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_price_is_the_mean_of_two_dealings_and_counts_units() -> None:
    """Sixty customers are sixty observations, and one dealing of rows is not trusted alone."""
    view, codes = _customers()
    worth = price_structure(view, codes, Pricing())
    assert len(set(Pricing().seeds)) == 2
    for part in (worth.claimed, worth.repaired, worth.difference):
        assert part.num_units == 60
        assert part.method.endswith("two dealings")


def test_a_forward_fit_learns_from_earlier_blocks_only() -> None:
    """Where the label rises with time, no block is foretold above what came before it."""
    rank = np.arange(600)
    view = _view({"t": rank.astype(float), "y": rank.astype(float)}, "regression")
    fold = forward_folds(rank, num_folds=3)
    forward = cross_fit(view, fold, forward=True)
    apart = cross_fit(view, fold)
    for block in range(3):
        here = fold == block
        assert forward.prediction[here].max() <= rank[here].min() + 1
    assert apart.prediction[fold == 0].max() > rank[fold == 0].min() + 20
