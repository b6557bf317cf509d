"""Made-up studies: trials that cost nothing, whose true values are known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from loopline.models.space import Number
from loopline.search.arms import Arm
from loopline.search.pool import conduct
from loopline.search.record import Record, Trial
from loopline.search.study import Study


def arms() -> tuple[Arm, ...]:
    """Two arms with known optima: "steep" is best at x = 0.3, z = 0.7, "flat" is worse anywhere."""
    plane = {"z": Number(0.0, 1.0), "x": Number(0.0, 1.0)}
    return (
        Arm("flat", "flat", 10, {"x": Number(0.0, 1.0)}, defaults={"x": 0.5}),
        Arm("steep", "steep", 20, plane, defaults={"x": 0.5, "z": 0.5}),
    )


def value(trial: Trial) -> float:
    """The truth, to be maximised; at most 1 for steep, 0.6 for flat."""
    x, z = trial.params["x"], trial.params.get("z", 0.7)
    away = (x - 0.3) ** 2 + (z - 0.7) ** 2
    return (1.0 if trial.arm == "steep" else 0.6) * math.exp(-away)


def outcome(trial: Trial) -> Record:
    """Every 7th trial fails, every 5th is given up, the others are complete."""
    kept = (trial.number, trial.arm, trial.params, trial.origin)
    if trial.number % 7 == 6:
        return Record(*kept, "failed", reason="it had to")
    if trial.number % 5 == 4:
        return Record(*kept, "pruned", value(trial), (value(trial),), reason="so it goes")
    return Record(*kept, "complete", value(trial), (value(trial),))


class ShuffledPool:
    """Ends the running trials in an order that chance decides, as processes would.

    Args:
        chance: decides.
        stop_after: trials after which the time is over.
    """

    def __init__(self, chance: random.Random, stop_after: int | None = None) -> None:
        self.running: list[Trial] = []
        self.most = 0
        self._chance, self._left = chance, stop_after

    def start(self, trial: Trial) -> None:
        self.running.append(trial)
        self.most = max(self.most, len(self.running))

    def wait(self) -> Record | None:
        if self._left == 0:
            return None
        if self._left is not None:
            self._left -= 1
        return outcome(self.running.pop(self._chance.randrange(len(self.running))))

    def close(self) -> None:
        self.running.clear()


def run_study(
    sampler: Any = "tpe",
    *,
    limit: int | None = 30,
    parallel: int = 1,
    seed: int = 0,
    order: int = 0,
    stop_after: int | None = None,
    restored: list[Record] | None = None,
    keep: Callable[[Record], None] = lambda record: None,
    among: tuple[Arm, ...] | None = None,
) -> Study:
    """A whole study of the made-up arms."""
    chosen = arms() if among is None else among
    study = Study(chosen, sampler, True, seed=seed, parallel=parallel, limit=limit)
    study.restore(restored or [])
    pool = ShuffledPool(random.Random(order), stop_after)
    conduct(study, pool, keep, lambda: True)
    assert pool.most <= parallel
    return study
