"""Fits that are looked at on their way: where the rungs are, and what is told there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.models.test_neural import Interrupted, Stops

from loopline.models.base import FitContext, Floats
from loopline.models.boosting import Rungs
from loopline.models.families import family
from loopline.progress import SilentReporter
from loopline.testing.families import make_table, make_view

SMALL_NETWORK = {"epochs": 9.0, "width": 16, "members": 2}
CONTEXT = FitContext(seed=5)


def heard_of(name: str, task: Any, **params: Any) -> tuple[Any, list[tuple[int, Floats]]]:
    """A model, and what its fit told at its rungs."""
    table = make_table(task, 300)
    heard: list[tuple[int, Floats]] = []
    context = replace(CONTEXT, rung=lambda number, said: heard.append((number, np.array(said))))
    train, valid = make_view(task, table[:200]), make_view(task, table[200:])
    return family(name).fit(train, valid, params, context), heard


def test_a_rung_is_a_way_not_a_number_of_rounds() -> None:
    """Half the learning rate is at a rung after twice the rounds: 0.5, 1, 2 … rounds × rate."""
    passed = {
        rate: [rounds for rounds in range(1, 101) if Rungs(rate).at(rounds) is not None]
        for rate in (0.1, 0.05)
    }
    assert passed == {0.1: [5, 10, 20, 40, 80], 0.05: [10, 20, 40, 80]}
    assert [Rungs(1.0).at(rounds) for rounds in range(1, 5)] == [1, 2, None, 3]


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_rung_tells_what_the_model_of_so_many_rounds_predicts(name: str, task: Any) -> None:
    """At the third rung of a rate of 0.1, round 20, it is the model that is trained for 20."""
    pytest.importorskip(name)
    params = {"learning_rate": 0.1, "patience": 300}
    _, heard = heard_of(name, task, rounds=100, **params)
    assert [number for number, _ in heard] == [0, 1, 2, 3, 4]
    table = make_table(task, 300)
    short = family(name).fit(make_view(task, table[:200]), None, {**params, "rounds": 20}, CONTEXT)
    np.testing.assert_allclose(heard[2][1], short.predict(table[200:]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_network_has_rungs_after_1_2_4_and_8_epochs(task: Any) -> None:
    """The fourth of nine epochs' rungs tells what eight epochs predict."""
    pytest.importorskip("torch")
    params = {**SMALL_NETWORK, "patience": 100, "average": 0.0, "learning_rate": 1.024e-3}
    _, heard = heard_of("mlp", task, **params)
    assert [number for number, _ in heard] == [10, 11, 12, 13]
    _, whole = heard_of("mlp", task, **{**params, "epochs": 8.0})
    np.testing.assert_allclose(heard[3][1], whole[3][1], rtol=1e-5, atol=1e-6)


def test_a_network_of_half_the_rate_is_at_a_rung_after_twice_the_epochs() -> None:
    """Rung 10 is reached when epochs × rate is 2¹⁰ × 10⁻⁶."""
    pytest.importorskip("torch")
    params = {**SMALL_NETWORK, "patience": 100}
    _, heard = heard_of("mlp", "binary", **params, learning_rate=5.12e-4)
    assert [number for number, _ in heard] == [9, 10, 11, 12]


def test_a_network_tells_values_in_the_targets_units() -> None:
    """Of a target around 5,000 that it sees scaled."""
    pytest.importorskip("torch")
    table = make_table("regression", 300).with_columns(pl.col("target") * 1_000 + 5_000)
    told: list[Floats] = []
    context = replace(CONTEXT, rung=lambda number, said: told.append(said))
    train, valid = (make_view("regression", part) for part in (table[:200], table[200:]))
    family("mlp").fit(train, valid, {**SMALL_NETWORK, "patience": 9}, context)
    assert told[-1].mean() == pytest.approx(5_000, abs=600)


def test_a_killed_network_tells_of_its_earlier_rungs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes on from a checkpoint tells the same rungs as what was never interrupted."""
    training = pytest.importorskip("loopline.nets.training")
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    table = make_table("binary", 300)
    train, valid = make_view("binary", table[:200]), make_view("binary", table[200:])
    params = {**SMALL_NETWORK, "patience": 100, "batch_size": 32, "learning_rate": 1.024e-3}

    def told(folder: Path, stop: int | None) -> list[tuple[int, Floats]]:
        heard: list[tuple[int, Floats]] = []
        reporter = SilentReporter() if stop is None else Stops(stop)
        context = replace(
            CONTEXT, folder=folder, reporter=reporter,
            rung=lambda number, said: heard.append((number, np.array(said))),
        )  # fmt: skip
        if stop is None:
            family("mlp").fit(train, valid, params, context)
        else:
            with pytest.raises(Interrupted):
                family("mlp").fit(train, valid, params, context)
        return heard

    whole = told(tmp_path / "whole", None)
    before = told(tmp_path / "killed", 40)  # of 57 steps: in the seventh epoch
    after = told(tmp_path / "killed", None)
    assert len(before) == 3
    assert [number for number, _ in after] == [number for number, _ in whole]
    assert len(after) == 4
    for (_, once), (_, again) in zip(whole, after, strict=True):
        np.testing.assert_array_equal(once, again)
