"""`loopline audit`: everything that would make a score untrue, told of a table or of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from loopline.audit.finding import Finding
from loopline.audit.price import Pricing
from loopline.audit.whole import Audited, audit_features, audit_frame
from loopline.cores import num_cores
from loopline.data.clean import CleanPolicy, apply_repairs, find_problems, plan_repairs
from loopline.data.inference import infer_schema
from loopline.data.made_targets import MADE_TARGETS
from loopline.data.schema import Task
from loopline.data.sources import read_table
from loopline.errors import LooplineError, SettingsError
from loopline.frames import as_frame, is_frame
from loopline.line.audit_page import write_audit_page
from loopline.line.console import console_reporter
from loopline.progress import Reporter, SilentReporter
from loopline.words import counted


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Args:
        name: what was audited.
        facts: sentences about the table and how it would be divided.
        findings: worst first.
    """

    name: str
    facts: tuple[str, ...]
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for scripts."""
        return {
            "name": self.name,
            "facts": list(self.facts),
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def report(self, path: str | Path) -> Path:
        """Write the audit as one self-contained HTML file."""
        found = [finding.to_dict() for finding in self.findings]
        return write_audit_page(self.name, self.facts, found, path)

    def __len__(self) -> int:
        return len(self.findings)


def audit_table(
    data: Any,
    target: str | None = None,
    *,
    task: Task | None = None,
    columns: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    progress: bool = True,
    reporter: Reporter | None = None,
) -> Audit:
    """Find what would make a score on a table untrue, before there is a score.

    Duplicates and near duplicates, rows that belong together, time, columns that carry the answer,
    wrong labels, poor rows, and what moves between the sides of the split; each with its rows, its
    price and its repair. Nothing is stored and nothing is changed.

    Args:
        data: a path, glob or URL, or a polars, pandas or Arrow table.
        target: the column to predict; without one only duplicates and poor rows can be found.
        task: "binary", "multiclass" or "regression"; inferred by default.
        columns: what columns are, by name, as in a settings file: type, role.
        seed: of every random choice.
        progress: whether to show progress on the error stream.
        reporter: hears of progress, in place of the error stream.

    Raises:
        DataError: the data or the target cannot be used; the message names row or column.
        SplitError: the table cannot be divided.

    >>> import polars as pl
    >>> copy = [i % 2 for i in range(400)]
    >>> frame = pl.DataFrame({"x": [i % 50 for i in range(400)], "copy": copy, "y": copy})
    >>> audit_table(frame, "y", progress=False).findings[0].columns
    ('copy',)
    """
    if reporter is None:
        reporter = console_reporter() if progress else SilentReporter()
    notes: tuple[str, ...] = ()
    if is_frame(data):
        frame, name = as_frame(data), "a table"
    else:
        with reporter.step("read the data"):
            table = read_table(str(data))
        frame, name, notes = table.frame, Path(str(data)).name, tuple(table.facts.notes)
    size = f"{counted(frame.height, 'row')} × {counted(frame.width, 'column')}"
    pricing = Pricing(seed=seed, threads=num_cores())
    if target is None:
        found = _without_target(frame, pricing, reporter)
    else:
        found = _with_target(frame, target, task, dict(columns or {}), pricing, reporter)
    facts = (f"{size}.", *notes, *((found.reason,) if found.reason else ()))
    return Audit(name, facts, found.findings)


def _with_target(
    frame: pl.DataFrame,
    target: str,
    task: Task | None,
    columns: dict[str, Mapping[str, Any]],
    pricing: Pricing,
    reporter: Reporter,
) -> Audited:
    if task in MADE_TARGETS:
        raise SettingsError(
            [
                f"An audit looks at targets of one class or number a row, not at `task: {task}`. "
                "Leave out the target: copies and poor rows are found without it."
            ]
        )
    with reporter.step("look at the columns and clean"):
        policy = CleanPolicy()
        schema = infer_schema(frame, target=target, task=task, overrides=columns)
        repairs = plan_repairs(find_problems(frame, schema, policy=policy), policy)
        if repairs:
            frame = apply_repairs(frame, repairs).frame
            schema = infer_schema(frame, target=target, task=task, overrides=columns)
    decided = [name for name, entry in columns.items() if "role" in entry]
    return audit_frame(frame, schema, decided=decided, pricing=pricing, reporter=reporter)


def _without_target(frame: pl.DataFrame, pricing: Pricing, reporter: Reporter) -> Audited:
    types: dict[str, str] = {}
    for name in frame.columns:
        try:
            schema = infer_schema(frame, target=name)
        except LooplineError:
            continue
        types = {column.name: column.type for column in schema.columns}
        break
    return audit_features(frame, types, pricing=pricing, reporter=reporter)
