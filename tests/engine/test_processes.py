"""Several processes: parity with one, exact resume, kills, hangs, errors that arrive."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.engine.nets import gap

from loopline.engine.tools.launch import _told, launch
from loopline.engine.watch import Beat, verdict
from loopline.errors import DataError, EnvironmentProblem, SettingsError

ROOT = Path(__file__).resolve().parents[2]
WORKER = str(Path(__file__).with_name("worker.py"))
WRITTEN_LAST = ("state.json", "parity.json", "told.json")
"""What the worker's leading process writes when all else is done."""
PATH = os.pathsep.join([str(ROOT), str(ROOT / "src")])

Result = dict[str, Any]
Go = Callable[..., Result]


def _read(out: Path) -> Result:
    logs: dict[int, dict[int, Any]] = {}
    for file in sorted(out.glob("log-*.jsonl")):
        notes = [json.loads(line) for line in file.read_text().splitlines()]
        logs[int(file.stem[4:])] = {note["step"]: note for note in notes}
    steps = sorted(logs[0]) if logs else []
    return {
        "rows": {step: sorted(r for log in logs.values() for r in log[step]["rows"])
                 for step in steps if all(step in log for log in logs.values())},
        "rank_rows": logs,
        "loss": {step: logs[0][step]["loss"] for step in steps},
        "state": json.loads((out / "state.json").read_text())
        if (out / "state.json").exists() else {},
        "weights": load_file(out / "weights.safetensors")
        if (out / "weights.safetensors").exists() else {},
        "average": load_file(out / "average.safetensors")
        if (out / "average.safetensors").exists() else {},
    }  # fmt: skip


@pytest.fixture
def go(tmp_path: Path) -> Go:
    """Run the worker in some processes and give what it wrote."""
    number = iter(range(1_000))

    def run(kind: str, processes: int, folder: str = "run", **wanted: Any) -> Result:
        out = tmp_path / f"out-{next(number)}"
        out.mkdir()
        file = out / "wanted.json"
        data = {"kind": kind, "folder": str(tmp_path / folder), "out": str(out), "settings": {}}
        file.write_text(json.dumps(data | wanted))
        if processes == 1:
            environment = {**os.environ, "PYTHONPATH": PATH, "OMP_NUM_THREADS": "1"}
            subprocess.run([sys.executable, WORKER, str(file)], check=True, env=environment)
        else:
            told = {"PYTHONPATH": PATH, "LOOPLINE_HANG_SECONDS": "4"}
            try:
                launch([WORKER, str(file)], processes, environment=told)
            except EnvironmentProblem as problem:
                # torch's gloo aborts now and then while a process ends, after all is written
                written = any((out / name).exists() for name in WRITTEN_LAST)
                if "SIGABRT" not in str(problem) or not written:
                    raise
        if wanted.get("find"):
            return dict(json.loads((out / "told.json").read_text()))
        if wanted.get("parity"):
            return {"parity": json.loads((out / "parity.json").read_text())}
        return _read(out)

    return run


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-6), ("bf16", 2e-2)])
def test_layouts_compute_what_one_process_computes(go: Go, precision: str, limit: float) -> None:
    """DDP and FSDP2 on two processes: loss and gradient over three steps as on one."""
    settings = {
        "precision": precision,
        "batch_size": 7,
    }  # four rows on one rank, three on the other
    found = go("ddp", 2, parity=limit, settings=settings)["parity"]
    assert [line["layout"] for line in found] == ["ddp", "fsdp"]
    for line in found:
        assert line["loss"] < limit, line
        assert line["gradient"] < limit, line


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_resume_is_bit_equal_and_another_number_of_processes_takes_the_same_rows(
    go: Go, kind: str, tmp_path: Path
) -> None:
    """Killed in step 8: on two processes bit-equal, on one the same rows and losses within 1e-6."""
    whole = go(kind, 2, "whole")
    with pytest.raises(EnvironmentProblem, match="Process 1 of 2 was killed by SIGKILL"):
        go(kind, 2, "cut", script={"rank": 1, "step": 8, "what": "kill"})
    shutil.copytree(tmp_path / "cut", tmp_path / "other")
    same = go(kind, 2, "cut")
    assert min(same["rows"]) in (3, 6)
    assert gap(same["weights"], whole["weights"]) == 0.0
    assert gap(same["average"], whole["average"]) == 0.0
    assert same["state"] == whole["state"]
    fewer = go("single", 1, "other")
    for found in (same, fewer):
        for step, rows in found["rows"].items():
            assert rows == whole["rows"][step]
            assert abs(found["loss"][step] - whole["loss"][step]) < 1e-6
    assert gap(fewer["average"], whole["average"]) < 1e-6
    if kind == "fsdp":
        assert whole["state"]["shadow"][0][0] == 3  # half of the six rows of the first matrix
    assert gap(fewer["weights"], whole["weights"]) < 1e-6


@pytest.mark.slow
def test_one_process_goes_on_on_two(go: Go, tmp_path: Path) -> None:
    """A run of one process, stopped, goes on on two with FSDP2: same rows, losses within 1e-6."""
    whole = go("single", 1, "whole", settings={"keep": 9})
    for name in ("step-000000012", "step-000000014"):
        shutil.rmtree(tmp_path / "whole" / name)
    found = go("fsdp", 2, "whole", settings={"keep": 9})
    assert min(found["rows"]) == 9
    for step, rows in found["rows"].items():
        assert rows == whole["rows"][step]
        assert abs(found["loss"][step] - whole["loss"][step]) < 1e-6
    assert gap(found["weights"], whole["weights"]) < 1e-6


def test_a_process_that_dies_is_named_within_seconds(go: Go) -> None:
    """From the kill to the error it takes seconds."""
    began = time.monotonic()
    with pytest.raises(EnvironmentProblem, match=r"Process 1 of 2 was killed by SIGKILL \(by hand"):
        go("ddp", 2, script={"rank": 1, "step": 0, "what": "kill"})
    assert time.monotonic() - began < 40  # most of it the start of two processes on a busy machine


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "wanted"),
    [
        (
            "hang",
            r"Process 1 of 2 has stood still for \d+ s in .* of step 4 \(worker.py:\d+, in act",
        ),
        ("freeze", r"Process 1 of 2 has given no sign of life for \d+ s, last in .* of step \d"),
    ],
)
def test_a_process_that_stands_still_is_named(go: Go, what: str, wanted: str) -> None:
    """Asleep or stopped, rank 1 is blamed with phase, step and, where it can be seen, the line."""
    began = time.monotonic()
    with pytest.raises(EnvironmentProblem, match=wanted):
        go("ddp", 2, script={"rank": 1, "step": 4, "what": what, "pause": 0.5})
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_an_error_of_a_process_arrives_as_it_was(go: Go) -> None:
    """A DataError of rank 1 is raised as DataError here; another one names rank and type."""
    with pytest.raises(DataError, match=r"^Row 5 is bad\.$"):
        go("ddp", 2, script={"rank": 1, "step": 2, "what": "fail"})
    with pytest.raises(EnvironmentProblem, match=r"Process \d of 2 ended with exit code 1"):
        go("ddp", 2, script={"rank": 1, "step": 2, "what": "crash"})


@pytest.mark.slow
def test_fp16_overflow_on_one_rank_is_left_out_on_both(go: Go) -> None:
    """An infinite gradient on one rank: all skip the step, the scale falls, training goes on."""
    for kind in ("ddp", "fsdp"):
        found = go(kind, 2, kind, inf=True, settings={"precision": "fp16"})
        assert 0 < found["state"]["skipped"] < 14
        assert all(torch.isfinite(value).all() for value in found["weights"].values())


@pytest.mark.slow
def test_running_means_are_the_leading_ranks_under_every_layout(go: Go) -> None:
    """With batch norm: evaluations (in `best`), weights and averages are bit-equal after a kill."""
    wanted = {"batch_norm": True, "settings": {"micro_batch": 3}}
    for kind in ("ddp", "fsdp"):
        whole = go(kind, 2, f"{kind}-whole", **wanted)
        with pytest.raises(EnvironmentProblem, match="SIGKILL"):
            go(kind, 2, f"{kind}-cut", **wanted, script={"rank": 1, "step": 8, "what": "kill"})
        found = go(kind, 2, f"{kind}-cut", **wanted)
        assert found["state"] == whole["state"]
        assert gap(found["weights"], whole["weights"]) == 0.0
        assert gap(found["average"], whole["average"]) == 0.0


@pytest.mark.slow
def test_a_killed_process_is_named_where_another_one_waits_for_a_device(go: Go) -> None:
    """Rank 0 stands in a call that hears no signal in Python: it ends at once, rank 1 is named."""
    began = time.monotonic()
    with pytest.raises(EnvironmentProblem, match="Process 1 of 2 was killed by SIGKILL"):
        go("ddp", 2, script={"rank": 1, "step": 4, "what": "kill"}, deaf=True)
    assert time.monotonic() - began < 40


@pytest.mark.slow
def test_advice_is_the_same_on_any_layout(go: Go) -> None:
    """Losses of the range test and the noise scale agree with one process, and no weight moves."""
    settings = {"batch_size": 6, "micro_batch": None}
    alone = go("single", 1, find=True, settings=settings)
    for kind in ("ddp", "fsdp"):
        found = go(kind, 2, find=True, settings=settings)
        assert found["same"]
        assert found["losses"] == pytest.approx(alone["losses"], rel=1e-4)
        # parts hold other rows on two processes, so only the larger batch's share is the same
        assert found["signal"] + found["noise"] / 6 == pytest.approx(
            alone["signal"] + alone["noise"] / 6, rel=1e-3
        )


@pytest.mark.slow
def test_all_processes_take_the_micro_batch_of_the_one_with_least_room(go: Go) -> None:
    """Where rank 1 holds two rows and rank 0 nine, both take two, and the weights are the same."""
    settings = {"batch_size": 12, "micro_batch": None, "steps": 5}
    plain = go("ddp", 2, "plain", settings=settings)
    found = go("ddp", 2, "limited", settings=settings, limited=[9, 2])
    assert (plain["state"]["micro"], found["state"]["micro"]) == (6, 2)
    assert gap(found["weights"], plain["weights"]) < 1e-6


@pytest.mark.slow
def test_dropout_differs_between_ranks_and_not_between_runs(go: Go) -> None:
    """With dropout two runs are bit-equal, and another seed is not."""
    first, second = (go("ddp", 2, name, dropout=0.5, settings={"steps": 3}) for name in "ab")
    assert gap(first["weights"], second["weights"]) == 0.0
    other = go("ddp", 2, "c", dropout=0.0, settings={"steps": 3})
    assert gap(first["weights"], other["weights"]) > 0.0


@pytest.mark.slow
def test_sigterm_to_the_launcher_saves_and_ends(go: Go, tmp_path: Path) -> None:
    """The processes save and end, and the same command goes on."""
    with pytest.raises(
        EnvironmentProblem, match=r"asked to stop \(SIGTERM\); its 2 processes have"
    ):
        go("ddp", 2, script={"rank": 1, "step": 5, "what": "term", "pause": 0.2},
           settings={"save_every": 100})  # fmt: skip
    reached = (tmp_path / "run" / "latest").read_text()
    assert int(reached[5:]) >= 5
    found = go("ddp", 2, settings={"save_every": 100})
    assert min(found["rows"]) == int(reached[5:])


def test_the_same_script_runs_under_torchrun(tmp_path: Path) -> None:
    """torchrun with two processes gives the same files."""
    file = tmp_path / "wanted.json"
    wanted = {"kind": "auto", "folder": str(tmp_path / "run"), "out": str(tmp_path), "settings": {}}
    file.write_text(json.dumps(wanted))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", WORKER]
    environment = {**os.environ, "PYTHONPATH": PATH, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(file)], check=True, env=environment, capture_output=True)
    assert _read(tmp_path)["state"]["step"] == 14


@pytest.mark.slow
def test_a_thread_may_launch(go: Go) -> None:
    """Outside the main thread processes are started and watched as well."""
    found: list[Result] = []
    thread = threading.Thread(target=lambda: found.append(go("ddp", 2, settings={"steps": 2})))
    thread.start()
    thread.join()
    assert found[0]["state"]["step"] == 2


def test_no_process_is_refused() -> None:
    """There must be at least one."""
    with pytest.raises(SettingsError, match="`processes` must be at least 1, got 0"):
        launch(["x.py"], 0)


def _killed_at_random(
    go: Go, tmp_path: Path, kind: str, processes: int, precision: str, seed: int, kills: int = 2,
    of: str = "",
) -> Result:  # fmt: skip
    """Run, kill a random process at a random moment of a random step, some times; then finish."""
    draw = random.Random(seed)
    wanted = {
        "of": of,
        "dropout": 0.2,
        "settings": {"precision": precision, "save_every": 2},
        "script": {"pause": 0.05},
    }
    for _ in range(kills):
        known = set(tmp_path.glob("out-*"))
        asked = (tmp_path, known, draw.randrange(2, 12), draw)
        killer = threading.Thread(target=_kill_at, args=asked, daemon=True)
        killer.start()
        with pytest.raises((EnvironmentProblem, subprocess.CalledProcessError), match="SIGKILL"):
            go(kind, processes, "cut", **wanted)
        killer.join()
    return go(kind, processes, "cut", **wanted)


def _kill_at(tmp_path: Path, known: set[Path], target: int, draw: random.Random) -> None:
    """SIGKILL for one of this process's own workers, some time after a step was reached."""
    while not (new := set(tmp_path.glob("out-*")) - known):
        time.sleep(0.01)
    log = new.pop() / "log-0.jsonl"
    while not log.exists() or max(_logged(log)) < target:
        time.sleep(0.01)
    time.sleep(draw.uniform(0.0, 0.1))
    command = ["ps", "--ppid", str(os.getpid()), "-o", "pid=,args="]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    mine = [int(line.split()[0]) for line in found.splitlines() if "worker.py" in line]
    os.kill(draw.choice(mine), signal.SIGKILL)


def _logged(log: Path) -> list[int]:
    lines = log.read_text().split("\n")[:-1]
    return [-1, *(json.loads(line)["step"] for line in lines)]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "precision"), [("ddp", "fp32"), ("fsdp", "bf16")])
def test_random_kills_change_nothing(go: Go, tmp_path: Path, kind: str, precision: str) -> None:
    """Killed at a random time and started again, a run ends with bit-equal weights and average."""
    settings = {"precision": precision, "save_every": 2}
    whole = go(kind, 2, "whole", dropout=0.2, settings=settings)
    found = _killed_at_random(go, tmp_path, kind, 2, precision, seed=1)
    assert gap(found["weights"], whole["weights"]) == 0.0
    assert gap(found["average"], whole["average"]) == 0.0
    assert found["state"] == whole["state"]
    assert all(rows == whole["rows"][step] for step, rows in found["rows"].items())


@pytest.mark.slow
@pytest.mark.parametrize("of", ["", "texts", "images"], ids=["table", "texts", "images"])
@pytest.mark.parametrize("seed", range(30))
def test_thirty_random_kills(go: Go, tmp_path: Path, seed: int, of: str) -> None:
    """The same over one and two processes, layouts and formats, with other times and networks."""
    kind, processes = [("single", 1), ("ddp", 2), ("fsdp", 2)][seed % 3]
    precision = ["fp32", "bf16"][seed // 3 % 2]
    settings = {"precision": precision, "save_every": 2}
    whole = go(kind, processes, "whole", of=of, dropout=0.2, settings=settings)
    found = _killed_at_random(go, tmp_path, kind, processes, precision, seed, 1, of)
    assert gap(found["weights"], whole["weights"]) == 0.0
    assert gap(found["average"], whole["average"]) == 0.0
    assert found["state"] == whole["state"]
    assert all(rows == whole["rows"][step] for step, rows in found["rows"].items())


def test_the_verdict_is_patient_with_slow_runs() -> None:
    """Ten times the longest pause so far is allowed, and nobody is judged before all have begun."""
    early = [Beat(said=1, moves=5, heard=99.0, moved=10.0), Beat(said=1, moves=-1, heard=99.0)]
    assert verdict(early, now=100.0, seconds=30.0) == ""
    slow = [Beat(said=1, moves=5, heard=99.0, moved=10.0, longest=20.0) for _ in range(2)]
    assert verdict(slow, now=100.0, seconds=30.0) == ""
    assert verdict(slow, now=300.0, seconds=300.0) == ""
    both = [Beat(1, 5, "the update", 2, "", 99.0, 10.0, warm=True) for _ in range(2)]
    assert verdict(both, 100.0, 30.0) == ""
    assert verdict(both, 100.0, 30.0, patience=60.0) == (
        "All 2 processes have stood still for 90 s in the update of step 2."
    )


@pytest.mark.parametrize(
    ("phase", "warm", "named"),
    [
        ("the forward pass", True, True),
        ("the forward pass", False, False),  # kernels are being compiled
        ("the evaluation", True, False),
        ("the checkpoint", True, False),
    ],
)
def test_who_may_take_long(phase: str, warm: bool, named: bool) -> None:
    """A process that others wait for is named after 30 s, unless there may be a good reason."""

    def told(now: float) -> str:
        quick = Beat(1, 8, "the update", 9, "", now, 60.0, warm=True)
        return verdict([quick, Beat(1, 5, phase, 9, "", now, 60.0, warm=warm)], now, 30.0)

    assert bool(told(100.0)) is named
    assert told(700.0).startswith("Process 1 of 2 has stood still for 640 s")


def test_only_pauses_of_warm_steps_count() -> None:
    """A minute of compilation and a minute of saving do not make the watch patient ever after."""
    beat = Beat()
    message = {"said": 0, "moves": 1, "phase": "the forward pass", "step": 0, "where": "",
               "warm": False, "over": False}  # fmt: skip
    for now, changes in [
        (0.0, {}),
        (60.0, {"said": 1, "moves": 2, "phase": "the backward pass"}),
        (61.0, {"said": 2, "moves": 30, "phase": "the checkpoint", "warm": True}),
        (121.0, {"said": 3, "moves": 31, "phase": "the forward pass"}),
        (123.0, {"said": 4, "moves": 32, "phase": "the update"}),
    ]:
        message |= changes
        beat.hear(message, now)
    assert beat.longest == 2.0
    beat.hear(message | {"said": 5, "moves": -1, "over": True}, 124.0)
    assert verdict([beat, beat], 1e6, 30.0) == ""


def test_a_process_that_aborts_because_another_was_killed_is_not_the_cause() -> None:
    """gloo ends a process by SIGABRT when its peer has gone; the peer's SIGKILL is told."""

    class Failure:
        timestamp = 0

        def __init__(self, code: int) -> None:
            self.exitcode = code

        def signal_name(self) -> str:
            return signal.Signals(-self.exitcode).name

    told = str(_told({0: Failure(-signal.SIGABRT), 1: Failure(-signal.SIGKILL)}, 2, ""))
    assert told.startswith("Process 1 of 2 was killed by SIGKILL")
    alone = str(_told({0: Failure(-signal.SIGABRT)}, 2, ""))
    assert alone.startswith("Process 0 of 2 was killed by SIGABRT")
