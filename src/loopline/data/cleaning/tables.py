"""Checks of whole tables: rows that repeat, columns that repeat, ends that are cut, swaps."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.cleaning.column import repeated_hashes, sample_rows
from loopline.data.cleaning.finding import NUM_EXAMPLES, Example, Finding, examples_at
from loopline.data.cleaning.repair import Repair
from loopline.data.made_targets import MADE_TARGETS
from loopline.data.schema import Schema, has_classes
from loopline.digest import bytes_digest

LEVELS_OF_A_CATEGORY = 200
LONGEST_TAIL = 100_000
MAX_COLUMNS_PAIRED = 300
NEIGHBOURS = 20
"""In wider tables only columns that stand near each other are looked at for swaps."""


def find_duplicate_rows(frame: pl.DataFrame, schema: Schema) -> list[Finding]:
    """Rows that stand more than once, and rows that agree in everything but the answer."""
    if len(frame) < 2 or not frame.width:
        return []
    findings = []
    groups = _equal_rows(frame, frame.columns)
    extra = groups != np.arange(len(frame))
    count = int(extra.sum())
    if count:
        rows = np.flatnonzero(extra)[:NUM_EXAMPLES].tolist()
        findings.append(
            Finding(
                "duplicate_rows",
                (),
                count,
                count / len(frame),
                f"{count:,} of {len(frame):,} rows equal an earlier row in every column; unless "
                "told otherwise, the split keeps copies on one side.",
                "warning",
                _first_copies(groups, rows),
                Repair.drop_duplicates("equal to an earlier row"),
            )
        )
    return findings + _disagreements(frame, schema)


def _disagreements(frame: pl.DataFrame, schema: Schema) -> list[Finding]:
    targets = schema.with_role("target")
    others = [
        column.name for column in schema.columns if column.role in ("feature", "group", "time")
    ]
    if len(targets) != 1 or not others:
        return []
    groups = _equal_rows(frame, others)
    again = np.flatnonzero(groups != np.arange(len(frame)))
    rows = np.union1d(again, groups[again])
    answers = pl.DataFrame(
        [pl.Series("group", groups[rows]), frame[targets[0]].gather(rows).alias("answer")]
    )
    torn = answers.group_by("group").agg(pl.col("answer").n_unique()).filter(pl.col("answer") > 1)
    if not len(torn):
        return []
    concerned = rows[np.isin(groups[rows], torn["group"].to_numpy())]
    count = len(concerned)
    severity = "warning" if has_classes(schema.task) and count >= 0.01 * len(frame) else "info"
    return [
        Finding(
            "label_disagreement",
            (targets[0],),
            count,
            count / len(frame),
            f"{count:,} of {len(frame):,} rows equal another row in every feature but not in "
            f"{targets[0]!r} ({len(torn)} groups): no model of these features can be right on all.",
            "warning" if severity == "warning" else "info",
            examples_at(frame[targets[0]], concerned),
        )
    ]


def _equal_rows(frame: pl.DataFrame, names: Sequence[str]) -> NDArray[np.int64]:
    """For each row the number of the first row that equals it in these columns."""
    group = np.arange(len(frame), dtype=np.int64)
    chosen = frame.select(names)
    rows = repeated_hashes(chosen.hash_rows(seed=0))
    if len(rows):
        # Only rows whose hashes meet are compared cell by cell, so a collision joins nothing.
        exact = chosen[rows].with_columns(pl.Series("#row", rows))
        group[rows] = exact.select(pl.col("#row").min().over(names))["#row"].to_numpy()
    return group


def _first_copies(groups: NDArray[np.int64], rows: list[int]) -> tuple[Example, ...]:
    return tuple(Example(row, f"equals row {groups[row]}") for row in rows)


def find_truncated_tail(frame: pl.DataFrame, schema: Schema) -> list[Finding]:
    """Last rows that lack columns which all other rows have: the file may have been cut."""
    names = [column.name for column in schema.columns if column.role != "ignore"]
    num_rows = len(frame)
    if num_rows < 20 or len(names) < 2:
        return []
    counts = np.array([frame[name].null_count() for name in names], dtype=np.float64)
    tail = frame.select(names).tail(min(num_rows // 5, LONGEST_TAIL))
    gone = np.column_stack([tail[name].is_null().to_numpy() for name in names])
    # From the end upwards, as long as rows lack what elsewhere is there.
    usual = (counts - gone.sum(axis=0) + 0.5) / (num_rows - len(tail) + 1)
    rare = usual < 0.02
    odds = np.where(gone & rare, np.log10(np.maximum(usual, 1e-6)), 0.0).sum(axis=1)
    strange = (gone & rare).sum(axis=1) >= min(2, int(rare.sum()))
    strange &= (odds <= -3) & (gone & rare).any(axis=1)
    length = int(np.argmin(strange[::-1])) if not strange.all() else len(strange)
    if not length:
        return []
    columns = tuple(
        name
        for name, is_rare, last in zip(
            names, rare, np.atleast_1d(gone[-length:].all(axis=0)).tolist(), strict=True
        )
        if is_rare and last
    )
    start = num_rows - length
    return [
        Finding(
            "truncated_tail",
            columns,
            length,
            length / num_rows,
            f"The last {length:,} of {num_rows:,} rows lack {len(columns)} columns that nearly all "
            "others have: the file may have been cut off.",
            "warning",
            tuple(Example(row, None) for row in range(start, min(start + NUM_EXAMPLES, num_rows))),
        )
    ]


def find_equal_columns(frame: pl.DataFrame, schema: Schema) -> list[Finding]:
    """Columns that equal another in every row, as they are or level for level."""
    names = [
        column.name
        for column in schema.columns
        if column.role != "ignore"
        and not frame[column.name].dtype.is_nested()
        and not (column.role == "target" and schema.task in MADE_TARGETS)  # it is made of another
    ]
    if len(frame) < 10 or len(names) < 2:
        return []
    sample = frame.select(names)[sample_rows(len(frame), 20_000)]
    findings = []
    gone: set[str] = set()
    roles = {column.name: column.role for column in schema.columns}
    for a, b, num_levels in _alike(sample):
        if b in gone:
            continue
        role = roles[b]
        if _equal(frame[a], frame[b]):
            gone.add(b)
            repair = None if "target" in (role, roles[a]) else Repair.drop_column(b)
            findings.append(
                _pair(
                    frame,
                    "duplicate_column",
                    a,
                    b,
                    words="equals",
                    severity="warning",
                    repair=repair,
                )
            )
        elif num_levels <= len(sample) // 2 and (_codes(frame[a]) == _codes(frame[b])).all():
            gone.add(b)
            answer = "target" in (role, roles[a])
            words = "has one value for each value of"
            severity = "warning" if answer else "info"
            findings.append(
                _pair(frame, "renamed_column", a, b, words=words, severity=severity, repair=None)
            )
    return findings


def _alike(sample: pl.DataFrame) -> Iterator[tuple[str, str, int]]:
    """Pairs of columns with the same levels in the same rows, in table order, and how many.

    Of columns in which most values differ from all others only those with the same values: they all
    have as many levels as rows, and would make every pair of a wide table.
    """
    groups: dict[str, list[str]] = {}
    members: dict[str, tuple[list[str], int]] = {}
    for series in sample.get_columns():
        codes = _codes(series)
        num_levels = int(codes.max()) + 1
        if num_levels >= 2:
            key = bytes_digest(codes.tobytes())
            if num_levels > len(sample) // 2:
                key += _values_digest(series)
            group = groups.setdefault(key, [])
            group.append(series.name)
            members[series.name] = (group, len(group))
    for name, (group, place) in members.items():
        if place < len(group):
            num_levels = int(_codes(sample[name]).max()) + 1
            for other in group[place:]:
                yield name, other, num_levels


def _pair(
    frame: pl.DataFrame,
    kind: str,
    a: str,
    b: str,
    *,
    words: str,
    severity: str,
    repair: Repair | None,
) -> Finding:
    tail = (
        "; the target's answer stands in the table twice."
        if severity == "warning" and (kind == "renamed_column")
        else "; one of the two is enough."
    )
    return Finding(
        kind,
        (a, b),
        len(frame),
        1.0,
        f"Column {b!r} {words} column {a!r} in all {len(frame):,} rows{tail}",
        "warning" if severity == "warning" else "info",
        examples_at(frame[b], list(range(min(NUM_EXAMPLES, len(frame))))),
        repair,
    )


def _equal(a: pl.Series, b: pl.Series) -> bool:
    if a.dtype == b.dtype:
        return bool(a.eq_missing(b).all())
    if a.dtype.is_numeric() and b.dtype.is_numeric():
        return bool(a.cast(pl.Float64).eq_missing(b.cast(pl.Float64)).all())
    return False


def _values_digest(values: pl.Series) -> str:
    """Equal where `_equal` finds two columns equal."""
    if not values.dtype.is_numeric():
        return bytes_digest(str(values.dtype).encode() + values.hash(0).to_numpy().tobytes())
    numbers = values.cast(pl.Float64).to_numpy() + 0.0  # -0.0 equals 0.0
    return bytes_digest(np.where(np.isnan(numbers), np.nan, numbers).tobytes())


def _codes(values: pl.Series) -> NDArray[np.int64]:
    """Levels numbered in the order in which they first stand (missing is a level)."""
    rows = pl.DataFrame([values.alias("value")]).with_row_index("row")
    first = rows.select(pl.col("row").min().over("value")).to_series().to_numpy()
    codes: NDArray[np.int64] = np.unique(first, return_inverse=True)[1]
    return codes


def find_swapped_columns(frame: pl.DataFrame, schema: Schema) -> list[Finding]:
    """Rows in which two columns hold each other's values."""
    names = [column.name for column in schema.columns if column.role in ("feature", "target")]
    numeric = [name for name in names if frame[name].dtype.is_numeric()]
    texts = [name for name in names if frame[name].dtype == pl.String]
    return _swapped_numbers(frame, numeric) + _swapped_levels(frame, texts)


def _swapped_numbers(frame: pl.DataFrame, names: list[str]) -> list[Finding]:
    """Values outside their own column's wide range and inside the other's, both at once."""
    some = sample_rows(len(frame))  # for the usual ranges; the rows themselves are all looked at
    ranges: dict[str, tuple[float, float]] = {}
    odd: dict[str, NDArray[np.int64]] = {}
    cells: dict[str, NDArray[np.float64]] = {}
    for name in names:
        values = frame[name].gather(some).drop_nulls().cast(pl.Float64)
        values = values.filter(values.is_finite())
        if not len(values):
            continue
        low, high = (float(q) for q in np.quantile(values.to_numpy(), [0.05, 0.95]))
        reach = 0.5 * (high - low)
        if reach == 0:
            continue
        ranges[name] = (low - reach, high + reach)
        strange = (frame[name] < low - reach) | (frame[name] > high + reach)
        rows = strange.fill_null(value=False).arg_true().to_numpy().astype(np.int64)
        if 0 < len(rows) <= 0.3 * len(frame):
            odd[name] = rows
            cells[name] = frame[name].gather(rows).cast(pl.Float64).to_numpy()
    findings = []
    for a, b in _pairs(odd):
        a_in_b = _inside(cells[a], odd[a], ranges[b])
        if len(a_in_b) < 3:
            continue
        b_in_a = _inside(cells[b], odd[b], ranges[a])
        if len(b_in_a) < 3:
            continue
        rows = np.intersect1d(a_in_b, b_in_a, assume_unique=True)
        # Most values that would suit the other column must have changed places with one.
        chance = len(a_in_b) * len(b_in_a) / len(frame)
        if len(rows) >= max(3, 5 * chance, 0.5 * min(len(a_in_b), len(b_in_a))):
            findings.append(_swap(frame, a, b, rows))
    return findings


def _pairs(names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Every two columns, or in a wide table every two that stand near each other."""
    if len(names) <= MAX_COLUMNS_PAIRED:
        yield from combinations(names, 2)
        return
    order = list(names)
    for place, name in enumerate(order):
        for other in order[place + 1 : place + 1 + NEIGHBOURS]:
            yield name, other


def _inside(
    x: NDArray[np.float64], rows: NDArray[np.int64], bounds: tuple[float, float]
) -> NDArray[np.int64]:
    return rows[(x >= bounds[0]) & (x <= bounds[1])]


def _swapped_levels(frame: pl.DataFrame, names: list[str]) -> list[Finding]:
    """Levels that belong to the other column, in both columns of a row at once."""
    counts: dict[str, dict[str, int]] = {}
    for name in names:
        table = frame[name].drop_nulls().value_counts(name="rows")
        if 2 <= len(table) <= LEVELS_OF_A_CATEGORY:
            counts[name] = dict(table.iter_rows())
    findings = []
    for a, b in _pairs(counts):
        a_in_b = [v for v, n in counts[a].items() if n * 5 < counts[b].get(v, 0)]
        b_in_a = [v for v, n in counts[b].items() if n * 5 < counts[a].get(v, 0)]
        if not a_in_b or not b_in_a:
            continue
        where = frame[a].is_in(a_in_b) & frame[b].is_in(b_in_a)
        rows = where.fill_null(value=False).arg_true().to_numpy().astype(np.int64)
        strangers = sum(counts[a][v] for v in a_in_b)
        if len(rows) >= max(3, 0.5 * strangers):
            findings.append(_swap(frame, a, b, rows))
    return findings


def _swap(frame: pl.DataFrame, a: str, b: str, rows: NDArray[np.int64]) -> Finding:
    shown = tuple(
        Example(int(row), f"{frame[a][int(row)]} | {frame[b][int(row)]}")
        for row in rows[:NUM_EXAMPLES]
    )
    return Finding(
        "swapped_columns",
        (a, b),
        len(rows),
        len(rows) / len(frame),
        f"Columns {a!r} and {b!r} seem to hold each other's values in {len(rows):,} of "
        f"{len(frame):,} rows.",
        "warning",
        shown,
    )
