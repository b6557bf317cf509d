"""Poor images: each reason is found where it was planted, and nowhere else."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from loopline.audit.quality_images import is_image_column, score_images

image_module = pytest.importorskip("PIL.Image")


def _bytes(pixels: np.ndarray) -> bytes:
    held = io.BytesIO()
    image_module.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(held, "PNG")
    return held.getvalue()


def _scene(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    """Bright squares on grey, with some grain."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width), 120.0)
    for _ in range(8):
        top, left = rng.integers(0, height - 8), rng.integers(0, width - 8)
        pixels[top : top + 8, left : left + 8] = rng.integers(40, 220)
    return pixels + rng.normal(0, 4, pixels.shape)


def _blurred(pixels: np.ndarray) -> np.ndarray:
    wave = np.exp(-0.5 * (np.arange(-12, 13) / 4.0) ** 2)
    wave /= wave.sum()
    for axis in (0, 1):
        pixels = np.apply_along_axis(lambda line: np.convolve(line, wave, "same"), axis, pixels)
    return pixels


def _giant_png() -> bytes:
    """A few bytes that claim 60,000 x 60,000 pixels."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + head
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    )


USUAL = [_bytes(_scene(seed)) for seed in range(40)]


def test_usual_images_are_fine() -> None:
    """Forty scenes have no poor one among them."""
    assert not score_images(pl.Series(USUAL)).poor.any()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "unreadable"),
        (b"no image at all", "unreadable"),
        (None, "unreadable"),
        (USUAL[0][: len(USUAL[0]) // 2], "unreadable"),
        (_giant_png(), "unreadable"),
        (_bytes(np.full((64, 64), 90.0)), "blank"),
        (_bytes(_blurred(_scene(99))), "blurred"),
        (_bytes(_scene(98) / 8), "far darker than usual"),
        (_bytes(255 - _scene(97) / 6), "far brighter than usual"),
        (_bytes(_scene(96, 12, 12)), "tiny"),
        (_bytes(_scene(95, 32, 160)), "odd shape"),
    ],
)
def test_planted_reason_is_found(content: bytes | None, reason: str) -> None:
    """One poor image among forty is found, with its reason, and it alone."""
    quality = score_images(pl.Series([*USUAL, content], dtype=pl.Binary))
    assert reason in quality.of(40)
    assert quality.worst(5).tolist() == [40]


def test_paths_are_read_from_their_folder(tmp_path: Path) -> None:
    """Relative paths start at the folder; a path to nothing is unreadable."""
    (tmp_path / "a.png").write_bytes(USUAL[0])
    quality = score_images(pl.Series(["a.png", "b.png"]), tmp_path)
    assert quality.of(0) == []
    assert quality.of(1) == ["unreadable"]


def test_image_columns_are_recognised() -> None:
    """Paths that end like images and bytes that begin like them; not names of people."""
    assert is_image_column(pl.Series(["a.jpg", "b.PNG", None]))
    assert is_image_column(pl.Series(USUAL))
    assert not is_image_column(pl.Series(["Ann", "b.png"]))
    assert not is_image_column(pl.Series([1, 2]))


def test_images_that_are_dark_by_design_are_fine(data_dir: Callable[[str], Path]) -> None:
    """Of 200 photographs of hands fewer than 5 % are called poor."""
    folder = data_dir("sign_language_digits") / "Dataset"
    paths = sorted(folder.rglob("*.JPG"))[:200]
    quality = score_images(pl.Series([str(path) for path in paths]))
    assert quality.poor.mean() < 0.05
