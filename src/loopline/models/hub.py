"""Where pretrained models lie, and what is asked of all of them.

A model is named by a Hugging Face id or by a local folder. Only safetensors weights are read, and
no code that comes with a model is ever run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopline.digest import file_digest
from loopline.errors import SettingsError

if TYPE_CHECKING:
    from torch import nn

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def place_of(name: str) -> str:
    """What the library loads a model from: the folder of that name, else the id.

    Raises:
        SettingsError: a folder that is not there, or is no model's.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise SettingsError([f"`model: {name}` is a folder without config.json."])
        return str(path.resolve())
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise SettingsError(
            [f"`model: {name}` names a folder that is not there: {path.absolute()}."]
        )
    return name


def folder_of(name: str, otherwise: str) -> Path:
    """The folder of a model's files: the given one, or the one they are downloaded to.

    Args:
        name: a local folder or a Hugging Face id.
        otherwise: what to name instead, for messages.

    Raises:
        SettingsError: there is no such model here, or it has no safetensors weights.
    """
    place = place_of(name)
    if Path(place).is_dir():
        return Path(place)
    from transformers.utils import cached_file

    with quiet(), told(name, otherwise):
        found = cached_file(place, "config.json")
        cached_file(place, "tokenizer.json")
        whole = cached_file(place, _WEIGHTS[0], _raise_exceptions_for_missing_entries=False)
        if whole is None:
            index = cached_file(place, _WEIGHTS[1])
            named = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"]
            for file in sorted(set(named.values())):
                cached_file(place, file)
    return Path(found).parent


def facts_beside(place: str, file: str) -> dict[str, Any]:
    """A JSON file that comes with a model; empty where there is none."""
    from transformers.utils import cached_file

    found = cached_file(
        place,
        file,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if found is None:
        return {}
    facts: dict[str, Any] = json.loads(Path(found).read_text(encoding="utf-8"))
    return facts


def digest_of_weights(name: str, place: str, otherwise: str) -> str:
    """The digest of a model's weights, which says what a fit started from.

    Args:
        name: as the settings name it, for messages.
        place: what the library loads it from.
        otherwise: what to name instead, for messages.

    Raises:
        SettingsError: there are no weights, or none that are data alone.
    """
    from transformers.utils import cached_file

    with quiet(), told(name, otherwise):
        for file in _WEIGHTS:
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
def told(name: str, otherwise: str) -> Iterator[None]:
    """Turn what the library says of a model that it cannot load into what to do.

    Args:
        name: as the settings name it.
        otherwise: what to name instead where there is no network.
    """
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
                f"{otherwise}"
            )
        raise SettingsError([f"`model: {name}` cannot be loaded: {text}."]) from error


def blank(config: Mapping[str, Any], maker: str) -> nn.Module:
    """A network of a configuration, its weights to be filled in.

    Args:
        config: plain data, as a saved model carries it.
        maker: the library's class that makes it, "AutoModel" for instance.
    """
    import transformers

    facts = {name: value for name, value in config.items() if name != "model_type"}
    with quiet():
        shape = transformers.AutoConfig.for_model(str(config["model_type"]), **facts)
        made: nn.Module = getattr(transformers, maker).from_config(shape, trust_remote_code=False)
    return made.float()


def unfit(name: str, detail: str) -> SettingsError:
    """The error of weights that are not those of a configuration."""
    return SettingsError(
        [
            f"The weights of `model: {name}` do not fit its configuration "
            f"({' '.join(detail.split())[:300]}). Take both from one model."
        ]
    )


def read_pretrained(
    kind: Any, name: str, otherwise: str, *, place: str | None = None, resized: bool = False
) -> tuple[Any, dict[str, Any]]:
    """A model of the library with its weights, in 32 bits, and what did not fit.

    Safetensors only, and no code that comes with a model.

    Args:
        kind: a class of the library with `from_pretrained`.
        name: as the settings name it.
        otherwise: what to name instead where there is no network.
        place: the folder, where it is another one than that of the name.
        resized: whether tensors of other shapes are told in the facts and not refused.

    Raises:
        SettingsError: it cannot be found or read, or the weights do not fit its configuration.
    """
    import torch

    with quiet(), told(name, otherwise):
        try:
            found, facts = kind.from_pretrained(
                place_of(name) if place is None else place,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                ignore_mismatched_sizes=resized,
                output_loading_info=True,
            )
        except RuntimeError as error:  # shapes; the library words it over many lines
            raise unfit(name, str(error)) from error
    return found, facts
