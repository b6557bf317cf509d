"""Tables of small pictures for the conformance kit of model families."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

SIDE = 12


def make_image_table(
    labels: Callable[[NDArray[np.float64]], list[Any]], rows: int = 120, seed: int = 0
) -> pl.DataFrame:
    """A small table with one column of PNG files, `picture`, whose left half makes the target.

    One picture in twenty is missing.

    Args:
        labels: makes the target from a score of each row.
        rows: how many.
        seed: of what is drawn.
    """
    rng = np.random.default_rng(seed)
    score = 1.5 * rng.normal(size=rows)
    shown = rng.integers(90, 110, (rows, SIDE, SIDE)).astype(np.float64)
    shown[:, :, : SIDE // 2] += 40.0 * np.clip(score, -2.0, 2.0)[:, None, None]
    hidden = rng.random(rows) < 0.05
    files = [None if gone else png(image) for image, gone in zip(shown, hidden, strict=True)]
    picture = pl.Series(files, dtype=pl.Binary)
    return pl.DataFrame({"picture": picture, "target": labels(score)})


def png(shown: NDArray[Any]) -> bytes:
    """Points from 0 to 255, shape (height, width) or (height, width, 3), as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.clip(shown, 0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def odd_images() -> list[pl.Series]:
    """Eight cells that are missing, damaged, or unlike the pictures of training."""
    rng = np.random.default_rng(1)
    whole = png(rng.integers(0, 255, (SIDE, SIDE)))
    odd = [
        None,
        b"",
        b"no image",
        whole[: len(whole) // 2],
        png(rng.integers(0, 255, (300, 5))),
        png(rng.integers(0, 255, (SIDE, SIDE, 3))),
        png(np.zeros((1, 1))),
        whole,
    ]
    return [pl.Series("picture", odd, dtype=pl.Binary)]


def poor_images(table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Pictures that say little or nothing."""
    same = table["picture"].drop_nulls()[0]
    blank = png(np.full((SIDE, SIDE), 255.0))
    few = [same, *[None] * (table.height - 1)]
    return {
        "constant": table.with_columns(picture=pl.lit(same, dtype=pl.Binary)),
        "blank": table.with_columns(picture=pl.lit(blank, dtype=pl.Binary)),
        "mostly missing": table.with_columns(picture=pl.Series(few, dtype=pl.Binary)),
    }
