"""An encoder of the BERT kind over packed texts: no token is computed that only fills up a batch.

The texts of a batch stand one behind another in one long line, and attention looks within each of
them: by torch's kernel for sequences of any length on a GPU in 16 bits, by a mask elsewhere. The
line is filled up to a multiple of `ROUND` with one more text that nobody reads, so that compiled
code meets few lengths.

Weights are those of the transformers library's `BertModel`, read and written by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn

from loopline.nets.lm import LayerNorm
from loopline.nets.lm_attention import needs_mask
from loopline.nets.lm_loss import compute_dtype
from loopline.nets.text import TextNet

ROUND = 512
"""A line's length is a multiple of this; no text may be longer."""
_OPTIONS = frozenset(inspect.signature(varlen_attn).parameters)


class PackedBlock(nn.Module):
    """Attention within texts and a feed-forward net, each with a norm behind it.

    Args:
        width: of the hidden values.
        heads: of the attention.
        inner: width of the feed-forward net.
        eps: of the norms.
        dropout: share of what is added that is left out in training.
    """

    def __init__(self, width: int, heads: int, inner: int, eps: float, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.mix = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.first_norm = LayerNorm(width, eps)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.second_norm = LayerNorm(width, eps)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, hidden: torch.Tensor, ends: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """(tokens, width) to the same.

        Args:
            hidden: from the block below.
            ends: cumulative lengths of the texts, from 0, int32.
            mask: which tokens see each other, where the kernel for packed texts is not used.
        """
        parts = self.mix(hidden).view(hidden.shape[0], 3, self.heads, -1)
        query, key, value = parts.unbind(1)
        if mask is None:
            seen = _within_texts(query, key, value, ends)
        else:
            query, key, value = (part.transpose(0, 1) for part in (query, key, value))
            seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            seen = seen.transpose(0, 1)
        hidden = self.first_norm(hidden + self.dropout(self.out(seen.flatten(1))))
        fed = self.down(functional.gelu(self.up(hidden)))
        found: torch.Tensor = self.second_norm(hidden + self.dropout(fed))
        return found


def _within_texts(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor
) -> torch.Tensor:
    others: dict[str, Any] = {"window_size": (-1, -1)} if "window_size" in _OPTIONS else {}
    seen = varlen_attn(query, key, value, ends, ends, ROUND, ROUND, **others)
    assert isinstance(seen, torch.Tensor)
    return seen


class PackedEncoder(nn.Module):
    """Packed texts in, one vector a text out.

    Args:
        config: of a `BertModel`, plain data.
        pooling: "mean" or "cls".
    """

    def __init__(self, config: Mapping[str, Any], pooling: str) -> None:
        super().__init__()
        width, eps = int(config["hidden_size"]), float(config["layer_norm_eps"])
        self.pooling, self.width = pooling, width
        self.words = nn.Embedding(int(config["vocab_size"]), width)
        self.positions = nn.Embedding(int(config["max_position_embeddings"]), width)
        self.kinds = nn.Embedding(int(config["type_vocab_size"]), width)
        self.norm = LayerNorm(width, eps)
        self.dropout = nn.Dropout(float(config["hidden_dropout_prob"]))
        self.layers = nn.ModuleList(
            PackedBlock(
                width,
                int(config["num_attention_heads"]),
                int(config["intermediate_size"]),
                eps,
                float(config["hidden_dropout_prob"]),
            )
            for _ in range(int(config["num_hidden_layers"]))
        )

    def forward(
        self, tokens: torch.Tensor, places: torch.Tensor, owner: torch.Tensor, ends: torch.Tensor
    ) -> torch.Tensor:
        """One vector a text, shape (texts, width); see `packed`.

        Args:
            tokens: of all texts, shape (line,).
            places: of each token in its text.
            owner: the text of each token; what only fills up belongs to one more.
            ends: cumulative lengths, from 0, int32, shape (texts + 2,).
        """
        hidden = self.words(tokens) + self.positions(places) + self.kinds.weight[0]
        hidden = self.dropout(self.norm(hidden))
        kind = compute_dtype(hidden)
        if kind == torch.bfloat16:
            hidden = hidden.bfloat16()  # half of what is moved between blocks
        mask = owner[:, None] == owner[None, :] if needs_mask(hidden.device, kind) else None
        for layer in self.layers:
            hidden = layer(hidden, ends, mask)
        hidden = hidden.to(self.norm.weight.dtype)
        num_texts = ends.shape[0] - 2
        if self.pooling == "cls":
            first: torch.Tensor = hidden[ends[:num_texts].long()]
            return first
        sums = hidden.new_zeros(num_texts + 1, self.width).index_add(0, owner, hidden)
        sizes = (ends[1 : num_texts + 1] - ends[:num_texts]).to(hidden.dtype)
        mean: torch.Tensor = sums[:num_texts] / sizes[:, None]
        return mean

    def read(self, state: Mapping[str, torch.Tensor]) -> PackedEncoder:
        """Take the weights of a `BertModel`; gives itself."""
        mine = {name: _taken(state, f"embeddings.{there}") for name, there in _TABLES.items()}
        for number in range(len(self.layers)):
            there = f"encoder.layer.{number}."
            for name, parts in _OF_LAYER.items():
                for kind in ("weight", "bias"):
                    found = [_taken(state, f"{there}{part}.{kind}") for part in parts]
                    mine[f"layers.{number}.{name}.{kind}"] = torch.cat(found)
        self.load_state_dict(mine)
        return self

    def written(self) -> dict[str, torch.Tensor]:
        """The weights under the names of a `BertModel`."""
        state = self.state_dict()
        found = {f"embeddings.{there}": state[name] for name, there in _TABLES.items()}
        for number in range(len(self.layers)):
            for name, parts in _OF_LAYER.items():
                for kind in ("weight", "bias"):
                    pieces = state[f"layers.{number}.{name}.{kind}"].chunk(len(parts))
                    for part, piece in zip(parts, pieces, strict=True):
                        found[f"encoder.layer.{number}.{part}.{kind}"] = piece
        return found


_TABLES = {
    "words.weight": "word_embeddings.weight",
    "positions.weight": "position_embeddings.weight",
    "kinds.weight": "token_type_embeddings.weight",
    "norm.weight": "LayerNorm.weight",
    "norm.bias": "LayerNorm.bias",
}
_OF_LAYER = {
    "mix": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "out": ("attention.output.dense",),
    "first_norm": ("attention.output.LayerNorm",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
    "second_norm": ("output.LayerNorm",),
}


def _taken(state: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    return state[name].detach().clone()


class PackedTextNet(nn.Module):
    """Packed texts in, scores of each text out.

    Args:
        encoder: gives one vector a text.
        outputs: scores of a text.
        dropout: share of a vector's values left out in training.
    """

    def __init__(self, encoder: PackedEncoder, outputs: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.width, outputs)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, tokens: torch.Tensor, places: torch.Tensor, owner: torch.Tensor, ends: torch.Tensor
    ) -> torch.Tensor:
        """Scores of shape (texts, outputs); see `PackedEncoder.forward`."""
        scores: torch.Tensor = self.head(self.dropout(self.encoder(tokens, places, owner, ends)))
        return scores


def packable(config: Mapping[str, Any]) -> bool:
    """Whether a model of the transformers library can be read as a `PackedEncoder`."""
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") in ("absolute", None)
        and not config.get("is_decoder")
        and int(config["max_position_embeddings"]) <= ROUND
    )


def worth_packing() -> bool:
    """Whether packing pays here: on a GPU, whose kernel computes nothing between texts."""
    return torch.cuda.is_available()


class PackedInPlace(PackedTextNet):
    """A packed network that takes the weights of a `TextNet`, and gives them back.

    Args:
        net: of an encoder for which `packable` holds.
        config: of its encoder.
    """

    def __init__(self, net: TextNet, config: Mapping[str, Any]) -> None:
        encoder = PackedEncoder(config, net.pooling).read(net.backbone.state_dict())
        super().__init__(encoder, net.head.out_features, net.dropout.p)
        self.head.load_state_dict(net.head.state_dict())
        self._net = [net]  # in a list, so that it is no part of this network

    def unpacked(self) -> TextNet:
        """The `TextNet` with what was learned."""
        (net,) = self._net
        known = net.backbone.state_dict()
        net.backbone.load_state_dict({**known, **self.encoder.written()})
        net.head.load_state_dict(self.head.state_dict())
        return net.eval()


def packed(
    tokens: NDArray[np.int32], ends: NDArray[np.int64], rows: NDArray[np.int64], padding: int
) -> dict[str, NDArray[Any]]:
    """The inputs for some texts, one behind another.

    Args:
        tokens: of all texts.
        ends: text r has the tokens from ends[r] to ends[r + 1].
        rows: which texts.
        padding: number of the token that fills up.

    >>> found = packed(np.arange(5, dtype=np.int32), np.array([0, 2, 5]), np.array([1, 0]), 9)
    >>> found["tokens"][:6].tolist(), found["ends"].tolist()
    ([2, 3, 4, 0, 1, 9], [0, 3, 5, 512])
    """
    sizes = ends[rows + 1] - ends[rows]
    total = int(sizes.sum())
    line = -(-(total + 1) // ROUND) * ROUND
    cut = np.concatenate([[0], np.cumsum(sizes), [line]]).astype(np.int32)
    owner = np.repeat(np.arange(rows.size + 1), np.append(sizes, line - total))
    places = np.arange(line) - cut[owner]
    found = np.full(line, padding, dtype=np.int64)
    found[:total] = tokens[ends[rows][owner[:total]] + places[:total]]
    places[total:] = 0
    return {"tokens": found, "places": places, "owner": owner, "ends": cut}
