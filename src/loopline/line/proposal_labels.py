"""`loopline init`: a settings file for a table, and for one whose rows have several labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from loopline.data.multilabel import likely_separator, multilabel_schema, with_labels
from loopline.data.schema import Schema
from loopline.data.sources import Table
from loopline.evaluate.metrics import default_metric
from loopline.line.pair import read_pair
from loopline.line.proposal import (
    Proposal,
    column_line,
    data_lines,
    named_columns,
    propose,
    scalar,
)
from loopline.models.pretrained import missing_for_text
from loopline.progress import Reporter
from loopline.splits.propose import propose_split
from loopline.words import counted, sentence

LISTS = "the cells are lists"


def propose_table(
    data: str,
    target: str,
    *,
    test: str | None,
    file: Path,
    reporter: Reporter,
    columns: Sequence[str] | None = None,
) -> Proposal:
    """Read the data and propose: several labels a row where that is beyond doubt, else one.

    Args:
        data: path, glob or URL.
        target: the column to predict.
        test: an official test file.
        file: where the settings file will stand; paths in it are relative to it.
        reporter: hears of progress.
        columns: names for files without a header row.
    """
    with reporter.step("read the data"):
        table, official = read_pair(data, test, columns)
    if target in table.frame.columns and _has_sets(table.frame[target]):
        return _proposal(data, target, test, file, table, columns)
    return propose(
        data,
        target,
        test=test,
        file=file,
        reporter=reporter,
        columns=columns,
        pair=(table, official),
    )


def propose_labels(
    data: str,
    target: str,
    *,
    test: str | None,
    file: Path,
    reporter: Reporter,
    columns: Sequence[str] | None = None,
) -> Proposal:
    """Propose a line whose rows have several labels, as `loopline init --task multilabel` asks.

    Args:
        data: path, glob or URL.
        target: the column of lists, or of texts with a separator.
        test: an official test file.
        file: where the settings file will stand; paths in it are relative to it.
        reporter: hears of progress.
        columns: names for files without a header row.

    Raises:
        DataError: the target holds no labels, or what parts them is in doubt.
    """
    with reporter.step("read the data"):
        table, _ = read_pair(data, test, columns)
    return _proposal(data, target, test, file, table, columns)


def _has_sets(cells: pl.Series) -> bool:
    return isinstance(cells.dtype, pl.List | pl.Array) or likely_separator(cells) is not None


def _proposal(
    data: str,
    target: str,
    test: str | None,
    file: Path,
    table: Table,
    names: Sequence[str] | None,
) -> Proposal:
    frame = table.frame
    found = likely_separator(frame[target]) if target in frame.columns else None
    settings: dict[str, dict[str, Any]] = {target: {"separator": found[0]}} if found else {}
    frame = with_labels(frame, target, settings)
    schema = multilabel_schema(frame, target, settings)
    told = schema.named(schema.target).reason
    sentences = [
        f"{counted(frame.height, 'row')} × {counted(frame.width - 1, 'column')}.",
        sentence(f"{target!r} is the {told}"),
        *map(sentence, table.facts.notes),
    ]
    reason = "" if test else propose_split(schema, frame, {"method": "auto"}, seed=0)[1]
    lines = [
        "# A Loopline line for rows with several labels each: every label is there or not.",
        "# All settings: docs/settings.md, or `loopline schema`.",
        "version: 1",
        *data_lines(data, test, file, "rows", named_columns(names)),
        f"target: {scalar(target)}",
        f"task: multilabel  # {found[1] if found else LISTS}",
        "",
        "columns:",
        *([f"  {scalar(target)}: {{separator: {scalar(found[0])}}}"] if found else []),
        *(
            column_line(column)
            for column in schema.columns
            if column.name not in (target, schema.target)
        ),
        "",
        "split:",
        "  method: auto" + (f"  # {reason}" if reason else ""),
        "",
        *_models(schema),
        "objective:",
        f"  metric: {default_metric('multilabel').name}  # ranks the candidates",
        "seed: 0",
    ]
    return Proposal("\n".join(lines) + "\n", (*sentences, *([reason] if reason else [])), schema)


def _models(schema: Schema) -> list[str]:
    lines = [
        "models:  # the simplest that is not measurably worse wins",
        "  - baseline  # the share of each label",
        "  - linear  # one logistic regression a label",
    ]
    kinds = {schema.named(name).type for name in schema.features}
    if kinds - {"text", "image"}:
        lines.append("  - lightgbm  # one tree a label in each round")
    if "text" not in kinds:
        return lines
    missing = missing_for_text()
    if missing:
        told = "  # text, a pretrained encoder, would read the texts too: " + missing
        return [*lines, told]
    reads = "a pretrained encoder reads the texts, only a linear head learns"
    return [*lines, "  - text:", f"      tune: head  # {reads}; `full` learns more, and slowly"]
