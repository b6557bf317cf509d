"""Rates, model FLOPs, and a log that a restart does not double."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from tests.engine.nets import Points, net

from loopline.engine.events import Event
from loopline.engine.loop import train
from loopline.engine.meter import Flops, Log, Meter
from loopline.engine.run import Run, prepare
from loopline.engine.settings import TrainSettings
from loopline.errors import EnvironmentProblem

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


class StopAt(Event):
    """Ends a run as a kill would, without a last checkpoint."""

    name = "stop_at"

    def after_step(self, run: Run) -> None:
        if run.state.step == 7:
            raise KeyboardInterrupt


def test_a_log_goes_on_after_a_restart_without_doubles(tmp_path: Path) -> None:
    """Lines behind the checkpoint are taken back; losses are those of an uninterrupted run."""

    def go(folder: Path, *more: Event) -> list[dict[str, float]]:
        meter = Meter(every=1)
        log = Log(folder / "log.jsonl", meter)
        run = prepare(Points(), net(), SETTINGS, folder=folder, events=[meter, log, *more])
        train(run)
        return [json.loads(line) for line in log.file.read_text().splitlines()]

    whole = go(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", StopAt())
    cut = go(tmp_path / "cut")
    steps = [line["step"] for line in cut if line["kind"] == "train"]
    assert steps == sorted(set(steps))
    told = {(line["kind"], line["step"]): line["loss"] for line in whole}
    assert all(line["loss"] == told[line["kind"], line["step"]] for line in cut)
    assert [line["step"] for line in cut if line["kind"] == "evaluation"] == [10, 20]


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is not None, reason="tensorboard is installed"
)
def test_tensorboard_without_its_package_is_told(tmp_path: Path) -> None:
    """The message says what to install and that the other log is written anyway."""
    log = Log(tmp_path / "log.jsonl", Meter(), tensorboard=tmp_path / "board")
    with pytest.raises(EnvironmentProblem, match="pip install tensorboard"):
        train(prepare(Points(), net(), SETTINGS, events=[log]))


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs tensorboard")
def test_tensorboard_reads_the_log(tmp_path: Path) -> None:
    """TensorBoard's own reader finds the losses."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    meter = Meter(every=5)
    log = Log(tmp_path / "log.jsonl", meter, tensorboard=tmp_path / "board")
    train(prepare(Points(), net(), SETTINGS, events=[meter, log]))
    reader = EventAccumulator(str(tmp_path / "board"))
    reader.Reload()
    assert [entry.step for entry in reader.Scalars("train/loss")] == [5, 10, 15, 20]
