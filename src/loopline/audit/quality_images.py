"""Images that teach nothing: unreadable, blank, blurred, dark, glaring, tiny, oddly shaped.

Apart from what cannot be read or shows nothing at all, an image is judged beside the others of its
column: drawings on black are dark all of them, and none of them is poor for it.

Blur is told by the variance of the Laplacian (Pech-Pacheco et al., "Diatom autofocusing in
brightfield microscopy", 2000), measured on a grey copy of at most 256 pixels a side.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.audit.quality_rows import RowQuality, judged, robust_z
from loopline.data.images import holds_images, names_images
from loopline.data.pixels import DAMAGE, MAX_PIXELS
from loopline.errors import EnvironmentProblem

Floats = NDArray[np.float64]
UNREADABLE, BLANK, BLURRED, DARK = "unreadable", "blank", "blurred", "far darker than usual"
BRIGHT, TINY, ASPECT = "far brighter than usual", "tiny", "odd shape"
HARM = {
    UNREADABLE: 1.0, BLANK: 0.9, BLURRED: 0.5, DARK: 0.5, BRIGHT: 0.5, TINY: 0.4, ASPECT: 0.3,
}  # fmt: skip
SIDE = 256
BLANK_SPREAD = 2.0
"""Standard deviation of grey levels (0 to 255) below which an image shows nothing."""
FAR = 5.0
FAR_BLUR = 4.0
BLUR_RATIO = 8.0
TINY_RATIO = 4.0
SHAPE_RATIO = 2.0
DARK_GREY, BRIGHT_GREY = 40.0, 225.0
FEWEST_IMAGES = 20


def is_image_column(values: pl.Series) -> bool:
    """Whether a column holds images as bytes, or paths that end like those of images.

    >>> is_image_column(pl.Series(["a/1.png", "a/2.PNG", None]))
    True
    """
    return holds_images(values) or names_images(values)


def score_images(images: pl.Series, folder: Path | None = None) -> RowQuality:
    """The quality of each image of a column.

    Args:
        images: paths, or the files' bytes; a missing cell counts as unreadable.
        folder: where relative paths start; the current folder by default.

    Raises:
        EnvironmentProblem: Pillow is not installed.

    >>> score_images(pl.Series([b"no image"])).of(0)
    ['unreadable']
    """
    facts = np.full((images.len(), 5), np.nan)
    for row, value in enumerate(images):
        facts[row] = _measured(value, folder)
    width, height, mean, spread, sharp = facts.T
    readable = np.isfinite(mean)
    blank = readable & (spread < BLANK_SPREAD)
    found = {UNREADABLE: ~readable, BLANK: blank}
    showing = readable & ~blank
    if showing.sum() >= FEWEST_IMAGES:
        found.update(_beside_others(width, height, mean, sharp, showing))
    return judged(images.len(), found, HARM)


def _beside_others(
    width: Floats, height: Floats, mean: Floats, sharp: Floats, showing: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    def beside(values: Floats) -> Floats:
        return np.where(showing, values, np.nan)

    grey, edges = beside(mean), beside(np.log(np.maximum(sharp, 1e-6)))
    side, shape = beside(np.log(np.minimum(width, height))), beside(np.log(width / height))
    light = robust_z(grey, floor=2.0)
    soft = robust_z(edges, floor=0.1) < -FAR_BLUR
    small = side - np.nanmedian(side) < -np.log(TINY_RATIO)
    away = np.abs(shape - np.nanmedian(shape))
    return {
        BLURRED: soft & (edges < np.nanmedian(edges) - np.log(BLUR_RATIO)),
        DARK: (light < -FAR / 2) & (grey < DARK_GREY) & (grey < np.nanmedian(grey) / 3),
        BRIGHT: (light > FAR / 2) & (grey > BRIGHT_GREY) & _glaring(grey),
        TINY: small,
        ASPECT: (away > np.log(SHAPE_RATIO)) & (robust_z(shape, floor=0.05) ** 2 > FAR**2),
    }


def _glaring(grey: Floats) -> NDArray[np.bool_]:
    """Images whose distance to white is under a third of the middle one's."""
    return np.asarray(255.0 - grey < (255.0 - np.nanmedian(grey)) / 3)


def _measured(value: Any, folder: Path | None) -> tuple[float, float, float, float, float]:
    """Width, height, mean grey, spread of grey, and sharpness; all NaN when it cannot be read."""
    try:
        from PIL import Image
    except ImportError as error:
        raise EnvironmentProblem(
            "Looking at images needs Pillow; install it with `pip install pillow`."
        ) from error
    lost = (float("nan"),) * 5
    if value is None:
        return lost
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata; the pixels decide
            source = io.BytesIO(value) if isinstance(value, bytes) else (folder or Path()) / value
            with Image.open(source) as image:
                width, height = image.size
                if width * height > MAX_PIXELS or not width * height:
                    return lost
                image.draft("L", (SIDE, SIDE))
                grey = image.convert("RGB") if image.mode == "P" else image
                grey = grey.convert("L")
                grey.thumbnail((SIDE, SIDE))
                pixels = np.asarray(grey, dtype=np.float64)
    except (*DAMAGE, Image.DecompressionBombError):
        return lost
    return (
        float(width),
        float(height),
        float(pixels.mean()),
        float(pixels.std()),
        _sharpness(pixels),
    )


def _sharpness(pixels: Floats) -> float:
    """Variance of the Laplacian, shared by the variance of the pixels, so contrast drops out."""
    if min(pixels.shape) < 3:
        return float("nan")
    inner = pixels[1:-1, 1:-1]
    edges = (
        pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:] - 4.0 * inner
    )
    return float(edges.var() / max(float(pixels.var()), 1e-6))
