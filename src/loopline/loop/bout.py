"""Champion and challenger on the same rows, and one thing asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.evaluate.intervals import Estimate, estimate_rows
from loopline.evaluate.metrics import metric as read_metric
from loopline.evaluate.rows import Rows, Units, plain
from loopline.select.compare import compare_rows

LOSS = {"binary": "log_loss", "multiclass": "log_loss", "regression": "rmse"}
"""The loss of what is served, by task."""


@dataclass(frozen=True, eq=False)
class Bout:
    """The same rows as champion and challenger answer them.

    Args:
        champion: truth and the champion's answers.
        challenger: truth and the challenger's, row for row.
        units: rows that count as one observation; None when all are independent.
        origins: who gave each label, where that is known.
    """

    champion: Rows
    challenger: Rows
    units: NDArray[Any] | None = None
    origins: NDArray[Any] | None = None

    @property
    def num_rows(self) -> int:
        """How many rows."""
        return self.champion.num_rows

    def difference(self, metric: str, rows: NDArray[np.int64] | None = None) -> Estimate:
        """How much better the challenger is (positive: better), paired."""
        entry = read_metric(metric)
        units = Units.build(self.units, self.num_rows)
        if rows is None:
            return compare_rows(entry, self.challenger, self.champion, units)
        return compare_rows(
            entry, self.challenger.take(rows), self.champion.take(rows), units.take(rows)
        )

    def worse(self, metric: str, rows: NDArray[np.int64] | None = None) -> Estimate:
        """The same difference seen the other way: positive means that the challenger is worse."""
        found = self.difference(metric, rows)
        return Estimate(
            -found.value, -found.high, -found.low, found.method, found.num_units, found.level,
            found.standard_error, found.freedom, found.note,
        )  # fmt: skip

    def scores(self, metric: str) -> tuple[float, float]:
        """The metric of champion and challenger."""
        units = Units.build(self.units, self.num_rows)
        return (
            estimate_rows(read_metric(metric), self.champion, units).value,
            estimate_rows(read_metric(metric), self.challenger, units).value,
        )


@dataclass(frozen=True)
class Check:
    """One thing that was asked of the challenger.

    Args:
        name: enough, better, slices, labels, origin, history, or what the caller added.
        passed: whether it holds.
        sentence: what was found.
        facts: the numbers, as plain data.
    """

    name: str
    passed: bool
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "passed": self.passed,
            "sentence": self.sentence,
            "facts": plain(dict(self.facts)),
        }


def asked_metrics(metric: str, task: str) -> tuple[str, ...]:
    """The metric that ranks the line's candidates, and the loss of what is served beside it.

    >>> asked_metrics("auc", "binary"), asked_metrics("rmse", "regression")
    (('auc', 'log_loss'), ('rmse',))
    """
    return tuple(dict.fromkeys((metric, LOSS[task])))
