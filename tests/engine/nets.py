"""A tiny net and its tasks, for the engine's tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from loopline.engine.task import Task

WIDTH = 6


class Net(nn.Module):
    """An embedding, three like blocks with norm and dropout, and a head."""

    def __init__(self, classes: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Linear(4, WIDTH)
        self.layers = nn.ModuleList([Block(dropout) for _ in range(3)])
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(values)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(hidden)


class Block(nn.Module):
    """Norm, matrix, non-linearity, dropout, beside a way past."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.dropout(torch.tanh(self.inner(self.norm(hidden))))


class Points(Task):
    """Points in four dimensions; each has as many tokens (copies of its loss) as it weighs."""

    def __init__(self, rows: int = 23, valid: int = 9, *, lengths: bool = False) -> None:
        draw = np.random.default_rng(5)
        self.values = draw.normal(size=(rows, 4)).astype(np.float32)
        self.targets = (self.values.sum(1) > 0).astype(np.int64) + (self.values[:, 0] > 1)
        self.weights = draw.integers(1, 8, rows).astype(np.float32)
        self.num_rows, self.num_valid = rows, valid
        self.seen: list[list[int]] = []
        self._lengths = self.weights.astype(np.int64) if lengths else None

    @property
    def lengths(self) -> Any:
        return self._lengths

    def batch(self, rows: Any, epochs: Any, *, train: bool) -> dict[str, Any]:
        del epochs, train
        return {
            "values": torch.from_numpy(self.values[rows]),
            "targets": torch.from_numpy(self.targets[rows]),
            "weights": torch.from_numpy(self.weights[rows]),
            "rows": torch.from_numpy(np.asarray(rows)),
        }

    def loss(self, model: Any, batch: Any) -> tuple[Any, Any]:
        said = model(batch["values"])
        losses = nn.functional.cross_entropy(said, batch["targets"], reduction="none")
        return (losses * batch["weights"]).sum(), batch["weights"].sum()

    def predict(self, model: Any, batch: Any) -> Any:
        return model(batch["values"])

    def score(self, predictions: Any) -> tuple[float, dict[str, float]]:
        targets = self.targets[: len(predictions)]
        wrong = float(np.mean(predictions.argmax(1) != targets))
        shifted = predictions - predictions.max(1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        return float(-logs[np.arange(len(targets)), targets].mean()), {"error": wrong}


def net(seed: int = 0, dropout: float = 0.0) -> Net:
    """The net with the weights of a seed."""
    torch.manual_seed(seed)
    return Net(dropout=dropout)


def normed() -> nn.Module:
    """A net with a batch norm, whose running means differ from rank to rank."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, WIDTH), nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, 3))


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all weights, whole, by name."""
    return {
        name: (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().clone()
        for name, value in model.state_dict().items()
    }


def gap(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """The largest difference between two sets of weights."""
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)
