"""A finished run's candidate fitted again, otherwise: fewer rows, other columns, another family.

Each fold is fitted on a changed view of the fold's own training side and scored on the fold's own
validation rows, so the outcome pairs row by row with what the run predicted. Every fold is an
artifact of the run: asking again costs nothing, and a killed question goes on from the last fold.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from loopline.errors import LooplineError, SettingsError
from loopline.line.context import stage_key
from loopline.line.finished import FinishedRun, Scored
from loopline.line.project import read_json
from loopline.line.race import EARLY_STOPPING_SHARE, fit_context, fit_settings, resolve_params
from loopline.line.spec import Candidate
from loopline.line.trial import OutOfTime
from loopline.models.families import family
from loopline.splits.views import TrainView
from loopline.store.artifacts import Artifact

STAGE, VERSION = "refit", 1
Ints = NDArray[np.int64]


def _same(view: TrainView) -> TrainView:
    return view


@dataclass(frozen=True)
class Variant:
    """One way of fitting otherwise.

    Args:
        label: what progress calls it.
        key: plain data that says what is otherwise; part of the artifact's identity.
        candidate: what is fitted; the chosen candidate of the run by default.
        learn: the training view made from the fold's own.
        score: the validation view made from the fold's own, for variants with other features.
    """

    label: str
    key: Mapping[str, Any]
    candidate: Candidate | None = None
    learn: Callable[[TrainView], TrainView] = field(default=_same)
    score: Callable[[TrainView], TrainView] = field(default=_same)


@dataclass(frozen=True, eq=False)
class Refitted:
    """What a variant predicted, and what it took.

    Args:
        scored: rows, predictions and folds.
        num_rows: mean number of rows that a fold learned from.
        seconds: of all its fits together, when they were made.
    """

    scored: Scored
    num_rows: float
    seconds: float


def num_folds(run: FinishedRun) -> int:
    """How many folds the run has."""
    return int(run.prepared.split_artifact.meta["certificate"]["num_folds"])


def refit(run: FinishedRun, variant: Variant) -> Refitted:
    """Fit a variant in every fold, or find it.

    Raises:
        OutOfTime: the run's deadline has passed and a fold is still to be fitted; those that were
            fitted are kept.
    """
    parts = []
    folds = num_folds(run)
    with run.context.reporter.step(variant.label, total=folds) as step:
        for number in range(folds):
            parts.append(_fold(run, variant, number))
            step.advance()
    loaded = [load_file(part.path("prediction.safetensors")) for part in parts]
    return Refitted(
        _together(loaded),
        float(np.mean([part.meta["num_rows"] for part in parts])),
        sum(float(read_json(part, "times.json")["fit_seconds"]) for part in parts),
    )


def can_refit(run: FinishedRun, name: str | None = None) -> bool:
    """Whether a candidate was fitted fold by fold, and is not put together from others."""
    return "fold0" in run.raced[run.chosen if name is None else name].artifact.inputs


def as_run(run: FinishedRun, name: str | None = None) -> Refitted:
    """What a candidate of the run itself predicted, before any calibration, as a variant's."""
    raced = run.raced[run.chosen if name is None else name]
    folds = num_folds(run)
    rows = float(np.mean([run.prepared.fold(number)[0].num_rows for number in range(folds)]))
    store = run.project.store
    seconds = 0.0
    if can_refit(run, name):
        parts = [store.get(raced.artifact.inputs[f"fold{number}"]) for number in range(folds)]
        seconds = sum(float(read_json(part, "times.json")["fit_seconds"]) for part in parts)
    places, prediction = raced.predictions()
    return Refitted(Scored(places, prediction, raced.folds()), rows, seconds)


def is_known(run: FinishedRun, variant: Variant) -> bool:
    """Whether a variant was fitted before, so that `refit` only reads."""
    store = run.project.store
    return all(
        store.lookup(
            stage_key(
                STAGE,
                VERSION,
                settings=_settings(run, variant, number),
                inputs={"split": run.prepared.split_artifact.id},
            )
        )
        is not None
        for number in range(num_folds(run))
    )


def _settings(run: FinishedRun, variant: Variant, number: int) -> dict[str, Any]:
    entry = variant.candidate or run.raced[run.chosen].spec
    return {
        **fit_settings(run.context, run.prepared, entry),
        "name": entry.name,
        "fold": number,
        "variant": dict(variant.key),
    }


def _together(parts: list[dict[str, NDArray[Any]]]) -> Scored:
    rows = np.concatenate([part["rows"] for part in parts])
    fold = np.repeat(np.arange(len(parts)), [len(part["rows"]) for part in parts])
    order = np.argsort(rows, kind="stable")
    prediction = np.concatenate([part["prediction"] for part in parts])
    return Scored(rows[order], prediction[order], fold[order])


def _fold(run: FinishedRun, variant: Variant, number: int) -> Artifact:
    context, prepared = run.context, run.prepared
    entry = variant.candidate or run.raced[run.chosen].spec

    def make() -> Artifact:
        if run.deadline is not None and time.monotonic() > run.deadline:
            raise OutOfTime
        train, valid = prepared.fold(number)
        train, valid = variant.learn(train), variant.score(valid)
        began = time.monotonic()
        try:
            model = _fit(run, entry, train, f"fold {number}")
        except LooplineError as error:
            text = f"{variant.label}, fold {number + 1}: {error}"
            if isinstance(error, SettingsError):
                raise SettingsError([text]) from error
            raise type(error)(text) from error
        seconds = time.monotonic() - began
        prediction = np.ascontiguousarray(model.predict_view(valid))

        def write(folder: Path) -> None:
            save_file(
                {"rows": valid.positions.astype(np.int64), "prediction": prediction},
                folder / "prediction.safetensors",
            )
            times = json.dumps({"fit_seconds": round(seconds, 4)})
            (folder / "times.json").write_text(times, encoding="utf-8")

        return context.store.put(
            STAGE,
            write,
            meta={
                "candidate": entry.name,
                "family": entry.family,
                "fold": number,
                "variant": dict(variant.key),
                "num_rows": train.num_rows,
            },
            inputs={"split": prepared.split_artifact.id},
            unhashed=("times.json",),
        )

    return context.stage(
        STAGE,
        VERSION,
        settings=_settings(run, variant, number),
        inputs={"split": prepared.split_artifact.id},
        make=make,
        label=f"{variant.label}, fold {number + 1}",
    )


def _fit(run: FinishedRun, entry: Candidate, train: TrainView, label: str) -> Any:
    """As in the race, with the same seed a fold, so that only the variant makes a difference."""
    kind = family(entry.family)
    params = resolve_params(run.context, run.prepared, entry, train.num_rows)
    settings = fit_context(run.context, entry, label)
    valid = None
    if kind.uses_validation:
        cut = train.holdout(EARLY_STOPPING_SHARE, settings.seed)
        if cut is not None:
            train, valid = cut
    return kind.fit(train, valid, params, settings)
