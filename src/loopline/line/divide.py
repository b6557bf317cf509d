"""The split stage: rows divided and proved, and the views that later stages read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.schema import Schema
from loopline.data.snapshot import Snapshot
from loopline.line.context import LineContext
from loopline.line.official import PART, whole_rows
from loopline.line.prepare import Plan
from loopline.line.structure import Structured
from loopline.splits.certificate import WINDOW, Certificate
from loopline.splits.feasible import make_feasible_split
from loopline.splits.rows import feature_digests_of
from loopline.splits.spec import TRAIN
from loopline.splits.split import Split
from loopline.splits.views import TestView, TrainView, encode_target
from loopline.store.artifacts import Artifact

LEFT_OUT_REASON = "left out by the audit: it gives the answer away"
WINDOW_REASON = "the end of the label's window (`split.label_end`), known only after the outcome"


class Prepared:
    """The rows of a run, divided: opened only when a stage has to compute."""

    def __init__(
        self,
        context: LineContext,
        plan: Plan,
        schema: Schema,
        split: Artifact,
        left_out: Sequence[str] = (),
    ) -> None:
        self._context = context
        self.plan = plan
        for name in left_out:
            schema = schema.changed(name, role="ignore", reason=LEFT_OUT_REASON)
        self.schema = schema
        self.left_out = tuple(left_out)
        self.split_artifact = split

    def without(self, columns: Sequence[str]) -> Prepared:
        """The same rows with fewer features."""
        if not columns:
            return self
        return Prepared(self._context, self.plan, self.schema, self.split_artifact, columns)

    @cached_property
    def snapshot(self) -> Snapshot:
        """The snapshot that the split divides."""
        return self._context.snapshot(self.plan.snapshot_id)

    @cached_property
    def table(self) -> pl.DataFrame:
        """All rows; views take columns from it."""
        return self.snapshot.frame()

    @cached_property
    def split(self) -> Split:
        """The division, in the row order of the snapshot."""
        return Split.load(self.split_artifact.path()).align(self.snapshot.rows())

    @cached_property
    def train(self) -> TrainView:
        """All training rows."""
        return self.split.train_view(self.table, self.schema, self.snapshot.rows())

    @cached_property
    def outcomes(self) -> TrainView:
        """All training rows without a feature: enough to score, at a fraction of the table."""
        kept = [column for column in self.schema.columns if column.role in ("target", "weight")]
        table = self.snapshot.scan().select([column.name for column in kept]).collect()
        schema = replace(self.schema, columns=tuple(kept))
        return self.split.train_view(table, schema, self.snapshot.rows())

    def let_go(self) -> None:
        """Let a large table go from memory; whoever asks for features reads it again."""
        if self._context.let_go(self.snapshot):
            for name in ("table", "train", "test"):
                self.__dict__.pop(name, None)

    def fold(self, number: int) -> tuple[TrainView, TrainView]:
        """Training and validation rows of one fold."""
        return self.split.fold_views(number, self.train)

    @cached_property
    def test(self) -> TestView:
        """The features of the test rows."""
        return self.split.test_view(self.table, self.schema, self.snapshot.rows())


def split(context: LineContext, plan: Plan, structured: Structured) -> Prepared:
    """Divide the rows, and prove it."""
    spec, schema = context.spec, structured.schema
    if spec.split.label_end is not None:
        schema = schema.changed(spec.split.label_end, reason=WINDOW_REASON)
    settings: dict[str, Any] = {
        "split": spec.split.model_dump(exclude_none=True),
        "official": spec.data.test is not None,
        "seed": spec.seed,
    }
    inputs = {
        "snapshot": plan.snapshot_id,
        "plan": plan.artifact.id,
        "structure": structured.artifact.id,
    }

    def make() -> Artifact:
        with context.reporter.step("divide the rows"):
            snapshot = context.snapshot(plan.snapshot_id)
            frame = snapshot.frame()
            given = dict(settings["split"])
            if spec.data.test is not None:
                given |= {"method": "predefined", "column": PART}

            @cache
            def of_features() -> NDArray[np.uint64]:
                return feature_digests_of(frame, schema, np.asarray(snapshot.rows()))

            value, reason = make_feasible_split(
                frame,
                schema,
                snapshot.rows(),
                given,
                seed=spec.seed,
                feature_digests=of_features,
                copies=(
                    whole_rows(frame, np.asarray(snapshot.rows()))
                    if PART in frame.columns
                    else None
                ),
                alike=structured.alike(snapshot.rows()),
            )
            if PART in frame.columns:
                reason = "The official test file gives the test rows."
            reason += _unlearned(frame, schema, value)

        context.let_go(snapshot)

        def write(folder: Path) -> None:
            value.save(folder)
            (folder / "reason.txt").write_text(reason, encoding="utf-8")

        return context.store.put(
            "split",
            write,
            meta={
                "reason": reason,
                "certificate": certificate_facts(value.certificate, frame.columns),
            },
            inputs=inputs,
        )

    artifact = context.stage(
        "split",
        4,
        settings=settings,
        inputs=inputs,
        make=make,
    )
    return Prepared(context, plan, schema, artifact)


def _unlearned(frame: pl.DataFrame, schema: Schema, split: Split) -> str:
    """A sentence on labels of which no training row has one; "" where there is none."""
    if schema.task != "multilabel":
        return ""
    rows = np.flatnonzero(split.side == TRAIN)
    known = np.flatnonzero(encode_target(frame[schema.target], schema, rows).any(axis=0))
    seen = {schema.classes[code] for code in known.tolist()}
    absent = [repr(label) for label in schema.classes if label not in seen]
    if not absent:
        return ""
    shown = ", ".join(absent[:5]) + (" …" if len(absent) > 5 else "")
    have = "a label stands" if len(absent) == 1 else f"{len(absent):,} labels stand"
    return f" No training row has {shown}: {have} in the test rows only, and cannot be learned."


def certificate_facts(certificate: Certificate, columns: Sequence[str]) -> dict[str, Any]:
    """The certificate as plain data, with one sentence for people.

    With an official test file the claim on equal features is one on whole rows (`whole_rows`), and
    is named so.
    """
    data = certificate.to_dict()
    if PART in columns:
        for claim in data["claims"]:
            if claim["structure"] == "features":
                claim["structure"] = "whole rows"
                claim["sentence"] = claim["sentence"].replace("features", "whole rows")
    proven = sorted(
        {
            claim["structure"]
            for claim in data["claims"]
            if claim["required"] and claim["straddling"] == 0
        }
    )
    names = {
        "rows": "no row",
        "features": "no two rows with equal features",
        "whole rows": "no two rows equal in every column",
        "near duplicates": "no near duplicates",
    }
    told = [
        names.get(name, f"no {name.removeprefix('group ')}")
        for name in proven
        if name not in ("time", WINDOW)
    ]
    sentence = f"Proved: {', '.join(told) or 'nothing'} on both sides of any split or fold"
    if WINDOW in proven:
        sentence += ", no label window of training meets one that is held out"
    if "time" in proven:
        sentence += ", and every validation or test row is later than what was trained on"
    return {**data, "sentence": sentence + "."}
