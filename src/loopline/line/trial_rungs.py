"""A trial's first fit on its way: what it predicts at each rung, and whether it may go on.

A rung is a point of a fit that means the same in every fit of a family (`FitContext.rung`). The
rows are those that the fit holds out to stop early, which it scores anyway: they cost no further
prediction, and no row on which the trial is judged afterwards takes part.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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

RUNGS, NUMBERS = "rungs", "rung_numbers"
"""What a trial predicted at its rungs, and their numbers, beside its out-of-fold predictions."""


@dataclass(frozen=True)
class Leader:
    """The best trial of a family on its way.

    Args:
        numbers: of its rungs, rising, shape (rungs,).
        predictions: there, shape (rungs, rows) or (rungs, rows, classes).
    """

    numbers: NDArray[np.int64]
    predictions: NDArray[np.float32]

    @staticmethod
    def open(context: LineContext, artifact: str | None) -> Leader | None:
        """Of a complete trial; None where it had no rungs."""
        if artifact is None:
            return None
        arrays = load_file(context.store.get(artifact).path(OUT_OF_FOLD))
        return Leader(arrays[NUMBERS], arrays[RUNGS]) if RUNGS in arrays else None

    def at(self, number: int) -> NDArray[np.float32] | None:
        """Where it was at a rung; None where none compares with it, or it is too early to judge."""
        place = int(np.searchsorted(self.numbers, number, side="right")) - 1
        if place < 0 or number < self.numbers[-1] - RUNGS_BEFORE:
            return None
        found: NDArray[np.float32] = self.predictions[place]
        return found


@dataclass
class Ladder:
    """Hears of a fit's rungs (`race.Rungs`), keeps them, and ends what is measurably behind.

    Args:
        context: the line.
        prepared: its rows.
        leader: the best trial of the family; None while there is none.
        chance: below this chance of being better than the leader a fit is given up.
    """

    context: LineContext
    prepared: Prepared
    leader: Leader | None
    chance: float
    kept: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    value: float = float("nan")
    reason: str = ""

    def __call__(self, held: TrainView, number: int, prediction: Floats) -> None:
        """Take in a rung.

        Raises:
            GivenUp: the trial is behind; `value` and `reason` tell how far.
        """
        self.kept[number] = slim(prediction)
        other = None if self.leader is None else self.leader.at(number)
        if other is None:
            return
        rows = held.positions.astype(np.int64)
        scorer = Scorer(self.context, self.prepared, rows, np.zeros(len(rows), dtype=np.int64))
        chance = scorer.chance(prediction, full(other))
        if chance < self.chance:
            self.value = scorer.value(prediction)
            self.reason = (
                f"at rung {len(self.kept)} of fold 1: {figure(self.value)} on the rows held out "
                f"there, the chance to be the best of its family is {chance:.1%}"
            )
            raise GivenUp

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What to keep with the trial."""
        if not self.kept:
            return {}
        numbers = np.array(list(self.kept), dtype=np.int64)
        return {RUNGS: np.stack(list(self.kept.values())), NUMBERS: numbers}
