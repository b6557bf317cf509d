"""Looking at a stream over the last 1, 2, 4 … windows at once, so that small moves are found too.

A move of a tenth of a standard deviation cannot be seen in 50 rows, by anyone; it can in 3,000. The
history keeps for each window only the sums of its scores, so that any number of last windows is
judged as one. The chance of a false alarm is shared out over the look-backs and all scores, and the
place where a move began is the look-back that speaks most clearly (Page 1954; Siegmund 1985).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.monitor.clock import Span, Trail
from loopline.monitor.law import Law
from loopline.monitor.scores import Question

Floats = NDArray[np.float64]
LOOKBACKS = (1, 2, 4, 8, 16, 32, 64, 128)
FINE = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


@dataclass(frozen=True, eq=False)
class Scan:
    """What the last windows say of every score; arrays of one entry a score.

    Args:
        p: chance of so large a move over the best look-back, times the number of look-backs.
        back: windows of that look-back.
        effect: the move over it.
        error: standard error of the move.
        freedom: degrees of freedom of the error.
        recent: chance of the newest window's move alone.
        count: rows of the look-back that have the score.
    """

    p: Floats
    back: NDArray[np.int64]
    effect: Floats
    error: Floats
    freedom: Floats
    recent: Floats
    count: Floats


@dataclass(eq=False)
class History:
    """The last windows of some scores.

    Args:
        law: what is normal of them.
        questions: what they are.
        lookbacks: how many last windows are judged as one.
    """

    law: Law
    questions: Sequence[Question]
    lookbacks: tuple[int, ...] = LOOKBACKS
    sums: list[Floats] = field(default_factory=list)
    counts: list[Floats] = field(default_factory=list)
    trail: Trail = field(default_factory=Trail)
    starts: list[str] = field(default_factory=list)
    _scan: Scan | None = None

    @property
    def side(self) -> NDArray[np.int64]:
        """1 for scores of which only a rise counts."""
        return np.array([question.side for question in self.questions], dtype=np.int64)

    def add(self, scores: Floats, span: Span, start: str) -> None:
        """Remember a window.

        Args:
            scores: of its rows, (rows, scores), NaN where a row has none.
            span: when they were.
            start: when the window began, for people.
        """
        known = np.isfinite(scores)
        count = known.sum(axis=0).astype(np.float64)
        self.add_sums(np.where(known, scores, 0.0).sum(axis=0), count, span, start)

    def add_sums(self, total: Floats, count: Floats, span: Span, start: str) -> None:
        """Remember a window by the sums of its scores and how many rows have each."""
        self._scan = None
        self.sums.append(total - count * self.law.expected(span))
        self.counts.append(count)
        self.trail.add(span)
        self.starts.append(start)
        if len(self.sums) > self.lookbacks[-1]:
            self.trail.drop()
            del self.sums[0], self.counts[0], self.starts[0]

    def scan(self) -> Scan:
        """Judge the last windows over every look-back."""
        if self._scan is None:
            self._scan = self._scanned()
        return self._scan

    def _scanned(self) -> Scan:
        backs = [back for back in self.lookbacks if back <= len(self.sums)]
        sums = np.cumsum(np.array(self.sums[::-1]), axis=0)[np.array(backs) - 1]
        counts = np.cumsum(np.array(self.counts[::-1]), axis=0)[np.array(backs) - 1]
        effect = sums / np.maximum(counts, 1.0)
        sparse = self._sparse()[np.array(backs) - 1]
        variance, freedoms = self.law.variance(self.trail.crowd(backs), counts, sparse)
        errors = np.sqrt(variance)
        chances = self.law.tail(effect, variance, freedoms, counts)
        one = self.side == 1
        chances = np.where(one, np.where(effect > 0, chances, 1.0), np.minimum(2 * chances, 1.0))
        chances = np.where(counts > 0, chances, 1.0)
        best = chances.argmin(axis=0)
        at = (best, np.arange(effect.shape[1]))
        return Scan(
            np.minimum(chances[at] * len(self.lookbacks), 1.0),
            np.array(backs)[best],
            effect[at],
            errors[at],
            freedoms[at],
            chances[0],
            counts[at],
        )

    def _sparse(self) -> Floats:
        """For each number of last windows, their rows over those of windows that have the score."""
        rows = np.array(self.trail.rows[::-1], dtype=np.float64)[:, None]
        has = np.array(self.counts[::-1]) > 0
        covered = np.cumsum(rows * has, axis=0)
        return np.where(covered > 0, np.cumsum(rows, axis=0) / np.maximum(covered, 1.0), 1.0)

    def over(self, back: int) -> tuple[Floats, Floats, Floats]:
        """Move, standard error and degrees of freedom over the last `back` windows."""
        back = min(back, len(self.sums))
        counts = np.sum(self.counts[-back:], axis=0)
        effect = np.sum(self.sums[-back:], axis=0) / np.maximum(counts, 1.0)
        sparse = self._sparse()[back - 1 : back]
        variance, freedom = self.law.variance(self.trail.crowd([back]), counts[None, :], sparse)
        return effect, np.where(counts > 0, np.sqrt(variance[0]), np.inf), freedom[0]

    def chances(self, back: int) -> Floats:
        """Chance of so large a move over the last `back` windows, one entry a score."""
        effect, error, freedom = self.over(back)
        counts = np.sum(self.counts[-back:], axis=0)
        variance = np.where(np.isfinite(error), error, 1.0) ** 2
        chance = self.law.tail(effect, variance, freedom, counts)
        chance = np.where(self.side == 1, np.where(effect > 0, chance, 1.0), 2 * chance)
        return np.where(counts > 0, np.minimum(chance, 1.0), 1.0)

    def forget(self, score: int) -> None:
        """Let the past of a score count no more, once what moved has come back."""
        self._scan = None
        for part in (*self.sums, *self.counts):
            part[score] = 0.0

    def began(self, score: int) -> tuple[str, int]:
        """Where a move of one score most likely began: the clearest look-back of any length.

        Returns:
            The start of its first window, and how many windows ago that was.
        """
        sums = np.cumsum([part[score] for part in self.sums[::-1]])
        counts = np.cumsum([part[score] for part in self.counts[::-1]])
        spread = self.law.within[score] / np.maximum(counts, 1.0) + self.law.shared[
            :, score
        ].sum() / np.arange(1, counts.size + 1)
        z = np.where(counts > 0, np.abs(sums / np.maximum(counts, 1.0)) / np.sqrt(spread), 0.0)
        back = int(z.argmax()) + 1
        return self.starts[-back], back

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "sums": [part.tolist() for part in self.sums],
            "counts": [part.tolist() for part in self.counts],
            "trail": self.trail.to_dict(),
            "starts": list(self.starts),
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on from what `to_dict` gave."""
        self._scan = None
        self.sums = [np.array(part, dtype=np.float64) for part in data["sums"]]
        self.counts = [np.array(part, dtype=np.float64) for part in data["counts"]]
        self.trail = Trail.from_dict(data["trail"])
        self.starts = list(data["starts"])
