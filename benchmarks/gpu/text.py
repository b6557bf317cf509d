"""Fine-tuning an encoder of BERT-base's shape on short texts: Loopline against the Trainer.

    PYTHONPATH=src python benchmarks/gpu/text.py --out $OUT/text.json
    PYTHONPATH=src python benchmarks/gpu/text.py --only packed,trainer_default --limit 300
    PYTHONPATH=src python benchmarks/gpu/text.py --tiny --out tiny.json      # a processor, a minute

Texts are drawn here: words of a vocabulary of 30,000 by a power law, lengths log-normal as those of
news (about 53 tokens of title and description, a few up to 200); weights are random, four classes.
Every case begins with the same texts in memory and ends when all of them were learned from once:
tokenising, loading and compiling are inside `seconds`; `examples_per_second` is of the whole,
`steady` without the first `warm` steps (and what they compile) but with tokenising.

Cases: packed (the engine, no padding, compiled), packed_eager, family and family_compiled (the text
family as a line calls it, with a head's fit on frozen vectors before), trainer_default (Hugging
Face's Trainer with its defaults: batch 8, FP32), trainer_best (BF16, fused AdamW, batches of like
length, workers), trainer_best_compiled. Needs torch 2.11 or later, transformers, tokenizers, numpy,
safetensors, blake3; the case `family` polars too. After `--limit` seconds no further case begins.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch
from lm import Report
from lm_cases import free, wait

from loopline.engine.events import Event
from loopline.engine.layout import Layout
from loopline.engine.loop import train
from loopline.engine.meter import peak_bytes
from loopline.engine.optimizer import OptimizerSettings
from loopline.engine.run import prepare
from loopline.engine.schedule import Schedule
from loopline.engine.settings import TrainSettings
from loopline.nets.examples import Examples, Labelled
from loopline.nets.packed_text import PackedEncoder, PackedTextNet, packed

CLASSES = 4
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MOST = 256


def words(count):
    """Distinct words of letters, the frequent ones short."""
    letters = "etaoinshrdlucmfwypvbgk"
    found = []
    for number in range(count):
        word, rest = "", number
        while True:
            word += letters[rest % len(letters)]
            rest //= len(letters)
            if not rest:
                break
        found.append(word + "x")
    return found


def texts(num, vocabulary, seed=0):
    """Texts as strings, and their classes: words of a class's own are a little more frequent."""
    draw = np.random.default_rng(seed)
    known = np.array(words(vocabulary))
    sizes = np.clip(np.exp(draw.normal(np.log(48.0), 0.4, num)), 8, 200).astype(np.int64)
    labels = draw.integers(0, CLASSES, num)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    power = np.minimum(draw.pareto(0.7, ends[-1]), vocabulary - 1).astype(np.int64)
    owner = np.repeat(labels, sizes)
    marked = draw.random(ends[-1]) < 0.1
    number = np.where(marked, (draw.integers(0, 64, ends[-1]) * CLASSES + owner), power)
    drawn = known[number % vocabulary]
    lines = [" ".join(drawn[start:stop]) for start, stop in pairwise(ends)]
    return lines, labels


def tokenizer_of(vocabulary):
    """A WordPiece tokenizer that knows the words and all letters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*SPECIAL, *words(vocabulary), *letters, *(f"##{letter}" for letter in letters)]
    table = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    made = Tokenizer(models.WordPiece(table, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = (
        normalizers.BertNormalizer(),
        pre_tokenizers.BertPreTokenizer(),
    )
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.enable_truncation(MOST)
    return made


def config_of(chosen):
    """BERT-base, or something tiny."""
    from transformers import BertConfig

    size = chosen.vocabulary + 60
    shape = {}
    if chosen.tiny:
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return BertConfig(vocab_size=-(-size // 64) * 64, num_labels=CLASSES, **shape)


class Clock(Event):
    """Notes when the warm-up steps were over, with everything computed."""

    name = "clock"

    def __init__(self, warm):
        self.warm, self.at = warm, None

    def after_step(self, run):
        """Wait for the device once, at the end of the warm-up."""
        if run.state.step == self.warm:
            wait(run.layout.device)
            self.at = time.perf_counter()


def rates(chosen, began, tokenised, warm_at, warm_rows, ended):
    """Seconds and examples a second, in all and without the warm-up."""
    steady = None
    if warm_at is not None and ended > warm_at:
        left = chosen.rows - warm_rows
        share = left / chosen.rows
        steady = round(left / (ended - warm_at + (tokenised - began) * share), 1)
    return {"rows": chosen.rows, "seconds": round(ended - began, 3),
            "seconds_tokenising": round(tokenised - began, 3), "steady": steady,
            "examples_per_second": round(chosen.rows / (ended - began), 1)}  # fmt: skip


def engine(chosen, layout, *, compiled):
    """The engine on packed texts, from strings to the last step."""
    free(layout.device)
    lines, labels = texts(chosen.rows, chosen.vocabulary)
    reader, config = tokenizer_of(chosen.vocabulary), config_of(chosen)
    torch.manual_seed(0)
    net = PackedTextNet(PackedEncoder(config.to_dict(), "cls"), CLASSES, 0.1)
    began = time.perf_counter()
    read = reader.encode_batch_fast(lines)
    sizes = np.array([len(line.ids) for line in read], dtype=np.int64)
    tokens = np.fromiter((t for line in read for t in line.ids), np.int32, int(sizes.sum()))
    ends = np.concatenate([[0], np.cumsum(sizes)])
    tokenised = time.perf_counter()
    task = Examples(
        Labelled({"tokens": tokens, "ends": ends}, labels),
        None,
        lambda arrays, rows, epochs: packed(arrays["tokens"], arrays["ends"], rows, 0),
        num_classes=CLASSES,
    )
    clock = Clock(chosen.warm)
    run = prepare(
        task,
        net,
        TrainSettings(
            batch_size=chosen.batch,
            micro_batch=chosen.batch,
            epochs=1.0,
            threads=4,
            precision="fp32" if chosen.tiny else "bf16",
            compile=compiled,
            save_every=10**9,
            optimizer=OptimizerSettings(lr=5e-5, weight_decay=0.01),
            schedule=Schedule("linear", warmup=0.05),
        ),
        layout=layout,
        events=[clock],
    )
    train(run)
    wait(layout.device)
    told = rates(chosen, began, tokenised, clock.at, chosen.warm * chosen.batch,
                 time.perf_counter())  # fmt: skip
    return {**told, "loss": run.packet.loss, "waited": round(run.waited, 3),
            "tokens_a_text": round(float(sizes.mean()), 1), "batch": chosen.batch,
            "peak_bytes": peak_bytes(layout.device)}  # fmt: skip


def family(chosen, layout, *, compiled):
    """The text family as a line uses it: packed on a GPU, batches of like length elsewhere."""
    import polars as pl
    from families import view

    from loopline.models.base import FitContext
    from loopline.models.families import family as found
    from loopline.models.pretrained import find_pretrained

    free(layout.device)
    with tempfile.TemporaryDirectory() as place:
        save_pretrained(chosen, Path(place) / "bert")
        find_pretrained(str(Path(place) / "bert"))
        num = min(chosen.rows, chosen.default_rows)
        lines, labels = texts(num, chosen.vocabulary)
        answer = np.where(labels % 2, "yes", "no")
        rows = view(pl.DataFrame({"text": lines, "y": answer}), {"text": "text"})
        params = {"model": str(Path(place) / "bert"), "tune": "full", "epochs": 1.0,
                  "batch_size": chosen.batch, "learning_rate": 5e-5, "penalty": 1.0,
                  "compile": compiled,
                  "precision": "fp32" if chosen.tiny else "bf16"}  # fmt: skip
        began = time.perf_counter()
        model = found("text").fit(rows, None, params, FitContext(seed=0, threads=8))
        ended = time.perf_counter()
    readings = [json.loads(line) for line in model.log.splitlines()]
    note = "with the head's fit on frozen vectors, which precedes full tuning"
    told = rates(argparse.Namespace(rows=num), began, began, None, 0, ended)
    return {**told, "reading": readings[-1:], "note": note}


def save_pretrained(chosen, folder):
    """A BERT with random weights beside its tokenizer."""
    from transformers import BertModel

    folder.mkdir()
    torch.manual_seed(0)
    BertModel(config_of(chosen)).save_pretrained(folder)
    tokenizer_of(chosen.vocabulary).save(str(folder / "tokenizer.json"))
    names = {"pad": "[PAD]", "sep": "[SEP]", "cls": "[CLS]", "unk": "[UNK]", "mask": "[MASK]"}
    facts = {f"{name}_token": piece for name, piece in names.items()}
    facts |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": MOST}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts), encoding="utf-8")


def trainer(chosen, layout, *, best):
    """Hugging Face's Trainer, from strings to the last step."""
    import inspect

    from transformers import (
        BertForSequenceClassification,
        DataCollatorWithPadding,
        PreTrainedTokenizerFast,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    free(layout.device)
    rows = chosen.rows if best else min(chosen.rows, chosen.default_rows)
    lines, labels = texts(rows, chosen.vocabulary)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]",
               "sep_token": "[SEP]", "mask_token": "[MASK]"}  # fmt: skip
    reader = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of(chosen.vocabulary), model_max_length=MOST, **special
    )
    torch.manual_seed(0)
    model = BertForSequenceClassification(config_of(chosen))
    batch = chosen.batch if best else 8
    warm = chosen.warm

    class Mark(TrainerCallback):
        at = None

        def on_step_end(self, args, state, control, **others):
            if state.global_step == warm:
                wait(layout.device)
                self.at = time.perf_counter()

    with tempfile.TemporaryDirectory() as place:
        wanted = {"output_dir": place, "num_train_epochs": 1, "report_to": "none",
                  "save_strategy": "no", "disable_tqdm": True,
                  "use_cpu": layout.device.type == "cpu"}  # fmt: skip
        if best:
            wanted |= {"per_device_train_batch_size": batch, "bf16": not chosen.tiny,
                       "tf32": None if chosen.tiny else True, "optim": "adamw_torch_fused",
                       "group_by_length": True, "train_sampling_strategy": "group_by_length",
                       "dataloader_num_workers": 0 if chosen.tiny else 4,
                       "dataloader_pin_memory": True, "logging_strategy": "no",
                       "torch_compile": best == "compiled"}  # fmt: skip
        known = inspect.signature(TrainingArguments).parameters
        given = {name: value for name, value in wanted.items() if name in known}
        settings = TrainingArguments(**given)
        began = time.perf_counter()
        read = reader(lines, truncation=True, max_length=MOST)
        data = [
            {"input_ids": ids, "attention_mask": mask, "labels": int(label)}
            for ids, mask, label in zip(
                read["input_ids"], read["attention_mask"], labels, strict=True
            )
        ]
        tokenised = time.perf_counter()
        mark = Mark()
        engine = Trainer(model=model, args=settings, train_dataset=data, callbacks=[mark],
                         data_collator=DataCollatorWithPadding(reader))  # fmt: skip
        out = engine.train()
        wait(layout.device)
        ended = time.perf_counter()
    part = argparse.Namespace(rows=rows)
    return {**rates(part, began, tokenised, mark.at, warm * batch, ended),
            "loss": out.training_loss, "batch": batch, "peak_bytes": peak_bytes(layout.device),
            "settings": {k: v for k, v in given.items() if k != "output_dir"}}  # fmt: skip


def main() -> None:
    every = "packed,packed_eager,trainer_default,trainer_best,family,family_compiled"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=f"{every},trainer_best_compiled")
    parser.add_argument("--rows", type=int, default=65_536)
    parser.add_argument(
        "--default-rows", type=int, default=8_192, help="for trainer_default, family"
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--vocabulary", type=int, default=30_000)
    parser.add_argument("--warm", type=int, default=20, help="steps left out of `steady`")
    parser.add_argument("--limit", type=float, default=480.0, help="seconds; no case begins later")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes on the processor")
    parser.add_argument("--out", default="")
    chosen = parser.parse_args()
    if chosen.tiny:
        chosen.rows, chosen.default_rows, chosen.batch, chosen.vocabulary = 128, 64, 16, 500
        chosen.warm = 2
    layout = Layout.open("single")
    card = torch.cuda.get_device_name() if layout.device.type == "cuda" else platform.machine()
    facts = {"device": card, "torch": torch.__version__, "python": platform.python_version(),
             "settings": vars(chosen)}  # fmt: skip
    report = Report(chosen.limit, chosen.out, layout.device, facts)
    calls = {
        "packed": partial(engine, chosen, layout, compiled=not chosen.tiny),
        "packed_eager": partial(engine, chosen, layout, compiled=False),
        "trainer_default": partial(trainer, chosen, layout, best=""),
        "trainer_best": partial(trainer, chosen, layout, best="eager"),
        "trainer_best_compiled": partial(trainer, chosen, layout, best="compiled"),
        "family": partial(family, chosen, layout, compiled=False),
        "family_compiled": partial(family, chosen, layout, compiled=not chosen.tiny),
    }
    for name in chosen.only.split(","):
        report.attempt(name, lambda name=name: {"case": name, **calls[name]()})
    report.write()


if __name__ == "__main__":
    main()
