"""Floors for precision and recall that hold on new rows, with a stated confidence.

"Recall 0.9 out of fold" is a coin flip: on new rows the same threshold gives less as often as more.
A promise is a threshold whose *true* recall (precision) is at least the floor with 95 % confidence,
or the reason why there is none: the floor is out of reach, or the labels are too few, and then how
many would do.

**Recall.** The threshold is a lower tolerance limit of the positive rows' scores: the order
statistic whose share below is at most ``1 - floor`` with the wanted confidence (Wilks 1941), with
fractional ranks so that the confidence is met rather than exceeded (Hutson 1999).
**Precision.** The lowest threshold whose exact one-sided bound (Clopper & Pearson 1934) is at the
floor. Looking at every threshold finds lucky ones, so the bound is taken at four fifths of the
allowed error; `benchmarks/promises.py` measures that promises then hold in 94 to 97 % of
simulations where one can be made at all. Two floors share the allowed error.

Rows of one unit and weights count for less: all counts are divided by the design effect (Kish
1965), the variance of the share beside that of independent rows of weight one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from loopline.errors import SettingsError
from loopline.evaluate.formulas import cuts, operating_points
from loopline.evaluate.rows import Floats, Rows, Units
from loopline.words import figure

SEARCHED = 0.8
"""Share of the allowed error for precision; the rest pays for looking at every threshold."""
MOST_MORE = 1_000.0
"""Floors that would need more than so many times the labels are told to be out of reach."""

Verdict = Literal["yes", "no", "unsure"]


@dataclass(frozen=True)
class Floors:
    """What precision and recall must be at least, and how sure one wants to be.

    Args:
        precision: in (0, 1), or None.
        recall: in (0, 1), or None; at least one of the two is given.
        confidence: in [0.5, 1).

    Raises:
        SettingsError: no floor, or one outside its range.

    >>> str(Floors(recall=0.9))
    'recall >= 0.9'
    """

    precision: float | None = None
    recall: float | None = None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        problems = [
            f"A floor for {name} must lie above 0 and below 1, got {floor:g}."
            for name, floor in (("precision", self.precision), ("recall", self.recall))
            if floor is not None and not 0 < floor < 1
        ]
        if self.precision is None and self.recall is None:
            problems.append("A promise needs a floor for precision, for recall or for both.")
        if not 0.5 <= self.confidence < 1:
            problems.append(f"The confidence must be in [0.5, 1), got {self.confidence:g}.")
        if problems:
            raise SettingsError(problems)

    def __str__(self) -> str:
        named = (("precision", self.precision), ("recall", self.recall))
        return " and ".join(f"{name} >= {floor:g}" for name, floor in named if floor is not None)

    @property
    def allowed(self) -> float:
        """The chance of being wrong that each floor may use."""
        both = self.precision is not None and self.recall is not None
        return (1 - self.confidence) / (2 if both else 1)


@dataclass(frozen=True)
class Promise:
    """Whether the floors hold on new rows, and by which threshold.

    Args:
        floors: what was asked, as text.
        confidence: how sure it shall be.
        verdict: "yes", "no" (out of reach on these rows), or "unsure" (more labels are needed).
        threshold: the promised threshold, or where it is not sure the most promising one; None
            where the floors are out of reach.
        precision: out of fold at the threshold; NaN without one.
        recall: out of fold at the threshold; NaN without one.
        rows_needed: about how many labelled rows in all would settle it; None if settled.
        sentence: the answer, for a person.
    """

    floors: str
    confidence: float
    verdict: Verdict
    threshold: float | None
    precision: float
    recall: float
    rows_needed: int | None
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        data = asdict(self)
        for name in ("precision", "recall"):
            data[name] = None if math.isnan(data[name]) else data[name]
        return data

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Promise:
        """Read what `to_dict` wrote."""
        known = dict(data)
        for name in ("precision", "recall"):
            known[name] = math.nan if known[name] is None else known[name]
        return Promise(**known)


@dataclass(frozen=True, eq=False)
class _Rules:
    """Every threshold that the rows can tell apart, from high to low, with its effective counts."""

    threshold: Floats
    hits: Floats
    flagged: Floats
    positive: float
    precision_effect: float
    recall_effect: float

    @property
    def precision(self) -> Floats:
        return self.hits / self.flagged

    @property
    def recall(self) -> Floats:
        return self.hits / self.positive


def promise(
    y: NDArray[Any],
    out_of_fold: NDArray[Any],
    floors: Floors,
    *,
    weight: NDArray[Any] | None = None,
    units: NDArray[Any] | None = None,
) -> Promise:
    """Find the threshold at which the floors hold on new rows, or say what is lacking.

    Args:
        y: class codes 0 and 1, shape (rows,), both present.
        out_of_fold: probabilities of class 1 from models that have not seen the row, shape
            (rows,) or (rows, 2).
        floors: what is asked.
        weight: weight of each row.
        units: rows with equal entries count as one unit.

    >>> y = np.repeat([0, 1], 500)
    >>> score = np.concatenate([np.linspace(0, 0.7, 500), np.linspace(0.3, 1, 500)])
    >>> found = promise(y, score, Floors(recall=0.9))
    >>> found.verdict, round(found.threshold, 3), found.recall
    ('yes', 0.354, 0.922)
    """
    rows = Rows.build(y, out_of_fold, weight=weight)
    rules = _rules(rows, Units.build(units, rows.num_rows), floors)
    highest = _recall_limit(rows, rules, floors)
    lowest = _precision_limit(rules, floors)
    if lowest is not None and lowest <= highest:
        value = _between(rules, lowest, highest, floors)
        return _kept(rows, value, floors)
    return _lacking(rows, rules, floors)


def _rules(rows: Rows, units: Units, floors: Floors) -> _Rules:
    scores, hits, alarms, positive = operating_points(rows)
    thresholds = cuts(scores)[1:]
    flagged = hits + alarms
    plain = _Rules(thresholds, hits, flagged, positive, 1.0, 1.0)
    if units.code is None and np.all(rows.weight == 1):
        return plain
    yes = rows.y == 1
    effects: list[float] = []
    for floor, reached in ((floors.precision, plain.precision), (floors.recall, plain.recall)):
        at = 0 if floor is None else int(np.argmin(np.abs(reached - floor)))
        chosen = rows.prediction >= thresholds[at]
        base, won = (chosen, yes) if len(effects) == 0 else (yes, chosen)
        effects.append(_design_effect(base, won, rows.weight, units))
    return _Rules(thresholds, hits, flagged, positive, effects[0], effects[1])


def _design_effect(
    base: NDArray[np.bool_], won: NDArray[np.bool_], weight: Floats, units: Units
) -> float:
    """Weight that counts as one independent row, in the share of `won` among `base`."""
    total = float(weight[base].sum())
    share = float(weight[base & won].sum()) / total
    deviation = weight * base * (won - share)
    if units.code is not None:
        deviation = np.bincount(units.code, weights=deviation)
    error = float(np.square(deviation).sum()) / total**2
    if share in (0.0, 1.0) or error == 0:
        return total / max(1, units.count if units.code is not None else int(base.sum()))
    return max(error * total / (share * (1 - share)), total / int(base.sum()))


def _recall_limit(rows: Rows, rules: _Rules, floors: Floors) -> float:
    """The highest threshold whose recall is at the floor with confidence; infinite without one."""
    if floors.recall is None:
        return math.inf
    from scipy.special import betainc

    yes = rows.y == 1
    order = np.argsort(rows.prediction[yes], kind="stable")
    scores, weight = rows.prediction[yes][order], rows.weight[yes][order]
    count = rules.positive / rules.recall_effect
    low, high = 0.0, 1.0 - floors.recall
    for _ in range(60):
        middle = 0.5 * (low + high)
        sure = betainc((count + 1) * middle, (count + 1) * (1 - middle), 1.0 - floors.recall)
        low, high = (middle, high) if sure >= 1 - floors.allowed else (low, middle)
    rank = low * (count + 1) / count  # as a share of the positive weight, ranks from 1
    below = np.cumsum(weight) / rules.positive
    if rank < below[0]:
        return 0.0
    return float(np.interp(rank, below, scores))


def _precision_limit(rules: _Rules, floors: Floors) -> float | None:
    """The lowest threshold whose precision is at the floor with confidence; None without one."""
    if floors.precision is None:
        return 0.0
    bound = _lower_bound(
        rules.hits / rules.precision_effect,
        rules.flagged / rules.precision_effect,
        SEARCHED * floors.allowed,
    )
    good = np.flatnonzero(bound >= floors.precision)
    return float(rules.threshold[good[-1]]) if good.size else None


def _lower_bound(hits: Floats, tried: Floats, allowed: float) -> Floats:
    """One-sided exact bound of a share (Clopper & Pearson), for counts that need not be whole."""
    from scipy.special import betaincinv

    some = hits > 0
    bound = np.zeros_like(hits)
    bound[some] = betaincinv(hits[some], np.maximum(tried - hits, 0)[some] + 1, allowed)
    return bound


def _between(rules: _Rules, lowest: float, highest: float, floors: Floors) -> float:
    """The threshold between two limits: at the one floor's limit, or the best F1 for two."""
    if floors.precision is None:
        return highest
    if floors.recall is None:
        return lowest
    inside = np.flatnonzero((rules.threshold >= lowest) & (rules.threshold <= highest))
    if not inside.size:
        return highest
    f1 = 2 * rules.hits[inside] / (rules.flagged[inside] + rules.positive)
    return float(rules.threshold[inside[int(np.argmax(f1))]])


def _kept(rows: Rows, value: float, floors: Floors) -> Promise:
    precision, recall = _at(rows, value)
    sentence = (
        f"{floors} holds on new rows with {floors.confidence:.0%} confidence at the threshold "
        f"{figure(value)}: out of fold the precision is {figure(precision)}, "
        f"the recall {figure(recall)}."
    )
    if value == 0 and floors.precision is None:
        sentence += " That labels every row positive: fewer positive rows would promise nothing."
    return Promise(str(floors), floors.confidence, "yes", value, precision, recall, None, sentence)


def _at(rows: Rows, value: float) -> tuple[float, float]:
    flagged, yes = rows.prediction >= value, rows.y == 1
    hits = float(rows.weight[flagged & yes].sum())
    taken = float(rows.weight[flagged].sum())
    return (hits / taken if taken else math.nan), hits / float(rows.weight[yes].sum())


def _lacking(rows: Rows, rules: _Rules, floors: Floors) -> Promise:
    """Out of reach, or so many labels short."""
    times = np.maximum(
        _times(rules.hits, rules.flagged, rules.precision_effect, floors.precision, floors),
        _times(
            rules.hits,
            np.full_like(rules.hits, rules.positive),
            rules.recall_effect,
            floors.recall,
            floors,
        ),
    )
    nearest = int(np.argmin(times))
    if not times[nearest] <= MOST_MORE:
        return _out_of_reach(rules, floors)
    needed = math.ceil(rows.num_rows * max(times[nearest], 1.0 + 1 / rows.num_rows))
    precision, recall = float(rules.precision[nearest]), float(rules.recall[nearest])
    sentence = (
        f"{floors} cannot be promised with {floors.confidence:.0%} confidence from "
        f"{rows.num_rows:,} rows: the most promising threshold, "
        f"{figure(float(rules.threshold[nearest]))}, has a precision of {figure(precision)} and a "
        f"recall of {figure(recall)} out of fold. About {_rounded(needed):,} labelled rows would "
        "settle it if these hold."
    )
    return Promise(
        str(floors),
        floors.confidence,
        "unsure",
        float(rules.threshold[nearest]),
        precision,
        recall,
        needed,
        sentence,
    )


def _times(
    hits: Floats, tried: Floats, effect: float, floor: float | None, floors: Floors
) -> Floats:
    """How many times the rows each rule needs before its bound is at the floor (normal theory)."""
    if floor is None:
        return np.ones_like(hits)
    from scipy.special import ndtri

    reach = float(ndtri(1 - SEARCHED * floors.allowed))
    share = hits / tried
    spread = floor * (1 - floor) * effect / tried
    with np.errstate(divide="ignore"):
        times = reach**2 * spread / np.square(share - floor)
    # All hits need log(allowed) / log(floor) rows, which normal theory does not know.
    least = math.log(SEARCHED * floors.allowed) / math.log(floor) * effect / tried
    return np.where(share > floor, np.maximum(times, least), np.inf)


def _out_of_reach(rules: _Rules, floors: Floors) -> Promise:
    if floors.recall is None:
        best = int(np.argmax(rules.precision))
        what = f"the best is a precision of {figure(float(rules.precision[best]))}"
    elif floors.precision is None:
        best, what = len(rules.hits) - 1, "no threshold is above it"
    else:
        enough = np.flatnonzero(rules.recall >= floors.recall)
        best = int(enough[int(np.argmax(rules.precision[enough]))])
        what = (
            f"at a recall of {floors.recall:g} the best precision is "
            f"{figure(float(rules.precision[best]))}"
        )
    sentence = (
        f"{floors} is out of reach on these rows: {what}. Ask for less, or improve the model."
    )
    return Promise(str(floors), floors.confidence, "no", None, math.nan, math.nan, None, sentence)


def _rounded(number: int) -> int:
    """Two digits that count: more would claim what is not known."""
    unit: int = 10 ** max(0, len(str(number)) - 2)
    return int(math.ceil(number / unit) * unit)
