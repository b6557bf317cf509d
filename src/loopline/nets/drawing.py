"""How the next token is drawn from scores; numpy alone, for counted and for learned models."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loopline.errors import SettingsError

Floats = NDArray[np.float64]


def check_drawing(temperature: float, top_p: float) -> None:
    """Refuse numbers that no token can be drawn by.

    Raises:
        SettingsError: both problems at once.
    """
    problems = []
    if temperature < 0.0:
        problems.append(f"`temperature` must be at least 0, got {temperature}.")
    if not 0.0 < top_p <= 1.0:
        problems.append(f"`top_p` lies in (0, 1], got {top_p}.")
    if problems:
        raise SettingsError(problems)


def drawn(scores: Floats, temperature: float, top_p: float, draw: np.random.Generator) -> int:
    """One of some tokens by their scores, natural logarithms but for a constant.

    Args:
        scores: shape (tokens,).
        temperature: scores are divided by it; 0 for the likeliest token.
        top_p: draw from the fewest likeliest tokens whose probabilities sum to this, in (0, 1]
            (Holtzman et al. 2020).
        draw: random numbers.

    >>> drawn(np.log([0.2, 0.7, 0.1]), 0.0, 1.0, np.random.default_rng(0))
    1
    """
    if temperature == 0.0:
        return int(scores.argmax())
    shares = np.exp((scores - scores.max()) / temperature)
    order = np.argsort(-shares, kind="stable")
    ranked = shares[order] / shares.sum()
    ranked = np.where(np.cumsum(ranked) - ranked < top_p, ranked, 0.0)
    return int(order[draw.choice(ranked.size, p=ranked / ranked.sum())])
