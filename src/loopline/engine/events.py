"""Eight moments of a run at which others may act; what ships with the engine uses the same ones.

An `Event` object keeps its own state in `state_dict`, which goes into every checkpoint. Events are
called in the order in which they were given, on every rank.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from loopline.engine.layout import unwrapped

if TYPE_CHECKING:
    from loopline.engine.loop import Run


class Event:
    """Override what you need; each method gets the run."""

    name = "event"
    """Names its state in checkpoints."""

    def started(self, run: Run) -> None:
        """Once, after a checkpoint was loaded (if there was one) and before the first step."""

    def before_step(self, run: Run) -> None:
        """Before the forward passes of a step."""

    def after_backward(self, run: Run) -> None:
        """With the gradient of the global batch in place, before clipping and the update."""

    def after_step(self, run: Run) -> None:
        """After the update; `run.state` counts the step already."""

    def after_epoch(self, run: Run) -> None:
        """When the last row of an epoch was consumed."""

    def evaluated(self, run: Run, loss: float, others: dict[str, float]) -> None:
        """After an evaluation."""

    def saved(self, run: Run) -> None:
        """After a checkpoint was asked for."""

    def finished(self, run: Run) -> None:
        """Once, at the end, also when the run was asked to stop."""

    def state_dict(self) -> dict[str, Any]:
        """What has to survive a restart: tensors and plain data."""
        return {}

    def load_state_dict(self, data: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""


@dataclass
class EarlyStop(Event):
    """Stop when evaluations stop getting better, and keep the best weights.

    Args:
        patience: evaluations without a better one that are waited for, at least 1.
        least: how much better counts.
    """

    patience: int = 3
    least: float = 0.0
    name: str = "early_stop"

    def evaluated(self, run: Run, loss: float, others: dict[str, float]) -> None:
        """Count evaluations since the best one."""
        del others
        state = run.state
        if state.best is None or loss < state.best - self.least:
            state.best, state.best_step, state.bad_evaluations = loss, state.step, 0
            run.keep_best()
            return
        state.bad_evaluations += 1
        if state.bad_evaluations >= self.patience:
            run.stop(f"no better evaluation in {self.patience}")


@dataclass
class Average(Event):
    """Exponential moving average of the weights, kept shard by shard.

    The average is taken in 32 bits. `swap` puts it in the place of the weights, and back.

    Args:
        decay: share of the old average that is kept at each step, in (0, 1).
    """

    decay: float = 0.999
    name: str = "average"
    shadow: dict[str, torch.Tensor] = field(default_factory=dict)

    def started(self, run: Run) -> None:
        """Begin with the weights as they are."""
        if not self.shadow:
            self.shadow = {
                name: value.detach().clone().float() for name, value in _weights(run).items()
            }

    @torch.no_grad()
    def after_step(self, run: Run) -> None:
        """Move the average towards the weights."""
        weights = _weights(run)
        names = list(self.shadow)
        torch._foreach_lerp_(  # noqa: SLF001  # torch's own way to do it for all tensors at once
            [_local(self.shadow[name]) for name in names],
            [_local(weights[name]).float() for name in names],
            1.0 - self.decay,
        )

    @torch.no_grad()
    def swap(self, run: Run) -> None:
        """Exchange the average and the weights."""
        for name, value in _weights(run).items():
            here, there = _local(value), _local(self.shadow[name])
            kept = here.float().clone()
            here.copy_(there)
            there.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """The average."""
        return dict(self.shadow)

    def load_state_dict(self, data: dict[str, Any]) -> None:
        """Go on from a stored average."""
        self.shadow = dict(data)


def _weights(run: Run) -> dict[str, torch.Tensor]:
    return {
        name: value
        for name, value in unwrapped(run.model).named_parameters()
        if value.requires_grad
    }


def _local(value: torch.Tensor) -> torch.Tensor:
    """This rank's part of a tensor."""
    part = getattr(value, "_local_tensor", value)
    return part.detach()
