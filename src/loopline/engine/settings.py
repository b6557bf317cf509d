"""Settings of a training run: everything its numbers depend on besides rows and weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from loopline.engine.optimizer import OptimizerSettings
from loopline.engine.schedule import Schedule
from loopline.errors import SettingsError


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained.

    Args:
        batch_size: rows of a step over all processes.
        epochs: passes over the rows; may be a fraction. Give it or `steps`.
        steps: optimizer steps.
        micro_batch: rows that one process computes at once; None for as many as fit. It changes
            speed and memory and, but for rounding, nothing else.
        seed: of order, dropout and augmentation.
        shuffle: whether rows come in random order.
        precision: "fp32", "tf32", "bf16", "fp16" or "bf16_pure".
        optimizer: which one, how fast.
        schedule: the learning rate over the steps.
        dropout: share that the model's dropout layers drop, in [0, 1); None for what they have.
        stochastic_depth: probability that the last repeated layer is skipped for a row in training,
            in [0, 1); those below it linearly less.
        evaluate_every: steps between evaluations; 0 for the end of each epoch.
        evaluate_batch: rows of an evaluation batch.
        save_every: steps between checkpoints; 0 for the end of each epoch.
        save_seconds: also save when so much time has gone by; None for never.
        keep: committed checkpoints to keep.
        compile: whether to compile the model's blocks, all alike; "whole" makes one graph of all of
            them, which takes longer to compile (by 20 seconds for 16 layers) and may be faster or
            slower: measure it. For one process.
        recompute: whether blocks forget what they computed and compute it again on the way back,
            which costs a third more time and leaves one block's activations in memory.
        deterministic: whether to use only kernels that give equal bits each time; torch refuses an
            operation that has none.
        threads: threads that make batches.
        max_skipped: steps in a row whose gradients are not finite before the run stops (only FP16
            may have any).
    """

    batch_size: int = 32
    epochs: float | None = None
    steps: int | None = None
    micro_batch: int | None = None
    seed: int = 0
    shuffle: bool = True
    precision: str = "fp32"
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: Schedule = field(default_factory=Schedule)
    dropout: float | None = None
    stochastic_depth: float = 0.0
    evaluate_every: int = 0
    evaluate_batch: int = 64
    save_every: int = 0
    save_seconds: float | None = None
    keep: int = 2
    compile: bool | str = False
    recompute: bool = False
    deterministic: bool = False
    threads: int = 2
    max_skipped: int = 50

    def __post_init__(self) -> None:
        problems = []
        if (self.epochs is None) == (self.steps is None):
            problems.append("Give either `epochs` or `steps`, and not both.")
        if self.epochs is not None and not self.epochs > 0:
            problems.append(f"`epochs` must be above 0, got {self.epochs}.")
        shares = {"dropout": self.dropout or 0.0, "stochastic_depth": self.stochastic_depth}
        problems += [
            f"`{name}` is a share in [0, 1), got {share}."
            for name, share in shares.items()
            if not 0.0 <= share < 1.0
        ]
        ones = ("batch_size", "steps", "micro_batch", "evaluate_batch", "keep", "threads")
        zeros = ("evaluate_every", "save_every", "save_seconds", "max_skipped")
        for least, names in ((1, ones), (0, zeros)):
            for name in names:
                value = getattr(self, name)
                if value is not None and value < least:
                    problems.append(f"`{name}` must be at least {least}, got {value}.")
        if self.compile not in (True, False, "whole"):
            problems.append(f'`compile` is true, false or "whole", got {self.compile!r}.')
        if problems:
            raise SettingsError(problems)

    def identity(self) -> dict[str, Any]:
        """What the numbers depend on, as plain data: not how a batch is cut or kept."""
        data = asdict(self)
        for name in _FREE:
            del data[name]
        return data


_FREE = (
    "micro_batch", "save_every", "save_seconds", "keep", "threads", "compile", "recompute",
)  # fmt: skip
