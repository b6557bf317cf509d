"""Triggers: when a line is trained again. A trigger asks; the gate decides.

A trigger may be wrong without harm: what it starts is a retraining whose result must prove itself.
So these rules are simple, and none of them looks at the rows that will decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loopline.evaluate.intervals import student_tail
from loopline.evaluate.rows import Floats
from loopline.line.loop_spec import LoopSpec
from loopline.loop.watching import Notice
from loopline.words import figure

FEWEST_LABELS = 30
"""With fewer new labels than this nothing is said of the champion's performance."""
OF_LABELS = ("performance", "calibration", "slice")
"""Kinds of alarms that labels raise."""
SMALLEST_RISE = 0.05
"""A loss that rises by a smaller share than this is no reason to train again."""


@dataclass(frozen=True)
class Trigger:
    """Why a line is trained again.

    Args:
        kinds: drift, performance, labels, schedule, confirmation.
        sentence: the reasons, for a person.
    """

    kinds: tuple[str, ...]
    sentence: str


def due(
    settings: LoopSpec,
    *,
    notices: Sequence[Notice] = (),
    worse: str | None = None,
    num_labels: int = 0,
    since_seconds: float | None = None,
    unconfirmed: bool = False,
) -> Trigger | None:
    """The trigger that the settings see in the present state, None for none.

    Args:
        settings: which triggers count.
        notices: what the monitor told of since the last attempt.
        worse: what labels say of the champion's performance, see `become_worse`.
        num_labels: labelled rows that came since the last attempt.
        since_seconds: time since the last attempt, or since the champion was promoted; None when
            the clock cannot be trusted.
        unconfirmed: whether the last attempt saw a change that later rows are to confirm.

    >>> due(LoopSpec(new_labels=100), num_labels=120).kinds
    ('labels',)
    """
    drifts = [n.sentence for n in notices if n.page and n.kind not in OF_LABELS]
    losses = [n.sentence for n in notices if n.page and n.kind in OF_LABELS]
    told: dict[str, str] = {}
    if settings.drift and drifts:
        told["drift"] = drifts[0]
    if settings.performance and (worse is not None or losses):
        told["performance"] = worse or losses[0]
    if settings.new_labels is not None and num_labels >= settings.new_labels:
        told["labels"] = f"{num_labels:,} labelled rows have come since the last attempt."
    if settings.every is not None and since_seconds is not None and since_seconds >= settings.every:
        told["schedule"] = f"{_span(since_seconds)} have passed since the last attempt."
    if unconfirmed:
        told["confirmation"] = "The last attempt saw a change; do later rows show it too?"
    return Trigger(tuple(told), " ".join(told.values())) if told else None


def become_worse(reference: Floats, new: Floats, error: float, name: str = "loss") -> str | None:
    """A sentence when the new losses are surely and noticeably above the reference, else None.

    Welch's t, one-sided.

    Args:
        reference: losses of rows that the champion was not trained on, from before.
        new: losses of the rows that came since.
        error: chance of a false word.
        name: of the loss, for the sentence.

    >>> rng = np.random.default_rng(0)
    >>> become_worse(rng.exponential(0.3, 2000), rng.exponential(0.3, 500), 0.01) is None
    True
    >>> become_worse(rng.exponential(0.3, 2000), rng.exponential(0.5, 500), 0.01)
    'The loss rose from 0.3059 to 0.4991 on 500 new labelled rows.'
    """
    if len(new) < FEWEST_LABELS or len(reference) < FEWEST_LABELS:
        return None
    before, now = float(np.mean(reference)), float(np.mean(new))
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (reference, new)]
    spread = sum(parts)
    if now <= before * (1 + SMALLEST_RISE) or (spread == 0 and now <= before):
        return None
    if spread > 0:
        freedom = spread**2 / sum(
            part**2 / (len(values) - 1)
            for part, values in zip(parts, (reference, new), strict=True)
        )
        if student_tail((now - before) / math.sqrt(spread), freedom) >= error:
            return None
    return (
        f"The {name} rose from {figure(before)} to {figure(now)} on {len(new):,} new labelled rows."
    )


def _span(seconds: float) -> str:
    for size, word in ((86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return f"{seconds:.0f} seconds"
