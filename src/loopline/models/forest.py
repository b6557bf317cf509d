"""Forests: the mean of many deep trees, each grown with chance in it.

A forest errs in other places than boosted trees do, so that the two make a good blend: beside a
linear model and three kinds of boosted trees it made the error of two public tables of 800 and
5,200 rows 5 and 0.7 % smaller and the AUC of one of 700 rows 0.012 larger, out of fold; it brought
nothing on three others and did harm on one of 33 people (`benchmarks/members.py`). scikit-learn
grows the trees; they are stored in LightGBM's text format and answer through its library, which
reads a row in microseconds.

Sources: Geurts, Ernst and Wehenkel, "Extremely randomized trees", 2006; Breiman, "Random forests",
2001.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from loopline.data.schema import Task
from loopline.models.base import FitContext, Floats, Params
from loopline.models.boosting import Target, threads_for
from loopline.models.lightgbm import LightGBMEstimator, at_least_one_column
from loopline.models.parameters import Rule
from loopline.models.space import Choice, DataFacts, Integer, Number, Space
from loopline.models.table import Matrix, TableFamily
from loopline.seeds import child_seed

_AT_A_TIME = 20
"""Trees between two looks at the clock."""
_ROWS_A_LEAF = 2_000
"""A leaf holds one more row for so many training rows: a tree has 2,000 leaves at most or so."""
_LARGEST = 1e30
"""scikit-learn adds up columns as 32-bit floats; larger numbers are one to the trees."""
_HEAD = """tree
version=v4
num_class={classes}
num_tree_per_iteration={classes}
label_index=0
max_feature_idx={last}
feature_names={names}
feature_infos={infos}
"""
_MISSING_IS_NAN, _MISSING_GOES_LEFT = 8, 2
"""Bits of a split's `decision_type`."""


class ForestEstimator(LightGBMEstimator):
    """Trees whose sum is a value, or the share of each class."""

    def contributions(self, values: Floats) -> Floats | None:
        """TreeSHAP values of each column, (rows, columns); None for classes: no log odds add up."""
        return None if self._num_classes else super().contributions(values)


class Forest(TableFamily):
    """The mean of many deep trees, of which each is grown with chance in it."""

    name = "forest"
    complexity = 23
    recipe = "trees"
    rules: ClassVar[Mapping[str, Rule]] = {
        "kind": Rule("choice", words=("extra_trees", "random_forest")),
        "trees": Rule("integer", low=1, high=10_000),
        "min_samples_leaf": Rule("integer", low=1),
        "column_share": Rule("number", low=0.0, above_low=True, high=1.0, words=("auto",)),
    }

    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """Extremely randomized trees; leaves grow with the table, so that the trees do not.

        `extra_trees` draws the place of each split, `random_forest` takes the best place on rows
        drawn with replacement. `column_share` is the share of columns that a split may choose
        among; "auto" is all of them for values and the square root of their number for classes.
        """
        least = 1 if task == "regression" else 5
        return {
            "kind": "extra_trees",
            "trees": 200,
            "min_samples_leaf": max(least, -(-num_rows // _ROWS_A_LEAF)),
            "column_share": "auto",
        }

    def space(self, facts: DataFacts) -> Space:
        """Kind, size of the leaves, share of columns; more trees are never worse."""
        least = max(1, facts.num_rows // (2 * _ROWS_A_LEAF))
        columns = {"column_share": Number(0.2, 1.0)} if facts.num_columns >= 3 else {}
        return {
            "kind": Choice(("extra_trees", "random_forest")),
            "min_samples_leaf": Integer(least, max(least + 4, min(100, facts.num_rows // 20))),
            **columns,
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
    ) -> ForestEstimator:
        """Grow the trees, some at a time."""
        del valid
        values = at_least_one_column(np.clip(train.values, -_LARGEST, _LARGEST))
        target = Target.of(task, "auto", train)
        goal = train.target if num_classes else target.scaled(train.target)
        grown = _forest(params, task, values.shape[1], context, values.size)
        with context.reporter.step("forest", total=params["trees"]) as step:
            for count in range(0, params["trees"], _AT_A_TIME):
                grown.n_estimators = min(params["trees"], count + _AT_A_TIME)
                grown.fit(values, goal, sample_weight=train.weight)
                step.advance(grown.n_estimators - count)
        present = grown.classes_.tolist() if num_classes else []
        trees = [tree.tree_ for tree in grown.estimators_]
        text = _text(trees, values.shape[1], num_classes, present)
        return ForestEstimator(text, train.rows.num_columns, num_classes, target, params)

    def load_estimator(self, folder: Path) -> ForestEstimator:
        """Read `model.txt` and `estimator.json`; imports nothing."""
        return ForestEstimator.load(folder)

    def versions(self) -> dict[str, str]:
        """The versions of what grows the trees and of what reads them."""
        return {name: importlib.metadata.version(name) for name in ("scikit-learn", "lightgbm")}


def _forest(params: Params, task: Task, num_columns: int, context: FitContext, cells: int) -> Any:
    from sklearn import ensemble

    share: Any = params["column_share"]
    if share == "auto":
        share = 1.0 if task == "regression" else 1 / np.sqrt(num_columns)
    drawn = params["kind"] == "extra_trees"
    name = ("ExtraTrees" if drawn else "RandomForest") + (
        "Regressor" if task == "regression" else "Classifier"
    )
    return getattr(ensemble, name)(
        n_estimators=0,
        min_samples_leaf=params["min_samples_leaf"],
        max_features=max(1, round(share * num_columns)),
        bootstrap=not drawn,
        warm_start=True,
        n_jobs=threads_for(cells, context.threads),
        random_state=child_seed(context.seed, "forest") % 2**32,
    )


def _text(trees: Sequence[Any], num_columns: int, num_classes: int, present: Sequence[int]) -> str:
    """The trees in LightGBM's format, whose sum is the forest's mean.

    A forest of two classes answers with the share of the second, one of more with all shares.
    """
    outputs = list(range(num_classes)) if num_classes > 2 else [1] if num_classes else [0]
    parts = [
        _HEAD.format(
            classes=len(outputs),
            last=num_columns - 1,
            names=" ".join(f"f{place}" for place in range(num_columns)),
            infos=" ".join(["[-1e+300:1e+300]"] * num_columns),
        )
    ]
    # Rounding must not carry a sum of shares above 1.
    part = (1 - len(trees) * np.finfo(np.float64).eps) / len(trees)
    for number, tree in enumerate(trees):
        frame = _structure(tree)
        leaves = np.flatnonzero(tree.children_left < 0)
        for place, output in enumerate(outputs):
            values = _leaf_values(tree, leaves, output, present, num_classes)
            lines = [f"Tree={number * len(outputs) + place}", *frame]
            lines.append(f"leaf_value={_joined(part * values)}")
            parts.append("\n".join([*lines, "is_linear=0", "shrinkage=1", "", ""]))
    return "\n".join([*parts, "end of trees", ""])


def _leaf_values(
    tree: Any, leaves: NDArray[np.intp], output: int, present: Sequence[int], num_classes: int
) -> Floats:
    value = tree.value[leaves, 0, :]
    if not num_classes:
        return np.asarray(value[:, 0])
    if output not in present:
        return np.zeros(len(leaves))
    return np.asarray(value[:, present.index(output)] / value.sum(axis=1))


def _structure(tree: Any) -> list[str]:
    """All lines of a tree but those of its leaves' values."""
    left, right = tree.children_left, tree.children_right
    inner = np.flatnonzero(left >= 0)
    leaves = np.flatnonzero(left < 0)
    head = [f"num_leaves={len(leaves)}", "num_cat=0"]
    if not len(inner):
        return head
    place = np.empty(len(left), dtype=np.int64)
    place[inner] = np.arange(len(inner))
    place[leaves] = ~np.arange(len(leaves))
    weighed = tree.weighted_n_node_samples * tree.impurity
    gain = weighed[inner] - weighed[left[inner]] - weighed[right[inner]]
    goes_left = np.asarray(tree.missing_go_to_left, dtype=np.int64)[inner]
    lines = {
        "split_feature": tree.feature[inner],
        "split_gain": np.maximum(gain, 0.0),
        "threshold": tree.threshold[inner],
        "decision_type": _MISSING_IS_NAN + _MISSING_GOES_LEFT * goes_left,
        "left_child": place[left[inner]],
        "right_child": place[right[inner]],
        "leaf_count": tree.n_node_samples[leaves],
        "internal_count": tree.n_node_samples[inner],
    }
    return [*head, *(f"{name}={_joined(values)}" for name, values in lines.items())]


def _joined(values: NDArray[Any]) -> str:
    return " ".join(map(repr, values.tolist()))
