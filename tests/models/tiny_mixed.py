"""The multimodal family with tiny bodies, made where the tests run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.models.tiny_images import SIZE, tiny_model
from tests.models.tiny_text import tiny_encoder

from loopline.data.schema import Task
from loopline.models.multimodal import Multimodal


class TinyMixed(Multimodal):
    """Frozen bodies with random weights, for texts and for images."""

    @property
    def given(self) -> Mapping[str, Any]:
        """What differs from the family's own defaults; folders are made when first needed."""
        return {
            "text_model": str(tiny_encoder()),
            "image_model": tiny_model("resnet"),
            "size": SIZE,
            "augment": "none",
            "width": 16,
            "members": 2,
        }

    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """The family's, with what tiny networks need."""
        return {
            **super().defaults(task, num_rows),
            "learning_rate": 1e-3,
            "batch_size": 32,
            **self.given,
        }


class TinyTuned(TinyMixed):
    """A random text encoder and a random ViT, both of which learn."""

    @property
    def given(self) -> Mapping[str, Any]:
        """See `TinyMixed.given`."""
        return {
            **super().given,
            "tune": "full",
            "image_model": tiny_model("vit"),
            "head_rate": 1.0,
        }


class TinyFromNothing(TinyMixed):
    """A frozen text encoder beside the network for images that starts from nothing."""

    @property
    def given(self) -> Mapping[str, Any]:
        """See `TinyMixed.given`."""
        return {**super().given, "image_model": "auto", "size": "auto"}
