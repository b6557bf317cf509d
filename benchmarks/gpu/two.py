"""A decoder on two cards beside one: GPT-2 124M under DDP, the Llama-1B shape under FSDP2.

The same of Hugging Face's Trainer at its best (`--cases gpt2_trainer,llama_trainer`).

    PYTHONPATH=src python benchmarks/gpu/two.py --out $OUT/two.json
    PYTHONPATH=src python benchmarks/gpu/two.py --tiny --out two.json     # two processes, a minute

Each case runs in processes of its own, on one card and on two with as many rows for each card.
Speeds are those of one card, medians over blocks of steps (`lm_cases.py`); what they are beside one
card alone says what working together costs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from lm import GPT2, LLAMA, TINY
from lm_cases import Work, engine

from loopline.engine.layout import Layout
from loopline.engine.meter import peak_bytes
from loopline.engine.tools.launch import launch

CASES = {
    "gpt2": (Work(GPT2, 32), "ddp"),
    "gpt2 fsdp": (Work(GPT2, 32), "fsdp"),
    "llama": (Work(LLAMA, 4), "fsdp"),
}


TRAINERS = {
    "gpt2_trainer": ("gpt2", {"ddp_find_unused_parameters": False}),
    "llama_trainer": ("llama", {"fsdp": True, "fsdp_config": {
        "version": 2, "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]}}),
}  # fmt: skip
"""The Trainer's cases: whose work, and what it is told where there are two cards."""


def of_the_trainer(chosen) -> None:
    """One case of the Trainer, which finds the processes by itself."""
    from lm_peers import huggingface

    like, layout = TRAINERS[chosen.case]
    work, kind = CASES[like]
    if chosen.tiny:
        work = small()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")
    found = huggingface(work, device, "trainer_best", layout if world > 1 else {})
    if rank == 0:
        seconds = statistics.median(found.pop("times"))
        told = {
            "case": chosen.case,
            "layout": kind if world > 1 else "single",
            "cards": world,
            "tokens_per_second_a_card": round(work.batch * work.length / seconds),
            "seconds_a_step": seconds,
            "memory": {"peak": peak_bytes(device)} if device.type == "cuda" else {},
            **found,
        }
        Path(chosen.out).write_text(json.dumps(told), encoding="utf-8")


def small() -> Work:
    """What a processor trains in a moment."""
    return Work(TINY, 4, warm=1, steps=4, block=2, precision="fp32", compiled=False)


def measured(chosen) -> None:
    """One case on the processes that are here, written by the leading one."""
    work, kind = CASES[chosen.case]
    if chosen.tiny:
        work = small()
    layout = Layout.open(kind if chosen.processes > 1 else "single")
    work = replace(work, batch=work.batch * layout.world)
    found = engine(work, layout)
    if layout.leads:
        seconds = statistics.median(found["times"])
        told = {
            "case": chosen.case,
            "layout": kind if layout.world > 1 else "single",
            "cards": layout.world,
            "tokens_per_second_a_card": round(work.batch * work.length / seconds / layout.world),
            "seconds_a_step": seconds,
            "loss": found["loss"],
            "memory": found["memory"],
        }
        Path(chosen.out).write_text(json.dumps(told), encoding="utf-8")
    layout.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--case", default="", help="one of them, in this process")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--tiny", action="store_true", help="tiny shapes on the processor")
    parser.add_argument("--out", required=True)
    chosen = parser.parse_args()
    if chosen.case:
        if chosen.processes > 1 and "WORLD_SIZE" not in os.environ:
            launch([__file__, *sys.argv[1:]], chosen.processes)
        elif chosen.case in TRAINERS:
            of_the_trainer(chosen)
        else:
            measured(chosen)
        return
    result = {"torch": torch.__version__, "python": platform.python_version(), "cases": []}
    result["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "processor"
    for case in chosen.cases.split(","):
        for processes in (1, 2):
            part = f"{chosen.out}.part"
            command = [sys.executable, __file__, "--case", case, "--processes", str(processes)]
            command += ["--out", part, *["--tiny"] * chosen.tiny]
            seen = {"CUDA_VISIBLE_DEVICES": "0"} if processes == 1 else {}  # a Trainer takes all
            done = subprocess.run(command, env=os.environ | seen, check=False)
            failed = {"case": case, "cards": processes, "failed": done.returncode}
            found = failed if done.returncode else json.loads(Path(part).read_text())
            print(json.dumps(found), flush=True)
            result["cases"].append(found)
            Path(chosen.out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            Path(part).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
