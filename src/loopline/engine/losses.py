"""Losses as (sum, weight), and mixed images as pure functions of row, epoch and seed.

Nothing here divides by a batch's size, and nothing is drawn from a stream that depends on how rows
were cut into batches; so any micro-batch and any number of processes give the same gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from loopline.errors import SettingsError
from loopline.seeds import child_seed

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
IGNORED = -100


def classification_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    smoothing: float = 0.0,
    focal: float = 0.0,
    class_weights: torch.Tensor | None = None,
    row_weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy summed over rows (or tokens), and the weight of what was summed.

    Args:
        logits: shape (..., classes).
        targets: class numbers of shape (...), -100 where there is none; or shares of the classes of
            shape (..., classes), as mixed images have.
        smoothing: share of the target that is spread over all classes, in [0, 1).
        focal: exponent by which easy rows count less, >= 0; 0 for none (Lin et al. 2017).
        class_weights: shape (classes,).
        row_weights: shape (...).

    Raises:
        SettingsError: numbers out of these ranges.

    >>> total, weight = classification_loss(torch.zeros(3, 4), torch.tensor([0, 1, -100]))
    >>> round(float(total), 4), float(weight)
    (2.7726, 2.0)
    """
    _check_easing(smoothing, focal)
    logs = functional.log_softmax(logits.float(), dim=-1)
    classes = logits.shape[-1]
    if targets.is_floating_point():
        shares = targets.float()
        known = torch.ones(shares.shape[:-1], device=logits.device)
        weight = known if class_weights is None else shares @ class_weights.float()
    else:
        known = (targets != IGNORED).float()
        safe = targets.clamp(min=0)
        weight = known if class_weights is None else known * class_weights.float()[safe]
        if smoothing == 0.0:  # without a table of all classes for each token
            picked = logs.gather(-1, safe.unsqueeze(-1)).squeeze(-1)
            return _summed(
                -picked * (1.0 - picked.exp()).clamp(min=1e-8) ** focal, weight, row_weights
            )
        shares = functional.one_hot(safe, classes).float()
    shares = shares * (1.0 - smoothing) + smoothing / classes
    eased = logs if focal == 0.0 else logs * (1.0 - logs.exp()).clamp(min=1e-8) ** focal
    return _summed(-(shares * eased).sum(-1), weight, row_weights)


def labels_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    smoothing: float = 0.0,
    focal: float = 0.0,
    row_weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Binary cross-entropy summed over labels and rows, and the weight of the rows.

    Each label is there or not, whatever the others are. The weight counts rows, not labels, so a
    rate that suits one label suits many.

    Args:
        logits: log odds of each label, shape (..., labels).
        targets: 1 where the label is there, else 0; same shape.
        smoothing: share of the target that is spread over both answers, in [0, 1).
        focal: exponent by which easy labels count less, >= 0; 0 for none (Lin et al. 2017).
        row_weights: shape (...).

    Raises:
        SettingsError: numbers out of these ranges.

    >>> total, weight = labels_loss(torch.zeros(2, 3), torch.tensor([[1, 0, 0], [0, 0, 0]]))
    >>> round(float(total), 4), float(weight)
    (4.1589, 2.0)
    """
    _check_easing(smoothing, focal)
    scores, truth = logits.float(), targets.float()
    aim = truth * (1.0 - smoothing) + smoothing / 2.0
    found, missed = functional.logsigmoid(scores), functional.logsigmoid(-scores)
    if focal:
        found = found * missed.exp().clamp(min=1e-8) ** focal
        missed = missed * (1.0 - missed.exp()).clamp(min=1e-8) ** focal
    losses = -(aim * found + (1.0 - aim) * missed).sum(-1)
    return _summed(losses, torch.ones_like(losses), row_weights)


def _check_easing(smoothing: float, focal: float) -> None:
    if not 0.0 <= smoothing < 1.0 or focal < 0.0:
        raise SettingsError(
            [
                "`label_smoothing` lies in [0, 1) and `focal` is at least 0, "
                f"got {smoothing} and {focal}."
            ]
        )


def _summed(
    losses: torch.Tensor, weight: torch.Tensor, row_weights: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    if row_weights is not None:
        weight = weight * row_weights.float()
    return (losses * weight).sum(), weight.sum()


def balanced_weights(targets: Ints, classes: int) -> torch.Tensor:
    """Class weights that let every class of the training rows count alike, with mean 1 over rows.

    >>> balanced_weights(np.array([0, 0, 0, 1]), 2).tolist()
    [0.6666666865348816, 2.0]
    """
    counts = np.bincount(targets[targets >= 0], minlength=classes)
    present = int((counts > 0).sum())
    return torch.from_numpy((counts.sum() / (present * np.maximum(counts, 1))).astype(np.float32))


def partners(
    rows: Ints, epochs: Ints, num_rows: int, seed: int, alpha: float
) -> tuple[Ints, Floats, Floats]:
    """For each row another one to be mixed with, the share of the first, and a place for a cut.

    All three depend on row, epoch and seed alone.

    Args:
        rows: row numbers, shape (rows,).
        epochs: the epoch of each.
        num_rows: rows to choose partners from.
        seed: of the run.
        alpha: of the Beta distribution of the shares, > 0; 0.2 for mixup, 1 for cutmix are usual.

    Returns:
        Partner of each row; share of the row itself in [0, 1]; two numbers in [0, 1) for `cutmix`.

    Raises:
        SettingsError: `alpha` is not above 0.
    """
    if not alpha > 0.0:
        raise SettingsError([f"`alpha` of mixed images must be above 0, got {alpha}."])
    key = child_seed(seed, "mix")
    others, shares, places = [], [], []
    for row, epoch in zip(rows.tolist(), epochs.tolist(), strict=True):
        draw = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, epoch, row]))
        others.append(int(draw.integers(num_rows)))
        shares.append(draw.beta(alpha, alpha))
        places.append(draw.random(2))
    return (
        np.array(others, dtype=np.int64),
        np.array(shares, dtype=np.float32),
        np.array(places, dtype=np.float32).reshape(-1, 2),
    )


def mixup(values: Any, others: Any, shares: Floats) -> Any:
    """Each row blended with its partner: share times the one, the rest of the other.

    Images or one-hot targets, first dimension rows. Source: Zhang et al. 2018.

    >>> mixup(torch.ones(1, 2), torch.zeros(1, 2), np.array([0.25], np.float32)).tolist()
    [[0.25, 0.25]]
    """
    share = torch.from_numpy(shares).reshape(-1, *[1] * (values.ndim - 1))
    return values * share + others * (1.0 - share)


def cutmix(
    images: torch.Tensor, others: torch.Tensor, shares: Floats, places: Floats
) -> tuple[torch.Tensor, Floats]:
    """Each image with a rectangle of its partner in it; gives the shares as they came out.

    Mix the targets with the shares given back: a rectangle is cut at the image's edge and has whole
    pixels. Source: Yun et al. 2019.

    Args:
        images: shape (rows, channels, height, width).
        others: the partners', same shape.
        shares: of the image itself, shape (rows,).
        places: centre of the rectangle as shares of height and width, shape (rows, 2).
    """
    height, width = images.shape[-2:]
    mixed, kept = images.clone(), shares.copy()
    for row, (share, place) in enumerate(zip(shares, places, strict=True)):
        reach = np.sqrt(1.0 - share) / 2.0
        top, bottom = _span(float(place[0]), float(reach), height)
        left, right = _span(float(place[1]), float(reach), width)
        mixed[row, :, top:bottom, left:right] = others[row, :, top:bottom, left:right]
        kept[row] = 1.0 - (bottom - top) * (right - left) / (height * width)
    return mixed, kept


def _span(centre: float, reach: float, size: int) -> tuple[int, int]:
    low, high = round((centre - reach) * size), round((centre + reach) * size)
    return max(0, low), min(size, high)
