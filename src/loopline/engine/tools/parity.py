"""Does a layout compute what one process computes? Loss and gradient errors, side by side.

Every process first takes a few steps alone, then the same steps together in each layout. Dropout is
off meanwhile, for it draws differently on every rank. What is compared is the gradient of the
global batch as the optimizer gets it, so clipping is in it too.

    python -m loopline.engine.tools.parity FILE

is one of the processes that `check_parity` starts.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from loopline.engine.feeder import Feeder
from loopline.engine.layout import Layout, leave
from loopline.engine.run import Run, prepare
from loopline.engine.settings import TrainSettings
from loopline.engine.task import Batch, Ints, Task
from loopline.engine.tools.launch import launch
from loopline.errors import SettingsError

Kind = Literal["ddp", "fsdp"]
LIMITS: Mapping[str, float] = {
    "fp32": 1e-6, "tf32": 1e-2, "bf16": 2e-2, "fp16": 5e-3, "bf16_pure": 5e-2,
}  # fmt: skip
"""The relative error that rounding may make in each number format."""


@dataclass(frozen=True)
class Parity:
    """How far one layout is from one process.

    Args:
        layout: "ddp" or "fsdp".
        precision: number format.
        world: number of processes.
        steps: steps compared, each with an update.
        loss: largest relative error of a step's loss.
        gradient: largest relative error of a step's gradient, as norm of the difference.
        threshold: what both may be.
    """

    layout: str
    precision: str
    world: int
    steps: int
    loss: float
    gradient: float
    threshold: float

    @property
    def holds(self) -> bool:
        """Whether both errors are within the threshold."""
        return self.loss <= self.threshold and self.gradient <= self.threshold


def parity(
    task: Task,
    make_model: Callable[[], nn.Module],
    settings: TrainSettings,
    layout: Layout,
    *,
    kinds: Sequence[Kind] = ("ddp", "fsdp"),
    steps: int = 3,
    threshold: float | None = None,
) -> list[Parity]:
    """Compare layouts of the processes that were started together with one process.

    Args:
        task: rows and loss.
        make_model: gives the model with its first weights, the same at every call and rank.
        settings: how to train.
        layout: of these processes, from `Layout.open`.
        kinds: the layouts to compare.
        steps: how many, at least 1.
        threshold: what the relative errors may be; None for that of the format in `LIMITS`.
    """
    form = settings.precision
    limit = LIMITS[form] if threshold is None else threshold
    alone = Layout("single", 0, 1, layout.device)
    wanted = _steps(prepare(task, make_model(), settings, layout=alone), steps)
    found = []
    for kind in kinds:
        place = replace(layout, kind=kind)
        seen = _steps(prepare(task, make_model(), settings, layout=place), steps)
        losses, gradients = [0.0], [0.0]
        for (loss, gradient), (other, reference) in zip(seen, wanted, strict=True):
            losses.append(abs(loss - other) / abs(other))
            gradients.append(float((gradient - reference).norm() / reference.norm()))
        error = (max(losses), max(gradients))
        found.append(Parity(kind, form, layout.world, steps, *error, limit))
    return found


def check_parity(
    processes: int = 2,
    *,
    kinds: Sequence[Kind] = ("ddp", "fsdp"),
    precisions: Sequence[str] = ("fp32", "bf16"),
    threshold: float | None = None,
    steps: int = 3,
) -> list[Parity]:
    """Start processes that compare layouts on a small built-in model, on GPUs where they suffice.

    Args:
        processes: how many, at least 2.
        kinds: the layouts to compare with one process.
        precisions: the number formats to do it in.
        threshold: what the relative errors may be; None for those in `LIMITS`.
        steps: how many, at least 1.

    Raises:
        SettingsError: numbers or names out of these ranges.
        EnvironmentProblem: a process ended before the answer was there.
    """
    problems = []
    if processes < 2:
        problems.append(f"Parity compares layouts of at least 2 processes, got {processes}.")
    if steps < 1:
        problems.append(f"`steps` must be at least 1, got {steps}.")
    if threshold is not None and not threshold > 0.0:
        problems.append(f"`threshold` must be above 0, got {threshold}.")
    for label, names, known in (("layout", kinds, ("ddp", "fsdp")), ("format", precisions, LIMITS)):
        problems += [
            f"There is no {label} {name!r}; known are {', '.join(known)}."
            for name in names
            if name not in known
        ]
    if problems:
        raise SettingsError(problems)
    device = None if torch.cuda.device_count() >= processes else "cpu"
    asked = {"kinds": list(kinds), "precisions": list(precisions), "steps": steps}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "parity.json"
        asked |= {"threshold": threshold, "device": device}
        file.write_text(json.dumps(asked), encoding="utf-8")
        launch(["-m", "loopline.engine.tools.parity", str(file)], processes)
        return [Parity(**line) for line in json.loads(file.read_text(encoding="utf-8"))]


def table(found: Sequence[Parity]) -> str:
    """The errors as text, one line for each layout and format.

    >>> print(table([Parity("ddp", "fp32", 2, 3, 0.0, 1.2e-7, 1e-6)]))
    layout  format     processes  steps  loss error  gradient error  at most  holds
    ddp     fp32               2      3     0.0e+00         1.2e-07    1e-06  yes
    """
    lines = ["layout  format     processes  steps  loss error  gradient error  at most  holds"]
    lines += [
        f"{line.layout:<6}  {line.precision:<9}  {line.world:>9}  {line.steps:>5}  "
        f"{line.loss:>10.1e}  {line.gradient:>14.1e}  {line.threshold:>7.0e}  "
        f"{'yes' if line.holds else 'NO'}"
        for line in found
    ]
    return "\n".join(lines)


def _steps(run: Run, steps: int) -> list[tuple[float, torch.Tensor]]:
    """Loss and whole gradient of the first steps."""
    run.model.eval()
    found = []
    feeder = Feeder(run.task, run.order, run.layout, run.micro, threads=1)
    for rows, batches in feeder.steps(0, steps):
        run.optimizer.set_factor(run.settings.schedule.factor(rows.step, run.num_steps))
        totals = run.layout.sum(run.forward_backward(batches, len(rows.parts)))
        _, finite = run.rescale(totals)
        whole = [
            (value.full_tensor() if hasattr(value, "full_tensor") else value).flatten()
            for value in run.gradients()
        ]
        found.append((float(totals[0] / totals[1]), torch.cat(whole).float().cpu()))
        run.update(finite)
    feeder.close()
    return found


class Sample(Task):
    """Points with noisy classes; each counts as many times as it weighs, as tokens would."""

    num_rows = 64

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self._values = torch.from_numpy(draw.normal(size=(self.num_rows, 8))).float()
        self._classes = (self._values[:, 0] > 0).long() + (self._values[:, 1] > 0).long()
        self._weights = torch.from_numpy(draw.integers(1, 9, self.num_rows)).float()

    def batch(self, rows: Ints, epochs: Ints, *, train: bool) -> Batch:
        """Values, classes and weights of some rows."""
        del epochs, train
        places = torch.from_numpy(rows)
        parts = (self._values, self._classes, self._weights)
        return dict(zip(("values", "classes", "weights"), (p[places] for p in parts), strict=True))

    def loss(self, model: Any, batch: Batch) -> tuple[Any, Any]:
        """Weighted cross-entropy."""
        losses = functional.cross_entropy(
            model(batch["values"]).float(), batch["classes"], reduction="none"
        )
        return (losses * batch["weights"]).sum(), batch["weights"].sum()


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + functional.gelu(self.inner(self.norm(hidden)))


class _Sampled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Linear(8, 32)
        self.layers = nn.ModuleList([_Layer(32) for _ in range(3)])
        self.head = nn.Linear(32, 3)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(values)
        for layer in self.layers:
            hidden = layer(hidden)
        result: torch.Tensor = self.head(hidden)
        return result


def main(file: Path) -> None:
    """Compare, as one of the processes; the leading one writes the answer into the file."""
    asked = json.loads(file.read_text(encoding="utf-8"))
    layout = Layout.open("ddp", asked["device"])
    try:
        found: list[Parity] = []
        for form in asked["precisions"]:
            # a rank with fewer rows than the others, and more than one micro-batch
            settings = TrainSettings(
                batch_size=4 * layout.world - 1, micro_batch=2, steps=asked["steps"], precision=form
            )
            found += parity(
                Sample(), _Sampled, settings, layout,
                kinds=asked["kinds"], steps=asked["steps"], threshold=asked["threshold"],
            )  # fmt: skip
        layout.barrier()
        if layout.leads:
            file.write_text(json.dumps([asdict(line) for line in found]), encoding="utf-8")
    finally:
        layout.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave()
