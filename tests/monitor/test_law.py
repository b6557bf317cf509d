"""The law of a window's mean: right numbers by hand, right chances in simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from loopline.monitor.clock import DAY, HOUR, WEEK, Clock, Span, Trail
from loopline.monitor.law import Law, tail
from loopline.monitor.scan import History
from loopline.monitor.scores import Question


def _trail(*spans: Span) -> Trail:
    trail = Trail()
    for span in spans:
        trail.add(span)
    return trail


def test_independent_rows_have_the_variance_of_a_mean() -> None:
    """Without blocks: variance over n, plus the reference's own variance over N."""
    x = np.tile([-1.0, 1.0], 500)[:, None]
    law = Law.learn(x, Clock(False, ()), None)
    span = Span.of(law.clock, None, 0, 100)
    variance, freedom = law.variance(_trail(span).crowd([1]), np.array([[100.0]]), np.ones((1, 1)))
    assert variance[0, 0] == pytest.approx(1 / 100 + 1 / 1000)
    assert np.isinf(freedom[0, 0])


def test_days_that_differ_widen_a_days_window_but_not_a_rows() -> None:
    """Rows have a variance of 1 and days one of 1: the mean of a day of 50 rows varies by 1."""
    rng = np.random.default_rng(0)
    day = np.repeat(np.arange(400), 50)
    time = day * DAY + np.tile(np.arange(50) * 10.0, 400)
    x = rng.normal(size=(400, 1))[day] + rng.normal(size=(20_000, 1))
    clock = Clock(True, (DAY,))
    law = Law.learn(x, clock, time)
    assert law.within[0] == pytest.approx(1.0, rel=0.15)
    assert law.shared[0, 0] == pytest.approx(1.0, rel=0.25)
    one = Span.of(clock, time[:50], 0, 50)
    variance, _ = law.variance(_trail(one).crowd([1]), np.array([[50.0]]), np.ones((1, 1)))
    assert variance[0, 0] == pytest.approx(1.02, rel=0.25)


def test_look_backs_over_one_day_share_it_and_over_two_do_not() -> None:
    """Two windows of one day are one block; of two days, two, with half of the variance."""
    clock = Clock(True, (DAY,))
    morning = Span.of(clock, np.full(10, 100.0), 0, 10)
    evening = Span.of(clock, np.full(10, 80_000.0), 10, 10)
    other = Span.of(clock, np.full(10, 90_000.0), 20, 10)
    assert _trail(morning, evening).crowd([1, 2]).shared.tolist() == [[1.0], [1.0]]
    assert _trail(morning, other).crowd([1, 2]).shared.tolist() == [[1.0], [0.5]]


def test_a_weekly_season_is_no_news() -> None:
    """Sundays that are always higher are expected on a Sunday, and not on a Monday."""
    time = np.arange(0, 70 * DAY, 3600.0)
    sunday = (np.floor(time / DAY) % 7 == 3).astype(np.float64)
    clock = Clock.learn(time, time.size)
    assert clock.weekdays
    law = Law.learn(sunday[:, None], clock, time)
    there = Span.of(clock, 73 * DAY + np.arange(24) * 3600.0, 0, 24)
    later = Span.of(clock, 74 * DAY + np.arange(24) * 3600.0, 0, 24)
    assert law.expected(there)[0] == pytest.approx(1.0, abs=1e-3)
    assert law.expected(later)[0] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize(("n", "p"), [(50, 0.1), (200, 0.05), (1_000, 0.001), (50, 0.4)])
@pytest.mark.parametrize("chance", [1e-3, 1e-5, 1e-6])
def test_tails_of_counts_are_near_the_exact_ones(n: int, p: float, chance: float) -> None:
    """The gamma law with the binomial's skewness never claims to be much surer than it may be."""
    spread = np.sqrt(p * (1 - p) * n)
    k = int(stats.binom.isf(chance, n, p)) + 1
    distance, skew = (k - n * p) / spread, (1 - 2 * p) / spread
    told = tail(np.array([distance]), np.array([np.inf]), np.array([skew]))[0]
    assert 0.7 < told / stats.binom.sf(k - 1, n, p) < 7


def test_few_blocks_make_far_tails_heavier() -> None:
    """Five standard errors are far less sure with ten degrees of freedom."""
    told = tail(np.full(2, 5.0), np.array([np.inf, 10.0]), np.zeros(2))
    assert told[0] == pytest.approx(stats.norm.sf(5.0), rel=1e-3)
    assert told[1] == pytest.approx(stats.t.sf(5.0, 10), rel=1e-2)


@pytest.mark.parametrize("freedom", [np.inf, 1e5])
def test_rare_events_that_became_frequent_are_sure(freedom: float) -> None:
    """Twenty of 200 rows where one in 10,000 is usual: 140 standard errors, however skewed."""
    z, skew = 0.1 / np.sqrt(1e-4 / 200), 100 / np.sqrt(200)
    assert tail(np.array([z]), np.array([freedom]), np.array([skew]))[0] < 1e-15


def test_a_score_that_never_moved_has_the_variance_of_one_row() -> None:
    """A constant reference does not make one odd row infinitely unlikely."""
    law = Law.learn(np.zeros((1_000, 1)), Clock(False, ()), None)
    assert law.within[0] == pytest.approx(1 / 1_002)


def test_short_references_do_not_claim_to_know_weeks() -> None:
    """Ten days know days and hours, no weeks and no weekdays; one day knows neither."""
    ten = Clock.learn(np.arange(0, 10 * DAY, 600.0), 1_440)
    assert ten.lengths == (3600.0, DAY)
    assert ten.hours
    assert not ten.weekdays
    one = Clock.learn(np.arange(0, DAY, 60.0), 1_440)
    assert DAY not in one.lengths
    assert not one.hours


def test_a_score_that_few_windows_have_comes_from_few_days() -> None:
    """Of four days one has the score: its mean strays like that of one day, not of four."""
    clock = Clock(True, (DAY,))
    rng = np.random.default_rng(0)
    day = np.repeat(np.arange(100), 20)
    x = (rng.normal(size=(100, 1))[day] + 0.1 * rng.normal(size=(2_000, 1))).repeat(2, axis=1)
    law = Law.learn(x, clock, day * DAY)
    history = History(law, [Question("a", "shift", "sd"), Question("b", "shift", "sd")])
    for number in range(4):
        scores = np.zeros((20, 2))
        scores[:, 1] = 0.0 if number == 3 else np.nan
        time = np.full(20, (200 + number) * DAY)
        history.add(scores, Span.of(clock, time, 0, 20), str(number))
    _, error, _ = history.over(4)
    assert error[1] / error[0] == pytest.approx(2.0, rel=0.1)


def test_times_that_are_dates_are_cut_into_days() -> None:
    """All rows of a day share its midnight; they share the day, not an hour."""
    dates = np.repeat(np.arange(120.0) * DAY, 10)
    assert Clock.learn(dates, dates.size).lengths == (DAY, WEEK)
    spread = np.sort(np.random.default_rng(0).random(12_000)) * 120 * DAY
    assert Clock.learn(spread, spread.size).lengths == (HOUR, DAY, WEEK)
