"""Label errors: the ranking, the noise it estimates, and what it must refuse."""

from __future__ import annotations

import itertools
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from loopline.audit import labels
from loopline.audit.crossfit import OutOfFold, assign_folds, cross_fit
from loopline.audit.labels import label_findings, review_labels
from loopline.audit.labels_joint import confident_joint, read_confidence, thresholds
from loopline.audit.labels_noise import class_noise
from loopline.audit.labels_regression import local_scale, value_noise
from loopline.data.inference import infer_schema
from loopline.data.schema import Column, Schema
from loopline.errors import DataError, LeakError
from loopline.splits.views import TrainView
from loopline.testing.splitters import view_of


def _classes(
    seed: int, *, rate: float = 0.1, kind: str = "symmetric", classes: int = 3, rows: int = 1_500
) -> tuple[TrainView, np.ndarray]:
    """Normal classes a few deviations apart with planted noise, and which labels are wrong."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, rows)
    points = 3.5 * np.eye(classes)[true] + rng.normal(size=(rows, classes))
    given = true.copy()
    if kind == "symmetric":
        hit = rng.random(rows) < rate
        given[hit] = (true[hit] + rng.integers(1, classes, int(hit.sum()))) % classes
    else:
        hit = (true == 0) & (rng.random(rows) < rate * classes)
        given[hit] = 1
    names = [f"x{i}" for i in range(classes)]
    columns = (*(Column(name, "number") for name in names), Column("y", "category", "target"))
    task = "binary" if classes == 2 else "multiclass"
    schema = Schema(columns, task, tuple(f"c{i}" for i in range(classes)))
    frame = pl.DataFrame(points, schema=names).with_columns(
        pl.Series("y", [f"c{i}" for i in given.tolist()])
    )
    return view_of(frame, schema), given != true


def _fitted(view: TrainView, model: str = "linear") -> OutOfFold:
    return cross_fit(view, assign_folds(view, view.units), model=model)


def test_predictions_made_by_hand_are_refused() -> None:
    """An `OutOfFold` of in-sample predictions cannot be made, so it cannot be reviewed."""
    view, _ = _classes(0)
    with pytest.raises(LeakError, match="cannot be made by hand"):
        OutOfFold(view, np.zeros(view.num_rows, int), np.eye(3)[view.target], "mine", object())


def test_plain_probabilities_are_refused() -> None:
    """Anything but an `OutOfFold` is refused with the reason."""
    with pytest.raises(LeakError, match="by out-of-fold predictions only, got ndarray"):
        review_labels(np.eye(3))  # type: ignore[arg-type]


def test_folds_that_saw_their_rows_are_refused() -> None:
    """Predictions of a race's fold on rows that it was fitted on are refused."""
    view, _ = _classes(0)
    every = np.arange(view.num_rows)
    with pytest.raises(LeakError, match="in-sample"):
        OutOfFold.of_folds(view, [every], [np.eye(3)[view.target]], [every], "mine")


def test_confident_joint_by_hand() -> None:
    """Six rows worked by hand: thresholds 0.6 and 0.7, one row of each class is confidently not."""
    p0 = np.array([0.9, 0.8, 0.1, 0.2, 0.1, 0.6])
    prediction = np.stack([p0, 1 - p0], axis=1)
    given = np.array([0, 0, 0, 1, 1, 1])
    least = thresholds(prediction, given, 2)
    np.testing.assert_allclose(least, [0.6, 0.7])
    seen = read_confidence(prediction, given, least)
    assert seen.confident.tolist() == [0, 0, 1, 1, 1, 0]
    np.testing.assert_allclose(seen.margin, [-0.8, -0.6, 0.8, -0.6, -0.8, 0.2])
    joint = confident_joint(seen.confident, given, 2)
    np.testing.assert_allclose(joint.dense(), np.array([[2, 1], [1, 2]]) / 6)
    assert joint.off_diagonal == pytest.approx(1 / 3)


def test_joint_keeps_the_counts_of_the_given_labels() -> None:
    """However few rows are confident, each row of the joint sums to the label's share."""
    view, _ = _classes(1)
    out = _fitted(view)
    joint = review_labels(out).joint
    assert joint is not None
    shares = np.bincount(view.target) / view.num_rows
    np.testing.assert_allclose(joint.dense().sum(axis=1), shares)


def test_ties_at_the_threshold_are_confident() -> None:
    """A class whose probabilities are all equal reaches its own mean in spite of rounding."""
    prediction = np.tile([0.1, 0.9], (7, 1))
    given = np.ones(7, dtype=np.int64)
    seen = read_confidence(prediction, given, thresholds(prediction, given, 2))
    assert (seen.confident == 1).all()


@pytest.mark.parametrize("model", ["linear", "lightgbm"])
@pytest.mark.parametrize(
    ("kind", "first", "suspected"), [("symmetric", 0.85, 0.7), ("asymmetric", 0.7, 0.6)]
)
def test_planted_errors_lead_the_list(
    model: str, kind: str, first: float, suspected: float
) -> None:
    """At 10 % noise the first 50 rows, and the suspected ones, are mostly wrong, and most found.

    Means over four tables: of one table 50 rows give or take six in a hundred.
    """
    measured = []
    for seed in (2, 3, 4, 5):
        view, wrong = _classes(seed, kind=kind)
        review = review_labels(_fitted(view, model))
        measured.append(
            (
                wrong[review.order[:50]].mean(),
                wrong[review.suspected].mean(),
                (wrong & review.suspected).sum() / wrong.sum(),
            )
        )
    in_first, in_suspected, found = np.mean(measured, axis=0)
    assert in_first >= first
    assert in_suspected >= suspected
    assert found >= 0.6


def test_interval_of_the_noise_rate_covers_planted_rates() -> None:
    """Over 24 tables of 5, 10 and 20 % noise of both kinds at most two intervals miss the truth."""
    missed = []
    for (rate, kind), seed in itertools.product(
        itertools.product((0.05, 0.1, 0.2), ("symmetric", "asymmetric")), range(4)
    ):
        view, wrong = _classes(100 + seed, rate=rate, kind=kind)
        found = review_labels(_fitted(view)).noise_rate
        if not found.low <= wrong.mean() <= found.high:
            missed.append((rate, kind, seed, float(wrong.mean()), str(found)))
    assert len(missed) <= 2, missed


def test_overlapping_classes_are_not_called_noise() -> None:
    """Clean labels of classes that overlap by a sixth: the interval reaches down to nearly zero."""
    rng = np.random.default_rng(5)
    true = rng.integers(0, 2, 3_000)
    x = 2.0 * true + rng.normal(size=3_000)
    schema = Schema((Column("x", "number"), Column("y", "category", "target")), "binary", (0, 1))
    view = view_of(pl.DataFrame({"x": x, "y": true}), schema)
    review = review_labels(_fitted(view))
    assert review.noise_rate.low < 0.005
    assert review.joint is not None
    assert review.joint.off_diagonal > 0.05  # the plain joint counts hard rows as wrong labels


@pytest.mark.parametrize("rate", [0.1, 0.2])
def test_a_rate_is_told_though_noise_itself_leaves_much_open(rate: float) -> None:
    """With one label in five wrong no model settles three quarters; what can be settled counts."""
    view, _ = _classes(3, rate=rate)
    review = review_labels(_fitted(view))
    (finding,) = label_findings(review, view)
    assert review.sharp
    assert finding.severity == "warning"
    assert "an estimated" in finding.sentence


def test_columns_that_fail_are_not_called_noise() -> None:
    """Weak columns whose surest rows are wrong as often as the others: no rate is told."""
    rng = np.random.default_rng(5)
    x = rng.integers(0, 2, 3_000)
    y = np.where(rng.random(3_000) < 0.64, x, 1 - x)
    schema = Schema((Column("x", "number"), Column("y", "category", "target")), "binary", (0, 1))
    view = view_of(pl.DataFrame({"x": x, "y": y}), schema)
    review = review_labels(_fitted(view))
    assert not review.sharp
    assert all(each.severity == "note" for each in label_findings(review, view))


def test_ceiling_is_what_noise_leaves() -> None:
    """The best accuracy is one minus the noise rate, end for end."""
    view, _ = _classes(3)
    review = review_labels(_fitted(view))
    assert review.ceiling.value == 1 - review.noise_rate.value
    assert review.ceiling.low == 1 - review.noise_rate.high
    assert review.ceiling.high == 1 - review.noise_rate.low


def test_units_widen_the_interval() -> None:
    """Rows ten times over are no more evidence than once, when their unit says so."""
    rng = np.random.default_rng(0)
    given = rng.integers(0, 2, 400)
    best = np.where(rng.random(400) < 0.1, 1 - given, given)
    sure = rng.random(400)
    often = [np.repeat(values, 10) for values in (best, sure, given)]
    alone = class_noise(*often, np.arange(4_000), 2, 0)
    together = class_noise(*often, np.repeat(np.arange(400), 10), 2, 0)
    assert together.standard_error > 2 * alone.standard_error
    assert together.num_units == 400


def test_same_seed_gives_the_same_review() -> None:
    """Two reviews of the same predictions are equal to the last bit."""
    out = _fitted(_classes(4)[0])
    first, second = review_labels(out, seed=3), review_labels(out, seed=3)
    assert first.noise_rate == second.noise_rate
    assert first.order.tobytes() == second.order.tobytes()


def test_rows_without_prediction_are_left_out() -> None:
    """Rows of fold -1 get no score and no place in the list."""
    view, _ = _classes(5)
    fold = assign_folds(view, view.units)
    fold[:100] = -1
    review = review_labels(cross_fit(view, fold, model="linear"))
    assert np.isnan(review.score[:100]).all()
    assert not np.isin(np.arange(100), review.order).any()
    assert not review.suspected[:100].any()


def test_finding_tells_and_deletes_nothing() -> None:
    """One warning with noise, ceiling and five examples of given and suggested label."""
    view, _ = _classes(6)
    review = review_labels(_fitted(view))
    (found,) = label_findings(review, view)
    assert (found.check, found.severity) == ("label_errors", "warning")
    assert "labels of 1,500 look wrong; an estimated" in found.sentence
    assert found.sentence.endswith(".")
    assert len(found.examples) == 5
    first = found.examples[0]
    assert first["given"] != first["suggested"]
    assert first["row"] == found.rows[0]
    assert found.remedy is not None
    assert not found.remedy.settings
    assert "nothing was changed or left out" in found.remedy.sentence
    assert found.to_dict() == found.to_dict()


def test_clean_separate_classes_give_no_finding() -> None:
    """Labels that a model predicts without doubt are not talked about."""
    x = np.arange(600) % 100
    frame = pl.DataFrame({"x": x, "y": (x >= 50).astype(int), "i": np.arange(600)})
    columns = (Column("x", "number"), Column("i", "number"), Column("y", "category", "target"))
    view = view_of(frame, Schema(columns, "binary", (0, 1)))
    review = review_labels(_fitted(view, "lightgbm"))
    assert label_findings(review, view) == []


def test_equal_rows_of_different_labels_are_told() -> None:
    """Two clusters of equal features with both labels are counted, five rows in all."""
    x = np.r_[np.arange(600) * 1.0, 7.0, 7.0, 9.0]
    y = np.r_[(np.arange(600) >= 300).astype(int), 1, 0, 1]
    columns = (Column("x", "number"), Column("y", "category", "target"))
    view = view_of(pl.DataFrame({"x": x, "y": y}), Schema(columns, "binary", (0, 1)))
    (found,) = label_findings(review_labels(_fitted(view, "lightgbm")), view)
    assert "5 rows in 2 clusters are equal in every feature" in found.sentence
    assert found.facts["disagreeing_rows"] == 5


def test_review_of_other_rows_is_refused() -> None:
    """A finding cannot be made of a review and a view that do not belong together."""
    view, _ = _classes(7)
    review = review_labels(_fitted(view))
    with pytest.raises(DataError, match="other rows"):
        label_findings(review, view.subset(np.arange(100)))


def test_one_class_is_refused() -> None:
    """Labels of one class cannot be compared, and the message names the class."""
    view, _ = _classes(8)
    out = _fitted(view)
    part = view.subset(view.target == 0)
    rows = part.positions
    half = rows[: rows.size // 2], rows[rows.size // 2 :]
    said = [out.prediction[each] for each in half]
    alone = OutOfFold.of_folds(part, list(half), said, [half[1], half[0]], "linear")
    with pytest.raises(DataError, match="labels are 'c0'"):
        review_labels(alone)


def test_three_rows_are_refused() -> None:
    """Fewer than 20 predicted rows say nothing, and the message says so."""
    schema = Schema((Column("x", "number"), Column("y", "number", "target")), "regression")
    view = view_of(pl.DataFrame({"x": [1.0, 2, 3], "y": [1.0, 2, 3]}), schema)
    with pytest.raises(DataError, match="at least 20 rows"):
        review_labels(cross_fit(view, np.array([0, 1, 2]), model="linear"))


def test_ten_thousand_classes_in_bounded_memory() -> None:
    """200,000 rows of 5,000 classes need less than 300 MB beside the predictions."""
    rows, classes = 200_000, 5_000
    given = np.arange(rows) % classes
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row = np.full(classes, 1e-4)
    row[7] = 0.5
    prediction = np.broadcast_to(row, (rows, classes))  # 8 GB if it were written out
    seen = read_confidence(prediction, given, thresholds(prediction, given, classes))
    joint = confident_joint(seen.confident, given, classes)
    class_noise(seen.best, seen.sure, given, np.arange(rows), classes, 0)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert joint.given.size <= rows + classes
    assert (after - before) / 1024 < 300


def test_local_scale_follows_the_spread() -> None:
    """Residuals of 1 at small and 10 at large predictions get scales of 1.48 and 14.8."""
    residual = np.where(np.arange(400) < 200, 1.0, 10.0) * np.tile([-1.0, 1.0], 200)
    scale = local_scale(np.arange(400.0), residual)
    assert scale[0] == pytest.approx(1.4826)
    assert scale[-1] == pytest.approx(14.826)


def test_exact_predictions_have_a_scale() -> None:
    """Where every residual is zero the scale is not, and no value looks wrong."""
    y = np.arange(100.0)
    found = value_noise(y, y.copy(), np.arange(100), 0)
    assert (found.score == 0).all()
    assert found.rate.value == 0.0


@pytest.mark.parametrize("tail", [3, 5, 100])
def test_wrong_values_are_found_and_counted(tail: int) -> None:
    """10 % of values shuffled: the interval holds the rate and the first 50 are wrong ones."""
    covered, sharp = 0, []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        signal = rng.normal(size=2_000)
        y = signal + 0.3 * rng.standard_t(tail, 2_000)
        wrong = rng.random(2_000) < 0.1
        y[wrong] = rng.permutation(y)[wrong]
        found = value_noise(y, signal, np.arange(2_000), seed)
        covered += found.rate.low <= wrong.mean() <= found.rate.high
        sharp.append(wrong[np.argsort(-found.score)[:50]].mean())
    assert covered >= 9
    assert np.mean(sharp) > (0.7 if tail == 3 else 0.9)


def test_rough_predictions_give_no_rate() -> None:
    """Where shuffled values lie no farther off than true ones, the rate is undefined, with why."""
    rng = np.random.default_rng(0)
    found = value_noise(rng.normal(size=2_000), np.zeros(2_000), np.arange(2_000), 0)
    assert np.isnan(found.rate.value)
    assert "too rough" in found.rate.note
    assert not found.suspected.any()


def test_regression_review_by_cross_fit() -> None:
    """A regression table with ten planted values: they lead the list and are told as R2."""
    x = np.random.default_rng(1).normal(size=(1_000, 2))
    y = x @ [3.0, 1.0] + 0.1 * np.random.default_rng(2).normal(size=1_000)
    y[:10] += np.where(y[:10] > 0, -8.0, 8.0)
    columns = (Column("a", "number"), Column("b", "number"), Column("y", "number", "target"))
    frame = pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": y})
    view = view_of(frame, Schema(columns, "regression"))
    review = review_labels(_fitted(view))
    assert set(review.order[:10].tolist()) == set(range(10))
    (found,) = label_findings(review, view)
    assert "an R2 of" in found.sentence
    assert found.facts["joint_off_diagonal"] is None


def test_constant_target_is_refused() -> None:
    """Values that are all equal cannot be compared."""
    with pytest.raises(DataError, match="All 30 values of the target equal 2"):
        value_noise(np.full(30, 2.0), np.zeros(30), np.arange(30), 0)


def test_titanic_with_planted_noise(data_dir: Callable[[str], Path]) -> None:
    """Titanic with 10 % flipped labels: four in ten of the first 50 are planted.

    Its own labels are no rule of its columns either, so the noise rate is the planted one or more.
    """
    frame = pl.read_csv(data_dir("titanic") / "titanic.csv", null_values=[""])
    kept = ["pclass", "sex", "age", "sibsp", "parch", "fare", "embarked", "survived"]
    frame = frame.select(kept)
    rng = np.random.default_rng(0)
    wrong = rng.random(frame.height) < 0.1
    old = frame["survived"].to_numpy()
    noisy = frame.with_columns(pl.Series("survived", np.where(wrong, 1 - old, old)))
    view = view_of(noisy, infer_schema(noisy, target="survived"))
    review = review_labels(_fitted(view, "lightgbm"))
    assert wrong[review.order[:50]].mean() >= 0.4
    assert review.noise_rate.high >= wrong.mean()


def test_the_joint_of_cleanlab() -> None:
    """The same joint, suggested ranking and ranking quality as cleanlab 2.9 within 1 %."""
    count = pytest.importorskip("cleanlab.count")
    rank = pytest.importorskip("cleanlab.rank")
    for seed, classes in itertools.product(range(3), (2, 3, 8)):
        view, wrong = _classes(seed, classes=classes, rate=0.15)
        out = _fitted(view)
        review = review_labels(out)
        assert review.joint is not None
        theirs = count.estimate_joint(view.target, out.prediction)
        assert np.abs(review.joint.dense() - theirs).max() < 0.01
        scores = rank.get_label_quality_scores(
            view.target, out.prediction, method="normalized_margin"
        )
        np.testing.assert_allclose(review.score, 1 - scores, atol=1e-9)
        number = int(wrong.sum())
        mine = wrong[review.order[:number]].mean()
        assert abs(mine - wrong[np.argsort(scores)[:number]].mean()) < 0.01


def test_no_row_is_ever_left_out() -> None:
    """The module has no way to make a smaller view of what it reviews."""
    source = Path(labels.__file__).read_text(encoding="utf-8")
    assert ".at(" not in source
    assert source.count(".subset(") == 1  # the one row of an example


def test_what_makes_a_review_sharp() -> None:
    """Columns that settle three quarters, and a noise rate that is not mostly noise itself."""
    view, _ = _classes(3)
    review = review_labels(_fitted(view))
    assert review.sharp
    assert not replace(review, skill=0.7).sharp
    assert not replace(review, noise_rate=replace(review.noise_rate, high=0.99)).sharp
