"""What stands before two encoders of images and captions: pixels and tokens of each pair."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.retrieval import caption_numbers
from loopline.digest import canonical_json
from loopline.errors import IntegrityError
from loopline.models.encoder import Arrays, Encoder, Ints
from loopline.models.image_encoder import ImageEncoder
from loopline.models.text_encoder import TextEncoder


@dataclass(frozen=True)
class ByteCaptions(Encoder):
    """Captions as the numbers of their bytes (UTF-8) plus one; what is longer is cut.

    Args:
        column: the column of captions.
        length: most bytes that are read, at least 1.
    """

    column: str
    length: int

    def encode(self, frame: pl.DataFrame) -> Arrays:
        """`bytes` (all bytes,), and `ends` (rows + 1,): row r has those from ends[r] on."""
        texts = frame[self.column].cast(pl.String).fill_null("").to_list()
        cut = [(text or " ").encode()[: self.length] for text in texts]
        sizes = np.array([len(each) for each in cut], dtype=np.int64)
        ends = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
        return {"bytes": np.frombuffer(b"".join(cut), dtype=np.uint8), "ends": ends}

    def collate(self, arrays: Arrays, rows: Ints, epochs: Ints | None) -> Arrays:
        """`input_ids` and `attention_mask` (rows, longest), int64."""
        del epochs
        starts, sizes = arrays["ends"][rows], arrays["ends"][rows + 1] - arrays["ends"][rows]
        places = np.arange(int(sizes.max(initial=1)))
        mask = places < sizes[:, None]
        found = arrays["bytes"][np.where(mask, starts[:, None] + places, 0)].astype(np.int64)
        return {
            "input_ids": np.where(mask, found + 1, 0),
            "attention_mask": mask.astype(np.int64),
        }

    def save(self, folder: Path) -> None:
        """Write `captions.json`."""
        facts = {"column": self.column, "length": self.length}
        (folder / "captions.json").write_text(canonical_json(facts) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> ByteCaptions:
        """Read what `save` wrote."""
        return ByteCaptions(**json.loads((folder / "captions.json").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class ClipEncoder(Encoder):
    """Pixels and tokens of each pair, and the captions among which others are looked for.

    Args:
        image: reads the images.
        text: reads the captions.
        gallery: distinct captions of training.
        config: configuration of a pretrained CLIP; None for the small one.
        classes: whether the gallery are sentences of classes, and rows have no captions.
    """

    image: ImageEncoder
    text: TextEncoder | ByteCaptions
    gallery: tuple[str, ...]
    config: Mapping[str, Any] | None = None
    classes: bool = False

    @property
    def caption(self) -> str:
        """The column of captions."""
        if isinstance(self.text, ByteCaptions):
            return self.text.column
        return self.text.settings.columns[0]

    def encode(self, frame: pl.DataFrame) -> Arrays:
        """The arrays of both halves, and `codes`: the number of each row's caption.

        Where rows have classes and no captions, those of the image half alone.
        """
        if self.classes:
            return {f"image.{key}": array for key, array in self.image.encode(frame).items()}
        halves = {"image": self.image.encode(frame), "text": self.text.encode(frame)}
        arrays: dict[str, NDArray[Any]] = {
            f"{name}.{key}": array for name, half in halves.items() for key, array in half.items()
        }
        return {**arrays, "codes": caption_numbers(frame[self.caption])}

    def captions(self, texts: Sequence[str | None]) -> Arrays:
        """The arrays of some captions."""
        return self.text.encode(pl.DataFrame({self.caption: pl.Series(texts, dtype=pl.String)}))

    def collate(self, arrays: Arrays, rows: Ints, epochs: Ints | None) -> Arrays:
        """Pixels, tokens, and in training the random numbers of augmentation.

        Where rows have classes, pixels and whether there are any.
        """
        image, text = (
            {key[len(name) + 1 :]: a for key, a in arrays.items() if key.startswith(f"{name}.")}
            for name in ("image", "text")
        )
        if self.classes:
            return self.image.collate(image, rows, epochs)
        return {**self.pixels(image, rows, epochs), **self.text.collate(text, rows, epochs)}

    def pixels(self, arrays: Arrays, rows: Ints, epochs: Ints | None) -> Arrays:
        """The inputs of the image half."""
        shown = dict(self.image.collate(arrays, rows, epochs))
        del shown["readable"]
        return shown

    def usable(self, arrays: Arrays) -> NDArray[np.bool_]:
        """Which pairs have an image that can be read."""
        known: NDArray[np.bool_] = arrays["image.readable"]
        return known

    def save(self, folder: Path) -> None:
        """Write `clip.json` and a folder for each half."""
        for name, half in (("image", self.image), ("text", self.text)):
            (folder / name).mkdir()
            half.save(folder / name)
        facts = {
            "gallery": list(self.gallery),
            "config": self.config,
            "classes": self.classes,
        }
        (folder / "clip.json").write_text(canonical_json(facts) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> ClipEncoder:
        """Read what `save` wrote.

        Raises:
            IntegrityError: the folder does not hold such an encoder.
        """
        try:
            facts = json.loads((folder / "clip.json").read_text(encoding="utf-8"))
            gallery, config = tuple(facts["gallery"]), facts["config"]
            classes = bool(facts["classes"])
            image = ImageEncoder.load(folder / "image")
            own = config is None
            text = ByteCaptions.load(folder / "text") if own else TextEncoder.load(folder / "text")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{folder} does not hold an encoder of pairs: {error}") from error
        return ClipEncoder(image, text, gallery, config, classes)
