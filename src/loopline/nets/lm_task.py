"""The engine's task of a language model: rows of packed documents, the loss of each next token."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from loopline.engine.precision import exact_products
from loopline.engine.task import Batch, Task
from loopline.nets.lm import Decoder
from loopline.nets.lm_loss import IGNORED
from loopline.nets.lm_pack import Pack, Texts, pack, packed_rows

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class LanguageTask(Task):
    """Packed documents to learn from, and others that are scored in the loop.

    Args:
        train: the documents to learn from.
        valid: those to be scored, if any.
        length: tokens of a row.
        fill: the token that fills up.
        valid_bytes: bytes of the scored text of `valid`; the score is then told in bits a byte too.
    """

    def __init__(
        self, train: Texts, valid: Texts | None, length: int, *, fill: int = 0, valid_bytes: int = 0
    ) -> None:
        self.fill, self.valid_bytes = fill, valid_bytes
        self._train, self._valid = _packed(train, length), None
        self.num_rows = self._train[1].num_rows
        if valid is not None:
            self._valid = _packed(valid, length)
            self.num_valid = self._valid[1].num_rows

    @property
    def filled(self) -> float:
        """Share of the training rows' places that hold a token."""
        return self._train[1].filled

    def batch(self, rows: Ints, epochs: Ints, *, train: bool) -> Batch:
        """Tokens and targets, and where rows hold several documents which belong together."""
        del epochs
        source = self._train if train or self._valid is None else self._valid
        arrays = packed_rows(source[1], source[0], rows, self.fill)
        return {name: torch.from_numpy(value) for name, value in arrays.items()}

    def loss(self, model: Any, batch: Batch) -> tuple[Any, Any]:
        """Sum of the tokens' losses in nats, and the sum of their weights."""
        known = batch["targets"] != IGNORED
        mass = known if "weight" not in batch else known * batch["weight"]
        return model(**batch), mass.sum()

    def predict(self, model: Any, batch: Batch) -> Any:
        """Sum of the losses of each row and its tokens' weight, shape (rows, 2)."""
        known = (batch["targets"] != IGNORED).float()
        losses = model(**batch, each=True)
        mass = known * batch.get("weight", 1.0)
        return torch.stack([(losses * mass).sum(-1), mass.sum(-1)], dim=-1)

    def score(self, predictions: Any) -> tuple[float, dict[str, float]]:
        """Nats a token of the held-out documents; beside it bits a byte where bytes are known."""
        nats, tokens = predictions.astype(np.float64).sum(axis=0)
        others = {}
        if self.valid_bytes:
            others["bits_per_byte"] = float(nats / math.log(2.0) / self.valid_bytes)
        return float(nats / tokens), others


def _packed(texts: Texts, length: int) -> tuple[Texts, Pack]:
    return texts, pack(texts.ends, length)


@torch.no_grad()
def document_losses(
    model: Decoder, texts: Texts, length: int, *, tokens_at_once: int = 16_384
) -> Floats:
    """The sum of the losses of each document's scored tokens in nats, shape (documents,).

    Documents of like length are computed together, never packed, so that a loss depends on what
    else is asked by rounding alone.

    Args:
        model: in evaluation mode.
        texts: the documents.
        length: tokens of a row; a longer document is cut into pieces that start anew.
        tokens_at_once: tokens computed together.
    """
    place = pack(texts.ends, length)
    device = model.tokens.weight.device
    found = np.zeros(texts.num_documents)
    document = np.searchsorted(texts.ends, place.starts, side="right") - 1
    order = np.argsort(place.sizes, kind="stable")
    start = 0
    while start < order.size:
        chosen = order[start : start + tokens_at_once]
        widths = place.sizes[chosen]
        count = max(1, int(np.searchsorted(widths * np.arange(1, widths.size + 1), tokens_at_once)))
        chosen = chosen[:count]
        alone = Pack(
            length=int(place.sizes[chosen].max()),
            rows=np.arange(chosen.size),
            starts=place.starts[chosen],
            sizes=place.sizes[chosen],
            num_rows=int(chosen.size),
            most=1,
        )
        arrays = packed_rows(alone, Texts(texts.tokens, texts.ends, texts.scored), alone.rows)
        with exact_products():
            losses = model(
                **{name: torch.from_numpy(value).to(device) for name, value in arrays.items()},
                each=True,
            )
        np.add.at(found, document[chosen], losses.double().sum(-1).cpu().numpy())
        start += count
    return found
