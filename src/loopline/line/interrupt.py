"""Ctrl-C as a wish to end soon: noted at once, obeyed where stopping leaves everything whole."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SAME_SECONDS = 0.5
"""Interrupts that come so soon after the first are the same one: a key that was held, a library
that passes on what it has seen."""


class Interrupt:
    """Whether somebody asked to stop; a second time means at once."""

    def __init__(self) -> None:
        self._asked: float | None = None

    @property
    def asked(self) -> bool:
        """Whether an interrupt came."""
        return self._asked is not None

    def ask(self) -> None:
        """Note an interrupt.

        Raises:
            KeyboardInterrupt: it is the second one.
        """
        now = time.monotonic()
        if self._asked is None:
            self._asked = now
        elif now - self._asked > SAME_SECONDS:
            raise KeyboardInterrupt


@contextmanager
def noted() -> Iterator[Interrupt]:
    """While the block runs, the first Ctrl-C is noted instead of raised.

    Only a main thread can take signals; in another one interrupts are raised as ever.
    """
    interrupt = Interrupt()

    def take(number: int, frame: FrameType | None) -> None:
        del number, frame
        interrupt.ask()

    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = signal.signal(signal.SIGINT, take)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
