"""What the processes of the multi-process tests run: ``worker.py settings.json``."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tests.engine.examples import pictures, texts
from tests.engine.nets import Points, net, normed

from loopline.engine.events import Average, EarlyStop, Event
from loopline.engine.layout import Layout
from loopline.engine.loop import rows_of, train
from loopline.engine.optimizer import OptimizerSettings
from loopline.engine.run import Run, prepare
from loopline.engine.settings import TrainSettings
from loopline.engine.tools.find import find_batch, find_lr
from loopline.engine.tools.parity import parity
from loopline.engine.weights import save_weights
from loopline.errors import DataError


class Script(Event):
    """Writes rows and losses of each step, and does at a step what the test asks of a rank."""

    name = "script"

    def __init__(self, wanted: dict[str, Any], log: Path) -> None:
        self.wanted, self.log = wanted, log

    def before_step(self, run: Run) -> None:
        if self.wanted.get("pause"):
            time.sleep(self.wanted["pause"])
        rank, step = self.wanted.get("rank"), self.wanted.get("step")
        if rank == run.layout.rank and step == run.state.step:
            act(self.wanted["what"])
        elif self.wanted.get("deaf") and step == run.state.step:
            wait_deaf()

    def after_backward(self, run: Run) -> None:
        loss = float(run.totals[0] / run.totals[1])
        note = {"step": run.state.step, "rows": rows_of(run, run.state.step), "loss": loss}
        with self.log.open("a") as file:
            file.write(json.dumps(note) + "\n")


def wait_deaf() -> None:
    """Wait as a call into a driver does: no signal reaches Python meanwhile."""
    code = ctypes.CDLL(None)
    began = time.monotonic()
    signals = (ctypes.c_ulong * 16)(*[2**64 - 1] * 16)
    code.pthread_sigmask(0, signals, None)  # other threads still hear them
    while time.monotonic() - began < 120:
        code.usleep(900_000)


def act(what: str) -> None:
    """Die, stand still or fail."""
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        time.sleep(600)
    if what == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    if what == "fail":
        raise DataError("Row 5 is bad.")
    if what == "crash":
        raise ZeroDivisionError("by nothing")
    if what == "term":
        os.kill(os.getppid(), signal.SIGTERM)


class Limited(Points):
    """Runs out of memory where a micro-batch has too many rows for this process."""

    limited = True

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def loss(self, model: Any, batch: Any) -> tuple[Any, Any]:
        if len(batch["rows"]) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return super().loss(model, batch)


class OneInf(Points):
    """On the last rank the loss of one row is far too large for FP16, early on."""

    def loss(self, model: Any, batch: Any) -> tuple[Any, Any]:
        loss, weight = super().loss(model, batch)
        bad = bool((batch["rows"] == 13).any())
        return loss * (3e38 if bad else 1.0), weight


def main() -> None:
    """Train, or compare layouts, as the file says."""
    torch.set_num_threads(1)
    wanted = json.loads(Path(sys.argv[1]).read_text())
    out = Path(wanted["out"])
    kind = wanted["kind"] if "WORLD_SIZE" in os.environ else "single"
    layout = Layout.open(kind, "cpu")
    settings = TrainSettings(
        **{"batch_size": 6, "steps": 14, "save_every": 3, "micro_batch": 2} | wanted["settings"],
        optimizer=OptimizerSettings(lr=1e-2, clip=0.5),
    )
    if wanted.get("parity"):
        found = parity(
            Points(),
            net,
            settings,
            layout,
            threshold=wanted["parity"],
        )
        if layout.leads:
            (out / "parity.json").write_text(json.dumps([line.__dict__ for line in found]))
        layout.close()
        return
    if wanted.get("find"):
        run = prepare(Points(), net(), settings, layout=layout)
        before = [getattr(v, "_local_tensor", v).detach().clone() for v in run.model.parameters()]
        rate, batch = find_lr(run, low=1e-3, steps=12), find_batch(run, steps=3, parts=3)
        after = [getattr(v, "_local_tensor", v).detach() for v in run.model.parameters()]
        same = all(torch.equal(*pair) for pair in zip(before, after, strict=True))
        told = {"losses": rate.losses, "noise": batch.noise, "signal": batch.signal, "same": same}
        if layout.leads:
            (out / "told.json").write_text(json.dumps(told))
        layout.close()
        return
    average = Average(0.9)
    script = Script(
        wanted.get("script", {}) | {"deaf": wanted.get("deaf")}, out / f"log-{layout.rank}.jsonl"
    )
    task: Any = OneInf() if wanted.get("inf") else Points()
    if wanted.get("limited"):
        task = Limited(wanted["limited"][layout.rank])
    network: torch.nn.Module = net(dropout=wanted.get("dropout", 0.0))
    if wanted.get("batch_norm"):
        network = normed()
    if wanted.get("of"):
        task, network = {"images": pictures, "texts": texts}[wanted["of"]]()
    run = prepare(
        task,
        network,
        settings,
        layout=layout,
        folder=Path(wanted["folder"]),
        events=[average, EarlyStop(99), script],
    )
    train(run)
    save_weights(run, out / "weights.safetensors")
    average.swap(run)
    save_weights(run, out / "average.safetensors")
    if layout.leads:
        local = [tuple(getattr(v, "_local_tensor", v).shape) for v in average.shadow.values()]
        state = run.state.to_dict() | {"stopped": run.stopped, "shadow": local, "micro": run.micro}
        (out / "state.json").write_text(json.dumps(state))
    layout.close()


if __name__ == "__main__":
    main()
