"""Progress as events, so that a terminal, a notebook, a log and a page can each show them.

The work says what it does through a `Reporter`; who listens decides how it looks. A listener never
changes the work. Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Step(Protocol):
    """One running piece of work inside a `Reporter.step` block."""

    def advance(self, amount: float = 1.0) -> None:
        """Say that `amount` more of the step's `total` is done."""

    def describe(self, text: str) -> None:
        """Say in a few words what is being done now."""


class Reporter(Protocol):
    """Receives the progress of one run; see `loopline.cli.console` for the terminal's."""

    def step(self, name: str, total: float | None = None) -> AbstractContextManager[Step]:
        """Open a named step; `total` is its size in any unit, None when unknown."""

    def note(self, text: str) -> None:
        """Tell one sentence that a person should read, without stopping the work."""


class _SilentStep:
    def advance(self, amount: float = 1.0) -> None:
        del amount

    def describe(self, text: str) -> None:
        del text


class SilentReporter:
    """Hears everything, shows nothing; keeps the notes for whoever asks."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @contextmanager
    def step(self, name: str, total: float | None = None) -> Iterator[Step]:
        """Open a step that nobody watches."""
        del name, total
        yield _SilentStep()

    def note(self, text: str) -> None:
        """Keep the sentence in `notes`."""
        self.notes.append(text)
