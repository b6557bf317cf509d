"""Where a probability becomes a yes: chosen for a stated goal, on out-of-fold predictions.

The rule is always ``probability >= threshold``. The scores of the rows that the model was fitted on
are too sharp and the test set is not there to choose by, so the only rows to choose on are
out-of-fold ones; the arguments are named so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from loopline.errors import DataError, SettingsError
from loopline.evaluate.formulas import cuts, nearest_half, operating_points
from loopline.evaluate.intervals import Estimate, estimate_rows
from loopline.evaluate.metrics import metric, read_numbers
from loopline.evaluate.promise import Floors, Promise, promise
from loopline.evaluate.rows import Floats, Rows, Units, plain
from loopline.words import figure

GoalKind = Literal["f1", "balanced_accuracy", "accuracy", "cost", "precision", "recall", "both"]
_EXAMPLES = (
    "'f1', 'balanced_accuracy' (or 'youden'), 'accuracy', 'cost=1,5' "
    "(price of a false positive, of a false negative), 'precision>=0.9', 'recall>=0.9' or "
    "'precision>=0.9,recall>=0.8'"
)
DEFAULT = "f1"
WHY_DEFAULT = (
    "F1 is the default goal because it counts false alarms and misses of the class of interest, "
    "however rare it is; `objective.threshold`, `objective.cost` or `objective.require` set "
    "another."
)
_TITLES = {"f1": "F1", "balanced_accuracy": "balanced accuracy"}
_TOLD = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Goal:
    """What the threshold is chosen for.

    Args:
        kind: "f1", "balanced_accuracy" and "accuracy" are made largest, "cost" smallest;
            "precision" and "recall" are kept at `least` or above while the other is made largest;
            "both" keeps precision at `least` and recall at `least_recall` and makes F1 largest.
        least: for precision, recall and both.
        least_recall: for both.
        false_positive: price of one, for cost.
        false_negative: price of one, for cost.
    """

    kind: GoalKind
    least: float = math.nan
    false_positive: float = math.nan
    false_negative: float = math.nan
    least_recall: float = math.nan

    @staticmethod
    def read(text: str | Mapping[str, float] | Goal) -> Goal:
        """Read a goal as settings files write it.

        Raises:
            SettingsError: not a goal; the message lists the forms.

        >>> Goal.read("recall >= 0.9").least
        0.9
        >>> Goal.read({"false_positive": 1, "false_negative": 5}).kind
        'cost'
        """
        if isinstance(text, Goal):
            return text
        if not isinstance(text, str):
            if set(text) != {"false_positive", "false_negative"}:
                raise SettingsError(
                    [
                        "Prices need the keys false_positive and false_negative, "
                        f"got {', '.join(sorted(map(str, text))) or 'none'}."
                    ]
                )
            return Goal._priced(float(text["false_positive"]), float(text["false_negative"]))
        plain_text = text.replace(" ", "")
        first, _, second = plain_text.partition(",")
        if first.startswith("precision>=") and second.startswith("recall>="):
            return Goal("both", Goal.read(first).least, least_recall=Goal.read(second).least)
        if plain_text in {"f1", "accuracy", "balanced_accuracy", "youden"}:
            kinds: dict[str, GoalKind] = {
                "f1": "f1",
                "accuracy": "accuracy",
                "balanced_accuracy": "balanced_accuracy",
                "youden": "balanced_accuracy",
            }
            return Goal(kinds[plain_text])
        head, _, tail = plain_text.partition("=")
        numbers = read_numbers(tail)
        if head == "cost" and len(numbers) == 2:
            return Goal._priced(numbers[0], numbers[1])
        bounded: dict[str, GoalKind] = {"precision>": "precision", "recall>": "recall"}
        if head in bounded and len(numbers) == 1 and 0 < numbers[0] <= 1:
            return Goal(bounded[head], least=numbers[0])
        raise SettingsError([f"The threshold's goal must be {_EXAMPLES}; got {text!r}."])

    @staticmethod
    def _priced(false_positive: float, false_negative: float) -> Goal:
        prices = (false_positive, false_negative)
        if not all(math.isfinite(price) and price >= 0 for price in prices) or max(prices) == 0:
            raise SettingsError(
                [
                    "Prices must be >= 0 and one of them above 0, "
                    f"got {prices[0]:g} and {prices[1]:g}."
                ]
            )
        return Goal("cost", false_positive=false_positive, false_negative=false_negative)

    def __str__(self) -> str:
        if self.kind == "cost":
            return f"cost={self.false_positive:.15g},{self.false_negative:.15g}"
        if self.kind in {"precision", "recall"}:
            return f"{self.kind}>={self.least:.15g}"
        if self.kind == "both":
            return f"precision>={self.least:.15g},recall>={self.least_recall:.15g}"
        return self.kind

    def floors(self, confidence: float) -> Floors | None:
        """What precision and recall must be at least; None for goals without floors."""
        if self.kind == "both":
            return Floors(self.least, self.least_recall, confidence)
        if self.kind == "precision":
            return Floors(precision=self.least, confidence=confidence)
        return Floors(recall=self.least, confidence=confidence) if self.kind == "recall" else None


@dataclass(frozen=True)
class Threshold:
    """The chosen threshold and what it reaches.

    Args:
        value: a row is labelled 1 when its probability is >= `value`; above 1 labels nothing.
        goal: the goal, as text.
        achieved: the goal's metric at the threshold, on the out-of-fold rows it was chosen on
            (a little flattered, as every best of many is; the test set tells the rest).
        sentence: for the reader: what it reaches, and what 1/2 would have on the same rows.
        scores: precision, recall, F1 and the goal's metric at the threshold.
        scores_at_half: the same at the threshold 1/2.
        promise: whether the goal's floors hold on new rows, where that was asked.
    """

    value: float
    goal: str
    achieved: Estimate
    sentence: str
    scores: Mapping[str, float] = field(default_factory=dict)
    scores_at_half: Mapping[str, float] = field(default_factory=dict)
    promise: Promise | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        data = plain({**asdict(replace(self, promise=None)), "achieved": None})
        return {
            **data,
            "achieved": self.achieved.to_dict(),
            "promise": None if self.promise is None else self.promise.to_dict(),
            "scores": plain(self.scores),
            "scores_at_half": plain(self.scores_at_half),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Threshold:
        """Read what `to_dict` wrote."""
        return Threshold(
            value=float(data["value"]),
            goal=str(data["goal"]),
            achieved=Estimate.from_dict(data["achieved"]),
            sentence=str(data["sentence"]),
            scores=_known(data["scores"]),
            scores_at_half=_known(data["scores_at_half"]),
            promise=Promise.from_dict(data["promise"]) if data.get("promise") else None,
        )


def _known(scores: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in scores.items()}


@dataclass(frozen=True, eq=False)
class _Points:
    """Every rule that the rows can tell apart, from "label nothing" to "label all"."""

    threshold: Floats
    hits: Floats
    alarms: Floats
    positive: float
    negative: float

    @property
    def flagged(self) -> Floats:
        return self.hits + self.alarms

    @property
    def recall(self) -> Floats:
        return self.hits / self.positive

    @property
    def precision(self) -> Floats:
        flagged = self.flagged
        return np.divide(self.hits, flagged, out=np.zeros_like(flagged), where=flagged > 0)


def choose_threshold(
    y: NDArray[Any],
    out_of_fold: NDArray[Any],
    goal: str | Mapping[str, float] | Goal | None = None,
    *,
    weight: NDArray[Any] | None = None,
    units: NDArray[Any] | None = None,
    calibrated: bool = False,
    confidence: float | None = None,
) -> Threshold:
    """Choose the threshold that serves the goal best on out-of-fold predictions.

    Between two neighbouring scores every threshold does the same; the middle is taken. Equal
    results go to the threshold nearest 1/2, then to the higher one.

    Args:
        y: class codes 0 and 1, shape (rows,).
        out_of_fold: probabilities of class 1 from models that have not seen the row, shape
            (rows,) or (rows, 2).
        goal: see `Goal.read`; None is F1, and the sentence says why and how to change it.
        weight: weight of each row.
        units: rows with equal entries count as one unit in the interval.
        calibrated: the probabilities are calibrated. Then the best threshold for accuracy is 1/2
            and for cost it is false_positive / (false_positive + false_negative), and these are
            taken rather than searched, which would only follow the noise.
        confidence: for goals with floors: choose the threshold at which they hold on new rows with
            this confidence, see `loopline.evaluate.promise`. Where there is none, or by default,
            the floors hold on the out-of-fold rows and may not on others.

    Raises:
        SettingsError: not a goal.
        DataError: not a binary task, only one class, or a precision that no threshold reaches (the
            message has the nearest).

    >>> y = np.array([0, 0, 1, 1])
    >>> choose_threshold(y, np.array([0.1, 0.2, 0.6, 0.9]), "f1").value
    0.4
    """
    wanted = Goal.read(DEFAULT if goal is None else goal)
    rows = Rows.build(y, out_of_fold, weight=weight)
    if rows.task != "binary":
        raise DataError(
            f"A threshold belongs to a binary task; there are {rows.num_classes} classes."
        )
    points = _points(rows)
    theoretical = calibrated and wanted.kind in {"accuracy", "cost"}
    floors = None if confidence is None else wanted.floors(confidence)
    kept = None if floors is None else promise(y, out_of_fold, floors, weight=weight, units=units)
    if kept is not None and kept.verdict == "yes" and kept.threshold is not None:
        value = kept.threshold
    else:
        value = _theoretical(wanted) if theoretical else _best(points, wanted, rows.num_rows)
    at, half = replace(rows, threshold=value), replace(rows, threshold=0.5)
    achieved = estimate_rows(metric(_metric_name(wanted)), at, Units.build(units, rows.num_rows))
    scores, at_half = _scores(wanted, at), _scores(wanted, half)
    sentence = _explain(wanted, at, achieved, scores, at_half, theoretical=theoretical)
    if goal is None:
        sentence = f"{sentence} {WHY_DEFAULT}"
    if kept is not None:
        sentence = kept.sentence
    return Threshold(value, str(wanted), achieved, sentence, scores, at_half, kept)


def _scores(goal: Goal, rows: Rows) -> dict[str, float]:
    names = dict.fromkeys([*_TOLD, _metric_name(goal)])
    return {name: metric(name).score(rows).value for name in names}


def _points(rows: Rows) -> _Points:
    scores, hits, alarms, total = operating_points(rows)
    positive = total
    negative = float(rows.weight.sum()) - positive
    if positive <= 0 or negative <= 0:
        raise DataError(
            "A threshold needs rows of both classes; "
            f"all {rows.num_rows} rows have the class code {rows.y[0]}."
        )
    return _Points(
        cuts(scores),
        np.concatenate([[0.0], hits]),
        np.concatenate([[0.0], alarms]),
        positive,
        negative,
    )


def _theoretical(goal: Goal) -> float:
    if goal.kind == "accuracy":
        return 0.5
    return goal.false_positive / (goal.false_positive + goal.false_negative)


def _best(points: _Points, goal: Goal, num_rows: int) -> float:
    score = _score(points, goal)
    top = float(score.max())
    if top == -math.inf:
        nearest = int(np.lexsort((points.threshold, -points.hits, -points.precision))[0])
        recall = f" at a recall of {goal.least_recall:g}" if goal.kind == "both" else ""
        raise DataError(
            f"No threshold reaches a precision of {goal.least:g}{recall} on these {num_rows} "
            f"out-of-fold rows; the nearest is {points.precision[nearest]:.4g} at the threshold "
            f"{points.threshold[nearest]:.4g}, with a recall of {points.recall[nearest]:.4g}. "
            "Ask for less, or improve the model."
        )
    # A hair of tolerance, so that rounding does not break ties.
    tied = np.flatnonzero(score >= top - 1e-12 * max(1.0, abs(top)))
    return nearest_half(points.threshold[tied])


def _score(points: _Points, goal: Goal) -> Floats:
    """What to make largest, by rule; minus infinity where the goal forbids the rule."""
    hits, alarms = points.hits, points.alarms
    misses = points.positive - hits
    if goal.kind == "f1":
        return 2 * hits / (points.flagged + points.positive)
    if goal.kind == "balanced_accuracy":
        return 0.5 * (points.recall + 1 - alarms / points.negative)
    if goal.kind == "accuracy":
        return (hits + points.negative - alarms) / (points.positive + points.negative)
    if goal.kind == "cost":
        price = goal.false_positive * alarms + goal.false_negative * misses
        return -price / (points.positive + points.negative)
    slack = 1e-12
    if goal.kind == "precision":
        allowed = (points.hits > 0) & (points.precision >= goal.least - slack)
        return np.where(allowed, points.recall, -math.inf)
    if goal.kind == "both":
        allowed = (points.precision >= goal.least - slack) & (
            points.recall >= goal.least_recall - slack
        )
        return np.where(allowed, 2 * hits / (points.flagged + points.positive), -math.inf)
    return np.where(points.recall >= goal.least - slack, points.precision, -math.inf)


def _metric_name(goal: Goal) -> str:
    if goal.kind == "both":
        return "f1"
    return str(goal) if goal.kind == "cost" else goal.kind


def _explain(
    goal: Goal,
    rows: Rows,
    achieved: Estimate,
    scores: Mapping[str, float],
    at_half: Mapping[str, float],
    *,
    theoretical: bool,
) -> str:
    name = _metric_name(goal)
    others = [other for other in _TOLD if other != name and (other != "f1" or goal.kind != "cost")]
    reached = f"{_title(name)} {achieved}, {_listed(others, scores)}"
    if theoretical:
        text = f"{figure(rows.threshold)} is the best threshold for calibrated probabilities"
    else:
        text = f"{figure(rows.threshold)} is the best out of fold"
    text += f" for {_wanted(goal)}: {reached}"
    if rows.threshold != 0.5:
        text += f". At 0.5 it would be {_listed([name, *others], at_half)}"
    if goal.kind in {"precision", "recall"} and achieved.low < goal.least:
        text += f". The true {goal.kind} may be below {goal.least:g}"
    if rows.threshold > 1 or not (rows.prediction >= rows.threshold).any():
        text += ". No row is labelled positive"
    return text + "."


def _wanted(goal: Goal) -> str:
    if goal.kind == "cost":
        prices = f"a false alarm costs {goal.false_positive:g}, a miss {goal.false_negative:g}"
        return f"the lowest cost ({prices})"
    if goal.kind in {"precision", "recall"}:
        return f"a {goal.kind} of at least {goal.least:g}"
    if goal.kind == "both":
        return f"a precision of at least {goal.least:g} and a recall of {goal.least_recall:g}"
    return f"the goal {_title(goal.kind)}"


def _title(name: str) -> str:
    return "cost a row" if name.startswith("cost=") else _TITLES.get(name, name)


def _listed(names: Sequence[str], scores: Mapping[str, float]) -> str:
    return ", ".join(
        f"{_title(name)} {'undefined' if math.isnan(scores[name]) else figure(scores[name])}"
        for name in names
    )
