"""The repeated layers of a model; dropout and stochastic depth, set from outside on any model."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from loopline.errors import SettingsError

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


def blocks_of(model: nn.Module) -> Iterator[nn.Module]:
    """The repeated layers of a model: children of its longest module lists, outermost first.

    >>> net = nn.Sequential(nn.Embedding(4, 2), nn.ModuleList([nn.Linear(2, 2) for _ in range(3)]))
    >>> len(list(blocks_of(net)))
    3
    """
    lists = [
        child
        for child in model.modules()
        if child is not model
        and isinstance(child, nn.ModuleList | nn.Sequential)
        and len(child) > 1
    ]
    inner = {id(part) for child in lists for part in child.modules() if part is not child}
    for child in lists:
        if id(child) in inner or len({type(part) for part in child}) != 1:
            continue
        yield from child


def parts_to_compile(model: nn.Module) -> list[nn.Module]:
    """What is compiled of a model: what its method `compiled_parts` says, else its repeated layers.

    A model without either is compiled whole.

    >>> parts_to_compile(nn.Linear(2, 2))
    [Linear(in_features=2, out_features=2, bias=True)]
    """
    said = getattr(model, "compiled_parts", None)
    parts = list(blocks_of(model)) if said is None else list(said())
    return parts or [model]


def compile_whole(model: nn.Module) -> None:
    """Compile a model as one graph: by its method `compile_whole`, where it has one."""
    own = getattr(model, "compile_whole", None)
    if own is None:
        model.compile()
    else:
        own()


def set_dropout(model: nn.Module, share: float) -> int:
    """Let every dropout layer of a model drop so large a share; gives how many there are.

    Raises:
        SettingsError: the model has none.

    >>> set_dropout(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), 0.1)
    1
    """
    found = [part for part in model.modules() if isinstance(part, _DROPOUTS)]
    if not found:
        raise SettingsError(
            ["`dropout` was given and this model has no dropout layer; leave it out."]
        )
    for part in found:
        part.p = share
    return len(found)


def set_stochastic_depth(model: nn.Module, share: float) -> None:
    """Let repeated layers be skipped at random in training, each row by itself.

    The last layer is skipped with probability `share`, the ones below it linearly less; what a
    layer adds to its input is divided by the probability of being kept. Source: Huang et al. 2016.

    Raises:
        SettingsError: the model has no repeated layers.
    """
    blocks = list(blocks_of(model))
    if not blocks:
        raise SettingsError(
            ["`stochastic_depth` works on repeated layers, and this model has none; leave it out."]
        )
    for number, block in enumerate(blocks, start=1):
        kept = 1.0 - share * number / len(blocks)
        block.forward = partial(_perhaps, block, block.forward, kept)


def _perhaps(
    block: nn.Module, forward: Any, kept: float, hidden: torch.Tensor, *others: Any, **named: Any
) -> Any:
    result = forward(hidden, *others, **named)
    first = result[0] if isinstance(result, tuple) else result
    if not block.training:
        return result
    if first.shape != hidden.shape:
        raise SettingsError(
            [
                f"`stochastic_depth` needs layers that keep their input's shape; "
                f"{type(block).__name__} makes {tuple(first.shape)} of {tuple(hidden.shape)}."
            ]
        )
    shape = (hidden.shape[0], *[1] * (hidden.ndim - 1))
    draw = torch.rand(shape, device=hidden.device, dtype=torch.float32)
    first = hidden + (first - hidden) * ((draw < kept).to(first.dtype) / kept)
    return (first, *result[1:]) if isinstance(result, tuple) else first
