"""What a model will take after a search: measured on a few rows, so that a budget can be kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median

import numpy as np

from loopline.cores import in_threads
from loopline.data.schema import holds_answer
from loopline.line.divide import Prepared
from loopline.line.finish import CONTRIBUTION_ROWS, IMPORTANCE_REPEATS
from loopline.line.measure import START_SECONDS, expected_seconds
from loopline.line.race import FoldFit
from loopline.models.base import FittedModel
from loopline.models.families import family
from loopline.splits.views import TrainView

FIXED_SECONDS = 0.5
"""Reading and writing artifacts, and the report."""
BUSIEST = 3.0
_ROWS = 100
_CALLS = 5
_COLUMNS = 5
_PATIENCE_SECONDS = 0.5


def rehearse(
    prepared: Prepared, name: str, fits: Mapping[int, FoldFit], *, over_http: bool
) -> dict[str, float]:
    """Seconds that what follows a search will take for a model.

    Where other work has the machine, the parts that are not rehearsed are expected to take as much
    longer as the rehearsal took longer than the processor worked.

    Args:
        prepared: the rows of the run.
        name: the model's family.
        fits: new fits of a trial, by fold; nothing is known without one.
        over_http: whether latency is measured through the service, as for a limit.

    Returns:
        By name: "fixed", "final" (the fit), "importance", "contributions", "latency".
    """
    if not fits:
        return {}
    began, worked = time.monotonic(), time.process_time()
    number, fit = next(iter(fits.items()))
    share = prepared.train.num_rows / max(1, prepared.fold(number)[0].num_rows)
    view = prepared.fold(number)[1].sample(
        family(name).importance_rows // prepared.split.num_folds, 0
    )
    few = view.sample(_ROWS, 0).frame()
    rows = few.to_dicts()[:_CALLS]
    fit.model.predict(few)  # the first call of a library is slower
    explained = _seconds(lambda: fit.model.contributions(few)) * CONTRIBUTION_ROWS / few.height
    one = median(_seconds(partial(fit.model.predict_row, row)) for row in rows)
    shuffled = _shuffled(prepared, fit.model, view)
    slow = (time.monotonic() - began) / max(1e-9, time.process_time() - worked)
    slow = min(BUSIEST, max(1.0, slow))
    return {
        "fixed": FIXED_SECONDS * slow,
        "final": median(each.seconds for each in fits.values()) * share,
        "importance": shuffled,
        "contributions": explained,
        "latency": START_SECONDS * slow + expected_seconds(one, over_http=over_http),
    }


def _shuffled(prepared: Prepared, model: FittedModel, view: TrainView) -> float:
    """Seconds of permutation importance, from some columns shuffled once in all folds' models."""
    if holds_answer(prepared.schema.task):  # nothing is shuffled then
        return 0.0
    frame, folds = view.frame(), range(prepared.split.num_folds)
    order = np.random.default_rng(0).permutation(frame.height)
    names = list(prepared.schema.features)
    answer = model.rearranged(frame, 0, frame.height)
    whole = _seconds(lambda: model.rearranged(frame, 0, frame.height)) + _seconds(
        lambda: model.predict(frame)
    )
    at_once = None if model.concurrent else 1

    def moved(name: str) -> None:
        list(in_threads(lambda _: answer([name], order), folds, at_once))

    took: list[float] = []
    for name in names[:: max(1, len(names) // _COLUMNS)]:
        took.append(_seconds(partial(moved, name)))
        if sum(took) > _PATIENCE_SECONDS:
            break
    return whole * len(folds) + median(took) * IMPORTANCE_REPEATS * len(names)


def _seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
