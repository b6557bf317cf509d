"""One fit of a network as plain data, so that several processes can work on it together."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from loopline.models.base import Floats
from loopline.models.boosting import Target
from loopline.models.encoder import Arrays, Encoder
from loopline.models.table import row_weights, weighs
from loopline.progress import Reporter
from loopline.splits.views import TrainView

TRAINED = "trained.json"
"""What came of a job, written last and whole."""
_FOLLOW_SECONDS = 0.5


@dataclass(frozen=True)
class JobRows:
    """Encoded rows with scaled targets and weights of mean 1."""

    arrays: Arrays
    target: NDArray[Any]
    weight: NDArray[np.float32] | None

    @staticmethod
    def of(
        arrays: Arrays, view: TrainView, target: Target, factors: Floats | None, num_classes: int
    ) -> JobRows | None:
        """Rows held out, or None when none of them counts."""
        if not weighs(view, factors):
            return None
        weight = row_weights(view.target, view.weight, factors)
        return JobRows(arrays, scaled_target(view, target, num_classes), single(weight))

    def labelled(self, encoder: Encoder) -> Any:
        """As the engine's task wants them."""
        from loopline.nets.examples import Labelled

        return Labelled(self.arrays, self.target, self.weight, encoder.lengths(self.arrays))

    def save(self, path: Path) -> None:
        """Write everything into one file."""
        tensors = {f"array.{name}": value for name, value in self.arrays.items()}
        tensors["target"] = self.target
        if self.weight is not None:
            tensors["weight"] = self.weight
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)

    @staticmethod
    def read(path: Path) -> JobRows:
        """Read what `save` wrote."""
        found = load_file(path)
        arrays = {name[6:]: value for name, value in found.items() if name.startswith("array.")}
        return JobRows(arrays, found["target"], found.get("weight"))


@dataclass(frozen=True)
class Job:
    """One fit as plain data, for the processes that work on it together.

    Args:
        family: its name.
        params: all parameters.
        num_classes: 0 for regression.
        seed: of the fit.
        threads: of each process.
        digests: what checkpoints belong to.
        boards: where else readings go, as in `FitContext`.
        train: rows to learn from.
        valid: rows to stop early on.
        start: first bias of the head.
    """

    family: str
    params: dict[str, Any]
    num_classes: int
    seed: int
    threads: int
    digests: dict[str, str]
    boards: dict[str, str]
    train: JobRows
    valid: JobRows | None
    start: Floats

    @property
    def num_steps(self) -> int:
        """Steps of the whole fit, if it does not end early."""
        rows, batch = self.train.target.shape[0], self.params["batch_size"]
        return max(1, -int(-rows * self.params["epochs"] // batch))

    def save(self, folder: Path, encoder: Encoder) -> None:
        """Write the job and the encoder into a folder, as often as it is started."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TRAINED).unlink(missing_ok=True)
        if not (folder / "encoder").exists():
            (folder / "encoder").mkdir()
            encoder.save(folder / "encoder")
        self.train.save(folder / "train.safetensors")
        if self.valid is not None:
            self.valid.save(folder / "valid.safetensors")
        names = ("family", "params", "num_classes", "seed", "threads", "digests", "boards")
        facts = {name: getattr(self, name) for name in names} | {"start": self.start.tolist()}
        (folder / "job.json").write_text(json.dumps(facts), encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> Job:
        """Read what `save` wrote."""
        facts = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        held = folder / "valid.safetensors"
        return Job(
            **{**facts, "start": np.array(facts["start"])},
            train=JobRows.read(folder / "train.safetensors"),
            valid=JobRows.read(held) if held.exists() else None,
        )


@contextmanager
def followed(log: Path, num_steps: int, reporter: Reporter) -> Iterator[None]:
    """While other processes train, tell of what their log says.

    Args:
        log: lines of JSON with `step`, `loss` and `samples_per_second`.
        num_steps: steps of the whole fit.
        reporter: hears of them.
    """
    over = threading.Event()
    with reporter.step("train", total=num_steps) as step:

        def follow() -> None:
            told = 0
            while not over.wait(_FOLLOW_SECONDS):
                entry = _last_reading(log)
                if entry is not None and entry["step"] > told:
                    step.advance(entry["step"] - told)
                    told = entry["step"]
                    step.describe(
                        f"loss {entry['loss']:.4g}, {entry['samples_per_second']:,.0f} rows/s"
                    )

        thread = threading.Thread(target=follow, name="follow", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _last_reading(log: Path) -> dict[str, Any] | None:
    if not log.exists():
        return None
    for line in reversed(log.read_text(encoding="utf-8").split("\n")[:-1]):
        entry: dict[str, Any] = json.loads(line)
        if entry["kind"] == "train":
            return entry
    return None


def start_bias(target: NDArray[Any], weight: NDArray[Any] | None, num_classes: int) -> Floats:
    """The logarithm of each class's share, so that training starts at the constant answer."""
    if not num_classes:
        return np.zeros(1)
    mass = np.bincount(target, weights=weight, minlength=num_classes)
    shares = mass / mass.sum()
    logs: Floats = np.log(np.maximum(shares, 1e-4))
    return logs - float(logs.mean())


def scaled_target(view: TrainView, target: Target, num_classes: int) -> NDArray[Any]:
    """Class codes (int64), which labels a row has (int8), or scaled values (float32)."""
    if view.target.ndim == 2:
        return view.target.copy()
    if num_classes:
        return np.asarray(view.target, dtype=np.int64).copy()
    return target.scaled(view.target).astype(np.float32)


def single(weight: Floats | None) -> NDArray[np.float32] | None:
    """Weights in 32 bits."""
    return None if weight is None else weight.astype(np.float32)
