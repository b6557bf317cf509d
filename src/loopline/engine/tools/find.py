"""Learning rate and batch size, advised by short trials that leave a run as it was.

`find_lr` raises the learning rate from step to step until the loss breaks away (range test, Smith
2017). It asks the same rows throughout: by the batches' own losses three orders of one table's
batches gave rates from 3e-5 to 1.5e-2, by the same rows from 1.1e-3 to 2.2e-3. `find_batch`
measures how much the gradients of small batches differ, from which follows the batch size beyond
which more rows a step help little (McCandlish et al. 2018, appendix A).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from loopline.engine.feeder import Feeder, StepBatch, to_device
from loopline.engine.memory import fit_micro_batch, untouched
from loopline.engine.order import rank_slice
from loopline.errors import DataError, SettingsError
from loopline.seeds import child_seed

if TYPE_CHECKING:
    from loopline.engine.run import Run


Ints = NDArray[np.int64]
PROBE_ROWS = 256
"""Rows on which learning rates are judged."""


@dataclass(frozen=True)
class RateAdvice:
    """What the range test saw.

    Args:
        rates: the learning rates that were tried, rising.
        losses: of the same rows each time, after the steps at that rate.
        smooth: the same, each the median of its neighbours within a twentieth of the steps.
        suggested: the rate where the smoothed loss fell fastest.
        limit: the rate where it began to rise for good; never train above it.
    """

    rates: list[float]
    losses: list[float]
    smooth: list[float]
    suggested: float
    limit: float

    @property
    def reason(self) -> str:
        """One sentence that says why."""
        return (
            f"Of {len(self.rates)} rates from {self.rates[0]:.2g} to {self.rates[-1]:.2g} the loss "
            f"fell fastest at {self.suggested:.2g}; above {self.limit:.2g} it rose."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a plot or a report."""
        return {**asdict(self), "reason": self.reason}


@dataclass(frozen=True)
class BatchAdvice:
    """What the gradient noise scale says.

    Args:
        signal: estimate of the squared norm of the true gradient.
        noise: estimate of the trace of one row's gradient covariance.
        rows: noise / signal, the simple noise scale in rows; inf where no signal was seen. Batches
            well below it lose little by doubling, batches well above it waste rows.
        suggested: the power of two next to `rows`, of at most the training rows.
        small: rows of the smaller batches compared.
        big: rows of the larger ones.
        steps: steps averaged over.
        scales: the estimate after each step, for a plot.
    """

    signal: float
    noise: float
    rows: float
    suggested: int
    small: int
    big: int
    steps: int
    scales: list[float]

    @property
    def reason(self) -> str:
        """One sentence that says why."""
        if math.isinf(self.rows):
            return (
                f"Over {self.steps} steps of {self.big} rows no common direction was seen beside "
                "the noise: the largest batch is the best, or there is nothing to learn."
            )
        return (
            f"Gradients of {self.small} and {self.big} rows over {self.steps} steps give a noise "
            f"scale of {self.rows:.3g} rows; larger batches bring little more a step."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a plot or a report."""
        return {**asdict(self), "reason": self.reason}


def find_lr(run: Run, *, low: float = 1e-7, high: float = 1.0, steps: int = 100) -> RateAdvice:
    """Try learning rates from low to high and say which one to take.

    The run is left as it was, bit for bit: weights, optimizer, random numbers, data order.

    Args:
        run: prepared, at any step.
        low: first learning rate, > 0.
        high: last learning rate, > `low`.
        steps: how many rates, at least 10; where batches are small each has several steps.

    Raises:
        SettingsError: numbers out of these ranges.
        DataError: not even the lowest rates give a finite loss.
    """
    problems = []
    if not 0.0 < low < high:
        problems.append(f"The rates must rise from above 0, got {low} to {high}.")
    if steps < 10:
        problems.append(f"A range test needs at least 10 steps, got {steps}.")
    if problems:
        raise SettingsError(problems)
    rates: list[float] = []
    losses: list[float] = []
    with untouched(run):
        fit_micro_batch(run)
        probe = _probe(run)
        each = max(1, round(len(probe) / (3 * run.settings.batch_size)))
        for number, (step, batches, count) in enumerate(_steps(run, steps * each)):
            rate = low * (high / low) ** (number // each / (steps - 1))
            run.layout.seed(child_seed(run.settings.seed, "step", step, run.layout.rank))
            run.optimizer.set_factor(rate / run.optimizer.settings.lr)
            totals = run.layout.sum(run.forward_backward(batches, count))
            _, finite = run.rescale(totals)
            run.update(finite)
            if (number + 1) % each and math.isfinite(float(totals[0])):
                continue
            loss = _probed(run, probe) if math.isfinite(float(totals[0])) else math.nan
            if not math.isfinite(loss):
                break
            rates.append(rate)
            losses.append(loss)
            if len(losses) > 10 and median(losses[-3:]) > 4.0 * min(losses):
                break
    return _rate_advice(rates, losses, max(1, steps // 20))


def _probe(run: Run) -> Ints:
    """The rows that are asked after every rate."""
    rng = np.random.default_rng(child_seed(run.settings.seed, "find"))
    rows = rng.permutation(run.task.num_rows)[:PROBE_ROWS]
    return np.sort(rows).astype(np.int64)


@torch.no_grad()
def _probed(run: Run, probe: Ints) -> float:
    """The rows' loss by the weights as they are, with the same dropout each time."""
    layout = run.layout
    mine = rank_slice(probe, layout.rank, layout.world)
    rounds = math.ceil(math.ceil(len(probe) / layout.world) / run.micro)
    totals = torch.zeros(2, dtype=torch.float64, device=layout.device)
    layout.seed(child_seed(run.settings.seed, "find", layout.rank))
    for number in range(rounds):
        rows = mine[number * run.micro : (number + 1) * run.micro]
        asked = rows if rows.size else probe[:1]  # shards need every rank
        batch = to_device(run.task.batch(asked, np.zeros_like(asked), train=True), layout.device)
        with run.precision.context():
            loss, weight = run.task.loss(run.model, batch)
        if rows.size:
            totals += torch.stack([torch.as_tensor(loss), torch.as_tensor(weight)]).to(totals)
    summed = layout.sum(totals)
    return float(summed[0] / summed[1])


def _rate_advice(rates: list[float], losses: list[float], reach: int) -> RateAdvice:
    if len(rates) < 3:
        raise DataError(
            "The range test saw no three finite losses, even at the lowest learning rates. Look at "
            "the rows and the model's first weights."
        )
    places = range(len(losses))
    smooth = [median(losses[max(0, place - reach) : place + reach + 1]) for place in places]
    lowest = min(places, key=smooth.__getitem__)
    reach = min(reach, (len(smooth) - 1) // 2)
    first = min(reach, len(smooth) - 1 - reach)
    inner = range(first, max(first + 1, min(lowest, len(smooth) - reach)))
    steepest = min(inner, key=lambda place: smooth[place + reach] - smooth[place - reach])
    return RateAdvice(rates, losses, smooth, rates[steepest], rates[lowest])


def find_batch(run: Run, *, steps: int = 20, parts: int = 8) -> BatchAdvice:
    """Measure the gradient noise scale over some steps of training and advise a batch size.

    Each step's batch is cut into `parts` over all processes, whose gradients are compared with the
    whole one's; both squared norms hold signal + noise / rows, which gives two equations for two
    unknowns. The run is left as it was, bit for bit.

    Args:
        run: prepared, at any step; measure again later in training, for the scale grows.
        steps: how many steps to average over, at least 1.
        parts: pieces of a batch, at least 2.

    Raises:
        SettingsError: fewer steps or parts, or a batch with fewer rows than parts on a process.
    """
    mine = run.settings.batch_size // run.layout.world
    if steps < 1 or parts < 2 or mine < parts:
        raise SettingsError(
            [
                "The noise scale needs at least 1 step and 2 parts, and as many rows on each "
                f"process as parts; got {steps} steps, {parts} parts and {mine} rows."
            ]
        )
    big = float(run.settings.batch_size)
    signals, noises, scales = [], [], []
    with untouched(run):
        run.micro = min(fit_micro_batch(run), -(-mine // parts))
        for step, batches, count in _steps(run, steps):
            run.optimizer.set_factor(run.settings.schedule.factor(step, run.num_steps))
            run.layout.seed(child_seed(run.settings.seed, "step", step, run.layout.rank))
            small_norm, big_norm = _norms(run, batches, count)
            small = big / count
            signals.append((big * big_norm - small * small_norm) / (big - small))
            noises.append((small_norm - big_norm) / (1.0 / small - 1.0 / big))
            scales.append(_ratio(sum(noises), sum(signals)))
    rows = scales[-1]
    suggested = 2 ** int(math.log2(max(1.0, min(rows * math.sqrt(2.0), run.order.num_rows))))
    signal, noise = sum(signals) / steps, sum(noises) / steps
    return BatchAdvice(signal, noise, rows, suggested, round(small), round(big), steps, scales)


def _norms(run: Run, batches: Iterator[StepBatch], count: int) -> tuple[float, float]:
    """Mean squared norm of the parts' gradients, and that of the whole one; makes the update."""
    total: list[torch.Tensor] = []
    weight, squares = 0.0, 0.0
    for pair in batches:
        sums = run.layout.sum(run.forward_backward(iter([pair]), 1))
        gradients = run.gradients()
        factor = run.layout.world * run.settings.batch_size / float(sums[1])
        if run.scale is not None:
            factor /= float(run.scale.scale)
        squares += (_norm(gradients) * factor) ** 2
        if total:
            torch._foreach_add_(total, gradients)  # one kernel for all of them
        else:
            total = [value.detach().clone() for value in gradients]
        weight += float(sums[1])
        run.optimizer.zero_grad()
    for value, gradient in zip(run.learning, total, strict=True):
        value.grad = gradient
    sums = torch.tensor([0.0, weight], dtype=torch.float64, device=run.layout.device)
    norm, finite = run.rescale(sums)
    run.update(finite)
    return squares / count, float(norm) ** 2


def _norm(gradients: list[torch.Tensor]) -> float:
    norm = nn.utils.get_total_norm(gradients)
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


def _ratio(noise: float, signal: float) -> float:
    return max(noise, 0.0) / signal if signal > 0.0 else math.inf


def _steps(run: Run, steps: int) -> Iterator[tuple[int, Iterator[StepBatch], int]]:
    """The batches of the coming steps, as training would see them."""
    feeder = Feeder(run.task, run.order, run.layout, run.micro, threads=run.settings.threads)
    start = run.state.step
    try:
        for rows, batches in feeder.steps(start, start + steps):
            yield rows.step, batches, len(rows.parts)
    finally:
        feeder.close()
