"""A trial's first fit on its way: what it predicts at each rung, and whether it may go on.

A rung is a point of a fit that means the same in every fit of a family (`FitContext.rung`). The
rows are those that the fit holds out to stop early, which it scores anyway: they cost no further
prediction, and no row on which the trial is judged afterwards takes part.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.trial_scores import OUT_OF_FOLD, Scorer, full, slim
from loopline.models.base import Floats, GivenUp
from loopline.search.pruning import RUNGS_BEFORE
from loopline.splits.views import TrainView
from loopline.words import figure

RUNGS = "rungs"
"""The name of what a trial predicted at its rungs beside its out-of-fold predictions."""


@dataclass
class Ladder:
    """Hears of a fit's rungs (`race.Rungs`), keeps them, and ends what is measurably behind.

    Args:
        context: the line.
        prepared: its rows.
        leader: what the best trial of the family predicted at its rungs, shape (rungs, rows) or
            (rungs, rows, classes); None while there is none.
        chance: below this chance of being better than the leader a fit is given up.
    """

    context: LineContext
    prepared: Prepared
    leader: NDArray[np.float32] | None
    chance: float
    kept: list[NDArray[np.float32]] = field(default_factory=list)
    value: float = float("nan")
    reason: str = ""

    def __call__(self, held: TrainView, number: int, prediction: Floats) -> None:
        """Take in a rung.

        Raises:
            GivenUp: the trial is behind; `value` and `reason` tell how far.
        """
        while len(self.kept) <= number:  # a quick fit passes several in one round
            self.kept.append(slim(prediction))
        if self.leader is None or number < len(self.leader) - 1 - RUNGS_BEFORE:
            return
        rows = held.positions.astype(np.int64)
        scorer = Scorer(self.context, self.prepared, rows, np.zeros(len(rows), dtype=np.int64))
        other = full(self.leader[min(number, len(self.leader) - 1)])
        chance = scorer.chance(prediction, other)
        if chance < self.chance:
            self.value = scorer.value(prediction)
            self.reason = (
                f"at rung {number + 1} of fold 1: {figure(self.value)} on the rows held out there, "
                f"the chance to be the best of its family is {chance:.1%}"
            )
            raise GivenUp

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """What to keep with the trial."""
        return {RUNGS: np.stack(self.kept)} if self.kept else {}


def rungs_of(context: LineContext, artifact: str | None) -> NDArray[np.float32] | None:
    """What a complete trial predicted at its rungs; None where it had none."""
    if artifact is None:
        return None
    arrays = load_file(context.store.get(artifact).path(OUT_OF_FOLD))
    found: NDArray[np.float32] | None = arrays.get(RUNGS)
    return found
