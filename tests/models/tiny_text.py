"""A tiny text encoder with random weights, made here, and text families that use it."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from loopline.models.text import Text

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["tiny", "small", "plain", "large", "huge", "thing", "stone", "cup", "leaf", "amber"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def make_encoder(folder: Path, **config: Any) -> Path:
    """Write a BERT of two small layers, its weights random, and its tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = make_tokenizer(folder)
    settings = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        **config,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(BertConfig(**settings)).save_pretrained(folder)
    return folder


def make_tokenizer(folder: Path, extra: int = 0) -> int:
    """Write a WordPiece tokenizer of a few words and all letters; gives its size."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces = [*SPECIAL, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    pieces += [f"extra{number}" for number in range(extra)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    facts = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 64,
        "pad_token": "[PAD]",
        "sep_token": "[SEP]",
        "cls_token": "[CLS]",
        "unk_token": "[UNK]",
        "mask_token": "[MASK]",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    return len(vocabulary)


@cache
def tiny_encoder() -> Path:
    """One such encoder, made once a process."""
    return make_encoder(Path(tempfile.mkdtemp(prefix="tiny-text-")) / "encoder")


class TinyText(Text):
    """The text family on the tiny encoder: a head on frozen vectors."""

    tune = "head"

    def defaults(self, task, num_rows):
        changed = {"model": str(tiny_encoder()), "tune": self.tune}
        if self.tune != "head":
            changed |= {"learning_rate": 3e-3, "dropout": 0.0}
        return {**super().defaults(task, num_rows), **changed}


class TinyFull(TinyText):
    """The same, the whole encoder trained, until seeds no longer decide what it says.

    After the usual 4 passes at 0.003 the mean prediction differs by 1 standard deviation of the
    target from seed to seed, which is not what the kit's checks of weights are to see.
    """

    tune = "full"

    def defaults(self, task, num_rows):
        return {**super().defaults(task, num_rows), "learning_rate": 1e-3, "epochs": 12.0}


class TinyLora(TinyText):
    """The same, with adapters."""

    tune = "lora"
