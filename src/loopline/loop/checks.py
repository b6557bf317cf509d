"""What the gate asks, one function a question; `loopline.loop.gate` says why each is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from loopline.evaluate.rows import Rows
from loopline.evaluate.slices import Slice, holm
from loopline.line.loop_spec import LoopSpec
from loopline.loop.bout import LOSS, Bout, Check
from loopline.loop.doubt import losses, moved_labels, one_origin, reversed_labels
from loopline.loop.triggers import become_worse
from loopline.select.compare import chance_beyond
from loopline.words import counted, estimate

FEWEST_OF_CLASS = 10
"""Fresh rows of each class below this decide nothing."""
HISTORY_ERROR = 0.1
"""Trusted rows speak up at this error: a false word costs one more window, a missed one a model."""
SLICE_ERROR = 0.05
WORSE_ERROR = 0.05
"""Surely worse in one of the two metrics, at this error, a challenger is not better."""
NOISE_ERROR = 0.05
RANKS = {"binary": "auc", "multiclass": "accuracy"}
"""What labels at random cannot better."""


def spent(error: float, attempt: int) -> float:
    """The error that the k-th attempt may make, so that all of them together make `error`.

    >>> [round(spent(0.05, k), 4) for k in (1, 2, 3)]
    [0.025, 0.0083, 0.0042]
    >>> round(sum(spent(0.05, k) for k in range(1, 10_000)), 4)
    0.05
    """
    return error / (attempt * (attempt + 1))


def enough(fresh: Bout, settings: LoopSpec) -> Check:
    """Whether there are enough fresh rows, of every class."""
    rows = fresh.num_rows
    facts = {"num_rows": rows, "needed": settings.gate_rows}
    if rows < settings.gate_rows:
        told = (
            f"Only {counted(rows, 'fresh labelled row')} could decide; "
            f"`loop.gate_rows` asks for {settings.gate_rows:,}."
        )
        return Check("enough", False, told, facts)
    if fresh.champion.task == "binary":
        fewest = int(np.bincount(fresh.champion.y, minlength=2).min())
        if fewest < FEWEST_OF_CLASS:
            told = (
                f"The rarer class has only {counted(fewest, 'row')} among the {rows:,} fresh rows; "
                f"{FEWEST_OF_CLASS} are needed to tell two models apart."
            )
            return Check("enough", False, told, facts | {"rarest": fewest})
    return Check("enough", True, f"{rows:,} fresh labelled rows decide.", facts)


def better(fresh: Bout, metrics: Sequence[str], settings: LoopSpec, attempt: int) -> Check:
    """Whether the challenger is surely better in one metric, and surely worse in none."""
    found = {name: fresh.difference(name) for name in metrics}
    allowed = spent(settings.error, attempt) / len(metrics)
    facts = {
        "allowed": allowed, "attempt": attempt,
        "metrics": {
            name: {
                "difference": difference.to_dict(),
                "chance": chance_beyond(difference, 0.0) / 2,
                **dict(zip(("champion", "challenger"), fresh.scores(name), strict=True)),
            }
            for name, difference in found.items()
        },
    }  # fmt: skip
    able = {name: d for name, d in found.items() if not math.isnan(d.low)}
    if not able:
        return Check(
            "better", False, f"The two cannot be compared: {found[metrics[0]].note}.", facts
        )
    told = (
        " and ".join(f"{name} differs by {estimate(d.to_dict())}" for name, d in able.items())
        + f" on {fresh.num_rows:,} fresh rows"
    )
    worse = [n for n, d in able.items() if chance_beyond(fresh.worse(n), 0.0) / 2 < WORSE_ERROR]
    if worse:
        return Check("better", False, f"The challenger is worse in {worse[0]}: {told}.", facts)
    if any(chance_beyond(difference, 0.0) / 2 < allowed for difference in able.values()):
        return Check("better", True, f"The challenger is better: {told}.", facts)
    why = "" if attempt == 1 else f" at the error of attempt {attempt} ({allowed:.1e})"
    return Check("better", False, f"The challenger is not measurably better{why}: {told}.", facts)


def slices(
    fresh: Bout, parts: Sequence[Slice], metrics: Sequence[str], settings: LoopSpec
) -> Check:
    """Whether no protected part is measurably worse by more than the margin."""
    able = [part for part in parts if not _poor(fresh.champion.take(part.rows))]
    told = [(part, name, fresh.worse(name, part.rows)) for part in able for name in metrics]
    chances = holm([chance_beyond(worse, settings.margin) / 2 for _, _, worse in told])
    bad = [entry for entry, chance in zip(told, chances, strict=True) if chance < SLICE_ERROR]
    facts = {"num_slices": len(able), "worse": sorted({part.title for part, _, _ in bad})}
    if bad:
        part, name, worse = bad[0]
        text = (
            f"Where {part.title}, a protected part of {len(part):,} fresh rows, the challenger is "
            f"worse in {name} by {estimate(worse.to_dict())}."
        )
        return Check("slices", False, text, facts)
    small = len(parts) - len(able)
    more = f" {counted(small, 'part')} had too few rows of a class to say." if small else ""
    text = f"In {counted(len(able), 'protected part')} the challenger is not measurably worse."
    return Check("slices", True, text + more, facts)


def _poor(rows: Rows) -> bool:
    return rows.task == "binary" and bool(np.bincount(rows.y, minlength=2).min() < FEWEST_OF_CLASS)


def labels(fresh: Bout, confirmed: str) -> Check:
    """Whether the fresh labels do not run against the champion."""
    told = reversed_labels(fresh.champion)
    if told is None:
        return Check("labels", True, "The fresh labels are not reversed.")
    if confirmed:
        return Check("labels", True, f"{told} A person confirmed it: {confirmed}")
    ask = "Look at the labels; `loopline watch --confirm REASON` says that they are right."
    return Check("labels", False, f"{told} {ask}")


def origin(fresh: Bout, confirmed: str) -> Check | None:
    """Whether the gain does not come from one origin alone; None where origins are unknown."""
    if fresh.origins is None:
        return None
    told = one_origin(fresh.champion, fresh.challenger, fresh.origins)
    if told is None:
        return Check("origin", True, "The change does not come from one origin alone.")
    if confirmed:
        return Check("origin", True, f"{told} A person confirmed it: {confirmed}")
    ask = "Look at what it sent; `loopline watch --confirm REASON` says that it is right."
    return Check("origin", False, f"{told} {ask}")


def history(
    fresh: Bout,
    history: Bout | None,
    metrics: Sequence[str],
    settings: LoopSpec,
    seen_before: int,
    confirmed: str,
) -> Check:
    """Whether the change may be believed: trusted rows agree, or later windows, or a person."""
    if history is None or history.num_rows < settings.gate_rows // 2:
        doubt, told, facts = True, "There are too few trusted older rows to compare on.", {}
    else:
        found = {name: history.worse(name) for name in metrics}
        chances = {name: chance_beyond(w, settings.margin) / 2 for name, w in found.items()}
        name = min(chances, key=lambda one: chances[one])
        facts = {"differences": {n: w.to_dict() for n, w in found.items()}, "chances": chances}
        doubt = chances[name] < HISTORY_ERROR
        told = (
            f"On {history.num_rows:,} trusted older rows the challenger is "
            + ("worse" if doubt else "not measurably worse")
            + f" ({name} worse by {estimate(found[name].to_dict())})."
        )
        for reason in (moved_labels(history.champion, fresh.champion), _noisy(fresh, history)):
            if reason is not None:
                doubt, told = True, f"{told} {reason}"
    if not doubt:
        return Check("history", True, told, facts)
    if confirmed:
        why = f"{told} A person confirmed the change: {confirmed}"
        return Check("history", True, why, facts | {"believed": True})
    windows = seen_before + 1
    facts = {**facts, "windows": windows, "needed": settings.confirm_windows}
    if windows >= settings.confirm_windows:
        seen = f"The change was seen in {counted(windows, 'window')} in a row, so it is believed."
        return Check("history", True, f"{told} {seen}", facts | {"believed": True})
    wait = (
        f"A changed world and wrong labels look alike here: seen in {windows} of "
        f"{counted(settings.confirm_windows, 'window')}; it is believed when later rows show it "
        "too, or with `loopline watch --confirm REASON`."
    )
    return Check("history", False, f"{told} {wait}", facts)


def _noisy(fresh: Bout, history: Bout) -> str | None:
    """A sentence when the gain may be one of doubt alone: labels at random reward to be unsure.

    The challenger orders the fresh rows no better, and does itself worse on them than on trusted
    ones.
    """
    task = fresh.champion.task
    if task not in RANKS:
        return None
    gains = {
        name: chance_beyond(fresh.difference(name), 0.0) / 2 < WORSE_ERROR
        for name in (RANKS[task], LOSS[task])
    }
    if gains[RANKS[task]] or not gains[LOSS[task]]:
        return None
    told = become_worse(losses(history.challenger), losses(fresh.challenger), NOISE_ERROR)
    if told is None:
        return None
    return "It tells the fresh rows apart no better, and is less sure of all: labels may be noisy."
