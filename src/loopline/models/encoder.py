"""What stands before a network: raw feature columns in, plain arrays out; a value, saved as data.

**Lifetime.** A neural family's `learn` makes one on a training view. `encode` is called once a
table, `collate` once a batch, on a thread of its own; so neither may change the encoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
Ints = NDArray[np.int64]


class Encoder(ABC):
    """The fitted preprocessing of a network: a value that saves itself as data files."""

    columns: Sequence[str] | None = None
    """The columns that are read, where these are few; None for whatever the table has."""
    lacks: str = "cannot be read"
    """What is said of rows that cannot be learned from."""

    @abstractmethod
    def encode(self, frame: pl.DataFrame) -> Arrays:
        """Raw feature columns as named arrays, of any shapes."""

    @abstractmethod
    def collate(self, arrays: Arrays, rows: Ints, epochs: Ints | None) -> Arrays:
        """The network's inputs for some rows, by the names that its `forward` has.

        Args:
            arrays: what `encode` gave.
            rows: positions, shape (batch,).
            epochs: for training, in which pass each row is used: whatever is random is a function
                of row and pass. None when the rows are to be predicted.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write data files into an empty folder (same encoder, same bytes)."""

    def usable(self, arrays: Arrays) -> NDArray[np.bool_] | None:
        """Which rows can be learned from, where some cannot (default: None, all of them)."""
        del arrays
        return None

    def lengths(self, arrays: Arrays) -> Ints | None:
        """Length of each row, where batches of like length save work (default: None)."""
        del arrays
        return None

    @property
    def elsewhere_bytes(self) -> int:
        """Bytes of what a saved encoder names and does not carry (default: 0)."""
        return 0
