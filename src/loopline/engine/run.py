"""A training run: what the loop works on and what events see, and how one is made.

A step's gradient is the sum over the global batch divided by its weight, so micro-batches, ranks
and packing change nothing. What a run needs to go on is its weights, its optimizer, what events
keep, and the counters in `TrainState`.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from loopline.digest import value_digest
from loopline.engine.blocks import set_dropout, set_stochastic_depth
from loopline.engine.checkpoint import Checkpoints
from loopline.engine.events import Event
from loopline.engine.feeder import StepBatch, to_device
from loopline.engine.layout import Layout
from loopline.engine.optimizer import Optimizer, make_optimizer
from loopline.engine.order import DataOrder, rank_slice
from loopline.engine.packet import Mailbox, Packet
from loopline.engine.precision import LossScale, Precision
from loopline.engine.settings import TrainSettings
from loopline.engine.state import TrainState
from loopline.engine.task import Task
from loopline.engine.weights import load_run, run_tensors
from loopline.errors import SettingsError
from loopline.progress import Reporter, SilentReporter


@dataclass
class Run:
    """One run, seen from one process.

    Attributes:
        learning: the parameters that learn, as they lie on this process.
        packet: what the host knows of the last step it has heard of.
        tight: whether memory holds fewer rows than were asked for; evaluation then takes no more.
        totals: loss sum and weight of the step under way, over all ranks, on the device.
        allowed: a flag on the device; where an event makes it false before the update, alike on
            every rank, no update is made any more, and the run stops and names the rows.
        history: the evaluations so far.
        told: what else the progress line says, set by an event.
        stopped: why the run was asked to end; empty while it goes on.
    """

    task: Task
    model: Any
    settings: TrainSettings
    layout: Layout
    precision: Precision
    optimizer: Optimizer
    order: DataOrder
    num_steps: int
    micro: int
    mailbox: Mailbox
    learning: list[nn.Parameter]
    events: Sequence[Event] = ()
    checkpoints: Checkpoints | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    reporter: Reporter = field(default_factory=SilentReporter)
    state: TrainState = field(default_factory=TrainState)
    scale: LossScale | None = None
    packet: Packet | None = None
    totals: torch.Tensor = field(default_factory=lambda: torch.zeros(2))
    allowed: torch.Tensor = field(default_factory=lambda: torch.ones((), dtype=torch.bool))
    history: list[dict[str, float]] = field(default_factory=list)
    stopped: str = ""
    told: str = ""
    tight: bool = False
    waited: float = 0.0
    saved: str = ""
    wish_stop: bool = False
    wish_save: bool = False
    last_save: float = field(default_factory=time.monotonic)

    def stop(self, why: str, *, final: bool = False) -> None:
        """Ask the run to end after this step; every rank must ask alike.

        Args:
            why: told to the caller in `stopped`.
            final: training is over; started again, the run does not go on.
        """
        self.stopped = self.stopped or why
        if final:
            self.state.ended = why

    def tell(self, name: str, *values: Any) -> None:
        """Call one method of every event."""
        for event in self.events:
            getattr(event, name)(self, *values)

    # --- checkpoints -----------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """What a checkpoint carries beside tensors."""
        return {
            "state": self.state.to_dict(),
            "history": [
                {name: value if math.isfinite(value) else None for name, value in entry.items()}
                for entry in self.history
            ],
            "settings": value_digest(self.settings.identity()),
            "digests": dict(self.digests),
            "layout": {"kind": self.layout.kind, "world": self.layout.world},
            "scale": None if self.scale is None else self.scale.state_dict(),
        }

    def save(self, kind: str = "step") -> None:
        """Write a checkpoint while training goes on; `kind` is "step" or "best"."""
        name = f"{kind}-{self.state.step:09d}"
        if self.checkpoints is None or name == self.saved:
            return
        self.saved = name
        self.layout.beat("the checkpoint", self.state.step)
        self.checkpoints.save(name, run_tensors(self), self.facts())
        self.layout.beat("the checkpoint", self.state.step)
        self.last_save = time.monotonic()
        self.tell("saved")

    def resume(self) -> bool:
        """Go on from the newest good checkpoint; False when there is none.

        Raises:
            SettingsError: the checkpoint belongs to other settings, data or code.
            IntegrityError: it holds other tensors than the model and the optimizer have.
        """
        if self.checkpoints is None:
            return False
        if self.layout.leads:
            self.checkpoints.sweep()
        saved, refused = self.checkpoints.newest() if self.layout.leads else (None, [])
        name = self.layout.gather("" if saved is None else saved.folder.name)[0]
        for sentence in refused:
            self.reporter.note(f"Refused a checkpoint: {sentence} Using the one before it.")
        if not name:
            return False
        saved = saved or self.checkpoints.open(name, prove=False)
        facts = saved.facts
        pairs = [("settings", facts["settings"], value_digest(self.settings.identity()))]
        pairs += [(key, facts["digests"].get(key), self.digests[key]) for key in self.digests]
        wrong = [
            f"{key} (then {str(there)[:12]}, now {str(here)[:12]})"
            for key, there, here in pairs
            if there != here
        ]
        if wrong:
            raise SettingsError(
                [
                    f"{saved.folder} was written by a run with other {', '.join(wrong)}. Use "
                    "another folder, or set them back."
                ]
            )
        load_run(self, saved)
        self.state = TrainState.from_dict(facts["state"])
        self.history = [
            {name: math.nan if value is None else value for name, value in entry.items()}
            for entry in facts["history"]
        ]
        if self.scale is not None and facts["scale"]:
            self.scale.load_state_dict(facts["scale"])
        return True

    # --- one step --------------------------------------------------------------------------------

    def forward_backward(self, batches: Iterator[StepBatch], count: int) -> torch.Tensor:
        """This rank's share of the global gradient; gives its (loss sum, weight)."""
        totals = torch.zeros(2, dtype=torch.float64, device=self.layout.device)
        scale = 1.0 if self.scale is None else self.scale.scale
        for number, (batch, share) in enumerate(batches):
            self.layout.beat("the forward pass", self.state.step)
            with self.layout.gathering(self.model, last=number == count - 1):
                with self.precision.context():
                    loss, weight = self.task.loss(self.model, batch)
                self.layout.beat("the backward pass", self.state.step)
                # divided by the number of rows now, so that 16 bits suffice, by the weight later
                (loss.float() * (share * scale / self.settings.batch_size)).backward()
            totals[0] += loss.detach() * share
            totals[1] += weight * share
        self.layout.beat("the update", self.state.step)
        return totals

    def gradients(self) -> list[torch.Tensor]:
        """The gradients of all parameters that learn."""
        return [value.grad for value in self.learning if value.grad is not None]

    @torch.no_grad()
    def rescale(self, totals: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Divide gradients by the batch's weight and clip them; gives norm and whether finite."""
        gradients = self.gradients()
        factor = self.layout.world * self.settings.batch_size / totals[1].clamp(min=1e-30)
        if self.scale is not None:
            factor = factor / self.scale.scale
        norm = nn.utils.get_total_norm(gradients)
        norm = (norm.full_tensor() if hasattr(norm, "full_tensor") else norm).double() * factor
        finite = torch.isfinite(norm) & torch.isfinite(totals[0])
        clip = self.optimizer.settings.clip
        if clip is not None:
            factor = factor * (clip / (norm + 1e-6)).clamp(max=1.0)
        parts = [getattr(value, "_local_tensor", value) for value in gradients]
        torch._foreach_mul_(parts, factor.float())  # one kernel for all of them
        return norm, finite

    def update(self, good: torch.Tensor) -> None:
        """Step the optimizer, on the device only where the step is good."""
        self.optimizer.step(good)
        if self.scale is not None:
            self.scale.update(good)
        self.optimizer.zero_grad()

    # --- evaluation ------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, num_rows: int) -> Any:
        """Predictions of the evaluation rows on every rank, in row order."""
        world, rank = self.layout.world, self.layout.rank
        mine = rank_slice(np.arange(num_rows), rank, world)
        size = self.settings.evaluate_batch
        size = min(size, self.micro) if self.tight else size
        rounds = math.ceil(math.ceil(num_rows / world) / size)
        self.model.eval()
        self.layout.share_buffers(self.model)
        said = []
        for number in range(rounds):
            self.layout.beat("the evaluation", self.state.step)
            rows = mine[number * size : (number + 1) * size]
            asked = rows if rows.size else np.zeros(1, dtype=np.int64)  # shards need every rank
            batch = self.task.batch(asked, np.zeros_like(asked), train=False)
            with self.precision.context():
                part = self.task.predict(self.model, to_device(batch, self.layout.device))
            if rows.size:
                said.append(part.float().cpu().numpy())
        self.model.train()
        self.layout.settle(self.model)
        parts = self.layout.gather(np.concatenate(said) if said else None)
        return np.concatenate([part for part in parts if part is not None])

    def evaluate(self) -> None:
        """Score the evaluation rows and tell the events the same numbers on every rank."""
        if not self.task.num_valid:
            return
        self.tell("evaluating")
        predictions = self.predict(self.task.num_valid)
        scored = self.task.score(predictions) if self.layout.leads else (0.0, {})
        loss, others = self.layout.gather(scored)[0]
        self.history.append({"step": self.state.step, "loss": loss, **others})
        self.tell("evaluated", loss, others)


def prepare(
    task: Task,
    model: nn.Module,
    settings: TrainSettings,
    *,
    layout: Layout | None = None,
    folder: Path | None = None,
    events: Sequence[Event] = (),
    digests: Mapping[str, str] | None = None,
    reporter: Reporter | None = None,
) -> Run:
    """Lay the model out and make everything that a run needs, without a step.

    Args:
        task: rows, loss and score.
        model: with its first weights, the same on every rank.
        settings: how to train.
        layout: the processes (default: this one, or those that torchrun started).
        folder: where checkpoints go; None for none.
        events: called at the moments of a run, in this order.
        digests: of data, split, settings and code; a checkpoint of others is refused.
        reporter: hears of progress.

    Raises:
        SettingsError: settings that do not fit the rows, the model or the processes.
    """
    place = layout or Layout.open()
    precision = Precision(settings.precision, place.device.type)
    precision.apply()
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product
        torch.use_deterministic_algorithms(True)
    if settings.batch_size < place.world:
        raise SettingsError(
            [
                f"`batch_size` is {settings.batch_size} and there are {place.world} processes; "
                "each needs at least one row."
            ]
        )
    order = DataOrder(
        task.num_rows, settings.batch_size, settings.seed, settings.shuffle, task.lengths
    )
    if settings.dropout is not None:
        set_dropout(model, settings.dropout)
    if settings.stochastic_depth:
        set_stochastic_depth(model, settings.stochastic_depth)
    laid = place.place(model, precision, compiled=settings.compile, recompute=settings.recompute)
    return Run(
        task=task,
        model=laid,
        settings=settings,
        layout=place,
        precision=precision,
        optimizer=make_optimizer(laid, settings.optimizer),
        order=order,
        num_steps=settings.steps or order.steps(settings.epochs or 1.0),
        micro=settings.micro_batch or -(-settings.batch_size // place.world),
        mailbox=Mailbox(place.device),
        learning=[value for value in laid.parameters() if value.requires_grad],
        events=tuple(events),
        checkpoints=None
        if folder is None
        else Checkpoints(folder, place.rank, place.world, settings.keep),
        digests=dict(digests or {}),
        reporter=reporter or SilentReporter(),
        scale=LossScale(place.device) if precision.scaled else None,
        allowed=torch.ones((), dtype=torch.bool, device=place.device),
    )
