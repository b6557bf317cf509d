"""Label windows: no training row's label came about while a held-out row's did."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.data.fingerprint import row_digests
from loopline.data.schema import Column, Schema
from loopline.errors import DataError, IntegrityError, LeakError, SettingsError, SplitError
from loopline.splits.clock import clock_of
from loopline.splits.propose import propose_split
from loopline.splits.spec import EXCLUDED, FOLD_TRAIN, FOLD_VALID, TEST, TRAIN, SplitSettings
from loopline.splits.split import Split, make_split
from loopline.splits.verify import verify
from loopline.splits.windows import meets, window_ends, window_reach

SCHEMA = Schema(
    (
        Column("x", "number"),
        Column("t0", "number", "time"),
        Column("t1", "number", "ignore"),
        Column("y", "number", "target"),
    ),
    "regression",
)
BY_PART = replace(SCHEMA, columns=(*SCHEMA.columns, Column("part", "category", "ignore")))
FORWARD = SplitSettings("time", time=("t0",), label_end="t1", num_folds=3)


def series(num_rows: int, horizon: float) -> pl.DataFrame:
    """One row a step; each label is known `horizon` steps later."""
    step = np.arange(num_rows, dtype=float)
    return pl.DataFrame(
        {"x": np.sin(step * 1.7) + step, "t0": step, "t1": step + horizon, "y": step}
    )


def made(frame: pl.DataFrame, asked: SplitSettings, schema: Schema = SCHEMA) -> Split:
    return make_split(frame, schema, row_digests(frame), asked)


def test_rows_whose_label_was_not_known_yet_leave_by_hand() -> None:
    """Ten steps, the last two test, labels known after 3: steps 5 to 7 leave, 0 to 4 train."""
    split = made(series(10, 3), replace(FORWARD, num_folds=0))
    assert split.side.tolist() == [TRAIN] * 5 + [EXCLUDED] * 3 + [TEST] * 2
    assert split.certificate.excluded == {"whose label was not known yet": 3}


def test_the_gap_counts_from_the_end_of_the_window() -> None:
    """With a gap of 2 a label must be known two steps before step 8: steps 4 and later leave."""
    split = made(series(10, 3), replace(FORWARD, num_folds=0, gap=2.0))
    assert split.side.tolist() == [TRAIN] * 4 + [EXCLUDED] * 4 + [TEST] * 2
    assert split.certificate.excluded == {"whose label was not known yet": 3, "in the gap": 1}


def test_an_empty_end_means_that_the_label_is_known_at_once() -> None:
    """Rows without an end of their window stay, their neighbours leave."""
    frame = series(10, 3).with_columns(
        t1=pl.when(pl.col("t0").is_in([6.0, 7.0])).then(None).otherwise("t1")
    )
    split = made(frame, replace(FORWARD, num_folds=0))
    assert np.flatnonzero(split.side == EXCLUDED).tolist() == [5]
    nothing = series(10, 3).with_columns(t1=pl.lit(None))
    assert (made(nothing, replace(FORWARD, num_folds=0)).side == EXCLUDED).sum() == 0


def test_forward_folds_are_those_of_walk_forward() -> None:
    """skfolio's WalkForward with the horizon as purged size trains on the very same rows."""
    selection = pytest.importorskip("skfolio.model_selection")
    horizon, size = 4, 24
    split = made(series(4 * size, horizon), replace(FORWARD, test_share=0.0))
    walk = selection.WalkForward(
        test_size=size, train_size=size - horizon, purged_size=horizon, expand_train=True
    )
    pairs = list(walk.split(np.zeros((4 * size, 1))))
    assert len(pairs) == split.num_folds
    for fold, (train, valid) in enumerate(pairs):
        assert np.flatnonzero(split.folds[:, fold] == FOLD_TRAIN).tolist() == train.tolist()
        assert np.flatnonzero(split.folds[:, fold] == FOLD_VALID).tolist() == valid.tolist()


@pytest.mark.parametrize(("horizon", "embargo"), [(0, 0), (3, 0), (3, 2), (7, 4)])
def test_given_folds_are_purged_as_in_combinatorial_purged_cv(horizon: int, embargo: int) -> None:
    """skfolio's CombinatorialPurgedCV leaves out the same rows before and after each fold."""
    selection = pytest.importorskip("skfolio.model_selection")
    size = 30
    frame = series(4 * size, horizon).with_columns(
        part=pl.Series(np.repeat(["0", "1", "2", "3"], size))
    )
    asked = SplitSettings(
        "predefined",
        test_share=0.0,
        time=("t0",),
        label_end="t1",
        column="part",
        gap=float(embargo and embargo + 1),  # a distance of g steps leaves g - 1 rows between
    )
    split = made(frame, asked, BY_PART)
    for fold, (before, after) in enumerate(
        zip(
            _purged(selection, size, horizon + embargo, 0),
            _purged(selection, size, horizon, embargo),
            strict=True,
        )
    ):
        mine = np.flatnonzero(split.folds[:, fold] == FOLD_TRAIN)
        start, stop = fold * size, (fold + 1) * size
        assert mine[mine < start].tolist() == before[before < start].tolist()
        assert mine[mine >= stop].tolist() == after[after >= stop].tolist()


def _purged(selection, size, purged, embargo):
    """The training rows of skfolio for each single held-out fold of four."""
    found = selection.CombinatorialPurgedCV(
        n_folds=4, n_test_folds=2, purged_size=purged, embargo_size=embargo
    )
    # It needs two held-out folds; held out alone, a fold's neighbours are those of pairs apart.
    rows = np.arange(4 * size)
    for fold in range(4):
        kept = np.ones(rows.size, dtype=bool)
        kept[fold * size : (fold + 1) * size] = False
        for train, held in found.split(np.zeros((rows.size, 1))):
            parts = {int(part[0]) // size for part in held}
            if fold in parts:
                (other,) = parts - {fold}
                far = np.abs(rows // size - other) > 1
                kept &= ~far | (rows // size == fold) | np.isin(rows, train)
        yield rows[kept]


def test_a_given_split_by_hand() -> None:
    """Rows 4 and 5 test, labels known after 2: rows 2, 3 and 6, 7 leave; gap 2 takes 1 and 8."""
    part = ["train"] * 4 + ["test"] * 2 + ["train"] * 6
    frame = series(12, 2).with_columns(part=pl.Series(part))
    asked = SplitSettings("predefined", time=("t0",), label_end="t1", column="part", num_folds=0)
    split = made(frame, asked, BY_PART)
    assert np.flatnonzero(split.side == EXCLUDED).tolist() == [2, 3, 6, 7]
    assert split.certificate.excluded == {"whose label window meets that of a test row": 4}
    claims = {claim.structure: claim for claim in split.certificate.claims}
    assert claims["label window"].proven
    assert not claims["time"].required  # it tests on the middle, and says so
    wider = made(frame, replace(asked, gap=2.0), BY_PART)
    assert np.flatnonzero(wider.side == EXCLUDED).tolist() == [1, 2, 3, 6, 7, 8]


@given(
    seed=st.integers(0, 10**6),
    num_rows=st.integers(12, 120),
    num_times=st.integers(4, 60),
    longest=st.integers(0, 20),
    gap=st.sampled_from([0.0, 1.0, 5.0]),
    method=st.sampled_from(["time", "group_time", "predefined"]),
)
@settings(max_examples=80, deadline=None)
def test_no_window_straddles_whatever_the_table(
    seed: int, num_rows: int, num_times: int, longest: int, gap: float, method: str
) -> None:
    """Ties, long windows, empty ends: compared pair by pair, no window meets a held-out one."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, num_times, num_rows).astype(float)
    end = start + rng.integers(0, longest + 1, num_rows)
    empty = rng.random(num_rows) < 0.1
    frame = pl.DataFrame(
        {
            "x": rng.normal(size=num_rows),
            "t0": start,
            "t1": [None if none else value for none, value in zip(empty, end, strict=True)],
            "y": rng.normal(size=num_rows),
            "part": rng.choice(["0", "1", "2", "test"], num_rows),
        },
        schema_overrides={"t1": pl.Float64},
    )
    schema = BY_PART.changed("part", role="group") if method == "group_time" else BY_PART
    asked = SplitSettings(
        method,  # type: ignore[arg-type]
        time=("t0",),
        label_end="t1",
        gap=gap,
        num_folds=2,
        group=("part",) if method == "group_time" else (),
        column="part" if method == "predefined" else None,
    )
    try:
        split = made(frame, asked, schema)
    except SplitError:
        return
    until = np.where(empty, start, end)
    sides = [(split.side == TRAIN, split.side == TEST)]
    sides += [(part == FOLD_TRAIN, part == FOLD_VALID) for part in split.folds.T]
    for left, right in sides:
        for row in np.flatnonzero(left):
            apart = np.maximum(start[right] - until[row], start[row] - until[right])
            assert apart.size == 0 or apart.min() > 0.0
            assert apart.size == 0 or apart.min() >= gap
    assert verify(split, frame, schema) == split.certificate
    assert any(claim.structure == "label window" for claim in split.certificate.claims)


@given(seed=st.integers(0, 10**6), size=st.integers(1, 40), gap=st.sampled_from([0.0, 2.0]))
@settings(max_examples=60, deadline=None)
def test_meeting_windows_are_those_found_pair_by_pair(seed: int, size: int, gap: float) -> None:
    """The search in n log n finds what comparing every pair finds."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 20, size)
    end = start + rng.integers(0, 6, size)
    left = rng.random(size) < 0.5
    found = meets(left, ~left, order=start, reach=end, clock=start, until=end, gap=gap)
    for row in range(size):
        apart = np.maximum(start[~left] - end[row], start[row] - end[~left])
        wanted = bool(left[row] and apart.size and (apart.min() <= 0 or apart.min() < gap))
        assert bool(found[row]) == wanted


def test_ties_are_told_apart_by_further_time_columns() -> None:
    """A window that ends on a day reaches its last hour; a label known at once does not."""
    order, clock = np.array([0, 1, 2, 3]), np.array([1.0, 2.0, 2.0, 3.0])
    until = np.array([2.0, 2.0, 2.5, 3.0])
    assert window_reach(order, clock, until).tolist() == [2, 1, 2, 3]


def test_a_row_moved_over_the_border_fails_verification() -> None:
    """A purged row put back into training is named by the proof of label windows."""
    frame = series(40, 5)
    split = made(frame, FORWARD)
    side = split.side.copy()
    row = int(np.flatnonzero(side == EXCLUDED)[0])
    side[row] = TRAIN
    with pytest.raises(IntegrityError, match=rf"label window of training row {row} meets"):
        verify(replace(split, side=side), frame, SCHEMA)


def test_it_is_claimed_at_every_border() -> None:
    """The certificate proves label windows at the test border and at every fold."""
    split = made(series(60, 3), FORWARD)
    claims = [claim for claim in split.certificate.claims if claim.structure == "label window"]
    assert {claim.border for claim in claims} == {"test", "fold 0", "fold 1", "fold 2"}
    assert all(claim.proven for claim in claims)
    assert claims[0].sentence == ("Training and test: no label window meets one that is held out.")


def test_windows_survive_saving_and_reordering(tmp_path: Path) -> None:
    """A stored split knows its windows again, in any order of the rows."""
    frame = series(60, 3)
    split = made(frame, replace(FORWARD, gap=2.0))
    split.save(tmp_path)
    again = Split.load(tmp_path)
    assert again.settings == split.settings
    assert again.certificate == split.certificate
    back = frame.reverse()
    view = again.align(row_digests(back)).train_view(back, SCHEMA, row_digests(back))
    assert view.reach is not None
    assert np.array_equal(view.reach, (view.target + 3).astype(int))


@pytest.mark.parametrize("gap", [0.0, 2.0])
def test_holdout_knows_which_labels_were_known(gap: float) -> None:
    """A part cut off for early stopping is not met by a window of the rest, nor within the gap."""
    frame = series(100, 6)
    view = made(frame, replace(FORWARD, gap=gap)).train_view(frame, SCHEMA)
    cut = view.holdout(0.2, seed=0)
    assert cut is not None
    rest, part = cut
    assert rest.target.max() + 6 == part.target.min() - max(gap, 1.0)


def test_the_end_of_the_window_is_no_feature() -> None:
    """A column that is known after the outcome is refused as a feature."""
    with pytest.raises(LeakError, match=r"'t1' ends the label's window .* Give it `role: ignore`"):
        made(series(20, 2), FORWARD, SCHEMA.changed("t1", role="feature"))


def test_a_window_that_ends_before_it_starts_is_refused() -> None:
    """The rows are named."""
    frame = series(20, 2).with_columns(t1=pl.when(pl.col("t0") == 7.0).then(6.5).otherwise("t1"))
    with pytest.raises(DataError, match=r"ends before it starts in 1 rows \(row 7\): 't1' must"):
        made(frame, FORWARD)


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("start", "end", "kinds"),
    [
        (datetime(2024, 1, 1), datetime(2024, 1, 2, tzinfo=UTC), r"without .* with a time zone"),
        (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2), r"with a .* without a time zone"),
        (date(2024, 1, 1), datetime(2024, 1, 2), r"\(dates\) .* \(times without"),
        (1.0, date(2024, 1, 2), r"\(numbers\) .* \(dates\)"),
        (1.0, "later", r"\(type String\)"),
    ],
)
def test_kinds_of_time_are_not_mixed(start: object, end: object, kinds: str) -> None:
    """Times with and without zone, dates and numbers are refused together, by name."""
    first, last = pl.Series("t0", [start]), pl.Series("t1", [end])
    with pytest.raises(DataError, match=rf"starts in 't0' .*{kinds}.*one time zone"):
        window_ends(first, last, clock_of(first))


def test_two_zones_are_compared_as_instants() -> None:
    """Noon in Berlin is eleven in UTC: the window is an hour long."""
    start = pl.Series("t0", [datetime(2024, 1, 1, 10, tzinfo=UTC)])
    end = pl.Series("t1", [datetime(2024, 1, 1, 12, tzinfo=BERLIN)])
    clock = clock_of(start)
    assert window_ends(start, end, clock).tolist() == [clock[0] + 3600 * 10**6]


def test_dates_and_a_gap_in_seconds() -> None:
    """Daily rows, labels known after 7 days, a gap of two days: the last nine days before leave."""
    days = [date(2024, 1, 1) + timedelta(days=number) for number in range(50)]
    frame = pl.DataFrame(
        {
            "x": np.arange(50.0),
            "t0": days,
            "t1": [day + timedelta(days=7) for day in days],
            "y": np.arange(50.0),
        }
    )
    split = made(frame, replace(FORWARD, gap=2 * 86_400.0, num_folds=2))
    first = int(np.flatnonzero(split.side == TEST)[0])
    # day 31 + 7 = 38 = 40 - 2: the last that may train
    assert (first, int(np.flatnonzero(split.side == TRAIN)[-1])) == (40, 31)


def test_methods_without_time_refuse_windows() -> None:
    """Dealt at random, windows would meet everywhere: the settings say so."""
    with pytest.raises(SettingsError, match=r"`label_end` needs a method that knows time"):
        SplitSettings("random", label_end="t1")
    with pytest.raises(SettingsError, match=r"`label_end` needs `time`"):
        SplitSettings("predefined", label_end="t1", column="part")
    with pytest.raises(SettingsError, match=r"both name 't0'"):
        SplitSettings("time", time=("t0",), label_end="t0")


def test_windows_longer_than_the_history_are_refused() -> None:
    """Where no label was known in time, nothing is left to train on."""
    with pytest.raises(SplitError, match=r"training side empty.* whose label was not known yet"):
        made(series(30, 100), FORWARD)


def test_the_proposal_keeps_time_for_a_given_split() -> None:
    """A given split that tests on the middle keeps its time column when there are windows."""
    part = ["train"] * 20 + ["test"] * 10 + ["train"] * 20
    frame = series(50, 2).with_columns(part=pl.Series(part))
    asked = {"column": "part", "method": "predefined", "label_end": "t1"}
    chosen, reason = propose_split(BY_PART, frame, asked)
    assert chosen.time == ("t0",)
    assert "Rows whose label was known only in 't1' are left out" in reason


def test_settings_without_windows_keep_their_identity() -> None:
    """A setting that is not used is not written, so stored splits keep their id."""
    assert "label_end" not in SplitSettings("random").to_dict()
    assert SplitSettings.from_dict(FORWARD.to_dict()) == FORWARD
