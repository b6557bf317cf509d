"""From files to pixels: shapes, colours, transparency, depth, damage."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import polars as pl
import pytest

pytest.importorskip("PIL", reason="images need the extra `images`")

from PIL import Image

from loopline.data.pixels import decodes, facts, over, pixels, readable
from loopline.testing.images import png


def saved(image: Any, kind: str = "PNG", **settings: Any) -> bytes:
    """An image as a file."""
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def shown(content: bytes, size: tuple[int, int], channels: int) -> np.ndarray:
    """Pixels that must be there."""
    found = pixels(content, size, channels)
    assert found is not None
    return found


def test_pixels_are_those_of_the_file() -> None:
    """At its own size a grey picture comes back point by point."""
    points = np.arange(12).reshape(3, 4) * 20
    assert shown(png(points), (3, 4), 1)[..., 0].tolist() == points.tolist()


def test_grey_becomes_colour_and_colour_grey() -> None:
    """Grey has three equal channels as colour; colour is weighed by 299, 587 and 114."""
    grey = shown(png(np.full((2, 2), 90)), (2, 2), 3)
    assert grey.reshape(-1, 3).tolist() == [[90, 90, 90]] * 4
    red = np.zeros((2, 2, 3))
    red[..., 0] = 255
    assert shown(png(red), (2, 2), 1).ravel().tolist() == [76] * 4


def test_the_whole_picture_is_fitted() -> None:
    """A wide picture keeps its left and right ends at a square size."""
    wide = np.zeros((10, 100))
    wide[:, 90:] = 255
    found = shown(png(wide), (10, 10), 1)[..., 0]
    assert found[:, :8].max() < 30
    assert found[:, 9].min() > 200


def test_what_is_transparent_is_white() -> None:
    """Transparency is laid on white, with a palette too."""
    clear = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert shown(saved(clear), (2, 2), 1).ravel().tolist() == [255] * 4
    palette = Image.new("P", (2, 2), 0)
    assert shown(saved(palette, transparency=0), (2, 2), 1).ravel().tolist() == [255] * 4


def test_a_photograph_taken_sideways_is_turned_upright() -> None:
    """The orientation in EXIF is followed."""
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise: the left half comes to the top
    found = shown(saved(image, "JPEG", exif=exif, quality=95), (40, 20), 1)[..., 0]
    assert found[:15].min() > 200
    assert found[25:].max() < 50


def test_sixteen_bits_become_eight() -> None:
    """Deep grey levels are scaled, not cut off."""
    deep = Image.fromarray(np.array([[0, 32_896, 65_535]], dtype=np.uint16))
    assert shown(saved(deep), (1, 3), 1).ravel().tolist() == [0, 128, 255]


def test_damage_is_none_and_never_an_error() -> None:
    """Nothing, no image, half an image: not readable; a whole one is."""
    rng = np.random.default_rng(0)
    whole = png(rng.integers(0, 255, (40, 40)))
    jpeg = saved(Image.fromarray(rng.integers(0, 255, (99, 99), dtype=np.uint8)), "JPEG")
    cells = [None, b"", b"no image", whole[: len(whole) // 2], jpeg[: len(jpeg) // 2], whole, jpeg]
    expected = [False] * 5 + [True] * 2
    assert [pixels(cell, (8, 8), 1) is not None for cell in cells] == expected
    assert [decodes(cell) for cell in cells] == expected
    assert readable(pl.Series(cells)).to_list() == expected


@pytest.mark.parametrize("at", range(0, 400, 7))
def test_a_flipped_byte_is_never_an_error(at: int) -> None:
    """Whatever byte of a file is wrong, there are pixels or there are none."""
    content = bytearray(png(np.random.default_rng(1).integers(0, 255, (20, 20))))
    content[at % len(content)] ^= 0x55
    pixels(bytes(content), (8, 8), 3)


def test_a_file_that_claims_too_much_is_not_decoded() -> None:
    """A small file of 400 million pixels is no image."""
    assert pixels(saved(Image.new("1", (20_000, 20_000))), (8, 8), 1) is None


def test_facts_say_size_and_colour() -> None:
    """Height, width, and whether some point has colour."""
    assert facts(png(np.zeros((3, 5)))) == (3, 5, False)
    assert facts(png(np.full((3, 5, 3), 77))) == (3, 5, False)
    green = np.zeros((3, 5, 3))
    green[..., 1] = 200
    assert facts(png(green)) == (3, 5, True)
    assert facts(b"no image") is None


def test_many_cells_come_back_in_their_order() -> None:
    """Threads change nothing about the order, and leave the process's warnings as they were."""
    cells = [png(np.full((2, 2), value % 250)) for value in range(500)]
    before = list(warnings.filters)
    found = over(cells, lambda cell: shown(cell, (2, 2), 1)[0, 0, 0])
    assert found == [value % 250 for value in range(500)]
    assert warnings.filters == before
