"""BentoML with its defaults: one service, one worker."""

from __future__ import annotations

import bentoml
from by_hand import probability


@bentoml.service(workers=1)
class Model:
    """The service."""

    @bentoml.api
    def predict(self, row: dict) -> dict[str, float]:
        """One row."""
        return {"probability": probability(row)}
