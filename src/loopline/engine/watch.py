"""Who died, and who stands still: named by the processes of a run themselves.

Every process says through the store that torch's launcher keeps how far it has come. The first two
compare: when nobody moves any more, the one that has come least far is to blame, for the others
wait for it; one that says nothing at all has been stopped or lost. The verdict is printed, and all
processes end, so that a launcher can start them again from the last checkpoint. That works alike
under `launch` and under torchrun.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import torch.distributed as dist
from torch.distributed import DistError

SECONDS = 30.0
PATIENT_SECONDS = 600.0
ENDING_SECONDS = 3.0
WARM_STEPS = 3
SLOW = ("the evaluation", "the checkpoint")
"""Phases that may take long for good reasons."""
VERDICT = "LOOPLINE_VERDICT"
HANG_SECONDS = "LOOPLINE_HANG_SECONDS"
EXIT_CODE = 5


@dataclass
class Beat:
    """What one process said last, and when it was heard by the clock of the one who listens.

    Args:
        said: number of the message; -1 before the first and after the last.
        moves: how many phases the process has come through; -1 while it is not to be judged.
        phase: the phase that it is in.
        step: of the run.
        where: the line of code that it stands at, where it has not moved.
        heard: when the message was new.
        moved: when `moves` was new.
        longest: the longest time between two moves so far, since `warm`.
        warm: whether the process has come through its first steps, in which kernels are compiled.
    """

    said: int = -1
    moves: int = -1
    phase: str = ""
    step: int = 0
    where: str = ""
    heard: float = 0.0
    moved: float = 0.0
    longest: float = 0.0
    warm: bool = False

    def hear(self, message: dict[str, Any], now: float) -> None:
        """Take in a message."""
        if message["said"] != self.said:
            self.heard = now
        if message["moves"] != self.moves:
            if self.moves >= 0 and self.warm and self.phase not in SLOW:
                self.longest = max(self.longest, now - self.moved)
            self.moved = now
        self.said, self.moves = message["said"], message["moves"]
        self.phase, self.step, self.where = message["phase"], message["step"], message["where"]
        self.warm = message["warm"]
        if message["over"]:
            self.said = -1


def verdict(
    beats: list[Beat], now: float, seconds: float, patience: float = PATIENT_SECONDS
) -> str:
    """One sentence about who stands still, or nothing.

    Args:
        beats: of every process, by rank.
        now: the clock.
        seconds: how long some may stand still while others wait for them; ten times the longest
            pause so far is always allowed.
        patience: the same where there may be a good reason: in the first steps, in an evaluation
            or a checkpoint, and where all stand at the same place.

    >>> quick, slow = Beat(1, 8, "the update", 3), Beat(1, 5, "the forward pass", 3)
    >>> quick.heard = slow.heard = 99.0
    >>> quick.warm = slow.warm = True
    >>> print(verdict([quick, slow], now=100.0, seconds=30.0))
    Process 1 of 2 has stood still for 100 s in the forward pass of step 3; the others wait for it.
    """
    for rank, beat in enumerate(beats):
        if beat.said >= 0 and now - beat.heard > seconds:
            return (
                f"Process {rank} of {len(beats)} has given no sign of life for "
                f"{now - beat.heard:.0f} s, last in {beat.phase or 'the beginning'} of step "
                f"{beat.step:,}."
            )
    least = min(beat.moves for beat in beats)
    if least < 0:
        return ""
    late = [rank for rank, beat in enumerate(beats) if beat.moves == least]
    beat = beats[late[0]]
    alike = len(late) == len(beats)
    reason = alike or beat.phase in SLOW or not all(one.warm for one in beats)
    allowed = max(patience if reason else seconds, 10.0 * max(one.longest for one in beats))
    still = min(now - one.moved for one in beats)
    if still <= allowed:
        return ""
    place = f"{beat.phase} of step {beat.step:,}" + (f" ({beat.where})" if beat.where else "")
    if alike:
        return f"All {len(beats)} processes have stood still for {still:.0f} s in {place}."
    names = ", ".join(str(rank) for rank in late)
    noun, have = ("Process", "has") if len(late) == 1 else ("Processes", "have")
    wait = "the others wait for it" if len(late) == 1 else "the others wait for them"
    return (
        f"{noun} {names} of {len(beats)} {have} stood still for {now - beat.moved:.0f} s in "
        f"{place}; {wait}."
    )


class Watch:
    """One process's part in the watching: a thread that tells, and in the first two compares.

    Args:
        store: the launcher's, a connection of its own.
        rank: of this process.
        world: number of processes.
        seconds: how long some may stand still while others wait for them; None for the usual.
    """

    joined: ClassVar[list[Watch]] = []
    """Those of this process, in the order of its runs."""

    def __init__(self, store: Any, rank: int, world: int, seconds: float | None) -> None:
        self._store, self._rank, self._world = store, rank, world
        self._key = f"loopline/watch/{len(Watch.joined)}/"
        self._limits = (SECONDS, PATIENT_SECONDS) if seconds is None else (seconds, seconds)
        self._moves, self._phase, self._step, self._steps = 0, "", 0, 0
        self._judged, self._ended = False, False
        self._signals: int | None = None
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._main = threading.get_ident()

    @staticmethod
    def join(rank: int, world: int) -> Watch:
        """Watch the processes of this run; LOOPLINE_HANG_SECONDS sets another limit for all phases.

        Args:
            rank: of this process.
            world: number of processes.
        """
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(  # type: ignore[attr-defined]
            host, port, is_master=False, timeout=timedelta(seconds=10)
        )
        given = os.environ.get(HANG_SECONDS)
        for earlier in Watch.joined[-1:]:  # of an earlier run of the same processes
            earlier.close()
        Watch.joined.append(Watch(store, rank, world, float(given) if given else None))
        return Watch.joined[-1]

    def beat(self, phase: str, step: int | None = None) -> None:
        """This process has come to a phase; every process comes through the same ones."""
        self._moves += 1
        self._phase = phase
        if step is not None:
            self._steps += step != self._step
            self._step = step

    @contextmanager
    def signals(self) -> Iterator[None]:
        """While inside, hear of SIGTERM even where the main thread waits for a device."""
        there, here = os.pipe()
        os.set_blocking(there, False)
        os.set_blocking(here, False)
        before = signal.set_wakeup_fd(here, warn_on_full_buffer=False)
        self._signals = there
        try:
            yield
        finally:
            self._signals = None
            signal.set_wakeup_fd(before)
            os.close(here)
            os.close(there)

    def _ending(self) -> bool:
        with suppress(OSError, TypeError):  # nothing was heard, or nobody listens any more
            self._ended |= signal.SIGTERM in os.read(self._signals, 64)  # type: ignore[arg-type]
        return self._ended

    def __enter__(self) -> Watch:
        """Be judged from now on."""
        self._judged = True
        if self._thread is None:
            self._tell(0, "")  # at once: who stops in the first second has said something
            self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Be judged no longer."""
        self._judged = False

    def close(self) -> None:
        """Stop watching."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
            with suppress(DistError, RuntimeError):  # the store may be gone already
                self._tell(0, "")

    def _watch(self) -> None:
        beats = [Beat() for _ in range(self._world)]
        said, before = 0, -2
        try:
            while not self._over.wait(1.0):
                said += 1
                where = _line_of(self._main) if self._moves == before else ""
                before = self._moves
                self._tell(said, where)
                if self._store.check(["loopline/verdict"]):
                    os._exit(EXIT_CODE)
                if self._rank < 2:
                    self._hear(beats)
                if self._rank < 2 and self._judged:
                    self._judge(beats)
        except (DistError, RuntimeError):
            return  # the store is gone: the launcher has ended, and ends us

    def _tell(self, said: int, where: str) -> None:
        message = {
            "said": said,
            "moves": self._moves if self._judged else -1,
            "phase": self._phase,
            "step": self._step,
            "where": where,
            "over": self._over.is_set(),
            "warm": self._steps >= WARM_STEPS,
        }
        self._store.set(f"{self._key}{self._rank}", json.dumps(message))

    def _hear(self, beats: list[Beat]) -> None:
        for rank, beat in enumerate(beats):
            key = f"{self._key}{rank}"
            if self._store.check([key]):
                beat.hear(json.loads(self._store.get(key)), time.monotonic())

    def _judge(self, beats: list[Beat]) -> None:
        now = time.monotonic()
        silent = [beat for beat in beats if beat.said >= 0 and now - beat.heard > ENDING_SECONDS]
        if silent and self._ending():  # the launcher knows who died, and waits for the others
            self._store.set("loopline/verdict", "")
            os._exit(EXIT_CODE)
        sentence = verdict(beats, now, *self._limits)
        if not sentence:
            return
        sentence += " The run was ended; what was saved last is good."
        self._store.set("loopline/verdict", sentence)
        sys.stderr.write(sentence + "\n")
        sys.stderr.flush()
        if VERDICT in os.environ:
            Path(os.environ[VERDICT]).write_text(sentence, encoding="utf-8")
        os._exit(EXIT_CODE)


def _line_of(thread: int) -> str:
    """The innermost line of a thread that is not torch's own, as ``file:line, in function``."""
    frame = sys._current_frames().get(thread)  # the only way to see another thread
    stack = traceback.extract_stack(frame) if frame is not None else []
    for entry in reversed(stack):
        if f"{os.sep}torch{os.sep}" not in entry.filename:
            return f"{Path(entry.filename).name}:{entry.lineno}, in {entry.name}"
    return ""


def report_errors() -> None:
    """Let what ends this process reach the launcher, where torch's launcher asks for it."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not file:
        return
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        message = {
            "message": f"{kind.__name__}: {error}",
            "extraInfo": {"py_callstack": "", "timestamp": str(int(time.time()))},
        }
        Path(file).write_text(json.dumps({"message": message}), encoding="utf-8")
        before(kind, error, trace)

    sys.excepthook = hook
