"""Advice on a finished run: what is worth it, what is not, and what each step would change."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import loopline
from loopline.errors import SettingsError
from loopline.evaluate.intervals import Estimate
from loopline.evaluate.rows import Rows
from loopline.line.advise import advise
from loopline.line.again import again
from loopline.line.curves import learning_curve
from loopline.line.files import read_line
from loopline.line.finished import finished_run
from loopline.line.more_search import gained_by_second_half
from loopline.line.pricing import Ground
from loopline.line.pricing_labels import suspects_of, without_suspects
from loopline.line.refits import Variant, is_known, num_folds, refit
from loopline.line.regions import Regions, losses
from loopline.line.steps import Advice, Step, ranked
from loopline.line.trial import OutOfTime
from loopline.splits.vault import Vault


def step(low: float, high: float, **more: object) -> Step:
    """A step of accuracy 0.8 with an interval."""
    worth = Estimate((low + high) / 2, low, high, "", 100, standard_error=(high - low) / 4)
    made = Step("family", "Choose x", "Because.", "accuracy", 0.8, worth, "loopline run")
    return replace(made, **more)  # type: ignore[arg-type]


def interactions(num_rows: int = 600, seed: int = 0) -> pl.DataFrame:
    """A product of two columns, which no linear model sees, and two idle columns."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_rows, 4))
    y = np.sign(x[:, 0] * x[:, 1]) + 0.3 * x[:, 0] + 0.3 * rng.normal(size=num_rows)
    frame = pl.DataFrame({f"x{k}": x[:, k] for k in range(4)})
    return frame.with_columns(y=pl.Series(y))


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> loopline.Result:
    """A linear model where trees would be far better."""
    return loopline.fit(
        interactions(), "y", models=["linear"], progress=False,
        store=tmp_path_factory.mktemp("advised"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def advice(linear: loopline.Result) -> Advice:
    return linear.advise()


def test_a_larger_family_is_advised_where_it_helps(advice: Advice) -> None:
    """Trees see the product; what they bring is measured, though they were not raced."""
    best = advice.steps[0]
    assert (best.kind, best.verdict) == ("family", "worth it")
    assert "lightgbm" in best.title
    assert best.worth.low > 0.2
    assert best.title[1:] in advice.sentence


def test_intervals_are_widened_for_the_number_of_steps(advice: Advice) -> None:
    """All intervals together hold with 95 %: each is one of 1 - 0.05 / steps."""
    assert advice.level == pytest.approx(1 - 0.05 / len(advice.steps))
    assert {found.worth.level for found in advice.steps} == {advice.level}


def test_idle_columns_are_priced_by_a_fit_without_them(advice: Advice) -> None:
    """Columns of noise are found by importance and left out in one fit; only they are named."""
    (found,) = [found for found in advice.steps if found.kind == "drop_columns"]
    assert set(found.facts["columns"]) <= {"x1", "x2", "x3"}
    assert "x2" in found.facts["columns"]
    assert found.verdict != "not worth it"


def test_advice_costs_nothing_when_asked_again(linear: loopline.Result, advice: Advice) -> None:
    """The second answer is the first, and nothing is fitted for it, even without a budget."""
    before = set(linear.project.store.ids())
    again_asked = linear.advise(budget_seconds=0)
    assert again_asked.to_dict() == advice.to_dict()
    assert set(linear.project.store.ids()) == before


def test_no_test_label_is_opened(
    linear: loopline.Result, advice: Advice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Advice is given with the vault's door nailed shut; the ledger counts no opening."""

    def shut(*_: object, **__: object) -> None:
        raise AssertionError("the vault was opened")

    assert advice.steps
    monkeypatch.setattr(Vault, "open", shut)
    before = len(linear.project.ledger.events(kind="vault.opened"))
    linear.advise()
    assert len(linear.project.ledger.events(kind="vault.opened")) == before


def test_without_time_the_dear_steps_are_told_as_unpriced(
    tmp_path_factory: pytest.TempPathFactory, table: pl.DataFrame
) -> None:
    """A budget of nothing prices what is free, and says what the rest would take."""
    result = loopline.fit(
        table, "bought", models=["linear"], store=tmp_path_factory.mktemp("poor"), progress=False
    )
    found = advise(result.project, result.run, budget_seconds=0)
    assert {entry.kind for entry in found.unpriced} >= {"more_rows", "family"}
    reason = next(entry for entry in found.unpriced if entry.kind == "more_rows")
    assert "of the budget are left" in reason.reason
    assert "--budget" in reason.command
    assert found.curve is None


def test_a_deadline_stops_before_the_next_fold(linear: loopline.Result) -> None:
    """What is estimated too low still ends: past the deadline no fold is begun, and it is told."""
    run = finished_run(linear.project, linear.run)
    run.deadline = 0.0
    with pytest.raises(OutOfTime):
        refit(run, Variant("too late", {"late": 1}))
    assert not is_known(run, Variant("too late", {"late": 1}))


def test_forward_splits_are_warned_of(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Folds of a split by time learn from less than the release does; advice says how much less."""
    frame = interactions(300).with_columns(day=pl.int_range(300))
    result = loopline.fit(
        frame, "y", models=["linear"], time="day", progress=False,
        store=tmp_path_factory.mktemp("forward"),
    )  # fmt: skip
    found = result.advise(budget_seconds=0)
    (caution,) = found.cautions
    assert "goes forward in time" in caution
    assert f"{finished_run(result.project, result.run).prepared.train.num_rows}" in caution
    assert caution in str(found)


def test_unused_columns_are_told_and_not_priced(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Names of things and what a person left out are no steps: their worth would be untrue."""
    frame = interactions(300).with_columns(
        customer_id=pl.int_range(300) // 2 + 1000, secret=pl.col("y") * 2
    )
    result = loopline.fit(
        frame, "y", models=["linear"], progress=False, ignore="secret",
        store=tmp_path_factory.mktemp("unused"),
        settings={"columns": {"customer_id": {"role": "id"}}},
    )  # fmt: skip
    found = result.advise(budget_seconds=0)
    (told,) = [entry for entry in found.unpriced if entry.kind == "add_columns"]
    assert "customer_id, secret: left out by the settings" in told.reason
    assert not [step for step in found.steps if "secret" in step.title]


def test_where_nothing_helps_advice_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A constant that is the best there is: pure noise as target, and no step is worth it."""
    rng = np.random.default_rng(5)
    frame = pl.DataFrame({"x": rng.normal(size=300), "y": rng.normal(size=300)})
    result = loopline.fit(
        frame, "y", models=["baseline", "linear"], progress=False,
        store=tmp_path_factory.mktemp("noise"),
    )  # fmt: skip
    found = result.advise()
    assert result.summary["chosen"] == "baseline"
    assert "nothing here is worth it" in found.sentence
    assert not [each for each in found.steps if each.verdict == "worth it"]


def test_everything_is_plain_data(advice: Advice) -> None:
    """JSON holds no NaN, and the text names each command."""
    data = json.loads(json.dumps(advice.to_dict(), allow_nan=False))
    assert [entry["verdict"] for entry in data["steps"]]
    assert data["curve"]["gains"]["2"]["level"] == 0.95
    text = str(advice)
    assert all(found.command in text for found in advice.steps)


def test_a_negative_budget_is_refused(linear: loopline.Result) -> None:
    """Nobody has less than no time."""
    with pytest.raises(SettingsError, match="0 seconds or more, got -1"):
        linear.advise(budget_seconds=-1)


# --- verdicts ---


def test_verdicts_by_hand() -> None:
    """Accuracy 0.8 leaves 0.2: half a percent of it is 0.001, two percent 0.004."""
    assert step(0.001, 0.01).verdict == "worth it"
    assert step(0.0001, 0.0009).verdict == "hardly anything"
    assert step(-0.001, 0.01).verdict == "may be nothing"
    assert step(-0.01, -0.001).verdict == "not worth it"
    assert step(-0.0039, 0.001, simpler=True).verdict == "as good and simpler"
    assert step(-0.0041, 0.001, simpler=True).verdict == "may be nothing"
    assert step(-0.0041, 0.001, simpler=True, margin=0.01).verdict == "as good and simpler"


def test_steps_are_ranked_by_what_surely_pays() -> None:
    """Sure gains by size, then what is as good and simpler, then doubts; other aims last."""
    steps = {
        "small": step(0.002, 0.004),
        "large": step(0.01, 0.02),
        "doubt": step(-0.1, 0.3),
        "simpler": step(-0.001, 0.001, simpler=True),
        "aside": step(0.05, 0.06, aside=True),
        "bad": step(-0.2, -0.1),
    }
    named = {id(value): name for name, value in steps.items()}
    order = [named[id(found)] for found in ranked(list(steps.values()))]
    assert order == ["large", "small", "simpler", "doubt", "bad", "aside"]


def test_gains_of_different_metrics_are_ranked_by_what_is_left() -> None:
    """0.02 is a tenth of what an accuracy of 0.8 leaves, and a hundredth of a log loss of 2."""
    accuracy = step(0.01, 0.03)
    loss = step(0.01, 0.03, metric="log_loss", now=2.0)
    assert accuracy.of_what_is_left == pytest.approx(0.1)
    assert loss.of_what_is_left == pytest.approx(0.01)
    assert ranked([loss, accuracy])[0] is accuracy


# --- labels ---


def flipped(share: float, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """A clear boundary with a share of the labels turned round."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(600, 3))
    y = (x[:, 0] > 0).astype(int)
    wrong = rng.random(600) < share
    frame = pl.DataFrame({f"x{k}": x[:, k] for k in range(3)})
    return frame.with_columns(y=pl.Series(np.where(wrong, 1 - y, y))), wrong


def test_wrong_labels_are_priced_and_listed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With 8 % of labels turned round the step is there, and the rows it lists first are wrong."""
    frame, wrong = flipped(0.08)
    result = loopline.fit(
        frame, "y", models=["lightgbm"], metric="log_loss", progress=False,
        store=tmp_path_factory.mktemp("wrong"),
    )  # fmt: skip
    found = result.advise()
    (labels,) = [each for each in found.steps if each.kind == "fix_labels"]
    run = finished_run(result.project, result.run)
    rows = suspects_of(run)
    assert labels.facts["rows"] == rows[:100].tolist()
    assert wrong[rows[:20]].mean() >= 0.9
    assert labels.facts["sharp"]
    assert labels.worth.value > 0


def test_suspects_are_found_without_the_validation_rows(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What a fold leaves out depends on its own training rows alone."""
    frame, _ = flipped(0.08, seed=1)
    result = loopline.fit(
        frame, "y", models=["linear"], progress=False, store=tmp_path_factory.mktemp("own"),
    )  # fmt: skip
    run = finished_run(result.project, result.run)
    variant = without_suspects(run)
    for number in range(num_folds(run)):
        train, valid = run.prepared.fold(number)
        kept = variant.learn(train)
        assert 0 < train.num_rows - kept.num_rows < 0.2 * train.num_rows
        assert not set(kept.positions.tolist()) & set(valid.positions.tolist())
        assert np.array_equal(variant.learn(train).positions, kept.positions)


# --- where to label ---


def test_losses_by_hand() -> None:
    """Brier of 0.8 for a true 1 is 0.04; a value off by 2 costs 4."""
    rows = Rows.build(np.array([1]), np.array([0.8]))
    assert losses(rows).tolist() == pytest.approx([0.04])
    rows = Rows.build(np.array([1.0]), np.array([3.0]), values="regression")
    assert losses(rows).tolist() == [4.0]


@pytest.fixture
def regions(linear: loopline.Result, advice: Advice) -> Regions:
    """The slices of a run, with losses that a test sets; every row costs about 1 at every size."""
    assert advice.curve is not None
    run = finished_run(linear.project, linear.run)
    found = Regions(Ground(run), learning_curve(run))
    rng = np.random.default_rng(0)
    found.draws = [[1 + 0.1 * rng.normal(size=each.size) for each in same] for same in found.draws]
    return found


def low_x0(regions: Regions) -> np.ndarray:
    """The quarter of the rows with the lowest x0, as a mask."""
    parts = {region.part.title: region.part.rows for region in regions.compared()}
    inside = np.zeros(regions.ground.view.num_rows, dtype=bool)
    inside[next(rows for title, rows in parts.items() if title.startswith("x0 <="))] = True
    return inside


def test_labels_are_asked_for_where_more_rows_help(regions: Regions) -> None:
    """The loss of one quarter falls as 1 / sqrt(n), elsewhere it is higher and stays: it is named.

    Whoever labels where the loss is high would label elsewhere, in vain.
    """
    inside = low_x0(regions)
    for same, point in zip(regions.draws, regions.curve.points, strict=True):
        for each in same:
            each += np.where(inside, 0.4 / np.sqrt(point.share), 1.5)
    found = regions.step()
    assert found is not None
    assert str(found.facts["slice"]).startswith("x0 <=")
    assert found.facts["share_of_loss"] < found.facts["share_of_rows"]
    last = 0.4 * (1 / np.sqrt(regions.curve.points[-2].share) - 1)
    assert found.facts["last_gain_inside"] == pytest.approx(last, abs=0.03)
    assert found.worth.low > 0


def test_where_all_slices_gain_alike_no_slice_is_named(regions: Regions) -> None:
    """Rows are worth the same everywhere, so none are asked for in particular."""
    for same, point in zip(regions.draws, regions.curve.points, strict=True):
        for each in same:
            each += 0.4 / np.sqrt(point.share)
    assert regions.step() is None


def test_a_slice_that_got_worse_with_more_rows_is_not_named(regions: Regions) -> None:
    """Being unlike the others is no reason to label there."""
    inside = low_x0(regions)
    for same, point in zip(regions.draws, regions.curve.points, strict=True):
        for each in same:
            each += np.where(inside, 1.0 + 0.4 * point.share, 0.0)
    assert regions.step() is None


# --- search ---


def test_the_second_half_of_lucky_trials_brought_nothing() -> None:
    """Forty trials that differ by luck alone: the interval of what more bring holds 0."""
    rng = np.random.default_rng(0)
    luck = rng.normal(size=(300, 40))
    mean = luck.mean(axis=0)
    found = gained_by_second_half(mean, luck - mean, np.ones(300), seed=0)
    low, high = np.quantile(found, [0.025, 0.975])
    assert low < 0 < high


def test_a_second_half_that_found_something_is_told() -> None:
    """The best trial stands in the second half and is better by two: that is what it brought."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(300, 10))
    scores[:, 7] += 2
    mean = scores.mean(axis=0)
    found = gained_by_second_half(mean, scores - mean, np.ones(300), seed=0)
    low, high = np.quantile(found, [0.025, 0.975])
    assert 1.5 < low < 2 < high < 2.5


# --- commands ---


def test_commands_run_the_same_line_with_one_change(
    write_line: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command repeats what was given by `--set`, adds the change, and can be read."""
    assert callable(write_line)
    file = write_line(name="shop")
    monkeypatch.chdir(tmp_path)
    done = loopline.run(file, overrides=["seed=3", "models=[linear]"], progress=False)
    run = finished_run(done.project, done.run)
    words = shlex.split(again(run, {"columns.city.role": "ignore"}))
    assert words[:3] == ["loopline", "run", str(tmp_path)]
    spec = read_line(words[2], [word for word in words[3:] if word != "--set"]).spec
    assert spec.seed == 3
    assert [entry.name for entry in spec.models] == ["linear"]
    assert spec.columns["city"].role == "ignore"


def test_a_table_from_memory_is_told_as_a_call(linear: loopline.Result) -> None:
    """There is no file to run again, so the call is shown."""
    run = finished_run(linear.project, linear.run)
    told = again(run, {"models": ["lightgbm"], "columns.x2.role": "ignore"})
    assert told == (
        "loopline.fit(table, target='y', models=['lightgbm'], "
        "settings={'columns': {'x2': {'role': 'ignore'}}}, …)"
    )
