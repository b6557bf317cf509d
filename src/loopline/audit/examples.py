"""Examples for people: rows of a table as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from loopline.audit.finding import NUM_EXAMPLES
from loopline.data.cleaning.finding import plain

MAX_LETTERS = 200
MAX_COLUMNS = 8


def pair_examples(
    frame: pl.DataFrame, pairs: Sequence[tuple[int, int, float]], columns: Sequence[str] = ()
) -> tuple[Mapping[str, Any], ...]:
    """Up to five pairs of rows: where they differ, or a few columns where they do not.

    >>> frame = pl.DataFrame({"a": ["x", "x"], "b": [1, 2]})
    >>> pair_examples(frame, [(0, 1, 0.9)])
    ({'rows': [0, 1], 'similarity': 0.9, 'b': [1, 2]},)
    """
    told = []
    for left, right, similarity in pairs[:NUM_EXAMPLES]:
        first, second = frame[[int(left), int(right)]].to_dicts()
        names = [name for name in frame.columns if first[name] != second[name]]
        shown = (names or list(columns or frame.columns))[:MAX_COLUMNS]
        told.append(
            {
                "rows": [int(left), int(right)],
                "similarity": round(float(similarity), 4),
                **{
                    name: [plain(row[name], MAX_LETTERS) for row in (first, second)]
                    for name in shown
                },
            }
        )
    return tuple(told)
