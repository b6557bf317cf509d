"""The Python face: `loopline.fit` and `loopline.run`, the same line as the settings file's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from loopline.errors import SettingsError
from loopline.frames import as_frame, is_frame
from loopline.line.console import console_reporter
from loopline.line.files import read_line
from loopline.line.project import Project, open_project
from loopline.line.runner import Outcome, run_line
from loopline.line.spec import Spec, make_spec
from loopline.progress import Reporter, SilentReporter
from loopline.release.bundle import Release
from loopline.release.lineage import Lineage, lineage
from loopline.words import estimate

if TYPE_CHECKING:
    from loopline.line.steps import Advice

IN_MEMORY = "memory"


class Result:
    """A finished run: its numbers, its release, its report and its lineage."""

    def __init__(self, project: Project, outcome: Outcome) -> None:
        self._project = project
        self._outcome = outcome

    @property
    def run(self) -> str:
        """The run's id."""
        return self._outcome.run

    @property
    def project(self) -> Project:
        """The store and the ledger that hold the run."""
        return self._project

    @property
    def summary(self) -> dict[str, Any]:
        """Everything the run found, as plain data (what ``loopline run --json`` prints)."""
        return self._outcome.summary

    @property
    def release(self) -> Release:
        """The released model."""
        return Release(self._project.store.get(self._outcome.release))

    def leaderboard(self) -> pl.DataFrame:
        """The candidates, best first: out-of-fold score with interval, size, and which won."""
        from loopline.evaluate.metrics import metric

        name = self.summary["metric"]
        rows = [
            {
                "candidate": entry["name"],
                "metric": name,
                "value": entry["metrics"][name]["value"],
                "low": entry["metrics"][name]["low"],
                "high": entry["metrics"][name]["high"],
                "size_bytes": entry["size_bytes"],
                "chosen": entry["name"] == self.summary["chosen"],
            }
            for entry in self.summary["candidates"]
        ]
        best_first = metric(name).higher_is_better
        return pl.DataFrame(rows).sort("value", descending=best_first, nulls_last=True)

    def evaluate(self, data: Any = None) -> dict[str, dict[str, Any]]:
        """The test metrics ``{name: {value, low, high}}``; of new labelled data when given.

        Raises:
            LeakError: some of the new rows stand among the training rows.
        """
        if data is None:
            return dict(self.summary["test"])
        from loopline.line.scoring import evaluate_release

        found = evaluate_release(self._project, self.release, data)
        return {name: value.to_dict() for name, value in found.metrics.items()}

    def predict(self, data: Any) -> Any:
        """Predict new rows: see `Release.predict`."""
        return self.release.predict(data)

    def report(self, path: str | Path | None = None) -> Path:
        """Write the self-contained HTML report and give its path."""
        from loopline.line.report import write_report

        return write_report(self._project, self.run, path)

    def lineage(self) -> Lineage:
        """The chain from the release back to the rows that made it."""
        return lineage(self._project.store, self._outcome.release)

    def advise(self, *, budget_seconds: float | None = None) -> Advice:
        """What to do next, best first: see ``loopline advise``.

        Args:
            budget_seconds: begin no further fit that would pass this; by default five times the
                fits of the race, and a minute at least.
        """
        from loopline.line.advise import advise

        return advise(self._project, self.run, budget_seconds=budget_seconds)

    def __repr__(self) -> str:
        summary = self.summary
        score = summary["test"].get(summary["metric"]) or summary["out_of_fold"][summary["metric"]]
        where = "test" if summary["test"] else "out-of-fold"
        return (
            f"<Result {self.run}: {summary['chosen']}, {where} {summary['metric']} "
            f"{estimate(score)}>"
        )


def fit(
    data: Any,
    target: str,
    *,
    test: str | Path | None = None,
    task: str | None = None,
    metric: str | None = None,
    group: str | Sequence[str] = (),
    time: str | Sequence[str] = (),
    weight: str | None = None,
    ignore: str | Sequence[str] = (),
    models: Any = None,
    search: Mapping[str, Any] | None = None,
    budget_seconds: float | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    store: str | Path | None = None,
    open_vault: str | None = None,
    progress: bool = True,
) -> Result:
    """Go from a raw table to a chosen, evaluated, traceable release in one call.

    Columns are typed and given roles, problems are found, rows are divided so that related rows
    stay together, candidates are compared out of fold, the simplest that is good enough is fitted
    and scored once on test rows that nothing else has seen. Calling it again with the same
    arguments and data gives the stored result at once.

    Args:
        data: a path, glob or URL, or a polars, pandas or Arrow table.
        target: the column to predict.
        test: an official test file, if there is one.
        task: "binary", "multiclass" or "regression"; inferred from the target by default.
            "language" predicts the text of the target column itself, "multilabel" which of several
            labels a row has.
        metric: what ranks the candidates; auc, log_loss or rmse by default.
        group: columns whose rows must stay together (customer, patient, device).
        time: columns that order the rows in time, the first one leading.
        weight: column of sample weights.
        ignore: columns to leave out.
        models: family names, or a mapping from name to parameters.
        search: the `search` part of the settings, such as ``{"trials": 50}`` or
            ``{"budget": "10m"}``; an empty mapping searches 50 trials.
        budget_seconds: start no further candidate after this time.
        seed: root of every random choice (default 0).
        settings: any other key of the settings file, as nested mappings.
        store: folder or URL that keeps everything (default ``.loopline``).
        open_vault: why this model may be scored on test rows on which another was scored before;
            needed once the budget of looks (`vault.looks`) is used up.
        progress: whether to show progress on the error stream.

    Raises:
        SettingsError: arguments that are wrong or contradict each other, all told at once.
        DataError: the data cannot be used as it is; the message names row or column.
        SplitError: the declared structure cannot be honoured.
        LeakError: a feature gives the answer away.

    >>> import loopline, polars as pl, tempfile
    >>> frame = pl.DataFrame(
    ...     {"size": [i % 37 for i in range(200)], "price": [i % 37 + i / 100 for i in range(200)]}
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = loopline.fit(frame, "price", models="linear", store=folder, progress=False)
    ...     result.summary["task"]
    'regression'
    """
    frame = as_frame(data) if is_frame(data) else None
    given: dict[str, Any] = dict(settings or {})
    direct: dict[str, Any] = {
        "target": target,
        "task": task,
        "models": models,
        "search": search,
        "budget_seconds": budget_seconds,
        "seed": seed,
        "store": None if store is None else str(store),
    }
    _merge(given, {key: value for key, value in direct.items() if value is not None}, "")
    source: dict[str, Any] = {"source": IN_MEMORY if frame is not None else str(data)}
    if test is not None:
        source["test"] = str(test)
    _merge(given, {"data": source}, "")
    if metric is not None:
        _merge(given, {"objective": {"metric": metric}}, "")
    roles = {"group": group, "time": time, "weight": weight or (), "ignore": ignore}
    for role, names in roles.items():
        for name in [names] if isinstance(names, str) else names:
            _merge(given, {"columns": {name: {"role": role}}}, "")
    spec = make_spec(given)
    return _start(spec, Path.cwd(), frame, progress, open_vault)


def run(
    file: str | Path = "loopline.yaml",
    *,
    overrides: Sequence[str] = (),
    open_vault: str | None = None,
    progress: bool = True,
) -> Result:
    """Run, or go on with, the line of a settings file.

    Args:
        file: the YAML file, or the folder that holds a ``loopline.yaml``.
        overrides: ``key=value`` settings that rule over the file's.
        open_vault: why this model may be scored on test rows on which another was scored before.
        progress: whether to show progress on the error stream.
    """
    line = read_line(file, overrides)
    return _start(line.spec, line.folder, None, progress, open_vault)


def project_of(spec: Spec, folder: Path) -> Project:
    """The project that a line's settings name."""
    store = spec.store if "://" in spec.store else str(folder / Path(spec.store).expanduser())
    return open_project(store, ledger=spec.ledger)


def _start(
    spec: Spec, folder: Path, frame: pl.DataFrame | None, progress: bool, open_vault: str | None
) -> Result:
    if open_vault is not None and not open_vault.strip():
        raise SettingsError(
            ["`open_vault` must say why the test labels are opened again; got an empty text."]
        )
    reporter: Reporter = console_reporter() if progress else SilentReporter()
    project = project_of(spec, folder)
    outcome = run_line(project, spec, folder, reporter, frame, open_vault=open_vault or "")
    return Result(project, outcome)


def _merge(into: dict[str, Any], more: Mapping[str, Any], path: str) -> None:
    """Add arguments to settings; saying one thing twice and differently is an error."""
    for key, value in more.items():
        place = f"{path}{key}"
        if isinstance(value, Mapping):
            below = into.get(key, {})
            if not isinstance(below, Mapping):
                raise SettingsError([f"`settings.{place}` must be a mapping, got {below!r}."])
            copied = dict(below)
            _merge(copied, value, f"{place}.")
            into[key] = copied
        elif key in into and into[key] != value:
            raise SettingsError(
                [f"`{place}` is given twice: {into[key]!r} in `settings`, {value!r} as argument."]
            )
        else:
            into[key] = value
