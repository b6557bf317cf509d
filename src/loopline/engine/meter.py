"""How fast a run is, and how well it uses the card.

The meter reads the clock when the host hears of a step, so it makes nobody wait. Model FLOPs are
told in both conventions that are in use, with their formula, because they differ by a tenth and
more: `full` counts attention over all pairs of positions, `causal` only over those a causal mask
lets through. Recomputation is counted in neither.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass, field

import torch

from loopline.engine.events import Event
from loopline.engine.run import Run

PEAKS = {
    "A100": 312e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12,
    "B200": 2.25e15, "GB200": 2.5e15, "GB300": 2.5e15,
}  # fmt: skip
"""Dense BF16 FLOPs a second by a part of the card's name (the makers' data sheets)."""


@dataclass(frozen=True)
class Flops:
    """FLOPs that training takes for one token of a transformer, forward and backward.

    Args:
        parameters: weights that are multiplied with each token (without look-up tables).
        layers: number of blocks.
        width: heads times width of a head.
        length: tokens that attend to each other.

    Source: Chowdhery et al. 2022 (PaLM), appendix B, for `full`; `causal` halves the attention.

    >>> small = Flops(parameters=123_532_032, layers=12, width=768, length=1024)
    >>> round(small.full / 1e6, 1), round(small.causal / 1e6, 1)
    (854.4, 797.8)
    """

    parameters: int
    layers: int
    width: int
    length: int

    formula = "full = 6 N + 12 L d T, causal = 6 N + 6 L d T FLOPs a token"

    @property
    def full(self) -> float:
        """6 N + 12 L d T."""
        return 6.0 * self.parameters + 12.0 * self.layers * self.width * self.length

    @property
    def causal(self) -> float:
        """6 N + 6 L d T."""
        return 6.0 * self.parameters + 6.0 * self.layers * self.width * self.length


@dataclass(frozen=True)
class Reading:
    """What the meter says after a step; rates are over the steps since the reading before.

    Args:
        step: steps done.
        loss: mean loss of the last step heard of.
        norm: norm of its gradient before clipping.
        lr: learning rate of the coming step's base.
        samples_per_second: rows, over all processes.
        weight_per_second: tokens, or what the task counts, over all processes.
        mfu_full: share of the cards' peak, attention counted in full; None without card or model.
        mfu_causal: the same with causal attention.
        wait_share: share of the time spent waiting for batches, in [0, 1].
        peak_bytes: most memory held so far, of this process's device (on a CPU of the process).
        seconds_left: until the last step, at this pace.
    """

    step: int
    loss: float
    norm: float
    lr: float
    samples_per_second: float
    weight_per_second: float
    mfu_full: float | None
    mfu_causal: float | None
    wait_share: float
    peak_bytes: int
    seconds_left: float

    def sentence(self) -> str:
        """The reading in a line, for a person who watches."""
        minutes, seconds = divmod(round(self.seconds_left), 60)
        parts = [
            f"learning rate {self.lr:.2g}",
            f"{self.samples_per_second:,.0f} rows/s",
            f"waits {self.wait_share:.0%}",
            f"{self.peak_bytes / 1e9:.1f} GB",
            f"{minutes}:{seconds:02d} left",
        ]
        if self.weight_per_second > 1.01 * self.samples_per_second:
            parts.insert(2, f"{self.weight_per_second:,.0f} tokens/s")
        if self.mfu_full is not None and self.mfu_causal is not None:
            parts.insert(-3, f"MFU {self.mfu_full:.0%} ({self.mfu_causal:.0%} causal)")
        return ", ".join(parts)


@dataclass
class Meter(Event):
    """Takes a reading every few steps.

    Args:
        every: steps between readings, at least 1.
        flops: of the model for one token, for MFU.
        peak: FLOPs a second of one device; None to look it up by the card's name.
    """

    every: int = 10
    flops: Flops | None = None
    peak: float | None = None
    name: str = "meter"
    readings: list[Reading] = field(default_factory=list)
    _mark: tuple[float, int, float, float] | None = None

    def started(self, run: Run) -> None:
        """Look up the card's peak."""
        if self.peak is None and run.layout.device.type == "cuda":
            card = torch.cuda.get_device_name(run.layout.device)
            found = [peak for part, peak in PEAKS.items() if part in card]
            self.peak = found[0] if found else None

    def after_step(self, run: Run) -> None:
        """Take a reading when it is time; the first few steps only set the mark."""
        state = run.state
        now = (time.perf_counter(), state.step, state.weight, run.waited)
        if run.packet is None:
            return
        if self._mark is None:
            self._mark = now
        elif state.step % self.every == 0:
            self.readings.append(self._reading(run, self._mark, now))
            run.told = self.readings[-1].sentence()
            self._mark = now

    def _reading(
        self,
        run: Run,
        then: tuple[float, int, float, float],
        now: tuple[float, int, float, float],
    ) -> Reading:
        seconds, steps, weight, waited = (b - a for a, b in zip(then, now, strict=True))
        seconds = max(seconds, 1e-9)
        packet = run.packet
        assert packet is not None
        rate = weight / seconds
        peak = None if self.peak is None else self.peak * run.layout.world
        full = causal = None
        if peak is not None and self.flops is not None:
            full, causal = rate * self.flops.full / peak, rate * self.flops.causal / peak
        factor = run.settings.schedule.factor(packet.step, run.num_steps)
        return Reading(
            step=run.state.step,
            loss=packet.loss,
            norm=packet.norm,
            lr=run.optimizer.settings.lr * factor,
            samples_per_second=steps * run.settings.batch_size / seconds,
            weight_per_second=rate,
            mfu_full=full,
            mfu_causal=causal,
            wait_share=min(1.0, waited / seconds),
            peak_bytes=peak_bytes(run.layout.device),
            seconds_left=(run.num_steps - run.state.step) * seconds / steps,
        )


def peak_bytes(device: torch.device) -> int:
    """The most memory held so far: of the card's allocator, or of the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
