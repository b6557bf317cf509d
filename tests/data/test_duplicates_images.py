"""Copies of images: other sizes, compressions and brightness; digits; blank and broken files."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import polars as pl
import pytest

from loopline.data.duplicates.find import find_duplicates

Image = pytest.importorskip("PIL.Image")


def scene(seed):
    """A smooth random picture of 96 × 96 points in colour."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC)


def stored(image, kind="PNG", **how):
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def find(cells):
    return find_duplicates(pl.DataFrame({"image": cells}), {"image": "image"})


CHANGES = {
    "compression": lambda image: stored(image, "JPEG", quality=60),
    "smaller": lambda image: stored(image.resize((60, 60), Image.Resampling.LANCZOS)),
    "larger": lambda image: stored(image.resize((200, 200), Image.Resampling.BICUBIC)),
    "brighter": lambda image: stored(image.point(lambda value: min(255, int(value * 1.05) + 4))),
    "grey": lambda image: stored(image.convert("L")),
    "transparent": lambda image: stored(image.convert("RGBA")),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_changed_pictures_are_found(change):
    """Each of 40 changed pictures is found among 200, and no other pair."""
    pictures = [scene(seed) for seed in range(200)]
    cells = [stored(picture) for picture in pictures]
    copies = [CHANGES[change](picture) for picture in pictures[:40]]
    found = find([*cells, *copies])
    assert np.mean(found.clusters[:40] == found.clusters[200:]) >= 0.95
    assert found.num_rows <= 80


def test_blank_and_broken_pictures_are_no_copies():
    """Blank pictures are not one cluster, broken ones are counted, and both are told."""
    blank = [stored(Image.new("L", (40, 40), shade)) for shade in (0, 10, 250)]
    broken = [b"no picture", stored(scene(1))[:200], None, b""]
    found = find([*blank, *broken, stored(scene(2))])
    assert found.num_rows == 0
    (kind,) = found.kinds
    assert "4 images cannot be decoded and count as no copy of any other." in kind.sentence
    assert "3 images are blank and count as no copy of any other." in kind.sentence


def test_paths_are_read(tmp_path):
    """A column of paths is read from the files; a file that is missing is told."""
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        (tmp_path / name).write_bytes(stored(scene(seed)))
    found = find([str(tmp_path / name) for name in ("a.png", "b.png", "c.png", "none.png")])
    assert found.clusters.tolist() == [0, 0, 2, 3]


def test_digits_are_not_glued(data_dir):
    """Handwritten digits look alike without being copies; recompressed ones are found."""
    folder = data_dir("mnist_png_label_errors")
    with zipfile.ZipFile(folder / "mnist_png.zip") as bundle:
        names = [name for name in bundle.namelist() if name.endswith(".png")][:3_000]
        cells = [bundle.read(name) for name in names]
    found = find(cells)
    assert found.num_rows <= 6
    copies = [
        stored(Image.open(io.BytesIO(cell)).point(lambda value: min(255, int(value * 1.1))))
        for cell in cells[:100]
    ]
    again = find([*cells, *copies])
    assert np.mean(again.clusters[:100] == again.clusters[3_000:]) >= 0.95
