"""Pretrained image classifiers: found by name or folder, checked, and read as data.

A model is named by a Hugging Face id or a local folder, and loaded by the transformers library's
own classes (ResNet, ViT and whatever else `AutoModelForImageClassification` knows). Only
safetensors weights are read, and no code that comes with a model is ever run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopline.errors import SettingsError
from loopline.models.hub import (
    blank,
    digest_of_weights,
    facts_beside,
    place_of,
    quiet,
    read_pretrained,
    told,
    unfit,
)

if TYPE_CHECKING:
    from torch import nn

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_USUAL_SIZE = 224
OTHERWISE = '"small", a network that is trained from nothing'
_HEAD = "classifier."


@dataclass(frozen=True)
class PretrainedImages:
    """A pretrained image classifier that was found, without its weights.

    Args:
        name: as the settings name it.
        config: its configuration, plain data.
        size: height and width of the images that it was trained on.
        mean: of each channel, from 0 to 1, that it was trained with.
        deviation: of each channel.
    """

    name: str
    config: Mapping[str, Any]
    size: tuple[int, int]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def load(self) -> nn.Module:
        """The network with its pretrained weights, in 32 bits.

        Raises:
            SettingsError: weights are missing, are no safetensors, or do not fit the configuration.
        """
        from transformers import AutoModelForImageClassification

        found, facts = read_pretrained(
            AutoModelForImageClassification, self.name, OTHERWISE, resized=True
        )
        wrong = [
            f"{name} has the shape {tuple(there)} in the file and {tuple(here)} in the network"
            for name, there, here in facts["mismatched_keys"]
            if not name.startswith(_HEAD)
        ]
        wrong += [
            f"{name} is not in the file"
            for name in sorted(facts["missing_keys"])
            if not name.startswith(_HEAD)
        ]
        if wrong:
            more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise unfit(self.name, "; ".join(wrong[:3]) + more)
        network: nn.Module = found
        return network


def find_pretrained_images(name: str) -> PretrainedImages:
    """Find an image classifier and read everything but its weights.

    Args:
        name: a local folder or a Hugging Face id.

    Raises:
        SettingsError: there is no such model here, or it is no image classifier.
    """
    from transformers import AutoConfig, AutoModelForImageClassification

    place = place_of(name)
    with quiet(), told(name, OTHERWISE):
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        prepared = facts_beside(place, "preprocessor_config.json")
    if type(config) not in AutoModelForImageClassification._model_mapping:
        raise SettingsError(
            [
                f"`model: {name}` ({config.model_type}) is no image classifier that the "
                "transformers library knows; choose a ResNet, a ViT or another of "
                "AutoModelForImageClassification."
            ]
        )
    facts: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    channels = facts.get("num_channels", 3)
    if channels != 3:
        raise SettingsError(
            [f"`model: {name}` reads images of {channels} channels; the image family gives it 3."]
        )
    return PretrainedImages(
        name=name,
        config=facts,
        size=_size(facts, prepared),
        mean=tuple(prepared.get("image_mean") or IMAGENET_MEAN),
        deviation=tuple(prepared.get("image_std") or IMAGENET_DEVIATION),
    )


def weights_digest(name: str) -> str:
    """The digest of a model's weights, which says what a fit started from.

    Raises:
        As `digest_of_weights`.
    """
    return digest_of_weights(name, place_of(name), OTHERWISE)


def blank_network(config: Mapping[str, Any]) -> nn.Module:
    """A classifier of a configuration, its weights to be filled in."""
    return blank(config, "AutoModelForImageClassification")


def _size(config: Mapping[str, Any], prepared: Mapping[str, Any]) -> tuple[int, int]:
    for stated in (prepared.get("crop_size"), prepared.get("size"), config.get("image_size")):
        if isinstance(stated, int):
            return stated, stated
        if isinstance(stated, list) and len(stated) == 2:
            return int(stated[0]), int(stated[1])
        if isinstance(stated, Mapping):
            if "height" in stated:
                return int(stated["height"]), int(stated["width"])
            if "shortest_edge" in stated:
                return int(stated["shortest_edge"]), int(stated["shortest_edge"])
    return _USUAL_SIZE, _USUAL_SIZE
