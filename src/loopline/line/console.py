"""Progress for people: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, TextIO

from loopline.progress import Reporter, SilentReporter, Step
from loopline.words import sentence

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

PLAIN_INTERVAL_SECONDS = 5.0
PACE_MARKS = 5
PACE_SPREAD = 2.0


class Pace:
    """How long a step will still take, told only while its pieces keep a steady pace.

    Pieces of a race differ: a baseline fits in no time, trees take most of it. So the time left is
    reckoned from the last few pieces, and only while they took about equally long.

    >>> pace = Pace(total=10, now=0.0)
    >>> for second in (1.0, 2.0, 3.0):
    ...     pace.advance(1, second)
    >>> pace.seconds_left(3.0)
    7.0
    """

    def __init__(self, total: float | None, now: float) -> None:
        self._total = total
        self._done = 0.0
        self._marks: deque[tuple[float, float]] = deque([(now, 0.0)], maxlen=PACE_MARKS + 1)

    @property
    def share(self) -> float | None:
        """The share that is done, None where the total is unknown."""
        return self._done / self._total if self._total else None

    def advance(self, amount: float, now: float) -> None:
        """Take down that `amount` more is done at the time `now` (seconds, any clock)."""
        self._done += amount
        self._marks.append((now, self._done))

    def seconds_left(self, now: float) -> float | None:
        """Seconds to the end; None while the pace is unknown or unsteady."""
        pieces = [
            (after - before) / (more - done)
            for (before, done), (after, more) in pairwise(self._marks)
            if more > done
        ]
        if not self._total or len(pieces) < 2:
            return None
        mean = sum(pieces) / len(pieces)
        running = now - self._marks[-1][0]
        if max(*pieces, running) > PACE_SPREAD * mean or min(pieces) * PACE_SPREAD < mean:
            return None
        return max(0.0, (self._total - self._done) * mean - running)


def console_reporter(stream: TextIO | None = None) -> Reporter:
    """The reporter that fits the stream: bars on a terminal, lines in a file or a pipe."""
    out = stream or sys.stderr
    return BarReporter(out) if out.isatty() else LineReporter(out)


class LineReporter(SilentReporter):
    """A plain line when a step begins, every few seconds while it runs, and at its end.

    Steps inside a step are told only when they take long.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._depth = 0

    @contextmanager
    def step(self, name: str, total: float | None = None) -> Iterator[Step]:
        """Tell when the step begins, how far it is, and how long it took."""
        indent = "  " * self._depth
        began = time.monotonic()
        top = self._depth == 0
        if top:
            self._write(f"{name} …")
        self._depth += 1
        try:
            yield _LineStep(self, name, total, indent, began)
        finally:
            self._depth -= 1
        if top or time.monotonic() - began >= PLAIN_INTERVAL_SECONDS:
            self._write(f"{indent}{name}: done in {time.monotonic() - began:.1f} s")

    def note(self, text: str) -> None:
        """Tell one sentence."""
        super().note(text)
        self._write("  " * self._depth + f"note: {sentence(text)}")

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class _LineStep:
    def __init__(
        self, owner: LineReporter, name: str, total: float | None, indent: str, began: float
    ) -> None:
        self._owner, self._name, self._indent = owner, name, indent
        self._last = began
        self._pace = Pace(total, began)
        self._text = ""

    def advance(self, amount: float = 1.0) -> None:
        now = time.monotonic()
        self._pace.advance(amount, now)
        share = self._pace.share
        if share is None or now - self._last < PLAIN_INTERVAL_SECONDS:
            return
        self._last = now
        # A part may stop early (boosting): what it has left is not known, so it is not told.
        left = None if self._indent else self._pace.seconds_left(now)
        told = "" if left is None else f", about {left:.0f} s left"
        done = "" if self._indent else f" {share:.0%}"
        self._owner._write(f"{self._indent}{self._name}:{done}{self._text or ' …'}{told}")

    def describe(self, text: str) -> None:
        self._text = f" ({text})"


class BarReporter(SilentReporter):
    """A live bar for every running step, with elapsed time and time left."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._depth = 0
        self._progress: Progress | None = None

    @contextmanager
    def step(self, name: str, total: float | None = None) -> Iterator[Step]:
        """Show a bar while the step runs and a short line when it is done."""
        progress = self._open()
        label = "  " * self._depth + name
        began = time.monotonic()
        task = progress.add_task(label, total=total, left="")
        self._depth += 1
        try:
            yield _BarStep(progress, task, label, Pace(total, began), timed=self._depth == 1)
        finally:
            self._depth -= 1
            progress.remove_task(task)
            if self._depth == 0:
                progress.stop()
                self._progress = None
        if self._depth == 0:
            self._console().print(
                f"[green]✓[/] {name} [dim]{time.monotonic() - began:.1f} s[/]", highlight=False
            )

    def note(self, text: str) -> None:
        """Tell one sentence above the bars."""
        super().note(text)
        from rich.markup import escape

        console = self._progress.console if self._progress is not None else self._console()
        console.print(f"[yellow]•[/] {escape(sentence(text))}", highlight=False)

    def _console(self) -> Console:
        from rich.console import Console

        return Console(file=self._stream)

    def _open(self) -> Progress:
        if self._progress is None:
            from rich.progress import (
                BarColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
            )

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                TextColumn("[dim]{task.fields[left]}[/]"),
                console=self._console(),
                transient=True,
            )
            self._progress.start()
        return self._progress


class _BarStep:
    def __init__(
        self, progress: Progress, task: TaskID, label: str, pace: Pace, *, timed: bool
    ) -> None:
        self._progress, self._task, self._label = progress, task, label
        self._pace, self._timed = pace, timed

    def advance(self, amount: float = 1.0) -> None:
        now = time.monotonic()
        self._pace.advance(amount, now)
        # A part may stop early (boosting): what it has left is not known, so it is not told.
        left = self._pace.seconds_left(now) if self._timed else None
        told = "" if left is None else f"about {left:.0f} s left"
        self._progress.update(self._task, advance=amount, left=told)

    def describe(self, text: str) -> None:
        self._progress.update(self._task, description=f"{self._label} [dim]{text}[/]")
