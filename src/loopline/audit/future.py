"""Features that know labels which are still to come.

A feature of a row may hold what was known then: past labels, and news. What it must not hold is a
later label: a centred window, a lead in place of a lag, an average of the whole series. Given the
past of the label and of the feature itself, such a feature still explains most of what was open in
a later label. That is measured by a partial correlation, the idea behind Granger's test (1969)
turned round: does the future of the label "cause" the feature?
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loopline.audit.finding import Finding, Remedy
from loopline.splits.views import TrainView

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
PAST = 5
"""Steps of the past that a feature may know."""
AHEAD = 12
"""Steps ahead that are looked at."""
KNOWS = 0.5
"""Part of what the past leaves open in a later label, from which a feature knows too much."""
MIN_STEPS = 200
MAX_STEPS = 20_000


def future_findings(view: TrainView, order: Ints) -> list[Finding]:
    """A warning for each number that explains later labels better than the past allows.

    Args:
        view: training rows.
        order: dense rank of each row in time, shape (rows,); tables with many rows a time (several
            series at once) are left alone unless the units are the series.

    >>> from loopline.data.schema import Column, Schema
    >>> from loopline.testing.splitters import view_of
    >>> import polars as pl
    >>> y = np.random.default_rng(0).normal(size=400)
    >>> frame = pl.DataFrame({"next": np.r_[y[1:], 0.0], "last": np.r_[0.0, y[:-1]], "y": y})
    >>> columns = [Column(name, "number") for name in ("next", "last")]
    >>> schema = Schema((*columns, Column("y", "number", "target")), "regression")
    >>> found = future_findings(view_of(frame, schema), np.arange(400))
    >>> [(each.columns, each.facts["steps_ahead"]) for each in found]
    [(('next',), 1)]
    """
    rows = _series(view, order)
    if rows is None or view.schema.num_classes > 2:
        return []
    y = np.asarray(view.target, dtype=np.float64)[rows]
    found = []
    types = {column.name: column.type for column in view.schema.columns}
    for name in view.schema.features:
        series = view.column(name)
        if types[name] != "number" or not series.dtype.is_numeric():
            continue
        values = series.cast(float).fill_null(np.nan).to_numpy()[rows]
        if np.isfinite(values).mean() < 0.9:
            continue
        values = np.where(np.isfinite(values), values, np.nanmedian(values))
        step, knows = looks_ahead(values, y)
        if knows < KNOWS:
            continue
        found.append(
            Finding(
                check="future_feature",
                severity="warning",
                sentence=(
                    f"{name!r} explains {knows:.0%} of what the past leaves open in the label "
                    f"{step:,} {'step' if step == 1 else 'steps'} later: it seems to be computed "
                    "with values from after the time of its row."
                ),
                columns=(name,),
                num_rows=view.num_rows,
                share=1.0,
                confidence=round(min(0.95, knows), 3),
                remedy=Remedy(
                    f"Compute {name!r} from earlier rows only, or leave it out.",
                    {"columns": {name: {"role": "ignore"}}},
                ),
                facts={"steps_ahead": step, "explains": round(knows, 4)},
            )
        )
    return found


def _series(view: TrainView, order: Ints) -> Ints | None:
    """Rows of one series in its order; None when the rows are several series at once."""
    if view.num_rows < MIN_STEPS:
        return None
    if int(order.max()) + 1 < 0.9 * view.num_rows:
        return _longest_unit(view, order)
    return np.argsort(order, kind="stable")[-MAX_STEPS:]


def _longest_unit(view: TrainView, order: Ints) -> Ints | None:
    """The rows of the largest unit, when it is a series of its own."""
    _, codes = np.unique(view.units, return_inverse=True)
    rows = np.flatnonzero(codes == np.argmax(np.bincount(codes)))
    if rows.size < MIN_STEPS or np.unique(order[rows]).size < 0.9 * rows.size:
        return None
    return rows[np.argsort(order[rows], kind="stable")][-MAX_STEPS:]


def looks_ahead(values: Floats, y: Floats) -> tuple[int, float]:
    """The step ahead that a feature knows most about, and how much of it.

    Args:
        values: a feature in order of time, shape (steps,).
        y: the label, shape (steps,).

    Returns:
        (steps ahead, share of the variance that past labels, the label of the row itself and past
        values of the feature leave open and the feature explains), both 0 when nothing is known.
    """
    steps = y.size - PAST - AHEAD
    if steps < 4 * (PAST + AHEAD) or values.std() == 0 or y.std() == 0:
        return 0, 0.0
    now = np.arange(PAST, PAST + steps)
    past = [np.ones(steps), y[now]]
    for lag in range(1, PAST + 1):
        past += [y[now - lag], values[now - lag]]
    later = np.stack([y[now + lead] for lead in range(1, AHEAD + 1)] + [values[now]], axis=1)
    base = np.stack(past, axis=1)
    scale = np.maximum(np.abs(base).max(axis=0), 1e-300)
    weights = np.linalg.lstsq(base / scale, later, rcond=1e-10)[0]
    left = later - (base / scale) @ weights
    news = left[:, -1]
    if news.std() <= 1e-6 * values.std():
        return 0, 0.0  # the past tells the feature wholly: a clock, a lag
    total = (left[:, :-1] ** 2).sum(axis=0)
    share = (left[:, :-1].T @ news) ** 2 / np.maximum(total * float(news @ news), 1e-300)
    share[total <= 1e-12 * max(1.0, float(y @ y))] = 0.0
    best = int(np.argmax(share))
    return best + 1, float(share[best])
