"""The rows of a view as numbers, a block at a time, so that the matrix need not be whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from loopline.features.base import Floats
from loopline.features.graph import FeatureGraph

if TYPE_CHECKING:
    from loopline.splits.views import TrainView

BLOCK_ROWS = 65_536
"""Rows gathered at a time."""


class Rows(Protocol):
    """Rows of numbers that can be asked for in parts; every part is float64 in C order."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""

    @property
    def num_columns(self) -> int:
        """Number of columns."""

    def block(self, start: int, stop: int) -> Floats:
        """The rows from `start` to `stop` (not included)."""

    def take(self, positions: NDArray[Any]) -> Floats:
        """The rows at some positions."""

    def matrix(self) -> Floats:
        """All rows."""


@dataclass(frozen=True, eq=False)
class ArrayRows:
    """Rows that are a matrix already.

    >>> ArrayRows(np.arange(6.0).reshape(3, 2)).block(1, 3).tolist()
    [[2.0, 3.0], [4.0, 5.0]]
    """

    values: Floats

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return int(self.values.shape[0])

    @property
    def num_columns(self) -> int:
        """Number of columns."""
        return int(self.values.shape[1])

    def block(self, start: int, stop: int) -> Floats:
        """See `Rows.block`; a part of the matrix, not a copy."""
        return self.values[start:stop]

    def take(self, positions: NDArray[Any]) -> Floats:
        """See `Rows.take`."""
        return np.take(self.values, positions, axis=0)

    def matrix(self) -> Floats:
        """The matrix itself."""
        return self.values


@dataclass(frozen=True, eq=False)
class ViewRows:
    """The rows of a training view under a feature graph, computed when they are asked for.

    Args:
        view: the rows.
        graph: what turns them into numbers.
        encoded: for training rows, the outputs of the steps that must not see a row's own label
            (cross-fitted target encoding), by the step's place in the graph; each (rows, outputs).
    """

    view: TrainView
    graph: FeatureGraph
    encoded: Mapping[int, Floats] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.view.num_rows

    @property
    def num_columns(self) -> int:
        """Number of columns."""
        return len(self.graph.outputs)

    def block(self, start: int, stop: int) -> Floats:
        """See `Rows.block`."""
        out = np.empty((min(stop, self.num_rows) - start, self.num_columns))
        self.graph.fill(self.view.block(start, stop), out, skip=self.encoded)
        self._add_encoded(slice(start, stop), out)
        return out

    def take(self, positions: NDArray[Any]) -> Floats:
        """See `Rows.take`."""
        out = np.empty((len(positions), self.num_columns))
        part = self.view.subset(positions)
        for start in range(0, len(positions), BLOCK_ROWS):
            rows = out[start : start + BLOCK_ROWS]
            self.graph.fill(part.block(start, start + BLOCK_ROWS), rows, skip=self.encoded)
        self._add_encoded(positions, out)
        return out

    def matrix(self) -> Floats:
        """See `Rows.matrix`; its peak of memory is the matrix and one block."""
        out = np.empty((self.num_rows, self.num_columns))
        for start, stop in blocks(self.num_rows):
            self.graph.fill(self.view.block(start, stop), out[start:stop], skip=self.encoded)
        self._add_encoded(slice(None), out)
        return out

    def _add_encoded(self, chosen: Any, out: Floats) -> None:
        for place, values in self.encoded.items():
            start, stop = self.graph.spans[place]
            out[:, start:stop] = values[chosen]


def blocks(num_rows: int, size: int = BLOCK_ROWS) -> Iterator[tuple[int, int]]:
    """First and past-the-last row of each block.

    >>> list(blocks(5, 2))
    [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, num_rows, size):
        yield start, min(start + size, num_rows)
