"""Findings are plain data in a stated order."""

from __future__ import annotations

import json

from loopline.audit.finding import Finding, Remedy, Worth, ranked
from loopline.evaluate.intervals import Estimate


def _worth(low: float) -> Worth:
    def about(value: float) -> Estimate:
        return Estimate(value, value - 0.01, value + 0.01, "test", 100)

    return Worth("auc", about(0.9), about(0.6), Estimate(0.3, low, 0.4, "test", 100))


def test_a_finding_survives_json() -> None:
    """What `to_dict` writes, `from_dict` reads back, price and remedy included."""
    finding = Finding(
        "near_duplicates",
        "repairable",
        "12 rows stand twice.",
        columns=("a",),
        num_rows=12,
        share=0.1,
        rows=(1, 2),
        examples=({"rows": [1, 2], "a": ["x", "y"]},),
        splits=("train", "test"),
        confidence=0.9,
        worth=_worth(0.2),
        remedy=Remedy("Group them.", {"split": {"duplicates": "features"}}, applied=True),
        facts={"clusters": 6},
    )
    once = finding.to_dict()
    assert Finding.from_dict(json.loads(json.dumps(once))).to_dict() == once


def test_leaks_come_first() -> None:
    """The order is by severity, whatever the order of the checks."""
    kinds = ("note", "warning", "repairable", "leak")
    findings = [Finding("check", kind, kind) for kind in kinds]  # type: ignore[arg-type]
    assert [finding.severity for finding in ranked(findings)] == list(reversed(kinds))


def test_what_matters_comes_before_what_does_not() -> None:
    """Of two findings of one severity the one whose price is surely above zero comes first."""
    idle = Finding("a", "warning", "a", worth=_worth(-0.1), confidence=1.0)
    costly = Finding("b", "warning", "b", worth=_worth(0.1), confidence=0.5)
    assert [finding.check for finding in ranked([idle, costly])] == ["b", "a"]


def test_a_price_matters_only_when_its_interval_excludes_zero() -> None:
    """A difference that could as well be nothing is no reason to act."""
    assert _worth(0.01).matters
    assert not _worth(-0.01).matters
