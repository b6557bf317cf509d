"""Advice on learning rate and batch size, and that giving it changes nothing."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.engine.nets import Points, gap, net, weights

from loopline.engine.loop import train
from loopline.engine.optimizer import OptimizerSettings
from loopline.engine.run import Run, prepare
from loopline.engine.settings import TrainSettings
from loopline.engine.task import Task
from loopline.engine.tools.find import find_batch, find_lr
from loopline.errors import DataError, SettingsError


def _everything(run: Run) -> list[Any]:
    found: list[Any] = [torch.get_rng_state(), copy.deepcopy(run.state), run.micro]
    found += [value.detach().clone() for value in run.model.state_dict().values()]
    for part in run.optimizer.parts:
        found += [copy.deepcopy(part.state_dict())]
    return found


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    return bool(first == second)


@pytest.mark.parametrize("trained", [0, 5])
@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_advice_leaves_a_run_as_it_was(name: str, trained: int) -> None:
    """Weights, optimizer, random numbers and counters are the same bits, and so is what follows."""
    settings = TrainSettings(
        batch_size=8, steps=10, optimizer=OptimizerSettings(name, lr=1e-2), precision="fp16"
    )
    plain = prepare(Points(), net(dropout=0.2), settings)
    run = prepare(Points(), net(dropout=0.2), settings)
    if trained:
        for one in (plain, run):
            one.num_steps = trained
            train(one)
            one.num_steps = 10
    before = _everything(run)
    find_lr(run, steps=15)
    find_batch(run, steps=2, parts=4)
    assert _same(_everything(run), before)
    assert gap(weights(train(run).model), weights(train(plain).model)) == 0.0


def test_the_range_test_finds_where_a_known_problem_breaks() -> None:
    """On a plain quadratic SGD breaks away at 2 / curvature; the advice lies below that."""
    run = prepare(
        Quadratic(noise=0.0),
        Shift(),
        TrainSettings(
            batch_size=4, steps=5, optimizer=OptimizerSettings("sgd", momentum=0.0, clip=None)
        ),
    )
    advice = find_lr(run, low=1e-4, high=100.0, steps=80)
    assert advice.suggested < advice.limit < 3.0
    assert advice.suggested > 1e-3
    assert len(advice.rates) == len(advice.losses) == len(advice.smooth) < 80
    assert advice.to_dict()["suggested"] == advice.suggested


def test_the_order_of_the_batches_hardly_moves_the_advice() -> None:
    """Of a noisy problem in batches of four, five orders give rates within a factor of three."""
    found = []
    for seed in range(5):
        settings = TrainSettings(
            batch_size=4, steps=5, seed=seed,
            optimizer=OptimizerSettings("sgd", momentum=0.0, clip=None),
        )  # fmt: skip
        run = prepare(Quadratic(noise=1.0), Shift(), settings)
        found.append(find_lr(run, low=1e-4, high=10.0, steps=60).suggested)
    assert max(found) < 3.0 * min(found)


class Shift(torch.nn.Module):
    """A vector."""

    def __init__(self) -> None:
        super().__init__()
        self.place = torch.nn.Parameter(torch.full((50,), 1.0))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.place - values


class Quadratic(Task):
    """Half the squared distance to points around zero: gradient and its covariance are known."""

    num_rows = 20_000

    def __init__(self, noise: float) -> None:
        draw = np.random.default_rng(0)
        self.values = torch.from_numpy(noise * draw.normal(size=(self.num_rows, 50))).float()

    def batch(self, rows: Any, epochs: Any, *, train: bool) -> dict[str, Any]:
        del epochs, train
        return {"values": self.values[rows]}

    def loss(self, model: Any, batch: Any) -> tuple[Any, Any]:
        return 0.5 * (model(batch["values"]) ** 2).sum(), len(batch["values"])


def test_the_noise_scale_of_a_known_problem_is_found_within_a_tenth() -> None:
    """Gradient (1, …, 1) in 50 dimensions, noise of variance 9 in each: 450 / 50 = 9 rows."""
    settings = TrainSettings(
        batch_size=64, steps=5, optimizer=OptimizerSettings("sgd", lr=1e-9, clip=None)
    )
    advice = find_batch(prepare(Quadratic(noise=3.0), Shift(), settings), steps=40)
    assert advice.signal == pytest.approx(50.0, rel=0.1)
    assert advice.noise == pytest.approx(450.0, rel=0.1)
    assert advice.rows == pytest.approx(9.0, rel=0.1)
    assert (advice.suggested, advice.small, advice.big, advice.steps) == (8, 8, 64, 40)
    assert len(advice.scales) == 40


def test_without_noise_one_row_is_enough() -> None:
    """Rows that all say the same have no noise."""
    settings = TrainSettings(batch_size=16, steps=5, optimizer=OptimizerSettings("sgd", lr=1e-9))
    advice = find_batch(prepare(Quadratic(noise=0.0), Shift(), settings), steps=2)
    assert advice.rows == pytest.approx(0.0, abs=1e-5)
    assert advice.suggested == 1


def test_advice_says_why() -> None:
    """One sentence with the numbers that it rests on; batches of at most the rows there are."""
    run = prepare(Points(), net(), TrainSettings(batch_size=8, steps=5, micro_batch=2))
    rate, batch = find_lr(run, low=1e-4, high=1.0, steps=12), find_batch(run, steps=2, parts=4)
    assert rate.to_dict()["reason"] == (
        f"Of {len(rate.rates)} rates from 0.0001 to {rate.rates[-1]:.2g} the loss fell fastest at "
        f"{rate.suggested:.2g}; above {rate.limit:.2g} it rose."
    )
    assert "8 rows over 2 steps" in batch.reason or "2 steps of 8 rows" in batch.reason
    assert batch.suggested <= 16
    nothing = replace(batch, rows=math.inf)
    assert "no common direction was seen" in nothing.to_dict()["reason"]


class Limited(Points):
    """Runs out of memory where a micro-batch has more than two rows."""

    limited = True

    def loss(self, model: Any, batch: Any) -> tuple[Any, Any]:
        if len(batch["rows"]) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return super().loss(model, batch)


def test_advice_cuts_a_batch_that_memory_does_not_hold() -> None:
    """It is cut as training would, gives what a run with room gives, and is whole again after."""
    settings = TrainSettings(batch_size=8, steps=5)
    run, roomy = (prepare(task, net(), settings) for task in (Limited(), Points()))
    assert find_lr(run, steps=12).losses == pytest.approx(find_lr(roomy, steps=12).losses, rel=1e-5)
    assert find_batch(run, steps=1, parts=2).small == 2
    assert (run.micro, run.tight) == (8, False)


def test_wrong_questions_are_refused() -> None:
    """Rates that do not rise, too few steps, parts without rows."""
    run = prepare(Points(), net(), TrainSettings(batch_size=4, steps=3))
    with pytest.raises(SettingsError, match="2 problems"):
        find_lr(run, low=1.0, high=0.1, steps=3)
    with pytest.raises(SettingsError, match="got 20 steps, 8 parts and 4 rows"):
        find_batch(run)


def test_a_hopeless_start_is_told() -> None:
    """When the first loss is no number there is no advice."""
    task = Points()
    task.values[:] = math.nan
    run = prepare(task, net(), TrainSettings(batch_size=4, steps=3))
    with pytest.raises(DataError, match="no three finite losses"):
        find_lr(run)
