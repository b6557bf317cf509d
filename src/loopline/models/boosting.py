"""What the boosted-tree families share: parameter names, rounds, and the scale of the target.

The libraries keep targets (XGBoost also scores) as 32-bit floats, which cannot tell 1,700,000,000
from 1,700,000,064. So a regression target is centred and scaled in 64 bits before they see it.
"""

from __future__ import annotations

import json
import math
import statistics
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from loopline.data.schema import Task
from loopline.digest import canonical_json
from loopline.errors import DataError, IntegrityError
from loopline.features.rows import ArrayRows
from loopline.models.base import MEDIAN_METRICS, FitContext, Floats, Params, Rung
from loopline.models.library import require_library
from loopline.models.lightgbm_library import SMALL_CELLS
from loopline.models.parameters import Rule
from loopline.models.portable import BoostedPrediction, Portable, clipped, restored
from loopline.models.space import DataFacts, Number, Space
from loopline.models.table import Estimator, Matrix, TableFamily

MAX_ROUNDS = 5_000
"""Rounds at most when a validation view stops the training."""
BLIND_ROUNDS = 200
"""Rounds when nothing says how many: no validation view and no number given."""

LEAST_PATIENCE = 50
"""Rounds without an improvement at least before a fit ends."""
PATIENT_WAY = 5.0
"""The same as rounds times learning rate. With 2.5 (50 rounds at the usual rate) fits of two among
eight public tables ended where their held-out rows stood still by chance: twice as many rounds made
the error of their folds' models 0.6 and 1.1 % smaller and changed the others' by less than 0.3 %;
four times as many brought little more (`benchmarks/final_models.py`)."""

FIRST_RUNG = 0.5
"""Rounds times learning rate at the first rung; each further one is at twice as much."""

BOOSTING_RULES: Mapping[str, Rule] = {
    "rounds": Rule("integer", low=1, high=100_000, words=("auto",)),
    "patience": Rule("integer", low=1, words=("auto",)),
    "learning_rate": Rule("number", low=0.0, above_low=True, high=1.0),
    "l2": Rule("number", low=0.0),
    "row_share": Rule("number", low=0.0, above_low=True, high=1.0),
    "column_share": Rule("number", low=0.0, above_low=True, high=1.0),
}


def boosting_defaults(task: Task) -> dict[str, Any]:
    """The parameters that every boosted-tree family has.

    `rounds` "auto" means up to 5,000 with early stopping, 200 without a validation view; a number
    is the limit of early stopping, or exactly what is trained without a validation view.
    `patience` "auto" is 5 divided by the learning rate, 50 rounds at least.
    `row_share` and `column_share` are the shares of rows and columns that each tree sees.
    """
    shared: dict[str, Any] = {
        "rounds": "auto",
        "patience": "auto",
        "learning_rate": 0.05,
        "l2": 0.0,
        "row_share": 1.0,
        "column_share": 1.0,
    }
    return {**shared, "objective": "auto"} if task == "regression" else shared


def boosting_space(facts: DataFacts) -> Space:
    """What every boosted-tree family searches: rate, L2, shares of rows and columns a tree sees.

    Rounds are found by early stopping, so they are not searched. A share of columns means nothing
    where there are fewer than three.
    """
    columns = {"column_share": Number(0.3, 1.0)} if facts.num_columns >= 3 else {}
    return {
        "learning_rate": Number(0.01, 0.3, log=True),
        "l2": Number(1e-3, 100.0, log=True),
        "row_share": Number(0.5, 1.0),
        **columns,
    }


def settle_rounds(params: Params, *, has_valid: bool) -> tuple[int, int]:
    """Rounds to train at most, and how many to wait for an improvement."""
    rounds = params["rounds"]
    if rounds == "auto":
        rounds = MAX_ROUNDS if has_valid else BLIND_ROUNDS
    patience = params["patience"]
    if patience == "auto":
        patience = max(LEAST_PATIENCE, round(PATIENT_WAY / params["learning_rate"]))
    return int(rounds), int(patience)


class Rungs:
    """Which rounds of a fit are rungs: those at which it has come as far as any fit at that rung.

    How far boosting has come is told by the number of rounds times the learning rate, to first
    order: with half the rate it is there after twice the rounds (Friedman 2001). So a slow fit is
    compared with a quick one where both have learned alike.

    Args:
        learning_rate: of the fit.

    >>> quick, slow = Rungs(0.1), Rungs(0.01)
    >>> [round for round in range(1, 100) if quick.at(round) is not None]
    [5, 10, 20, 40, 80]
    >>> quick.at(20), slow.at(200), slow.at(199)
    (2, 2, None)
    """

    def __init__(self, learning_rate: float) -> None:
        self._rate = learning_rate

    def at(self, rounds: int) -> int | None:
        """The number of the rung that is reached after so many rounds; None between rungs."""
        now, before = self._passed(rounds), self._passed(rounds - 1)
        return None if now == before else now

    def _passed(self, rounds: int) -> int:
        """The last rung at or before a round, -1 before the first."""
        reached = rounds * self._rate / FIRST_RUNG * (1 + 1e-9)
        return math.floor(math.log2(reached)) if reached >= 1 else -1


@dataclass(frozen=True, slots=True)
class Target:
    """How a target becomes what the library sees, and back: ``(target - offset) / scale``."""

    offset: float = 0.0
    scale: float = 1.0

    @staticmethod
    def of(task: Task, objective: str, train: Matrix) -> Target:
        """Mean and standard deviation of a regression target; nothing for classes and counts.

        Raises:
            DataError: the poisson objective met a negative target, or a target sum of 0.
        """
        if task != "regression":
            return Target()
        target = train.target
        if objective == "poisson":
            if float(target.min()) < 0 or float(target.sum()) == 0:
                raise DataError(
                    'The objective "poisson" needs targets >= 0 with some above 0; '
                    f'the smallest is {float(target.min()):g}. Use objective "auto".'
                )
            return Target()
        return Target.fitted(target, train.weight)

    @staticmethod
    def fitted(target: Floats, weight: Floats | None) -> Target:
        """Weighted mean and standard deviation of values, shape (rows,)."""
        offset = float(np.average(target, weights=weight))
        centred = target - offset
        largest = float(np.abs(centred).max())
        if largest == 0:
            return Target(offset, 1.0)
        mean_square = float(np.average((centred / largest) ** 2, weights=weight))
        return Target(offset, largest * (math.sqrt(mean_square) or 1.0))

    def scaled(self, target: Floats) -> Floats:
        """What the library is trained on."""
        return (target - self.offset) / self.scale

    def restore(self, scores: Floats) -> Floats:
        """Values from the library's predictions."""
        return restored(scores, self.offset, self.scale)

    def to_dict(self) -> dict[str, float]:
        """Plain data; `from_dict` reads it back."""
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, float]) -> Target:
        """Read what `to_dict` wrote."""
        return Target(**data)


def threads_for(cells: int, threads: int) -> int:
    """Threads worth using on a matrix: one where it is small.

    OpenMP's threads spin while they wait for each other. Where another process has one of the
    cores, 50 rounds on 440 rows took 7 s with two threads and 0.4 s with one; LightGBM's trees are
    the same to the bit.

    >>> threads_for(440 * 30, 8), threads_for(100_000 * 30, 8)
    (1, 8)
    """
    return 1 if cells < SMALL_CELLS else threads


def categorical_columns(matrix: Matrix) -> tuple[int, ...]:
    """Positions of the columns that hold category codes."""
    return tuple(position for position, output in enumerate(matrix.outputs) if output.levels)


def varies(values: Floats) -> bool:
    """Whether any column has two different cells as 32-bit floats (missing counts as different)."""
    for column in values.T:
        single = column.astype(np.float32)
        missing = np.isnan(single)
        if missing.any() != missing.all():
            return True
        if not missing.any() and single.min() != single.max():
            return True
    return False


class Trees(Protocol):
    """What a library learned: scores and contributions of a clipped matrix."""

    library: str
    """The package that reads it."""

    def scores(self, values: Floats) -> Floats:
        """Raw scores, shape (rows, scores)."""

    def shap(self, values: Floats) -> Floats:
        """TreeSHAP values, shape (rows, columns, scores)."""

    def gains(self) -> Floats:
        """Importance of each column, shape (columns,)."""

    def to_bytes(self) -> bytes:
        """The model in the library's own format."""


class BoostedEstimator(Estimator):
    """Trees of a library that gives raw scores, with what turns the scores into predictions.

    Args:
        trees: what the library learned; None when there was nothing to learn from (one class only,
            or no column that varies), then every row scores `base`.
        base: scores of a model without trees, shape (scores,).
        num_columns: columns of the matrix.
        num_classes: number of classes, 0 for regression.
        present: codes of the classes that occurred in training, in order; the others get 0.
        target: how scores become values (regression).
        log_link: whether a value is the exponential of its score (poisson).
        categorical: positions of the columns that hold category codes.
        file_name: name of the file that holds the trees.
        params: the resolved parameters.
    """

    def __init__(
        self,
        *,
        trees: Trees | None,
        base: Floats,
        num_columns: int,
        num_classes: int,
        present: Sequence[int],
        target: Target,
        log_link: bool,
        categorical: Sequence[int],
        file_name: str,
        params: Mapping[str, Any],
    ) -> None:
        self.params = dict(params)
        self._trees = trees
        self._base = base
        self._num_columns = num_columns
        self._num_classes = num_classes
        self._present = tuple(present)
        self._target = target
        self._log_link = log_link
        self._categorical = tuple(categorical)
        self._file_name = file_name
        self._prediction = BoostedPrediction(
            trees=trees,
            base=base,
            num_classes=num_classes,
            present=self._present,
            offset=target.offset,
            scale=target.scale,
            log_link=log_link,
        )

    def predict(self, values: Floats) -> Floats:
        """Class probabilities (rows, classes) or values (rows,)."""
        return self._prediction.predict(values)

    def portable(self) -> Portable:
        """See `Estimator.portable`."""
        library = "" if self._trees is None else self._trees.library
        return Portable(
            "boosted",
            {
                "library": library,
                "file": self._file_name,
                "num_classes": self._num_classes,
                "present": list(self._present),
                "log_link": self._log_link,
                "categorical": list(self._categorical),
                **self._target.to_dict(),
            },
            arrays={"base": self._base},
            files={} if self._trees is None else {self._file_name: self._trees.to_bytes()},
            packages=() if self._trees is None else (library,),
        )

    def contributions(self, values: Floats) -> Floats:
        """TreeSHAP values of each column: (rows, columns) or (rows, columns, classes)."""
        rows, multiclass = values.shape[0], self._num_classes > 2
        out = np.zeros((rows, self._num_columns, self._num_classes if multiclass else 1))
        if self._trees is not None and rows and self._num_columns:
            parts = self._trees.shap(clipped(values))
            if not multiclass:
                out[:] = parts * self._target.scale
            elif parts.shape[2] == 1:
                out[:, :, self._present[1]] = parts[:, :, 0]
            else:
                out[:, :, list(self._present)] = parts
        return out if multiclass else np.ascontiguousarray(out[:, :, 0])

    def importances(self) -> Floats:
        """The library's own importance of each column."""
        if self._trees is None:
            return np.zeros(self._num_columns)
        return self._trees.gains()[: self._num_columns]

    def save(self, folder: Path) -> None:
        """Write the trees in the library's format and `estimator.json`."""
        if self._trees is not None:
            (folder / self._file_name).write_bytes(self._trees.to_bytes())
        facts = {
            "has_trees": self._trees is not None,
            "base": self._base.tolist(),
            "num_columns": self._num_columns,
            "num_classes": self._num_classes,
            "present": list(self._present),
            "target": self._target.to_dict(),
            "log_link": self._log_link,
            "categorical": list(self._categorical),
        }
        (folder / "estimator.json").write_text(canonical_json(facts) + "\n", encoding="utf-8")


class BoostingFamily(TableFamily):
    """What every boosted-tree family does: stops early, aims at medians, settles on rounds."""

    recipe = "trees"
    uses_validation = True

    def comparable_on_its_way(self, params: Params) -> bool:
        """Only where early stopping alone ends the fit."""
        return self.has_rungs and params.get("rounds", "auto") == "auto"

    def aim(self, task: Task, metric: str) -> dict[str, Any]:
        """The loss that serves a metric: absolute error for the metrics of medians."""
        return {"objective": "mae"} if task == "regression" and metric in MEDIAN_METRICS else {}

    def consolidate(self, fitted: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The folds' parameters with the median of their rounds."""
        rounds: list[int] = [params["rounds"] for params in fitted]
        return {**fitted[0], "rounds": max(1, round(statistics.median(rounds)))}


class BoostedFamily(BoostingFamily):
    """A boosted-tree family whose library gives raw scores: relabels, trains, finishes."""

    file_name: ClassVar[str]

    @abstractmethod
    def grow(
        self,
        train: Matrix,
        valid: Matrix | None,
        *,
        task: Task,
        num_classes: int,
        params: Params,
        context: FitContext,
    ) -> tuple[Trees, int]:
        """Train on a clipped matrix whose classes are 0 … num_classes - 1, each present.

        `context.rung`, where given, is told raw scores of the held-out rows, (rows, scores).

        Returns:
            The trees and the rounds they used.
        """

    @abstractmethod
    def read_trees(self, data: bytes, categorical: Sequence[int]) -> Trees:
        """Read what `Trees.to_bytes` gave."""

    def check_library(self) -> None:
        """Raise `EnvironmentProblem` when the library is not installed."""
        require_library(self.name)

    def fit_matrix(
        self,
        train: Matrix,
        valid: Matrix | None,
        *,
        task: Task,
        num_classes: int,
        params: Params,
        context: FitContext,
    ) -> BoostedEstimator:
        """Boost until the held-out loss has not improved for `patience` rounds."""
        self.check_library()
        train = _weighing_rows(train)
        objective = str(params.get("objective", "auto"))
        target = Target.of(task, objective, train)
        present = tuple(np.unique(train.target).tolist()) if num_classes else ()
        inner_task: Task = "binary" if len(present) == 2 else task
        goal: NDArray[Any] = (
            np.searchsorted(present, train.target) if num_classes else target.scaled(train.target)
        )
        ready = replace(train, rows=ArrayRows(clipped(train.values)), target=goal)
        held, num_held = None, 0
        if valid is not None:
            held, num_held = _held_out(valid, present, target), valid.target.size
        base = _base_scores(ready, len(present), objective)
        answers = BoostedPrediction(
            trees=None,
            base=base,
            num_classes=num_classes,
            present=present,
            offset=target.offset,
            scale=target.scale,
            log_link=objective == "poisson",
        )
        trees: Trees | None = None
        used = 1
        if goal.min() != goal.max() and varies(ready.values):
            trees, used = self.grow(
                ready,
                held,
                task=inner_task,
                num_classes=len(present),
                params=params,
                context=replace(
                    context,
                    threads=threads_for(ready.values.size, context.threads),
                    rung=None
                    if context.rung is None or held is None or held.target.size < num_held
                    else _answering(context.rung, answers),
                ),
            )
        return BoostedEstimator(
            trees=trees,
            base=base,
            num_columns=train.values.shape[1],
            num_classes=num_classes,
            present=present,
            target=target,
            log_link=objective == "poisson",
            categorical=categorical_columns(train),
            file_name=self.file_name,
            params={**params, "rounds": used},
        )

    def load_estimator(self, folder: Path) -> BoostedEstimator:
        """Read `estimator.json` and the trees."""
        try:
            facts = json.loads((folder / "estimator.json").read_text(encoding="utf-8"))
            data = (folder / self.file_name).read_bytes() if facts["has_trees"] else None
        except (OSError, ValueError) as error:
            raise IntegrityError(f"{folder} does not hold a {self.name} model: {error}") from error
        return BoostedEstimator(
            trees=None if data is None else self.read_trees(data, facts["categorical"]),
            base=np.array(facts["base"]),
            num_columns=facts["num_columns"],
            num_classes=facts["num_classes"],
            present=facts["present"],
            target=Target.from_dict(facts["target"]),
            log_link=facts["log_link"],
            categorical=facts["categorical"],
            file_name=self.file_name,
            params={},
        )


def _answering(rung: Rung, answers: BoostedPrediction) -> Rung:
    """A rung that is told raw scores, for one that is told predictions."""
    return lambda number, scores: rung(number, answers.answers(scores))


def _weighing_rows(train: Matrix) -> Matrix:
    """The rows whose weight is not 0: a class without any weight must not count as present."""
    if train.weight is None or (train.weight > 0).all():
        return train
    kept = train.weight > 0
    return replace(
        train,
        rows=ArrayRows(train.values[kept]),
        target=train.target[kept],
        weight=train.weight[kept],
    )


def _held_out(valid: Matrix, present: Sequence[int], target: Target) -> Matrix | None:
    """The validation rows as the library sees them, less those of classes never seen."""
    values = clipped(valid.values)
    if not present:
        return replace(valid, rows=ArrayRows(values), target=target.scaled(valid.target))
    kept = np.isin(valid.target, present)
    if not kept.any():
        return None
    return replace(
        valid,
        rows=ArrayRows(values[kept]),
        target=np.searchsorted(present, valid.target[kept]),
        weight=None if valid.weight is None else valid.weight[kept],
    )


def _base_scores(train: Matrix, num_present: int, objective: str) -> Floats:
    if num_present:
        shares = np.bincount(train.target, weights=train.weight, minlength=num_present)
        logs = np.log(np.maximum(shares, 1e-9) / shares.sum())
        return np.array([logs[1] - logs[0]]) if num_present == 2 else logs
    if objective == "mae":
        return np.array([weighted_median(train.target, train.weight)])
    mean = float(np.average(train.target, weights=train.weight))
    return np.array([math.log(mean) if objective == "poisson" else mean])


def weighted_median(values: Floats, weight: Floats | None = None) -> float:
    """The value that splits the weight in halves; the middle of two when it falls between them.

    >>> weighted_median(np.array([3.0, 1.0, 2.0, 10.0]))
    2.5
    >>> weighted_median(np.array([1.0, 2.0]), np.array([1.0, 3.0]))
    2.0
    """
    if weight is None:
        return float(np.median(values))
    order = np.argsort(values, kind="stable")
    order = order[weight[order] > 0]
    ranked, mass = values[order], np.cumsum(weight[order])
    half = mass[-1] / 2
    at = int(np.searchsorted(mass, half * (1 - 1e-12)))
    if mass[at] <= half * (1 + 1e-12) and at + 1 < ranked.size:
        return float((ranked[at] + ranked[at + 1]) / 2)
    return float(ranked[at])
