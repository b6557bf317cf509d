"""Pairs and mixed rows of real parts: the example lines' tables, and what they show."""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import loopline
from loopline.line.query import find_images
from loopline.models.pretrained import missing_for_text

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def script(name: str) -> ModuleType:
    """The script that makes an example's table."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / name / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_mixed_rows_are_made_as_they_say(data_dir: Callable[[str], Path]) -> None:
    """No source row is used twice, each part is missing in a tenth, two of three votes decide."""
    data = data_dir("mnist_png_label_errors").parent
    data_dir("adult")
    data_dir("ag_news_test")
    table = script("mixed_rows").mixed_rows(data, 1_000)
    assert table["digit"].drop_nulls().n_unique() == table["digit"].count()
    for part in ("age", "headline", "digit"):
        assert table[part].null_count() == pytest.approx(100, abs=35)
    assert (table["answer"] == "yes").mean() == pytest.approx(0.5, abs=0.06)


def test_pairs_are_made_as_they_say(data_dir: Callable[[str], Path]) -> None:
    """Ten captions, each about a tenth of the rows."""
    data = data_dir("mnist_png_label_errors").parent
    table = script("digits_by_words").pairs(data, 500)
    assert table["caption"].n_unique() == 10
    assert table["caption"].value_counts()["count"].min() > 20


@pytest.mark.slow
def test_digits_are_found_by_words(
    data_dir: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The example line names more than nine of ten held-out digits by the right words, and so does
    its release of pictures that it is given without labels, asked for the ten classes."""
    data = data_dir("mnist_png_label_errors").parent
    script("digits_by_words").pairs(data, 2_400).write_parquet(tmp_path / "pairs.parquet")
    text = (EXAMPLES / "digits_by_words" / "loopline.yaml").read_text(encoding="utf-8")
    (tmp_path / "loopline.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    result = loopline.run(tmp_path, overrides=[f"store={tmp_path / 'store'}"], progress=False)
    assert result.summary["chosen"] == "clip"
    assert result.evaluate()["recall_at_1"]["value"] > 0.9
    right, asked = named_by_class(result, data, tmp_path / "photos")
    assert asked == 1_000
    assert right / asked > 0.9


def named_by_class(result: loopline.Result, data: Path, folder: Path) -> tuple[int, int]:
    """Digits of the other official file, in a folder that tells no label, named by ten words."""
    words = script("digits_by_words").WORDS
    folder.mkdir()
    labels = {}
    with zipfile.ZipFile(data / "mnist_png_label_errors" / "mnist_png.zip") as pictures:
        names = sorted(n for n in pictures.namelist() if n.startswith("train/") and "png" in n)
        for place in np.random.default_rng(1).permutation(len(names))[:1_000]:
            file = f"{place}.png"
            (folder / file).write_bytes(pictures.read(names[place]))
            labels[file] = int(names[place].split("/")[1])
    texts = [f"a photo of a {word}" for word in words]
    hits = find_images(result.release, str(folder), texts)
    return sum(hit.text == texts[labels[hit.image]] for hit in hits), len(hits)


@pytest.mark.slow
@pytest.mark.skipif(bool(missing_for_text()), reason=f"to run: {missing_for_text()}")
def test_all_parts_are_worth_more_than_each(data_dir: Callable[[str], Path]) -> None:
    """With all parts the network is better than with any one: each interval is above zero."""
    data_dir("mnist_png_label_errors")
    spec = importlib.util.spec_from_file_location(
        "mixed", EXAMPLES.parent / "benchmarks" / "mixed.py"
    )
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    found = benchmark.measure(4_000, 1, {"epochs": 20.0})
    assert found["scores"]["all"]["auc"]["value"] > 0.8
    for part in ("table", "text", "image"):
        assert found["all_minus"][part]["low"] > 0.0
    assert np.isfinite(found["scores"]["trees"]["auc"]["value"])
