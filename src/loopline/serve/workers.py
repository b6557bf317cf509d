"""Several processes on one port: each is the same command, told by its environment to be one.

The kernel deals connections out among them (SO_REUSEPORT), so no process stands in the way of
another. The first process only starts them, passes signals on, and starts one anew that died. They
share a private folder: each writes its counters there once a second, so that whichever is asked for
metrics tells the sum; and a challenger that one takes back is taken back by all.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import orjson

from loopline.serve.edge import attempt
from loopline.serve.metrics import Metrics, read_snapshot
from loopline.serve.model import version_of
from loopline.serve.server import Server
from loopline.serve.service import Service
from loopline.store.disk import disk_problems

VARIABLE = "LOOPLINE_SERVE_WORKER"
"""How a process knows that it is a worker: ``<number>:<port>:<folder>``, set by the first one."""
LOGGER = logging.getLogger("loopline.serve")
_POLL_SECONDS = 0.1
_SHARE_SECONDS = 1.0
_YOUNG_SECONDS = 10.0
_MAX_RESTARTS = 5


@dataclass(frozen=True, slots=True)
class Worker:
    """Which worker a process is.

    Args:
        number: from 0.
        port: the port that all share.
        folder: what they share on disk.
    """

    number: int
    port: int
    folder: Path

    @staticmethod
    def of_environment() -> Worker | None:
        """The worker that this process is, or None."""
        text = os.environ.get(VARIABLE)
        if not text:
            return None
        number, port, folder = text.split(":", 2)
        return Worker(int(number), int(port), Path(folder))

    def to_text(self) -> str:
        """What the environment holds."""
        return f"{self.number}:{self.port}:{self.folder}"

    @property
    def counters(self) -> Path:
        """Where this worker's counters lie."""
        return self.folder / f"{self.number}.json"


def join(worker: Worker, server: Server) -> None:
    """Make a server one of several: its counters are shared, its rollbacks told."""
    service = server.service
    service.summed = lambda: summed(worker, service)
    service.listen(lambda kind, data: _tell_others(worker, kind, data))
    server.beside.append(lambda: share(worker, service))


async def share(worker: Worker, service: Service) -> None:
    """Write this worker's counters each second, and follow the others' rollbacks."""
    own = Path(f"{worker.counters}.new")
    while True:
        service.take_stock()
        _write(own, worker.counters, orjson.dumps(service.metrics.snapshot()))
        for deployment in service.deployments.values():
            trial = deployment.trial
            if trial is not None and _mark(worker, trial.challenger.version).exists():
                deployment.withdraw("another worker took it back")
        await asyncio.sleep(_SHARE_SECONDS)


def summed(worker: Worker, service: Service) -> Metrics:
    """The counters of all workers: this one's of now, the others' of at most a second ago."""
    snapshots = [service.metrics.snapshot()]
    for path in worker.folder.glob("*.json"):
        if path != worker.counters:
            found, _ = attempt(lambda path=path: read_snapshot(path.read_bytes()))  # type: ignore[misc]
            if found is not None:
                snapshots.append(found)
    return Metrics.merged(snapshots)


def supervise(
    command: Sequence[str], count: int, bound: socket.socket, started: Callable[[], None]
) -> int:
    """Run a command several times on one port until a signal ends it.

    Args:
        command: the command line of a worker.
        count: how many.
        bound: a socket that holds the port; it never listens.
        started: called when all are ready.

    Returns:
        0 after a signal, else the exit code of a worker that could not start.
    """
    with tempfile.TemporaryDirectory(prefix="loopline-serve-") as folder:
        port = bound.getsockname()[1]
        crew = _Crew(command, [Worker(n, port, Path(folder)) for n in range(count)])
        return crew.run(started)


class _Crew:
    def __init__(self, command: Sequence[str], workers: Sequence[Worker]) -> None:
        self._command = list(command)
        self._workers = workers
        self._running: dict[Worker, subprocess.Popen[bytes]] = {}
        self._born: dict[Worker, float] = {}
        self._restarts = 0
        self._signals: list[int] = []

    def run(self, started: Callable[[], None]) -> int:
        handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {number: signal.signal(number, self._note) for number in handled}
        ready = False
        try:
            for worker in self._workers:
                self._start(worker)
            while True:
                if not ready and all(worker.counters.exists() for worker in self._workers):
                    ready = True
                    started()
                if self._pass_on():
                    return self._end(0)
                code = self._restart_dead(ready=ready)
                if code is not None:
                    return self._end(code)
                time.sleep(_POLL_SECONDS)
        finally:
            self._end(0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._signals.append(number)

    def _pass_on(self) -> bool:
        """Hand a reload on; whether the end was asked for."""
        while self._signals:
            if self._signals.pop(0) != signal.SIGHUP:
                return True
            for process in self._running.values():
                process.send_signal(signal.SIGHUP)
        return False

    def _start(self, worker: Worker) -> None:
        environment = {**os.environ, VARIABLE: worker.to_text()}
        self._running[worker] = subprocess.Popen(
            self._command, env=environment, start_new_session=True
        )
        self._born[worker] = time.monotonic()

    def _restart_dead(self, *, ready: bool) -> int | None:
        for worker, process in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            young = time.monotonic() - self._born[worker] < _YOUNG_SECONDS
            self._restarts = self._restarts + 1 if young else 0
            if not ready or self._restarts > _MAX_RESTARTS:
                return code if code > 0 else 1
            LOGGER.warning("Worker %d ended with %d and is started anew.", worker.number, code)
            self._start(worker)
        return None

    def _end(self, code: int) -> int:
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        for process in self._running.values():
            process.wait()
        self._running = {}
        return code


def _tell_others(worker: Worker, kind: str, data: Mapping[str, Any]) -> None:
    if kind == "serve.rolled_back":
        _mark(worker, version_of(str(data["release"]))).touch()


def _mark(worker: Worker, version: str) -> Path:
    return worker.folder / f"{version}.withdrawn"


def _write(draft: Path, target: Path, data: bytes) -> None:
    with disk_problems("share a worker's counters"):
        draft.write_bytes(data)
        draft.replace(target)
