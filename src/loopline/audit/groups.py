"""Groups, priced: what a random split claims, and what whole groups give.

Dealt at random, rows of one customer, patient, device or file stand on both sides of a split, and a
model is praised for knowing the source again. Candidates come from `loopline.audit.group_search`,
by features only; here the gap between random and grouped folds is measured on training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.audit.alike import Columns, alikeness, value_codes
from loopline.audit.crossfit import OutOfFold, assign_folds
from loopline.audit.finding import Finding, Remedy, Worth
from loopline.audit.group_search import GIANT, JUMP, LIKE, GroupCandidate, propose_groups
from loopline.audit.price import Pricing, sample_units, worth_of
from loopline.data.schema import has_classes
from loopline.splits.rows import connected, digest_codes
from loopline.splits.views import TrainView
from loopline.words import figure

__all__ = ["GroupCandidate", "measure_groups", "propose_groups"]

Ints = NDArray[np.int64]
MIN_ROWS = 40
MAX_CLASSES = 30
"""With more classes nothing is priced: one small model would cost minutes."""
NOTHING = 0.05
"""Likeness of labels below which rows that resemble in nothing else are not worth a price."""
SAME = 0.9
"""Likeness of labels from which an opaque column is held together without asking."""
SHARED = 0.5
"""Likeness of labels from which an opaque column is suspect."""
FEW_GROUPS = 20
"""With fewer groups an interval is too wide to tell most gaps from chance."""
TOLD = 0.2
"""Likeness of labels from which few groups are a warning though their gap may be chance."""


def measure_groups(
    view: TrainView, candidates: Sequence[GroupCandidate], pricing: Pricing
) -> list[Finding]:
    """Whether candidates matter: the score with rows dealt at random against whole groups.

    Declared groups are told with what a random split would have claimed. The others are tried from
    the finest to the coarsest, each on top of those that were found to matter (groups that share
    rows become one), so of a visit within a patient the patient is chosen when, and only when,
    keeping visits whole is not enough.

    Args:
        view: training rows of a table whose rows the candidates' codes stand for.
        candidates: from `propose_groups`.
        pricing: how to measure.

    Returns:
        A finding for each candidate, in the order of measuring: severity `repairable` where the
        gap is surely above zero, else `note`.
    """
    race = _Race(view, pricing)
    done = [race.declared(each) for each in candidates if each.kind == "declared"]
    open_ = [each for each in candidates if each.kind != "declared"]
    open_.sort(key=lambda each: (-each.num_groups, each.columns))
    found = [race.tried(candidate) for candidate in open_]
    return done + _without_covered([each for each in found if each is not None], race)


class _Race:
    """Grouped cross-fits of one view; the base is the last grouping that was found to matter."""

    def __init__(self, view: TrainView, pricing: Pricing) -> None:
        self.view = view
        self.pricing = pricing
        features = view.schema.features
        twins = digest_codes(view.feature_digests()) if features else view.units
        self.base: Ints = np.asarray(twins, dtype=np.int64)
        self.first = self.base
        self.chosen: list[tuple[GroupCandidate, Ints]] = []

    @property
    def can_price(self) -> bool:
        return (
            bool(self.view.schema.features)
            and self.view.num_rows >= MIN_ROWS
            and self.view.schema.num_classes <= MAX_CLASSES
        )

    def declared(self, candidate: GroupCandidate) -> Finding:
        """What a random split would have claimed of a table whose group is known."""
        codes = candidate.codes[self.view.positions]
        sizes = np.bincount(value_codes(pl.Series(codes)))
        name = _told(candidate.columns)
        if float(np.median(sizes)) < 2:
            alone = int((sizes == 1).sum())
            return self._finding(
                candidate,
                "note",
                f"The group {name} has one row in {alone:,} of {sizes.size:,} groups, so keeping "
                "groups whole changes next to nothing.",
                None,
                sizes,
            )
        worth = self._price(self.first, connected(self.first, [codes]))
        self.base = connected(self.base, [codes])
        text = f"Rows of one {name} stay together ({sizes.size:,} groups)."
        if worth is not None:
            claims = (
                f" A random split would have claimed {worth.metric} "
                f"{figure(worth.claimed.value)} instead of {figure(worth.repaired.value)}"
            )
            text += claims + (
                "." if worth.matters else "; the difference is within what chance gives."
            )
        return self._finding(candidate, "note", text, worth, sizes)

    def tried(self, candidate: GroupCandidate) -> Finding | None:
        """Measure a candidate on top of what was found to matter before; None: not worth a word."""
        codes = candidate.codes[self.view.positions]
        sizes = np.bincount(value_codes(pl.Series(codes)))
        joint = connected(self.base, [codes])
        name = _told(candidate.columns)
        who = f"{sizes.size:,} groups of {float(np.median(sizes)):g} rows (median)"
        if int(joint.max()) == int(self.base.max()):
            text = f"Rows of one {name} ({who}) are kept together already by other groups."
            return self._finding(candidate, "note", text, None, sizes)
        largest = float(np.bincount(joint).max()) / joint.size
        if largest > GIANT:
            text = (
                f"Rows of one {name} may belong together ({who}), but with the groups found before "
                f"they join {largest:.0%} of all rows into one, which no split can keep whole."
            )
            return self._finding(candidate, "warning", text, None, sizes)
        resembles = candidate.likeness >= LIKE
        shared = 0.0 if resembles else shared_labels(self.view, candidate)
        if candidate.kind == "opaque" and shared < SHARED:
            return None
        if not resembles and shared < NOTHING:
            text = f"Rows of one {name} ({who}) have neither values nor the answer in common."
            return self._finding(candidate, "note", text, None, sizes)
        worth = self._price(self.base, joint)
        likened = (
            "resemble each other"
            if resembles
            else (f"have the same answer ({shared:.0%} beyond chance) and little else in common")
        )
        alike = f"rows of one {name} {likened} ({who}"
        steady = ", ".join(repr(each) for each in candidate.steady[:3])
        alike += f"; constant within one: {steady})" if steady else ")"
        if worth is not None and not worth.matters and self._unresolved(candidate, sizes, worth):
            text = (
                f"{alike[0].upper()}{alike[1:]}, and labels differ between them, but with so few "
                f"groups no gap can be told from chance: a random split claims {worth.metric} "
                f"{figure(worth.claimed.value)}, whole groups give "
                f"{figure(worth.repaired.value)} ({figure(worth.repaired.low)} to "
                f"{figure(worth.repaired.high)}). If the model is meant for other groups than "
                "these, keep them whole."
            )
            return self._finding(candidate, "warning", text, worth, sizes)
        if worth is None or not worth.matters:
            text = f"{alike[0].upper()}{alike[1:]}, but "
            text += (
                "nothing was priced because there are too few rows or too many classes."
                if worth is None
                else "keeping them together changes the score by no more than chance."
            )
            return self._finding(candidate, "note", text, worth, sizes)
        repairable = candidate.kind == "id" or (
            candidate.kind == "opaque" and shared >= SAME and has_classes(self.view.schema.task)
        )
        if repairable:
            self.base = joint
            self.chosen.append((candidate, codes))
        text = (
            f"{alike[0].upper()}{alike[1:]}; a random split claims {worth.metric} "
            f"{figure(worth.claimed.value)}, whole groups give {figure(worth.repaired.value)}."
        )
        severity: Literal["repairable", "warning"] = "repairable" if repairable else "warning"
        return self._finding(candidate, severity, text, worth, sizes)

    def _unresolved(self, candidate: GroupCandidate, sizes: Ints, worth: Worth) -> bool:
        """Whether few groups with their own labels lose by being kept whole, surely or not."""
        return (
            candidate.kind == "id"
            and sizes.size < FEW_GROUPS
            and worth.difference.value > 0.0
            and shared_labels(self.view, candidate) >= TOLD
        )

    def _price(self, before: Ints, after: Ints) -> Worth | None:
        if not self.can_price or np.unique(after).size < 4:
            return None
        rows = sample_units(self.view, after, self.pricing.max_rows, self.pricing.seed)
        part = self.view.subset(rows)
        claimed, repaired = self._fits(part, before[rows]), self._fits(part, after[rows])
        return worth_of(part, claimed, repaired, after[rows], self.pricing)

    def _fits(self, part: TrainView, units: Ints) -> list[OutOfFold]:
        folds = [assign_folds(part, units, seed=seed) for seed in self.pricing.seeds]
        return [self.pricing.fit(part, fold) for fold in folds]

    def _finding(
        self,
        candidate: GroupCandidate,
        severity: Literal["repairable", "warning", "note"],
        sentence: str,
        worth: Worth | None,
        sizes: Ints,
    ) -> Finding:
        matters = worth is not None and worth.matters
        return Finding(
            check="groups",
            severity=severity,
            sentence=sentence,
            columns=candidate.columns,
            num_rows=int(sizes[sizes >= 2].sum()),
            share=float(sizes[sizes >= 2].sum() / max(1, sizes.sum())),
            rows=_rows_of_largest(self.view, candidate),
            examples=_examples(self.view, candidate),
            confidence=candidate.confidence,
            worth=worth,
            remedy=_remedy(candidate) if severity in ("repairable", "warning") else None,
            facts={
                "columns": list(candidate.columns),
                "matters": matters,
                "role": "group" if severity == "repairable" or candidate.kind == "declared" else "",
                "kind": candidate.kind,
                "groups": int(sizes.size),
                "median_rows": float(np.median(sizes)) if sizes.size else 0.0,
                "alone": int((sizes == 1).sum()),
                "likeness": round(candidate.likeness, 4),
                "steady": list(candidate.steady),
            },
        )


def shared_labels(view: TrainView, candidate: GroupCandidate, table: Ints | None = None) -> float:
    """Likeness of the labels within groups, where merging neighbouring values destroys it.

    Args:
        view: training rows.
        candidate: the groups.
        table: the rows of the candidate's table that the view was made from; all by default.
    """
    rows = view.positions if table is None else table[view.positions]
    series = pl.Series("label", view.target)
    if view.schema.classes:
        series = series.cast(pl.String)
    labels = Columns.read(pl.DataFrame({"label": series}), ["label"])
    found = alikeness(value_codes(pl.Series(candidate.codes[rows])), labels)
    shared = found.get("label", 0.0)
    if candidate.merged is None:
        return shared
    merged = alikeness(value_codes(pl.Series(candidate.merged[rows])), labels)
    return shared if merged.get("label", 0.0) <= JUMP * shared else 0.0


def _without_covered(found: list[Finding], race: _Race) -> list[Finding]:
    """Finer groups that lie within a coarser one that matters become notes."""
    result = []
    for finding in found:
        covering = _covering(finding, race)
        if finding.severity != "repairable" or covering is None:
            result.append(finding)
            continue
        text = f"{finding.sentence} Each lies within one {_told(covering)}, which is kept whole."
        facts = {**finding.facts, "matters": False, "role": "", "within": list(covering)}
        result.append(replace(finding, severity="note", remedy=None, facts=facts, sentence=text))
    return result


def _covering(finding: Finding, race: _Race) -> tuple[str, ...] | None:
    mine = [codes for each, codes in race.chosen if each.columns == finding.columns]
    if not mine:
        return None
    for other, codes in race.chosen:
        if other.columns == finding.columns:
            continue
        pairs = np.unique(np.stack([mine[0], codes]), axis=1).shape[1]
        if pairs == np.unique(mine[0]).size and pairs > np.unique(codes).size:
            return other.columns
    return None


def _remedy(candidate: GroupCandidate) -> Remedy:
    name = _told(candidate.columns)
    if candidate.kind == "traits":
        return Remedy(
            f"Add a column that names the source of each row (or one that joins {name}) and give "
            "it `role: group`."
        )
    (column,) = candidate.columns
    return Remedy(
        f"Keep rows of one {name} on one side of every split.",
        {"columns": {column: {"role": "group"}}},
    )


def _told(names: Sequence[str]) -> str:
    return " and ".join(repr(name) for name in names)


def _rows_of_largest(view: TrainView, candidate: GroupCandidate) -> tuple[int, ...]:
    codes = candidate.codes[view.positions]
    if not codes.size:
        return ()
    largest = int(np.argmax(np.bincount(codes)))
    return tuple(int(row) for row in view.positions[np.flatnonzero(codes == largest)[:5]])


def _examples(view: TrainView, candidate: GroupCandidate) -> tuple[dict[str, object], ...]:
    """Up to five rows of the largest group, in the columns that are alike."""
    rows = _rows_of_largest(view, candidate)
    features = view.schema.features
    shown = [name for name in (*candidate.columns, *candidate.steady) if name in features][:6]
    if not rows or not shown:
        return ()
    frame = view.at(np.asarray(rows)).frame(shown)
    return tuple(
        {
            name: value if isinstance(value, (int, float, bool)) else str(value)
            for name, value in row.items()
        }
        for row in frame.to_dicts()
    )
