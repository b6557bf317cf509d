"""The neural families on a GPU: do they train there, how fast, and does a processor answer alike?

    PYTHONPATH=src python benchmarks/gpu/families.py [--small] [--out result.json]

A network for tables (200,000 rows of 30 columns), an encoder of BERT-base's shape tuned whole
(8,192 texts of 60 words), and a ResNet-50 tuned whole (4,096 JPEG pictures of 224 pixels). Weights
are random and data is drawn here, so what is measured is the machine, and that the rule in the data
is learned at all. Each fitted model is saved, read again by a process that sees no GPU, and
predicts the same held-out rows. Needs torch, transformers, tokenizers, Pillow, numpy, safetensors,
blake3 and polars.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from loopline.data.schema import Column, Schema
from loopline.evaluate.metrics import metric
from loopline.models.base import FitContext
from loopline.models.families import family
from loopline.splits.split import all_train
from loopline.splits.views import TrainView

WORDS = 2_000


def view(frame: pl.DataFrame, kinds: dict[str, Any]) -> TrainView:
    columns = tuple(Column(name, kind) for name, kind in kinds.items())
    schema = Schema((*columns, Column("y", "category", "target")), "binary", ("no", "yes"))
    digests = np.random.default_rng(0).integers(0, 2**63, (frame.height, 2)).astype(np.uint64)
    return all_train(digests).train_view(frame, schema)


def table(rows: int) -> tuple[pl.DataFrame, dict[str, Any]]:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((rows, 30))
    odds = 2 * x[:, 0] * x[:, 1] + np.sin(3 * x[:, 2]) + x[:, 3]
    yes = rng.random(rows) < 1 / (1 + np.exp(-2 * odds))
    data = {f"x{place}": x[:, place] for place in range(30)}
    return pl.DataFrame({**data, "y": np.where(yes, "yes", "no")}), dict.fromkeys(data, "number")


def texts(rows: int) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Texts of 60 words; a text is of the class when words of its first twentieth prevail."""
    rng = np.random.default_rng(2)
    yes = rng.random(rows) < 0.5
    drawn = rng.integers(0, WORDS, (rows, 60))
    marked = rng.random((rows, 60)) < 0.1
    special = rng.integers(0, WORDS // 20, (rows, 60))
    drawn = np.where(marked & yes[:, None], special, drawn)
    lines = [" ".join(f"w{number}" for number in row) for row in drawn]
    return pl.DataFrame({"text": lines, "y": np.where(yes, "yes", "no")}), {"text": "text"}


def pictures(rows: int, side: int) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Noise with a bright stripe, which stands or lies."""
    from PIL import Image

    rng = np.random.default_rng(3)
    yes = rng.random(rows) < 0.5
    found = []
    for stands in yes:
        pixels = rng.integers(0, 160, (side, side, 3), dtype=np.uint8)
        place = int(rng.integers(0, side - side // 8))
        stripe = slice(place, place + side // 8)
        if stands:
            pixels[:, stripe] = 230
        else:
            pixels[stripe] = 230
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=85)
        found.append(file.getvalue())
    return pl.DataFrame({"picture": found, "y": np.where(yes, "yes", "no")}), {"picture": "image"}


def encoder(folder: Path, small: bool) -> str:
    """A BERT with random weights and a tokenizer that knows the words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(WORDS))]
    tokenizer = Tokenizer(
        models.WordLevel({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(pieces[:5])
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad": "[PAD]", "sep": "[SEP]", "cls": "[CLS]", "unk": "[UNK]", "mask": "[MASK]"}
    facts = {f"{name}_token": piece for name, piece in names.items()}
    facts |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 128}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts), encoding="utf-8")
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4} if small else {}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(pieces), **shape)).save_pretrained(folder)
    return str(folder)


def resnet(folder: Path, small: bool) -> str:
    """A ResNet-50 with random weights."""
    from transformers import ResNetConfig, ResNetForImageClassification

    shape: dict[str, Any] = {}
    if small:
        shape = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    torch.manual_seed(0)
    ResNetForImageClassification(ResNetConfig(num_labels=2, **shape)).save_pretrained(folder)
    return str(folder)


CASES = ("mlp", "text", "image")


def data_of(case: str, small: bool) -> tuple[pl.DataFrame, dict[str, Any]]:
    if case == "mlp":
        return table(4_000 if small else 220_000)
    if case == "text":
        return texts(300 if small else 9_216)
    return pictures(200 if small else 4_608, 48 if small else 224)


def measure(case: str, small: bool, place: Path) -> dict[str, Any]:
    frame, kinds = data_of(case, small)
    held = frame.height // 10
    train, rest = view(frame[held:], kinds), frame[:held]
    kind = family(case)
    params = kind.defaults("binary", train.num_rows)
    if case == "mlp":
        params |= {"epochs": 2.0 if small else 10.0, "batch_size": 256 if small else 2048}
    if case == "text":
        params |= {"model": encoder(place / "encoder", small), "tune": "full", "epochs": 2.0}
        params |= {"learning_rate": 1e-4, "precision": "fp32" if small else "bf16"}
    if case == "image":
        params |= {"model": resnet(place / "resnet", small), "tune": "full", "epochs": 3.0}
        params |= {"learning_rate": 1e-3, "precision": "fp32" if small else "bf16"}
        params |= {"batch_size": 32 if small else 128, "size": 48 if small else 224}
    began = time.monotonic()
    model = kind.fit(train, None, params, FitContext(seed=0, threads=os.cpu_count() or 1))
    seconds = time.monotonic() - began
    began = time.monotonic()
    answer = model.predict(rest.drop("y"))
    predicted = time.monotonic() - began
    y = (rest["y"] == "yes").to_numpy().astype(np.int64)
    auc = metric("auc")
    folder = place / case
    folder.mkdir()
    model.save(folder)
    rest.drop("y").write_parquet(place / "rows.parquet")
    command = [sys.executable, __file__, "--answer", case, str(place)]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, check=True, env=hidden)
    elsewhere = np.load(place / "answer.npy")
    readings = [json.loads(line) for line in model.log.splitlines()]
    return {
        "rows": train.num_rows,
        "params": {name: value for name, value in params.items() if name != "model"},
        "seconds": round(seconds, 2),
        "rows_a_second": round(train.num_rows * float(params["epochs"]) / seconds, 1),
        "readings": readings[-3:],
        "predict_rows_a_second": round(rest.height / predicted, 1),
        "auc": auc.score(auc.rows(y, answer)).value,
        "auc_on_processor": auc.score(auc.rows(y, elsewhere)).value,
        "largest_difference": float(np.abs(answer - elsewhere).max()),
    }


def answer(case: str, place: Path) -> None:
    model = family(case).load(place / case)
    np.save(place / "answer.npy", model.predict(pl.read_parquet(place / "rows.parquet")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--answer", nargs=2)
    options = parser.parse_args()
    if options.answer:
        answer(options.answer[0], Path(options.answer[1]))
        return
    cuda = torch.cuda.is_available()
    data: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if cuda else platform.processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "polars": pl.__version__,
        "small": options.small,
    }
    for case in CASES:
        with tempfile.TemporaryDirectory() as place:
            data[case] = measure(case, options.small, Path(place))
        print(case, json.dumps(data[case]), flush=True)
        if options.out:
            options.out.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
