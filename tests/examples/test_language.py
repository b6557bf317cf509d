"""Language on real texts: a quick sample always, whole example lines with `make test-slow`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import loopline

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_counted_bytes_of_a_play(data_dir: Callable[[str], Path], tmp_path: Path) -> None:
    """Two hundred thousand letters of Shakespeare, forward in the text: counts need 2 to 3.2 bits
    a byte where single bytes need more than 4.5, and the interval says so."""
    text = (data_dir("tiny_shakespeare") / "input.txt").read_text(encoding="utf-8")
    (tmp_path / "play.txt").write_text(text[:200_000], encoding="utf-8")
    result = loopline.fit(
        tmp_path / "play.txt",
        "text",
        task="language",
        time="line",
        models=["baseline", "ngram"],
        settings={"split": {"folds": 2}},
        store=tmp_path / "store",
        progress=False,
    )
    score = result.evaluate()["bits_per_byte"]
    assert 2.0 < score["low"] < score["value"] < score["high"] < 3.2
    board = result.leaderboard()
    assert board["candidate"].to_list() == ["ngram", "baseline"]
    assert board["low"][1] > 4.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folder", "bits"),
    [
        ("tiny_shakespeare", "tiny_shakespeare", 2.165),
        ("gsm8k", "gsm8k", 1.785),
        ("wikitext2", "wikitext2_part", 1.836),
    ],
)
def test_the_examples_reach_their_bits(
    name: str,
    folder: str,
    bits: float,
    data_dir: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Each line on language needs no more bits a byte than its page states, and a tenth."""
    pytest.importorskip("torch", reason="the lm family needs the extra `neural`")
    monkeypatch.setenv("LOOPLINE_DATA", str(data_dir(folder).parent))
    result = loopline.run(EXAMPLES / name, overrides=[f"store={tmp_path}"], progress=False)
    assert result.release.facts["family"] == "lm"
    assert result.evaluate()["bits_per_byte"]["value"] < bits + 0.1
