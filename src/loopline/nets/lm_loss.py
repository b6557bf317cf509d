"""Cross-entropy over a large vocabulary, without ever holding all of its scores.

The scores of *N* tokens over a vocabulary of *V* are the largest tensor of a language model's step:
32 x 1,024 tokens of GPT-2's 50,304 take 3.3 GB in 16 bits, and their gradient as much. Here the
tokens are taken in chunks. Of each, scores, loss and the gradient of the scores are made at once,
multiplied back into the gradients of vectors and weights, and forgotten. Nothing is computed twice.

Source: the idea of the gradient in the forward pass is that of Liger Kernel's fused linear
cross-entropy (Hsu et al. 2024); this is plain torch, whose compiler fuses the passes over a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

IGNORED = -100
"""The target of a token after which nothing is to be guessed."""


class ChunkGradient(nn.Module):
    """Loss and gradient of a chunk of scores; a module without weights, so it can be compiled."""

    def forward(
        self, scores: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of the losses, and the gradient by the scores in their own type.

        Args:
            scores: shape (tokens, vocabulary).
            targets: shape (tokens,), -100 where there is none.
            weights: how much each token counts, shape (tokens,); None for all alike.
        """
        wide = _wide(scores)
        counted = (targets != IGNORED).to(wide.dtype)
        if weights is not None:
            counted = counted * weights.to(wide.dtype)
        safe = targets.clamp(min=0)
        logs = torch.logsumexp(wide, dim=-1)
        picked = wide.gather(-1, safe.unsqueeze(-1)).squeeze(-1)
        loss = ((logs - picked) * counted).sum()
        places = torch.arange(scores.shape[-1], device=scores.device)
        hit = (places == safe.unsqueeze(-1)).to(wide.dtype)
        gradient = (torch.exp(wide - logs.unsqueeze(-1)) - hit) * counted.unsqueeze(-1)
        return loss, gradient.to(scores.dtype)


class _TotalLoss(torch.autograd.Function):
    """The gradient is made in the forward pass and scaled in the backward one."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor | None,
        chunk_bytes: int,
        gradient: nn.Module,
    ) -> torch.Tensor:
        dtype = compute_dtype(hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            near, matrix = hidden.to(dtype), weight.to(dtype)
            to_hidden = torch.empty_like(near)
            to_weight = torch.zeros_like(weight, dtype=_wide_dtype(dtype))
            losses = []
            for span in chunks(near.shape[0], matrix.shape[0], dtype, chunk_bytes):
                part = near[span]
                scores = part @ matrix.T
                counted = None if weights is None else weights[span]
                loss, slope = gradient(scores, targets[span], counted)
                del scores
                losses.append(loss)
                torch.mm(slope, matrix, out=to_hidden[span])
                add_product(to_weight, slope.T, part)
                del slope
        ctx.save_for_backward(to_hidden, to_weight)
        ctx.types = hidden.dtype, weight.dtype
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> Any:
        to_hidden, to_weight = ctx.saved_tensors
        first, second = ctx.types
        # in place: the gradient of a large head is not held twice
        return (
            to_hidden.mul_(slope.to(to_hidden.dtype)).to(first),
            to_weight.mul_(slope).to(second),
            None,
            None,
            None,
            None,
        )


def add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """Add a product to `total`, in the type of `total` where the device can.

    On a GPU the product of 16-bit numbers is summed in 32 bits, so it is neither rounded to 16 bits
    before it is added nor written and read once more.

    >>> total = torch.ones(1, 1)
    >>> add_product(total, torch.full((1, 2), 2.0), torch.full((2, 1), 3.0))
    >>> total.item()
    13.0
    """
    if total.is_cuda and total.dtype != left.dtype:
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    else:
        total += left @ right


def total_loss(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor | None,
    chunk_bytes: int,
    gradient: nn.Module,
) -> torch.Tensor:
    """The sum of the losses in nats, with its gradient.

    Args:
        hidden: shape (tokens, width).
        weight: of the head, shape (vocabulary, width).
        targets: shape (tokens,), -100 where there is none.
        weights: how much each token counts, shape (tokens,); None for all alike.
        chunk_bytes: memory for a chunk of scores.
        gradient: a `ChunkGradient`, compiled or not.
    """
    if not torch.is_grad_enabled():
        losses = token_losses(hidden, weight, targets, chunk_bytes)
        return (losses if weights is None else losses * weights).sum()
    apply: Callable[..., torch.Tensor] = _TotalLoss.apply
    return apply(hidden, weight, targets, weights, chunk_bytes, gradient)


@torch.no_grad()
def token_losses(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk_bytes: int
) -> torch.Tensor:
    """The loss of each token in nats, 0 where there is no target; shape (tokens,)."""
    dtype = compute_dtype(hidden)
    found = torch.zeros(targets.shape, dtype=_wide_dtype(dtype), device=hidden.device)
    with torch.autocast(hidden.device.type, enabled=False):
        near, matrix = hidden.to(dtype), weight.to(dtype)
        for span in chunks(near.shape[0], matrix.shape[0], dtype, chunk_bytes):
            wide = _wide(near[span] @ matrix.T)
            known = targets[span] != IGNORED
            picked = wide.gather(-1, targets[span].clamp(min=0).unsqueeze(-1)).squeeze(-1)
            found[span] = torch.where(known, torch.logsumexp(wide, dim=-1) - picked, 0.0)
    return found


def chunk_memory(device: torch.device) -> int:
    """Bytes for a chunk of scores: a 64th of a GPU's memory, 2 GiB at most; else 1 GiB.

    Few and large products are faster: with 2 GiB instead of 1 a step of a Llama of 1.2 billion
    weights takes 0.4 % less time on a card of 141 GB, which then holds 2 GB more.

    >>> chunk_memory(torch.device("cpu")) == 2**30
    True
    """
    if device.type != "cuda":
        return 2**30
    return min(int(torch.cuda.get_device_properties(device).total_memory) // 64, 2**31)


def chunks(tokens: int, vocabulary: int, dtype: torch.dtype, chunk_bytes: int) -> list[slice]:
    """Spans of tokens whose scores fit the memory, of one size where that can be had.

    One size means one compiled kernel. Up to four times as many chunks are taken for it.

    >>> [(part.start, part.stop) for part in chunks(8, 4, torch.float32, 64)]
    [(0, 4), (4, 8)]
    """
    most = max(1, chunk_bytes // (vocabulary * dtype.itemsize))
    least = max(1, math.ceil(tokens / most))
    even = (count for count in range(least, min(4 * least, tokens) + 1) if tokens % count == 0)
    size = math.ceil(tokens / next(even, least)) if tokens else 1
    return [slice(start, min(start + size, tokens)) for start in range(0, tokens, size)]


def compute_dtype(hidden: torch.Tensor) -> torch.dtype:
    """The type in which products with a tensor are computed: that of autocast, or its own."""
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return hidden.dtype


def _wide_dtype(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values.to(_wide_dtype(values.dtype))
