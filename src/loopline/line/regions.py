"""Where further labels are worth most: the slice in which more rows help more than elsewhere.

A row labelled in a slice brings about what the slice's own learning curve says, so slices are
compared by what the last rows brought there and elsewhere. High loss alone is no reason
to label: where the classes overlap, more rows help no more than anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loopline.data.schema import has_classes
from loopline.evaluate.extrapolate import fit_power_law
from loopline.evaluate.intervals import LEVEL, Estimate, student_tail
from loopline.evaluate.rows import Rows
from loopline.evaluate.slices import Slice, holm
from loopline.line.curves import Curve, luck, rows_of
from loopline.line.paired import FEWEST_UNITS, slices_of_run
from loopline.line.pricing import Ground
from loopline.line.steps import Step
from loopline.seeds import child_seed
from loopline.words import counted

Floats = NDArray[np.float64]
FREEDOM = 7.0
"""Degrees of freedom of the luck of the rows learned from, with the usual draws of a curve."""


@dataclass(frozen=True)
class Region:
    """A slice beside all other rows.

    Args:
        part: the slice.
        share: of the rows.
        loss_share: of the total loss.
        inside: what the last rows took off the mean loss in the slice: all rows in place of the
            largest share of them that was fitted.
        outside: the same elsewhere.
        chance: of so large a difference by chance, raised for the number of slices.
    """

    part: Slice
    share: float
    loss_share: float
    inside: float
    outside: float
    chance: float


def losses(rows: Rows) -> Floats:
    """What each row costs: the Brier score of its class probabilities, or the squared error.

    >>> rows = Rows.build(np.array([1, 0]), np.array([0.8, 0.8]))
    >>> losses(rows).round(2).tolist()
    [0.04, 0.64]
    """
    if not has_classes(rows.task):
        return np.asarray((rows.prediction - rows.y) ** 2, dtype=np.float64)
    said = rows.probabilities
    true = np.zeros_like(said)
    true[np.arange(rows.num_rows), rows.y] = 1.0
    whole = ((said - true) ** 2).sum(axis=1)
    return np.asarray(whole / 2 if rows.task == "binary" else whole, dtype=np.float64)


class Regions:
    """Slices of a curve's rows and what more rows brought there.

    Args:
        ground: the run.
        curve: its learning curve.

    `draws` holds what each row cost, for each size and each draw of it.
    """

    def __init__(self, ground: Ground, curve: Curve) -> None:
        self.ground = ground
        self.curve = curve
        run, view = ground.run, ground.view
        weight = 1.0 if view.weight is None else view.weight / view.weight.mean()
        self.draws = [
            [weight * losses(rows_of(run, each.scored, view)) for each in same]
            for same in curve.draws
        ]
        self._sizes = np.array([point.num_rows for point in curve.points])
        self._shares = np.array([point.share for point in curve.points])
        self._fold = ground.plain.scored.fold

    def compared(self) -> list[Region]:
        """All slices with rows enough, the surest first."""
        parts = slices_of_run(self.ground.run, self.ground.scored.rows, ("feature", "time"))
        found, chances = [], []
        for part in parts:
            inside = np.zeros(self.ground.view.num_rows, dtype=bool)
            inside[part.rows] = True
            if self.ground.units.count_where(inside) < FEWEST_UNITS:
                continue
            chances.append(self._chance(inside))
            found.append((part, inside))
        raised = holm(np.minimum(chances, 1.0)) if chances else np.empty(0)
        order = np.argsort(chances, kind="stable").tolist()
        return [
            self._region(found[number][0], found[number][1], float(raised[number]))
            for number in order
        ]

    def _region(self, part: Slice, inside: NDArray[np.bool_], chance: float) -> Region:
        before, now = (np.mean(self.draws[place], axis=0) for place in (-2, -1))
        gained = before - now
        return Region(
            part,
            float(inside.mean()),
            float(now[inside].sum() / now.sum()) if now.sum() > 0 else 0.0,
            float(gained[inside].mean()),
            float(gained[~inside].mean()),
            chance,
        )

    def _chance(self, inside: NDArray[np.bool_]) -> float:
        """Chance that the last rows brought as unlike much inside and outside by luck."""
        share = inside.mean()
        side = np.where(inside, 1 / share, -1 / (1 - share))
        gained = np.mean(self.draws[-2], axis=0) - np.mean(self.draws[-1], axis=0)
        means = np.where(inside, gained[inside].mean(), gained[~inside].mean())
        units = self.ground.units
        sums = units.sums(side * (gained - means))
        of_rows = float(sums @ sums) / gained.size**2
        noise = self._luck([[each * side for each in same] for same in self.draws])
        of_luck = float(noise[-1] + noise[-2])
        variance = of_rows + of_luck
        if variance <= 0:
            return 1.0
        few = min(units.count_where(inside), units.count_where(~inside)) - 1
        freedom = variance**2 / (of_rows**2 / max(few, 1) + of_luck**2 / FREEDOM)
        return 2 * student_tail(abs(float((gained * side).mean())) / math.sqrt(variance), freedom)

    def _luck(self, draws: Sequence[Sequence[Floats]]) -> Floats:
        """Variance of mean losses by the rows learned from, at each size."""
        values = [np.array([each.mean() for each in same]) for same in draws]
        folds = [
            np.array([same[0][self._fold == number].mean() for number in np.unique(self._fold)])
            for same in draws
        ]
        return luck(values, folds, self._sizes, self._shares, by_time=self.curve.by_time)

    def step(self) -> Step | None:
        """Labelling in the slice where further rows surely help more than elsewhere."""
        sure = [
            region
            for region in self.compared()
            if region.chance <= 1 - LEVEL and region.inside > max(region.outside, 0.0)
        ]
        if not sure:
            return None
        best = max(sure, key=lambda region: region.inside)
        return self._step(best)

    def _step(self, region: Region) -> Step:
        ground = self.ground
        draws = self._worth(region)
        now = float(self.draws[-1][0].mean())
        name = "brier"
        if not has_classes(ground.run.schema.task):
            name = "rmse"
            draws = math.sqrt(now) - np.sqrt(np.maximum(now - draws, 0.0))
            now = math.sqrt(now)
        beside = (
            f"{region.inside / region.outside:.1f} times as much off it as elsewhere"
            if region.outside > 0
            else "some off it, and nothing elsewhere"
        )
        return Step(
            "label_where",
            f"Label {counted(len(region.part), 'more row')} where {region.part.title}",
            f"{100 * region.share:.0f} % of the rows carry {100 * region.loss_share:.0f} % of the "
            f"loss there. All rows in place of {100 * self._shares[-2]:.0f} % of them took "
            f"{beside}.",
            name,
            now,
            Estimate(0.0, 0.0, 0.0, "", 0),
            ground.command(),
            basis="extrapolated",
            facts={
                "slice": region.part.title,
                "column": region.part.column,
                "num_rows": len(region.part),
                "share_of_rows": region.share,
                "share_of_loss": region.loss_share,
                "last_gain_inside": region.inside,
                "last_gain_outside": region.outside,
                "chance": region.chance,
            },
            draws=draws,
        ).at_level(LEVEL)

    def _worth(self, region: Region) -> Floats:
        """What twice the rows in the slice would take off the mean loss of all rows."""
        inside = np.zeros(self.ground.view.num_rows, dtype=bool)
        inside[region.part.rows] = True
        units = self.ground.units.take(region.part.rows)
        draws = [[each[inside] for each in same] for same in self.draws]
        means = [np.mean(same, axis=0) for same in draws]
        sums = np.column_stack([units.sums(each - each.mean()) for each in means])
        covariance = sums.T @ sums / len(region.part) ** 2
        whole = [[each * inside / region.share for each in same] for same in self.draws]
        law = fit_power_law(
            self._sizes,
            np.array([each.mean() for each in means]),
            covariance,
            noise=self._luck(whole),
            floor=0.0,
            seed=child_seed(self.ground.run.context.spec.seed, "regions"),
        )
        return np.asarray(region.share * law.gains(2 * law.largest), dtype=np.float64)
