"""From the choice to a release: the final fit, one opening of the vault, the folder that ships."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import save_file

from loopline.cores import in_threads
from loopline.data.schema import has_classes, holds_answer
from loopline.evaluate.calibration import Calibration
from loopline.evaluate.evaluation import confusion, curves, evaluate_predictions
from loopline.evaluate.importance import Rearranged, permutation_importance
from loopline.evaluate.metrics import metric
from loopline.evaluate.prices import cost_a_row
from loopline.features.contract import InputContract
from loopline.line.blending import averaged, final_model
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.facts import copy_model, served_facts
from loopline.line.measure import TIMES_FILE
from loopline.line.opening import Opening
from loopline.line.prepare import Plan
from loopline.line.prices import row_prices
from loopline.line.project import read_json
from loopline.line.race import (
    Raced,
    fit_settings,
    further_metrics,
    metric_name,
    observed,
)
from loopline.line.training import log_names, write_log
from loopline.models.base import FittedModel, Floats
from loopline.models.families import family
from loopline.release.bundle import FACTS, MEASURED
from loopline.release.card import model_card
from loopline.release.environment import code_digest, environment
from loopline.seeds import child_seed
from loopline.select.limits import Measured
from loopline.splits.views import TrainView
from loopline.store.artifacts import Artifact

IMPORTANCE_REPEATS = 3
CONTRIBUTION_ROWS = 300
"""Rows over which sizes of contributions are averaged; a thousand take 33 s of 3,000 deep trees."""


def chosen(choice: Artifact, raced: Sequence[Raced]) -> Raced:
    """The candidate that was chosen."""
    return next(entry for entry in raced if entry.spec.name == choice.meta["chosen"])


def final_fit(
    context: LineContext, prepared: Prepared, choice: Artifact, raced: Sequence[Raced]
) -> Artifact:
    """Fit the chosen candidate on all training rows."""
    winner = chosen(choice, raced)

    def make() -> Artifact:
        train = prepared.train
        began = time.monotonic()
        with context.reporter.step(
            f"fit {winner.spec.name} on all {train.num_rows:,} training rows"
        ):
            model = final_model(context, prepared, winner)
        seconds = round(time.monotonic() - began, 4)
        contract = InputContract.learn(train)

        def write(folder: Path) -> None:
            (folder / "model").mkdir()
            model.save(folder / "model")
            (folder / "contract.json").write_text(
                json.dumps(contract.to_dict(), ensure_ascii=False), encoding="utf-8"
            )
            (folder / TIMES_FILE).write_text(json.dumps({"fit_seconds": seconds}))
            write_log(model, folder)

        return context.store.put(
            "model",
            write,
            unhashed=(TIMES_FILE, *log_names(model)),
            meta={"family": model.family, "params": model.params},
            inputs={"split": prepared.split_artifact.id, "candidate": winner.artifact.id},
        )

    return context.stage(
        "final",
        3,
        settings={
            **fit_settings(context, prepared, winner.spec),
            "averaged": averaged(context, prepared, winner),
            "name": winner.spec.name,
            "threads": context.spec.num_threads,
        },
        inputs={"split": prepared.split_artifact.id, "candidate": winner.artifact.id},
        make=make,
        label=f"fit {winner.spec.name} on all training rows",
    )


def load_model(artifact: Artifact) -> FittedModel:
    """The fitted model in a `model` artifact."""
    return family(artifact.meta["family"]).load(artifact.path("model"))


def evaluate(
    context: LineContext,
    prepared: Prepared,
    choice: Artifact,
    raced: Sequence[Raced],
    model: Artifact,
) -> Artifact:
    """Score the final model on the test rows: the one opening of the vault in this run.

    Where these test rows were opened for another model before and no reason is given for another
    look, everything is made but the scores.
    """
    settings: dict[str, Any] = {
        "metrics": further_metrics(context, prepared),
        "seed": context.spec.seed,
    }
    opening = _opening(context, prepared, choice, model)
    if opening.closed:
        settings["vault"] = "closed"

    def make() -> Artifact:
        with context.reporter.step("evaluate on the test rows"):
            data, prediction = _evaluate(context, prepared, choice, opening)
            winner = chosen(choice, raced)
            data["importance"] = _importance(context, prepared, winner)
            data["contributions"] = _contributions(context, prepared, winner)

        def write(folder: Path) -> None:
            (folder / "evaluation.json").write_text(
                json.dumps(data, ensure_ascii=False), encoding="utf-8"
            )
            if prediction is not None:
                save_file({"prediction": prediction}, folder / "prediction.safetensors")

        return context.store.put(
            "evaluation",
            write,
            meta={"num_rows": data["num_rows"], "metrics": data["metrics"]},
            inputs={"model": model.id, "choice": choice.id, "split": prepared.split_artifact.id},
        )

    return context.stage(
        "evaluate",
        6,
        settings=settings,
        inputs={"model": model.id, "choice": choice.id},
        make=make,
    )


def _opening(
    context: LineContext, prepared: Prepared, choice: Artifact, model: Artifact
) -> Opening:
    decision = read_json(choice, "choice.json")

    def predict() -> Floats:
        prediction = load_model(model).predict_view(prepared.test)
        if decision["calibration"]:
            prediction = Calibration.from_dict(decision["calibration"]).apply(prediction)
        return prediction

    return Opening(context, prepared, predict, _threshold(choice))


def _threshold(choice: Artifact) -> float:
    decision = read_json(choice, "choice.json")
    return 0.5 if decision["threshold"] is None else float(decision["threshold"]["value"])


def _evaluate(
    context: LineContext, prepared: Prepared, choice: Artifact, opening: Opening
) -> tuple[dict[str, Any], Floats | None]:
    schema = prepared.schema
    threshold = _threshold(choice)
    nothing: dict[str, Any] = {
        "num_rows": prepared.test.num_rows,
        "metrics": {},
        "curves": {},
        "confusion": None,
    }
    if prepared.test.num_rows == 0:
        return nothing, None
    prediction = opening.prediction
    if opening.closed:
        return nothing, prediction
    labels = opening.labels(f"evaluate the chosen model {choice.meta['chosen']}")
    scores = evaluate_predictions(
        schema.task,
        schema.classes,
        labels.target,
        prediction,
        threshold=threshold,
        units=observed(prepared, labels),
        weight=labels.weight,
        seed=child_seed(context.spec.seed, "evaluate"),
        metrics=further_metrics(context, prepared),
    )
    prices = row_prices(context, prepared, prepared.test.positions)
    if prices is not None:
        scores[prices.name] = cost_a_row(
            prices,
            labels.target,
            prediction[:, 1],
            threshold,
            weight=labels.weight,
            units=observed(prepared, labels),
        )
    data = {
        "num_rows": len(labels.target),
        "metrics": {name: value.to_dict() for name, value in scores.items()},
        "curves": curves(
            schema.task,
            schema.classes,
            labels.target,
            prediction,
            weight=labels.weight,
        ),
        "confusion": None
        if not has_classes(schema.task)
        else confusion(
            schema.classes,
            labels.target,
            prediction,
            threshold=threshold,
            weight=labels.weight,
        ).to_dict(),
    }
    return data, prediction


def _importance(
    context: LineContext, prepared: Prepared, winner: Raced
) -> dict[str, dict[str, Any]]:
    """What shuffling each column costs, on validation rows under the models that never saw them."""
    if not prepared.schema.features or winner.spec.family == "baseline":
        return {}
    if holds_answer(prepared.schema.task):  # the answer cannot be shuffled
        return {}
    seed = child_seed(context.spec.seed, "importance")
    folds = winner.fold_roles
    num_rows = family(winner.spec.family).importance_rows
    models: list[FittedModel] = []
    views: list[TrainView] = []
    for number in range(len(folds)):
        fold = context.store.get(winner.artifact.inputs[f"fold{number}"])
        models.append(load_model(fold))
        views.append(prepared.fold(number)[1].sample(num_rows // len(folds), seed))
    ends = np.cumsum([view.num_rows for view in views])

    def predict(frame: pl.DataFrame) -> Floats:
        starts = [0, *ends[:-1].tolist()]
        parts = [
            model.predict(frame.slice(start, view.num_rows))
            for model, view, start in zip(models, views, starts, strict=True)
        ]
        return np.concatenate(parts)

    def shuffled(frame: pl.DataFrame) -> Rearranged:
        starts = [0, *ends[:-1].tolist()]
        parts = [
            model.rearranged(frame, start, start + view.num_rows)
            for model, view, start in zip(models, views, starts, strict=True)
        ]
        at_once = None if all(model.concurrent for model in models) else 1

        def answer(columns: Sequence[str], order: NDArray[np.int64]) -> Floats:
            return np.concatenate(
                list(in_threads(lambda part: part(columns, order), parts, at_once))
            )

        return answer

    weights = [view.weight for view in views if view.weight is not None]
    found = permutation_importance(
        predict,
        pl.concat([view.frame() for view in views]),
        np.concatenate([view.target for view in views]),
        metric(metric_name(context, prepared)),
        weight=np.concatenate(weights) if weights else None,
        repeats=IMPORTANCE_REPEATS,
        shuffled=shuffled,
        seed=seed,
        max_rows=None,
        units=np.concatenate(
            [observed(prepared, view) + (number << 40) for number, view in enumerate(views)]
        ),
    )
    return {name: value.to_dict() for name, value in found.items()}


def _contributions(context: LineContext, prepared: Prepared, winner: Raced) -> dict[str, float]:
    """Mean size of each column's additive contribution (TreeSHAP) on the first validation fold."""
    if not prepared.schema.features:
        return {}
    model = load_model(context.store.get(winner.artifact.inputs["fold0"]))
    seed = child_seed(context.spec.seed, "contributions")
    view = prepared.fold(0)[1].sample(CONTRIBUTION_ROWS, seed)
    found = model.contributions(view.frame()) or {}
    sizes = {name: float(np.mean(np.abs(values))) for name, values in found.items()}
    return dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0])))


def release(
    context: LineContext,
    source: Artifact,
    plan: Plan,
    prepared: Prepared,
    choice: Artifact,
    raced: Sequence[Raced],
    model: Artifact,
    evaluation: Artifact,
    beside: Mapping[str, Artifact],
    measured: Measured,
) -> Artifact:
    """Bundle everything that predicts and everything that explains into one folder."""
    spec = context.spec
    settings = {
        "name": spec.line_name,
        "spec": spec.digest(),
        "environment": environment(),
        "code": code_digest(),
    }
    inputs = {
        "source": source.id,
        "snapshot": plan.snapshot_id,
        "plan": plan.artifact.id,
        "split": prepared.split_artifact.id,
        "choice": choice.id,
        "model": model.id,
        "evaluation": evaluation.id,
        **{name: artifact.id for name, artifact in beside.items()},
    }

    def make() -> Artifact:
        decision = read_json(choice, "choice.json")
        contract = json.loads(model.path("contract.json").read_text(encoding="utf-8"))
        facts: dict[str, Any] = {
            **served_facts(context, source, plan, prepared, model, contract, decision),
            "choice": decision["sentence"],
            "metrics": {
                "out_of_fold": decision["metrics"],
                "test": evaluation.meta["metrics"],
            },
            "num_rows": {
                "train": prepared.split_artifact.meta["certificate"]["num_train"],
                "test": evaluation.meta["num_rows"],
            },
            "split": prepared.split_artifact.meta["reason"],
            "certificate": prepared.split_artifact.meta["certificate"],
            "lineage": inputs,
            "code": settings["code"],
            "environment": settings["environment"],
        }

        def write(folder: Path) -> None:
            copy_model(model, folder)
            text = json.dumps(facts, ensure_ascii=False, indent=1, sort_keys=True)
            (folder / FACTS).write_text(text, encoding="utf-8")
            (folder / "card.md").write_text(model_card(facts), encoding="utf-8")
            (folder / MEASURED).write_text(json.dumps(_told(measured)), encoding="utf-8")

        return context.store.put("release", write, inputs=inputs, unhashed=(MEASURED,))

    artifact = context.stage("release", 3, settings=settings, inputs=inputs, make=make)
    known = context.ledger.events(
        kind="release.made", subject=artifact.id, run=context.run, limit=1
    )
    if not known:
        context.ledger.append(
            "release.made",
            run=context.run,
            subject=artifact.id,
            data={"name": spec.line_name, "family": model.meta["family"]},
        )
    return artifact


def _told(measured: Measured) -> dict[str, Any]:
    """What a release tells of its cost, measured in a process of its own."""
    return {
        "predict_one_p50_microseconds": round(measured.latency_p50 * 1e6, 1),
        "predict_one_p95_microseconds": round(measured.latency_p95 * 1e6, 1),
        "predict_one_p99_microseconds": round(measured.latency_p99 * 1e6, 1),
        "rows_per_second": round(measured.throughput),
        "memory_bytes": measured.memory,
        "size_bytes": measured.size,
        "fit_seconds": round(measured.train_time, 3),
    }
