"""Every splitter keeps the promises of `loopline.splits.base`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.errors import SplitError
from loopline.splits.base import HeldOut
from loopline.splits.random import RandomSplitter
from loopline.splits.rows import SplitRows, connected
from loopline.splits.spec import FOLD_TRAIN, FOLD_VALID, TEST, TRAIN, SplitSettings
from loopline.splits.splitters import SPLITTERS
from loopline.testing.splitters import check_splitter, example_rows

SETTINGS = {
    "random": SplitSettings("random"),
    "stratified": SplitSettings("stratified"),
    "group": SplitSettings("group", group=("group",)),
    "group_stratified": SplitSettings("group_stratified", group=("group",)),
    "time": SplitSettings("time", time=("t",), num_folds=3, gap=25.0),
    "group_time": SplitSettings("group_time", group=("group",), time=("t",), num_folds=2),
    "predefined": SplitSettings("predefined", column="part"),
}


def rows_for(method: str, seed: int, num_rows: int = 400) -> SplitRows:
    """Example rows whose units follow what the method honours."""
    sparse = example_rows(seed, num_rows, twin_share=0.02 if "group" in method else 0.2)
    if "group" in method:
        return sparse
    rows = replace(sparse, groups={}, units=connected(sparse.twins, []))
    if method == "predefined":  # an honest column: twins made single, order left out
        alone = np.arange(num_rows)
        return replace(rows, twins=alone, units=alone, order=None, clock=None)
    return rows


@pytest.mark.parametrize("method", sorted(SPLITTERS))
def test_every_splitter_passes_the_kit(method):
    """No unit straddles, shares hold, and the order of the rows plays no part, on most tables."""
    passed = 0
    for seed in range(12):
        try:
            check_splitter(SPLITTERS[method], SETTINGS[method], rows_for(method, seed))
        except SplitError:
            continue
        passed += 1
    assert passed >= 9


def test_the_kit_catches_a_splitter_that_cuts_units():
    """A splitter that looks at rows instead of units fails the kit."""

    class Careless(RandomSplitter):
        def hold_out(self, rows, settings, seed):
            side = np.where(rows.keys % 5 == 0, TEST, TRAIN).astype(np.int8)
            return HeldOut(side)

    with pytest.raises(AssertionError, match="units straddle test"):
        check_splitter(Careless(), SETTINGS["random"], rows_for("random", 0))


def test_a_given_split_loses_near_duplicates_and_windows_that_straddle():
    """With near duplicates and windows across its sides a given split still passes the kit."""
    passed = 0
    for seed in range(12):
        rows = example_rows(seed, 400, near_share=0.05, longest_window=3)
        period = rows.order // 16  # the middle one tests, the others validate in turn
        part = np.where(period == 2, -1, period)
        rows = replace(rows, twins=np.arange(400), groups={}, part=part)
        asked = replace(SETTINGS["predefined"], time=("t",), label_end="end", gap=10.0)
        with suppress(SplitError):
            out = check_splitter(SPLITTERS["predefined"], asked, rows)
            passed += "near duplicate of a test row" in out.reasons
    assert passed >= 9


@pytest.mark.parametrize(
    ("changes", "promise"),
    [
        ({"near_share": 0.3}, "sets of near duplicates straddle test"),
        ({"longest_window": 5}, "label windows meet across test"),
    ],
)
def test_the_kit_catches_near_duplicates_and_windows(changes, promise):
    """A splitter that knows neither fails the kit on rows that have them."""
    rows = example_rows(0, 400, twin_share=0.0, **changes)
    rows = replace(rows, groups={}, units=np.arange(400), twins=np.arange(400))
    with pytest.raises(AssertionError, match=promise):
        check_splitter(RandomSplitter(), SETTINGS["random"], rows)


def test_the_kit_catches_a_splitter_that_depends_on_row_order():
    """A splitter that takes the first rows fails the kit."""

    class First(RandomSplitter):
        def hold_out(self, rows, settings, seed):
            side = np.full(rows.num_rows, TRAIN, dtype=np.int8)
            side[: rows.num_rows // 5] = TEST
            return HeldOut(side)

    alone = replace(rows_for("random", 0), units=np.arange(400))
    with pytest.raises(AssertionError, match="must not depend on the order"):
        check_splitter(First(), SETTINGS["random"], alone)


@given(
    seed=st.integers(0, 10**6),
    num_rows=st.integers(20, 300),
    num_groups=st.integers(2, 80),
    twin_share=st.floats(0.0, 0.9),
    near_share=st.sampled_from([0.0, 0.1, 0.5]),
    longest_window=st.sampled_from([0, 1, 15]),
    share=st.floats(0.05, 0.6),
    num_folds=st.sampled_from([0, 2, 3, 5]),
    method=st.sampled_from(sorted(set(SPLITTERS) - {"predefined"})),
)
@settings(max_examples=120, deadline=None)
def test_any_table_is_split_honestly_or_refused(
    seed, num_rows, num_groups, twin_share, near_share, longest_window, share, num_folds, method
):
    """Whatever groups, times, windows and near duplicates there are: honest, or a SplitError."""
    rows = example_rows(
        seed,
        num_rows,
        num_groups=num_groups,
        twin_share=twin_share,
        near_share=near_share,
        longest_window=longest_window,
    )
    if "group" not in method:
        near = [] if rows.alike is None else [rows.alike]
        rows = replace(rows, groups={}, units=connected(rows.twins, near))
    if "time" not in method:
        rows = replace(rows, reach=None, until=None)
    chosen = replace(SETTINGS[method], test_share=share, num_folds=num_folds, seed=seed)
    with suppress(SplitError):
        check_splitter(SPLITTERS[method], chosen, rows)


def test_random_shares_are_exact():
    """100 rows without duplicates, share 0.2, 5 folds: 20 test, and 16 validate in each fold."""
    rows = replace(example_rows(0, 100), units=np.arange(100), labels=None, classes=())
    out = check_splitter(SPLITTERS["random"], SETTINGS["random"], rows)
    assert int((out.side == TEST).sum()) == 20
    assert (out.folds == FOLD_VALID).sum(axis=0).tolist() == [16] * 5
    assert (out.folds == FOLD_TRAIN).sum(axis=0).tolist() == [64] * 5


def test_stratified_shares_are_exact():
    """70/20/10 rows of three classes, share 0.2: 14/4/2 test, and folds differ by one at most."""
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    rows = replace(example_rows(0, 100), units=np.arange(100), labels=labels)
    out = check_splitter(SPLITTERS["stratified"], SETTINGS["stratified"], rows)
    assert np.bincount(labels[out.side == TEST]).tolist() == [14, 4, 2]
    for fold in range(5):
        valid = np.bincount(labels[out.folds[:, fold] == FOLD_VALID], minlength=3)
        assert np.abs(valid - [11.2, 3.2, 1.6]).max() < 1.0
        assert 15 <= valid.sum() <= 17


def test_another_seed_gives_another_split():
    """The seed decides which rows test, in every method that chooses at random."""
    for method in ("random", "stratified", "group", "group_stratified", "group_time"):
        rows = rows_for(method, 3)
        one = SPLITTERS[method].assign(rows, SETTINGS[method])
        two = SPLITTERS[method].assign(rows, replace(SETTINGS[method], seed=1))
        assert not np.array_equal(one.side, two.side), method


def test_every_unit_tests_about_as_often_as_its_share():
    """Over 200 seeds each of 50 groups, small or large, tests near 20 % of the time."""
    sizes = np.where(np.arange(50) < 5, 20, 4)
    units = np.repeat(np.arange(50), sizes)
    base = example_rows(0, units.size)
    rows = replace(base, units=units, labels=None, classes=())
    chosen = np.zeros(50)
    for seed in range(200):
        asked = replace(SETTINGS["group"], seed=seed, num_folds=0)
        side = SPLITTERS["group"].assign(rows, asked).side
        chosen[np.unique(units[side == TEST])] += 1
    assert chosen.min() > 15
    assert chosen.max() < 70
    assert 0.12 < chosen[:5].mean() / 200 < 0.28  # the large ones are neither first nor last


def test_time_by_hand():
    """Ten times, share 0.3, gap 20 at 10 a step: 7-9 test, 6 falls into the gap, 0-5 train."""
    order = np.arange(10)
    rows = replace(
        example_rows(0, 10), units=order, order=order, clock=order * 10.0, labels=None, classes=()
    )
    asked = SplitSettings("time", test_share=0.3, time=("t",), gap=20.0, num_folds=0)
    out = SPLITTERS["time"].assign(rows, asked)
    assert out.side.tolist() == [0, 0, 0, 0, 0, 0, 2, 1, 1, 1]
    assert out.reasons == {"in the gap": 1}


def test_forward_folds_by_hand():
    """Twelve times, no gap, 3 folds: each period of 3 validates after all earlier ones trained."""
    order = np.arange(12)
    rows = replace(example_rows(0, 12), units=order, order=order, labels=None, classes=())
    folds = SPLITTERS["time"].fold(rows, SplitSettings("time", time=("t",), num_folds=3), 0)
    assert folds[:, 0].tolist() == [1] * 3 + [2] * 3 + [0] * 6
    assert folds[:, 1].tolist() == [1] * 6 + [2] * 3 + [0] * 3
    assert folds[:, 2].tolist() == [1] * 9 + [2] * 3


def test_equal_times_never_straddle():
    """Four rows share the time at the border: all four test."""
    order = np.array([0, 1, 2, 3, 4, 5, 6, 6, 6, 6])
    rows = replace(example_rows(0, 10), units=np.arange(10), order=order, labels=None, classes=())
    asked = SplitSettings("time", test_share=0.3, time=("t",), num_folds=0)
    assert SPLITTERS["time"].assign(rows, asked).side.tolist() == [0] * 6 + [1] * 4


def test_group_time_serves_panels():
    """Groups that live all the time: test rows are late and of other groups than training's."""
    group = np.repeat(np.arange(20), 10)
    order = np.tile(np.arange(10), 20)
    rows = replace(
        example_rows(0, 200),
        units=group,
        groups={"g": group},
        order=order,
        clock=order * 1.0,
        labels=None,
        classes=(),
    )
    asked = SplitSettings("group_time", group=("g",), time=("t",), num_folds=0)
    out = check_splitter(SPLITTERS["group_time"], asked, rows)
    # 10 groups test with 2 late rows each, 10 train with 8 early rows each: 20 of 100 kept.
    assert np.bincount(out.side).tolist() == [80, 20, 100]


def with_units(units, **changes):
    base = example_rows(0, len(units), num_classes=2)
    plain = {"labels": None, "classes": ()} | changes
    return replace(base, units=np.asarray(units), **plain)


def test_one_group_is_refused():
    """A single group cannot stand on two sides."""
    rows = with_units([0] * 50)
    with pytest.raises(SplitError, match=r"at least 2 units .* by 'group', 'house'; the 50 rows"):
        SPLITTERS["group"].assign(rows, SETTINGS["group"])


def test_fewer_groups_than_folds_are_refused():
    """Four groups make one test group and three folds, not five."""
    rows = with_units(np.repeat(np.arange(5), 10))
    with pytest.raises(SplitError, match=r"5 folds need at least 5 units .* make 4\."):
        SPLITTERS["group"].assign(rows, SETTINGS["group"])


def test_a_group_that_is_too_large_is_refused_with_numbers():
    """A group of half the rows cannot make a fifth; the message has its size and a row."""
    rows = with_units([0] * 50 + [1] * 50)
    with pytest.raises(SplitError, match=r"20\.0% of 100 rows .* has 50 rows \(50\.0%\)"):
        SPLITTERS["group"].assign(rows, SETTINGS["group"])


def test_a_class_missing_from_a_side_is_refused():
    """All rows of class 'b' hang together, so one side lacks it."""
    labels = np.array([1] * 5 + [0] * 45)
    rows = with_units([0] * 5 + list(range(1, 46)), labels=labels, classes=("a", "b"))
    with pytest.raises(
        SplitError, match=r"Class 'b' has no row in the \w+ side: its 5 rows make 1"
    ):
        SPLITTERS["stratified"].assign(rows, SETTINGS["stratified"])


def test_a_class_rarer_than_folds_is_refused():
    """Four rows of a class: one tests, three cannot validate in five folds."""
    labels = np.array([1] * 4 + [0] * 96)
    rows = with_units(np.arange(100), labels=labels, classes=("a", "b"))
    with pytest.raises(SplitError, match=r"Class 'b' has no row in the validation rows of fold"):
        SPLITTERS["stratified"].assign(rows, SETTINGS["stratified"])


def test_one_time_is_refused():
    """When all rows have the same time there is no latest part."""
    rows = with_units(np.arange(30), order=np.zeros(30, dtype=np.int64))
    with pytest.raises(SplitError, match="All 30 rows have the same time"):
        SPLITTERS["time"].assign(rows, SETTINGS["time"])


def test_ties_that_make_the_share_impossible_are_refused():
    """Two times with half of the rows each cannot give a fifth."""
    rows = with_units(np.arange(30), order=np.repeat([0, 1], 15))
    with pytest.raises(SplitError, match=r"equal times stay together, 15 rows .* holds 50\.0%"):
        SPLITTERS["time"].assign(rows, SETTINGS["time"])


def test_a_gap_that_eats_the_training_side_is_refused():
    """A gap longer than the history leaves nothing to train on."""
    order = np.arange(30)
    rows = with_units(order, order=order, clock=order * 1.0)
    asked = SplitSettings("time", time=("t",), gap=1000.0)
    with pytest.raises(SplitError, match=r"leaves the training side empty.*24 in the gap"):
        SPLITTERS["time"].assign(rows, asked)


def test_predefined_duplicates_on_both_sides_are_refused_with_an_example():
    """Rows 0 and 3 have equal features and stand on different sides."""
    rows = replace(
        with_units([0, 1, 2, 0], part=np.array([-2, -2, -1, -1])), twins=np.array([0, 1, 2, 0])
    )
    with pytest.raises(SplitError, match=r"equal features on both sides .* row 0 and row 3"):
        SPLITTERS["predefined"].assign(rows, replace(SETTINGS["predefined"], num_folds=0))


def predefined_rows(part, **changes):
    """Rows that nothing ties together, with a given column."""
    alone = np.arange(len(part))
    free = {"twins": alone, "groups": {}, "order": None, "clock": None}
    return replace(with_units(alone, part=np.array(part)), **(free | changes))


def test_predefined_groups_on_both_sides_are_refused_with_an_example():
    """Rows 0 and 3 are of one home and stand on different sides."""
    rows = predefined_rows([-2, -2, -1, -1], groups={"home": np.array([0, 1, 2, 0])})
    with pytest.raises(SplitError, match=r"rows of one 'home' on both sides .* row 0 and row 3"):
        SPLITTERS["predefined"].assign(rows, replace(SETTINGS["predefined"], num_folds=0))


def test_predefined_folds_may_not_share_a_group():
    """Rows 0 and 2 are of one home: the first validates in fold 0 while the other trains there."""
    rows = predefined_rows([0, 0, 1, 1, -1], groups={"home": np.array([0, 1, 0, 2, 3])})
    with pytest.raises(SplitError, match="one 'home' on both sides of training and validation of"):
        SPLITTERS["predefined"].assign(rows, SETTINGS["predefined"])


def test_predefined_sides_must_go_forward_in_time():
    """Test row 2 is earlier than training row 1: the column is refused, both rows named."""
    order = np.array([0, 5, 3, 9])
    rows = predefined_rows([-2, -2, -1, -1], order=order, clock=order * 1.0)
    with pytest.raises(SplitError, match=r"test row 2 is not later than training row 1"):
        SPLITTERS["predefined"].assign(rows, replace(SETTINGS["predefined"], num_folds=0))


def test_group_time_refuses_a_share_that_whole_groups_cannot_make():
    """Two groups of 50, one after the other: a tenth for testing can only be a sixth."""
    group, order = np.repeat([0, 1], 50), np.arange(100)
    rows = with_units(group, groups={"g": group}, order=order, clock=order * 1.0)
    asked = SplitSettings("group_time", group=("g",), time=("t",), num_folds=0, test_share=0.1)
    with pytest.raises(SplitError, match=r"should hold 10\.0% .* only hold 16\.7% \(10 of 60\)"):
        SPLITTERS["group_time"].assign(rows, asked)


def test_predefined_without_a_test_side_is_refused():
    """Only an explicit share of 0 allows a column that marks no test rows."""
    rows = replace(with_units(np.arange(6), part=np.array([0, 0, 1, 1, 2, 2])), groups={})
    rows = replace(rows, twins=np.arange(6), order=None)
    with pytest.raises(SplitError, match=r"leaves the test side empty.*test_share: 0"):
        SPLITTERS["predefined"].assign(rows, SETTINGS["predefined"])
    out = SPLITTERS["predefined"].assign(rows, replace(SETTINGS["predefined"], test_share=0.0))
    assert out.folds.tolist() == [[2, 1, 1]] * 2 + [[1, 2, 1]] * 2 + [[1, 1, 2]] * 2
