"""What turns images into features: how they are read, and the body that reads them.

`model` is "small" (or "auto"), a residual network that is trained from nothing, or the local folder
or Hugging Face id of a pretrained image classifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from loopline.data.pixels import facts, over, pixels
from loopline.errors import DataError, SettingsError
from loopline.models.base import FitContext, Params
from loopline.models.image_encoder import ImageEncoder
from loopline.seeds import child_seed
from loopline.splits.views import TrainView

if TYPE_CHECKING:
    from loopline.models.pretrained_images import PretrainedImages
    from loopline.nets.image import PretrainedBody, SmallBody

SMALL = ("auto", "small")
"""Names of the network that is trained from nothing."""
_SAMPLE = 2_000
"""Images from which size, colour, mean and deviation are learned."""
_LARGEST, _SMALLEST = 64, 8
"""Limits of the longer side that `size: auto` gives the small network."""
_SQUARE = 1.25
"""Images whose sides differ by less are made square."""


def learn_images(
    train: TrainView, column: str, params: Params, context: FitContext
) -> ImageEncoder:
    """Choose size, channels and augmentation from the training images of a column.

    Args:
        train: the training rows.
        column: of image files.
        params: with `model`, `size` and `augment`.
        context: gives the seed.

    Raises:
        DataError: no image can be read.
        SettingsError: the pretrained model cannot be used, or not at this size.
    """
    sample = train.sample(_SAMPLE, child_seed(context.seed, "sample")).column(column).to_list()
    known = [each for each in over(sample, facts) if each is not None]
    if not known:
        raise DataError(
            f"No image of column {column!r} can be read. Are its cells image files, whole ones?"
        )
    colour = any(each[2] for each in known)
    augment = params["augment"]
    if augment == "auto":
        augment = "photo" if colour else "shift"
    seed = child_seed(context.seed, "augmentation")
    if params["model"] in SMALL:
        size = _size(params["size"], np.array([each[:2] for each in known]))
        channels = 3 if colour else 1
        mean, deviation = _levels(sample, size, channels)
        return ImageEncoder(column, size, channels, mean, deviation, augment, seed)
    from loopline.models.pretrained_images import find_pretrained_images

    found = find_pretrained_images(params["model"])
    return ImageEncoder(
        column,
        _given_size(params, found),
        3,
        found.mean,
        found.deviation,
        augment,
        seed,
        found.config,
    )


def image_body(
    encoder: ImageEncoder, params: Params, *, pretrained: bool
) -> SmallBody | PretrainedBody:
    """The body for an encoder's images; `pretrained` fills in the weights it comes with.

    Args:
        encoder: how the images are read.
        params: with `model`, and `width` and `depth` of the small network.
        pretrained: whether to load pretrained weights; otherwise only the shapes count.
    """
    from loopline.nets.image import PretrainedBody, SmallBody

    if encoder.config is None:
        return SmallBody(encoder.channels, encoder.size, params["width"], params["depth"])
    from loopline.models.pretrained_images import blank_network, find_pretrained_images

    if pretrained:
        return PretrainedBody(find_pretrained_images(params["model"]).load())
    return PretrainedBody(blank_network(encoder.config))


def _size(told: int | str, sides: NDArray[np.int64]) -> tuple[int, int]:
    """Height and width for the small network, from those of the images, shape (images, 2)."""
    if isinstance(told, int):
        return told, told
    height, width = (float(side) for side in np.median(sides, axis=0))
    if max(height, width) <= _SQUARE * min(height, width):
        height = width = max(height, width)
    factor = min(1.0, _LARGEST / max(height, width))
    height, width = (max(_SMALLEST, round(side * factor)) for side in (height, width))
    return int(height), int(width)


def _levels(
    cells: Sequence[bytes | None], size: tuple[int, int], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, from 0 to 1."""
    shown = over(cells, lambda cell: pixels(cell, size, channels))
    points = np.stack([image for image in shown if image is not None]).reshape(-1, channels)
    mean, deviation = points.mean(axis=0) / 255.0, points.std(axis=0) / 255.0
    return (
        tuple(round(float(value), 4) for value in mean),
        tuple(round(max(float(value), 0.01), 4) for value in deviation),
    )


def _given_size(params: Params, found: PretrainedImages) -> tuple[int, int]:
    """The size that the settings give, where the pretrained network can read it."""
    told = params["size"]
    if told == "auto" or (told, told) == found.size:
        return found.size
    if "image_size" in found.config:
        raise SettingsError(
            [
                f"`size` of the image family is {told}, but `model: {found.name}` reads images of "
                f"{found.size[0]} × {found.size[1]} points only. Leave `size` out."
            ]
        )
    return int(told), int(told)
