"""The gate promotes what is better and nothing else; every rule refuses on its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.evaluate.rows import Rows
from loopline.evaluate.slices import Slice
from loopline.line.loop_spec import LoopSpec
from loopline.loop.bout import Bout
from loopline.loop.checks import spent
from loopline.loop.doubt import moved_labels, one_origin, reversed_labels
from loopline.loop.gate import Verdict, judge, surely_worse

SETTINGS = LoopSpec()


def rows(y: np.ndarray, score: np.ndarray) -> Rows:
    return Rows.build(y, 1 / (1 + np.exp(-score)), regression=False)


def bout(
    n: int, champion: float, challenger: float, seed: int = 0, origins: np.ndarray | None = None
) -> Bout:
    """Rows whose truth is a logistic draw; a model's skill is how much of the score it knows."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n) * 2
    y = (score + rng.logistic(size=n) > 0).astype(np.int64)
    noise = rng.normal(size=(2, n))
    guesses = [
        skill * score + (1 - abs(skill)) * extra
        for skill, extra in zip((champion, challenger), noise, strict=True)
    ]
    return Bout(rows(y, guesses[0]), rows(y, guesses[1]), origins=origins)


def gate(fresh: Bout, history: Bout | None, **more: object) -> Verdict:
    return judge(fresh, history, metric="auc", settings=SETTINGS, **more)  # type: ignore[arg-type]


def failed(verdict: Verdict) -> list[str]:
    return [check.name for check in verdict.checks if not check.passed]


def test_a_better_challenger_that_is_no_worse_on_history_is_promoted() -> None:
    """Better on fresh rows and as good on trusted ones: promoted, and the reason has the number."""
    verdict = gate(bout(500, 0.4, 0.8), bout(1000, 0.6, 0.6, seed=1))
    assert verdict.promote
    assert "The challenger is better: auc differs by 0." in verdict.reason
    assert "log_loss differs by" in verdict.reason


@pytest.mark.parametrize(
    ("skill", "why"), [(0.6, "not measurably better"), (0.3, "is worse in auc")]
)
def test_one_that_is_not_better_is_kept_out(skill: float, why: str) -> None:
    """Equal or worse on fresh rows: the champion stays, and the reason says so."""
    verdict = gate(bout(500, 0.6, skill), bout(1000, 0.6, 0.6, seed=1))
    assert failed(verdict) == ["better"]
    assert why in verdict.reason


def test_a_champion_that_ranks_well_and_states_wrong_chances_is_replaced() -> None:
    """An AUC of 1 with probabilities that are off: the loss decides, where ranks see nothing."""
    rng = np.random.default_rng(0)
    score = rng.normal(size=400) * 3
    y = (score + rng.logistic(size=400) > 0).astype(np.int64)
    fresh = Bout(rows(y, score + 4), rows(y, score))
    verdict = gate(fresh, bout(1000, 0.6, 0.6))
    assert verdict.promote
    assert fresh.difference("auc").value == 0


def test_too_few_rows_decide_nothing() -> None:
    """199 fresh rows where 200 are asked for: refused before anything is compared."""
    verdict = gate(bout(199, 0.1, 0.9), None)
    assert failed(verdict) == ["enough"]
    assert len(verdict.checks) == 1


def test_a_class_without_rows_decides_nothing() -> None:
    """300 fresh rows of one class tell no two models apart."""
    y = np.zeros(300, np.int64)
    same = Bout(rows(y, np.zeros(300)), rows(y, np.ones(300)))
    assert "rarer class has only 0 rows" in gate(same, None).reason


def test_the_error_is_spent_over_attempts() -> None:
    """All attempts together may err with the error that was set: 0.05 = sum of 0.05 / k (k + 1)."""
    assert spent(0.05, 1) == pytest.approx(0.025)
    assert sum(spent(0.05, k) for k in range(1, 100_000)) == pytest.approx(0.05, abs=1e-6)


def test_many_attempts_with_a_challenger_that_is_no_better_promote_rarely() -> None:
    """200 champions, each challenged 10 times by an equal: at most 5 % (here 20) ever fall."""
    history = bout(500, 0.6, 0.6, seed=99)
    fallen = 0
    for seed in range(200):
        fallen += any(
            gate(bout(200, 0.6, 0.6, seed=1000 * seed + k), history, attempt=k).promote
            for k in range(1, 11)
        )
    assert fallen <= 20


def test_a_protected_part_that_gets_worse_refuses() -> None:
    """Much better on most rows, worse in a protected part: kept, and the part is named."""
    rng = np.random.default_rng(3)
    score, extra = rng.normal(size=2000) * 2, rng.normal(size=2000)
    y = (score + rng.logistic(size=2000) > 0).astype(np.int64)
    part = np.arange(300)
    better = np.where(np.arange(2000) < 300, extra, score)
    fresh = Bout(rows(y, 0.4 * score + 0.6 * extra), rows(y, better))
    verdict = gate(fresh, bout(1000, 0.6, 0.6), parts=[Slice("city", "city = 'Lima'", part)])
    assert failed(verdict) == ["slices"]
    assert "Where city = 'Lima'" in verdict.reason


def test_reversed_labels_are_never_promoted_without_a_person() -> None:
    """A champion that ranks fresh rows the wrong way round: labels swapped, however often seen."""
    fresh = bout(500, -0.7, 0.8)
    verdict = gate(fresh, bout(1000, 0.6, 0.6), seen_before=9)
    assert failed(verdict) == ["labels"]
    assert "look swapped" in verdict.reason
    assert gate(fresh, bout(1000, 0.6, 0.6), confirmed="the sign was turned").promote


def test_worse_on_history_waits_for_a_second_window() -> None:
    """Better on fresh rows, worse on trusted ones: kept, and promoted when seen again."""
    fresh, history = bout(500, 0.3, 0.8), bout(1000, 0.8, 0.3, seed=1)
    first = gate(fresh, history)
    assert failed(first) == ["history"]
    assert first.unconfirmed
    assert "seen in 1 of 2 windows" in first.reason
    second = gate(fresh, history, seen_before=1, attempt=2)
    assert second.promote
    assert "it is believed" in second.reason
    assert gate(fresh, history, confirmed="new price list").promote


def test_without_history_a_change_waits_too() -> None:
    """Where there are no trusted rows, nobody can say that labels are right: the second window."""
    assert gate(bout(500, 0.3, 0.8), None).unconfirmed


def test_a_gain_that_is_not_there_is_not_unconfirmed() -> None:
    """Worse on history and no better on fresh rows: nothing was seen that could be confirmed."""
    verdict = gate(bout(500, 0.6, 0.6), bout(1000, 0.8, 0.3, seed=1))
    assert not verdict.promote
    assert not verdict.unconfirmed


def test_one_origin_alone_is_not_believed() -> None:
    """Of two givers of labels one alone shows the change: refused however many windows show it."""
    rng = np.random.default_rng(0)
    score = rng.normal(size=600) * 2
    y = (score + rng.logistic(size=600) > 0).astype(np.int64)
    origin = np.where(np.arange(600) < 300, "north", "south")
    y = np.where(origin == "south", (rng.random(600) < 0.95).astype(np.int64), y)
    learned = np.where(origin == "south", 3.0, score)
    fresh = Bout(rows(y, score), rows(y, learned), origins=origin)
    assert "'south' alone" in str(one_origin(fresh.champion, fresh.challenger, origin))
    assert "origin" in failed(gate(fresh, bout(1000, 0.6, 0.6), seen_before=5))


def test_a_gain_of_all_origins_is_believed() -> None:
    """The same gain from everybody is no reason for doubt."""
    fresh = bout(600, 0.4, 0.9, origins=np.tile(["north", "south"], 300))
    assert gate(fresh, bout(1000, 0.6, 0.6)).promote


def test_a_class_that_jumps_without_cause_waits() -> None:
    """A third more of a class while the inputs stay: doubted until a second window shows it."""
    before = rows(np.tile([0, 1], 500), np.zeros(1000))
    after = rows(np.tile([0, 1, 1, 1, 1], 100), np.zeros(500))
    assert "went from 0.50" in str(moved_labels(before, after))
    inputs_moved = rows(np.tile([0, 1, 1, 1, 1], 100), np.full(500, 1.4))
    assert moved_labels(before, inputs_moved) is None


def test_labels_at_random_reward_doubt_and_wait() -> None:
    """A third of fresh labels at random: one that is only less sure is not promoted yet."""
    rng = np.random.default_rng(1)
    score = rng.normal(size=3000) * 3
    y = (score + rng.logistic(size=3000) > 0).astype(np.int64)
    noisy = np.where(rng.random(600) < 0.35, 1 - y[:600], y[:600])
    fresh = Bout(rows(noisy, score[:600]), rows(noisy, 0.85 * score[:600]))
    history = Bout(rows(y[600:], score[600:]), rows(y[600:], 0.97 * score[600:]))
    verdict = gate(fresh, history)
    assert failed(verdict) == ["history"]
    assert "labels may be noisy" in verdict.reason
    honest = Bout(rows(y[:600], 0.3 * score[:600]), rows(y[:600], score[:600]))
    assert gate(honest, history).promote


def test_values_have_reversed_labels_as_well() -> None:
    """Values that run against the champion's are told of; values along with them are not."""
    guess = np.linspace(0, 1, 300)
    assert reversed_labels(Rows.build(-guess, guess, regression=True)) is not None
    assert reversed_labels(Rows.build(guess, guess, regression=True)) is None


def test_a_promotion_that_made_things_worse_is_seen() -> None:
    """Of old and new champion the new one is surely worse on later rows; an equal one is not."""
    assert surely_worse(bout(400, 0.8, 0.3), "auc", 0.01) is not None
    assert surely_worse(bout(400, 0.6, 0.6), "auc", 0.01) is None


@given(st.integers(0, 10_000), st.integers(1, 30))
def test_a_later_attempt_is_never_easier(seed: int, attempt: int) -> None:
    """What attempt k promotes, attempt 1 on the same rows promotes as well."""
    fresh, history = bout(200, 0.5, 0.7, seed=seed), bout(300, 0.6, 0.6, seed=seed + 1)
    later, first = gate(fresh, history, attempt=attempt), gate(fresh, history)
    assert first.promote or not later.promote
