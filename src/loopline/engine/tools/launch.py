"""Starts the processes of a run on this machine, through torch's own launcher.

The same command runs under torchrun unchanged. What ends a process reaches the caller as the error
that it was, with the process's number; one that is killed is named at once, one that stands still
by the watch (see `loopline.engine.watch`).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loopline import errors
from loopline.engine.watch import VERDICT
from loopline.errors import EnvironmentProblem, LooplineError, SettingsError


def launch(
    command: Sequence[str], processes: int, *, environment: Mapping[str, str] | None = None
) -> None:
    """Run ``python command…`` in some processes of this machine until all have ended.

    Each finds its number in RANK, their number in WORLD_SIZE, as under torchrun; `Layout.open`
    reads them. SIGTERM to the caller reaches the processes, which save and end.

    Args:
        command: a script and its arguments, or ``-m``, a module and its arguments.
        processes: how many, at least 1.
        environment: variables to be set for them.

    Raises:
        SettingsError: fewer than one process.
        LooplineError: the error that ended the first process, of its own type.
        EnvironmentProblem: a process was killed, stood still, or ended in another way.
    """
    if processes < 1:
        raise SettingsError([f"`processes` must be at least 1, got {processes}."])
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, launch_agent

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    main = threading.current_thread() is threading.main_thread()
    deaf: dict[str, Any] = (
        {} if main else {"signals_to_handle": ""}
    )  # only a main thread hears signals
    with tempfile.TemporaryDirectory() as scratch:
        note = Path(scratch) / "verdict"
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            monitor_interval=0.1,
            **deaf,
        )
        threads = os.environ.get("OMP_NUM_THREADS", "1")
        added = {VERDICT: str(note), "OMP_NUM_THREADS": threads, **(environment or {})}
        with _variables(added):
            try:
                launch_agent(config, sys.executable, ["-u", *command])
            except ChildFailedError as problem:
                text = note.read_text(encoding="utf-8") if note.exists() else ""
                raise _told(problem.failures, processes, text) from None
            except SignalException as problem:
                raise EnvironmentProblem(
                    f"The run was asked to stop ({problem.sigval.name}); its {processes} processes "
                    "have saved and ended. The same command goes on."
                ) from None


def _told(failures: Mapping[int, Any], processes: int, verdict: str) -> LooplineError:
    """The cause among failures: a verdict, then a kill, then an error of ours, then the first."""
    if verdict:
        return EnvironmentProblem(verdict)
    found = {rank: failures[rank] for rank in sorted(failures)}
    ended = signal.SIGTERM  # torch's launcher ends the others with it
    killed = [rank for rank, one in found.items() if one.exitcode < 0 and one.exitcode != -ended]
    # a process may abort because the one that it talked to has gone: that one is the cause
    killed.sort(key=lambda rank: found[rank].exitcode == -signal.SIGABRT)
    if not killed:
        for failure in found.values():
            name, _, rest = _text(failure).partition(": ")
            kind = getattr(errors, name, None)
            if isinstance(kind, type) and issubclass(kind, LooplineError):
                return kind([rest]) if issubclass(kind, SettingsError) else kind(rest)
    rank = killed[0] if killed else min(found, key=lambda number: found[number].timestamp)
    failure = found[rank]
    if not killed:
        reason = f"ended with exit code {failure.exitcode} ({_text(failure)})"
    elif failure.signal_name() == "SIGKILL":
        reason = "was killed by SIGKILL (by hand, or because memory ran out)"
    else:
        reason = f"was killed by {failure.signal_name()}"
    return EnvironmentProblem(
        f"Process {rank} of {processes} {reason}; the others were ended. What was saved last is "
        "good: the same command goes on from there."
    )


def _text(failure: Any) -> str:
    message = failure.message
    return str(message["message"] if isinstance(message, dict) else message)


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the processes to be started."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
