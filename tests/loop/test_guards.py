"""Guards of the gate, each where it alone decides: broken one at a time, each test here fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.loop.test_gate import SETTINGS, bout, failed, gate, rows

from loopline.evaluate.rows import Rows
from loopline.evaluate.slices import Slice
from loopline.line.loop_spec import LoopSpec
from loopline.loop import checks
from loopline.loop.bout import Bout
from loopline.loop.checks import spent
from loopline.loop.diary import Diary
from loopline.loop.doubt import moved_labels, one_origin, reversed_labels
from loopline.loop.gate import judge, surely_worse
from loopline.loop.receivers import notify
from loopline.monitor.receivers import SinkSettings
from loopline.select.compare import chance_beyond
from loopline.store.ledger import Ledger


def drawn(n: int, seed: int = 0, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores and the truth that they stand for."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n) * scale
    return score, (score + rng.logistic(size=n) > 0).astype(np.int64)


def losing(*parts: tuple[int, float]) -> Rows:
    """Rows of class 1 with the stated log losses: so many rows of each."""
    loss = np.concatenate([np.full(count, value) for count, value in parts])
    return Rows.build(np.ones(loss.size, dtype=np.int64), np.exp(-loss))


def test_two_metrics_share_the_error() -> None:
    """The error of an attempt is halved where two metrics are asked, and whole where one is."""
    fresh = bout(300, 0.6, 0.6)
    both = checks.better(fresh, ("auc", "log_loss"), SETTINGS, 3)
    one = checks.better(fresh, ("log_loss",), SETTINGS, 3)
    assert both.facts["allowed"] == pytest.approx(spent(SETTINGS.error, 3) / 2)
    assert one.facts["allowed"] == pytest.approx(spent(SETTINGS.error, 3))


def test_many_protected_parts_refuse_no_more_often_than_one() -> None:
    """Twenty parts and two equal models: at the error of one part alone nearly every draw would
    have a bad one by chance; with Holm's correction at most 4 of 30."""
    parts = [Slice("p", f"p = {k}", np.arange(200 * k, 200 * k + 200)) for k in range(20)]
    loose = LoopSpec(margin=0.0)
    refused = sum(
        not checks.slices(bout(4_000, 0.6, 0.6, seed=seed), parts, ("auc",), loose).passed
        for seed in range(30)
    )
    assert refused <= 4


@pytest.mark.parametrize(("margin", "passes"), [(0.05, True), (0.0, False)])
def test_a_part_may_lose_less_than_the_margin(margin: float, passes: bool) -> None:
    """Surely worse by about 0.01 in a part: within a margin of 0.05, and not within none."""
    score, y = drawn(20_000)
    extra = np.random.default_rng(1).normal(size=20_000)
    fresh = Bout(rows(y, score), rows(y, score + 0.5 * extra))
    part = [Slice("p", "p = 1", np.arange(20_000))]
    found = checks.slices(fresh, part, ("auc",), LoopSpec(margin=margin))
    assert fresh.worse("auc").low > 0
    assert fresh.worse("auc").high < 0.05
    assert found.passed == passes


def test_a_part_with_too_few_of_a_class_says_nothing() -> None:
    """A part with 3 rows of the rarer class is counted as too small, not judged."""
    score, y = drawn(1_000)
    ones = np.flatnonzero(y == 1)
    part = np.sort(np.r_[ones[:3], np.flatnonzero(y == 0)[:200]])
    fresh = Bout(rows(y, score), rows(y, -score))
    found = checks.slices(fresh, [Slice("p", "p = 1", part)], ("log_loss",), SETTINGS)
    assert found.passed
    assert (found.facts["num_slices"], "1 part had too few rows" in found.sentence) == (0, True)


def test_a_person_may_confirm_one_origin() -> None:
    """A gain from one origin alone is believed when a person says that it is right."""
    score, y = drawn(600)
    origin = np.where(np.arange(600) < 300, "north", "south")
    y = np.where(origin == "south", np.random.default_rng(2).random(600) < 0.95, y).astype(int)
    fresh = Bout(rows(y, score), rows(y, np.where(origin == "south", 3.0, score)), origins=origin)
    assert not checks.origin(fresh, "").passed  # type: ignore[union-attr]
    found = checks.origin(fresh, "a new shop opened")
    assert found is not None
    assert (found.passed, "a new shop opened" in found.sentence) == (True, True)


def test_a_handful_of_trusted_rows_is_not_enough_to_believe() -> None:
    """60 trusted rows, where half of `gate_rows` are asked for: the change waits."""
    verdict = gate(bout(500, 0.3, 0.8), bout(60, 0.6, 0.6, seed=1))
    assert verdict.unconfirmed
    assert "too few trusted older rows" in verdict.reason


@pytest.mark.parametrize(("margin", "waits"), [(0.05, False), (0.0, True)])
def test_trusted_rows_may_lose_less_than_the_margin(margin: float, waits: bool) -> None:
    """Surely worse by about 0.01 on trusted rows: believed within a margin of 0.05."""
    score, y = drawn(20_000)
    extra = np.random.default_rng(1).normal(size=20_000)
    history = Bout(rows(y, score), rows(y, score + 0.5 * extra))
    verdict = judge(bout(500, 0.3, 0.8), history, metric="auc", settings=LoopSpec(margin=margin))
    assert verdict.unconfirmed == waits


def test_a_jump_of_a_class_holds_a_better_challenger_back() -> None:
    """Half of the zeros relabelled as ones: better on fresh rows, no worse on trusted ones, and
    still it waits, because the inputs give no reason for so many ones."""
    score, y = drawn(800)
    rng = np.random.default_rng(3)
    flipped = np.where((y == 0) & (rng.random(800) < 0.5), 1, y)
    fresh = Bout(rows(flipped, score), rows(flipped, score + 1.0))
    past, truth = drawn(2_000, seed=4)
    history = Bout(rows(truth, past), rows(truth, past))
    verdict = gate(fresh, history)
    assert failed(verdict) == ["history"]
    assert "The share of class" in verdict.reason


def test_a_challenger_that_ranks_better_is_not_taken_for_noise() -> None:
    """Noisy labels raise everybody's loss; one that orders the fresh rows better is believed."""
    score, y = drawn(1_500, scale=3.0)
    rng = np.random.default_rng(5)
    noisy = np.where(rng.random(1_500) < 0.15, 1 - y, y)
    weak = 0.3 * score + rng.normal(size=1_500)
    fresh = Bout(rows(noisy, weak), rows(noisy, 0.8 * score))
    past, truth = drawn(3_000, seed=6, scale=3.0)
    history = Bout(rows(truth, 0.3 * past + rng.normal(size=3_000)), rows(truth, 0.8 * past))
    assert fresh.difference("auc").low > 0
    assert gate(fresh, history).promote


def test_an_interval_turned_round_keeps_its_ends() -> None:
    """`worse` is `difference` seen from the other side: low below value below high."""
    fresh = bout(400, 0.4, 0.8)
    better, worse = fresh.difference("log_loss"), fresh.worse("log_loss")
    assert worse.low < worse.value < worse.high
    assert (worse.low, worse.high) == (-better.high, -better.low)


def test_rows_of_one_unit_count_once() -> None:
    """Every row five times: as independent rows the interval would be far too short."""
    score, y = drawn(100)
    extra = np.random.default_rng(1).normal(size=100)
    pair = [np.tile(values, 5) for values in (score, 0.5 * score + extra)]
    given = rows(np.tile(y, 5), pair[0]), rows(np.tile(y, 5), pair[1])
    apart = Bout(*given).difference("log_loss")
    together = Bout(*given, units=np.tile(np.arange(100), 5)).difference("log_loss")
    assert (together.high - together.low) > 1.8 * (apart.high - apart.low)


def test_a_champion_that_knows_nothing_is_not_called_reversed() -> None:
    """Guesses at random lie on the wrong side half of the time; surely so in 1 % of draws."""
    told = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        given = Rows.build(rng.integers(0, 2, 100), rng.random(100))
        told += reversed_labels(given) is not None
    assert told <= 8


def test_a_jump_in_a_few_rows_is_chance() -> None:
    """40 % become 70 % in ten rows: too few to speak of a jump; in 1,000 rows it is one."""
    before = rows(np.tile([0, 0, 0, 1, 1], 200), np.full(1_000, -0.4))
    few = rows(np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 1]), np.full(10, -0.4))
    many = rows(np.tile([0, 0, 0, 1, 1, 1, 1, 1, 1, 1], 100), np.full(1_000, -0.4))
    assert moved_labels(before, few) is None
    assert moved_labels(before, many) is not None


ORIGINS: dict[str, Any] = {
    "the others are too few to contradict": ([(300, 1.0, 0.2), (10, 1.0, 1.0)], None),
    "a tiny origin is no leader": ([(300, 1.0, 0.8), (300, 1.0, 0.8), (5, 3.0, 1.0)], None),
    "nobody gains": ([(300, 0.99, 1.0), (300, 0.5, 1.5)], None),
    "a third as much as the leader is no loner": ([(300, 1.0, 0.4), (300, 1.0, 0.8)], None),
    "one alone": ([(300, 1.0, 0.2), (300, 1.0, 1.0)], "'0' alone"),
}


@pytest.mark.parametrize("case", ORIGINS)
def test_when_one_origin_stands_alone(case: str) -> None:
    """Rows, the champion's loss and the challenger's of each origin."""
    parts, told = ORIGINS[case]
    origin = np.concatenate([np.full(count, str(k)) for k, (count, _, _) in enumerate(parts)])
    champion = losing(*((count, loss) for count, loss, _ in parts))
    challenger = losing(*((count, loss) for count, _, loss in parts))
    found = one_origin(champion, challenger, origin)
    assert found is None if told is None else told in str(found)


def test_numbers_have_no_classes_that_could_jump() -> None:
    """Labels that are numbers are not asked for the share of a class."""
    values = np.linspace(0, 9, 300)
    given = Rows.build(values, values, values="regression")
    assert moved_labels(given, given) is None


def test_going_back_shares_its_error_over_two_metrics() -> None:
    """Surely worse at the error of one metric alone, and not at half of it: kept."""
    given = bout(300, 0.62, 0.55, seed=11)
    chances = [chance_beyond(given.worse(name), 0.0) / 2 for name in ("auc", "log_loss")]
    assert min(chances) > 1e-6
    assert surely_worse(given, "auc", 1.5 * min(chances)) is None
    assert surely_worse(given, "auc", 2.5 * min(chances)) is not None


def test_a_decision_wakes_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alarms, failures and rollbacks are pages; what was held or decided is a note."""
    heard: dict[str, bool] = {}

    def deliver(messages: Any, settings: Any) -> list[Any]:
        del settings
        heard.update({message.data["what"]: message.page for message in messages})
        return []

    monkeypatch.setattr("loopline.loop.receivers.deliver", deliver)
    sinks = SinkSettings(webhook={"url": "http://127.0.0.1:9/", "send": "all"})
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        diary = Diary(ledger, "shop")
        for what in ("alarm", "failed", "rolled_back", "held", "decided"):
            diary.tell(what, "It happened.", pages=1)
        notify(ledger, diary, sinks)
    assert heard == {
        "alarm": True, "failed": True, "rolled_back": True, "held": False, "decided": False
    }  # fmt: skip
