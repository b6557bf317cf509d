"""Nine moments of a run at which others may act; what ships with the engine uses the same ones.

An `Event` object keeps tensors of its own in `tensors` and plain data in ``run.state.extra`` under
its name; both go into every checkpoint. Events are called in the order in which they were given, on
every rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from loopline.engine.layout import unwrapped
from loopline.errors import SettingsError

if TYPE_CHECKING:
    from loopline.engine.run import Run


class Event:
    """Override what you need; each method gets the run."""

    name = "event"
    """Names its state in checkpoints."""

    def started(self, run: Run) -> None:
        """Once, before a checkpoint is loaded (if there is one): make the tensors to be kept."""

    def before_step(self, run: Run) -> None:
        """Before the forward passes of a step."""

    def after_backward(self, run: Run) -> None:
        """With the sum of the gradients in place, before clipping and the update."""

    def after_step(self, run: Run) -> None:
        """After the update; `run.state` counts the step already, `run.packet` is one step older."""

    def after_epoch(self, run: Run) -> None:
        """When the last row of an epoch was consumed."""

    def evaluating(self, run: Run) -> None:
        """Before an evaluation."""

    def evaluated(self, run: Run, loss: float, others: dict[str, float]) -> None:
        """After an evaluation, with the same numbers on every rank."""

    def saved(self, run: Run) -> None:
        """After a checkpoint was asked for."""

    def finished(self, run: Run) -> None:
        """Once, at the end, also when the run was asked to stop."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors that must survive a restart, whole or sharded; loading fills them."""
        return {}


@dataclass
class EarlyStop(Event):
    """Stop when evaluations stop getting better, and keep the best weights.

    An evaluation that is not finite is not better.

    Args:
        patience: evaluations without a better one that are waited for, at least 1.
        least: how much better counts, >= 0.

    Raises:
        SettingsError: numbers out of these ranges.
    """

    patience: int = 3
    least: float = 0.0
    name: str = "early_stop"

    def __post_init__(self) -> None:
        if self.patience < 1 or self.least < 0.0:
            raise SettingsError(
                [
                    "Early stopping needs a `patience` of at least 1 and a `least` of at least 0, "
                    f"got {self.patience} and {self.least}."
                ]
            )

    def started(self, run: Run) -> None:
        """Refuse an order in which the best checkpoint would hold average and weights exchanged."""
        later = list(run.events)[list(run.events).index(self) :]
        if any(isinstance(event, Average) for event in later):
            raise SettingsError(["Give the event `Average` before `EarlyStop`."])

    def evaluated(self, run: Run, loss: float, others: dict[str, float]) -> None:
        """Count evaluations since the best one."""
        del others
        state = run.state
        if math.isfinite(loss) and (state.best is None or loss < state.best - self.least):
            state.best, state.best_step, state.bad_evaluations = loss, state.step, 0
            run.save("best")
            return
        state.bad_evaluations += 1
        if state.bad_evaluations >= self.patience:
            run.stop(f"no better evaluation in {self.patience}", final=True)


@dataclass
class Average(Event):
    """Exponential moving average of the weights, kept shard by shard in 32 bits.

    Buffers of real numbers (running means and variances) are averaged as well. Evaluations are made
    with the average, and a checkpoint holds it beside the weights. Give it before `EarlyStop`.
    Source: Polyak & Juditsky 1992, with exponential forgetting.

    Args:
        decay: share of the old average that is kept at each step, in (0, 1).

    Raises:
        SettingsError: a decay out of this range.
    """

    decay: float = 0.999
    name: str = "average"
    shadow: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not 0.0 < self.decay < 1.0:
            raise SettingsError([f"The average's `decay` lies in (0, 1), got {self.decay}."])

    def started(self, run: Run) -> None:
        """Begin with the weights as they are."""
        self.shadow = {
            name: value.detach().clone().float() for name, value in _weights(run).items()
        }

    @torch.no_grad()
    def after_step(self, run: Run) -> None:
        """Move the average towards the weights."""
        weights = _weights(run)
        names = list(self.shadow)
        torch._foreach_lerp_(  # torch's own way to do it for all tensors at once
            [_local(self.shadow[name]) for name in names],
            [_local(weights[name]).float() for name in names],
            1.0 - self.decay,
        )

    def evaluating(self, run: Run) -> None:
        """Put the average in the place of the weights."""
        self.swap(run)

    def evaluated(self, run: Run, loss: float, others: dict[str, float]) -> None:
        """Put the weights back."""
        del loss, others
        self.swap(run)

    @torch.no_grad()
    def swap(self, run: Run) -> None:
        """Exchange the average and the weights."""
        for name, value in _weights(run).items():
            here, there = _local(value), _local(self.shadow[name])
            kept = here.float().clone()
            here.copy_(there)
            there.copy_(kept)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The average, by the names of the weights."""
        return self.shadow


@dataclass
class SpikeStop(Event):
    """Stop before the update when a batch's loss leaps far above those before it.

    Mean and variance of the loss are kept on the device with exponential forgetting, so watching
    costs no synchronisation. The run ends with the batch's rows named and the weights as they were.

    Args:
        deviations: standard deviations above the mean that are a leap, > 0.
        after: steps that are only watched, at least 2.
        decay: share of the old statistics that is kept at each step, in (0, 1).
    """

    deviations: float = 10.0
    after: int = 100
    decay: float = 0.99
    name: str = "spike_stop"
    kept: torch.Tensor = field(default_factory=lambda: torch.zeros(3), repr=False)

    def started(self, run: Run) -> None:
        """Begin with no steps seen."""
        self.kept = torch.zeros(3, dtype=torch.float64, device=run.layout.device)

    def after_backward(self, run: Run) -> None:
        """Compare the step's loss with those before it."""
        loss = run.totals[0] / run.totals[1]
        mean, spread, seen = self.kept.unbind()
        # spread of at least a tenth of the mean: losses may have been equal for a while
        edge = mean + self.deviations * torch.maximum(spread.sqrt(), 0.1 * mean.abs())
        run.allowed = run.allowed & ((seen < self.after) | (loss <= edge))
        away = loss - mean
        share = torch.maximum(1.0 / (seen + 1.0), torch.full_like(seen, 1.0 - self.decay))
        moved = torch.stack(
            [mean + share * away, (1.0 - share) * (spread + share * away * away), seen + 1.0]
        )
        self.kept.copy_(torch.where(run.allowed & torch.isfinite(loss), moved, self.kept))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Mean, variance and number of the losses seen."""
        return {"kept": self.kept}


@dataclass
class Rungs(Event):
    """Tell what the held-out rows are predicted to be after 1, 2, 4, 8 … times so many epochs.

    Whoever is told may raise, which ends the run. What was predicted is kept in checkpoints, and a
    run that goes on from one tells of its earlier rungs again. For one process; give it before
    `EarlyStop`, whose checkpoints then hold the rung.

    Args:
        tell: gets the rung's number and the predictions of all held-out rows.
        first: epochs at rung 0, above 0; evaluations between two rungs are not told.
        shape: of the predictions.
        most: how many rungs can be told, at least 1.
    """

    tell: Callable[[int, NDArray[np.float64]], None]
    first: float
    shape: tuple[int, ...]
    most: int
    name: str = "rungs"
    kept: torch.Tensor = field(default_factory=lambda: torch.zeros(0), repr=False)
    told: int = 0

    def started(self, run: Run) -> None:
        """Make room for the predictions."""
        del run
        self.kept = torch.zeros((self.most, *self.shape))

    def evaluated(self, run: Run, loss: float, others: dict[str, float]) -> None:
        """Tell of the rung that was reached, if one was, and of those not told of yet."""
        del loss, others
        numbers = run.state.extra.setdefault(self.name, [])
        way = run.state.samples // run.order.num_rows / self.first
        number = math.floor(math.log2(way * (1 + 1e-9))) if way >= 1 else -1
        if number >= 0 and number not in numbers and len(numbers) < self.most:
            self.kept[len(numbers)] = torch.from_numpy(run.predictions).to(self.kept.dtype)
            numbers.append(number)
        while self.told < len(numbers):
            self.told += 1
            self.tell(numbers[self.told - 1], self.kept[self.told - 1].double().numpy())

    def tensors(self) -> dict[str, torch.Tensor]:
        """The predictions at each rung."""
        return {"kept": self.kept}


def _weights(run: Run) -> dict[str, torch.Tensor]:
    model = unwrapped(run.model)
    found: dict[str, torch.Tensor] = {
        name: value for name, value in model.named_parameters() if value.requires_grad
    }
    return found | {
        name: value for name, value in model.named_buffers() if value.is_floating_point()
    }


def _local(value: torch.Tensor) -> torch.Tensor:
    """This rank's part of a tensor."""
    part = getattr(value, "_local_tensor", value)
    return part.detach()
