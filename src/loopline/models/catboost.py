"""Gradient-boosted symmetric trees by CatBoost (extra `loopline[catboost]`).

Source: Prokhorenkova et al., "CatBoost: unbiased boosting with categorical features", NeurIPS 2018.
Category codes reach CatBoost as categories, so its ordered target statistics apply. Models are
stored as CBM, CatBoost's own format, less the time and the random identifier that it adds.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from loopline.data.schema import Task
from loopline.errors import LooplineError
from loopline.models.base import FitContext, Params
from loopline.models.boosting import (
    BOOSTING_RULES,
    BoostedFamily,
    boosting_defaults,
    boosting_space,
    categorical_columns,
    settle_rounds,
)
from loopline.models.catboost_library import CatBoostTrees, catboost_features, read_catboost
from loopline.models.library import require_library
from loopline.models.parameters import Rule
from loopline.models.space import DataFacts, Integer, Number, Space
from loopline.models.table import Matrix
from loopline.seeds import child_seed

_KEPT_FACTS = ("params", "class_params", "catboost_version_info")


class CatBoost(BoostedFamily):
    """Boosted symmetric trees with ordered target statistics for categories."""

    name = "catboost"
    complexity = 22
    packages = ("catboost",)
    file_name = "model.cbm"
    rules: ClassVar[Mapping[str, Rule]] = {
        **BOOSTING_RULES,
        "depth": Rule("integer", low=1, high=16),
        "random_strength": Rule("number", low=0.0),
        "objective": Rule("choice", words=("auto", "mae", "huber", "poisson")),
    }

    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """Rounds, depth, regularisation, sampling; `objective` for regression."""
        del num_rows
        return {**boosting_defaults(task), "l2": 3.0, "depth": 6, "random_strength": 1.0}

    def space(self, facts: DataFacts) -> Space:
        """Rate, depth, regularisation, sampling, noise of the splits' scores."""
        return {
            **boosting_space(facts),
            "depth": Integer(3, 9 if facts.num_rows >= 5_000 else 7),
            "random_strength": Number(0.1, 10.0, log=True),
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
    ) -> tuple[CatBoostTrees, int]:
        """Train; writes no file and prints nothing."""
        import catboost

        categorical = categorical_columns(train)
        rounds, patience = settle_rounds(params, has_valid=valid is not None)

        def pool(part: Matrix) -> Any:
            return catboost.Pool(
                catboost_features(part.values, categorical), label=part.target, weight=part.weight
            )

        class Advance:
            """Tell the reporter of each round."""

            def after_iteration(self, info: Any) -> bool:
                """Go on in any case."""
                del info
                step.advance()
                return True

        model = catboost.CatBoost(_native_settings(params, task, num_classes, rounds, context))
        try:
            with context.reporter.step("catboost", total=rounds) as step:
                model.fit(
                    pool(train),
                    eval_set=None if valid is None else pool(valid),
                    use_best_model=valid is not None,
                    early_stopping_rounds=None if valid is None else patience,
                    callbacks=[Advance()],
                )
        except catboost.CatBoostError as error:
            raise LooplineError(
                f"CatBoost could not train on {train.values.shape[0]} rows × "
                f"{train.values.shape[1]} columns with {dict(params)}: {error}"
            ) from error
        facts = model.get_metadata()
        for name in [*facts.keys()]:
            if name not in _KEPT_FACTS:
                del facts[name]
        return CatBoostTrees(model, categorical), max(1, int(model.tree_count_))

    def read_trees(self, data: bytes, categorical: Sequence[int]) -> CatBoostTrees:
        """Read CBM bytes."""
        return read_catboost(data, categorical)

    def versions(self) -> dict[str, str]:
        """CatBoost's version."""
        require_library(self.name)
        return {"catboost": importlib.metadata.version("catboost")}


def _native_settings(
    params: Params, task: Task, num_classes: int, rounds: int, context: FitContext
) -> dict[str, Any]:
    regression = {"auto": "RMSE", "mae": "MAE", "huber": "Huber:delta=1.0", "poisson": "Poisson"}
    settings: dict[str, Any] = {
        "loss_function": regression[str(params.get("objective", "auto"))],
        "iterations": rounds,
        "learning_rate": params["learning_rate"],
        "depth": params["depth"],
        "l2_leaf_reg": params["l2"],
        "random_strength": params["random_strength"],
        "rsm": params["column_share"],
        "random_seed": child_seed(context.seed, "catboost"),
        "thread_count": context.threads,
        "allow_writing_files": False,
        "logging_level": "Silent",
    }
    if params["row_share"] < 1:
        settings.update(bootstrap_type="Bernoulli", subsample=params["row_share"])
    if task == "binary":
        settings["loss_function"] = "Logloss"
    elif task == "multiclass":
        settings.update(loss_function="MultiClass", classes_count=num_classes)
    return settings
