"""Which row comes when: a pure function of (seed, epoch, position).

Rows form one endless stream: epoch after epoch, each in an order of its own. Step *k* of a run with
batches of *B* rows takes the rows *kB* to *(k + 1)B* of the stream, so every batch is full, no row
is dropped, and where a run stands is one number. A rank takes its slice of that batch. Nothing
depends on how many ranks there are, how a batch is cut or how often the run was interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loopline.errors import SettingsError
from loopline.seeds import child_seed

Ints = NDArray[np.int64]
WINDOW_BATCHES = 50


@dataclass(eq=False)
class DataOrder:
    """The stream of rows.

    Args:
        num_rows: rows of one epoch, at least 1.
        batch_size: rows of a step over all ranks.
        seed: of the shuffling.
        shuffle: whether each epoch has a random order; the order of the table otherwise.
        lengths: length of each row, shape (rows,); rows of like length are then put into one batch
            where that can be had without losing the randomness (shuffled windows of 50 batches).

    >>> order = DataOrder(5, 2, seed=0)
    >>> first = [order.batch(step)[0].tolist() for step in range(5)]
    >>> sorted(sum(first, [])) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    True
    """

    num_rows: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    lengths: Ints | None = None
    _epochs: dict[int, Ints] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        problems = []
        if self.num_rows < 1:
            problems.append("There are no rows to train on.")
        if self.batch_size < 1:
            problems.append(f"`batch_size` must be at least 1, got {self.batch_size}.")
        if self.lengths is not None and self.lengths.shape != (self.num_rows,):
            problems.append(
                f"`lengths` must have one entry for each of {self.num_rows:,} rows, got the shape "
                f"{self.lengths.shape}."
            )
        if problems:
            raise SettingsError(problems)

    def epoch(self, number: int) -> Ints:
        """The rows of one epoch in their order, shape (rows,)."""
        if number not in self._epochs:
            self._epochs = {key: rows for key, rows in self._epochs.items() if key >= number - 1}
            self._epochs[number] = self._made(number)
        return self._epochs[number]

    def batch(self, step: int) -> tuple[Ints, Ints]:
        """The rows of one step over all ranks and the epoch of each, both (batch_size,)."""
        start = step * self.batch_size
        rows, epochs = [], []
        missing = self.batch_size
        while missing:
            number, place = divmod(start, self.num_rows)
            part = self.epoch(number)[place : place + missing]
            rows.append(part)
            epochs.append(np.full(part.size, number, dtype=np.int64))
            start, missing = start + part.size, missing - part.size
        return np.concatenate(rows), np.concatenate(epochs)

    def steps(self, epochs: float) -> int:
        """Steps that cover so many epochs."""
        return max(1, -int(-self.num_rows * epochs // self.batch_size))

    def _made(self, number: int) -> Ints:
        if not self.shuffle:
            return np.arange(self.num_rows, dtype=np.int64)
        draw = np.random.Generator(np.random.Philox(child_seed(self.seed, "epoch", number)))
        rows = draw.permutation(self.num_rows).astype(np.int64)
        if self.lengths is None:
            return rows
        window = WINDOW_BATCHES * self.batch_size
        parts: list[Ints] = []
        for start in range(0, self.num_rows, window):
            part = rows[start : start + window]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            cuts = np.arange(self.batch_size, part.size, self.batch_size)
            blocks = np.split(part, cuts)
            parts += [blocks[place] for place in draw.permutation(len(blocks))]
        return np.concatenate(parts)


def rank_slice(rows: Ints, rank: int, world: int) -> Ints:
    """The part of a batch that one rank computes: contiguous, sizes differ by at most one.

    >>> [rank_slice(np.arange(7), rank, 3).tolist() for rank in range(3)]
    [[0, 1, 2], [3, 4], [5, 6]]
    """
    return np.array_split(rows, world)[rank]


def micro_batches(rows: Ints, count: int, lengths: Ints | None = None) -> list[Ints]:
    """Positions of a rank's rows in `count` micro-batches, of like length where lengths are known.

    >>> [part.tolist() for part in micro_batches(np.array([4, 5, 6]), 2)]
    [[0, 1], [2]]
    """
    order = np.arange(rows.size)
    if lengths is not None:
        order = np.argsort(lengths[rows], kind="stable")
    return list(np.array_split(order, count))
