"""Champion and challenger: who answers a request, and when a challenger is taken back.

A challenger begins as a *shadow*: it answers the same rows after the caller has the champion's
answer; both are logged. With a share it is a *canary* and answers that share of the requests. It is
taken back, and the champion answers all, as soon as one of these is plain:

- *errors*: at least five rows at which it failed, more than the allowed share above the champion's.
  No caller sees such a failure: the champion stands in.
- *latency*: the median time for a row over the last answers, beyond the allowed ratio.
- *quality*: labels came, and its mean loss (log loss, squared error) is worse by more than three
  standard errors of the difference. Three and not two, because it is looked at again and again.
"""

from __future__ import annotations

import math
import statistics
import uuid
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from loopline.data.schema import Label
from loopline.models.base import Floats
from loopline.serve.model import ServedModel
from loopline.serve.settings import CanarySettings

MIN_ERRORS = 5
_TIMES = 500
_REMEMBERED = 50_000
_STANDARD_ERRORS = 3.0
_LOSSES = 5_000
_JUDGED_EVERY = 50

NOTHING: dict[str, Any] = {
    "requests": 0, "failed": 0, "failure": "", "dropped": 0, "rows": 0, "differing": 0,
    "seconds": None, "champion_seconds": None,
}  # fmt: skip
"""The counts of a trial that has not begun."""


@dataclass(slots=True)
class Side:
    """What has been seen of one side."""

    answers: int = 0
    errors: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_TIMES))
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=_LOSSES))

    @property
    def error_share(self) -> float:
        """Errors among the answers asked for."""
        return self.errors / max(1, self.answers + self.errors)


class Trial:
    """One challenger beside one champion.

    Args:
        champion: who answers by default.
        challenger: who is tried.
        settings: its share and its limits.
    """

    def __init__(
        self, champion: ServedModel, challenger: ServedModel, settings: CanarySettings
    ) -> None:
        self.champion = champion
        self.challenger = challenger
        self.settings = settings
        self.id = uuid.uuid4().hex[:12]
        self.sides = {"champion": Side(), "challenger": Side()}
        self.rows = self.differing = self.dropped = 0
        self.failure = ""
        self._due = 0.0
        self._answered: OrderedDict[tuple[str, int], list[tuple[str, Floats]]] = OrderedDict()

    @property
    def shadow(self) -> bool:
        """Whether its answers are logged only."""
        return self.settings.share == 0

    def draws_challenger(self) -> bool:
        """Whether the next request is the challenger's; spreads its share evenly."""
        self._due += self.settings.share
        if self._due < 1:
            return False
        self._due -= 1
        return True

    def answered(self, side: str, request_id: str, raw: Floats, seconds: float) -> None:
        """Note rows that a side answered, and the time each took."""
        seen = self.sides[side]
        seen.answers += 1
        seen.seconds.append(seconds)
        rows = raw[None] if raw.ndim == 1 and self.champion.classes else np.atleast_1d(raw)
        for row, prediction in enumerate(rows[:_REMEMBERED]):
            self._answered.setdefault((request_id, row), []).append((side, np.array(prediction)))
        while len(self._answered) > _REMEMBERED:
            self._answered.popitem(last=False)

    def failed(self, side: str, error: BaseException | None = None) -> None:
        """Note that a side failed at a request, and of what kind the first error was."""
        self.sides[side].errors += 1
        self.failure = self.failure or type(error).__name__

    def counts(self) -> dict[str, Any]:
        """What the challenger did so far, as plain data without any cell of a request.

        Requests answered, failed and let go; rows answered, and of classes those answered
        otherwise; seconds for a row of both sides, in the median of the last answers, None before
        there are any.
        """
        ours, theirs = self.sides["challenger"], self.sides["champion"]
        return {
            "requests": ours.answers,
            "failed": ours.errors,
            "failure": self.failure,
            "dropped": self.dropped,
            "rows": self.rows,
            "differing": self.differing if self.champion.classes else None,
            "seconds": statistics.median(ours.seconds) if ours.seconds else None,
            "champion_seconds": statistics.median(theirs.seconds) if theirs.seconds else None,
        }

    def labelled(self, request_id: str, row: int, label: Label) -> None:
        """Note the truth of an answered row."""
        for side, prediction in self._answered.pop((request_id, row), ()):
            self.sides[side].losses.append(self._loss(prediction, label))

    def verdict(self) -> str | None:
        """Why errors or slowness speak against the challenger; None while nothing is plain."""
        ours, theirs = self.sides["challenger"], self.sides["champion"]
        if ours.errors >= MIN_ERRORS:
            excess = ours.error_share - theirs.error_share
            if excess > self.settings.max_error_share:
                return (
                    f"errors: it failed at {ours.errors} of {ours.answers + ours.errors} requests"
                )
        enough = min(ours.answers, theirs.answers) >= self.settings.min_requests
        if enough and ours.answers % _JUDGED_EVERY == 0:
            slow, usual = statistics.median(ours.seconds), statistics.median(theirs.seconds)
            if slow > usual * self.settings.max_slowdown:
                return (
                    f"latency: {slow * 1e6:,.0f} µs for a row, the champion takes "
                    f"{usual * 1e6:,.0f} µs"
                )
        return None

    def verdict_on_quality(self) -> str | None:
        """`verdict` by the labels that came."""
        ours, theirs = (np.array(self.sides[side].losses) for side in ("challenger", "champion"))
        if min(len(ours), len(theirs)) < self.settings.min_labels:
            return None
        gap = ours.mean() - theirs.mean()
        error = math.sqrt(ours.var(ddof=1) / len(ours) + theirs.var(ddof=1) / len(theirs))
        if gap <= _STANDARD_ERRORS * error:
            return None
        return (
            f"quality: mean loss {ours.mean():.4g} on {len(ours):,} labels, the champion's is "
            f"{theirs.mean():.4g} on {len(theirs):,}"
        )

    def _loss(self, prediction: Floats, label: Label) -> float:
        if not self.champion.classes:
            return float((float(prediction) - float(label)) ** 2)
        code = self.champion.classes.index(label)
        return -math.log(max(float(prediction[code]), 1e-15))
