"""A decoder for language: tokens in, the loss of each next one out.

One network, two shapes: "llama" (RMS norm, rotary positions, gated feed-forward net, grouped keys)
and "gpt2" (layer norm, learned positions, biases). Queries, keys and values are one product, and so
are both halves of the gated net, because one wide product is quicker than three narrow ones.
`loopline.nets.lm_files` reads and writes the Hugging Face layout.

Documents may be packed into one row. A token then sees its own document only, and positions count
from the document's start, so what stands beside a document changes nothing.

Sources: Touvron et al. 2023 (Llama), Radford et al. 2019 (GPT-2), Su et al. 2021 (rotary
positions), Ainslie et al. 2023 (grouped keys), Shazeer 2020 (gated feed-forward nets).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from loopline.engine.meter import Flops
from loopline.errors import SettingsError
from loopline.nets.lm_attention import attend, document_mask, needs_mask
from loopline.nets.lm_loss import (
    ChunkGradient,
    chunk_memory,
    compute_dtype,
    token_losses,
    total_loss,
)

Style = Literal["llama", "gpt2"]


@dataclass(frozen=True)
class Shape:
    """What a decoder is made of.

    Args:
        vocabulary: number of tokens.
        layers: number of blocks.
        width: length of the vectors between blocks.
        heads: query heads.
        kv_heads: heads of keys and values; divides `heads`.
        head_width: length of a head's vectors; 128 suits GPUs best. Even.
        inner: width of the feed-forward net.
        context: the most tokens that it reads at once.
        style: "llama" or "gpt2".
        rope_base: of rotary positions.
        rope_scaling: how they are stretched: none, or factor, low factor, high factor and the
            context before (Llama 3.1).
        norm_eps: added to a variance before the root.
        tied: whether the head's weights are those of the token table.

    >>> Shape(vocabulary=65, width=256).heads
    2
    """

    vocabulary: int
    layers: int = 4
    width: int = 256
    heads: int = 0
    kv_heads: int = 0
    head_width: int = 128
    inner: int = 0
    context: int = 256
    style: Style = "llama"
    rope_base: float = 10_000.0
    rope_scaling: tuple[float, float, float, float] | None = None
    norm_eps: float = 1e-5
    tied: bool = True

    def __post_init__(self) -> None:
        if not self.heads:
            object.__setattr__(self, "heads", max(1, self.width // self.head_width))
        if not self.kv_heads:
            object.__setattr__(self, "kv_heads", self.heads)
        if not self.inner:
            wide = 4 * self.width if self.style == "gpt2" else 64 * math.ceil(self.width / 24)
            object.__setattr__(self, "inner", wide)
        problems = [
            f"`{name}` must be at least 1, got {getattr(self, name)}."
            for name in ("vocabulary", "layers", "width", "context")
            if getattr(self, name) < 1
        ]
        if self.heads % self.kv_heads:
            problems.append(
                f"`kv_heads` must divide `heads`, so that each group of query heads has its keys; "
                f"got {self.heads} and {self.kv_heads}."
            )
        if self.head_width % 2:
            problems.append(f"`head_width` must be even, got {self.head_width}.")
        if problems:
            raise SettingsError(problems)


def rotations(shape: Shape) -> torch.Tensor:
    """Cosines and sines of rotary positions, shape (context, head_width), 32 bits.

    The first half of a line are cosines, the second sines, of position times rate.
    """
    half = torch.arange(0, shape.head_width, 2, dtype=torch.float64)
    rates = shape.rope_base ** (-half / shape.head_width)
    if shape.rope_scaling is not None:
        rates = _stretched(rates, *shape.rope_scaling)
    angles = torch.arange(shape.context, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1).float()


def _stretched(
    rates: torch.Tensor, factor: float, low: float, high: float, before: float
) -> torch.Tensor:
    """Slow rotations slowed by the factor, quick ones left, a ramp between (Llama 3.1)."""
    turns = before * rates / (2.0 * math.pi)
    share = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return rates * (share + (1.0 - share) / factor)


def rotated(heads: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Heads (rows, tokens, heads, head_width) turned by their positions.

    Args:
        heads: queries or keys.
        turns: as `rotations` has them, shape (rows or 1, tokens, head_width).
    """
    cosine, sine = turns.unsqueeze(2).chunk(2, dim=-1)
    first, second = heads.float().chunk(2, dim=-1)
    turned = [first * cosine - second * sine, second * cosine + first * sine]
    return torch.cat(turned, dim=-1).to(heads.dtype)


class RMSNorm(nn.Module):
    """Vectors of root mean square 1, times a learned scale (Zhang and Sennrich 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """The same shape and type; computed in 32 bits."""
        wide = hidden if hidden.dtype == torch.float64 else hidden.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * scale).to(hidden.dtype) * self.weight.to(hidden.dtype)


class LayerNorm(nn.Module):
    """Vectors of mean 0 and variance 1, scaled and moved (Ba et al. 2016)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """The same shape and type."""
        dtype = self.weight.dtype
        wide = hidden.to(dtype)
        found = functional.layer_norm(wide, wide.shape[-1:], self.weight, self.bias, self.eps)
        return found.to(hidden.dtype)


@dataclass
class Memory:
    """Keys and values of what was read, for one block.

    Args:
        keys: shape (rows, kv_heads, context, head_width).
        values: likewise.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def extended(
        self, keys: torch.Tensor, values: torch.Tensor, start: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put new tokens at a place; gives everything up to them."""
        end = start + keys.shape[2]
        self.keys[:, :, start:end], self.values[:, :, start:end] = keys, values
        return self.keys[:, :, :end], self.values[:, :, :end]


class Block(nn.Module):
    """Attention and a feed-forward net, each behind a norm and beside a way past."""

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        gpt2, wide = shape.style == "gpt2", shape.heads * shape.head_width
        norm = LayerNorm if gpt2 else RMSNorm
        self.first, self.second = (norm(shape.width, shape.norm_eps) for _ in range(2))
        mixed = wide + 2 * shape.kv_heads * shape.head_width
        self.mix = nn.Linear(shape.width, mixed, bias=gpt2)
        self.out = nn.Linear(wide, shape.width, bias=gpt2)
        self.up = nn.Linear(shape.width, shape.inner * (1 if gpt2 else 2), bias=gpt2)
        self.down = nn.Linear(shape.inner, shape.width, bias=gpt2)

    def forward(
        self,
        hidden: torch.Tensor,
        turns: torch.Tensor | None = None,
        ends: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        memory: Memory | None = None,
        start: int = 0,
    ) -> torch.Tensor:
        """Hidden values in and out, shape (rows, tokens, width).

        Args:
            hidden: from the block below.
            turns: bits of `rotations` by token, int32: a type that no layout rounds.
            ends: of the documents, where rows hold several.
            mask: which tokens see each other, where that needs a mask.
            memory: what was read before, for generation; extended in place.
            start: tokens read before.
        """
        shape = self.shape
        rows, length, _ = hidden.shape
        parts = self.mix(self.first(hidden)).view(rows, length, -1, shape.head_width)
        query, key, value = parts.split([shape.heads, shape.kv_heads, shape.kv_heads], dim=2)
        if turns is not None:
            angles = turns.view(torch.float32)
            query, key = rotated(query, angles), rotated(key, angles)
        if memory is not None:
            keys, values = memory.extended(key.transpose(1, 2), value.transpose(1, 2), start)
            seen = attend(query, keys.transpose(1, 2), values.transpose(1, 2))
        else:
            seen = attend(query, key, value, ends, mask)
        hidden = hidden + self.dropout(self.out(seen.flatten(2)))
        added: torch.Tensor = hidden + self.dropout(self._fed(self.second(hidden)))
        return added

    def _fed(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.shape.style == "gpt2":
            fed = functional.gelu(self.up(hidden), approximate="tanh")
        else:
            # two products: the gradient of a halved one is put together in a slow kernel
            gate, value = (functional.linear(hidden, part) for part in self.up.weight.chunk(2))
            fed = functional.silu(gate) * value
        found: torch.Tensor = self.down(fed)
        return found


@dataclass
class Read:
    """What a decoder remembers while it generates.

    Args:
        blocks: the memory of each block.
        length: tokens read so far.
    """

    blocks: list[Memory] = field(default_factory=list)
    length: int = 0


class Decoder(nn.Module):
    """Tokens and those to be guessed in, losses out.

    With BF16 autocast the vectors between blocks have 16 bits too, as in FSDP's mixed precision,
    which halves what is moved; norms and losses are computed in 32.

    Args:
        shape: what it is made of.
        chunk_bytes: memory for the scores of all tokens of the vocabulary; they are made for as
            many tokens at a time as fit, and never held whole. None for a part of the device's.
        dropout: share of what a block adds that is left out in training.
    """

    turns: torch.Tensor

    def __init__(
        self, shape: Shape, chunk_bytes: int | None = None, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.shape, self.chunk_bytes = shape, chunk_bytes
        gpt2 = shape.style == "gpt2"
        self.tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.positions = nn.Embedding(shape.context, shape.width) if gpt2 else None
        self.layers = nn.ModuleList([Block(shape, dropout) for _ in range(shape.layers)])
        self.norm = (LayerNorm if gpt2 else RMSNorm)(shape.width, shape.norm_eps)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        self.gradient = ChunkGradient()
        if not gpt2:
            self.register_buffer("turns", rotations(shape).view(torch.int32), persistent=False)
        for name, value in self.named_parameters():
            if value.ndim == 2:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(value, std=0.02 / math.sqrt(2 * shape.layers) if last else 0.02)
        self.tie()

    def tie(self) -> None:
        """Let the head have the token table's weights, where the shape says so."""
        if self.shape.tied:
            self.head.weight = self.tokens.weight

    @property
    def flops(self) -> Flops:
        """What a token costs in training, for the meter's MFU."""
        shape = self.shape
        wide = shape.heads * shape.head_width
        return Flops(multiplied(self), shape.layers, wide, shape.context)

    def compiled_parts(self) -> Iterator[nn.Module]:
        """What is worth compiling: the blocks, and the gradient of a chunk of scores."""
        yield from self.layers
        yield self.gradient

    def compile_whole(self) -> None:
        """Compile all blocks as one graph, and the gradient of a chunk of scores."""
        self.hidden = torch.compile(self.hidden, dynamic=False)  # type: ignore[method-assign]
        self.gradient.compile()

    def hidden(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor | None = None,
        ends: torch.Tensor | None = None,
        read: Read | None = None,
    ) -> torch.Tensor:
        """The last vectors, behind the last norm, shape (rows, tokens, width).

        Args:
            tokens: shape (rows, tokens).
            positions: of each token in its document; None for 0, 1, 2, …
            ends: cumulative lengths of the documents over all rows; None for one a row.
            read: what was read before; the tokens come after that.
        """
        start = 0 if read is None else read.length
        span = slice(start, start + tokens.shape[1])
        hidden = self.tokens(tokens)
        turns = None
        if self.positions is not None:
            weight = self.positions.weight
            hidden = hidden + (weight[span] if positions is None else weight[positions])
        else:
            turns = self.turns[span].unsqueeze(0) if positions is None else self.turns[positions]
        if compute_dtype(hidden) == torch.bfloat16:
            hidden = hidden.bfloat16()
        mask = None
        if ends is not None and needs_mask(tokens.device, compute_dtype(hidden)):
            mask = document_mask(ends, *tokens.shape)
        for number, layer in enumerate(self.layers):
            memory = None if read is None else read.blocks[number]
            hidden = layer(hidden, turns, ends, mask, memory, start)
        if read is not None:
            read.length += tokens.shape[1]
        found: torch.Tensor = self.norm(hidden)
        return found

    def forward(
        self,
        tokens: torch.Tensor,
        targets: torch.Tensor,
        positions: torch.Tensor | None = None,
        ends: torch.Tensor | None = None,
        weight: torch.Tensor | None = None,
        *,
        each: bool = False,
    ) -> torch.Tensor:
        """The sum of the losses in nats, or the loss of each token.

        Args:
            tokens: shape (rows, tokens).
            targets: the token after each, -100 where nothing is to be guessed; same shape.
            positions: of each token in its document, where rows hold several.
            ends: cumulative lengths of the documents over all rows, as `pack` makes them, int32.
            weight: how much each token counts; same shape as `tokens`.
            each: whether to give the loss of each token, (rows, tokens), without a gradient.
        """
        hidden = self.hidden(tokens, positions, ends).flatten(0, 1)
        flat = targets.flatten()
        size = self.chunk_bytes or chunk_memory(hidden.device)
        if each:
            return token_losses(hidden, self.head.weight, flat, size).view(targets.shape)
        weights = None if weight is None else weight.flatten()
        return total_loss(hidden, self.head.weight, flat, weights, size, self.gradient)

    def scores(self, tokens: torch.Tensor, read: Read | None = None) -> torch.Tensor:
        """Scores of the whole vocabulary after each token, (rows, tokens, vocabulary)."""
        found: torch.Tensor = self.head(self.hidden(tokens, read=read))
        return found

    def begin(self, rows: int = 1) -> Read:
        """An empty memory for generation."""
        shape, like = self.shape, self.tokens.weight
        size = (rows, shape.kv_heads, shape.context, shape.head_width)
        return Read([Memory(like.new_empty(size), like.new_empty(size)) for _ in self.layers])


def multiplied(model: Decoder) -> int:
    """Weights that are multiplied with each token: all but the tables that are looked up in.

    >>> multiplied(Decoder(Shape(vocabulary=8, layers=1, width=4, head_width=2, inner=4)))
    156
    """
    total = sum(value.numel() for value in model.parameters())
    looked_up = 0 if model.shape.tied else model.tokens.weight.numel()
    if model.positions is not None:
        looked_up += model.positions.weight.numel()
    return total - looked_up
