"""What more search would bring, by what the second half of its trials brought.

The best of many trials looks better than it is, so the best of all trials and the best of the first
half are both scored on resampled units that did not choose them (as in `search.optimism`). What is
left is what the second half truly brought. Another doubling brings that at most, as a rule: the
expected best of k trials rises ever more slowly in log k (Dodge, Gururangan, Card, Schwartz and
Smith, "Show your work", EMNLP 2019).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from loopline.evaluate.intervals import LEVEL, Estimate
from loopline.line.pricing import Ground
from loopline.line.project import read_json
from loopline.line.search_result import STUDY, TIMES
from loopline.line.steps import Step, Unpriced
from loopline.line.trial_scores import OUT_OF_FOLD, full
from loopline.seeds import child_seed
from loopline.words import counted

Floats = NDArray[np.float64]
FEWEST_TRIALS = 8
REPEATS = 1_000
USUAL_TRIALS = 20
_BLOCK = 50


def more_search(ground: Ground) -> Step | Unpriced:
    """The worth of twice the trials, or why it is not known."""
    run = ground.run
    name = run.summary["digests"].get("study")
    if name is None:
        seconds = USUAL_TRIALS * ground.fit_seconds
        return Unpriced(
            "search",
            f"Search: no parameters were searched, so what it brings is not known; {USUAL_TRIALS} "
            f"trials would take about {counted(max(1, round(seconds)), 'second')}.",
            ground.command(**{"search.trials": USUAL_TRIALS}),
        )
    artifact = run.project.store.get(name)
    records = [
        record for record in read_json(artifact, STUDY)["records"] if record["artifact"] is not None
    ]
    if len(records) < FEWEST_TRIALS or ground.units.count < FEWEST_TRIALS:
        return Unpriced(
            "search",
            f"More search: {counted(len(records), 'complete trial')} are too few to tell what "
            "further ones bring.",
            ground.command(**{"search.trials": 2 * max(len(records), USUAL_TRIALS)}),
        )
    draws = _second_half(ground, records)
    if draws is None:
        return Unpriced("search", f"More search: {run.metric} has no smooth error to resample.")
    seconds = sum(read_json(artifact, TIMES)["seconds"])
    return _step(ground, draws, len(records), seconds)


def _step(ground: Ground, draws: Floats, number: int, seconds: float) -> Step:
    asked = ground.run.summary["search"]["trials"]["asked"]
    return Step(
        "search",
        f"Search on, with {counted(2 * asked, 'trial')} in all",
        f"So much the second half of {counted(number, 'complete trial')} brought, on rows that did "
        "not choose the best; another doubling brings that at most, as a rule.",
        ground.goal.name,
        ground.now(ground.goal),
        Estimate(0.0, 0.0, 0.0, "", 0),
        ground.command(**{"search.trials": 2 * asked}),
        basis="extrapolated",
        cost_seconds=seconds,
        facts={"trials": asked, "complete": number},
        draws=draws,
    ).at_level(LEVEL)


def _second_half(ground: Ground, records: list[dict[str, Any]]) -> Floats | None:
    """What the second half of the trials brought, on resamples of the units."""
    store, goal = ground.run.project.store, ground.goal
    values, moved = [], []
    weight = np.ones(ground.view.num_rows) if ground.view.weight is None else ground.view.weight
    for record in records:
        arrays = load_file(store.get(record["artifact"]).path(OUT_OF_FOLD))
        order = np.argsort(arrays["rows"], kind="stable")
        scored = goal.score(ground.rows(full(arrays["prediction"])[order]))
        if scored.influence is None:
            return None
        values.append(goal.sign * scored.value)
        moved.append(ground.units.sums(goal.sign * weight * scored.influence))
    return gained_by_second_half(
        np.array(values),
        np.stack(moved, axis=1),
        ground.units.sums(weight),
        seed=child_seed(ground.run.context.spec.seed, "advise search"),
    )


def gained_by_second_half(values: Floats, sums: Floats, mass: Floats, *, seed: int) -> Floats:
    """How much better the best of all trials is than that of the first half, resample by resample.

    Args:
        values: the score of each trial, higher is better, shape (trials,).
        sums: influence values of each trial, summed within units, shape (units, trials).
        mass: weight of each unit.
        seed: of the resamples.

    Returns:
        One number a resample: both winners were chosen on the units drawn and are scored on those
        left out.

    >>> rng = np.random.default_rng(0)
    >>> luck = rng.normal(size=(200, 12))
    >>> mean = luck.mean(axis=0)
    >>> found = gained_by_second_half(mean, luck - mean, np.ones(200), seed=0)
    >>> bool(np.quantile(found, 0.025) < 0 < np.quantile(found, 0.975))
    True
    """
    rng = np.random.default_rng(seed)
    count, half = mass.size, values.size // 2
    found = []
    for _ in range(REPEATS // _BLOCK):
        draws = np.stack(
            [
                np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float64)
                for _ in range(_BLOCK)
            ]
        )
        inside = values + (draws @ sums) / (draws @ mass)[:, None]
        out = (draws == 0).astype(np.float64)
        outside = values + (out @ sums) / np.maximum(out @ mass, 1e-300)[:, None]
        rows = np.arange(_BLOCK)
        of_all, of_half = inside.argmax(axis=1), inside[:, :half].argmax(axis=1)
        found.append(outside[rows, of_all] - outside[rows, of_half])
    return np.concatenate(found)
