"""What an audit says of a planted table, held against what was planted and against the truth."""

from __future__ import annotations

import subprocess
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from leaks_planted import LeakType, Planted
from leaks_tables import Base

from loopline.audit.crossfit import NUM_FOLDS, OutOfFold, cross_fit, forward_folds
from loopline.audit.finding import Finding, Worth
from loopline.audit.price import Pricing
from loopline.audit.whole import Audited, audit_frame
from loopline.data.clean import CleanPolicy, apply_repairs, find_problems, plan_repairs
from loopline.data.inference import infer_schema
from loopline.data.schema import Schema, Task
from loopline.errors import DataError, LooplineError
from loopline.evaluate.intervals import estimate
from loopline.testing.splitters import view_of

ROOT = Path(__file__).resolve().parents[1]
TRAIN_SHARE = 0.8
FITTED_SHARE = TRAIN_SHARE * (NUM_FOLDS - 1) / NUM_FOLDS
"""Part of a table that the small model of a price is fitted on: two folds of the training side."""
MAX_UNTOUCHED = 8_000
NUM_TRUTHS = 6
HELD = 0.8
"""Copies that must be kept with their original for a leak of copies to count as found."""
TWINS = frozenset({"exact_duplicates", "near_duplicates"})
"""Models whose mean score on untouched rows is the truth."""


@dataclass(frozen=True)
class Case:
    """One planted table."""

    kind: LeakType
    base: Base
    strength: str
    value: Any

    def plant(self, seed: int) -> Planted | None:
        """The table, from a seed of its own."""
        named = f"{self.kind.name}|{self.base.name}|{self.strength}|{seed}"
        rng = np.random.default_rng(zlib.crc32(named.encode()))
        num_rows = min(self.kind.num_rows, self.base.frame.height * 2 // 5)
        a, b = self.base.parts(num_rows, int(rng.integers(2**31)))
        return self.kind.plant(self.base, a, b, self.value, rng)


def audited(
    frame: pl.DataFrame, target: str, task: Task | None, split: Any = None
) -> tuple[Audited, Schema]:
    """What `loopline audit` does to a table whose columns nobody has spoken about."""
    policy = CleanPolicy()
    schema = infer_schema(frame, target=target, task=task)
    repairs = plan_repairs(find_problems(frame, schema, policy=policy), policy)
    if repairs:
        frame = apply_repairs(frame, repairs).frame
        schema = infer_schema(frame, target=target, task=task)
    return audit_frame(frame, schema, split=split, pricing=Pricing()), schema


def blocks(finding: Finding) -> bool:
    """Whether the line would stop, or divide the rows otherwise."""
    return finding.severity in ("leak", "repairable")


def hits(planted: Planted, findings: tuple[Finding, ...]) -> list[Finding]:
    """The findings that name what was planted: loudly, or by what the line does about it."""
    return [
        finding
        for finding in findings
        if finding.check in planted.checks
        and (not planted.columns or planted.columns & set(finding.columns))
        and (finding.severity != "note" or handled(finding))
    ]


def handled(finding: Finding) -> bool:
    """Whether a line would stop, hold rows together, or go forward in time because of it."""
    applied = finding.remedy is not None and finding.remedy.applied
    return blocks(finding) or applied or finding.facts.get("kind") == "declared"


def together(planted: Planted, found: Audited) -> float:
    """Share of the planted copies that the proposed split keeps with their original."""
    if planted.units is None or found.split is None:
        return 0.0
    if found.split.units.size != planted.units.size:
        return 1.0  # copies were taken out
    first = np.full(int(planted.units.max()) + 1, -1)
    np.maximum.at(first, planted.units, found.split.units)
    sizes = np.bincount(planted.units)
    copies = sizes[planted.units] > 1
    return float((first[planted.units] == found.split.units)[copies].mean())


def measure(case: Case, seed: int) -> dict[str, Any] | None:
    """Plant, audit, and compare with the truth."""
    planted = case.plant(seed)
    if planted is None:
        return None
    start = time.perf_counter()
    try:
        found, schema = audited(planted.frame, case.base.target, case.base.task, planted.split)
    except LooplineError as error:  # an audit has to tell, not to stop
        return {
            "type": case.kind.name,
            "table": case.base.name,
            "strength": case.strength,
            "found": False,
            "blocked": False,
            "seen": [f"{type(error).__name__}: {error}"],
        }
    seconds = time.perf_counter() - start
    named = hits(planted, found.findings)
    caught = bool(named)
    kept_out = bool(planted.columns) and not planted.columns & set(schema.features)
    held = (
        together(planted, found)
        if planted.checks & TWINS and "groups" not in planted.checks
        else None
    )
    row: dict[str, Any] = {
        "type": case.kind.name,
        "table": case.base.name,
        "strength": case.strength,
        "rows": planted.frame.height,
        "found": caught and (held is None or held >= HELD),
        "blocked": (any(handled(finding) for finding in named) or kept_out)
        and (held is None or held >= HELD),
        "counted": case.kind.counted,
        "checks": sorted({finding.check for finding in named}),
        "seconds": round(seconds, 2),
    }
    if held is not None:
        row["held_together"] = round(held, 4)
    allowed = planted.checks if planted.priced_by is None else planted.priced_by
    priced = [each for each in named if each.worth is not None and each.check in allowed]
    if priced:
        row["price"] = against_truth(planted, case.base, priced[0])
    if planted.noise is not None and named:
        rate = named[0].facts["noise_rate"]
        row["noise"] = {
            "planted": round(planted.noise, 4),
            "estimate": [rate["value"], rate["low"], rate["high"]],
        }
    if not row["found"]:
        row["seen"] = [
            f"{finding.severity}: {finding.sentence[:200]}" for finding in found.findings[:4]
        ]
    return row


def against_truth(planted: Planted, base: Base, finding: Finding) -> dict[str, Any]:
    """The score if repaired beside the mean score of the same small model on untouched rows."""
    worth = finding.worth
    assert worth is not None
    # The untouched rows are a sample as well; their own error is told beside.
    truth, error = (series_truth if planted.series else true_score)(planted, base, worth)
    repaired, claimed = worth.repaired, worth.claimed
    reach = repaired.high - repaired.value if truth > repaired.value else (
        repaired.value - repaired.low
    )  # fmt: skip
    return {
        "metric": worth.metric,
        "claimed": round(claimed.value, 5),
        "repaired": [round(v, 5) for v in (repaired.value, repaired.low, repaired.high)],
        "truth": round(truth, 5),
        "truth_error": round(error, 5),
        "within": bool(repaired.low <= truth <= repaired.high),
        "within_both_errors": bool(abs(truth - repaired.value) <= np.hypot(reach, 1.96 * error)),
        "claim_within": bool(claimed.low <= truth <= claimed.high),
        "check": finding.check,
    }


def true_score(planted: Planted, base: Base, worth: Worth) -> tuple[float, float]:
    """Mean score on untouched rows of models fitted on clean rows, and its standard error."""
    clean, test = planted.clean, planted.test.select(planted.clean.columns).head(MAX_UNTOUCHED)
    schema = infer_schema(clean, target=base.target, task=base.task)
    view = view_of(pl.concat([clean, test], how="vertical_relaxed"), schema)
    units = np.arange(clean.height) if planted.units is None else planted.units
    names = np.unique(units)
    found = []
    for number in range(NUM_TRUTHS):
        drawn = np.random.default_rng(number).permutation(names)
        fitted = np.isin(units, drawn[: int(FITTED_SHARE * names.size)])
        fold = np.r_[np.where(fitted, 0, -1), np.ones(test.height, dtype=np.int64)]
        part = view.subset(np.flatnonzero(fold >= 0))
        model = "linear" if "linear" in worth.model else "lightgbm"
        said = cross_fit(part, fold[fold >= 0], forward=True, model=model, seed=number)
        found.append(_scored(worth.metric, base, part.target, said, said.fold == 1))
    value, error = np.mean(found, axis=0)
    return float(value), float(error)


def series_truth(planted: Planted, base: Base, worth: Worth) -> tuple[float, float]:
    """Mean score of the later by the earlier in other series of the same making, and its error."""
    found = []
    for series in planted.series:
        view = view_of(series, infer_schema(series, target=base.target, task=base.task))
        try:
            said = cross_fit(view, forward_folds(np.arange(series.height)), forward=True)
        except DataError:  # one class in the first quarter
            continue
        known = said.known
        if base.task == "regression" or np.unique(view.target[known]).size > 1:
            found.append(_scored(worth.metric, base, view.target, said, known)[0])
    return float(np.mean(found)), float(np.std(found) / np.sqrt(len(found)))


def _scored(
    metric: str, base: Base, y: np.ndarray, said: OutOfFold, rows: np.ndarray
) -> tuple[float, float]:
    """A score and its standard error."""
    prediction = said.prediction[rows]
    if base.task == "binary" and prediction.ndim == 2:
        prediction = prediction[:, 1]
    score = estimate(metric, y[rows], prediction)
    return score.value, (score.high - score.low) / 3.92


def control(base: Base) -> dict[str, Any]:
    """What an audit says of a clean table."""
    start = time.perf_counter()
    found, _ = audited(base.frame, base.target, base.task)
    wrong = [finding for finding in found.findings if blocks(finding)]
    warned = [finding for finding in found.findings if finding.severity == "warning"]
    return {
        "table": base.name,
        "rows": base.frame.height,
        "columns": base.frame.width,
        "blocking": [f"{each.check}: {each.sentence}" for each in wrong],
        "warnings": [f"{each.check}: {each.sentence[:160]}" for each in warned],
        "seconds": round(time.perf_counter() - start, 2),
    }


# --- what is prevented by construction ------------------------------------------------------------


def practice() -> dict[str, bool]:
    """Each test that cheats through the public interface, and whether the cheat failed."""
    file = "tests/audit/test_practice.py"
    command = [sys.executable, "-m", "pytest", file, "-q", "-rA", "--color=no", "-m", ""]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    found: dict[str, bool] = {}
    for line in said.splitlines():
        words = line.split(" ")
        if words[0] in ("PASSED", "FAILED", "ERROR") and len(words) > 1 and "::" in words[1]:
            name = words[1].split("::")[1].split("[")[0]
            found[name] = found.get(name, True) and words[0] == "PASSED"
    return found
