"""What is compared: candidates with predictions of the same rows, and what comparing them gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loopline.evaluate.intervals import Estimate
from loopline.evaluate.metrics import Metric
from loopline.evaluate.rows import Floats, Rows, Units
from loopline.select.compare import at_level, chance_beyond, compare_rows


@dataclass(frozen=True, eq=False)
class Candidate:
    """One trained candidate of the race.

    Args:
        name: how sentences call it.
        family: its model family.
        complexity: the family's place in the order of simplicity; 0 is a baseline.
        params: its parameters, plain data.
        prediction: out-of-fold predictions, one entry a row.
        size_bytes: size of the saved model.
        fit_seconds: time of its fits; told, never decided by (it differs from run to run).
    """

    name: str
    family: str
    complexity: int
    prediction: Floats
    params: Mapping[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    fit_seconds: float = 0.0

    @property
    def simplicity(self) -> tuple[int, int, str]:
        """Smaller is simpler."""
        return self.complexity, self.size_bytes, self.name


@dataclass(frozen=True)
class Comparison:
    """One line of the choice's table.

    Args:
        name: the candidate.
        family: its family.
        complexity: its place in the order of simplicity.
        size_bytes: size of the saved model.
        score: its score with interval.
        behind_best: how much worse than the best scorer, with the interval that decided (wider
            than 95 % when several candidates are compared); None for the best itself.
        worse: whether it is measurably worse by more than the margin.
        visible: the smallest true difference from the best that these rows would have shown with
            80 % power; NaN for the best or when unknown.
        broken: the limits that it breaks, a sentence each; such a candidate cannot be chosen.
    """

    name: str
    family: str
    complexity: int
    size_bytes: int
    score: Estimate
    behind_best: Estimate | None
    worse: bool
    visible: float
    broken: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "family": self.family,
            "complexity": self.complexity,
            "size_bytes": self.size_bytes,
            "score": self.score.to_dict(),
            "behind_best": None if self.behind_best is None else self.behind_best.to_dict(),
            "worse": self.worse,
            "visible": None if not math.isfinite(self.visible) else self.visible,
            "broken": list(self.broken),
        }


@dataclass(frozen=True, eq=False)
class Pairs:
    """The candidates' predictions of the same rows, to be compared two by two."""

    metric: Metric
    rows: Mapping[str, Rows]
    units: Units
    level: float
    seed: int

    def difference(self, a: str, b: str) -> Estimate:
        """How much better `a` is than `b`."""
        return compare_rows(
            self.metric, self.rows[a], self.rows[b], self.units, level=self.level, seed=self.seed
        )

    def behind(
        self, best: Candidate, others: Sequence[Candidate], margin: float
    ) -> dict[str, tuple[Estimate, bool]]:
        """Each other's distance behind the best, and whether it counts, by Holm's steps.

        The k-th smallest p-value is held against (1 - level) / (comparisons left); after the first
        that fails, nothing counts. The interval given is the one that decides at that step.
        """
        differences = {each.name: self.difference(best.name, each.name) for each in others}
        steps = sorted(
            differences, key=lambda name: (chance_beyond(differences[name], margin), name)
        )
        allowed, failed, result = 1 - self.level, False, {}
        for place, name in enumerate(steps):
            if not failed:
                allowed = (1 - self.level) / (len(steps) - place)
                failed = chance_beyond(differences[name], margin) > allowed
            result[name] = (at_level(differences[name], 1 - allowed), not failed)
        return result
