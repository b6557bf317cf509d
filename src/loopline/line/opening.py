"""Whether a run may score the test rows, and what a report says of it.

The first model that is scored on a set of test rows is free, and so is the same model again. A
further one needs the word of a person (`loopline run --open-vault "reason"`); without it the run
does everything but the test score, so that variants are compared out of fold and the vault is
opened once, for the one that is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from loopline.digest import bytes_digest, value_digest
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.models.base import Floats
from loopline.splits.vault import (
    EVENT,
    TestLabels,
    Vault,
    inflation,
    looks_at,
    told_closed,
    told_openings,
)
from loopline.store.artifacts import Artifact

WIDTH = 2 * 1.959964
"""Standard errors between the ends of a 95 % interval."""
NO_TEST_SIDE = "There is no test side, so only the out-of-fold scores speak for this model."


class Opening:
    """One run's way to the labels of its test rows.

    Args:
        context: the run; its `open_vault` is the justification.
        prepared: the rows.
        predict: predicts the test rows.
        threshold: the decision threshold that goes with the predictions.
    """

    def __init__(
        self,
        context: LineContext,
        prepared: Prepared,
        predict: Callable[[], Floats],
        threshold: float | None,
    ) -> None:
        self._context = context
        self._prepared = prepared
        self._predict = predict
        self._threshold = threshold

    @cached_property
    def prediction(self) -> Floats:
        """What the model says of the test rows."""
        return np.ascontiguousarray(self._predict())

    @cached_property
    def look(self) -> str:
        """Digest of the predictions and their threshold: the same ones again are the same look."""
        scored = np.array(self.prediction, dtype="<f8")
        return value_digest([bytes_digest(scored.tobytes()), list(scored.shape), self._threshold])

    @cached_property
    def closed(self) -> bool:
        """Whether the run ends without a test score."""
        reason = self._context.open_vault
        if num_test(self._prepared.split_artifact) == 0 or reason:
            return False
        if reason is None:
            return True
        taken = looks_at(self._context.ledger, digest_of_test(self._prepared.split_artifact))
        if len(taken) < self._context.spec.vault.looks:
            return False
        line = self._line
        return not any(entry.covers("", line) or entry.covers(self.look, line) for entry in taken)

    @property
    def _line(self) -> str:
        """Digest of what the line was asked for and of all its rows."""
        asked = self._context.spec.portable()
        for name in ("name", "vault"):
            asked.pop(name, None)
        certificate = self._prepared.split_artifact.meta["certificate"]
        return value_digest([asked, certificate["rows_digest"]])

    def labels(self, reason: str) -> TestLabels:
        """Open the vault."""
        vault = Vault(
            self._prepared.split,
            self._prepared.table,
            self._prepared.schema,
            self._context.ledger,
            run=self._context.run,
            free=self._context.spec.vault.looks,
        )
        return vault.open(
            reason, look=self.look, line=self._line, justification=self._context.open_vault or ""
        )


def num_test(split: Artifact) -> int:
    """Number of test rows of a split artifact."""
    return int(split.meta["certificate"]["num_test"])


def digest_of_test(split: Artifact) -> str:
    """Identity of the test rows of a split artifact."""
    return str(split.meta["certificate"]["test_digest"])


def vault_facts(
    context: LineContext, prepared: Prepared, evaluation: Artifact, metric: str
) -> dict[str, Any]:
    """How often the test labels were opened and what that may have cost, as plain data.

    Returns:
        `opened`: whether this run has a test score; `looks`: different models scored on these test
        rows so far; `openings`: events; `bound`: how far the best of the looks can lie above the
        truth, in the metric's unit, None where it is not known; `reasons`; and one `sentence`.
    """
    split = prepared.split_artifact
    looks = looks_at(context.ledger, digest_of_test(split))
    scores = evaluation.meta["metrics"]
    error = _standard_error(scores.get(metric))
    if num_test(split) == 0:
        sentence = NO_TEST_SIDE
    elif not scores:
        sentence = told_closed(looks, num_test(split))
    else:
        sentence = told_openings(looks, metric, error)
    return {
        "opened": bool(scores),
        "looks": len(looks),
        "openings": len(context.ledger.events(kind=EVENT, subject=digest_of_test(split))),
        "metric": metric,
        "bound": None if error is None else inflation(error, len(looks)),
        "reasons": [entry.justification or entry.reason for entry in looks],
        "sentence": sentence,
    }


def _standard_error(score: dict[str, Any] | None) -> float | None:
    if score is None or score.get("low") is None or score.get("high") is None:
        return None
    if score.get("standard_error") is not None:
        return float(score["standard_error"])
    width = float(score["high"]) - float(score["low"])
    return width / WIDTH if np.isfinite(width) else None
