"""A text file from `init` to a model that writes: run, gone on with, sampled, scored, refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import Call

for package in ("torch", "tokenizers"):
    pytest.importorskip(package, reason="the lm family needs the extra `neural`")

TINY = "{layers: 1, width: 32, head_width: 16, length: 32, vocabulary: 300, epochs: 3.0}"


def tale(folder: Path) -> Path:
    """A text of short sentences, each a paragraph."""
    draw = np.random.default_rng(0)
    who, does, what = ["the cat", "a dog", "one bird"], ["sees", "likes", "hears"], ["me", "you"]
    lines = [" ".join(map(str, map(draw.choice, (who, does, what)))) + "." for _ in range(240)]
    file = folder / "tale.txt"
    file.write_text("\n\n".join(lines))
    return file


def language_line(folder: Path, models: str) -> None:
    """A settings file for the tale."""
    tale(folder)
    (folder / "loopline.yaml").write_text(
        "version: 1\ndata: {source: tale.txt, format: {document_bytes: 120}}\ntarget: text\n"
        "task: language\ncolumns: {line: {role: time}}\nsplit: {folds: 2}\nthreads: 1\n"
        f"models: {models}\n"
    )


def test_a_plain_text_needs_no_target(call: Call, here: Path) -> None:
    """`init` on a file of plain text proposes to predict what it says."""
    tale(here)
    assert call("init", "tale.txt").code == 0
    named = (here / "loopline.yaml").read_text()
    whole = call("init", "tale.txt", "--target", "text", "--task", "language", "--force")
    assert whole.code == 0
    assert (here / "loopline.yaml").read_text() == named
    assert "\ntask: language" in named


def test_from_a_text_file_to_a_model_that_writes(call: Call, here: Path) -> None:
    """The decoder beats the shares of bytes, is released, writes, and scores a new text."""
    language_line(here, f"[{{lm: {TINY}}}]")
    summary = call("run", "--json").json
    assert summary["chosen"] == "lm"
    assert summary["metric"] == "bits_per_byte"
    assert call("run", "--json").json["run"] == summary["run"]
    text = call(
        "sample", "latest", "--prompt", "the cat", "--tokens", 8, "--seed", 1, "--json"
    ).json
    assert text["text"]
    again = call("sample", "latest", "--prompt", "the cat", "--tokens", 8, "--seed", 1)
    assert again.out == f"the cat{text['text']}\n"
    (here / "new.txt").write_text("a bird likes the dog.\n")
    scored = call("evaluate", "latest", "new.txt", "--json").json
    assert 0 < scored["metrics"]["bits_per_byte"]["value"] < 8
    assert call("predict", "latest", "new.txt", "-o", "out.csv").code == 0
    assert float((here / "out.csv").read_text().split()[1]) > 0


def test_texts_of_training_are_known_again(call: Call, here: Path) -> None:
    """Scoring a release on a file that it learned from is refused, wherever a text stands now."""
    language_line(here, "[ngram]")
    assert call("run", "--json").code == 0
    tale = (here / "tale.txt").read_text()
    (here / "again.txt").write_text(tale[: len(tale) // 3])
    call("evaluate", "latest", "again.txt").refuses(3, "stand among the rows")


def test_counted_bytes_write_too(call: Call, here: Path) -> None:
    """The simple rival writes as well, and numbers out of range are refused."""
    language_line(here, "[ngram]")
    assert call("run", "--json").code == 0
    text = call("sample", "latest", "--prompt", "the c", "--seed", 2, "--json").json["text"]
    assert text.startswith("at ")
    call("sample", "latest", "--top-p", 1.5).refuses(2, "`top_p` lies in (0, 1], got 1.5")


def test_init_writes_a_line_for_texts(call: Call, here: Path) -> None:
    """`init --task language` reads plain text, orders its documents and proposes candidates."""
    tale(here)
    answer = call("init", "tale.txt", "--target", "text", "--task", "language")
    assert answer.code == 0
    written = (here / "loopline.yaml").read_text()
    assert "task: language" in written
    assert "line: {type: number, role: time}" in written
    assert "models: [baseline, ngram, lm]" in written


def test_init_names_what_is_read_before_answers(call: Call, here: Path) -> None:
    """Questions beside answers are told to be read and not predicted."""
    rows = [{"question": f"What is {n} and {n}?", "answer": f"It is {2 * n}."} for n in range(30)]
    (here / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    answer = call("init", "sums.jsonl", "--target", "answer", "--task", "language")
    assert "'question' stands before 'answer'" in answer.out
    call("init", "sums.jsonl", "--target", "reply", "--task", "language", "--force").refuses(
        2, "no text column 'reply'"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"\xff\xfe\x00", "is not text"), (b"\x89PNG\x00\x00", "is not text in utf-8")],
)
def test_a_file_that_is_not_text_stops_the_line(
    content: bytes, told: str, call: Call, here: Path
) -> None:
    """Binary files are refused before anything is fitted."""
    language_line(here, "[ngram]")
    (here / "tale.txt").write_bytes(content)
    call("run").refuses(2, told)


def test_settings_that_need_classes_are_refused(call: Call, here: Path) -> None:
    """Settings of labels, and families that cannot read texts as language, are told at once."""
    language_line(here, "[linear]")
    with (here / "loopline.yaml").open("a") as file:
        file.write("calibration: isotonic\n")
    call("run").refuses(2, "cannot do a language task", "`calibration` has no effect")


def test_real_questions_are_read_as_instructions(
    call: Call, here: Path, data_dir: Callable[[str], Path]
) -> None:
    """Forty real questions with answers go through the line; only answers count as bytes."""
    lines = (data_dir("gsm8k") / "train.jsonl").read_text(encoding="utf-8").splitlines()[:40]
    (here / "few.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (here / "loopline.yaml").write_text(
        "version: 1\ndata: {source: few.jsonl}\ntarget: answer\ntask: language\n"
        "split: {folds: 2}\nmodels: [ngram]\n"
    )
    assert call("run", "--json").json["target"] == "answer"
    new = (data_dir("gsm8k") / "test.jsonl").read_text(encoding="utf-8").splitlines()[:8]
    (here / "new.jsonl").write_text("\n".join(new), encoding="utf-8")
    scores = call("evaluate", "latest", "new.jsonl", "--json").json["metrics"]
    bits = scores["nats_per_row"]["value"] * len(new) / math.log(2)
    answers = sum(len(json.loads(line)["answer"].encode()) for line in new)
    assert bits / scores["bits_per_byte"]["value"] == pytest.approx(answers)
    asked = json.loads(new[0])["question"]
    written = call("sample", "latest", "--prompt", asked, "--tokens", 5)
    assert written.out.startswith(f"{asked}\n\n")
