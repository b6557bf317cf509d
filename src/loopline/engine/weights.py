"""A run's tensors by name, for checkpoints, and the model's weights as a plain file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from loopline.engine.checkpoint import Saved, flat
from loopline.engine.layout import unwrapped

if TYPE_CHECKING:
    from loopline.engine.run import Run

_FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


def run_tensors(run: Run) -> dict[str, torch.Tensor]:
    """Weights, optimizer and what events keep, by name; sharded tensors stay sharded."""
    parts: dict[str, Any] = {
        "model": get_model_state_dict(run.model),
        "optimizer": get_optimizer_state_dict(run.model, run.optimizer.parts, options=_FLAT),
        "event": {event.name: event.tensors() for event in run.events},
    }
    return {name: value for name, value in flat(parts) if isinstance(value, torch.Tensor)}


def load_run(run: Run, saved: Saved) -> None:
    """Fill a run with what a checkpoint holds."""
    known = saved.names()
    _fill_optimizers(run, known)
    weights: dict[str, Any] = get_model_state_dict(run.model)
    saved.load_into({f"model.{name}": value for name, value in weights.items()})
    set_model_state_dict(run.model, weights)
    states: dict[str, Any] = get_optimizer_state_dict(run.model, run.optimizer.parts, options=_FLAT)
    tensors = {name: value for name, value in states.items() if isinstance(value, torch.Tensor)}
    saved.load_into({f"optimizer.{name}": value for name, value in tensors.items()})
    set_optimizer_state_dict(run.model, run.optimizer.parts, states, options=_FLAT)
    for event in run.events:
        named = {f"event.{event.name}.{name}": value for name, value in event.tensors().items()}
        saved.load_into({name: value for name, value in named.items() if name in known})


def _fill_optimizers(run: Run, known: Collection[str]) -> None:
    """Make the state tensors of all weights but those that no step had moved when it was saved."""
    names = {id(value): name for name, value in unwrapped(run.model).named_parameters()}
    moved = {name.rpartition(".")[0] for name in known if name.startswith("optimizer.state.")}
    for part in run.optimizer.parts:
        _fill_optimizer(part)
        for value in [*part.state]:
            name = names.get(id(value))
            if f"model.{name}" in known and f"optimizer.state.{name}" not in moved:
                del part.state[value]


def _fill_optimizer(part: torch.optim.Optimizer) -> None:
    """Make an optimizer's state tensors, without moving any weight."""
    rates = [group["lr"] for group in part.param_groups]
    for group in part.param_groups:
        group["lr"] = 0.0 if not isinstance(group["lr"], torch.Tensor) else group["lr"] * 0
    kept = [
        (value, value.grad, value.detach().clone())
        for group in part.param_groups
        for value in group["params"]
    ]
    for value, _, _ in kept:
        value.grad = torch.zeros_like(value)
    part.step()
    with torch.no_grad():
        for value, gradient, weight in kept:
            value.grad = gradient
            value.copy_(weight)
    for group, rate in zip(part.param_groups, rates, strict=True):
        group["lr"] = rate


def save_weights(run: Run, path: Path) -> None:
    """Write the model's whole weights as safetensors, on the leading rank.

    Weights that two layers share are written under both names.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights: dict[str, Any] = get_model_state_dict(run.model, options=options)
    if run.layout.leads:
        save_file({name: value.clone().contiguous() for name, value in weights.items()}, path)
    run.layout.barrier()
