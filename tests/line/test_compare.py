"""Runs side by side: what differs, by how much the scores do, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.line.conftest import make_table

import loopline
from loopline.errors import NotFoundError, SettingsError
from loopline.evaluate.rows import Rows
from loopline.evaluate.slices import Slice
from loopline.line.compare import RunComparison, compare_runs
from loopline.line.differences import changes
from loopline.line.finished import finished_run
from loopline.line.paired import Pair, same_rows, slice_lines
from loopline.select.compare import compare as compare_predictions
from loopline.splits.vault import Vault


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compared")


@pytest.fixture(scope="module")
def pair(store: Path, table: pl.DataFrame) -> tuple[loopline.Result, loopline.Result]:
    """The same line with a constant and with a linear model."""
    plain, linear = (
        loopline.fit(table, "bought", models=name, store=store, progress=False)
        for name in ("baseline", "linear")
    )
    return plain, linear


@pytest.fixture(scope="module")
def compared(pair: tuple[loopline.Result, loopline.Result]) -> RunComparison:
    return loopline.compare(*pair)


def test_the_difference_is_the_paired_one_of_the_out_of_fold_predictions(
    compared: RunComparison, pair: tuple[loopline.Result, loopline.Result]
) -> None:
    """Value and interval equal those of comparing the stored predictions by hand."""
    first, second = (finished_run(result.project, result.run) for result in pair)
    one, two = first.scored(), second.scored()
    assert np.array_equal(one.rows, two.rows)
    view = first.outcomes(one.rows)
    by_hand = compare_predictions("brier", view.target, two.prediction, one.prediction)
    line = next(line for line in compared.pairs[0].lines if line.metric == "brier")
    assert line.difference.value == pytest.approx(by_hand.value)
    assert line.difference.low == pytest.approx(by_hand.low)
    assert compared.pairs[0].num_rows == one.rows.size


def test_a_better_run_is_told_as_better_and_the_other_way_round_as_worse(
    compared: RunComparison, pair: tuple[loopline.Result, loopline.Result]
) -> None:
    """The first sentence says who is better, by how much, on how many rows."""
    found = compared.pairs[0]
    assert " is better than " in found.sentence
    assert f"{found.num_rows} rows that both scored out of fold" in found.sentence
    back = loopline.compare(*reversed(pair)).pairs[0]
    assert " is WORSE than " in back.sentence
    assert back.difference is not None
    assert found.difference is not None
    assert back.difference.value == pytest.approx(-found.difference.value)


def test_settings_differ_by_dotted_key(compared: RunComparison) -> None:
    """What was set otherwise is named as one would set it."""
    keys = {key for key, _, _ in compared.pairs[0].made.settings}
    assert keys == {"models.baseline.family", "models.linear.family"}
    assert changes({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}) == [("a.c", 2, None)]


def test_what_is_the_same_is_said_to_be_the_same(compared: RunComparison) -> None:
    """Data, split, code and packages of two runs on one table do not differ."""
    made = compared.pairs[0].made
    assert (made.rows, made.split, made.code, made.environment) == (None, (), False, ())
    assert "the same rows and columns" in str(compared)


def test_no_test_label_is_opened(
    pair: tuple[loopline.Result, loopline.Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comparing works with the vault's door nailed shut, and the ledger counts no opening."""
    project = pair[0].project
    before = len(project.ledger.events(kind="vault.opened"))

    def shut(*_: object, **__: object) -> None:
        raise AssertionError("the vault was opened")

    monkeypatch.setattr(Vault, "open", shut)
    loopline.compare(*pair)
    assert len(project.ledger.events(kind="vault.opened")) == before


def test_rows_that_only_one_run_has_take_no_part(store: Path, table: pl.DataFrame) -> None:
    """With 60 new rows the shared ones are matched by content; the rest is told of."""
    more = pl.concat([table, make_table(60, seed=9)])
    one = loopline.fit(table, "bought", models="linear", store=store, progress=False)
    two = loopline.fit(more, "bought", models="linear", store=store, progress=False)
    found = loopline.compare(one, two).pairs[0]
    first, second = finished_run(one.project, one.run), finished_run(two.project, two.run)
    mine, theirs = (
        {bytes(digest) for digest in run.outcomes(run.scored().rows).digests}
        for run in (first, second)
    )
    assert found.num_rows == len(mine & theirs)
    assert 0 < found.num_rows < len(mine)
    assert found.made.rows is not None
    assert (found.made.rows.added, found.made.rows.removed) == (60, 0)
    assert any("take no part" in text for text in found.cautions)


def test_a_relabelled_training_row_is_counted_and_no_target_cell_is_shown(
    store: Path, table: pl.DataFrame
) -> None:
    """Corrected labels are told as a number; the rows' difference knows no target."""
    flipped = table.with_columns(
        bought=pl.when(pl.int_range(pl.len()) < 40)
        .then(pl.when(pl.col("bought") == "yes").then(pl.lit("no")).otherwise(pl.lit("yes")))
        .otherwise("bought")
    )
    settings = {"split": {"method": "random"}}
    one = loopline.fit(
        table, "bought", models="linear", store=store, progress=False, settings=settings
    )
    two = loopline.fit(
        flipped, "bought", models="linear", store=store, progress=False, settings=settings
    )
    made = loopline.compare(one, two).pairs[0].made
    assert 0 < made.relabelled <= 40
    assert made.rows is not None
    assert made.rows.is_empty
    assert "bought" not in {shift.name for shift in made.rows.shifts}
    assert "another target than before" in " ".join(made.sentences())


def test_different_targets_are_refused_in_a_sentence(store: Path, table: pl.DataFrame) -> None:
    """Scores of different things are not set side by side; the rest is still told."""
    one = loopline.fit(table, "bought", models="linear", store=store, progress=False)
    two = loopline.fit(table, "x", models="linear", store=store, progress=False)
    found = loopline.compare(one, two).pairs[0]
    assert found.kind == "refused"
    assert "predict different things, 'bought' and 'x'" in found.sentence
    assert found.lines == ()
    assert found.made.columns


def test_classes_in_another_order_are_refused(store: Path, table: pl.DataFrame) -> None:
    """Probabilities of yes and of no are not set side by side."""
    one = loopline.fit(table, "bought", models="linear", store=store, progress=False)
    two = loopline.fit(
        table, "bought", models="linear", store=store, progress=False, settings={"positive": "no"}
    )
    found = loopline.compare(one, two).pairs[0]
    assert found.kind == "refused"
    assert "same `positive`" in found.sentence


def test_runs_without_a_row_in_common_get_an_unpaired_interval_that_says_so(
    store: Path, table: pl.DataFrame
) -> None:
    """The difference of two tables' scores is wide and not taken for one of the models."""
    one = loopline.fit(table, "bought", models="linear", store=store, progress=False)
    two = loopline.fit(make_table(seed=5), "bought", models="linear", store=store, progress=False)
    found = loopline.compare(one, two).pairs[0]
    assert found.kind == "unpaired"
    assert "cannot be told" in found.sentence
    line = found.lines[0]
    error = np.hypot(line.before.standard_error, line.after.standard_error)
    assert line.difference.standard_error == pytest.approx(error)


def test_a_split_that_keeps_less_apart_is_warned_of(store: Path, table: pl.DataFrame) -> None:
    """Rows grouped in one run and not in the other: the scores do not mean the same."""
    grouped = table.with_columns(who=pl.int_range(pl.len()) // 4)
    one = loopline.fit(grouped, "bought", models="linear", store=store, progress=False, group="who")
    two = loopline.fit(
        grouped, "bought", models="linear", store=store, progress=False, ignore="who"
    )
    found = loopline.compare(one, two).pairs[0]
    assert any("keeps less apart is flattered" in text for text in found.cautions)
    assert any("training rows" in text or "Before:" in text for text in found.made.split)
    assert found.lines[0].difference.num_units <= 48


def test_several_runs_widen_each_interval(store: Path, table: pl.DataFrame) -> None:
    """Two looks from one run cost: 97.5 % each, so that 95 % holds for both together."""
    names = [
        loopline.fit(table, "bought", models=name, store=store, progress=False).run
        for name in ("baseline", "linear")
    ]
    third = loopline.fit(table, "bought", models="linear", store=store, progress=False, seed=1)
    with loopline.open_project(store) as project:
        found = compare_runs(project, [*names, third.run])
    assert [pair.difference.level for pair in found.pairs if pair.difference] == [0.975, 0.975]
    assert "97.5 %" in found.pairs[0].cautions[0]


def test_fewer_than_two_runs_are_refused(finished: loopline.Result) -> None:
    """One run, or the same twice, is no comparison."""
    with pytest.raises(SettingsError, match="at least two runs, got 1"):
        loopline.compare(finished)
    with pytest.raises(SettingsError, match="given already"):
        loopline.compare(finished, finished)


def test_an_unfinished_run_is_refused(tmp_path: Path, table: pl.DataFrame) -> None:
    """A run that failed has no scores, and its reason is told again."""
    with pytest.raises(loopline.InputError):
        loopline.fit(table, "bought", models="nothing", store=tmp_path, progress=False)
    done = loopline.fit(table, "bought", models="linear", store=tmp_path, progress=False)
    done.project.ledger.append("run.started", run="run-0000", data={"name": "x", "folder": "."})
    with pytest.raises(NotFoundError, match=r"run-0000 is unfinished\. Only a finished run"):
        loopline.compare(done, "run-0000", store=tmp_path)


def test_everything_is_plain_data(compared: RunComparison) -> None:
    """JSON holds no NaN and can be read back."""
    text = json.dumps(compared.to_dict(), allow_nan=False)
    assert json.loads(text)["pairs"][0]["kind"] == "paired"


def made_pair(rng: np.random.Generator, y: np.ndarray, second: np.ndarray) -> Pair:
    first = np.clip(0.5 + 0.3 * (y - 0.5) + rng.normal(0, 0.1, y.size), 0.01, 0.99)
    rows = np.arange(y.size)
    return Pair(
        rows,
        Rows.build(y, first),
        Rows.build(y, second),
        rows,
        weighted=False,
    )


def test_noise_is_not_told_as_a_finding() -> None:
    """Two equally good models, 20 overlapping slices: at most 5 % of comparisons find anything."""
    rng = np.random.default_rng(0)
    parts = [
        Slice("c", str(number), np.flatnonzero(rng.random(400) < 0.3).astype(np.int64))
        for number in range(20)
    ]
    alarms = 0
    for _ in range(150):
        y = rng.integers(0, 2, 400)
        noise = np.clip(0.5 + 0.3 * (y - 0.5) + rng.normal(0, 0.1, 400), 0.01, 0.99)
        found = slice_lines(made_pair(rng, y, noise), parts, "brier", seed=0)
        assert len(found) == 20
        alarms += any(line.found or line.stands_out for line in found)
    assert alarms <= 14  # of 150; both questions together, each at 5 %, and strongly alike


def test_a_slice_that_got_worse_is_found_where_it_is() -> None:
    """The second model is worse in one slice of five only, and that one is named."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 1500)
    where = np.arange(1500) % 5
    second = np.clip(0.5 + 0.3 * (y - 0.5) + rng.normal(0, 0.1, 1500), 0.01, 0.99)
    second[where == 2] = 0.5
    parts = [Slice("w", f"w = {k}", np.flatnonzero(where == k).astype(np.int64)) for k in range(5)]
    found = slice_lines(made_pair(rng, y, second), parts, "brier", seed=0)
    told = [line.title for line in found if line.found]
    assert told == ["w = 2"]
    assert found[0].difference.high < 0
    assert min(found, key=lambda line: line.apart).title == "w = 2"
    assert found[0].stands_out
    assert found[0].elsewhere == pytest.approx(0, abs=0.01)


def test_a_difference_that_is_the_same_everywhere_makes_no_slice_stand_out() -> None:
    """The second model is worse on all rows: every slice differs from 0, none from the rest."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 1500)
    where = np.arange(1500) % 5
    parts = [Slice("w", f"w = {k}", np.flatnonzero(where == k).astype(np.int64)) for k in range(5)]
    found = slice_lines(made_pair(rng, y, np.full(1500, 0.5)), parts, "brier", seed=0)
    assert all(line.found for line in found)
    assert not any(line.stands_out for line in found)


def test_a_large_part_that_one_run_lacks_is_one_change() -> None:
    """A search that only one run made is told once, not key by key."""
    search = {"method": "random", "trials": 9, "prune": True, "warm": False}
    assert changes({"search": search}, {}) == [("search", search, None)]
    assert changes({"split": {"folds": 3}}, {}) == [("split.folds", 3, None)]


def test_a_slice_without_both_classes_is_not_tested() -> None:
    """Nine rows of a class say nothing of that class."""
    rng = np.random.default_rng(2)
    y = np.concatenate([np.ones(9, np.int64), np.zeros(191, np.int64)])
    pair = made_pair(rng, y, np.full(200, 0.5))
    assert slice_lines(pair, [Slice("c", "c", np.arange(200))], "auc", seed=0) == []


@given(st.lists(st.integers(0, 4), max_size=12), st.lists(st.integers(0, 4), max_size=12))
def test_same_rows_pairs_equal_rows_once(left: list[int], right: list[int]) -> None:
    """As many pairs as the multisets share, each row in one pair at most."""
    one, two = (pl.DataFrame({"x": values}, schema={"x": pl.Int64}) for values in (left, right))
    here, there = same_rows(one, two, copies=True)
    assert len(here) == sum(min(left.count(k), right.count(k)) for k in range(5))
    assert len(set(here.tolist())) == len(here) == len(set(there.tolist()))
    assert one["x"][here].to_list() == two["x"][there].to_list()
    here, _ = same_rows(one, two, copies=False)
    assert len(here) == sum(left.count(k) == 1 == right.count(k) for k in range(5))
