"""The model card: what a release is, how good and how sure, written from its facts only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopline.evaluate.metrics import in_order
from loopline.words import estimate


def model_card(facts: Mapping[str, Any]) -> str:
    """Write the model card of a release as Markdown.

    Args:
        facts: the content of ``release.json``.
    """
    certificate = facts["certificate"]
    lines = [
        f"# {facts['name']}",
        "",
        f"Predicts `{facts['target']}` ({_task(facts)}) with the family `{facts['family']}`.",
        "",
        "## Data",
        f"- {facts['num_rows']['train']:,} training rows, {facts['num_rows']['test']:,} test rows.",
        f"- {facts['split']}",
        f"- {certificate['sentence']}",
        f"- Inputs: {', '.join(f'`{name}`' for name in _features(facts))}.",
        "",
        "## Choice",
        facts["choice"],
        "",
        "## Scores",
        "95 % intervals in brackets. Out of fold: cross-validation on training rows. Test: rows "
        "that no stage had seen, opened for this release.",
        "",
        "| metric | out of fold | test |",
        "|---|---|---|",
    ]
    scores = facts["metrics"]
    lines += [
        f"| {name} | {estimate(scores['out_of_fold'][name])} "
        f"| {estimate(scores['test'].get(name))} |"
        for name in in_order(scores["out_of_fold"], facts["objective"]["metric"])
    ]
    if facts["threshold"] is not None:
        lines += ["", "## Decision", facts["threshold"]["sentence"]]
    lines += [
        "",
        "## Limits",
        "- The scores hold for rows that come about as these did; for others they are unknown.",
        f"- Columns not used: {_unused(facts) or 'none'}.",
        "- Intervals speak of sampling error, not of wrong labels or of a world that changes.",
        "",
        "## Where it comes from",
        *[f"- {role}: `{name}`" for role, name in facts["lineage"].items()],
        f"- seed {facts['seed']}, {facts['threads']} threads, code `{facts['code'][:16]}`",
        f"- {', '.join(f'{name} {version}' for name, version in facts['environment'].items())}",
        "",
    ]
    return "\n".join(lines)


def _task(facts: Mapping[str, Any]) -> str:
    if facts["task"] == "regression":
        return "regression"
    classes = ", ".join(f"`{label}`" for label in facts["classes"][:12])
    more = f" and {len(facts['classes']) - 12} more" if len(facts["classes"]) > 12 else ""
    return f"{facts['task']}: {classes}{more}"


def _features(facts: Mapping[str, Any]) -> list[str]:
    return [column["name"] for column in facts["schema"]["columns"] if column["role"] == "feature"]


def _unused(facts: Mapping[str, Any]) -> str:
    return "; ".join(
        f"`{column['name']}` ({column['role']}: {column['reason']})"
        for column in facts["schema"]["columns"]
        if column["role"] not in ("feature", "target")
    )
