"""Pairs of small pictures and captions, and a tiny CLIP with random weights, made here."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from loopline.data.retrieval import retrieval_schema, with_numbers
from loopline.splits.split import all_train
from loopline.splits.views import TrainView
from loopline.testing.images import png

SIDE = 12
SHOWN = ("a bright left", "a bright right", "a bright top", "a bright bottom")


def make_pairs(rows: int = 96, seed: int = 0) -> pl.DataFrame:
    """Pictures one side of which is bright, each with the caption that says which."""
    rng = np.random.default_rng(seed)
    which = np.arange(rows) % len(SHOWN)
    files = []
    for kind in which.tolist():
        shown = rng.integers(40, 120, (SIDE, SIDE))
        part = [slice(None, SIDE // 2), slice(SIDE // 2, None)][kind % 2]
        shown[(slice(None), part) if kind < 2 else (part, slice(None))] += 100
        files.append(png(shown))
    captions = [SHOWN[kind] for kind in which.tolist()]
    return pl.DataFrame(
        {"picture": files, "caption": captions},
        schema={"picture": pl.Binary, "caption": pl.String},
    )


def pairs_view(frame: pl.DataFrame, overrides: dict | None = None) -> TrainView:
    """All pairs, to learn from."""
    given = {"picture": {"type": "image"}} if overrides is None else overrides
    table = with_numbers(frame, "caption")
    digests = np.random.default_rng(7).integers(0, 2**63, (frame.height, 2)).astype(np.uint64)
    schema = retrieval_schema(table, "caption", given)
    return all_train(digests).train_view(table, schema)


@cache
def tiny_clip() -> Path:
    """The folder of a tiny CLIP as transformers writes it, made once a process."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPModel

    from loopline.models.hub import quiet

    folder = Path(tempfile.mkdtemp(prefix="tiny-clip-")) / "clip"
    words = ["<pad>", "<unk>", "<start>", "<end>", "a", "bright", "left", "right", "top", "bottom"]
    tokenizer = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("<end>", 3), ("<start>", 2))
    tokenizer.add_special_tokens(words[:4])
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    small |= {"intermediate_size": 32}
    text = {**small, "vocab_size": len(words), "max_position_embeddings": 16}
    text |= {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    vision = {**small, "image_size": 16, "patch_size": 4}
    torch.manual_seed(3)
    with quiet():
        shape = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
        CLIPModel(shape).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad": "<pad>", "unk": "<unk>", "bos": "<start>", "eos": "<end>"}
    facts = {f"{name}_token": word for name, word in names.items()}
    facts |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 16}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    prepared = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    return folder
