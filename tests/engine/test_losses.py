"""Losses as (sum, weight), against torch's own and by hand; mixed images that no cut changes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from loopline.engine.losses import (
    balanced_weights,
    classification_loss,
    cutmix,
    labels_loss,
    mixup,
    partners,
)
from loopline.errors import SettingsError


def _some(rows: int = 12, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    targets = torch.randint(0, classes, (rows,), generator=draw)
    targets[3] = -100
    return torch.randn(rows, classes, generator=draw), targets


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_mean_is_that_of_torch(smoothing: float) -> None:
    """Sum over weight equals torch's cross-entropy, ignored rows and smoothing included."""
    logits, targets = _some()
    total, weight = classification_loss(logits, targets, smoothing=smoothing)
    wanted = functional.cross_entropy(logits, targets, label_smoothing=smoothing)
    assert float(weight) == 11
    assert float(total / weight) == pytest.approx(float(wanted), rel=1e-6)


def test_class_weights_are_those_of_torch() -> None:
    """The weighted mean is torch's."""
    logits, targets = _some()
    counts = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])
    total, weight = classification_loss(logits, targets, class_weights=counts)
    wanted = functional.cross_entropy(logits, targets, weight=counts)
    assert float(total / weight) == pytest.approx(float(wanted), rel=1e-6)


def test_targets_as_shares_are_those_of_torch() -> None:
    """Mixed targets give torch's loss for probabilities."""
    logits, _ = _some()
    shares = torch.softmax(logits.flip(0), -1)
    total, weight = classification_loss(logits, shares, smoothing=0.2)
    wanted = functional.cross_entropy(logits, shares, label_smoothing=0.2)
    assert float(total / weight) == pytest.approx(float(wanted), rel=1e-6)


def test_focal_loss_by_hand() -> None:
    """A row with probability 0.8 counts (0.2)^2 of its loss, one with 0.2 counts (0.8)^2."""
    logits = torch.log(torch.tensor([[0.8, 0.2], [0.8, 0.2]]))
    total, weight = classification_loss(logits, torch.tensor([0, 1]), focal=2.0)
    assert float(total) == pytest.approx(-0.04 * np.log(0.8) - 0.64 * np.log(0.2), rel=1e-5)
    assert float(weight) == 2


def test_row_weights_weigh_losses_and_weight() -> None:
    """A row of weight two counts like two rows."""
    logits, targets = torch.randn(2, 3), torch.tensor([0, 1])
    once = classification_loss(logits, targets, row_weights=torch.tensor([2.0, 1.0]))
    twice = classification_loss(logits[[0, 0, 1]], targets[[0, 0, 1]])
    assert float(once[0]) == pytest.approx(float(twice[0]), rel=1e-6)
    assert float(once[1]) == float(twice[1]) == 3


@given(
    rows=st.integers(1, 12), cut=st.integers(0, 12), focal=st.floats(0, 3),
    smoothing=st.floats(0, 0.9),
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_sums_and_weights_add_up(rows: int, cut: int, focal: float, smoothing: float) -> None:
    """Two parts of a batch give the sums of the whole."""
    logits, targets = _some()
    logits, targets = logits[:rows], targets[:rows]
    counts = torch.arange(1.0, 6.0)

    def both(part: slice) -> torch.Tensor:
        return torch.stack(
            classification_loss(
                logits[part], targets[part], smoothing=smoothing, focal=focal, class_weights=counts
            )
        )

    parts = both(slice(0, cut)) + both(slice(cut, None))
    assert torch.allclose(parts, both(slice(None)), rtol=1e-5, atol=1e-5)


def test_labels_by_hand() -> None:
    """Odds of 3 are a chance of 3/4: -ln(3/4) where the label is there, -ln(1/4) where not."""
    logits = torch.full((2, 2), math.log(3.0))
    total, weight = labels_loss(logits, torch.tensor([[1, 1], [1, 0]], dtype=torch.int8))
    assert float(total) == pytest.approx(-3 * math.log(0.75) - math.log(0.25), rel=1e-6)
    assert float(weight) == 2.0
    weighed, mass = labels_loss(
        logits, torch.tensor([[1, 1], [1, 0]]), row_weights=torch.tensor([0.0, 3.0])
    )
    assert float(weighed) == pytest.approx(-3 * math.log(0.75 * 0.25), rel=1e-6)
    assert float(mass) == 3.0


def test_labels_with_smoothing_and_focus_by_hand() -> None:
    """Smoothing of 0.2 aims at 0.9; a focus of 2 takes the miss squared."""
    logits, there = torch.full((1, 1), math.log(3.0)), torch.ones(1, 1)
    smooth, _ = labels_loss(logits, there, smoothing=0.2)
    assert float(smooth) == pytest.approx(-0.9 * math.log(0.75) - 0.1 * math.log(0.25), rel=1e-6)
    eased, _ = labels_loss(logits, there, focal=2.0)
    assert float(eased) == pytest.approx(-(0.25**2) * math.log(0.75), rel=1e-6)
    missed, _ = labels_loss(logits, 1 - there, focal=2.0)
    assert float(missed) == pytest.approx(-(0.75**2) * math.log(0.25), rel=1e-6)


@given(cut=st.integers(1, 5), seed=st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_labels_have_the_same_loss_however_rows_are_cut(cut: int, seed: int) -> None:
    """Sums of parts are the sum of the whole, value and gradient, within rounding."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 3, generator=generator, dtype=torch.float64).requires_grad_()
    there = (torch.rand(6, 3, generator=generator) < 0.4).to(torch.int8)
    whole, weight = labels_loss(logits, there)
    (expected,) = torch.autograd.grad(whole / weight, logits)
    parts = [labels_loss(logits[part], there[part]) for part in (slice(cut), slice(cut, None))]
    total = sum(part for part, _ in parts) / sum(mass for _, mass in parts)
    (found,) = torch.autograd.grad(total, logits)
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_balanced_weights_let_classes_count_alike() -> None:
    """Each class sums to the same, absent ones do no harm, unknown targets are left out."""
    targets = np.array([0, 0, 0, 1, -100, 3])
    found = balanced_weights(targets, 4)[torch.from_numpy(targets[targets >= 0])]
    assert float(found.mean()) == pytest.approx(1.0)
    assert float(found[:3].sum()) == pytest.approx(float(found[3]))


@given(cut=st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_partners_depend_on_row_epoch_and_seed_alone(cut: int) -> None:
    """However rows are cut, each gets the same partner, share and place."""
    rows, epochs = np.arange(10) * 7, np.full(10, 2)
    whole = partners(rows, epochs, 100, seed=0, alpha=0.4)
    first = partners(rows[:cut], epochs[:cut], 100, seed=0, alpha=0.4)
    second = partners(rows[cut:], epochs[cut:], 100, seed=0, alpha=0.4)
    for one, two, all_of_them in zip(first, second, whole, strict=True):
        assert np.array_equal(np.concatenate([one, two]), all_of_them)
    assert not np.array_equal(partners(rows, epochs + 1, 100, 0, 0.4)[0], whole[0])
    assert not np.array_equal(partners(rows, epochs, 100, 1, 0.4)[0], whole[0])
    assert ((whole[1] >= 0) & (whole[1] <= 1)).all()


def test_mixup_by_hand() -> None:
    """A quarter of the one and three quarters of the other."""
    mixed = mixup(torch.full((1, 1, 2, 2), 4.0), torch.zeros(1, 1, 2, 2), np.float32([0.25]))
    assert mixed.tolist() == [[[[1.0, 1.0], [1.0, 1.0]]]]


def test_cutmix_by_hand() -> None:
    """A share of 3/4 cuts half the height and half the width; at a corner a quarter of that."""
    ones, zeros = torch.ones(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)
    places = np.float32([[0.5, 0.5], [0.0, 0.0]])
    mixed, shares = cutmix(ones, zeros, np.float32([0.75, 0.75]), places)
    assert mixed[0, 0].tolist() == [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    assert shares.tolist() == [0.75, 0.9375]
    assert float(mixed[1].mean()) == 0.9375


def test_wrong_numbers_are_refused() -> None:
    """Smoothing of 1, a negative exponent and no alpha."""
    logits, targets = _some()
    with pytest.raises(SettingsError, match=r"`label_smoothing` lies in \[0, 1\)"):
        classification_loss(logits, targets, smoothing=1.0)
    with pytest.raises(SettingsError, match="`focal` is at least 0"):
        labels_loss(logits, torch.zeros_like(logits), focal=-1.0)
    with pytest.raises(SettingsError, match="`alpha` of mixed images must be above 0, got 0"):
        partners(np.arange(2), np.arange(2), 5, 0, 0.0)
