"""Bytes from the bytes before: the simple rival, and the baseline, of every language model.

The probability of a byte after the last few is a blend of what followed them in training and of
what followed one fewer: the more different bytes followed, the more the shorter context counts
(Witten and Bell 1991, method C). With `order: 1` it is the shares of single bytes. A text ends with
a sign of its own, so the probabilities of all texts sum to 1; the text before it, if there is one,
is read as context only.

Counts are arrays of whole numbers, so the model is data and needs numpy alone.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from loopline.data.language import DocumentColumns
from loopline.data.schema import ColumnType, Task
from loopline.digest import canonical_json
from loopline.features.fit import expect_train_view
from loopline.models.base import Family, FitContext, FittedModel, Floats, Params
from loopline.models.parameters import Rule
from loopline.models.space import DataFacts, Integer, Space
from loopline.models.table import folder_bytes, read_facts
from loopline.nets.drawing import check_drawing, drawn
from loopline.splits.views import TrainView

Ints = NDArray[np.int64]
END = 256
SIGNS = 257
"""The bytes, and the sign that stands before and behind each document."""
_BITS = 9
MAX_ORDER = 6


@dataclass(frozen=True)
class Signs:
    """Documents as signs.

    Args:
        signs: of all documents, one after another, each between two ends; shape (signs,).
        scored: which of them are predicted.
        row: the document of each.
    """

    signs: Ints
    scored: NDArray[np.bool_]
    row: Ints

    @staticmethod
    def of(before: Sequence[str], texts: Sequence[str]) -> Signs:
        """From what is read before each text, and the texts."""
        heads, bodies = ([part.encode() for part in given] for given in (before, texts))
        parts = [
            np.concatenate(
                [[END], np.frombuffer(head + body, dtype=np.uint8).astype(np.int64), [END]]
            )
            for head, body in zip(heads, bodies, strict=True)
        ]
        sizes = np.array([part.size for part in parts], dtype=np.int64)
        row = np.repeat(np.arange(len(parts)), sizes)
        place = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        first = np.array([len(head) for head in heads], dtype=np.int64) + 1
        signs = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
        return Signs(signs, place >= first[row], row)

    def keys(self, length: int) -> Ints:
        """Each sign with the `length` - 1 before it as one number; the document's end fills up."""
        key = np.zeros_like(self.signs)
        for back in range(length - 1, -1, -1):
            moved = np.full_like(self.signs, END)
            same = slice(back, None)
            moved[same] = self.signs[: self.signs.size - back]
            moved[same] = np.where(
                self.row[same] == self.row[: self.row.size - back], moved[same], END
            )
            key = (key << _BITS) | moved
        return key


class NgramModel(FittedModel):
    """Counts of runs of bytes."""

    task: Task = "language"
    concurrent = True

    def __init__(
        self,
        family: str,
        layout: DocumentColumns,
        params: Mapping[str, Any],
        counts: Mapping[str, Ints],
    ) -> None:
        self.family, self.layout = family, layout
        self.params, self._counts = dict(params), dict(counts)
        self._order = sum(name.endswith("context.keys") for name in counts)
        self._size_bytes = sum(int(each.nbytes) for each in counts.values())

    def predict(self, frame: pl.DataFrame) -> Floats:
        """The nats of each text, shape (rows,)."""
        signs = Signs.of(*self.layout.documents(frame))
        nats = -np.log(self._shares(signs)[signs.scored])
        rows = np.bincount(signs.row[signs.scored], weights=nats, minlength=frame.height)
        return np.asarray(rows, dtype=np.float64)

    def _shares(self, signs: Signs) -> Floats:
        """The probability of every sign after those before it."""
        return self._blended([signs.keys(length) for length in range(1, self._order + 1)])

    def _blended(self, by_length: Sequence[Ints]) -> Floats:
        """Probabilities from keys of runs of 1, 2, … signs."""
        found = np.full(by_length[0].size, 1.0 / SIGNS)
        for length, keys in enumerate(by_length, start=1):
            seen = _looked_up(self._counts, f"{length}", keys)
            all_seen = _looked_up(self._counts, f"{length}.context", keys >> _BITS)
            kinds = _looked_up(self._counts, f"{length}.context", keys >> _BITS, "kinds")
            mass = all_seen + kinds
            found = np.where(mass > 0, (seen + kinds * found) / np.maximum(mass, 1), found)
        return found

    def write(
        self,
        prompt: Mapping[str, str] | str,
        *,
        most: int = 200,
        temperature: float = 0.8,
        top_p: float = 0.95,
        seed: int = 0,
    ) -> Iterator[str]:
        """See `FittedModel.write`; a token is a byte."""
        check_drawing(temperature, top_p)
        signs = [END] * MAX_ORDER + list(self.layout.begun(prompt).encode())
        draw = np.random.default_rng(seed)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for _ in range(most):
            shares = self._blended([_next_keys(signs, n) for n in range(1, self._order + 1)])
            sign = drawn(np.log(shares), temperature, top_p, draw)
            if sign == END:
                return
            signs.append(sign)
            piece = decoder.decode(bytes([sign]))
            if piece:
                yield piece

    def save(self, folder: Path) -> None:
        """Write `model.json` and `counts.safetensors`."""
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "format": 1,
            "family": self.family,
            "task": self.task,
            "params": self.params,
            "text": self.layout.text,
            "prompts": list(self.layout.prompts),
        }
        (folder / "model.json").write_text(canonical_json(facts) + "\n", encoding="utf-8")
        save_file(self._counts, folder / "counts.safetensors")
        self._size_bytes = folder_bytes(folder)

    @property
    def size_bytes(self) -> int:
        """Bytes of the saved files, or of the counts before they are saved."""
        return self._size_bytes

    @staticmethod
    def counted(family: str, train: TrainView, order: int, params: Mapping[str, Any]) -> NgramModel:
        """Count the texts of a view; a text counts by its bytes, whatever its row weighs."""
        layout = DocumentColumns.of(train.schema)
        signs = Signs.of(*layout.documents(train.frame(layout.columns)))
        return NgramModel(family, layout, params, _counted(signs, order))

    @staticmethod
    def read(family: str, folder: Path) -> NgramModel:
        """Read what `save` wrote."""
        facts = read_facts(folder, family)
        layout = DocumentColumns(facts["text"], tuple(facts["prompts"]))
        return NgramModel(family, layout, facts["params"], load_file(folder / "counts.safetensors"))


def _next_keys(signs: Sequence[int], length: int) -> Ints:
    """The keys of each sign that may follow, with the `length` - 1 before it."""
    before = 0
    for sign in signs[len(signs) - length + 1 :]:
        before = before << _BITS | sign
    return (before << _BITS) | np.arange(SIGNS)


def _looked_up(counts: Mapping[str, Ints], name: str, keys: Ints, what: str = "counts") -> Ints:
    known = counts[f"{name}.keys"]
    place = np.minimum(np.searchsorted(known, keys), known.size - 1)
    return np.where(known[place] == keys, counts[f"{name}.{what}"][place], 0)


def _counted(signs: Signs, order: int) -> dict[str, Ints]:
    """Counts of every run of up to `order` signs that ends in a predicted one."""
    found: dict[str, Ints] = {}
    for length in range(1, order + 1):
        keys, counts = np.unique(signs.keys(length)[signs.scored], return_counts=True)
        contexts, place = np.unique(keys >> _BITS, return_inverse=True)
        found |= {
            f"{length}.keys": keys,
            f"{length}.counts": counts.astype(np.int64),
            f"{length}.context.keys": contexts,
            f"{length}.context.counts": np.bincount(place, weights=counts).astype(np.int64),
            f"{length}.context.kinds": np.bincount(place).astype(np.int64),
        }
    return found


class Ngram(Family):
    """Runs of bytes, counted and blended."""

    name = "ngram"
    complexity = 30
    tasks: frozenset[Task] = frozenset({"language"})
    reads: frozenset[ColumnType] | None = frozenset({"text"})
    rules: ClassVar[Mapping[str, Rule]] = {"order": Rule("integer", low=1, high=MAX_ORDER)}

    def defaults(self, task: Task, num_rows: int) -> dict[str, Any]:
        """`order`: a byte and those before it that are looked at together, 1 to 6."""
        del task, num_rows
        return {"order": 5}

    def space(self, facts: DataFacts) -> Space:
        """The order."""
        del facts
        return {"order": Integer(2, MAX_ORDER)}

    def fit(
        self, train: TrainView, valid: TrainView | None, params: Params, context: FitContext
    ) -> NgramModel:
        """Count."""
        del valid, context
        expect_train_view(train)
        settings = self.resolve(params, train.schema.task, train.num_rows)
        return NgramModel.counted(self.name, train, int(settings["order"]), settings)

    def load(self, folder: Path) -> NgramModel:
        """Read a saved model."""
        return NgramModel.read(self.name, folder)
