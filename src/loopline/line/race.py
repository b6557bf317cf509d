"""The race: every candidate is fitted fold by fold and scored out of fold.

A candidate's fit never sees the rows it is scored on: where a family stops early, it does so on
rows cut from the fold's own training side. Every fold's fit is an artifact, so a killed race goes
on from the last fold.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from loopline.data.schema import Schema
from loopline.digest import value_digest
from loopline.errors import LooplineError, SettingsError
from loopline.evaluate.evaluation import evaluate_predictions
from loopline.evaluate.metrics import default_metric, metric
from loopline.features.settings import FeatureSettings
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.project import FITS
from loopline.line.spec import Candidate as CandidateSpec
from loopline.line.suited import suited
from loopline.line.training import log_names, write_log
from loopline.models.base import FitContext, FittedModel, GivenUp, Params
from loopline.models.families import family
from loopline.models.together import num_started
from loopline.release.environment import code_digest
from loopline.seeds import child_seed
from loopline.splits.vault import TestLabels
from loopline.splits.views import TrainView
from loopline.store.artifacts import Artifact

EARLY_STOPPING_SHARE = 0.1
FIT_VERSION = 2
PREDICTION = "prediction.safetensors"
Floats = NDArray[np.float64]
Rungs = Callable[[TrainView, int, Floats], None]
"""Hears of a fit on its way: held-out rows, the number of the rung, predictions of these rows."""


@dataclass(frozen=True)
class Raced:
    """One candidate after the race.

    Args:
        spec: its entry in the settings.
        artifact: holds its out-of-fold predictions and scores.
        members: of a blend, the candidates that it is made of.
        weighed: of a blend, its weights.
    """

    spec: CandidateSpec
    artifact: Artifact
    members: tuple[Raced, ...] = ()
    weighed: Artifact | None = None

    @property
    def meta(self) -> dict[str, Any]:
        """Scores, resolved parameters, sizes."""
        return dict(self.artifact.meta)

    @property
    def fold_roles(self) -> list[str]:
        """The inputs of its artifact that are the fits of its folds, in their order."""
        return [role for role in self.artifact.inputs if role.startswith("fold")]

    def predictions(self) -> tuple[NDArray[np.int64], Floats]:
        """Positions in the training view and out-of-fold predictions for them."""
        arrays = load_file(self.artifact.path("out_of_fold.safetensors"))
        return arrays["rows"], arrays["prediction"]

    def folds(self) -> NDArray[np.int64]:
        """The fold whose model predicted each of these rows."""
        arrays: dict[str, NDArray[Any]] = load_file(self.artifact.path("out_of_fold.safetensors"))
        return arrays["fold"]


def candidates(context: LineContext, schema: Schema | None = None) -> list[CandidateSpec]:
    """The candidates in the order of simplicity; the baseline always takes part."""
    listed = list(context.spec.models)
    if schema is not None and "models" not in context.spec.model_fields_set:
        listed = list(suited(schema)[0])
        context.settled["models"] = [entry.model_dump(mode="json") for entry in listed]
    if all(candidate.family != "baseline" for candidate in listed):
        listed.append(CandidateSpec(name="baseline", family="baseline"))
    order = {candidate.name: number for number, candidate in enumerate(listed)}
    return sorted(listed, key=lambda entry: (family(entry.family).complexity, order[entry.name]))


def race(
    context: LineContext, prepared: Prepared, entries: Sequence[CandidateSpec] | None = None
) -> tuple[list[Raced], list[str]]:
    """Fit and score every candidate; gives them and the names that the budget left out.

    Args:
        context: the line.
        prepared: its rows.
        entries: the candidates as a search settled them (default: those of the settings).
    """
    if entries is None:
        entries = candidates(context, prepared.schema)
    refuse_unread(entries, prepared.schema)
    folds = int(prepared.split_artifact.meta["certificate"]["num_folds"])
    fitted: list[tuple[CandidateSpec, list[Artifact]]] = []
    skipped: list[str] = []
    with context.reporter.step("fit the candidates", total=len(entries) * folds) as step:
        for entry in entries:
            if fitted and context.over_budget():
                skipped.append(entry.name)
                step.advance(folds)
                continue
            parts = []
            for number in range(folds):
                step.describe(f"{entry.name}, fold {number + 1} of {folds}")
                parts.append(fold_stage(context, prepared, entry, number))
                step.advance()
            fitted.append((entry, parts))
    prepared.let_go()  # scores take as much memory as fits, and need no feature
    raced = [
        Raced(entry, score_candidate(context, prepared, entry, parts)) for entry, parts in fitted
    ]
    if skipped:
        context.reporter.note(
            f"The budget of {context.spec.budget_seconds:g} s left no time for "
            f"{', '.join(skipped)}. Give more with `budget_seconds`."
        )
    return raced, skipped


def refuse_unread(entries: Sequence[CandidateSpec], schema: Schema) -> None:
    """Before anything is fitted, refuse families that would find no column to read."""
    types = {schema.named(name).type for name in schema.features}
    problems = [
        f"`models` names {entry.name}, which reads columns of type {' or '.join(sorted(reads))}; "
        "this table has no such feature. Give one that type under `columns`, or leave it out."
        for entry in entries
        if (reads := family(entry.family).reads) is not None and not reads & types
    ]
    problems += [
        f"`models` names {entry.name}, which makes numbers of columns, and the only features are "
        "images. Leave it out; the image family reads them."
        for entry in entries
        if types == {"image"} and family(entry.family).reads is None and entry.family != "baseline"
    ]
    if problems:
        raise SettingsError(problems)


def metric_name(context: LineContext, prepared: Prepared) -> str:
    """The metric that ranks: the settings' or the task's default."""
    return context.spec.objective.metric or default_metric(prepared.schema.task).name


def fit_settings(context: LineContext, prepared: Prepared, entry: CandidateSpec) -> dict[str, Any]:
    """Everything but rows that a candidate's fits depend on."""
    kind = family(entry.family)
    params = {**entry.params}
    goal = metric(metric_name(context, prepared))
    return {
        "family": entry.family,
        "params": params,
        "metric": goal.name,
        "features": context.spec.features.model_dump(exclude_none=True),
        "class_weight": context.spec.class_weight,
        "seed": context.spec.seed,
        "threads": fold_threads(context),
        **({"sources": found} if (found := kind.sources(params)) else {}),
        **({"parallel": _parallel(context)} if kind.parallel else {}),
        "versions": kind.versions(),
        "left_out": sorted(prepared.left_out),
    }


def fold_threads(context: LineContext) -> int:
    """Threads of a fold's fit: trials that run at the same time share the cores."""
    search = context.spec.search
    return max(1, context.spec.num_threads // (1 if search is None else search.parallel))


def _parallel(context: LineContext) -> dict[str, Any]:
    """How many processes train a network, and how it lies on them; one process has no layout."""
    processes = max(num_started(), context.spec.parallel.processes)
    layout = context.spec.parallel.layout if processes > 1 else None
    return {"processes": processes, "layout": layout}


def resolve_params(
    context: LineContext, prepared: Prepared, entry: CandidateSpec, num_rows: int
) -> dict[str, Any]:
    """The family's defaults, the metric where the family can aim at it, and the given values."""
    kind = family(entry.family)
    params = kind.defaults(prepared.schema.task, num_rows)
    name = metric_name(context, prepared)
    params |= kind.aim(prepared.schema.task, name)
    return {**params, **entry.params}


def fit_context(context: LineContext, entry: CandidateSpec, label: str) -> FitContext:
    """What a candidate's fit may know besides its rows.

    Args:
        context: the line.
        entry: the candidate.
        label: which of its fits; each has a seed of its own.
    """
    spec = context.spec
    return FitContext(
        seed=child_seed(spec.seed, "fit", entry.name, label),
        threads=spec.num_threads if label == "final" else fold_threads(context),
        class_weight=spec.class_weight,
        features=FeatureSettings(**spec.features.model_dump(exclude_none=True)),
        reporter=context.reporter,
        processes=spec.parallel.processes,
        layout=spec.parallel.layout,
        boards=_boards(context),
    )


def _boards(context: LineContext) -> dict[str, str]:
    """The boards, folders as seen from the settings file."""
    given = context.spec.boards.given()
    if "tensorboard" in given:
        given["tensorboard"] = str((context.folder / given["tensorboard"]).absolute())
    return given


def fit_view(
    context: LineContext,
    prepared: Prepared,
    entry: CandidateSpec,
    train: TrainView,
    params: Params,
    label: str,
    *,
    stop_early: bool,
    rungs: Rungs | None = None,
) -> FittedModel:
    """Fit one family on one view, with rows cut off for early stopping where that is useful.

    A fit that is killed goes on from what it kept in its folder, which is removed at the end.

    Args:
        context: the line.
        prepared: its rows.
        entry: the candidate.
        train: the rows to learn from.
        params: all parameters.
        label: which of the candidate's fits.
        stop_early: whether rows are cut off where the family makes use of them.
        rungs: hears what the fit predicts of these rows on its way, and may end it.

    Raises:
        GivenUp: `rungs` ended it.
    """
    kind = family(entry.family)
    digests = {
        "data": prepared.plan.snapshot_id,
        "split": prepared.split_artifact.id,
        "settings": value_digest([fit_settings(context, prepared, entry), dict(params), label]),
        "code": code_digest(),
    }
    if rungs is not None:  # its checkpoints hold more
        digests["rungs"] = "told"
    folder = context.store.scratch(FITS) / value_digest(digests)
    settings = replace(
        fit_context(context, entry, label), folder=folder, digests=digests, whole=label == "final"
    )
    valid = None
    if stop_early and kind.uses_validation:
        cut = train.holdout(EARLY_STOPPING_SHARE, settings.seed)
        if cut is not None:
            train, valid = cut
            if rungs is not None:
                settings = replace(settings, rung=partial(rungs, valid))
    try:
        model = kind.fit(train, valid, params, settings)
    except GivenUp:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    return model


@dataclass(frozen=True)
class FoldFit:
    """A model of one fold, and what it says of the fold's validation rows.

    Args:
        model: the fitted model.
        rows: positions of the validation rows in the table, shape (rows,).
        prediction: of these rows, as `FittedModel.predict` gives it.
        seconds: how long the fit took.
    """

    model: FittedModel
    rows: NDArray[np.int64]
    prediction: Floats
    seconds: float


def fit_fold(
    context: LineContext,
    prepared: Prepared,
    entry: CandidateSpec,
    number: int,
    rungs: Rungs | None = None,
) -> FoldFit:
    """Fit a candidate on one fold's training rows and predict its validation rows.

    Args:
        context: the line.
        prepared: its rows.
        entry: the candidate.
        number: of the fold, from 0.
        rungs: see `fit_view`.
    """
    began = time.monotonic()
    train, valid = prepared.fold(number)
    params = resolve_params(context, prepared, entry, train.num_rows)
    try:
        model = fit_view(
            context, prepared, entry, train, params, f"fold {number}",
            stop_early=True, rungs=rungs,
        )  # fmt: skip
    except LooplineError as error:
        text = f"Fitting {entry.name} on fold {number + 1} failed: {error}"
        if isinstance(error, SettingsError):
            raise SettingsError([text]) from error
        raise type(error)(text) from error
    fitted = time.monotonic() - began
    return FoldFit(model, valid.positions.astype(np.int64), model.predict_view(valid), fitted)


def keep_fold(
    context: LineContext, prepared: Prepared, entry: CandidateSpec, number: int, fit: FoldFit
) -> Artifact:
    """Put a fold's fit into the store."""

    def write(folder: Path) -> None:
        fit.model.save(_made(folder / "model"))
        save_file({"rows": fit.rows, "prediction": fit.prediction}, folder / PREDICTION)
        (folder / "times.json").write_text(json.dumps({"fit_seconds": round(fit.seconds, 4)}))
        write_log(fit.model, folder)

    return context.store.put(
        "foldfit",
        write,
        meta={
            "candidate": entry.name,
            "family": entry.family,
            "fold": number,
            "params": fit.model.params,
        },
        inputs={"split": prepared.split_artifact.id},
        unhashed=("times.json", *log_names(fit.model)),
    )


def fold_settings(
    context: LineContext, prepared: Prepared, entry: CandidateSpec, number: int
) -> dict[str, Any]:
    """Everything that a fold's fit depends on beside the split."""
    return {**fit_settings(context, prepared, entry), "name": entry.name, "fold": number}


def fold_stage(
    context: LineContext, prepared: Prepared, entry: CandidateSpec, number: int
) -> Artifact:
    """The fit of one fold: found again, or made now."""
    return context.stage(
        "fit",
        FIT_VERSION,
        settings=fold_settings(context, prepared, entry, number),
        inputs={"split": prepared.split_artifact.id},
        make=lambda: keep_fold(
            context, prepared, entry, number, fit_fold(context, prepared, entry, number)
        ),
        label=f"fit {entry.name} fold {number + 1}",
    )


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def score_candidate(
    context: LineContext, prepared: Prepared, entry: CandidateSpec, parts: Sequence[Artifact]
) -> Artifact:
    """Put the folds' predictions together and score them."""

    def make() -> Artifact:
        loaded = [load_file(part.path(PREDICTION)) for part in parts]
        rows = np.concatenate([arrays["rows"] for arrays in loaded])
        prediction = np.concatenate([arrays["prediction"] for arrays in loaded])
        fold = np.repeat(np.arange(len(loaded)), [len(arrays["rows"]) for arrays in loaded])
        order = np.argsort(rows, kind="stable")
        rows, prediction, fold = rows[order], prediction[order], fold[order]
        view = prepared.outcomes.at(rows)
        scores = evaluate_predictions(
            prepared.schema.task,
            prepared.schema.classes,
            view.target,
            prediction,
            units=observed(prepared, view),
            weight=view.weight,
            folds=fold,
            seed=child_seed(context.spec.seed, "evaluate"),
            metrics=(metric_name(context, prepared),),
        )
        models = [family(entry.family).load(part.path("model")) for part in parts]
        size = sum(model.size_bytes for model in models) // len(models)

        def write(folder: Path) -> None:
            save_file(
                {"rows": rows, "prediction": np.ascontiguousarray(prediction), "fold": fold},
                folder / "out_of_fold.safetensors",
            )

        return context.store.put(
            "candidate",
            write,
            meta={
                "name": entry.name,
                "family": entry.family,
                "params": [part.meta["params"] for part in parts],
                "metrics": {name: value.to_dict() for name, value in scores.items()},
                "size_bytes": size,
            },
            inputs={f"fold{number}": part.id for number, part in enumerate(parts)},
        )

    return context.stage(
        "candidate",
        5,
        settings={"metric": metric_name(context, prepared), "seed": context.spec.seed},
        inputs={f"fold{number}": part.id for number, part in enumerate(parts)},
        make=make,
        label=f"score {entry.name}",
    )


def further_metrics(context: LineContext, prepared: Prepared) -> tuple[str, ...]:
    """Metrics beside the standard ones: the one that ranks, the cost, the required floors."""
    objective = context.spec.objective
    names = [metric_name(context, prepared)]
    if objective.cost is not None and not objective.cost.columns:
        names.append(objective.cost.name)
    if prepared.schema.task == "binary":
        require = objective.require
        least_recall = (require and require.recall) or 0.9
        least_precision = (require and require.precision) or 0.9
        names += [
            f"precision_at_recall={least_recall:g}",
            f"recall_at_precision={least_precision:g}",
        ]
    return tuple(dict.fromkeys(names))


def observed(prepared: Prepared, view: TrainView | TestLabels) -> NDArray[np.int64]:
    """The rows of a view or of the test labels by observation, for intervals."""
    return dependence(view.units, view.order, bool(prepared.schema.with_role("group")))


def dependence(
    units: NDArray[np.int64], order: NDArray[np.int64] | None, grouped: bool
) -> NDArray[np.int64]:
    """Which rows count as one observation in intervals.

    Groups do, and so do stretches of time: neighbours in time resemble each other, and an interval
    that takes them for independent is too narrow. A series of n rows is cut into about n^(2/3)
    blocks (Hall, Horowitz & Jing 1995 give that rate for block methods), equal times kept together.

    >>> dependence(np.arange(8), np.array([0, 0, 1, 1, 2, 2, 3, 3]), False).tolist()
    [0, 0, 1, 1, 2, 2, 3, 3]
    """
    if order is None or grouped:
        return units
    distinct, rank = np.unique(order, return_inverse=True)
    blocks = min(distinct.size, max(20, int(order.size ** (2 / 3))))
    return np.asarray(rank * blocks // max(1, distinct.size), dtype=np.int64)
