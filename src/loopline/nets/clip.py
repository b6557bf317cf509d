"""Images and captions in one space: two encoders whose vectors lie close where they belong.

The loss compares every image of a batch with every caption of it, so it cannot be cut into parts
that know nothing of each other: vectors are gathered from all processes, with gradients, and each
process sums the losses of its own rows against the whole batch. Rows whose captions are equal are
all right answers for one another.

Sources: the loss, Radford et al. 2021 (CLIP); equal captions as common answers, Yang et al. 2022
(UniCL); pre-norm blocks, Xiong et al. 2020.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional

from loopline.nets.image import ImageFeatures

FIRST_SCALE = math.log(1.0 / 0.07)
"""The logarithm of the first factor of the cosines, as CLIP's authors chose it."""
MOST_SCALE = math.log(100.0)
TOKENS = 257
"""Bytes, and 0 for what fills up a batch."""


class Block(nn.Module):
    """Attention and a small network, each with a norm before and a shortcut beside it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.first_norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 3 * width)
        self.outer = nn.Linear(width, width)
        self.second_norm = nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)
        self.heads = heads

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, width) to the same; `mask` (rows, 1, 1, tokens) is true where to look."""
        rows, tokens, _ = hidden.shape
        parts = self.inner(self.first_norm(hidden)).view(rows, tokens, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        hidden = hidden + self.dropout(self.outer(seen.transpose(1, 2).reshape(hidden.shape)))
        found: torch.Tensor = hidden + self.dropout(self.feed(self.second_norm(hidden)))
        return found


class SmallText(nn.Module):
    """A small transformer over the bytes of a caption.

    Args:
        width: of the hidden states.
        layers: blocks.
        length: most bytes of a caption.
        dropout: share of what a block adds that is left out in training.
    """

    def __init__(self, width: int, layers: int, length: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Embedding(TOKENS, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        heads = max(1, width // 64)
        self.layers = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.width = width

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(rows, bytes), both int64, to one vector a row (rows, width)."""
        hidden = self.tokens(input_ids) + self.position[: input_ids.shape[1]]
        look = attention_mask.bool()[:, None, None, :]
        for layer in self.layers:
            hidden = layer(hidden, look)
        counted = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return cast(
            "torch.Tensor",
            (self.norm(hidden) * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1.0),
        )


class PretrainedImage(nn.Module):
    """The image half of a `CLIPModel` of the transformers library, projection included."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision, self.project = model.vision_model, model.visual_projection
        self.width = int(model.projection_dim)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(rows, 3, height, width) to (rows, width)."""
        found: torch.Tensor = self.project(self.vision(pixel_values=images).pooler_output)
        return found


class PretrainedText(nn.Module):
    """The text half of a `CLIPModel`, projection included."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.text, self.project = model.text_model, model.text_projection
        self.width = int(model.projection_dim)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(rows, tokens) to one vector a row."""
        answer = self.text(input_ids=input_ids, attention_mask=attention_mask)
        found: torch.Tensor = self.project(answer.pooler_output)
        return found


class ClipNet(nn.Module):
    """Pairs in, unit vectors of images and captions and the factor of their cosines out.

    Args:
        image: reads pixels.
        image_size: length of its features.
        text: reads tokens, and says the `width` of its vectors.
        width: of the common space; 0 where both encoders give vectors of that space themselves.
    """

    def __init__(
        self, image: ImageFeatures, image_size: int, text: SmallText | PretrainedText, width: int
    ) -> None:
        super().__init__()
        self.image, self.text = image, text
        linear: list[nn.Module] = [nn.Identity(), nn.Identity()]
        if width:
            linear = [nn.Linear(size, width, bias=False) for size in (image_size, text.width)]
        self.image_project, self.text_project = linear
        self.scale = nn.Parameter(torch.tensor(FIRST_SCALE))

    def images(self, pixels: torch.Tensor, draws: torch.Tensor | None = None) -> torch.Tensor:
        """Unit vectors of images, shape (rows, width); see `ImageFeatures.features`."""
        return functional.normalize(self.image_project(self.image.features(pixels, draws)), dim=-1)

    def captions(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Unit vectors of captions, shape (rows, width)."""
        return functional.normalize(self.text_project(self.text(input_ids, attention_mask)), dim=-1)

    def factor(self) -> torch.Tensor:
        """What cosines are multiplied by before they become probabilities."""
        return self.scale.clamp(max=MOST_SCALE).exp()

    def forward(
        self,
        pixels: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        draws: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Unit vectors of images and captions (rows, width), and the factor.

        Args:
            pixels: 8 bits, shape (rows, height, width, channels).
            input_ids: int64, shape (rows, tokens).
            attention_mask: 1 where a token counts.
            draws: random numbers for augmentation in training.
        """
        return self.images(pixels, draws), self.captions(input_ids, attention_mask), self.factor()


class NamedClasses(nn.Module):
    """Images in, a score of each class out: how well its sentence fits, or a linear probe.

    Args:
        clip: the two encoders.
        input_ids: of the classes' sentences, int64, shape (classes, tokens).
        attention_mask: 1 where a token counts.
        start: the answer for rows without an image, shape (classes,).
        probe: whether a linear head reads frozen vectors of images, and sentences count no more.
    """

    def __init__(
        self,
        clip: ClipNet,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        start: torch.Tensor,
        *,
        probe: bool,
    ) -> None:
        super().__init__()
        self.constant: torch.Tensor
        self.input_ids: torch.Tensor
        self.attention_mask: torch.Tensor
        self.clip = clip
        self.register_buffer("input_ids", input_ids)
        self.register_buffer("attention_mask", attention_mask)
        self.register_buffer("constant", start.float().clone())
        self.head: nn.Linear | None = None
        if probe:
            clip.requires_grad_(False)
            with torch.no_grad():
                width = clip.captions(input_ids, attention_mask).shape[1]
            self.head = nn.Linear(width, start.numel())

    def forward(
        self, pixels: torch.Tensor, readable: torch.Tensor, draws: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Scores of shape (rows, classes).

        Args:
            pixels: 8 bits, shape (rows, height, width, channels).
            readable: which rows have an image, shape (rows,).
            draws: random numbers for augmentation in training.
        """
        images = self.clip.images(pixels, draws)
        if self.head is None:
            sentences = self.clip.captions(self.input_ids, self.attention_mask)
            scores = self.clip.factor() * (images @ sentences.T)
        else:
            scores = self.head(images * math.sqrt(images.shape[1]))
        constant = self.constant.to(scores.dtype).expand_as(scores)
        return torch.where(readable.unsqueeze(1), scores, constant)


@dataclass(frozen=True)
class Pairs:
    """Vectors of a batch, wherever they were computed.

    Args:
        images: unit vectors, shape (rows, width).
        captions: unit vectors, shape (rows, width).
        codes: int64, equal where captions are, shape (rows,).
        weight: how much each pair counts, shape (rows,); pairs of weight 0 are no answers either.
    """

    images: torch.Tensor
    captions: torch.Tensor
    codes: torch.Tensor
    weight: torch.Tensor

    def everywhere(self) -> Pairs:
        """The pairs of all processes, in their order; gradients find their way back.

        Every process must have as many.
        """
        if not (dist.is_initialized() and dist.get_world_size() > 1):
            return self
        from torch.distributed.nn.functional import all_gather

        def joined(value: torch.Tensor) -> torch.Tensor:
            return torch.cat(all_gather(value.contiguous()))  # type: ignore[no-untyped-call]

        def plain(value: torch.Tensor) -> torch.Tensor:
            parts = [torch.empty_like(value) for _ in range(dist.get_world_size())]
            dist.all_gather(parts, value.contiguous())
            return torch.cat(parts)

        return Pairs(
            joined(self.images), joined(self.captions), plain(self.codes), plain(self.weight)
        )


def contrastive_loss(own: Pairs, every: Pairs, factor: torch.Tensor) -> torch.Tensor:
    """Sum of this process's losses: each image among all captions, each caption among all images.

    The loss of a row is the mean of both directions; the answer is spread evenly over all rows
    with an equal caption.

    Args:
        own: the pairs of this process.
        every: those of the whole batch.
        factor: what cosines are multiplied by.

    >>> unit = torch.eye(2)
    >>> pairs = Pairs(unit, unit, torch.tensor([0, 1]), torch.ones(2))
    >>> round(float(contrastive_loss(pairs, pairs, torch.tensor(1.0))), 4)  # 2 ln(1 + 1/e)
    0.6265
    """
    answers = (own.codes[:, None] == every.codes[None, :]).to(own.images.dtype) * every.weight
    answers = answers / answers.sum(dim=1, keepdim=True).clamp(min=1e-30)
    absent = (every.weight <= 0)[None, :]

    def direction(mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        scores = (factor * (mine @ theirs.T)).float().masked_fill(absent, -torch.inf)
        logs = functional.log_softmax(scores, dim=1).masked_fill(absent, 0.0)
        return -(answers * logs).sum(dim=1)

    both = direction(own.images, every.captions) + direction(own.captions, every.images)
    counted = torch.where(own.weight > 0, both, torch.zeros_like(both))
    return 0.5 * (counted * own.weight).sum()


def tower_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a batch that go into the network."""
    return {name[3:]: value for name, value in batch.items() if name.startswith("in.")}
