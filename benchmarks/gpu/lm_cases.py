"""What `lm.py` trains and times: works, Loopline's engine, a loop by hand, the Trainer."""

from __future__ import annotations

import gc
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import nn

from loopline.engine.events import Event
from loopline.engine.feeder import to_device
from loopline.engine.loop import train
from loopline.engine.meter import peak_bytes
from loopline.engine.optimizer import OptimizerSettings
from loopline.engine.precision import Precision
from loopline.engine.run import prepare
from loopline.engine.settings import TrainSettings
from loopline.nets.lm import Decoder, Shape
from loopline.nets.lm_pack import Texts
from loopline.nets.lm_task import LanguageTask


def wait(device):
    """Let the device finish."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free(device):
    """Forget what earlier cases compiled and allocated."""
    gc.collect()
    torch._dynamo.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def random_rows(shape, rows, seed=0):
    """Documents that fill a row each."""
    draw = np.random.default_rng(seed)
    length = shape.context + 1
    tokens = draw.integers(0, shape.vocabulary, rows * length).astype(np.int32)
    return Texts(tokens, np.arange(rows + 1, dtype=np.int64) * length)


def random_documents(shape, rows, seed=0):
    """Documents of many lengths (log-normal, median a fifth of a row), about so many rows."""
    draw = np.random.default_rng(seed)
    sizes = np.exp(draw.normal(np.log(shape.context / 5), 0.8, 8 * rows)).astype(np.int64) + 2
    sizes = sizes[np.cumsum(sizes) < rows * shape.context]
    ends = np.concatenate([[0], np.cumsum(sizes)])
    return Texts(draw.integers(0, shape.vocabulary, int(ends[-1])).astype(np.int32), ends)


class Clock(Event):
    """Times blocks of steps and notes memory; waits for the device at the ends of a block only."""

    name = "clock"

    def __init__(self, warm, block):
        self.warm, self.block, self.times, self.mark = warm, block, [], 0.0
        self.first, self.memory = None, {}

    def after_backward(self, run):
        """Note how large the gradients are."""
        if run.state.step == self.warm and run.layout.device.type == "cuda":
            self.memory["gradients"] = held(run.gradients())

    def after_step(self, run):
        """Read the clock at the end of a block."""
        device = run.layout.device
        if self.first is None:
            wait(device)
            self.first = time.time()
        done = run.state.step - self.warm
        if done == 0 and device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        if done >= 0 and done % self.block == 0:
            wait(device)
            now = time.perf_counter()
            if done:
                self.times.append((now - self.mark) / self.block)
            self.mark = now

    def finished(self, run):
        """Note what memory was held for what."""
        if run.layout.device.type != "cuda":
            return
        states = [value for part in run.optimizer.parts for kept in part.state.values()
                  for value in kept.values() if isinstance(value, torch.Tensor)]  # fmt: skip
        self.memory |= {"weights": held(run.model.parameters()), "optimizer": held(states)}
        self.memory["peak"] = peak_bytes(run.layout.device)
        rest = self.memory["peak"] - self.memory["weights"] - self.memory["optimizer"]
        self.memory["above_weights_and_optimizer"] = rest


class Measured(LanguageTask):
    """Notes how much memory a forward pass left behind: activations, and the loss's gradients."""

    activations = 0

    def loss(self, model, batch):
        """As the task's, with memory before and after."""
        device = batch["tokens"].device
        if device.type != "cuda":
            return super().loss(model, batch)
        before = torch.cuda.memory_allocated(device)
        found = super().loss(model, batch)
        self.activations = torch.cuda.memory_allocated(device) - before
        return found


def held(tensors):
    """Bytes of some tensors."""
    return sum(value.numel() * value.element_size() for value in tensors)


@dataclass
class Work:
    """What is trained: a shape, rows of a step, a number format."""

    shape: Shape
    batch: int
    precision: str = "bf16"
    warm: int = 8
    steps: int = 24
    block: int = 4
    compiled: bool = True
    packed: bool = False

    @property
    def length(self):
        """Tokens of a row."""
        return self.shape.context

    def model(self):
        """A decoder with new weights."""
        torch.manual_seed(0)
        return Decoder(self.shape)

    def texts(self):
        """Random tokens, as many rows as all steps read."""
        made = random_documents if self.packed else random_rows
        return made(self.shape, (self.warm + self.steps) * self.batch)

    def task(self):
        """What the engine and the loop by hand train on."""
        return Measured(self.texts(), None, self.length)

    def settings(self, **others):
        """How the engine trains."""
        return TrainSettings(
            batch_size=self.batch, micro_batch=self.batch, steps=self.warm + self.steps,
            precision=self.precision, optimizer=OptimizerSettings(lr=1e-4, weight_decay=0.1),
            **{"compile": self.compiled, "save_every": 10**9, **others},
        )  # fmt: skip


def engine(work, layout, *, cudnn=False, whole=False, recompute=False, folder=None, events=(),
           **others):  # fmt: skip
    """Loopline's engine on Loopline's decoder."""
    free(layout.device)
    task, model, clock = work.task(), work.model(), Clock(work.warm, work.block)
    if whole:  # all blocks in one graph, instead of one graph for each
        others = {**others, "compile": "whole"}
    run = prepare(task, model, work.settings(recompute=recompute, **others), layout=layout,
                  folder=folder, events=[clock, *events])  # fmt: skip
    with attention(cudnn=cudnn):
        train(run)
    clock.memory["activations_after_forward"] = task.activations
    filled = {"filled": task.filled} if work.packed else {}
    return {"times": clock.times, "loss": run.packet.loss, "memory": clock.memory,
            "waited": run.waited, "first_step_at": clock.first, **filled}  # fmt: skip


def attention(*, cudnn):
    """Which kernels compute attention: torch's own choice, or cuDNN's first."""
    if not cudnn:
        return nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    order = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION,
             SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]  # fmt: skip
    return sdpa_kernel(order, set_priority=True)


def bare(work, layout, *, plain=False, cudnn=False):
    """A loop by hand on the same module compiled alike, or on a plain decoder compiled whole."""
    free(layout.device)
    device, form = layout.device, Precision(work.precision, layout.device.type)
    form.apply()
    if plain:
        from lm_peers import plain_decoder

        model = plain_decoder(work).to(device, form.weights).train()
        called = torch.compile(model) if work.compiled else model
    else:
        called = model = work.model().to(device, form.weights).train()
        for part in model.compiled_parts() if work.compiled else ():
            part.compile()
    task = work.task()
    with attention(cudnn=cudnn):
        return by_hand(work, device, form, task, model, called)


def by_hand(work, device, form, task, model, called):
    """The loop: nothing around it."""
    matrices = [value for value in model.parameters() if value.ndim >= 2]
    vectors = [value for value in model.parameters() if value.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=True)
    rows = np.arange(4 * work.batch).reshape(4, work.batch)
    batches = [to_device(task.batch(part, part, train=True), device) for part in rows]
    times, mark = [], 0.0
    for step in range(work.warm + work.steps):
        batch = batches[step % 4]
        with form.context():
            loss = called(batch["tokens"], batch["targets"]) / batch["targets"].numel()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done = step + 1 - work.warm
        if done >= 0 and done % work.block == 0:
            wait(device)
            now = time.perf_counter()
            if done:
                times.append((now - mark) / work.block)
            mark = now
    memory = {"peak": peak_bytes(device)} if device.type == "cuda" else {}
    return {"times": times, "loss": float(loss.detach()), "memory": memory}


def peer(work, layout, name):
    """Hugging Face's Trainer or Lightning, as `lm_peers.py` sets them up."""
    import lm_peers

    free(layout.device)
    called = lm_peers.huggingface if name in lm_peers.TRAINERS else lm_peers.lightning
    found = called(work, layout.device, name)
    if layout.device.type == "cuda":
        found["memory"] = {"peak": peak_bytes(layout.device)}
    return found
