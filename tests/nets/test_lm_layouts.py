"""The decoder on several processes: packed documents, DDP and FSDP2 beside one process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from loopline.engine.layout import Layout
from loopline.engine.settings import TrainSettings
from loopline.engine.tools.launch import launch
from loopline.engine.tools.parity import parity
from loopline.nets.lm import Decoder, Shape
from loopline.nets.lm_pack import Texts
from loopline.nets.lm_task import LanguageTask


def task() -> LanguageTask:
    """Documents of many lengths, two thirds of their tokens to be predicted."""
    draw = np.random.default_rng(0)
    ends = np.concatenate([[0], np.cumsum(draw.integers(3, 30, 60))])
    tokens = draw.integers(0, 50, ends[-1]).astype(np.int32)
    return LanguageTask(Texts(tokens, ends, draw.random(ends[-1]) < 0.7), None, 32)


def decoder() -> Decoder:
    """A tiny one with grouped keys."""
    torch.manual_seed(0)
    return Decoder(Shape(64, layers=2, width=32, heads=4, kv_heads=2, head_width=8, context=32))


def test_any_micro_batch_gives_the_same_gradient() -> None:
    """Packed rows computed one by one or together give the gradient of their sum alike."""
    rows = np.arange(6)
    found = []
    for parts in (1, 3, 6):
        model, documents = decoder().double(), task()
        for part in np.array_split(rows, parts):
            documents.loss(model, documents.batch(part, part, train=True))[0].backward()
        found.append(torch.cat([value.grad.flatten() for value in model.parameters()]))
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 1e-12
    assert float((found[0] - found[2]).norm() / found[0].norm()) < 1e-12


@pytest.mark.slow
def test_layouts_give_the_losses_and_gradients_of_one_process(tmp_path: Path) -> None:
    """DDP and FSDP2 on two processes stay within the threshold of `loopline parity`."""
    launch([str(Path(__file__).resolve()), str(tmp_path / "done")], 2)
    assert (tmp_path / "done").read_text().splitlines() == ["ddp fp32 True", "fsdp fp32 True"]


def main(place: Path) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    layout = Layout.open("ddp")
    settings = TrainSettings(batch_size=5, micro_batch=1, steps=3)
    lines = parity(task(), decoder, settings, layout)
    if layout.leads:
        told = [f"{line.layout} {line.precision} {line.gradient < 1e-6}" for line in lines]
        place.write_text("\n".join(told))
    layout.close()


if __name__ == "__main__" and "WORLD_SIZE" in os.environ:
    main(Path(sys.argv[1]))
