"""What an audit says: one finding each, with its place, its proof, its price and its repair.

A finding is data. It is made by a check, put in order by `ranked`, and shown by whoever likes: the
terminal, the report, JSON. Nothing in it is computed again when it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from loopline.evaluate.intervals import Estimate

Severity = Literal["leak", "repairable", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("leak", "repairable", "warning", "note")
NUM_EXAMPLES = 5


@dataclass(frozen=True)
class Worth:
    """What a finding is worth: the score as claimed, and as it is once repaired.

    Both come from the same small model on the same rows, so their difference is the price of the
    finding and of nothing else.

    Args:
        metric: the metric's name.
        claimed: the score that an unsuspecting split or table would show.
        repaired: the score after the repair.
        difference: claimed minus repaired in the direction of better, paired on the rows. Positive:
            the claim promised too much.
        model: what was fitted, in a few words.
    """

    metric: str
    claimed: Estimate
    repaired: Estimate
    difference: Estimate
    model: str = "a small LightGBM model"

    @property
    def matters(self) -> bool:
        """Whether the claim surely promised more than the repaired table gives."""
        return self.difference.low > 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it back."""
        return {
            "metric": self.metric,
            "claimed": self.claimed.to_dict(),
            "repaired": self.repaired.to_dict(),
            "difference": self.difference.to_dict(),
            "model": self.model,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Worth:
        """Read what `to_dict` wrote."""
        return Worth(
            metric=data["metric"],
            claimed=Estimate.from_dict(data["claimed"]),
            repaired=Estimate.from_dict(data["repaired"]),
            difference=Estimate.from_dict(data["difference"]),
            model=data["model"],
        )


@dataclass(frozen=True)
class Remedy:
    """How a finding is put right.

    Args:
        sentence: for a person: what to do, or what was done.
        settings: the keys of a settings file that do it, as nested plain data; empty where a
            person has to look at rows.
        applied: whether this run did it by itself.
    """

    sentence: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    applied: bool = False


@dataclass(frozen=True)
class Finding:
    """One thing that would make a score untrue, or a table poorer than it looks.

    Args:
        check: which check found it: a key of `loopline.audit.checks.CHECKS`.
        severity: `leak`: a score made with it would be untrue, and a person has to decide;
            `repairable`: it would be untrue, and splitting or grouping puts it right; `warning`:
            worth a look; `note`: told, nothing to do.
        sentence: what was found, with numbers, for a person.
        columns: the columns it is about; empty when it is about rows.
        num_rows: rows concerned.
        share: of all rows looked at, 0 to 1.
        rows: up to `NUM_EXAMPLES` row numbers of the table.
        examples: those rows, or pairs of rows, as plain data.
        splits: where it stands, such as ("train",) or ("train", "test").
        confidence: how sure the check is that this is what it says, 0 to 1.
        worth: the price, where one was measured.
        remedy: the way out.
        facts: further numbers of the check.
    """

    check: str
    severity: Severity
    sentence: str
    columns: tuple[str, ...] = ()
    num_rows: int = 0
    share: float = 0.0
    rows: tuple[int, ...] = ()
    examples: tuple[Mapping[str, Any], ...] = ()
    splits: tuple[str, ...] = ()
    confidence: float = 1.0
    worth: Worth | None = None
    remedy: Remedy | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def with_worth(self, worth: Worth | None) -> Finding:
        """The same finding with its price."""
        return replace(self, worth=worth)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it back."""
        return {
            "check": self.check,
            "severity": self.severity,
            "sentence": self.sentence,
            "columns": list(self.columns),
            "num_rows": self.num_rows,
            "share": self.share,
            "rows": list(self.rows),
            "examples": [dict(example) for example in self.examples],
            "splits": list(self.splits),
            "confidence": self.confidence,
            "worth": self.worth.to_dict() if self.worth else None,
            "remedy": asdict(self.remedy) if self.remedy else None,
            "facts": dict(self.facts),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Finding:
        """Read what `to_dict` wrote."""
        values = dict(data)
        for name in ("columns", "rows", "splits", "examples"):
            values[name] = tuple(values[name])
        values["worth"] = Worth.from_dict(values["worth"]) if values["worth"] else None
        values["remedy"] = Remedy(**values["remedy"]) if values["remedy"] else None
        return Finding(**values)


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Worst first: by severity, then by whether it matters, then by how sure, then by rows.

    >>> note = Finding("rare", "note", "A note.")
    >>> leak = Finding("copy", "leak", "A leak.")
    >>> [finding.check for finding in ranked([note, leak])]
    ['copy', 'rare']
    """

    def place(finding: Finding) -> tuple[int, float, float, float, str]:
        worth = finding.worth
        price = worth.difference.value if worth is not None and worth.matters else 0.0
        return (
            SEVERITIES.index(finding.severity),
            -float(price > 0.0),
            -finding.confidence,
            -finding.share,
            finding.sentence,
        )

    return sorted(findings, key=place)
