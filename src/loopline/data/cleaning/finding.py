"""What a check found: plain data that a person, a page and the settings can all read."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.cleaning.repair import Repair

Severity = Literal["info", "warning", "error"]
NUM_EXAMPLES = 5
LONGEST_TEXT = 80


@dataclass(frozen=True, slots=True)
class Example:
    """One row that shows a finding: its number in the table (from 0) and the value there."""

    row: int
    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of one or more columns, with its evidence and the repair it would take.

    Args:
        kind: one of `loopline.data.cleaning.policy.KINDS`.
        columns: the columns concerned, in table order; empty for whole rows.
        count: how many cells, rows or columns are concerned.
        share: `count` as a part of the table's rows, 0 to 1.
        sentence: what was seen, in words, with numbers.
        severity: `info` is good to know, `warning` deserves a look, `error` should stop a line.
        examples: up to five rows with their values.
        repair: what would put it right, or None where only a person can know.
        applied: whether the policy applies the repair.
    """

    kind: str
    columns: tuple[str, ...]
    count: int
    share: float
    sentence: str
    severity: Severity
    examples: tuple[Example, ...] = ()
    repair: Repair | None = None
    applied: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it back."""
        return {
            "kind": self.kind,
            "columns": list(self.columns),
            "count": self.count,
            "share": self.share,
            "sentence": self.sentence,
            "severity": self.severity,
            "examples": [[example.row, example.value] for example in self.examples],
            "repair": None if self.repair is None else self.repair.to_dict(),
            "applied": self.applied,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Finding:
        """Read what `to_dict` wrote."""
        return Finding(
            kind=data["kind"],
            columns=tuple(data["columns"]),
            count=data["count"],
            share=data["share"],
            sentence=data["sentence"],
            severity=data["severity"],
            examples=tuple(Example(row, value) for row, value in data["examples"]),
            repair=None if data["repair"] is None else Repair.from_dict(data["repair"]),
            applied=data["applied"],
        )


def plain(value: object, letters: int = LONGEST_TEXT) -> str | int | float | bool | None:
    """A cell as every finding shows it in JSON.

    No number is none, dates and endless numbers are text, long text is cut, of bytes the number is
    told.

    >>> plain(float("nan")), plain(float("inf")), plain(2), plain(b"abc")
    (None, 'inf', 2, '3 bytes')
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = value.isoformat() if isinstance(value, dt.date | dt.time) else str(value)
    return text if len(text) <= letters else text[: letters - 1] + "…"


def examples_at(values: pl.Series, rows: Sequence[int] | NDArray[np.int64]) -> tuple[Example, ...]:
    """The first examples among the given row numbers."""
    return tuple(Example(int(row), plain(values[int(row)])) for row in rows[:NUM_EXAMPLES])


def examples_where(values: pl.Series, mask: pl.Series) -> tuple[Example, ...]:
    """The first examples among the rows where the mask is true."""
    return examples_at(values, mask.arg_true().head(NUM_EXAMPLES).to_list())


def quoted(values: Sequence[object], limit: int = 3) -> str:
    """Values for a sentence: ``'a', 'b' …``."""
    shown = ", ".join(repr(plain(value)) for value in values[:limit])
    return shown + (" …" if len(values) > limit else "")
