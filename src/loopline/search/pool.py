"""Where trials run: a small protocol, and the loop that keeps a pool busy with a study's trials.

The loop knows neither what a trial does nor in which process. It asks the study, starts what it
gets, and hands every record to whoever keeps it *before* the study hears of it: what the study
builds on is on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from loopline.search.record import Record, Trial
from loopline.search.study import Study


class Pool(Protocol):
    """Runs trials, some at a time. Used by one thread, and closed at the end."""

    def start(self, trial: Trial) -> None:
        """Begin a trial; called for at most `Study.parallel` trials at a time."""

    def wait(self) -> Record | None:
        """Wait for the next trial to end; None when the time is over, and nothing runs any more."""

    def close(self) -> None:
        """End what still runs; nothing of it counts."""


def conduct(
    study: Study,
    pool: Pool,
    keep: Callable[[Record], None],
    wanted: Callable[[], bool],
) -> None:
    """Run a study's trials until it has no more, the time is over, or no more are wanted.

    Args:
        study: says which trial is next.
        pool: runs them.
        keep: puts a record where it survives a crash, before the study builds on it.
        wanted: asked before each trial; False ends the search once the running trials are done.
    """
    running = 0
    while True:
        while wanted():
            trial = study.ask()
            if trial is None:
                break
            pool.start(trial)
            running += 1
        if not running:
            return
        record = pool.wait()
        if record is None:
            return
        running -= 1
        keep(record)
        study.tell(record)
