"""Does a layout compute what one process computes? Loss and gradient errors, side by side.

Every process first takes a few steps alone, then the same steps together in each layout. Dropout is
off meanwhile, for it draws differently on every rank. What is compared is the gradient of the
global batch as the optimizer gets it, so clipping is in it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from loopline.engine.feeder import Feeder
from loopline.engine.layout import Layout
from loopline.engine.run import Run, prepare
from loopline.engine.settings import TrainSettings
from loopline.engine.task import Task

THRESHOLD = 1e-5


@dataclass(frozen=True)
class Parity:
    """How far one layout is from one process.

    Args:
        layout: "ddp" or "fsdp".
        world: number of processes.
        steps: steps compared, each with an update.
        loss: largest relative error of a step's loss.
        gradient: largest relative error of a step's gradient, as norm of the difference.
        threshold: what both may be.
    """

    layout: str
    world: int
    steps: int
    loss: float
    gradient: float
    threshold: float = THRESHOLD

    @property
    def holds(self) -> bool:
        """Whether both errors are within the threshold."""
        return self.loss <= self.threshold and self.gradient <= self.threshold


def parity(
    task: Task,
    make_model: Callable[[], nn.Module],
    settings: TrainSettings,
    layout: Layout,
    *,
    kinds: Sequence[Literal["ddp", "fsdp"]] = ("ddp", "fsdp"),
    steps: int = 3,
    threshold: float = THRESHOLD,
) -> list[Parity]:
    """Compare layouts of the processes that were started together with one process.

    Args:
        task: rows and loss.
        make_model: gives the model with its first weights, the same at every call and rank.
        settings: how to train.
        layout: of these processes, from `Layout.open`.
        kinds: the layouts to compare.
        steps: how many, at least 1.
        threshold: what the relative errors may be; 1e-5 suits FP32, 2e-2 BF16.
    """
    alone = Layout("single", 0, 1, layout.device)
    wanted = _steps(prepare(task, make_model(), settings, layout=alone), steps)
    found = []
    for kind in kinds:
        place = replace(layout, kind=kind)
        seen = _steps(prepare(task, make_model(), settings, layout=place), steps)
        losses, gradients = [0.0], [0.0]
        for (loss, gradient), (other, reference) in zip(seen, wanted, strict=True):
            losses.append(abs(loss - other) / abs(other))
            gradients.append(float((gradient - reference).norm() / reference.norm()))
        found.append(Parity(kind, layout.world, steps, max(losses), max(gradients), threshold))
    return found


def table(found: Sequence[Parity]) -> str:
    """The errors as text, one line for each layout.

    >>> print(table([Parity("ddp", 2, 3, 0.0, 1.2e-7)]))
    layout  processes  steps  loss error  gradient error  within 1e-05
    ddp             2      3     0.0e+00         1.2e-07  yes
    """
    limit = found[0].threshold if found else THRESHOLD
    lines = [f"layout  processes  steps  loss error  gradient error  within {limit:.0e}"]
    lines += [
        f"{line.layout:<6}  {line.world:>9}  {line.steps:>5}  {line.loss:>10.1e}  "
        f"{line.gradient:>14.1e}  {'yes' if line.holds else 'NO'}"
        for line in found
    ]
    return "\n".join(lines)


def _steps(run: Run, steps: int) -> list[tuple[float, torch.Tensor]]:
    """Loss and whole gradient of the first steps."""
    run.model.eval()
    found = []
    feeder = Feeder(run.task, run.order, run.layout, run.micro, threads=1)
    for rows, batches in feeder.steps(0, steps):
        run.optimizer.set_factor(run.settings.schedule.factor(rows.step, run.num_steps))
        totals = run.layout.sum(run.forward_backward(batches, len(rows.parts)))
        _, finite = run.rescale(totals)
        whole = [
            (value.full_tensor() if hasattr(value, "full_tensor") else value).flatten()
            for value in run.gradients()
        ]
        found.append((float(totals[0] / totals[1]), torch.cat(whole).float().cpu()))
        run.update(finite)
    feeder.close()
    return found
