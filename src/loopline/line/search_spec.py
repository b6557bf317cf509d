"""The `search` part of the settings: what is searched, how, and for how long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from loopline.data.schema import Task
from loopline.errors import SettingsError
from loopline.line.quantities import read_duration
from loopline.models.base import Family
from loopline.models.space import DataFacts, read_space
from loopline.words import nearest

DEFAULT_TRIALS = 50
TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")


def _as_names(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Duration = Annotated[
    float,
    BeforeValidator(read_duration),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]}),
]


class SearchSpec(BaseModel):
    """A search for the best parameters of the candidates."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Literal["auto", "grid", "random", "bayesian"] = Field(
        "auto",
        description="How parameters are proposed; `auto` decides by the size of the space, the "
        "number of trials and what one costs, and tells why.",
    )
    trials: int | None = Field(
        None,
        ge=1,
        description="Trials at most, all families together (default 50 without a `budget`).",
    )
    budget: Duration | None = Field(
        None,
        gt=0,
        description="Time for the whole run, from its start to its report: seconds, or `90s`, "
        "`10m`, `1h30m`.",
    )
    parallel: int = Field(
        1, ge=1, le=1024, description="Trials at a time, each in a process with its share of cores."
    )
    prune: bool = Field(
        True, description="Give up trials that are measurably worse before all folds are fitted."
    )
    warm: bool = Field(
        True,
        description="Try first what earlier searches of this project on the same columns found.",
    )
    families: Annotated[tuple[str, ...], BeforeValidator(_as_names)] = Field(
        (), description="The families to search (default: all of `models` that have a space)."
    )
    space: dict[str, dict[str, Any]] = Field(
        {},
        description="Ranges in place of a family's own: `{lightgbm: {num_leaves: [15, 255]}}`; "
        "null leaves a parameter at its default.",
    )
    without_time: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (),
        description="Numbers of trials for which there was no time; a run under a `budget` puts "
        "them down, so that it can be made again.",
    )
    turns: tuple[str, ...] = Field(
        (),
        description="Whose turn each trial is, from the first, by the candidate's name; a run "
        "under a `budget` puts them down, so that it can be made again.",
    )
    start: dict[str, list[dict[str, Any]]] = Field(
        {}, description="Parameters to try after the defaults, by candidate, in this order."
    )


def search_problems(
    search: SearchSpec,
    models: Sequence[tuple[str, str, Mapping[str, Any]]],
    task: Task | None,
    *,
    listed: bool,
) -> list[str]:
    """What is wrong with a search, one sentence each.

    Args:
        search: the part of the settings.
        models: name, family and given parameters of each candidate.
        task: where the settings give it.
        listed: whether the settings name the candidates, so that no other can come.
    """
    from loopline.models.families import FAMILY_NAMES, family

    problems: list[str] = []
    families = list(dict.fromkeys(entry[1] for entry in models))
    for key, named in (("families", search.families), ("space", tuple(search.space))):
        for name in named:
            if name not in FAMILY_NAMES:
                known = nearest(name, FAMILY_NAMES)
                problems.append(f"`search.{key}`: there is no family `{name}`. {known}")
            elif listed and name not in families:
                problems.append(
                    f"`search.{key}` names {name}, which is not among `models` "
                    f"({', '.join(families)}). Add it there, or leave it out here."
                )
    for name in set(search.space) & set(search.families or families) & set(FAMILY_NAMES):
        given = search.space[name]
        problems += _space_problems(family(name), given, task)
        fixed = [set(params) for _, kind, params in models if kind == name]
        both = sorted(set.intersection(*fixed) & set(given)) if fixed else []
        problems += [
            f"`search.space.{name}.{each}` has no effect: `models` gives `{each}` a value. "
            "Keep one of the two."
            for each in both
        ]
    if search.families:
        problems += [
            f"`search.space.{name}` has no effect: `search.families` leaves {name} out."
            for name in search.space
            if name not in search.families and name in FAMILY_NAMES
        ]
    names = [entry[0] for entry in models]
    problems += [
        f"`search.{key}` names {name}, which is no candidate. {nearest(name, names)}"
        for key, named in (("start", search.start), ("turns", dict.fromkeys(search.turns)))
        for name in named
        if listed and name not in names
    ]
    return problems


def _space_problems(kind: Family, given: Mapping[str, Any], task: Task | None) -> list[str]:
    """Problems under the task, or under every task that it could be."""
    told: list[str] = []
    for each in sorted(kind.tasks) if task is None else [task]:
        facts = DataFacts(each, 1_000, {}, 2)
        try:
            own = kind.space(facts)
            read_space(kind.name, given, own, kind.defaults(each, 1_000), kind.rules)
        except SettingsError as error:
            told = told or [f"`search.space`: {problem}" for problem in error.problems]
        else:
            return []
    return told
