"""How a budget of false pages is shared out over checks, columns and time.

The setting is a promise to a person: so many pages for nothing in a month, at most. It is divided
by the windows of a month, then over the kinds of checks that there are, then over columns and
look-backs. Shares are summed (Bonferroni), so the promise holds however the checks hang together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SHARES = {
    "column": 0.30, "prediction": 0.15, "estimated": 0.10, "joint": 0.10, "performance": 0.20,
    "calibration": 0.05, "slice": 0.05, "service": 0.05,
}  # fmt: skip
MOST = 0.05
"""The largest chance of a false alarm of one kind in one window, however large the budget."""


@dataclass(frozen=True)
class Budget:
    """Chances of a false alarm for each kind of check.

    Args:
        pages_a_day: false pages that are allowed.
        windows_a_day: how often is looked.
        kinds: the checks that there are.
        assumed: why the number of windows is a guess; empty where it is known.
    """

    pages_a_day: float
    windows_a_day: float
    kinds: frozenset[str]
    assumed: str = ""

    @staticmethod
    def of(
        pages_a_day: float,
        window_seconds: float | None,
        window_rows: int | None,
        rows_a_day: float | None,
        kinds: Iterable[str],
    ) -> Budget:
        """Share a budget out.

        Args:
            pages_a_day: false pages that are allowed.
            window_seconds: of a window cut by time.
            window_rows: of a window cut by count.
            rows_a_day: how many come; None when unknown.
            kinds: the checks that there are.

        >>> budget = Budget.of(1 / 30, None, 100, 1000.0, ["column", "prediction"])
        >>> round(budget.chance("column"), 5), round(budget.chance("prediction"), 5)
        (0.00222, 0.00111)
        """
        assumed = ""
        if window_seconds is not None:
            windows = 86_400 / window_seconds
        elif window_rows is not None and rows_a_day is not None:
            windows = rows_a_day / window_rows
        else:
            windows = 1.0
            assumed = (
                "How many rows come a day is not known, so the budget takes one window as a day; "
                "set `rate`, or give the reference times."
            )
        return Budget(pages_a_day, windows, frozenset(kinds), assumed)

    def chance(self, kind: str, looks_a_window: float = 1.0) -> float:
        """The chance of a false alarm of a kind that one look may have.

        Args:
            kind: the check.
            looks_a_window: how often it looks in the time of a window.
        """
        total = sum(SHARES[name] for name in self.kinds)
        share = SHARES[kind] / total
        return min(MOST, self.pages_a_day / self.windows_a_day * share / looks_a_window)
