"""As many rows at once as memory holds: a micro-batch is halved until it fits.

The global batch, and with it every number of the run, stays what it was; only speed and memory
change. All processes take the same micro-batch, that of the one with the least room.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from loopline.engine.feeder import to_device
from loopline.errors import EnvironmentProblem

if TYPE_CHECKING:
    from loopline.engine.run import Run


def fit_micro_batch(run: Run) -> int:
    """Find the largest micro-batch that fits, by halving, and set it; gives it.

    The longest rows are tried, beside as much memory as the optimizer will take. Weights, buffers,
    random numbers and data order stay as they were. Under FSDP all processes try the same rows, so
    that they run out of memory together.

    Raises:
        EnvironmentProblem: a single row does not fit; tells what was tried.
    """
    if run.settings.micro_batch is not None or not tries_memory(run):
        return run.micro
    tried = []
    while True:
        fits = run.layout.agree(0 if _fits(run, run.micro) else 1) == 0
        tried.append(run.micro)
        if fits:
            break
        if run.micro == 1:
            raise EnvironmentProblem(
                f"Memory does not hold one row: micro-batches of {_list(tried)} rows were tried on "
                f"{run.layout.device}. Use `recompute: true`, `precision: bf16`, shorter rows, a "
                "smaller model, or `parallel: fsdp` on more processes."
            )
        run.micro = -(-run.micro // 2)
    if len(tried) > 1:
        run.reporter.note(
            f"Micro-batches of {_list(tried[:-1])} rows do not fit memory; using {run.micro:,}. "
            "The batch of a step stays as it is."
        )
    return run.micro


def tries_memory(run: Run) -> bool:
    """Whether running out of memory can be noticed: on a GPU, or where the task says so."""
    return run.layout.device.type == "cuda" or getattr(run.task, "limited", False)


@contextmanager
def out_of_memory(run: Run) -> Iterator[None]:
    """Turn an out-of-memory error in a step into a sentence that says what would fit."""
    try:
        yield
    except torch.OutOfMemoryError as problem:
        raise EnvironmentProblem(
            f"Out of memory on {run.layout.device} in step {run.state.step:,} with micro-batches "
            f"of {run.micro:,} rows. Set `micro_batch: {max(1, run.micro // 2)}`, or `recompute: "
            "true`; the result stays the same. The last checkpoint is good."
        ) from problem


def _fits(run: Run, micro: int) -> bool:
    from loopline.engine.find import untouched

    lengths = run.order.lengths
    rows = np.arange(min(micro, run.order.num_rows))
    if lengths is not None:
        rows = np.argsort(-lengths, kind="stable")[: rows.size]
    batch = run.task.batch(rows, np.zeros_like(rows), train=True)
    last = run.layout.kind == "fsdp"
    states = 2 if run.optimizer.settings.name == "adamw" else 1
    reserved: list[torch.Tensor] = []
    fits = True
    with untouched(run, weights=False):
        try:
            for value in run.model.parameters():
                if value.requires_grad:
                    here = getattr(value, "_local_tensor", value)
                    reserved += [torch.empty_like(here) for _ in range(states)]
            with run.layout.gathering(run.model, last=last):
                with run.precision.context():
                    loss, _ = run.task.loss(run.model, to_device(batch, run.layout.device))
                loss.float().backward()
        except torch.OutOfMemoryError:
            fits = False
        run.optimizer.zero_grad()
        reserved.clear()
    if not fits and run.layout.device.type == "cuda":
        torch.cuda.empty_cache()
    return fits


def _list(sizes: list[int]) -> str:
    return ", ".join(f"{size:,}" for size in sizes)
