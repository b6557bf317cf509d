"""Learning-rate schedules: pure functions of the step, so that nothing of them is ever stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loopline.errors import SettingsError

Shape = Callable[[float], float]


@dataclass(frozen=True)
class Schedule:
    """The factor by which the learning rate is multiplied at each step.

    Args:
        kind: "constant", "linear", "cosine", "wsd" (warm-up, stable, decay) or "one_cycle".
        warmup: share of the steps that rise linearly from zero, in [0, 1). For `one_cycle` the
            share of the rise.
        decay: for `wsd` the share of the steps at the end that fall, in (0, 1].
        floor: the factor at the end, in [0, 1].

    Sources: cosine, Loshchilov & Hutter 2017 (without restarts); wsd, Hu et al. 2024 (MiniCPM),
    here with a linear fall; one cycle, Smith & Topin 2018, rise and fall as half cosines.

    >>> schedule = Schedule("cosine", warmup=0.1)
    >>> [round(schedule.factor(step, 100), 3) for step in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.491, 0.0]
    """

    kind: str = "cosine"
    warmup: float = 0.0
    decay: float = 0.2
    floor: float = 0.0

    def __post_init__(self) -> None:
        problems = []
        if self.kind not in _SHAPES:
            problems.append(f"`schedule` must be one of {', '.join(_SHAPES)}, got {self.kind!r}.")
        if not 0.0 <= self.warmup < 1.0:
            problems.append(f"`warmup` is a share of the steps in [0, 1), got {self.warmup}.")
        if not 0.0 < self.decay <= 1.0:
            problems.append(f"`decay` is a share of the steps in (0, 1], got {self.decay}.")
        if not 0.0 <= self.floor <= 1.0:
            problems.append(f"`floor` is a share of the learning rate in [0, 1], got {self.floor}.")
        if problems:
            raise SettingsError(problems)

    def factor(self, step: int, num_steps: int) -> float:
        """The factor of one step, from 0 to ``num_steps`` - 1."""
        rise = round(self.warmup * num_steps)
        if self.kind == "one_cycle":
            rise = max(1, rise)
            if step < rise:
                return self.floor + (1.0 - self.floor) * _half_cosine(1.0 - (step + 1) / rise)
        elif step < rise:
            return (step + 1) / rise
        rest = max(1, num_steps - rise - 1)
        return self.floor + (1.0 - self.floor) * _SHAPES[self.kind](self, (step - rise) / rest)


def _half_cosine(share: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, max(0.0, share))))


def _stable(schedule: Schedule, share: float) -> float:
    return min(1.0, max(0.0, (1.0 - share) / schedule.decay))


_SHAPES: Mapping[str, Callable[[Schedule, float], float]] = {
    "constant": lambda schedule, share: 1.0,
    "linear": lambda schedule, share: max(0.0, 1.0 - share),
    "cosine": lambda schedule, share: _half_cosine(share),
    "wsd": _stable,
    "one_cycle": lambda schedule, share: _half_cosine(share),
}
