"""The line on images: from a folder or a table of paths to a release, with what it tells."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch", reason="the image family needs the extra `neural`")
pytest.importorskip("PIL", reason="images need the extra `images`")

from tests.data.pictures import picture, write_folder

import loopline
from loopline.cli.app import app
from loopline.errors import DataError, SettingsError

QUICK = {"image": {"epochs": 20.0, "width": 8, "batch_size": 16}}
TWO_FOLDS = {"split": {"folds": 2}, "threads": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 40 pictures, one of which is damaged."""
    made = write_folder(tmp_path_factory.mktemp("pictures") / "all", count=40)
    (made / "a" / "003.png").write_bytes(picture("a", 3)[:70])
    return made


@pytest.fixture(scope="module")
def result(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> loopline.Result:
    """A run on the folder, with a quick network."""
    store = tmp_path_factory.mktemp("store")
    return loopline.fit(
        str(folder), "label", models=QUICK, settings=TWO_FOLDS, store=store, progress=False
    )


def test_a_folder_becomes_a_release_that_beats_the_baseline(result: loopline.Result) -> None:
    """The network is compared with the constant answer, chosen, and right on the test rows."""
    assert [entry["name"] for entry in result.summary["candidates"]] == ["baseline", "image"]
    assert result.summary["chosen"] == "image"
    assert result.evaluate()["auc"]["value"] > 0.95


def test_a_damaged_picture_is_a_finding(result: loopline.Result) -> None:
    """One unreadable image among many is counted and named, and stops nothing."""
    (found,) = [each for each in result.summary["findings"] if each["kind"] == "poor_images"]
    assert "1 unreadable" in found["sentence"]


def test_a_release_predicts_folders_files_and_rows(
    result: loopline.Result, folder: Path, tmp_path: Path
) -> None:
    """A folder, a table of paths, one file, bytes and a path give the same answers."""
    release = result.release
    every = release.predict(str(folder))
    assert every.height == 80
    frame = pl.DataFrame({"image": [f"b/{n:03d}.png" for n in range(3)]})
    table = folder.parent / "some.csv"
    frame.with_columns(image="all/" + pl.col("image")).write_csv(table)
    some = release.predict(str(table))
    assert some["prediction"].to_list() == ["b"] * 3
    content = picture("b", 1)
    (tmp_path / "one.png").write_bytes(content)
    alone = release.predict(str(tmp_path / "one.png"))["probability_b"][0]
    for cell in (content, tmp_path / "one.png"):
        found = release.predict_one({"image": cell})["probability"]["b"]
        assert found == pytest.approx(alone, abs=1e-5)
        assert found == pytest.approx(some["probability_b"][1], abs=1e-5)


def test_text_is_no_picture_and_damage_no_row(result: loopline.Result) -> None:
    """Text from a caller is never followed as a path; a damaged picture alone is refused."""
    with pytest.raises(DataError, match=r"must hold the bytes of an image file.*pathlib.Path"):
        result.release.predict_one({"image": "/etc/passwd"})
    with pytest.raises(DataError, match=r"No cell of column 'image' can be decoded"):
        result.release.predict_one({"image": b"no image"})


def test_a_damaged_picture_among_others_is_remarked_on(
    result: loopline.Result, folder: Path
) -> None:
    """It gets the class shares of training, and a remark names its row."""
    found = result.release.evaluate(str(folder))
    assert any("1 image of column 'image' cannot be decoded" in text for text in found.remarks)
    every = result.release.predict(str(folder))
    assert every["probability_a"][6] == pytest.approx(0.5, abs=0.1)


def test_no_bytes_are_shown(result: loopline.Result, folder: Path, tmp_path: Path) -> None:
    """The report and `data show` tell of images without their bytes."""
    report = result.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert repr(picture("a", 0)[:20])[2:-1] not in report
    shown = CliRunner().invoke(app, ["data", "show", str(folder)]).output
    assert "x89" not in shown
    assert "files of" in shown


def test_a_changed_picture_is_another_source(folder: Path, tmp_path: Path) -> None:
    """The run's id follows the content of every file, and nothing else of it."""
    import shutil

    moved = shutil.copytree(folder, tmp_path / "moved")
    runs = []
    for change in (False, False, True):
        if change:
            (moved / "b" / "001.png").write_bytes(picture("b", 777))
        settings = {**TWO_FOLDS, "name": "moved"}
        store = tmp_path / "store"
        again = loopline.fit(
            str(moved), "label", models="baseline", settings=settings, store=store, progress=False
        )
        runs.append(again.run)
    assert runs[0] == runs[1] != runs[2]


def test_a_family_of_tables_cannot_be_asked_for_pictures_alone(
    folder: Path, tmp_path: Path
) -> None:
    """A family that reads none of the features is an error before anything is fitted."""
    with pytest.raises(
        SettingsError,
        match=r"names linear, .* the only features are images",
    ):
        loopline.fit(str(folder), "label", models="linear", store=tmp_path, progress=False)


def test_missing_error_refuses_what_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    """With `missing: error` an unreadable image stops the line and names its row."""
    settings = {"columns": {"image": {"missing": "error"}}}
    with pytest.raises(DataError, match=r"`columns.image.missing` is error, and 1 cells .* rows 7"):
        loopline.fit(
            str(folder),
            "label",
            models="baseline",
            settings=settings,
            store=tmp_path,
            progress=False,
        )


def test_init_proposes_the_image_family(folder: Path, tmp_path: Path) -> None:
    """The settings of a folder race the baseline and the image family."""
    place = tmp_path / "loopline.yaml"
    runner = CliRunner()
    made = runner.invoke(app, ["init", str(folder), "--target", "label", "-o", str(place)])
    assert made.exit_code == 0, made.output
    text = place.read_text()
    assert "models: [baseline, image]" in text
    assert "image: {type: image}" in text


def test_init_finds_a_column_of_paths(folder: Path, tmp_path: Path) -> None:
    """A table of paths gets `images` under its format, and its other columns their families."""
    rows = [f"all/{kind}/{n:03d}.png,{kind},{n}" for n in range(40) for kind in "ab"]
    table = folder.parent / "table.csv"
    table.write_text("\n".join(["photo,kind,age", *rows]) + "\n")
    place = tmp_path / "loopline.yaml"
    made = CliRunner().invoke(app, ["init", str(table), "--target", "kind", "-o", str(place)])
    assert made.exit_code == 0, made.output
    text = place.read_text()
    assert "images: [photo]" in text
    assert "models: [baseline, linear, lightgbm, image, multimodal]" in text
