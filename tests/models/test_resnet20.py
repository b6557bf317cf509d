"""Real pretrained weights (ResNet-20 on CIFAR-10): converted to data, loaded, and of use.

The file is a legacy pickle, so it is untrusted input: read here once, weights only, and written as
safetensors, which is all that the package reads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the image family needs the extra `neural`")
pytest.importorskip("PIL", reason="images need the extra `images`")

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from loopline.data.images import folder_files
from loopline.data.pixels import over, pixels
from loopline.nets.image import ImageNetwork, features_of
from loopline.nets.training import load_weights

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class BasicBlock(nn.Module):
    """Two convolutions; the shortcut drops points and adds channels of zeros (option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, (outputs - inputs) // 2

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        inner = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(values)))))
        kept = values[:, :, :: self.stride, :: self.stride]
        return functional.relu(inner + functional.pad(kept, (0, 0, 0, 0, self.more, self.more)))


class ResNet20(nn.Module):
    """He et al. 2016, section 4.2, with n = 3; gives features where the last layer stood."""

    width = 64

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for number, (inputs, outputs) in enumerate([(16, 16), (16, 32), (32, 64)], start=1):
            first = BasicBlock(inputs, outputs, 1 if number == 1 else 2)
            rest = [BasicBlock(outputs, outputs, 1) for _ in range(2)]
            setattr(self, f"layer{number}", nn.Sequential(first, *rest))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = functional.relu(self.bn1(self.conv1(images)))
        for number in (1, 2, 3):
            hidden = getattr(self, f"layer{number}")(hidden)
        return hidden.mean(dim=(2, 3))


def network(body: nn.Module) -> ImageNetwork:
    """The body with a head of ten classes."""
    return ImageNetwork(
        body,
        64,
        torch.zeros(10),
        mean=MEAN,
        deviation=DEVIATION,
        augment="none",
        dropout=0.0,
    )


@pytest.fixture(scope="module")
def converted(data_dir: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint as safetensors, by the names that an `ImageNetwork` has."""
    (source,) = data_dir("checkpoint_resnet20_cifar10").glob("*.th")
    legacy: dict[str, Any] = torch.load(source, map_location="cpu", weights_only=True)
    found = network(ResNet20()).state_dict()
    renamed = {name.removeprefix("module."): value for name, value in legacy["state_dict"].items()}
    body = {f"body.{name}": value for name, value in renamed.items() if "linear" not in name}
    head = {f"head.{part}": renamed[f"linear.{part}"] for part in ("weight", "bias")}
    path = tmp_path_factory.mktemp("converted") / "weights.safetensors"
    kept = {name: found[name] for name in ("mean", "deviation", "constant")}
    save_file({**kept, **body, **head}, path)
    return path


def hands(folder: Path, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Photographs of hands that show digits, 32 × 32, and the digits."""
    shown, labels = [], []
    for place in sorted(folder.iterdir()):
        files = folder_files(place)[:each]
        shown += over([file.read_bytes() for file in files], lambda cell: pixels(cell, (32, 32), 3))
        labels += [int(place.name)] * len(files)
    return np.stack(shown), np.array(labels)


def accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Of a linear model that learned from every other photograph, on the others."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    train = np.arange(len(labels)) % 2 == 0
    scaled = StandardScaler().fit(features[train]).transform(features)
    model = LogisticRegression(C=0.1, max_iter=500).fit(scaled[train], labels[train])
    return float((model.predict(scaled[~train]) == labels[~train]).mean())


def test_converted_weights_are_all_there(converted: Path) -> None:
    """Every tensor of the checkpoint has its place: the loader refuses any other set."""
    loaded = load_weights(network(ResNet20()), converted)
    assert sum(value.numel() for value in loaded.parameters()) == 269_722
    assert float(loaded.head.weight.detach().abs().mean()) > 0.05


def test_weights_of_another_shape_are_refused(converted: Path) -> None:
    """A network of other widths does not take them."""
    other = network(ResNet20())
    other.body.conv1 = nn.Conv2d(3, 8, 3)
    with pytest.raises(RuntimeError, match=r"size mismatch for body.conv1.weight"):
        load_weights(other, converted)


def test_what_was_learned_on_objects_helps_with_hands(
    converted: Path, data_dir: Callable[[str], Path]
) -> None:
    """A linear model of the real features beats one of a random network's by far."""
    shown, labels = hands(data_dir("sign_language_digits") / "Dataset", 60)
    torch.manual_seed(0)
    random = accuracy(features_of(network(ResNet20()), shown), labels)
    real = accuracy(features_of(load_weights(network(ResNet20()), converted), shown), labels)
    assert real > random + 0.15, (real, random)
