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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.schema import ColumnType, Task
from loopline.errors import InputError, SettingsError
from loopline.features.settings import FeatureSettings
from loopline.models.parameters import Rule, resolve
from loopline.models.portable import PortableModel
from loopline.models.space import DataFacts, Space
from loopline.progress import Reporter, SilentReporter
from loopline.splits.views import TestView, TrainView

Floats = NDArray[np.float64]
MEDIAN_METRICS = frozenset({"mae", "median_ae"})
"""Metrics of values that a median serves best, where the others want a mean."""
Params = Mapping[str, Any]
Rung = Callable[[int, Floats], None]
"""Hears of a fit on its way; see `FitContext.rung`."""


class GivenUp(Exception):  # noqa: N818  # not an error: nobody wants the rest of the fit
    """Raised by a rung to end the fit that has come to it."""


@dataclass(frozen=True)
class FitContext:
    """What a fit may know besides its rows.

    Args:
        seed: the child seed of this fit; equal seeds and threads give equal models.
        threads: how many threads the fit may use, at least 1.
        class_weight: "balanced" to weigh each class by the inverse of its share, else None.
        features: settings of the preprocessing, for families that have one.
        reporter: receives progress.
        folder: where a fit may keep what lets it go on after a kill; None for nowhere.
        digests: what the fit belongs to (data, split, settings, code), by name, for checkpoints.
        processes: how many processes train a network together, at least 1.
        layout: how a network lies on them: "ddp" (copies) or "fsdp" (shards).
        boards: where else readings of the training go: "tensorboard" (a folder), "mlflow" (a
            tracking URI), "wandb" (a project).
        whole: whether the saved model must hold everything that it needs. A fold's model may name
            pretrained weights that it did not change by their digest.
        rung: called at certain points of the fit, which mean the same in every fit of the family,
            with their rising numbers and what the model predicts of the validation view's rows so
            far. It may raise `GivenUp`, which ends the fit. See `Family.has_rungs`.
    """

    seed: int
    threads: int = 1
    class_weight: str | None = None
    features: FeatureSettings = field(default_factory=FeatureSettings)
    reporter: Reporter = field(default_factory=SilentReporter)
    folder: Path | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    processes: int = 1
    layout: str = "ddp"
    boards: Mapping[str, str] = field(default_factory=dict)
    whole: bool = True
    rung: Rung | None = None


class FittedModel(ABC):
    """A trained model with its preprocessing: raw feature columns in, predictions out."""

    family: str
    task: Task
    params: dict[str, Any]
    """The parameters as resolved by the fit (rounds used, penalty chosen); plain data."""
    concurrent: bool = False
    """Whether several such models may predict at the same time, each on a core of its own."""
    log: str = ""
    """What was read during a long fit (loss, speed, memory), one JSON object a line."""

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

    def quicken(self) -> None:  # noqa: B027  # most families have nothing to do
        """Make single rows quick, where that takes time and memory; called once, by a service.

        Answers stay the same to the family's `tolerance`.
        """

    def predict_view(self, view: TrainView | TestView) -> Floats:
        """Predict the rows of a view; families that hold less memory at a time override."""
        return self.predict(view.frame())

    def rearranged(
        self, frame: pl.DataFrame, start: int, stop: int
    ) -> Callable[[Sequence[str], NDArray[np.int64]], Floats]:
        """Predict some rows again and again, each time with columns' cells from other rows.

        This is what permutation importance asks for. Families that make features from one raw
        column each make them once and override.

        Args:
            frame: all rows that cells may come from, raw feature columns in the training types.
            start: the first row to predict.
            stop: the row after the last.

        Returns:
            A function of column names and an order, shape (rows of `frame`,). It gives `predict`
            of the rows where each named column's cell at row i is the one of row ``order[i]``.
        """

        def answer(columns: Sequence[str], order: NDArray[np.int64]) -> Floats:
            rows = order[start:stop]
            part = frame.slice(start, stop - start)
            return self.predict(part.with_columns(frame[name][rows] for name in columns))

        return answer

    @property
    def families(self) -> tuple[str, ...]:
        """The families whose packages it needs to answer: its own, or those of its members."""
        return (self.family,)

    def portable(self) -> PortableModel:
        """What it learned as plain data that predicts with numpy and one library.

        Raises:
            InputError: the family has no such form.
        """
        raise InputError(
            f"The family {self.family} needs the whole of Loopline to answer: its network is not "
            "plain numbers for numpy. Export it `--to docker`, which installs what it needs."
        )

    def write(
        self,
        prompt: Mapping[str, str] | str,
        *,
        most: int = 200,
        temperature: float = 0.8,
        top_p: float = 0.95,
        seed: int = 0,
    ) -> Iterator[str]:
        """Text that goes on after a prompt, piece by piece, until its end.

        Args:
            prompt: the beginning of a text; or, where columns are read before it, their cells.
            most: the most tokens.
            temperature: scores are divided by it; 0 for the likeliest token each time.
            top_p: draw from the likeliest tokens that together have this probability, in (0, 1].
            seed: equal seeds give equal texts on one machine.

        Raises:
            InputError: the family writes no text.
            SettingsError: a number out of range, or a prompt that fills the context.
        """
        del prompt, most, temperature, top_p, seed
        raise InputError(
            f"The family {self.family} writes no text; families of `task: language` do (ngram, lm)."
        )

    @property
    def size_bytes(self) -> int:
        """Bytes that the saved model takes, 0 if unknown."""
        return 0

    def contributions(self, frame: pl.DataFrame) -> dict[str, Floats] | None:
        """Additive contribution of each raw feature to each row's raw score, if it has them.

        The raw score is the log odds of class 1 (binary), one score a class (multiclass) or the
        value itself (regression). Shapes: (rows,), or (rows, classes) for multiclass. What is left
        after all contributions is the same constant for every row.
        """
        del frame
        return None

    def importances(self) -> dict[str, float] | None:
        """Share of each raw feature in the model, summing to 1, if the family knows it."""
        return None


class Family(ABC):
    """One kind of model. See the module's docstring for when each method is called."""

    name: str
    """The family's name in settings files."""
    complexity: int
    """Place in the order of simplicity: 0 baseline, 10 linear, 20 boosted trees, …"""
    tasks: frozenset[Task] = frozenset({"binary", "multiclass", "regression"})

    rules: ClassVar[Mapping[str, Rule]] = {}
    """The range or the choices of each parameter that has them."""

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

    packages: ClassVar[tuple[str, ...]] = ()
    """What must be installed besides Loopline's own dependencies, by import name."""
    reads: frozenset[ColumnType] | None = None
    """The column types that the family makes use of; None for all that a table may have."""
    tolerance: float = 1e-12
    """How far a row's prediction may differ with the rows that are predicted beside it."""
    importance_rows: int = 5_000
    """Rows on which permutation importance is measured; fewer where a prediction is dear."""
    parallel: bool = False
    """Whether several processes can fit one model together."""
    uses_validation: bool = False
    """Whether `fit` makes use of a validation view."""
    has_rungs: bool = False
    """Whether `fit` tells `FitContext.rung` of its way."""

    def comparable_on_its_way(self, params: Params) -> bool:
        """Whether rungs say how a fit with these parameters will end beside others of the family.

        They do not where the parameters give its length: a quick fit that is behind a slow one
        after the same way goes on to learn more, and the slow one has come to its end.
        """
        del params
        return self.has_rungs

    def resolve(self, params: Params, task: Task, num_rows: int) -> dict[str, Any]:
        """All parameters of a fit: the given ones, checked, over the defaults.

        Raises:
            SettingsError: every unknown name and every value outside its range, at once.
        """
        if task not in self.tasks:
            raise SettingsError([f"The {self.name} family cannot do a {task} task."])
        return resolve(self.name, params, self.defaults(task, num_rows), self.rules)

    def space(self, facts: DataFacts) -> Space:
        """The parameters that are worth a search on such data, the most important first.

        By default none: the family enters a search with its defaults alone. Each name is one of
        `defaults`, each value is allowed by `rules`.
        """
        del facts
        return {}

    def aim(self, task: Task, metric: str) -> dict[str, Any]:
        """Defaults that serve the metric by which candidates are ranked (default: none)."""
        del task, metric
        return {}

    def consolidate(self, fitted: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Parameters of the final fit from those that the folds resolved (default: the first).

        Args:
            fitted: `FittedModel.params` of each fold, at least one.
        """
        return dict(fitted[0])

    def sources(self, params: Params) -> dict[str, str]:
        """Digests of what a fit reads from outside the table, by parameter (default: nothing)."""
        del params
        return {}

    def versions(self) -> dict[str, str]:
        """Names and versions of the libraries whose change may change a fit."""
        return {}
