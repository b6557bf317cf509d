"""Columns that carry the answer: found, told from honestly strong ones, priced.

A column is a `leak` when it is (nearly) exact *and* stands on a cliff: a model of all other columns
falls far behind it. Exactness without a cliff is what an honestly separable problem looks like; a
cliff without exactness is what one good measurement looks like. Both of those are told (`warning`,
`note`) and nothing more. What follows from exact arithmetic (the label itself, renamed, rescaled,
added up: `loopline.splits.leaks`) needs no cliff.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from loopline.audit.alike import value_codes
from loopline.audit.copies import Copy, deciding_pairs, is_earlier_label, noisy_copy
from loopline.audit.evidence import Evidence
from loopline.audit.finding import Finding, Remedy, Severity
from loopline.audit.order import order_findings
from loopline.audit.price import Pricing
from loopline.audit.served import mask_findings, served_findings
from loopline.audit.skill import Skill, Skills
from loopline.audit.tokens import token_findings
from loopline.audit.wide import narrowed
from loopline.data.cleaning.finding import plain
from loopline.data.schema import has_classes
from loopline.splits.leaks import LeakFinding, find_target_copies
from loopline.splits.views import TestView, TrainView

STRONG = 0.9
"""Skill (2·AUC - 1, accuracy beyond chance, R²) of one column that is told."""
EXACT = 0.998
"""Skill of one column that counts as exact."""
CLIFF = 10.0
"""The others' error in the column's, from which an exact column is a leak."""
STEEP = 3.0
"""The same for a copy with errors."""
SLOPE = 2.0
"""The same for a strong column that is a warning."""
NEARLY = 0.75
"""Skill of one column that is told when it stands quite alone."""
ALONE = 4.0
"""The others' error in the column's, from which such a column stands quite alone."""
COPY = 0.93
"""Agreement in the worst class, or share of equal numbers, from which a copy can be a leak."""
WARN = 0.9
"""Agreement from which a copy is a warning, whatever the others reach."""
LEFT_OPEN = 0.02
"""A problem that the others solve better than this has no cliff."""
LITTLE = 0.5
"""Skill of all other columns together up to which one column is called an almost-copy."""
MIN_ROWS = 40
MIN_EXACT_ROWS = 200
MAX_PRICED = 8
MAX_SUSPECTS = 12
MAX_ALONE = 3
_AFTER = re.compile(
    r"status|closed|close_|paid|payment|recover|reason|outcome|result|settle|discharge|death|died|"
    r"refund|cancel|charged?_?off|churn|default|resolution|final|alive|survived|won|lost|label|"
    r"target|score|leak",
    re.IGNORECASE,
)


def column_findings(
    view: TrainView,
    *,
    pricing: Pricing | None = None,
    extra: pl.DataFrame | None = None,
    test: TestView | None = None,
) -> list[Finding]:
    """Look for columns that give the answer away.

    Of more than 1,000 features the 300 most related to the target are looked at.

    Args:
        view: training rows. No other label is looked at.
        pricing: how to measure.
        extra: columns that are no features (ids, ignored ones), rows as in the view; they are asked
            whether they tell the label, because what is made along with them might, too.
        test: the test rows' features, to see which columns are filled in for training only.

    Returns:
        Leaks first, then warnings, then notes.

    >>> from loopline.data.schema import Column, Schema
    >>> from loopline.testing.splitters import view_of
    >>> y = np.arange(400) % 2
    >>> frame = pl.DataFrame({"said": np.where(np.arange(400) % 50 == 7, 1 - y, y),
    ...                       "noise": np.arange(400) * 7919 % 401, "y": y})
    >>> columns = (Column("said", "number"), Column("noise", "number"))
    >>> schema = Schema((*columns, Column("y", "category", "target")), "binary", (0, 1))
    >>> found = column_findings(view_of(frame, schema))
    >>> [(each.check, each.severity, each.columns) for each in found]
    [('noisy_copy', 'leak', ('said',))]
    """
    if view.num_rows == 0 or np.unique(view.target).size < 2:
        return []
    view = narrowed(view)
    search = _Search(view, pricing or Pricing())
    found = search.copies() + search.singles() + search.pairs()
    found += mask_findings(search.evidence, search.skills, search.leaks(found))
    if test is not None:
        found = served_findings(view, test, found, search.alone)
    found = search.priced(_worst_of_each(found))
    found += token_findings(view)
    found += order_findings(view, search.skills, extra)
    found += same_columns(search.skills.view)
    order = ("leak", "repairable", "warning", "note")
    return sorted(found, key=lambda each: order.index(each.severity))


class _Search:
    """One look at the columns of one view."""

    def __init__(self, view: TrainView, pricing: Pricing) -> None:
        self.view = view
        self.evidence = Evidence(view, pricing)
        self.sample = self.evidence.view
        self.skills = Skills(self.sample, pricing.seed)
        self.types = {column.name: column.type for column in view.schema.columns}
        self.exact = find_target_copies(view)
        self.taken = {
            name for each in self.exact if each.severity == "leak" for name in each.columns
        }
        self.alone: dict[str, Skill] = {
            name: self.skills.of_series(self.sample.column(name))
            for name in view.schema.features
            if self.types[name] not in ("text", "other")
        }

    def leaks(self, found: Sequence[Finding]) -> set[str]:
        return {name for each in found if each.severity == "leak" for name in each.columns}

    def copies(self) -> list[Finding]:
        """What `find_target_copies` proves, as findings."""
        return [self._of_copy(each) for each in self.exact if each.severity == "leak"]

    def _of_copy(self, each: LeakFinding) -> Finding:
        return Finding(
            check="target_copy",
            severity="leak",
            sentence=each.sentence,
            columns=each.columns,
            num_rows=self.view.num_rows,
            share=each.share,
            rows=self._rows(),
            examples=each.examples,
            confidence=round(min(1.0, each.share), 4),
            remedy=_remedy(each.columns),
            facts={"kind": each.kind, "agreement": round(each.share, 6)},
        )

    def singles(self) -> list[Finding]:
        """Single columns that say the label with errors, decide it, or are just strong."""
        if self.sample.num_rows < MIN_ROWS:
            return []
        copies = {
            name: copy
            for name in self.alone
            if name not in self.taken
            and not is_earlier_label(self.sample.column(name), self.sample, self.sample.order)
            and (copy := noisy_copy(self.sample.column(name), self.sample)) is not None
        }
        hinted = {each.columns[0]: each for each in self.exact if each.severity == "strong"}
        suspects = [
            name
            for name in self.alone
            if name not in self.taken
            and (name in copies or name in hinted or self.alone[name].value >= STRONG)
        ]
        suspects.sort(key=lambda name: (-self.alone[name].value, name))
        exact = {name for name in suspects if self.alone[name].value >= EXACT}
        out = self.taken | set(copies) | exact
        found = [
            self._judged(name, copies.get(name), name in exact, out, hinted.get(name))
            for name in suspects[:MAX_SUSPECTS]
        ]
        return found + self._standing_alone(out | set(suspects))

    def _standing_alone(self, out: Collection[str]) -> list[Finding]:
        """Columns that tell most of the label where all others tell next to nothing.

        No measurement of the same thing keeps them company, so they are measured with the label: a
        second reading of the same instrument at the same visit, a part of the same score.
        """
        nearly = [name for name in self.alone if self.alone[name].value >= NEARLY]
        nearly = [name for name in nearly if name not in out]
        nearly.sort(key=lambda name: (-self.alone[name].value, name))
        found = []
        for name in nearly[:MAX_ALONE]:
            error = self.alone[name].error
            rest = [self.alone[each].error for each in self.alone if each not in (name, *out)]
            if min(rest, default=1.0) < ALONE * error:
                continue
            finding = self._judged(name, None, False, out, None)
            cliff = finding.facts["cliff"]
            if cliff is not None and cliff >= ALONE:
                found.append(finding)
        return found

    def _judged(
        self,
        name: str,
        copy: Copy | None,
        exact: bool,
        out: Collection[str],
        hint: LeakFinding | None,
    ) -> Finding:
        alone = self.alone[name]
        others = self.evidence.skill_without(set(out) | {name})
        # Of a copy the error that counts is its own cells', not what the folds lose on top.
        error = alone.error if copy is None else min(alone.error, 1.0 - copy.agreement)
        cliff = None if others is None else others.error / max(error, 1e-4)
        steep = others is not None and others.error >= LEFT_OPEN
        severity: Severity = "note"
        check = "strong_column"
        if copy is not None:
            check = "noisy_copy"
            sure = copy.agreement >= COPY and steep and cliff is not None and cliff >= STEEP
            told = copy.agreement >= WARN or (cliff is not None and cliff >= 1.0)
            severity = "leak" if sure else "warning" if told else "note"
        elif exact:
            check = "deciding_column"
            sure = (
                steep and cliff is not None and cliff >= CLIFF
                and has_classes(self.view.schema.task) and self._enough()
            )  # fmt: skip
            severity = "leak" if sure else "warning" if steep else "note"
        elif cliff is not None and cliff >= SLOPE:
            severity = "warning"
        return Finding(
            check=check,
            severity=severity,
            sentence=self._sentence(name, copy, alone, others, severity, hint),
            columns=(name,),
            num_rows=self.view.num_rows,
            share=1.0,
            rows=self._rows(),
            examples=self._examples((name,)),
            confidence=_confidence(alone, cliff, bool(_AFTER.search(name)), severity),
            remedy=_remedy((name,)),
            facts={
                "alone": round(alone.value, 4),
                "others": None if others is None else round(others.value, 4),
                "cliff": None if cliff is None else round(cliff, 2),
                "agreement": None if copy is None else copy.agreement,
                "named_like_an_outcome": bool(_AFTER.search(name)),
            },
        )

    def _sentence(
        self,
        name: str,
        copy: Copy | None,
        alone: Skill,
        others: Skill | None,
        severity: Severity,
        hint: LeakFinding | None,
    ) -> str:
        target = self.view.schema.target
        if copy is not None:
            where = "rows of every class" if self.view.schema.classes else "rows"
            text = f"{name!r} says the target {target!r} on {copy.agreement:.1%} of {where}"
        elif severity == "leak":
            text = f"{name!r} alone decides the target {target!r} ({alone.told()})"
        else:
            text = f"{name!r} alone foretells the target {target!r} ({alone.told()})"
        if others is not None:
            text += f"; all other columns together reach {others.told()}."
        else:
            text += "."
        if severity == "note" and others is not None:
            return f"{text} Others nearly make up for it, so it looks honestly strong."
        if _AFTER.search(name) and severity in ("leak", "warning"):
            text += " Its name sounds like something known only afterwards."
        lonely = others is not None and others.value <= min(LITTLE, 1.0 - ALONE * alone.error)
        if lonely and copy is None and severity == "warning":
            text += (
                " No other column measures the same thing, so it may be made along with the label: "
                "a part of the score, a second reading of one instrument, what follows the outcome."
            )
        if severity in ("warning", "note"):
            return f"{text} Make sure that it is known when predicting."
        return text

    def _enough(self) -> bool:
        counts = np.bincount(self.sample.target)
        return self.sample.num_rows >= MIN_EXACT_ROWS and int(counts[counts > 0].min()) >= 20

    def pairs(self) -> list[Finding]:
        """Pairs of numbers that part two classes together."""
        names = [
            name
            for name in self.alone
            if name not in self.taken and self.sample.column(name).dtype.is_numeric()
        ]
        found = []
        for copy in deciding_pairs(self.skills, names, self.alone)[:3]:
            others = self.evidence.skill_without(self.taken | set(copy.columns))
            cliff = None if others is None else others.error / max(1.0 - copy.agreement, 1e-4)
            sure = (
                others is not None and others.error >= LEFT_OPEN and cliff is not None
                and cliff >= CLIFF and self._enough()
            )  # fmt: skip
            beside = "" if others is None else f"; all others together reach {others.told()}"
            found.append(
                Finding(
                    check="deciding_pair",
                    severity="leak" if sure else "warning",
                    sentence=(
                        f"{copy.formula} parts the two classes of {self.view.schema.target!r} "
                        f"exactly, neither column does alone{beside}: the target seems to be "
                        "computed from them."
                    ),
                    columns=copy.columns,
                    num_rows=self.view.num_rows,
                    share=1.0,
                    rows=self._rows(),
                    examples=self._examples(copy.columns),
                    confidence=0.9 if sure else 0.6,
                    remedy=_remedy(copy.columns),
                    facts={
                        "formula": copy.formula,
                        "parted": copy.agreement,
                        "cliff": None if cliff is None else round(cliff, 2),
                    },
                )
            )
        return found

    def priced(self, found: Sequence[Finding]) -> list[Finding]:
        """The worst findings with their price: the score with the columns and without them."""
        leaks = self.leaks(found)
        order = ("leak", "repairable", "warning", "note")
        ranked = sorted(
            range(len(found)), key=lambda place: (order.index(found[place].severity), place)
        )
        chosen = {place for place in ranked[:MAX_PRICED] if found[place].severity != "note"}
        return [
            each.with_worth(self.evidence.worth(each.columns, leaks)) if place in chosen else each
            for place, each in enumerate(found)
        ]

    def _rows(self) -> tuple[int, ...]:
        return tuple(int(row) for row in self.view.positions[:5])

    def _examples(self, columns: Sequence[str]) -> tuple[Mapping[str, Any], ...]:
        rows = self.view.subset(np.arange(min(5, self.view.num_rows)))
        classes = self.view.schema.classes
        labels = [classes[code] if classes else code for code in rows.target.tolist()]
        return tuple(
            {**{name: plain(value) for name, value in row.items()}, self.view.schema.target: label}
            for row, label in zip(rows.frame(columns).to_dicts(), labels, strict=True)
        )


def _worst_of_each(found: Sequence[Finding]) -> list[Finding]:
    """Without what is also said, and worse, of the same columns."""
    leaks = {each.columns for each in found if each.severity == "leak"}
    return [each for each in found if each.severity == "leak" or each.columns not in leaks]


def _remedy(columns: Sequence[str]) -> Remedy:
    told = " and ".join(repr(name) for name in columns)
    return Remedy(
        f"Leave {told} out, unless known when predicting.",
        {"columns": {name: {"role": "ignore"} for name in columns}},
    )


def _confidence(alone: Skill, cliff: float | None, named: bool, severity: Severity) -> float:
    base = {"leak": 0.8, "warning": 0.5}.get(severity, 0.2)
    steep = 0.0 if cliff is None else min(0.1, cliff / 1000.0)
    return round(min(0.99, base + 0.05 * alone.value + steep + 0.05 * named), 3)


def same_columns(view: TrainView) -> list[Finding]:
    """A note for columns that say the same under other names, one for each set of them.

    >>> from loopline.data.schema import Column, Schema
    >>> from loopline.testing.splitters import view_of
    >>> frame = pl.DataFrame({"a": ["x", "y", "z"] * 20, "b": [1, 2, 3] * 20, "y": [0.0, 1.0] * 30})
    >>> columns = (Column("a", "category"), Column("b", "number"), Column("y", "number", "target"))
    >>> [each.columns for each in same_columns(view_of(frame, Schema(columns, "regression")))]
    [('a', 'b')]
    """
    sets: dict[bytes, list[str]] = {}
    for name in view.schema.features:
        series = view.column(name)
        if series.dtype.is_nested() or series.dtype in (pl.Object(), pl.Binary()):
            continue
        codes = value_codes(series)
        number = int(codes.max(initial=-1)) + 1
        if 2 <= number <= codes.size // 2:
            sets.setdefault(codes.tobytes(), []).append(name)
    found = []
    for names in sets.values():
        if len(names) < 2:
            continue
        told = ", ".join(repr(name) for name in names[:-1]) + f" and {names[-1]!r}"
        found.append(
            Finding(
                check="same_columns",
                severity="note",
                sentence=f"{told} say the same under different names; one of them is enough.",
                columns=tuple(names),
                num_rows=view.num_rows,
                share=1.0,
                remedy=Remedy(
                    f"Keep {names[0]!r} only.",
                    {"columns": {name: {"role": "ignore"} for name in names[1:]}},
                ),
            )
        )
    return found
