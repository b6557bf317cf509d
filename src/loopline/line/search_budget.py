"""The time of a search: how long trials may go on, so that the whole run ends when it was told to.

A budget is the time of the whole run, from its start to its report. What follows the search is kept
free: scores and choice, timed once by scoring the first complete trial; the final fit, importance
and latency of the best models, rehearsed by their trials on a few rows. A run that is over puts
down what was expected and what came, and the next one of the project corrects itself by that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median

from safetensors.numpy import load_file

from loopline.evaluate.evaluation import evaluate_predictions
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.race import further_metrics, observed
from loopline.line.trial_scores import OUT_OF_FOLD, full
from loopline.models.base import Floats
from loopline.search.record import Record
from loopline.words import counted

TIMED = "search.timed"
FIXED_SECONDS = 1.5
"""Reading and writing artifacts, and the report."""
MARGIN = 1.25
CORRECTION = (0.7, 3.0)
"""Limits of what earlier runs' experience may change: too late is worse than too early."""
REMEMBERED = 5
"""Earlier runs whose median counts: one of them may have met a busy machine."""


class Clock:
    """Knows when the search must end.

    Args:
        context: the line; its start is the budget's.
        prepared: its rows.
        budget: seconds of the whole run; None for no limit.
    """

    def __init__(self, context: LineContext, prepared: Prepared, budget: float | None) -> None:
        self._context, self._prepared, self._budget = context, prepared, budget
        self._costs: dict[str, Mapping[str, float]] = {}
        self._scoring: float | None = None
        self._correction = self._learned() if budget is not None else 1.0
        self._began = time.monotonic()
        self._steps_done: tuple[int, float] | None = None

    def _learned(self) -> float:
        """How much longer than expected earlier runs of this line took after their search."""
        ratios = [
            event.data["took"] / event.data["expected"]
            for event in self._context.ledger.events(kind=TIMED, newest_first=True)
            if event.data["name"] == self._context.spec.line_name and event.data["expected"] > 0
        ][:REMEMBERED]
        return min(CORRECTION[1], max(CORRECTION[0], median(ratios))) if ratios else 1.0

    def expected(self) -> float:
        """Seconds that what follows the search should take, by this run's own measures."""
        models = [sum(costs.values()) for costs in self._costs.values()]
        candidates = len(self._costs) + 3  # the baseline, the choice, the test
        return FIXED_SECONDS + max(models, default=0.0) + (self._scoring or 0.0) * candidates

    def reserve(self) -> float:
        """Seconds to keep free for what follows the search."""
        return MARGIN * self._correction * self.expected()

    def deadline(self) -> float | None:
        """When the trials must end, by the monotonic clock; None without a budget.

        The first trial may use all of the time: a late result is better than none.
        """
        if self._budget is None:
            return None
        reserve = self.reserve() if self._scoring is not None else 0.0
        return self._context.started + self._budget - reserve

    def left(self) -> float | None:
        """Seconds left for trials."""
        deadline = self.deadline()
        return None if deadline is None else deadline - time.monotonic()

    def wanted(self) -> bool:
        """Whether there is time for another trial."""
        left = self.left()
        return left is None or left > 0

    def learn(self, record: Record) -> None:
        """Take down what a trial tells of the time after the search."""
        if self._budget is None or record.artifact is None:
            return
        if record.costs:
            self._costs[record.arm] = record.costs
        if self._scoring is None:
            began = time.monotonic()
            self._score(record.artifact)
            self._scoring = time.monotonic() - began

    def _score(self, artifact: str) -> None:
        """Score a trial as the choice will score its candidates, for the time that it takes."""
        arrays = load_file(self._context.store.get(artifact).path(OUT_OF_FOLD))
        prediction: Floats = full(arrays["prediction"])
        view, schema = self._prepared.outcomes.at(arrays["rows"]), self._prepared.schema
        evaluate_predictions(
            schema.task,
            schema.classes,
            view.target,
            prediction,
            units=observed(self._prepared, view),
            weight=view.weight,
            metrics=further_metrics(self._context, self._prepared),
        )

    def over(self) -> dict[str, float]:
        """What a run needs to tell later how well the time was estimated: see `put_down`."""
        return {"ended": time.monotonic(), "expected": self.expected()}

    def sentence(self, done: int) -> str:
        """What to tell when the time is over."""
        return (
            f"The budget of {self._budget:g} s gave time for {counted(done, 'trial')}; "
            f"about {self.reserve():.0f} s are kept for what follows."
        )

    def too_short(self) -> str:
        """What to tell when the time did not suffice for one trial."""
        before = self._began - self._context.started
        tried = time.monotonic() - self._began
        told = f"`search.budget` of {self._budget:g} s does not suffice for one trial: what comes "
        told += f"before the search took {before:.1f} s"
        if before < (self._budget or 0.0):
            told += f", and the first trial was not done after {tried:.1f} s"
        return f"{told}. Give more time, fewer folds (`split.folds`), or no `search`."


def put_down(context: LineContext, facts: Mapping[str, float]) -> None:
    """Put into the ledger how long the run took after its search, for the next one's estimate."""
    context.ledger.append(
        TIMED,
        run=context.run or None,
        data={
            "name": context.spec.line_name,
            "expected": round(facts["expected"], 3),
            "took": round(time.monotonic() - facts["ended"], 3),
        },
    )
