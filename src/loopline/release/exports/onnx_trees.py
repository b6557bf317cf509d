"""Boosted trees as one ONNX `TreeEnsemble` in doubles.

The operator of ai.onnx.ml 5 compares doubles with doubles and tests membership of sets, so each row
falls into the leaf into which LightGBM lets it fall. XGBoost compares 32-bit floats: the matrix is
rounded to them first, and its thresholds are given as the doubles that they are.

Sources: `Tree::NumericalDecision` and `Tree::CategoricalDecision` of LightGBM (missing cells that
training never saw count as 0); the JSON model format of XGBoost.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loopline.errors import InputError
from loopline.release.exports.onnx_graph import Graph, tensor

LEQ, LESS, MEMBER = 0, 1, 6
"""ONNX's numbers for "at most", "less than" and "one of"."""
_CATEGORICAL, _DEFAULT_LEFT, _NAN_TYPE = 1, 2, 8


@dataclass
class Trees:
    """Nodes and leaves of all trees, as ONNX lists them."""

    roots: list[int] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    missing_true: list[int] = field(default_factory=list)
    true_ids: list[int] = field(default_factory=list)
    true_leafs: list[int] = field(default_factory=list)
    false_ids: list[int] = field(default_factory=list)
    false_leafs: list[int] = field(default_factory=list)
    members: list[float] = field(default_factory=list)
    leaf_targets: list[int] = field(default_factory=list)
    leaf_weights: list[float] = field(default_factory=list)

    def leaf(self, target: int, weight: float) -> int:
        """Add a leaf; its number."""
        self.leaf_targets.append(target)
        self.leaf_weights.append(weight)
        return len(self.leaf_weights) - 1

    def node(self, feature: int, split: float | Sequence[float], *, mode: int, nan: bool) -> int:
        """Add a node whose branches are set later; a set of members ends with NaN."""
        self.features.append(feature)
        self.modes.append(mode)
        self.missing_true.append(int(nan))
        if isinstance(split, float):
            self.splits.append(split)
        else:
            self.splits.append(0.0)
            self.members += [*split, math.nan]
        for branches in (self.true_ids, self.true_leafs, self.false_ids, self.false_leafs):
            branches.append(0)
        return len(self.features) - 1

    def connect(self, node: int, true: tuple[int, bool], false: tuple[int, bool]) -> None:
        """Set the branches of a node: a number, and whether it is that of a leaf."""
        self.true_ids[node], self.true_leafs[node] = true[0], int(true[1])
        self.false_ids[node], self.false_leafs[node] = false[0], int(false[1])

    def single(self, target: int, weight: float) -> None:
        """A tree of one leaf: a node whose branches are the same leaf."""
        leaf = self.leaf(target, weight)
        node = self.node(0, 0.0, mode=LEQ, nan=False)
        self.connect(node, (leaf, True), (leaf, True))
        self.roots.append(node)

    def add_to(self, graph: Graph, matrix: str, num_targets: int) -> str:
        """Sums of leaves, (rows, targets)."""
        attributes: dict[str, Any] = {
            "n_targets": num_targets,
            "aggregate_function": 1,
            "post_transform": 0,
            "tree_roots": self.roots,
            "nodes_featureids": self.features,
            "nodes_modes": tensor(self.modes, np.uint8),
            "nodes_splits": tensor(self.splits, np.float64),
            "nodes_missing_value_tracks_true": self.missing_true,
            "nodes_truenodeids": self.true_ids,
            "nodes_trueleafs": self.true_leafs,
            "nodes_falsenodeids": self.false_ids,
            "nodes_falseleafs": self.false_leafs,
            "leaf_targetids": self.leaf_targets,
            "leaf_weights": tensor(self.leaf_weights, np.float64),
        }
        if self.members:
            attributes["membership_values"] = tensor(self.members, np.float64)
        return graph.add("TreeEnsemble", matrix, domain="ai.onnx.ml", **attributes)


def lightgbm_trees(text: str, num_targets: int) -> Trees:
    """The trees of a model in LightGBM's text format."""
    trees = Trees()
    for number, block in enumerate(text.split("\nTree=")[1:]):
        facts = dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        if int(facts.get("is_linear", "0")):
            raise InputError("ONNX cannot express LightGBM's linear trees. Use `--to folder`.")
        _add_lightgbm_tree(trees, facts, number % num_targets)
    return trees


def _add_lightgbm_tree(trees: Trees, facts: Mapping[str, str], target: int) -> None:
    leaves = [float(value) for value in facts["leaf_value"].split()]
    if len(leaves) == 1:
        trees.single(target, leaves[0])
        return
    first_leaf = len(trees.leaf_weights)
    for weight in leaves:
        trees.leaf(target, weight)
    kinds = [int(kind) for kind in facts["decision_type"].split()]
    thresholds = [float(value) for value in facts["threshold"].split()]
    first = len(trees.features)
    for kind, feature, threshold in zip(
        kinds, facts["split_feature"].split(), thresholds, strict=True
    ):
        if kind & _CATEGORICAL:
            trees.node(int(feature), _members(facts, int(threshold)), mode=MEMBER, nan=False)
            continue
        left = bool(kind & _DEFAULT_LEFT) if kind & _NAN_TYPE else threshold >= 0.0
        trees.node(int(feature), threshold, mode=LEQ, nan=left)
    branches = zip(facts["left_child"].split(), facts["right_child"].split(), strict=True)
    for place, (left_child, right_child) in enumerate(branches):
        ends = [
            (first + child, False) if child >= 0 else (first_leaf - child - 1, True)
            for child in (int(left_child), int(right_child))
        ]
        trees.connect(first + place, *ends)
    trees.roots.append(first)


def _members(facts: Mapping[str, str], number: int) -> list[float]:
    """The codes in the number-th bit set of a tree."""
    bounds = [int(value) for value in facts["cat_boundaries"].split()]
    words = [int(value) for value in facts["cat_threshold"].split()]
    chosen = words[bounds[number] : bounds[number + 1]]
    return [
        float(32 * place + bit)
        for place, word in enumerate(chosen)
        for bit in range(32)
        if word >> bit & 1
    ]


def xgboost_trees(data: bytes) -> tuple[Trees, np.ndarray[Any, np.dtype[np.float64]]]:
    """The trees of a model in XGBoost's UBJ format, and the margins before the first of them."""
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(bytearray(data))
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    model = learner["gradient_booster"]["model"]
    trees = Trees()
    for tree, target in zip(model["trees"], model["tree_info"], strict=True):
        _add_xgboost_tree(trees, tree, int(target))
    return trees, _base_margins(learner)


def _base_margins(learner: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    facts = learner["learner_model_param"]
    given = json.loads(facts["base_score"]) if "[" in facts["base_score"] else facts["base_score"]
    base = np.atleast_1d(np.asarray(given, dtype=np.float64))
    objective = learner["objective"]["name"]
    if objective.startswith("binary:"):
        base = np.log(base / (1.0 - base))
    elif objective == "count:poisson":
        base = np.log(base)
    classes = max(1, int(facts["num_class"]))
    return base if len(base) == classes else np.repeat(base, classes)


def _add_xgboost_tree(trees: Trees, tree: Mapping[str, Any], target: int) -> None:
    left, right = tree["left_children"], tree["right_children"]
    if left[0] == -1:
        trees.single(target, _single(tree["split_conditions"][0]))
        return
    sets = {
        node: tree["categories"][start : start + size]
        for node, start, size in zip(
            tree["categories_nodes"],
            tree["categories_segments"],
            tree["categories_sizes"],
            strict=True,
        )
    }
    numbers: dict[int, tuple[int, bool]] = {}
    for place, child in enumerate(left):
        split = _single(tree["split_conditions"][place])
        if child == -1:
            numbers[place] = trees.leaf(target, split), True
            continue
        goes_left = bool(tree["default_left"][place])
        feature = int(tree["split_indices"][place])
        if place in sets:  # members of the set go right
            members = [float(code) for code in sets[place]]
            node = trees.node(feature, members, mode=MEMBER, nan=not goes_left)
        else:
            node = trees.node(feature, split, mode=LESS, nan=goes_left)
        numbers[place] = node, False
    for place, child in enumerate(left):
        if child != -1:
            ends = numbers[child], numbers[right[place]]
            node = numbers[place][0]
            trees.connect(node, *(reversed(ends) if place in sets else ends))
    trees.roots.append(numbers[0][0])


def _single(number: float) -> float:
    """The 32-bit float that XGBoost's JSON spells with as few digits as tell it."""
    return float(np.float32(number))
