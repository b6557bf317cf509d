"""The choice stage: which candidate is released, at which threshold, within which limits.

Everything is decided on out-of-fold predictions and on measurements; test rows take no part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.errors import LimitError
from loopline.evaluate.calibration import Calibration, fit_calibration
from loopline.evaluate.evaluation import evaluate_predictions
from loopline.evaluate.intervals import Estimate
from loopline.evaluate.label_threshold import choose_label_threshold
from loopline.evaluate.metrics import metric
from loopline.evaluate.prices import cheapest_threshold
from loopline.evaluate.promise import promise
from loopline.evaluate.threshold import Goal, choose_threshold
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.measure import Measurement
from loopline.line.prices import row_prices
from loopline.line.race import Raced, further_metrics, metric_name, observed
from loopline.models.families import family
from loopline.seeds import child_seed
from loopline.select.candidates import Candidate
from loopline.select.choose import Choice, choose
from loopline.select.limits import measured_table, noise_sentence
from loopline.splits.views import TrainView
from loopline.store.artifacts import Artifact

Floats = NDArray[np.float64]


def choice(
    context: LineContext,
    prepared: Prepared,
    raced: Sequence[Raced],
    measured: Mapping[str, Measurement],
    excluded: Mapping[str, Sequence[str]],
) -> Artifact:
    """Choose a candidate; set its threshold and calibration.

    Args:
        context: the line.
        prepared: its rows.
        raced: the candidates.
        measured: what was measured of each, where limits are set.
        excluded: candidates whose final model broke limits, with the limits.

    Raises:
        LimitError: none keeps the limits; the message has them all, and what was measured.
    """
    spec = context.spec
    settings = {
        "metric": metric_name(context, prepared),
        "margin": spec.objective.margin,
        "threshold": spec.objective.model_dump(exclude={"metric", "margin"}, exclude_none=True),
        "calibration": spec.calibration,
        "seed": spec.seed,
        "select": spec.select,
        "excluded": {name: list(sentences) for name, sentences in excluded.items()},
    }
    inputs = {entry.spec.name: entry.artifact.id for entry in raced}
    inputs |= {f"measured {name}": entry.artifact.id for name, entry in measured.items()}

    def make() -> Artifact:
        with context.reporter.step("compare and choose"):
            broken = {name: list(entry.broken) for name, entry in measured.items()}
            for name, sentences in excluded.items():
                broken.setdefault(name, []).extend(sentences)
            try:
                data = _decision(context, prepared, raced, broken)
            except LimitError as error:
                values = {name: entry.values for name, entry in measured.items()}
                told = f"\nMeasured here:\n{measured_table(values)}" if values else ""
                if any(text.startswith("latency_p99") for each in broken.values() for text in each):
                    told += f"\n{noise_sentence(values)}".rstrip()
                raise LimitError(f"{error}{told}") from None

        def write(folder: Path) -> None:
            (folder / "choice.json").write_text(
                json.dumps(data, ensure_ascii=False), encoding="utf-8"
            )

        return context.store.put("choice", write, meta={"chosen": data["chosen"]}, inputs=inputs)

    return context.stage("choice", 4, settings=settings, inputs=inputs, make=make)


def _decision(
    context: LineContext,
    prepared: Prepared,
    raced: Sequence[Raced],
    broken: dict[str, list[str]],
) -> dict[str, Any]:
    spec = context.spec
    loaded = {entry.spec.name: entry.predictions() for entry in raced}
    rows = next(iter(loaded.values()))[0]
    folds = raced[0].folds()
    prepared.let_go()
    view = prepared.outcomes.at(rows)
    units = observed(prepared, view)
    if prepared.schema.task == "binary":
        for name, (_, prediction) in loaded.items():
            broken.setdefault(name, []).extend(_unkept(context, view, units, prediction))
    decision = choose(
        [
            Candidate(
                name=entry.spec.name,
                family=entry.spec.family,
                complexity=family(entry.spec.family).complexity,
                prediction=loaded[entry.spec.name][1],
                size_bytes=entry.meta["size_bytes"],
            )
            for entry in raced
        ],
        view.target,
        metric(metric_name(context, prepared)),
        units=units,
        weight=view.weight,
        folds=folds,
        margin=spec.objective.margin,
        seed=child_seed(spec.seed, "choose"),
        broken=broken,
        by_score=spec.select == "best",
    )
    return _settled(context, prepared, decision, view, units, folds, loaded[decision.chosen][1])


def _unkept(
    context: LineContext, view: TrainView, units: NDArray[np.int64], prediction: Floats
) -> list[str]:
    """The floors that a candidate cannot promise, as a sentence; none where none are asked."""
    aim = goal(context)
    require = context.spec.objective.require
    floors = None if aim is None or require is None else aim.floors(require.confidence)
    if floors is None:
        return []
    found = promise(view.target, prediction, floors, weight=view.weight, units=units)
    return [] if found.verdict == "yes" else [found.sentence.rstrip(".")]


def _settled(
    context: LineContext,
    prepared: Prepared,
    decision: Choice,
    view: TrainView,
    units: NDArray[np.int64],
    folds: NDArray[np.int64],
    prediction: Floats,
) -> dict[str, Any]:
    """Calibration, threshold and scores of the chosen candidate."""
    spec = context.spec
    calibration: Calibration | None = None
    threshold = None
    if spec.calibration not in (None, "none"):
        calibration = fit_calibration(spec.calibration, view.target, prediction, weight=view.weight)
        prediction = calibration.apply(prediction)
    prices = row_prices(context, prepared, view.positions)
    if prices is not None:
        threshold = cheapest_threshold(
            view.target, prediction[:, 1], prices, weight=view.weight, units=units
        )
    elif prepared.schema.task == "binary":
        require = spec.objective.require
        threshold = choose_threshold(
            view.target,
            prediction[:, 1],
            goal(context),
            weight=view.weight,
            units=units,
            calibrated=calibration is not None,
            confidence=None if require is None else require.confidence,
        )
    elif prepared.schema.task == "multilabel":
        threshold = choose_label_threshold(view.target, prediction, weight=view.weight, units=units)
    scores: dict[str, Estimate] = evaluate_predictions(
        prepared.schema.task,
        prepared.schema.classes,
        view.target,
        prediction,
        threshold=0.5 if threshold is None else threshold.value,
        units=units,
        weight=view.weight,
        folds=folds,
        seed=child_seed(spec.seed, "evaluate"),
        metrics=further_metrics(context, prepared),
    )
    if prices is not None and threshold is not None:
        scores[prices.name] = threshold.achieved
    return {
        "chosen": decision.chosen,
        "best": decision.best,
        "sentence": decision.sentence,
        "comparisons": decision.to_dict()["comparisons"],
        "metric": metric_name(context, prepared),
        "threshold": None if threshold is None else threshold.to_dict(),
        "calibration": None if calibration is None else calibration.to_dict(),
        "metrics": {name: value.to_dict() for name, value in scores.items()},
    }


def goal(context: LineContext) -> Goal | None:
    """What the decision threshold shall reach; None where the settings do not say."""
    objective = context.spec.objective
    if objective.cost is not None and not objective.cost.columns:
        return Goal.read(objective.cost.model_dump())
    if objective.require is not None:
        floors = objective.require.model_dump(exclude={"confidence"}, exclude_none=True)
        return Goal.read(",".join(f"{name}>={floor!r}" for name, floor in floors.items()))
    return None if objective.threshold is None else Goal.read(objective.threshold)
