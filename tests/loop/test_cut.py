"""Rows that decide are the newest, were trained on by nobody, and decide once."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loopline.line.loop_spec import LoopSpec
from loopline.loop.cut import Cut, TooFew, cut_rows, not_among, set_aside


def digests(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, (n, 2), dtype=np.uint64)


def cut(n: int, known: int, *, used: Any = (), labelled: Any = None, **settings: Any) -> Any:
    """A cut of n rows of which the first ones are known."""
    mask = np.zeros(n, bool)
    mask[list(used)] = True
    return cut_rows(
        digests(n), new=np.arange(n) >= known,
        labelled=np.ones(n, bool) if labelled is None else labelled,
        used=mask, settings=LoopSpec(**settings),
    )  # fmt: skip


def test_the_newest_third_decides_and_all_training_rows_come_before() -> None:
    """Of 1,000 new rows the last 300 decide; nothing at or after them is trained on."""
    found = cut(3000, 2000)
    assert isinstance(found, Cut)
    assert found.gate.tolist() == list(range(2700, 3000))
    assert found.train.max() < 2700
    assert not set(found.train) & set(found.aside)


def test_few_new_rows_all_decide_or_none() -> None:
    """250 new rows: 200 decide (the least); 199: nothing is cut, and the sentence counts them."""
    assert len(cut(2250, 2000).gate) == 200
    found = cut(2199, 2000)
    assert isinstance(found, TooFew)
    assert found.sentence.startswith("199 new labelled rows")


def test_rows_that_decided_never_decide_again() -> None:
    """After an attempt only rows newer than its own decide."""
    first = cut(3000, 2000)
    assert isinstance(cut(3100, 2000, used=first.gate), TooFew)
    second = cut(3400, 2000, used=first.gate)
    assert second.gate.min() > first.gate.max()
    assert set(first.gate) - set(second.aside) <= set(second.train)


def test_rows_without_a_label_are_left_out() -> None:
    """Every second row has no label: half as many can decide and be trained on."""
    found = cut(4000, 2000, labelled=np.arange(4000) % 2 == 0)
    assert len(found.gate) == 300
    assert (found.train % 2 == 0).all()


def test_history_is_what_was_known_and_never_trained_on() -> None:
    """Trusted rows come from before the champion and are in no training set."""
    found = cut(3000, 2000)
    assert found.history.max() < 2000
    assert set(found.history) <= set(found.aside)
    assert 150 < len(found.history) < 250


def test_a_window_of_rows_keeps_the_newest() -> None:
    """`window: 500 rows` trains on the 500 rows before the gate that are not set aside."""
    found = cut(3000, 2000, window="500 rows")
    assert len(found.train) == 500
    assert found.train.max() >= 2690


def test_a_window_of_days_keeps_the_newest() -> None:
    """With a row an hour, `window: 10 days` trains on the 240 hours before the gate."""
    n = 3000
    found = cut_rows(
        digests(n), new=np.arange(n) >= 2000, labelled=np.ones(n, bool), used=np.zeros(n, bool),
        settings=LoopSpec(window="10 days"), seconds=np.arange(n) * 3600.0,
    )  # fmt: skip
    assert isinstance(found, Cut)
    assert found.train.min() >= 2700 - 240


@given(st.integers(1, 30_000), st.integers(0, 5))
def test_what_is_aside_always_was(n: int, seed: int) -> None:
    """As a table grows, no row is set aside that an earlier attempt may have trained on."""
    rows = digests(30_000, seed)
    now = set_aside(rows)[:n]
    assert (set_aside(rows[:n]) | ~now).all()


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)))
def test_copies_are_counted(here: list[int], known: list[int]) -> None:
    """A row is new as often as it stands here more often than there."""

    def rows(values: list[int]) -> np.ndarray:
        return np.array([[v, v] for v in values], np.uint64).reshape(-1, 2)

    mask = not_among(rows(here), rows(known))
    for value in set(here):
        beyond = sum(1 for v, new in zip(here, mask, strict=True) if v == value and new)
        assert beyond == max(0, here.count(value) - known.count(value))


def test_of_many_rows_few_are_set_aside() -> None:
    """Of 100,000 rows about 4,000 are kept from training, not a tenth."""
    assert 3_700 < set_aside(digests(100_000)).sum() < 4_300


def test_nothing_to_train_on_is_told() -> None:
    """All rows before those that would decide have no label: nothing is cut."""
    found = cut(600, 0, labelled=np.arange(600) >= 400)
    assert isinstance(found, TooFew)
    assert found.sentence == "No labelled row stands before those that would decide."
