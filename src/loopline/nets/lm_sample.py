"""Text out of a decoder, a token at a time, with a memory of what was read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from loopline.errors import SettingsError
from loopline.nets.drawing import check_drawing, drawn
from loopline.nets.lm import Decoder


@torch.no_grad()
def sample(
    model: Decoder,
    prompt: list[int],
    *,
    most: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    end: int | None = None,
) -> Iterator[int]:
    """Draw tokens that follow a prompt, until the end token, a number of tokens, or the context.

    Keys and values of what was read are kept, so a token costs one pass of one token.

    Args:
        model: in evaluation mode.
        prompt: at least one token.
        most: the most tokens to draw.
        temperature: scores are divided by it; 0 for the likeliest token each time.
        top_p: draw from the fewest likeliest tokens whose probabilities sum to this, in (0, 1]
            (Holtzman et al. 2020).
        seed: equal seeds give equal tokens on the same device.
        end: the token that ends a document; it is not given.

    Raises:
        SettingsError: a number out of range, or a prompt that fills the context.
    """
    check_drawing(temperature, top_p)
    _check(model, prompt)
    device = model.tokens.weight.device
    draw = np.random.default_rng(seed)
    read = model.begin()
    part = torch.tensor([prompt], device=device)
    for _ in range(min(most, model.shape.context - len(prompt) + 1)):
        scores = model.scores(part, read)[0, -1].double().cpu().numpy()
        token = drawn(scores, temperature, top_p, draw)
        if token == end:
            return
        yield token
        if read.length >= model.shape.context:
            return
        part = torch.tensor([[token]], device=device)


def _check(model: Decoder, prompt: list[int]) -> None:
    problems = []
    if not prompt:
        problems.append("A prompt needs at least one token.")
    if len(prompt) > model.shape.context:
        problems.append(
            f"The prompt has {len(prompt):,} tokens and the model reads {model.shape.context:,} "
            "at once; shorten it."
        )
    if problems:
        raise SettingsError(problems)
