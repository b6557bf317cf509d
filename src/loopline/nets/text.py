"""A network for texts: a pretrained encoder, one vector a text, a linear head.

`TextNet` is what is trained and saved; `Embedder` gives the vectors of a frozen encoder.

A text's vector must not depend on which texts are embedded beside it, or a fit that goes on after a
kill would differ from one that ran through. Matrix kernels add in an order that depends on the
shape, so the embedder computes in few fixed shapes: widths are rounded up, batches filled up.

Sources: low-rank adapters, Hu et al. 2021 (LoRA), by the `peft` package; a head fitted on frozen
vectors before everything is tuned, Kumar et al. 2022 (linear probing, then fine-tuning).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from loopline.engine.precision import exact_products

Arrays = Mapping[str, NDArray[Any]]
Ints = NDArray[np.int64]
Collate = Callable[..., Arrays]
_WIDTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_BATCH_TOKENS = {"cpu": 2_048, "cuda": 32_768}
"""Tokens that are embedded at once, filling included, by kind of device."""


class TextNet(nn.Module):
    """Windows of tokens in, scores of each row out.

    Args:
        backbone: an encoder that answers with `last_hidden_state`.
        start: first bias of the head, shape (outputs,), or the whole head: bias, then one row of
            weights a value of the vector, shape (1 + hidden, outputs).
        hidden: length of the encoder's vectors.
        pooling: "mean" or "cls".
        dropout: share of a vector's values left out in training.
    """

    def __init__(
        self,
        backbone: nn.Module,
        start: torch.Tensor,
        *,
        hidden: int,
        pooling: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        bias = start if start.ndim == 1 else start[0]
        self.head = nn.Linear(hidden, bias.numel())
        with torch.no_grad():
            if start.ndim == 1:
                self.head.weight.normal_(std=0.02)
            else:
                self.head.weight.copy_(start[1:].T)
            self.head.bias.copy_(bias)

    def vectors(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        share: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One vector a row, shape (rows, hidden)."""
        answer = self.backbone(input_ids=input_ids, attention_mask=attention_mask)
        pooled = pool(answer.last_hidden_state, attention_mask, self.pooling)
        return pooled if share is None else share.to(pooled.dtype) @ pooled

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        share: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Scores of shape (rows, outputs).

        Args:
            input_ids: int64, shape (windows, tokens).
            attention_mask: 1 where a token counts, same shape.
            share: how much each window counts in each row, shape (rows, windows); None where
                each row has one window.
        """
        scores: torch.Tensor = self.head(
            self.dropout(self.vectors(input_ids, attention_mask, share))
        )
        return scores


def pool(states: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """The first state of each window, or the mean of those that count.

    >>> states = torch.tensor([[[1.0], [3.0], [9.0]]])
    >>> pool(states, torch.tensor([[1, 1, 0]]), "mean").tolist()
    [[2.0]]
    """
    if pooling == "cls":
        return states[:, 0]
    counted = mask.unsqueeze(-1).to(states.dtype)
    return (states * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1.0)


class Embedder:
    """The vectors of a frozen encoder; those of lately seen texts are remembered.

    Args:
        backbone: the encoder.
        memory: how many numbers of vectors are remembered; by default those of 100,000 windows of
            the MiniLM, 160 MB.
    """

    def __init__(self, backbone: nn.Module, memory: int = 40_000_000) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.backbone = backbone.to(device).eval().requires_grad_(False)
        self._memory, self._device = memory, device
        self._known: dict[bytes, NDArray[np.float32]] = {}

    def rows(
        self,
        arrays: Arrays,
        padding: int,
        *,
        pooling: str,
        steady: bool,
        tell: Callable[[int], None] = lambda count: None,
    ) -> NDArray[np.float64]:
        """One vector a row, shape (rows, hidden).

        Args:
            arrays: `tokens`, `windows` and `rows`, as a text encoder gives them.
            padding: number of the token that fills up a batch.
            pooling: "mean" or "cls".
            steady: whether batches are filled up and vectors remembered, so that a vector does
                not depend on what was asked before; a few texts alone are answered sooner without.
            tell: hears how many more windows are done.
        """
        ends = arrays["windows"]
        keys = [
            pooling[:1].encode() + arrays["tokens"][start:stop].tobytes()
            for start, stop in pairwise(ends)
        ]
        known = {key: self._known[key] for key in dict.fromkeys(keys) if key in self._known}
        missing = [key for key in dict.fromkeys(keys) if key not in known]
        tell(len(known))
        known |= self._embedded(missing, padding, pooling, steady, tell)
        if steady:
            self._remember(known)
        windows = np.array([known[key] for key in keys], dtype=np.float64)
        starts = arrays["rows"]
        counts = np.diff(starts)
        if windows.shape[0] == counts.size:
            return windows.reshape(counts.size, -1)
        averaged: NDArray[np.float64] = np.add.reduceat(windows, starts[:-1], axis=0)
        return averaged / counts[:, None]

    def _remember(self, found: Mapping[bytes, NDArray[np.float32]]) -> None:
        width = next((vector.size for vector in found.values()), 0)
        if (len(found) + len(self._known)) * width > self._memory:
            self._known.clear()
        if len(found) * width <= self._memory:
            self._known.update(found)

    @torch.no_grad()
    def _embedded(
        self,
        keys: list[bytes],
        padding: int,
        pooling: str,
        steady: bool,
        tell: Callable[[int], None],
    ) -> dict[bytes, NDArray[np.float32]]:
        lines = [np.frombuffer(key, dtype=np.int32, offset=1) for key in keys]
        by_width: dict[int, list[int]] = {}
        for place, line in enumerate(lines):
            by_width.setdefault(_width(line.size), []).append(place)
        found: dict[bytes, NDArray[np.float32]] = {}
        for width, places in sorted(by_width.items()):
            batch = max(1, _BATCH_TOKENS[self._device] // width)
            for start in range(0, len(places), batch):
                part = places[start : start + batch]
                height = batch if steady else len(part)
                read = [lines[place] for place in part]
                wide = width if steady else max(line.size for line in read)
                tokens, mask = _filled(read, height, wide, padding)
                there = torch.from_numpy(mask).to(self._device)
                with exact_products():
                    answer = self.backbone(
                        input_ids=torch.from_numpy(tokens).to(self._device), attention_mask=there
                    )
                pooled = pool(answer.last_hidden_state, there, pooling)
                vectors = pooled.float().cpu().numpy()
                found |= {keys[place]: vectors[row] for row, place in enumerate(part)}
                tell(len(part))
        return found


def _filled(
    lines: list[NDArray[np.int32]], height: int, width: int, padding: int
) -> tuple[Ints, Ints]:
    """Tokens and mask of shape (height, width); rows that only fill up have one token."""
    tokens = np.full((height, width), padding, dtype=np.int64)
    mask = np.zeros((height, width), dtype=np.int64)
    mask[:, 0] = 1
    for row, line in enumerate(lines):
        tokens[row, : line.size] = line
        mask[row, : line.size] = 1
    return tokens, mask


def _width(size: int) -> int:
    """The width of the batch that a text of some tokens is embedded in.

    >>> _width(3), _width(24), _width(25), _width(600)
    (8, 24, 32, 640)
    """
    for width in _WIDTHS:
        if size <= width:
            return width
    return 128 * math.ceil(size / 128)


def with_adapters(network: TextNet, rank: int, alpha: int, dropout: float) -> TextNet:
    """Freeze the encoder and give its matrices low-rank adapters, which learn with the head.

    Args:
        network: with pretrained weights.
        rank: of the adapters.
        alpha: the adapters' output counts ``alpha / rank``.
        dropout: share of their inputs left out in training.
    """
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear", bias="none"
    )
    with warnings.catch_warnings():
        # peft asks transformers by a name that transformers is about to give up
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        network.backbone = get_peft_model(network.backbone, settings)
    return network


def merged(network: TextNet) -> TextNet:
    """The same network with its adapters added into the encoder's own matrices."""
    network.backbone = network.backbone.merge_and_unload()  # type: ignore[operator]
    return network
