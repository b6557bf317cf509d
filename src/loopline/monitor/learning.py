"""From a reference to everything that a watch needs to know and that never changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.errors import SettingsError
from loopline.monitor.budget import Budget
from loopline.monitor.clock import DAY, FEWEST_BLOCKS, WEEK, Clock
from loopline.monitor.joint import Joint, joint_rows
from loopline.monitor.law import Law
from loopline.monitor.losses import Losses
from loopline.monitor.outcomes import Outcomes, Slicer
from loopline.monitor.reference import Reference, importance_shares
from loopline.monitor.scores import Column, Question, learn_column
from loopline.monitor.settings import MonitorSettings
from loopline.monitor.tasks import WATCHED
from loopline.words import nearest

Floats = NDArray[np.float64]
COUNTING = 0.98
"""A column whose ranks follow time this closely counts time, and moves by its nature."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Questions and what is normal of their answers."""

    questions: tuple[Question, ...]
    law: Law


@dataclass(frozen=True, eq=False)
class Learned:
    """What is normal. Made by `of`.

    Args:
        reference: the normal rows, thinned.
        settings: what is asked for.
        seed: kept with the watcher.
        columns: how each watched column is scored.
        clock: how time is cut.
        budget: how the false pages are shared out.
        questions: what is asked of the columns.
        law: what is normal of the answers.
        places: the questions of each column.
        importance: of each column, as a share of the largest; empty when unknown.
        losses: how rows are scored; None without predictions.
        outputs: what is asked of predictions; None without them.
        output_columns: how predictions are scored.
        slicer: the named slices.
        joint: tells windows from the reference; None without columns.
        remarks: what the reference could not tell, as sentences.
    """

    reference: Reference
    settings: MonitorSettings
    seed: int
    columns: tuple[Column, ...]
    clock: Clock
    budget: Budget
    questions: tuple[Question, ...]
    law: Law
    places: Mapping[str, slice]
    importance: Mapping[str, float]
    losses: Losses | None
    outputs: Asked | None
    output_columns: tuple[Column, ...]
    slicer: Slicer
    joint: Joint | None
    remarks: tuple[str, ...]

    @staticmethod
    def of(reference: Reference, settings: MonitorSettings, seed: int) -> Learned:
        """Learn from a reference; see `Watcher.learn`."""
        _check_names(reference, settings)
        reference = reference.thinned()
        clock = Clock.learn(reference.time, reference.num_rows, settings.season)
        columns, laws, kept, remarks = _learn_columns(reference, settings, clock)
        importance = importance_shares(reference.importances)
        questions = tuple(question for column in columns for question in column.questions)
        losses = None
        if reference.prediction is not None:
            losses = WATCHED[reference.task].learn(reference)
        outputs: Asked | None = None
        output_columns: tuple[Column, ...] = ()
        if losses is not None:
            outputs, output_columns = _learn_outputs(reference, losses, clock)
        sliced = [column for column in columns if column.name in settings.slices]
        slicer = Slicer.learn(sliced, reference.frame)
        budget = _budget(reference, settings, slicer, stated=bool(output_columns))
        joint = None
        if kept:
            weight = [importance.get(q.column, 0.0) if importance else 1.0 for q in questions]
            rows = joint_rows(reference.num_rows)
            time = None if reference.time is None else reference.time[rows]
            joint = Joint.learn(np.hstack(kept), time, questions, weight)
        nothing = np.zeros((reference.num_rows, 0))
        law = Law.side_by_side(laws) if laws else Law.learn(nothing, clock, reference.time)
        return Learned(
            reference, settings, seed, tuple(columns), clock, budget, questions, law,
            _places_of(columns), importance, losses, outputs, output_columns, slicer, joint,
            (*remarks, *_unknown(reference, clock, budget)),
        )  # fmt: skip

    def outcomes(self) -> Outcomes | None:
        """What judges labels, fresh; None without outcomes in the reference."""
        if self.losses is None or self.reference.target is None:
            return None
        return Outcomes.learn(
            self.reference, self.losses, self.slicer, self.clock, self.settings.pending_rows
        )


def output_scores(columns: tuple[Column, ...], losses: Losses, prediction: Floats) -> Floats:
    """Scores of predictions, and in the last place the loss that they let expect."""
    parts = losses.outputs(np.asarray(prediction, dtype=np.float64))
    scored = [
        column.score(pl.Series(column.name, parts[column.name]).fill_nan(None))
        for column in columns
    ]
    known = np.isfinite(prediction.reshape(len(prediction), -1)).all(axis=1)
    expected = losses.expected(np.nan_to_num(prediction, nan=0.5))
    return np.hstack([*scored, np.where(known, expected, np.nan)[:, None]])


def _budget(
    reference: Reference, settings: MonitorSettings, slicer: Slicer, *, stated: bool
) -> Budget:
    kinds = ["column", "joint", "service", *["prediction"] * stated]
    if reference.prediction is not None:
        kinds.append("estimated")
    if reference.target is not None:
        kinds += ["performance", "calibration"]
        kinds += ["slice"] * bool(slicer.titles)
    rate = settings.rows_a_day or reference.rows_a_day
    return Budget.of(
        settings.pages_a_day, settings.window_seconds, settings.window_rows, rate, kinds
    )


def _unknown(reference: Reference, clock: Clock, budget: Budget) -> list[str]:
    told = [budget.assumed] if budget.assumed else []
    if reference.time is None:
        told.append(
            "The reference has no times: nothing is known of seasons, and rows count as "
            "independent beyond what their order shows."
        )
    elif DAY not in clock.lengths:
        told.append(
            f"The reference spans fewer than {FEWEST_BLOCKS} days, so how much days differ is not "
            "known and moves of a whole day may be called news; give it more days."
        )
    elif WEEK not in clock.lengths:
        told.append(
            f"The reference spans fewer than {FEWEST_BLOCKS} weeks, so slow ups and downs over "
            "weeks may be called news; give it more weeks."
        )
    return told


def _places_of(columns: list[Column]) -> dict[str, slice]:
    places, at = {}, 0
    for column in columns:
        places[column.name] = slice(at, at + len(column.questions))
        at = places[column.name].stop
    return places


def _check_names(reference: Reference, settings: MonitorSettings) -> None:
    names = reference.frame.columns
    problems = [
        f"`{key}` names {name!r}, which is no column of the reference. {nearest(name, names)}"
        for key, given in (("ignore", settings.ignore), ("slices", settings.slices))
        for name in given
        if name not in names
    ]
    if settings.slices and reference.target is None:
        problems.append("`slices` has no effect: the reference has no outcomes to judge them by.")
    if problems:
        raise SettingsError(problems, "monitor")


def _learn_columns(
    reference: Reference, settings: MonitorSettings, clock: Clock
) -> tuple[list[Column], list[Law], list[Floats], list[str]]:
    columns: list[Column] = []
    laws: list[Law] = []
    kept: list[Floats] = []
    remarks: list[str] = []
    rows = joint_rows(reference.num_rows)
    for name in reference.frame.columns:
        if name in settings.ignore:
            continue
        column = learn_column(reference.frame[name])
        scores = column.score(column.read(reference.frame[name]))
        if reference.time is not None and column.type == "number" and _counts_time(scores[:, 1]):
            remarks.append(f"Column {name!r} counts time, so it moves by its nature; not watched.")
            continue
        laws.append(column.corrected(Law.learn(scores, clock, reference.time)))
        columns.append(column)
        kept.append(scores[rows])
    return columns, laws, kept, remarks


def _counts_time(rank: Floats) -> bool:
    known = np.isfinite(rank)
    if known.sum() < 10 or np.ptp(rank[known]) == 0:
        return False
    return bool(abs(np.corrcoef(rank[known], np.flatnonzero(known))[0, 1]) > COUNTING)


def _learn_outputs(
    reference: Reference, losses: Losses, clock: Clock
) -> tuple[Asked, tuple[Column, ...]]:
    assert reference.prediction is not None
    prediction = np.asarray(reference.prediction, dtype=np.float64)
    parts = losses.outputs(prediction)
    columns = tuple(learn_column(pl.Series(name, part)) for name, part in parts.items())
    scores = output_scores(columns, losses, prediction)
    questions = [question for column in columns for question in column.questions]
    questions.append(Question("expected loss", "worse", losses.name, side=1))
    return Asked(tuple(questions), Law.learn(scores, clock, reference.time)), columns
