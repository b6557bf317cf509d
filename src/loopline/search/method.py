"""How parameters are proposed: by the size of the space, the number of trials and what one costs.

What a trial costs is judged by its cells (rows x columns x folds) and by whether it trains a
network, not by a clock: a clock would give another study on a busy machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from loopline.search.arms import Arm
from loopline.search.suggest import Sampler, grid_size, is_whole
from loopline.words import counted

Method = Literal["auto", "grid", "random", "bayesian"]
GP_DIMENSIONS = 5
"""A Gaussian process is asked in so few dimensions only; a question costs it 0.1 s."""
DEAR_CELLS = 20_000_000
"""Cells of one trial from which it takes many seconds, and the best proposals pay."""
SMALL_GRID = 100
"""Points up to which a space is small where only time limits the trials."""
FEW_TRIALS = 12
"""Trials of an arm below which a sampler has learned nothing that it could use."""


@dataclass(frozen=True)
class Decision:
    """Who proposes, and why.

    Args:
        sampler: grid, random, tpe or gp.
        reason: one sentence.
    """

    sampler: Sampler
    reason: str


def decide(
    method: Method, arms: Sequence[Arm], trials: int | None, *, cells: int, networks: bool
) -> Decision:
    """Decide on a sampler.

    Args:
        method: as the settings say.
        arms: the candidates.
        trials: how many at most; None when only time limits them.
        cells: rows x columns x folds of one trial.
        networks: whether a candidate is a network.

    >>> from loopline.models.space import Choice, Number
    >>> small = [Arm("a", "a", 1, {"kind": Choice(("x", "y"))})]
    >>> decide("auto", small, 50, cells=1000, networks=False).sampler
    'grid'
    >>> wide = [Arm("a", "a", 1, {"rate": Number(0, 1), "l2": Number(0, 1)})]
    >>> decide("auto", wide, 50, cells=1000, networks=False).sampler
    'tpe'
    """
    searched = [arm for arm in arms if arm.space]
    if method == "grid":
        size = sum(grid_size(arm.space) for arm in searched)
        return Decision("grid", f"grid: as the settings ask, {counted(size, 'point')}")
    if method == "random":
        return Decision("random", "random: as the settings ask")
    if method == "auto":
        size = sum(grid_size(arm.space) for arm in searched)
        if all(is_whole(arm.space) for arm in searched) and size <= (trials or SMALL_GRID):
            return Decision("grid", f"grid: the whole space has {counted(size, 'point')}")
        if trials is not None and trials / len(searched) < FEW_TRIALS:
            return Decision(
                "random",
                f"random: {counted(trials, 'trial')} for {counted(len(searched), 'candidate')} are "
                "too few to learn from",
            )
    return _bayesian(searched, dear=networks or cells >= DEAR_CELLS)


def _bayesian(searched: Sequence[Arm], *, dear: bool) -> Decision:
    widest = max(len(arm.space) for arm in searched)
    conditional = any(d.when for arm in searched for d in arm.space.values())
    if dear and widest <= GP_DIMENSIONS and not conditional:
        if find_spec("torch") is not None:
            return Decision(
                "gp",
                f"bayesian, a Gaussian process: trials are dear and have {widest} dimensions "
                "at most",
            )
        return Decision("tpe", "bayesian, TPE: trials are dear, but a Gaussian process needs torch")
    why = "trials are cheap" if not dear else f"there are up to {widest} dimensions"
    return Decision("tpe", f"bayesian, TPE: {why}")
