"""The whole audit of one table: structure, split, leaks, shift, labels and poor rows.

What a line does stage by stage, here in one go and without a store, for a table that nobody has
decided about yet. Labels are read on the training side of the split that the audit itself proposes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.audit.columns import column_findings
from loopline.audit.crossfit import OutOfFold, assign_folds
from loopline.audit.finding import Finding, Remedy, ranked
from loopline.audit.labels import FEWEST_ROWS as FEWEST_LABELS
from loopline.audit.labels import label_findings, review_labels
from loopline.audit.price import Pricing
from loopline.audit.quality import quality_findings
from loopline.audit.quality_images import is_image_column
from loopline.audit.shift import FEWEST_ROWS, shift_findings
from loopline.audit.structure import Structure, find_structure, twin_findings
from loopline.audit.wide import narrowed
from loopline.data.duplicates.find import find_duplicates
from loopline.data.fingerprint import row_digests
from loopline.data.schema import Schema, has_classes, is_audited
from loopline.errors import SplitError
from loopline.progress import Reporter, SilentReporter
from loopline.splits.feasible import make_feasible_split
from loopline.splits.rows import digest_codes
from loopline.splits.split import Split
from loopline.splits.views import TestView, TrainView


@dataclass(frozen=True)
class Audited:
    """The audit of a table.

    Args:
        findings: worst first.
        split: the split that the audit proposes; None without a target.
        reason: why it is cut so.
    """

    findings: tuple[Finding, ...]
    split: Split | None
    reason: str


def audit_frame(
    frame: pl.DataFrame,
    schema: Schema,
    digests: NDArray[np.uint64] | None = None,
    *,
    split: Mapping[str, Any] | None = None,
    feature_digests: NDArray[np.uint64] | None = None,
    decided: Collection[str] = (),
    pricing: Pricing | None = None,
    reporter: Reporter | None = None,
) -> Audited:
    """Look for everything that would make a score on this table untrue.

    Args:
        frame: all rows.
        schema: types, roles and task.
        digests: (rows, 2) row digests; computed when absent.
        split: what a person decided about the split (see `propose_split`).
        feature_digests: (rows, 2) digests that say which rows are copies; those of the features
            when absent.
        decided: columns whose role a person has set.
        pricing: how prices are measured.
        reporter: hears of progress.

    Raises:
        DataError: the target cannot be used.
        SplitError: the table cannot be divided.
    """
    pricing, reporter = pricing or Pricing(), reporter or SilentReporter()
    known = row_digests(frame) if digests is None else digests
    structure = find_structure(
        frame,
        schema,
        known,
        split=split,
        feature_digests=feature_digests,
        decided=decided,
        pricing=pricing,
        reporter=reporter,
    )
    schema = structure.applied(schema)
    value, reason, hindrance = _divided(
        frame, schema, known, structure, split, feature_digests, pricing
    )
    train = value.train_view(frame, schema, known)
    test = value.test_view(frame, schema, known)
    findings = [*structure.findings, *([hindrance] if hindrance else [])]
    findings += leak_findings(train, test, frame, pricing=pricing, reporter=reporter)
    findings += _row_findings(train, frame, findings, pricing, reporter)
    return Audited(tuple(ranked(findings)), value, reason)


def _divided(
    frame: pl.DataFrame,
    schema: Schema,
    digests: NDArray[np.uint64],
    structure: Structure,
    split: Mapping[str, Any] | None,
    feature_digests: NDArray[np.uint64] | None,
    pricing: Pricing,
) -> tuple[Split, str, Finding | None]:
    """The split, why it is cut so, and what is in the way of an honest one.

    The audit tells what a line would refuse; so that the columns are looked at all the same, the
    rows are then dealt at random.
    """

    def made(given: Mapping[str, Any] | None) -> tuple[Split, str]:
        return make_feasible_split(
            frame,
            schema,
            digests,
            given,
            seed=pricing.seed,
            copies=feature_digests,
            alike=structure.alike,
        )

    try:
        return (*made(split), None)
    except SplitError as error:
        declared = schema.with_role("time") + schema.with_role("group")
        if not declared or (split or {}).get("method", "auto") != "auto":
            raise
        method = "stratified" if has_classes(schema.task) else "random"
        loose = {**(split or {}), "method": method, "ignore_structure": True}
        return (*made(loose), _no_split(declared, error))


def _no_split(columns: tuple[str, ...], error: SplitError) -> Finding:
    told = " and ".join(repr(name) for name in columns)
    return Finding(
        check="no_split",
        severity="warning",
        sentence=f"The table cannot be divided by {told}, so no score of it would be honest. "
        f"{error}",
        columns=columns,
        confidence=1.0,
        remedy=Remedy(
            "Use a finer column, more rows, other shares, or give the column another role."
        ),
    )


def leak_findings(
    train: TrainView,
    test: TestView,
    frame: pl.DataFrame,
    *,
    pricing: Pricing,
    reporter: Reporter,
) -> list[Finding]:
    """Columns that carry the answer, and what moved between the sides.

    Args:
        train: the training rows.
        test: the test rows' features; may be empty.
        frame: the whole table, for columns that are no features (ids, names, times).
        pricing: how prices are measured.
        reporter: hears of progress.
    """
    others = [
        column.name
        for column in train.schema.columns
        if column.role in ("id", "ignore", "group", "time")
    ]
    extra = frame.select(others)[train.positions] if others else None
    held_out = test if test.num_rows else None
    with reporter.step("look for columns that carry the answer"):
        findings = column_findings(train, pricing=pricing, extra=extra, test=held_out)
    if min(train.num_rows, test.num_rows) >= FEWEST_ROWS:
        with reporter.step("compare the sides of the split"):
            findings += shift_findings(narrowed(train), test, pricing=pricing)
    return findings


def _pictures(frame: pl.DataFrame, schema: Schema) -> list[str]:
    """Columns of images that are no features, as paths seldom are; some of them can be found."""
    return [
        column.name
        for column in schema.columns
        if column.role in ("id", "ignore")
        and is_image_column(frame[column.name])
        and (
            frame[column.name].dtype == pl.Binary()
            or any(Path(path).is_file() for path in frame[column.name].drop_nulls().head(20))
        )
    ]


def _row_findings(
    train: TrainView,
    frame: pl.DataFrame,
    findings: list[Finding],
    pricing: Pricing,
    reporter: Reporter,
) -> list[Finding]:
    """Poor rows and wrong labels, seen without the columns that give the answer away."""
    gone = {name for finding in findings if finding.severity == "leak" for name in finding.columns}
    view = train.without(sorted(gone & set(train.schema.features)))
    types = {column.name: column.type for column in view.schema.columns}
    if not view.schema.features:
        return []
    with reporter.step("look for wrong labels and poor rows"):
        pictures = _pictures(frame, view.schema)
        rows: pl.DataFrame | TrainView = view
        if pictures:
            rows = view.frame().with_columns(frame[name][view.positions] for name in pictures)
        poor = quality_findings(
            rows,
            {name: types[name] for name in view.schema.features} | dict.fromkeys(pictures, "image"),
            view=view,
            pricing=pricing,
        )
        fold = assign_folds(view, view.units, seed=pricing.seed)
        out = pricing.fit(view, fold)
        if not reviewable(out):
            return poor
        return poor + label_findings(review_labels(out, seed=pricing.seed), view)


def reviewable(out: OutOfFold) -> bool:
    """Whether labels can be reviewed at all: enough predicted rows, and two classes of them.

    A text that is predicted, or found, has no label; several labels a row are not reviewed yet.
    """
    if not is_audited(out.view.schema.task):
        return False
    target = out.view.target[out.known]
    return target.size >= FEWEST_LABELS and np.unique(target).size > 1


def audit_features(
    frame: pl.DataFrame,
    types: Mapping[str, str],
    *,
    pricing: Pricing | None = None,
    reporter: Reporter | None = None,
) -> Audited:
    """What can be said of a table without a target: twins and poor rows.

    Args:
        frame: the rows.
        types: column → type.
        pricing: only its seed is used.
        reporter: hears of progress.
    """
    pricing, reporter = pricing or Pricing(), reporter or SilentReporter()
    with reporter.step("look for duplicates"):
        found = find_duplicates(frame, types, seed=pricing.seed)
    exact = digest_codes(row_digests(frame))
    findings = twin_findings(found, frame, None, exact, found.clusters, pricing)
    with reporter.step("look for poor rows"):
        findings += quality_findings(frame, types)
    return Audited(tuple(ranked(findings)), None, "")
