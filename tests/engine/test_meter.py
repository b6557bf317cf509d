"""Rates, and model FLOPs by hand."""

from __future__ import annotations

import pytest
from tests.engine.nets import Points, net

from loopline.engine.loop import train
from loopline.engine.meter import Flops, Meter, Reading
from loopline.engine.run import prepare
from loopline.engine.settings import TrainSettings

SETTINGS = TrainSettings(batch_size=6, steps=20, save_every=4, evaluate_every=10)


def test_flops_by_hand() -> None:
    """8B at 8,192 positions: the two conventions differ by an eighth, as is published."""
    flops = Flops(parameters=7_504_924_672, layers=32, width=4096, length=8192)
    assert flops.full == pytest.approx(5.79e10, rel=2e-3)
    assert flops.causal == pytest.approx(5.15e10, rel=2e-3)


def test_readings_say_what_was_done() -> None:
    """Rates agree with each other, MFU with the rate, and the share of waiting is a share."""
    meter = Meter(every=5, flops=Flops(100, 1, 2, 3), peak=1e9)
    train(prepare(Points(), net(), SETTINGS, events=[meter]))
    assert [reading.step for reading in meter.readings] == [5, 10, 15, 20]
    for reading in meter.readings:
        assert reading.samples_per_second > 0
        assert 1 <= reading.weight_per_second / reading.samples_per_second <= 7
        assert reading.mfu_full == pytest.approx(reading.weight_per_second * 672 / 1e9)
        assert reading.mfu_causal == pytest.approx(reading.weight_per_second * 636 / 1e9)
        assert 0.0 <= reading.wait_share <= 1.0
        assert reading.peak_bytes > 10_000_000
    assert meter.readings[-1].seconds_left == 0.0


def test_without_a_card_there_is_no_mfu() -> None:
    """No peak, no share of it."""
    meter = Meter(flops=Flops(100, 1, 2, 3))
    train(prepare(Points(), net(), SETTINGS, events=[meter]))
    assert meter.readings[0].mfu_full is None


def test_the_progress_line_says_what_a_person_wants_to_know() -> None:
    """Rate, tokens, waiting, memory, time left; utilisation in both conventions on a card."""
    reading = Reading(
        step=10, loss=0.5, norm=1.0, lr=2e-5, samples_per_second=1234.0, weight_per_second=98765.0,
        mfu_full=0.45, mfu_causal=0.42, wait_share=0.02, peak_bytes=3_100_000_000,
        seconds_left=130.4,
    )  # fmt: skip
    assert reading.sentence() == (
        "learning rate 2e-05, 1,234 rows/s, 98,765 tokens/s, MFU 45% (42% causal), waits 2%, "
        "3.1 GB, 2:10 left"
    )
    run = train(prepare(Points(), net(), SETTINGS, events=[Meter(every=5)]))
    assert run.told.endswith("0:00 left")
