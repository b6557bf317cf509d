"""What a search decides: who proposes, when a trial is given up, what the best is worth."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from loopline.evaluate.metrics import metric
from loopline.evaluate.rows import Rows, Units
from loopline.models.space import Choice, Integer, Number
from loopline.search import method as methods
from loopline.search.arms import Arm
from loopline.search.method import decide
from loopline.search.optimism import _by_influence, _by_scoring, corrected
from loopline.search.pruning import limit, steps

WIDE = Arm("wide", "wide", 1, {name: Number(0, 1) for name in "abcdef"})
NARROW = Arm("narrow", "narrow", 1, {"a": Number(0, 1)})
LONG = Arm("long", "long", 1, {"a": Integer(1, 30)})
TINY = Arm("tiny", "tiny", 1, {"a": Choice(("x", "y")), "b": Integer(1, 3)})


@pytest.mark.parametrize(
    ("method", "arm", "trials", "cells", "networks", "sampler"),
    [
        ("auto", TINY, 50, 1_000, False, "grid"),
        ("auto", TINY, None, 1_000, False, "grid"),
        ("auto", TINY, 5, 1_000, False, "random"),
        ("auto", LONG, 50, 1_000, False, "tpe"),
        ("auto", WIDE, 11, 1_000, False, "random"),
        ("auto", WIDE, 50, 1_000, False, "tpe"),
        ("auto", WIDE, None, 1_000, False, "tpe"),
        ("auto", NARROW, 50, 1_000, False, "tpe"),
        ("auto", NARROW, 50, 1_000, True, "gp"),
        ("auto", NARROW, 50, 50_000_000, False, "gp"),
        ("auto", WIDE, 50, 50_000_000, False, "tpe"),
        ("bayesian", WIDE, 5, 1_000, False, "tpe"),
        ("random", TINY, 5, 1_000, False, "random"),
        ("grid", NARROW, None, 1_000, False, "grid"),
    ],
)
def test_auto_decides_by_space_trials_and_cost(
    method: object, arm: Arm, trials: int | None, cells: int, networks: bool, sampler: str
) -> None:
    """Grid for small spaces, random for few trials, a Gaussian process for dear and narrow ones."""
    if sampler == "gp":
        pytest.importorskip("torch")
    found = decide(method, [arm], trials, cells=cells, networks=networks)  # type: ignore[arg-type]
    assert found.sampler == sampler
    assert found.reason


def test_without_torch_a_dear_search_uses_tpe_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch is missing the reason names it."""
    monkeypatch.setattr(methods, "find_spec", lambda name: None)
    found = decide("auto", [NARROW], 50, cells=1_000, networks=True)
    assert (found.sampler, "needs torch" in found.reason) == ("tpe", True)


def test_steps_go_from_a_sample_to_all_folds() -> None:
    """12,000 rows: 2,400 of them first, then the five folds; the sample is judged mildly."""
    planned = steps(5, 12_000, prune=True)
    assert [(step.fold, step.rows) for step in planned] == [
        (0, 2_400), (0, None), (1, None), (2, None), (3, None), (4, None),
    ]  # fmt: skip
    assert planned[0].chance < planned[1].chance
    assert [step.rows for step in steps(5, 9_999, prune=True)] == [None] * 5


def test_without_pruning_nothing_is_given_up() -> None:
    """No sample, and a limit of 0 that no chance is below."""
    assert {(step.rows, step.chance) for step in steps(4, 50_000, prune=False)} == {(None, 0.0)}


def test_a_familys_first_trial_is_given_up_less_easily() -> None:
    """The limit of a first trial is never above that of the others."""
    for step in steps(3, 50_000, prune=True):
        assert limit(step, first=True) < limit(step, first=False)


def coins(num_rows: int, num_trials: int, seed: int) -> tuple[list[Rows], Units]:
    """Trials that guess labels of coins: the truth is an AUC of 0.5 for each of them."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, num_rows)
    guesses = [Rows.build(y, rng.random(num_rows)) for _ in range(num_trials)]
    return guesses, Units.build(None, num_rows)


@pytest.mark.parametrize("name", ["auc", "log_loss", "brier"])
def test_the_best_of_many_coins_is_corrected_to_what_it_is_worth(name: str) -> None:
    """Over 20 tables the best of 50 guessers is too good; corrected, it is right on average."""
    chosen = metric(name)
    best, honest = [], []
    for seed in range(20):
        trials, units = coins(300, 50, seed)
        found = corrected(chosen, trials, units, seed=seed)
        assert found is not None
        best.append(found.best)
        honest.append(found.corrected)
        assert found.low <= found.corrected <= found.high
    truth = {"auc": 0.5, "log_loss": 1.0, "brier": 1 / 3}[name]
    off = np.std(honest) / np.sqrt(len(honest))
    assert abs(np.mean(honest) - truth) < 4 * off
    assert abs(np.mean(best) - truth) > 2 * abs(np.mean(honest) - truth)


def test_one_clear_winner_needs_no_correction() -> None:
    """Where one trial is far ahead nothing is lucky: the correction is near 0."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 500)
    sharp = np.clip(y + rng.normal(scale=0.4, size=500), 0.01, 0.99)
    trials = [Rows.build(y, p) for p in (sharp, rng.random(500))]
    found = corrected(metric("auc"), trials, Units.build(None, 500), seed=0)
    assert found is not None
    assert abs(found.optimism) < 0.002


def test_influence_values_give_what_scoring_anew_gives() -> None:
    """For the AUC the short way and the long way agree within the resamples' own noise."""
    trials, units = coins(400, 15, seed=3)
    chosen = metric("auc")
    scored = [chosen.score(rows) for rows in trials]
    values = np.array([each.value for each in scored])
    short = _by_influence(values, [each.influence for each in scored], trials[0], units, 1.0, 5)
    long = _by_scoring(chosen, trials, units, 5)
    off = np.hypot(short.std() / np.sqrt(len(short)), long.std() / np.sqrt(len(long)))
    assert abs(short.mean() - long.mean()) < 4 * off


def test_metrics_without_influence_values_are_corrected_too() -> None:
    """The operating point of 90 % recall is scored anew on every resample."""
    trials, units = coins(300, 8, seed=4)
    found = corrected(metric("precision_at_recall=0.9"), trials, units, seed=0)
    assert found is not None
    assert found.corrected <= found.best


def test_units_are_left_out_whole() -> None:
    """Copies of rows in one unit give the correction of the rows alone, not a smaller one."""
    trials, _ = coins(200, 30, seed=6)
    once = corrected(metric("auc"), trials, Units.build(None, 200), seed=1)
    copied = [rows.take(np.repeat(np.arange(200), 3)) for rows in trials]
    units = Units.build(np.repeat(np.arange(200), 3), 600)
    thrice = corrected(metric("auc"), copied, units, seed=1)
    assert once is not None
    assert thrice is not None
    assert thrice.optimism == pytest.approx(once.optimism, rel=0.1)


def test_nothing_is_corrected_where_nothing_was_chosen() -> None:
    """One trial, or fewer than ten units: no correction."""
    trials, units = coins(100, 1, seed=0)
    assert corrected(metric("auc"), trials, units, seed=0) is None
    few, small = coins(9, 5, seed=0)
    assert corrected(metric("brier"), few, small, seed=0) is None


def test_more_trials_are_more_lucky() -> None:
    """The optimism grows with the number of trials among which the best was chosen."""
    trials, units = coins(300, 60, seed=8)
    found = [corrected(metric("auc"), trials[:n], units, seed=0) for n in (3, 12, 60)]
    sizes = [each.optimism for each in found if each is not None]
    assert all(a < b for a, b in pairwise(sizes))
