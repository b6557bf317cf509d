"""Labels: late, twice, unknown, and what they show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from tests.monitor.streams import CLASSES, reference, rows, window

from loopline.monitor.class_losses import ClassLosses
from loopline.monitor.reference import Reference
from loopline.monitor.settings import MonitorSettings
from loopline.monitor.watcher import Watcher


def _labels(num_rows: int, seed: int, error: float) -> dict[str, str]:
    y = rows(num_rows, seed, error=error)["y"]
    return {f"{seed}-{place}": CLASSES[code] for place, code in enumerate(y)}


def test_a_doubled_error_is_found_within_350_labels_in_the_median() -> None:
    """10 % wrong become 20 %: of seven streams the median needs at most 350 labels."""
    found = []
    for seed in range(7):
        watcher = Watcher.learn(reference(20_000), MonitorSettings(window=200))
        first = None
        for part in range(10):
            key = 1_000 + 50 * seed + part
            error = 0.1 if part < 5 else 0.2
            watcher.check(window(200, key, error=error))
            given = list(_labels(200, key, error).items())
            for at in range(0, 200, 40):
                checked = watcher.observe(dict(given[at : at + 40]))
                late = (part - 5) * 200 + at + 40
                if first is None and any(a.kind == "performance" for a in checked.alarms):
                    first = late
        assert first is not None
        found.append(first)
    assert min(found) > 0
    assert np.median(found) <= 350


def test_labels_are_found_whenever_they_come() -> None:
    """All labels of ten windows, long after and in reverse: the rise is found as well."""
    watcher = Watcher.learn(reference(5_000), MonitorSettings(window=100))
    labels: dict[str, str] = {}
    for seed in range(10):
        watcher.check(window(100, 300 + seed, error=0.3))
        labels |= _labels(100, 300 + seed, 0.3)
    checked = watcher.observe(dict(reversed(labels.items())))
    (alarm,) = [a for a in checked.alarms if a.kind == "performance"]
    assert alarm.impact is not None
    assert alarm.impact.why == "measured on labels"
    assert alarm.rows


def test_odd_labels_are_told_and_do_not_count() -> None:
    """Unknown rows, a label again, one that contradicts, one that is no class: four remarks."""
    watcher = Watcher.learn(reference(), MonitorSettings(window=100))
    watcher.check(window(100, 3))
    assert not watcher.observe({"3-0": "yes", "3-1": "no"}).remarks
    odd = watcher.observe({"nobody": "yes", "3-0": "yes", "3-1": "yes", "3-2": "maybe"})
    told = " ".join(odd.remarks)
    for words in ("not known", "came again", "contradicted", "could not be read"):
        assert words in told
    assert watcher.outcomes is not None
    assert len(watcher.outcomes.buffer) == 2


def test_rows_that_wait_too_long_are_forgotten_and_told() -> None:
    """With room for 150 rows, 50 of the first 200 are forgotten."""
    watcher = Watcher.learn(reference(), MonitorSettings(window=200, pending_rows=150))
    assert "50 rows without a label" in " ".join(watcher.check(window(200, 3)).remarks)


def test_a_window_that_comes_twice_counts_once() -> None:
    """The same rows again are told and wait once."""
    watcher = Watcher.learn(reference(), MonitorSettings(window=100))
    watcher.check(window(100, 3))
    assert "had been seen before" in " ".join(watcher.check(window(100, 3)).remarks)
    assert watcher.outcomes is not None
    assert len(watcher.outcomes.pending) == 100


def test_labels_without_outcomes_in_the_reference_are_left_aside() -> None:
    """There is nothing to compare them with, and that is said."""
    made = rows(1_000, 1)
    watcher = Watcher.learn(Reference(made["frame"]), MonitorSettings(window=100))
    assert "left aside" in " ".join(watcher.observe({"a": "yes"}).remarks)


def test_a_slice_that_fails_alone_is_named() -> None:
    """One city of three is wrong in half of its rows; the slice alarm names it."""
    watcher = Watcher.learn(reference(5_000), MonitorSettings(window=400, slices="city"))
    causes = set()
    for seed in range(4):
        made = window(400, 600 + seed)
        y = rows(400, 600 + seed)["y"]
        rome = (made.frame["city"] == "Rome").to_numpy()
        y = np.where(rome & (np.arange(400) % 2 == 0), 1 - y, y)
        watcher.check(made)
        told = {f"{600 + seed}-{k}": CLASSES[code] for k, code in enumerate(y)}
        causes |= {alarm.cause for alarm in watcher.observe(told).alarms}
    assert ("slice", "city = 'Rome'") in causes
    assert ("slice", "city = 'Oslo'") not in causes


def test_probabilities_that_lie_are_told() -> None:
    """A model that says 0.9 and 0.1 where the class comes in half of the rows is off."""
    watcher = Watcher.learn(reference(5_000), MonitorSettings(window=400))
    made = window(400, 5)
    watcher.check(made)
    checked = watcher.observe({f"5-{k}": "yes" for k in range(400)})
    (alarm,) = [a for a in checked.alarms if a.kind == "calibration"]
    assert alarm.what == "bias"
    assert "more often than stated" in alarm.sentence


def test_the_expected_error_follows_calibrated_probabilities() -> None:
    """Rows answered with 0.9 that are right in 70 % have an expected error of 0.3, not of 0.1."""
    rng = np.random.default_rng(0)
    p = np.where(rng.random(4_000) < 0.5, 0.9, 0.1)
    y = np.where(rng.random(4_000) < 0.3, p < 0.5, p > 0.5).astype(np.int64)
    losses = ClassLosses.learn(Reference(pl.DataFrame({"x": p}), p, y))
    assert losses.expected(np.array([0.9, 0.1])) == pytest.approx([0.3, 0.3], abs=0.03)


def test_losses_by_hand() -> None:
    """Error, Brier score and absolute error of a row each."""
    made = rows(200, 1)
    error = ClassLosses.learn(Reference(made["frame"], made["prediction"], made["y"]))
    assert error.of(np.array([0.8, 0.8]), np.array([1.0, 0.0])).tolist() == [0.0, 1.0]
    brier = ClassLosses.learn(
        Reference(made["frame"], made["prediction"], made["y"], metric="log_loss")
    )
    assert brier.of(np.array([0.8]), np.array([0.0]))[0] == pytest.approx(0.64)


def test_a_labelled_row_that_comes_again_waits_no_more() -> None:
    """A window whose rows have their labels comes again: told, and no label is waited for."""
    watcher = Watcher.learn(reference(), MonitorSettings(window=100))
    watcher.check(window(100, 3))
    watcher.observe(_labels(100, 3, 0.1))
    assert "100 rows had been seen before" in " ".join(watcher.check(window(100, 3)).remarks)
    assert watcher.outcomes is not None
    assert not watcher.outcomes.pending


def test_labelled_rows_are_not_remembered_for_ever() -> None:
    """With room for 150 rows, of 300 labelled ones the oldest 150 are forgotten."""
    watcher = Watcher.learn(reference(), MonitorSettings(window=100, pending_rows=150))
    for seed in (3, 4, 5):
        watcher.check(window(100, seed))
        watcher.observe(_labels(100, seed, 0.1))
    assert watcher.outcomes is not None
    assert len(watcher.outcomes.labelled) == 150
    assert "3-0" not in watcher.outcomes.labelled
    assert "not known" in " ".join(watcher.observe({"3-0": "yes"}).remarks)


def test_labels_of_rows_without_a_time_are_judged_by_their_order() -> None:
    """A chunk in which a row has no time is cut by places, and tells no time that it does not
    know."""
    watcher = Watcher.learn(reference(), MonitorSettings(window=100))
    made = window(100, 3, error=0.9)
    assert made.time is not None
    watcher.check(replace(made, time=np.full(100, np.nan)))
    checked = watcher.observe(_labels(100, 3, 0.9))
    (alarm,) = [a for a in checked.alarms if a.kind == "performance"]
    assert alarm.since is not None
    assert alarm.since.startswith("label ")
