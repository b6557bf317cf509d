"""Boosted trees: early stopping, silence, precision, damaged files."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest

import loopline.features.rows
import loopline.models.lightgbm
import loopline.models.table
from loopline.errors import DataError, IntegrityError, LooplineError
from loopline.features.base import Output
from loopline.features.graph import FeatureGraph
from loopline.features.rows import ArrayRows
from loopline.models.base import FitContext, FittedModel
from loopline.models.boosting import BLIND_ROUNDS, Target, varies
from loopline.models.families import family
from loopline.models.lightgbm import LightGBM
from loopline.models.table import Matrix, class_factors, row_weights
from loopline.testing.families import fit, make_table, make_view

BOOSTED = ("lightgbm", "xgboost", "catboost")


@pytest.fixture(params=BOOSTED)
def boosted(request):
    if request.param != "lightgbm":
        pytest.importorskip(request.param)
    return family(request.param)


def test_training_stops_before_the_noise_is_learned(boosted):
    """On labels without information a validation view stops after a few rounds of 5,000."""
    rng = np.random.default_rng(0)
    table = make_table("binary", 300)
    table = table.with_columns(
        target=pl.Series(np.where(rng.random(300) < 0.5, "yes", "no").tolist())
    )
    valid = make_view("binary", table[200:])
    params = {"rounds": "auto", "patience": 10, "learning_rate": 0.3}
    model = boosted.fit(make_view("binary", table[:200]), valid, params, FitContext(seed=0))
    assert 1 <= model.params["rounds"] < 60


def test_rounds_are_exact_without_a_validation_view(boosted):
    """A number is trained as given; "auto" means 200."""
    assert fit(boosted, "binary", rounds=7).params["rounds"] == 7
    assert fit(boosted, "binary", rounds="auto").params["rounds"] == BLIND_ROUNDS


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_a_model_that_stopped_early_holds_its_best_rounds_only(name):
    """It predicts what a model predicts that was trained for just these rounds.

    CatBoost is left out: its noise depends on how many rounds were asked for.
    """
    pytest.importorskip(name)
    boosted = family(name)
    table = make_table("binary", 300)
    train, valid = make_view("binary", table[:200]), make_view("binary", table[200:])
    stopped = fit(boosted, "binary", train, valid, rounds=300, patience=5, learning_rate=0.3)
    exact = fit(boosted, "binary", train, learning_rate=0.3, rounds=stopped.params["rounds"])
    assert 1 < stopped.params["rounds"] < 300
    np.testing.assert_allclose(stopped.predict(table), exact.predict(table), atol=1e-6)
    single = fit(boosted, "binary", train, learning_rate=0.3, rounds=1)
    assert np.abs(stopped.predict(table) - single.predict(table)).max() > 0.1


def test_folds_agree_on_the_median_of_their_rounds(boosted):
    """5, 100 and 8 rounds make 8, and one fold's outlier changes nothing."""
    folds = [{"rounds": rounds, "patience": 9} for rounds in (5, 100, 8)]
    assert boosted.consolidate(folds) == {"rounds": 8, "patience": 9}


def test_nothing_is_printed_and_no_file_is_left(boosted, capfd, tmp_path, monkeypatch):
    """Training, even on odd tables, is silent and leaves the current folder empty."""
    monkeypatch.chdir(tmp_path)
    for task in ("binary", "multiclass", "regression"):
        table = make_table(task, 20)
        fit(boosted, task, make_view(task, table), make_view(task, table))
        fit(boosted, task, make_view(task, table[:3]))
        same = table.with_columns(target=pl.lit(table["target"][0]))
        fit(boosted, task, make_view(task, same), make_view(task, same)).predict(table)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("objective", ["mae", "huber", "poisson"])
def test_objectives_answer_the_right_question(boosted, objective):
    """On a skewed target "mae" predicts near the median, "poisson" near the mean."""
    rng = np.random.default_rng(0)
    table = (
        make_table("regression", 400)
        .select("flag")
        .with_columns(target=pl.Series(np.exp(rng.normal(size=400) * 1.5)))
    )
    model = fit(
        boosted, "regression", make_view("regression", table), objective=objective, rounds=150
    )
    center = float(model.predict(table).mean())
    median, mean = float(table["target"].median()), float(table["target"].mean())
    place = (center - median) / (mean - median)
    low, high = {"mae": (-0.3, 0.5), "huber": (0.1, 0.95), "poisson": (0.8, 1.2)}[objective]
    assert low < place < high


def test_poisson_refuses_negative_targets(boosted):
    """The message says which objective to use instead."""
    with pytest.raises(DataError, match='objective "poisson" needs targets >= 0'):
        fit(boosted, "regression", objective="poisson")


def test_every_class_of_the_schema_has_a_column_even_if_only_two_occur(boosted):
    """Contributions of a class that never occurred are 0, those of the others are not."""
    table = make_table("multiclass", 200)
    part = table.filter(pl.col("target") != "amber")
    model = fit(boosted, "multiclass", make_view("multiclass", part))
    assert model.predict(part)[:, 0].max() < 1e-6
    assert model.contributions(part)["size"].shape == (part.height, 3)


def test_a_damaged_model_is_refused(boosted, tmp_path):
    """Cut or garbled bytes raise an error of ours, not a crash."""
    fit(boosted, "binary").save(tmp_path / "model")
    (path,) = (tmp_path / "model/estimator").glob("model.*")
    path.write_bytes(b"rubbish")
    with pytest.raises((IntegrityError, LooplineError)):
        boosted.load(tmp_path / "model")
    path.unlink()
    with pytest.raises(IntegrityError, match="does not hold a"):
        boosted.load(tmp_path / "model")


def test_a_booster_answers_several_threads_at_once():
    """Eight threads predicting single rows get what one thread gets."""
    model = fit(LightGBM(), "binary")
    rows = make_table("binary", 200, seed=2).to_dicts()
    expected = [model.predict_row(row).tolist() for row in rows]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            found = list(pool.map(lambda row: model.predict_row(row).tolist(), rows))
            assert found == expected


def test_lightgbm_serves_without_importing_its_package(tmp_path):
    """Loading and predicting needs neither lightgbm's package nor what it pulls in."""
    fit(LightGBM(), "binary").save(tmp_path / "model")
    script = (
        "import sys; from pathlib import Path; from loopline.models.families import family\n"
        f"model = family('lightgbm').load(Path({str(tmp_path / 'model')!r}))\n"
        "model.predict_row({'size': 1.0, 'noise': 0.0, 'flag': True, 'kind': 'a'})\n"
        "print([m for m in ('lightgbm', 'sklearn', 'scipy', 'pandas') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr


def test_lightgbm_predicts_what_its_own_package_predicts(tmp_path):
    """The C calls give the bits of `lightgbm.Booster.predict`."""
    import lightgbm

    model = fit(LightGBM(), "multiclass")
    model.save(tmp_path / "model")
    booster = lightgbm.Booster(model_file=tmp_path / "model/estimator/model.txt")
    table = make_table("multiclass", 60, seed=4)
    expected = booster.predict(model.graph.transform(table))
    np.testing.assert_array_equal(model.predict(table), expected)


def test_a_matrix_of_another_width_is_refused():
    """The C side never reads beyond the rows it was given."""
    model = fit(LightGBM(), "binary")
    with pytest.raises(ValueError, match="expected a matrix of 4 columns"):
        model.estimator.predict_one(np.zeros((1, 3)))


def test_column_names_may_hold_anything():
    """Names with quotes, colons and blanks train and predict; the model text has none of them."""
    outputs = (Output('a":[', "x"), Output("б, б", "x"))
    values = np.random.default_rng(0).normal(size=(100, 2))
    target = (values[:, 0] > 0).astype(np.int64)
    train = Matrix(ArrayRows(values), target, None, np.arange(100), None, outputs)
    lightgbm = LightGBM()
    model = lightgbm.fit_matrix(
        train,
        None,
        task="binary",
        num_classes=2,
        params=lightgbm.resolve({"rounds": 5}, "binary", 100),
        context=FitContext(seed=0),
    )
    assert "feature_names=f0 f1\n" in model._text


def test_targets_are_scaled_in_64_bits():
    """1.7e9 ± 1 keeps its last digits; a constant target has scale 1."""
    target = np.array([1.7e9 - 1, 1.7e9 + 1])
    rows = ArrayRows(np.zeros((2, 1)))
    train = Matrix(rows, target, None, np.arange(2), None, (Output("x", "x"),))
    assert Target.of("regression", "auto", train) == Target(1.7e9, 1.0)
    assert Target(5.0, 2.0).restore(Target(5.0, 2.0).scaled(target)).tolist() == target.tolist()


def test_balanced_factors_make_classes_weigh_the_same():
    """Three rows against one: factors 2/3 and 2; an absent class gets 0."""
    target = np.array([0, 0, 0, 1])
    factors = class_factors(target, None, 3, "balanced")
    np.testing.assert_allclose(factors, [2 / 3, 2.0, 0.0])
    np.testing.assert_allclose(row_weights(target, None, factors), [2 / 3, 2 / 3, 2 / 3, 2.0])


def test_weights_that_weigh_nothing_are_refused():
    """Negative, not finite and all-zero weights each get their sentence."""
    target = np.zeros(2)
    for weight in ([-1.0, 1.0], [np.nan, 1.0]):
        with pytest.raises(DataError, match="must be finite and >= 0"):
            row_weights(target, np.array(weight), None)
    with pytest.raises(DataError, match="All sample weights are 0"):
        row_weights(target, np.zeros(2), None)


def test_varying_means_different_as_32_bit_numbers():
    """A difference that 32 bits cannot hold does not count; a missing cell does."""
    assert not varies(np.array([[1.0], [1.0 + 1e-12]]))
    assert varies(np.array([[1.0], [np.nan]]))
    assert not varies(np.array([[np.nan], [np.nan]]))


@pytest.mark.parametrize("weighted", [False, True])
def test_a_matrix_read_in_blocks_trains_the_same_model(weighted, monkeypatch, tmp_path):
    """Bins from the sample and rows pushed in blocks give the bytes of the whole matrix."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(240_000, 4))
    values[rng.random(values.shape) < 0.05] = np.nan
    values[:, 1] = rng.integers(0, 12, len(values))
    target = (np.nan_to_num(values[:, 0]) + values[:, 1] % 3 > 1).astype(np.int64)
    weight = rng.random(len(values)) + 0.5 if weighted else None
    outputs = (Output("a", "a"), Output("b", "b", 12), Output("c", "c"), Output("d", "d"))
    matrix = Matrix(ArrayRows(values), target, weight, np.arange(len(values)), None, outputs)
    params = LightGBM().resolve({"rounds": 4, "row_share": 0.7}, "binary", len(values))
    found = []
    for limit in (loopline.models.lightgbm._SAMPLE_ROWS, 10**9):
        monkeypatch.setattr(loopline.models.lightgbm, "_SAMPLE_ROWS", limit)
        model = LightGBM().fit_matrix(
            matrix, matrix, task="binary", num_classes=2, params=params, context=FitContext(seed=7)
        )
        model.save(tmp_path)
        found.append((tmp_path / "model.txt").read_bytes())
    assert found[0] == found[1]


def test_the_sample_is_the_one_that_lightgbm_draws(monkeypatch):
    """No row of the sample is asked for a second time, one by one."""
    values = np.random.default_rng(0).normal(size=(210_000, 2))
    rows = ArrayRows(values)
    asked = []
    monkeypatch.setattr(ArrayRows, "take", lambda self, at: asked.append(len(at)) or values[at])
    matrix = Matrix(
        rows,
        (values[:, 0] > 0).astype(np.int64),
        None,
        np.arange(len(values)),
        None,
        (Output("a", "a"), Output("b", "b")),
    )
    params = LightGBM().resolve({"rounds": 1}, "binary", len(values))
    LightGBM().fit_matrix(
        matrix, None, task="binary", num_classes=2, params=params, context=FitContext(seed=3)
    )
    assert asked == [200_000]


def test_a_fit_leaves_no_rows_behind():
    """The matrix is freed with its last name, without waiting for the garbage collector."""
    values = np.random.default_rng(0).normal(size=(210_000, 1))
    rows = ArrayRows(values)
    seen = weakref.ref(rows)
    matrix = Matrix(
        rows,
        (values[:, 0] > 0).astype(np.int64),
        None,
        np.arange(len(values)),
        None,
        (Output("a", "a"),),
    )
    params = LightGBM().resolve({"rounds": 1}, "binary", len(values))
    gc.disable()
    try:
        LightGBM().fit_matrix(
            matrix, matrix, task="binary", num_classes=2, params=params, context=FitContext(seed=3)
        )
        del rows, matrix
        assert seen() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["baseline", "lightgbm", "linear"])
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_rearranged_rows_are_the_predictions_of_the_shuffled_table(name, task):
    """Moving the features of a column gives the bits of transforming the shuffled table again."""
    table = make_table(task, 200)
    model = family(name).fit(make_view(task, table), None, {}, FitContext(seed=0))
    frame = make_view(task, table).frame()
    order = np.random.default_rng(1).permutation(frame.height)
    answer = model.rearranged(frame, 50, 120)
    plain = FittedModel.rearranged(model, frame, 50, 120)
    for columns in [[], *([name] for name in frame.columns), frame.columns[:2]]:
        assert answer(columns, order).tobytes() == plain(columns, order).tobytes()
    assert answer([], order).tobytes() == model.predict(frame[50:120]).tobytes()


def test_rearranged_makes_the_features_once(monkeypatch):
    """However often rows are shuffled, the table is transformed once; a wide one each time."""
    model = fit(LightGBM(), "binary")
    frame = make_view("binary", make_table("binary", 60)).frame()
    calls = []
    transform = FeatureGraph.transform
    monkeypatch.setattr(
        FeatureGraph, "transform", lambda self, data: calls.append(1) or transform(self, data)
    )
    answer = model.rearranged(frame, 0, 60)
    for _ in range(5):
        answer(frame.columns[:1], np.arange(60)[::-1])
    assert len(calls) == 1
    monkeypatch.setattr(loopline.models.table, "_BLOCK_CELLS", 10)
    answer = model.rearranged(frame, 0, 60)
    answer([], np.arange(60))
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["lightgbm", "linear"])
def test_a_view_is_predicted_in_blocks(name, monkeypatch):
    """`predict_view` gathers a block at a time and gives what `predict` of its frame gives."""
    model = fit(family(name), "binary")
    view = make_view("binary", make_table("binary", 100)).subset(np.arange(99, 0, -1))
    whole = model.predict(view.frame())
    monkeypatch.setattr(
        loopline.models.table, "blocks", lambda rows: loopline.features.rows.blocks(rows, 16)
    )
    assert model.predict_view(view).tobytes() == whole.tobytes()
