"""What the engine is told of a problem: rows in, a sum of losses and its weight out.

**Lifetime.** The engine asks for the rows of each micro-batch (`batch`, on a thread of its own, so
it must not touch the model), moves the tensors to the device, and calls `loss` on the training
thread. The sum is over rows (or tokens), never a mean: the engine divides by the weight of the
whole global batch, so any way to cut that batch gives the same gradient. After every evaluation it
calls `predict` on the rows to be evaluated and hands all predictions to `score`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Batch = Mapping[str, Any]
Ints = NDArray[np.int64]


class Task(ABC):
    """Rows, loss and score of one problem."""

    num_rows: int
    """Training rows."""
    num_valid: int = 0
    """Rows for evaluation in the loop; 0 for none."""

    @abstractmethod
    def batch(self, rows: Ints, epochs: Ints, *, train: bool) -> Batch:
        """The tensors of some rows, on the CPU.

        Whatever is random in it (augmentation) is a function of the row and the epoch, so it does
        not depend on how rows are cut into batches.

        Args:
            rows: row numbers of the training rows, or of the evaluation rows.
            epochs: the epoch that each row belongs to.
            train: which of the two.
        """

    @abstractmethod
    def loss(self, model: Any, batch: Batch) -> tuple[Any, Any]:
        """Sum of the losses (a scalar tensor) and weight of what was summed (tensor or number)."""

    def predict(self, model: Any, batch: Batch) -> Any:
        """What the model says of a batch, first dimension rows."""
        raise NotImplementedError(f"{type(self).__name__} does not predict.")

    def score(self, predictions: Any) -> tuple[float, dict[str, float]]:
        """The number to make small, and others to be shown, from all predictions in row order."""
        raise NotImplementedError(f"{type(self).__name__} does not score.")

    @property
    def lengths(self) -> Ints | None:
        """Length of each training row, where batches of like length save work."""
        return None
