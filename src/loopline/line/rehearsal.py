"""What a model will take after a search: measured on a few rows, so that a budget can be kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median

from loopline.line.divide import Prepared
from loopline.line.finish import CONTRIBUTION_ROWS, IMPORTANCE_REPEATS
from loopline.line.measure import expected_seconds
from loopline.line.race import FoldFit
from loopline.models.families import family

_ROWS = 40
_CALLS = 5


def rehearse(prepared: Prepared, name: str, fits: Mapping[int, FoldFit]) -> dict[str, float]:
    """Seconds that the final fit, importance, contributions and latency of a model will take.

    Args:
        prepared: the rows of the run.
        name: the model's family.
        fits: new fits of a trial, by fold; nothing is known without one.
    """
    if not fits:
        return {}
    number, fit = next(iter(fits.items()))
    num_folds = prepared.split.num_folds
    mean_fit = sum(each.seconds for each in fits.values()) / len(fits)
    share = prepared.train.num_rows / max(1, prepared.fold(number)[0].num_rows)
    view = prepared.fold(number)[1].sample(family(name).importance_rows // num_folds, 0)
    few = view.sample(_ROWS, 0).frame()
    rows = few.to_dicts()[:_CALLS]
    fit.model.predict(few)  # the first call of a library is slower
    shuffled = _seconds(lambda: fit.model.predict_view(view)) * num_folds
    explained = _seconds(lambda: fit.model.contributions(few)) * CONTRIBUTION_ROWS / few.height
    one = median(_seconds(partial(fit.model.predict_row, row)) for row in rows)
    return {
        "final": mean_fit * share,
        "importance": shuffled * (1 + IMPORTANCE_REPEATS * len(prepared.schema.features)),
        "contributions": explained,
        "latency": expected_seconds(one),
    }


def _seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
