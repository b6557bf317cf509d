"""What a search leaves: the study as an artifact, and what summaries and reports tell of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from loopline.digest import value_digest
from loopline.evaluate.metrics import metric
from loopline.evaluate.rows import Units
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.race import metric_name, observed
from loopline.line.search_arms import Contest
from loopline.line.trial_scores import OUT_OF_FOLD, full
from loopline.models.base import Floats
from loopline.search.optimism import Optimism, corrected
from loopline.search.pruning import Step
from loopline.search.record import Record
from loopline.search.study import Study, best_of_each, counted_states
from loopline.seeds import child_seed
from loopline.splits.spec import FOLD_VALID
from loopline.store.artifacts import Artifact
from loopline.words import counted, figure, interval

STUDY = "study.json"
TIMES = "times.json"
STUDY_VERSION = 1


def study_artifact(
    context: LineContext,
    prepared: Prepared,
    study: Study,
    records: Sequence[Record],
    *,
    steps: Sequence[Step],
    contest: Contest,
) -> Artifact:
    """The study as an artifact: equal for equal studies, whatever they took."""
    best = best_of_each(study, records)
    whole = study.best(records)
    assert whole is not None
    trials = {
        f"trial{record.number}": record.artifact
        for record in records
        if record.artifact is not None
    }
    facts = {
        "metric": metric_name(context, prepared),
        "higher_is_better": study.higher,
        "sampler": study.sampler,
        "parallel": study.parallel,
        "seed": study.seed,
        "steps": [step.label for step in steps],
        "facts": contest.facts.to_dict(),
        "arms": [arm.to_dict() for arm in study.arms],
        "not_searched": dict(contest.reasons),
        "records": [record.facts() for record in records],
        "best": {name: record.number for name, record in best.items()},
        "winner": whole.number,
    }

    def make() -> Artifact:
        with context.reporter.step("correct the best score for having been chosen"):
            optimism = _optimism(context, prepared, records)
        data = {**facts, "optimism": None if optimism is None else optimism.to_dict()}
        times = {"seconds": [record.seconds for record in records]}

        def write(folder: Path) -> None:
            text = json.dumps(data, ensure_ascii=False, indent=1, sort_keys=True)
            (folder / STUDY).write_text(text, encoding="utf-8")
            (folder / TIMES).write_text(json.dumps(times), encoding="utf-8")

        return context.store.put(
            "study",
            write,
            meta={"num_trials": len(records)},
            inputs={"split": prepared.split_artifact.id, **trials},
            unhashed=(TIMES,),
        )

    return context.stage(
        "study",
        STUDY_VERSION,
        settings={"facts": value_digest(facts), "seed": context.spec.seed},
        inputs={"split": prepared.split_artifact.id, **trials},
        make=make,
        label="search",
    )


def _optimism(
    context: LineContext, prepared: Prepared, records: Sequence[Record]
) -> Optimism | None:
    """How much of the best score is luck, over all complete trials."""
    chosen = metric(metric_name(context, prepared))
    found: list[Floats] = []
    rows = None
    for record in records:
        if record.artifact is None:
            continue
        arrays = load_file(context.store.get(record.artifact).path(OUT_OF_FOLD))
        rows = arrays["rows"]
        found.append(full(arrays["prediction"]))
    if rows is None or len(found) < 2:
        return None
    view = prepared.outcomes.at(rows)
    units = Units.build(observed(prepared, view), len(rows))
    folds = prepared.split.folds[rows]
    which = (folds == FOLD_VALID).argmax(axis=1)
    scored = [
        chosen.rows(view.target, prediction, weight=view.weight, folds=which)
        for prediction in found
    ]
    seed = child_seed(context.spec.seed, "search", "optimism")
    return corrected(chosen, scored, units, seed=seed)


def describe(
    artifact: Artifact, *, study: str, reason: str, stopped: str, restored: int
) -> dict[str, Any]:
    """What a run's summary tells of a study: its counts, its best, what the best is worth.

    Args:
        artifact: as `study_artifact` gives it.
        study: the id under which the ledger has its trials.
        reason: why its sampler proposes.
        stopped: "budget" or "interrupted" where it did not come to its own end.
        restored: trials that were finished before.
    """
    data: dict[str, Any] = json.loads(artifact.path(STUDY).read_text(encoding="utf-8"))
    times = json.loads(artifact.path(TIMES).read_text(encoding="utf-8"))["seconds"]
    records = [Record.from_dict({**entry, "seconds": 0.0}) for entry in data["records"]]
    winner = records[data["winner"]]
    states = counted_states(records)
    return {
        "sentences": _sentences(data, states, winner, reason, stopped),
        "study": study,
        "artifact": artifact.id,
        "metric": data["metric"],
        "sampler": data["sampler"],
        "reason": reason,
        "trials": {"asked": len(records), **states, "restored": restored},
        "seconds": round(sum(times), 3),
        "stopped": stopped,
        "best": {
            "trial": winner.number,
            "candidate": winner.arm,
            "params": dict(winner.params),
            "value": winner.value,
        },
        "optimism": data["optimism"],
        "candidates": [_arm_facts(arm, records, data) for arm in data["arms"]],
    }


def _sentences(
    data: Mapping[str, Any], states: Mapping[str, int], winner: Record, reason: str, stopped: str
) -> list[str]:
    """The study for a person: how much was tried, what was found, what it is worth."""
    ended = {"budget": " until the time was over", "interrupted": " until it was interrupted"}
    told = [
        f"{counted(sum(states.values()), 'trial')}{ended.get(stopped, '')} "
        f"({states['complete']:,} complete, {states['pruned']:,} given up early, "
        f"{states['failed']:,} failed), {reason}.",
        f"The best is trial {winner.number} of {winner.arm} with {figure(winner.value)} "
        f"{data['metric']}.",
    ]
    optimism = data["optimism"]
    if optimism is not None:
        told.append(
            f"Chosen among {optimism['num_trials']:,} on these very rows, it is too good by about "
            f"{figure(optimism['optimism'])}: expect "
            f"{interval(optimism['corrected'], optimism['low'], optimism['high'])} of it."
        )
    return told


def _arm_facts(
    arm: dict[str, Any], records: Sequence[Record], data: dict[str, Any]
) -> dict[str, Any]:
    own = [record for record in records if record.arm == arm["name"]]
    number = data["best"].get(arm["name"])
    first = own[0] if own else None
    return {
        "name": arm["name"],
        "trials": len(own),
        **counted_states(own),
        "defaults": None if first is None else first.value,
        "best": None if number is None else records[number].value,
        "best_trial": number,
        "params": None if number is None else dict(records[number].params),
        "reason": own[-1].reason if own and number is None else "",
    }
