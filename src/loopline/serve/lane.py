"""The lane of a model: its rows leave the event loop, and those that wait together go together.

*Zero wait*: a batch is what waits when the model is free; nobody sleeps for more to come. Batches
are counted in rows, never in requests (one request of 10,000 rows is not one). A small model gains
nothing from batches: a row of LightGBM costs 5 to 20 µs, less than the way to a thread and back,
so only heavy models (over 1 ms a row) and long tables come here.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import polars as pl

from loopline.models.base import Floats
from loopline.serve.reply import Refusal


@dataclass(slots=True)
class _Waiting:
    frame: pl.DataFrame
    done: asyncio.Future[Floats]


class Lane:
    """One queue in front of one model.

    Args:
        predict: checked rows in, raw predictions out; called in the executor, one call at a time.
        executor: where it runs.
        batch_rows: most rows of one call.
        max_rows: most rows that wait; more are refused with 429.
    """

    def __init__(
        self,
        predict: Callable[[pl.DataFrame], Floats],
        executor: Executor,
        *,
        batch_rows: int,
        max_rows: int,
    ) -> None:
        self._predict = predict
        self._executor = executor
        self._batch_rows = batch_rows
        self._max_rows = max_rows
        self._queue: deque[_Waiting] = deque()
        self._rows = 0
        self._row_seconds = 0.0
        self._running: asyncio.Task[None] | None = None

    async def predict(self, frame: pl.DataFrame) -> Floats:
        """Predict checked rows after those that came before.

        Raises:
            Refusal: 429; too many rows wait already. Retry-After tells when they will be done.
        """
        if self._rows and self._rows + frame.height > self._max_rows:
            seconds = max(1, math.ceil(self._rows * self._row_seconds))
            raise Refusal(
                429,
                f"{self._rows:,} rows wait for this model already; try again in {seconds} s.",
                headers=[(b"retry-after", str(seconds).encode())],
            )
        done: asyncio.Future[Floats] = asyncio.get_running_loop().create_future()
        self._rows += frame.height
        self._queue.append(_Waiting(frame, done))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        try:
            return await done
        finally:
            self._rows -= frame.height

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            batch = self._next()
            start = loop.time()
            await self._work(batch)
            rows = sum(waiting.frame.height for waiting in batch)
            self._row_seconds = (loop.time() - start) / max(1, rows)

    def _next(self) -> list[_Waiting]:
        """What goes together: whole requests, up to the batch's rows, at least one."""
        batch: list[_Waiting] = []
        rows = 0
        while self._queue and (not batch or rows + self._queue[0].frame.height <= self._batch_rows):
            waiting = self._queue.popleft()
            if waiting.done.cancelled():  # its client has gone
                continue
            batch.append(waiting)
            rows += waiting.frame.height
        return batch

    async def _work(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        loop = asyncio.get_running_loop()
        frames = [waiting.frame for waiting in batch]
        whole = frames[0] if len(frames) == 1 else pl.concat(frames, how="vertical_relaxed")
        future = loop.run_in_executor(self._executor, self._in_parts, whole)
        await asyncio.wait([future])
        error = future.exception()
        if error is not None and len(batch) > 1:
            for waiting in batch:  # one request's rows must not fail the others'
                await self._work([waiting])
            return
        if error is not None:
            if not batch[0].done.done():
                batch[0].done.set_exception(error)
            return
        raw = future.result()
        start = 0
        for waiting in batch:
            stop = start + waiting.frame.height
            if not waiting.done.done():
                waiting.done.set_result(raw[start:stop])
            start = stop

    def _in_parts(self, frame: pl.DataFrame) -> Floats:
        if frame.height <= self._batch_rows:
            return self._predict(frame)
        parts = [
            self._predict(frame.slice(start, self._batch_rows))
            for start in range(0, frame.height, self._batch_rows)
        ]
        return np.concatenate(parts)
