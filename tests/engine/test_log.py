"""A log that a restart does not double, and the boards that take the same numbers."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.engine.nets import Points, net

from loopline.engine.events import Event
from loopline.engine.loop import train
from loopline.engine.meter import Meter
from loopline.engine.run import Run, prepare
from loopline.engine.settings import TrainSettings
from loopline.engine.tools.log import Log, MLflow, TensorBoard, WeightsAndBiases
from loopline.errors import EnvironmentProblem

SETTINGS = TrainSettings(batch_size=6, steps=20, save_every=4, evaluate_every=10)


class StopAt(Event):
    """Ends a run as a kill would, without a last checkpoint."""

    name = "stop_at"

    def after_step(self, run: Run) -> None:
        if run.state.step == 7:
            raise KeyboardInterrupt


def test_a_log_goes_on_after_a_restart_without_doubles(tmp_path: Path) -> None:
    """Lines behind the checkpoint are taken back; losses are those of an uninterrupted run."""

    def go(folder: Path, *more: Event) -> list[dict[str, float]]:
        meter = Meter(every=1)
        log = Log(folder / "log.jsonl", meter)
        run = prepare(Points(), net(), SETTINGS, folder=folder, events=[meter, log, *more])
        train(run)
        return [json.loads(line) for line in log.file.read_text().splitlines()]

    whole = go(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", StopAt())
    cut = go(tmp_path / "cut")
    steps = [line["step"] for line in cut if line["kind"] == "train"]
    assert steps == sorted(set(steps))
    told = {(line["kind"], line["step"]): line["loss"] for line in whole}
    assert all(line["loss"] == told[line["kind"], line["step"]] for line in cut)
    assert [line["step"] for line in cut if line["kind"] == "evaluation"] == [10, 20]


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is not None, reason="tensorboard is installed"
)
def test_tensorboard_without_its_package_is_told(tmp_path: Path) -> None:
    """The message says what to install and that the other log is written anyway."""
    with pytest.raises(EnvironmentProblem, match="pip install tensorboard"):
        TensorBoard(tmp_path / "board")


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs tensorboard")
def test_tensorboard_reads_the_log(tmp_path: Path) -> None:
    """TensorBoard's own reader finds the losses."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    meter = Meter(every=5)
    log = Log(tmp_path / "log.jsonl", meter, [TensorBoard(tmp_path / "board")])
    train(prepare(Points(), net(), SETTINGS, events=[meter, log]))
    reader = EventAccumulator(str(tmp_path / "board"))
    reader.Reload()
    assert [entry.step for entry in reader.Scalars("train/loss")] == [5, 10, 15, 20]


class Fake(ModuleType):
    """Stands in for a board's package and notes what it is asked."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*values: Any, **named: Any) -> Fake:
            self.calls.append((name, values, named))
            return self

        return call


def test_the_boards_get_the_numbers_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow and Weights & Biases are opened once, told each reading and evaluation, and closed."""
    fakes = {name: Fake(name) for name in ("mlflow", "wandb")}
    for name, fake in fakes.items():
        monkeypatch.setitem(sys.modules, name, fake)
    meter = Meter(every=5)
    boards = [MLflow("trial", address="file:x"), WeightsAndBiases("trial", tmp_path)]
    log = Log(tmp_path / "log.jsonl", meter, boards)
    train(prepare(Points(), net(), SETTINGS, events=[meter, log]))
    lines = [json.loads(line) for line in log.file.read_text().splitlines()]
    wanted = [(line["step"], line["loss"]) for line in lines]
    told = {
        "mlflow": [
            (named["step"], values[0].get("train/loss", values[0].get("evaluation/loss")))
            for name, values, named in fakes["mlflow"].calls
            if name == "log_metrics"
        ],
        "wandb": [
            (named["step"], values[0].get("train/loss", values[0].get("evaluation/loss")))
            for name, values, named in fakes["wandb"].calls
            if name == "log"
        ],
    }
    assert told == {"mlflow": wanted, "wandb": wanted}
    names = [name for name, _, _ in fakes["mlflow"].calls if name != "log_metrics"]
    assert names == ["set_tracking_uri", "set_experiment", "start_run", "end_run"]
    assert [name for name, _, _ in fakes["wandb"].calls if name != "log"] == ["init", "finish"]
