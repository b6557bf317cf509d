"""Folders of small pictures for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from loopline.testing.images import png


def picture(kind: str, number: int, side: int = 12) -> bytes:
    """A noisy picture whose left ("a") or upper ("b") half is dark."""
    rng = np.random.default_rng([ord(kind[0]), number])
    shown = rng.integers(100, 255, (side, side))
    if kind == "a":
        shown[:, : side // 2] //= 4
    else:
        shown[: side // 2] //= 4
    return png(shown)


def write_folder(folder: Path, classes: str = "ab", count: int = 6) -> Path:
    """One subfolder a class, with so many pictures each."""
    for kind in classes:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (folder / kind / f"{number:03d}.png").write_bytes(picture(kind, number))
    return folder
