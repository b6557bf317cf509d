"""The vault: the only way to the test labels, and every opening is written down.

A score that was looked at ten times and improved in between is a training score. So the labels of
the test rows are nowhere in a view; they are decoded here, on request, after the ledger has taken
down who asked and why. The number of openings of the same test set is part of every report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.schema import Schema
from loopline.errors import SettingsError, SplitError
from loopline.splits.spec import TEST
from loopline.splits.split import Split
from loopline.splits.views import encode_target, feature_table, read_weight

EVENT = "vault.opened"


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
    ) -> Sequence[object]:
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


class Vault:
    """The test labels of one split, behind a counter.

    Args:
        split: whose test rows.
        table: all rows, in the row order of the split.
        schema: roles and task.
        ledger: where openings are written.
        run: the run that asks.
    """

    def __init__(
        self,
        split: Split,
        table: pl.DataFrame,
        schema: Schema,
        ledger: EventLog,
        *,
        run: str | None = None,
    ) -> None:
        feature_table(table, schema, split.num_rows)
        self._split = split
        self._target = table[schema.target]
        self._weight = None if schema.weight is None else table[schema.weight]
        self._schema = schema
        self._ledger = ledger
        self._run = run

    @property
    def test_digest(self) -> str:
        """Identity of the test set; openings are counted by it."""
        return self._split.test_digest

    @property
    def openings(self) -> int:
        """How often this very test set was opened, by any run of this ledger."""
        return len(self._ledger.events(kind=EVENT, subject=self.test_digest))

    def open(self, reason: str) -> TestLabels:
        """Write the opening into the ledger, then hand out the labels.

        Args:
            reason: what for, in a few words; it is printed in reports.

        Raises:
            SettingsError: no reason was given.
            SplitError: the split has no test side.
            DataError: a test label or weight cannot be used.
        """
        if not reason.strip():
            raise SettingsError(["The vault opens for a reason only; say what the labels are for."])
        rows = np.flatnonzero(self._split.side == TEST)
        if not rows.size:
            raise SplitError("The vault is empty: the split has no test side.")
        target = encode_target(self._target, self._schema, rows)
        weight = None if self._weight is None else read_weight(self._weight, rows)
        self._ledger.append(
            EVENT,
            run=self._run,
            subject=self.test_digest,
            data={"reason": reason, "num_rows": int(rows.size), "split": self._split.id},
        )
        order = self._split.order
        return TestLabels(
            target=target,
            weight=weight,
            units=self._split.units[rows],
            order=None if order is None else order[rows],
            opening=self.openings,
        )
