"""What was normal when a release was trained: its training rows with their out-of-fold predictions.

Each row was predicted by a model that had not seen it, so predictions, probabilities and losses are
those that new rows from the same world would have. The test rows stay in the vault.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from loopline.data.schema import Schema
from loopline.errors import DataError
from loopline.line.finished import FinishedRun, finished_run
from loopline.line.project import Project, read_json
from loopline.monitor.reference import MOST_ROWS, Floats, Reference, as_seconds
from loopline.monitor.tasks import WATCHED
from loopline.release.bundle import Release


def reference_of(project: Project, release: Release) -> Reference:
    """The rows that a release's windows are judged against.

    Args:
        project: where the release was made.
        release: the release.

    Raises:
        NotFoundError: its run is not in this project, or its rows have been removed.
        DataError: fewer rows were predicted out of fold than say what is normal.
    """
    made = project.ledger.events(kind="release.made", subject=release.id, limit=1)
    if not made or made[0].run is None:
        raise DataError(
            f"{release.id[:20]} was not made in {project.store.address}: its training rows, which "
            "say what is normal, are not there. Monitor it in the project of its line."
        )
    run = finished_run(project, made[0].run)
    scored = run.scored()
    keep = np.arange(scored.rows.size)
    if keep.size > MOST_ROWS:
        keep = np.unique(np.linspace(0, keep.size - 1, MOST_ROWS).round().astype(np.int64))
    rows = scored.rows[keep]
    table = run.prepared.table
    time = times_of(table, run.schema)
    frame, kind = table.select(run.schema.features)[rows], WATCHED[release.task]
    return Reference(
        frame=frame,
        prediction=kind.stated(scored.prediction[keep], frame, run.schema),
        target=run.outcomes(rows).target if kind.labels_come else None,
        time=None if time is None else time[rows],
        task=release.task,
        classes=release.classes,
        metric=run.metric,
        importances=_importances(run),
        threshold=0.5 if release.threshold is None else release.threshold,
        rows_a_day=_rows_a_day(time),
    )


def times_of(table: pl.DataFrame, schema: Schema) -> Floats | None:
    """When each row happened, in seconds since 1970; None where no column says so for all rows.

    A column that only puts rows in order, such as a number of rounds, says nothing of days.
    """
    for name in schema.with_role("time"):
        if name in table.columns and table[name].dtype in (pl.Date, pl.Datetime):
            seconds = as_seconds(table[name])
            if np.isfinite(seconds).all():
                return seconds
    return None


def _rows_a_day(time: Floats | None) -> float | None:
    if time is None or np.ptp(time) <= 0:
        return None
    return float(time.size / (np.ptp(time) / 86_400))


def _importances(run: FinishedRun) -> dict[str, float]:
    evaluation = run.project.store.get(run.summary["digests"]["evaluation"])
    found: dict[str, Any] = read_json(evaluation, "evaluation.json").get("importance") or {}
    return {name: max(0.0, float(drop["value"])) for name, drop in found.items()}
