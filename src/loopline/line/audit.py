"""The audit's stages after the split: columns that carry the answer, and rows worth a look.

What is found is decided here, by `audit` in the settings:

- left out: what splitting or grouping can repair is repaired; a column that gives the answer away
  stops the run, because only a person knows whether it will be there when predicting;
- `repair`: such columns are left out of the features too, and the summary says so first;
- `strict`: whatever would make a score untrue stops the run;
- `report`: nothing is changed and nothing stops; everything is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from safetensors.numpy import load_file

from loopline.audit.crossfit import OutOfFold
from loopline.audit.finding import Finding, Remedy, ranked
from loopline.audit.labels import label_findings, review_labels
from loopline.audit.quality import quality_findings
from loopline.audit.whole import leak_findings, reviewable
from loopline.data.schema import is_audited
from loopline.errors import LeakError, SettingsError
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.race import Raced
from loopline.line.structure import Structured, pricing, refuse_strictly
from loopline.store.artifacts import Artifact

AUDIT_VERSION = 9
REVIEW_VERSION = 6
NOT_AUDITED = (
    "Rows with several labels: the audit looks for copies and near duplicates; columns that give "
    "the answer away, groups, times and wrong labels are not looked for. Give groups and times "
    "their roles under `columns`."
)


def audit(context: LineContext, prepared: Prepared) -> tuple[Artifact, Prepared]:
    """Look for columns that carry the answer; stop, or go on without them, as the settings say.

    Raises:
        LeakError: columns give the answer away and nobody has decided about them.
        SettingsError: `allow_leaks` names columns that are not suspected.
    """
    spec = context.spec

    def make() -> Artifact:
        findings: list[Finding] = []
        if is_audited(prepared.schema.task):
            findings = leak_findings(
                prepared.train,
                prepared.test,
                prepared.table,
                pricing=pricing(context),
                reporter=context.reporter,
            )
        elif prepared.schema.task == "multilabel":
            findings = [Finding("not_looked_for", "warning", NOT_AUDITED)]
        return context.store.put(
            "audit",
            lambda folder: None,
            meta={"findings": [finding.to_dict() for finding in ranked(findings)]},
            inputs={"split": prepared.split_artifact.id},
        )

    artifact = context.stage(
        "audit",
        AUDIT_VERSION,
        settings={"seed": spec.seed},
        inputs={"split": prepared.split_artifact.id},
        make=make,
    )
    findings = found_in(artifact)
    leaks = [finding for finding in findings if finding.severity == "leak"]
    _refuse_idle(context, prepared, leaks)
    open_leaks = [
        finding
        for finding in leaks
        if not all(name in spec.allow_leaks for name in finding.columns)
    ]
    told = [finding for finding in findings if finding.severity != "note"]
    if spec.audit == "strict":
        refuse_strictly([finding for finding in findings if finding not in leaks] + open_leaks)
    if open_leaks and spec.audit is None:
        _refuse(open_leaks)
    for finding in told:
        context.reporter.note(finding.sentence)
    if spec.audit != "repair":
        return artifact, prepared
    gone = sorted({name for finding in open_leaks for name in finding.columns})
    if gone:
        context.reporter.note(_left_out(gone))
    return artifact, prepared.without(gone)


def found_in(artifact: Artifact) -> list[Finding]:
    """The findings in an audit artifact."""
    return [Finding.from_dict(entry) for entry in artifact.meta["findings"]]


def _left_out(columns: Sequence[str]) -> str:
    return (
        f"LEFT OUT of the features by `audit: repair`: {', '.join(columns)}. They give the answer "
        "away; without them the score is lower and true."
    )


def _refuse(leaks: Sequence[Finding]) -> None:
    names = sorted({name for finding in leaks for name in finding.columns})
    told = " ".join(finding.sentence for finding in leaks)
    listed = ", ".join(f"{name}: {{role: ignore}}" for name in names)
    raise LeakError(
        f"The features give the answer away. {told} A score made with them would not hold for "
        f"new rows. Leave them out with `columns: {{{listed}}}` or `audit: repair`; or, if they "
        f"are truly known when predicting, list them in `allow_leaks: [{', '.join(names)}]`."
    )


def _refuse_idle(context: LineContext, prepared: Prepared, leaks: Sequence[Finding]) -> None:
    suspects = {name for finding in leaks for name in finding.columns}
    problems = []
    for name in context.spec.allow_leaks:
        known = name in prepared.schema.features
        if name not in suspects:
            problems.append(
                f"`allow_leaks` names {name!r}, which is "
                + ("not suspected of a leak" if known else "not a feature")
                + ": it has no effect. Remove it."
            )
    if problems:
        raise SettingsError(problems)


def review(context: LineContext, prepared: Prepared, raced: Sequence[Raced]) -> Artifact:
    """Look for wrong labels and poor rows with the race's own out-of-fold predictions."""
    best = best_known(raced)

    def make() -> Artifact:
        train = prepared.train
        types = {column.name: column.type for column in prepared.schema.columns}
        with context.reporter.step("look for wrong labels and poor rows"):
            findings = quality_findings(
                train,
                {name: types[name] for name in prepared.schema.features},
                view=train if is_audited(train.schema.task) else None,
                pricing=pricing(context),
            )
            out = None if best is None else out_of_fold(context, prepared, best)
            if out is not None and reviewable(out):
                findings += label_findings(review_labels(out, seed=context.spec.seed), train)
        return context.store.put(
            "review",
            lambda folder: None,
            meta={"findings": [finding.to_dict() for finding in ranked(findings)]},
            inputs=inputs,
        )

    inputs = {"split": prepared.split_artifact.id}
    if best is not None:
        inputs["candidate"] = best.artifact.id
    return context.stage(
        "review",
        REVIEW_VERSION,
        settings={"seed": context.spec.seed, "left_out": list(prepared.left_out)},
        inputs=inputs,
        make=make,
    )


def best_known(raced: Sequence[Raced]) -> Raced | None:
    """The candidate that knows the rows best; a constant knows nothing of them."""
    able = [entry for entry in raced if entry.spec.family != "baseline"]

    def loss(entry: Raced) -> float:
        metrics = entry.meta["metrics"]
        value = (metrics.get("log_loss") or metrics.get("rmse") or {}).get("value")
        return float("inf") if value is None else float(value)

    return min(able, key=loss, default=None)


def out_of_fold(context: LineContext, prepared: Prepared, entry: Raced) -> OutOfFold:
    """What a candidate's folds predicted, proved to be out of fold."""
    rows, predictions, fitted = [], [], []
    names = entry.fold_roles
    for number in range(len(names)):
        part = context.store.get(entry.artifact.inputs[f"fold{number}"])
        arrays = load_file(part.path("prediction.safetensors"))
        rows.append(arrays["rows"])
        predictions.append(arrays["prediction"])
        fitted.append(prepared.fold(number)[0].positions)
    return OutOfFold.of_folds(prepared.train, rows, predictions, fitted, entry.spec.name)


def remarks(findings: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Audit findings as a summary lists them; what was left out is said first and loudly."""
    told = []
    for finding in findings:
        applied = bool((finding["remedy"] or {}).get("applied"))
        sentence = finding["sentence"]
        if finding["severity"] == "leak" and applied:
            sentence = f"LEFT OUT: {' and '.join(finding['columns'])}. {sentence}"
        told.append(
            {"kind": finding["check"], "severity": finding["severity"], "sentence": sentence}
        )
    return told


def summary_of(
    structured: Structured, audited: Artifact, reviewed: Artifact, prepared: Prepared
) -> list[dict[str, Any]]:
    """All findings of a run, worst first, as plain data."""
    gone = set(prepared.left_out)
    findings = list(structured.findings) + found_in(audited) + found_in(reviewed)
    marked = [
        replace(finding, remedy=replace(finding.remedy or Remedy(""), applied=True))
        if finding.severity == "leak" and gone.issuperset(finding.columns)
        else finding
        for finding in findings
    ]
    return [finding.to_dict() for finding in ranked(marked)]
