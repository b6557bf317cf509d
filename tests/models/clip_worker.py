"""The gradient of one contrastive step, on however many processes: ``clip_worker.py FILE``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tests.models.tiny_clip import make_pairs, pairs_view

from loopline.engine.feeder import Feeder
from loopline.engine.layout import Layout
from loopline.engine.run import prepare
from loopline.engine.settings import TrainSettings
from loopline.models.base import FitContext
from loopline.models.clip import Clip
from loopline.nets.clip_task import PairTask

BATCH = 24


def gradient(layout: Layout) -> dict[str, torch.Tensor]:
    """The gradient of the first step, divided by the weight of the whole batch."""
    view = pairs_view(make_pairs(BATCH))
    kind = Clip()
    params = kind.resolve({"width": 16, "layers": 1, "dropout": 0.0}, "retrieval", BATCH)
    encoder, arrays = kind.learn(view, params, FitContext(seed=1))
    torch.manual_seed(1)
    network = kind.build(encoder, np.zeros(1), params, pretrained=True)
    weight = np.ones(BATCH, dtype=np.float32)
    weight[3] = 0.0
    task = PairTask(arrays, arrays["codes"], weight, None, encoder.collate, BATCH)
    run = prepare(task, network, TrainSettings(batch_size=BATCH, steps=1), layout=layout)
    feeder = Feeder(task, run.order, layout, run.micro)
    for rows, batches in feeder.steps(0, 1):
        totals = layout.sum(run.forward_backward(batches, len(rows.parts)))
    feeder.close()
    run.rescale(totals)
    return {
        name.removeprefix("module."): value.grad.clone()
        for name, value in run.model.named_parameters()
        if value.grad is not None
    }


def main() -> None:
    """Write the gradient from the leading process."""
    layout = Layout.open()
    found = gradient(layout)
    if layout.leads:
        save_file(found, Path(sys.argv[1]))
    layout.close()


if __name__ == "__main__":
    main()
