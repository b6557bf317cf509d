"""The engine on one or two GPUs: formats, compilation, layouts, overhead against a bare loop.

    PYTHONPATH=src python benchmarks/gpu/engine.py --shape gpt2 --batch 32 --out result.json
    PYTHONPATH=src python benchmarks/gpu/engine.py --processes 2 --out result2.json

Needs torch (2.11 or later, with CUDA), and beside it only numpy, safetensors and blake3; runs on
Python 3.11 or later. With ``--processes 2`` it starts itself on two GPUs and runs DDP and FSDP2.
Without a GPU it runs as well, on the CPU: ``--shape tiny --batch 4 --steps 6 --no-compile``.

The decoder and its random tokens are in benchmarks/decoder.py. Every case is warmed up; shown are
medians over steps between device synchronisations. The bare loop trains the same module, compiled
in the same way, with the same fused AdamW, clipping and autocast. Engine and bare loop take turns.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from decoder import SHAPES, Decoder, Tokens, multiplied
from torch import nn

from loopline.engine.events import Event
from loopline.engine.feeder import to_device
from loopline.engine.layout import Layout
from loopline.engine.loop import train
from loopline.engine.meter import PEAKS, Flops, peak_bytes
from loopline.engine.optimizer import OptimizerSettings
from loopline.engine.precision import Precision
from loopline.engine.run import prepare
from loopline.engine.settings import TrainSettings
from loopline.engine.tools.find import find_batch, find_lr
from loopline.engine.tools.launch import launch
from loopline.engine.tools.parity import parity
from loopline.progress import SilentReporter


def wait(device):
    """Let the device finish."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Clock(Event):
    """Times blocks of steps; waits for the device only at the ends of a block."""

    name = "clock"

    def __init__(self, warm: int, block: int) -> None:
        self.warm, self.block, self.times, self.mark = warm, block, [], 0.0

    def after_step(self, run) -> None:
        """Read the clock at the end of a block."""
        done = run.state.step - self.warm
        if done >= 0 and done % self.block == 0:
            wait(run.layout.device)
            now = time.perf_counter()
            if done:
                self.times.append((now - self.mark) / self.block)
            self.mark = now


def model_of(chosen, *, compiled: bool):
    """The decoder; its tail is compiled here, its blocks by whoever trains it."""
    model = Decoder(chosen.shape)
    if compiled:
        model.tail.compile()
    return model


def free(device):
    """Forget what earlier cases compiled and allocated."""
    gc.collect()
    torch._dynamo.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def settings_of(chosen, precision: str, world: int, **others):
    return TrainSettings(
        batch_size=chosen.batch * world,
        micro_batch=chosen.batch,
        steps=chosen.warm + chosen.steps,
        precision=precision,
        optimizer=OptimizerSettings(lr=1e-4, weight_decay=0.1),
        **others,
    )


def engine_case(chosen, layout, precision: str, *, compiled: bool, recompute: bool = False):
    """Times of blocks of steps with the engine, peak memory and the last loss."""
    free(layout.device)
    clock = Clock(chosen.warm, chosen.block)
    run = prepare(
        Tokens(chosen.shape, 4 * chosen.batch * layout.world),
        model_of(chosen, compiled=compiled),
        settings_of(chosen, precision, layout.world, compile=compiled, recompute=recompute),
        layout=layout,
        events=[clock],
    )
    train(run)
    return clock.times, peak_bytes(layout.device), run.packet.loss, run.waited


def bare_case(chosen, layout, precision: str, *, compiled: bool):
    """The same by hand: one loop, nothing around it."""
    free(layout.device)
    device = layout.device
    form = Precision(precision, device.type)
    form.apply()
    model = model_of(chosen, compiled=compiled).to(device, form.weights).train()
    if compiled:
        for layer in model.layers:
            layer.compile()
    called = model
    if layout.world > 1:
        ids = [device.index] if device.type == "cuda" else None
        called = nn.parallel.DistributedDataParallel(
            model, device_ids=ids, gradient_as_bucket_view=True
        )
    matrices = [value for value in model.parameters() if value.ndim >= 2]
    others = [value for value in model.parameters() if value.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=True)
    task = Tokens(chosen.shape, 4 * chosen.batch)
    rows = torch.arange(4 * chosen.batch).reshape(4, chosen.batch).numpy()
    batches = [to_device(task.batch(part, part, train=True), device) for part in rows]
    times, mark = [], 0.0
    for step in range(chosen.warm + chosen.steps):
        batch = batches[step % 4]
        with form.context():
            loss = called(batch["tokens"], batch["targets"]) / batch["targets"].numel()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done = step + 1 - chosen.warm
        if done >= 0 and done % chosen.block == 0:
            wait(device)
            now = time.perf_counter()
            if done:
                times.append((now - mark) / chosen.block)
            mark = now
    return times, peak_bytes(device), float(loss.detach()), 0.0


def told(chosen, layout, name, found):
    """One case as plain data."""
    times, peak, loss, waited = found
    layers, width, _, length, _ = SHAPES[chosen.shape]
    tokens = chosen.batch * length / statistics.median(times)
    result = {
        "case": name,
        "tokens_per_second_per_device": round(tokens),
        "seconds_a_step": statistics.median(times),
        "fastest_step": min(times),
        "peak_gb": round(peak / 1e9, 2),
        "last_loss": loss,
        "seconds_waited_for_batches": waited,
    }
    if layout.device.type == "cuda":
        card = torch.cuda.get_device_name(layout.device)
        known = [peak for part, peak in PEAKS.items() if part in card]
        flops = Flops(multiplied(Decoder(chosen.shape)), layers, width, length)
        if known:
            result["mfu_full"] = round(tokens * flops.full / known[0], 4)
            result["mfu_causal"] = round(tokens * flops.causal / known[0], 4)
    if layout.leads:
        print(json.dumps(result), flush=True)
    return result


def synchronisations(chosen, layout):
    """How many operations in a step of the engine made the host wait for the device."""
    if layout.device.type != "cuda":
        return None
    free(layout.device)

    class Listen(Event):
        name = "listen"

        def before_step(self, run) -> None:
            torch.cuda.set_sync_debug_mode("warn" if run.state.step >= 3 else "default")

    settings = settings_of(chosen, "bf16", layout.world)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        task = Tokens(chosen.shape, 4 * chosen.batch * layout.world)
        train(prepare(task, Decoder(chosen.shape), settings, layout=layout, events=[Listen()]))
        torch.cuda.set_sync_debug_mode("default")
    found = [one for one in heard if "called a synchronizing" in str(one.message)]
    places = sorted({f"{Path(one.filename).name}:{one.lineno}" for one in found})
    return {"a_step": len(found) / (settings.steps - 3), "places": places}


def too_large(chosen, layout):
    """A batch that no memory holds: which micro-batch is found, and whether training goes on."""
    if layout.device.type != "cuda":
        return None
    free(layout.device)
    rows = chosen.too_large * layout.world
    settings = TrainSettings(
        batch_size=rows, steps=2, precision="bf16", compile=not chosen.no_compile
    )
    heard = SilentReporter()
    model = model_of(chosen, compiled=not chosen.no_compile)
    task = Tokens(chosen.shape, rows)
    run = prepare(task, model, settings, layout=layout, reporter=heard)
    began = time.perf_counter()
    train(run)
    wait(layout.device)
    return {
        "layout": layout.kind,
        "rows_a_device": chosen.too_large,
        "micro_batch": run.micro,
        "told": heard.notes,
        "losses": [run.packet.loss],
        "peak_gb": round(peak_bytes(layout.device) / 1e9, 2),
        "seconds": time.perf_counter() - began,
    }


def advice(chosen, layout):
    """Learning-rate and batch-size advice, and whether the run was left as it was."""
    free(layout.device)
    settings = TrainSettings(
        batch_size=8 * layout.world,
        micro_batch=8,
        steps=100,
        precision="bf16",
        optimizer=OptimizerSettings(lr=1e-4),
    )
    task = Tokens(chosen.shape, 256)
    run = prepare(task, Decoder(chosen.shape), settings, layout=layout)
    before = [value.detach().clone() for value in run.model.parameters()]
    random = torch.cuda.get_rng_state() if layout.device.type == "cuda" else torch.get_rng_state()
    began = time.perf_counter()
    rate = find_lr(run, low=1e-6, high=1.0, steps=60)
    batch = find_batch(run, steps=8, parts=4)
    after = torch.cuda.get_rng_state() if layout.device.type == "cuda" else torch.get_rng_state()
    same = all(torch.equal(*pair) for pair in zip(before, run.model.parameters(), strict=True))
    return {
        "learning_rate": rate.suggested,
        "limit": rate.limit,
        "rates_tried": len(rate.rates),
        "noise_scale_rows": batch.rows,
        "batch_size": batch.suggested,
        "weights_untouched": same,
        "random_numbers_untouched": torch.equal(random, after),
        "seconds": time.perf_counter() - began,
    }


def cases(chosen, layout):
    """All cases of these processes."""
    compiled = not chosen.no_compile
    found = []

    def add(name, result):
        found.append(told(chosen, layout, name, result))
        return result[0]

    pairs = {"engine": [], "bare": []}
    for _ in range(chosen.turns):
        pairs["bare"] += add("bare bf16", bare_case(chosen, layout, "bf16", compiled=compiled))
        pairs["engine"] += add(
            f"engine bf16 {layout.kind}", engine_case(chosen, layout, "bf16", compiled=compiled)
        )
    ratio = statistics.median(pairs["engine"]) / statistics.median(pairs["bare"])
    extra = {"overhead_bf16": ratio - 1.0, "overhead_is": "median step of engine / bare - 1"}
    if layout.world == 1:
        for precision in chosen.formats.split(","):
            add(f"engine {precision}", engine_case(chosen, layout, precision, compiled=compiled))
        add("engine bf16 eager", engine_case(chosen, layout, "bf16", compiled=False))
        add(
            "engine bf16 recompute",
            engine_case(chosen, layout, "bf16", compiled=compiled, recompute=True),
        )
        extra["synchronisations"] = synchronisations(chosen, layout)
        extra["too_large"] = [too_large(chosen, layout)]
        extra["advice"] = advice(chosen, layout)
    else:
        shards = Layout("fsdp", layout.rank, layout.world, layout.device, layout.watch)
        for precision in ("bf16", "fp16"):
            add(
                f"engine {precision} fsdp",
                engine_case(chosen, shards, precision, compiled=compiled),
            )
        extra["too_large"] = [too_large(chosen, place) for place in (layout, shards)]
        extra["parity"] = []
        for precision in ("fp32", "bf16"):
            small = TrainSettings(
                batch_size=2 * layout.world + 1, micro_batch=1, steps=3, precision=precision
            )
            lines = parity(Tokens(chosen.shape, 64), lambda: Decoder(chosen.shape), small, layout)
            extra["parity"] += [line.__dict__ for line in lines]
    return {"cases": found, **extra}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="gpt2", choices=sorted(SHAPES))
    parser.add_argument("--batch", type=int, default=32, help="rows of a device and step")
    parser.add_argument("--warm", type=int, default=10)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--block", type=int, default=5, help="steps between clock readings")
    parser.add_argument("--turns", type=int, default=3, help="of bare loop and engine")
    parser.add_argument("--formats", default="fp32,tf32,fp16,bf16_pure")
    parser.add_argument("--too-large", type=int, default=1024, help="rows of a device, to be cut")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", default="")
    chosen = parser.parse_args()
    if chosen.processes > 1 and "WORLD_SIZE" not in os.environ:
        launch([str(Path(__file__).resolve()), *sys.argv[1:]], chosen.processes)
        return
    layout = Layout.open()
    result = cases(chosen, layout)
    card = torch.cuda.get_device_name() if layout.device.type == "cuda" else platform.machine()
    facts = {"settings": vars(chosen), "device": card, "torch": torch.__version__,
             "python": platform.python_version(), "processes": layout.world}  # fmt: skip
    text = json.dumps({**facts, **result}, indent=2)
    if layout.leads:
        print(text)
        if chosen.out:
            Path(chosen.out).write_text(text + "\n", encoding="utf-8")
    layout.close()


if __name__ == "__main__":
    main()
