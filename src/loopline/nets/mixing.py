"""Training on mixtures of two images each, with the targets of both.

A row's partner, the share and the place of the cut follow from (seed, row, epoch), so batches can
be cut in any way. Rows whose image cannot be read are left as they are.

Sources: mixup, Zhang et al. 2018; cutmix, Yun et al. 2019. Our mixtures are rounded to the 8 bits
that travel to the device, at most 0.002 of the range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from loopline.engine.losses import cutmix, mixup, partners
from loopline.engine.task import Batch
from loopline.nets.examples import Examples, Ints, inputs_of

ALPHAS = {"mixup": 0.2, "cutmix": 1.0}
"""The Beta distribution of the shares, as in the papers for images."""


@dataclass(frozen=True)
class Mix:
    """How images are mixed.

    Args:
        kind: blended, or a rectangle of one in the other.
        seed: of partners, shares and places.
    """

    kind: Literal["mixup", "cutmix"]
    seed: int


class MixedExamples(Examples):
    """Rows of decoded images (`pixels`, `readable`), each mixed with another one in training.

    Args:
        plain: the rows, loss and score without mixing.
        mix: how.
    """

    def __init__(self, plain: Examples, mix: Mix) -> None:
        super().__init__(
            plain.train,
            plain.valid,
            plain.collate,
            num_classes=plain.num_classes,
            smoothing=plain.smoothing,
            focal=plain.focal,
        )
        self.mix = mix

    def batch(self, rows: Ints, epochs: Ints, *, train: bool) -> Batch:
        """As of `Examples`; training rows also have their partners' targets and the shares."""
        batch = dict(super().batch(rows, epochs, train=train))
        if not train:
            return batch
        others, shares, places = partners(
            rows, epochs, self.num_rows, self.mix.seed, ALPHAS[self.mix.kind]
        )
        beside = super().batch(others, epochs, train=True)
        readable = batch["in.readable"] & beside["in.readable"]
        shares = np.where(readable.numpy(), shares, np.float32(1.0)).astype(np.float32)
        first, second = (part["in.pixels"].permute(0, 3, 1, 2) for part in (batch, beside))
        if self.mix.kind == "mixup":
            mixed = mixup(first.float(), second.float(), shares).round_().to(torch.uint8)
        else:
            mixed, shares = cutmix(first, second, shares, places)
        batch["in.pixels"] = mixed.permute(0, 2, 3, 1).contiguous()
        batch["share"] = torch.from_numpy(shares)
        batch["other"] = beside["target"]
        if "weight" in beside:
            batch["other_weight"] = beside["weight"]
        return batch

    def loss(self, model: Any, batch: Batch) -> tuple[Any, Any]:
        """Each row's loss against both targets, weighed by their shares and weights."""
        if "share" not in batch:
            return super().loss(model, batch)
        scores = model(**inputs_of(batch))
        share = batch["share"]
        own, other = share * batch.get("weight", 1.0), (1 - share) * batch.get("other_weight", 1.0)
        first, first_mass = self.row_losses(scores, batch["target"], own)
        second, second_mass = self.row_losses(scores, batch["other"], other)
        return first + second, first_mass + second_mass
