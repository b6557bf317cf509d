"""Trials that are given up on the way of their first fit, by what it predicts at its rungs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.line.conftest import make_table

import loopline
from loopline.line import trial as trial_module
from loopline.line import trial_rungs
from loopline.line.face import Result
from loopline.line.search_arms import TRIAL
from loopline.line.trial_rungs import NUMBERS, RUNGS, Ladder, Leader
from loopline.line.trial_scores import OUT_OF_FOLD
from loopline.models.base import GivenUp
from loopline.search.pruning import RUNGS_BEFORE, steps
from loopline.search.record import Record


class Chances:
    """A scorer whose answers are given; it notes what was compared."""

    asked: list[tuple[Any, Any]]

    def __init__(self, chance: float) -> None:
        self._chance = chance
        self.asked = []

    def __call__(self, *what: Any) -> Chances:
        del what
        return self

    def chance(self, mine: Any, other: Any) -> float:
        self.asked.append((mine[0], other[0]))
        return self._chance

    def value(self, mine: Any) -> float:
        return float(mine[0])


HELD: Any = SimpleNamespace(positions=np.array([4, 7]))


def climbed(
    monkeypatch: pytest.MonkeyPatch,
    chance: float,
    numbers: list[int],
    leader: int | None,
    start: int = 0,
) -> tuple[Ladder, Chances, int]:
    """A ladder after rungs whose predictions are their numbers, and the rungs it let pass.

    The leader had so many rungs from a number on and predicted 100 + its number at each.
    """
    scorer = Chances(chance)
    monkeypatch.setattr(trial_rungs, "Scorer", scorer)
    ahead = None
    if leader is not None:
        rungs = np.arange(start, start + leader)
        ahead = Leader(rungs, np.tile(100.0 + rungs[:, None], (1, 2)).astype(np.float32))
    line: Any = None
    ladder = Ladder(line, line, ahead, 0.05)
    for passed, number in enumerate(numbers):
        try:
            ladder(HELD, number, np.full(2, float(number)))
        except GivenUp:
            return ladder, scorer, passed
    return ladder, scorer, len(numbers)


def test_a_fit_is_judged_from_a_quarter_of_the_leaders_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader of six rungs, each at twice the way of the one before: the first three are free."""
    _, scorer, passed = climbed(monkeypatch, 0.5, [0, 1, 2, 3, 4, 5], leader=6)
    assert (passed, RUNGS_BEFORE) == (6, 2)
    assert scorer.asked == [(3.0, 103.0), (4.0, 104.0), (5.0, 105.0)]


def test_a_slower_fit_is_compared_with_the_leaders_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the leader's last rung it is the last one that counts."""
    _, scorer, _ = climbed(monkeypatch, 0.5, [0, 1, 2, 3], leader=2)
    assert scorer.asked == [(0.0, 100.0), (1.0, 101.0), (2.0, 101.0), (3.0, 101.0)]


def test_a_fit_that_is_behind_is_given_up_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first rung at which it is judged, and the rung's score stands in for the trial's."""
    ladder, _, passed = climbed(monkeypatch, 0.049, [0, 1, 2, 3, 4], leader=5)
    assert passed == 2
    assert ladder.value == 2.0
    assert ladder.reason.startswith("at rung 3 of fold 1: 2.000 on the rows held out there")
    assert "4.9%" in ladder.reason
    assert climbed(monkeypatch, 0.05, [0, 1, 2, 3, 4], leader=5)[2] == 5


def test_without_a_leader_rungs_are_kept_and_nothing_is_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fit that passes two rungs at once has the second alone."""
    ladder, scorer, _ = climbed(monkeypatch, 0.0, [0, 2], leader=None)
    assert scorer.asked == []
    kept = ladder.arrays()
    assert (kept[RUNGS].tolist(), kept[NUMBERS].tolist()) == ([[0, 0], [2, 2]], [0, 2])


def test_a_leader_that_began_further_on_is_no_measure_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is behind the leader's first rung is not judged; between two the earlier one counts."""
    _, scorer, _ = climbed(monkeypatch, 0.5, [2, 3, 5], leader=2, start=3)
    assert scorer.asked == [(3.0, 103.0), (5.0, 104.0)]


def test_only_the_first_whole_fold_has_rungs() -> None:
    """Not the sample, not the other folds, and none where nothing is to be given up."""
    assert [step.rung_chance for step in steps(3, 20_000, prune=True)] == [0.0, 0.05, 0.0, 0.0]
    assert {step.rung_chance for step in steps(3, 20_000, prune=False)} == {0.0}


# --- whole searches ---------------------------------------------------------------------------


def run(store: Path, rounds: int | str = "auto", **search: Any) -> tuple[Result, list[Record]]:
    """A search whose second trial starts far behind: trees of one split under a huge penalty."""
    settings = {"rounds": rounds, "patience": 25, "min_child_samples": 5}
    result = loopline.fit(
        make_table(600), "bought", models=["linear", {"lightgbm": settings}], store=store,
        progress=False, settings={
            "search": {
                "trials": 5, "space": {"lightgbm": {"l2": [0.001, 1e6], "num_leaves": [2, 12]}},
                "start": {"lightgbm": [{"l2": 1e6, "num_leaves": 2}]},
                "families": ["lightgbm"], **search,
            },
            "split": {"folds": 3}, "threads": 1, "audit": "report",
        },
    )  # fmt: skip
    events = result._project.ledger.events(kind=TRIAL, subject=result.summary["search"]["study"])
    return result, [Record.from_dict(event.data["record"]) for event in events]


def test_a_hopeless_trial_ends_within_its_first_fit(tmp_path: Path) -> None:
    """Its record says at which rung, holds no step, and the trial it lost to holds its rungs."""
    result, records = run(tmp_path)
    assert records[1].state == "pruned"
    assert records[1].reason.startswith("at rung ")
    assert (records[1].steps, records[1].fitted) == ((), ())
    assert records[1].value is not None
    stored = result._project.store.get(str(records[0].artifact)).path(OUT_OF_FOLD)
    assert load_file(stored)[RUNGS].shape[0] >= 3


def test_without_pruning_nothing_is_looked_at(tmp_path: Path) -> None:
    """Every trial comes to its end, and no rung is stored."""
    result, records = run(tmp_path, prune=False)
    assert {record.state for record in records} == {"complete"}
    stored = result._project.store.get(str(records[0].artifact)).path(OUT_OF_FOLD)
    assert RUNGS not in load_file(stored)


def test_fits_of_a_given_length_are_not_looked_at(tmp_path: Path) -> None:
    """60 rounds of a high rate go further than 60 of a low one: equal ways foretell no end.

    On bike_sharing (3,500 hours, 64 trials, two seeds) looking at them cost 2 and 4 % of the RMSE.
    """
    result, records = run(tmp_path, rounds=60)
    assert not any(record.reason.startswith("at rung ") for record in records)
    stored = result._project.store.get(str(records[0].artifact)).path(OUT_OF_FOLD)
    assert RUNGS not in load_file(stored)


def test_a_fold_that_is_in_the_store_is_fitted_again_for_its_rungs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search after a kill that left the first trial's fits but no record is the same search."""
    _, whole = run(tmp_path / "whole")
    kept = trial_module._keep

    def killed(*what: Any) -> None:
        kept(*what)
        raise KeyboardInterrupt

    monkeypatch.setattr(trial_module, "_keep", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    monkeypatch.setattr(trial_module, "_keep", kept)
    _, again = run(tmp_path / "killed")
    assert [record.facts() for record in again] == [record.facts() for record in whole]
    assert any(record.reason.startswith("at rung ") for record in whole)
