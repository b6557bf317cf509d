"""The training loop, to be read from top to bottom.

A step takes the rows *kB* to *(k + 1)B* of the stream of rows, wherever they are computed. Dropout
draws from a seed that is a function of (seed, step, rank). The host hears of a step one step later,
unless it evaluates or saves, so the device always has work.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from loopline.engine.feeder import Feeder, StepBatch, step_rows
from loopline.engine.memory import fit_micro_batch, out_of_memory
from loopline.engine.run import Run
from loopline.errors import DataError
from loopline.seeds import child_seed

ASKED = "asked to stop"
"""Why a run ended that was told to by a signal: it is saved, and not at its end."""


def train(run: Run) -> Run:
    """Train until the last step, an early stop, or a wish to stop (SIGTERM).

    Raises:
        DataError: the loss or its gradient is not finite, or an event refused the step; the rows
            are named and the weights are those before the step.
        EnvironmentProblem: memory does not suffice, or a checkpoint could not be written.
    """
    run.tell("started")
    resumed = run.resume()
    run.model.train()
    fit_micro_batch(run)
    feeder = Feeder(run.task, run.order, run.layout, run.micro, threads=run.settings.threads)
    label = "train" + (f" (on from step {run.state.step:,})" if resumed else "")
    run.stopped = run.state.ended
    end = run.state.step if run.stopped else run.num_steps
    left = end - run.state.step
    with run.reporter.step(label, total=left) as progress, _told_to_stop(run), run.layout.watched():
        try:
            for rows, batches in feeder.steps(run.state.step, end):
                _step(run, rows.step, batches, len(rows.parts))
                progress.advance()
                run.waited = feeder.waited
                if run.packet is not None:
                    told = f", {run.told}" if run.told else ""
                    progress.describe(f"loss {run.packet.loss:.4g}{told}")
                if run.stopped:
                    break
            _receive(run)
        except DataError:
            if run.checkpoints is not None:
                run.checkpoints.settle()
            raise
        finally:
            feeder.close()
            if run.checkpoints is not None:
                run.checkpoints.wait()
        if run.checkpoints is not None and run.state.step and left:
            run.save()
    if run.checkpoints is not None:
        run.checkpoints.settle()
    run.tell("finished")
    return run


def _step(run: Run, step: int, batches: Iterator[StepBatch], count: int) -> None:
    """One optimizer step."""
    run.optimizer.set_factor(run.settings.schedule.factor(step, run.num_steps))
    run.layout.seed(child_seed(run.settings.seed, "step", step, run.layout.rank))
    run.tell("before_step")
    with out_of_memory(run):
        totals = run.forward_backward(batches, count)
    wishes = [totals.new_full((1,), float(wish)) for wish in (run.wish_stop, _due(run))]
    sums = torch.cat([totals, *wishes])
    run.totals = run.layout.sum(sums)[:2]
    run.tell("after_backward")
    norm, finite = run.rescale(run.totals)
    good = finite & run.allowed
    run.update(good)
    if run.scale is None:
        run.allowed = good  # the host hears of it later; until then nothing moves
    run.state.step = step + 1
    run.state.samples += run.settings.batch_size
    values = torch.stack([sums[0] / sums[1], sums[1], norm, good.double(), sums[2], sums[3]])
    _receive(run)
    run.mailbox.send(step, values)
    run.tell("after_step")
    _after(run)


def _receive(run: Run) -> None:
    """Act on what the device last told; the same on every rank."""
    packet = run.mailbox.receive()
    if packet is None:
        return
    run.packet = packet
    run.state.weight += packet.weight
    if packet.good:
        run.state.bad_in_a_row = 0
    else:
        run.state.skipped += 1
        run.state.bad_in_a_row += 1
        allowed = run.settings.max_skipped if run.precision.scaled and not packet.finite else 0
        if run.state.bad_in_a_row > allowed:
            raise DataError(_bad_step(run, packet.step))
    if packet.stop:
        run.stop(ASKED)
    run.wish_save = run.wish_save or packet.save > 0


def _bad_step(run: Run, step: int) -> str:
    packet = run.packet
    assert packet is not None
    rows, _ = run.order.batch(step)
    shown = ", ".join(f"{row}" for row in rows[:20].tolist()) + (", …" if rows.size > 20 else "")
    return (
        f"Step {step:,} gave a loss of {packet.loss:g} and a gradient of norm {packet.norm:g}; the "
        f"weights were not changed by it. Its rows are {shown}. Look at them, or lower the "
        "learning rate."
    )


def _after(run: Run) -> None:
    """Close epochs, evaluate and save when it is time."""
    settings, step = run.settings, run.state.step
    before = (run.state.samples - settings.batch_size) // run.order.num_rows
    new_epoch = run.state.samples // run.order.num_rows > before
    last = step >= run.num_steps
    evaluate = last or _turn(step, settings.evaluate_every, new_epoch=new_epoch)
    save = run.wish_save or _turn(step, settings.save_every, new_epoch=new_epoch)
    if run.checkpoints is not None:
        run.checkpoints.poll()
    if new_epoch:
        run.tell("after_epoch")
    if evaluate or save:
        _receive(run)  # so that the counters include this step
    if evaluate:
        run.evaluate()
    if save and not last:
        run.wish_save = False
        run.save()


def _turn(step: int, every: int, *, new_epoch: bool) -> bool:
    return step % every == 0 if every else new_epoch


def _due(run: Run) -> bool:
    seconds = run.settings.save_seconds
    return seconds is not None and time.monotonic() - run.last_save > seconds


@contextmanager
def _told_to_stop(run: Run) -> Iterator[None]:
    """SIGTERM becomes a wish to save and stop, which all ranks then share."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def wish(number: int, frame: Any) -> None:
        del number, frame
        run.wish_stop = True

    before = signal.signal(signal.SIGTERM, wish)
    watch = run.layout.watch
    try:
        with nullcontext() if watch is None else watch.signals():
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def rows_of(run: Run, step: int) -> list[int]:
    """The row numbers that this rank computes in a step, in the order of its micro-batches."""
    found = step_rows(run.order, step, run.layout.rank, run.layout.world, run.micro)
    return [int(row) for part in found.parts for row in part]
