"""A network for rows of several parts: numbers and categories, a text, an image.

Every part has a body of its own that gives one vector a row; the vectors are brought to one width,
stand side by side, and are read by hidden layers that several members share (`loopline.nets.mlp`).
A part that a row lacks is replaced by a vector that is learned, and in training parts that are
there are left out now and then, so that the network leans on no part alone.

Sources: leaving out whole parts in training, Neverova et al. 2016 (ModDrop); members that share
weights, Gorishniy et al. 2025 (TabM).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from loopline.nets.image import ImageFeatures
from loopline.nets.mlp import MemberHead, SharedLinear, TableEmbedding, undecayed
from loopline.nets.text import pool

PARTS = ("table", "text", "image")
"""The parts that a row may have, in the order in which their vectors stand."""


class TablePart(TableEmbedding):
    """Numbers and category codes to one vector a row."""

    def forward(self, numbers: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """(rows, numbers) and (rows, categories) to (rows, `size`)."""
        return self.embedded(numbers, codes)


class TextPart(nn.Module):
    """A text encoder that learns with the rest.

    Args:
        backbone: an encoder that answers with `last_hidden_state`.
        pooling: "mean" or "cls".
    """

    def __init__(self, backbone: nn.Module, pooling: str) -> None:
        super().__init__()
        self.backbone, self.pooling = backbone, pooling

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        share: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Windows of tokens to one vector a row, as `loopline.nets.text.TextNet.vectors`."""
        answer = self.backbone(input_ids=input_ids, attention_mask=attention_mask)
        pooled = pool(answer.last_hidden_state, attention_mask, self.pooling)
        return pooled if share is None else share.to(pooled.dtype) @ pooled


class Frozen(nn.Module):
    """A body that does not learn and is always set to answer."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """What the body says."""
        found: torch.Tensor = self.body(values)
        return found

    def train(self, mode: bool = True) -> Frozen:
        """Set to training, but for the body."""
        super().train(mode)
        self.body.eval()
        return self


class Fusion(nn.Module):
    """Vectors of the parts in, one score an output and member out.

    Args:
        sizes: length of each part's vector.
        table: the part that has no body of its own outside; None where there is no table.
        width: of the hidden layers, and of each part's share.
        depth: number of hidden layers above the parts.
        members: how many members answer.
        dropout: share of hidden values left out in training.
        start: first bias of the head, shape (outputs,).
    """

    def __init__(
        self,
        sizes: dict[str, int],
        table: TablePart | None,
        *,
        width: int,
        depth: int,
        members: int,
        dropout: float,
        start: torch.Tensor,
    ) -> None:
        super().__init__()
        self.members = members
        self.table = table
        self.norms = nn.ModuleDict(
            {name: nn.LayerNorm(size) for name, size in sizes.items() if name != "table"}
        )
        self.shares = nn.ModuleDict({name: nn.Linear(size, width) for name, size in sizes.items()})
        self.missing = nn.ParameterDict(
            {name: undecayed(0.02 * torch.randn(width)) for name in sizes}
        )
        self.layers = nn.ModuleList(
            SharedLinear(
                width * len(sizes) if not number else width, width, members, first=not number
            )
            for number in range(depth)
        )
        self.dropout = nn.Dropout(dropout)
        self.answers = MemberHead(width, start, members)
        self.straight = nn.ModuleDict(
            {name: nn.Linear(size, start.numel(), bias=False) for name, size in sizes.items()}
        )

    def forward(self, vectors: dict[str, torch.Tensor], seen: torch.Tensor) -> torch.Tensor:
        """Scores of shape (rows, members, outputs).

        Args:
            vectors: of each part, shape (rows, size), in the order of the sizes.
            seen: which parts a row has, shape (rows, parts).
        """
        shares, straight = [], torch.zeros((), device=seen.device)
        for place, (name, vector) in enumerate(vectors.items()):
            there = seen[:, place, None]
            own = self.straight[name](self.dropout(vector))
            straight = straight + torch.where(there, own, torch.zeros_like(own))
            normed = self.norms[name](vector) if name in self.norms else vector
            share = self.dropout(functional.relu(self.shares[name](normed)))
            missing = self.missing[name].to(share.dtype)
            shares.append(torch.where(there, share, missing))
        hidden = torch.cat(shares, dim=1).unsqueeze(1).expand(-1, self.members, -1)
        for layer in self.layers:
            hidden = self.dropout(functional.relu(layer(hidden)))
        scores: torch.Tensor = self.answers(hidden) + straight.unsqueeze(1)
        return scores


class MixedNet(nn.Module):
    """Rows of several parts in, scores out; a row without any part gets the constant answer.

    Args:
        head: reads the parts' vectors.
        parts: the parts that there are, in the order of `PARTS`.
        text: reads tokens; None where there is no text, or its vectors come from outside.
        image: reads pixels; None where there are no images.
        start: the answer for rows without any part, shape (outputs,).
    """

    def __init__(
        self,
        head: Fusion,
        parts: Sequence[str],
        text: TextPart | None,
        image: ImageFeatures | None,
        start: torch.Tensor,
    ) -> None:
        super().__init__()
        self.constant: torch.Tensor
        self.head, self.parts = head, tuple(parts)
        self.text, self.image = text, image
        self.register_buffer("constant", start.float().clone())

    def forward(
        self,
        seen: torch.Tensor,
        numbers: torch.Tensor | None = None,
        codes: torch.Tensor | None = None,
        vectors: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        share: torch.Tensor | None = None,
        pixels: torch.Tensor | None = None,
        draws: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Scores of shape (rows, members, outputs).

        Args:
            seen: which parts a row has, shape (rows, parts).
            numbers: of the table, shape (rows, numbers).
            codes: of the table, int64, shape (rows, categories).
            vectors: of the texts, from a frozen encoder, shape (rows, hidden).
            input_ids: of the texts, where the encoder learns; with `attention_mask` and `share` as
                `loopline.nets.text.TextNet` takes them.
            attention_mask: see there.
            share: see there.
            pixels: 8 bits, shape (rows, height, width, channels).
            draws: random numbers for augmentation in training.
        """
        found: dict[str, torch.Tensor] = {}
        if self.head.table is not None:
            assert numbers is not None
            assert codes is not None
            found["table"] = self.head.table(numbers, codes)
        if vectors is not None:
            found["text"] = vectors
        elif self.text is not None:
            found["text"] = self.text(input_ids, attention_mask, share)
        if self.image is not None:
            assert pixels is not None
            found["image"] = self.image.features(pixels, draws)
        scores: torch.Tensor = self.head(found, seen)
        constant = self.constant.to(scores.dtype).expand_as(scores)
        return torch.where(seen.any(dim=1)[:, None, None], scores, constant)
