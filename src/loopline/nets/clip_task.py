"""Pairs of images and captions, as the engine wants them; and the ranks that a network gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from loopline.engine.precision import exact_products
from loopline.engine.task import Batch, Task
from loopline.errors import SettingsError
from loopline.nets.clip import ClipNet, Pairs, contrastive_loss, tower_inputs

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]
Collate = Callable[..., Arrays]


class PairTask(Task):
    """The engine's task of one fit on pairs.

    The loss compares all pairs of a global batch, so a batch cannot be cut into micro-batches: one
    that was is refused. Each process computes its rows against the pairs of all.

    Args:
        arrays: encoded training pairs.
        codes: a number for each caption, equal where captions are.
        weight: of each pair, or None.
        valid: encoded held-out pairs with their codes and weights, if any.
        collate: makes the network's inputs.
        batch_size: pairs of a global batch.
    """

    def __init__(
        self,
        arrays: Arrays,
        codes: Ints,
        weight: NDArray[np.float32] | None,
        valid: tuple[Arrays, Ints, NDArray[np.float32] | None] | None,
        collate: Collate,
        batch_size: int,
    ) -> None:
        self._train = (arrays, codes, weight)
        self._valid, self._collate, self._batch_size = valid, collate, batch_size
        self.num_rows = int(codes.size)
        self.num_valid = 0 if valid is None else int(valid[1].size)

    def batch(self, rows: Ints, epochs: Ints, *, train: bool) -> Batch:
        """Inputs by the names that the network's `forward` has, with codes and weights."""
        source = self._train if train or self._valid is None else self._valid
        arrays, codes, weight = source
        inputs = self._collate(arrays, rows, epochs if train else None)
        batch = {f"in.{name}": torch.from_numpy(array) for name, array in inputs.items()}
        batch["codes"] = torch.from_numpy(codes[rows])
        counted = np.ones(rows.size, dtype=np.float32) if weight is None else weight[rows]
        batch["weight"] = torch.from_numpy(counted)
        return batch

    def loss(self, model: Any, batch: Batch) -> tuple[Any, Any]:
        """Sum of the losses of this process's pairs, and of their weights.

        Raises:
            SettingsError: the batch was cut, or does not divide among the processes.
        """
        world = dist.get_world_size() if dist.is_initialized() else 1
        if batch["codes"].shape[0] * world != self._batch_size:
            raise SettingsError(
                [
                    f"The contrastive loss compares all {self._batch_size:,} pairs of a batch, and "
                    f"{world} × {batch['codes'].shape[0]:,} would be computed at once. It cannot "
                    "be cut into micro-batches, and must divide by the number of processes: give "
                    "a `batch_size` that does, and that fits into memory."
                ]
            )
        images, captions, factor = model(**tower_inputs(batch))
        own = Pairs(images, captions, batch["codes"], batch["weight"].to(images.dtype))
        return contrastive_loss(own, own.everywhere(), factor), own.weight.float().sum()

    def predict(self, model: Any, batch: Batch) -> Any:
        """The vectors of image and caption side by side, and the factor: (rows, 2 width + 1)."""
        images, captions, factor = model(**tower_inputs(batch))
        wide = factor.expand(images.shape[0], 1).to(images.dtype)
        return torch.cat([images, captions, wide], dim=1)

    def score(self, predictions: Any) -> tuple[float, dict[str, float]]:
        """Minus the log of the probability of each image's caption among all held-out ones."""
        assert self._valid is not None
        _, codes, weight = self._valid
        width = (predictions.shape[1] - 1) // 2
        images, captions = predictions[:, :width], predictions[:, width : 2 * width]
        known, first, place = np.unique(codes, return_index=True, return_inverse=True)
        del known
        scores = float(predictions[0, -1]) * (images @ captions[first].T).astype(np.float64)
        top = scores.max(axis=1, keepdims=True)
        logs = scores - top - np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
        own = logs[np.arange(codes.size), place]
        right = logs.argmax(axis=1) == place
        return (
            float(np.average(-own, weights=weight)),
            {"recall_at_1": float(np.average(right, weights=weight))},
        )


@torch.no_grad()
def vectors(
    network: ClipNet, arrays: Arrays, num_rows: int, collate: Collate, part: str, batch_size: int
) -> NDArray[np.float32]:
    """Unit vectors of encoded rows, on the network's device, in 32 bits.

    Args:
        network: set to answer.
        arrays: what the encoder gave.
        num_rows: how many.
        collate: makes the inputs of that part.
        part: "images" or "captions".
        batch_size: rows computed at once.
    """
    device = network.scale.device
    parts = []
    for start in range(0, num_rows, batch_size):
        rows = np.arange(start, min(start + batch_size, num_rows))
        inputs = {
            name: torch.from_numpy(array).to(device)
            for name, array in collate(arrays, rows, None).items()
        }
        with exact_products():
            found = getattr(network, part)(**inputs)
        parts.append(found.float().cpu().numpy())
    return np.concatenate(parts) if parts else np.empty((0, 1), dtype=np.float32)


def ranks(images: Floats, own: Floats, others: Floats, same: NDArray[np.bool_]) -> Floats:
    """The rank of each image's own caption among others, 1 for the best; equals share their ranks.

    Args:
        images: unit vectors, shape (rows, width).
        own: of each row's caption, shape (rows, width).
        others: of the captions among which it is looked for, shape (captions, width).
        same: which of those is the row's own, shape (rows, captions); it does not count twice.

    >>> unit = np.eye(3)
    >>> ranks(unit[:1], unit[1:2], unit, unit[1:2] > 0).tolist()  # better: one; as good: one
    [2.5]
    """
    score = np.sum(images * own, axis=1, keepdims=True)
    rival = np.where(same, -np.inf, images @ others.T)
    better, equal = (rival > score).sum(axis=1), (rival == score).sum(axis=1)
    found: Floats = 1.0 + better + 0.5 * equal
    return found
