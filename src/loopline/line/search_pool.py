"""Where a search's trials run: in this process, or several at a time in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import IO, Any

from loopline.errors import EnvironmentProblem
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.interrupt import Interrupt
from loopline.line.trial import Job, OutOfTime, run_trial, without_time
from loopline.search.record import Record, Trial

MakeJob = Callable[[Trial], Job]
Deadline = Callable[[float | None], float | None]
"""When the time is over, by the monotonic clock, None for never; asked with the start of the trial
where that is the first of its arm."""
_END_SECONDS = 5.0
_LOOK_SECONDS = 0.2
"""How often a wait for workers looks whether somebody asked to stop."""


class InThisProcess:
    """Runs one trial at a time, here.

    Args:
        context: the line.
        prepared: its rows.
        job: what a trial needs to know, asked when it starts.
        deadline: when the time is over: see `Deadline`.
        interrupt: whether somebody asked to stop.
    """

    def __init__(
        self,
        context: LineContext,
        prepared: Prepared,
        job: MakeJob,
        deadline: Deadline,
        interrupt: Interrupt,
    ) -> None:
        self._context, self._prepared = context, prepared
        self._job, self._deadline, self._interrupt = job, deadline, interrupt
        self._waiting: deque[Job] = deque()

    def start(self, trial: Trial) -> None:
        """Take the trial; it runs when it is waited for."""
        self._waiting.append(self._job(trial))

    def wait(self) -> Record | None:
        """Run the trial."""
        try:
            job = self._waiting.popleft()
            return run_trial(
                self._context,
                self._prepared,
                job,
                self._deadline(None),
                self._interrupt,
                self._deadline(time.monotonic()) if job.first else None,
            )
        except OutOfTime:
            return None

    def close(self) -> None:
        """Nothing runs outside of `wait`."""
        self._waiting.clear()


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    job: Job | None = None
    began: float = 0.0
    heard: bytes = b""


class Workers:
    """Runs trials in processes of their own, each with its share of the cores.

    A process is told the line once and then one job after another, as lines of JSON. One that dies
    has failed its trial, with that as the reason; another takes its place. All of them end with
    this process, however it ends: they read from it.

    Args:
        line: what a worker needs to open the line: see `loopline.line.search_worker`.
        count: how many, at least 1.
        job: what a trial needs to know, asked when it starts.
        deadline: when the time is over: see `Deadline`.
        interrupt: whether somebody asked to stop.
    """

    def __init__(
        self,
        line: Mapping[str, Any],
        count: int,
        job: MakeJob,
        deadline: Deadline,
        interrupt: Interrupt,
    ) -> None:
        self._line, self._job = line, job
        self._deadline, self._interrupt = deadline, interrupt
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = [self._started() for _ in range(count)]

    def start(self, trial: Trial) -> None:
        """Give the trial to a worker that has none."""
        worker = next(each for each in self._workers if each.job is None)
        if worker.process.poll() is not None:  # it died while it had nothing to do
            self._ended(worker)
            self._workers.remove(worker)
            worker = self._started()
            self._workers.append(worker)
        worker.job, worker.began = self._job(trial), time.monotonic()
        self._send(worker, worker.job.to_dict())

    def wait(self) -> Record | None:
        """Wait for a worker's answer, or for its death."""
        while True:
            deadline = self._deadline(None)
            left = _LOOK_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0 or self._interrupt.asked:
                self.close()
                return None
            late = next((worker for worker in self._workers if self._is_late(worker)), None)
            if late is not None:
                return self._given_up(late)
            for key, _ in self._selector.select(min(left, _LOOK_SECONDS)):
                record = self._heard(key.data)
                if record is not None:
                    return record

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            self._ended(worker)
        self._workers = []
        self._selector.close()

    def _is_late(self, worker: _Worker) -> bool:
        """Whether a worker's trial has no time of its own any more."""
        if worker.job is None or not worker.job.first:
            return False
        end = self._deadline(worker.began)
        return end is not None and time.monotonic() > end

    def _given_up(self, worker: _Worker) -> Record:
        job, began = worker.job, worker.began
        assert job is not None
        self._ended(worker)
        self._workers[self._workers.index(worker)] = self._started()
        return replace(without_time(job), seconds=round(time.monotonic() - began, 4))

    def _started(self) -> _Worker:
        errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with its worker
        process = subprocess.Popen(
            [sys.executable, "-m", "loopline.line.search_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(self._line["threads"]),
                "POLARS_MAX_THREADS": str(self._line["threads"]),
            },
        )
        worker = _Worker(process, errors)
        self._send(worker, self._line)
        assert process.stdout is not None
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)
        return worker

    def _send(self, worker: _Worker, data: Mapping[str, Any]) -> None:
        assert worker.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # a dead worker is noticed by its silence
            worker.process.stdin.write(json.dumps(data).encode() + b"\n")
            worker.process.stdin.flush()

    def _heard(self, worker: _Worker) -> Record | None:
        assert worker.process.stdout is not None
        data = os.read(worker.process.stdout.fileno(), 1 << 16)
        if not data:
            return self._died(worker)
        worker.heard += data
        line, found, rest = worker.heard.partition(b"\n")
        if not found:
            return None
        worker.heard, job = rest, worker.job
        assert job is not None
        answer = json.loads(line)
        if "problem" in answer:
            raise EnvironmentProblem(answer["problem"])
        worker.job = None
        return Record.from_dict(answer)

    def _died(self, worker: _Worker) -> Record | None:
        job, began = worker.job, worker.began
        told = self._ended(worker)
        self._workers.remove(worker)
        if job is None:
            raise EnvironmentProblem(f"A process for trials ended before it had one. {told}")
        self._workers.append(self._started())
        trial = job.trial
        record = Record(trial.number, trial.arm, trial.params, trial.origin, "failed", reason=told)
        return replace(record, seconds=round(time.monotonic() - began, 4))

    def _ended(self, worker: _Worker) -> str:
        """End a worker; how it ended, and the last that it said."""
        process = worker.process
        assert process.stdout is not None
        assert process.stdin is not None
        self._selector.unregister(process.stdout)
        if worker.heard or process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2 if worker.job is None else 0.05)
        if process.poll() is None:
            process.kill()
        code = process.wait(_END_SECONDS)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        worker.errors.seek(0)
        said = worker.errors.read().decode(errors="replace").strip().splitlines()
        worker.errors.close()
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        memory = " (killed; perhaps the memory did not suffice)" if code == -9 else ""
        last = f": {said[-1]}" if said else ""
        return f"the process of the trial ended {how}{memory}{last}"
