"""Tasks whose target column is made from the one that a settings file names.

What is predicted of texts and captions stands in a feature, and a number for it in the target; the
labels of a row are brought into one form. So every stage that works on rows with a number, or with
a text, can use them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from loopline.data.language import language_schema, predicted_text, with_bytes
from loopline.data.multilabel import labels_of, multilabel_schema, with_labels
from loopline.data.retrieval import caption_of, retrieval_schema, with_numbers
from loopline.data.schema import Schema


@dataclass(frozen=True)
class MadeTarget:
    """How the target of such a task is made.

    Args:
        add: the table with the made column, given the column that the settings name and what they
            say of columns.
        schema: types and roles of that table, given the named column and overrides.
        named: the column that the settings named, from the schema.
    """

    add: Callable[[pl.DataFrame, str, Mapping[str, Mapping[str, Any]]], pl.DataFrame]
    schema: Callable[[pl.DataFrame, str, Mapping[str, Mapping[str, Any]]], Schema]
    named: Callable[[Schema], str]


MADE_TARGETS: Mapping[str, MadeTarget] = {
    "language": MadeTarget(
        lambda frame, text, _: with_bytes(frame, text), language_schema, predicted_text
    ),
    "retrieval": MadeTarget(
        lambda frame, caption, _: with_numbers(frame, caption), retrieval_schema, caption_of
    ),
    "multilabel": MadeTarget(with_labels, multilabel_schema, labels_of),
}
"""By task; other tasks take the target as it stands."""
