"""The monitor over models of every task: rows with several labels, texts, images with captions."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.serve.conftest import Client

import loopline
from loopline.line.monitoring import MonitorReport, check_rows, check_stream
from loopline.line.reference import reference_of
from loopline.monitor.settings import MonitorSettings

WINDOW = MonitorSettings(window=200, rate="200/day")
LABELS = ("left", "low", "odd")


def tagged(rows: int, seed: int, *, shift: float = 0.0, wrong: float = 0.03) -> pl.DataFrame:
    """Two numbers that say which of three labels a row has; `wrong` of the labels are turned."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=rows) + shift, rng.normal(size=rows)
    has = np.column_stack([x < -0.3, z < -0.2, x + z > 0.5])
    has ^= rng.random(has.shape) < wrong
    tags = [[label for label, there in zip(LABELS, row, strict=True) if there] for row in has]
    return pl.DataFrame({"x": x, "z": z, "tags": tags})


def texts(rows: int, seed: int, words: Sequence[str], length: float = 12.0) -> pl.DataFrame:
    """Documents of words drawn at random."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(length, rows) + 3
    return pl.DataFrame({"text": [" ".join(rng.choice(words, n)) for n in counts]})


ENGLISH = ["the", "cat", "sat", "on", "a", "mat", "and", "one", "dog", "ran", "off", "at", "noon"]
GREEK = ["η", "γάτα", "κάθισε", "στο", "χαλί", "και", "ο", "σκύλος", "έφυγε", "με", "ψωμί"]


@pytest.fixture(scope="module")
def tags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a release that gives rows any of three labels."""
    store = tmp_path_factory.mktemp("tags") / "store"
    loopline.fit(
        tagged(1200, 0), "tags", task="multilabel", models=[{"linear": {"penalty": 1.0}}],
        settings={"split": {"folds": 2}, "name": "tags"}, store=store, progress=False,
    ).project.close()  # fmt: skip
    return store


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a language model of English words."""
    store = tmp_path_factory.mktemp("language") / "store"
    loopline.fit(
        texts(1200, 0, ENGLISH), "text", task="language", models=["ngram"],
        settings={"split": {"folds": 2}, "name": "words"}, store=store, progress=False,
    ).project.close()  # fmt: skip
    return store


def told(checked: Sequence[Any]) -> list[tuple[str, str, str]]:
    """Kind, subject and what of each page."""
    return [(a.kind, a.subject, a.what) for each in checked for a in each.pages]


def serve(store: Path, rows: pl.DataFrame, **settings: Any) -> None:
    """Ask a service for rows in one request."""
    with loopline.open_project(store) as project:
        release = project.release("latest")
        with loopline.open_service(release, settings=settings, store=store) as running:
            assert Client(running).post("/predict", rows.to_dicts()).status == 200


def copied(store: Path, folder: Path) -> Path:
    """A store of a test's own, whose log and ledger nobody else writes."""
    return Path(shutil.copytree(store, folder / "store"))


def look(store: Path) -> MonitorReport:
    with loopline.open_project(store) as project:
        return check_stream(project=project, settings=WINDOW)


def test_several_labels_are_watched_and_stable_rows_raise_nothing(tags: Path) -> None:
    """The reference holds a probability and a truth for each label; rows of the same world are
    silent, their labels too."""
    with loopline.open_project(tags) as project:
        reference = reference_of(project, project.release("latest"))
        assert reference.prediction is not None
        assert reference.target is not None
        assert reference.prediction.shape == np.shape(reference.target) == (960, 3)
        checked = check_rows("latest", tagged(2000, 1), project=project, settings=WINDOW)
    assert len(checked) == 10
    assert told(checked) == []


def test_labels_that_turn_wrong_page_by_a_loss_a_reader_can_check(tags: Path) -> None:
    """A fifth of the labels is turned: the loss that labels show is the mean over rows and labels
    of the squared distance between probability and truth."""
    rows = tagged(1000, 2, wrong=0.2)
    with loopline.open_project(tags) as project:
        checked = check_rows("latest", rows, project=project, settings=WINDOW)
        raw, _ = project.release("latest").probabilities(rows.drop("tags"))
    has = np.array([[label in labels for label in LABELS] for labels in rows["tags"].to_list()])
    last = [a for each in checked for a in each.alarms if a.kind == "performance"][-1]
    assert last.page
    assert (last.unit, last.effect is None) == ("Brier score", False)
    expected = ((raw - has) ** 2).mean()
    assert last.facts["usual"] + (last.effect or 0) == pytest.approx(expected, abs=0.02)


def test_one_label_whose_probability_moves_is_named(tags: Path) -> None:
    """The input that one label follows moves: the prediction alarm says which label's
    probability moved, before any label is there."""
    with loopline.open_project(tags) as project:
        rows = tagged(600, 3, shift=1.0).drop("tags")
        checked = check_rows("latest", rows, project=project, settings=WINDOW)
    sentences = [a.sentence for each in checked for a in each.alarms if a.kind == "prediction"]
    assert sentences
    assert "probability of 'left'" in sentences[0] or "probability of 'odd'" in sentences[0]


def test_late_lists_of_labels_reach_the_monitor(tags: Path) -> None:
    """A service answers, labels come later as lists; one twice, one corrected, one unreadable in
    the log's eyes: each counted, none lost."""
    rows = [tagged(100, seed) for seed in (4, 5)]
    with loopline.open_project(tags) as project:
        release = project.release("latest")
        with loopline.open_service(release, store=tags) as running:
            client = Client(running)
            ids = [client.post("/predict", t.drop("tags").to_dicts()).json()["id"] for t in rows]
            sent = [
                {"id": request, "row": row, "label": labels}
                for request, table in zip(ids, rows, strict=True)
                for row, labels in enumerate(table["tags"].to_list())
            ]
            assert client.post("/feedback", sent).json()["taken"] == ["new"] * 200
            again = client.post("/feedback", [sent[0] | {"label": sent[0]["label"][::-1]}])
            assert again.json()["taken"] == ["known"]
    report = look(tags)
    assert (len(report.windows), report.labels) == (1, 200)
    assert report.pages == ()
    assert not [remark for remark in report.remarks if "could not be read" in remark]


def test_a_language_model_is_watched_by_what_it_reads(language: Path) -> None:
    """Texts of the training's kind raise nothing; Greek ones are told by their characters and by
    the bits that the model needs for a byte, which is measured without any label."""
    with loopline.open_project(language) as project:
        calm = check_rows("latest", texts(1000, 1, ENGLISH), project=project, settings=WINDOW)
        greek = check_rows("latest", texts(200, 2, GREEK), project=project, settings=WINDOW)
        release, rows = project.release("latest"), texts(200, 2, GREEK)
        nats = release.predict(rows)["prediction"].to_numpy()
    assert told(calm) == []
    assert {("quality", "text", "characters"), ("estimated", "expected loss", "worse")} <= set(
        told(greek)
    )
    size = rows["text"].str.len_bytes().to_numpy()
    (loss,) = [a for a in greek[0].alarms if a.kind == "estimated"]
    assert loss.unit == "bits per byte"
    assert loss.sentence.startswith("The bits per byte of what was asked is")
    assert "hold their own answer" in loss.sentence
    assert (nats / np.log(2) / size).mean() > 4


def test_texts_that_grow_longer_are_told(language: Path) -> None:
    """Three times as many words: the length, in standard deviations and as a median."""
    with loopline.open_project(language) as project:
        rows = texts(200, 3, ENGLISH, length=36.0)
        (checked,) = check_rows("latest", rows, project=project, settings=WINDOW)
    (alarm,) = [a for a in checked.alarms if a.what == "length"]
    assert "standard deviations longer than in the reference" in alarm.sentence
    assert "The median length in this window is" in alarm.sentence


def test_a_served_language_model_is_watched_from_its_log(language: Path, tmp_path: Path) -> None:
    """Two hundred requests of Greek: the log holds the text, so bits per byte are measured."""
    serve(copied(language, tmp_path), texts(200, 4, GREEK))
    report = look(tmp_path / "store")
    assert ("estimated", "expected loss") in {(a.kind, a.subject) for a in report.pages}


def test_a_log_without_the_texts_says_what_is_not_watched(tmp_path: Path, language: Path) -> None:
    """Texts left out of the log for privacy: told, and nothing is guessed of them."""
    serve(copied(language, tmp_path), texts(200, 5, GREEK), log={"leave_out": ["text"]})
    report = look(tmp_path / "store")
    assert any("leaves out text" in remark for remark in report.remarks)
    assert report.alarms == ()


def test_retrieval_is_watched_by_ranks_and_captions(tmp_path: Path) -> None:
    """A model of images with captions: pairs that belong together are silent, captions that are
    dealt out at random are found wrong, without any label."""
    pytest.importorskip("torch", reason="the clip family needs the extra `neural`")
    pytest.importorskip("PIL", reason="the clip family needs the extra `images`")
    from tests.models.tiny_clip import make_pairs

    quick = {"width": 16, "layers": 1, "batch_size": 32, "epochs": 12.0, "learning_rate": 3e-3}
    result = loopline.fit(
        make_pairs(160), "caption", task="retrieval", models={"clip": quick},
        settings={"split": {"folds": 2}, "threads": 1, "name": "sides"}, store=tmp_path / "store",
        progress=False,
    )  # fmt: skip
    settings = MonitorSettings(window=100, rate="100/day")
    calm = check_rows("latest", make_pairs(100, seed=6), project=result.project, settings=settings)
    pairs = make_pairs(100, seed=7)
    mixed = pairs.with_columns(pl.col("caption").reverse())
    wrong = check_rows("latest", mixed, project=result.project, settings=settings)
    result.project.close()
    assert told(calm) == []
    assert ("estimated", "expected loss", "worse") in told(wrong)
