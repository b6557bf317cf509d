"""The arithmetic of dealing units out."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.splits.deal import class_targets, deal, latest_share, sorted_order, take
from loopline.splits.rows import connected, digest_codes


@given(st.lists(st.integers(0, 2**64 - 1), max_size=60), st.integers(0, 60))
@settings(max_examples=150, deadline=None)
def test_sorted_order_is_a_stable_sort(values, shift):
    """Also where keys agree in all but their last bits, or entirely."""
    keys = np.array(values, dtype=np.uint64) >> np.uint64(shift)
    assert sorted_order(keys).tolist() == np.argsort(keys, kind="stable").tolist()


def test_digests_that_agree_in_one_half_are_different_rows():
    """Both 64-bit halves count."""
    digests = np.array([[1, 1], [1, 2], [1, 1], [2, 1]], dtype=np.uint64)
    assert digest_codes(digests).tolist() == [0, 1, 0, 2]


@given(st.integers(0, 10**6), st.integers(1, 120), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_connected_equals_a_plain_search(seed, num_rows, num_codes):
    """Components are those of a flood fill over shared codes, numbered by their smallest code."""
    rng = np.random.default_rng(seed)
    arrays = [rng.integers(0, num_codes, num_rows) for _ in range(3)]
    found = connected(arrays[0], arrays[1:])
    label = np.arange(num_rows)
    changed = True
    while changed:
        before = label.copy()
        for codes in arrays:
            for code in np.unique(codes):
                label[codes == code] = label[codes == code].min()
        changed = not np.array_equal(before, label)
    same = found[:, None] == found[None, :]
    assert np.array_equal(same, label[:, None] == label[None, :])
    smallest = [arrays[0][found == unit].min() for unit in range(found.max() + 1)]
    assert smallest == sorted(smallest)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(0, 300))
@settings(max_examples=100, deadline=None)
def test_take_misses_by_less_than_the_smallest_unit_left(sizes, target):
    """What is chosen is nearer to the target than one more or less unit could make it."""
    values = np.array(sizes)
    chosen = take(values, target)
    miss = abs(int(values[chosen].sum()) - target)
    left = values[~chosen]
    if left.size and values[chosen].sum() < target:
        assert miss <= left.min()
    assert values[chosen].sum() <= target + values.max()


@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=8),
    st.sampled_from([(0.2, 0.8), (0.5, 0.5), (0.2,) * 5, (1 / 3,) * 3]),
)
@settings(max_examples=100, deadline=None)
def test_targets_are_within_one_row_or_the_least_that_is_needed(counts, shares):
    """Every class is shared out fully, each side within a row or so of its exact share."""
    rows = np.array(counts)
    targets = class_targets(rows, shares, rows)
    assert np.array_equal(targets.sum(axis=0), rows)
    assert (targets >= 0).all()
    exact = np.outer(shares, rows)
    assert (np.abs(targets - exact) <= np.maximum(1.0, len(shares) * (exact < 1.0))).all()


@given(st.integers(0, 10**6), st.integers(2, 400), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_dealing_single_rows_meets_the_targets_exactly(seed, num_rows, num_classes):
    """Without duplicates every class gets exactly its rounded share on every side."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_rows)
    units = np.arange(num_rows)
    keys = rng.integers(0, 2**64, num_rows, dtype=np.uint64)
    side = deal(units, keys, (0.3, 0.7), seed, labels)
    counts = np.bincount(labels)
    targets = class_targets(counts[counts > 0], (0.3, 0.7), counts[counts > 0])
    found = [np.bincount(side[labels == label], minlength=2) for label in np.unique(labels)]
    assert np.array_equal(np.array(found).T, targets)


def test_the_latest_share_leaves_something_before_it():
    """Two times of unequal weight: the later one is the latest share, whatever was asked."""
    assert latest_share(np.array([4, 9, 9, 9]), 0.9) == 9
    assert latest_share(np.array([3, 3]), 0.5) == 3
