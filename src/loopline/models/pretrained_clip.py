"""Pretrained CLIP models: found by name or folder, checked, and read as data.

A model is named by a Hugging Face id or a local folder and loaded by the transformers library's
`CLIPModel`. Only safetensors weights are read, and no code that comes with a model is ever run.
Images are prepared with the numbers of its `preprocessor_config.json`, by Pillow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
from loopline.models.pretrained import portable_tokenizer

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of each channel, as OpenAI's models were trained with."""
OTHERWISE = '"small", two encoders that are trained from nothing'


@dataclass(frozen=True)
class PretrainedClip:
    """A pretrained CLIP that was found, without its weights.

    Args:
        name: as the settings name it.
        config: its configuration, plain data.
        tokenizer: the content of its `tokenizer.json`.
        padding: number of the token that fills up a batch.
        limit: the most tokens of a caption, special ones included.
        size: points a side of its images.
        mean: of each channel, from 0 to 1, that it was trained with.
        deviation: of each channel.
    """

    name: str
    config: Mapping[str, Any]
    tokenizer: str
    padding: int
    limit: int
    size: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def load(self) -> Any:
        """The `CLIPModel` with its weights, in 32 bits.

        Raises:
            SettingsError: weights are missing, are no safetensors, or do not fit the configuration.
        """
        from transformers import CLIPModel

        found, facts = read_pretrained(CLIPModel, self.name, OTHERWISE)
        if facts["missing_keys"] or facts["mismatched_keys"]:
            raise unfit(self.name, f"{len(facts['missing_keys'])} tensors are missing")
        return found


def find_pretrained_clip(name: str) -> PretrainedClip:
    """Find a CLIP and read everything but its weights.

    Args:
        name: a local folder or a Hugging Face id.

    Raises:
        SettingsError: there is no such model here, or it is no CLIP.
    """
    from transformers import AutoConfig, AutoTokenizer

    place = place_of(name)
    with quiet(), told(name, OTHERWISE):
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        if config.model_type != "clip":
            raise SettingsError(
                [
                    f"`model: {name}` ({config.model_type}) is no CLIP; the clip family takes one, "
                    "with an encoder for images and one for texts."
                ]
            )
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        prepared = facts_beside(place, "preprocessor_config.json")
    if not getattr(tokenizer, "is_fast", False):
        raise SettingsError(
            [f"`model: {name}` has no tokenizer that can be saved as data (tokenizer.json)."]
        )
    facts: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    text = facts["text_config"]
    padding = tokenizer.pad_token_id
    return PretrainedClip(
        name=name,
        config=facts,
        tokenizer=portable_tokenizer(tokenizer.backend_tokenizer.to_str()),
        padding=0 if padding is None else int(padding),
        limit=int(text["max_position_embeddings"]),
        size=int(facts["vision_config"]["image_size"]),
        mean=tuple(prepared.get("image_mean") or MEAN),
        deviation=tuple(prepared.get("image_std") or DEVIATION),
    )


def weights_digest(name: str) -> str:
    """The digest of a model's weights, which says what a fit started from.

    Raises:
        As `digest_of_weights`.
    """
    return digest_of_weights(name, place_of(name), OTHERWISE)


def blank_clip(config: Mapping[str, Any]) -> Any:
    """A `CLIPModel` of a configuration, its weights to be filled in."""
    return blank(config, "AutoModel")
