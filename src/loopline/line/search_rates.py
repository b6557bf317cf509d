"""The learning rates with which a network's search begins: found by a range test, or spread.

Of three tables (mlp, 2,400 rows) the two rates of the range test gave scores as good as five spread
over the scale, for a second of processor time and two trials instead of five. Of photographs
(image, 1,650) they did not: where the loss fell fastest in the first steps, 0.0044, the log loss
of the whole training was 0.038, at 0.0007 of the spread ones 0.026. So a family says whether it
begins with a test (`NeuralFamily.range_test`).

Source: Smith, "Cyclical Learning Rates for Training Neural Networks", 2017.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from loopline.errors import LooplineError
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.race import fit_context, resolve_params
from loopline.line.spec import Candidate
from loopline.models.families import family
from loopline.models.space import Number, Value
from loopline.search.arms import Arm

if TYPE_CHECKING:
    from loopline.models.neural import NeuralFamily

RATE = "learning_rate"
SPREAD_TRIALS = 5
"""Rates over the whole scale, where a range test has no answer."""
RATES = 60
BEYOND = 10.0
"""The test begins and ends so many times outside of the range that is searched."""


def with_first_rates(context: LineContext, prepared: Prepared, entry: Candidate, arm: Arm) -> Arm:
    """An arm that begins with a few learning rates, if it is a network whose rate is searched.

    Those of a range test are rounded to two digits, so that another machine's last bits make no
    other study.

    Args:
        context: the line.
        prepared: its rows; the test trains on the first fold's.
        entry: the candidate.
        arm: what is searched of it.
    """
    rate = next(iter(arm.space.values()))
    kind = family(arm.family)
    if next(iter(arm.space)) != RATE or not kind.parallel:
        return arm
    from loopline.models.neural import NeuralFamily

    assert isinstance(kind, NeuralFamily)
    if not kind.range_test or not isinstance(rate, Number):  # the settings may list a few rates
        return replace(arm, lead=rate.points(SPREAD_TRIALS))
    with context.reporter.step(f"range test of {arm.name}"):
        lead = _tested(context, prepared, entry, kind, rate)
    if not lead:
        context.reporter.note(
            f"The range test of {arm.name} found no learning rate: {SPREAD_TRIALS} over the whole "
            "range are tried first."
        )
        lead = rate.points(SPREAD_TRIALS)
    return replace(arm, lead=lead)


def _tested(
    context: LineContext, prepared: Prepared, entry: Candidate, kind: NeuralFamily, rate: Number
) -> tuple[Value, ...]:
    """Where the loss fell fastest, and half of where it was lowest; none where it never fell."""
    from loopline.engine.tools.find import find_lr

    train, _ = prepared.fold(0)
    params = resolve_params(context, prepared, entry, train.num_rows)
    try:
        run = kind.prepared(train, params, fit_context(context, entry, "range test"))
        found = find_lr(run, low=rate.low / BEYOND, high=rate.high * BEYOND, steps=RATES)
    except LooplineError:
        return ()
    rates = [
        float(f"{min(rate.high, max(rate.low, value)):.1e}")
        for value in (found.suggested, found.limit / 2)
    ]
    return tuple(dict.fromkeys(rates))
