"""A network for tables (extra `loopline[neural]`): the neural rival of the boosted trees.

Numbers become normal scores of their ranks with learned waves, categories learned vectors, texts
weighted terms; several members that share their weights answer together. See `loopline.nets.mlp`
for the sources. Trained at a constant rate with a moving average of the weights until held-out
rows stop getting better.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file

from loopline.data.schema import Task
from loopline.features.fit import fit_graph
from loopline.features.graph import FeatureGraph
from loopline.models.base import FitContext, Floats, Params
from loopline.models.boosting import Target
from loopline.models.encoder import Arrays, Encoder, Ints
from loopline.models.neural import NeuralFamily
from loopline.models.parameters import Rule
from loopline.models.portable import PortableModel
from loopline.models.portable_network import Arrangement, network_portable
from loopline.models.recipe import NEURAL_DEFAULTS, NEURAL_RULES
from loopline.models.space import Choice, DataFacts, Integer, Number, Space
from loopline.seeds import child_seed
from loopline.splits.views import TrainView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

_FEW_VALUES = 256
_ROWS_A_VALUE = 20
"""A number gets a code a value when it has at most so many values, and so many rows for each."""
_UNIT = 3.0
"""A column whose mean or deviation the graph left above this is centred and scaled."""


class TableEncoder(Encoder):
    """A feature graph whose outputs are numbers (float32) and category codes (int64).

    A number with few distinct values gets a code a value besides: networks are smooth, and what
    happens at one exact value (a round sum, a ceiling) is lost to them otherwise.

    Args:
        graph: the fitted preprocessing.
        center: subtracted from each number, shape (numbers,).
        scale: what each centred number is divided by, shape (numbers,).
        values: distinct values, rising, of each output that has codes for them, by its place.
    """

    def __init__(
        self, graph: FeatureGraph, center: Floats, scale: Floats, values: Mapping[int, Floats]
    ) -> None:
        self.graph, self._center, self._scale = graph, center, scale
        self._values = dict(values)
        levels = [output.levels for output in graph.outputs]
        self.arrangement = Arrangement(
            np.array([p for p, count in enumerate(levels) if not count], dtype=np.int64),
            np.array([p for p, count in enumerate(levels) if count], dtype=np.int64),
            center,
            scale,
            self._values,
        )
        self.levels = [count for count in levels if count]
        self.levels += [len(known) for known in self._values.values()]
        self.num_numbers = len(self.arrangement.numbers)

    @staticmethod
    def fitted(graph: FeatureGraph, values: Floats) -> TableEncoder:
        """An encoder for the rows of a graph's matrix, shape (rows, outputs)."""
        columns = [place for place, output in enumerate(graph.outputs) if not output.levels]
        center, scale = np.zeros(len(columns)), np.ones(len(columns))
        few: dict[int, Floats] = {}
        for number, place in enumerate(columns):
            cells = values[:, place]
            middle, spread = float(cells.mean()), float(cells.std())
            if not (abs(middle) <= _UNIT and spread <= _UNIT):
                center[number], scale[number] = middle, spread or 1.0
            known = np.unique(cells)
            if 2 < known.size <= min(_FEW_VALUES, cells.size / _ROWS_A_VALUE):
                few[place] = known
        return TableEncoder(graph, center, scale, few)

    def encode(self, frame: pl.DataFrame) -> Arrays:
        """Numbers (rows, numbers) and codes (rows, categories); what was never seen is 0."""
        return self.arrange(self.graph.transform(frame))

    def arrange(self, values: Floats) -> Arrays:
        """Numbers and codes from the graph's matrix."""
        numbers, codes = self.arrangement.apply(values)
        return {"numbers": numbers, "codes": codes}

    def collate(self, arrays: Arrays, rows: Ints, epochs: Ints | None) -> Arrays:
        """The rows' numbers and codes."""
        del epochs
        return {name: array[rows] for name, array in arrays.items()}

    def save(self, folder: Path) -> None:
        """Write the graph, the numbers' scales and the values that have codes."""
        self.graph.save(folder)
        tensors = {"center": self._center, "scale": self._scale}
        tensors |= {f"values.{place}": known for place, known in self._values.items()}
        save_file(tensors, folder / "scales.safetensors")

    @staticmethod
    def load(folder: Path) -> TableEncoder:
        """Read what `save` wrote."""
        found = load_file(folder / "scales.safetensors")
        places = sorted(int(name[7:]) for name in found if name.startswith("values."))
        values = {place: found[f"values.{place}"] for place in places}
        return TableEncoder(FeatureGraph.load(folder), found["center"], found["scale"], values)


class MLP(NeuralFamily):
    """Embedded numbers and categories, hidden layers shared by several members."""

    name = "mlp"
    complexity = 40
    exact = True
    range_test = True
    predict_batch = 4_096
    rules: ClassVar[Mapping[str, Rule]] = {
        **NEURAL_RULES,
        "width": Rule("integer", low=1, high=65_536),
        "depth": Rule("integer", low=1, high=100),
        "members": Rule("integer", low=1, high=1_024),
        "dropout": Rule("number", low=0.0, high=0.95),
    }

    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """The recipe, and `width`, `depth`, `members` and `dropout` of the network."""
        del task
        return {
            **NEURAL_DEFAULTS,
            "epochs": 60.0,
            "batch_size": int(2 ** np.clip(round(np.log2(max(1, num_rows) / 80)), 5, 9)),
            "learning_rate": 2e-3,
            "weight_decay": 3e-2,
            "schedule": "constant",
            "patience": 8,
            "average": 0.99,
            "width": 128,
            "depth": 2,
            "members": 8,
            "dropout": 0.1,
        }

    def space(self, facts: DataFacts) -> Space:
        """The learning rate first, then regularisation, then the size of the network."""
        del facts
        return {
            "learning_rate": Number(2e-4, 2e-2, log=True),
            "weight_decay": Number(1e-4, 0.3, log=True),
            "dropout": Number(0.0, 0.5),
            "width": Choice((64, 128, 256)),
            "depth": Integer(1, 3),
        }

    def learn(
        self, train: TrainView, params: Params, context: FitContext
    ) -> tuple[Encoder, Arrays]:
        """Fit the feature graph: ranks of numbers, codes of categories."""
        del params
        given = context.features
        settings = replace(given, scaling=given.scaling or "quantile")
        seed = child_seed(context.seed, "features")
        graph, rows = fit_graph(train, "neural", seed, settings)
        values = rows.matrix()
        encoder = TableEncoder.fitted(graph, values)
        return encoder, encoder.arrange(values)

    def build(
        self, encoder: Encoder, start: Floats, params: Params, *, pretrained: bool
    ) -> nn.Module:
        """A network of the encoder's columns; `pretrained` has no meaning here."""
        import torch

        from loopline.nets.mlp import TabularNet

        del pretrained
        assert isinstance(encoder, TableEncoder)
        return TabularNet(
            encoder.num_numbers,
            encoder.levels,
            width=params["width"],
            depth=params["depth"],
            members=params["members"],
            dropout=float(params["dropout"]),
            start=torch.from_numpy(start),
        )

    def portable(
        self, encoder: Encoder, network: nn.Module, num_classes: int, target: Target
    ) -> PortableModel:
        """See `NeuralFamily.portable`: numpy suffices for a network of a table."""
        assert isinstance(encoder, TableEncoder)
        weights = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
        graph = encoder.graph
        return PortableModel(
            graph.columns,
            tuple(step.reading() for step in graph.steps),
            network_portable(
                encoder.arrangement, weights, num_classes=num_classes, **target.to_dict()
            ),
            tuple(step.width for step in graph.steps),
        )

    def load_encoder(self, folder: Path) -> TableEncoder:
        """Read a saved graph."""
        return TableEncoder.load(folder)
