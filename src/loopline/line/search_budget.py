"""The time of a search: how long trials may go on, so that the whole run ends when it was told to.

A budget is the time of the whole run, from its start to its report. What follows the search is kept
free: scores and choice, timed once by scoring the first complete trial; the final fit, importance
and latency of the model that would be chosen now, rehearsed by its trial on a few rows. A run that
is over puts down what was expected and what came, and the next one of the project corrects itself
by that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from safetensors.numpy import load_file

from loopline.errors import LooplineError
from loopline.evaluate.evaluation import evaluate_predictions
from loopline.evaluate.metrics import metric
from loopline.line.context import LineContext
from loopline.line.divide import Prepared
from loopline.line.race import further_metrics, metric_name, observed
from loopline.line.rehearsal import FIXED_SECONDS
from loopline.line.trial_scores import OUT_OF_FOLD, Ints, full
from loopline.models.base import Floats
from loopline.models.families import family
from loopline.search.record import Record
from loopline.seeds import child_seed
from loopline.select.candidates import Candidate
from loopline.select.choose import choose
from loopline.splits.spec import FOLD_VALID
from loopline.words import counted

TIMED = "search.timed"
MARGIN = 1.1
LATE_SHARE = 0.04
"""Of the budget: a run is at most so late where another model is chosen than was expected."""
JOINING_SHARE = 2 / 3
"""Of the time left: so much a family's first trial may take where a blend would fit the family once
more and ask for its importance, which on five folds takes up to half of the trial's time."""
DEAR_SHARE = 0.1
"""Of the budget: from so much on a family's first trial is dear, and given up where it is
measurably behind. Its family would have no second trial that could mend it."""
CORRECTION = (0.7, 3.0)
"""Limits of what earlier runs' experience may change: too late is worse than too early."""
REMEMBERED = 5
"""Earlier runs whose median counts: one of them may have met a busy machine."""


@dataclass
class _Best:
    """The best trial of an arm so far: what its model costs, and what it predicts."""

    family: str
    costs: Mapping[str, float]
    prediction: Floats


class Clock:
    """Knows when the search must end.

    Args:
        context: the line; its start is the budget's.
        prepared: its rows.
        budget: seconds of the whole run; None for no limit.
        families: the family of each arm, by its name.
    """

    def __init__(
        self,
        context: LineContext,
        prepared: Prepared,
        budget: float | None,
        families: Mapping[str, str],
    ) -> None:
        self._context, self._prepared, self._budget = context, prepared, budget
        self._families = families
        self._best: dict[str, _Best] = {}
        self._chosen: str | None = None
        self._complete = 0
        self._scoring: float | None = None
        self._scored = 0.0
        self._correction = self._learned() if budget is not None else 1.0
        self._began = time.monotonic()

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
        return self._after(self._chosen)

    def _after(self, chosen: str | None) -> float:
        """The same, where an arm's model is chosen; None for the dearest one."""
        spec, best = self._context.spec, self._best
        candidates = len(best) + 3  # the baseline, the choice, the test
        scores = (self._scoring or 0.0) * candidates + self._scored * self._complete
        models = [sum(each.costs.values()) for each in best.values()]
        if spec.select == "best" and best:
            models.append(_of_blend([each.costs for each in best.values()]))
        own = max(models, default=FIXED_SECONDS)
        if chosen is not None:
            own = sum(best[chosen].costs.values())
        limited = spec.constraints.limits().given
        beside = [each.costs["latency"] for each in best.values()] if limited else []
        return own + scores + sum(beside)

    def reserve(self) -> float:
        """Seconds to keep free for what follows the search.

        Where the dearest of the best models is chosen after all, the run is late by a few percent.
        """
        allowed = LATE_SHARE * (self._budget or 0.0)
        return max(
            MARGIN * self._correction * self.expected(),
            self._correction * self._after(None) - allowed,
        )

    def deadline(self, joins: float | None = None) -> float | None:
        """When the trials must end, by the monotonic clock; None without a budget.

        The first trial may use all of the time: a late result is better than none.

        Args:
            joins: when the first trial of a family began: told is when the family would come too
                late, which for a blend is earlier, and None while there is no other result. None
                for any other trial.
        """
        if self._budget is None or (joins is not None and self._scoring is None):
            return None
        reserve = self.reserve() if self._scoring is not None else 0.0
        end = self._context.started + self._budget - reserve
        if joins is None or self._context.spec.select != "best":
            return end
        return joins + (end - joins) * JOINING_SHARE

    def dear(self) -> float | None:
        """Seconds from which a trial is dear; None without a budget."""
        return None if self._budget is None else DEAR_SHARE * self._budget

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
        self._complete += 1
        if self._scoring is None:
            self._scoring, self._scored = self._score(record.artifact)
        if record.costs:
            rows, prediction = self._opened(record.artifact)
            self._best[record.arm] = _Best(self._families[record.arm], record.costs, prediction)
            self._chosen = self._choice(rows)

    def _opened(self, artifact: str) -> tuple[Ints, Floats]:
        arrays = load_file(self._context.store.get(artifact).path(OUT_OF_FOLD))
        return arrays["rows"], full(arrays["prediction"])

    def _score(self, artifact: str) -> tuple[float, float]:
        """Seconds to score a trial as the choice scores a candidate, and as the study does."""
        context, prepared = self._context, self._prepared
        began = time.monotonic()
        rows, prediction = self._opened(artifact)
        view, schema = prepared.outcomes.at(rows), prepared.schema
        chosen = metric(metric_name(context, prepared))
        chosen.score(chosen.rows(view.target, prediction, weight=view.weight))
        plain = time.monotonic() - began
        evaluate_predictions(
            schema.task,
            schema.classes,
            view.target,
            prediction,
            units=observed(prepared, view),
            weight=view.weight,
            metrics=further_metrics(context, prepared),
        )
        return time.monotonic() - began, plain

    def _choice(self, rows: Ints) -> str | None:
        """The arm that the choice would take now; None where that cannot be told."""
        context, prepared = self._context, self._prepared
        if context.spec.select == "best":
            return None
        view = prepared.outcomes.at(rows)
        found = [
            Candidate(name, best.family, family(best.family).complexity, best.prediction)
            for name, best in self._best.items()
        ]
        try:
            return choose(
                found,
                view.target,
                metric(metric_name(context, prepared)),
                units=observed(prepared, view),
                weight=view.weight,
                folds=(prepared.split.folds[rows] == FOLD_VALID).argmax(axis=1),
                margin=context.spec.objective.margin,
                seed=child_seed(context.spec.seed, "choose"),
            ).chosen
        except LooplineError:  # the choice itself will tell
            return None

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


def _of_blend(costs: Sequence[Mapping[str, float]]) -> float:
    """What a blend costs: it fits and asks all of its members, and has no contributions."""
    together = sum(each.get(name, 0.0) for each in costs for name in ("final", "importance"))
    return together + max(each["fixed"] + each.get("latency", 0.0) for each in costs)


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
