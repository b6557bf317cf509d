"""`loopline search`: the search of a line by itself, and the spaces that it would search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopline.line.audit import audit
from loopline.line.context import LineContext
from loopline.line.divide import Prepared, split
from loopline.line.prepare import ingest, plan
from loopline.line.project import Project
from loopline.line.search import begin, search
from loopline.line.search_spec import SearchSpec
from loopline.line.source import source_key
from loopline.line.spec import Spec
from loopline.line.structure import structure
from loopline.progress import Reporter


@dataclass(frozen=True)
class Spaces:
    """What a line would search.

    Args:
        facts: what the families were told of the data.
        method: who would propose, and why.
        steps: what a trial is made of, in order.
        candidates: by name: family and parameters, each with its range, default and condition.
        not_searched: why each of the other candidates is not searched.
    """

    facts: dict[str, Any]
    method: str
    steps: tuple[str, ...]
    candidates: dict[str, dict[str, Any]]
    not_searched: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**vars(self), "steps": list(self.steps)}


def search_alone(
    project: Project, spec: Spec, folder: Path, reporter: Reporter, started: float | None = None
) -> dict[str, Any]:
    """Run the search of a line: no race, no choice, no test row is looked at.

    A later `loopline run` of the same file finds every trial.

    Returns:
        What a run's summary tells of its search.
    """
    context, prepared = _prepared(project, spec, folder, reporter, started)
    found = search(context, prepared)
    project.ledger.append("artifact", subject=found.artifact.id, data={"what": "study"})
    return found.summary


def show_spaces(project: Project, spec: Spec, folder: Path, reporter: Reporter) -> Spaces:
    """Tell what a line would search, by the facts of its data; nothing is fitted."""
    context, prepared = _prepared(project, spec, folder, reporter, None)
    hunt = begin(context, prepared)
    candidates = {
        arm.name: {
            "family": arm.family,
            "given": dict(arm.fixed),
            "parameters": {
                name: {**dimension.to_dict(), "default": arm.defaults[name]}
                for name, dimension in arm.space.items()
            },
        }
        for arm in hunt.contest.arms
    }
    return Spaces(
        hunt.contest.facts.to_dict(),
        hunt.decision.reason,
        tuple(step.label for step in hunt.steps),
        candidates,
        dict(hunt.contest.reasons),
    )


def _prepared(
    project: Project, spec: Spec, folder: Path, reporter: Reporter, started: float | None
) -> tuple[LineContext, Prepared]:
    """The line up to its split, as a run has it."""
    if spec.search is None:
        spec = spec.model_copy(update={"search": SearchSpec()})
    context = LineContext(spec, folder, project.store, project.ledger, reporter)
    if started is not None:
        context.started = started
    source = ingest(context, source_key(context, None), None)
    planned = plan(context, source)
    structured = structure(context, planned)
    _, prepared = audit(context, split(context, planned, structured))
    return context, prepared


def described(parameter: dict[str, Any]) -> str:
    """A parameter's range for a person.

    >>> described({"kind": "number", "low": 0.01, "high": 0.3, "log": True, "default": 0.05})
    '0.01 … 0.3, log scale, default 0.05'
    """
    if parameter["kind"] == "choice":
        text = ", ".join(str(option) for option in parameter["options"])
    else:
        text = f"{parameter['low']:g} … {parameter['high']:g}"
        text += ", log scale" if parameter["log"] else ""
    for name, values in parameter.get("when", {}).items():
        text += f", where {name} is {' or '.join(str(value) for value in values)}"
    return f"{text}, default {parameter['default']}"
