"""CatBoost's symmetric trees as ONNX nodes, categories included.

All splits are comparisons of 32-bit floats: of a number, of "the category is this one", or of a
target statistic of a category or of several things together. Statistics are looked up by the hash
under which the model keeps them, made with whole numbers of 64 bits that wrap around. A tree's
splits, read as bits, are the number of its leaf.

Sources: Prokhorenkova et al. 2018 for the statistics, (good + prior) / (all + prior's weight), and
CatBoost's JSON form of a model for where they are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.errors import InputError
from loopline.models.catboost_library import catboost_order, describe_catboost
from loopline.models.portable import SINGLE_LIMIT, Portable
from loopline.release.exports.onnx_graph import Graph

Single = NDArray[np.float32]
_FACTOR = 0x4906BA494954CB65
"""What CatBoost multiplies with when it hashes several numbers to one."""
_WRAP = 2**64
_COUNTERS = ("Counter", "FeatureFreq")


@dataclass
class _Splits:
    """What trees compare, gathered from parts: the tensor's columns, and each split's column."""

    parts: list[str] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    borders: list[float] = field(default_factory=list)
    width: int = 0

    def add(self, part: str, borders: Sequence[Sequence[float]]) -> None:
        """Add columns (rows, len(borders)) and the borders of each."""
        self.parts.append(part)
        for column, its in enumerate(borders):
            self.columns += [self.width + column] * len(its)
            self.borders += its
        self.width += len(borders)


def add_catboost(
    graph: Graph, portable: Portable, matrix: str, most: Sequence[float]
) -> tuple[str, int]:
    """Add trees of CatBoost; gives their raw scores, (rows, scores), and how many there are a row.

    Args:
        graph: where nodes are added.
        portable: the model.
        matrix: numbers, double (rows, columns).
        most: the largest number that each column holds where it holds codes of levels.

    Raises:
        InputError: a kind of statistic that is not known here; names it.
    """
    categorical = portable.data["categorical"]
    codes = np.arange(-1, 1 + max((int(most[place]) for place in categorical), default=-1))
    facts = json.loads(
        describe_catboost(portable.files[portable.data["file"]], len(most), categorical, codes)
    )
    features = facts["features_info"]
    order = catboost_order(len(most), categorical)
    splits = _Splits()
    numbers = _numbers(graph, features.get("float_features") or [], order, matrix)
    if numbers:
        splits.add(numbers, [each["borders"] or [] for each in features["float_features"]])
    categories = _Categories(graph, features, order, matrix, codes)
    categories.add_levels(splits)
    categories.add_statistics(splits, numbers, facts.get("ctr_data") or {})
    return _leaves(graph, splits, facts), len(facts["scale_and_bias"][1])


def _numbers(
    graph: Graph, features: Sequence[Mapping[str, Any]], order: Sequence[int], matrix: str
) -> str:
    """Columns of numbers as 32-bit floats, a missing cell where CatBoost's comparisons put it."""
    if not features:
        return ""
    places = [order[each["flat_feature_index"]] for each in features]
    chosen = graph.add("Gather", matrix, graph.constant(places, np.int64), axis=1)
    low, high = graph.constant(-SINGLE_LIMIT), graph.constant(SINGLE_LIMIT)
    single = graph.cast(graph.add("Min", graph.add("Max", chosen, low), high), "float")
    above = [each["nan_value_treatment"] == "AsTrue" for each in features]
    instead = np.where(above, np.inf, -np.inf)
    missing = graph.add("IsNaN", chosen)
    return graph.add("Where", missing, graph.constant(instead, np.float32), single)


class _Categories:
    """What splits ask of categories.

    Args:
        graph: where nodes are added.
        features: `features_info` of the model.
        order: the matrix column of each of CatBoost's.
        matrix: numbers, double (rows, columns).
        codes: all codes that a category may have, -1 for a missing one first.
    """

    def __init__(
        self,
        graph: Graph,
        features: Mapping[str, Any],
        order: Sequence[int],
        matrix: str,
        codes: NDArray[np.int64],
    ) -> None:
        self._graph = graph
        self._features = features
        self._order = order
        self._matrix = matrix
        known = {each["value"]: int(each["hash"]) for each in features.get("cat_features_hash", ())}
        signed = [_signed(known[str(code)], 32) for code in codes.tolist()] if known else []
        self._hashes = signed
        self._indexes: dict[int, str] = {}

    def add_levels(self, splits: _Splits) -> None:
        """Add columns that say whether a category is a certain one."""
        for each in self._features.get("categorical_features") or []:
            wanted = each.get("values") or []
            if wanted:
                table = np.array([[found == one for one in wanted] for found in self._hashes])
                index = self._index(each["feature_index"])
                splits.add(_looked_up(self._graph, table, index), [[0.5]] * len(wanted))

    def add_statistics(self, splits: _Splits, numbers: str, kept: Mapping[str, Any]) -> None:
        """Add columns of target statistics, those of the same things together."""
        hashes: dict[str, str] = {}
        for each in self._features.get("ctrs") or []:
            things = json.dumps(each["elements"])
            if things not in hashes:
                hashes[things] = self._hashed(each["elements"], numbers)
            data = kept[each["identifier"]]
            rows = np.array(data["hash_map"]).reshape(-1, data["hash_stride"])
            place = self._place(hashes[things], [_signed(int(one), 64) for one in rows[:, 0]])
            table = _statistics(each, data, rows[:, 1:].astype(np.float32))
            splits.add(_looked_up(self._graph, table[:, None], place), [each["borders"]])

    def _place(self, hashes: str, keys: Sequence[int]) -> str:
        """Places of hashes among those that are kept, behind the last for others."""
        return self._graph.once(
            (hashes, *keys), lambda: self._graph.encode(hashes, keys, range(len(keys)), len(keys))
        )

    def _index(self, feature: int) -> str:
        """Codes as places in `codes`, int64 (rows, 1)."""
        if feature not in self._indexes:
            graph = self._graph
            flat = self._features["categorical_features"][feature]["flat_feature_index"]
            place = graph.constant([self._order[flat]], np.int64)
            code = graph.add("Gather", self._matrix, place, axis=1)
            missing = graph.add("IsNaN", code)
            code = graph.add("Where", missing, graph.constant([[-1.0]]), code)
            up = graph.add("Add", graph.cast(code, "int64"), graph.constant([[1]], np.int64))
            self._indexes[feature] = up
        return self._indexes[feature]

    def _hashed(self, elements: Sequence[Mapping[str, Any]], numbers: str) -> str:
        """The hash of several things, int64 (rows, 1)."""
        graph = self._graph
        factor = graph.constant([[_signed(_FACTOR, 64)]], np.int64)
        total = ""
        for element in elements:
            term = self._term(element, numbers)
            total = graph.add("Mul", factor, graph.add("Add", total, term) if total else term)
        return total

    def _term(self, element: Mapping[str, Any], numbers: str) -> str:
        """A thing's part of a hash: its own, times the factor."""
        graph = self._graph
        kind = element["combination_element"]
        if kind == "float_feature":
            places = self._features["float_features"]
            (at,) = [
                place
                for place, each in enumerate(places)
                if each["feature_index"] == element["float_feature_index"]
            ]
            cell = graph.add("Gather", numbers, graph.constant([at], np.int64), axis=1)
            border = graph.constant(element["border"], np.float32)
            bit = graph.cast(graph.add("Greater", cell, border), "int64")
            return graph.add("Mul", bit, graph.constant(_signed(_FACTOR, 64), np.int64))
        own = self._hashes
        if kind == "cat_feature_exact_value":
            own = [int(found == element["value"]) for found in self._hashes]
        table = np.array([_signed(_FACTOR * each % _WRAP, 64) for each in own])
        index = self._index(element["cat_feature_index"])
        return graph.add("Gather", graph.constant(table, np.int64), index)


def _statistics(told: Mapping[str, Any], data: Mapping[str, Any], counts: Single) -> Single:
    """The statistic of each kept hash and, last, of one that is not kept."""
    kind, border = told["ctr_type"], told["target_border_idx"]
    counts = np.vstack([counts, np.zeros_like(counts[:1], shape=(1, counts.shape[1]))])
    if kind in _COUNTERS:
        good = counts[:, 0]
        total = np.full_like(good, data["counter_denominator"])
    elif kind in ("Borders", "Buckets"):
        good = counts[:, border] if kind == "Buckets" else counts[:, border + 1 :].sum(axis=1)
        total = counts.sum(axis=1)
    else:
        raise InputError(
            f"ONNX cannot express CatBoost's statistic {kind!r} of categories. Export `--to "
            "folder`, which answers as the release does, or `--to docker`."
        )
    prior, weight = np.float32(told["prior_numerator"]), np.float32(told["prior_denomerator"])
    shift, scale = np.float32(told["shift"]), np.float32(told["scale"])
    return np.asarray(((good + prior) / (total + weight) + shift) * scale, dtype=np.float32)


def _looked_up(graph: Graph, table: NDArray[Any], index: str) -> str:
    """Rows of a table as 32-bit floats, (rows, columns)."""
    found = graph.add("Gather", graph.constant(table, np.float32), index, axis=0)
    return graph.add("Squeeze", found, graph.constant([1], np.int64))


def _leaves(graph: Graph, splits: _Splits, facts: Mapping[str, Any]) -> str:
    """Sums of the leaves that rows fall into, (rows, scores)."""
    trees, (scale, bias) = facts["oblivious_trees"], facts["scale_and_bias"]
    depth = max(len(tree["splits"] or ()) for tree in trees)
    columns = np.zeros((len(trees), depth), dtype=np.int64)
    borders = np.full((len(trees), depth), np.inf, dtype=np.float32)
    for number, tree in enumerate(trees):
        chosen = [split["split_index"] for split in tree["splits"] or ()]
        columns[number, : len(chosen)] = [splits.columns[each] for each in chosen]
        borders[number, : len(chosen)] = [splits.borders[each] for each in chosen]
    leaves = [np.reshape(tree["leaf_values"], (-1, len(bias))) for tree in trees]
    starts = np.cumsum([0, *map(len, leaves[:-1])])
    cells = graph.add("Concat", *splits.parts, axis=1)
    cells = graph.add("Gather", cells, graph.constant(columns.ravel(), np.int64), axis=1)
    passed = graph.add("Greater", cells, graph.constant(borders.ravel(), np.float32))
    shape = graph.constant([-1, len(trees), depth], np.int64)
    bits = graph.add("Reshape", graph.cast(passed, "int64"), shape)
    bits = graph.add("Mul", bits, graph.constant(2 ** np.arange(depth), np.int64))
    leaf = graph.add("ReduceSum", bits, graph.constant([2], np.int64), keepdims=0)
    leaf = graph.add("Add", leaf, graph.constant(starts, np.int64))
    found = graph.add("Gather", graph.constant(np.concatenate(leaves)), leaf, axis=0)
    total = graph.add("ReduceSum", found, graph.constant([1], np.int64), keepdims=0)
    return graph.add(
        "Add", graph.add("Mul", total, graph.constant(float(scale))), graph.constant([bias])
    )


def _signed(number: int, bits: int) -> int:
    """A number of so many bits as one with a sign."""
    number %= 1 << bits
    return number - (1 << bits) if number >> (bits - 1) else number
