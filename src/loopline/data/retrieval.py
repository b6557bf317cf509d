"""Retrieval as a task: pairs of an image and a caption are rows, and a caption is to be found.

A row's answer is its caption, so the text column of the target becomes a feature, because a model
has to read a caption to say how well it fits. What stands in the target's place is a number that
stands for the caption, a column of its own; a prediction is the rank of the caption among those
that the model knows, best first, given the row's image: 1 is right, and the share of ranks of 1 is
the accuracy of naming images by words. A row's rank does not depend on the rows beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.inference import columns_around, refuse_other_role
from loopline.data.overrides import apply_overrides, near_names
from loopline.data.schema import Column, Schema
from loopline.errors import DataError

SUFFIX = "_number"
GALLERY = 1_000
"""Captions among which a row's own is looked for, at most; its own always is among them."""
_NUMBER_BYTES = 6


def number_column(caption: str) -> str:
    """The name of the column that holds a caption's number.

    >>> number_column("caption")
    'caption_number'
    """
    return f"{caption}{SUFFIX}"


def caption_number(caption: str) -> int:
    """A number that stands for a caption, below 2**48: equal captions have equal numbers.

    >>> caption_number("a seven") == caption_number("a seven") != caption_number("a one")
    True
    """
    digest = hashlib.blake2b(caption.encode(), digest_size=_NUMBER_BYTES).digest()
    return int.from_bytes(digest, "big")


def caption_numbers(captions: Iterable[str | None]) -> NDArray[np.int64]:
    """The number of each caption; a missing one reads as an empty text."""
    return np.array([caption_number(caption or "") for caption in captions], dtype=np.int64)


def with_numbers(frame: pl.DataFrame, caption: str) -> pl.DataFrame:
    """The table with the number of each caption.

    Args:
        frame: the pairs.
        caption: the column of captions.

    Raises:
        DataError: there is no such column, it holds no text, or some captions are missing or empty.
    """
    if caption not in frame.columns:
        raise DataError(f"There is no column {caption!r}{near_names(caption, frame.columns)}")
    texts = frame[caption]
    if texts.dtype != pl.String():
        raise DataError(
            f"`task: retrieval` finds images by words, and {caption!r} is of type {texts.dtype}. "
            "Name a column of captions as the target."
        )
    empty = (texts.fill_null("").str.strip_chars() == "").arg_true()
    if empty.len():
        rows = ", ".join(f"{row + 1:,}" for row in empty.head(5))
        more = ", …" if empty.len() > 5 else ""
        raise DataError(
            f"{empty.len():,} of {frame.height:,} rows have no caption in {caption!r} (row "
            f"{rows}{more}), so nothing can be learned from them. Drop them, or name the column of "
            "captions as the target."
        )
    numbers = pl.Series(number_column(caption), caption_numbers(texts))
    return frame.with_columns(numbers)


def retrieval_schema(
    frame: pl.DataFrame, caption: str, overrides: Mapping[str, Mapping[str, Any]]
) -> Schema:
    """The schema of pairs: image and caption are features, the caption's number the target.

    Args:
        frame: as `with_numbers` gives it.
        caption: the column of captions.
        overrides: as in `infer_schema`.

    Raises:
        DataError: the table has no column of images, or several.
        SettingsError: an override takes the caption away from the models.
    """
    refuse_other_role(caption, "retrieval", overrides)
    target = number_column(caption)
    if target not in frame.columns:
        frame = with_numbers(frame, caption)
    columns = tuple(
        _as_pair(column, caption, target) for column in columns_around(frame, target, overrides)
    )
    rest = {name: entry for name, entry in overrides.items() if name not in (caption, target)}
    schema = apply_overrides(Schema(columns, "retrieval"), frame, rest)
    images = [name for name in schema.features if schema.named(name).type == "image"]
    if len(images) != 1:
        told = f"has {', '.join(map(repr, images))}" if images else _no_images(schema)
        raise DataError(
            f"`task: retrieval` pairs each caption with one image, and the table {told}. Name the "
            "column of images under `data.format.images`, and give others the role ignore."
        )
    return schema


def _no_images(schema: Schema) -> str:
    """That there are no images, or why those that are there are left out."""
    left = [column for column in schema.columns if column.type == "image"]
    why = "; ".join(f"{column.name!r} is left out ({column.reason})" for column in left)
    return f"has none that can be used: {why}" if left else "has none"


def _as_pair(column: Column, caption: str, target: str) -> Column:
    if column.name == target:
        return replace(column, type="number", role="target", reason=f"stands for {caption!r}")
    if column.name == caption:
        return replace(column, type="text", role="feature", reason="the caption that is found")
    if column.role != "feature" or column.type == "image":
        return column
    return replace(column, role="ignore", reason="pairs have an image and a caption only")


def caption_of(schema: Schema) -> str:
    """The column of captions."""
    return schema.target.removesuffix(SUFFIX)


def image_of(schema: Schema) -> str:
    """The column of images."""
    (name,) = (n for n in schema.features if schema.named(n).type == "image")
    return name


def gallery_of(captions: Iterable[str | None]) -> tuple[str, ...]:
    """The distinct captions among which others are looked for: all, or `GALLERY` of them.

    Which ones are taken follows from the captions alone, so that all models of a fold look among
    the same.
    """
    distinct = {caption for caption in captions if caption}
    return tuple(sorted(distinct, key=caption_number)[:GALLERY])
