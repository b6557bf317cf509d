"""Optimizers: parameters sorted by role, with learning rate and weight decay for each.

Norms, biases, embeddings of position, single tokens and parameters whose attribute `decays` is
False are not decayed. Layers nearer to the input may learn more slowly (`layer_decay`), which helps
when a pretrained model is fine-tuned. Muon takes the matrices inside the network and leaves the
rest to AdamW.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from loopline.errors import SettingsError

NAMES = ("adamw", "sgd", "muon")
_PLACES = re.compile(r"position|pos_embed|(cls|mask|class|distillation|register)_token", re.I)
_LAYER = re.compile(r"(?:^|\.)(?:layers?|blocks?|h|stages?)\.(\d+)\.")


@dataclass(frozen=True)
class OptimizerSettings:
    """Which optimizer, and how fast.

    Args:
        name: "adamw", "sgd" or "muon".
        lr: learning rate of the head and the upper layers, > 0.
        weight_decay: >= 0; only matrices are decayed.
        betas: of AdamW.
        momentum: of SGD and Muon.
        layer_decay: factor from each layer to the one below it, in (0, 1].
        head_lr: factor for parameters of the head (`head`, `classifier`), > 0.
        clip: largest norm of the gradient; None for no limit.
    """

    name: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    layer_decay: float = 1.0
    head_lr: float = 1.0
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        problems = []
        if self.name not in NAMES:
            problems.append(f"`optimizer` must be one of {', '.join(NAMES)}, got {self.name!r}.")
        for label, value in (("lr", self.lr), ("head_lr", self.head_lr)):
            if not value > 0.0:
                problems.append(f"`{label}` must be above 0, got {value}.")
        if self.weight_decay < 0.0:
            problems.append(f"`weight_decay` must not be negative, got {self.weight_decay}.")
        if not 0.0 < self.layer_decay <= 1.0:
            problems.append(f"`layer_decay` must lie in (0, 1], got {self.layer_decay}.")
        if self.clip is not None and not self.clip > 0.0:
            problems.append(f"`clip` must be above 0, got {self.clip}; leave it out for no limit.")
        if problems:
            raise SettingsError(problems)


@dataclass
class Optimizer:
    """One or two torch optimizers that step together.

    Args:
        parts: the optimizers.
        settings: what they were made from.
    """

    parts: list[torch.optim.Optimizer]
    settings: OptimizerSettings
    _base: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._base = [group["lr"] for group in self._groups()]

    def set_factor(self, factor: float) -> float:
        """Set the learning rates for a step; gives the leading one."""
        for group, base in zip(self._groups(), self._base, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(base * factor)
            else:
                group["lr"] = base * factor
        return self.settings.lr * factor

    def step(self, good: torch.Tensor) -> None:
        """Update the parameters where the flag, a tensor on their device, is true.

        AdamW and SGD read the flag on the device; Muon makes the host wait for it.
        """
        for part in self.parts:
            if getattr(part, "_step_supports_amp_scaling", False):
                part.grad_scale = None  # type: ignore[attr-defined]
                part.found_inf = (~good).float()  # type: ignore[attr-defined]
                part.step()
            elif bool(good):
                part.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def _groups(self) -> Iterator[dict[str, Any]]:
        for part in self.parts:
            yield from part.param_groups


def layer_of(name: str) -> int | None:
    """The number of the layer that a parameter belongs to, from its name; None outside of layers.

    >>> layer_of("encoder.layer.3.attention.weight"), layer_of("embeddings.weight")
    (3, None)
    """
    found = _LAYER.search(name)
    return int(found.group(1)) if found else None


def is_head(name: str) -> bool:
    """Whether a parameter belongs to the head that turns features into answers."""
    return any(part in ("head", "classifier", "score", "heads") for part in name.split("."))


def make_optimizer(model: nn.Module, settings: OptimizerSettings) -> Optimizer:
    """Sort the parameters that learn into groups and make the optimizer.

    Raises:
        SettingsError: no parameter learns, or Muon has no matrix to work on.
    """
    named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    if not named:
        raise SettingsError(["There is nothing to train: all parameters are frozen."])
    depth = max((number for name, _ in named if (number := layer_of(name)) is not None), default=-1)
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, value in named:
        matrix = value.ndim >= 2
        decays = matrix and getattr(value, "decays", True) and not _PLACES.search(name)
        decay = settings.weight_decay if decays else 0.0
        inner = matrix and value.ndim == 2 and layer_of(name) is not None and not is_head(name)
        key = (_rate(name, settings, depth), decay, settings.name == "muon" and inner)
        groups.setdefault(key, []).append(value)
    plain = [_group(values, key) for key, values in groups.items() if not key[2]]
    muon = [_group(values, key) for key, values in groups.items() if key[2]]
    if settings.name == "muon" and not muon:
        raise SettingsError(["`optimizer: muon` needs matrices inside layers; use adamw here."])
    parts: list[torch.optim.Optimizer] = []
    if muon:
        # steps as long as AdamW's, so that one learning rate suits both
        parts.append(
            torch.optim.Muon(muon, momentum=settings.momentum, adjust_lr_fn="match_rms_adamw")
        )
    fused = all(value.device.type in ("cuda", "cpu") for _, value in named)
    if plain and settings.name == "sgd":
        part = torch.optim.SGD(plain, momentum=settings.momentum, fused=fused)
        for value in (value for group in plain for value in group["params"]):
            # torch's fused kernel leaves it uninitialised when the first step is left out
            part.state[value]["momentum_buffer"] = torch.zeros_like(value)
        parts.append(part)
    elif plain:
        parts.append(torch.optim.AdamW(plain, betas=settings.betas, fused=fused))
    return Optimizer(parts, settings)


def _rate(name: str, settings: OptimizerSettings, depth: int) -> float:
    rate = settings.lr
    if is_head(name):
        return rate * settings.head_lr
    number = layer_of(name)
    below = depth + 1 if number is None else depth - number
    return rate * settings.layer_decay ** max(0, below)


def _group(values: list[nn.Parameter], key: tuple[float, float, bool]) -> dict[str, Any]:
    return {"params": values, "lr": key[0], "weight_decay": key[1]}
