"""Each trigger fires for its own reason, and only when the settings name it."""

from __future__ import annotations

import numpy as np
import pytest

from loopline.errors import SettingsError
from loopline.line.loop_spec import LoopSpec
from loopline.line.spec import make_spec
from loopline.loop.triggers import become_worse, due
from loopline.loop.watching import Notice

PAGE = Notice("drift", "age", "age moved up by 1 sigma.")


def test_nothing_is_due_in_a_quiet_world() -> None:
    """No alarm, no loss, no labels asked for, no schedule: nothing."""
    assert due(LoopSpec(), num_labels=10_000, since_seconds=1e9) is None


def test_a_page_is_a_trigger_and_a_ticket_is_not() -> None:
    """An alarm that pages starts a retraining; one that only tells does not."""
    found = due(LoopSpec(), notices=[PAGE])
    assert found is not None
    assert found.kinds == ("drift",)
    assert found.sentence == PAGE.sentence
    assert due(LoopSpec(), notices=[Notice("drift", "age", "a little", page=False)]) is None


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        ({"drift": False}, {"notices": [PAGE]}),
        ({"performance": False}, {"worse": "The loss rose."}),
        ({"new_labels": 100}, {"num_labels": 99}),
        ({"every": "7d"}, {"since_seconds": 6.9 * 86400}),
        ({"every": "7d"}, {"since_seconds": None}),
    ],
)
def test_what_is_not_asked_for_or_not_reached_is_no_trigger(settings: dict, state: dict) -> None:
    """A trigger that is off, one label short, hours early, or without a clock: nothing."""
    assert due(LoopSpec(**settings), **state) is None


def test_all_reasons_are_told() -> None:
    """Several triggers at once give one attempt with every reason."""
    found = due(
        LoopSpec(new_labels=5, every="1h"),
        notices=[PAGE], worse="The loss rose.", num_labels=7, since_seconds=3 * 3600,
    )  # fmt: skip
    assert found is not None
    assert found.kinds == ("drift", "performance", "labels", "schedule")
    assert found.sentence.endswith("3 hours have passed since the last attempt.")


def test_a_rise_must_be_sure_and_noticeable() -> None:
    """A rise of 4 % is nothing however sure it is; one of 50 % on 20 rows is not sure."""
    rng = np.random.default_rng(0)
    calm = rng.normal(1.0, 0.001, 5000)
    assert become_worse(calm, calm * 1.04, 0.01) is None
    assert become_worse(calm, calm * 1.10, 0.01) is not None
    assert become_worse(rng.exponential(1, 5000), rng.exponential(1.5, 20), 0.01) is None


def test_stable_losses_trigger_as_rarely_as_asked() -> None:
    """Of 400 quiet windows about 5 % may trigger at an error of 5 %; 8 % would be too many."""
    rng = np.random.default_rng(1)
    fired = sum(
        become_worse(rng.exponential(0.4, 2000), rng.exponential(0.4, 300), 0.05) is not None
        for _ in range(400)
    )
    assert fired <= 32


def test_wrong_settings_are_told_at_once() -> None:
    """An unknown key, a window that is none and a share above 1: three sentences."""
    with pytest.raises(SettingsError) as caught:
        make_spec(
            {
                "data": {"source": "a.csv"}, "target": "y",
                "loop": {"windows": 3, "window": "many", "gate_share": 2},
            }
        )  # fmt: skip
    assert len(caught.value.problems) == 3


def test_the_loop_changes_no_run() -> None:
    """The `loop` block is no part of a run's identity, nor of what a release carries."""
    plain = {"data": {"source": "a.csv"}, "target": "y"}
    with_loop = make_spec({**plain, "loop": {"every": "7d"}})
    assert with_loop.digest() == make_spec(plain).digest()
    assert "loop" not in with_loop.portable()


@pytest.mark.parametrize("kind", ["performance", "calibration", "slice"])
def test_an_alarm_that_labels_raised_is_about_performance(kind: str) -> None:
    """Its page is a trigger of performance, not of drift, and its note is none."""
    page = Notice(kind, "loss", "The loss rose.")
    found = due(LoopSpec(), notices=[page])
    assert found is not None
    assert found.kinds == ("performance",)
    assert due(LoopSpec(performance=False), notices=[page]) is None
    assert due(LoopSpec(), notices=[Notice(kind, "loss", "The loss rose.", page=False)]) is None


def test_as_many_labels_as_asked_for_are_enough() -> None:
    """100 labels where 100 are asked for."""
    assert due(LoopSpec(new_labels=100), num_labels=100) is not None


def test_an_unconfirmed_change_asks_for_the_next_window() -> None:
    """Without any other reason."""
    found = due(LoopSpec(), unconfirmed=True)
    assert found is not None
    assert found.kinds == ("confirmation",)


def test_a_short_reference_says_nothing() -> None:
    """20 losses from before and 500 now: not enough to call it a rise."""
    rng = np.random.default_rng(0)
    assert become_worse(rng.normal(1, 0.1, 20), rng.normal(2, 0.1, 500), 0.01) is None
