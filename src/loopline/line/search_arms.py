"""The candidates of a search: what is searched of each, and what earlier searches found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from loopline.data.schema import Schema
from loopline.digest import value_digest
from loopline.errors import SettingsError
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.race import candidates, fit_settings, metric_name, resolve_params
from loopline.line.search_spec import SearchSpec
from loopline.line.spec import Candidate
from loopline.line.trial_scores import fold_sizes
from loopline.models.families import family
from loopline.models.space import DataFacts, Dimension, read_space
from loopline.search.arms import Arm
from loopline.search.record import Record, better
from loopline.store.ledger import Ledger
from loopline.words import nearest

STARTED = "study.started"
TRIAL = "trial.finished"
WARM_STUDIES = 3
"""Earlier studies that are looked at, the latest ones."""


@dataclass(frozen=True)
class Contest:
    """Who is searched and who is only raced.

    Args:
        arms: the candidates with something to search, in the order of simplicity.
        searched: their entries in the settings, by name.
        others: the candidates that take part as they are.
        facts: what the families were told of the data.
        reasons: why each of the others is not searched, by name.
    """

    arms: tuple[Arm, ...]
    searched: Mapping[str, Candidate]
    others: tuple[Candidate, ...]
    facts: DataFacts
    reasons: Mapping[str, str]


def contest(context: LineContext, prepared: Prepared, search: SearchSpec) -> Contest:
    """Divide the candidates into those that are searched and the others.

    Raises:
        SettingsError: nothing is left to search, or settings that do not fit this table.
    """
    entries = candidates(context, prepared.schema)
    num_folds, num_rows = fold_sizes(prepared)
    del num_folds
    facts = DataFacts.of(prepared.schema, num_rows)
    arms: list[Arm] = []
    searched: dict[str, Candidate] = {}
    others: list[Candidate] = []
    reasons: dict[str, str] = {}
    problems: list[str] = []
    for entry in entries:
        if search.families and entry.family not in search.families:
            others.append(entry)
            reasons[entry.name] = "not among `search.families`"
            continue
        try:
            space = space_of(entry, facts, search)
        except SettingsError as error:
            problems += [f"`search.space`: {problem}" for problem in error.problems]
            continue
        if not space:
            others.append(entry)
            own = family(entry.family).space(facts)
            reasons[entry.name] = (
                "`models` and `search.space` leave none of its parameters to be searched"
                if own
                else "the family has nothing to search here"
            )
            continue
        defaults = resolve_params(context, prepared, entry, num_rows)
        arms.append(
            Arm(
                name=entry.name,
                family=entry.family,
                complexity=family(entry.family).complexity,
                space=space,
                fixed=dict(entry.params),
                defaults={name: defaults[name] for name in space},
            )
        )
        searched[entry.name] = entry
    problems += _start_problems(arms, search)
    if not arms and not problems:
        told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        problems = [f"`search` has nothing to search ({told}). Name a family with a space."]
    if problems:
        raise SettingsError(problems)
    arms = [replace(arm, seeds=tuple(search.start.get(arm.name, ()))) for arm in arms]
    return Contest(tuple(arms), searched, tuple(others), facts, reasons)


def space_of(entry: Candidate, facts: DataFacts, search: SearchSpec) -> dict[str, Dimension]:
    """What is searched of a candidate: its family's space, the file's ranges, less what is given.

    Dimensions that can have no effect beside what is given are left out.
    """
    kind = family(entry.family)
    usual = kind.defaults(facts.task, facts.num_rows)
    given = search.space.get(entry.family, {})
    space = read_space(entry.family, given, kind.space(facts), usual, kind.rules)
    free = {name: dimension for name, dimension in space.items() if name not in entry.params}
    settled = {**usual, **entry.params}
    return {
        name: dimension
        for name, dimension in free.items()
        if all(
            settled.get(other) in allowed if other not in free else True
            for other, allowed in dimension.when.items()
        )
    }


def _start_problems(arms: Sequence[Arm], search: SearchSpec) -> list[str]:
    named = {arm.name: arm for arm in arms}
    problems = [
        f"`search.turns` names {name}, which is not searched."
        for name in dict.fromkeys(search.turns)
        if name not in named
    ]
    for name, entries in search.start.items():
        if name not in named:
            problems.append(f"`search.start` names {name}, which is not searched.")
            continue
        arm = named[name]
        for entry in entries:
            for parameter, value in entry.items():
                if parameter not in arm.space:
                    problems.append(
                        f"`search.start.{name}`: `{parameter}` is not searched. "
                        f"{nearest(parameter, arm.space)}"
                    )
                elif not arm.space[parameter].contains(value):
                    problems.append(
                        f"`search.start.{name}`: `{parameter}` is {value!r}, outside of its range "
                        f"{arm.space[parameter].to_dict()}."
                    )
    return problems


def column_key(schema: Schema) -> str:
    """Identity of what is predicted from what: the same columns, target and task."""
    columns = sorted(
        (column.name, column.type, column.role)
        for column in schema.columns
        if column.role in ("feature", "target", "group", "time")
    )
    return value_digest([columns, schema.task, list(schema.classes)])


def study_id(
    context: LineContext,
    prepared: Prepared,
    contested: Contest,
    sampler: str,
    search: SearchSpec,
    version: int,
) -> str:
    """Identity of a study: all that its trials depend on but how many there are.

    So a study that was stopped, or is given more trials or time, goes on where it was.
    """
    arms = [{**arm.to_dict(), "seeds": None, "lead": None} for arm in contested.arms]
    fits = {
        name: fit_settings(context, prepared, entry) for name, entry in contested.searched.items()
    }
    return "study-" + value_digest(
        {
            "version": version,
            "split": prepared.split_artifact.id,
            "snapshot": prepared.plan.snapshot_id,
            "metric": metric_name(context, prepared),
            "arms": arms,
            "fits": fits,
            "sampler": sampler,
            "parallel": search.parallel,
            "prune": search.prune,
            "start": search.start,
            "seed": context.spec.seed,
        }
    )


def warm_seeds(
    ledger: Ledger, study: str, key: str, arms: Sequence[Arm], metric: str, *, higher: bool
) -> tuple[Arm, ...]:
    """The arms with the best parameters that earlier studies of the same columns found.

    Args:
        ledger: of the project.
        study: this study, which does not count.
        key: `column_key` of the table.
        arms: the candidates.
        metric: only studies by the same metric count.
        higher: whether a higher value is better.
    """
    earlier = [
        event
        for event in ledger.events(kind=STARTED, newest_first=True)
        if event.data["columns"] == key
        and event.data["metric"] == metric
        and event.subject not in (None, study)
    ]
    subjects = list(dict.fromkeys(event.subject for event in earlier))[:WARM_STUDIES]
    found: dict[str, list[Mapping[str, Any]]] = {arm.name: list(arm.seeds) for arm in arms}
    for subject in subjects:
        records = [
            Record.from_dict(event.data["record"])
            for event in ledger.events(kind=TRIAL, subject=subject)
        ]
        for arm in arms:
            best = _best(records, arm, higher)
            if best is not None and best not in (*found[arm.name], arm.defaults):
                found[arm.name].append(best)
    return tuple(replace(arm, seeds=tuple(found[arm.name])) for arm in arms)


def _best(records: Sequence[Record], arm: Arm, higher: bool) -> dict[str, Any] | None:
    """An earlier study's best parameters of an arm that lie in its space; None when none do."""
    best: Record | None = None
    for record in records:
        if record.arm != arm.name or record.state != "complete" or record.value is None:
            continue
        if set(record.params) != set(arm.space):
            continue
        if not all(arm.space[name].contains(value) for name, value in record.params.items()):
            continue
        if best is None or better(record.value, float(best.value or 0.0), higher):
            best = record
    return None if best is None else dict(best.params)
