"""The line on images with captions: run, released, asked by words; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch", reason="the clip family needs the extra `neural`")
pytest.importorskip("PIL", reason="the clip family needs the extra `images`")

from tests.models.tiny_clip import SHOWN, make_pairs

import loopline
from loopline.cli.app import app
from loopline.errors import DataError, InputError, SettingsError
from loopline.line.query import find_images

QUICK = {"width": 16, "layers": 1, "batch_size": 32, "epochs": 12.0, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run is kept."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def result(store: Path) -> loopline.Result:
    """A run on 160 pairs, with a quick network."""
    return loopline.fit(
        make_pairs(160),
        "caption",
        task="retrieval",
        models={"clip": QUICK},
        settings={"split": {"folds": 2}, "threads": 1, "name": "sides"},
        store=store,
        progress=False,
    )


def test_pairs_become_a_release_that_beats_the_prior(result: loopline.Result) -> None:
    """Compared with the commonest captions first, chosen, and scored with intervals."""
    assert [entry["name"] for entry in result.summary["candidates"]] == ["baseline", "clip"]
    assert result.summary["chosen"] == "clip"
    scores = result.evaluate()
    assert scores["recall_at_1"]["value"] > 0.8
    assert scores["mean_reciprocal_rank"]["low"] > 0.52  # chance among four: (1 + 1/2 + …) / 4
    assert scores["recall_at_5"]["value"] == 1.0


def test_the_release_scores_new_pairs_and_ranks_rows(result: loopline.Result) -> None:
    """`evaluate` makes the captions' numbers itself; `predict` gives a rank a row."""
    found = result.release.evaluate(make_pairs(40, seed=6))
    assert found.metrics["recall_at_1"].value > 0.8
    assert result.release.predict(make_pairs(8, seed=6))["prediction"].min() >= 1.0


def test_images_are_found_by_words(result: loopline.Result, tmp_path: Path, store: Path) -> None:
    """The command lists files best first, and names each by one of several texts."""
    pairs = make_pairs(8, seed=7)
    for row, file in enumerate(pairs["picture"].to_list()):
        (tmp_path / f"{row}.png").write_bytes(file)
    asked = ["query", result.release.id, str(tmp_path), "--store", str(store), "--json"]
    shown = CliRunner().invoke(app, [*asked, "-t", SHOWN[1]])
    assert shown.exit_code == 0, shown.output
    hits = json.loads(shown.stdout)["hits"]
    assert {hit["image"] for hit in hits[:2]} == {"1.png", "5.png"}
    several = [part for text in SHOWN for part in ("-t", text)]
    named = json.loads(CliRunner().invoke(app, [*asked, *several]).stdout)["hits"]
    right = sum(hit["text"] == SHOWN[int(hit["image"][0]) % 4] for hit in named)
    assert right >= 7
    plain = CliRunner().invoke(app, [*asked[:-1], *several, "-n", "3"])
    assert "… and 5 more" in plain.output


def test_what_cannot_be_asked_is_refused(result: loopline.Result, tmp_path: Path) -> None:
    """An empty text, images that cannot be read, and a release of another kind."""
    with pytest.raises(InputError, match="must have a word in it"):
        find_images(result.release, make_pairs(2), [" "])
    renamed = make_pairs(2).rename({"picture": "photo"})
    with pytest.raises(DataError, match=r"no column 'picture' of images in the table; it has"):
        find_images(result.release, renamed, ["a bright left"])
    damaged = pl.DataFrame({"picture": [b"no", b"image"]})
    with pytest.raises(DataError, match=r"No image of .* can be read"):
        find_images(result.release, damaged, ["a bright left"])
    frame = pl.DataFrame(
        {"x": [n * 7 % 13 for n in range(60)], "y": [("a", "b")[n % 2] for n in range(60)]}
    )
    other = loopline.fit(frame, "y", models="baseline", store=tmp_path, progress=False)
    with pytest.raises(InputError, match="cannot be asked by words"):
        find_images(other.release, make_pairs(2), ["a bright left"])


def test_a_family_of_another_task_is_refused(tmp_path: Path) -> None:
    """A family that cannot find images by words says so before anything is fitted."""
    with pytest.raises(SettingsError, match=r"image family cannot do a retrieval task"):
        loopline.fit(
            make_pairs(40),
            "caption",
            task="retrieval",
            models="image",
            store=tmp_path,
            progress=False,
        )


def test_init_writes_what_runs(tmp_path: Path) -> None:
    """`loopline init --task retrieval` on a table of paths writes settings that run."""
    pairs = make_pairs(24)
    for row, file in enumerate(pairs["picture"].to_list()):
        (tmp_path / f"{row}.png").write_bytes(file)
    names = [f"{row}.png" for row in range(24)]
    pairs.select("caption").with_columns(photo=pl.Series(names)).write_csv(tmp_path / "pairs.csv")
    place = tmp_path / "loopline.yaml"
    asked = ["init", str(tmp_path / "pairs.csv"), "--target", "caption", "--task", "retrieval"]
    made = CliRunner().invoke(app, [*asked, "-o", str(place)])
    assert made.exit_code == 0, made.output
    assert "24 pairs of 'photo' and 'caption', with 4 different captions." in made.output
    text = place.read_text(encoding="utf-8")
    assert "images: [photo]" in text
    assert "models: [baseline, clip]" in text
    only = text.replace("[baseline, clip]", "[baseline]").replace("# clip", "# without clip")
    place.write_text(only, encoding="utf-8")
    result = loopline.run(place, progress=False)
    assert result.release.task == "retrieval"
