"""Studies: equal for equal seeds, whatever the order in which trials end or who was killed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.search.conftest import arms, outcome, run_study

from loopline.digest import canonical_json
from loopline.models.space import Choice, Integer, Number
from loopline.search.arms import Arm, hopeless, turn
from loopline.search.record import NO_TIME, Record, Trial
from loopline.search.study import Study
from loopline.search.suggest import axis, grid_size, is_whole

SAMPLERS = ("random", "tpe", "grid")


def stored(thing: Any) -> Any:
    """A record or an arm as the ledger gives it back: through JSON with sorted keys."""
    return type(thing).from_dict(json.loads(canonical_json(thing.to_dict())))


def facts(study: Study) -> list[dict[str, object]]:
    return [record.facts() for record in study.records]


@pytest.mark.parametrize("sampler", SAMPLERS)
@given(order=st.integers(0, 1_000), parallel=st.integers(1, 5))
@settings(max_examples=8, deadline=None)
def test_order_of_ends_changes_nothing(sampler: str, order: int, parallel: int) -> None:
    """With the same seed, trials and `parallel`, running trials may end in any order."""
    quiet = run_study(sampler, limit=24, parallel=parallel, order=0)
    assert facts(run_study(sampler, limit=24, parallel=parallel, order=order)) == facts(quiet)


@pytest.mark.parametrize("sampler", SAMPLERS)
@given(stop=st.integers(0, 20), order=st.integers(0, 1_000), parallel=st.integers(1, 4))
@settings(max_examples=8, deadline=None)
def test_a_stopped_study_goes_on_to_the_same_end(
    sampler: str, stop: int, order: int, parallel: int
) -> None:
    """Stopped anywhere and restored from what was kept, it ends as if it had not been stopped."""
    kept: list[Record] = []
    run_study(sampler, limit=24, parallel=parallel, order=order, stop_after=stop, keep=kept.append)
    assert len(kept) == min(stop, 24)
    again: list[Record] = []
    went_on = run_study(
        sampler, limit=24, parallel=parallel, order=order + 1, keep=again.append,
        restored=[stored(record) for record in kept], among=tuple(stored(arm) for arm in arms()),
    )  # fmt: skip
    assert facts(went_on) == facts(run_study(sampler, limit=24, parallel=parallel))
    numbers = [record.number for record in [*kept, *again]]
    assert sorted(numbers) == list(range(24))  # none lost, none twice


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_more_trials_begin_with_the_fewer(sampler: str) -> None:
    """A study of 12 trials is the beginning of the one of 24."""
    assert facts(run_study(sampler, limit=24))[:12] == facts(run_study(sampler, limit=12))


def test_seeds_differ() -> None:
    """Another seed gives other trials."""
    assert facts(run_study("random", seed=1)) != facts(run_study("random", seed=2))


def test_a_trial_depends_on_those_before_the_running_ones_only() -> None:
    """With 3 at a time, trial 6 is asked for when 0 to 3 have ended, whatever 4 and 5 do."""
    study = Study(arms(), "random", True, parallel=3, limit=20)
    for number in range(3):
        assert study.ask() == study.asked[number]
    assert study.ask() is None
    study.tell(outcome(study.asked[2]))
    assert study.ask() is None  # trial 3 depends on trial 0
    study.tell(outcome(study.asked[0]))
    fourth = study.ask()
    assert fourth is not None
    assert fourth.number == 3


def test_only_the_trials_before_a_gap_count() -> None:
    """Trial 1 has no record: the study is trial 0, and trial 2 is kept for later."""
    study = Study(arms(), "random", True, parallel=3, limit=3)
    trials = [study.ask() for _ in range(3)]
    assert all(trials)
    for place in (2, 0):
        trial = trials[place]
        assert trial is not None
        study.tell(outcome(trial))
    assert [record.number for record in study.records] == [0]


def test_every_arms_defaults_come_first_then_what_earlier_studies_found() -> None:
    """Trial 0 and 1 are the defaults, 2 the seed of the second arm."""
    flat, steep = arms()
    seeded = Arm(**{**vars(steep), "seeds": ({"x": 0.31, "z": 0.69},)})
    study = run_study("random", limit=4, among=(flat, seeded))
    told = [(record.arm, record.origin) for record in study.records]
    assert told[:3] == [("flat", "defaults"), ("steep", "defaults"), ("steep", "start")]


def test_the_first_dimension_of_a_network_is_looked_at_first() -> None:
    """After the defaults three trials take the rates that lead, all else equal."""
    space = {"rate": Number(1e-4, 1e-2, log=True), "dropout": Number(0.0, 0.5)}
    usual = {"rate": 2e-3, "dropout": 0.1}
    net = Arm("net", "net", 40, space, defaults=usual, lead=(1e-4, 1e-3, 1e-2))
    study = Study((stored(net),), "random", True, limit=6)
    while (trial := study.ask()) is not None:
        study.tell(Record(trial.number, "net", trial.params, trial.origin, "complete", 1.0))
    origins = [record.origin for record in study.records]
    assert origins == ["defaults", "lead", "lead", "lead", "random", "random"]
    assert [record.params["rate"] for record in study.records[1:4]] == pytest.approx(
        [1e-4, 1e-3, 1e-2]
    )
    assert {record.params["dropout"] for record in study.records[1:4]} == {0.1}


def test_bayesian_search_comes_nearer_than_random() -> None:
    """On a smooth surface 40 proposals of TPE end more than twice as near as 40 random ones."""
    away = {}
    for sampler in ("random", "tpe"):
        studies = [run_study(sampler, limit=40, seed=s, among=arms()[1:]) for s in range(10)]
        best = [study.best(study.records) for study in studies]
        away[sampler] = sum(1.0 - float(each.value or 0.0) for each in best if each is not None)
    assert 2 * away["tpe"] < away["random"]


def test_a_grid_tries_every_point_once() -> None:
    """Two by three points, beside the defaults, and then nothing."""
    space = {"depth": Integer(1, 3), "kind": Choice(("a", "b"))}
    arm = Arm("g", "g", 1, space, defaults={"depth": 7, "kind": "a"})
    study = Study((arm,), "grid", True)
    seen = []
    while (trial := study.ask()) is not None:
        seen.append(tuple(trial.params.values()))
        study.tell(Record(trial.number, "g", trial.params, trial.origin, "complete", 1.0))
    assert len(seen) == 7
    assert sorted(seen[1:]) == [(d, k) for d in (1, 2, 3) for k in ("a", "b")]


def test_a_grid_of_ten_whole_numbers_leaves_none_out() -> None:
    """Ten whole numbers are all tried; of eleven, five."""
    assert [len(axis(Integer(1, high))) for high in (10, 11)] == [10, 5]
    assert is_whole({"a": Integer(1, 10), "b": Choice((1, 2))})
    assert not is_whole({"a": Integer(1, 11)})
    assert grid_size({"a": Integer(1, 10), "b": Choice((1, 2))}) == 20


def test_a_small_space_ends_when_all_of_it_was_tried() -> None:
    """Random and Bayesian search of 4 whole numbers make 4 trials, though 30 are allowed."""
    arm = Arm("s", "s", 1, {"depth": Integer(1, 4)}, defaults={"depth": 2})
    for sampler in ("random", "tpe"):
        study = Study((arm,), sampler, True, limit=30)
        tried = []
        while (trial := study.ask()) is not None:
            tried.append(trial.params["depth"])
            study.tell(Record(trial.number, "s", trial.params, trial.origin, "complete", 1.0))
        assert sorted(tried) == [1, 2, 3, 4]


def test_conditions_are_kept_by_every_sampler() -> None:
    """A parameter whose condition does not hold is not proposed, and is where it does."""
    space = {
        "kind": Choice(("plain", "deep")),
        "depth": Integer(1, 8, when={"kind": ("deep",)}),
        "rate": Number(0.1, 1.0),
    }
    arm = Arm("c", "c", 1, space, defaults={"kind": "plain", "rate": 0.5})
    for sampler in SAMPLERS:
        study = Study((arm,), sampler, True, limit=30)
        while (trial := study.ask()) is not None:
            assert ("depth" in trial.params) == (trial.params["kind"] == "deep")
            value = float(trial.params["rate"])
            made = Record(trial.number, "c", trial.params, trial.origin, "complete", value)
            study.tell(made)
        assert {record.params["kind"] for record in study.records} == {"plain", "deep"}


def test_a_gaussian_process_proposes_where_torch_is() -> None:
    """The process comes near the peak of one dimension, and the same records give the same."""
    pytest.importorskip("torch")
    arm = arms()[0]
    first = run_study("gp", limit=9, among=(arm,))
    best = first.best(first.records)
    assert best is not None
    assert abs(best.params["x"] - 0.3) < 0.1
    again = run_study("gp", limit=9, among=(arm,), restored=first.records[:8])
    assert facts(again) == facts(first)
    assert sum(record.origin == "gp" for record in first.records) >= 3


def test_the_worse_arm_gets_fewer_trials() -> None:
    """The arm in second place gets less than its share by dimensions."""
    records = run_study("random", limit=40).records
    counts = {name: sum(record.arm == name for record in records) for name in ("flat", "steep")}
    assert counts["flat"] < 40 / 3
    assert counts["flat"] >= 3


def test_a_hopeless_arm_gets_no_more_trials() -> None:
    """After three trials and one for its dimension, all given up, the turn never comes back."""
    flat, steep = arms()
    lost = [
        Record(n, "flat", {"x": 0.1 * n}, "random", "pruned", 0.1, (0.1,), reason="")
        for n in range(4)
    ]
    good = [Record(n, "steep", {"x": 0.1}, "random", "complete", 0.9) for n in range(4, 60)]
    failed = [Record(n, "flat", {"x": 0.1}, "random", "failed", reason="") for n in range(3)]
    assert hopeless(flat, lost)
    assert hopeless(flat, failed)
    late = Record(9, "flat", {"x": 0.2}, "defaults", "failed", reason=NO_TIME)
    assert hopeless(flat, [late])
    assert not hopeless(flat, lost[:3])
    assert not hopeless(flat, failed[:2])
    assert not hopeless(flat, [*lost, Record(9, "flat", {"x": 0.2}, "random", "complete", 0.2)])
    found = turn(
        (flat, steep), {"flat": 4, "steep": 56}, [*lost, *good],
        higher=True, exhausted=frozenset(),
    )  # fmt: skip
    assert found is steep


def by_seconds(quick: int, dear: int, seconds: float) -> Arm | None:
    """Whose turn it is after quick trials of so many seconds, ahead, and dear ones of 10 s."""
    quick_arm, dear_arm = (Arm(name, name, 1, {"x": Number(0.0, 1.0)}) for name in ("q", "d"))
    took = [("q", seconds, 0.9)] * quick + [("d", 10.0, 0.8)] * dear
    told = [
        Record(n, arm, {"x": n / 999}, "random", "complete", value, seconds=took)
        for n, (arm, took, value) in enumerate(took)
    ]
    return turn(
        (quick_arm, dear_arm), {"q": quick, "d": dear}, told,
        higher=True, exhausted=frozenset(), timed=True,
    )  # fmt: skip


@pytest.mark.parametrize(("quick", "dear", "seconds", "expected"), [
    (19, 1, 1.0, "q"),  # 19 s beside 10 s, of which the arm in second place has half a share: 20 s
    (21, 1, 1.0, "d"),
    (119, 3, 0.001, "q"),  # each counts a tenth of an average arm's: 0.5 s
    (121, 3, 0.001, "d"),
])  # fmt: skip
def test_under_a_budget_arms_share_the_time(
    quick: int, dear: int, seconds: float, expected: str
) -> None:
    """An arm has so many seconds, not trials; very quick ones count more than they take."""
    found = by_seconds(quick, dear, seconds)
    assert found is not None
    assert found.name == expected


def test_turns_that_were_put_down_are_taken_again() -> None:
    """Each of the first trials is of the arm that is named, after them whose turn it is."""
    turns = ("steep", "steep", "flat", "steep", "flat")
    study = Study(arms(), "tpe", True, turns=turns, limit=7)
    while (trial := study.ask()) is not None:
        study.tell(outcome(trial))
    assert tuple(record.arm for record in study.records[:5]) == turns
    assert study.records[2].origin == "defaults"
    assert len(study.records) == 7


def test_a_turn_of_an_arm_with_nothing_left_goes_to_another() -> None:
    """Of two points both are tried; the third turn that names the arm is not its own."""
    small = Arm("small", "small", 10, {"x": Integer(0, 1)}, defaults={"x": 0})
    study = Study((small, arms()[1]), "random", True, turns=("small",) * 3, limit=3)
    while (trial := study.ask()) is not None:
        study.tell(outcome(trial))
    assert [record.arm for record in study.records] == ["small", "small", "steep"]


def test_a_record_counts_once() -> None:
    """Of two records with one number the first holds."""
    trial = Trial(0, "flat", {"x": 0.5}, "defaults")
    first = Record(0, "flat", trial.params, "defaults", "complete", 0.5)
    study = Study(arms(), "random", True, limit=1)
    study.restore([first, Record(0, "flat", trial.params, "defaults", "complete", 0.9)])
    assert study.ask() is None
    assert study.records == [first]


def test_the_earlier_of_equals_is_the_best() -> None:
    """A tie goes to the lower number, in both directions."""
    equal = [Record(n, "flat", {"x": n}, "random", "complete", 0.5) for n in range(3)]
    for higher in (True, False):
        best = Study(arms(), "random", higher).best(equal)
        assert best is not None
        assert best.number == 0
