"""Tasks whose target column is made: what is predicted stands in a feature, and a number for it.

A settings file names the column of texts or captions as the target. The table gets a column of
numbers in its place, which every stage that works on rows with a number can use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from loopline.data.language import language_schema, predicted_text, with_bytes
from loopline.data.retrieval import caption_of, retrieval_schema, with_numbers
from loopline.data.schema import Schema


@dataclass(frozen=True)
class MadeTarget:
    """How the target of such a task is made.

    Args:
        add: the table with the column of numbers, given the column that the settings name.
        schema: types and roles of that table, given the named column and overrides.
        named: the column that the settings named, from the schema.
    """

    add: Callable[[pl.DataFrame, str], pl.DataFrame]
    schema: Callable[[pl.DataFrame, str, Mapping[str, Mapping[str, Any]]], Schema]
    named: Callable[[Schema], str]


MADE_TARGETS: Mapping[str, MadeTarget] = {
    "language": MadeTarget(with_bytes, language_schema, predicted_text),
    "retrieval": MadeTarget(with_numbers, retrieval_schema, caption_of),
}
"""By task; other tasks take the target as it stands."""
