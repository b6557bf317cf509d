"""The facts of a release: what it needs to answer, and what else it tells of itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loopline.data.cleaning.repair import VALUE_KINDS
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.prepare import Plan
from loopline.line.race import further_metrics, metric_name
from loopline.release.bundle import RELEASE_FORMAT
from loopline.store.artifacts import Artifact


def served_facts(
    context: LineContext,
    source: Artifact,
    plan: Plan,
    prepared: Prepared,
    model: Artifact,
    contract: Mapping[str, Any],
    decision: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a release needs to answer rows.

    Args:
        context: the line.
        source: the source's artifact.
        plan: repairs and schema.
        prepared: the split rows.
        model: holds the fitted model.
        contract: what an input must look like.
        decision: threshold and calibration; None for a model that was not chosen yet.
    """
    spec = context.spec
    chosen = decision or {"threshold": None, "calibration": None}
    return {
        "format": RELEASE_FORMAT,
        "name": spec.line_name,
        "family": model.meta["family"],
        "params": model.meta["params"],
        "task": prepared.schema.task,
        "target": prepared.schema.target,
        "classes": list(prepared.schema.classes),
        "schema": prepared.schema.to_dict(),
        "contract": dict(contract),
        "repairs": [repair.to_dict() for repair in plan.repairs if repair.kind in VALUE_KINDS],
        "table_format": source.meta["format"],
        "objective": {
            "metric": metric_name(context, prepared),
            "further": list(further_metrics(context, prepared)),
        },
        "threshold": chosen["threshold"],
        "calibration": chosen["calibration"],
        "spec": {**spec.portable(), **context.settled},
        "seed": spec.seed,
        "threads": spec.num_threads,
    }


def copy_model(model: Artifact, folder: Path) -> None:
    """Copy a fitted model's files into the folder of a release."""
    (folder / "model").mkdir()
    for name in model.files:
        if name.startswith("model/"):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(model.path(name).read_bytes())
