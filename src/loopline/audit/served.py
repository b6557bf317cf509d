"""Empty cells that tell the label, and columns that will not be there when predicting."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.audit.alike import value_codes
from loopline.audit.evidence import Evidence
from loopline.audit.finding import Finding, Remedy, Severity
from loopline.audit.skill import Skill, Skills
from loopline.data.schema import has_classes
from loopline.splits.views import TestView, TrainView

Ints = NDArray[np.int64]
TELLS = 0.5
"""Skill of which cells are empty that is told as a warning."""
GIVES_AWAY = 0.9
STEEP = 3.0
LEFT_OPEN = 0.02
ONE_SIDED = 0.995
MIN_FILLED = 30
MIN_TEST_ROWS = 20
LOOK_ROWS = 5_000
"""A look at so many rows spares the rest where no value is common."""
LOOK_SLACK = 0.05
GONE = 0.99
"""Share of test cells that are empty, or equal, in a column that is not there when serving."""
PRESENT = 0.5


def mask_findings(evidence: Evidence, skills: Skills, leaks: Collection[str]) -> list[Finding]:
    """Whether being empty tells the label: of single columns, and of all together.

    Args:
        evidence: the small models of the view.
        skills: single-column skills of the same view.
        leaks: columns that are out already.
    """
    view = skills.view
    masks: dict[str, Ints] = {}
    for name in view.schema.features:
        if name in leaks:
            continue
        empty = view.column(name).is_null().to_numpy()
        if 0.005 <= empty.mean() <= 0.995:
            masks[name] = empty.astype(np.int64)
    found = []
    for names in _alike(masks):
        each = _mask(names, masks[names[0]], evidence, skills, leaks)
        if each is not None:
            found.append(each)
    told = {name for each in found for name in each.columns}
    rest = [name for name in masks if name not in told]
    if len(rest) >= 2:
        together = _together(rest, masks, skills)
        if together is not None:
            found.append(together)
    return found


def _alike(masks: Mapping[str, Ints]) -> list[tuple[str, ...]]:
    """Columns that are empty on the same rows, as those that one join brought in."""
    groups: dict[bytes, list[str]] = {}
    for name, mask in masks.items():
        groups.setdefault(np.packbits(mask.astype(bool)).tobytes(), []).append(name)
    return [tuple(names) for names in groups.values()]


def _mask(
    names: tuple[str, ...],
    mask: Ints,
    evidence: Evidence,
    skills: Skills,
    leaks: Collection[str],
) -> Finding | None:
    skill = skills.of_codes(mask)
    one_sided = _one_sided(mask, skills)
    if skill.value < TELLS and one_sided is None:
        return None
    severity: Severity = "warning"
    if skill.value >= GIVES_AWAY:
        others = evidence.skill_without({*leaks, *names})
        if others is not None and others.error >= max(LEFT_OPEN, STEEP * skill.error):
            severity = "leak"
    told = " and ".join(repr(name) for name in names[:5]) + (" and more" if len(names) > 5 else "")
    several = len(names) > 1
    if one_sided is not None:
        label, rows = one_sided
        verb = "are" if several else "is"
        text = f"{told} {verb} filled in on {rows:,} rows, nearly all of class {label!r}"
    else:
        text = f"Whether {told} {'are' if several else 'is'} empty tells the label ({skill.told()})"
    them = "they seem" if several else "it seems"
    return Finding(
        check="missing_tells",
        severity=severity,
        sentence=f"{text}: {them} to be filled in after the outcome is known.",
        columns=names,
        num_rows=int((mask == 0).sum()),
        share=float((mask == 0).mean()),
        rows=tuple(int(row) for row in skills.view.positions[np.flatnonzero(mask == 0)[:5]]),
        confidence=round(min(0.95, 0.4 + skill.value / 2), 3),
        remedy=Remedy(
            f"Leave {told} out, unless {'they are' if several else 'it is'} filled in before the "
            "outcome.",
            {"columns": {name: {"role": "ignore"} for name in names}},
        ),
        facts={"skill": round(skill.value, 4), "estimate": skill.estimate.to_dict()},
    )


def _one_sided(mask: Ints, skills: Skills) -> tuple[object, int] | None:
    """The class that nearly all filled rows have, where that cannot be chance."""
    view = skills.view
    if not has_classes(view.schema.task):
        return None
    filled = view.target[mask == 0]
    if filled.size < MIN_FILLED:
        return None
    counts = np.bincount(filled)
    code = int(np.argmax(counts))
    share = float(counts[code]) / filled.size
    usual = float((view.target == code).mean())
    unlikely = filled.size * np.log(max(usual, 1e-12)) < np.log(1e-6)
    if share < ONE_SIDED or usual > 0.95 or not unlikely:
        return None
    return view.schema.classes[code], int(filled.size)


def _together(names: Sequence[str], masks: Mapping[str, Ints], skills: Skills) -> Finding | None:
    codes = np.zeros(skills.view.num_rows, dtype=np.int64)
    for name in names:
        codes = value_codes(pl.Series(codes * 2 + masks[name]))
    skill = skills.of_codes(codes)
    if skill.value < TELLS:
        return None
    return Finding(
        check="missing_tells",
        severity="warning",
        sentence=(
            f"Which of {len(names):,} columns are empty tells the label ({skill.told()}), with no "
            "look at any value: cells seem to be filled in differently after the outcome."
        ),
        columns=tuple(names),
        num_rows=skills.view.num_rows,
        share=1.0,
        confidence=round(min(0.9, 0.3 + skill.value / 2), 3),
        remedy=Remedy("Ask when and by whom these columns are filled in."),
        facts={"skill": round(skill.value, 4), "estimate": skill.estimate.to_dict()},
    )


def served_findings(
    view: TrainView, test: TestView, found: Sequence[Finding], alone: Mapping[str, Skill]
) -> list[Finding]:
    """The findings, with those for columns that are filled in for training but not for testing.

    A strong column that is missing where it has to be used is a leak whatever else is said of it.

    Args:
        view: training rows.
        test: the test rows' features.
        found: findings so far.
        alone: what each column tells alone.
    """
    if test.num_rows < MIN_TEST_ROWS or view.num_rows < MIN_TEST_ROWS:
        return list(found)
    result = list(found)
    for name in view.schema.features:
        how = _gone(view.column(name), test.column(name))
        if how is None:
            continue
        skill = alone.get(name)
        told = "" if skill is None else f" It foretells the label in training ({skill.told()})."
        sentence = f"{name!r} is filled in on the training rows and {how} on the test rows.{told}"
        leak = skill is not None and skill.value >= TELLS
        known = next((place for place, each in enumerate(result) if each.columns == (name,)), None)
        if known is not None:
            each = result[known]
            result[known] = replace(
                each,
                severity="leak" if leak or each.severity == "leak" else "warning",
                sentence=f"{each.sentence} It is filled in on the training rows and {how} on the "
                "test rows.",
                facts={**each.facts, "not_when_serving": True},
                confidence=max(each.confidence, 0.95),
            )
            continue
        result.append(
            Finding(
                check="not_when_serving",
                severity="leak" if leak else "warning",
                sentence=f"{sentence} It will not exist when predicting.",
                columns=(name,),
                num_rows=test.num_rows,
                share=1.0,
                rows=tuple(int(row) for row in test.positions[:5]),
                splits=("train", "test"),
                confidence=0.95 if leak else 0.7,
                remedy=Remedy(f"Leave {name!r} out.", {"columns": {name: {"role": "ignore"}}}),
                facts={"not_when_serving": True},
            )
        )
    return result


def _gone(train: pl.Series, test: pl.Series) -> str | None:
    if train.null_count() > (1.0 - PRESENT) * train.len():
        return None
    if test.null_count() >= GONE * test.len():
        return "empty"
    if train.dtype.is_nested() or train.dtype in (pl.Object(), pl.Binary()):
        return None
    if _commonest(test.head(LOOK_ROWS)) < GONE - LOOK_SLACK:
        return None
    common = _commonest(test)
    usual = _commonest(train)
    if common >= GONE and usual <= PRESENT:
        return "always the same"
    return None


def _commonest(series: pl.Series) -> float:
    """The share of the commonest value."""
    return float(np.bincount(value_codes(series)).max()) / series.len()
