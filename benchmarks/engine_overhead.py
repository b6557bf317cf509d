"""The engine beside a hand-written loop over the same decoder on one core.

    python benchmarks/engine_overhead.py --rounds 14 --steps 6

Both train the same model on the same rows with AdamW, a cosine schedule and clipping; each round
runs the one and the other, in turns, from weights already warm. Shown are the ratios of the medians
over rounds of wall time and of CPU time, the latter being robust where other programs run.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from decoder import Decoder, Tokens
from torch import nn

from loopline.engine.loop import train
from loopline.engine.optimizer import OptimizerSettings
from loopline.engine.run import prepare
from loopline.engine.schedule import Schedule
from loopline.engine.settings import TrainSettings

RESULT = Path(__file__).parent / "results" / "engine_overhead.json"


def by_engine(task: Tokens, shape: str, batch: int, steps: int):
    """A function that trains some steps with the engine."""
    settings = TrainSettings(
        batch_size=batch, steps=steps, optimizer=OptimizerSettings(lr=1e-4, weight_decay=0.1)
    )
    run = prepare(task, Decoder(shape), settings)

    def go() -> float:
        run.state.step, run.state.samples, run.stopped = 0, 0, ""
        train(run)
        return run.packet.loss

    return go


def by_hand(task: Tokens, shape: str, batch: int, steps: int):
    """A function that trains some steps as one writes it by hand."""
    model = Decoder(shape).train()
    matrices = [value for value in model.parameters() if value.ndim >= 2]
    others = [value for value in model.parameters() if value.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=True)
    schedule = Schedule("cosine")

    def go() -> float:
        order = np.random.default_rng(0).permutation(task.num_rows)
        for step in range(steps):
            rows = order[np.arange(step * batch, (step + 1) * batch) % task.num_rows]
            values = task.batch(rows, rows, train=True)
            for group in optimizer.param_groups:
                group["lr"] = 1e-4 * schedule.factor(step, steps)
            total, weight = task.loss(model, values)
            loss = total / weight
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return go


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--shape", default="small")
    parser.add_argument("--write", action="store_true", help="write the result file")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    task = Tokens(chosen.shape, 256)
    ways = {
        "engine": by_engine(task, chosen.shape, chosen.batch, chosen.steps),
        "by_hand": by_hand(task, chosen.shape, chosen.batch, chosen.steps),
    }
    wall = {name: [] for name in ways}
    cpu = {name: [] for name in ways}
    for go in ways.values():
        go()
    for number in range(chosen.rounds):
        for name in sorted(ways, reverse=bool(number % 2)):
            began, busy = time.perf_counter(), time.process_time()
            ways[name]()
            wall[name].append((time.perf_counter() - began) / chosen.steps)
            cpu[name].append((time.process_time() - busy) / chosen.steps)
    result = {
        "settings": vars(chosen),
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
        "wall_seconds_a_step": {name: statistics.median(times) for name, times in wall.items()},
        "cpu_seconds_a_step": {name: statistics.median(times) for name, times in cpu.items()},
        "wall_ratio": statistics.median(wall["engine"]) / statistics.median(wall["by_hand"]),
        "cpu_ratio": statistics.median(cpu["engine"]) / statistics.median(cpu["by_hand"]),
        "paired_cpu_ratio": statistics.median(
            one / other for one, other in zip(cpu["engine"], cpu["by_hand"], strict=True)
        ),
    }
    print(json.dumps(result, indent=2))
    if chosen.write:
        RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
