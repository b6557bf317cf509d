"""Watching models whose rows hold their own answer: language models and retrieval.

A text is what a language model predicts, and a caption is what is looked for among an image's: so
the loss of a row is measured when it is answered, no label is waited for, and nothing is assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from loopline.data.language import predicted_text
from loopline.monitor.losses import TOP, Floats, Losses
from loopline.monitor.reference import Reference

if TYPE_CHECKING:
    from loopline.data.schema import Schema


@dataclass(frozen=True, eq=False)
class AnswerLosses(Losses):
    """Losses that the rows themselves tell: `stated` is the loss.

    Args:
        name: of the loss.
        top: the largest loss that counts.
    """

    top: float = np.inf
    why = "measured on the rows themselves, which hold their own answer"
    expects = "of what was asked"
    labels_come = False

    def of(self, prediction: Floats, outcome: Floats) -> Floats:
        """See `Losses.of`; outcomes add nothing."""
        del outcome
        return self.expected(prediction)

    def expected(self, prediction: Floats) -> Floats:
        """See `Losses.expected`: the loss itself."""
        return np.minimum(prediction.reshape(-1), self.top)

    def residual(self, prediction: Floats, outcome: Floats) -> tuple[Floats, Floats]:
        """See `Losses.residual`: nothing is stated of what comes later."""
        del outcome
        nothing = np.full(len(prediction), np.nan)
        return nothing, nothing

    def outputs(self, prediction: Floats) -> dict[str, Floats]:
        """See `Losses.outputs`: none beside the loss."""
        del prediction
        return {}


@dataclass(frozen=True, eq=False)
class TextLosses(AnswerLosses):
    """Bits that a language model needs for a byte of each text it was asked for.

    A text that the model has never seen the like of costs many bits; a few such texts in a window
    count as the dearest of the reference do.
    """

    @staticmethod
    def learn(reference: Reference) -> TextLosses:
        """See `Losses.learn`."""
        assert reference.prediction is not None
        return TextLosses("bits per byte", float(np.quantile(reference.prediction, TOP)))

    @classmethod
    def stated(cls, raw: Floats, frame: pl.DataFrame, schema: Schema) -> Floats:
        """Bits per byte from the nats of each text; NaN where the text is not known."""
        text = predicted_text(schema)
        if text not in frame.columns:
            return np.full(len(raw), np.nan)
        size = frame[text].cast(pl.String).str.len_bytes().cast(pl.Float64).to_numpy()
        return np.where(size > 0, raw / np.log(2) / np.maximum(size, 1), np.nan)


@dataclass(frozen=True, eq=False)
class RankLosses(AnswerLosses):
    """Whether a row's own caption was not the first among those that the model knows."""

    @staticmethod
    def learn(reference: Reference) -> RankLosses:
        """See `Losses.learn`."""
        del reference
        return RankLosses("error")

    @classmethod
    def stated(cls, raw: Floats, frame: pl.DataFrame, schema: Schema) -> Floats:
        """1 where the rank of the caption is above 1."""
        del frame, schema
        return np.where(np.isfinite(raw), (raw > 1).astype(np.float64), np.nan)
