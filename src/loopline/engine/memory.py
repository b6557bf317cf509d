"""As many rows at once as memory holds.

The global batch, and with it every number of the run, stays what it was; only speed and memory
change. All processes take the same micro-batch, that of the one with the least room. A micro-batch
is halved until it fits. FSDP cannot go on after a pass that ran out of memory, so there it grows
while the next size is sure to fit: what a pass holds grows at least linearly with its rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from loopline.engine.feeder import to_device
from loopline.errors import EnvironmentProblem

if TYPE_CHECKING:
    from loopline.engine.run import Run


def fit_micro_batch(run: Run) -> int:
    """Find the largest micro-batch that fits, of the batch halved again and again, and set it.

    The longest rows are tried, beside as much memory as the optimizer will take. Weights, buffers,
    random numbers and data order stay as they were.

    Raises:
        EnvironmentProblem: a single row does not fit; tells what was tried.
    """
    if run.settings.micro_batch is not None or not tries_memory(run):
        return run.micro
    sizes = [run.micro]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    foresee = run.layout.kind == "fsdp" and run.layout.device.type == "cuda"
    tried = _grow(run, sizes[::-1]) if foresee else _shrink(run, sizes)
    if run.settings.compile and len(tried) > 1:
        torch.compiler.reset()  # what was compiled for several sizes is slower than for one
    if run.micro < sizes[0]:
        larger = [size for size in sizes if size > run.micro]
        run.tight = True
        run.reporter.note(
            f"Micro-batches of {_list(larger)} rows do not fit memory; using {run.micro:,}. "
            "The batch of a step stays as it is."
        )
    return run.micro


def _shrink(run: Run, sizes: list[int]) -> list[int]:
    for place, run.micro in enumerate(sizes):
        if _agree(run, fits=_fits(run, run.micro)):
            return sizes[: place + 1]
    raise _nothing_fits(run, sizes)


def _grow(run: Run, sizes: list[int]) -> list[int]:
    """Go up while the next size fits if a pass takes so much more as the last step up took."""
    device = run.layout.device
    room = 0.92 * (torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    peaks: list[float] = []
    for place, size in enumerate(sizes):
        if place > 1:
            slope = (peaks[-1] - peaks[-2]) / (sizes[place - 1] - sizes[place - 2])
            fits = peaks[-1] + slope * (size - sizes[place - 1]) <= room
            if not _agree(run, fits=fits):
                return sizes[:place]
        torch.cuda.reset_peak_memory_stats(device)
        if not _agree(run, fits=_fits(run, size)):
            raise _nothing_fits(run, [size])
        peaks.append(float(torch.cuda.max_memory_allocated(device)))
        run.micro = size
    return sizes


def _agree(run: Run, *, fits: bool) -> bool:
    return run.layout.agree(0 if fits else 1) == 0


def _nothing_fits(run: Run, tried: list[int]) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"Memory does not hold one row: micro-batches of {_list(tried)} rows were tried on "
        f"{run.layout.device}. Use `recompute: true`, `precision: bf16`, shorter rows, a "
        "smaller model, or `parallel: fsdp` on more processes."
    )


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
    lengths = run.order.lengths
    rows = np.arange(micro) % run.order.num_rows
    if lengths is not None:
        rows = np.argsort(-lengths, kind="stable")[rows]
    batch = run.task.batch(rows, np.zeros_like(rows), train=True)
    last = run.layout.kind == "fsdp"
    states = 2 if run.optimizer.settings.name == "adamw" else 1
    known = {value for part in run.optimizer.parts for value, kept in part.state.items() if kept}
    reserved: list[torch.Tensor] = []
    fits = True
    with untouched(run, weights=False):
        try:
            for value in run.model.parameters():
                if value.requires_grad and value not in known:
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


@contextmanager
def untouched(run: Run, *, weights: bool = True) -> Iterator[None]:
    """Put a run back as it was, bit for bit, whatever is done inside.

    Args:
        run: prepared.
        weights: whether weights and optimizer are changed inside; buffers and random numbers are
            put back in any case.
    """
    device = run.layout.device
    random = torch.get_rng_state()
    random_there = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    model = run.model
    held = [*model.buffers(), *(model.parameters() if weights else ())]
    copies = [value.detach().clone() for value in held]
    states = [
        {key: {name: _copy(value) for name, value in state.items()} for key, state in known.items()}
        for known in [part.state for part in run.optimizer.parts if weights]
    ]
    rates = [[group["lr"] for group in part.param_groups] for part in run.optimizer.parts]
    scale = None if run.scale is None else run.scale.state_dict()
    kept = (run.micro, run.tight, deepcopy(run.state), run.allowed, model.training)
    model.train()
    try:
        yield
    finally:
        run.optimizer.zero_grad()
        with torch.no_grad():
            for value, copy in zip(held, copies, strict=True):
                value.copy_(copy)
        for part, state in zip(run.optimizer.parts, states, strict=False):
            part.state.clear()
            part.state.update(state)
        for part, before in zip(run.optimizer.parts, rates, strict=True):
            for group, rate in zip(part.param_groups, before, strict=True):
                group["lr"] = rate
        if run.scale is not None and scale is not None:
            run.scale.load_state_dict(scale)
        run.micro, run.tight, run.state, run.allowed, training = kept
        model.train(training)
        torch.set_rng_state(random)
        if random_there is not None:
            torch.cuda.set_rng_state(random_there, device)


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value
