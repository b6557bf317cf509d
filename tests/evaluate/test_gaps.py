"""The interval of the calibration error: sums by hand, noise of units, coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loopline.evaluate.gaps import Gaps
from loopline.evaluate.intervals import estimate
from loopline.evaluate.metrics import metric
from loopline.evaluate.rows import Units


def gaps(size, error, common=1.0):
    share = np.full(len(size), 1 / len(size))
    return Gaps(share, np.array(size), np.array(error), common, math.inf)


def test_the_sum_of_noise_alone():
    """Two bins of error 0.1 without a gap: each adds 0.1 sqrt(2 / pi), and the rest is spread."""
    mean, spread = gaps([0.3, 0.5], [0.1, 0.1]).sum_if(0.0)
    assert mean == pytest.approx(0.1 * math.sqrt(2 / math.pi))
    assert spread == pytest.approx(math.sqrt(2 * 0.25 * 0.01 * (1 - 2 / math.pi)))


def test_without_noise_the_ends_are_the_sum():
    """Gaps that are known exactly leave one answer."""
    low, high = gaps([0.3, 0.1], [0.0, 0.0]).ends(1.96)
    assert (low, high) == pytest.approx((0.2, 0.2))


def test_far_from_noise_the_ends_are_students():
    """Gaps of many errors do not fold: the sum, more or less two of its errors."""
    low, high = gaps([0.3, 0.3], [0.01, 0.01]).ends(2.0)
    step = 2 * math.sqrt(2 * 0.25) * 0.01
    assert (low, high) == pytest.approx((0.3 - step, 0.3 + step), rel=1e-6)


def test_noise_common_to_the_bins_widens():
    """Four times the variance, for units that lie in all bins, doubles the step."""
    low, _ = gaps([0.3, 0.3], [0.01, 0.01], common=4.0).ends(2.0)
    assert low == pytest.approx(0.3 - 4 * math.sqrt(0.5) * 0.01, rel=1e-6)


def test_a_sum_that_noise_explains_reaches_down_to_zero():
    """Gaps as large as noise makes them: 0 is possible, and a sum below noise is no certainty."""
    usual = gaps([0.08, 0.08], [0.1, 0.1])
    assert usual.ends(1.96)[0] == 0.0


def test_luck_makes_no_short_interval():
    """A sum below noise is read as one error below it: the same upper end as that sum has."""
    noise, spread = gaps([0.1, 0.1], [0.1, 0.1]).sum_if(0.0)
    least = gaps([noise - spread] * 2, [0.1, 0.1]).ends(1.96)
    assert gaps([1e-4, 1e-4], [0.1, 0.1]).ends(1.96) == pytest.approx(least, rel=1e-6)


def test_rows_of_one_unit_in_a_bin_count_together():
    """Each row three times over, as a unit: the errors of the rows once."""
    rng = np.random.default_rng(0)
    stated = rng.random(300)
    y = (rng.random(300) < stated).astype(int)
    ece = metric("ece")
    once = Gaps.of(ece.rows(y, stated), Units.build(None, 300))
    thrice = Gaps.of(
        ece.rows(np.repeat(y, 3), np.repeat(stated, 3)), Units.build(np.arange(900) // 3, 900)
    )
    assert len(once.error) == len(thrice.error)
    assert thrice.error == pytest.approx(once.error)
    assert thrice.common == pytest.approx(once.common)


def test_units_that_lie_in_all_bins_make_noise_common():
    """40 units, each with all its rows right or wrong in four bins: four times the variance."""
    y, stated = np.repeat(np.arange(40) % 2, 4), np.tile([0.1, 0.2, 0.3, 0.4], 40)
    rows = metric("ece").rows(y, stated)
    assert Gaps.of(rows, Units.build(np.arange(160) // 4, 160)).common == pytest.approx(4, rel=0.05)
    assert Gaps.of(rows, Units.build(None, 160)).common == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("slope", [1.0, 0.8, 0.4])
def test_the_interval_holds_the_truth_as_often_as_it_says(slope):
    """Stated p, true 1/2 + slope (p - 1/2): 93 to 97 %, and up to 98 where no gap is."""
    held, truth = 0, (1 - slope) / 4
    for trial in range(400):
        rng = np.random.default_rng([trial, 7])
        stated = rng.random(500)
        y = (rng.random(500) < 0.5 + slope * (stated - 0.5)).astype(int)
        found = estimate("ece", y, stated)
        assert found.low <= found.value <= found.high
        held += found.low <= truth <= found.high
    assert 0.93 - 0.03 < held / 400 < 0.98 + 0.014
