"""Progress for people: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from loopline.progress import Reporter, SilentReporter, Step

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

PLAIN_INTERVAL_SECONDS = 5.0


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
        self._write("  " * self._depth + f"note: {text}")

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class _LineStep:
    def __init__(
        self, owner: LineReporter, name: str, total: float | None, indent: str, began: float
    ) -> None:
        self._owner, self._name, self._total, self._indent = owner, name, total, indent
        self._began = self._last = began
        self._done = 0.0
        self._text = ""

    def advance(self, amount: float = 1.0) -> None:
        self._done += amount
        now = time.monotonic()
        if not self._total or now - self._last < PLAIN_INTERVAL_SECONDS:
            return
        if self._done < 0.05 * self._total:
            return  # too early to tell how long it takes
        self._last = now
        left = (now - self._began) / self._done * (self._total - self._done)
        self._owner._write(
            f"{self._indent}{self._name}: {self._done / self._total:.0%}"
            f"{self._text}, about {left:.0f} s left"
        )

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
        task = progress.add_task(label, total=total)
        self._depth += 1
        try:
            yield _BarStep(progress, task, label)
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
        console.print(f"[yellow]•[/] {escape(text)}", highlight=False)

    def _console(self) -> Console:
        from rich.console import Console

        return Console(file=self._stream)

    def _open(self) -> Progress:
        if self._progress is None:
            from rich.progress import (
                BarColumn,
                Progress,
                TaskProgressColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("[dim]left[/]"),
                TimeRemainingColumn(),
                console=self._console(),
                transient=True,
            )
            self._progress.start()
        return self._progress


class _BarStep:
    def __init__(self, progress: Progress, task: TaskID, label: str) -> None:
        self._progress, self._task, self._label = progress, task, label

    def advance(self, amount: float = 1.0) -> None:
        self._progress.advance(self._task, amount)

    def describe(self, text: str) -> None:
        self._progress.update(self._task, description=f"{self._label} [dim]{text}[/]")
