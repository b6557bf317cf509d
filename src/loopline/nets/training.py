"""One fit of a network by the engine, on whichever processes were started for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from loopline.engine.checkpoint import Saved
from loopline.engine.events import Average, EarlyStop, Event
from loopline.engine.layout import Layout, unwrapped
from loopline.engine.loop import ASKED, train
from loopline.engine.meter import Meter
from loopline.engine.optimizer import OptimizerSettings
from loopline.engine.run import Run, prepare
from loopline.engine.schedule import Schedule
from loopline.engine.settings import TrainSettings
from loopline.engine.task import Task
from loopline.engine.tools.log import Board, Log, MLflow, TensorBoard, WeightsAndBiases
from loopline.engine.weights import save_weights
from loopline.errors import EnvironmentProblem
from loopline.progress import Reporter

WEIGHTS = "weights.safetensors"
LOG = "training.jsonl"
"""Readings of speed, loss and memory, one JSON object a line."""
_READINGS = 200
"""Readings of a run, about."""
SAVE_SECONDS = 60.0
"""A checkpoint is written so often; a killed fit loses at most as much."""
_MEMORY = 20
"""The moving average remembers a twentieth of the run's steps at most."""


@dataclass(frozen=True)
class Trained:
    """What a fit gave.

    Args:
        epochs: passes over the rows until the weights that were kept.
        history: one entry an evaluation: step, loss and what else was scored.
        stopped: why it ended before its last step; empty if it did not.
    """

    epochs: float
    history: list[dict[str, float]]
    stopped: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"epochs": self.epochs, "history": self.history, "stopped": self.stopped}


def train_settings(params: Mapping[str, Any], seed: int) -> TrainSettings:
    """The engine's settings from a neural family's parameters.

    Args:
        params: all parameters of the family (see `loopline.models.neural`).
        seed: of order, dropout and augmentation.
    """
    cuda = torch.cuda.is_available()
    precision = params["precision"]
    if precision == "auto":
        precision = "bf16" if cuda else "fp32"
    batch = params["batch_size"]
    return TrainSettings(
        batch_size=int(batch),
        micro_batch=None if params["micro_batch"] == "auto" else int(params["micro_batch"]),
        epochs=float(params["epochs"]),
        seed=seed,
        precision=precision,
        optimizer=OptimizerSettings(
            name=params["optimizer"],
            lr=float(params["learning_rate"]),
            weight_decay=float(params["weight_decay"]),
            layer_decay=float(params["layer_decay"]),
            head_lr=float(params["head_rate"]),
            clip=float(params["clip"]) or None,
        ),
        stochastic_depth=float(params["stochastic_depth"]),
        schedule=Schedule(params["schedule"], warmup=float(params["warmup"])),
        evaluate_batch=max(64, int(batch)),
        save_every=10**9,
        save_seconds=SAVE_SECONDS,
        compile=params["compile"],
        recompute=bool(params["recompute"]),
    )


def prepare_fit(
    network: nn.Module,
    examples: Task,
    params: Mapping[str, Any],
    *,
    seed: int,
    layout: Layout,
    folder: Path | None = None,
    digests: Mapping[str, str] | None = None,
    boards: Mapping[str, str] | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Everything that a fit needs, without a step.

    Args:
        network: with its first weights, the same on every process.
        examples: rows, loss and score.
        params: all parameters of the family.
        seed: of order, dropout and augmentation.
        layout: the processes.
        folder: for checkpoints; None for none.
        digests: what the checkpoints belong to.
        boards: where else readings go, as in `FitContext`; each fit under a name of its own.
        reporter: hears of progress.

    Raises:
        EnvironmentProblem: the package of a board is missing.
        SettingsError: settings that do not fit each other.
    """
    settings = train_settings(params, seed)
    events: list[Event] = []
    average = None
    if params["average"]:
        steps = examples.num_rows * float(params["epochs"]) / settings.batch_size
        average = Average(min(float(params["average"]), max(0.5, 1.0 - _MEMORY / steps)))
    if average is not None:
        events.append(average)
    if examples.num_valid and params["patience"]:
        events.append(EarlyStop(int(params["patience"])))
    run = prepare(
        examples,
        network,
        settings,
        layout=layout,
        folder=None if folder is None else folder / "checkpoints",
        events=events,
        digests=digests,
        reporter=reporter,
    )
    if folder is None:
        return run
    flops = getattr(network, "flops", None)  # where a network knows what a token costs
    meter = Meter(every=max(1, run.num_steps // _READINGS), flops=flops)
    opened = _boards(boards or {}, folder) if layout.leads else ()
    run.events = (*run.events, meter, Log(folder / LOG, meter, opened))
    return run


def _boards(named: Mapping[str, str], folder: Path) -> tuple[Board, ...]:
    """The boards by their kinds; a fit is known by the beginning of its folder's name."""
    fit = folder.name[:12]
    makers: dict[str, Callable[[str], Board]] = {
        "tensorboard": lambda place: TensorBoard(Path(place) / fit),
        "mlflow": lambda place: MLflow("loopline", place),
        "wandb": lambda place: WeightsAndBiases(place, folder),
    }
    return tuple(makers[kind](place) for kind, place in named.items())


def fit_network(run: Run, folder: Path) -> Trained:
    """Train a network and write its weights, those of the best evaluation where it stops early.

    Started again with the same folder, it goes on from the last checkpoint.

    Args:
        run: from `prepare_fit`, with the folder.
        folder: where `weights.safetensors` goes at the end.

    Raises:
        DataError: the loss is not finite; the rows are named.
        EnvironmentProblem: memory does not suffice, a checkpoint could not be written, or SIGTERM
            came; what was reached is saved.
    """
    train(run)
    if run.stopped == ASKED and run.state.step < run.num_steps:
        raise EnvironmentProblem(
            f"The training was asked to stop after step {run.state.step:,} of {run.num_steps:,}; "
            "it is saved, and the same command goes on from there."
        )
    step = _settle(run)
    save_weights(run, folder / WEIGHTS)
    if run.checkpoints is not None:
        run.checkpoints.close()
    epochs = step * run.settings.batch_size / run.order.num_rows
    return Trained(round(epochs, 6), run.history, run.stopped)


def _settle(run: Run) -> int:
    """Put the weights to be kept in place; gives the step after which they were so."""
    average = next((event for event in run.events if isinstance(event, Average)), None)
    best = None if run.checkpoints is None else run.layout.gather(_best_name(run))[0]
    if best:
        assert run.checkpoints is not None
        _load(run, run.checkpoints.open(best, prove=False), average)
        return run.state.best_step
    if average is not None:
        average.swap(run)
    return run.state.step


def _best_name(run: Run) -> str:
    if not run.layout.leads or run.checkpoints is None or run.state.best is None:
        return ""
    found = run.checkpoints.best()
    return "" if found is None else found.folder.name


@torch.no_grad()
def _load(run: Run, saved: Saved, average: Average | None) -> None:
    prefix = "model." if average is None else f"event.{average.name}."
    module = unwrapped(run.model)
    weights: dict[str, torch.Tensor] = {**dict(module.named_parameters())}
    weights |= dict(module.named_buffers())
    known = saved.names()
    saved.load_into(
        {f"model.{name}": value for name, value in weights.items() if f"model.{name}" in known}
    )
    if average is not None:
        saved.load_into(
            {f"{prefix}{name}": value for name, value in weights.items() if prefix + name in known}
        )


def load_weights(network: nn.Module, path: Path) -> nn.Module:
    """Fill a network with saved weights and set it to answer; gives it.

    Raises:
        RuntimeError: the file has other tensors than the network; a reader of releases turns it
            into an `IntegrityError`.
    """
    network.load_state_dict(load_file(path))
    return network.eval()
