"""A few numbers a step that travel from the device to the host without anybody waiting.

Loss, weight, a flag for a bad step and the ranks' wishes are summed over the ranks in one tensor.
The host reads the packet of a step when the next step has been queued, so the device always has
work, and all ranks read the same numbers at the same step: what they decide from them, they decide
together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Packet:
    """What the host learns of one step.

    Args:
        step: the step, from 0.
        loss: mean loss over the global batch.
        weight: the batch's weight.
        norm: norm of the gradient before clipping.
        good: whether the update was made.
        stop: how many ranks wish to stop.
        save: how many ranks wish for a checkpoint.
    """

    step: int
    loss: float
    weight: float
    norm: float
    good: bool
    stop: int
    save: int

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are finite."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


class Mailbox:
    """Sends packets from a device to the host."""

    def __init__(self, device: torch.device) -> None:
        self._pinned = device.type == "cuda"
        self._sent: tuple[int, torch.Tensor, torch.cuda.Event | None] | None = None

    def send(self, step: int, values: torch.Tensor) -> None:
        """Start the copy of a step's numbers (loss, weight, norm, good, stop, save)."""
        if not self._pinned:
            self._sent = (step, values.detach().clone(), None)
            return
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values.detach(), non_blocking=True)
        done: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()
        self._sent = (step, host, done)

    def receive(self) -> Packet | None:
        """The packet that was sent last, waiting until it is there; None when there is none."""
        if self._sent is None:
            return None
        step, host, done = self._sent
        self._sent = None
        if done is not None:
            done.synchronize()
        loss, weight, norm, good, stop, save = host.tolist()
        return Packet(step, loss, weight, norm, good > 0.5, round(stop), round(save))
