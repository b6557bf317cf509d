"""Model families: what each one promises, when it is called, and what it gives back.

**Lifetime.** A run asks a `Family` for its default parameters (`defaults`), then calls `fit` once a
fold with that fold's training view (and a validation view cut *from the training view* where the
family stops early), in the run's own process. After the choice, `consolidate` turns what the folds
learned about themselves (the number of boosting rounds, say) into one set of parameters, and `fit`
is called once more on the whole training view. `load` is called by whoever serves the model.

A `Family` has no state. A `FittedModel` is a value: it answers for raw feature columns (so it
carries its own preprocessing), says its size, and saves itself as data files, never as code.

Table families inherit `TableFamily`, which does the preprocessing, and write three methods. A new
family is one file and one line in `families.py`; `loopline.testing.families` is its kit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.schema import Task
from loopline.progress import Reporter, SilentReporter
from loopline.splits.views import TrainView

Floats = NDArray[np.float64]
Params = Mapping[str, Any]


@dataclass(frozen=True)
class FitContext:
    """What a fit may know besides its rows.

    Args:
        seed: the child seed of this fit; equal seeds and threads give equal models.
        threads: how many threads the fit may use, at least 1.
        class_weight: "balanced" to weigh each class by the inverse of its share, else None.
        reporter: receives progress.
    """

    seed: int
    threads: int = 1
    class_weight: str | None = None
    reporter: Reporter = field(default_factory=SilentReporter)


class FittedModel(ABC):
    """A trained model with its preprocessing: raw feature columns in, predictions out."""

    family: str
    task: Task
    params: dict[str, Any]
    """The parameters as resolved by the fit (rounds used, penalty chosen); plain data."""

    @abstractmethod
    def predict(self, frame: pl.DataFrame) -> Floats:
        """Predict a table of raw feature columns, in the training types.

        Returns:
            Class probabilities of shape (rows, classes), each row summing to 1, or values of
            shape (rows,) for regression.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the model into an empty folder as data files (same model, same bytes)."""

    def predict_row(self, row: Mapping[str, Any]) -> Floats:
        """Predict one row given as a mapping; shape (classes,) or (1,). Fast paths override."""
        frame = pl.DataFrame([dict(row)])
        return self.predict(frame).reshape(-1)

    @property
    def size_bytes(self) -> int:
        """Bytes that the saved model takes, 0 if unknown."""
        return 0

    def contributions(self, frame: pl.DataFrame) -> dict[str, Floats] | None:
        """Additive contribution of each raw feature to each row's raw score, if it has them."""
        del frame
        return None


class Family(ABC):
    """One kind of model. See the module's docstring for when each method is called."""

    name: str
    """The family's name in settings files."""
    complexity: int
    """Place in the order of simplicity: 0 baseline, 10 linear, 20 boosted trees, …"""
    tasks: frozenset[Task] = frozenset({"binary", "multiclass", "regression"})

    @abstractmethod
    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """Parameters used where the settings say nothing; also the list of legal names."""

    @abstractmethod
    def fit(
        self, train: TrainView, valid: TrainView | None, params: Params, context: FitContext
    ) -> FittedModel:
        """Train on a view; stop early on `valid` where given and where the family does that."""

    @abstractmethod
    def load(self, folder: Path) -> FittedModel:
        """Read what `FittedModel.save` wrote; runs no code from the folder."""

    uses_validation: bool = False
    """Whether `fit` makes use of a validation view."""

    def consolidate(self, fitted: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Parameters of the final fit from those that the folds resolved (default: the first)."""
        return dict(fitted[0])

    def versions(self) -> dict[str, str]:
        """Names and versions of the libraries whose change may change a fit."""
        return {}
