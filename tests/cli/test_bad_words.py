"""Bad texts, pairs and mixed rows on the whole line: one clear sentence each, and nothing made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from tests.cli.conftest import Call

pytest.importorskip("torch", reason="networks need the extra `neural`")
pytest.importorskip("PIL", reason="networks on images need the extra `images`")

from tests.models.tiny_clip import make_pairs

from loopline.testing.families import make_mixed_table

TINY = {"layers": 1, "width": 16, "head_width": 8, "epochs": 1, "vocabulary": 300}
LINES = [f"The cat number {n} sees {n * 7 % 5} dogs." for n in range(60)]
PAIRS, MIXED = make_pairs(40), make_mixed_table("binary", 40)
GONE = MIXED.with_columns(pl.lit(None, MIXED.schema[n]).alias(n) for n in MIXED.columns[:-1])
PATHS = "photo,caption\n" + "\n".join(f"img/{n}.png,a cat" for n in range(30))
LM: Mapping[str, Any] = {
    "data": {"source": "book.txt", "format": {"document_bytes": 40}},
    "target": "text",
    "task": "language",
    "models": [{"lm": TINY}],
}
ASKED = {**LM, "data": {"source": "sums.jsonl"}, "target": "answer"}
CLIP = {
    "data": {"source": "pairs.parquet"},
    "columns": {"picture": {"type": "image"}},
    "target": "caption",
    "task": "retrieval",
    "models": [{"clip": {"epochs": 1}}],
}
IMAGES = {"source": "pairs.csv", "format": {"images": ["photo"]}}
ROWS = {
    "data": {"source": "rows.parquet"},
    "columns": {"note": {"type": "text"}, "picture": {"type": "image"}},
    "target": "target",
    "models": [{"multimodal": {"text_model": "terms", "epochs": 1}}],
}


def sums(*answers: Any) -> str:
    """Questions with these answers in turn; none where a row has no such cell."""
    rows: list[dict[str, Any]] = []
    for number in range(30):
        rows.append({"question": f"What is {number} and {number}?"})
        if answers:
            rows[-1]["answer"] = answers[number % len(answers)]
    return "\n".join(map(json.dumps, rows))


def few_words(place: Path) -> None:
    """A tokenizer of four words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"<unk>": 0, "<end>": 1, "The": 2, "cat": 3}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["<unk>", "<end>"])
    made.save(str(place))


def short_model(place: Path) -> None:
    """A decoder that reads 16 tokens at once, with its tokenizer."""
    from loopline.models.lm_tokens import train_tokenizer
    from loopline.nets.lm import Decoder, Shape
    from loopline.nets.lm_files import save_decoder

    shape = Shape(320, layers=1, width=16, heads=2, kv_heads=2, head_width=8, context=16)
    save_decoder(Decoder(shape), place, end=0)
    (place / "tokenizer.json").write_text(train_tokenizer(LINES, 300), encoding="utf-8")


TEXT = {"book.txt": "\n\n".join(LINES)}
Content = str | bytes | pl.DataFrame | Callable[[Path], None]
CASES: dict[str, tuple[Mapping[str, Content], Mapping[str, Any], int, str]] = {
    "no text": ({"book.txt": b"\x82\x01" * 99}, LM, 2, "book.txt is not text in utf-8"),
    "a zero byte": ({"book.txt": "words\0words"}, LM, 2, "a zero byte, as binary files have"),
    "a text of one document": ({"book.txt": "one"}, LM, 3, "the 1 row makes 1. Give more rows"),
    "a tokenizer that lacks letters": (
        {**TEXT, "words.json": few_words},
        {**LM, "models": [{"lm": {**TINY, "vocabulary": "auto", "tokenizer": "words.json"}}]},
        2, "texts back as they were: it lacks 'T', 'h'",
    ),
    "a tokenizer that is not there": (
        TEXT, {**LM, "models": [{"lm": {"tokenizer": "nowhere"}}]}, 2, "/nowhere': give a token",
    ),
    "longer than the context": (
        {**TEXT, "short": short_model},
        {**LM, "models": [{"lm": {"model": "short", "length": 64, "epochs": 1}}]},
        2, "`length: 64` is more than `model: short` reads at once, which is 16 tokens",
    ),
    "no column of answers": (
        {"sums.jsonl": sums()}, ASKED, 2, "no text column 'answer'; the table has 'question'.\n",
    ),
    "no answer": ({"sums.jsonl": sums(None)}, ASKED, 2, "30 of 30 rows have no text in 'answer'"),
    "some empty answers": (
        {"sums.jsonl": sums("4", "")}, ASKED, 2, "15 of 30 rows have no text in 'answer' (row 2",
    ),
    "answers of numbers": ({"sums.jsonl": sums(4)}, ASKED, 2, "'answer' is of type Int64"),
    "no image in any pair": (
        {"pairs.parquet": PAIRS.with_columns(picture=pl.lit(None, pl.Binary))}, CLIP, 2,
        "none that can be used: 'picture' is left out (every cell is missing)",
    ),
    "pairs without a column of images": (
        {"pairs.parquet": PAIRS.select("caption")}, {**CLIP, "columns": {}}, 2,
        "the table has none. Name",
    ),
    "images that are not there": (
        {"pairs.csv": PATHS}, {**CLIP, "data": IMAGES, "columns": {}}, 2,
        "30 paths of column 'photo' name no file in",
    ),
    "pairs without captions": (
        {"pairs.parquet": PAIRS.with_columns(caption=pl.lit(None, pl.String))}, CLIP, 2,
        "40 of 40 rows have no caption in 'caption'",
    ),
    "rows without any part": (
        {"rows.parquet": GONE}, ROWS, 2, "picture is ignore (every cell is missing)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str, call: Call, here: Path) -> None:
    """The message names what is wrong, in a sentence, and no release stands there."""
    files, settings, code, told = CASES[name]
    for file, content in files.items():
        if isinstance(content, pl.DataFrame):
            content.write_parquet(here / file)
        elif isinstance(content, str | bytes):
            (here / file).write_bytes(content.encode() if isinstance(content, str) else content)
        else:
            content(here / file)
    given = {"split": {"folds": 2}, "threads": 1, **settings}
    (here / "loopline.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    answer = call("run")
    answer.refuses(code, told)
    assert ".." not in answer.err.replace("…", "")
    assert not list(here.glob(".loopline/artifacts/release/*/*"))


def test_a_made_target_is_no_finding(call: Call, here: Path) -> None:
    """The number that stands for a caption is Loopline's own: nobody is warned of it, and the line
    says that captions are found."""
    PAIRS.write_parquet(here / "pairs.parquet")
    given = {**CLIP, "split": {"folds": 2}, "models": ["baseline"]}
    (here / "loopline.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    summary = call("run", "--json").json
    assert summary["target"] == "caption"
    told = [finding["sentence"] for finding in summary["findings"]]
    assert not [sentence for sentence in told if "caption_number" in sentence]
