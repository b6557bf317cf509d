"""Batches made ready on threads while the device computes."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from loopline.engine.layout import Layout
from loopline.engine.order import DataOrder, micro_batches, rank_slice
from loopline.engine.task import Batch, Task

Ints = NDArray[np.int64]
StepBatch = tuple[Batch, float]
"""A micro-batch and 1, or 0 where it only stands in so that all ranks compute equally often."""


@dataclass(frozen=True)
class StepRows:
    """The rows of one step on one rank, cut into micro-batches.

    Args:
        step: which step.
        parts: row numbers of each micro-batch; empty where this rank has fewer than others.
        epochs: their epochs.
    """

    step: int
    parts: list[Ints]
    epochs: list[Ints]


def step_rows(order: DataOrder, step: int, rank: int, world: int, micro: int) -> StepRows:
    """What one rank computes in one step; the number of micro-batches is the same on all ranks."""
    rows, epochs = order.batch(step)
    mine, when = rank_slice(rows, rank, world), rank_slice(epochs, rank, world)
    count = math.ceil(math.ceil(rows.size / world) / micro)
    places = micro_batches(mine, count, order.lengths)
    return StepRows(step, [mine[place] for place in places], [when[place] for place in places])


class Feeder:
    """Makes the micro-batches of coming steps on threads, in their order.

    Args:
        task: makes the tensors of rows.
        order: which rows.
        layout: which process this is, and where the tensors go.
        micro: rows of a micro-batch at most.
        threads: how many threads make batches.
        ahead: how many steps to be ahead.
    """

    def __init__(
        self,
        task: Task,
        order: DataOrder,
        layout: Layout,
        micro: int,
        *,
        threads: int = 2,
        ahead: int = 2,
    ) -> None:
        self._task, self._order, self._layout = task, order, layout
        self._micro, self._ahead = micro, ahead
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="feeder")
        self.waited = 0.0

    def steps(self, start: int, end: int) -> Iterator[tuple[StepRows, Iterator[StepBatch]]]:
        """The rows and batches of steps `start` to `end` - 1."""
        queue: deque[tuple[StepRows, list[Future[StepBatch]]]] = deque()
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

    def _submit(self, step: int) -> tuple[StepRows, list[Future[StepBatch]]]:
        layout = self._layout
        rows = step_rows(self._order, step, layout.rank, layout.world, self._micro)
        pairs = list(zip(rows.parts, rows.epochs, strict=True))
        part, when = pairs[0]  # the largest: each rank has at least one row
        stand_in = (part[:1], when[:1], 0.0)
        made = [
            self._pool.submit(self._made, *((part, when, 1.0) if part.size else stand_in))
            for part, when in pairs
        ]
        return rows, made

    def _made(self, rows: Ints, epochs: Ints, share: float) -> StepBatch:
        batch = self._task.batch(rows, epochs, train=True)
        if self._layout.device.type == "cuda":
            batch = {key: _pinned(value) for key, value in batch.items()}
        return batch, share

    def _ready(self, futures: list[Future[StepBatch]]) -> Iterator[StepBatch]:
        for future in futures:
            self._layout.beat("waiting for its batch")
            began = time.perf_counter()
            batch, share = future.result()
            self.waited += time.perf_counter() - began
            yield to_device(batch, self._layout.device), share


def to_device(batch: Batch, device: torch.device) -> Batch:
    """A batch whose tensors are on a device; the copy does not wait."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }


def _pinned(value: Any) -> Any:
    return value.pin_memory() if isinstance(value, torch.Tensor) else value
