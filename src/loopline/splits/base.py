"""Splitters: who decides which rows test, and which rows validate in which fold.

**Lifetime.** A splitter has no state and lives for one call. `make_split` reads the rows
(`loopline.splits.rows`), calls `assign` once, proves the outcome (`loopline.splits.certificate`)
and throws the splitter away; the stored `Split` never needs it again, except that `verify` replays
it to name a row that was moved. `assign` calls `hold_out` once on all rows and then `fold` once on
the training rows alone, in the same process.

**What a splitter promises.** No unit stands on two sides, and none in training and validation of
the same fold. The same rows in another order, with the same seed, get the same sides. Where the
settings cannot be met on these rows it raises `SplitError` with numbers; it never gives a warning
and a worse split. The shares are met within `TOLERANCE` of the smaller side; where every unit is a
single row they are exact up to rounding.

A new splitter is one file and one line in `splitters.py`; `loopline.testing.splitters` is its kit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loopline.errors import SplitError
from loopline.seeds import child_seed
from loopline.splits.deal import num_codes
from loopline.splits.rows import SplitRows
from loopline.splits.spec import FOLD_TRAIN, FOLD_VALID, TEST, TRAIN, UNUSED, SplitSettings
from loopline.words import counted

Sides = NDArray[np.int8]

TOLERANCE = 0.5
"""A side may miss its share by this part of the smaller side: 0.2 asked, 0.1 to 0.3 accepted."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Sides of all rows, and why rows were excluded (reason → number of rows)."""

    side: Sides
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Assignment:
    """What a splitter decided: `side` (rows,), `folds` (rows, folds), reasons for exclusions."""

    side: Sides
    folds: Sides
    reasons: dict[str, int]


class Splitter(ABC):
    """One way to divide rows. See the module's docstring for when each method is called."""

    @abstractmethod
    def hold_out(self, rows: SplitRows, settings: SplitSettings, seed: int) -> HeldOut:
        """Choose the test rows, about ``settings.test_share`` (> 0) of all.

        Raises:
            SplitError: the structure of the rows does not allow it.
        """

    @abstractmethod
    def fold(self, rows: SplitRows, settings: SplitSettings, seed: int) -> Sides:
        """Make folds of the training rows.

        Returns:
            (rows, folds): 0 unused, 1 train, 2 validation. No row validates in two folds.

        Raises:
            SplitError: the structure of the rows does not allow it.
        """

    def assign(self, rows: SplitRows, settings: SplitSettings) -> Assignment:
        """Hold out the test rows, then make folds of the rest, and check what came out.

        Raises:
            SplitError: a side or a fold is empty, misses its share, or lacks a class.
        """
        held = HeldOut(np.full(rows.num_rows, TRAIN, dtype=np.int8))
        if settings.test_share > 0.0 or settings.method == "predefined":
            held = self.hold_out(rows, settings, child_seed(settings.seed, "split", "test"))
        train = held.side == TRAIN
        needs_test = settings.test_share > 0.0
        for name, chosen in (("training", train), ("test", held.side == TEST)):
            if not chosen.any() and (name == "training" or needs_test):
                raise SplitError(
                    f"Method {settings.method!r} leaves the {name} side empty: "
                    f"{_told(held.side, held.reasons)}. {_advice(settings)}"
                )
            if chosen.any():
                check_classes(rows, chosen, f"the {name} side")
        folds = np.full((rows.num_rows, 0), UNUSED, dtype=np.int8)
        if settings.num_folds:
            inner = self.fold(
                rows.only(train), settings, child_seed(settings.seed, "split", "folds")
            )
            folds = np.full((rows.num_rows, inner.shape[1]), UNUSED, dtype=np.int8)
            folds[train] = inner
            for number in range(inner.shape[1]):
                for name, code in (("training", FOLD_TRAIN), ("validation", FOLD_VALID)):
                    chosen = folds[:, number] == code
                    if not chosen.any():
                        raise SplitError(
                            f"Fold {number} has no {name} rows: {int(train.sum())} training rows "
                            f"cannot make {inner.shape[1]} folds with method {settings.method!r}. "
                            "Use fewer folds or a smaller gap."
                        )
                    check_classes(rows, chosen, f"the {name} rows of fold {number}")
        return Assignment(held.side, folds, held.reasons)


def check_classes(rows: SplitRows, chosen: NDArray[np.bool_], where: str) -> None:
    """Refuse when a class of the table has no row among the chosen ones."""
    if rows.labels is None or not rows.classes:
        return
    everywhere = np.bincount(rows.labels, minlength=len(rows.classes))
    here = np.bincount(rows.labels[chosen], minlength=len(rows.classes))
    absent = np.flatnonzero((everywhere > 0) & (here == 0))
    if absent.size:
        label = int(absent[0])
        of_class = rows.labels == label
        raise SplitError(
            f"Class {rows.classes[label]!r} has no row in {where}: its {int(everywhere[label])} "
            "rows "
            f"make {num_codes(rows.units[of_class])} units (rows that must stay together). "
            "Stratify, use fewer folds, collect more rows of the class, or merge or drop it."
        )


def check_units(rows: SplitRows, wanted: int, what: str) -> None:
    """Refuse when there are fewer units than sides or folds."""
    count = num_codes(rows.units)
    if count < wanted:
        names = ", ".join(repr(name) for name in rows.groups)
        where = f" by {names}" if names else ""
        apart = count == rows.num_rows  # then nothing but more rows makes more units
        advice = "Give more rows, or use fewer folds." if apart else _unit_advice(rows)
        raise SplitError(
            f"{what} need at least {wanted} units (rows that must stay together are one "
            f"unit){where}; the "
            f"{counted(rows.num_rows, 'row')} "
            f"{'makes' if rows.num_rows == 1 else 'make'} {count}. {advice}"
        )


def check_share(rows: SplitRows, chosen: NDArray[np.bool_], share: float, what: str) -> None:
    """Refuse when the chosen rows miss their share by more than the tolerance.

    A miss of one row is always accepted.
    """
    num_rows = int(chosen.sum())
    asked = share * rows.num_rows
    slack = max(TOLERANCE * min(asked, rows.num_rows - asked), 1.0)
    if abs(num_rows - asked) <= slack:
        return
    sizes = np.bincount(rows.units)
    largest = int(np.argmax(sizes))
    row = int(rows.places[np.flatnonzero(rows.units == largest)[0]])
    raise SplitError(
        f"{what} should hold {share:.1%} of {rows.num_rows} rows and can only hold "
        f"{num_rows / rows.num_rows:.1%}: the largest set of rows that must stay together (that of "
        f"row {row}) has {int(sizes[largest])} rows ({sizes[largest] / rows.num_rows:.1%}). "
        f"{_unit_advice(rows)}"
    )


def _unit_advice(rows: SplitRows) -> str:
    if rows.groups:
        return "Use a finer group column, fewer folds, or another share."
    return (
        "Use fewer folds or another share; if rows with equal features are separate observations, "
        "set `duplicates` to 'rows' or 'ignore', or `common_share` for common values alone."
    )


def _advice(settings: SplitSettings) -> str:
    if settings.method == "predefined":
        return "Mark rows for both sides, or set `test_share: 0` for no test side."
    if settings.time:
        return "Use a smaller gap, another share, or a finer time column."
    return "Use another share."


def _told(side: Sides, reasons: dict[str, int]) -> str:
    counts = np.bincount(side, minlength=3)
    text = f"{counts[0]} training, {counts[1]} test, {counts[2]} excluded rows"
    return text + "".join(f", {number} {reason}" for reason, number in reasons.items())
