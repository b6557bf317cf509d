"""Gradient-boosted trees by XGBoost (extra `loopline[xgboost]`).

Source: Chen and Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016. Scores are taken as
margins and turned into probabilities in 64 bits. Models are stored as UBJ, XGBoost's own format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from loopline.data.schema import Task
from loopline.errors import LooplineError
from loopline.models.base import FitContext, Params
from loopline.models.boosting import (
    BOOSTING_RULES,
    BoostedFamily,
    Rungs,
    boosting_defaults,
    boosting_space,
    settle_rounds,
)
from loopline.models.library import require_library
from loopline.models.parameters import Rule
from loopline.models.space import DataFacts, Integer, Number, Space
from loopline.models.table import Matrix
from loopline.models.xgboost_library import XGBoostTrees, read_xgboost
from loopline.seeds import child_seed


class XGBoost(BoostedFamily):
    """Boosted trees of limited depth, with native categories and missing values."""

    name = "xgboost"
    complexity = 21
    packages = ("xgboost",)
    has_rungs = True
    file_name = "model.ubj"
    rules: ClassVar[Mapping[str, Rule]] = {
        **BOOSTING_RULES,
        "max_depth": Rule("integer", low=1, high=100),
        "min_child_weight": Rule("number", low=0.0),
        "max_bin": Rule("integer", low=2, high=65_535),
        "objective": Rule("choice", words=("auto", "mae", "huber", "poisson")),
    }

    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """Rounds, depth, regularisation, sampling; `objective` for regression."""
        del num_rows
        return {
            **boosting_defaults(task),
            "l2": 1.0,
            "max_depth": 6,
            "min_child_weight": 1.0,
            "max_bin": 256,
        }

    def space(self, facts: DataFacts) -> Space:
        """Rate, depth, regularisation, sampling."""
        return {
            **boosting_space(facts),
            "max_depth": Integer(2, 10 if facts.num_rows >= 5_000 else 7),
            "min_child_weight": Number(0.1, max(2.0, min(200.0, facts.num_rows / 20)), log=True),
        }

    def grow(
        self,
        train: Matrix,
        valid: Matrix | None,
        *,
        task: Task,
        num_classes: int,
        params: Params,
        context: FitContext,
    ) -> tuple[XGBoostTrees, int]:
        """Train with the histogram method."""
        import xgboost

        rungs = Rungs(params["learning_rate"])

        class Advance(xgboost.callback.TrainingCallback):  # type: ignore[misc]  # untyped library
            """Tell the reporter of each round, and of the rungs who asked for them."""

            def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
                """Go on in any case."""
                del evals_log
                step.advance()
                number = rungs.at(epoch + 1)
                if context.rung is not None and number is not None:
                    scores = model.predict(watched[0][0], output_margin=True)
                    context.rung(number, scores.astype(np.float64).reshape(scores.shape[0], -1))
                return False

        types = ["c" if output.levels else "q" for output in train.outputs] or ["q"]

        def matrix(part: Matrix) -> Any:
            return xgboost.QuantileDMatrix(
                part.values,
                label=part.target,
                weight=part.weight,
                feature_names=[f"f{position}" for position in range(len(types))],
                feature_types=types,
                enable_categorical=True,
                max_bin=params["max_bin"],
                nthread=context.threads,
                ref=None if part is train else trained,
            )

        rounds, patience = settle_rounds(params, has_valid=valid is not None)
        settings = _native_settings(params, task, num_classes, context)
        try:
            trained = matrix(train)
            watched = [] if valid is None else [(matrix(valid), "valid")]
            with context.reporter.step("xgboost", total=rounds) as step:
                booster = xgboost.train(
                    settings,
                    trained,
                    rounds,
                    evals=watched,
                    early_stopping_rounds=None if valid is None else patience,
                    verbose_eval=False,
                    callbacks=[Advance()],
                )
        except xgboost.core.XGBoostError as error:
            raise LooplineError(
                f"XGBoost could not train on {train.values.shape[0]} rows × "
                f"{train.values.shape[1]} columns with {dict(params)}: {error}"
            ) from error
        used = rounds if valid is None else booster.best_iteration + 1
        return XGBoostTrees(booster[:used]), used

    def read_trees(self, data: bytes, categorical: Sequence[int]) -> XGBoostTrees:
        """Read UBJ bytes; the file knows its categorical columns."""
        del categorical
        return read_xgboost(data)

    def versions(self) -> dict[str, str]:
        """XGBoost's version."""
        require_library(self.name)
        import xgboost

        return {"xgboost": str(xgboost.__version__)}


def _native_settings(
    params: Params, task: Task, num_classes: int, context: FitContext
) -> dict[str, Any]:
    regression = {
        "auto": "reg:squarederror",
        "mae": "reg:absoluteerror",
        "huber": "reg:pseudohubererror",
        "poisson": "count:poisson",
    }
    settings = {
        "objective": regression[str(params.get("objective", "auto"))],
        "learning_rate": params["learning_rate"],
        "max_depth": params["max_depth"],
        "min_child_weight": params["min_child_weight"],
        "reg_lambda": params["l2"],
        "subsample": params["row_share"],
        "colsample_bytree": params["column_share"],
        "max_bin": params["max_bin"],
        "tree_method": "hist",
        "seed": child_seed(context.seed, "xgboost"),
        "nthread": context.threads,
        "verbosity": 0,
    }
    if task == "binary":
        settings["objective"] = "binary:logistic"
    elif task == "multiclass":
        settings.update(objective="multi:softprob", num_class=num_classes)
    return settings
