"""Cleaning: problems are found and told, repairs are data, and every repair can be taken back.

What this module gives: `find_problems` looks at a table and says what is wrong with it;
`plan_repairs` picks the repairs that the policy allows; `apply_repairs` makes them and keeps what
`undo` needs; `repair_values` and `repair_row` make the same value repairs on what is predicted.

Nothing is learned here that a test row could leak through: the repairs applied by default are
rules over the spellings present, with no count, mean or target in them. Filling missing cells is
learned later, on the training view, by the feature step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import polars as pl

from loopline.data.cleaning import column, numbers, tables, texts, times
from loopline.data.cleaning.column import ColumnView
from loopline.data.cleaning.finding import Example, Finding
from loopline.data.cleaning.policy import KINDS, CleanPolicy
from loopline.data.cleaning.record import Cleaned, Record, apply_repairs, undo
from loopline.data.cleaning.repair import VALUE_KINDS, Cell, Repair, repair_row, repair_values
from loopline.data.schema import Schema
from loopline.errors import DataError

__all__ = [
    "CleanPolicy",
    "Cleaned",
    "Example",
    "Finding",
    "Record",
    "Repair",
    "apply_repairs",
    "find_problems",
    "plan_repairs",
    "repair_row",
    "repair_values",
    "undo",
]

ColumnCheck = Callable[[ColumnView], list[Finding]]
TableCheck = Callable[[pl.DataFrame, Schema], list[Finding]]

# Each check with the kinds it can give; a check whose kinds are all off is not run.
COLUMN_CHECKS: tuple[tuple[ColumnCheck, tuple[str, ...]], ...] = (
    (column.find_missing, ("missing",)),
    (column.find_missing_burst, ("missing_burst",)),
    (column.find_constant, ("constant",)),
    (column.find_repeated_keys, ("key_not_unique",)),
    (numbers.find_infinite, ("infinite",)),
    (numbers.find_sentinels, ("sentinel",)),
    (numbers.find_negatives, ("negative",)),
    (numbers.find_unit_change, ("unit_change",)),
    (numbers.find_rounded_ids, ("rounded_ids",)),
    (numbers.find_outliers, ("outliers",)),
    (texts.find_empty, ("empty_text",)),
    (texts.find_mixed_types, ("mixed_types",)),
    (texts.find_placeholders, ("sentinel",)),
    (texts.find_spellings, ("spelling",)),
    (texts.find_edge_blanks, ("edge_blanks",)),
    (texts.find_mojibake, ("mojibake",)),
    (texts.find_newlines, ("embedded_newline",)),
    (texts.find_formulas, ("formula",)),
    (texts.find_leading_zeros, ("leading_zeros",)),
    (texts.find_cardinality_burst, ("cardinality_burst",)),
    (times.find_time_sentinels, ("sentinel",)),
    (times.find_future_times, ("future_times",)),
    (times.find_clock_shift, ("clock_shift",)),
    (times.find_day_first, ("day_first",)),
)
TABLE_CHECKS: tuple[tuple[TableCheck, tuple[str, ...]], ...] = (
    (tables.find_duplicate_rows, ("duplicate_rows", "label_disagreement")),
    (tables.find_truncated_tail, ("truncated_tail",)),
    (tables.find_equal_columns, ("duplicate_column", "renamed_column")),
    (tables.find_swapped_columns, ("swapped_columns",)),
)
ALWAYS = ("missing", "constant")  # told even of columns that no stage will read


def find_problems(
    frame: pl.DataFrame, schema: Schema, *, policy: CleanPolicy | None = None
) -> list[Finding]:
    """Look for everything in a table that would mislead a model or break a later stage.

    Cells are only looked at. Columns of role `ignore` are checked for missing cells and constancy
    alone. Checks run one column at a time, so the memory beyond the table is a few columns' worth;
    the search for columns that rename each other starts from the same 200,000 rows every time and
    is proved on all rows.

    Args:
        frame: the table, in canonical types.
        schema: its columns' types and roles.
        policy: the action for each kind; `CleanPolicy()` when None.

    Returns:
        Findings in a fixed order: columns in schema order, then whole-table ones.

    Raises:
        DataError: the schema names a column that the table lacks.

    >>> from loopline.data.schema import Column
    >>> schema = Schema((Column("size", "category"), Column("y", "number", "target")), "regression")
    >>> frame = pl.DataFrame({"size": ["small", "Small", "large"], "y": [1.0, 2.0, 4.0]})
    >>> [(finding.kind, finding.count) for finding in find_problems(frame, schema)]
    [('spelling', 1)]
    """
    policy = policy or CleanPolicy()
    present = set(frame.columns)
    absent = [entry.name for entry in schema.columns if entry.name not in present]
    if absent:
        raise DataError(
            f"The schema names {', '.join(repr(name) for name in absent[:5])}, which the table "
            f"lacks; it has {', '.join(frame.columns[:20])}."
        )
    findings: list[Finding] = []
    for entry in schema.columns:
        view = ColumnView(entry, frame[entry.name])
        for check, kinds in COLUMN_CHECKS:
            read = entry.role != "ignore" or kinds[0] in ALWAYS
            if read and any(policy.action(kind) != "off" for kind in kinds):
                findings += check(view)
    for table_check, kinds in TABLE_CHECKS:
        if any(policy.action(kind) != "off" for kind in kinds):
            findings += table_check(frame, schema)
    return [
        replace(
            finding,
            applied=finding.repair is not None and policy.action(finding.kind) == "repair",
        )
        for finding in findings
        if policy.action(finding.kind) != "off"
    ]


def plan_repairs(
    findings: Sequence[Finding],
    policy: CleanPolicy | None = None,
    *,
    maps: Mapping[str, Mapping[str | int | float | bool, Cell]] | None = None,
) -> tuple[Repair, ...]:
    """The repairs that the policy allows, in the order in which they are to be applied.

    Value maps from the settings come first, then cell repairs, then rows, then columns.

    Args:
        findings: from `find_problems`.
        policy: which kinds to repair; `CleanPolicy()` when None.
        maps: column to {old value: new value}, as the settings give them
            (``columns.<name>.map``).

    >>> plan_repairs([], maps={"income": {">50K.": ">50K"}})[0].column
    'income'
    """
    policy = policy or CleanPolicy()
    given = [
        Repair.replace(name, mapping, "from the settings") for name, mapping in (maps or {}).items()
    ]
    found = [
        finding.repair
        for finding in sorted(findings, key=lambda finding: KINDS_IN_ORDER.index(finding.kind))
        if finding.repair is not None and policy.action(finding.kind) == "repair"
    ]
    cells = [repair for repair in found if repair.kind in VALUE_KINDS]
    rows = [repair for repair in found if repair.kind in ("drop_rows", "drop_duplicates")]
    columns = {repair.column: repair for repair in found if repair.kind == "drop_column"}
    kept = [repair for repair in cells if repair.column not in columns]
    return (*given, *kept, *rows, *columns.values())


# Text is set right before it is read as numbers; everything else keeps the policy's order.
KINDS_IN_ORDER: tuple[str, ...] = (
    "mojibake",
    "spelling",
    "edge_blanks",
    "empty_text",
    "sentinel",
    "mixed_types",
    *(
        kind
        for kind in KINDS
        if kind
        not in ("mojibake", "spelling", "edge_blanks", "empty_text", "sentinel", "mixed_types")
    ),
)
