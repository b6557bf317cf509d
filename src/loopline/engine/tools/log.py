"""Readings and evaluations as lines of JSON, and for TensorBoard, MLflow and Weights & Biases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from loopline.engine.events import Event
from loopline.engine.meter import Meter
from loopline.engine.run import Run
from loopline.errors import EnvironmentProblem


class Board(Protocol):
    """Takes numbers somewhere where people look at them."""

    def open(self, step: int) -> None:
        """Begin; what was written behind this step by an earlier try no longer counts."""

    def write(self, values: dict[str, float], step: int) -> None:
        """Take some numbers of a step, by name."""

    def close(self) -> None:
        """End."""


@dataclass
class Log(Event):
    """Writes readings and evaluations as lines of JSON, and to boards if asked.

    A run that goes on after a restart first takes back the lines behind its checkpoint.

    Args:
        file: where the lines go.
        meter: whose readings; give it to the run before this.
        boards: where else the numbers go.
    """

    file: Path
    meter: Meter
    boards: Sequence[Board] = ()
    name: str = "log"
    _told: int = 0
    _open: bool = False

    def before_step(self, run: Run) -> None:
        """Once: take back what was written behind the step that the run goes on from."""
        if self._open or not run.layout.leads:
            return
        self._open = True
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if self.file.exists():
            lines = self.file.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if json.loads(line)["step"] <= run.state.step]
            self.file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        for board in self.boards:
            board.open(run.state.step)

    def after_step(self, run: Run) -> None:
        """Write new readings."""
        for reading in self.meter.readings[self._told :]:
            self._write(run, "train", asdict(reading))
        self._told = len(self.meter.readings)

    def evaluated(self, run: Run, loss: float, others: dict[str, float]) -> None:
        """Write the evaluation."""
        self._write(run, "evaluation", {"step": run.state.step, "loss": loss, **others})

    def finished(self, run: Run) -> None:
        """Close the boards."""
        del run
        for board in self.boards if self._open else ():
            board.close()

    def _write(self, run: Run, kind: str, entry: dict[str, Any]) -> None:
        if not run.layout.leads:
            return
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **entry}) + "\n")
        values = {
            f"{kind}/{name}": value
            for name, value in entry.items()
            if name != "step" and value is not None
        }
        for board in self.boards:
            board.write(values, entry["step"])


@dataclass
class TensorBoard:
    """Event files that TensorBoard reads.

    Args:
        folder: where they go.

    Raises:
        EnvironmentProblem: the package tensorboard is missing.
    """

    folder: Path

    def __post_init__(self) -> None:
        self._package = _package("torch.utils.tensorboard", "tensorboard")

    def open(self, step: int) -> None:
        """Begin a file; TensorBoard hides what lies behind the step."""
        self._writer = self._package.SummaryWriter(str(self.folder), purge_step=step + 1)

    def write(self, values: dict[str, float], step: int) -> None:
        """Add scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


@dataclass
class MLflow:
    """A run of MLflow, where its own variables or `address` say.

    Args:
        experiment: its name.
        address: tracking URI; None for MLflow's own choice.

    Raises:
        EnvironmentProblem: the package mlflow is missing.
    """

    experiment: str
    address: str | None = None

    def __post_init__(self) -> None:
        self._package = _package("mlflow", "mlflow")

    def open(self, step: int) -> None:
        """Begin a run."""
        if self.address is not None:
            self._package.set_tracking_uri(self.address)
        self._package.set_experiment(self.experiment)
        self._package.start_run(tags={"loopline.from_step": str(step)})

    def write(self, values: dict[str, float], step: int) -> None:
        """Log metrics."""
        self._package.log_metrics(values, step=step)

    def close(self) -> None:
        """End the run."""
        self._package.end_run()


@dataclass
class WeightsAndBiases:
    """A run of Weights & Biases, online or not as its own variables say.

    Args:
        project: its name.
        folder: for its files.

    Raises:
        EnvironmentProblem: the package wandb is missing.
    """

    project: str
    folder: Path

    def __post_init__(self) -> None:
        self._package = _package("wandb", "wandb")

    def open(self, step: int) -> None:
        """Begin a run."""
        self._run = self._package.init(
            project=self.project, dir=str(self.folder), config={"from_step": step}
        )

    def write(self, values: dict[str, float], step: int) -> None:
        """Log numbers."""
        self._run.log(values, step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


def _package(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as problem:
        raise EnvironmentProblem(
            f"This log needs the package {package}: pip install {package}. The log in JSON is "
            "written without it."
        ) from problem
