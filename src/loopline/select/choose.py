"""The simplest model that is not measurably worse than the best.

Every candidate is compared with the best scorer on the same out-of-fold rows. A candidate counts
as worse when its paired interval, widened for the number of comparisons (Holm 1979), lies wholly
beyond the margin. Of those that are not worse, the simplest is chosen: by the family's complexity,
then by size in bytes, then by name.

On few rows "not measurably worse" says little: a model that is truly better can lose to a simpler
one because the rows cannot show it. So the sentence tells what difference they could have shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.errors import InputError
from loopline.evaluate.intervals import LEVEL, Estimate, estimate_rows
from loopline.evaluate.metrics import Metric
from loopline.evaluate.metrics import metric as read_metric
from loopline.evaluate.rows import Floats, Rows, Units
from loopline.select.compare import at_level, chance_beyond, compare_rows
from loopline.words import figure, interval

POWER = 0.8
"""Chance with which the stated smallest visible difference would have been seen."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """One trained candidate of the race.

    Args:
        name: how sentences call it.
        family: its model family.
        complexity: the family's place in the order of simplicity; 0 is a baseline.
        params: its parameters, plain data.
        prediction: out-of-fold predictions, one entry a row.
        size_bytes: size of the saved model.
        fit_seconds: time of its fits; told, never decided by (it differs from run to run).
    """

    name: str
    family: str
    complexity: int
    prediction: Floats
    params: Mapping[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    fit_seconds: float = 0.0

    @property
    def simplicity(self) -> tuple[int, int, str]:
        """Smaller is simpler."""
        return self.complexity, self.size_bytes, self.name


@dataclass(frozen=True)
class Comparison:
    """One line of the choice's table.

    Args:
        name: the candidate.
        family: its family.
        complexity: its place in the order of simplicity.
        size_bytes: size of the saved model.
        score: its score with interval.
        behind_best: how much worse than the best scorer, with the interval that decided (wider
            than 95 % when several candidates are compared); None for the best itself.
        worse: whether it is measurably worse by more than the margin.
        visible: the smallest true difference from the best that these rows would have shown with
            80 % power; NaN for the best or when unknown.
    """

    name: str
    family: str
    complexity: int
    size_bytes: int
    score: Estimate
    behind_best: Estimate | None
    worse: bool
    visible: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "family": self.family,
            "complexity": self.complexity,
            "size_bytes": self.size_bytes,
            "score": self.score.to_dict(),
            "behind_best": None if self.behind_best is None else self.behind_best.to_dict(),
            "worse": self.worse,
            "visible": None if not math.isfinite(self.visible) else self.visible,
        }


@dataclass(frozen=True)
class Choice:
    """The chosen candidate and why.

    Args:
        chosen: its name.
        best: name of the best scorer.
        metric: what was compared.
        margin: how much worse a simpler candidate may be.
        sentence: the reason, for a person.
        comparisons: one entry a candidate, best score first.
        over_baseline: how much better the chosen one is than the best baseline; None when it is
            the baseline or there is none.
    """

    chosen: str
    best: str
    metric: str
    margin: float
    sentence: str
    comparisons: tuple[Comparison, ...]
    over_baseline: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "chosen": self.chosen,
            "best": self.best,
            "metric": self.metric,
            "margin": self.margin,
            "sentence": self.sentence,
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "over_baseline": None if self.over_baseline is None else self.over_baseline.to_dict(),
        }


def choose(
    candidates: Sequence[Candidate],
    y: NDArray[Any],
    metric: Metric | str,
    *,
    units: NDArray[Any] | None = None,
    weight: NDArray[Any] | None = None,
    folds: NDArray[Any] | None = None,
    margin: float = 0.0,
    threshold: float = 0.5,
    level: float = LEVEL,
    seed: int = 0,
) -> Choice:
    """Choose the simplest candidate that is not measurably worse than the best.

    Args:
        candidates: at least one; each has a name of its own and predictions of the same rows.
        y: class codes or values, shape (rows,).
        metric: what to compare by.
        units: rows with equal entries count as one unit.
        weight: weight of each row.
        folds: the fold whose model predicted each row, shape (rows,); AUC and PR AUC then compare
            rows of one fold only, for every candidate alike.
        margin: by how much a simpler candidate may be worse, in units of the metric, >= 0.
        threshold: where a probability becomes the label 1; matters to label metrics only.
        level: of the comparisons taken together.
        seed: of the bootstrap, for the metrics that need one.

    Raises:
        InputError: no candidates, names that are not distinct, a negative margin, or a metric
            that is not defined for any candidate on these rows.
        DataError: predictions do not fit the rows.

    >>> y = np.tile([0, 1], 200)
    >>> sharp, flat = np.where(y == 1, 0.8, 0.2), np.full(400, 0.5)
    >>> trees = Candidate("trees", "lightgbm", 20, sharp)
    >>> constant = Candidate("constant", "constant", 0, flat)
    >>> choose([constant, trees], y, "log_loss").chosen
    'trees'
    """
    chosen_metric = read_metric(metric) if isinstance(metric, str) else metric
    _check(candidates, margin)
    rows = {
        candidate.name: chosen_metric.rows(
            y, candidate.prediction, weight=weight, threshold=threshold, folds=folds
        )
        for candidate in candidates
    }
    shared = Units.build(units, len(np.asarray(y)))
    race = _Race(chosen_metric, rows, shared, level, seed)
    scores = {
        name: estimate_rows(chosen_metric, each, shared, seed=seed) for name, each in rows.items()
    }
    if all(math.isnan(score.value) for score in scores.values()):
        note = next(iter(scores.values())).note
        raise InputError(
            f"Candidates cannot be compared by {chosen_metric.name} on these rows: {note}. "
            "Choose another metric or give rows on which it is defined."
        )
    ranked = sorted(candidates, key=lambda each: _rank(each, scores[each.name], chosen_metric))
    best = ranked[0]
    behind = race.behind(best, ranked[1:], margin)
    table = tuple(
        Comparison(
            name=each.name,
            family=each.family,
            complexity=each.complexity,
            size_bytes=each.size_bytes,
            score=scores[each.name],
            behind_best=behind[each.name][0] if each is not best else None,
            worse=each is not best and behind[each.name][1],
            visible=_visible(behind[each.name][0], level) if each is not best else float("nan"),
        )
        for each in ranked
    )
    acceptable = [each for each, line in zip(ranked, table, strict=True) if not line.worse]
    chosen = min(acceptable, key=lambda each: each.simplicity)
    baseline = next((each for each in ranked if each.complexity == 0), None)
    gain = None
    if baseline is not None and chosen.complexity > 0:
        gain = race.difference(chosen.name, baseline.name)
    sentence = _explain(chosen, best, baseline, gain, table=table, race=race, margin=margin)
    return Choice(chosen.name, best.name, chosen_metric.name, margin, sentence, table, gain)


@dataclass(frozen=True, eq=False)
class _Race:
    metric: Metric
    rows: Mapping[str, Rows]
    units: Units
    level: float
    seed: int

    def difference(self, a: str, b: str) -> Estimate:
        return compare_rows(
            self.metric, self.rows[a], self.rows[b], self.units, level=self.level, seed=self.seed
        )

    def behind(
        self, best: Candidate, others: Sequence[Candidate], margin: float
    ) -> dict[str, tuple[Estimate, bool]]:
        """Each other's distance behind the best, and whether it counts, by Holm's steps.

        The k-th smallest p-value is held against (1 - level) / (comparisons left); after the first
        that fails, nothing counts. The interval given is the one that decides at that step.
        """
        differences = {each.name: self.difference(best.name, each.name) for each in others}
        steps = sorted(
            differences, key=lambda name: (chance_beyond(differences[name], margin), name)
        )
        allowed, failed, result = 1 - self.level, False, {}
        for place, name in enumerate(steps):
            if not failed:
                allowed = (1 - self.level) / (len(steps) - place)
                failed = chance_beyond(differences[name], margin) > allowed
            result[name] = (at_level(differences[name], 1 - allowed), not failed)
        return result


def _check(candidates: Sequence[Candidate], margin: float) -> None:
    names = [candidate.name for candidate in candidates]
    if not names:
        raise InputError("A choice needs at least one candidate, got none.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"Candidates need names of their own; {twice[0]!r} stands there twice.")
    if not (math.isfinite(margin) and margin >= 0):
        raise InputError(f"`margin` must be a number >= 0, got {margin}.")


def _rank(candidate: Candidate, score: Estimate, metric: Metric) -> tuple[float, tuple[Any, ...]]:
    value = -metric.sign * score.value
    return (math.inf if math.isnan(value) else value), candidate.simplicity


def _visible(difference: Estimate, level: float) -> float:
    normal = NormalDist()
    reach = normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(POWER)
    return reach * difference.standard_error


# The sentence -------------------------------------------------------------------------------------


def _explain(
    chosen: Candidate,
    best: Candidate,
    baseline: Candidate | None,
    gain: Estimate | None,
    *,
    table: Sequence[Comparison],
    race: _Race,
    margin: float,
) -> str:
    lines = {line.name: line for line in table}
    if len(table) == 1:
        return f"{chosen.name} is the only candidate: {_score(lines[chosen.name], race)}."
    if chosen.complexity == 0:
        return _explain_baseline(chosen, best, lines, race, margin)
    if chosen is best:
        return _explain_best(chosen, baseline, table, race, margin)
    return _explain_simpler(chosen, best, lines, race, margin) + _against_baseline(baseline, gain)


def _explain_best(
    chosen: Candidate,
    baseline: Candidate | None,
    table: Sequence[Comparison],
    race: _Race,
    margin: float,
) -> str:
    """Why the best scorer was not undercut: each simpler one is measurably worse.

    The baseline's distance is told once, by the interval that decided.
    """
    text = f"{chosen.name} scored best with {_score(table[0], race)}"
    simpler = [line for line in table if _place(line) < chosen.simplicity and line.worse]
    against = next((line for line in simpler if baseline and line.name == baseline.name), None)
    others = [line for line in simpler if line is not against]
    beyond = f", more than the margin of {margin:g}" if margin > 0 else ""
    lead = "" if against is None else _interval(against.behind_best)
    named = "" if baseline is None else _named(baseline)
    if not others:
        if against is None:
            text += ", and no candidate is simpler, so it was chosen."
            return text + _against_baseline(baseline, None)
        return f"{text} and beats the baseline{named} by {lead}{beyond}, so it was chosen."
    nearest = others[0]
    more = {1: "", 2: " (and so is one more simpler candidate)"}.get(
        len(others), f" (and so are {len(others) - 1} more simpler candidates)"
    )
    return (
        f"{text}; the simpler {nearest.name} {_number(nearest.score.value)} is worse by "
        f"{_interval(nearest.behind_best)}{beyond}{more}, so {chosen.name} was chosen."
        + (f" It beats the baseline{named} by {lead}." if lead else " No baseline was in the race.")
    )


def _place(line: Comparison) -> tuple[int, int, str]:
    return line.complexity, line.size_bytes, line.name


def _explain_simpler(
    chosen: Candidate,
    best: Candidate,
    lines: Mapping[str, Comparison],
    race: _Race,
    margin: float,
) -> str:
    behind = lines[chosen.name].behind_best
    assert behind is not None
    allowed = f" by more than the margin of {margin:g}" if margin > 0 else ""
    return (
        f"{best.name} scored best with {_score(lines[best.name], race)}; {chosen.name} "
        f"{_number(lines[chosen.name].score.value)} is simpler and {_not_worse(behind, allowed)}, "
        f"so {chosen.name} was chosen{_power(lines[chosen.name], race)}."
    )


def _explain_baseline(
    chosen: Candidate,
    best: Candidate,
    lines: Mapping[str, Comparison],
    race: _Race,
    margin: float,
) -> str:
    beyond = f" by more than the margin of {margin:g}" if margin > 0 else ""
    if chosen is best:
        return (
            f"Nothing beats the baseline{_named(chosen)}, which itself scored best with "
            f"{_score(lines[chosen.name], race)}; the baseline was chosen: this data does not "
            "support a model better than the baseline."
        )
    behind = lines[chosen.name].behind_best
    assert behind is not None
    return (
        f"Nothing beats the baseline{_named(chosen)} measurably{beyond}: the best model, "
        f"{best.name} with {_score(lines[best.name], race)}, is ahead by {_interval(behind)}; "
        f"the baseline was chosen: this data does not support a model better than the "
        f"baseline{_power(lines[chosen.name], race)}."
    )


def _not_worse(behind: Estimate, allowed: str) -> str:
    if behind.value == 0 and behind.standard_error == 0:
        return "scores the same" if behind.note != "equal predictions" else "predicts the same"
    if math.isnan(behind.low):
        return f"cannot be compared ({behind.note})"
    return f"not measurably worse{allowed} ({_interval(behind)})"


def _power(line: Comparison, race: _Race) -> str:
    if not math.isfinite(line.visible) or line.visible <= 0:
        return ""
    what = "rows" if race.units.code is None else "independent units"
    return (
        f" (on {race.units.count:,} {what} a true difference below {_number(line.visible)} "
        "is likely to go unseen)"
    )


def _against_baseline(baseline: Candidate | None, gain: Estimate | None) -> str:
    if baseline is None:
        return " No baseline was in the race."
    if gain is None or math.isnan(gain.low):
        reason = gain.note if gain is not None else "no comparison"
        return f" It could not be compared with the baseline{_named(baseline)}: {reason}."
    if gain.low > 0:
        return f" It beats the baseline{_named(baseline)} by {_interval(gain)}."
    if gain.value <= 0:
        return f" It does not beat the baseline{_named(baseline)}: {_interval(gain)}."
    return f" Its lead over the baseline{_named(baseline)} is not certain: {_interval(gain)}."


def _named(baseline: Candidate) -> str:
    """The baseline's name in brackets, where it says more than "baseline"."""
    return "" if baseline.name == "baseline" else f" ({baseline.name})"


def _score(line: Comparison, race: _Race) -> str:
    return f"{_number(line.score.value)} {_TITLES.get(race.metric.name, race.metric.name)}"


_TITLES = {"auc": "AUC", "pr_auc": "PR AUC", "rmse": "RMSE", "mae": "MAE", "r2": "R2", "mcc": "MCC"}


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else figure(value)


def _interval(difference: Estimate | None) -> str:
    assert difference is not None
    if math.isnan(difference.low):
        return f"{_number(difference.value)} ({difference.note})"
    return interval(difference.value, difference.low, difference.high)
