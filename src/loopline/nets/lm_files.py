"""The Hugging Face layout of a decoder: `config.json` and `model.safetensors`, read and written.

Llama folders are read and written, GPT-2 folders too. Nothing but JSON and safetensors is read, and
transformers is not needed. Weights that were saved in several files are read by their index.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from loopline.errors import SettingsError
from loopline.nets.lm import Decoder, Shape, rotations

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
Tensors = dict[str, torch.Tensor]
_OTHER_LLAMA = ("attention_bias", "mlp_bias")
_OTHER_GPT2 = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}


def load_decoder(folder: Path, *, dropout: float = 0.0) -> Decoder:
    """A decoder with the weights of a Llama or GPT-2 folder, in 32 bits.

    Args:
        folder: with `config.json` and safetensors weights.
        dropout: in training, as `Decoder` has it.

    Raises:
        SettingsError: the folder is no such model, its weights are no safetensors, or they do not
            fit its configuration.
    """
    shape = read_shape(folder)
    with torch.device("meta"):
        model = Decoder(shape, dropout=dropout)
    model = model.to_empty(device="cpu")
    model.tie()  # each name has memory of its own now
    fill(model, _tensors(folder), str(folder))
    return model


def read_shape(folder: Path) -> Shape:
    """The shape that a folder's `config.json` states.

    Raises:
        SettingsError: there is none, or it is of a kind that this decoder is not.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise SettingsError([f"{folder} is no model folder: it has no {CONFIG}."])
    try:
        return shape_of(json.loads(path.read_text(encoding="utf-8")), str(folder))
    except KeyError as error:
        raise SettingsError([f"{path} does not say {error.args[0]!r}."]) from error
    except (ValueError, TypeError, AttributeError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError([f"{path} is no whole configuration: {error}."]) from error


def shape_of(config: Mapping[str, Any], name: str) -> Shape:
    """The shape that a configuration states.

    Args:
        config: as `config.json` has it.
        name: of the model, for messages.

    Raises:
        SettingsError: it is of a kind that this decoder is not.
    """
    kind = config.get("model_type")
    if kind == "llama":
        return _llama_shape(config, name)
    if kind == "gpt2":
        return _gpt2_shape(config, name)
    raise SettingsError(
        [f"{name} is a model of the type {kind!r}; a decoder is read from llama or gpt2 folders."]
    )


def _llama_shape(config: Mapping[str, Any], name: str) -> Shape:
    given = [each for each in _OTHER_LLAMA if config.get(each)]
    if given or config.get("hidden_act", "silu") != "silu":
        what = given[0] if given else f"hidden_act {config['hidden_act']!r}"
        raise SettingsError([f"{name} has {what}, which this decoder has not."])
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    kind = rope.get("rope_type", rope.get("type", "default"))
    scaling = None
    if kind == "llama3":
        names = ("factor", "low_freq_factor", "high_freq_factor")
        before = rope["original_max_position_embeddings"]
        factor, low, high = (float(rope[each]) for each in names)
        scaling = (factor, low, high, float(before))
    elif kind != "default":
        raise SettingsError(
            [f"{name} stretches rotary positions by {kind!r}; this decoder knows llama3."]
        )
    heads = int(config["num_attention_heads"])
    width = int(config["hidden_size"])
    return Shape(
        vocabulary=int(config["vocab_size"]),
        layers=int(config["num_hidden_layers"]),
        width=width,
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_width=int(config.get("head_dim") or width // heads),
        inner=int(config["intermediate_size"]),
        context=int(config["max_position_embeddings"]),
        rope_base=float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
        rope_scaling=scaling,
        norm_eps=float(config.get("rms_norm_eps", 1e-6)),
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def _gpt2_shape(config: Mapping[str, Any], name: str) -> Shape:
    activation = config.get("activation_function", "gelu_new")
    if activation not in ("gelu_new", "gelu_pytorch_tanh"):
        raise SettingsError([f"{name} has the activation {activation!r}, which is not GPT-2's."])
    other = [name for name, usual in _OTHER_GPT2.items() if config.get(name, usual) != usual]
    if other:
        raise SettingsError([f"{name} has {other[0]}, which this decoder computes otherwise."])
    width, heads = int(config["n_embd"]), int(config["n_head"])
    return Shape(
        vocabulary=int(config["vocab_size"]),
        layers=int(config["n_layer"]),
        width=width,
        heads=heads,
        head_width=width // heads,
        inner=int(config.get("n_inner") or 4 * width),
        context=int(config["n_positions"]),
        style="gpt2",
        norm_eps=float(config.get("layer_norm_epsilon", 1e-5)),
        tied=bool(config.get("tie_word_embeddings", True)),
    )


def config_of(shape: Shape, *, end: int | None = None) -> dict[str, Any]:
    """`config.json` of a shape, as transformers reads it.

    Args:
        shape: of the decoder.
        end: number of the token that ends a document.
    """
    shared = {"vocab_size": shape.vocabulary, "tie_word_embeddings": shape.tied,
              "bos_token_id": end, "eos_token_id": end, "torch_dtype": "float32"}  # fmt: skip
    if shape.style == "gpt2":
        return {
            **shared,
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "n_layer": shape.layers,
            "n_embd": shape.width,
            "n_head": shape.heads,
            "n_inner": shape.inner,
            "n_positions": shape.context,
            "activation_function": "gelu_new",
            **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0),
            "layer_norm_epsilon": shape.norm_eps,
        }
    rope: dict[str, Any] = {"rope_type": "default"}
    if shape.rope_scaling is not None:
        factor, low, high, before = shape.rope_scaling
        rope = {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": int(before),
        }
    return {
        **shared,
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.width,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "intermediate_size": shape.inner,
        "max_position_embeddings": shape.context,
        "hidden_act": "silu",
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_base,
        "rope_parameters": {**rope, "rope_theta": shape.rope_base},
    }


def save_decoder(model: Decoder, folder: Path, *, end: int | None = None) -> None:
    """Write a decoder as a folder that transformers reads.

    Args:
        model: to be written.
        folder: is made where it is missing.
        end: number of the token that ends a document.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts = json.dumps(config_of(model.shape, end=end), indent=2, sort_keys=True)
    (folder / CONFIG).write_text(facts + "\n", encoding="utf-8")
    save_file(dict(_named(model)), folder / WEIGHTS, metadata={"format": "pt"})


def fill(model: Decoder, tensors: Tensors, name: str) -> None:
    """Put the tensors of a Hugging Face folder into a decoder; the head may be left out when tied.

    Raises:
        SettingsError: a tensor is missing or has another shape.
    """
    shape = model.shape
    wanted = dict(_named(model))
    found = {key.removeprefix("transformer.") if shape.style == "gpt2" else key: value
             for key, value in tensors.items()}  # fmt: skip
    problems = [
        f"{key} is missing" if key not in found else
        f"{key} has the shape {tuple(found[key].shape)} and not {tuple(value.shape)}"
        for key, value in wanted.items()
        if key not in found or found[key].shape != value.shape
    ]  # fmt: skip
    if problems:
        raise SettingsError(
            [f"The weights of {name} do not fit its {CONFIG}: {problems[0]}."]
            + ([f"{len(problems) - 1} more tensors do not fit."] if problems[1:] else [])
        )
    with torch.no_grad():
        for key, put in _places(model):
            put(found[key])
        if shape.style != "gpt2":
            model.turns.copy_(rotations(shape).view(torch.int32))


def _tensors(folder: Path) -> Tensors:
    files = [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        named = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        files = [folder / Path(each).name for each in sorted(set(named.values()))]
    if not all(file.is_file() for file in files):
        raise SettingsError(
            [
                f"{folder} has no safetensors weights; other formats can carry code and are not "
                "read. Convert them with the `safetensors` package."
            ]
        )
    found: Tensors = {}
    for file in files:
        try:
            found |= load_file(file)
        except SafetensorError as error:
            raise SettingsError([f"{file} is no whole safetensors file: {error}."]) from error
    return found


Put = Callable[[torch.Tensor], None]


def _named(model: Decoder) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights by the names and in the shapes of the layout."""
    for key, _, made in _entries(model):
        yield key, made().detach().float().cpu().clone().contiguous()


def _places(model: Decoder) -> Iterator[tuple[str, Put]]:
    for key, put, _ in _entries(model):
        yield key, put


Entry = tuple[str, Put, Callable[[], torch.Tensor]]


def _entries(model: Decoder) -> Iterator[Entry]:
    """Every tensor of the layout: its name, how it is put into the model, how it is taken out."""
    yield from (_gpt2_entries if model.shape.style == "gpt2" else _llama_entries)(model)


def _whole(key: str, value: Any, *, turned: bool = False) -> Entry:
    """A tensor that is one of the model's; `turned` where the layout has it the other way round."""

    def put(given: torch.Tensor) -> None:
        value.copy_(given.T if turned else given)

    return key, put, lambda: value.T if turned else value


def _slice(key: str, value: Any, start: int, length: int) -> Entry:
    """A tensor that is some lines of one of the model's."""
    part = value.narrow(0, start, length)

    def put(given: torch.Tensor) -> None:
        part.copy_(given)

    return key, put, lambda: part


def _llama_entries(model: Decoder) -> Iterator[Entry]:
    shape = model.shape
    wide, narrow = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    yield _whole("model.embed_tokens.weight", model.tokens.weight)
    layer: Any
    for number, layer in enumerate(model.layers):
        base, mix, up = f"model.layers.{number}.", layer.mix.weight, layer.up.weight
        yield _whole(f"{base}input_layernorm.weight", layer.first.weight)
        yield _whole(f"{base}post_attention_layernorm.weight", layer.second.weight)
        yield _slice(f"{base}self_attn.q_proj.weight", mix, 0, wide)
        yield _slice(f"{base}self_attn.k_proj.weight", mix, wide, narrow)
        yield _slice(f"{base}self_attn.v_proj.weight", mix, wide + narrow, narrow)
        yield _whole(f"{base}self_attn.o_proj.weight", layer.out.weight)
        yield _slice(f"{base}mlp.gate_proj.weight", up, 0, shape.inner)
        yield _slice(f"{base}mlp.up_proj.weight", up, shape.inner, shape.inner)
        yield _whole(f"{base}mlp.down_proj.weight", layer.down.weight)
    yield _whole("model.norm.weight", model.norm.weight)
    if not shape.tied:
        yield _whole("lm_head.weight", model.head.weight)


def _gpt2_entries(model: Decoder) -> Iterator[Entry]:
    assert model.positions is not None
    yield _whole("wte.weight", model.tokens.weight)
    yield _whole("wpe.weight", model.positions.weight)
    parts = {"ln_1": "first", "ln_2": "second", "attn.c_attn": "mix", "attn.c_proj": "out",
             "mlp.c_fc": "up", "mlp.c_proj": "down"}  # fmt: skip
    layer: Any
    for number, layer in enumerate(model.layers):
        for there, here in parts.items():
            part = getattr(layer, here)
            matrix = part.weight.ndim == 2
            yield _whole(f"h.{number}.{there}.weight", part.weight, turned=matrix)
            yield _whole(f"h.{number}.{there}.bias", part.bias)
    yield _whole("ln_f.weight", model.norm.weight)
    yield _whole("ln_f.bias", model.norm.bias)
    if not model.shape.tied:
        yield _whole("lm_head.weight", model.head.weight)
