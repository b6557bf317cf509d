"""The vault: the only way to the test labels, and every opening is written down.

A score that was looked at ten times and improved in between is a training score. So the labels of
the test rows are nowhere in a view; they are decoded here, on request, after the ledger has taken
down who asked and why.

A *look* is one set of test predictions with its decision threshold: whoever scores the very same
predictions again, with another metric or after a crash, learns nothing new and is not counted
twice; nor is the very same line on the very same rows, whose predictions another version of a
library may round otherwise. A budget of looks is free (one, by default); each further look needs a
justification, which stands in the ledger and in every report with what it may have cost
(`inflation`). Whoever compares out of fold and opens the vault at the end never meets the budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.schema import Schema
from loopline.errors import LeakError, SettingsError, SplitError
from loopline.splits.spec import TEST
from loopline.splits.split import Split
from loopline.splits.views import encode_target, feature_table, read_weight
from loopline.words import figure

EVENT = "vault.opened"
FREE_LOOKS = 1
"""Looks at the same test rows that need no justification."""


class EventLog(Protocol):
    """The part of the ledger that the vault needs."""

    def append(
        self,
        kind: str,
        *,
        run: str | None = None,
        subject: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> object:
        """Write one event; durable when it returns."""

    def events(
        self, *, kind: str | None = None, run: str | None = None, subject: str | None = None
    ) -> Sequence[Any]:
        """Events that match."""


@dataclass(frozen=True, eq=False)
class TestLabels:
    """What the vault hands out, in the row order of `Split.test_view`.

    Args:
        target: class codes (int64) or values (float64), shape (rows,).
        weight: sample weights, or None.
        units: rows that belong together share a unit; for intervals that know it.
        order: rank in time, or None.
        opening: which opening of this test set this is, from 1.
    """

    __test__ = False

    target: NDArray[Any]
    weight: NDArray[np.float64] | None
    units: NDArray[np.int64]
    order: NDArray[np.int64] | None
    opening: int


@dataclass(frozen=True)
class Look:
    """One set of test predictions that was scored.

    Args:
        key: digest of predictions and threshold; of the event, where none was given.
        line: digest of the line and its rows that gave them; empty where none was given.
        run: which run looked first.
        reason: what for.
        justification: why it was more than the budget; empty where it was not.
    """

    key: str
    run: str | None
    reason: str
    justification: str
    line: str = ""

    def covers(self, key: str, line: str) -> bool:
        """Whether these predictions, or those of this line on these rows, were scored by it."""
        return self.key == key or bool(line and self.line == line)


def inflation(standard_error: float, looks: int) -> float:
    """How much better than the truth the best of several scores on the same test rows can be.

    On average: the mean of the largest of `k` errors with standard error `s` is at most
    ``s √(2 ln k)``, whatever their dependence. It holds for models that were not built on earlier
    looks; looks that steer the next model can add more (Dwork et al., "The reusable holdout",
    Science 349, 2015).

    Args:
        standard_error: of one score.
        looks: how many models were scored, from 1.

    Source: S. Boucheron, G. Lugosi, P. Massart, "Concentration Inequalities", 2013, theorem 2.5.

    >>> inflation(0.01, 1), round(inflation(0.01, 3), 4)
    (0.0, 0.0148)
    """
    return standard_error * sqrt(2.0 * log(max(looks, 1)))


class Vault:
    """The test labels of one split, behind a counter.

    Args:
        split: whose test rows.
        table: all rows, in the row order of the split.
        schema: roles and task.
        ledger: where openings are written.
        run: the run that asks.
        free: looks that need no justification.
    """

    def __init__(
        self,
        split: Split,
        table: pl.DataFrame,
        schema: Schema,
        ledger: EventLog,
        *,
        run: str | None = None,
        free: int = FREE_LOOKS,
    ) -> None:
        feature_table(table, schema, split.num_rows)
        self._split = split
        self._target = table[schema.target]
        self._weight = None if schema.weight is None else table[schema.weight]
        self._schema = schema
        self._ledger = ledger
        self._run = run
        self._free = free

    @property
    def test_digest(self) -> str:
        """Identity of the test set; openings are counted by it."""
        return self._split.test_digest

    @property
    def openings(self) -> int:
        """How often this very test set was opened, by any run of this ledger."""
        return len(self._ledger.events(kind=EVENT, subject=self.test_digest))

    def looks(self) -> tuple[Look, ...]:
        """The different looks at this test set so far, the first one first."""
        return looks_at(self._ledger, self.test_digest)

    def is_open_for(self, look: str, line: str = "") -> bool:
        """Whether a look needs no justification: it was taken before, or the budget has room."""
        taken = self.looks()
        return len(taken) < self._free or any(entry.covers(look, line) for entry in taken)

    def open(
        self, reason: str, *, look: str = "", line: str = "", justification: str = ""
    ) -> TestLabels:
        """Write the opening into the ledger, then hand out the labels.

        Args:
            reason: what for, in a few words; it is printed in reports.
            look: digest of what is to be scored; without one the look counts as a new one.
            line: digest of the line and the rows that it comes from.
            justification: why one more look is worth it; needed when the budget is used up.

        Raises:
            LeakError: the budget is used up and there is no justification.
            SettingsError: no reason was given.
            SplitError: the split has no test side.
            DataError: a test label or weight cannot be used.
        """
        if not reason.strip():
            raise SettingsError(["The vault opens for a reason only; say what the labels are for."])
        rows = np.flatnonzero(self._split.side == TEST)
        if not rows.size:
            raise SplitError("The vault is empty: the split has no test side.")
        if not justification.strip() and not self.is_open_for(look, line):
            raise LeakError(
                f"{told_looks(self.looks())} Another look needs a justification, because the best "
                "of several looks is too good to be true. Choose by the out-of-fold scores, and "
                "give one when the choice is made."
            )
        target = encode_target(self._target, self._schema, rows)
        weight = None if self._weight is None else read_weight(self._weight, rows)
        data = {"reason": reason, "num_rows": int(rows.size), "split": self._split.id}
        if look:
            data["look"] = look
        if line:
            data["line"] = line
        if justification.strip():
            data["justification"] = justification.strip()
        self._ledger.append(EVENT, run=self._run, subject=self.test_digest, data=data)
        order = self._split.order
        return TestLabels(
            target=target,
            weight=weight,
            units=self._split.units[rows],
            order=None if order is None else order[rows],
            opening=self.openings,
        )


def looks_at(ledger: EventLog, test_digest: str) -> tuple[Look, ...]:
    """The different looks at a test set, the first one first.

    Args:
        ledger: where openings are written.
        test_digest: `Split.test_digest`.
    """
    found: list[Look] = []
    for number, event in enumerate(ledger.events(kind=EVENT, subject=test_digest)):
        key = str(event.data.get("look") or f"opening {number}")
        line = str(event.data.get("line", ""))
        if any(entry.covers(key, line) for entry in found):
            continue
        given = str(event.data.get("justification", ""))
        found.append(Look(key, event.run, str(event.data["reason"]), given, line))
    return tuple(found)


def told_looks(looks: Sequence[Look]) -> str:
    """One sentence on who has looked at a test set before.

    >>> told_looks([Look("a", "run-1", "evaluate the chosen model linear", "")])
    'The labels of these test rows were opened before: by run-1 (evaluate the chosen model linear).'
    """
    named = [
        f"by {entry.run or 'somebody'} ({entry.justification or entry.reason})"
        for entry in looks[-3:]
    ]
    more = f"{len(looks) - 3:,} more, and " if len(looks) > 3 else ""
    return f"The labels of these test rows were opened before: {more}{'; '.join(named)}."


def told_openings(looks: Sequence[Look], metric: str, standard_error: float | None) -> str:
    """One sentence for reports: how often the vault was opened, and what that may have cost.

    Args:
        looks: all looks so far, the one that is reported included.
        metric: the name of the score.
        standard_error: of the score; None when it is not known.

    >>> from textwrap import fill
    >>> one, two = Look("a", "r1", "evaluate", ""), Look("b", "r2", "evaluate", "final choice")
    >>> told_openings([one], "auc", 0.01)
    'The labels of these test rows were opened once, for this score.'
    >>> print(fill(told_openings([one, two], "auc", 0.01), 96))
    The labels of these test rows were opened for 2 models (final choice); the best of 2 looks can
    be 0.0118 (auc) better than the truth. Choose by the out-of-fold scores.
    """
    if len(looks) < 2:
        return "The labels of these test rows were opened once, for this score."
    given = [entry.justification for entry in looks if entry.justification][-3:]
    why = f" ({'; '.join(given)})" if given else ""
    bound = ""
    if standard_error is not None:
        size = figure(inflation(standard_error, len(looks)))
        bound = f"; the best of {len(looks):,} looks can be {size} ({metric}) better than the truth"
    return (
        f"The labels of these test rows were opened for {len(looks):,} models{why}{bound}. Choose "
        "by the out-of-fold scores."
    )


def told_closed(looks: Sequence[Look], num_rows: int) -> str:
    """One sentence or two for a run that ends without a test score, with the way to one."""
    return (
        f"No test score: the {num_rows:,} test rows were not opened again. {told_looks(looks)} "
        "Compare by the out-of-fold scores; when the choice is made, score this one with "
        '`--open-vault "reason"`.'
    )
