"""Rows with their targets, as the engine wants them: sums of losses, and a score of held-out rows.

A network is called with the named tensors that its encoder collates and answers with raw scores of
shape (rows, outputs), or (rows, members, outputs) where several members answer for themselves: the
loss is then the mean of theirs, the prediction the mean of their probabilities or values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from loopline.engine.losses import classification_loss, labels_loss
from loopline.engine.precision import exact_products
from loopline.engine.task import Batch, Task

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]
Collate = Callable[..., Arrays]
"""``collate(arrays, rows, epochs)`` gives the named arrays of a batch; `epochs` is None unless the
rows are for training, where it says in which pass each row is used."""


@dataclass(frozen=True)
class Labelled:
    """Encoded rows with what is to be learned from them.

    Args:
        arrays: what the encoder gave.
        target: class codes (int64) or scaled values (float32), shape (rows,); or which labels each
            row has (int8), shape (rows, labels).
        weight: shape (rows,), mean 1; None when every row counts the same.
        lengths: length of each row where batches of like length save work, else None.
    """

    arrays: Arrays
    target: NDArray[Any]
    weight: NDArray[np.float32] | None = None
    lengths: Ints | None = None

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return int(self.target.shape[0])


class Examples(Task):
    """The engine's task of one fit.

    Args:
        train: the rows to learn from.
        valid: the rows that are scored in the loop, if any.
        collate: makes the network's inputs.
        num_classes: number of classes, 0 for regression.
        smoothing: label smoothing, in [0, 1).
        focal: exponent of the focal loss, 0 for none.
    """

    def __init__(
        self,
        train: Labelled,
        valid: Labelled | None,
        collate: Collate,
        *,
        num_classes: int,
        smoothing: float = 0.0,
        focal: float = 0.0,
    ) -> None:
        self.train, self.valid, self.collate = train, valid, collate
        self.num_classes, self.smoothing, self.focal = num_classes, smoothing, focal
        self.num_rows = train.num_rows
        self.num_valid = 0 if valid is None else valid.num_rows

    @property
    def lengths(self) -> Ints | None:
        """Length of each training row, where it is known."""
        return self.train.lengths

    def batch(self, rows: Ints, epochs: Ints, *, train: bool) -> Batch:
        """Inputs by the names that the network's `forward` has, with target and weight."""
        source = self.train if train or self.valid is None else self.valid
        arrays = self.collate(source.arrays, rows, epochs if train else None)
        batch = {f"in.{name}": torch.from_numpy(array) for name, array in arrays.items()}
        batch["target"] = torch.from_numpy(source.target[rows])
        if source.weight is not None:
            batch["weight"] = torch.from_numpy(source.weight[rows])
        return batch

    def loss(self, model: Any, batch: Batch) -> tuple[Any, Any]:
        """Sum of the rows' losses, and the sum of their weights."""
        return self.row_losses(model(**inputs_of(batch)), batch["target"], batch.get("weight"))

    def row_losses(self, scores: Any, target: Any, weight: Any) -> tuple[Any, Any]:
        """Sum of the losses of given scores, and the sum of their weights.

        Args:
            scores: shape (rows, outputs) or (rows, members, outputs).
            target: shape (rows,).
            weight: shape (rows,); None when every row counts 1.
        """
        members = 1
        if scores.ndim == 3:
            members = scores.shape[1]
            target = target.unsqueeze(1).expand(-1, members)
            weight = None if weight is None else weight.unsqueeze(1).expand(-1, members)
        if self.num_classes:
            total, mass = classification_loss(
                scores, target, smoothing=self.smoothing, focal=self.focal, row_weights=weight
            )
        else:
            errors = (scores.squeeze(-1).float() - target).square()
            counted = torch.ones_like(errors) if weight is None else weight.float()
            total, mass = (errors * counted).sum(), counted.sum()
        return total / members, mass / members

    def predict(self, model: Any, batch: Batch) -> Any:
        """Probabilities (rows, classes) or values (rows,)."""
        return answers(model(**inputs_of(batch)), self.num_classes)

    def score(self, predictions: Any) -> tuple[float, dict[str, float]]:
        """Log loss or mean squared error of the held-out rows, weighted as they are."""
        assert self.valid is not None
        target, weight = self.valid.target, self.valid.weight
        if self.num_classes:
            picked = predictions[np.arange(target.shape[0]), target].astype(np.float64)
            losses = -np.log(np.maximum(picked, 1e-15))
            right = float((predictions.argmax(axis=1) == target).mean())
            return float(np.average(losses, weights=weight)), {"accuracy": right}
        errors = (predictions.astype(np.float64) - target) ** 2
        return float(np.average(errors, weights=weight)), {}


class LabelExamples(Examples):
    """The engine's task where each row has any of some labels: a sigmoid a label.

    Targets are 0 and 1 of shape (rows, labels).
    """

    def row_losses(self, scores: Any, target: Any, weight: Any) -> tuple[Any, Any]:
        """Sum of the rows' binary cross-entropies over all labels, and the sum of their weights."""
        return labels_loss(
            scores, target, smoothing=self.smoothing, focal=self.focal, row_weights=weight
        )

    def predict(self, model: Any, batch: Batch) -> Any:
        """Probabilities (rows, labels)."""
        return answers(model(**inputs_of(batch)), self.num_classes, apart=True)

    def score(self, predictions: Any) -> tuple[float, dict[str, float]]:
        """Log loss of the held-out rows, the mean over labels, weighted as they are."""
        assert self.valid is not None
        given = np.where(self.valid.target == 1, predictions, 1.0 - predictions)
        losses = -np.log(np.maximum(given.astype(np.float64), 1e-15)).mean(axis=1)
        return float(np.average(losses, weights=self.valid.weight)), {}


def inputs_of(batch: Batch) -> dict[str, Any]:
    """The entries of a batch that go into the network."""
    return {name[3:]: value for name, value in batch.items() if name.startswith("in.")}


def answers(scores: torch.Tensor, num_classes: int, *, apart: bool = False) -> torch.Tensor:
    """Probabilities (rows, classes) or values (rows,) from raw scores.

    Args:
        scores: shape (rows, outputs) or (rows, members, outputs).
        num_classes: number of classes, 0 for regression.
        apart: whether each class is there or not for itself, so that a row need not sum to 1.
    """
    if apart:
        return torch.sigmoid(scores if scores.dtype == torch.float64 else scores.float())
    if num_classes:
        shares = torch.softmax(scores if scores.dtype == torch.float64 else scores.float(), dim=-1)
        return shares.mean(dim=1) if shares.ndim == 3 else shares
    values = scores.squeeze(-1)
    return values.mean(dim=1) if values.ndim == 2 else values


@torch.no_grad()
def predict_rows(
    network: torch.nn.Module,
    arrays: Arrays,
    num_rows: int,
    collate: Collate,
    *,
    num_classes: int,
    batch_size: int,
    lengths: Ints | None = None,
    apart: bool = False,
) -> Floats:
    """Predictions of encoded rows in their order, batch by batch, on the network's device.

    Args:
        network: in evaluation mode.
        arrays: encoded rows.
        num_rows: how many.
        collate: makes the network's inputs.
        num_classes: number of classes, 0 for regression.
        batch_size: rows computed at once.
        lengths: rows of like length are computed together where given.
        apart: whether each class is there or not for itself.

    Returns:
        Probabilities (rows, classes), each row summing to 1 unless they are apart, or values
        (rows,), float64.
    """
    out = np.empty((num_rows, num_classes) if num_classes else (num_rows,))
    order = np.arange(num_rows) if lengths is None else np.argsort(lengths, kind="stable")
    weights = next(network.parameters())
    for start in range(0, num_rows, batch_size):
        rows = order[start : start + batch_size]
        inputs = {
            name: _placed(torch.from_numpy(array), weights)
            for name, array in collate(arrays, rows, None).items()
        }
        with exact_products():
            found = answers(network(**inputs), num_classes, apart=apart).double().cpu().numpy()
        whole = num_classes and not apart
        out[rows] = found / found.sum(axis=1, keepdims=True) if whole else found
    return out


def _placed(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """An input on the network's device, real numbers in its type."""
    return value.to(like.device, like.dtype if value.is_floating_point() else value.dtype)
