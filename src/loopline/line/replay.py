"""The replay stage: some training rows are named, and what the model says of them is kept.

The promotion gate (`loopline.release.promote`) sends them through the packaged release later.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from loopline.data.clean import repair_values
from loopline.data.cleaning.repair import VALUE_KINDS
from loopline.data.fingerprint import row_digests
from loopline.data.snapshot import Snapshot, open_snapshot
from loopline.errors import IntegrityError
from loopline.evaluate.calibration import Calibration
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.prepare import Plan
from loopline.line.project import read_json
from loopline.models.base import Floats
from loopline.models.families import family
from loopline.release.replay import FILE, KIND, NUM_ROWS, row_places
from loopline.seeds import child_seed
from loopline.store.artifacts import Artifact


def replay(
    context: LineContext,
    source: Artifact,
    plan: Plan,
    prepared: Prepared,
    choice: Artifact,
    model: Artifact,
) -> Artifact:
    """Keep the digests of up to 1,000 training rows with their predictions.

    Families that take long for a row keep as many rows as their importance is measured on.
    """
    kind = family(model.meta["family"])
    settings = {
        "num_rows": min(NUM_ROWS, kind.importance_rows),
        "seed": child_seed(context.spec.seed, "replay"),
    }
    inputs = {
        "snapshot": source.inputs["snapshot"],
        "plan": plan.artifact.id,
        "split": prepared.split_artifact.id,
        "choice": choice.id,
        "model": model.id,
    }

    def make() -> Artifact:
        view = prepared.train.sample(settings["num_rows"], settings["seed"])
        raw = kind.load(model.path("model")).predict_view(view)
        decision = read_json(choice, "choice.json")
        if decision["calibration"]:
            raw = Calibration.from_dict(decision["calibration"]).apply(raw)
        threshold = None if decision["threshold"] is None else decision["threshold"]["value"]
        before = open_snapshot(context.store, source.inputs["snapshot"])
        tensors = {
            "rows": _as_they_came(before, prepared.snapshot, plan, view.digests),
            "raw": np.ascontiguousarray(raw),
            "codes": _codes(raw, threshold, several=prepared.schema.task == "multilabel"),
        }

        def write(folder: Path) -> None:
            save_file(tensors, folder / FILE)

        return context.store.put(KIND, write, meta={"num_rows": view.num_rows}, inputs=inputs)

    return context.stage("replay", 1, settings=settings, inputs=inputs, make=make)


def _as_they_came(
    before: Snapshot, after: Snapshot, plan: Plan, rows: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Digests in the source's snapshot of rows that are known by those after the repairs."""
    if before.id == after.id:
        return np.ascontiguousarray(rows)
    repairs = [repair for repair in plan.repairs if repair.kind in VALUE_KINDS]
    repaired = repair_values(before.frame(), repairs).select(after.columns)
    places = row_places(row_digests(repaired), rows)
    if (places < 0).any():
        raise IntegrityError(
            f"{int((places < 0).sum())} rows of {after.id} are no repaired rows of {before.id}. "
            "Remove the store's plan of this line with `loopline gc --keep 0`, and run it again."
        )
    return np.ascontiguousarray(np.asarray(before.rows())[places])


def _codes(raw: Floats, threshold: float | None, *, several: bool) -> NDArray[np.int64]:
    """Class codes of predictions, or which of several labels each row gets; none for regression."""
    if raw.ndim == 1:
        return np.empty(0, dtype=np.int64)
    if several:
        return (raw >= (0.5 if threshold is None else threshold)).astype(np.int64)
    if threshold is not None:
        return (raw[:, 1] >= threshold).astype(np.int64)
    return np.asarray(np.argmax(raw, axis=1), dtype=np.int64)
