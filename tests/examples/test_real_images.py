"""Real pictures: the family on a part of MNIST, and the whole example lines (slow)."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the image family needs the extra `neural`")
pytest.importorskip("PIL", reason="images need the extra `images`")

import loopline
from loopline.data.fingerprint import row_digests
from loopline.data.inference import infer_schema
from loopline.data.sources import read_table
from loopline.models.base import FitContext
from loopline.models.families import family
from loopline.splits.split import all_train

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def data(data_dir: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Real data by name, with the variable that the examples use."""

    def find(name: str) -> Path:
        found = data_dir(name)
        monkeypatch.setenv("LOOPLINE_DATA", str(found.parent))
        return found

    return find


def test_a_thousand_digits_are_enough_for_nine_of_ten(
    data: Callable[[str], Path], tmp_path: Path
) -> None:
    """The small network learns written digits from 1,000 pictures in eight passes."""
    small = tmp_path / "digits.zip"
    with zipfile.ZipFile(data("mnist_png_label_errors") / "mnist_png.zip") as file:
        names = [name for name in file.namelist() if name.startswith("train/")]
        chosen = np.random.default_rng(0).permutation(sorted(names))[:1_600].tolist()
        with zipfile.ZipFile(small, "w") as part:
            for name in chosen:
                part.writestr(name.removeprefix("train/"), file.read(name))
    frame = read_table(small).frame
    schema = infer_schema(frame, target="label")
    train, held = frame[:1_000], frame[1_000:]
    view = all_train(row_digests(train)).train_view(train, schema)
    model = family("image").fit(view, None, {"epochs": 8.0}, FitContext(seed=1))
    right = model.predict(held).argmax(axis=1) == held["label"].cast(int).to_numpy()
    assert right.mean() > 0.93


@pytest.mark.slow
def test_mnist_reaches_ninety_nine_of_a_hundred(
    data: Callable[[str], Path], tmp_path: Path
) -> None:
    """The example line scores at least 0.99 accuracy on the official 10,000 test pictures."""
    data("mnist_png_label_errors")
    result = loopline.run(EXAMPLES / "mnist", overrides=[f"store={tmp_path}"], progress=False)
    assert result.summary["chosen"] == "image"
    assert result.evaluate()["accuracy"]["value"] >= 0.99


@pytest.mark.slow
def test_hands_are_told_apart(data: Callable[[str], Path], tmp_path: Path) -> None:
    """The example line reads the digit that a hand shows; students stand on both sides."""
    data("sign_language_digits")
    store = f"store={tmp_path}"
    result = loopline.run(EXAMPLES / "sign_language", overrides=[store], progress=False)
    assert result.summary["chosen"] == "image"
    assert result.evaluate()["accuracy"]["value"] >= 0.9
