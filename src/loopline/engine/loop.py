"""The training loop, to be read from top to bottom.

A step takes the rows *kB* to *(k + 1)B* of the stream of rows, wherever they are computed. The task
gives sums of losses and weights; the gradient is the sum over the global batch divided by its
weight, so micro-batches, ranks and packing change nothing. Dropout draws from a seed that is a
function of (seed, step, rank). What a run needs to go on is its weights, its optimizer, and the
counters in `TrainState`.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from loopline.digest import value_digest
from loopline.engine.checkpoint import Checkpoints
from loopline.engine.events import Event
from loopline.engine.feeder import Feeder, step_rows, to_device
from loopline.engine.layout import Layout
from loopline.engine.optimizer import Optimizer, make_optimizer
from loopline.engine.order import DataOrder, rank_slice
from loopline.engine.packet import Mailbox, Packet
from loopline.engine.precision import LossScale, Precision
from loopline.engine.settings import TrainSettings
from loopline.engine.state import TrainState
from loopline.engine.task import Batch, Task
from loopline.engine.weights import load_run, run_tensors
from loopline.errors import DataError, SettingsError
from loopline.progress import Reporter, SilentReporter
from loopline.seeds import child_seed


@dataclass
class Run:
    """A training run: what events see and the loop works on."""

    task: Task
    model: Any
    settings: TrainSettings
    layout: Layout
    precision: Precision
    optimizer: Optimizer
    order: DataOrder
    num_steps: int
    micro: int
    events: Sequence[Event] = ()
    checkpoints: Checkpoints | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    reporter: Reporter = field(default_factory=SilentReporter)
    state: TrainState = field(default_factory=TrainState)
    scale: LossScale | None = None
    packet: Packet | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    stopped: str = ""
    waited: float = 0.0
    _wish_stop: bool = False
    _wish_save: bool = False
    _saved: float = field(default_factory=time.monotonic)

    def stop(self, why: str) -> None:
        """Ask the run to end after this step; every rank must ask alike."""
        self.stopped = self.stopped or why

    def tell(self, name: str, *values: Any) -> None:
        """Call one method of every event."""
        for event in self.events:
            getattr(event, name)(self, *values)

    # --- checkpoints -----------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """What a checkpoint carries beside tensors."""
        return {
            "state": self.state.to_dict(),
            "settings": value_digest(self.settings.identity()),
            "digests": dict(self.digests),
            "layout": {"kind": self.layout.kind, "world": self.layout.world},
            "scale": None if self.scale is None else self.scale.state_dict(),
        }

    def save(self, name: str = "") -> None:
        """Write a checkpoint while training goes on."""
        if self.checkpoints is None:
            return
        label = name or f"step-{self.state.step:09d}"
        self.checkpoints.save(label, run_tensors(self), self.facts())
        self._saved = time.monotonic()
        self.tell("saved")

    def keep_best(self) -> None:
        """Keep the weights as they are under the name `best`."""
        self.save("best")

    def resume(self) -> bool:
        """Go on from the newest good checkpoint; False when there is none.

        Raises:
            SettingsError: the checkpoint belongs to other settings, data or code.
        """
        if self.checkpoints is None:
            return False
        saved, refused = self.checkpoints.newest()
        for sentence in refused:
            self.reporter.note(f"Refused a checkpoint: {sentence} Using the one before it.")
        names = self.layout.gather("" if saved is None else saved.folder.name)
        if len(set(names)) > 1:
            saved = self.checkpoints.open(min(names)) if all(names) else None
        if saved is None:
            return False
        facts = saved.facts
        wrong = [
            f"{name} (then {str(there)[:12]}, now {str(here)[:12]})"
            for name, there, here in [
                ("settings", facts["settings"], value_digest(self.settings.identity())),
                *[(key, facts["digests"].get(key), self.digests[key]) for key in self.digests],
            ]
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
        if self.scale is not None and facts["scale"]:
            self.scale.load_state_dict(facts["scale"])
        return True

    # --- one step --------------------------------------------------------------------------------

    def forward_backward(self, batches: Iterator[Batch], count: int) -> torch.Tensor:
        """The gradient of the global batch; gives (loss sum, weight) summed over all ranks."""
        totals = torch.zeros(2, dtype=torch.float64, device=self.layout.device)
        scale = 1.0 if self.scale is None else self.scale.scale
        for number, batch in enumerate(batches):
            last = number == count - 1
            with self.layout.gathering(self.model, last=last):
                with self.precision.context():
                    loss, weight = self.task.loss(self.model, batch)
                # divided by the number of rows now, so that 16 bits suffice, by the weight later
                (loss.float() * scale / self.settings.batch_size).backward()
            totals[0] += loss.detach()
            totals[1] += weight
        return totals

    def gradients(self) -> list[torch.Tensor]:
        """The gradients of all parameters that learn."""
        return [value.grad for value in self.model.parameters() if value.grad is not None]

    @torch.no_grad()
    def rescale(self, totals: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Divide the gradients by the batch's weight and clip them; gives norm and whether finite."""
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
        torch._foreach_mul_(gradients, factor.float())  # noqa: SLF001  # one kernel for all of them
        return norm, finite

    def update(self, finite: torch.Tensor) -> None:
        """Step the optimizer, on the device only where the gradient is finite."""
        for part in self.optimizer.parts:
            if getattr(part, "_step_supports_amp_scaling", False):
                part.grad_scale = None  # type: ignore[attr-defined]
                part.found_inf = (~finite).float()  # type: ignore[attr-defined]
                part.step()
            elif bool(finite):
                part.step()
        if self.scale is not None:
            self.scale.update(finite)
        self.optimizer.zero_grad()

    # --- evaluation ------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, num_rows: int) -> Any:
        """Predictions of the evaluation rows on every rank, in row order."""
        world, rank = self.layout.world, self.layout.rank
        mine = rank_slice(np.arange(num_rows), rank, world)
        size = self.settings.evaluate_batch
        rounds = -(-(-(-num_rows // world)) // size)
        self.model.eval()
        said = []
        for number in range(rounds):
            rows = mine[number * size : (number + 1) * size]
            asked = rows if rows.size else np.zeros(1, dtype=np.int64)  # shards need every rank
            batch = self.task.batch(asked, np.zeros_like(asked), train=False)
            with self.precision.context():
                part = self.task.predict(self.model, to_device(batch, self.layout.device))
            if rows.size:
                said.append(part.float().cpu().numpy())
        self.model.train()
        parts = self.layout.gather(np.concatenate(said) if said else None)
        return np.concatenate([part for part in parts if part is not None])

    def evaluate(self) -> None:
        """Score the evaluation rows and tell the events."""
        if not self.task.num_valid:
            return
        loss, others = self.task.score(self.predict(self.task.num_valid))
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
        events: called at eight moments.
        digests: of data, split, settings and code; a checkpoint of others is refused.
        reporter: hears of progress.

    Raises:
        SettingsError: settings that do not fit the rows, the model or the processes.
    """
    place = layout or Layout.open()
    precision = Precision(settings.precision, place.device.type)
    precision.apply()
    if settings.deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
    if settings.batch_size < place.world:
        raise SettingsError(
            [
                f"`batch_size` is {settings.batch_size} and there are {place.world} processes; each "
                "needs at least one row."
            ]
        )
    order = DataOrder(
        task.num_rows, settings.batch_size, settings.seed, settings.shuffle, task.lengths
    )
    laid = place.place(model, precision, compile_blocks=settings.compile)
    optimizer = make_optimizer(laid, settings.optimizer)
    return Run(
        task=task,
        model=laid,
        settings=settings,
        layout=place,
        precision=precision,
        optimizer=optimizer,
        order=order,
        num_steps=settings.steps or order.steps(settings.epochs or 1.0),
        micro=settings.micro_batch or -(-settings.batch_size // place.world),
        events=tuple(events),
        checkpoints=None
        if folder is None
        else Checkpoints(folder, place.rank, place.world, settings.keep),
        digests=dict(digests or {}),
        reporter=reporter or SilentReporter(),
        scale=LossScale(place.device) if precision.scaled else None,
    )


def train(run: Run) -> Run:
    """Train until the last step, an early stop, or a wish to stop (SIGTERM).

    Raises:
        DataError: the loss or its gradient is not finite; the rows of the step are named.
    """
    resumed = run.resume()
    run.tell("started")
    run.model.train()
    mailbox = Mailbox(run.layout.device)
    feeder = Feeder(
        run.task,
        run.order,
        run.layout.rank,
        run.layout.world,
        run.layout.device,
        run.micro,
        threads=run.settings.threads,
    )
    label = "train" + (f" (on from step {run.state.step:,})" if resumed else "")
    left = run.num_steps - run.state.step
    with run.reporter.step(label, total=left) as progress, _told_to_stop(run):
        try:
            for rows, batches in feeder.steps(run.state.step, run.num_steps):
                _step(run, rows.step, batches, len(rows.parts), mailbox)
                progress.advance()
                run.waited = feeder.waited
                if run.packet is not None:
                    progress.describe(f"loss {run.packet.loss:.4g}")
                if run.stopped:
                    break
        finally:
            feeder.close()
        _receive(run, mailbox)
    if run.state.step and run.checkpoints is not None:
        if run.state.step >= run.num_steps or run.stopped:
            run.save()
        run.checkpoints.settle()
    run.tell("finished")
    return run


def _step(
    run: Run, step: int, batches: Iterator[Batch], count: int, mailbox: Mailbox
) -> None:
    """One optimizer step."""
    run.optimizer.set_factor(run.settings.schedule.factor(step, run.num_steps))
    torch.manual_seed(child_seed(run.settings.seed, "step", step, run.layout.rank))
    run.tell("before_step")
    totals = run.forward_backward(batches, count)
    wishes = torch.tensor(
        [float(run._wish_stop), float(_due(run))],  # noqa: SLF001  # the loop's own flags
        dtype=torch.float64,
        device=run.layout.device,
    )
    sums = run.layout.sum(torch.cat([totals, wishes]))
    run.tell("after_backward")
    norm, finite = run.rescale(sums[:2])
    run.update(finite)
    run.state.step = step + 1
    run.state.samples += run.settings.batch_size
    values = torch.stack(
        [sums[0] / sums[1], sums[1], norm, finite.double(), sums[2], sums[3]]
    )
    _receive(run, mailbox)
    mailbox.send(step, values)
    run.tell("after_step")
    _after(run)


def _receive(run: Run, mailbox: Mailbox) -> None:
    """Act on what the step before this one said; the same on every rank."""
    packet = mailbox.receive()
    if packet is None:
        return
    run.packet = packet
    run.state.weight += packet.weight
    if not packet.finite:
        run.state.skipped += 1
        _refuse_bad(run, packet)
    else:
        run.state.extra["bad_in_a_row"] = 0
    if packet.stop:
        run.stop("asked to stop")
    if packet.save:
        run.save()


def _refuse_bad(run: Run, packet: Packet) -> None:
    bad = int(run.state.extra.get("bad_in_a_row", 0)) + 1
    run.state.extra["bad_in_a_row"] = bad
    allowed = run.settings.max_skipped if run.precision.scaled else 0
    if bad <= allowed:
        return
    rows, _ = run.order.batch(packet.step)
    shown = ", ".join(str(row) for row in rows[:20].tolist()) + (" …" if rows.size > 20 else "")
    raise DataError(
        f"Step {packet.step:,} gave a loss of {packet.loss:g} and a gradient of norm "
        f"{packet.norm:g}; the weights were not changed by it. Its rows are {shown}. Look at them, "
        "or lower the learning rate."
    )


def _after(run: Run) -> None:
    """Evaluate, save and close epochs when it is time."""
    settings, step = run.settings, run.state.step
    before = (run.state.samples - settings.batch_size) // run.order.num_rows
    new_epoch = run.state.samples // run.order.num_rows > before
    last = step >= run.num_steps
    if run.checkpoints is not None:
        run.checkpoints.poll()
    if new_epoch:
        run.tell("after_epoch")
    every = settings.evaluate_every
    if last or (step % every == 0 if every else new_epoch):
        run.evaluate()
    every = settings.save_every
    if not last and (step % every == 0 if every else new_epoch):
        run.save()


def _due(run: Run) -> bool:
    seconds = run.settings.save_seconds
    return seconds is not None and time.monotonic() - run._saved > seconds  # noqa: SLF001


@contextmanager
def _told_to_stop(run: Run) -> Iterator[None]:
    """SIGTERM becomes a wish to save and stop, which all ranks then share."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def wish(number: int, frame: Any) -> None:
        del number, frame
        run._wish_stop = True  # noqa: SLF001  # the loop's own flag

    before = signal.signal(signal.SIGTERM, wish)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def rows_of(run: Run, step: int) -> list[int]:
    """The row numbers that this rank computes in a step, in the order of its micro-batches."""
    found = step_rows(run.order, step, run.layout.rank, run.layout.world, run.micro)
    return [int(row) for part in found.parts for row in part]
