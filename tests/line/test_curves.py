"""Learning curves of a run: nested shares, the run's own fits at full size, kept and found."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from tests.line.conftest import make_table

import loopline
from loopline.data.schema import Column, Schema
from loopline.errors import DataError
from loopline.line.curves import Curve, learning_curve, nested_part, shares_of
from loopline.line.finished import FinishedRun, finished_run
from loopline.line.refits import Variant, as_run, is_known, refit
from loopline.splits.vault import Vault
from loopline.splits.views import TrainView
from loopline.testing.splitters import view_of

COLUMNS = (Column("x", "number"), Column("y", "category", "target"))
BINARY = Schema(COLUMNS, "binary", (0, 1))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    store = tmp_path_factory.mktemp("curve")
    result = loopline.fit(make_table(400), "bought", models=["linear"], store=store, progress=False)
    return finished_run(result.project, result.run)


@pytest.fixture(scope="module")
def curve(run: FinishedRun) -> Curve:
    return learning_curve(run)


def some_view(units: np.ndarray | None = None, order: np.ndarray | None = None) -> TrainView:
    frame = pl.DataFrame({"x": np.arange(400.0), "y": np.arange(400) % 4 == 0}).cast({"y": int})
    return view_of(frame, BINARY, units=units, order=order)


@pytest.mark.parametrize("seed", range(3))
def test_shares_are_nested(seed: int) -> None:
    """Every row of a share stands in every larger one of the same seed."""
    view = some_view()
    parts = [set(nested_part(view, s, seed).positions.tolist()) for s in (0.1, 0.3, 0.6, 1.0)]
    assert all(small < large for small, large in itertools.pairwise(parts))
    assert [len(part) for part in parts] == pytest.approx([40, 120, 240, 400], abs=2)


def test_shares_keep_units_whole() -> None:
    """A quarter of the rows holds whole units only."""
    units = np.repeat(np.arange(100), 4)
    part = nested_part(some_view(units=units), 0.25, 0)
    sizes = np.bincount(part.units)
    assert set(sizes[sizes > 0].tolist()) == {4}


@pytest.mark.parametrize("seed", range(5))
def test_shares_keep_the_classes_shares(seed: int) -> None:
    """A tenth of 300 rows of one class and 100 of the other is 30 and 10, not about so many."""
    part = nested_part(some_view(), 0.1, seed)
    assert np.bincount(part.target).tolist() == [30, 10]


def test_another_seed_draws_other_rows() -> None:
    """Draws of one share differ, so their scatter tells the luck of the rows."""
    one, two = (nested_part(some_view(), 0.25, seed).positions for seed in (0, 1))
    assert not np.array_equal(one, two)


def test_by_time_a_share_is_the_latest_part() -> None:
    """A longer history reaches further back, up to the same end, whatever the seed."""
    order = np.random.default_rng(0).permutation(400)
    view = some_view(order=order)
    part = nested_part(view, 0.25, 0)
    assert sorted(order[part.positions].tolist()) == list(range(300, 400))
    assert np.array_equal(part.positions, nested_part(view, 0.25, 1).positions)


def test_the_full_size_is_the_runs_own_fit(curve: Curve, run: FinishedRun) -> None:
    """The last point is the run's out-of-fold score, and costs nothing."""
    last = curve.points[-1]
    assert last.share == 1.0
    assert last.score == pytest.approx(run.summary["out_of_fold"][run.metric]["value"])
    assert last.num_rows == pytest.approx(0.8 * 320)


def test_sizes_rise_and_scores_are_of_the_same_rows(curve: Curve, run: FinishedRun) -> None:
    """Every draw of every share predicts exactly the rows of the run."""
    sizes = [point.num_rows for point in curve.points]
    assert sizes == sorted(sizes)
    rows = run.scored().rows
    assert all(np.array_equal(each.scored.rows, rows) for same in curve.draws for each in same)


def test_a_change_that_changes_nothing_gives_the_runs_own_predictions(run: FinishedRun) -> None:
    """Refits share the race's seeds and parameters, so a difference is that of the change alone."""
    same = refit(run, Variant("the same again", {"nothing": 1}))
    assert np.array_equal(same.scored.prediction, as_run(run).scored.prediction)


def test_a_refit_is_made_once(run: FinishedRun, curve: Curve) -> None:
    """A known refit is only read; its stages are found, in a new process as well."""
    again = finished_run(run.project, run.id)
    before = len(run.project.store.ids("refit"))
    assert learning_curve(again).law.gain(1e4) == curve.law.gain(1e4)
    assert len(run.project.store.ids("refit")) == before
    assert all(stage["found"] for stage in again.context.stages)


def test_an_unmade_refit_is_not_known(run: FinishedRun) -> None:
    """What was not fitted in every fold counts as to be fitted."""
    assert not is_known(run, Variant("never", {"never": 1}))


def test_refits_are_kept_as_long_as_the_run(run: FinishedRun, curve: Curve) -> None:
    """Garbage collection takes them for the run's own work."""
    assert curve.points
    roots = set(run.project.roots())
    assert set(run.project.store.ids("refit")) <= roots


def test_no_test_label_takes_part(run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """A curve is fitted and scored with the vault's door nailed shut."""

    def shut(*_: object, **__: object) -> None:
        raise AssertionError("the vault was opened")

    monkeypatch.setattr(Vault, "open", shut)
    fresh = finished_run(run.project, run.id)
    found = learning_curve(fresh, (0.3, 0.6))
    test = set(np.flatnonzero(fresh.prepared.split.side == 1).tolist())
    rows = {int(row) for same in found.draws for each in same for row in each.scored.rows}
    assert not rows & test


def test_too_few_rows_have_no_curve(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where half the rows hold fewer than 60, nothing is extrapolated, and the reason is told."""
    store = tmp_path_factory.mktemp("few")
    result = loopline.fit(make_table(100), "bought", models=["linear"], store=store, progress=False)
    few = finished_run(result.project, result.run)
    assert shares_of(few) == ()
    with pytest.raises(DataError, match="too few for a learning curve"):
        learning_curve(few)


def test_more_rows_help_where_they_truly_do(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Many weak columns and few rows: twice the rows surely help, and the gain is the right size.

    Least squares with 30 columns of noise: the excess of the squared error over its floor is about
    30 / n, so from 480 to 960 rows an RMSE near 1 falls by about 30 / 480 / 4 = 0.016.
    """
    rng = np.random.default_rng(3)
    x = rng.normal(size=(600, 30))
    frame = pl.DataFrame({f"c{k}": x[:, k] for k in range(30)})
    frame = frame.with_columns(y=pl.Series(x @ rng.normal(size=30) + rng.normal(size=600)))
    result = loopline.fit(
        frame, "y", models={"linear": {"penalty": 1e-6}}, progress=False,
        store=tmp_path_factory.mktemp("weak"), settings={"split": {"test": 0.0}},
    )  # fmt: skip
    law = learning_curve(finished_run(result.project, result.run)).law
    gain = law.gain(2 * law.largest)
    assert gain.low > 0
    assert gain.low < 0.016 < gain.high


def test_a_searched_candidate_is_fitted_with_the_parameters_that_were_found(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """After a search, a refit without a change gives the tuned candidate's own predictions."""
    store = tmp_path_factory.mktemp("searched")
    result = loopline.fit(
        make_table(200), "bought", models=["lightgbm"], store=store, progress=False,
        settings={"search": {"trials": 4, "prune": False}, "threads": 1},
    )  # fmt: skip
    found = finished_run(result.project, result.run)
    spec = found.raced["lightgbm"].spec
    assert spec.params == result.summary["search"]["best"]["params"]
    same = refit(found, Variant("the same again", {"nothing": 1}, found.raced["lightgbm"].spec))
    assert np.array_equal(same.scored.prediction, as_run(found, "lightgbm").scored.prediction)
