"""The only counters of a training run; everything else is a pure function of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class TrainState:
    """Where a run stands. Two runs with equal settings and equal state go on equally.

    Args:
        step: optimizer steps done.
        samples: rows consumed, over all ranks and epochs; the position in the stream of rows.
        weight: sum of the weights of those rows as the task counts them (tokens, say).
        best: the best evaluation so far, or None.
        best_step: the step after which it was reached.
        bad_evaluations: evaluations since then.
        skipped: steps left out because a gradient was not finite.
        bad_in_a_row: how many of them came last, without a good one between.
        ended: why training was over before its last step; empty while it may go on.
        extra: what events keep, by their names; plain data.
    """

    step: int = 0
    samples: int = 0
    weight: float = 0.0
    best: float | None = None
    best_step: int = 0
    bad_evaluations: int = 0
    skipped: int = 0
    bad_in_a_row: int = 0
    ended: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def epoch(self, num_rows: int) -> int:
        """The pass over the rows that the next row belongs to, from 0."""
        return self.samples // num_rows

    def position(self, num_rows: int) -> int:
        """How many rows of that pass have been consumed."""
        return self.samples % num_rows

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it back."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> TrainState:
        """Read what `to_dict` wrote."""
        return TrainState(**data)
