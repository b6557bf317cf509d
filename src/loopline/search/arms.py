"""Arms: the candidates among which trials are shared out, and whose turn is next.

Every arm's defaults are tried first, then what earlier studies found. From then on an arm gets
trials in proportion to the dimensions of its space, halved for each place that it stands behind the
best (successive halving across families), and none once it is hopeless: measurably behind after
enough trials. The turn depends on the records alone, never on the clock. Under a time budget trials
count by the seconds that they took, which stand in the records.

Source: Jamieson & Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
Optimization", AISTATS 2016.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loopline.models.space import Space, Value, dimension_from_dict
from loopline.search.record import NO_TIME, Record

ENOUGH_TRIALS = 3
"""Trials of every arm before places count."""
ENOUGH_TIMED = 1
"""The same where trials count by their seconds: a dear arm may never come to three."""
LEAST_PRICE = 0.1
"""What a trial counts at least where trials count by their seconds, in those of an average arm's
trial: an arm of very quick ones has soon learned all that it can."""
MOST_HALVINGS = 3
"""The last arm still gets an eighth of the first one's share, until it is hopeless."""


@dataclass(frozen=True)
class Arm:
    """One candidate whose parameters are searched.

    Args:
        name: the candidate's name in the race.
        family: its family.
        complexity: its place in the order of simplicity.
        space: what is searched; empty for a candidate that is tried once, as it is.
        fixed: the parameters that the settings give it.
        defaults: the parameters of the first trial, those of the space only.
        seeds: parameters that earlier studies found good, to be tried next.
        lead: values of the first dimension that are tried after these with all else at its
            default: a network of a wrong learning rate says nothing of its other parameters.
    """

    name: str
    family: str
    complexity: int
    space: Space
    fixed: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[Mapping[str, Any], ...] = ()
    lead: tuple[Value, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` reads it back.

        The space is a list: its order, on which proposals depend, survives sorted keys.
        """
        return {
            "name": self.name,
            "family": self.family,
            "complexity": self.complexity,
            "space": [{"name": name, **entry.to_dict()} for name, entry in self.space.items()],
            "fixed": dict(self.fixed),
            "defaults": dict(self.defaults),
            "seeds": [dict(seed) for seed in self.seeds],
            "lead": list(self.lead),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Arm:
        """Read what `to_dict` wrote."""
        space = {entry["name"]: dimension_from_dict(entry) for entry in data["space"]}
        seeds = tuple(data["seeds"])
        lead = tuple(data["lead"])
        return Arm(**{**data, "space": space, "seeds": seeds, "lead": lead})


def turn(
    arms: Sequence[Arm],
    counts: Mapping[str, int],
    told: Sequence[Record],
    *,
    higher: bool,
    exhausted: frozenset[str],
    timed: bool = False,
) -> Arm | None:
    """The arm whose trial comes next; None when no arm has anything left to try.

    Args:
        arms: in the order of simplicity.
        counts: trials that each arm has been given, finished or not.
        told: the records that may be known.
        higher: whether a higher value is better.
        exhausted: arms of which every point was tried.
        timed: whether trials count by their seconds; else each counts alike.

    >>> from loopline.models.space import Number
    >>> arms = [Arm("a", "a", 1, {"x": Number(0, 1)}), Arm("b", "b", 2, {"x": Number(0, 1)})]
    >>> turn(arms, {"a": 1}, [], higher=True, exhausted=frozenset()).name
    'b'
    """
    left = [arm for arm in arms if arm.name not in exhausted]
    for first in range(1 + max((len(arm.seeds) for arm in arms), default=0)):
        for arm in left:
            if counts.get(arm.name, 0) == first and first <= len(arm.seeds):
                return arm
    searched = [arm for arm in left if arm.space]
    alive = [arm for arm in searched if not hopeless(arm, told)] or searched
    places = standing(alive, told, higher, ENOUGH_TIMED if timed else ENOUGH_TRIALS)
    spent = _seconds(alive, counts, told) if timed else counts
    shares = {
        arm.name: len(arm.space) / 2 ** min(MOST_HALVINGS, places.get(arm.name, 0)) for arm in alive
    }
    return min(alive, key=lambda arm: spent[arm.name] / shares[arm.name], default=None)


def _seconds(
    arms: Sequence[Arm], counts: Mapping[str, int], told: Sequence[Record]
) -> dict[str, float]:
    """What each arm's trials took; of those without a record as much as its others did."""
    took = {arm.name: [each.seconds for each in told if each.arm == arm.name] for arm in arms}
    means = [sum(own) / len(own) for own in took.values() if own]
    least = LEAST_PRICE * sum(means) / max(1, len(means))
    return {
        name: sum(max(least, seconds) for seconds in own) / max(1, len(own)) * counts[name]
        for name, own in took.items()
    }


def standing(
    arms: Sequence[Arm], told: Sequence[Record], higher: bool, enough: int
) -> dict[str, int]:
    """The place of each arm by its best complete trial, 0 the first; empty while some are new."""
    counts = {arm.name: sum(record.arm == arm.name for record in told) for arm in arms}
    if any(count < enough for count in counts.values()):
        return {}
    sign = -1.0 if higher else 1.0

    def rank(arm: Arm) -> float:
        values = [
            sign * record.value
            for record in told
            if record.arm == arm.name and record.state == "complete" and record.value is not None
        ]
        return min(values, default=float("inf"))

    return {arm.name: place for place, arm in enumerate(sorted(arms, key=rank))}


def hopeless(arm: Arm, told: Sequence[Record]) -> bool:
    """Whether all of an arm's trials, and enough of them, were given up or failed.

    Enough are three and one more for each dimension: a family of many parameters may begin badly.
    Where all of them failed three are enough, and one for which there was no time.
    """
    own = [record for record in told if record.arm == arm.name]
    if any(record.state == "complete" for record in own):
        return False
    if any(record.reason == NO_TIME for record in own):
        return True
    failed = all(record.state == "failed" for record in own)
    return len(own) >= ENOUGH_TRIALS + (0 if failed else len(arm.space))
