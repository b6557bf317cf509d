"""Poor texts: each reason is found where it was planted, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.audit.languages import languages
from loopline.audit.quality_texts import score_texts

SENTENCE = (
    "the room was clean and staff were kind but breakfast is not what we had hoped for "
    "because coffee came late this morning with cold bread"
)
WORDS = SENTENCE.split()


def _usual(number: int = 200) -> list[str]:
    rng = np.random.default_rng(0)
    return [
        f"Guest {i} wrote that " + " ".join(rng.choice(WORDS, 18, replace=False)) + f" in {i}."
        for i in range(number)
    ]


def test_usual_texts_are_fine() -> None:
    """Two hundred plain sentences have no poor one among them."""
    quality = score_texts(pl.Series(_usual()))
    assert not quality.poor.any()
    assert quality.reasons == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \t\n", "empty"),
        (None, "empty"),
        ("La chambre est propre et le lit est bon, mais pas pour nous.", "another language"),
        ("Комната была чистая и персонал добрый, но завтрак плохой.", "another language"),
        ("The rÃ©sumÃ© of the stay was that the cafÃ© is closed on Sunday.", "damaged encoding"),
        ("The room was clea\ufffd and the staff were kind to all of us.", "damaged encoding"),
        ("buy now buy now " * 20, "repeats itself"),
        (" ".join(f"word{i} and then" for i in range(3_000)), "far longer than usual"),
        ("ok", "far shorter than usual"),
    ],
)
def test_planted_reason_is_found(text: str | None, reason: str) -> None:
    """One poor text among two hundred is found, with its reason, and it alone."""
    quality = score_texts(pl.Series([*_usual(), text]))
    assert reason in quality.of(200)
    assert quality.worst(5).tolist() == [200]


def test_canned_text_is_found() -> None:
    """A sentence that ten rows consist of is canned; one that closes a longer text is not."""
    canned = "Thank you for your message, we will answer soon."
    texts = [*_usual(), *[canned] * 10, f"{_usual()[0]} {_usual()[1]} {canned}"]
    quality = score_texts(pl.Series(texts))
    assert quality.reasons["canned text"].nonzero()[0].tolist() == list(range(200, 210))


def test_a_hundred_languages_are_all_right() -> None:
    """Where no language is the main one none is wrong, and the skipped question is told."""
    samples = [
        "Das ist nicht der Hund, den wir mit ihr auf dem Weg sahen.",
        "The dog that we saw was not with her on the way.",
        "Le chien que nous avons vu est dans la rue avec elle.",
        "El perro que vimos no está en la calle con ella.",
        "Собака которую мы видели была на улице.",
        "我们在街上看到的那只狗不在那里。",
        "私たちが通りで見た犬はそこにいません。",
        "우리가 거리에서 본 개는 거기에 없습니다.",
        "الكلب الذي رأيناه ليس في الشارع معها",
        "หมาที่เราเห็นไม่ได้อยู่บนถนนกับเธอ",
        "Ο σκύλος που είδαμε δεν είναι στον δρόμο.",
        "הכלב שראינו לא נמצא ברחוב איתה",
    ]
    quality = score_texts(pl.Series(samples * 10))
    assert "another language" not in quality.reasons
    assert "no language is called wrong" in quality.skipped[0]


def test_languages_are_told_apart() -> None:
    """Script and common words name the language; two words or digits name none."""
    texts = [
        "De hond die we zagen was niet met haar op de weg.",
        "O cão que nós vimos não está na rua com ela, mas é dele.",
        "私たちが通りで見た犬はそこにいません。",
        "我们在街上看到的那只狗不在那里。",
        "Pizza Margherita",
        "12345 67890",
    ]
    assert languages(pl.Series(texts)).tolist() == [
        "Dutch", "Portuguese", "Japanese", "Han", "", "",
    ]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=60)), max_size=30))
def test_any_texts_get_a_score(texts: list[str | None]) -> None:
    """Whatever the texts, every row gets a score from 0 to 1, and only empty ones get 0."""
    quality = score_texts(pl.Series(texts, dtype=pl.String))
    assert quality.score.shape == (len(texts),)
    assert ((quality.score >= 0) & (quality.score <= 1)).all()
    assert (quality.score[[t is None or not t.strip() for t in texts]] == 0).all()


def test_control_characters_alone_are_an_empty_text() -> None:
    """A text of separators and zero bytes shows nothing, and is called empty."""
    quality = score_texts(pl.Series(["\x1f", "\x00 \t", "\x1fa", " "]))
    assert quality.score.tolist() == [0.0, 0.0, 1.0, 0.0]


def test_all_null_texts_do_not_crash() -> None:
    """A column without any text is empty throughout."""
    quality = score_texts(pl.Series([None] * 50, dtype=pl.String))
    assert (quality.score == 0).all()


def test_news_has_few_poor_texts(data_dir: Callable[[str], Path]) -> None:
    """Of 7,600 edited news items fewer than 1 % are called poor."""
    frame = pl.read_csv(data_dir("ag_news_test") / "test.csv", infer_schema=False)
    texts = frame[frame.columns[-1]]
    assert score_texts(texts).poor.mean() < 0.01
