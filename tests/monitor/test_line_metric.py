"""The line's own metric, estimated from the predictions alone, beside simulated truth."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopline.evaluate.metrics import metric as read_metric
from loopline.monitor.alarm import Alarm, Impact, LineChange
from loopline.monitor.line_metric import LineMetric
from loopline.monitor.reference import Reference
from loopline.monitor.settings import MonitorSettings
from loopline.monitor.tasks import WATCHED
from loopline.monitor.watcher import Watcher
from loopline.monitor.window import Window


def answered(count, seed, shift=0.0, sure=1.6):
    """Rows of a world where the outcome follows the score; the model is too sure of itself."""
    rng = np.random.default_rng(seed)
    score = rng.normal(shift, 1.0 - 0.5 * (shift != 0), count) * 1.5 - 0.5
    truth = (rng.random(count) < 1 / (1 + np.exp(-score))).astype(np.float64)
    return score, 1 / (1 + np.exp(-sure * score)), truth


def learned(metric, seed=0):
    score, stated, truth = answered(4_000, seed)
    frame = pl.DataFrame({"score": score})
    reference = Reference(
        frame, stated, truth, None, classes=("no", "yes"), threshold=0.4, metric=metric
    )
    return reference, WATCHED[reference.task].learn(reference)


def truly(metric, seed, **world):
    """The metric on 100,000 labelled rows."""
    _, stated, truth = answered(100_000, seed, **world)
    chosen = read_metric(metric)
    return chosen.score(chosen.rows(truth.astype(int), stated, threshold=0.4)).value


@pytest.mark.parametrize("metric", ["auc", "pr_auc", "log_loss", "f1", "balanced_accuracy", "mcc"])
def test_the_estimate_is_true_where_inputs_move(metric):
    """Scores move by 1 and come closer together, outcomes follow as before.

    Over 12 references and windows the change that truly happened lies in the 95 % interval in at
    least 10 (of 60 in 57 to 60, by metric), and the mean of the estimates is near it.
    """
    wanted = truly(metric, 99, shift=1.0) - truly(metric, 98)
    inside, changes = 0, []
    for seed in range(12):
        line = LineMetric.learn(*learned(metric, 100 + seed))
        found = line.change(answered(1_500, 200 + seed, shift=1.0)[1])
        inside += found.low <= wanted <= found.high
        changes.append(found.change)
    assert inside >= 10
    assert abs(np.mean(changes) - wanted) < 0.02


def three(count, seed, shift=0.0):
    """Rows of three classes, with probabilities that are too sure."""
    rng = np.random.default_rng(seed)
    scores = rng.normal([shift, 0, 0], [1.5, 1.0, 0.8], (count, 3))
    chance = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    truth = (rng.random(count)[:, None] > chance.cumsum(axis=1)).sum(axis=1)
    stated = np.exp(1.5 * scores) / np.exp(1.5 * scores).sum(axis=1, keepdims=True)
    return stated, np.minimum(truth, 2).astype(np.float64)


@pytest.mark.parametrize("metric", ["log_loss", "balanced_accuracy"])
def test_the_estimate_is_true_of_three_classes(metric):
    """One class becomes likelier; at least 10 of 12 intervals hold what truly happened."""
    chosen = read_metric(metric)
    before, after = (
        chosen.score(chosen.rows(truth.astype(int), stated)).value
        for stated, truth in (three(100_000, 98), three(100_000, 99, shift=1.5))
    )
    inside = 0
    for seed in range(12):
        stated, truth = three(4_000, seed)
        frame = pl.DataFrame({"x": truth})
        reference = Reference(frame, stated, truth, None, classes=("a", "b", "c"),
                              task="multiclass", metric=metric)  # fmt: skip
        line = LineMetric.learn(reference, WATCHED[reference.task].learn(reference))
        found = line.change(three(1_500, 50 + seed, shift=1.5)[0])
        inside += found.low <= after - before <= found.high
    assert inside >= 10


def test_a_metric_that_is_known_by_hand():
    """Two kinds of rows of three classes: the log loss is the mean of -chance × log stated."""
    stated = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])

    class Same:
        def apply(self, given):
            return given

    line = LineMetric(read_metric("log_loss"), Same(), 0.5, np.array([1.0]), np.ones(2), stated)
    found = line.expected(np.tile(stated, (20, 1)))
    assert found.value == pytest.approx(-(stated * np.log(stated)).sum() / 2)
    assert found.rows == 40


@pytest.mark.parametrize("metric", ["accuracy", ""])
def test_what_the_loss_says_already_is_not_said_twice(metric):
    """An error is one minus the accuracy."""
    assert LineMetric.learn(*learned(metric)) is None


def test_numbers_have_no_such_estimate():
    """From an absolute error no RMSE follows, so nothing is said."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=500)
    stated = y + rng.normal(size=500)
    reference = Reference(pl.DataFrame({"x": y}), stated, y, None, task="regression", metric="rmse")
    assert LineMetric.learn(reference, WATCHED[reference.task].learn(reference)) is None


def test_a_small_window_says_nothing():
    """A metric of 29 rows is noise."""
    line = LineMetric.learn(*learned("auc"))
    assert line.change(np.full(29, 0.5)) is None


def test_alarms_tell_it_and_keep_it():
    """The impact of a moved column names the AUC too, in words and in data."""
    watcher = Watcher.learn(learned("auc")[0], MonitorSettings(window=400, rate="400/day"))
    score, stated, _ = answered(400, 5, shift=1.0)
    checked = watcher.check(Window(pl.DataFrame({"score": score}), stated))
    alarm = next(alarm for alarm in checked.alarms if alarm.kind == "column")
    assert alarm.impact.line.metric == "auc"
    assert alarm.impact.line.high < 0
    assert ", auc -0." in str(alarm.impact)
    assert "in this window (from the predictions alone" in str(alarm.impact)
    assert Alarm.from_dict(alarm.to_dict()) == alarm


def test_an_impact_reads_like_a_sentence():
    """Both numbers with their intervals, and what they rest on."""
    line = LineChange("auc", 0.9, -0.043, -0.06, -0.026)
    told = str(Impact("error", 0.05, 0.03, 0.07, "guessed", line))
    assert told == (
        "error +0.0500 [0.0300, 0.0700], auc -0.0430 [-0.0600, -0.0260] in this window (guessed)"
    )
