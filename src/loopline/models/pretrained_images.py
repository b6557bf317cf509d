"""Pretrained image classifiers: found by name or folder, checked, and read as data.

A model is named by a Hugging Face id or a local folder, and loaded by the transformers library's
own classes (ResNet, ViT and whatever else `AutoModelForImageClassification` knows). Only
safetensors weights are read, and no code that comes with a model is ever run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopline.digest import file_digest
from loopline.errors import SettingsError

if TYPE_CHECKING:
    from torch import nn

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_USUAL_SIZE = 224
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
        import torch
        from transformers import AutoModelForImageClassification

        with quiet(), _told(self.name):
            try:
                found, facts = AutoModelForImageClassification.from_pretrained(
                    _place(self.name),
                    use_safetensors=True,
                    trust_remote_code=False,
                    dtype=torch.float32,
                    ignore_mismatched_sizes=True,
                    output_loading_info=True,
                )
            except RuntimeError as error:  # the library words it over many lines
                raise SettingsError([_unfit(self.name, str(error))]) from error
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
            raise SettingsError([_unfit(self.name, "; ".join(wrong[:3]) + more)])
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

    place = _place(name)
    with quiet(), _told(name):
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        prepared = _preparation(place)
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
        SettingsError: there are none, or none that are data alone.
    """
    from transformers.utils import cached_file

    place = _place(name)
    with quiet(), _told(name):
        for file in ("model.safetensors", "model.safetensors.index.json"):
            found = cached_file(place, file, _raise_exceptions_for_missing_entries=False)
            if found is not None:
                return file_digest(Path(found))
    raise SettingsError(
        [
            f"`model: {name}` has no safetensors weights; other formats can carry code and are not "
            "read. Convert them with the `safetensors` package."
        ]
    )


def blank_network(config: Mapping[str, Any]) -> nn.Module:
    """A classifier of a configuration, its weights to be filled in."""
    from transformers import AutoConfig, AutoModelForImageClassification

    facts = {name: value for name, value in config.items() if name != "model_type"}
    with quiet():
        made: nn.Module = AutoModelForImageClassification.from_config(
            AutoConfig.for_model(str(config["model_type"]), **facts), trust_remote_code=False
        )
    return made.float()


def _place(name: str) -> str:
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise SettingsError([f"`model: {name}` is a folder without config.json."])
        return str(path.resolve())
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise SettingsError([f"`model: {name}` names a folder that is not there."])
    return name


def _preparation(place: str) -> dict[str, Any]:
    """How the model's images were prepared, where it says."""
    from transformers.utils import cached_file

    found = cached_file(
        place,
        "preprocessor_config.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if found is None:
        return {}
    facts: dict[str, Any] = json.loads(Path(found).read_text(encoding="utf-8"))
    return facts


def _size(config: Mapping[str, Any], prepared: Mapping[str, Any]) -> tuple[int, int]:
    for told in (prepared.get("crop_size"), prepared.get("size"), config.get("image_size")):
        if isinstance(told, int):
            return told, told
        if isinstance(told, list) and len(told) == 2:
            return int(told[0]), int(told[1])
        if isinstance(told, Mapping):
            if "height" in told:
                return int(told["height"]), int(told["width"])
            if "shortest_edge" in told:
                return int(told["shortest_edge"]), int(told["shortest_edge"])
    return _USUAL_SIZE, _USUAL_SIZE


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the library's bars and remarks off the terminal."""
    from transformers.utils import logging as library

    hub = logging.getLogger("huggingface_hub")
    levels = hub.level, library.get_verbosity()
    bars = library.is_progress_bar_enabled()
    hub.setLevel(logging.CRITICAL)
    library.set_verbosity(logging.CRITICAL)
    library.disable_progress_bar()
    try:
        yield
    finally:
        hub.setLevel(levels[0])
        library.set_verbosity(levels[1])
        if bars:
            library.enable_progress_bar()


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn what the library says of a model that it cannot load into what to do."""
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines() or [type(error).__name__]
        if "trust_remote_code" in str(error):
            text = "it comes with code of its own, which Loopline never runs; choose another model"
        elif "safetensors" in str(error):
            text = "it has no safetensors weights, and other formats can carry code; convert them"
        elif Path(name).expanduser().is_dir():
            text = f"the folder is not a whole model: {first[0]}"
        else:
            text = (
                f"{first[0]} Offline, give a local folder, a model that was downloaded before, or "
                '"small", a network that is trained from nothing'
            )
        raise SettingsError([f"`model: {name}` cannot be loaded: {text}."]) from error


def _unfit(name: str, detail: str) -> str:
    return (
        f"The weights of `model: {name}` do not fit its configuration "
        f"({' '.join(detail.split())[:300]}). Take both from one model."
    )
