"""Propose what every column of a table is and what it is for, each with its reason.

The proposal is careful in one direction: a role that takes a column away from the model or
decides the split (`group`, `time`, `weight`, `id`) is given only on strong evidence, which the
reason states; weak evidence becomes a remark inside the reason, and the column stays a feature.
Whatever the settings say about a column rules over all of it.

Cost: a handful of polars aggregates over the whole table; everything heavier looks at an even
sample of at most `SAMPLE_ROWS` rows, the same for the same table. 5 million rows of 20 columns
take seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from loopline.data.overrides import apply_overrides, near_names
from loopline.data.schema import Column, ColumnType, Label, Schema, Task
from loopline.data.targets import check_target, class_order, infer_task
from loopline.errors import DataError
from loopline.frames import canonical

__all__ = ["infer_columns", "infer_schema", "infer_task"]

SAMPLE_ROWS = 100_000
_NUM_GROUPS_LOOKED_AT = 500
_MIN_ROWS_FOR_ID = 20


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


_ID_WORDS = _listed(
    """
    id ids uuid guid key pk index idx rowid rownum instant identifier
    """
)
_ID_PARTS = _listed(
    """
    id ids nr no number num code key uuid hash # name
    """
)
_ENTITIES = _listed(
    """
    subject patient customer client user household family session device machine person member
    account student participant respondent employee driver visitor donor animal site
    """
)
_WEIGHT_NAMES = _listed(
    """
    sampleweight sampleweights sampwt survweight surveyweight surveyweights surveywt fnlwgt
    finalwgt finalweight instanceweight caseweight caseweights rowweight samplingweight
    designweight perwt personweight expansionfactor
    """
)
_TIME_NAMES = _listed(
    """
    date datetime timestamp time ts day dteday month epoch unixtime createdat updatedat
    eventtime eventdate orderdate transactiondate purchasedate recordedat observedat measuredat
    invoicedate saledate datetimeutc timestamputc localtime week year period
    """
)
_NOT_EVENT_TIME = re.compile(r"birth|dob|born|expir|due|deadline|valid|until", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is measured of one column before anything is decided."""

    dtype: pl.DataType
    num_rows: int
    num_missing: int
    num_distinct: int  # in the sample, missing not counted
    num_sampled: int  # cells in the sample that are not missing

    @property
    def distinct_share(self) -> float:
        return self.num_distinct / max(self.num_sampled, 1)


def infer_schema(
    frame: pl.DataFrame,
    *,
    target: str,
    task: Task | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    positive: Label | None = None,
) -> Schema:
    """The schema of a table: type and role of every column, the task and its classes, with reasons.

    Args:
        frame: the table, as `read_table` or `as_frame` gives it.
        target: the column to predict.
        task: what is predicted; None decides by the rules of `loopline.data.targets`.
        overrides: column name to any of `type`, `role`, `missing`, `fill`; they rule.
        positive: the class of interest of a binary task; None decides and says why.

    Raises:
        DataError: the target is absent or cannot be learnt, or the table has no rows.
        SettingsError: the overrides name an unknown column or a value that does not fit; all told
            at once.

    >>> frame = pl.DataFrame({"age": [31, 45, 22], "paid": ["yes", "no", "no"]})
    >>> schema = infer_schema(frame, target="paid")
    >>> schema.task, schema.classes, schema.named("age").role
    ('binary', ('no', 'yes'), 'feature')
    """
    if target not in frame.columns:
        unnamed = all(name == f"column_{place}" for place, name in enumerate(frame.columns, 1))
        hint = " The file was read as one without a header row; `header: true` under `data.format`"
        raise DataError(
            f"There is no target column {target!r}{near_names(target, frame.columns)}"
            + (f"{hint} says that it has one." if unnamed else "")
        )
    if frame.is_empty():
        raise DataError("The table has no rows, so nothing can be inferred from it.")
    frame = canonical(frame)
    overrides = overrides or {}
    labels = frame[target]
    if task is None:
        if labels.null_count():
            check_target(labels, "multiclass")
        task, reason = infer_task(labels)
    else:
        reason = "you said so"
    remark = check_target(labels, task)
    classes, interest = class_order(labels, task, positive)
    told = "; ".join(
        part for part in (f"target of a {task} task: {reason}", interest, remark) if part
    )
    # apply_overrides runs last but the roles it takes must already be free for the others to claim.
    taken = {str(entry["role"]) for entry in overrides.values() if "role" in entry}
    columns = [
        replace(column, role="target", type=_target_type(labels, task), reason=told)
        if column.name == target
        else column
        for column in infer_columns(frame, target=target, taken=taken)
    ]
    schema = Schema(columns=tuple(columns), task=task, classes=classes)
    return apply_overrides(schema, frame, overrides)


def _target_type(labels: pl.Series, task: Task) -> ColumnType:
    if task == "regression":
        return "number"
    return "boolean" if labels.dtype == pl.Boolean() else "category"


def infer_columns(
    frame: pl.DataFrame, *, target: str | None = None, taken: set[str] | None = None
) -> list[Column]:
    """Type and role of every column, without a word on what is predicted.

    Args:
        frame: the table, in canonical types.
        target: a column whose role is known already; it is left out of the search for structure.
        taken: roles that the settings have given away, so that they are not proposed again.

    >>> frame = pl.DataFrame({"a": [1.5, 2.0], "b": [True, False]})
    >>> [column.type for column in infer_columns(frame)]
    ['number', 'boolean']
    """
    sample = _sample(frame)
    facts = _measure(frame, sample)
    columns = [_basic(frame[name], sample[name], facts[name]) for name in frame.columns]
    taken = taken or set()
    if "time" not in taken:
        columns = _propose_time(columns, frame, facts, target)
    columns = [
        _propose_id(column, frame[column.name], facts[column.name])
        if column.role == "feature" and column.name != target
        else column
        for column in columns
    ]
    if "weight" not in taken:
        columns = _propose_weight(columns, frame, target)
    if "group" not in taken:
        columns = _propose_groups(columns, frame, facts, target)
    return columns


def _sample(frame: pl.DataFrame) -> pl.DataFrame:
    """At most `SAMPLE_ROWS` rows, evenly spread, so that a sorted table is seen from end to end."""
    step = -(-frame.height // SAMPLE_ROWS)
    return frame if step <= 1 else frame.gather_every(step)


def _measure(frame: pl.DataFrame, sample: pl.DataFrame) -> dict[str, _Facts]:
    missing = frame.null_count().row(0)
    facts = {}
    for name, num_missing in zip(frame.columns, missing, strict=True):
        cells = sample[name].drop_nulls()
        countable = not cells.dtype.is_nested() and cells.dtype not in (pl.Binary(), pl.Object())
        facts[name] = _Facts(
            dtype=cells.dtype,
            num_rows=frame.height,
            num_missing=num_missing,
            num_distinct=cells.n_unique() if countable else len(cells),
            num_sampled=len(cells),
        )
    return facts


def _basic(series: pl.Series, sample: pl.Series, facts: _Facts) -> Column:
    """Type and reason, and the role `ignore` for columns that can tell a model nothing."""
    name, dtype = series.name, facts.dtype
    type_, reason = _type_of(sample, facts)
    if facts.num_missing == facts.num_rows:
        return Column(name, type_, "ignore", "every cell is missing")
    if type_ == "other":
        return Column(name, "other", "ignore", f"{dtype} cells are not used; {reason}")
    if facts.num_distinct <= 1 and not facts.num_missing and series.n_unique() == 1:
        return Column(name, type_, "ignore", f"one value in every row ({series[0]!r:.40})")
    if facts.num_missing:
        reason += f", {facts.num_missing / facts.num_rows:.1%} missing"
    return Column(name, type_, "feature", reason)


def _type_of(sample: pl.Series, facts: _Facts) -> tuple[ColumnType, str]:
    dtype = facts.dtype
    if dtype == pl.Boolean():
        return "boolean", "true or false"
    if dtype.is_integer():
        few = facts.num_distinct <= 20 and facts.num_sampled > facts.num_distinct
        codes = " (type: category if they are codes)" if few and facts.num_distinct > 2 else ""
        return "number", f"whole numbers, {_count(facts)} distinct{codes}"
    if dtype.is_numeric():
        return "number", f"numbers, {_count(facts)} distinct"
    if isinstance(dtype, pl.Date | pl.Datetime):
        return "datetime", "dates" if isinstance(dtype, pl.Date) else "dates with time"
    if dtype == pl.String():
        return _type_of_words(sample.drop_nulls(), facts)
    if isinstance(dtype, pl.Time | pl.Duration):
        return "other", "turn it into a number, such as seconds, to use it"
    return "other", "take the parts you need into columns of their own to use it"


def _count(facts: _Facts) -> str:
    more = "at least " if facts.num_sampled + facts.num_missing < facts.num_rows else ""
    return f"{more}{facts.num_distinct:,}"


def _type_of_words(cells: pl.Series, facts: _Facts) -> tuple[ColumnType, str]:
    if cells.is_empty():
        return "category", "no cell is filled"
    head = cells.head(10_000)
    num_words = float((head.str.count_matches(r"\S+").mean()) or 0.0)  # type: ignore[arg-type]
    if num_words >= 3 and facts.distinct_share >= 0.3 and facts.num_distinct > 20:
        return "text", f"{num_words:.0f} words a cell, {facts.distinct_share:.0%} distinct"
    return "category", f"{_count(facts)} distinct words"


# ---- time ----------------------------------------------------------------------------------------


def _propose_time(
    columns: list[Column], frame: pl.DataFrame, facts: Mapping[str, _Facts], target: str | None
) -> list[Column]:
    """Give the role `time` to the one column that orders the rows best, when it is clear enough."""
    found: list[tuple[int, int, str]] = []
    remarks: dict[str, str] = {}
    for place, column in enumerate(columns):
        if column.role != "feature" or column.name == target:
            continue
        if column.type == "datetime":
            rank, why = _rank_datetime(frame[column.name], facts[column.name])
        elif frame[column.name].dtype.is_numeric() and _is_time_name(column.name):
            rank, why = _rank_number(frame[column.name], facts[column.name])
        else:
            continue
        remarks[column.name] = why
        if rank:
            found.append((-rank, place, column.name))
    best = min(found)[2] if found else None
    changed = []
    for column in columns:
        if column.name == best:
            changed.append(replace(column, role="time", reason=remarks[column.name]))
        elif column.name in remarks:
            why = f"{best!r} orders the rows already" if best else remarks[column.name]
            changed.append(replace(column, reason=f"{column.reason}; {why}"))
        else:
            changed.append(column)
    return changed


def _rank_datetime(series: pl.Series, facts: _Facts) -> tuple[int, str]:
    if _NOT_EVENT_TIME.search(series.name):
        return 0, "its name says it is not when the row happened"
    if facts.num_missing > facts.num_rows * 0.05:
        return 0, "too many missing cells to order the rows by it (role: time if you want to)"
    if facts.num_distinct < 3:
        return 0, "too few distinct dates to order the rows by"
    named = _squeeze(series.name) in _TIME_NAMES
    if _monotone(series):
        return (3 if named else 2), "dates, and the rows stand in their order"
    if named:
        return 1, "dates, and the name says when the row happened"
    return 0, "a date that may or may not be when the row happened (role: time if it is)"


def _rank_number(series: pl.Series, facts: _Facts) -> tuple[int, str]:
    if facts.num_distinct >= _MIN_ROWS_FOR_ID and not facts.num_missing and _monotone(series):
        return 1, "the name says time and the rows stand in its order"
    return 0, "the name says time but the rows do not stand in its order (role: time if it is)"


def _monotone(series: pl.Series) -> bool:
    cells = series.drop_nulls()
    return len(cells) > 2 and (cells.is_sorted() or cells.is_sorted(descending=True))


# ---- ids and weights -----------------------------------------------------------------------------


def _propose_id(column: Column, series: pl.Series, facts: _Facts) -> Column:
    """Role `id` for values that name the row: nothing learnt of them holds for another row."""
    if column.type not in ("number", "category") or facts.dtype.is_float():
        return column
    named = _is_id_name(column.name)
    if facts.num_missing or facts.distinct_share < 0.95 or facts.num_rows < 3:
        return column
    if not named and facts.num_rows < _MIN_ROWS_FOR_ID:
        return column
    num_distinct = series.n_unique()
    if facts.dtype.is_integer():
        if num_distinct < facts.num_rows:
            return column
        if _is_row_index(series):
            return replace(column, role="id", reason="counts the rows one by one")
        if named:
            return replace(
                column, role="id", reason="a distinct value in every row, named like an id"
            )
        return column
    if num_distinct == facts.num_rows:
        return replace(column, role="id", reason="a distinct word in every row")
    share = num_distinct / facts.num_rows
    if named and share >= 0.99:
        return replace(column, role="id", reason=f"{share:.1%} distinct, named like an id")
    if share >= 0.95:
        remark = (
            f"{column.reason}; nearly every row has its own word (role: id if it names the row)"
        )
        return replace(column, reason=remark)
    return column


def _is_row_index(series: pl.Series) -> bool:
    low, high = series.min(), series.max()
    assert isinstance(low, int)
    assert isinstance(high, int)
    return low in (0, 1) and high - low + 1 == len(series) and series.is_sorted()


def _propose_weight(columns: list[Column], frame: pl.DataFrame, target: str | None) -> list[Column]:
    changed, given = [], False
    for column in columns:
        series = frame[column.name]
        if (
            given
            or column.name == target
            or column.role not in ("feature", "id")
            or _squeeze(column.name) not in _WEIGHT_NAMES
            or not series.dtype.is_numeric()
        ):
            changed.append(column)
        elif series.null_count() or not bool((series >= 0).all()) or not series.is_finite().all():
            reason = f"{column.reason}; named like a sample weight but has cells that are none"
            changed.append(replace(column, reason=reason))
        else:
            reason = "named like a sample weight: how much a row counts, not what it is like"
            changed.append(replace(column, role="weight", reason=reason))
            given = True
    return changed


# ---- groups --------------------------------------------------------------------------------------


def _propose_groups(
    columns: list[Column], frame: pl.DataFrame, facts: Mapping[str, _Facts], target: str | None
) -> list[Column]:
    """Role `group` for columns that say whose row it is, when that one has several rows."""
    by_name = {column.name: column for column in columns}
    others = [
        name for name, column in by_name.items() if column.role == "feature" and name != target
    ]
    changed = []
    for column in columns:
        kind = _entity_name(column.name)
        fact = facts[column.name]
        candidate = (
            kind is not None
            and column.name != target
            and column.role == "feature"
            and column.type in ("number", "category")
            and not (fact.dtype.is_float() and not _whole(frame[column.name]))
        )
        if not candidate:
            changed.append(column)
            continue
        changed.append(_judge_group(column, frame, fact, kind == "id", others))
    return changed


def _judge_group(
    column: Column, frame: pl.DataFrame, facts: _Facts, named_id: bool, others: list[str]
) -> Column:
    series = frame[column.name]
    num_groups = series.n_unique()
    rows_each = facts.num_rows / max(num_groups, 1)
    if num_groups < 3 or rows_each < 1.05:
        return column
    steady = _steady_within(frame, column.name, [name for name in others if name != column.name])
    told = f"{num_groups:,} values, {rows_each:.1f} rows each"
    if steady and (named_id or num_groups >= 20):
        names = ", ".join(repr(name) for name in steady[:3])
        return replace(
            column,
            role="group",
            reason=f"{told}; the name says whose row it is; constant within one: {names}",
        )
    if named_id:
        return replace(column, role="group", reason=f"{told}; the name says whose row it is")
    return replace(
        column, reason=f"{column.reason}; may say whose row it is (role: group if it does)"
    )


def _steady_within(frame: pl.DataFrame, group: str, others: list[str]) -> list[str]:
    """Columns that are constant inside nearly every group, though not when rows are dealt anew."""
    keys = frame[group].drop_nulls().unique(maintain_order=True)
    step = -(-len(keys) // _NUM_GROUPS_LOOKED_AT)
    rows = frame.select(group, *others).filter(
        pl.col(group).is_in(keys.gather_every(step).implode())
    )
    rows = rows.head(SAMPLE_ROWS)
    dealt = rows.with_columns(
        pl.col(others).gather((pl.int_range(pl.len()) * _stride(rows.height)) % pl.len())
    )
    true, chance = (_constant_share(table, group, others) for table in (rows, dealt))
    return [name for name in others if true[name] >= 0.95 and chance[name] <= 0.5]


def _stride(num_rows: int) -> int:
    """A step that visits every row once in an order unlike the table's."""
    step = int(num_rows * 0.618) | 1
    while num_rows > 1 and _gcd(step, num_rows) != 1:
        step += 1
    return step


def _gcd(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a


def _constant_share(rows: pl.DataFrame, group: str, others: list[str]) -> dict[str, float]:
    if not others:
        return {}
    repeated = rows.filter(pl.len().over(group) >= 2)
    counts = repeated.group_by(group).agg(pl.col(others).n_unique() == 1)
    return {name: float(counts[name].mean() or 0.0) for name in others}  # type: ignore[arg-type]


def _whole(series: pl.Series) -> bool:
    cells = series.drop_nulls()
    return bool((cells == cells.round(0)).all())


# ---- names ---------------------------------------------------------------------------------------


def _words(name: str) -> list[str]:
    """The words of a column name: `customerID` and `customer_id` both give customer, id."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    spaced = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", spaced)
    return re.findall(r"[a-z]+|[0-9]+|#", spaced.lower())


def _is_time_name(name: str) -> bool:
    words = _words(name)
    return _squeeze(name) in _TIME_NAMES or words[-1:] in (["time"], ["timestamp"], ["date"])


def _squeeze(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _is_id_name(name: str) -> bool:
    words = _words(name)
    return bool(words) and (words[-1] in _ID_WORDS or words[0] in {"id", "index"} or "#" in words)


def _entity_name(name: str) -> str | None:
    """`"id"` for names such as `patient_id`, `"word"` for a bare `patient`, else None."""
    words = _words(name)
    entity = [word for word in words if word in _ENTITIES]
    rest = [word for word in words if word not in _ENTITIES]
    if not entity:
        joined = _squeeze(name)
        for word in sorted(_ENTITIES):
            if joined in (f"{word}id", f"{word}no", f"{word}key"):
                return "id"
        return None
    if not rest:
        return "word"
    return "id" if all(word in _ID_PARTS for word in rest) else None
