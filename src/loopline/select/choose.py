"""The simplest model that is not measurably worse than the best.

Every candidate is compared with the best scorer on the same out-of-fold rows. A candidate counts
as worse when its paired interval, widened for the number of comparisons (Holm 1979), lies wholly
beyond the margin. Of those that are not worse, the simplest is chosen: by the family's complexity,
then by size in bytes, then by name.

On few rows "not measurably worse" says little: a model that is truly better can lose to a simpler
one because the rows cannot show it. So the sentence tells what difference they could have shown.

A candidate that breaks a limit (latency, memory, size, a floor for recall) takes no part, however
well it scores. Where none is left there is no choice but an error with all candidates and what each
breaks; a constant is not handed out in place of a model that is better and breaks a limit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.errors import InputError, LimitError
from loopline.evaluate.intervals import LEVEL, Estimate, estimate_rows
from loopline.evaluate.metrics import Metric
from loopline.evaluate.metrics import metric as read_metric
from loopline.evaluate.rows import Units
from loopline.select.candidates import Candidate, Comparison, Pairs
from loopline.select.compare import chance_beyond
from loopline.select.explain import explain
from loopline.words import figure, listed_table

POWER = 0.8
"""Chance with which the stated smallest visible difference would have been seen."""


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
    broken: Mapping[str, Sequence[str]] | None = None,
    by_score: bool = False,
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
        broken: by candidate, the limits that it breaks, a sentence each; it cannot be chosen then.
        by_score: choose the best scorer among those that keep the limits, not the simplest.

    Raises:
        LimitError: no candidate keeps the limits, or only a baseline does though a model that
            breaks one is measurably better.
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
    race = Pairs(chosen_metric, rows, shared, level, seed)
    scores = {
        name: estimate_rows(chosen_metric, each, shared, seed=seed) for name, each in rows.items()
    }
    if all(math.isnan(score.value) for score in scores.values()):
        note = next(iter(scores.values())).note
        raise InputError(
            f"Candidates cannot be compared by {chosen_metric.name} on these rows: {note}. "
            "Choose another metric or give rows on which it is defined."
        )
    breaks = {name: tuple(sentences) for name, sentences in (broken or {}).items() if sentences}
    ranked = sorted(candidates, key=lambda each: _rank(each, scores[each.name], chosen_metric))
    able = [each for each in ranked if each.name not in breaks]
    if not able:
        raise LimitError(_none_left(ranked, scores, breaks, chosen_metric))
    best = able[0]
    behind = race.behind(best, able[1:], margin)
    behind |= {name: (race.difference(best.name, name), False) for name in breaks}
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
            broken=breaks.get(each.name, ()),
        )
        for each in ranked
    )
    lines = {line.name: line for line in table}
    acceptable = [each for each in able if not lines[each.name].worse]
    chosen = best if by_score else min(acceptable, key=lambda each: each.simplicity)
    baseline = next((each for each in able if each.complexity == 0), None)
    if chosen.complexity == 0:
        for name in breaks:
            if chance_beyond(race.difference(name, chosen.name), margin) <= 1 - level:
                raise LimitError(_none_left(ranked, scores, breaks, chosen_metric))
    gain = None
    if baseline is not None and chosen.complexity > 0:
        gain = race.difference(chosen.name, baseline.name)
    sentence = explain(
        chosen,
        best,
        baseline,
        gain,
        table=table,
        race=race,
        margin=margin,
        by_score=by_score,
    )
    return Choice(chosen.name, best.name, chosen_metric.name, margin, sentence, table, gain)


_KEPT = (
    "nothing, but it is a constant",
    "nothing, but it is not measurably better than a constant",
)


def _none_left(
    ranked: Sequence[Candidate],
    scores: Mapping[str, Estimate],
    breaks: Mapping[str, tuple[str, ...]],
    metric: Metric,
) -> str:
    """The error's text: every candidate with its score, its size and what it breaks."""
    rows = [
        [
            each.name,
            figure(scores[each.name].value),
            "; ".join(breaks.get(each.name, (_KEPT[each.complexity > 0],))),
        ]
        for each in ranked
    ]
    nearest = min(
        (each for each in ranked if each.name in breaks),
        key=lambda each: (each.complexity == 0, len(breaks[each.name]), ranked.index(each)),
    )
    return (
        "No model keeps all limits, and none is relaxed. "
        f"The nearest is {nearest.name}. Give a looser limit, or other candidates.\n"
        + listed_table(["candidate", metric.name, "breaks"], rows)
    )


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
