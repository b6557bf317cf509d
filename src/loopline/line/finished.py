"""A finished run, opened again to be asked: its settings, its training rows, what it predicted.

Nothing here can see a test label: rows are seen through the views of the split, as in the run
itself. What is computed for a finished run is kept as the run's own stages, so asking again costs
nothing, and garbage collection keeps it as long as the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.data.schema import Schema
from loopline.errors import NotFoundError
from loopline.evaluate.calibration import Calibration
from loopline.line.context import LineContext
from loopline.line.divide import LEFT_OUT_REASON, Prepared
from loopline.line.prepare import Plan
from loopline.line.project import Project, read_json
from loopline.line.race import Raced, observed
from loopline.line.spec import Candidate, make_spec
from loopline.line.suited import suited
from loopline.progress import Reporter, SilentReporter
from loopline.release.bundle import Release
from loopline.splits.views import TrainView

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scored:
    """The rows that a candidate predicted out of fold.

    Args:
        rows: their places in the snapshot, rising.
        prediction: as the release gives it: calibrated where the run calibrates.
        fold: the fold whose model predicted each row.
    """

    rows: Ints
    prediction: Floats
    fold: Ints


class FinishedRun:
    """One finished run. Get one with `finished_run`."""

    def __init__(
        self,
        project: Project,
        summary: Mapping[str, Any],
        context: LineContext,
        given: Mapping[str, Any],
    ) -> None:
        self.project = project
        self.summary = summary
        self.context = context
        self.given = given
        """The settings as the run was started with, places of the machine included."""
        self.deadline: float | None = None
        """When no further fit is to be begun for this run, on the clock of `time.monotonic`."""

    @property
    def id(self) -> str:
        """The run's id."""
        return str(self.summary["run"])

    @property
    def metric(self) -> str:
        """The metric that ranked its candidates."""
        return str(self.summary["metric"])

    @property
    def chosen(self) -> str:
        """The name of the chosen candidate."""
        return str(self.summary["chosen"])

    @cached_property
    def release(self) -> Release:
        """The released model and its facts."""
        return Release(self.project.store.get(self.summary["release"]))

    @property
    def schema(self) -> Schema:
        """Types and roles as the models saw them."""
        return self.prepared.schema

    @cached_property
    def prepared(self) -> Prepared:
        """The rows, divided as in the run."""
        store, digests = self.project.store, self.summary["digests"]
        schema = Schema.from_dict(self.release.facts["schema"])
        gone = [column.name for column in schema.columns if column.reason == LEFT_OUT_REASON]
        plan = Plan(store.get(digests["plan"]))
        return Prepared(self.context, plan, schema, store.get(digests["split"]), gone)

    @cached_property
    def decision(self) -> dict[str, Any]:
        """The choice: comparisons, threshold, calibration, scores."""
        data: dict[str, Any] = read_json(
            self.project.store.get(self.summary["digests"]["choice"]), "choice.json"
        )
        return data

    @cached_property
    def raced(self) -> dict[str, Raced]:
        """Its candidates by name, from simple to complex."""
        store = self.project.store
        spec = self.context.spec
        known = {entry.name: entry for entry in (*suited(self.schema)[0], *spec.models)}
        tuned = {
            entry["name"]: entry["params"] or {}
            for entry in self.summary.get("search", {}).get("candidates", ())
        }
        found = {}
        for entry in self.summary["candidates"]:
            artifact = store.get(entry["artifact"])
            name, kind = str(entry["name"]), str(entry["family"])
            plain = Candidate(name=name, family=kind)
            spec_of = known.get(name, plain)
            given = {**spec_of.params, **tuned.get(name, {})}
            found[name] = Raced(spec_of.model_copy(update={"params": given}), artifact)
        return found

    @property
    def threshold(self) -> float:
        """The decision threshold; 0.5 where the task has none."""
        decided = self.decision["threshold"]
        return 0.5 if decided is None else float(decided["value"])

    def scored(self, name: str | None = None) -> Scored:
        """What a candidate (by default the chosen one) predicted out of fold."""
        wanted = self.raced[self.chosen if name is None else name]
        rows, prediction = wanted.predictions()
        if self.decision["calibration"] and wanted.spec.name == self.chosen:
            prediction = Calibration.from_dict(self.decision["calibration"]).apply(prediction)
        return Scored(rows, prediction, wanted.folds())

    def outcomes(self, rows: Ints) -> TrainView:
        """Target, weight and units of training rows, by their places in the snapshot."""
        return self.prepared.outcomes.at(rows)

    def observed(self, view: TrainView) -> Ints:
        """Which rows of a view count as one observation in intervals."""
        return observed(self.prepared, view)


def finished_run(project: Project, which: str, reporter: Reporter | None = None) -> FinishedRun:
    """Open a finished run.

    Args:
        project: where the run is.
        which: its id or the start of it, a line's name, or "latest".
        reporter: hears of what is computed for it.

    Raises:
        NotFoundError: there is no such run, it did not finish, or its release has been removed.
    """
    record = project.run(which)
    if record.summary is None:
        told = f": {record.message}" if record.message else ""
        raise NotFoundError(
            f"{record.id} is {record.state}{told}. Only a finished run has scores; run its line "
            "again to go on."
        )
    summary = project.finished(record.id)
    if summary is None:
        raise NotFoundError(
            f"The release of {record.id} has been removed, and its scores with it. Run its line "
            "again."
        )
    release = Release(project.store.get(summary["release"]))
    started = project.ledger.events(kind="run.started", run=record.id, limit=1, newest_first=True)
    given = started[0].data if started else {"folder": "", "spec": release.facts["spec"]}
    spec = make_spec(release.facts["spec"] | {"threads": release.facts["threads"]})
    context = LineContext(
        spec,
        Path(str(given["folder"])),
        project.store,
        project.ledger,
        reporter or SilentReporter(),
        open_vault=None,
        run=record.id,
    )
    return FinishedRun(project, summary, context, given["spec"])
