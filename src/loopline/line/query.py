"""Asking a release by words: which images fit a text, and which text fits an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from loopline.data.images import FILE
from loopline.errors import DataError, InputError
from loopline.models.clip import ClipModel
from loopline.release.bundle import Release


@dataclass(frozen=True)
class Hit:
    """An image with the text that fits it best.

    Args:
        image: its file's name, or its row in the table, from 1.
        text: the text.
        closeness: cosine of their vectors, from -1 to 1.
        share: the text's probability among all texts that were given.
    """

    image: str
    text: str
    closeness: float
    share: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def find_images(release: Release, images: Any, texts: Sequence[str]) -> list[Hit]:
    """The images that can be read, those first whose text fits them best.

    With several texts each image is named by one of them, with nothing learned for it: a classifier
    of words.

    Args:
        release: whose winner is of the clip family.
        images: a folder, ZIP file or table of images, by path, or a table.
        texts: at least one, none empty.

    Raises:
        InputError: the release cannot be asked by words, or a text is empty.
        DataError: there are no images, or none can be read.
    """
    model = release.model
    if not isinstance(model, ClipModel):
        raise InputError(
            f"{release.name} ({release.id[:20]}) is a model of the family {model.family} for the "
            f"task {release.task}, which cannot be asked by words. Run a line with `task: "
            "retrieval` on images with captions; its clip family can be."
        )
    if not texts or not all(text.strip() for text in texts):
        raise InputError("Every text to look for must have a word in it; one is empty.")
    frame = release.read(images).frame
    told = "the table" if isinstance(images, pl.DataFrame) else str(images)
    column = model.encoder.image.column
    if column not in frame.columns:
        raise DataError(
            f"There is no column {column!r} of images in {told}; it has "
            f"{', '.join(frame.columns[:10])}."
        )
    cells = frame[column].to_list()
    vectors = model.image_vectors(cells)
    closeness = vectors @ model.caption_vectors(texts).T
    scores = model.factor * closeness
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    named = frame[FILE].to_list() if FILE in frame.columns else None
    readable = np.flatnonzero(vectors.any(axis=1)).tolist()
    if not readable:
        raise DataError(f"No image of {told} can be read, so none can be found.")
    hits = []
    for row in readable:
        best = int(closeness[row].argmax())
        image = str(named[row]) if named else f"row {row + 1:,}"
        hits.append(Hit(image, texts[best], float(closeness[row, best]), float(shares[row, best])))
    return sorted(hits, key=lambda hit: -hit.closeness)
