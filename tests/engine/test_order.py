"""The stream of rows: every row once an epoch, slices that partition, nothing but arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.engine.feeder import step_rows
from loopline.engine.order import DataOrder, micro_batches, rank_slice
from loopline.errors import SettingsError

SIZES = {"rows": st.integers(1, 60), "batch": st.integers(1, 20), "seed": st.integers(0, 99)}


def _stream(order: DataOrder, steps: int) -> list[tuple[int, int]]:
    pairs = []
    for step in range(steps):
        rows, epochs = order.batch(step)
        assert rows.shape == epochs.shape == (order.batch_size,)
        pairs += list(zip(rows.tolist(), epochs.tolist(), strict=True))
    return pairs


@given(**SIZES, by_length=st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_row_comes_once_an_epoch(rows: int, batch: int, seed: int, by_length: bool) -> None:
    """Over whole epochs each row is taken exactly once, also where lengths are grouped."""
    lengths = np.arange(rows) % 7 if by_length else None
    order = DataOrder(rows, batch, seed, lengths=lengths)
    stream = _stream(order, -(-3 * rows // batch))[: 3 * rows]
    for epoch in range(3):
        part = stream[epoch * rows : (epoch + 1) * rows]
        assert sorted(row for row, _ in part) == list(range(rows))
        assert {number for _, number in part} == {epoch}


@given(**SIZES, step=st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_a_batch_depends_on_its_step_alone(rows: int, batch: int, seed: int, step: int) -> None:
    """A batch asked for out of turn is the batch that a run from the start gets."""
    walked = DataOrder(rows, batch, seed)
    for number in range(step):
        walked.batch(number)
    assert np.array_equal(walked.batch(step)[0], DataOrder(rows, batch, seed).batch(step)[0])


@given(
    rows=st.integers(1, 40),
    world=st.integers(1, 6),
    micro=st.integers(1, 9),
    step=st.integers(0, 9),
)
@settings(max_examples=80, deadline=None)
def test_ranks_and_micro_batches_partition_the_batch(
    rows: int, world: int, micro: int, step: int
) -> None:
    """However a batch is cut, its rows are computed once, in as many pieces on every rank."""
    batch = world + rows % 13
    order = DataOrder(rows, batch, seed=3)
    cut = [step_rows(order, step, rank, world, micro) for rank in range(world)]
    assert len({len(part.parts) for part in cut}) == 1
    assert all(piece.size <= micro for part in cut for piece in part.parts)
    assert all(part.parts[0].size for part in cut)
    found = [int(row) for part in cut for piece in part.parts for row in piece]
    assert sorted(found) == sorted(order.batch(step)[0].tolist())


def test_rank_slices_by_hand() -> None:
    """Seven rows on three ranks: three, two, two, in order."""
    assert [rank_slice(np.arange(7), rank, 3).tolist() for rank in range(3)] == [
        [0, 1, 2], [3, 4], [5, 6],
    ]  # fmt: skip


def test_micro_batches_hold_rows_of_like_length() -> None:
    """Rows are cut by length where lengths are known."""
    lengths = np.array([9, 1, 8, 2])
    cut = micro_batches(np.arange(4), 2, lengths)
    assert [part.tolist() for part in cut] == [[1, 3], [2, 0]]


def test_grouping_by_length_saves_padding_and_keeps_the_order_random() -> None:
    """Grouped batches pad less than half as much, and their mean lengths neither rise nor fall."""
    lengths = np.random.default_rng(0).integers(1, 500, 4_000)

    def padding(order: DataOrder) -> float:
        parts = [lengths[order.batch(step)[0]] for step in range(200)]
        return float(sum((part.max() - part).sum() for part in parts))

    plain = DataOrder(4_000, 20, seed=1)
    grouped = DataOrder(4_000, 20, seed=1, lengths=lengths)
    assert padding(grouped) < 0.5 * padding(plain)
    means = [lengths[grouped.batch(step)[0]].mean() for step in range(200)]
    assert abs(np.corrcoef(means, np.arange(200))[0, 1]) < 0.2


def test_epochs_differ_and_seeds_differ() -> None:
    """Each epoch and each seed has an order of its own."""
    order = DataOrder(50, 10, seed=0)
    assert not np.array_equal(order.epoch(0), order.epoch(1))
    assert not np.array_equal(order.epoch(0), DataOrder(50, 10, seed=1).epoch(0))


def test_without_shuffling_rows_come_as_they_stand() -> None:
    """`shuffle=False` is the order of the table."""
    assert DataOrder(5, 2, shuffle=False).batch(2)[0].tolist() == [4, 0]


def test_impossible_orders_are_refused_all_at_once() -> None:
    """No rows and no batch are told together."""
    with pytest.raises(SettingsError, match="2 problems") as caught:
        DataOrder(0, 0)
    assert caught.value.problems == (
        "There are no rows to train on.",
        "`batch_size` must be at least 1, got 0.",
    )
