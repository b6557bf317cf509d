"""A plain decoder of GPT-2's shape and a task of random tokens, for the engine's benchmarks."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from loopline.engine.task import Task

SHAPES = {  # layers, width, heads, length, vocabulary
    "gpt2": (12, 768, 12, 1024, 50_304),
    "medium": (6, 512, 8, 512, 8_192),
    "small": (4, 256, 4, 128, 2_048),
    "tiny": (2, 64, 2, 32, 256),
}


class Block(nn.Module):
    """Causal attention and a feed-forward net, each behind a norm and beside a way past."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden values in and out, shape (rows, length, width)."""
        rows, length, width = hidden.shape
        parts = self.mix(self.first(hidden)).view(rows, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.out(seen.transpose(1, 2).reshape(rows, length, width))
        return hidden + self.down(functional.gelu(self.up(self.second(hidden)), approximate="tanh"))


class Tail(nn.Module):
    """The last norm, the head and the sum of the losses, in one place to be compiled."""

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Sum of the losses."""
        logits = self.head(self.norm(hidden)).flatten(0, 1).float()
        return functional.cross_entropy(logits, targets.flatten(), reduction="sum")


class Decoder(nn.Module):
    """Tokens and targets in, sum of the losses out."""

    def __init__(self, shape: str, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        layers, width, heads, length, vocabulary = SHAPES[shape]
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(length, width)
        self.layers = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.tail = Tail(width, vocabulary)
        for name, value in self.named_parameters():
            if value.ndim == 2:
                scale = (
                    0.02 / (2 * layers) ** 0.5
                    if name.endswith(("out.weight", "down.weight"))
                    else 0.02
                )
                nn.init.normal_(value, std=scale)
        self.tail.head.weight = self.tokens.weight

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Sum of the losses over all tokens."""
        hidden = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden)
        return self.tail(hidden, targets)


def multiplied(model: nn.Module) -> int:
    """Weights that are multiplied with each token: all but the places (the head counts, tied)."""
    return sum(value.numel() for name, value in model.named_parameters() if "places" not in name)


class Tokens(Task):
    """Random tokens; every next one is to be guessed."""

    def __init__(self, shape: str, rows: int) -> None:
        _, _, _, self.length, vocabulary = SHAPES[shape]
        draw = np.random.default_rng(0)
        self.values = torch.from_numpy(draw.integers(0, vocabulary, (rows, self.length + 1)))
        self.num_rows = rows

    def batch(self, rows, epochs, *, train):
        """Tokens and those after them."""
        del epochs, train
        found = self.values[torch.from_numpy(np.asarray(rows))]
        return {"tokens": found[:, :-1].contiguous(), "targets": found[:, 1:].contiguous()}

    def loss(self, model, batch):
        """Sum over the tokens, and how many there are."""
        return model(batch["tokens"], batch["targets"]), batch["targets"].numel()
