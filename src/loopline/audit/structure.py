"""What belongs together, found before anything is divided: twins, groups and time.

Twins and the candidates for groups and time are found from features alone. What they are worth is
measured on the training side of a provisional split that keeps all of them whole, so a label that
could later stand in the test set has no say in how good a model looks, only in how strictly the
rows are divided.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.audit.examples import pair_examples
from loopline.audit.finding import Finding, Remedy, Worth
from loopline.audit.groups import (
    SHARED,
    GroupCandidate,
    measure_groups,
    propose_groups,
    shared_labels,
)
from loopline.audit.price import Pricing, price_structure
from loopline.audit.times import measure_times, propose_times
from loopline.data.duplicates.find import Kind, NearDuplicates, find_duplicates
from loopline.data.fingerprint import row_digests
from loopline.data.schema import Role, Schema, is_audited
from loopline.errors import DataError, SettingsError, SplitError
from loopline.progress import Reporter, SilentReporter
from loopline.splits.feasible import make_feasible_split
from loopline.splits.rows import connected, digest_codes, feature_digests_of
from loopline.splits.views import TrainView

Ints = NDArray[np.int64]
FEW_ROWS = 40
"""Below so many training rows nothing is priced: no interval would tell anything."""
GIANT = 0.5
"""Groups whose largest holds more than this share of the rows cannot be kept whole."""
MAX_CLASSES = 30
"""With more classes nothing is priced: a small model of each fold would take minutes."""
LARGE_ROWS = 100_000
"""Of larger tables a part tells first whether an opaque column is worth a look."""
FEW_GROUPS = 100
"""With fewer groups than this in a part of the table, its rows are drawn one by one."""
RARE_TWINS = 0.002
"""Twins that are a smaller share of the rows are told without a price: no score could move."""


@dataclass(frozen=True)
class Structure:
    """What belongs together.

    Args:
        alike: code of the near duplicates each row belongs to, shape (rows,); None where no two
            different rows are alike.
        roles: column → (role, reason) of the groups and times that matter.
        findings: what was found, with prices.
    """

    alike: Ints | None
    roles: Mapping[str, tuple[Role, str]]
    findings: tuple[Finding, ...]

    def applied(self, schema: Schema) -> Schema:
        """The schema with the found roles."""
        for name, (role, reason) in self.roles.items():
            schema = schema.changed(name, role=role, reason=reason)
        return schema


def find_structure(
    frame: pl.DataFrame,
    schema: Schema,
    digests: NDArray[np.uint64],
    *,
    split: Mapping[str, Any] | None = None,
    feature_digests: NDArray[np.uint64] | None = None,
    decided: Collection[str] = (),
    near: bool = True,
    twins: bool = True,
    choose: bool = True,
    pricing: Pricing | None = None,
    reporter: Reporter | None = None,
) -> Structure:
    """Look for twins, groups and time in a table.

    Args:
        frame: all rows.
        schema: types, roles and task.
        digests: (rows, 2) row digests of the table.
        split: what the settings say of the split (see `propose_split`).
        feature_digests: (rows, 2) digests that say which rows count as copies; those of the
            features when absent.
        decided: columns whose role a person has set: they are measured and told, never changed.
        near: whether near duplicates are to be kept together.
        twins: whether to look for duplicates at all.
        choose: whether groups and times that matter get their role.
        pricing: how to measure.
        reporter: hears of progress.

    Of texts that are predicted (a language task) only twins are looked for, without a price: no
    small model stands for one of language.

    Returns:
        Near duplicates as codes, roles to take over, and the findings.
    """
    reporter = reporter or SilentReporter()
    pricing = pricing or Pricing()
    given = {name: value for name, value in (split or {}).items() if value is not None}
    found: NearDuplicates | None = None
    own = feature_digests_of(frame, schema, digests) if schema.features else digests
    if schema.features and twins:
        with reporter.step("look for near duplicates"):
            found = _twins(frame, schema, own, pricing.seed)
    features = own if feature_digests is None else feature_digests
    exact = digest_codes(features)
    alike = None
    if near and found is not None:
        alike = _near_only(found.clusters, exact if features is own else digest_codes(own))
    trial = _Trial(frame, schema, digests, own, features, alike, given, pricing.seed)
    findings: list[Finding] = []
    roles: dict[str, tuple[Role, str]] = {}
    if found is not None:
        with reporter.step("price what is double"):
            together = found.clusters if alike is None else connected(exact, [alike])
            worth_a_price = is_audited(schema.task) and any(
                kind.rows >= RARE_TWINS * frame.height for kind in found.kinds
            )
            view = trial.view() if worth_a_price else None
            findings += twin_findings(found, frame, view, exact, together, pricing)
    free = choose and str(given.get("method", "auto")) == "auto"
    if is_audited(schema.task):
        with reporter.step("look for rows that belong together"):
            findings += _groups(trial, pricing)
            findings += _times(trial, pricing)
    settled: list[Finding] = []
    # Groups before times, so that where both together are impossible the groups stay whole.
    for finding in sorted(findings, key=lambda each: each.check == "time"):
        wanted = _role_of(finding)
        open_columns = all(
            schema.named(name).role == "feature" and name not in decided for name in finding.columns
        )
        if wanted is None or not (free and open_columns):
            settled.append(finding)
            continue
        more = {name: (wanted, _reason(finding)) for name in finding.columns}
        hindrance = trial.hindrance({**roles, **more})
        if hindrance:
            settled.append(_without_split(finding, hindrance))
            continue
        roles |= more
        remedy = finding.remedy or Remedy("")
        settled.append(replace(finding, remedy=replace(remedy, applied=True)))
    return Structure(alike, roles, tuple(settled))


def _role_of(finding: Finding) -> Role | None:
    """The role that a finding asks for, when it matters and one column carries it."""
    if finding.severity != "repairable" or not finding.facts.get("matters"):
        return None
    role = finding.facts.get("role")
    if role == "group" and len(finding.columns) == 1:
        return "group"
    return "time" if role == "time" else None


def _without_split(finding: Finding, hindrance: str) -> Finding:
    """A finding that matters and that no split of this table can repair."""
    text = f"{finding.sentence} No split can be made by it as the table is: {hindrance}"
    facts = {**finding.facts, "role": ""}
    return replace(finding, severity="warning", sentence=text, facts=facts)


def _reason(finding: Finding) -> str:
    worth = finding.worth
    if worth is None:
        return finding.sentence
    return (
        f"found by the audit: a random split claims {worth.metric} {worth.claimed.value:.4g}, "
        f"an honest one {worth.repaired.value:.4g}"
    )


# --- twins ---------------------------------------------------------------------------------------


def _twins(
    frame: pl.DataFrame, schema: Schema, digests: NDArray[np.uint64], seed: int
) -> NearDuplicates:
    types = {column.name: column.type for column in schema.columns}
    return find_duplicates(
        frame.select(schema.features),
        {name: types[name] for name in schema.features},
        seed=seed,
        digests=digests,
    )


def near_duplicates(frame: pl.DataFrame, schema: Schema, *, seed: int) -> Ints | None:
    """Codes of rows that are alike without being equal; None where there are none.

    What `loopline verify` makes again to prove that a split keeps them together.
    """
    digests = row_digests(frame.select(schema.features))
    return _near_only(_twins(frame, schema, digests, seed).clusters, digest_codes(digests))


def same_clusters(first: Ints, second: Ints) -> bool:
    """Whether two codings put the same rows together.

    >>> same_clusters(np.array([5, 5, 7]), np.array([0, 0, 1]))
    True
    """
    if first.shape != second.shape:
        return False
    pairs = np.unique(np.stack([first, second]), axis=1).shape[1]
    return bool(pairs == np.unique(first).size == np.unique(second).size)


def _near_only(clusters: Ints, exact: Ints) -> Ints | None:
    """Clusters that hold different rows; every other row stands alone. None when there are none."""
    first = np.full(clusters.size, -1, dtype=np.int64)
    np.maximum.at(first, clusters, exact)
    mixed = np.zeros(clusters.size, dtype=bool)
    np.logical_or.at(mixed, clusters, first[clusters] != exact)
    chosen = mixed[clusters]
    if not chosen.any():
        return None
    alone = clusters.size + np.arange(clusters.size, dtype=np.int64)
    return np.where(chosen, clusters, alone)


def twin_findings(
    found: NearDuplicates,
    frame: pl.DataFrame,
    view: TrainView | None,
    exact: Ints,
    together: Ints,
    pricing: Pricing,
) -> list[Finding]:
    """One finding for each way in which rows are doubles, priced together where it can matter."""
    findings = []
    near = [kind for kind in found.kinds if kind.name not in ("exact", "label")]
    # Copies of one kind repaired beside those of another would still leak: all have one price.
    whole: Worth | None = None
    told = [kind for kind in found.kinds if kind.rows >= max(1, RARE_TWINS * frame.height)]
    if view is not None and told and _priceable(view):
        codes = together if near else exact
        whole = price_structure(view, codes[view.positions], pricing)
    for kind in found.kinds:
        if not kind.rows:
            continue
        share = kind.rows / frame.height
        worth = whole if kind in told else None
        matters = worth is not None and worth.matters
        findings.append(
            Finding(
                check="near_duplicates" if kind in near else "exact_duplicates",
                severity="repairable" if matters else "note",
                sentence=kind.sentence,
                columns=kind.columns,
                num_rows=kind.rows,
                share=share,
                rows=tuple(row for pair in kind.pairs[:5] for row in pair[:2])[:5],
                examples=pair_examples(frame, kind.pairs, kind.columns),
                confidence=1.0 if kind not in near else _similarity(kind),
                worth=worth,
                remedy=Remedy("Rows that are alike share a side of every split.", applied=True),
                facts={"clusters": kind.clusters, "kind": kind.name, "matters": matters},
            )
        )
    return findings


def _priceable(view: TrainView) -> bool:
    return view.schema.num_classes <= MAX_CLASSES and bool(view.schema.features)


def _similarity(kind: Kind) -> float:
    return min((float(pair[2]) for pair in kind.pairs), default=1.0)


# --- groups and time -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trial:
    """What a provisional split needs besides its roles.

    Args:
        own: digests of the features.
        features: digests that say which rows count as copies.
    """

    frame: pl.DataFrame
    schema: Schema
    digests: NDArray[np.uint64]
    own: NDArray[np.uint64]
    features: NDArray[np.uint64]
    alike: Ints | None
    given: Mapping[str, Any]
    seed: int

    def only(self, rows: Ints) -> _Trial:
        """The same of some of the rows."""
        return replace(
            self,
            frame=self.frame[rows],
            digests=self.digests[rows],
            own=self.own[rows],
            features=self.features[rows],
            alike=None if self.alike is None else self.alike[rows],
        )

    def hindrance(self, roles: Mapping[str, tuple[Role, str]]) -> str:
        """Why no split can be made with these roles; empty when one can."""
        schema = self.schema
        for name, (role, reason) in roles.items():
            schema = schema.changed(name, role=role, reason=reason)
        try:
            make_feasible_split(
                self.frame,
                schema,
                self.digests,
                self.given,
                seed=self.seed,
                feature_digests=lambda: self.own,
                copies=self.features,
                alike=self.alike,
            )
        except (SplitError, SettingsError, DataError) as error:
            return str(error)
        return ""

    def view(self, groups: Sequence[Ints] = (), times: Sequence[str] = ()) -> TrainView | None:
        """The training side of a split that keeps the structure whole; None where there is none.

        Where a column divides the rows already, it divides them here too.

        Args:
            groups: codes of groups to keep whole, each of shape (rows,).
            times: columns that order the rows.
        """
        divided = self.given.get("method") == "predefined"
        trial = self.schema
        for name in () if divided else times:
            trial = trial.changed(name, role="time")
        names: tuple[str, ...] = ("test", "folds", "label_end")
        if divided or not times:
            names = (*names, "method", "column")
        given = {name: value for name, value in self.given.items() if name in names}
        alike = self.alike
        if groups:
            base = np.arange(self.frame.height) if alike is None else alike
            alike = connected(base, groups)
            if np.bincount(alike).max() > GIANT * self.frame.height:
                return None
        try:
            split, _ = make_feasible_split(
                self.frame,
                trial,
                self.digests,
                given,
                seed=self.seed,
                feature_digests=lambda: self.own,
                copies=self.features,
                alike=alike,
            )
        except (SplitError, SettingsError, DataError):
            return None
        view = split.train_view(self.frame, trial, self.digests)
        if view.num_rows < FEW_ROWS:
            return None
        return view.with_features(self.frame, self.schema) if times else view


def _groups(trial: _Trial, pricing: Pricing) -> list[Finding]:
    """All candidates measured together, so that of nested and overlapping ones the right is told.

    They are measured where all of them are whole; where they hang together so that no split keeps
    them all whole, each is measured where it is whole itself.
    """
    candidates = [
        each for each in propose_groups(trial.frame, trial.schema) if _worth_a_look(trial, each)
    ]
    if not candidates:
        return []
    view = trial.view([each.codes for each in candidates])
    if view is not None:
        return measure_groups(view, candidates, pricing)
    findings: list[Finding] = []
    for candidate in candidates:
        view = trial.view([candidate.codes])
        if view is not None:
            findings += measure_groups(view, [candidate], pricing)
    return findings


def _worth_a_look(trial: _Trial, candidate: GroupCandidate) -> bool:
    """Whether an opaque column of a large table could matter: a part of its rows shared labels.

    All other candidates are measured in any case.
    """
    if candidate.kind != "opaque" or trial.frame.height <= LARGE_ROWS:
        return True
    rows = _some_groups(candidate.codes, LARGE_ROWS, trial.seed)
    view = trial.only(rows).view([candidate.codes[rows]])
    return view is None or shared_labels(view, candidate, rows) >= SHARED / 2


def _some_groups(codes: Ints, num_rows: int, seed: int) -> Ints:
    """About so many rows: whole groups where there are many, else rows of all groups."""
    sizes = np.bincount(codes)
    if sizes.max() * FEW_GROUPS > num_rows:
        return np.sort(np.random.default_rng(seed).choice(codes.size, num_rows, replace=False))
    drawn = np.random.default_rng(seed).permutation(sizes.size)
    chosen = np.zeros(sizes.size, dtype=bool)
    chosen[drawn[: int(np.searchsorted(np.cumsum(sizes[drawn]), num_rows))]] = True
    return np.flatnonzero(chosen[codes])


def _times(trial: _Trial, pricing: Pricing) -> list[Finding]:
    findings: list[Finding] = []
    for candidate in propose_times(trial.frame, trial.schema):
        view = trial.view(times=candidate.columns)
        if view is not None:
            findings += measure_times(view, [candidate], pricing)
    return findings
