"""What to try next: a pure function of the space, of what is known, and of a seed.

Optuna's samplers keep a random state from one question to the next, so that an interrupted study
could not go on as it would have. Here every question builds Optuna's study anew from the records
and gives the sampler a seed of its own: 7 ms at 100 trials, 30 ms at 400. Whoever has the same
records gets the same answer.

Sources: Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NIPS 2011 (TPE, here in
its joint form); Jones et al., "Efficient Global Optimization of Expensive Black-Box Functions",
1998 (a Gaussian process with expected improvement; Optuna takes its logarithm).
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from loopline.models.space import Choice, Dimension, Integer, Number, Space, Value
from loopline.search.record import Record

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

Sampler = Literal["grid", "random", "tpe", "gp"]
Params = dict[str, Any]
STARTUP_TRIALS = 10
"""Random trials of an arm before its results guide the next."""
GRID_POINTS = 5
"""Points of a range in a grid, from end to end."""
GRID_WHOLE = 10
"""Up to so many whole numbers are all in a grid."""
GRID_LIMIT = 10_000
"""Spaces of up to so many points are listed, so that none is tried twice and none left out."""


def suggest(
    space: Space,
    sampler: Sampler,
    *,
    told: Sequence[Record],
    running: Sequence[Mapping[str, Any]],
    seed: int,
    higher: bool,
    fixed: Mapping[str, Any],
) -> Params:
    """Propose parameters.

    Args:
        space: what is searched.
        sampler: "random", "tpe" or "gp"; a grid has its own order, see `grid`.
        told: the records that may be known, in order of their numbers.
        running: parameters of trials without a result yet; they are kept away from.
        seed: of this one question.
        higher: whether a higher value is better.
        fixed: the parameters that are not searched, on which conditions may depend.

    Returns:
        A value for each dimension that has an effect.

    >>> space = {"rate": Number(0.01, 1.0, log=True)}
    >>> ask = lambda seed: suggest(
    ...     space, "random", told=(), running=(), seed=seed, higher=True, fixed={}
    ... )["rate"]
    >>> ask(1) == ask(1), ask(1) == ask(2), 0.01 <= ask(3) <= 1.0
    (True, False, True)
    """
    if sampler == "random":
        return _random(space, fixed, seed)
    import optuna

    known = [record for record in told if record.state != "failed"]
    usable = [trial for record in known if (trial := _frozen(space, record)) is not None]
    if len(usable) < min(STARTUP_TRIALS, 2 * len(space) + 2):
        return _random(space, fixed, seed)
    usable += [trial for params in running if (trial := _running(space, params)) is not None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            study = optuna.create_study(
                direction="maximize" if higher else "minimize", sampler=_sampler(sampler, seed)
            )
            study.add_trials(usable)
            return _ask(study, space, fixed)
        finally:
            optuna.logging.set_verbosity(before)


def optuna_study(space: Space, records: Sequence[Record], *, higher: bool) -> Any:
    """The records as a study of Optuna's, for what Optuna computes of one (importance, plots)."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(direction="maximize" if higher else "minimize")
    finally:
        optuna.logging.set_verbosity(before)
    study.add_trials([trial for each in records if (trial := _frozen(space, each)) is not None])
    return study


def _ask(study: Any, space: Space, fixed: Mapping[str, Any]) -> Params:
    """Values in the order of the space; those of dimensions without an effect are not asked for."""
    trial = study.ask()
    params: Params = {}
    for name, dimension in space.items():
        if not dimension.active({**fixed, **params}):
            continue
        if isinstance(dimension, Choice):
            place = trial.suggest_categorical(name, list(range(len(dimension.options))))
            params[name] = dimension.options[place]
        elif isinstance(dimension, Integer):
            params[name] = trial.suggest_int(name, dimension.low, dimension.high, log=dimension.log)
        else:
            assert isinstance(dimension, Number)
            params[name] = trial.suggest_float(
                name, dimension.low, dimension.high, log=dimension.log
            )
    return params


def _sampler(name: Sampler, seed: int) -> BaseSampler:
    import optuna

    if name == "gp":
        return optuna.samplers.GPSampler(
            seed=seed, n_startup_trials=0, warn_independent_sampling=False
        )
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=0)


def _frozen(space: Space, record: Record) -> FrozenTrial | None:
    """A record as Optuna knows it; None when the sampler could not place it in the space."""
    from optuna.trial import TrialState, create_trial

    placed = _placed(space, record.params)
    if placed is None or record.value is None:
        return None
    pruned = record.state == "pruned"
    return create_trial(
        state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
        value=None if pruned else record.value,
        params=placed,
        distributions={name: _distribution(space, name) for name in placed},
        intermediate_values=dict(enumerate(record.steps)) if pruned else None,
    )


def _running(space: Space, params: Mapping[str, Any]) -> FrozenTrial | None:
    from optuna.trial import TrialState, create_trial

    placed = _placed(space, params)
    if placed is None:
        return None
    return create_trial(
        state=TrialState.RUNNING,
        params=placed,
        distributions={name: _distribution(space, name) for name in placed},
    )


def _distribution(space: Space, name: str) -> BaseDistribution:
    import optuna

    dimension = space[name]
    if isinstance(dimension, Choice):
        places = list(range(len(dimension.options)))
        return optuna.distributions.CategoricalDistribution(places)
    if isinstance(dimension, Integer):
        return optuna.distributions.IntDistribution(
            dimension.low, dimension.high, log=dimension.log
        )
    assert isinstance(dimension, Number)
    return optuna.distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _placed(space: Space, params: Mapping[str, Any]) -> Params | None:
    """Parameters as places in the space: options by number, numbers outside at the nearest end.

    Defaults may lie outside (an L2 of 0 has no logarithm). A word in place of a number ("auto") has
    no place, and then the whole trial has none.
    """
    placed: Params = {}
    for name, value in params.items():
        dimension = space.get(name)
        if dimension is None:
            continue
        if isinstance(dimension, Choice):
            if not dimension.contains(value):
                return None
            placed[name] = [
                each == value and type(each) is type(value) for each in dimension.options
            ].index(True)
            continue
        assert isinstance(dimension, Integer | Number)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        held = min(dimension.high, max(dimension.low, value))
        placed[name] = int(held) if isinstance(dimension, Integer) else float(held)
    return placed


def _random(space: Space, fixed: Mapping[str, Any], seed: int) -> Params:
    chance = np.random.default_rng(seed)
    params: Params = {}
    for name, dimension in space.items():
        if not dimension.active({**fixed, **params}):
            continue
        if isinstance(dimension, Choice):
            params[name] = dimension.options[int(chance.integers(len(dimension.options)))]
            continue
        assert isinstance(dimension, Integer | Number)
        params[name] = _drawn(dimension, chance)
    return params


def _drawn(dimension: Integer | Number, chance: np.random.Generator) -> Value:
    low, high = float(dimension.low), float(dimension.high)
    if isinstance(dimension, Integer):
        low, high = low - 0.5, high + 0.5  # each whole number gets its own share of the scale
    if dimension.log:
        drawn = math.exp(chance.uniform(math.log(low), math.log(high)))
    else:
        drawn = float(chance.uniform(low, high))
    if isinstance(dimension, Integer):
        return min(dimension.high, max(dimension.low, round(drawn)))
    return min(dimension.high, max(dimension.low, drawn))


def axis(dimension: Dimension) -> tuple[Value, ...]:
    """What a grid tries of a dimension: options, few whole numbers, else points of the range.

    >>> axis(Integer(1, 3)), len(axis(Integer(1, 300))), len(axis(Number(0.1, 1.0)))
    ((1, 2, 3), 5, 5)
    """
    return dimension.points(GRID_WHOLE if dimension.size <= GRID_WHOLE else GRID_POINTS)


def grid_size(space: Space) -> int:
    """How many points a grid has.

    >>> grid_size({"depth": Integer(1, 3), "rate": Number(0.1, 1.0)})
    15
    """
    return math.prod(len(axis(dimension)) for dimension in space.values())


def is_whole(space: Space) -> bool:
    """Whether a grid leaves out no point of the space."""
    return all(len(axis(dimension)) == dimension.size for dimension in space.values())


def grid(space: Space, fixed: Mapping[str, Any], seed: int, *, whole: bool = False) -> list[Params]:
    """All points of a grid, each once, in an order that the seed draws.

    A search that ends early has then seen points from everywhere.

    Args:
        space: what is searched.
        fixed: the parameters that are not, on which conditions may depend.
        seed: of the order.
        whole: whether to list every point of a space of whole numbers and options.

    >>> space = {"depth": Integer(1, 2), "augment": Choice(("none", "flip"))}
    >>> sorted(tuple(point.values()) for point in grid(space, {}, seed=0))
    [(1, 'flip'), (1, 'none'), (2, 'flip'), (2, 'none')]
    """
    axes = [each.points(GRID_LIMIT) if whole else axis(each) for each in space.values()]
    found: dict[tuple[tuple[str, Any], ...], Params] = {}
    for values in itertools.product(*axes):
        params: Params = {}
        for (name, dimension), value in zip(space.items(), values, strict=True):
            if dimension.active({**fixed, **params}):
                params[name] = value
        found.setdefault(tuple(params.items()), params)
    drawn = list(found.values())
    return [drawn[place] for place in np.random.default_rng(seed).permutation(len(drawn))]
