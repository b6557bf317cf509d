"""The table network in numpy: what `nets.mlp.TabularNet` answers, in doubles, without torch.

A network for tables is a dozen small matrices, so serving one needs no training engine. The layout
is that of `loopline.nets.mlp`, which trains it; an export is proved to answer alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.models.portable import Portable, Predictor, restored

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LIMIT = 10.0
"""Scaled numbers are held within ±10, so that one wild cell cannot throw a network off."""


@dataclass(frozen=True)
class Arrangement:
    """Which outputs of a feature graph are a network's numbers, and which its codes.

    Args:
        numbers: places of numbers among the outputs.
        codes: places of category codes.
        center: subtracted from each number, shape (numbers,).
        scale: what each centred number is divided by, shape (numbers,).
        values: distinct values, rising, of each output that has codes for them besides, by place.
    """

    numbers: Ints
    codes: Ints
    center: Floats
    scale: Floats
    values: Mapping[int, Floats] = field(default_factory=dict)

    def apply(self, matrix: Floats) -> tuple[NDArray[np.float32], Ints]:
        """Numbers (rows, numbers) and codes (rows, categories); what was never seen is 0."""
        numbers = (matrix[:, self.numbers] - self.center) / self.scale
        numbers = np.nan_to_num(numbers, nan=0.0)
        codes = np.nan_to_num(matrix[:, self.codes] + 1.0, nan=0.0)
        coded = [codes] + [
            codes_of(matrix[:, place], known)[:, None] for place, known in self.values.items()
        ]
        return (
            np.clip(numbers, -LIMIT, LIMIT).astype(np.float32),
            np.concatenate(coded, axis=1).astype(np.int64),
        )


def codes_of(cells: Floats, known: Floats) -> Ints:
    """The place of each cell among known values, from 1; 0 for a value that is not there.

    >>> codes_of(np.array([2.0, 3.0, np.nan]), np.array([1.0, 2.0])).tolist()
    [2, 0, 0]
    """
    places = np.minimum(np.searchsorted(known, cells), known.size - 1)
    return np.where(known[places] == cells, places + 1, 0)


def network_portable(
    arrangement: Arrangement,
    weights: Mapping[str, NDArray[Any]],
    *,
    num_classes: int,
    offset: float,
    scale: float,
) -> Portable:
    """A table network as plain data.

    Args:
        arrangement: its inputs.
        weights: its parameters by torch's names, exact as 32-bit floats.
        num_classes: number of classes, 0 for values.
        offset: of the scaled target.
        scale: of the scaled target.
    """
    arrays: dict[str, NDArray[Any]] = {
        "numbers": arrangement.numbers,
        "codes": arrangement.codes,
        "center": arrangement.center,
        "spread": arrangement.scale,
        **{f"net.{name}": np.asarray(value, np.float32) for name, value in weights.items()},
        **{f"values.{place}": known for place, known in arrangement.values.items()},
    }
    places = list(arrangement.values)
    data = {"num_classes": num_classes, "offset": offset, "scale": scale, "places": places}
    return Portable("network", data, arrays)


def arrangement_of(portable: Portable) -> Arrangement:
    """The inputs of a network that is plain data."""
    arrays = portable.arrays
    values = {place: arrays[f"values.{place}"] for place in portable.data["places"]}
    return Arrangement(
        arrays["numbers"], arrays["codes"], arrays["center"], arrays["spread"], values
    )


class Network:
    """A table network that answers.

    Args:
        portable: what `network_portable` made.
    """

    def __init__(self, portable: Portable) -> None:
        self._inputs = arrangement_of(portable)
        self._data = portable.data
        self.weights = network_weights(portable)
        self.depth = num_layers(self.weights)

    def predict(self, values: Floats) -> Floats:
        """Class probabilities (rows, classes) or values (rows,)."""
        numbers, codes = self._inputs.apply(values)
        scores = self._scores(numbers.astype(np.float64), codes)
        if not self._data["num_classes"]:
            means: Floats = scores[:, :, 0].mean(axis=1)
            return restored(means, self._data["offset"], self._data["scale"])
        raised = np.exp(scores - scores.max(axis=2, keepdims=True))
        shares = (raised / raised.sum(axis=2, keepdims=True)).mean(axis=1)
        found: Floats = shares / shares.sum(axis=1, keepdims=True)
        return found

    def predict_one(self, values: Floats) -> Floats:
        """One row."""
        return self.predict(values).reshape(-1)

    def _scores(self, numbers: Floats, codes: Ints) -> Floats:
        """Scores of shape (rows, members, outputs)."""
        net = self.weights
        hidden = self._embedded(numbers, codes)[:, None, :]
        for layer in range(self.depth):
            name = f"layers.{layer}"
            products = (hidden * net[f"{name}.before"]) @ net[f"{name}.weight"].T
            hidden = np.maximum(products * net[f"{name}.after"] + net[f"{name}.bias"], 0.0)
        scores: Floats = np.einsum("rmw,mwo->rmo", hidden, net["head.weight"]) + net["head.bias"]
        return scores

    def _embedded(self, numbers: Floats, codes: Ints) -> Floats:
        net, rows = self.weights, numbers.shape[0]
        parts = []
        if numbers.shape[1]:
            angles = 2.0 * math.pi * numbers[:, :, None] * net["numbers.frequency"]
            waves = np.cos(angles + net["numbers.phase"])
            seen = np.einsum("rnf,nfw->rnw", waves, net["numbers.weight"]) + net["numbers.bias"]
            both = np.concatenate([numbers[:, :, None], np.maximum(seen, 0.0)], axis=2)
            parts.append(both.reshape(rows, -1))
        parts += [
            net[f"categories.{place}.weight"][codes[:, place]] for place in range(codes.shape[1])
        ]
        if not parts:
            parts = [np.tile(net["constant"], (rows, 1))]
        return np.concatenate(parts, axis=1)


def network_weights(portable: Portable) -> dict[str, Floats]:
    """A network's parameters by torch's names, in doubles."""
    return {
        name.removeprefix("net."): array.astype(np.float64)
        for name, array in portable.arrays.items()
        if name.startswith("net.")
    }


def num_layers(weights: Mapping[str, Floats]) -> int:
    """Number of hidden layers."""
    return sum(name.startswith("layers.") and name.endswith(".weight") for name in weights)


def open_network(portable: Portable) -> Predictor:
    """See `loopline.models.portable.open_estimator`."""
    return Network(portable)
