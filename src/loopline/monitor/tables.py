"""Two tables laid side by side: does the one look like the other, at a stated rate of error?

`compare` answers for tables in memory, with everything that a window is asked: columns, their
quality, and all of them together. `compare_files` answers for Parquet files of any length: blocks
of rows are read one after another, each is turned into sums and forgotten, so memory is bounded by
a block and the reference. Rows count as independent; where they hang together in days or groups,
use a `Watcher` with times, which learns by how much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.cores import in_threads
from loopline.errors import DataError, SettingsError
from loopline.monitor.alarm import Alarm, in_order
from loopline.monitor.budget import Budget
from loopline.monitor.clock import Clock, Span
from loopline.monitor.judge import column_alarm, statistics_table
from loopline.monitor.law import Law
from loopline.monitor.learning import Learned
from loopline.monitor.quality import schema_alarms
from loopline.monitor.reference import Reference
from loopline.monitor.rows import RowWatch
from loopline.monitor.scan import History
from loopline.monitor.scores import Column, learn_column, number_sums
from loopline.monitor.settings import MonitorSettings
from loopline.monitor.window import Window

Floats = NDArray[np.float64]
BLOCK_CELLS = 25_000_000
"""Cells that are read at once: 200 MB of floats."""
REFERENCE_ROWS = 20_000


@dataclass(frozen=True)
class Comparison:
    """How a table differs from the reference.

    Args:
        alarms: what differs, the surest first.
        table: one row a question to a column, as in `Checked`.
        error_rate: the chance of any alarm when nothing differs, at most.
        rows: rows that were compared.
    """

    alarms: tuple[Alarm, ...]
    table: pl.DataFrame
    error_rate: float
    rows: int


def compare(
    reference: pl.DataFrame | Reference,
    current: pl.DataFrame,
    *,
    error_rate: float = 0.05,
    settings: MonitorSettings | None = None,
) -> Comparison:
    """Compare a table with a reference, once.

    Args:
        reference: normal rows, or a whole `Reference`.
        current: the table to judge.
        error_rate: the chance of any alarm when both are alike, at most; in (0, 0.5].
        settings: floors and columns to ignore; its budget and windows take no part.

    Raises:
        SettingsError: an error rate that is none.
        DataError: a table without rows.

    >>> rng = np.random.default_rng(0)
    >>> old = pl.DataFrame({"age": rng.normal(40, 9, 2000), "city": ["a", "b"] * 1000})
    >>> new = pl.DataFrame({"age": rng.normal(40, 9, 500), "city": ["a", "c"] * 250})
    >>> [(alarm.subject, alarm.what) for alarm in compare(old, new).alarms]
    [('city', 'unseen')]
    """
    _check_rate(error_rate)
    if not current.height:
        raise DataError("The table to compare has no rows; give it some.")
    known = reference if isinstance(reference, Reference) else Reference(reference)
    given = settings or MonitorSettings()
    plain = replace(known, time=None, rows_a_day=None)
    learned = Learned.of(plain, given.model_copy(update={"season": "none"}), 0)
    budget = Budget(error_rate, 1.0, frozenset(["column", "joint"]))
    learned = replace(learned, budget=budget, outputs=None, losses=None)
    history = History(_independent(learned.law), learned.questions, lookbacks=(1,))
    ids = tuple(str(row) for row in range(current.height))
    watch = RowWatch(learned, history, None)
    found, table, _ = watch.judge(Window(current), 0, "the table", ids)
    alarms = [replace(alarm, since=None) for alarm in found]
    return Comparison(tuple(in_order(alarms)), table, error_rate, current.height)


def compare_files(
    reference: pl.DataFrame,
    files: Sequence[str | Path],
    *,
    error_rate: float = 0.05,
    settings: MonitorSettings | None = None,
    block_cells: int = BLOCK_CELLS,
) -> Comparison:
    """Compare Parquet files with a reference in bounded memory, column by column.

    All columns are asked what `compare` asks of them one by one; the classifier over all columns
    together, which needs rows, is left out.

    Args:
        reference: normal rows; more than 20,000 are thinned evenly.
        files: Parquet files with the same columns, whose rows are compared as one table.
        error_rate: the chance of any alarm when all is alike, at most; in (0, 0.5].
        settings: floors and columns to ignore.
        block_cells: cells that are read at once.

    Raises:
        SettingsError: an error rate that is none.
        DataError: no file, or no rows.
    """
    _check_rate(error_rate)
    given = settings or MonitorSettings()
    known = Reference(reference).thinned(REFERENCE_ROWS).frame
    columns = _learned_columns(known, given)
    laws = [_law_of(column, known) for column in columns]
    sums = [np.zeros((2, len(column.questions))) for column in columns]
    rows = 0
    first: pl.DataFrame | None = None
    for block in _blocks(files, [column.name for column in columns], block_cells):
        first = block.head(1_000) if first is None else first
        rows += block.height
        present = [k for k, column in enumerate(columns) if column.name in block.columns]
        made = in_threads(lambda k: _sums(columns[k], block[columns[k].name]), present)  # noqa: B023
        for k, part in zip(present, made, strict=True):
            sums[k] += part
    if first is None or not rows:
        raise DataError("The files to compare have no rows; give at least one file with some.")
    return _judged(columns, laws, sums, first, rows, error_rate, given)


def _judged(
    columns: Sequence[Column],
    laws: Sequence[Law],
    sums: Sequence[Floats],
    first: pl.DataFrame,
    rows: int,
    error_rate: float,
    settings: MonitorSettings,
) -> Comparison:
    questions = [question for column in columns for question in column.questions]
    history = History(Law.side_by_side(laws), questions, lookbacks=(1,))
    together = np.hstack(sums)
    history.add_sums(together[0], together[1], Span(rows, (), ()), "the table")
    chance = error_rate / len(columns)
    scan = history.scan()
    alarms = schema_alarms(columns, first, "the table", first.columns)
    places, at = {}, 0
    for column in columns:
        places[column.name] = slice(at, at + len(column.questions))
        at += len(column.questions)
        alarm = column_alarm(column, places[column.name], history, scan, chance, settings)
        if alarm is not None:
            alarms.append(alarm)
    alarms = [replace(alarm, since=None) for alarm in alarms]
    table = statistics_table(history, scan, chance, places)
    return Comparison(tuple(in_order(alarms)), table, error_rate, rows)


def _check_rate(error_rate: float) -> None:
    if not 0 < error_rate <= 0.5:
        raise SettingsError([f"`error_rate` must be above 0 and at most 0.5, got {error_rate}."])


def _independent(law: Law) -> Law:
    """The law of independent rows."""
    total = law.within + law.shared.sum(axis=0)
    return replace(law, within=total, shared=np.zeros_like(law.shared))


def _learned_columns(frame: pl.DataFrame, settings: MonitorSettings) -> list[Column]:
    names = [name for name in frame.columns if name not in settings.ignore]
    if not names:
        raise DataError("There is no column to compare: all of them are ignored.")
    return list(in_threads(lambda name: learn_column(frame[name]), names))


def _law_of(column: Column, frame: pl.DataFrame) -> Law:
    scores = column.score(column.read(frame[column.name]))
    return column.corrected(Law.learn(scores, Clock(False, ()), None))


def _blocks(
    files: Sequence[str | Path], names: Sequence[str], block_cells: int
) -> Iterator[pl.DataFrame]:
    step = max(block_cells // max(len(names), 1), 1)
    for file in files:
        source = pl.scan_parquet(file)
        have = source.collect_schema().names()
        wanted = [name for name in have if name in set(names)] or have[:1]
        total = int(source.select(pl.len()).collect().item())
        for start in range(0, total, step):
            yield source.select(wanted).slice(start, step).collect()


def _sums(column: Column, values: pl.Series) -> Floats:
    """Sums of a block's scores and how many rows have each, (2, questions)."""
    if column.type == "number" and values.dtype.is_numeric():
        return number_sums(column, values.to_numpy())
    scores = column.score(column.read(values))
    known = np.isfinite(scores)
    return np.stack([np.where(known, scores, 0.0).sum(axis=0), known.sum(axis=0).astype(float)])
