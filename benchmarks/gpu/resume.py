"""Resume on a GPU: runs killed with SIGKILL and gone on, beside runs that were let be.

    PYTHONPATH=src python benchmarks/gpu/resume.py --processes 2 --out resume.json

Each case (layout, format, whether only deterministic kernels are used) is a run of twelve steps
with a checkpoint every second one. The cases run one after the other in processes of their own; in
every case but the first pass one process kills itself in the middle of a step. Compared are the
bytes of the final weights, the rows of every step and the losses. With two processes, a checkpoint
written by two is also gone on from by one, and the other way round. Runs on the CPU as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from decoder import Decoder, Tokens
from safetensors.torch import load_file

from loopline.engine.events import Average, Event
from loopline.engine.layout import Layout
from loopline.engine.loop import rows_of, train
from loopline.engine.run import prepare
from loopline.engine.settings import TrainSettings
from loopline.engine.tools.launch import launch
from loopline.engine.weights import save_weights
from loopline.errors import EnvironmentProblem

STEPS = 12


class Script(Event):
    """Notes rows and loss of each step, and kills or stops its process where it is told to."""

    name = "script"

    def __init__(self, file: Path, kill: int | None, hang: int | None) -> None:
        self.file, self.kill, self.hang = file, kill, hang

    def after_backward(self, run) -> None:
        """Note the step, or die or stand still in it."""
        if run.layout.rank == run.layout.world - 1:
            if run.state.step == self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            if run.state.step == self.hang:
                time.sleep(600)
        note = {
            "step": run.state.step,
            "rows": rows_of(run, run.state.step),
            "loss": float(run.totals[0] / run.totals[1]),
        }
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(note) + "\n")


def child(plan: dict) -> None:
    """Run the cases of a plan on the processes that were started for it."""
    opened = Layout.open()
    for case in plan["cases"]:
        folder = Path(plan["folder"]) / case["name"]
        folder.mkdir(parents=True, exist_ok=True)
        kind = case["kind"] if opened.world > 1 else "single"
        layout = Layout(kind, opened.rank, opened.world, opened.device, opened.watch)
        settings = TrainSettings(
            batch_size=8, micro_batch=2, steps=STEPS, precision=case["precision"],
            deterministic=case["deterministic"], save_every=2, keep=9,
        )  # fmt: skip
        average = Average(0.9)
        script = Script(folder / f"log-{layout.rank}.jsonl", case.get("kill"), case.get("hang"))
        run = prepare(
            Tokens(plan["shape"], 100), Decoder(plan["shape"]), settings,
            layout=layout, folder=folder / "checkpoints", events=[average, script],
        )  # fmt: skip
        train(run)
        save_weights(run, folder / "weights.safetensors")
        average.swap(run)
        save_weights(run, folder / "average.safetensors")
        torch.use_deterministic_algorithms(False)
    opened.close()


def started(plan: dict, processes: int) -> str:
    """Run a plan; gives what ended it, or nothing."""
    file = Path(plan["folder"]) / "plan.json"
    file.write_text(json.dumps(plan), encoding="utf-8")
    try:
        launch([str(Path(__file__).resolve()), "--plan", str(file)], processes)
    except EnvironmentProblem as problem:
        return str(problem)
    return ""


def logged(folder: Path) -> dict[int, tuple[list[int], float]]:
    """Rows over all processes and loss of each step, of the last time that it was taken."""
    rows, losses = {}, {}
    for file in sorted(folder.glob("log-*.jsonl")):
        last = {}
        for line in file.read_text(encoding="utf-8").splitlines():
            note = json.loads(line)
            last[note["step"]] = note
        for step, note in last.items():
            rows.setdefault(step, []).extend(note["rows"])
            losses.setdefault(step, note["loss"])
    return {step: (sorted(rows[step]), losses[step]) for step in rows}


def compared(here: Path, there: Path) -> dict:
    """How far two finished runs are apart."""
    one, other = logged(here), logged(there)
    result = {
        "rows_equal": all(one[step][0] == other[step][0] for step in one),
        "loss_gap": max(abs(one[step][1] - other[step][1]) for step in one),
    }
    for name in ("weights", "average"):
        first = load_file(here / f"{name}.safetensors")
        second = load_file(there / f"{name}.safetensors")
        gap = max(float((first[key].float() - second[key].float()).abs().max()) for key in first)
        result[f"{name}_gap"] = gap
        result[f"{name}_bit_equal"] = all(torch.equal(first[key], second[key]) for key in first)
    return result


def told(chosen, found: dict) -> None:
    """Print what is known so far, and write it."""
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    facts = {"settings": vars(chosen), "device": card, "torch": torch.__version__,
             "python": platform.python_version()}  # fmt: skip
    text = json.dumps({**facts, "resume": found}, indent=2)
    print(text, flush=True)
    if chosen.out:
        Path(chosen.out).write_text(text + "\n", encoding="utf-8")


def campaign(chosen) -> None:
    """All cases: whole, killed and gone on, and on another number of processes."""
    base = Path(tempfile.mkdtemp())
    kinds = ("ddp", "fsdp") if chosen.processes > 1 else ("single",)
    cases = [
        {"name": f"{kind} {precision} {'exact' if fixed else 'free'}", "kind": kind,
         "precision": precision, "deterministic": fixed}
        for kind in kinds
        for precision, fixed in (("fp32", True), ("bf16", True), ("bf16", False), ("fp16", True))
        if chosen.processes == 1 or (fixed and precision != "fp16")
    ]  # fmt: skip
    for name in ("whole", "cut"):
        (base / name).mkdir()
    ended = started({"folder": str(base / "whole"), "shape": chosen.shape, "cases": cases},
                    chosen.processes)  # fmt: skip
    assert not ended, ended
    kills = []
    for place in range(len(cases)):
        dying = [dict(one) for one in cases[: place + 1]]
        dying[-1]["kill"] = 3 + place % 7
        plan = {"folder": str(base / "cut"), "shape": chosen.shape, "cases": dying}
        kills.append(started(plan, chosen.processes))
    plan = {"folder": str(base / "cut"), "shape": chosen.shape, "cases": cases}
    assert not started(plan, chosen.processes)
    found = {
        case["name"]: {"killed_in_step": 3 + place % 7, "message": kills[place],
                       **compared(base / "cut" / case["name"], base / "whole" / case["name"])}
        for place, case in enumerate(cases)
    }  # fmt: skip
    told(chosen, found)
    if chosen.processes > 1:
        found |= crossed(chosen, base, cases)
        told(chosen, found)
        found["a process that stands still"] = stood_still(chosen, base, cases[-1])
    told(chosen, found)
    shutil.rmtree(base, ignore_errors=True)


def crossed(chosen, base: Path, cases: list[dict]) -> dict:
    """Gone on from step six on one process instead of two, and from one's checkpoint on two."""
    found = {}
    exact = [case for case in cases if case["precision"] == "fp32"]
    for name, first, second in (("2 to 1", "whole", 1), ("1 to 2", "one", chosen.processes)):
        if first == "one":
            (base / "one").mkdir()
            assert not started(
                {"folder": str(base / "one"), "shape": chosen.shape, "cases": exact}, 1
            )
        target = base / name.replace(" ", "-")
        for case in exact:
            shutil.copytree(base / first / case["name"], target / case["name"])
            for log in (target / case["name"]).glob("*.*"):
                log.unlink()
            held = target / case["name"] / "checkpoints"
            for step in (8, 10, 12):
                shutil.rmtree(held / f"step-{step:09d}")
        plan = {"folder": str(target), "shape": chosen.shape, "cases": exact}
        assert not started(plan, second)
        for case in exact:
            found[f"{case['name']} {name}"] = compared(
                target / case["name"], base / "whole" / case["name"]
            )
    return found


def stood_still(chosen, base: Path, case: dict) -> dict:
    """What is told of a process that stands still in step eight, and how long that takes."""
    (base / "still").mkdir()
    plan = {"folder": str(base / "still"), "shape": chosen.shape, "cases": [case | {"hang": 8}]}
    began = time.perf_counter()
    message = started(plan, chosen.processes)
    return {"message": message, "seconds_with_the_start": round(time.perf_counter() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="medium")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--plan", default="", help="used by the script itself")
    parser.add_argument("--out", default="")
    chosen = parser.parse_args()
    if chosen.plan:
        child(json.loads(Path(chosen.plan).read_text(encoding="utf-8")))
        return
    campaign(chosen)


if __name__ == "__main__":
    main()
