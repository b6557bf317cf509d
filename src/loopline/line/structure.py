"""The structure stage: what belongs together, found before the rows are divided."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.audit.finding import Finding
from loopline.audit.price import Pricing
from loopline.audit.structure import Structure, find_structure
from loopline.data.schema import Schema
from loopline.errors import LeakError
from loopline.line.context import LineContext
from loopline.line.official import PART, whole_rows
from loopline.line.prepare import Plan
from loopline.seeds import child_seed
from loopline.store.artifacts import Artifact

VERSION = 6
ALIKE_FILE = "alike.parquet"


@dataclass(frozen=True)
class Structured:
    """What the structure stage found; read from its artifact.

    Args:
        artifact: roles, findings and near duplicates.
        plan: the plan that it goes with.
    """

    artifact: Artifact
    plan: Plan

    @property
    def findings(self) -> list[Finding]:
        """What was found, with prices."""
        return [Finding.from_dict(entry) for entry in self.artifact.meta["findings"]]

    @cached_property
    def schema(self) -> Schema:
        """The plan's schema with the roles that were found."""
        return with_roles(self.plan.schema, self.artifact)

    def alike(self, digests: NDArray[np.uint64]) -> NDArray[np.int64] | None:
        """Code of the near duplicates of each row, for rows named by their digests."""
        return read_alike(self.artifact, digests)


def with_roles(schema: Schema, structure: Artifact) -> Schema:
    """A plan's schema with the roles that a structure artifact adds."""
    for name, (role, reason) in structure.meta["roles"].items():
        schema = schema.changed(name, role=role, reason=reason)
    return schema


def read_alike(structure: Artifact, digests: NDArray[np.uint64]) -> NDArray[np.int64] | None:
    """Codes of near duplicates from a structure artifact; None when there are none.

    Args:
        structure: the artifact.
        digests: (rows, 2) digests of the rows, in the order that is wanted.
    """
    if ALIKE_FILE not in structure.files:
        return None
    known = pl.read_parquet(structure.path(ALIKE_FILE), glob=False)
    rows = pl.DataFrame({"a": digests[:, 0], "b": digests[:, 1]})
    codes = rows.join(known, on=["a", "b"], how="left", maintain_order="left")["code"]
    alone = np.arange(digests.shape[0], dtype=np.int64) + known.height
    return np.where(codes.is_null().to_numpy(), alone, codes.fill_null(0).to_numpy())


def write_alike(path: Path, codes: NDArray[np.int64], digests: NDArray[np.uint64]) -> None:
    """Write the rows that have near duplicates, by their digests, numbered by first digest."""
    sizes = np.bincount(codes)
    chosen = sizes[codes] > 1
    first, second, cluster = digests[chosen, 0], digests[chosen, 1], codes[chosen]
    order = np.lexsort((second, first))
    _, start, place = np.unique(cluster[order], return_index=True, return_inverse=True)
    number = np.argsort(np.argsort(start, kind="stable"), kind="stable")
    rows = {"a": first[order], "b": second[order], "code": number[place].astype(np.int64)}
    pl.DataFrame(rows).unique(["a", "b"], keep="first", maintain_order=True).write_parquet(path)


def structure(context: LineContext, plan: Plan) -> Structured:
    """Look for near duplicates, groups and time; the split keeps what is found."""
    spec = context.spec
    decided = sorted(name for name, column in spec.columns.items() if column.role is not None)
    given: dict[str, Any] = spec.split.model_dump(exclude_none=True)
    settings: dict[str, Any] = {
        "mode": spec.audit,
        "split": given,
        "official": spec.data.test is not None,
        "decided": decided,
        "seed": spec.seed,
    }
    inputs = {"snapshot": plan.snapshot_id, "plan": plan.artifact.id}

    def make() -> Artifact:
        snapshot = context.snapshot(plan.snapshot_id)
        frame, digests = snapshot.frame(), np.asarray(snapshot.rows())
        official = {"method": "predefined", "column": PART} if PART in frame.columns else {}
        found = find_structure(
            frame,
            plan.schema,
            digests,
            split={**given, **official},
            feature_digests=whole_rows(frame, digests) if PART in frame.columns else None,
            decided=decided,
            near=spec.split.duplicates is None and spec.audit != "report",
            choose=spec.audit != "report",
            pricing=pricing(context),
            reporter=context.reporter,
        )
        context.let_go(snapshot)
        return _put(context, found, digests, inputs)

    artifact = context.stage("structure", VERSION, settings=settings, inputs=inputs, make=make)
    structured = Structured(artifact, plan)
    for finding in structured.findings:
        if finding.severity in ("leak", "repairable"):
            context.reporter.note(finding.sentence)
    if spec.audit == "strict":
        refuse_strictly(structured.findings)
    return structured


def refuse_strictly(findings: list[Finding]) -> None:
    """Stop for whatever would make a score untrue.

    Raises:
        LeakError: with every such finding.
    """
    wrong = [finding for finding in findings if finding.severity in ("leak", "repairable")]
    if wrong:
        raise LeakError(
            "`audit: strict` stops here. "
            + " ".join(finding.sentence for finding in wrong)
            + " Mend the data or name the structure in the settings, or let `audit: repair` do it."
        )


def pricing(context: LineContext) -> Pricing:
    """How this run measures what a finding is worth."""
    return Pricing(seed=child_seed(context.spec.seed, "audit"), threads=context.spec.num_threads)


def _put(
    context: LineContext, found: Structure, digests: NDArray[np.uint64], inputs: dict[str, str]
) -> Artifact:
    def write(folder: Path) -> None:
        if found.alike is not None:
            write_alike(folder / ALIKE_FILE, found.alike, digests)

    return context.store.put(
        "structure",
        write,
        meta={
            "seed": pricing(context).seed,
            "roles": {name: list(role) for name, role in found.roles.items()},
            "findings": [finding.to_dict() for finding in found.findings],
        },
        inputs=inputs,
    )
