"""Thresholds: the best rule for each goal, ties, prices, what cannot be reached."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.errors import DataError, SettingsError
from loopline.evaluate.metrics import metric
from loopline.evaluate.threshold import WHY_DEFAULT, Goal, Threshold, choose_threshold


def rows(seed, num_rows=60):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, num_rows)
    y[:2] = [0, 1]
    return y, np.round(np.clip(0.25 * y + rng.random(num_rows) * 0.75, 0, 1), 2)


def every_rule(y, p):
    """Every threshold that the rows can tell apart, one above all of them included."""
    return [*np.unique(p), 1.5]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["f1", "balanced_accuracy", "accuracy", "cost=1,5"]))
def test_no_other_threshold_is_better(seed, goal):
    """The chosen threshold reaches what the best of all possible ones reaches."""
    y, p = rows(seed)
    entry = metric(goal)
    found = choose_threshold(y, p, goal)
    reached = entry.sign * entry(y, p, threshold=found.value)
    best = max(entry.sign * entry(y, p, threshold=at) for at in every_rule(y, p))
    assert reached == pytest.approx(best)
    assert found.achieved.value == pytest.approx(entry(y, p, threshold=found.value))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.5, 0.6, 0.7]))
def test_precision_goal_keeps_precision_and_finds_most(seed, least):
    """With precision held, no other allowed threshold finds more positive rows."""
    y, p = rows(seed)
    try:
        found = choose_threshold(y, p, f"precision>={least}")
    except DataError:
        assert all((y[p >= at].mean() if (p >= at).any() else 0) < least for at in every_rule(y, p))
        return
    assert y[p >= found.value].mean() >= least - 1e-12
    recall = metric("recall")
    allowed = [at for at in every_rule(y, p) if (p >= at).any() and y[p >= at].mean() >= least]
    assert recall(y, p, threshold=found.value) == max(recall(y, p, threshold=at) for at in allowed)


def test_recall_goal_by_hand():
    """With recall >= 2/3 of three positive rows, the threshold stops after the second."""
    y, p = np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.2, 0.5, 0.7, 0.9])
    found = choose_threshold(y, p, "recall>=0.66")
    assert found.value == pytest.approx(0.6)
    assert found.achieved.value == pytest.approx(2 / 3)
    assert found.sentence == (
        "0.6000 is the best out of fold for a recall of at least 0.66: recall 0.6667 "
        "[0.2077, 0.9385], precision 1.000, F1 0.8000. At 0.5 it would be recall 0.6667, precision "
        "0.6667, F1 0.6667. The true recall may be below 0.66."
    )


def test_threshold_lies_midway():
    """Between two scores that do the same, the middle is taken."""
    assert choose_threshold(np.array([0, 1]), np.array([0.2, 0.6]), "f1").value == pytest.approx(
        0.4
    )


def test_neighbouring_floats_stay_apart():
    """Two scores one bit apart are still told apart."""
    low = 0.3
    for _ in range(4):  # the middle of two neighbours rounds down for every other pair
        high = float(np.nextafter(low, 1))
        found = choose_threshold(np.array([0, 1]), np.array([low, high]), "accuracy")
        assert low < found.value <= high
        low = high


def test_ties_go_nearest_to_one_half():
    """Of equally good thresholds the one nearest 1/2 is chosen, whatever the order of rows."""
    y, p = np.array([1, 0, 1, 0]), np.array([0.9, 0.6, 0.35, 0.2])
    assert choose_threshold(y, p, "balanced_accuracy").value == pytest.approx(0.275)
    order = [2, 0, 3, 1]
    assert choose_threshold(y[order], p[order], "balanced_accuracy").value == pytest.approx(0.275)


def test_prices_of_calibrated_probabilities():
    """Calibrated probabilities need no search: 1 / (1 + 5) for prices 1 and 5, 1/2 for accuracy."""
    y, p = rows(3)
    prices = {"false_positive": 1.0, "false_negative": 5.0}
    assert choose_threshold(y, p, prices, calibrated=True).value == pytest.approx(1 / 6)
    assert choose_threshold(y, p, "accuracy", calibrated=True).value == 0.5


def test_dear_false_positives_label_nothing():
    """When a false positive costs too much, no row is labelled positive, even at score 1."""
    y, p = np.array([0, 1, 0, 1]), np.array([1.0, 1.0, 0.2, 0.3])
    found = choose_threshold(y, p, "cost=100,1")
    assert found.value > 1
    assert found.sentence.endswith("No row is labelled positive.")
    assert "(a false alarm costs 100, a miss 1): cost a row 0.500 [" in found.sentence
    assert "precision undefined, recall 0.0000. At 0.5" in found.sentence


def test_weights_move_the_threshold():
    """A row of weight 3 counts as three."""
    y, p, w = np.array([0, 1, 0, 1]), np.array([0.2, 0.4, 0.6, 0.8]), np.array([1.0, 3, 1, 1])
    assert choose_threshold(y, p, "accuracy", weight=w).value == pytest.approx(0.3)
    one = choose_threshold(np.repeat(y, [1, 3, 1, 1]), np.repeat(p, [1, 3, 1, 1]), "accuracy")
    assert one.value == pytest.approx(0.3)


def test_unreachable_precision_tells_the_nearest():
    """A precision that no threshold reaches is refused with the nearest."""
    y, p = np.array([0, 1, 0, 1]), np.array([0.9, 0.8, 0.7, 0.6])
    with pytest.raises(DataError) as caught:
        choose_threshold(y, p, "precision>=0.9")
    assert "the nearest is 0.5 at the threshold 0," in str(caught.value)
    assert "with a recall of 1" in str(caught.value)


@pytest.mark.parametrize("goal", ["f2", "precision>=2", "recall>=x", "cost=1", "precision>0.9", ""])
def test_wrong_goals_are_refused(goal):
    """What is not a goal is answered with the forms that are."""
    with pytest.raises(SettingsError, match="The threshold's goal must be 'f1'"):
        Goal.read(goal)


def test_wrong_prices_are_refused():
    """Prices need both keys and a value above 0."""
    with pytest.raises(SettingsError, match="need the keys false_positive and false_negative"):
        Goal.read({"fp": 1.0})
    with pytest.raises(SettingsError, match="one of them above 0"):
        Goal.read("cost=0,0")


def test_one_class_and_three_classes_are_refused():
    """Without both classes, or with three, there is nothing to choose."""
    with pytest.raises(DataError, match="needs rows of both classes"):
        choose_threshold(np.array([1, 1]), np.array([0.1, 0.2]))
    with pytest.raises(DataError, match="there are 3 classes"):
        choose_threshold(np.array([0, 1]), np.full((2, 3), 1 / 3))


def test_threshold_is_plain_data():
    """A threshold goes through JSON."""
    y, p = rows(4)
    found = choose_threshold(y, p, "recall>=0.9", units=np.arange(60) // 3)
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert Threshold.from_dict(data) == found
    assert data["goal"] == "recall>=0.9"
    assert data["achieved"]["num_units"] == 20
    assert math.isclose(data["value"], found.value)


def test_default_goal_says_why_what_half_gives_and_how_to_change_it():
    """Without a goal it is F1; the sentence has the scores of both thresholds and the reason."""
    y, p = np.array([0, 0, 0, 1, 1, 1]), np.array([0.1, 0.2, 0.35, 0.3, 0.4, 0.9])
    found = choose_threshold(y, p)
    assert found.goal == "f1"
    assert found.value == pytest.approx(0.25)
    assert found.scores == pytest.approx({"precision": 0.75, "recall": 1.0, "f1": 6 / 7})
    assert found.scores_at_half == pytest.approx({"precision": 1.0, "recall": 1 / 3, "f1": 0.5})
    assert "precision 0.7500, recall 1.000. At 0.5 it would be F1 0.5000, pre" in found.sentence
    assert found.sentence.endswith(WHY_DEFAULT)
    assert "`objective.threshold`" in WHY_DEFAULT
    asked = choose_threshold(y, p, "f1")
    assert found.sentence == f"{asked.sentence} {WHY_DEFAULT}"
    assert Threshold.from_dict(found.to_dict()) == found
