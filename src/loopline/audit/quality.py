"""Poor examples: rows that teach a model little, each with a score and reasons, and their price.

Nothing is left out. A finding lists the poorest rows of a text column, an image column or the
whole table; where a view is given, it also says what the same small model scores on the *other*
rows with and without the poor ones in its training, so a person can see whether leaving them out
would help.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.audit.crossfit import assign_folds, cross_fit
from loopline.audit.examples import MAX_LETTERS
from loopline.audit.finding import NUM_EXAMPLES, Finding, Remedy, Worth
from loopline.audit.price import Pricing, sample_units
from loopline.audit.quality_images import is_image_column, score_images
from loopline.audit.quality_rows import RowQuality, column_of, columns_of
from loopline.audit.quality_tables import score_rows
from loopline.audit.quality_texts import score_texts
from loopline.data.cleaning.finding import plain
from loopline.errors import DataError
from loopline.evaluate.intervals import estimate
from loopline.select.compare import compare
from loopline.splits.views import TrainView
from loopline.words import counted

Bools = NDArray[np.bool_]
FEWEST_PRICED = 20
"""Poor rows below which no price is measured: it could not be told from zero."""
SERIOUS = 0.01
"""Share of useless rows from which a finding is a warning."""
SHOWN_CELLS = 6


@dataclass(frozen=True)
class _Part:
    """One thing that was looked at: a column of texts or images, or the table's rows."""

    check: str
    columns: tuple[str, ...]
    quality: RowQuality
    noun: str


def quality_findings(
    frame: pl.DataFrame | TrainView,
    types: Mapping[str, str],
    view: TrainView | None = None,
    pricing: Pricing | None = None,
    *,
    folder: Path | None = None,
) -> list[Finding]:
    """Poor texts, images and rows, one finding a column of texts or images and one for the table.

    Args:
        frame: the table, or only the view's rows of it, or the view itself, whose columns are then
            gathered one by one.
        types: the type of each feature column, as in a schema, or `image`; columns that are not
            named are not looked at, so leave the target out.
        view: training rows, for the price.
        pricing: how to measure it; no price without it.
        folder: where relative paths of images start.

    Raises:
        DataError: the frame fits the view neither as the whole table nor as its rows.
        EnvironmentProblem: there are images and Pillow is not installed.

    >>> texts = ["", "", *(f"This is the sentence of number {i}." for i in range(50))]
    >>> (found,) = quality_findings(pl.DataFrame({"t": texts}), {"t": "text"})
    >>> found.sentence
    "2 of 52 texts of column 't' are poor: 2 empty."
    """
    places = _places(frame, view)
    parts = _parts(frame, types, folder)
    found = []
    for part in parts:
        poor = part.quality.poor
        if not poor.any():
            continue
        worth = None
        if view is not None and pricing is not None:
            mine = poor[view.positions] if len(frame) != view.num_rows else poor
            worth = price_rows(view, mine, pricing) if mine.sum() >= FEWEST_PRICED else None
        found.append(_finding(part, frame, places, worth))
    return found


def price_rows(view: TrainView, bad_rows: Bools, pricing: Pricing) -> Worth | None:
    """The score on the other rows, with the poor rows in the training and without them.

    The rows that are scored are the same for both and hold no poor row, so the price is that of
    learning from poor rows, not of being tested on easier ones. Positive: the poor rows help, and
    leaving them out costs; negative: leaving them out helps.

    Args:
        view: training rows.
        bad_rows: the poor ones, shape (rows,).
        pricing: how to measure.

    Returns:
        The worth, or None where it cannot be measured: no poor rows, hardly any others, or others
        of one class only.

    Raises:
        DataError: a mask of another length.
    """
    if bad_rows.shape != (view.num_rows,):
        raise DataError(
            f"The mask of poor rows has shape {bad_rows.shape}; the view has {view.num_rows:,} "
            "rows."
        )
    if not view.schema.features:
        return None
    rows = sample_units(view, view.units, pricing.max_rows, pricing.seed)
    part, poor = view.subset(rows), bad_rows[rows]
    good = ~poor
    labels = part.target[good]
    if not poor.any() or good.sum() < FEWEST_PRICED or np.unique(labels).size < 2:
        return None
    fold = assign_folds(part, part.units, seed=pricing.seed)
    settings: dict[str, Any] = {"threads": pricing.threads, "seed": pricing.seed}
    try:
        claimed = cross_fit(part, fold, **settings)
        repaired = cross_fit(part.subset(good), fold[good], **settings)
    except DataError:
        return None  # the rows are too few, or of one class, on a side of every fold
    both = claimed.known[good] & repaired.known
    name = pricing.metric_for(view)
    y, units = labels[both], part.units[good][both]
    weight = None if part.weight is None else part.weight[good][both]
    first, second = claimed.prediction[good][both], repaired.prediction[both]
    return Worth(
        metric=name,
        claimed=estimate(name, y, first, units=units, weight=weight),
        repaired=estimate(name, y, second, units=units, weight=weight),
        difference=compare(name, y, first, second, units=units, weight=weight),
        model=claimed.model,
    )


def _places(frame: pl.DataFrame | TrainView, view: TrainView | None) -> NDArray[np.int64]:
    """Where each row of the frame stands in the table."""
    if view is None or len(frame) != view.num_rows:
        if view is not None and view.num_rows and len(frame) <= view.positions.max():
            raise DataError(
                f"The frame has {len(frame):,} rows; it must be the whole table or the "
                f"{view.num_rows:,} rows of the view."
            )
        return np.arange(len(frame), dtype=np.int64)
    return view.positions


def _parts(
    frame: pl.DataFrame | TrainView, types: Mapping[str, str], folder: Path | None
) -> list[_Part]:
    parts = []
    plain = {}
    known = set(columns_of(frame))
    for name, kind in types.items():
        if name not in known:
            continue
        if kind not in ("image", "text", "category", "other"):
            plain[name] = kind
            continue
        values = column_of(frame, name)
        if kind == "image" or (kind in ("text", "category", "other") and is_image_column(values)):
            parts.append(_Part("poor_images", (name,), score_images(values, folder), "image"))
        elif kind == "text":
            parts.append(_Part("poor_texts", (name,), score_texts(values), "text"))
        else:
            plain[name] = kind
    if plain:
        parts.append(_Part("poor_rows", (), score_rows(frame, plain), "row"))
    return parts


def _finding(
    part: _Part, frame: pl.DataFrame | TrainView, places: NDArray[np.int64], worth: Worth | None
) -> Finding:
    quality = part.quality
    number = int(quality.poor.sum())
    where = f" of column {part.columns[0]!r}" if part.columns else ""
    reasons = {reason: int(mask.sum()) for reason, mask in quality.reasons.items()}
    listed = ", ".join(
        f"{count:,} {reason}"
        for reason, count in sorted(reasons.items(), key=lambda item: -item[1])
    )
    verb = "is" if number == 1 else "are"
    sentence = (
        f"{number:,} of {counted(len(frame), part.noun)}{where} {verb} poor: {listed}."
        + _told(worth)
    )
    useless = float((quality.score <= 0.15).mean())
    helps = worth is not None and worth.difference.high < 0.0
    worst = quality.worst(NUM_EXAMPLES)
    names = list(part.columns) or columns_of(frame)[:SHOWN_CELLS]
    return Finding(
        check=part.check,
        severity="warning" if helps or useless >= SERIOUS else "note",
        sentence=sentence,
        columns=part.columns,
        num_rows=number,
        share=number / len(frame),
        rows=tuple(int(places[row]) for row in worst),
        examples=_examples(frame, names, quality, places, worst),
        confidence=round(float(1.0 - quality.score[quality.poor].mean()), 3),
        worth=worth,
        remedy=Remedy("Look at the rows, and mend or leave out those that are of no use."),
        facts={"reasons": reasons, "skipped": list(quality.skipped)},
    )


def _told(worth: Worth | None) -> str:
    if worth is None or not np.isfinite(worth.difference.low):
        return ""
    if worth.difference.high < 0.0:
        return " Leaving them out of the training makes the model better on the other rows."
    if worth.difference.low > 0.0:
        return " Leaving them out of the training makes the model worse on the other rows."
    return " Leaving them out of the training makes no clear difference on the other rows."


def _examples(
    frame: pl.DataFrame | TrainView,
    names: list[str],
    quality: RowQuality,
    places: NDArray[np.int64],
    worst: NDArray[np.int64],
) -> tuple[dict[str, Any], ...]:
    shown = (
        frame[worst].select(names)
        if isinstance(frame, pl.DataFrame)
        else frame.subset(worst).frame(names)
    )
    return tuple(
        {
            "row": int(places[row]),
            "score": round(float(quality.score[row]), 4),
            "reasons": quality.of(row),
            "cells": {name: plain(value, MAX_LETTERS) for name, value in cells.items()},
        }
        for row, cells in zip(worst.tolist(), shown.to_dicts(), strict=True)
    )
