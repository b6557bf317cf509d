"""The contract of a watched task: what a wrong answer costs, and what it will probably cost.

One member for each kind of task, in a file of its own; `loopline.monitor.tasks` lists them. A
member is learned once from a `Reference` and never changes. After that the watch calls, for each
window, `outputs` and `expected` with what was answered, and, when labels come, `of` and `residual`.
What is missing is NaN everywhere.

A new member brings these three:

- `of`: the loss of rows whose outcome is known.
- `expected`: the loss before any label is there, and in `why` what that rests on.
- `residual`: how far outcomes lie from what was stated.

The base says how predictions are named (`outputs`), what the release's raw answer means (`stated`)
and how labels are read (`read`, `valid`); a member whose rows are more than a number says it anew.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

if TYPE_CHECKING:
    from loopline.data.schema import Schema
    from loopline.monitor.reference import Reference

Floats = NDArray[np.float64]
TOP = 0.995
"""Losses without a bound count as this quantile of the reference where they lie above it."""
ASSUMES = "from the predictions alone, which assumes that outcomes still follow as before"
WRONG = np.inf
"""The outcome of a label that cannot be read; a row without a label has NaN."""


@dataclass(frozen=True, eq=False)
class Losses(ABC):
    """How rows of one task are scored.

    Args:
        name: of the loss, such as ``error`` or ``Brier score``; larger is worse.
    """

    name: str
    why = ASSUMES
    """What the expected loss rests on, for a sentence."""
    expects = "that the predictions let expect"
    """Which loss is expected, for a sentence."""
    states_chances = True
    """Whether probabilities are stated, so that a bias is a share; else it is in usual errors."""
    labels_come = True
    """Whether outcomes come later as labels; else the rows themselves hold all there is."""

    @staticmethod
    @abstractmethod
    def learn(reference: Reference) -> Losses:
        """From the reference's predictions, and outcomes where it has them."""

    @abstractmethod
    def of(self, prediction: Floats, outcome: Floats) -> Floats:
        """Losses of rows whose outcomes are known, shape (rows,); NaN where the outcome is."""

    @abstractmethod
    def expected(self, prediction: Floats) -> Floats:
        """Losses that the predictions themselves let expect, shape (rows,)."""

    @abstractmethod
    def residual(self, prediction: Floats, outcome: Floats) -> tuple[Floats, Floats]:
        """How far outcomes lie above what was stated, and the same where more was stated."""

    @classmethod
    def stated(cls, raw: Floats, frame: pl.DataFrame, schema: Schema) -> Floats:
        """What a release's raw answer to some rows means to the watch: by default itself."""
        del frame, schema
        return raw

    def outputs(self, prediction: Floats) -> dict[str, Floats]:
        """What is watched of the predictions, by name, each (rows,)."""
        return {"prediction": prediction.reshape(-1)}

    @property
    def num_outcomes(self) -> int:
        """Numbers that one row's outcome has."""
        return 1

    def read(self, labels: Mapping[str, Any]) -> dict[str, Floats]:
        """Labels as outcomes (`num_outcomes`,), `WRONG` where a label cannot be read."""
        return {name: np.array([_number(label)]) for name, label in labels.items()}

    def outcomes(self, labels: Sequence[Any]) -> Floats:
        """Labels of rows in their order as (rows,) or (rows, `num_outcomes`); NaN without one."""
        given = {str(row): label for row, label in enumerate(labels) if _is_there(label)}
        found = np.full((len(labels), self.num_outcomes), np.nan)
        for row, outcome in self.read(given).items():
            found[int(row)] = outcome
        return found[:, 0] if self.num_outcomes == 1 else found

    def valid(self, outcome: Floats) -> Floats:
        """Outcomes as they are, `WRONG` where one is none of this task."""
        return outcome


def _is_there(label: Any) -> bool:
    return label is not None and not (isinstance(label, float) and np.isnan(label))


def _number(label: Any) -> float:
    try:
        value = float(label)
    except (TypeError, ValueError):
        return WRONG
    return value if np.isfinite(value) else WRONG


def columns_of(prediction: Floats) -> Floats:
    """Probabilities as (rows, classes), also of a binary task given as (rows,)."""
    if prediction.ndim == 2:
        return prediction
    return np.column_stack([1 - prediction, prediction])


def by_name(reference: Reference) -> tuple[str, ...]:
    """A name for each class of a reference, also where it does not tell them."""
    if reference.classes:
        return tuple(repr(label) for label in reference.classes)
    width = 1 if reference.prediction is None else columns_of(reference.prediction).shape[1]
    return tuple(str(code) for code in range(width))
