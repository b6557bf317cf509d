"""The simple rival where images are found by words: the commonest captions first, images unread."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopline.data.retrieval import caption_of, gallery_of
from loopline.data.schema import Task
from loopline.digest import canonical_json
from loopline.models.base import FittedModel, Floats
from loopline.models.table import folder_bytes, read_facts
from loopline.splits.views import TrainView


class CaptionPrior(FittedModel):
    """Ranks captions by how often training had them; equally frequent ones share their ranks.

    Args:
        caption: the column of captions.
        counts: how often training had each caption of the gallery.
        params: of the fit.
    """

    family = "baseline"
    task: Task = "retrieval"

    def __init__(self, caption: str, counts: Mapping[str, int], params: Mapping[str, Any]) -> None:
        self._caption, self._counts, self.params = caption, dict(counts), dict(params)
        self._size_bytes = 0

    @staticmethod
    def counted(train: TrainView, params: Mapping[str, Any]) -> CaptionPrior:
        """Count the captions of a training view."""
        caption = caption_of(train.schema)
        captions = train.column(caption).to_list()
        counts = Counter(captions)
        return CaptionPrior(caption, {each: counts[each] for each in gallery_of(captions)}, params)

    def predict(self, frame: pl.DataFrame) -> Floats:
        """The rank of each row's caption, shape (rows,); one never seen comes last."""
        known = np.array(sorted(self._counts.values()))
        found = np.empty(frame.height)
        for row, caption in enumerate(frame[self._caption].to_list()):
            count = self._counts.get(caption, 0)
            better = known.size - np.searchsorted(known, count, side="right")
            equal = int((known == count).sum()) - (caption in self._counts)
            found[row] = 1.0 + better + 0.5 * equal
        return found

    def save(self, folder: Path) -> None:
        """Write `model.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "format": 1,
            "family": self.family,
            "task": self.task,
            "params": self.params,
            "caption": self._caption,
            "counts": self._counts,
        }
        (folder / "model.json").write_text(canonical_json(facts) + "\n", encoding="utf-8")
        self._size_bytes = folder_bytes(folder)

    @staticmethod
    def read(folder: Path) -> CaptionPrior:
        """Read what `save` wrote."""
        read_facts(folder, "baseline")
        facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        found = CaptionPrior(facts["caption"], facts["counts"], facts["params"])
        found._size_bytes = folder_bytes(folder)
        return found

    @property
    def size_bytes(self) -> int:
        """Bytes of the saved file; known once the model was saved or loaded."""
        return self._size_bytes
