"""A decoder on two cards beside one: GPT-2 124M under DDP, the Llama-1B shape under FSDP2.

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
from loopline.engine.tools.launch import launch

CASES = {
    "gpt2": (Work(GPT2, 32), "ddp"),
    "gpt2 fsdp": (Work(GPT2, 32), "fsdp"),
    "llama": (Work(LLAMA, 4), "fsdp"),
}


def measured(chosen) -> None:
    """One case on the processes that are here, written by the leading one."""
    work, kind = CASES[chosen.case]
    if chosen.tiny:
        work = Work(TINY, 4, warm=1, steps=4, block=2, precision="fp32", compiled=False)
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
            done = subprocess.run(command, check=False)
            failed = {"case": case, "cards": processes, "failed": done.returncode}
            found = failed if done.returncode else json.loads(Path(part).read_text())
            print(json.dumps(found), flush=True)
            result["cases"].append(found)
            Path(chosen.out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            Path(part).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
