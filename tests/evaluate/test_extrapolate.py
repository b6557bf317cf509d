"""Extrapolated learning curves: what they foretell, how sure they are, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from loopline.errors import DataError
from loopline.evaluate.extrapolate import PowerLaw, fit_power_law, summed_up

SIZES = np.array([500.0, 1000, 2000, 4000, 8000])


def test_an_exact_power_law_is_foretold() -> None:
    """0.1 + 2 / sqrt(n), measured without noise: twice the rows bring what the formula says."""
    law = fit_power_law(SIZES, 0.1 + 2 / np.sqrt(SIZES), 1e-12 * np.eye(5))
    gain = law.gain(16_000)
    true = 2 / 8000**0.5 - 2 / 16_000**0.5
    assert gain.low < true < gain.high
    assert gain.value == pytest.approx(true, rel=0.1)


def test_what_all_sizes_share_cancels_in_a_gain() -> None:
    """A level that is off by 10 at every size, and known to be that uncertain, moves no gain."""
    losses = 0.1 + 2 / np.sqrt(SIZES)
    alone = fit_power_law(SIZES, losses, 1e-6 * np.eye(5))
    common = fit_power_law(SIZES, losses + 10, 100 * np.ones((5, 5)) + 1e-6 * np.eye(5))
    one, two = alone.gain(16_000), common.gain(16_000)
    assert two.value == pytest.approx(one.value, abs=2e-4)
    assert two.high - two.low == pytest.approx(one.high - one.low, rel=0.1)


def test_a_flat_curve_promises_nothing() -> None:
    """Where sizes differ by noise alone, the interval holds 0 and stays small."""
    rng = np.random.default_rng(0)
    losses = 0.3 + 0.01 * rng.standard_normal(5)
    gain = fit_power_law(SIZES, losses, 1e-4 * np.eye(5)).gain(16_000)
    assert gain.low < 0 < gain.high
    assert gain.high < 0.05


def test_further_is_less_sure() -> None:
    """Ten times the rows have a wider interval than twice."""
    law = fit_power_law(SIZES, 0.1 + 2 / np.sqrt(SIZES), 1e-6 * np.eye(5))
    assert law.gain(80_000).half_width > law.gain(16_000).half_width


def test_more_rows_undo_nothing() -> None:
    """Ten times the rows never bring less than twice, at either end of the interval."""
    law = fit_power_law(SIZES, 0.1 + 2 / np.sqrt(SIZES), 1e-6 * np.eye(5))
    near, far = law.gain(16_000), law.gain(80_000)
    assert 0 < near.low <= far.low
    assert near.high < far.high


def test_no_curve_falls_below_the_best_loss() -> None:
    """A loss cannot fall below its floor, however many rows come."""
    law = fit_power_law(SIZES, 0.02 + 1 / SIZES**0.4, 1e-4 * np.eye(5), floor=0.0)
    assert law.at(1e15).min() >= 0.0


def test_a_curve_at_its_floor_stays_there() -> None:
    """Perfect scores at all sizes leave nothing to gain, and no draw is needed to see it."""
    law = fit_power_law(SIZES, np.full(5, -1.0), 1e-14 * np.eye(5), floor=-0.5)
    assert law.gain(16_000).value == 0.0


def test_luck_widens_what_one_fit_would_gain() -> None:
    """The gain of one fit on rows yet to come is less sure than that of such fits on average."""
    noise = np.full(5, 1e-4)
    law = fit_power_law(SIZES, 0.1 + 2 / np.sqrt(SIZES), 1e-8 * np.eye(5), noise=noise)
    alone, mean = law.gains(16_000, with_luck=True), law.gains(16_000)
    assert alone.std() > 1.2 * mean.std()


def test_equal_seeds_give_equal_draws() -> None:
    """Advice is a function of the run."""
    one, two = (
        fit_power_law(SIZES, 1 / SIZES, 1e-12 * np.eye(5), seed=3).gain(16_000) for _ in range(2)
    )
    assert one == two


@pytest.mark.parametrize(
    "shape",
    [
        lambda n, c, k: 0.2 + 3 * (n / 100) ** -c,
        lambda n, c, k: 0.2 + 0.5 / (1 + (n / k) ** c),
        lambda n, c, k: 0.3 + 0 * n,
    ],
    ids=["power law", "Morgan-Mercer-Flodin", "flat"],
)
def test_intervals_hold_the_truth(shape: object) -> None:
    """Of 120 noisy curves of known shape at least 108 are foretold within the 95 % interval."""
    assert callable(shape)
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(120):
        c, k = rng.uniform(0.2, 1.2), rng.uniform(200, 3000)
        clean = shape(SIZES, c, k)
        fall = float(abs(clean[0] - clean[-1])) or 0.1
        luck = 0.03 * fall * np.sqrt(SIZES[-1] / SIZES)
        seen = clean + fall * rng.normal() + luck * rng.normal(size=5)
        law = fit_power_law(SIZES, seen, fall**2 * np.ones((5, 5)), noise=luck**2, seed=trial)
        gain = law.gain(16_000)
        held += gain.low <= float(shape(8_000.0, c, k) - shape(16_000.0, c, k)) <= gain.high
    assert held >= 108


@pytest.mark.parametrize(
    ("sizes", "losses", "why"),
    [
        ([1.0, 2], [1.0, 2], "at least 3 sizes, got 2"),
        ([1.0, 2, 2], [1.0, 2, 3], "must rise"),
        ([0.0, 1, 2], [1.0, 2, 3], "must rise from above 0"),
        ([1.0, 2, 3], [1.0, np.nan, 3], "finite"),
        ([1.0, 2, 3], [1.0, 2], "as many losses"),
    ],
)
def test_curves_that_are_none_are_refused(
    sizes: list[float], losses: list[float], why: str
) -> None:
    """Too few sizes, sizes in disorder, or scores that are no numbers."""
    with pytest.raises(DataError, match=why):
        fit_power_law(np.array(sizes), np.array(losses), np.eye(len(sizes)))


def test_draws_are_summed_up_by_median_and_central_share() -> None:
    """The draws 0 … 100 have the median 50 and the 95 % interval 2.5 … 97.5."""
    found = summed_up(np.arange(101.0), 0.95)
    assert (found.low, found.value, found.high) == pytest.approx((2.5, 50.0, 97.5))


def test_a_law_knows_its_loss_by_hand() -> None:
    """a + b (n / largest)^-c with a = 1, b = 2, c = 1/2 at four times the size is 2."""
    one = np.ones(1)
    law = PowerLaw(SIZES, SIZES, one, 2 * one, 0.5 * one, 0.0, 0)
    assert law.at(4 * 8000.0).tolist() == [2.0]
