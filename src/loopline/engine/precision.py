"""Number formats: what is computed in which, and how FP16 keeps its gradients alive.

fp32: everything in 32 bits. tf32: the same, matrix products with 10-bit mantissas on the GPU. bf16
and fp16: 32-bit weights, products in 16 bits (autocast). bf16_pure: the weights as well, which
halves their memory and rounds their updates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from loopline.errors import SettingsError

NAMES = ("fp32", "tf32", "bf16", "fp16", "bf16_pure")
START_SCALE = 2.0**16
GROW_AFTER = 2000


@dataclass(frozen=True)
class Precision:
    """A number format by name.

    Args:
        name: one of `NAMES`.
        device: "cpu" or "cuda".
    """

    name: str = "fp32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise SettingsError(
                [f"`precision` must be one of {', '.join(NAMES)}, got {self.name!r}."]
            )

    @property
    def compute(self) -> torch.dtype:
        """The type of matrix products."""
        return {"bf16": torch.bfloat16, "bf16_pure": torch.bfloat16, "fp16": torch.float16}.get(
            self.name, torch.float32
        )

    @property
    def weights(self) -> torch.dtype:
        """The type in which weights are kept."""
        return torch.bfloat16 if self.name == "bf16_pure" else torch.float32

    @property
    def scaled(self) -> bool:
        """Whether gradients need a loss scale."""
        return self.name == "fp16"

    def apply(self) -> None:
        """Set the process's products of 32-bit numbers; call once before training."""
        _set_products(exact=self.name == "fp32")

    def context(self) -> AbstractContextManager[Any]:
        """Wrap each forward pass in this."""
        if self.name in ("bf16", "fp16"):
            return torch.autocast(self.device, dtype=self.compute)
        return nullcontext()


@contextmanager
def exact_products() -> Iterator[None]:
    """All 32 bits in products of matrices and convolutions, whatever a training before has set.

    A GPU may compute them with 10-bit mantissas. Predictions made so after a training differed by
    0.002 from those of the released model, which another process reads and computes in 32 bits.
    """
    matrices = torch.get_float32_matmul_precision()
    convolutions = torch.backends.cudnn.allow_tf32
    _set_products(exact=True)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matrices)
        torch.backends.cudnn.allow_tf32 = convolutions


def _set_products(*, exact: bool) -> None:
    torch.set_float32_matmul_precision("highest" if exact else "high")
    torch.backends.cudnn.allow_tf32 = not exact


class LossScale:
    """FP16's loss scale: halved when a gradient overflows, doubled after 2,000 good steps.

    It lives in two tensors on the device, so using it costs no synchronisation.
    """

    def __init__(self, device: torch.device, scale: float = START_SCALE) -> None:
        self.scale = torch.full((), scale, device=device)
        self.good = torch.zeros((), dtype=torch.int32, device=device)

    def update(self, finite: torch.Tensor) -> None:
        """Move on after a step whose gradients were finite on every rank, or were not."""
        self.good = torch.where(finite, self.good + 1, torch.zeros_like(self.good))
        grow = self.good >= GROW_AFTER
        factor = torch.where(finite, torch.where(grow, 2.0, 1.0), 0.5)
        self.scale = (self.scale * factor).clamp_(2.0**-14, 2.0**24)
        self.good = torch.where(grow, torch.zeros_like(self.good), self.good)

    def state_dict(self) -> dict[str, float]:
        """Plain numbers for a checkpoint."""
        return {"scale": float(self.scale), "good": float(self.good)}

    def load_state_dict(self, data: dict[str, float]) -> None:
        """Go on from stored numbers."""
        self.scale.fill_(data["scale"])
        self.good.fill_(int(data["good"]))
