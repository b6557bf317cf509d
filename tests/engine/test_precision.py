"""Number formats, the loss scale and the mailbox."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.engine.nets import Points, net

from loopline.engine.loop import train
from loopline.engine.packet import Mailbox
from loopline.engine.precision import GROW_AFTER, LossScale, Precision
from loopline.engine.run import prepare
from loopline.engine.settings import TrainSettings
from loopline.errors import SettingsError
from loopline.nets.examples import predict_rows

YES = torch.ones((), dtype=torch.bool)


def test_the_scale_halves_on_overflow_and_doubles_after_good_steps() -> None:
    """65,536 falls to 32,768 at an overflow and is back after 2,000 good steps."""
    scale = LossScale(torch.device("cpu"))
    scale.update(~YES)
    assert float(scale.scale) == 32_768
    for _ in range(GROW_AFTER - 1):
        scale.update(YES)
    assert float(scale.scale) == 32_768
    scale.update(YES)
    assert float(scale.scale) == 65_536


def test_the_scale_survives_a_restart() -> None:
    """Scale and count of good steps are stored and read."""
    scale = LossScale(torch.device("cpu"))
    scale.update(~YES)
    scale.update(YES)
    other = LossScale(torch.device("cpu"))
    other.load_state_dict(scale.state_dict())
    assert other.state_dict() == {"scale": 32_768.0, "good": 1.0}


@pytest.mark.parametrize("name", ["bf16", "fp16", "bf16_pure", "tf32"])
def test_every_format_learns(name: str) -> None:
    """In each format the loss falls, and the weights are kept in the type that is promised."""
    run = prepare(Points(40), net(), TrainSettings(batch_size=10, steps=60, precision=name))
    train(run)
    kept = {value.dtype for value in run.model.parameters()}
    assert kept == {torch.bfloat16 if name == "bf16_pure" else torch.float32}
    assert run.history[-1]["loss"] < run.history[0]["loss"]


def test_fp16_leaves_out_steps_that_overflow_and_goes_on() -> None:
    """With a scale far too high, steps are skipped until it fits; then training goes on."""
    run = prepare(Points(40), net(), TrainSettings(batch_size=10, steps=30, precision="fp16"))
    assert run.scale is not None
    run.scale.scale.fill_(2.0**24)
    train(run)
    assert 0 < run.state.skipped < 20
    assert float(run.scale.scale) < 2.0**24
    assert run.state.bad_in_a_row == 0


def test_an_unknown_format_is_refused() -> None:
    """The message lists the formats."""
    with pytest.raises(SettingsError, match="fp32, tf32, bf16, fp16, bf16_pure, got 'fp8'"):
        Precision("fp8")


def test_the_mailbox_gives_what_was_sent_last_and_only_once() -> None:
    """A packet arrives whole, once; an empty box gives nothing."""
    box = Mailbox(torch.device("cpu"))
    assert box.receive() is None
    box.send(7, torch.tensor([1.5, 8.0, 2.0, 1.0, 0.0, 2.0], dtype=torch.float64))
    packet = box.receive()
    assert packet is not None
    assert (packet.step, packet.loss, packet.weight, packet.norm) == (7, 1.5, 8.0, 2.0)
    assert (packet.good, packet.finite, packet.stop, packet.save) == (True, True, 0, 2)
    assert box.receive() is None


def products() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


def test_predictions_after_a_training_are_computed_in_32_bits() -> None:
    """A training in BF16 leaves short products set; a prediction has all bits, and resets them."""
    seen = []

    class Asked(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(products())
            return super().forward(x)

    before = products()
    try:
        Precision("bf16").apply()
        short = products()
        predict_rows(
            Asked(2, 1),
            {"x": np.zeros((3, 2), dtype=np.float32)},
            3,
            lambda arrays, rows, _: {"x": arrays["x"][rows]},
            num_classes=0,
            batch_size=2,
        )
        assert short == ("high", True)
        assert seen == [("highest", False)] * 2
        assert products() == short
        Precision("fp32").apply()
        assert products() == ("highest", False)
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
