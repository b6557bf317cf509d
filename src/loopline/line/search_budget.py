"""The time of a search: how long trials may go on, so that the whole run ends when it was told to.

A budget is the time of the whole run, from its start to its report. What follows the search (the
race's scores, the choice, the final fit, the test, the measuring) is estimated from what this run
has measured so far, and kept free.
"""

from __future__ import annotations

import time

from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.search.record import Record
from loopline.words import counted


class Clock:
    """Knows when the search must end.

    Args:
        context: the line; its start is the budget's.
        prepared: its rows.
        budget: seconds of the whole run; None for no limit.
    """

    def __init__(self, context: LineContext, prepared: Prepared, budget: float | None) -> None:
        self._context, self._prepared, self._budget = context, prepared, budget
        self._longest: dict[str, float] = {}

    def reserve(self) -> float:
        """Seconds that what follows the search will take."""
        return 3.0

    def deadline(self) -> float | None:
        """When the trials must end, by the monotonic clock; None without a budget."""
        if self._budget is None:
            return None
        return self._context.started + self._budget - self.reserve()

    def left(self) -> float | None:
        """Seconds left for trials."""
        deadline = self.deadline()
        return None if deadline is None else deadline - time.monotonic()

    def wanted(self) -> bool:
        """Whether there is time for another trial."""
        left = self.left()
        return left is None or left > 0

    def learn(self, record: Record) -> None:
        """Take down what a trial took."""
        self._longest[record.arm] = max(self._longest.get(record.arm, 0.0), record.seconds)

    def search_is_over(self) -> None:
        """Take down when the search ended."""

    def sentence(self, done: int) -> str:
        """What to tell when the time is over."""
        return (
            f"The budget of {self._budget:g} s gave time for {counted(done, 'trial')}; "
            f"about {self.reserve():.0f} s are kept for what follows."
        )

    def too_short(self) -> str:
        """What to tell when the time did not suffice for one trial."""
        return f"`search.budget` of {self._budget:g} s does not suffice for one trial."
