"""Tokenizers: what they must keep, whole texts and bytes; and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

pytest.importorskip("tokenizers", reason="the lm family needs the extra `neural`")
pytest.importorskip("torch", reason="the lm family needs the extra `neural`")

from tests.models.test_lm import fitted
from tests.models.test_ngram import view_of
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from loopline.errors import DataError, IntegrityError, SettingsError
from loopline.models.base import FitContext
from loopline.models.lm import LanguageModel
from loopline.models.lm_tokens import (
    Ends,
    LanguageEncoder,
    TokenSettings,
    keeps_all,
    read_tokenizer,
    train_tokenizer,
)
from loopline.nets.lm import Decoder, Shape
from loopline.nets.lm_files import save_decoder

WORDS = ["red", "cup", "is", "not", "blue"]


def words_file(place: Path) -> Path:
    """A tokenizer of five words, which it gives back with blanks between."""
    known = {"<unk>": 0, "<|endoftext|>": 1, **{word: 2 + n for n, word in enumerate(WORDS)}}
    made = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["<unk>", "<|endoftext|>"])
    made.save(str(place))
    return place


def test_a_text_of_unknown_words_is_not_scored(tmp_path: Path) -> None:
    """A tokenizer that wrote all training texts lacks a word of a new one: its bits would be those
    of "unknown", far too few, so the text is refused with its row."""
    texts = pl.DataFrame({"text": ["red cup is blue", "blue cup is not red", "cup is red"] * 8})
    model = fitted(texts, tokenizer=str(words_file(tmp_path / "words.json")), vocabulary="auto")
    assert np.isfinite(model.predict(texts)).all()
    new = pl.DataFrame({"text": ["red cup", "a green cup", "blue"]})
    with pytest.raises(
        DataError, match=r"of this model does not give 1 of 3 texts .*\(first in row 2"
    ):
        model.predict(new)


def built(**parts: Any) -> str:
    """A byte-level tokenizer with some parts changed."""
    made = Tokenizer.from_str(train_tokenizer(["red cup"] * 3, 260))
    for name, part in parts.items():
        setattr(made, name, part)
    return str(made.to_str())


def test_only_whole_bytes_keep_every_text() -> None:
    """Every byte a token and nothing changed before, as GPT-2 and Llama 3 have it; no other."""
    by_byte = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert keeps_all(built())
    assert keeps_all(built(pre_tokenizer=pre_tokenizers.Sequence([by_byte])))
    assert not keeps_all(built(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True)))
    assert not keeps_all(built(pre_tokenizer=pre_tokenizers.WhitespaceSplit()))
    assert not keeps_all(built(normalizer=normalizers.Lowercase()))
    few = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    few.pre_tokenizer, few.decoder = by_byte, decoders.ByteLevel()
    assert not keeps_all(str(few.to_str()))


def test_bytes_are_counted_and_not_letters() -> None:
    """The bytes of a text are those of UTF-8; the first token scored is the text's own first, the
    last the end; a question before it is not scored."""
    tokenizer = train_tokenizer(["é"], 257)
    encoder = LanguageEncoder(TokenSettings("text", ("asked",), 0, 0, 8), tokenizer, {})
    found = encoder.encode(pl.DataFrame({"asked": ["no"], "text": ["né"]}))
    assert found["bytes"].tolist() == [3]
    assert found["ends"].tolist() == [0, 9]  # begin, n, o, two line ends, three bytes, end
    assert found["scored"].tolist() == [False] * 5 + [True] * 4


def test_the_end_of_a_document_must_be_a_token() -> None:
    """The configuration names it, alone or in a list, or the tokenizer does; else it is refused."""
    plain = built()
    assert Ends.of(plain, {"bos_token_id": 7, "eos_token_id": [9, 8]}, "m") == Ends(7, 9)
    assert Ends.of(plain, None, "m") == Ends(0, 0)
    few = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(
        SettingsError, match=r"The tokenizer of m has no token for the end of a doc"
    ):
        Ends.of(str(few.to_str()), {}, "m")


def test_files_that_are_no_tokenizers_are_refused(tmp_path: Path) -> None:
    """A missing one is told with the place looked at, a cut one with what is wrong."""
    with pytest.raises(SettingsError, match=rf"no tokenizer at '{tmp_path}/nowhere'"):
        read_tokenizer(tmp_path / "nowhere")
    (tmp_path / "tokenizer.json").write_text('{"a":', encoding="utf-8")
    with pytest.raises(
        SettingsError, match=r"tokenizer.json is no tokenizer.json: Expecting value"
    ):
        read_tokenizer(tmp_path)
    with pytest.raises(IntegrityError, match=r"holds no encoder of documents"):
        LanguageEncoder.load(tmp_path)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    """More tokens than the network knows: the two do not belong together."""
    shape = Shape(64, layers=1, width=16, heads=2, head_width=8, context=16)
    save_decoder(Decoder(shape), tmp_path, end=0)
    (tmp_path / "tokenizer.json").write_text(built(), encoding="utf-8")
    texts = pl.DataFrame({"text": ["red cup"] * 8})
    params = {"model": str(tmp_path), "epochs": 1.0, "patience": 0}
    with pytest.raises(SettingsError, match=r"knows 2\d\d tokens and the network 64: they do not"):
        LanguageModel().fit(view_of(texts, "text"), None, params, FitContext(seed=0))
