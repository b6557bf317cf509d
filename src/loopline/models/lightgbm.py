"""Gradient-boosted trees by LightGBM: the strongest single family on most tables.

Training uses LightGBM's Python package. Prediction does not: see `lightgbm_library`.

Sources: Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS 2017;
contributions are TreeSHAP, Lundberg et al., "From local explanations to global understanding with
explainable AI for trees", 2020.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from loopline.data.schema import Task
from loopline.digest import canonical_json
from loopline.errors import IntegrityError, LooplineError
from loopline.features.rows import BLOCK_ROWS, Rows
from loopline.models.base import FitContext, Floats, Params, Rung
from loopline.models.boosting import (
    BOOSTING_RULES,
    BoostingFamily,
    Rungs,
    Target,
    boosting_defaults,
    boosting_space,
    categorical_columns,
    settle_rounds,
    threads_for,
)
from loopline.models.lightgbm_labels import LabelGoal, label_base
from loopline.models.lightgbm_library import (
    CONTRIBUTIONS,
    LightGBMPrediction,
    finished,
    lightgbm_library,
)
from loopline.models.parameters import Rule
from loopline.models.portable import Portable
from loopline.models.space import DataFacts, Integer, Number, Space
from loopline.models.table import Estimator, Matrix
from loopline.seeds import child_seed

_SAMPLE_ROWS = 200_000
"""Rows from which LightGBM chooses its bins (its `bin_construct_sample_cnt`)."""


class LightGBMEstimator(Estimator):
    """Trees as LightGBM's own text, evaluated by its library.

    Args:
        text: the model in LightGBM's text format.
        num_columns: columns of the matrix.
        num_classes: number of classes, 0 for regression.
        target: how scores become values (regression).
        params: the resolved parameters.
        base: where a row has several labels: what is added to each one's score; else None.
    """

    def __init__(
        self,
        text: str,
        num_columns: int,
        num_classes: int,
        target: Target,
        params: Mapping[str, Any],
        base: Floats | None = None,
    ) -> None:
        self.params = dict(params)
        self._text = text
        self._num_columns = num_columns
        self._num_classes = num_classes
        self._target = target
        self._base = base
        self._outputs = num_classes if num_classes > 2 or base is not None else 1
        self._prediction = LightGBMPrediction(
            text,
            num_columns=num_columns,
            num_classes=num_classes,
            offset=target.offset,
            scale=target.scale,
            base=base,
        )
        self._booster = self._prediction.booster

    def predict(self, values: Floats) -> Floats:
        """Class probabilities (rows, classes) or values (rows,)."""
        return self._prediction.predict(values)

    def predict_one(self, values: Floats) -> Floats:
        """One row in a few microseconds; same bits as `predict`."""
        return self._prediction.predict_one(values)

    def portable(self) -> Portable:
        """See `Estimator.portable`."""
        return Portable(
            "lightgbm",
            {
                "num_columns": self._num_columns,
                "num_classes": self._num_classes,
                **self._target.to_dict(),
            },
            {} if self._base is None else {"base": self._base},
            files={"model.txt": self._text.encode()},
            packages=("lightgbm",),
        )

    def contributions(self, values: Floats) -> Floats | None:
        """TreeSHAP values of each column: (rows, columns) or (rows, columns, classes)."""
        raw = self._booster.predict(values, CONTRIBUTIONS)
        parts = raw.reshape(values.shape[0], self._outputs, self._num_columns + 1)[:, :, :-1]
        if self._outputs > 1:
            return np.ascontiguousarray(parts.transpose(0, 2, 1))
        return np.ascontiguousarray(parts[:, 0, :]) * self._target.scale

    def importances(self) -> Floats:
        """Total gain of each column's splits."""
        return self._booster.gains()

    def save(self, folder: Path) -> None:
        """Write `model.txt` (LightGBM's format) and `estimator.json`."""
        (folder / "model.txt").write_text(self._text, encoding="utf-8")
        facts = {
            "num_columns": self._num_columns,
            "num_classes": self._num_classes,
            "target": self._target.to_dict(),
            **({} if self._base is None else {"base": self._base.tolist()}),
        }
        (folder / "estimator.json").write_text(canonical_json(facts) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; imports nothing.

        Raises:
            IntegrityError: the folder does not hold trees.
        """
        try:
            text = (folder / "model.txt").read_text(encoding="utf-8")
            facts = json.loads((folder / "estimator.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise IntegrityError(f"{folder} does not hold a LightGBM model: {error}") from error
        return cls(
            text,
            facts["num_columns"],
            facts["num_classes"],
            Target.from_dict(facts["target"]),
            {},
            np.array(facts["base"]) if "base" in facts else None,
        )


class LightGBM(BoostingFamily):
    """Boosted trees with early stopping, native categories and missing values.

    The defaults are a learning rate of 0.05, 31 leaves, up to 5,000 rounds, and smaller leaves on
    small tables only. The final fit uses the median of the folds' rounds as it is: 1.25 times as
    many, for its larger table, moved the test scores of six public tables both ways, within noise.
    """

    name = "lightgbm"
    complexity = 20
    tasks = frozenset({"binary", "multiclass", "multilabel", "regression"})
    has_rungs = True
    rules: ClassVar[Mapping[str, Rule]] = {
        **BOOSTING_RULES,
        "num_leaves": Rule("integer", low=2, high=131_072),
        "max_depth": Rule("integer", low=-1, high=1_000),
        "min_child_samples": Rule("integer", low=1),
        "max_bin": Rule("integer", low=2, high=65_535),
        "cat_smooth": Rule("number", low=0.0),
        "objective": Rule("choice", words=("auto", "mae", "huber", "poisson")),
    }

    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """Rounds, leaves, regularisation, sampling; `objective` for regression."""
        return {
            **boosting_defaults(task),
            "num_leaves": 31,
            "max_depth": -1,
            "min_child_samples": max(2, min(20, num_rows // 50)),
            "max_bin": 255,
            "cat_smooth": 10.0,
        }

    def comparable_on_its_way(self, params: Params) -> bool:
        """Only where early stopping alone ends the fit."""
        return self.has_rungs and params.get("rounds", "auto") == "auto"

    def space(self, facts: DataFacts) -> Space:
        """Rate, size of the trees, regularisation, sampling; smoothing where there are categories.

        Trees of more leaves than a tenth of the rows, and leaves of more than a twentieth, cannot
        do better than their limits.
        """
        leaves = max(8, min(255, facts.num_rows // 10))
        return {
            **boosting_space(facts),
            "num_leaves": Integer(4, leaves, log=True),
            "min_child_samples": Integer(2, max(5, min(200, facts.num_rows // 20)), log=True),
            **({"cat_smooth": Number(1.0, 200.0, log=True)} if facts.count("category") else {}),
        }

    def fit_matrix(
        self,
        train: Matrix,
        valid: Matrix | None,
        *,
        task: Task,
        num_classes: int,
        params: Params,
        context: FitContext,
    ) -> LightGBMEstimator:
        """Boost until the held-out loss has not improved for `patience` rounds."""
        import lightgbm

        target = Target.of(task, str(params.get("objective", "auto")), train)
        cells = train.rows.num_rows * train.rows.num_columns
        context = replace(context, threads=threads_for(cells, context.threads))
        settings = _native_settings(params, task, num_classes, context)
        rounds, patience = settle_rounds(params, has_valid=valid is not None)
        wide = max(1, train.rows.num_columns)
        dataset_type = _training_types()[0]
        base = label_base(train) if task == "multilabel" else None
        goal = None if base is None else LabelGoal.of(train, base)
        if goal is not None:
            # `train` would add it, and a set's parameters must not change once it is constructed.
            settings["num_iterations"] = rounds
        dataset = dataset_type(
            _data(train.rows, settings, sampled=True),
            **(_plain_goal(train, target) if goal is None else goal.data),
            feature_name=[f"f{position}" for position in range(wide)],
            categorical_feature=list(categorical_columns(train)),
            params=settings,
            free_raw_data=True,
        )
        asked: dict[str, Any] = {}
        if goal is not None and _has_splits(dataset, wide):
            asked = {"objective": goal.gradient}
        watched: list[Any] = []
        scores: list[Callable[..., Any]] = []
        with context.reporter.step("lightgbm", total=rounds) as step:
            callbacks: list[Callable[..., None]] = [lambda _: step.advance()]
            if valid is not None:
                held_goal = None if base is None else LabelGoal.of(valid, base)
                scores += [] if held_goal is None else [held_goal.loss]
                if context.rung is not None and task != "multilabel":
                    glance = _Glance(context.rung, params, num_classes, target)
                    scores.append(glance.look)
                    callbacks.append(glance.tell)
                held = dataset_type(
                    _data(valid.rows, settings, sampled=False),
                    reference=dataset,
                    **(_plain_goal(valid, target) if held_goal is None else held_goal.data),
                    params=settings,
                )
                watched = [held]
                callbacks.append(lightgbm.early_stopping(patience, verbose=False))
            try:
                if goal is not None and not asked:
                    booster = lightgbm.Booster(settings, dataset)  # no tree: the shares alone
                else:
                    booster = lightgbm.train(
                        settings | asked,
                        dataset,
                        rounds,
                        valid_sets=watched,
                        feval=scores or None,
                        callbacks=callbacks,
                    )
            except lightgbm.basic.LightGBMError as error:
                raise LooplineError(
                    f"LightGBM could not train on {train.rows.num_rows:,} rows × "
                    f"{train.rows.num_columns:,} columns with {dict(params)}: {error}"
                ) from error
        used = booster.best_iteration if booster.best_iteration > 0 else booster.current_iteration()
        text = booster.model_to_string(num_iteration=used)
        return LightGBMEstimator(
            text,
            train.rows.num_columns,
            num_classes,
            target,
            {**params, "rounds": max(1, used)},
            base,
        )

    def load_estimator(self, folder: Path) -> LightGBMEstimator:
        """Read `model.txt` and `estimator.json`; imports nothing."""
        return LightGBMEstimator.load(folder)

    def versions(self) -> dict[str, str]:
        """LightGBM's version."""
        return {"lightgbm": importlib.metadata.version("lightgbm")}


class _Glance:
    """Tells a fit's rungs what it predicts of the held-out rows; LightGBM has that at hand."""

    def __init__(self, rung: Rung, params: Params, num_classes: int, target: Target) -> None:
        self._rung, self._rungs = rung, Rungs(params["learning_rate"])
        self._num_classes, self._target = num_classes, target
        self._scores: Floats = np.empty(0)

    def look(self, scores: Floats, data: Any) -> list[Any]:
        """As a metric of LightGBM's that gives no number: it is shown the scores each round."""
        del data
        self._scores = scores
        return []

    def tell(self, state: Any) -> None:
        """As a callback, after each round."""
        number = self._rungs.at(state.iteration + 1)
        if number is not None:
            raw = self._scores.reshape(self._scores.shape[0], -1)
            target = self._target
            self._rung(number, finished(raw, self._num_classes, target.offset, target.scale).copy())


def _has_splits(dataset: Any, num_columns: int) -> bool:
    """Whether any column can part the rows; LightGBM does not train on others by our gradient."""
    dataset.construct()
    return any(dataset.feature_num_bin(place) > 0 for place in range(num_columns))


def _plain_goal(part: Matrix, target: Target) -> dict[str, Any]:
    """Label and weight of rows with one answer each."""
    return {"label": target.scaled(part.target), "weight": part.weight}


def _native_settings(
    params: Params, task: Task, num_classes: int, context: FitContext
) -> dict[str, Any]:
    objective = {
        "auto": "none" if task == "multilabel" else task,
        "mae": "regression_l1",
        "huber": "huber",
        "poisson": "poisson",
    }[str(params.get("objective", "auto"))]
    if task == "multiclass" and num_classes <= 2:
        objective, num_classes = "binary", 2
    return {
        "objective": objective,
        "num_class": num_classes if objective in ("multiclass", "none") else 1,
        "learning_rate": params["learning_rate"],
        "num_leaves": params["num_leaves"],
        "max_depth": params["max_depth"],
        "min_data_in_leaf": params["min_child_samples"],
        "lambda_l2": params["l2"],
        "feature_fraction": params["column_share"],
        "bagging_fraction": params["row_share"],
        "bagging_freq": 1 if params["row_share"] < 1 else 0,
        "max_bin": params["max_bin"],
        "cat_smooth": params["cat_smooth"],
        "seed": child_seed(context.seed, "lightgbm"),
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": context.threads,
        "verbosity": -1,
    }


def at_least_one_column(values: Floats) -> Floats:
    """A matrix that a library takes: one column of zeros where there is none."""
    return values if values.shape[1] else np.zeros((values.shape[0], 1))


def _data(rows: Rows, settings: Mapping[str, Any], *, sampled: bool) -> Any:
    """Rows as LightGBM takes them: a matrix, or blocks where the matrix would weigh.

    LightGBM keeps one byte a cell, so the matrix (8 bytes) would only be needed for a moment. It
    chooses bins from a sample of single rows, then asks for all rows in blocks; the model is the
    same to the byte.

    Args:
        rows: the rows.
        settings: LightGBM's parameters.
        sampled: whether single rows will be asked for (not when the bins are known).
    """
    if rows.num_rows <= _SAMPLE_ROWS:
        return at_least_one_column(rows.matrix())
    sample = _sample_of(rows.num_rows, settings) if sampled else np.empty(0, dtype=np.int32)
    return _training_types()[1](rows, sample)


@functools.cache
def _training_types() -> tuple[Any, Any]:
    """Subclasses of LightGBM's `Dataset` and `Sequence`.

    Made once: a class made in each fit would keep its closure, the whole table, until the garbage
    collector came by.
    """
    import lightgbm

    class Dataset(lightgbm.Dataset):  # type: ignore[misc]  # untyped library
        """Reads blocks with all parameters: without them the seed would not choose the bins."""

        def get_params(self) -> dict[str, Any]:
            """Every parameter that was given, not only those of the data."""
            return dict(self.params)

        @staticmethod
        def _yield_row_from_seqlist(seqs: Any, indices: Any) -> Floats:
            """The sample at once: asked for row by row, 200,000 rows take a quarter of a second."""
            drawn: Floats = seqs[0].drawn(np.asarray(indices))
            return drawn

    class Blocks(lightgbm.Sequence):  # type: ignore[misc]  # untyped library
        """The sampled rows, and blocks."""

        batch_size = BLOCK_ROWS

        def __init__(self, rows: Rows, sample: NDArray[np.int32]) -> None:
            self._rows, self._sample = rows, sample
            self._drawn = at_least_one_column(rows.take(sample))

        def __len__(self) -> int:
            return self._rows.num_rows

        def __getitem__(self, index: Any) -> Floats:
            if isinstance(index, slice):
                return at_least_one_column(self._rows.block(index.start, index.stop))
            row: Floats = at_least_one_column(self._rows.take(np.array([index])))[0]
            return row

        def drawn(self, indices: NDArray[np.int64]) -> Floats:
            """Some rows, (rows, columns); those of the sample are at hand, and let go."""
            drawn, self._drawn = self._drawn, np.empty((0, 0))
            if drawn.size and np.array_equal(indices, self._sample):
                return drawn
            return at_least_one_column(self._rows.take(indices))

    return Dataset, Blocks


def _sample_of(num_rows: int, settings: Mapping[str, Any]) -> NDArray[np.int32]:
    """The rows from which LightGBM will choose the bins, in their order."""
    sample, count = np.empty(_SAMPLE_ROWS, dtype=np.int32), ctypes.c_int32()
    library = lightgbm_library()
    status = library.LGBM_SampleIndices(
        ctypes.c_int32(num_rows),
        f"seed={settings['seed']}".encode(),
        ctypes.c_void_p(sample.ctypes.data),
        ctypes.byref(count),
    )
    if status:
        raise LooplineError(f"LightGBM drew no sample: {library.LGBM_GetLastError().decode()}")
    return sample[: count.value]
