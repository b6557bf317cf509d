"""Linear models: logistic regression for classes, ridge or elastic net for values.

The penalty is chosen from a short path on the held-out rows, by log loss or squared error. A fitted
model is a coefficient matrix in a safetensors file; predicting needs numpy only.

Sources: Hoerl and Kennard, "Ridge regression", 1970; Zou and Hastie, "Regularization and variable
selection via the elastic net", 2005. With weights w of mean 1, the objectives are
``sum w·logloss + penalty/2·|b|²`` and
``½·sum w·(y - Xb)² + penalty·(l1_ratio·|b|₁ + (1 - l1_ratio)/2·|b|²)``; intercepts are free and a
regression target is scaled to unit variance first, so that one path fits all units.
"""

from __future__ import annotations

import importlib.metadata
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from loopline.data.schema import Task
from loopline.digest import canonical_json
from loopline.errors import DataError, IntegrityError
from loopline.models.base import FitContext, Floats, Params
from loopline.models.boosting import Target, threads_for
from loopline.models.parameters import Rule
from loopline.models.portable import Portable, linear_prediction, scaled
from loopline.models.probability import probabilities
from loopline.models.space import DataFacts, Number, Space
from loopline.models.table import Estimator, Matrix, TableFamily

PENALTY_PATH: tuple[float, ...] = (1000.0, 100.0, 10.0, 1.0, 0.1, 0.01)
"""Tried from strong to weak, each fit starting from the one before."""
BLIND_PENALTY = 1.0
"""The penalty when nothing chooses one: no validation view and no number given."""
_Fit = tuple[float, Floats, Floats]
"""Penalty, coefficients (columns, scores) and intercepts (scores,)."""
_BLOCK_ROWS = 65_536
_PATH_ROWS = 100_000
"""Rows on which logistic regression walks the path; the chosen penalty is then fitted on all."""
_PATH_LABELS = 20
"""Labels on which the path is walked where a row can have more; all are then fitted."""
_LARGE = 10.0
"""A column with a mean or a deviation above this is centred and scaled inside the model."""
_PATIENCE = 2
"""A path ends when so many penalties in a row did worse than the best."""
_TOLERANCE = 1e-6
"""Largest entry of the mean gradient at which a logistic fit has converged."""
_EIGEN_SIZE = 1_000
_NEWTON_SIZE = 600
"""Coefficients up to which Newton steps are taken: exact, and 7 times faster than L-BFGS on the
one-hot columns of a census table (26,049 × 105), whose scales differ."""


@dataclass(frozen=True)
class _Scaling:
    """Shift and scale of the columns that the preprocessing left far from unit size."""

    center: Floats
    scale: Floats

    @property
    def is_plain(self) -> bool:
        return not self.center.any() and bool((self.scale == 1.0).all())

    def apply(self, values: Floats) -> Floats:
        return scaled(values, self.center, self.scale)


class LinearEstimator(Estimator):
    """Coefficients and intercepts, float64.

    Args:
        coefficients: shape (columns, scores), where scores is 1 for binary and regression.
        intercepts: shape (scores,).
        scaling: what is done to the columns first.
        means: mean of each scaled column in training, shape (columns,).
        spreads: deviation of each scaled column in training, shape (columns,).
        num_classes: number of classes, 0 for regression.
        params: the resolved parameters.
        apart: whether each class is there or not for itself, with a score of its own.
    """

    def __init__(
        self,
        *,
        coefficients: Floats,
        intercepts: Floats,
        scaling: _Scaling,
        means: Floats,
        spreads: Floats,
        num_classes: int,
        params: Mapping[str, Any],
        apart: bool = False,
    ) -> None:
        self.params = dict(params)
        self._coefficients = np.ascontiguousarray(coefficients)
        self._intercepts = intercepts
        self._scaling = scaling
        self._means = means
        self._spreads = spreads
        self._num_classes = num_classes
        self.apart = apart

    def predict(self, values: Floats) -> Floats:
        """Class probabilities (rows, classes) or values (rows,)."""
        return linear_prediction(
            self._scaling.apply(values),
            self._coefficients,
            self._intercepts,
            self._num_classes,
            apart=self.apart,
        )

    def portable(self) -> Portable:
        """See `Estimator.portable`."""
        return Portable(
            "linear",
            self._kind(),
            {
                "coefficients": self._coefficients,
                "intercepts": self._intercepts,
                "center": self._scaling.center,
                "scale": self._scaling.scale,
            },
        )

    def unscaled(self) -> tuple[Floats, Floats]:
        """Coefficients (columns, scores) and intercepts (scores,) for columns as they come."""
        coefficients = self._coefficients / self._scaling.scale[:, None]
        return coefficients, self._intercepts - self._scaling.center @ coefficients

    def contributions(self, values: Floats) -> Floats:
        """Coefficient times distance from the training mean."""
        distance = self._scaling.apply(values) - self._means
        if self._coefficients.shape[1] == 1:
            return distance * self._coefficients[:, 0]
        parts: Floats = distance[:, :, None] * self._coefficients
        return parts

    def importances(self) -> Floats:
        """Mean absolute coefficient times the column's deviation."""
        sizes: Floats = np.abs(self._coefficients).mean(axis=1) * self._spreads
        return sizes

    def save(self, folder: Path) -> None:
        """Write `coefficients.safetensors` and `estimator.json`."""
        tensors = {
            "coefficients": self._coefficients,
            "intercepts": self._intercepts,
            "center": self._scaling.center,
            "scale": self._scaling.scale,
            "means": self._means,
            "spreads": self._spreads,
        }
        save_file(
            {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()},
            folder / "coefficients.safetensors",
        )
        text = canonical_json(self._kind()) + "\n"
        (folder / "estimator.json").write_text(text, encoding="utf-8")

    def _kind(self) -> dict[str, Any]:
        """What its scores mean."""
        return {"num_classes": self._num_classes, **({"apart": True} if self.apart else {})}


class Linear(TableFamily):
    """Logistic regression, ridge or elastic net, with the penalty chosen on held-out rows.

    Where a row has several labels, one logistic regression a label, all with the same penalty.
    """

    name = "linear"
    complexity = 10
    tasks = frozenset({"binary", "multiclass", "multilabel", "regression"})
    recipe = "linear"
    uses_validation = True
    rules: ClassVar[Mapping[str, Rule]] = {
        "penalty": Rule("number", low=0.0, above_low=True, words=("auto",)),
        "l1_ratio": Rule("number", low=0.0, high=1.0),
        "max_iter": Rule("integer", low=1),
    }

    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """`penalty` (a number or "auto"); `l1_ratio` for regression; `max_iter`."""
        del num_rows
        shared: dict[str, Any] = {"penalty": "auto", "max_iter": 200}
        return {**shared, "l1_ratio": 0.0} if task == "regression" else shared

    def space(self, facts: DataFacts) -> Space:
        """The penalty, and for regression how much of it is on absolute values."""
        mix = {"l1_ratio": Number(0.0, 1.0)} if facts.task == "regression" else {}
        return {"penalty": Number(1e-3, 1e4, log=True), **mix}

    def fit_matrix(
        self,
        train: Matrix,
        valid: Matrix | None,
        *,
        task: Task,
        num_classes: int,
        params: Params,
        context: FitContext,
    ) -> LinearEstimator:
        """Fit the path, keep the best on `valid`; without `valid` the given penalty, or 1."""
        from threadpoolctl import (  # type: ignore[import-untyped]  # comes with scikit-learn
            threadpool_limits,
        )

        del task
        threads = context.threads
        if train.target.ndim == 2:  # many small fits, for which threads wait more than they work
            threads = threads_for(train.rows.num_rows * train.rows.num_columns, threads)
        # Sums of products depend on how many threads share them: equal threads, equal bits.
        with threadpool_limits(threads):
            return _fit(train, valid, num_classes, params, context)

    def load_estimator(self, folder: Path) -> LinearEstimator:
        """Read the coefficients; needs numpy only."""
        try:
            tensors = load_file(folder / "coefficients.safetensors")
            facts = json.loads((folder / "estimator.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise IntegrityError(f"{folder} does not hold a linear model: {error}") from error
        return LinearEstimator(
            coefficients=tensors["coefficients"],
            intercepts=tensors["intercepts"],
            scaling=_Scaling(tensors["center"], tensors["scale"]),
            means=tensors["means"],
            spreads=tensors["spreads"],
            num_classes=facts["num_classes"],
            params={},
            apart=facts.get("apart", False),
        )

    def consolidate(self, fitted: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The folds' parameters with the median of their penalties on the log scale."""
        logs = [np.log10(params["penalty"]) for params in fitted]
        return {**fitted[0], "penalty": float(10 ** np.median(logs))}

    def versions(self) -> dict[str, str]:
        """Versions of scikit-learn and numpy."""
        return {
            "scikit-learn": importlib.metadata.version("scikit-learn"),
            "numpy": np.__version__,
        }


def _fit(
    train: Matrix, valid: Matrix | None, num_classes: int, params: Params, context: FitContext
) -> LinearEstimator:
    _refuse_non_finite(train)
    weight = np.ones(train.values.shape[0]) if train.weight is None else train.weight
    scaling, means, spreads = _scaling(train.values, weight)
    penalties: Sequence[float] = PENALTY_PATH
    if params["penalty"] != "auto":
        penalties = (float(params["penalty"]),)
    elif valid is None:
        penalties = (BLIND_PENALTY,)
    target = Target.of("regression", "auto", train) if not num_classes else Target()
    goal = train.target if num_classes else target.scaled(train.target)
    problem = _Problem(
        values=train.values,
        target=goal,
        weight=weight,
        scaling=scaling,
        means=means,
        penalties=penalties,
        params=params,
        context=context,
    )
    many = goal.ndim == 2 and goal.shape[1] > _PATH_LABELS
    if num_classes and len(penalties) > 1 and (train.values.shape[0] > _PATH_ROWS or many):
        assert valid is not None
        part, held = problem.thinned(), valid
        if many:
            few = _some_labels(goal)
            part = replace(part, target=part.target[:, few])
            held = replace(valid, target=valid.target[:, few])
        problem = replace(problem, penalties=(_choose(part, held, num_classes, target)[0],))
    penalty, coefficients, intercepts = _choose(problem, valid, num_classes, target)
    return LinearEstimator(
        coefficients=coefficients * target.scale,
        intercepts=intercepts * target.scale + target.offset,
        scaling=scaling,
        means=means,
        spreads=spreads,
        num_classes=num_classes,
        params={**params, "penalty": penalty},
        apart=train.target.ndim == 2,
    )


def _some_labels(target: NDArray[Any]) -> NDArray[np.int64]:
    """Labels to choose a penalty on where there are many: evenly spread from rare to frequent."""
    order = np.argsort(target.sum(axis=0, dtype=np.int64), kind="stable")
    places = np.linspace(0, order.size - 1, _PATH_LABELS).astype(np.int64)
    return np.sort(order[places])


def _refuse_non_finite(train: Matrix) -> None:
    if not train.values.size:
        return
    finite = np.isfinite(train.values.max(axis=0)) & np.isfinite(train.values.min(axis=0))
    if not finite.all():
        name = train.outputs[int(np.flatnonzero(~finite)[0])].name
        raise DataError(
            f"The linear family needs finite numbers; {name!r} has missing or infinite ones after "
            "preprocessing. Repair or drop that column."
        )


def _scaling(values: Floats, weight: Floats) -> tuple[_Scaling, Floats, Floats]:
    """Scaling of unusually large columns; mean and deviation of every column after it."""
    rows, columns = values.shape
    total = weight.sum()
    size = np.ones(columns)
    for start in range(0, rows, _BLOCK_ROWS):
        block = np.abs(values[start : start + _BLOCK_ROWS])
        np.maximum(size, block.max(axis=0), out=size)
    # Sums are taken of values / size so that squares of 1e200 cannot overflow.
    mean = np.zeros(columns)
    for start in range(0, rows, _BLOCK_ROWS):
        mean += weight[start : start + _BLOCK_ROWS] @ (values[start : start + _BLOCK_ROWS] / size)
    mean /= total
    square = np.zeros(columns)
    for start in range(0, rows, _BLOCK_ROWS):
        block = values[start : start + _BLOCK_ROWS] / size - mean
        square += weight[start : start + _BLOCK_ROWS] @ (block * block)
    mean, spread = mean * size, np.sqrt(square / total) * size
    constant = spread <= np.abs(mean) * 1e-12
    large = (np.abs(mean) > _LARGE) | (spread > _LARGE)
    center = np.where(large, mean, 0.0)
    scale = np.where(large & (spread > 0) & ~constant, spread, 1.0)
    spread = np.where(constant, 0.0, spread)
    return _Scaling(center, scale), (mean - center) / scale, spread / scale


@dataclass(frozen=True)
class _Problem:
    """What a path of penalties is fitted to; a regression target is already scaled."""

    values: Floats
    target: NDArray[Any]
    weight: Floats
    scaling: _Scaling
    means: Floats
    penalties: Sequence[float]
    params: Params
    context: FitContext

    def thinned(self) -> _Problem:
        """Evenly spaced rows of a large problem, enough to choose a penalty on."""
        count = min(_PATH_ROWS, self.target.shape[0])
        rows = np.linspace(0, self.target.shape[0] - 1, count).astype(np.int64)
        return replace(
            self, values=self.values[rows], target=self.target[rows], weight=self.weight[rows]
        )


def _choose(problem: _Problem, valid: Matrix | None, num_classes: int, target: Target) -> _Fit:
    """Walk the path; the fit of the smallest held-out loss, the stronger penalty on a tie."""
    if problem.target.ndim == 2:
        fits = _labels_path(problem)
    elif num_classes:
        fits = _logistic_path(problem, num_classes)
    elif problem.params["l1_ratio"] > 0:
        fits = _elastic_path(problem)
    else:
        fits = _ridge_path(problem)
    best: _Fit | None = None
    lowest, worse = np.inf, 0
    with problem.context.reporter.step("linear", total=len(problem.penalties)) as step:
        for fitted in fits:
            step.advance()
            loss = 0.0
            if valid is not None and len(problem.penalties) > 1:
                scores = problem.scaling.apply(valid.values) @ fitted[1] + fitted[2]
                loss = _loss(scores, valid, num_classes, target)
            worse += 1
            if best is None or loss < lowest:
                best, lowest, worse = fitted, loss, 0
            if worse == _PATIENCE:
                break  # weaker penalties fit the held-out rows worse still, and take longest
    assert best is not None
    return best


def _ridge_path(problem: _Problem) -> Iterator[_Fit]:
    """Every penalty from one Gram matrix; rank-deficient matrices are no special case."""
    values, weight, means = problem.values, problem.weight, problem.means
    rows, columns = values.shape
    center = float(np.average(problem.target, weights=weight))
    target = problem.target - center
    if columns > rows:
        root = np.sqrt(weight)
        wide = (problem.scaling.apply(values) - means) * root[:, None]
        solve = _solver(wide @ wide.T, target * root)
        for penalty in problem.penalties:
            coefficients = wide.T @ solve(penalty)
            yield penalty, coefficients[:, None], np.array([center - means @ coefficients])
        return
    gram, moment = np.zeros((columns, columns)), np.zeros(columns)
    for start in range(0, rows, _BLOCK_ROWS):
        stop = start + _BLOCK_ROWS
        block = problem.scaling.apply(values[start:stop]) - means
        weighted = block * weight[start:stop, None]
        gram += block.T @ weighted
        moment += weighted.T @ target[start:stop]
    solve = _solver(gram, moment)
    for penalty in problem.penalties:
        coefficients = solve(penalty)
        yield penalty, coefficients[:, None], np.array([center - means @ coefficients])


def _solver(gram: Floats, moment: Floats) -> Callable[[float], Floats]:
    """A function from penalty to the solution of ``(gram + penalty·I) b = moment``.

    One eigendecomposition serves all penalties; above 1,000 columns it costs more than a Cholesky
    factor for each.
    """
    size = gram.shape[0]
    if size <= _EIGEN_SIZE:
        roots, vectors = np.linalg.eigh(gram)
        rotated = vectors.T @ moment
        return lambda penalty: vectors @ (rotated / (np.maximum(roots, 0.0) + penalty))
    from scipy.linalg import cho_factor, cho_solve

    # A floor at the rounding error of the Gram matrix keeps a singular one positive definite.
    floor = size * np.finfo(np.float64).eps * float(np.trace(gram))

    def solve(penalty: float) -> Floats:
        shifted = gram + max(penalty, floor) * np.eye(size)
        solution: Floats = cho_solve(cho_factor(shifted, overwrite_a=True), moment)
        return solution

    return solve


def _elastic_path(problem: _Problem) -> Iterator[_Fit]:
    from sklearn.linear_model import ElasticNet

    rows, columns = problem.values.shape
    if not columns:
        yield from _ridge_path(problem)
        return
    scaled = problem.scaling.apply(problem.values)
    model = ElasticNet(l1_ratio=float(problem.params["l1_ratio"]), warm_start=True)
    for penalty in problem.penalties:
        model.set_params(alpha=penalty / rows)
        _converge(model, (scaled, problem.target, problem.weight), penalty, problem)
        yield penalty, model.coef_.reshape(-1, 1).copy(), np.array([float(model.intercept_)])


def _logistic_path(problem: _Problem, num_classes: int) -> Iterator[_Fit]:
    from sklearn.linear_model import LogisticRegression

    target, weight = problem.target, problem.weight
    columns = problem.values.shape[1]
    mass = np.bincount(target, weights=weight, minlength=num_classes).astype(np.float64)
    present = np.flatnonzero(mass > 0)
    if present.size == 1 or not columns:
        for penalty in problem.penalties:
            yield penalty, *_without_features(mass, columns)
        return
    scaled = problem.scaling.apply(problem.values)
    if (weight == 0).any():
        kept = weight > 0
        scaled, target, weight = scaled[kept], target[kept], weight[kept]
    outputs = 1 if present.size == 2 else present.size
    solver = "newton-cholesky" if columns * outputs <= _NEWTON_SIZE else "lbfgs"
    tolerance = float(problem.params.get("tolerance", _TOLERANCE))
    model = LogisticRegression(solver=solver, warm_start=True, tol=tolerance)
    for penalty in problem.penalties:
        model.set_params(C=1.0 / penalty)
        _converge(model, (scaled, target, weight), penalty, problem)
        yield penalty, *_among_all(model.coef_.T, model.intercept_, present, mass)


def _labels_path(problem: _Problem) -> Iterator[_Fit]:
    """Each penalty with one logistic regression a label, side by side."""
    kept = problem.weight > 0
    values = problem.scaling.apply(problem.values)
    columns = np.zeros(values.shape[1])
    ready = replace(
        problem,
        values=values if kept.all() else values[kept],
        weight=problem.weight[kept],
        scaling=_Scaling(columns, columns + 1.0),
    )
    paths = [
        _logistic_path(replace(ready, target=label), 2)
        for label in problem.target[kept].T.astype(np.int64)
    ]
    for fits in zip(*paths, strict=True):
        coefficients = np.hstack([fit[1] for fit in fits])
        yield fits[0][0], coefficients, np.concatenate([fit[2] for fit in fits])


def _converge(
    model: Any,
    rows: tuple[Floats, NDArray[Any], Floats],
    penalty: float,
    problem: _Problem,
) -> None:
    """Fit; with ten times the iterations if need be; tell when even that was not enough."""
    max_iter = int(problem.params["max_iter"])
    for limit in (max_iter, 10 * max_iter):
        model.set_params(max_iter=limit)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(rows[0], rows[1], sample_weight=rows[2])
        if not any("converge" in str(each.message).lower() for each in caught):
            return
    problem.context.reporter.note(
        f"The linear model with penalty {penalty:g} had not converged after {10 * max_iter} "
        "iterations; its score may improve with a stronger `penalty` or a larger `max_iter`."
    )


def _without_features(mass: Floats, columns: int) -> tuple[Floats, Floats]:
    """Intercepts alone: the class shares, with half a row for classes never seen."""
    shares = np.log(np.maximum(mass, 0.5))
    if mass.size == 2:
        return np.zeros((columns, 1)), np.array([shares[1] - shares[0]])
    return np.zeros((columns, mass.size)), shares


def _among_all(
    coefficients: Floats, intercepts: Floats, present: NDArray[Any], mass: Floats
) -> tuple[Floats, Floats]:
    """Coefficients of the classes seen, placed among all; unseen classes weigh half a row."""
    num_classes = mass.size
    if num_classes == 2:
        return coefficients.copy(), intercepts.copy()
    if present.size == 2:
        coefficients = np.hstack([-coefficients / 2, coefficients / 2])
        intercepts = np.concatenate([-intercepts / 2, intercepts / 2])
    if present.size == num_classes:
        return coefficients.copy(), intercepts.copy()
    everywhere = np.zeros((coefficients.shape[0], num_classes))
    everywhere[:, present] = coefficients
    rare = float(intercepts.min()) + np.log(0.5 / mass.sum())
    offsets = np.full(num_classes, rare)
    offsets[present] = intercepts
    return everywhere, offsets


def _loss(scores: Floats, valid: Matrix, num_classes: int, target: Target) -> float:
    if not num_classes:
        errors = (scores[:, 0] - target.scaled(valid.target)) ** 2
        return float(np.average(errors, weights=valid.weight))
    if valid.target.ndim == 2:
        losses = np.logaddexp(0.0, scores) - valid.target * scores
        return float(np.average(losses.mean(axis=1), weights=valid.weight))
    shares = probabilities(scores[:, 0] if scores.shape[1] == 1 else scores)
    chosen = shares[np.arange(shares.shape[0]), valid.target]
    return float(np.average(-np.log(np.maximum(chosen, 1e-15)), weights=valid.weight))
