"""`loopline init`: a short settings file in which every inferred value stands with its reason."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from loopline.audit.columns import column_findings
from loopline.audit.price import Pricing
from loopline.audit.structure import Structure, find_structure
from loopline.cores import num_cores
from loopline.data.clean import (
    CleanPolicy,
    Finding,
    apply_repairs,
    find_problems,
    plan_repairs,
)
from loopline.data.fingerprint import row_digests
from loopline.data.inference import infer_schema
from loopline.data.schema import Column, Schema
from loopline.data.sources import Table
from loopline.errors import LooplineError
from loopline.evaluate.metrics import default_metric
from loopline.line.pair import label_map, read_pair
from loopline.line.suited import suited
from loopline.models.pretrained import missing_for_text
from loopline.progress import Reporter
from loopline.seeds import child_seed
from loopline.splits.propose import propose_split
from loopline.splits.spec import SplitSettings
from loopline.splits.split import make_split
from loopline.words import sentence

LEAK_ROWS = 200_000
REPAIRS_OFFERED = ("infinite", "sentinel", "mixed_types", "empty_text", "mojibake")
"""Repairs of single values that a person may well want; others change what the rows mean."""
MAX_SIMPLE_KEY = 1_000
"""YAML takes a longer key only after a question mark."""


@dataclass(frozen=True)
class Proposal:
    """A proposed settings file.

    Args:
        text: the YAML with its comments.
        sentences: what a person should know before running it.
        schema: what was inferred.
    """

    text: str
    sentences: tuple[str, ...]
    schema: Schema

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"schema": self.schema.to_dict(), "sentences": list(self.sentences)}


def propose(
    data: str,
    target: str,
    *,
    test: str | None,
    file: Path,
    reporter: Reporter,
    columns: Sequence[str] | None = None,
    pair: tuple[Table, Table | None] | None = None,
) -> Proposal:
    """Read the data, infer what its columns are and are for, and write it down.

    Args:
        data: path, glob or URL.
        target: the column to predict.
        test: an official test file.
        file: where the settings file will stand; paths in it are relative to it.
        reporter: hears of progress.
        columns: names for files without a header row.
        pair: the data and the test file, where they were read before.
    """
    if pair is None:
        with reporter.step("read the data"):
            pair = read_pair(data, test, columns)
    table, official = pair
    with reporter.step("look at the columns"):
        schema, frame, findings = _columns(table.frame, target)
    maps = {} if official is None else label_map(table.frame[target], official.frame[target])
    with reporter.step("look for columns that carry the answer"):
        leaks, strong = _leaks(frame, schema)
    for column, reason in leaks.items():
        schema = schema.changed(column, role="ignore", reason=reason)
    reason = ""
    together: list[str] = []
    if test is None:
        found = _together(frame, schema, reporter)
        schema = found.applied(schema)
        together = [
            each.sentence for each in found.findings if set(each.columns) & set(found.roles)
        ]
        _, reason = propose_split(schema, frame, {"method": "auto"}, seed=0)
    sentences = [
        f"{table.frame.height:,} rows × {table.frame.width:,} columns.",
        sentence(f"{target!r} is the {schema.named(target).reason}"),
        *map(sentence, table.facts.notes),
        *_of_test(official, maps, target),
        *[
            finding.sentence + _repair(finding)
            for finding in findings
            if finding.severity != "info"
        ],
        *_left_out(leaks),
        *strong,
        *together,
        *(
            ["No column is left to predict from: give one the role feature under `columns`."]
            if not schema.features
            else []
        ),
        *([reason] if reason else []),
    ]
    text = _text(
        data,
        test,
        file,
        schema,
        reason,
        given=(table if columns or table.format.images else None, maps),
    )
    return Proposal(text, tuple(sentences), schema)


def _columns(frame: pl.DataFrame, target: str) -> tuple[Schema, pl.DataFrame, list[Finding]]:
    """The schema as the line will see it, which looks at the columns after the repairs."""
    policy = CleanPolicy()
    schema = infer_schema(frame, target=target)
    findings = find_problems(frame, schema, policy=policy)
    repairs = plan_repairs(findings, policy)
    if not repairs:
        return schema, frame, findings
    repaired = apply_repairs(frame, repairs).frame
    return infer_schema(repaired, target=target), repaired, findings


def _left_out(leaks: Mapping[str, str]) -> list[str]:
    """One sentence for each reason, with the columns that it takes out."""
    return [
        f"Left out: {' and '.join(name for name, why in leaks.items() if why == reason)}, "
        f"because {reason[:1].lower()}{reason[1:]}"
        for reason in dict.fromkeys(leaks.values())
    ]


def _repair(finding: Finding) -> str:
    """What the line does about a finding, or how to have it done."""
    if finding.applied:
        return " The line repairs it."
    if finding.repair is None or finding.kind not in REPAIRS_OFFERED:
        return ""
    return f" To repair it: `clean: {{{finding.kind}: repair}}`."


def _leaks(frame: pl.DataFrame, schema: Schema) -> tuple[dict[str, str], list[str]]:
    """Columns that give the answer away, and sentences on those that nearly do.

    They are looked for on the training side of a provisional split.
    """
    if frame.height > LEAK_ROWS:
        frame = frame.head(LEAK_ROWS)
    try:
        declared = bool(schema.with_role("group") or schema.with_role("time"))
        settings = SplitSettings("random", ignore_structure=declared)
        digests = row_digests(frame)
        split = make_split(frame, schema, digests, settings)
        view = split.train_view(frame, schema, digests)
    except LooplineError:
        return {}, []
    found: dict[str, str] = {}
    strong: list[str] = []
    test = split.test_view(frame, schema, digests)
    for finding in column_findings(view, pricing=_pricing(), test=test):
        if finding.severity == "leak":
            for name in finding.columns:
                found.setdefault(name, finding.sentence)
        elif finding.severity == "warning":
            strong.append(finding.sentence)
    return found, strong


def _together(frame: pl.DataFrame, schema: Schema, reporter: Reporter) -> Structure:
    """Columns that name sources or times, where a random split would claim too much."""
    return find_structure(
        frame,
        schema,
        row_digests(frame),
        twins=False,
        pricing=_pricing(),
        reporter=reporter,
    )


def _pricing() -> Pricing:
    return Pricing(seed=child_seed(0, "audit"), threads=num_cores())


def _of_test(official: Table | None, maps: Mapping[str, str], target: str) -> list[str]:
    """How the test file was read, and what is done about its labels."""
    if official is None:
        return []
    told = [sentence(f"test file: {note}") for note in official.facts.notes]
    if maps:
        shown = ", ".join(f"{old!r} is {new!r}" for old, new in list(maps.items())[:3])
        told.append(f"The test file spells the labels of {target!r} differently: {shown}.")
    return told


def data_lines(
    data: str, test: str | None, file: Path, pieces: str, form: Sequence[str] = ()
) -> list[str]:
    """Where the data lies, as every proposal begins.

    Args:
        data: path, glob or URL.
        test: an official test file.
        file: where the settings file will stand; paths in it are relative to it.
        pieces: what the test file holds, `"rows"`.
        form: lines of `data.format`.
    """
    lines = ["data:", f"  source: {scalar(relative(data, file))}"]
    if test is not None:
        lines.append(f"  test: {scalar(relative(test, file))}  # the official test {pieces}")
    return [*lines, "  format:", *form] if form else lines


def named_columns(names: Sequence[str] | None) -> list[str]:
    """The line of `data.format` for names that were given; none where none were."""
    return [f"    columns: {scalar(list(names))}"] if names else []


def _format_lines(table: Table | None) -> list[str]:
    if table is None:
        return []
    lines = []
    if table.format.columns is not None:
        lines.append(f"    header: {'true' if table.format.header else 'false'}")
        lines += named_columns(table.format.columns)
    if table.format.images:
        lines.append(f"    images: {scalar(list(table.format.images))}  # paths of the pictures")
    return lines


def _text(
    data: str,
    test: str | None,
    file: Path,
    schema: Schema,
    reason: str,
    *,
    given: tuple[Table | None, Mapping[str, str]] = (None, {}),
) -> str:
    positive = schema.classes[-1] if schema.task == "binary" else None
    named, maps = given
    lines = [
        "# A Loopline line. What was inferred stands here with its reason; change what is wrong.",
        "# All settings: docs/settings.md, or `loopline schema`.",
        "version: 1",
        *data_lines(data, test, file, "rows", _format_lines(named)),
    ]
    target = schema.named(schema.target)
    known = f"target of a {schema.task} task: "
    lines += [
        f"target: {scalar(schema.target)}",
        f"task: {schema.task}  # {_one_line(target.reason.removeprefix(known))}",
    ]
    if positive is not None:
        lines.append(f"positive: {scalar(positive)}  # the class whose probability is predicted")
    lines += ["", "columns:"]
    if maps:
        lines.append(f"  {scalar(schema.target)}: {{map: {scalar(dict(maps))}}}  # test labels")
    lines += [column_line(column) for column in schema.columns if column.role != "target"]
    lines += [
        "",
        "split:",
        "  method: auto" + (f"  # {_one_line(reason)}" if reason else ""),
        "",
        *_model_lines(schema),
        "objective:",
        f"  metric: {default_metric(schema.task).name}  # ranks the candidates",
        "seed: 0",
    ]
    return "\n".join(lines) + "\n"


def _model_lines(schema: Schema) -> list[str]:
    """The candidates; with texts also a pretrained encoder, with images a network for them."""
    texts = [name for name in schema.features if schema.named(name).type == "text"]
    candidates, reason = suited(schema)
    why = f"; {reason}" if reason else ""
    if not texts:
        named = ", ".join(each.name for each in candidates)
        return [f"models: [{named}]  # the simplest that is not measurably worse wins{why}"]
    others = len(texts) < len(schema.features)
    lines = [
        f"models:  # the simplest that is not measurably worse wins{why}",
        "  - baseline",
        "  - linear  # weighted terms of the texts: the simple rival",
    ]
    if others:
        lines.append("  - lightgbm  # for the columns that are no texts, and the texts' terms")
    if any(each.name == "image" for each in candidates):
        lines.append("  - image")
    mixed = [
        "  - multimodal  # one network for all columns"
        for each in candidates
        if each.name == "multimodal"
    ]
    missing = missing_for_text()
    if missing:
        told = "  # text, a pretrained encoder, would read the texts too: " + missing
        return [*lines, told, *mixed]
    reads = "a pretrained encoder reads the texts, only a linear head learns"
    tune = f"      tune: head  # {reads}; `full` learns more, and slowly"
    return [*lines, "  - text:", tune, *mixed]


def column_line(column: Column) -> str:
    """A column as a line of the settings file, with its reason."""
    entry = f"type: {column.type}"
    if column.role != "feature":
        entry += f", role: {column.role}"
    comment = f"  # {_one_line(column.reason)}" if column.reason else ""
    name = scalar(column.name)
    if len(name) > MAX_SIMPLE_KEY:
        return f"  ? {name}\n  : {{{entry}}}{comment}"
    return f"  {name}: {{{entry}}}{comment}"


def _one_line(text: str) -> str:
    """A reason as one comment line: without line breaks and what YAML allows nowhere."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(plain.split())


def relative(data: str, file: Path) -> str:
    """A path as seen from the folder of the settings file."""
    if "://" in data:
        return data
    full, folder = Path(data).expanduser().resolve(), file.resolve().parent
    apart = os.path.relpath(full, folder)
    # A path that climbs far is harder to read, and no safer to move, than a whole one.
    return str(full) if apart.startswith(os.path.join("..", "..", "..")) else apart


def scalar(value: Any) -> str:
    """A value as YAML writes it inside a line."""
    # Only double quotes keep a line break or control character inside one line.
    quoted = isinstance(value, str) and not value.isprintable()
    text = yaml.safe_dump(
        value,
        default_flow_style=True,
        default_style='"' if quoted else None,
        allow_unicode=not quoted,
        width=10**9,
    )
    return text.removesuffix("\n").removesuffix("\n...")
