"""Folders of decoders that are refused: each in a sentence, none read as something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="decoders need the extra `neural`")

from loopline.errors import SettingsError
from loopline.nets.lm import Decoder, Shape
from loopline.nets.lm_files import load_decoder, save_decoder

SMALL = {"layers": 1, "width": 16, "heads": 2, "head_width": 8, "context": 16}


def folder_of(place: Path, style: Any = "llama", **changed: Any) -> Path:
    """A whole folder of a tiny decoder, its configuration changed; None takes an entry out."""
    save_decoder(Decoder(Shape(64, style=style, **SMALL)), place)
    config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    kept = {name: value for name, value in {**config, **changed}.items() if value is not None}
    (place / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    return place


@pytest.mark.parametrize(
    ("style", "changed", "told"),
    [
        ("llama", {"hidden_act": "gelu"}, "has hidden_act 'gelu', which this decoder has not"),
        ("llama", {"mlp_bias": True}, "has mlp_bias, which this decoder has not"),
        ("llama", {"hidden_size": None}, "config.json does not say 'hidden_size'"),
        ("llama", {"num_hidden_layers": "two"}, "is no whole configuration: invalid literal"),
        ("gpt2", {"activation_function": "relu"}, "has the activation 'relu', which is not GPT-2"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "which this decoder computes otherw"),
        ("gpt2", {"scale_attn_weights": False}, "has scale_attn_weights, which this decoder"),
        ("gpt2", {"n_layer": 2}, r"(?s)h\.1\.\S+ is missing.*\d+ more tensors do not fit"),
    ],
)
def test_other_decoders_are_refused(
    style: str, changed: dict[str, Any], told: str, tmp_path: Path
) -> None:
    """What this decoder does not compute is named, and so is what a configuration lacks."""
    with pytest.raises(SettingsError, match=told):
        load_decoder(folder_of(tmp_path, style, **changed))


def test_an_epsilon_of_another_value_is_read(tmp_path: Path) -> None:
    """What may differ is taken from the configuration, not from a default."""
    found = load_decoder(folder_of(tmp_path, "gpt2", layer_norm_epsilon=0.5))
    assert found.shape.norm_eps == 0.5


def test_folders_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    """No configuration, a cut one, no safetensors, damaged ones: each is told."""
    with pytest.raises(SettingsError, match=r"is no model folder: it has no config\.json"):
        load_decoder(tmp_path)
    folder = folder_of(tmp_path / "model")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:50])
    with pytest.raises(SettingsError, match=r"is no whole safetensors file"):
        load_decoder(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"code")
    with pytest.raises(SettingsError, match=r"has no safetensors weights; other formats can carry"):
        load_decoder(folder)
    (folder / "config.json").write_text('{"model_type": "lla', encoding="utf-8")
    with pytest.raises(SettingsError, match=r"is no whole configuration: Unterminated string"):
        load_decoder(folder)
