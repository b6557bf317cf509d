"""From the bytes of an image file to its pixels, for whoever needs them: upright, on white.

Decoding is Pillow's (extra `loopline[images]`). What cannot be decoded is None, never an error:
whether that is one damaged file among a million is for the caller to judge. Files that claim more
than 100 million pixels are not decoded, because a few kilobytes can claim gigabytes.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.cores import num_cores
from loopline.errors import DataError, EnvironmentProblem

Pixels = NDArray[np.uint8]
_Found = TypeVar("_Found")

MAX_PIXELS = 100_000_000
DAMAGE = (
    OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, EOFError, OverflowError,
    ZeroDivisionError, AttributeError, NotImplementedError, RuntimeError, MemoryError,
    struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's readers raise on damaged files."""
_FEWEST, _MOST_BLOCK, _MOST_THREADS = 8, 64, 16
"""Images that a thread decodes in one go, at least and at most, and how many threads there are."""


def pixels(content: bytes | None, size: tuple[int, int], channels: int) -> Pixels | None:
    """An image at a given size; None when it cannot be decoded.

    The whole picture is fitted to the size, whatever its shape. What is transparent becomes white,
    a photograph that was taken sideways is turned upright, more than 8 bits are scaled to 8.

    Args:
        content: the file's bytes.
        size: height and width, each at least 1.
        channels: 1 for grey, 3 for red, green and blue.

    Returns:
        Shape (height, width, channels).
    """
    shown = _opened(content, lambda image: _shown(image, size, channels))
    return None if shown is None else shown.reshape(*size, channels)


def decodes(content: bytes | None) -> bool:
    """Whether a file can be decoded to its last pixel (a JPEG at an eighth of its size).

    >>> decodes(b"no image")
    False
    """

    def loaded(image: Any) -> bool:
        image.draft("L", (image.width // 8, image.height // 8))
        image.load()
        return True

    return bool(_opened(content, loaded))


def readable(images: pl.Series) -> pl.Series:
    """Which cells of a column of bytes can be decoded."""
    return pl.Series(images.name, over(images.to_list(), decodes), dtype=pl.Boolean)


def facts(content: bytes | None) -> tuple[int, int, bool] | None:
    """Height, width and whether an image has colour, from its first bytes; None if unreadable.

    An image of red, green and blue counts as colour when some pixel has; others by their kind.
    """

    def told(image: Any) -> tuple[int, int, bool]:
        height, width = image.height, image.width
        if image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I"):
            return height, width, False
        small = image.convert("RGB").resize((32, 32))
        points = np.asarray(small, dtype=np.int16)
        return height, width, bool((np.ptp(points, axis=2) > 8).any())

    return _opened(content, told)


def over(cells: Sequence[Any], work: Callable[[Any], _Found]) -> list[_Found]:
    """What `work` gives for each cell, by threads: decoding leaves the interpreter to others."""
    threads = min(_MOST_THREADS, num_cores())
    size = min(_MOST_BLOCK, max(_FEWEST, -(-len(cells) // threads)))
    if threads == 1 or len(cells) < 2 * size:
        return [work(cell) for cell in cells]

    def block(start: int) -> list[_Found]:
        return [work(cell) for cell in cells[start : start + size]]

    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(block, range(0, len(cells), size))
        return [found for part in parts for found in part]


def contents(value: Any) -> Any:
    """The bytes of a file that is given as a `pathlib.Path`; everything else as it is.

    Raises:
        DataError: the file cannot be read.
    """
    if not isinstance(value, Path):
        return value
    try:
        return value.read_bytes()
    except OSError as error:
        raise DataError(f"The image {str(value)!r} cannot be read: {error.strerror}.") from error


class _Quiet:
    """Silences Pillow's warnings on damaged metadata; the pixels decide.

    `warnings.catch_warnings` alone would restore the wrong state when threads overlap.
    """

    def __init__(self) -> None:
        self._lock, self._depth = Lock(), 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._depth:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._depth += 1

    def __exit__(self, *told: object) -> None:
        with self._lock:
            self._depth -= 1
            if not self._depth:
                self._caught.__exit__(None, None, None)


_QUIET = _Quiet()


def _opened(content: bytes | None, work: Callable[[Any], _Found]) -> _Found | None:
    try:
        from PIL import Image
    except ImportError as error:
        raise EnvironmentProblem(
            "Reading images needs Pillow, not installed here; run `pip install 'loopline[images]'`."
        ) from error
    if not content:
        return None
    try:
        with _QUIET, Image.open(io.BytesIO(content)) as image:
            if not 0 < image.width * image.height <= MAX_PIXELS:
                return None
            return work(image)
    except (*DAMAGE, Image.DecompressionBombError):
        return None


def _shown(image: Any, size: tuple[int, int], channels: int) -> Pixels:
    from PIL import Image, ImageOps

    mode = "L" if channels == 1 else "RGB"
    height, width = size
    image.draft(mode, (2 * width, 2 * height))
    upright = ImageOps.exif_transpose(image)
    if "A" in upright.getbands() or "transparency" in upright.info:
        over_white = Image.new("RGBA", upright.size, "white")
        over_white.alpha_composite(upright.convert("RGBA"))
        upright = over_white
    elif upright.mode.startswith("I") or upright.mode == "F":
        upright = _eight_bits(upright)
    plain = upright.convert(mode)
    if plain.size != (width, height):
        plain = plain.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(plain, dtype=np.uint8)


def _eight_bits(image: Any) -> Any:
    """Deep grey levels as 8 bits: 16-bit files by their range, others by what they hold."""
    from PIL import Image

    deep = np.asarray(image, dtype=np.float64)
    top = 65_535.0 if image.mode != "F" and deep.max(initial=0) > 255 else 255.0
    if image.mode == "F" and deep.size:
        deep, top = deep - deep.min(), max(float(np.ptp(deep)), 1e-6)
    return Image.fromarray((deep * (255.0 / top)).clip(0, 255).astype(np.uint8))
