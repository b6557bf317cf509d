"""The rows on which an export is proved: those kept at training, and some made up.

Kept rows are answered as the training process did. They are usual rows, so unusual ones are made up
from the input contract: missing cells, levels never seen, numbers beyond the training range; those
are answered as `Release.predict_one` does. Where the kept rows are not at hand (a release
that was copied elsewhere), made-up rows alone have to do, and the export says so.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from loopline.errors import DataError
from loopline.features.calendar import EPOCH
from loopline.features.contract import InputColumn
from loopline.release.bundle import Release
from loopline.release.fresh import of_rows
from loopline.release.replay import Answers, Kept, Proof, prove

NUM_MADE = 300
_WORDS = ("the", "of", "good", "bad", "not", "2nd", "Köln", "never-seen", "free", "please", "CAPS")
_MISSING_SHARE = 0.1


@dataclass(frozen=True)
class ProofRows:
    """Rows with the answers that are expected.

    Args:
        rows: JSON values by column.
        expected: the answers.
        num_kept: how many of them, the first, were kept at training.
    """

    rows: list[dict[str, Any]]
    expected: Answers
    num_kept: int

    def frame(self) -> pl.DataFrame:
        """The rows as a table of text, to be shown."""
        names = list(self.rows[0]) if self.rows else []
        return pl.DataFrame(
            {name: [_shown(row.get(name)) for row in self.rows] for name in names},
            schema=dict.fromkeys(names, pl.String),
        )

    def prove(
        self, release: Release, answers: Mapping[str, Answers], tolerance: float, doing: str
    ) -> Proof:
        """Compare answers with those expected.

        Raises:
            IntegrityError: one differs by more; names the row and both answers.
        """
        kept = Kept(self.frame(), self.expected)
        return prove(release, kept, lambda frame: answers, tolerance=tolerance, doing=doing)

    def told(self, proof: Proof) -> str:
        """What was proved, in a sentence."""
        made = len(self.rows) - self.num_kept
        largest = max(proof.largest.values(), default=0.0)
        kept = f"{self.num_kept:,} kept rows and " if self.num_kept else ""
        lacking = "" if self.num_kept else "; the rows kept at training were not at hand"
        return (
            f"Proved on {kept}{made:,} made-up rows ({' and '.join(proof.largest)}): largest "
            f"difference {largest:.1e}, allowed {proof.tolerance:.0e}{lacking}."
        )


def proof_rows(release: Release, kept: Kept | None, num_made: int = NUM_MADE) -> ProofRows:
    """Kept rows of a release, and made-up ones that its contract allows."""
    rows = [] if kept is None else [plain_row(row) for row in kept.frame.iter_rows(named=True)]
    made, answers = [], []
    for row in _made_up(release, rows, num_made):
        try:
            answers.append(release.predict_one(row))
        except DataError:  # a made-up cell that a column refuses
            continue
        made.append(row)
    expected = of_rows(release, answers)
    if kept is None:
        return ProofRows(made, expected, 0)
    raw = np.concatenate([kept.expected.raw, expected.raw])
    codes = np.concatenate([kept.expected.codes, expected.codes])
    return ProofRows(rows + made, Answers(raw, codes), len(rows))


def example_row(release: Release) -> Mapping[str, Any]:
    """A made-up row that the release answers."""
    return proof_rows(release, None, 20).rows[0]


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a client writes it in JSON: dates as ISO text, durations as seconds, NaN as null."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dt.date | dt.datetime):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value / dt.timedelta(seconds=1)
    if isinstance(value, dt.time):
        midnight = dt.datetime.combine(EPOCH, dt.time())
        return (dt.datetime.combine(EPOCH, value) - midnight) / dt.timedelta(seconds=1)
    return value


def _made_up(
    release: Release, kept: Sequence[Mapping[str, Any]], count: int
) -> list[dict[str, Any]]:
    rng = np.random.default_rng(20_260_101)
    columns = [
        (column.name, _choices(column, [row.get(column.name) for row in kept]))
        for column in release.contract.columns
    ]
    return [
        {name: choices[int(rng.integers(len(choices)))] for name, choices in columns}
        for _ in range(count)
    ]


def _choices(column: InputColumn, seen: Sequence[Any]) -> list[Any]:
    """Cells that a column may hold, usual and unusual ones, a tenth of them missing."""
    made = _KINDS[column.kind](column)
    texts = [cell for cell in seen if isinstance(cell, str)][:100]
    if column.kind == "text" and not column.levels:
        made += texts
    if column.missing != "error":
        made += [None] * max(1, round(len(made) * _MISSING_SHARE))
    return made


def _numbers(column: InputColumn) -> list[Any]:
    known = [*column.quantiles, *(edge for edge in (column.low, column.high) if edge is not None)]
    size = max((abs(number) for number in known), default=1.0) or 1.0
    return [*known, 0.0, -1.0, 2 * size, -3 * size]


def _whole_numbers(column: InputColumn) -> list[Any]:
    return [round(number) for number in _numbers(column)]


def _truths(column: InputColumn) -> list[Any]:
    del column
    return [True, False]


def _texts(column: InputColumn) -> list[Any]:
    sentences = [
        " ".join(_WORDS[(start + step * 3) % len(_WORDS)] for step in range(5))
        for start in range(len(_WORDS))
    ]
    return [*column.levels[:200], *([] if column.levels else sentences), "never seen before", ""]


def _times(column: InputColumn) -> list[Any]:
    low, high = column.low or 0.0, column.high or 86_400e6
    edges = [low + (high - low) * share for share in (0, 0.1, 0.37, 0.5, 0.8, 1, 1.2, -0.2)]
    times = [EPOCH + dt.timedelta(microseconds=round(edge)) for edge in edges]
    leap = dt.datetime(2024, 2, 29, 23, 59)
    return [time.isoformat() for time in (*times, leap, dt.datetime(1899, 12, 31, 7))]


def _days(column: InputColumn) -> list[Any]:
    return [time[:10] for time in _times(column)]


def _images(column: InputColumn) -> list[Any]:
    del column
    return [None]


_KINDS = {
    "integer": _whole_numbers,
    "float": _numbers,
    "seconds": _numbers,
    "boolean": _truths,
    "text": _texts,
    "date": _days,
    "datetime": _times,
    "image": _images,
}


def _shown(value: Any) -> str | None:
    return None if value is None else str(value)
