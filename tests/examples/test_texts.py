"""Texts of real tables: a quick sample always, whole example lines with `make test-slow`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import loopline
from loopline.models.pretrained import missing_for_text

pytestmark = pytest.mark.skipif(bool(missing_for_text()), reason=f"to run: {missing_for_text()}")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FEW = ("card_arrival", "card_linking", "exchange_rate", "lost_or_stolen_card")


def test_few_questions_suffice_to_tell_four_intents(
    data_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    """A head on the default encoder names the intent of official test questions nearly always."""
    train, test = (
        pl.read_csv(data_dir("banking77") / f"{name}.csv")
        .filter(pl.col("category").is_in(FEW))
        .sample(count, seed=0)
        for name, count in (("train", 160), ("test", 120))
    )
    train.write_csv(tmp_path / "train.csv")
    test.write_csv(tmp_path / "test.csv")
    result = loopline.fit(
        tmp_path / "train.csv",
        "category",
        test=tmp_path / "test.csv",
        models=["text"],
        settings={"split": {"folds": 2}, "columns": {"text": {"type": "text"}}},
        store=tmp_path / "store",
        progress=False,
    )
    assert result.release.facts["family"] == "text"
    assert result.evaluate()["accuracy"]["value"] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folder", "least"),
    [("banking77", "banking77", 0.9), ("ag_news", "ag_news_test", 0.86)],
)
def test_examples_reach_their_scores(
    name: str,
    folder: str,
    least: float,
    data_dir: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Each example line on texts reaches the accuracy that its page states, less its interval."""
    monkeypatch.setenv("LOOPLINE_DATA", str(data_dir(folder).parent))
    result = loopline.run(EXAMPLES / name, overrides=[f"store={tmp_path}"], progress=False)
    assert result.evaluate()["accuracy"]["value"] > least


@pytest.mark.slow
def test_long_reviews_of_films_are_told_apart(
    data_dir: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A head on the frozen encoder knows praise from scorn; reviews that are cut are counted."""
    for name, count in (("train", 600), ("test", 400)):
        rows = pl.read_csv(data_dir("imdb_with_label_errors") / f"imdb_{name}.csv.gz")
        rows.sample(count, seed=0).write_csv(tmp_path / f"{name}.csv")
    result = loopline.fit(
        tmp_path / "train.csv",
        "sentiment",
        test=tmp_path / "test.csv",
        models=["baseline", "text"],
        settings={
            "split": {"folds": 2},
            "columns": {"rating_LEAK": {"role": "ignore"}, "id": {"role": "id"}},
        },
        store=tmp_path / "store",
        progress=True,
    )
    assert result.release.facts["family"] == "text"
    assert "600 texts are longer than" in capfd.readouterr().err
    assert result.evaluate()["accuracy"]["value"] > 0.7
