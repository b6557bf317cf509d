"""Batches made ready on threads while the device computes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from loopline.engine.order import DataOrder, micro_batches, rank_slice
from loopline.engine.task import Batch, Task

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class StepRows:
    """The rows of one step on one rank, cut into micro-batches.

    Args:
        step: which step.
        parts: row numbers of each micro-batch.
        epochs: their epochs.
    """

    step: int
    parts: list[Ints]
    epochs: list[Ints]


def step_rows(
    order: DataOrder, step: int, rank: int, world: int, micro: int
) -> StepRows:
    """What one rank computes in one step; the number of micro-batches is the same on all ranks."""
    rows, epochs = order.batch(step)
    mine, when = rank_slice(rows, rank, world), rank_slice(epochs, rank, world)
    count = -(-(-(-rows.size // world)) // micro)
    places = micro_batches(mine, count, order.lengths)
    return StepRows(step, [mine[place] for place in places], [when[place] for place in places])


class Feeder:
    """Makes the micro-batches of coming steps on threads, in their order.

    Args:
        task: makes the tensors of rows.
        order: which rows.
        rank: of this process.
        world: number of processes.
        device: where the tensors go.
        micro: rows of a micro-batch at most.
        threads: how many threads make batches.
        ahead: how many steps to be ahead.
    """

    def __init__(
        self,
        task: Task,
        order: DataOrder,
        rank: int,
        world: int,
        device: torch.device,
        micro: int,
        *,
        threads: int = 2,
        ahead: int = 2,
    ) -> None:
        self._task, self._order = task, order
        self._rank, self._world, self._micro = rank, world, micro
        self._device, self._ahead = device, ahead
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="feeder")
        self.waited = 0.0

    def steps(self, start: int, end: int) -> Iterator[tuple[StepRows, Iterator[Batch]]]:
        """The rows and batches of steps `start` to `end` - 1."""
        queue: deque[tuple[StepRows, list[Future[Batch]]]] = deque()
        coming = iter(range(start, end))
        for step in range(start, end):
            while len(queue) <= self._ahead:
                following = next(coming, None)
                if following is None:
                    break
                queue.append(self._submit(following))
            rows, futures = queue.popleft()
            assert rows.step == step
            yield rows, self._ready(futures)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, step: int) -> tuple[StepRows, list[Future[Batch]]]:
        rows = step_rows(self._order, step, self._rank, self._world, self._micro)
        made = [
            self._pool.submit(self._made, part, epochs)
            for part, epochs in zip(rows.parts, rows.epochs, strict=True)
        ]
        return rows, made

    def _made(self, rows: Ints, epochs: Ints) -> Batch:
        batch = self._task.batch(rows, epochs, train=True)
        if self._device.type == "cuda":
            return {key: _pinned(value) for key, value in batch.items()}
        return batch

    def _ready(self, futures: list[Future[Batch]]) -> Iterator[Batch]:
        for future in futures:
            began = time.perf_counter()
            batch = future.result()
            self.waited += time.perf_counter() - began
            yield to_device(batch, self._device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """A batch whose tensors are on a device; the copy does not wait."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }


def _pinned(value: Any) -> Any:
    return value.pin_memory() if isinstance(value, torch.Tensor) else value
