"""From a source to a clean table: ingest, and plan (cleaning and schema)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopline.data.clean import (
    CleanPolicy,
    Repair,
    apply_repairs,
    find_problems,
    plan_repairs,
)
from loopline.data.inference import infer_schema
from loopline.data.made_targets import MADE_TARGETS, MadeTarget
from loopline.data.pixels import readable
from loopline.data.schema import Schema, has_classes
from loopline.data.snapshot import open_snapshot, write_snapshot
from loopline.data.sources import Table, read_table
from loopline.errors import DataError, SettingsError
from loopline.evaluate.metrics import metric
from loopline.line.context import LineContext
from loopline.line.official import PART, whole_rows
from loopline.line.source import locate, table_format
from loopline.line.spec import CostSpec
from loopline.store.artifacts import Artifact
from loopline.words import nearest


def ingest(context: LineContext, key: Mapping[str, Any], frame: pl.DataFrame | None) -> Artifact:
    """Read the source, and the official test file if there is one, into a snapshot.

    The artifact says how the source was read; the snapshot is its input.
    """
    spec = context.spec
    made = MADE_TARGETS.get(spec.task or "")

    def make() -> Artifact:
        with context.reporter.step("read the data"):
            if frame is not None:
                table = read_table(frame)
            else:
                table = read_table(
                    locate(context, spec.data.source),
                    format=table_format(context),
                )
            if PART in table.frame.columns:
                raise DataError(f"The column name {PART!r} is Loopline's own. Rename the column.")
            whole = table.frame
            if spec.data.test is not None:
                whole = _with_official_test(context, table)
            if made is not None:
                whole = made.add(whole, spec.target, _column_settings(context))
        for note in table.facts.notes:
            context.reporter.note(note)
        with context.reporter.step("digest and store the snapshot"):
            snapshot = write_snapshot(context.store, whole)
        context.ledger.append(
            "source.read", run=context.run, subject=snapshot.id, data=table.facts.to_dict()
        )
        meta = {
            "format": table.format.to_dict(),
            "kind": table.facts.kind,
            "notes": list(table.facts.notes),
        }
        return context.store.put(
            "source", lambda folder: None, meta=meta, inputs={"snapshot": snapshot.id}
        )

    given = spec.data.format.model_dump(exclude_none=True)
    settings: dict[str, Any] = {"source": dict(key), "format": given}
    if made is not None:
        settings["texts"] = spec.target
        own = spec.columns.get(spec.target)
        if own is not None and own.separator is not None:
            settings["separator"] = own.separator
    return context.stage("ingest", 2, settings=settings, inputs={}, make=make)


def _column_settings(context: LineContext) -> dict[str, dict[str, Any]]:
    """What the settings say of columns, as plain data."""
    columns = context.spec.columns.items()
    return {name: column.model_dump(exclude_none=True) for name, column in columns}


def check_test_columns(table: Table, test: Table, name: str) -> None:
    """Refuse an official test file whose columns are not those of the source.

    Raises:
        DataError: with the columns that differ.
    """
    here, there = table.frame.columns, test.frame.columns
    in_table, in_test = set(here), set(there)
    lacks = [column for column in here if column not in in_test]
    extra = [column for column in there if column not in in_table]
    told = [
        f"{verb} {', '.join(map(repr, columns[:10]))}{' …' if len(columns) > 10 else ''}"
        for verb, columns in (("lacks", lacks), ("has besides", extra))
        if columns
    ]
    if told:
        raise DataError(
            f"The test file {name} must have the columns of the source; it {' and '.join(told)}. "
            "Make them equal."
        )


def _with_official_test(context: LineContext, table: Table) -> pl.DataFrame:
    test_source = context.spec.data.test
    assert test_source is not None
    test = read_table(locate(context, test_source), format=table.format)
    check_test_columns(table, test, test_source)
    return pl.concat(
        [
            table.frame.with_columns(pl.lit("train").alias(PART)),
            test.frame.select(table.frame.columns).with_columns(pl.lit("test").alias(PART)),
        ],
        how="vertical_relaxed",
    )


@dataclass(frozen=True)
class Plan:
    """What the plan stage decided; read from its artifact."""

    artifact: Artifact

    @cached_property
    def data(self) -> dict[str, Any]:
        """schema, findings, repairs and notes as plain data."""
        text = self.artifact.path("plan.json").read_text(encoding="utf-8")
        data: dict[str, Any] = json.loads(text)
        return data

    @cached_property
    def schema(self) -> Schema:
        """Columns with types and roles."""
        return Schema.from_dict(self.data["schema"])

    @cached_property
    def repairs(self) -> tuple[Repair, ...]:
        """The repairs that were applied."""
        return tuple(Repair.from_dict(repair) for repair in self.data["repairs"])

    @property
    def snapshot_id(self) -> str:
        """The snapshot that training uses: the source's, or its cleaned child."""
        return self.artifact.inputs["snapshot"]


def plan(context: LineContext, source: Artifact) -> Plan:
    """Infer the schema, find problems, apply the repairs; the result is a new snapshot."""
    spec = context.spec
    columns = _column_settings(context)
    settings = {
        "target": spec.target,
        "task": spec.task,
        "positive": spec.positive,
        "columns": columns,
        "clean": dict(spec.clean),
    }
    artifact = context.stage(
        "plan",
        3,
        settings=settings,
        inputs={"raw": source.inputs["snapshot"]},
        make=lambda: _make_plan(context, source, columns),
    )
    return Plan(artifact)


def _make_plan(
    context: LineContext, source: Artifact, columns: Mapping[str, Mapping[str, Any]]
) -> Artifact:
    spec = context.spec
    made = MADE_TARGETS.get(spec.task or "")
    before = open_snapshot(context.store, source.inputs["snapshot"])
    with context.reporter.step("look at the columns and clean"):
        frame = before.frame()
        overrides = {
            name: {key: value for key, value in column.items() if key != "map"}
            for name, column in columns.items()
        }
        if PART in frame.columns:
            overrides[PART] = {"role": "ignore", "type": "category"}
        maps = [
            _value_map(name, column["map"], frame)
            for name, column in columns.items()
            if "map" in column
        ]
        mapped = apply_repairs(frame, maps).frame if maps else frame

        def infer(table: pl.DataFrame) -> Schema:
            if made is not None:
                return made.schema(table, spec.target, overrides)
            return infer_schema(
                table,
                target=spec.target,
                task=spec.task,
                positive=spec.positive,
                overrides=overrides,
            )

        policy = CleanPolicy.from_dict(dict(spec.clean))
        schema = infer(mapped)
        findings = find_problems(mapped, schema, policy=policy)
        repairs = [*maps, *plan_repairs(findings, policy)]
        repairs += _shared_with_official_test(mapped)
        cleaned = apply_repairs(frame, repairs)
        if repairs:
            if made is not None:
                _refuse_changed_texts(cleaned.frame, spec.target, columns, made)
            schema = infer(cleaned.frame)
            after = write_snapshot(
                context.store,
                cleaned.frame,
                parent=before.id,
                facts={"repairs": [repair.to_dict() for repair in repairs]},
            )
        else:
            after = before
    _check_settings_against(schema, context)
    for column in schema.columns:
        if column.role == "feature" and column.missing == "error":
            cells = cleaned.frame[column.name]
            _refuse_missing(cells.set(~readable(cells), None) if column.type == "image" else cells)
    if not schema.features:
        why = "; ".join(
            f"{column.name} is {column.role} ({column.reason})"
            for column in schema.columns
            if column.role != "target"
        )
        raise DataError(
            f"No column is left to predict {schema.target!r} from: {why or 'there is no other'}. "
            "Give one the role feature under `columns`."
        )
    data = {
        "schema": schema.to_dict(),
        "findings": [finding.to_dict() for finding in findings],
        "repairs": [repair.to_dict() for repair in repairs],
        "num_rows": cleaned.frame.height,
    }

    def write(folder: Path) -> None:
        (folder / "plan.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
        (folder / "record").mkdir()
        cleaned.record.save(folder / "record")

    return context.store.put("plan", write, inputs={"raw": before.id, "snapshot": after.id})


def _refuse_changed_texts(
    frame: pl.DataFrame, text: str, columns: Mapping[str, Mapping[str, Any]], made: MadeTarget
) -> None:
    """The target was made before the repairs, so none may change what it was made of."""
    if not made.add(frame, text, columns).equals(frame):
        raise SettingsError(
            [
                f"A repair under `clean` would change texts in {text!r}, and a model is scored on "
                "texts as they are. Set that kind of repair to report."
            ]
        )


def _refuse_missing(series: pl.Series) -> None:
    rows = series.is_null().arg_true()
    if rows.len():
        shown = ", ".join(str(row + 1) for row in rows.head(5))
        raise DataError(
            f"`columns.{series.name}.missing` is error, and {rows.len():,} cells are missing, in "
            f"rows {shown}{' …' if rows.len() > 5 else ''}. Fill them, or choose another policy."
        )


def _value_map(name: str, mapping: Mapping[Any, Any], frame: pl.DataFrame) -> Repair:
    """The repair that `columns.<name>.map` asks for, its keys read in the column's type."""
    if name not in frame.columns:
        raise SettingsError(
            [f"`columns.{name}` is not a column of the data. {nearest(name, frame.columns)}"]
        )
    numeric = frame[name].dtype.is_numeric()
    pairs = {}
    for old, new in mapping.items():
        try:
            pairs[float(old) if numeric and isinstance(old, str) else old] = new
        except ValueError:
            raise SettingsError(
                [
                    f"`columns.{name}.map` names {old!r}, but the column holds numbers. "
                    "Give numbers as keys."
                ]
            ) from None
    return Repair.replace(name, pairs, reason="given in the settings")


def _shared_with_official_test(frame: pl.DataFrame) -> list[Repair]:
    """Training rows that also stand in the official test file leave the training side."""
    if PART not in frame.columns:
        return []
    digests = whole_rows(frame)
    is_test = (frame[PART] == "test").to_numpy()
    void = np.ascontiguousarray(digests).view([("a", "<u8"), ("b", "<u8")]).reshape(-1)
    shared = np.flatnonzero(~is_test & np.isin(void, np.unique(void[is_test])))
    if not len(shared):
        return []
    return [
        Repair.drop_rows(
            shared.tolist(),
            reason=f"{len(shared):,} training rows also stand in the official test file; "
            "they were taken out of training",
        )
    ]


def _check_settings_against(schema: Schema, context: LineContext) -> None:
    """Settings that turn out to have no effect for the task that the target makes."""
    spec = context.spec
    problems = []
    if not has_classes(schema.task):
        for label, value in (
            ("calibration", spec.calibration),
            ("class_weight", spec.class_weight),
            ("positive", spec.positive),
        ):
            if value is not None:
                problems.append(
                    f"`{label}` has no effect: the target {schema.target!r} makes this a "
                    f"{schema.task} task. Remove it, or set `task`."
                )
    if spec.objective.metric is not None:
        try:
            metric(spec.objective.metric, schema.task)
        except SettingsError as error:
            problems += [f"`objective.metric`: {problem}" for problem in error.problems]
    if schema.task != "binary":
        problems += [
            f"`objective.{name}` has no effect: it needs a binary task, and the target "
            f"{schema.target!r} makes this {schema.task}. Remove it, or set `task`."
            for name in ("cost", "require", "threshold")
            if getattr(spec.objective, name) is not None
        ]
    problems += _price_problems(spec.objective.cost, schema)
    if problems:
        raise SettingsError(problems)


def _price_problems(cost: CostSpec | None, schema: Schema) -> list[str]:
    """What is wrong with the columns that prices are read from."""
    known = {column.name: column for column in schema.columns}
    problems = []
    for name in () if cost is None else cost.columns:
        if name not in known:
            problems.append(
                f"`objective.cost` names the column {name!r}, which the data does not have. Name "
                "a column of numbers, or give a number."
            )
        elif known[name].type != "number":
            problems.append(
                f"`objective.cost` names the column {name!r}, which holds no numbers but "
                f"{known[name].type}. Name a column of numbers, or give a number."
            )
        elif known[name].role == "target":
            problems.append(f"`objective.cost` names {name!r}, which is the target.")
    return problems
