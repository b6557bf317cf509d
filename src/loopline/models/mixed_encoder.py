"""What stands before a network for rows of several parts: each part's own encoder, side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.digest import canonical_json
from loopline.errors import IntegrityError
from loopline.models.encoder import Arrays, Encoder, Ints
from loopline.models.frozen_text import FrozenText
from loopline.models.image_encoder import ImageEncoder, draws
from loopline.models.mlp import TableEncoder
from loopline.models.text_encoder import TextEncoder
from loopline.seeds import child_seed

_STEADY_ROWS = 256
"""Tables of so many rows are embedded in full batches, whose vectors are remembered."""


@dataclass(frozen=True)
class MixedEncoder(Encoder):
    """The parts of a row, each read by its own encoder.

    Args:
        tables: the columns of numbers, categories and times, in table order.
        table: reads them; None where there are none.
        text: reads the text columns as tokens; None where there are none.
        image: reads the column of images; None where there is none.
        frozen: gives the texts' vectors, where their encoder does not learn.
        left_out: the probability that a part is left out in training.
        seed: of which parts are left out.
    """

    tables: tuple[str, ...]
    table: TableEncoder | None
    text: TextEncoder | None
    image: ImageEncoder | None
    frozen: FrozenText | None
    left_out: float
    seed: int
    lacks: str = field(default="had every part missing", init=False)

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The parts that there are, in their order."""
        there = {"table": self.table, "text": self.text, "image": self.image}
        return tuple(name for name, encoder in there.items() if encoder is not None)

    def encode(self, frame: pl.DataFrame) -> Arrays:
        """Every part's arrays, and `seen` (rows, parts): which parts a row has."""
        made: dict[str, Arrays] = {}
        if self.table is not None:
            made["table"] = self.table.encode(frame)
        if self.text is not None:
            made["text"] = self.text.encode(frame)
            if self.frozen is not None:
                steady = frame.height >= _STEADY_ROWS
                made["text"] = vectors_of(self.frozen.vectors(made["text"], steady=steady))
        if self.image is not None:
            made["image"] = self.image.encode(frame)
        return self.joined(frame, made)

    def joined(self, frame: pl.DataFrame, made: Mapping[str, Arrays]) -> Arrays:
        """The parts' arrays under one roof, with `seen`.

        Args:
            frame: raw columns of the same rows.
            made: what each part's encoder gave.
        """
        seen = [self._seen(name, frame, made[name]) for name in self.parts]
        arrays: dict[str, NDArray[Any]] = {
            f"{name}.{key}": array for name in self.parts for key, array in made[name].items()
        }
        return {**arrays, "seen": np.stack(seen, axis=1)}

    def _seen(self, part: str, frame: pl.DataFrame, arrays: Arrays) -> NDArray[np.bool_]:
        if part == "image":
            known: NDArray[np.bool_] = arrays["readable"]
            return known
        if part == "text":
            assert self.text is not None
            cells = [
                frame[name].cast(pl.String).fill_null("").str.strip_chars() != ""
                for name in self.text.settings.columns
            ]
        else:
            cells = [frame[name].is_not_null() for name in self.tables]
        return _any(np.stack([cell.to_numpy() for cell in cells], axis=1))

    def collate(self, arrays: Arrays, rows: Ints, epochs: Ints | None) -> Arrays:
        """The inputs of the network; in training some parts of some rows are left out."""
        seen: NDArray[np.bool_] = arrays["seen"][rows]
        if epochs is not None and self.left_out:
            drawn = draws(self.seed, rows, epochs, len(self.parts))
            kept = seen & (drawn >= self.left_out)
            seen = kept | (seen & ~_any(kept)[:, None])
        batch: dict[str, NDArray[Any]] = {"seen": seen}
        if self.table is not None:
            batch |= self.table.collate(_of(arrays, "table"), rows, epochs)
        if self.frozen is not None:
            batch["vectors"] = arrays["text.vectors"][rows]
        elif self.text is not None:
            batch |= self.text.collate(_of(arrays, "text"), rows, epochs)
        if self.image is not None:
            shown = dict(self.image.collate(_of(arrays, "image"), rows, epochs))
            del shown["readable"]
            batch |= shown
        return batch

    def usable(self, arrays: Arrays) -> NDArray[np.bool_]:
        """Which rows have at least one part."""
        return _any(arrays["seen"])

    def lengths(self, arrays: Arrays) -> Ints | None:
        """Tokens of each row, where an encoder of texts learns."""
        if self.text is None or self.frozen is not None:
            return None
        return self.text.lengths(_of(arrays, "text"))

    @property
    def elsewhere_bytes(self) -> int:
        """Bytes of the frozen weights that a saved model names and does not carry."""
        return 0 if self.frozen is None else self.frozen.elsewhere_bytes

    def save(self, folder: Path) -> None:
        """Write `mixed.json` and a folder for each part."""
        for name in self.parts:
            (folder / name).mkdir()
            encoder: Encoder = getattr(self, name)
            encoder.save(folder / name)
        facts: dict[str, Any] = {
            "tables": list(self.tables),
            "parts": list(self.parts),
            "left_out": self.left_out,
            "seed": self.seed,
            "frozen": None,
        }
        if self.frozen is not None:
            self.frozen.save_weights(folder / "text" / "weights.safetensors")
            facts["frozen"] = {"name": self.frozen.name, "digest": self.frozen.digest}
        (folder / "mixed.json").write_text(canonical_json(facts) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> MixedEncoder:
        """Read what `save` wrote.

        Raises:
            IntegrityError: the folder does not hold such an encoder.
        """
        try:
            facts = json.loads((folder / "mixed.json").read_text(encoding="utf-8"))
            parts: Sequence[str] = facts["parts"]
            tables, frozen = tuple(facts["tables"]), facts["frozen"]
            left_out, seed = float(facts["left_out"]), int(facts["seed"])
        except (OSError, ValueError, KeyError) as error:
            raise IntegrityError(f"{folder} does not hold a mixed encoder: {error}") from error
        text = TextEncoder.load(folder / "text") if "text" in parts else None
        found = MixedEncoder(
            tables=tables,
            table=TableEncoder.load(folder / "table") if "table" in parts else None,
            text=text,
            image=ImageEncoder.load(folder / "image") if "image" in parts else None,
            frozen=None,
            left_out=left_out,
            seed=seed,
        )
        if frozen is None or text is None:
            return found
        weights = folder / "text" / "weights.safetensors"
        there = weights if weights.exists() else None
        given = FrozenText(text, frozen["name"], frozen["digest"], there is not None, there)
        return replace(found, frozen=given)


def part_seed(seed: int) -> int:
    """The seed of which parts are left out, from that of a fit."""
    return child_seed(seed, "parts")


def vectors_of(vectors: NDArray[np.float64]) -> Arrays:
    """A part's arrays that are vectors: 32 bits."""
    return {"vectors": vectors.astype(np.float32)}


def _any(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether any flag of a row is true, shape (rows,)."""
    found: NDArray[np.bool_] = np.logical_or.reduce(flags, axis=1)
    return found


def _of(arrays: Arrays, part: str) -> Arrays:
    start = f"{part}."
    return {
        name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)
    }
