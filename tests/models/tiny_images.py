"""Tiny pretrained image classifiers with random weights, made where the tests run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from loopline.data.schema import Task
from loopline.models.image import Image

SIZE = 16


@cache
def tiny_model(kind: str) -> str:
    """The folder of a tiny ResNet or ViT, made once a process."""
    from transformers import (
        ResNetConfig,
        ResNetForImageClassification,
        ViTConfig,
        ViTForImageClassification,
    )

    from loopline.models.hub import quiet

    folder = Path(mkdtemp(prefix="loopline-tiny-")) / kind
    torch.manual_seed(5)
    with quiet():
        if kind == "resnet":
            made: Any = ResNetForImageClassification(
                ResNetConfig(
                    embedding_size=8,
                    hidden_sizes=[8, 16],
                    depths=[1, 1],
                    layer_type="basic",
                    num_labels=5,
                )
            )
        else:
            made = ViTForImageClassification(
                ViTConfig(
                    hidden_size=16,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    intermediate_size=32,
                    image_size=SIZE,
                    patch_size=4,
                    num_labels=7,
                )
            )
        made.save_pretrained(folder)
    return str(folder)


class _Given(Image):
    """The image family with other defaults."""

    given: Mapping[str, Any] = {}

    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """The family's, with what a tiny network needs."""
        found = super().defaults(task, num_rows)
        return {**found, "learning_rate": 0.01, "augment": "none", "size": SIZE, **self.given}


class TinySmall(_Given):
    """The network that is trained from nothing, narrow."""

    given = {"width": 8, "size": "auto"}


class TinyResNet(_Given):
    """Frozen features of a random ResNet with a linear head."""

    @property
    def given(self) -> Mapping[str, Any]:
        """The folder is made when it is first needed."""
        return {"model": tiny_model("resnet"), "tune": "head"}


class TinyViT(_Given):
    """A random ViT, tuned whole."""

    @property
    def given(self) -> Mapping[str, Any]:
        """The folder is made when it is first needed."""
        return {"model": tiny_model("vit"), "tune": "full"}
