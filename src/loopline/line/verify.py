"""`loopline verify`: prove again, from the bytes and the rows, what an artifact says of itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import load_file

from loopline.audit.structure import near_duplicates, same_clusters
from loopline.data.schema import Schema
from loopline.data.snapshot import open_snapshot
from loopline.errors import IntegrityError, NotFoundError
from loopline.evaluate.calibration import Calibration
from loopline.line.divide import certificate_facts
from loopline.line.finish import load_model
from loopline.line.official import PART, whole_rows
from loopline.line.project import Project, read_json
from loopline.line.structure import read_alike, with_roles
from loopline.progress import Reporter, SilentReporter
from loopline.release.lineage import lineage
from loopline.splits.split import Split
from loopline.splits.verify import verify as prove_split
from loopline.store.artifacts import Artifact


@dataclass(frozen=True)
class Proof:
    """What was proved, one sentence a proof.

    Args:
        id: the artifact.
        sentences: what holds.
    """

    id: str
    sentences: tuple[str, ...]


def verify(project: Project, which: str, reporter: Reporter | None = None) -> Proof:
    """Prove an artifact and everything it was made from.

    Bytes against manifests for every artifact of its lineage; the digest of every row for
    snapshots; zero overlap for splits; the stored test predictions for releases.

    Raises:
        IntegrityError: the first proof that fails.
    """
    reporter = reporter or SilentReporter()
    root = project.resolve(which)
    nodes = lineage(project.store, root.id)
    sentences: list[str] = []
    with reporter.step(f"prove {root.id[:20]}…", total=len(nodes.ancestors)) as step:
        for node in nodes.ancestors:
            step.describe(node.kind)
            project.store.verify(node.id)
            artifact = project.store.get(node.id)
            proof = _PROOFS.get(node.kind)
            if proof is not None:
                try:
                    sentences.append(proof(project, artifact))
                except NotFoundError as error:
                    sentences.append(f"{artifact.id[:20]}…: not proved. {error}")
            step.advance()
    files = sum(len(project.store.get(node.id).files) for node in nodes.ancestors)
    sentences.insert(
        0, f"{files} files of {len(nodes.ancestors)} artifacts have the bytes of their manifests."
    )
    if nodes.missing:
        sentences.append(
            f"{len(nodes.missing)} artifacts of the lineage were collected and not proved: "
            + ", ".join(name[:24] for name in nodes.missing[:5])
        )
    return Proof(root.id, tuple(sentences))


def _snapshot(project: Project, artifact: Artifact) -> str:
    snapshot = open_snapshot(project.store, artifact.id)
    snapshot.verify()
    return (
        f"{artifact.id[:20]}…: {snapshot.num_rows:,} rows give the digest {snapshot.digest[:12]}…"
    )


def _split(project: Project, artifact: Artifact) -> str:
    snapshot = open_snapshot(project.store, artifact.inputs["snapshot"])
    schema = _schema(project, artifact)
    value = Split.load(artifact.path())
    frame = snapshot.frame()
    certificate = prove_split(
        value,
        frame,
        schema,
        digests=np.array(snapshot.rows()),
        feature_digests=whole_rows(frame) if PART in frame.columns else None,
        alike=_alike_again(project, artifact, frame, np.array(snapshot.rows())),
    )
    return f"{artifact.id[:20]}…: {certificate_facts(certificate, frame.columns)['sentence']}"


def _schema(project: Project, split: Artifact) -> Schema:
    """The schema that a split was made with: the plan's, and the roles that the audit added."""
    plan = project.store.get(split.inputs["plan"])
    schema = Schema.from_dict(read_json(plan, "plan.json")["schema"])
    if "structure" not in split.inputs:
        return schema
    return with_roles(schema, project.store.get(split.inputs["structure"]))


def _alike_again(
    project: Project,
    split: Artifact,
    frame: pl.DataFrame,
    digests: NDArray[np.uint64],
) -> NDArray[np.int64] | None:
    """Near duplicates looked for anew, where the split says that it keeps them together."""
    if "structure" not in split.inputs:
        return None
    structure = project.store.get(split.inputs["structure"])
    stored = read_alike(structure, digests)
    if stored is None:
        return None
    plan = project.store.get(split.inputs["plan"])
    before = Schema.from_dict(read_json(plan, "plan.json")["schema"])
    fresh = near_duplicates(frame, before, seed=structure.meta["seed"])
    if fresh is None or not same_clusters(fresh, stored):
        raise IntegrityError(
            f"{structure.id}: the rows have other near duplicates than stored. The rows or the "
            "search for them have changed; run the line again."
        )
    return stored


def _evaluation(project: Project, artifact: Artifact) -> str:
    if "prediction.safetensors" not in artifact.files:
        return f"{artifact.id[:20]}…: there are no test rows."
    stored = load_file(artifact.path("prediction.safetensors"))["prediction"]
    split = project.store.get(artifact.inputs["split"])
    snapshot = open_snapshot(project.store, split.inputs["snapshot"])
    schema = _schema(project, split)
    value = Split.load(split.path()).align(snapshot.rows())
    test = value.test_view(snapshot.frame(), schema, snapshot.rows())
    prediction = load_model(project.store.get(artifact.inputs["model"])).predict_view(test)
    decision = read_json(project.store.get(artifact.inputs["choice"]), "choice.json")
    if decision["calibration"]:
        prediction = Calibration.from_dict(decision["calibration"]).apply(prediction)
    largest = float(np.max(np.abs(prediction - stored))) if len(stored) else 0.0
    scale = max(1.0, float(np.max(np.abs(stored)))) if len(stored) else 1.0
    if largest > 1e-6 * scale:
        raise IntegrityError(
            f"{artifact.id}: the model predicts its {len(stored):,} test rows otherwise than "
            f"stored (largest difference {largest:.3g}). The model or the libraries have changed."
        )
    same = "bit by bit" if np.array_equal(prediction, stored) else f"within {largest:.1e}"
    return f"{artifact.id[:20]}…: {len(stored):,} test predictions are made again {same}."


_PROOFS = {"snapshot": _snapshot, "split": _split, "evaluation": _evaluation}
