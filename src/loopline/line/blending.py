"""Blends of the candidates, for `select: best`: made of what the race fitted, scored honestly.

A blend takes part in the choice like any other candidate, as the most complex of all. Its fold
models are blends of the members' fold models, with weights that were chosen on the other folds.
The released one has weights of all rows, and each of its members is half the mean of its folds'
models (bagging) and half a model of all rows; so is a single model that scored best. Where folds
follow each other in time, early ones know little, so each member is fitted on all rows alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from loopline.evaluate.metrics import metric
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.race import (
    PREDICTION,
    Raced,
    fit_view,
    metric_name,
    resolve_params,
    score_candidate,
)
from loopline.line.spec import Candidate
from loopline.models.base import FittedModel, Floats
from loopline.models.blend import Blend, BlendFamily
from loopline.models.families import family
from loopline.models.portable_blend import Combiner
from loopline.seeds import child_seed
from loopline.select.blend import Fit, cross_fitted, greedy, stacked
from loopline.store.artifacts import Artifact

NAMES = ("blend", "stack")
COMBINER = "combiner.json"


def blends(context: LineContext, prepared: Prepared, raced: Sequence[Raced]) -> list[Raced]:
    """The greedy blend and the stack of the candidates; none where there is nothing to blend."""
    members = [entry for entry in raced if family(entry.spec.family).complexity > 0]
    blendable = prepared.schema.task in BlendFamily.tasks
    if context.spec.select != "best" or len(members) < 2 or not blendable:
        return []
    seed = child_seed(context.spec.seed, "blend")
    ways: dict[str, Fit] = {
        "blend": greedy(metric(metric_name(context, prepared)), seed),
        "stack": stacked,
    }
    with context.reporter.step("blend the candidates", total=len(ways)) as step:
        found = []
        for name in NAMES:
            found.append(_blended(context, prepared, members, name, ways[name]))
            step.advance()
    return found


def _blended(
    context: LineContext, prepared: Prepared, members: Sequence[Raced], name: str, way: Fit
) -> Raced:
    entry = Candidate(name=name, family="blend")
    inputs = {f"member {member.spec.name}": member.artifact.id for member in members}
    settings = {
        "way": name,
        "metric": metric_name(context, prepared),
        "seed": context.spec.seed,
        "forward": _forward(prepared),
    }
    weighed = context.stage(
        "weigh",
        2,
        settings=settings,
        inputs=inputs,
        make=lambda: _weigh(context, prepared, members, inputs, way),
        label=f"weigh {name}",
    )
    count = len(members[0].fold_roles)
    parts = [_fold(context, prepared, members, weighed, name, number) for number in range(count)]
    scored = score_candidate(context, prepared, entry, parts)
    return Raced(entry, scored, tuple(members), weighed)


def _forward(prepared: Prepared) -> bool:
    """Whether folds follow each other in time."""
    return prepared.train.order is not None


def _weigh(
    context: LineContext,
    prepared: Prepared,
    members: Sequence[Raced],
    inputs: dict[str, str],
    way: Fit,
) -> Artifact:
    rows, _ = members[0].predictions()
    folds = members[0].folds()
    view = prepared.outcomes.at(rows)
    combined, combiners, whole = cross_fitted(
        way,
        [member.predictions()[1] for member in members],
        view.target,
        folds,
        weight=view.weight,
        forward=_forward(prepared),
    )

    def write(folder: Path) -> None:
        arrays = {"rows": rows, "fold": folds, "prediction": np.ascontiguousarray(combined)}
        save_file(arrays, folder / PREDICTION)
        data = {"folds": [each.to_dict() for each in combiners], "whole": whole.to_dict()}
        (folder / COMBINER).write_text(json.dumps(data), encoding="utf-8")

    names = [member.spec.name for member in members]
    return context.store.put("weights", write, meta={"members": names}, inputs=inputs)


def _fold(
    context: LineContext,
    prepared: Prepared,
    members: Sequence[Raced],
    weighed: Artifact,
    name: str,
    number: int,
) -> Artifact:
    """The blend of one fold's models, with what it says of the fold's validation rows."""
    role = f"fold{number}"
    inputs = {"weights": weighed.id, "split": prepared.split_artifact.id}
    inputs |= {member.spec.name: member.artifact.inputs[role] for member in members}

    def make() -> Artifact:
        models = [[_model(context, member, role)] for member in members]
        blend = Blend(prepared.schema.task, models, _combiner(weighed, number), _names(members))
        rows, prediction = _predicted(weighed, number)
        seconds = sum(_seconds(context, member, role) for member in members)

        def write(folder: Path) -> None:
            (folder / "model").mkdir()
            blend.save(folder / "model")
            save_file({"rows": rows, "prediction": prediction}, folder / PREDICTION)
            (folder / "times.json").write_text(json.dumps({"fit_seconds": round(seconds, 4)}))

        meta = {"candidate": name, "family": "blend", "fold": number, "params": blend.params}
        return context.store.put(
            "foldfit", write, meta=meta, inputs=inputs, unhashed=("times.json",)
        )

    return context.stage(
        "blendfold",
        1,
        settings={"name": name, "fold": number},
        inputs=inputs,
        make=make,
        label=f"{name} fold {number + 1}",
    )


def final_model(context: LineContext, prepared: Prepared, winner: Raced) -> FittedModel:
    """The model that is released of the candidate that was chosen."""
    if winner.weighed is not None:
        combiner, members = _combiner(winner.weighed, None), winner.members
    elif averaged(context, prepared, winner):
        combiner, members = Combiner("mean", (1.0,)), (winner,)
    else:
        return _on_all_rows(context, prepared, winner)
    models: list[list[FittedModel]] = []
    weights: list[float] = []
    names: list[str] = []
    for member, weight in zip(members, combiner.weights, strict=True):
        if weight == 0:
            continue
        parts = {f"{member.spec.name} of all rows": [_on_all_rows(context, prepared, member)]}
        if not _forward(prepared):
            parts[f"{member.spec.name} of the folds"] = [
                _model(context, member, role) for role in member.fold_roles
            ]
        for name, part in parts.items():
            models.append(part)
            weights.append(weight / len(parts))
            names.append(name)
    whole = replace(combiner, weights=tuple(weights))
    return Blend(prepared.schema.task, models, whole, names)


def averaged(context: LineContext, prepared: Prepared, winner: Raced) -> bool:
    """Whether a single model is released together with those of its folds.

    Not where limits are set: they were held against one model.
    """
    return (
        context.spec.select == "best"
        and not context.spec.constraints.limits().given
        and not _forward(prepared)
        and family(winner.spec.family).complexity > 0
        and prepared.schema.task in BlendFamily.tasks
        and len(winner.fold_roles) > 1
    )


def _on_all_rows(context: LineContext, prepared: Prepared, member: Raced) -> FittedModel:
    """A model of all training rows, with what the candidate's folds learned of themselves."""
    train = prepared.train
    params = resolve_params(context, prepared, member.spec, train.num_rows)
    params |= family(member.spec.family).consolidate(member.meta["params"])
    return fit_view(context, prepared, member.spec, train, params, "final", stop_early=False)


def _model(context: LineContext, member: Raced, role: str) -> FittedModel:
    part = context.store.get(member.artifact.inputs[role])
    return family(member.spec.family).load(part.path("model"))


def _seconds(context: LineContext, member: Raced, role: str) -> float:
    part = context.store.get(member.artifact.inputs[role])
    return float(json.loads(part.path("times.json").read_text("utf-8"))["fit_seconds"])


def _names(members: Sequence[Raced]) -> list[str]:
    return [member.spec.name for member in members]


def _combiner(weighed: Artifact, number: int | None) -> Combiner:
    data = json.loads(weighed.path(COMBINER).read_text("utf-8"))
    return Combiner.from_dict(data["whole"] if number is None else data["folds"][number])


def _predicted(weighed: Artifact, number: int) -> tuple[NDArray[np.int64], Floats]:
    from safetensors.numpy import load_file

    arrays = load_file(weighed.path(PREDICTION))
    here = arrays["fold"] == number
    return arrays["rows"][here], np.ascontiguousarray(arrays["prediction"][here])
