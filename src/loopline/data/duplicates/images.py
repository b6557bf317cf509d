"""Near copies among images: perceptual hashes find candidates, correlation verifies them.

An image becomes 32 × 32 grey points. Its hash has 64 signs of low frequencies of the cosine
transform (pHash) and 64 signs of differences between neighbours (dHash); they survive another
size, another compression and another brightness. Images that agree in enough signs, drawn at random
until few share them, are compared in their points: the correlation must reach the limit. Images
that are simple (digits, signs, scans) are close without being copies; there a copy must besides be
at most a third as far as the nearest image that is none (distance: the root of 1 - correlation).
Blank images correlate with nothing and are never copies.

Sources: C. Zauner, "Implementation and benchmarking of perceptual image hash functions" (2010),
sections 3.1 and 3.3; the nearest-neighbour ratio: D. Lowe, "Distinctive image features from
scale-invariant keypoints" (2004), section 7.1.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.cores import in_threads
from loopline.data.duplicates.clusters import (
    Ints,
    connected,
    distinct_pairs,
    first_rows,
    grouped,
    mixed,
    pairs_in_runs,
)
from loopline.data.duplicates.kinds import DuplicateSettings, Links
from loopline.progress import Step
from loopline.seeds import child_seed

SIDE = 32
BLANK = 2.0  # standard deviation of the grey points, of 255, below which an image is blank
NUM_GRIDS = 10
GROUP = 8
SURE = 0.9995  # correlation from which on simple images too count without a look around
RATIO = 3.0
WIDE = 0.3  # distance up to which neighbours are looked at: a correlation of 0.91
_BLOCK = 256


@dataclass(frozen=True, eq=False)
class Greys:
    """Images as small grey squares.

    Args:
        points: (images, 32 * 32) grey points from 0 to 255, zeros where there is none.
        readable: which images could be decoded.
    """

    points: NDArray[np.float32]
    readable: NDArray[np.bool_]


def read_greys(images: pl.Series, *, step: Step | None = None) -> Greys:
    """Decode a column of paths or bytes; what cannot be decoded is marked, never an error.

    Args:
        images: paths of files, or the bytes of files.
        step: told the share that is done.
    """
    cells = images.to_list()
    points = np.zeros((len(cells), SIDE * SIDE), dtype=np.float32)
    readable = np.zeros(len(cells), dtype=bool)

    def work(start: int) -> None:
        for row in range(start, min(start + _BLOCK, len(cells))):
            grey = _grey(cells[row])
            if grey is not None:
                points[row], readable[row] = grey, True

    starts = range(0, len(cells), _BLOCK)
    for _ in in_threads(work, starts):
        if step is not None:
            step.advance(1 / len(starts))
    return Greys(points, readable)


def _grey(cell: str | bytes | None) -> NDArray[np.float32] | None:
    from PIL import Image, ImageOps

    if not cell:
        return None
    try:
        with Image.open(io.BytesIO(cell) if isinstance(cell, bytes) else cell) as image:
            image.draft("L", (4 * SIDE, 4 * SIDE))  # a JPEG is decoded no finer than needed
            upright = ImageOps.exif_transpose(image)
            if "A" in upright.getbands() or "transparency" in upright.info:
                over = upright.convert("RGBA")
                upright = Image.new("RGBA", over.size, "white")
                upright.alpha_composite(over)
            if upright.mode.startswith("I") or upright.mode == "F":
                deep = np.asarray(upright, dtype=np.float32)
                low, high = float(deep.min()), float(deep.max())
                upright = Image.fromarray((deep - low) * (255 / max(high - low, 1e-6)))
                small = upright.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            else:
                small = upright.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            return np.asarray(small, dtype=np.float32).ravel()
    # Pillow's decoders raise all of these for damaged files.
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError):
        return None


def alike_images(
    greys: Greys,
    settings: DuplicateSettings,
    *,
    seed: int = 0,
    step: Step | None = None,
) -> Links:
    """All pairs of near copies among images.

    Args:
        greys: the decoded images.
        settings: the least correlation.
        seed: draws the signs.
        step: told the share that is done.

    Returns:
        Verified pairs with their correlation, and remarks on images that are blank or unreadable.
    """
    centred = greys.points - greys.points.mean(axis=1, keepdims=True)
    norms = np.sqrt(np.einsum("ij,ij->i", centred, centred))
    blank = greys.readable & (norms < BLANK * SIDE)
    remarks = _remarks(int((~greys.readable).sum()), int(blank.sum()))
    rows = np.flatnonzero(greys.readable & ~blank)
    if rows.size < 2:
        return Links.none(*remarks)
    unit = np.ascontiguousarray(centred[rows] / norms[rows, None])
    # Equal pictures first, then the distinct ones in an order that depends on content alone.
    text = np.ascontiguousarray(greys.points[rows].astype(np.uint8))
    words = text.view(np.uint64)
    keys = np.zeros(rows.size, dtype=np.uint64)
    for place in range(words.shape[1]):
        keys = mixed(keys + words[:, place])
    first = first_rows(keys)
    copies = np.flatnonzero(first != np.arange(rows.size))
    kept = np.flatnonzero(first == np.arange(rows.size))
    kept = kept[np.argsort(keys[kept], kind="stable")]
    left, right = _candidates(unit[kept], seed, step)
    likeness = _correlation(unit[kept], left, right)
    near = likeness >= 1 - WIDE**2
    left, right, likeness = left[near], right[near], likeness[near]
    chosen = _copies(kept.size, left, right, likeness, settings.image_similarity)
    return Links(
        rows[np.concatenate([first[copies], kept[left[chosen]]])],
        rows[np.concatenate([copies, kept[right[chosen]]])],
        np.concatenate([np.ones(copies.size), likeness[chosen]]),
        remarks,
    )


def _remarks(unreadable: int, blank: int) -> tuple[str, ...]:
    said: list[str] = []
    if unreadable:
        what = (
            "image cannot be decoded and counts"
            if unreadable == 1
            else "images cannot be decoded and count"
        )
        said.append(f"{unreadable:,} {what} as no copy of any other.")
    if blank:
        what = "image is blank and counts" if blank == 1 else "images are blank and count"
        said.append(f"{blank:,} {what} as no copy of any other.")
    return tuple(said)


def _signs(unit: NDArray[np.float32]) -> NDArray[np.bool_]:
    """128 signs an image: 64 of low frequencies and 64 of differences between neighbours."""
    place = np.arange(SIDE)
    waves = np.cos(math.pi / SIDE * (place[None, :] + 0.5) * place[:9, None])
    squares = unit.reshape(-1, SIDE, SIDE)
    frequencies = np.einsum("ai,nij,bj->nab", waves, squares, waves, optimize=True)
    low = frequencies.reshape(-1, 81)[:, 1:65]
    coarse = squares.reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))
    steps = np.concatenate([coarse, coarse[:, :, :1]], axis=2)
    differences = np.diff(steps, axis=2).reshape(-1, 64)
    return np.concatenate([low > 0, differences > 0], axis=1)


def _candidates(unit: NDArray[np.float32], seed: int, step: Step | None) -> tuple[Ints, Ints]:
    signs = np.concatenate([_signs(unit[at : at + 4096]) for at in range(0, len(unit), 4096)])
    left = right = np.zeros(0, dtype=np.int64)
    for grid in range(NUM_GRIDS):
        rng = np.random.default_rng(child_seed(seed, "signs", grid))
        rows = np.arange(len(unit), dtype=np.int64)
        code = np.zeros(rows.size, dtype=np.uint64)
        drawn = rng.permutation(signs.shape[1])
        at_once = max(1, int(math.log2(max(len(unit) / GROUP, 1))) - 1)
        for cut in [drawn[:at_once], *np.split(drawn[at_once:], drawn.size - at_once)]:
            for sign in cut:
                code = code * np.uint64(2) + signs[rows, sign]
            code = mixed(code)
            order, starts = grouped(code)
            sizes = np.diff(starts, append=order.size)
            large = np.repeat(sizes > GROUP, sizes)
            small = order[~large]
            kept = (sizes > 0) & (sizes <= GROUP)
            ends = np.cumsum(sizes[kept])
            a, b = pairs_in_runs(rows[small], ends - sizes[kept], GROUP - 1)
            left, right = np.concatenate([left, a]), np.concatenate([right, b])
            more = np.sort(order[large])
            rows, code = rows[more], code[more]
            if not rows.size:
                break
        if rows.size:
            order, starts = grouped(code)
            a, b = pairs_in_runs(rows[order], starts, GROUP)
            left, right = np.concatenate([left, a]), np.concatenate([right, b])
        left, right = distinct_pairs(len(unit), left, right)
        if step is not None:
            step.advance(1 / NUM_GRIDS)
    return left, right


def _correlation(unit: NDArray[np.float32], left: Ints, right: Ints) -> NDArray[np.float64]:
    out = np.empty(left.size)
    for start in range(0, left.size, 8192):
        part = slice(start, start + 8192)
        out[part] = np.einsum("ij,ij->i", unit[left[part]], unit[right[part]])
    return np.clip(out, -1.0, 1.0)


def _copies(
    num_rows: int, left: Ints, right: Ints, likeness: NDArray[np.float64], least: float
) -> NDArray[np.bool_]:
    """Pairs above the limit whose cluster has no other image near, or that are all but equal."""
    distance = np.sqrt(np.maximum(1 - likeness, 0))
    inside = likeness >= least
    # Pairs first joined at the strictest: a chain of lookalikes must not swallow true copies.
    chosen = likeness >= SURE
    for level in (0.998, 0.995, 0.99, least):
        linked = inside & (likeness >= level)
        codes = connected(num_rows, left[linked], right[linked])
        longest = np.zeros(num_rows)
        np.maximum.at(longest, codes[left[linked]], distance[linked])
        nearest = np.full(num_rows, WIDE)
        across = codes[left] != codes[right]
        for end in (left, right):
            np.minimum.at(nearest, codes[end[across]], distance[across])
        chosen |= linked & (nearest >= RATIO * longest)[codes[left]]
    return chosen
