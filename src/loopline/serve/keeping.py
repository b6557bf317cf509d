"""What is kept of answers: counts, the log, and the window that watches what comes in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any, Protocol, TypeVar

import polars as pl

from loopline.features.contract import Remark
from loopline.models.base import Floats
from loopline.serve.edge import attempt
from loopline.serve.ids import RequestIds
from loopline.serve.metrics import Counter, Metrics
from loopline.serve.model import ServedModel
from loopline.serve.settings import ServeSettings
from loopline.serve.window import REST_SECONDS, InputWindow

Tell = Callable[[str, Mapping[str, Any]], None]
T = TypeVar("T")


class Keeper(Protocol):
    """Where answers are kept: the prediction log, or nothing."""

    def add(
        self,
        model: ServedModel,
        role: str,
        request_id: str,
        rows: Mapping[str, Any] | pl.DataFrame | bytes,
        raw: Floats,
        remarks: tuple[Remark, ...],
    ) -> None:
        """See `PredictionLog.add`."""


class Shared:
    """What all names of a service share.

    Args:
        settings: the service's settings.
        metrics: where everything is counted.
        ids: makes request ids.
        log: where answers are kept; None for nowhere.
        executor: threads for heavy models, long tables and shadows.
        tell: hears what happened: swaps, rollbacks, flags.
    """

    def __init__(
        self,
        settings: ServeSettings,
        metrics: Metrics,
        ids: RequestIds,
        log: Keeper | None,
        executor: Executor,
        tell: Tell,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.ids = ids
        self.log = log
        self.executor = executor
        self.tell = tell


class Keeping:
    """What is kept for one name. All of it changes in the event loop; threads give values back."""

    def __init__(self, name: str, shared: Shared) -> None:
        self.name = name
        self._shared = shared
        self._windows: dict[str, InputWindow] = {}
        self._counters: dict[tuple[str, str], Counter] = {}
        self._tasks: set[asyncio.Future[Any]] = set()

    def forget(self, version: str) -> None:
        """Let go of what was gathered for a version."""
        self._windows.pop(version, None)

    async def close(self) -> None:
        """Wait for the work under way."""
        while self._tasks:
            await asyncio.wait(list(self._tasks), timeout=1.0)

    def kept(
        self,
        model: ServedModel,
        role: str,
        request_id: str,
        checked: Mapping[str, Any] | pl.DataFrame,
        raw: Floats,
        remarks: tuple[Remark, ...],
        body: bytes | None = None,
    ) -> tuple[Remark, ...]:
        """Count, log and watch what was answered.

        Args:
            model: who answered.
            role: champion, challenger or version.
            request_id: the request.
            checked: the row or table as the model saw it.
            raw: what was predicted.
            remarks: what was odd.
            body: the JSON of a usual row, for the log in its place.

        Returns:
            All remarks, those of the window too.
        """
        shared = self._shared
        rows = checked.height if isinstance(checked, pl.DataFrame) else 1
        counter = self._counters.get((model.version, role))
        if counter is None:
            labels = (("model", self.name), ("role", role), ("version", model.version))
            counter = shared.metrics.counter("rows_total", labels)
            self._counters[model.version, role] = counter
        counter.add(rows)
        if shared.log is not None:
            kept = checked if body is None else body
            shared.log.add(model, role, request_id, kept, raw, remarks)
        for remark in remarks:
            # a caller chooses the names of extra columns; they must not become counters
            column = "" if remark.what == "extra" else remark.column
            told = (("column", column), ("model", self.name), ("what", remark.what))
            shared.metrics.add("remarks_total", told, remark.count)
        window = self._windows.get(model.version)
        if window is None:
            size = shared.settings.input.window_rows
            window = self._windows[model.version] = InputWindow(model.columns, size)
        full = (
            window.add_frame(checked)
            if isinstance(checked, pl.DataFrame)
            else window.add_row(checked)
        )
        if full:
            self._judge(model, window)
        return remarks + window.flags if window.flags else remarks

    def _judge(self, model: ServedModel, window: InputWindow) -> None:
        judge = window.take()

        def judged(found: tuple[tuple[Remark, ...] | None, Exception | None]) -> None:
            asyncio.get_running_loop().call_later(REST_SECONDS, window.resume)
            self._judged(model, window, *found)

        self.later(lambda: attempt(judge), judged)

    def _judged(
        self,
        model: ServedModel,
        window: InputWindow,
        flags: tuple[Remark, ...] | None,
        error: Exception | None,
    ) -> None:
        shared = self._shared
        if flags is None:
            shared.tell("serve.window_failed", {"name": self.name, "message": str(error)})
            return
        before = {(flag.column, flag.what) for flag in window.flags}
        now = {(flag.column, flag.what) for flag in flags}
        window.flags = flags
        for column, what in before | now:
            told = (("column", column), ("model", self.name), ("what", what))
            shared.metrics.set("window_flags", int((column, what) in now), told)
        if now - before:
            texts = [flag.text for flag in flags]
            data = {"name": self.name, "version": model.version, "flags": texts}
            shared.tell("serve.flagged", data)

    def later(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        """Do some work in a thread; what it gives is taken in the event loop."""
        task = asyncio.get_running_loop().run_in_executor(self._shared.executor, work)
        self._tasks.add(task)

        def take(ended: asyncio.Future[T]) -> None:
            self._tasks.discard(ended)
            if not ended.cancelled():
                done(ended.result())

        task.add_done_callback(take)
