"""From a column of image files to pixels of one size, and the random numbers of augmentation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.pixels import decodes, over, pixels
from loopline.digest import canonical_json
from loopline.errors import IntegrityError
from loopline.models.encoder import Arrays, Encoder, Ints

CACHE_BYTES = 1 << 30
"""Tables whose decoded images take at most this are decoded once; others batch by batch."""
_DRAWS = 7
"""Random numbers of one image's augmentation, as `loopline.nets.image` takes them."""
_STEPS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclass(frozen=True)
class ImageEncoder(Encoder):
    """Images of one column at one size.

    Args:
        column: the column of image files.
        size: height and width.
        channels: 1 for grey, 3 for colour.
        mean: of each channel, from 0 to 1: what the network takes off.
        deviation: of each channel: what it divides by.
        augment: what is done to training images ("none", "shift", "photo", "flip").
        seed: of augmentation.
        config: configuration of a pretrained network; None for the small one.
    """

    column: str
    size: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    augment: str
    seed: int
    config: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", (self.column,))

    def encode(self, frame: pl.DataFrame) -> Arrays:
        """Pixels (rows, height, width, channels) of 8 bits, or the files where they are too many.

        `readable` says which rows have an image; the others are black.
        """
        cells = frame[self.column].to_list()
        if len(cells) * self._row_bytes <= CACHE_BYTES:
            shown, readable = self._decoded(cells)
            return {"pixels": shown, "readable": readable}
        sizes = np.array([len(cell or b"") for cell in cells], dtype=np.int64)
        files = np.frombuffer(b"".join(cell or b"" for cell in cells), dtype=np.uint8)
        readable = np.array(over(cells, decodes), dtype=bool)
        return {"files": files, "ends": np.cumsum(sizes), "readable": readable}

    def collate(self, arrays: Arrays, rows: Ints, epochs: Ints | None) -> Arrays:
        """Pixels of the rows; in training, unless nothing is done to them, random numbers too."""
        if "pixels" in arrays:
            batch = {"pixels": arrays["pixels"][rows], "readable": arrays["readable"][rows]}
        else:
            files, ends = arrays["files"], arrays["ends"]
            cells = [
                files[ends[row - 1] if row else 0 : ends[row]].tobytes() for row in rows.tolist()
            ]
            shown, readable = self._decoded(cells)
            batch = {"pixels": shown, "readable": readable}
        if epochs is not None and self.augment != "none":
            batch["draws"] = draws(self.seed, rows, epochs, _DRAWS)
        return batch

    def usable(self, arrays: Arrays) -> NDArray[np.bool_]:
        """Which rows have an image that can be read."""
        known: NDArray[np.bool_] = arrays["readable"]
        return known

    def save(self, folder: Path) -> None:
        """Write `encoder.json`."""
        text = canonical_json(asdict(self)) + "\n"
        (folder / "encoder.json").write_text(text, encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> ImageEncoder:
        """Read what `save` wrote.

        Raises:
            IntegrityError: there is no such file, or it holds something else.
        """
        try:
            facts = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
            for name in ("size", "mean", "deviation"):
                facts[name] = tuple(facts[name])
            return ImageEncoder(**facts)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{folder} does not hold an image encoder: {error}") from error

    @property
    def _row_bytes(self) -> int:
        return self.size[0] * self.size[1] * self.channels

    def _decoded(
        self, cells: Sequence[bytes | None]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        found = over(cells, lambda cell: pixels(cell, self.size, self.channels))
        shown = np.zeros((len(cells), *self.size, self.channels), dtype=np.uint8)
        readable = np.zeros(len(cells), dtype=bool)
        for row, image in enumerate(found):
            if image is not None:
                shown[row], readable[row] = image, True
        return shown, readable


def draws(seed: int, rows: Ints, epochs: Ints, count: int) -> NDArray[np.float32]:
    """Random numbers in [0, 1) that are a function of seed, row, epoch and place alone.

    The finaliser of splitmix64 (Steele, Lea and Flood 2014) over a sum of multiples.

    Args:
        seed: of the run.
        rows: row numbers, shape (rows,).
        epochs: the epoch of each.
        count: how many numbers a row.

    Returns:
        Shape (rows, count), float32.
    """
    places = np.arange(1, count + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        words = (
            (rows.astype(np.uint64) * _STEPS[0] + epochs.astype(np.uint64) * _STEPS[1])[:, None]
            + places * _STEPS[2]
            + np.uint64(seed % 2**64)
        )
        for shift, factor in zip((30, 27), _MIX, strict=True):
            words = (words ^ (words >> np.uint64(shift))) * factor
        words ^= words >> np.uint64(31)
    found: NDArray[np.float32] = (words >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
    return found
