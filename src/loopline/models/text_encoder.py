"""Texts as tokens: what stands before a text network, a value that saves itself as data.

A row's text columns become one line of tokens: what the model puts before, the columns in table
order with the model's separator between them, what it puts behind. A line longer than `max_length`
is cut, the longest columns first, or with windows read in equal parts whose vectors are averaged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.digest import canonical_json
from loopline.errors import IntegrityError
from loopline.models.encoder import Arrays, Encoder, Ints

MAX_WINDOWS = 32
"""Windows of one row at most; what lies behind the last is cut."""
_BLOCK_TEXTS = 4_096


@dataclass(frozen=True)
class TokenSettings:
    """How texts become tokens.

    Args:
        columns: the text columns, in table order.
        max_length: tokens of a line at most, special ones included.
        windows: whether longer lines are read in several windows.
        padding: number of the token that fills up a batch.
        separator: numbers of the tokens between two columns.
        pooling: "mean" or "cls": which vector stands for a line.
    """

    columns: tuple[str, ...]
    max_length: int
    windows: bool
    padding: int
    separator: tuple[int, ...]
    pooling: str


class TextEncoder(Encoder):
    """Text columns to windows of tokens.

    Args:
        settings: columns, lengths, special tokens.
        tokenizer: the content of a `tokenizer.json` that neither cuts nor fills up.
        config: configuration of the network that reads the tokens, plain data.
    """

    def __init__(self, settings: TokenSettings, tokenizer: str, config: Mapping[str, Any]) -> None:
        self.settings, self.tokenizer, self.config = settings, tokenizer, dict(config)
        self.columns = settings.columns

    @cached_property
    def _reader(self) -> Any:
        from tokenizers import Tokenizer

        reader = Tokenizer.from_str(self.tokenizer)
        reader.encode_special_tokens = True  # a text that says "[SEP]" is a text
        return reader

    @cached_property
    def _around(self) -> tuple[Ints, Ints]:
        """Tokens that the model puts before and behind every line."""
        bare = self._reader.encode("a", add_special_tokens=False).ids
        whole = self._reader.encode("a").ids
        for start in range(len(whole) - len(bare) + 1):
            if whole[start : start + len(bare)] == bare:
                return _ids(whole[:start]), _ids(whole[start + len(bare) :])
        return _ids([]), _ids([])

    @property
    def room(self) -> int:
        """Tokens of a line at most, special ones not counted."""
        return self.settings.max_length - sum(part.size for part in self._around)

    def encode(self, frame: pl.DataFrame) -> Arrays:
        """All rows' tokens (int32) with where windows and rows begin.

        Returns:
            `tokens` (all tokens,), `windows` (windows + 1,) and `rows` (rows + 1,): window w holds
            the tokens from windows[w] to windows[w + 1], row r the windows from rows[r] to
            rows[r + 1]; and `cut` (rows,), True where a text was longer than what is read.
        """
        lines, cut = self._lines(frame)
        windows: list[Ints] = []
        counts = np.zeros(frame.height, dtype=np.int64)
        before, behind = self._around
        for row, line in enumerate(lines):
            parts = [line] if line.size <= self.room else np.array_split(line, self._num(line.size))
            counts[row] = len(parts)
            for part in parts:
                window = np.concatenate([before, part, behind])
                windows.append(window if window.size else _ids([self.settings.padding]))
        sizes = np.array([window.size for window in windows], dtype=np.int64)
        tokens = np.concatenate(windows) if windows else _ids([])
        return {
            "tokens": tokens.astype(np.int32),
            "windows": _ends(sizes),
            "rows": _ends(counts),
            "cut": cut,
        }

    def _num(self, size: int) -> int:
        return -(-size // self.room)

    def _lines(self, frame: pl.DataFrame) -> tuple[list[Ints], NDArray[np.bool_]]:
        """Each row's tokens without special ones, and whether something was left out."""
        separator = _ids(self.settings.separator)
        most = self.room * (MAX_WINDOWS if self.settings.windows else 1)
        columns = [self._tokens(frame[name]) for name in self.settings.columns]
        least = separator.size * (len(columns) - 1)
        lines, cut = [], np.zeros(frame.height, dtype=np.bool_)
        for row, parts in enumerate(zip(*columns, strict=True)):
            sizes = [len(part) for part in parts]
            if sum(sizes) + least > most:
                cut[row] = True
                sizes = shortened(sizes, max(0, most - least))
            pieces: list[Ints] = []
            for part, size in zip(parts, sizes, strict=True):
                pieces += [separator, _ids(part[:size])] if pieces else [_ids(part[:size])]
            lines.append(np.concatenate(pieces)[:most])
        return lines, cut

    def _tokens(self, column: pl.Series) -> list[list[int]]:
        """The tokens of each cell; a missing one reads as an empty text."""
        texts = column.cast(pl.String)
        found: list[list[int]] = []
        for start in range(0, len(texts), _BLOCK_TEXTS):
            block = [text or "" for text in texts.slice(start, _BLOCK_TEXTS).to_list()]
            found += [
                line.ids for line in self._reader.encode_batch_fast(block, add_special_tokens=False)
            ]
        return found

    def collate(self, arrays: Arrays, rows: Ints, epochs: Ints | None) -> Arrays:
        """Padded tokens of the rows' windows; `share` averages windows where a row has several.

        Returns:
            `input_ids` and `attention_mask` (windows, longest), int64, and, where a row has
            several windows, `share` (rows, windows), float32.
        """
        del epochs
        counts = arrays["rows"][rows + 1] - arrays["rows"][rows]
        windows = np.repeat(arrays["rows"][rows], counts) + _within(counts)
        sizes = arrays["windows"][windows + 1] - arrays["windows"][windows]
        width = int(sizes.max(initial=1))
        places = np.arange(width)
        mask = places < sizes[:, None]
        wanted = np.where(mask, arrays["windows"][windows][:, None] + places, 0)
        tokens = np.where(mask, arrays["tokens"][wanted], self.settings.padding).astype(np.int64)
        batch: dict[str, NDArray[Any]] = {
            "input_ids": tokens,
            "attention_mask": mask.astype(np.int64),
        }
        if int(counts.max(initial=1)) > 1:
            owner = np.repeat(np.arange(rows.size), counts)
            share = np.zeros((rows.size, windows.size), dtype=np.float32)
            share[owner, np.arange(windows.size)] = 1.0 / counts[owner]
            batch["share"] = share
        return batch

    def lengths(self, arrays: Arrays) -> Ints:
        """Tokens of each row, in all its windows."""
        ends: Ints = arrays["windows"][arrays["rows"]]
        return np.diff(ends)

    def save(self, folder: Path) -> None:
        """Write `config.json`, `tokenizer.json` and `encoder.json`."""
        (folder / "config.json").write_text(canonical_json(self.config) + "\n", encoding="utf-8")
        (folder / "tokenizer.json").write_text(self.tokenizer, encoding="utf-8")
        text = canonical_json(asdict(self.settings)) + "\n"
        (folder / "encoder.json").write_text(text, encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> TextEncoder:
        """Read what `save` wrote.

        Raises:
            IntegrityError: the folder does not hold a text encoder.
        """
        try:
            facts = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise IntegrityError(f"{folder} does not hold a text encoder: {error}") from error
        for name in ("columns", "separator"):
            facts[name] = tuple(facts[name])
        return TextEncoder(TokenSettings(**facts), tokenizer, config)


def shortened(sizes: Sequence[int], room: int) -> list[int]:
    """Sizes that fit into a room together, the longest cut first.

    >>> shortened([3, 10, 20], 15)
    [3, 6, 6]
    >>> shortened([9, 9], 5)
    [2, 3]
    """
    kept = [0] * len(sizes)
    left = room
    order = sorted(range(len(sizes)), key=lambda place: sizes[place])
    for number, place in enumerate(order):
        kept[place] = min(sizes[place], left // (len(sizes) - number))
        left -= kept[place]
    for place in range(len(sizes)):
        more = min(left, sizes[place] - kept[place])
        kept[place] += more
        left -= more
    return kept


def _ids(values: Sequence[int]) -> Ints:
    return np.asarray(values, dtype=np.int64)


def _ends(sizes: Ints) -> Ints:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])


def _within(counts: Ints) -> Ints:
    """0, 1, … within each group of a size.

    >>> _within(np.array([2, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    starts = np.cumsum(counts) - counts
    return np.arange(int(counts.sum())) - np.repeat(starts, counts)
