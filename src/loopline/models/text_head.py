"""A frozen text encoder with a linear head: every text is embedded once, the rest is linear.

Quick and strong on a processor: no gradient ever goes through the encoder. Its vectors are brought
to unit size and handed to the linear family's estimator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from loopline.data.schema import Task
from loopline.digest import canonical_json
from loopline.errors import IntegrityError
from loopline.features.base import Output
from loopline.features.rows import ArrayRows
from loopline.models.base import FitContext, FittedModel, Floats, Params
from loopline.models.frozen_text import FrozenText
from loopline.models.linear import Linear, LinearEstimator
from loopline.models.neural import rearranged_rows
from loopline.models.table import Matrix, folder_bytes
from loopline.models.text_encoder import TextEncoder

if TYPE_CHECKING:
    from loopline.nets.text import Embedder

FORMAT = 1
LEAST_SPREAD = 0.2
"""Places of a vector are divided by their spread, or by this share of the usual one."""
TINY = 1e-30
TOLERANCE = 1e-4
"""Of the head's fit: vectors are dense, and a hundred times less would take 20 times as long."""
_BLOCK_ROWS = 16_384
_STEADY_ROWS = 256
"""Tables of so many rows are embedded in full batches, whose vectors are remembered."""


@dataclass(frozen=True)
class Head:
    """A linear head on vectors of unit size.

    Args:
        center: subtracted from each vector, shape (hidden,).
        scale: what it is divided by, shape (hidden,).
        estimator: coefficients and intercepts.
        num_classes: 0 for regression.
    """

    center: Floats
    scale: Floats
    estimator: LinearEstimator
    num_classes: int

    def predict(self, vectors: Floats) -> Floats:
        """Probabilities (rows, classes) or values (rows,)."""
        return self.estimator.predict((vectors - self.center) / self.scale)

    def folded(self) -> Floats:
        """The head of a network: its bias, then a row of weights a value of the vector.

        Shape (1 + hidden, outputs); a binary head has two outputs.
        """
        inner, intercepts = self.estimator.unscaled()
        weights = inner / self.scale[:, None]
        bias = intercepts - self.center @ weights
        whole: Floats = np.vstack([bias[None, :], weights])
        two = self.num_classes == 2 and not self.estimator.apart
        return np.hstack([-whole / 2, whole / 2]) if two else whole


@dataclass(frozen=True)
class Labels:
    """What is to be learned of some rows: targets and weights of mean 1."""

    target: NDArray[Any]
    weight: Floats | None


def fit_head(
    vectors: Floats,
    labels: Labels,
    valid: tuple[Floats, Labels] | None,
    *,
    task: Task,
    num_classes: int,
    params: Params,
    context: FitContext,
) -> Head:
    """Fit the linear family's estimator on vectors of shape (rows, hidden)."""
    weight = labels.weight
    center = np.average(vectors, axis=0, weights=weight)
    spread = np.sqrt(np.average((vectors - center) ** 2, axis=0, weights=weight))
    # a place that hardly varies is left small: blown up, rounding in 16 bits would swamp the rest
    scale = np.maximum(spread, LEAST_SPREAD * float(np.sqrt(np.mean(spread**2)))) + TINY
    linear = Linear()
    outputs = tuple(Output(f"vector.{place}", "text") for place in range(vectors.shape[1]))

    def matrix(values: Floats, known: Labels) -> Matrix:
        rows = ArrayRows(np.ascontiguousarray((values - center) / scale))
        units = np.arange(values.shape[0])
        return Matrix(rows, known.target, known.weight, units, None, outputs)

    settings = linear.resolve({"penalty": params["penalty"]}, task, vectors.shape[0])
    estimator = linear.fit_matrix(
        matrix(vectors, labels),
        None if valid is None else matrix(*valid),
        task=task,
        num_classes=num_classes,
        params={**settings, "tolerance": TOLERANCE},
        context=context,
    )
    return Head(center, scale, estimator, num_classes)


class TextHeadModel(FittedModel):
    """A frozen encoder with the head that was fitted on its vectors.

    Args:
        family: the family's name.
        task: what is predicted.
        num_classes: 0 for regression.
        params: all parameters.
        encoder: makes the tokens.
        head: fitted on the encoder's vectors.
        digest: of the encoder's weights file.
        whole: whether `save` writes the encoder's weights. A fold's model names them by digest.
        weights: the saved weights; None where the encoder comes from where `params` say.
        size_bytes: of the saved files with the encoder, 0 while unknown.
    """

    def __init__(
        self,
        *,
        family: str,
        task: Task,
        num_classes: int,
        params: Mapping[str, Any],
        encoder: TextEncoder,
        head: Head,
        digest: str,
        whole: bool,
        weights: Path | None = None,
        size_bytes: int = 0,
    ) -> None:
        self.family, self.task, self.params = family, task, dict(params)
        self.num_classes = num_classes
        self.encoder, self.head = encoder, head
        name = str(self.params["model"])
        self._source = FrozenText(encoder, name, digest, whole, weights)
        self._size_bytes = size_bytes

    @property
    def frozen(self) -> Embedder:
        """The encoder; see `FrozenText.embedder`."""
        return self._source.embedder

    def quicken(self) -> None:
        """See `FittedModel.quicken`: the encoder becomes a graph, where it is of a known build."""
        self._source.quicken()

    def predict(self, frame: pl.DataFrame) -> Floats:
        """Predict a table, in blocks of rows."""
        shape = (frame.height, self.num_classes) if self.num_classes else (frame.height,)
        out = np.empty(shape)
        steady = frame.height >= _STEADY_ROWS
        for start in range(0, frame.height, _BLOCK_ROWS):
            block = frame.slice(start, _BLOCK_ROWS)
            vectors = self._source.vectors(self.encoder.encode(block), steady=steady)
            out[start : start + block.height] = self.head.predict(vectors)
        return out

    def rearranged(
        self, frame: pl.DataFrame, start: int, stop: int
    ) -> Callable[[Sequence[str], NDArray[np.int64]], Floats]:
        """See `FittedModel.rearranged`; a text that only changed its row is not embedded again."""
        plain = super().rearranged(frame, start, stop)
        return rearranged_rows(
            self.predict, plain, self.encoder.settings.columns, frame, start, stop
        )

    @property
    def size_bytes(self) -> int:
        """Bytes of the saved files, and of the encoder where it lies elsewhere."""
        return self._size_bytes

    def save(self, folder: Path) -> None:
        """Write `model.json`, `encoder/`, `estimator/`, and `weights.safetensors` where whole."""
        (folder / "encoder").mkdir(parents=True, exist_ok=True)
        (folder / "estimator").mkdir()
        self.encoder.save(folder / "encoder")
        self.head.estimator.save(folder / "estimator")
        scales = {"center": self.head.center, "scale": self.head.scale}
        save_file(scales, folder / "scales.safetensors")
        self._source.save_weights(folder / "weights.safetensors")
        elsewhere = self._source.elsewhere_bytes
        facts = {
            "format": FORMAT,
            "family": self.family,
            "task": self.task,
            "num_classes": self.num_classes,
            "params": self.params,
            "weights": self._source.digest,
            "elsewhere_bytes": elsewhere,
        }
        (folder / "model.json").write_text(canonical_json(facts) + "\n", encoding="utf-8")
        self._size_bytes = folder_bytes(folder) + elsewhere


def load_head(folder: Path, facts: Mapping[str, Any]) -> TextHeadModel:
    """Read what `TextHeadModel.save` wrote; `facts` are those of its `model.json`."""
    try:
        scales = load_file(folder / "scales.safetensors")
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{folder} does not hold a text model: {error}") from error
    estimator = Linear().load_estimator(folder / "estimator")
    weights = folder / "weights.safetensors"
    return TextHeadModel(
        family=facts["family"],
        task=facts["task"],
        num_classes=facts["num_classes"],
        params=facts["params"],
        encoder=TextEncoder.load(folder / "encoder"),
        head=Head(scales["center"], scales["scale"], estimator, facts["num_classes"]),
        digest=facts["weights"],
        whole=weights.exists(),
        weights=weights if weights.exists() else None,
        size_bytes=folder_bytes(folder) + facts["elsewhere_bytes"],
    )
