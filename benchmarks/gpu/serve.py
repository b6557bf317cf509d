"""A text model behind HTTP on a GPU: how long one caller waits, how many rows 64 callers get.

    PYTHONPATH=src python benchmarks/gpu/serve.py --out $OUT/serve.json
    PYTHONPATH=src python benchmarks/gpu/serve.py --tiny --out tiny.json     # a processor, a minute

A release of the text family is made by a line as users make it: a head on an encoder of BERT-base's
shape with random weights, fitted to 1,024 drawn texts of 60 words. It is served by
`loopline.open_service` with its usual settings (contract, window and prediction log on) and asked
by a second process over kept connections, each request another text: one caller, then 64. What
waits while the GPU works goes together, nobody waits for a batch to fill. `alone` is what the model
does in the service's process without HTTP, in batches of 1 and of 64 rows. At the end a process
that sees no GPU predicts the same rows, and what came over HTTP is laid beside its answers.

Needs torch, transformers, tokenizers, safetensors, pyyaml and numpy, and as wheels polars,
polars-runtime-32, pydantic, pydantic-core, annotated-types, typing-inspection, orjson, httptools,
uvloop, uvicorn, click, h11, blake3, lightgbm, scikit-learn, scipy, joblib and threadpoolctl.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np

WORDS = 2_000
HEAD = (
    "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Content-Length: {}\r\n\r\n"
)


def made(rows: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts of 60 words, and their classes."""
    rng = np.random.default_rng(seed)
    yes = rng.random(rows) < 0.5
    drawn = rng.integers(0, WORDS, (rows, 60))
    marked = rng.random((rows, 60)) < 0.5
    drawn = np.where(marked & yes[:, None], rng.integers(0, WORDS // 20, (rows, 60)), drawn)
    lines = [" ".join(f"w{number}" for number in row) for row in drawn]
    return lines, np.where(yes, "yes", "no").tolist()


async def caller(port: int, bodies: list[bytes], places: Any, requests: int) -> tuple[list, dict]:
    """One kept connection; gives the milliseconds of each request, and answers by text."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    taken: list[float] = []
    answers: dict[int, float] = {}
    while (place := next(places)) < requests:
        body = bodies[place % len(bodies)]
        start = time.perf_counter()
        writer.write(HEAD.format(len(body)).encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise SystemExit(head.decode())
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        answer = await reader.readexactly(length)
        taken.append((time.perf_counter() - start) * 1e3)
        answers[place % len(bodies)] = json.loads(answer)["probability"]["yes"]
    writer.close()
    return taken, answers


async def ask(port: int, file: Path, callers: int, requests: int) -> dict[str, Any]:
    """All requests by some callers at once."""
    texts = json.loads(file.read_text(encoding="utf-8"))
    bodies = [json.dumps({"text": text}).encode() for text in texts]
    places = count()
    start = time.perf_counter()
    found = await asyncio.gather(*(caller(port, bodies, places, requests) for _ in range(callers)))
    seconds = time.perf_counter() - start
    taken = np.array([one for each, _ in found for one in each])
    answers: dict[int, float] = {}
    for _, known in found:
        answers |= known
    return {
        "rows_per_second": round(len(taken) / seconds, 1),
        "p50_ms": round(float(np.quantile(taken, 0.5)), 3),
        "p99_ms": round(float(np.quantile(taken, 0.99)), 3),
        "requests": len(taken),
        "answers": answers,
    }


def asked(port: int, file: Path, callers: int, requests: int) -> dict[str, Any]:
    """`ask` in a process of its own, so that it takes nothing from the service's interpreter."""
    given = [str(port), str(file), str(callers), str(requests)]
    done = subprocess.run(
        [sys.executable, __file__, "--ask", *given], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def release_of(store: Path, encoder: str, rows: int) -> Any:
    """The release, made by a line with two folds."""
    import polars as pl

    import loopline

    texts, classes = made(rows, 0)
    found = loopline.fit(
        pl.DataFrame({"text": texts, "class": classes}),
        "class",
        models={"text": {"model": encoder}},
        store=store,
        settings={
            "name": "serve",
            "columns": {"text": {"type": "text"}},
            "split": {"folds": 2},
        },
        progress=False,
    ).release
    assert found.facts["family"] == "text", "the encoder's vectors told nothing of the classes"
    return found


def alone(release: Any, texts: list[str], rows: int, seconds: float) -> float:
    """Rows a second of the model itself, in batches."""
    import polars as pl

    table = pl.DataFrame({"text": texts})
    checked, _ = release.contract.check(table)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        release.raw(checked.slice(done % (len(texts) - rows), rows))
        done += rows
    return round(done / (time.perf_counter() - start), 1)


def on_processor(store: Path, file: Path) -> list[float]:
    """What a process that sees no GPU says to the same texts."""
    code = (
        "import json, sys, loopline, polars as pl\n"
        "with loopline.open_project(sys.argv[1]) as project:\n"
        "    table = pl.DataFrame({'text': json.load(open(sys.argv[2]))})\n"
        "    found = project.release('serve').predict(table)['probability_yes']\n"
        "print(json.dumps(found.to_list()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store), str(file)],
        capture_output=True, text=True, check=False, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    import torch
    from families import encoder

    import loopline

    start = time.perf_counter()
    release = release_of(folder / "store", encoder(folder / "bert", given.tiny), given.rows)
    result: dict[str, Any] = {
        "made_in_seconds": round(time.perf_counter() - start, 1),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "processor",
        "cores": len(os.sched_getaffinity(0)),
    }
    texts, _ = made(given.texts, 1)
    file = folder / "texts.json"
    file.write_text(json.dumps(texts), encoding="utf-8")
    with loopline.open_service(release, store=folder / "store") as running:
        port = int(running.url.rpartition(":")[2])
        asked(port, file, 64, 4 * given.texts)  # warm-up: every shape is met once
        result["alone"] = {
            f"batch_{rows}_rows_per_second": alone(release, texts, rows, given.seconds)
            for rows in (1, 64)
        }
        answers: dict[str, float] = {}
        for callers, requests in ((1, given.requests), (64, given.requests * 8)):
            turns = [asked(port, file, callers, requests) for _ in range(given.turns)]
            answers |= turns[-1].pop("answers")
            best = max(turns, key=lambda one: one["rows_per_second"])
            result[f"{callers}_callers"] = {
                **{name: value for name, value in best.items() if name != "answers"},
                "turns": [one["rows_per_second"] for one in turns],
            }
            print(callers, result[f"{callers}_callers"], flush=True)
        heavy = running.service.deployments["serve"].champion.heavy
    result["in_a_lane"] = heavy
    wanted = on_processor(folder / "store", file)
    differences = [abs(wanted[int(place)] - value) for place, value in answers.items()]
    result["parity_with_the_processor"] = {
        "rows": len(differences),
        "largest_difference": max(differences),
        "other_classes": sum(
            (wanted[int(place)] >= 0.5) != (value >= 0.5) for place, value in answers.items()
        ),
    }
    return result


def main() -> None:
    if sys.argv[1:2] == ["--ask"]:
        port, file, callers, requests = sys.argv[2:]
        print(json.dumps(asyncio.run(ask(int(port), Path(file), int(callers), int(requests)))))
        return
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--out", type=Path)
    reader.add_argument("--tiny", action="store_true")
    reader.add_argument(
        "--rows", type=int, default=1_024, help="texts that the release learns from"
    )
    reader.add_argument("--texts", type=int, default=512, help="different texts that are asked")
    reader.add_argument("--requests", type=int, default=2_000)
    reader.add_argument("--turns", type=int, default=3)
    reader.add_argument("--seconds", type=float, default=5.0)
    given = reader.parse_args()
    if given.tiny:
        given.rows, given.texts, given.requests, given.turns, given.seconds = 128, 80, 60, 2, 0.3
    with tempfile.TemporaryDirectory() as place:
        result = run(given, Path(place))
    print(json.dumps(result, indent=1))
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
