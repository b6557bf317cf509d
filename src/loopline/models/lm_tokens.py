"""Documents as tokens: tokenizers that are trained on the texts or given, and what they must keep.

A tokenizer is the content of a `tokenizer.json`, data only. A given one must give every training
text back as it was, because the bits of a byte that it drops could not be counted. So must it every
text that is scored later, unless every byte is a token of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopline.data.language import DocumentColumns
from loopline.digest import canonical_json
from loopline.errors import DataError, IntegrityError, SettingsError
from loopline.models.encoder import Arrays, Encoder, Ints
from loopline.words import counted

END = "<|endoftext|>"
BYTES = 257
"""The smallest vocabulary: every byte, and the end of a document."""
_LARGEST = 32_768
_SHOWN = 8


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> str:
    """A byte-level BPE tokenizer of some texts, as the content of `tokenizer.json`.

    Every text can be written with it, since every byte is a token of its own. Source: Sennrich et
    al. 2016, on bytes as in GPT-2 (Radford et al. 2019).

    Args:
        texts: to be learned from.
        vocabulary: number of tokens, at least 257.

    >>> tokenizer = train_tokenizer(["to be or not to be"] * 3, 260)
    >>> json.loads(tokenizer)["model"]["type"]
    'BPE'
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return str(tokenizer.to_str())


def suitable_vocabulary(num_bytes: int) -> int:
    """A vocabulary that suits so much text: a token for each thousand bytes, a power of two.

    >>> suitable_vocabulary(1_000_000), suitable_vocabulary(10)
    (1024, 512)
    """
    wanted = 2 ** round(math.log2(max(1, num_bytes) / 1_000)) if num_bytes > 1_000 else 1
    return min(_LARGEST, max(512, wanted))


def read_tokenizer(place: Path) -> str:
    """The content of a `tokenizer.json`, or of the one in a folder, that cuts nothing.

    Raises:
        SettingsError: there is none.
    """
    file = place / "tokenizer.json" if place.is_dir() else place
    if not file.is_file():
        raise SettingsError(
            [
                f"There is no tokenizer at {str(place.absolute())!r}: give a tokenizer.json, or a "
                "folder with one."
            ]
        )
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        found = {**facts, "truncation": None, "padding": None}
    except (ValueError, TypeError) as error:
        raise SettingsError([f"{file} is no tokenizer.json: {error}."]) from error
    return json.dumps(found, ensure_ascii=False)


@dataclass(frozen=True)
class Ends:
    """Numbers of the tokens that stand before and behind a document."""

    begin: int
    end: int

    @staticmethod
    def of(tokenizer: str, config: Mapping[str, Any] | None, name: str) -> Ends:
        """From a model's configuration, or the tokenizer's own end of a document.

        Raises:
            SettingsError: neither names one.
        """
        from tokenizers import Tokenizer

        said = config or {}
        begin, end = (_first(said.get(f"{part}_token_id")) for part in ("bos", "eos"))
        if end is None:
            reader = Tokenizer.from_str(tokenizer)
            known = (reader.token_to_id(sign) for sign in (END, "</s>", "<eos>", "<|end_of_text|>"))
            end = next((number for number in known if number is not None), None)
        if end is None:
            raise SettingsError(
                [
                    f"The tokenizer of {name} has no token for the end of a document (such as "
                    f"{END}), so no text could ever end. Take another, or `tokenizer: train`."
                ]
            )
        return Ends(end if begin is None else begin, end)


def _first(number: Any) -> int | None:
    """A token number, of which some configurations give a list."""
    if isinstance(number, list):
        number = number[0] if number else None
    return None if number is None else int(number)


def refuse_losses(
    tokenizer: str, texts: Sequence[str], name: str, *, row: str = "training row"
) -> None:
    """Refuse a tokenizer that does not give texts back as they were.

    Args:
        tokenizer: the content of a `tokenizer.json`.
        texts: what it must write.
        name: of whatever brought it, for messages.
        row: what the place of a text is called in messages.

    Raises:
        DataError: names the first characters that it lacks.
    """
    from tokenizers import Tokenizer

    reader = Tokenizer.from_str(tokenizer)

    def back(text: str) -> str:
        ids = reader.encode(text, add_special_tokens=False).ids
        return str(reader.decode(ids, skip_special_tokens=False))

    wrong = [place for place, text in enumerate(texts) if back(text) != text]
    if not wrong:
        return
    signs = dict.fromkeys("".join(texts[place] for place in wrong[:_SHOWN]))
    lost = [sign for sign in signs if not sign.isspace() and back(sign) != sign][:_SHOWN]
    what = f"it lacks {', '.join(map(repr, lost))}" if lost else "it changes blanks or letters"
    raise DataError(
        f"The tokenizer of {name} does not give {len(wrong):,} of "
        f"{counted(len(texts), 'text')} back as they were: {what} (first in {row} "
        f"{wrong[0] + 1:,}), and bits for what it drops cannot be counted. Take a tokenizer of "
        "bytes, or `tokenizer: train`."
    )


def keeps_all(tokenizer: str) -> bool:
    """Whether a tokenizer can write every text: each byte is a token, and nothing is changed.

    >>> keeps_all(train_tokenizer(["aaa bbb"] * 3, 260))
    True
    """
    from tokenizers import pre_tokenizers

    facts = json.loads(tokenizer)
    first = facts.get("pre_tokenizer") or {}
    steps = [first, *first.get("pretokenizers", [])]
    by_byte = [step for step in steps if step.get("type") == "ByteLevel"]
    known = facts["model"].get("vocab")
    return (
        not facts.get("normalizer")
        and len(by_byte) == 1
        and not by_byte[0].get("add_prefix_space")
        and isinstance(known, dict)
        and set(pre_tokenizers.ByteLevel.alphabet()) <= set(known)
    )


@dataclass(frozen=True)
class TokenSettings:
    """How documents become tokens.

    Args:
        text: the column that is predicted.
        prompts: the columns that are read before it.
        begin: number of the token before a document.
        end: number of the token behind it.
        length: tokens that the network reads at once.
    """

    text: str
    prompts: tuple[str, ...]
    begin: int
    end: int
    length: int


class LanguageEncoder(Encoder):
    """Documents to tokens.

    Args:
        settings: columns, ends, length.
        tokenizer: the content of a `tokenizer.json`.
        config: the network's shape as `config.json` states it.
    """

    def __init__(self, settings: TokenSettings, tokenizer: str, config: Mapping[str, Any]) -> None:
        self.settings, self.tokenizer, self.config = settings, tokenizer, dict(config)
        self.layout = DocumentColumns(settings.text, settings.prompts)
        self.columns = self.layout.columns

    @cached_property
    def reader(self) -> Any:
        """The tokenizer; a text that says "<|endoftext|>" is a text."""
        from tokenizers import Tokenizer

        reader = Tokenizer.from_str(self.tokenizer)
        reader.encode_special_tokens = True
        return reader

    @cached_property
    def _keeps_all(self) -> bool:
        return keeps_all(self.tokenizer)

    def refuse_losses(self, frame: pl.DataFrame) -> None:
        """Refuse texts that the tokenizer cannot write: fewer bits would be counted than they cost.

        Raises:
            DataError: names the first characters that it lacks.
        """
        if not self._keeps_all:
            _, texts = self.layout.documents(frame)
            refuse_losses(self.tokenizer, texts, "this model", row="row")

    def numbers(self, texts: Sequence[str]) -> list[list[int]]:
        """The token numbers of some texts."""
        found = self.reader.encode_batch_fast(list(texts), add_special_tokens=False)
        return [each.ids for each in found]

    def encode(self, frame: pl.DataFrame) -> Arrays:
        """All documents' tokens.

        Returns:
            `tokens` (int32, all documents one after another), `ends` (documents + 1,), `scored`
            (which tokens are predicted: the text and its end), `bytes` of each text.
        """
        before, texts = self.layout.documents(frame)
        heads = self.numbers(before) if self.layout.prompts else [[]] * len(texts)
        bodies = self.numbers(texts)
        settings = self.settings
        lines = [
            [settings.begin, *head, *body, settings.end]
            for head, body in zip(heads, bodies, strict=True)
        ]
        sizes = np.array([len(line) for line in lines], dtype=np.int64)
        ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        starts = np.array([len(head) + 1 for head in heads], dtype=np.int64)
        place = np.arange(ends[-1]) - np.repeat(ends[:-1], sizes)
        tokens = np.fromiter((each for line in lines for each in line), np.int32, int(ends[-1]))
        return {
            "tokens": tokens,
            "ends": ends,
            "scored": place >= np.repeat(starts, sizes),
            "bytes": np.array([len(text.encode()) for text in texts], dtype=np.int64),
        }

    def collate(self, arrays: Arrays, rows: Ints, epochs: Ints | None) -> Arrays:
        """Not how documents are batched: they are packed (`loopline.nets.lm_task`)."""
        raise NotImplementedError("Documents are packed into rows by LanguageTask.")

    def save(self, folder: Path) -> None:
        """Write `encoder.json` and `tokenizer.json`."""
        facts = {"settings": asdict(self.settings), "config": self.config}
        (folder / "encoder.json").write_text(canonical_json(facts) + "\n", encoding="utf-8")
        (folder / "tokenizer.json").write_text(self.tokenizer, encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> LanguageEncoder:
        """Read what `save` wrote.

        Raises:
            IntegrityError: the folder holds no such encoder.
        """
        try:
            facts = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
            given = facts["settings"]
            settings = TokenSettings(**{**given, "prompts": tuple(given["prompts"])})
            tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{folder} holds no encoder of documents: {error}.") from error
        return LanguageEncoder(settings, tokenizer, facts["config"])
