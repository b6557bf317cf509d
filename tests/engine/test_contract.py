"""The loss contract: however the global batch is cut, the gradient is the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.engine.nets import Points, gap, net, weights

from loopline.engine.feeder import Feeder
from loopline.engine.layout import Layout
from loopline.engine.loop import train
from loopline.engine.optimizer import OptimizerSettings
from loopline.engine.run import Run, prepare
from loopline.engine.settings import TrainSettings

CPU = torch.device("cpu")


def _run(batch: int, **others: object) -> Run:
    plain = {"steps": 3, "optimizer": OptimizerSettings(clip=None)} | others
    return prepare(Points(40), net(), TrainSettings(batch_size=batch, **plain))  # type: ignore[arg-type]


def _gradient(run: Run, step: int, world: int, micro: int) -> tuple[torch.Tensor, float]:
    """The gradient of a step as `world` ranks compute it, one after the other, and its loss."""
    totals = torch.zeros(2, dtype=torch.float64)
    parts: list[torch.Tensor] = []
    for rank in range(world):
        feeder = Feeder(run.task, run.order, Layout("single", rank, world, CPU), micro, threads=1)
        for rows, batches in feeder.steps(step, step + 1):
            totals += run.forward_backward(batches, len(rows.parts))
        feeder.close()
        parts.append(torch.cat([value.flatten() for value in run.gradients()]))
        run.optimizer.zero_grad()
    whole = torch.stack(parts).sum(0) * run.settings.batch_size / totals[1].float()
    return whole, float(totals[0] / totals[1])


@given(
    batch=st.integers(4, 16),
    world=st.integers(1, 4),
    micro=st.integers(1, 16),
    step=st.integers(0, 9),
)
@example(batch=7, world=2, micro=1, step=0)  # one rank has fewer rows: a row stands in
@example(batch=5, world=4, micro=1, step=1)
@settings(max_examples=40, deadline=None)
def test_any_cut_gives_the_same_gradient(batch: int, world: int, micro: int, step: int) -> None:
    """Ranks, micro-batches and unequal weights: relative error of gradient and loss below 1e-6."""
    run = _run(batch)
    whole, loss = _gradient(run, step, 1, batch)
    cut, cut_loss = _gradient(run, step, world, micro)
    assert float((cut - whole).norm() / whole.norm()) < 1e-6
    assert abs(cut_loss - loss) < 1e-6 * loss


def test_the_gradient_is_that_of_the_weighted_mean() -> None:
    """It equals the one that a hand-written weighted mean over the batch has."""
    run = _run(8)
    found, loss = _gradient(run, 0, 2, 3)
    task, rows = run.task, run.order.batch(0)[0]
    model = net()
    sums, weight = task.loss(model, task.batch(rows, np.zeros_like(rows), train=True))
    (sums / weight).backward()
    wanted = torch.cat([value.grad.flatten() for value in model.parameters()])  # type: ignore[union-attr]
    assert float((found - wanted).norm() / wanted.norm()) < 1e-6
    assert loss == pytest.approx(float((sums / weight).detach()), rel=1e-6)


@pytest.mark.parametrize("lengths", [False, True])
def test_training_does_not_depend_on_the_micro_batch(lengths: bool) -> None:
    """After ten steps, clipping included, weights agree to 1e-6 for any micro-batch."""
    found = []
    for micro in (None, 5, 1):
        run = prepare(
            Points(40, lengths=lengths),
            net(),
            TrainSettings(batch_size=9, steps=10, micro_batch=micro),
        )
        found.append(weights(train(run).model))
    assert gap(found[0], found[1]) < 1e-6
    assert gap(found[0], found[2]) < 1e-6


def test_clipping_limits_the_norm_of_the_whole_gradient() -> None:
    """The norm told is that before clipping; the gradient afterwards has the limit's norm."""
    run = _run(8, optimizer=OptimizerSettings(clip=1e-3))
    feeder = Feeder(run.task, run.order, run.layout, 3)
    for rows, batches in feeder.steps(0, 1):
        totals = run.forward_backward(batches, len(rows.parts))
        norm, finite = run.rescale(totals)
        clipped = torch.cat([value.flatten() for value in run.gradients()]).norm()
    feeder.close()
    assert bool(finite)
    assert float(norm) > 1e-3
    assert float(clipped) == pytest.approx(1e-3, rel=1e-3)
