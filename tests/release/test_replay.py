"""The parity gate: kept rows are answered as in training, or the promotion is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file
from tests.line.conftest import make_table
from tests.release.conftest import SETTINGS, Two, wide_table

import loopline
from loopline.errors import IntegrityError, NotFoundError
from loopline.line.project import Project
from loopline.release.bundle import FACTS, Release
from loopline.release.fresh import ROWS, TABLE, in_fresh_process, of_rows
from loopline.release.replay import Answers, kept_rows, prove


def changed(project: Project, release: str, change: Callable[[Path], None]) -> str:
    """A copy of a release with other files and a manifest that is right for them."""
    before = project.store.get(release)

    def write(folder: Path) -> None:
        shutil.copytree(before.path(), folder, dirs_exist_ok=True)
        for file in folder.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)
        change(folder)

    made = project.store.put("release", write, inputs=before.inputs, unhashed=("measured.json",))
    project.ledger.append("release.made", subject=made.id, data={"name": "churn"})
    assert made.id != release
    return made.id


def test_kept_rows_are_training_rows_as_they_came(project: Project, made: Two) -> None:
    """Up to 1,000 training rows with their cells from before any repair, and no other column."""
    kept = kept_rows(project.store, project.release(made.linear))
    assert kept.frame.columns == ["x", "income", "city", "day", "flag"]
    rows = wide_table().drop("bought")
    assert kept.frame.join(rows, on=rows.columns, how="semi", nulls_equal=True).height == 240
    assert kept.frame["city"].str.ends_with(" ").any(), "as read: blanks are not stripped"
    assert kept.frame.height == 240, "the training side of 300 rows"


def test_no_cell_of_a_row_is_stored_again(project: Project, made: Two) -> None:
    """The artifact holds digests and predictions; the release folder holds no row at all."""
    release = project.release(made.linear)
    replay = project.store.get(release.artifact.inputs["replay"])
    assert list(replay.files) == ["replay.safetensors"]
    tensors = load_file(replay.path("replay.safetensors"))
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "rows": (240, 2),
        "raw": (240, 2),
        "codes": (240,),
    }
    assert not [name for name in release.artifact.files if "replay" in name]


@pytest.mark.parametrize("which", ["linear", "trees"])
def test_a_release_that_answers_as_in_training_is_promoted(
    project: Project, made: Two, which: str
) -> None:
    """Both ways agree, and the proof is written with the move."""
    move = project.promote(getattr(made, which), why="first")
    assert project.aliases.all() == {"churn@champion": getattr(made, which)}
    assert move.proof["num_rows"] == 240
    assert set(move.proof["largest"]) == {ROWS, TABLE}
    assert max(move.proof["largest"].values()) < 1e-12


def test_a_changed_preprocessing_number_is_refused(project: Project, made: Two) -> None:
    """A mean that moved by a thousandth, under a manifest that is right, is found by its answers.

    The message names the row, its cells and both answers; the alias stays.
    """

    def change(folder: Path) -> None:
        file = folder / "model/features/features.json"
        data = json.loads(file.read_text())
        step = next(step for step in data["steps"] if step["source"] == "x")
        step["center"] += 0.001
        file.write_text(json.dumps(data))

    project.promote(made.trees)
    with pytest.raises(IntegrityError) as caught:
        project.promote(changed(project, made.linear, change))
    text = str(caught.value)
    assert "does not answer as in training, so it is not promoted. Of 240 rows" in text
    assert "the first is row" in text
    assert "x=" in text
    assert "city='" in text
    assert " in training, " in text
    assert project.aliases.get("churn", "champion") == made.trees


def test_a_changed_threshold_is_refused(project: Project, made: Two) -> None:
    """The probabilities are those of training, the decisions are not."""

    def change(folder: Path) -> None:
        facts = json.loads((folder / FACTS).read_text())
        facts["threshold"]["value"] = facts["threshold"]["value"] * 0.5
        (folder / FACTS).write_text(json.dumps(facts))

    with pytest.raises(IntegrityError, match="does not answer as in training"):
        project.promote(changed(project, made.linear, change))


def test_a_damaged_release_is_refused(project: Project, made: Two) -> None:
    """A flipped byte in any file is found before a row is answered."""
    file = project.store.get(made.linear).path("card.md")
    file.chmod(0o644)
    file.write_text("# another card")
    with pytest.raises(IntegrityError, match=r"is not promoted: .*card\.md"):
        project.promote(made.linear)
    assert project.aliases.all() == {}


def test_a_release_that_cannot_answer_is_refused(project: Project, made: Two) -> None:
    """What the fresh process said is in the message."""

    def change(folder: Path) -> None:
        (folder / "model/estimator/estimator.json").write_text("{")

    with pytest.raises(IntegrityError, match="cannot answer its kept rows in a fresh process"):
        project.promote(changed(project, made.linear, change))


def test_a_release_without_kept_rows_is_refused(project: Project, made: Two) -> None:
    """One that was made before rows were kept is told what to do."""
    before = project.store.get(made.linear)
    old = project.store.put(
        "release",
        lambda folder: shutil.copytree(before.path(), folder, dirs_exist_ok=True) and None,
        inputs={role: name for role, name in before.inputs.items() if role != "replay"},
    )
    with pytest.raises(NotFoundError, match=r"keeps no rows to replay.*Run its line again"):
        kept_rows(project.store, Release(old))


def test_any_packaged_path_can_be_proved(project: Project, made: Two) -> None:
    """A service is one more way to answer: its JSON answers are compared like any other."""
    release = project.release(made.trees)
    kept = kept_rows(project.store, release)

    def service(frame: pl.DataFrame) -> dict[str, Answers]:
        answers = [release.predict_one(row) for row in frame.iter_rows(named=True)]
        return {"over HTTP": of_rows(release, json.loads(json.dumps(answers)))}

    proof = prove(release, kept, service)
    assert (proof.num_rows, list(proof.largest)) == (240, ["over HTTP"])

    def wrong(frame: pl.DataFrame) -> dict[str, Answers]:
        raw, codes = kept.expected.raw.copy(), kept.expected.codes
        raw[17] += [2e-6, -2e-6]
        return {"over HTTP": Answers(raw, codes)}

    with pytest.raises(IntegrityError, match="1 differ over HTTP by more than 1e-06; the first is"):
        prove(release, kept, wrong)


@pytest.mark.parametrize("bad", ["nan", "fewer rows"])
def test_answers_that_cannot_be_compared_are_refused(project: Project, made: Two, bad: str) -> None:
    """No number, or a number of rows that is not that of the question, is no answer."""
    release = project.release(made.trees)
    kept = kept_rows(project.store, release)

    def answer(frame: pl.DataFrame) -> dict[str, Answers]:
        raw, codes = kept.expected.raw.copy(), kept.expected.codes
        if bad == "nan":
            raw[3] = np.nan
            return {"": Answers(raw, codes)}
        return {"": Answers(raw[:-1], codes)}

    with pytest.raises(IntegrityError, match="does not answer as in training"):
        prove(release, kept, answer)


def test_values_are_compared_by_their_size(tmp_path: Path) -> None:
    """Regression: one millionth of a value, or of 1 for small ones; dropped rows are left out."""
    noise = np.random.default_rng(9).normal(size=200)
    frame = make_table(200).drop("bought").with_columns(y=(pl.col("x") + noise) * 1e9)
    result = loopline.fit(
        pl.concat([frame, frame.head(20)]),
        "y",
        models=["linear"],
        store=tmp_path / "s",
        progress=False,
        settings={"clean": {"duplicate_rows": "repair"}},
    )
    with loopline.open_project(tmp_path / "s") as opened:
        release = opened.release(result.release.id)
        assert opened.promote(release.id).proof["num_rows"] == 160
        kept = kept_rows(opened.store, release)

    def off(share: float) -> Any:
        raw = kept.expected.raw * (1 + share)
        return lambda frame: {"": Answers(raw, np.empty(0, dtype=np.int64))}

    prove(release, kept, off(5e-7))
    with pytest.raises(IntegrityError):
        prove(release, kept, off(2e-6))


def test_the_fresh_process_has_only_the_folder(made: Two, tmp_path: Path) -> None:
    """A copy of a release elsewhere answers without store and ledger."""
    release = loopline.load_release(
        loopline.open_project(made.store).release(made.linear).save(tmp_path / "copy")
    )
    frame = wide_table().drop("bought").head(5)
    answers = in_fresh_process(tmp_path / "copy", frame)
    expected, _ = release.probabilities(frame)
    assert np.array_equal(answers[TABLE].raw, expected)


def test_the_choice_of_rows_is_reproduced(tmp_path: Path, made: Two, project: Project) -> None:
    """The same line elsewhere keeps the same rows and predictions, to the byte."""
    again = loopline.fit(
        wide_table(),
        "bought",
        models=["linear"],
        store=tmp_path / "again",
        progress=False,
        settings=SETTINGS,
    )
    first = project.release(made.linear).artifact.inputs["replay"]
    assert again.release.artifact.inputs["replay"] == first


def test_a_store_behind_a_url_promotes_and_copies(tmp_path: Path) -> None:
    """Its files lie in a cache without a manifest: copies are made from the artifact itself."""
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    url = f"memory://{tmp_path.name}/store"
    result = loopline.fit(
        make_table(120),
        "bought",
        models="linear",
        store=url,
        progress=False,
        settings={"name": "churn", "ledger": ledger},
    )
    with loopline.open_project(url, ledger=ledger) as opened:
        assert opened.promote(result.release.id).release == result.release.id
    copied = loopline.load_release(result.release.save(tmp_path / "copy"))
    assert copied.id == result.release.id
    assert set(copied.artifact.files) == set(result.release.artifact.files)
