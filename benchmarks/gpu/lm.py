"""Training a language model on one GPU: Loopline, a bare compiled loop, the Trainer, Lightning.

    PYTHONPATH=src python benchmarks/gpu/lm.py --only gpt2 --out $OUT/gpt2.json
    PYTHONPATH=src python benchmarks/gpu/lm.py --only llama --out $OUT/llama.json
    PYTHONPATH=src python benchmarks/gpu/lm.py --only formats,checkpoint,trace --out $OUT/rest.json
    PYTHONPATH=src python benchmarks/gpu/lm.py --only startup --out $OUT/startup.json
    PYTHONPATH=src python benchmarks/gpu/lm.py --tiny --out tiny.json     # a processor, two minutes

Groups (`--only`): gpt2 (GPT-2 124M shape, 32 x 1024 tokens), llama (Llama-3.2-1B shape, 4 x 4096),
formats (GPT-2, 16 x 1024, five number formats, memory split), packed (documents of many lengths),
startup, checkpoint, trace. `--cases` picks some of a group. After `--limit` seconds no further case
begins; what was measured is written after each case.

Needs torch 2.11 or later, numpy, safetensors, blake3; for the peers transformers, accelerate and
lightning, for `trainer_liger` also liger-kernel.
Shown are medians over blocks of steps between device synchronisations, after a warm-up; tokens are
random. Cases of a group run in the order given, each from new weights.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from lm_cases import Work, bare, engine, free, peer, wait

from loopline.engine.layout import Layout
from loopline.engine.meter import PEAKS, Flops
from loopline.nets.lm import Shape, multiplied

GPT2 = Shape(50_304, layers=12, width=768, heads=12, head_width=64, context=1024, style="gpt2")
WIDE = Shape(50_304, layers=12, width=768, heads=6, head_width=128, context=1024, style="gpt2")
LLAMA = Shape(128_256, layers=16, width=2048, heads=32, kv_heads=8, head_width=64, inner=8192,
              context=4096, rope_base=500_000.0)  # fmt: skip
LLAMA_WIDE = Shape(128_256, layers=16, width=2048, heads=16, kv_heads=4, head_width=128, inner=8192,
                   context=4096, rope_base=500_000.0)  # fmt: skip
TINY = Shape(256, layers=2, width=64, heads=4, kv_heads=4, head_width=16, context=32, style="gpt2")
TINY_LLAMA = Shape(256, layers=2, width=64, heads=4, kv_heads=2, head_width=16, context=32)


def told(work, layout, name, found):
    """One case as plain data."""
    found.pop("first_step_at", None)
    times = found.pop("times")
    tokens = work.batch * work.length * found.get("filled", 1.0) / statistics.median(times)
    result = {"case": name, "tokens_per_second": round(tokens),
              "seconds_a_step": statistics.median(times), "fastest_step": min(times),
              "slowest_step": max(times), **found}  # fmt: skip
    if layout.device.type == "cuda":
        card = torch.cuda.get_device_name(layout.device)
        peak = next((value for part, value in PEAKS.items() if part in card), None)
        shape = work.shape
        flops = Flops(multiplied(work.model()), shape.layers, shape.heads * shape.head_width,
                      work.length)  # fmt: skip
        if peak:
            result["mfu_full"] = round(tokens * flops.full / peak, 4)
            result["mfu_causal"] = round(tokens * flops.causal / peak, 4)
    return result


def startup(chosen):
    """Seconds from the command to the end of the first step, cold and with a warm compile cache."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for turn in ("cold", "warm", "warm again"):
            began = time.time()
            command = [sys.executable, __file__, "--first-step", str(began)]
            command += ["--tiny"] * chosen.tiny
            places = {"TORCHINDUCTOR_CACHE_DIR": folder, "TRITON_CACHE_DIR": f"{folder}/triton"}
            done = subprocess.run(command, env={**os.environ, **places}, capture_output=True,
                                  text=True, check=False)  # fmt: skip
            if done.returncode:
                return {"failed": done.stderr[-2000:]}
            said = json.loads(done.stdout.splitlines()[-1])
            found[turn] = {**said, "whole_process": round(time.time() - began, 2)}
    return found


def first_step(chosen):
    """Train two steps and say when the first was over, in seconds from the command."""
    imported = time.time() - chosen.first_step
    work = groups(chosen)["gpt2"][0]
    work.warm, work.steps, work.block = 1, 1, 1
    found = engine(work, Layout.open("single"))
    done = found["first_step_at"] - chosen.first_step
    print(json.dumps({"imported": round(imported, 2), "first_step_done": round(done, 2)}))


def groups(chosen):
    """The works of each group: what is trained, and by which cases."""
    if chosen.tiny:
        small = {"warm": 1, "steps": 4, "block": 2, "precision": "fp32", "compiled": False}
        gpt2, llama = Work(TINY, 4, **small), Work(TINY_LLAMA, 2, **small)
        formats, wide = Work(TINY, 2, **small), Work(TINY, 4, **small)
        llama_wide, packed = llama, Work(TINY_LLAMA, 4, **small, packed=True)
    else:
        gpt2, wide = Work(GPT2, 32), Work(WIDE, 32)
        llama, llama_wide = Work(LLAMA, 4), Work(LLAMA_WIDE, 4)
        formats, packed = Work(GPT2, 16), Work(GPT2, 32, packed=True)
    return {"gpt2": (gpt2, wide), "llama": (llama, llama_wide), "formats": (formats, formats),
            "packed": (packed, packed)}  # fmt: skip


def peers(group):
    """Names of the peers' cases, those that prove most first."""
    names = ["trainer_best", "lightning", "lightning_decoder", "trainer"]
    only = {"gpt2": ["lightning_plain"], "llama": ["trainer_liger"]}
    return [*names, *only[group], "trainer_passes_of_4_steps"]


def cases(chosen, layout):
    """Name, work and what to call, group by group."""
    made = groups(chosen)
    for name in ("gpt2", "llama"):
        work, wide = made[name]
        pure = replace(work, precision="bf16_pure") if not chosen.tiny else work
        yield name, "engine", work, lambda work=work: engine(work, layout)
        for other in peers(name):
            yield name, other, work, lambda work=work, other=other: peer(work, layout, other)
        yield name, "bare", work, lambda work=work: bare(work, layout)
        if name == "gpt2":
            yield name, "plain", work, lambda work=work: bare(work, layout, plain=True)
        yield name, "engine_cudnn", work, lambda work=work: engine(work, layout, cudnn=True)
        yield name, "engine_whole", work, lambda work=work: engine(work, layout, whole=True)
        yield name, "engine_pure", pure, lambda work=pure: engine(work, layout)
        yield name, "engine_wide_heads", wide, lambda work=wide: engine(work, layout)
        yield (name, "engine_wide_heads_cudnn", wide,
               lambda work=wide: engine(work, layout, cudnn=True))  # fmt: skip
        yield name, "engine_again", work, lambda work=work: engine(work, layout)
        yield (name, "trainer_autotuned", work,
               lambda work=work: peer(work, layout, "trainer_autotuned"))  # fmt: skip
    for form in ("bf16", "fp16", "bf16_pure", "tf32", "fp32"):
        work = replace(made["formats"][0], **({} if chosen.tiny else {"precision": form}))
        yield "formats", form, work, lambda work=work: engine(work, layout)
    work = replace(made["formats"][0])
    yield "formats", "bf16_recompute", work, lambda: engine(work, layout, recompute=True)
    packed = made["packed"][0]
    yield "packed", "engine", packed, lambda: engine(packed, layout)
    yield "packed", "rows_of_one_document", packed, lambda: engine(
        replace(packed, packed=False), layout)  # fmt: skip


def others(chosen, layout):
    """Measurements that are no speed: name and what to call."""
    from lm_trace import checkpoint_stall, trace

    work = groups(chosen)["gpt2"][0]
    yield "startup", lambda: startup(chosen)
    yield "checkpoint", lambda: checkpoint_stall(work, layout, engine, wait, chosen.tiny)
    yield "trace", lambda: trace(work, layout, engine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="gpt2,llama,formats,packed,startup,checkpoint,trace")
    parser.add_argument("--cases", default="", help="of the groups; all by default")
    parser.add_argument("--limit", type=float, default=500.0, help="seconds; no case begins later")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes on the processor")
    parser.add_argument("--first-step", type=float, default=0.0, help="used by `startup`")
    parser.add_argument("--out", default="")
    chosen = parser.parse_args()
    if chosen.first_step:
        first_step(chosen)
        return
    layout, wanted = Layout.open("single"), chosen.only.split(",")
    card = torch.cuda.get_device_name() if layout.device.type == "cuda" else platform.machine()
    facts = {"device": card, "torch": torch.__version__, "python": platform.python_version(),
             "settings": vars(chosen)}  # fmt: skip
    report = Report(chosen.limit, chosen.out, layout.device, facts)
    for group, case, work, call in cases(chosen, layout):
        if group in wanted and (not chosen.cases or case in chosen.cases.split(",")):
            name = f"{group} {case}"
            report.attempt(name, partial(timed, work, layout, name, call))
    for name, call in others(chosen, layout):
        if name in wanted:
            report.attempt(name, partial(named, name, call))
    report.write()


def timed(work, layout, name, call):
    """A case that is a speed."""
    return told(work, layout, name, call())


def named(name, call):
    """A case that is none."""
    return {"case": name, **call()}


class Report:
    """What was measured, written after each case."""

    def __init__(self, limit, out, device, facts):
        self.began, self.limit, self.out, self.device = time.time(), limit, out, device
        self.result = {**facts, "cases": [], "left_out": []}

    def attempt(self, name, call):
        """Measure, unless it is too late; a case that fails is told as such."""
        if time.time() - self.began > self.limit:
            self.result["left_out"].append(name)
            return
        began = time.time()
        try:
            found = call()
        except Exception as error:  # noqa: BLE001  # a peer that fails must not hide the others
            free(self.device)
            found = {"case": name, "failed": f"{type(error).__name__}: {error}"[:1500],
                     "where": traceback.format_exc()[-1500:]}  # fmt: skip
        found["seconds_in_all"] = round(time.time() - began, 1)
        print(json.dumps(found), flush=True)
        self.result["cases"].append(found)
        self.write()

    def write(self):
        """Write what there is."""
        if self.out:
            text = json.dumps(self.result, indent=2) + "\n"
            Path(self.out).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
