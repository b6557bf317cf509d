"""Runs side by side: what differs in how they were made, and what that did to the scores.

Scores are compared on the rows that both runs predicted out of fold, so both meet the same easy and
the same hard rows. Test scores take no part, and no test label is opened: comparing variants on
test rows would use the test side up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopline.errors import SettingsError
from loopline.evaluate.intervals import LEVEL, Estimate, student_quantile
from loopline.evaluate.metrics import metric
from loopline.line.differences import Made, same_division, what_differs
from loopline.line.face import Result
from loopline.line.finished import FinishedRun, finished_run
from loopline.line.paired import (
    Line,
    Pair,
    SliceLine,
    metric_lines,
    pair_of,
    slice_lines,
    slices_of_run,
)
from loopline.line.project import Project, open_project
from loopline.progress import Reporter
from loopline.seeds import child_seed
from loopline.words import counted, estimate, figure

SHOWN_SLICES = 8


@dataclass(frozen=True)
class PairedRuns:
    """One run seen from another.

    Args:
        before: the first run's id.
        after: the second run's id.
        chosen: the candidates that they chose.
        metric: the metric that ranks in the first run.
        sentence: what a colleague should understand first.
        kind: "paired" (on the same rows), "unpaired" (on different rows) or "refused" (the scores
            mean different things).
        cautions: what weakens the comparison, one sentence each.
        num_rows: rows that both scored out of fold.
        lines: the scores, the ranking metric first; none when refused.
        slices: the paired difference in each slice that was tested, surest first.
        made: what differs in how they were made.
    """

    before: str
    after: str
    chosen: tuple[str, str]
    metric: str
    sentence: str
    kind: str
    cautions: tuple[str, ...]
    num_rows: int
    lines: tuple[Line, ...]
    slices: tuple[SliceLine, ...]
    made: Made

    @property
    def difference(self) -> Estimate | None:
        """How much better the second run is in the ranking metric; None when refused."""
        return self.lines[0].difference if self.lines else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "before": self.before,
            "after": self.after,
            "chosen": list(self.chosen),
            "metric": self.metric,
            "sentence": self.sentence,
            "kind": self.kind,
            "cautions": list(self.cautions),
            "num_rows": self.num_rows,
            "scores": [line.to_dict() for line in self.lines],
            "slices": [line.to_dict() for line in self.slices],
            "differs": self.made.to_dict(),
        }

    def __str__(self) -> str:
        parts = [self.sentence, *(f"! {text}" for text in self.cautions)]
        if self.lines:
            parts += ["", *(f"  {text}" for text in self._scores())]
        if self.kind == "paired":
            parts += ["", *self._slices()]
        parts += ["", *(f"  {text}" for text in self.made.sentences())]
        return "\n".join(parts)

    def _scores(self) -> list[str]:
        heads = ["metric", "before [95 %]", "after [95 %]", "better by"]
        cells = [
            [
                line.metric,
                *(
                    estimate(entry.to_dict())
                    for entry in (line.before, line.after, line.difference)
                ),
            ]
            for line in self.lines
        ]
        widths = [max(len(row[place]) for row in [heads, *cells]) for place in range(4)]
        return [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [heads, *cells]
        ]

    def _slices(self) -> list[str]:
        looked = counted(len(self.slices), "slice")
        if not self.slices:
            return ["No slice has enough rows to be tested."]
        overall = self.lines[0].difference
        sure = overall.low > 0 or overall.high < 0
        found = [line for line in self.slices if (line.stands_out if sure else line.found)]
        if not found:
            alike = "unlike elsewhere" if sure else "there at all"
            return [f"In none of {looked} is the difference surely {alike}."]
        head = "The difference is surely unlike elsewhere" if sure else "There is a difference"
        lines = [f"{head} in {len(found)} of {looked}:"]
        for line in sorted(found, key=lambda entry: entry.difference.value)[:SHOWN_SLICES]:
            size = estimate(line.difference.to_dict())
            beside = f", elsewhere {figure(line.elsewhere)}" if sure else ""
            lines.append(f"  {line.title} ({line.num_rows:,} rows): better by {size}{beside}")
        if len(found) > SHOWN_SLICES:
            lines.append(f"  and {len(found) - SHOWN_SLICES} more (`--json` has all).")
        return lines


@dataclass(frozen=True)
class RunComparison:
    """What `loopline.compare` gives: the first run beside each of the others.

    Args:
        pairs: one entry for each further run, in the order given.
    """

    pairs: tuple[PairedRuns, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data (what ``loopline compare --json`` prints)."""
        return {"pairs": [pair.to_dict() for pair in self.pairs]}

    def __str__(self) -> str:
        return "\n\n".join(str(pair) for pair in self.pairs)


def compare(
    *runs: Result | str, store: str | Path | None = None, ledger: str | None = None
) -> RunComparison:
    """Say what differs between runs, and what that did to the scores, with intervals.

    Args:
        runs: two or more: results, or ids, starts of ids, or line names; the others are seen from
            the first.
        store: folder or URL of the store; by default the first result's, else ``.loopline``.
        ledger: database URL of the ledger, for stores behind a URL.

    Raises:
        SettingsError: fewer than two different runs.
        NotFoundError: a run that does not exist or has not finished.

    >>> import loopline, polars as pl, tempfile
    >>> size = [i % 37 for i in range(400)]
    >>> table = pl.DataFrame({"size": size, "price": [s + i / 400 for i, s in enumerate(size)]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plain, better = (
    ...         loopline.fit(table, "price", models=name, store=folder, progress=False)
    ...         for name in ("baseline", "linear")
    ...     )
    ...     found = loopline.compare(plain, better)
    >>> found.pairs[0].kind, found.pairs[0].difference.low > 5
    ('paired', True)
    """
    first = next((entry for entry in runs if isinstance(entry, Result)), None)
    names = [entry.run if isinstance(entry, Result) else entry for entry in runs]
    if first is not None and store is None:
        return compare_runs(first.project, names)
    with open_project(store or ".loopline", ledger=ledger, create=False) as project:
        return compare_runs(project, names)


def compare_runs(
    project: Project, names: Sequence[str], reporter: Reporter | None = None
) -> RunComparison:
    """`compare` for runs of one project, by id, start of an id, or line name."""
    opened: list[FinishedRun] = []
    for name in names:
        run = finished_run(project, name, reporter)
        if any(run.id == other.id for other in opened):
            raise SettingsError(
                [f"{name!r} means {run.id}, which is given already; name different runs."]
            )
        opened.append(run)
    if len(opened) < 2:
        raise SettingsError(
            [
                f"Comparing needs at least two runs, got {len(opened)}; `loopline runs` lists what "
                "there is."
            ]
        )
    first, *others = opened
    level = 1 - (1 - LEVEL) / len(others)
    return RunComparison(tuple(_compare(first, other, level) for other in others))


def _compare(first: FinishedRun, second: FinishedRun, level: float) -> PairedRuns:
    made = what_differs(first, second)
    refusal = _refusal(first, second)
    pair = None if refusal else pair_of(first, second)
    lines: tuple[Line, ...] = ()
    slices: tuple[SliceLine, ...] = ()
    cautions: list[str] = []
    if refusal:
        kind, told = "refused", refusal
    elif pair is None:
        kind, lines = "unpaired", tuple(_unpaired(first, second, level))
        told = _unpaired_sentence(first, second, lines)
    else:
        kind, seed = "paired", child_seed(first.context.spec.seed, "compare")
        names = list(dict.fromkeys([first.metric, second.metric]))
        lines = tuple(metric_lines(pair, names, level=level, seed=seed))
        parts = slices_of_run(first, pair.rows)
        slices = tuple(slice_lines(pair, parts, first.metric, seed=seed))
        told = _sentence(first, second, lines[0], pair)
        cautions = _cautions(first, second, pair, level)
    return PairedRuns(
        before=first.id,
        after=second.id,
        chosen=(first.chosen, second.chosen),
        metric=first.metric,
        sentence=told,
        kind=kind,
        cautions=tuple(cautions),
        num_rows=0 if pair is None else int(pair.rows.size),
        lines=lines,
        slices=slices,
        made=made,
    )


def _refusal(first: FinishedRun, second: FinishedRun) -> str:
    """Why the scores mean different things; empty when they mean the same."""
    one, two = first.schema, second.schema
    said = f"The scores of {first.id} and {second.id} cannot be compared: "
    if one.target != two.target:
        return said + f"they predict different things, {one.target!r} and {two.target!r}."
    if one.task != two.task:
        return said + f"{one.target!r} is a {one.task} target in one and {two.task} in the other."
    if one.classes != two.classes:
        return said + (
            f"the classes are {list(one.classes)} and {list(two.classes)}. Give both runs the same "
            "labels and the same `positive`."
        )
    return ""


def _named(run: FinishedRun) -> str:
    return f"{run.id} ({run.chosen})"


def _sentence(first: FinishedRun, second: FinishedRun, line: Line, pair: Pair) -> str:
    rows = f"{pair.rows.size:,} rows that both scored out of fold"
    found = line.difference
    name = line.metric
    if found.note == "equal predictions":
        return (
            f"{_named(second)} predicts the {rows} exactly as {_named(first)} does, so no score "
            "differs."
            if first.threshold == second.threshold
            else f"{_named(second)} predicts the {rows} exactly as {_named(first)} does; only the "
            "decision threshold differs."
        )
    if math.isnan(found.low):
        return f"{name} cannot be compared on the {rows}: {found.note}."
    size = _size(found)
    if found.low > 0:
        return f"{_named(second)} is better than {_named(first)} by {size} in {name}, on {rows}."
    if found.high < 0:
        worse = _size(_negative(found))
        return f"{_named(second)} is WORSE than {_named(first)} by {worse} in {name}, on {rows}."
    return (
        f"No difference in {name} is shown between {_named(first)} and {_named(second)}: on {rows} "
        f"the second is better by {size}, which may be nothing."
    )


def _size(found: Estimate) -> str:
    return estimate(found.to_dict())


def _negative(found: Estimate) -> Estimate:
    return Estimate(-found.value, -found.high, -found.low, found.method, found.num_units)


def _cautions(first: FinishedRun, second: FinishedRun, pair: Pair, level: float) -> list[str]:
    told = []
    if level > LEVEL:
        told.append(
            f"Several runs are seen from the first, so each interval is one of {100 * level:.4g} %."
        )
    if first.metric != second.metric:
        told.append(
            f"The runs rank by different metrics, {first.metric} and {second.metric}; each chose "
            "its model by its own."
        )
    if not same_division(first, second):
        one, two = (run.prepared.split_artifact.meta["certificate"] for run in (first, second))
        apart, also = (_kept(certificate) for certificate in (one, two))
        if apart != also:
            told.append(
                "The runs keep different things apart "
                f"({', '.join(sorted(apart)) or 'nothing'}; {', '.join(sorted(also)) or 'nothing'})"
                ": the one that keeps less apart is flattered, and the difference with it."
            )
        else:
            told.append(
                "The folds are not the same, so part of the difference is that of the rows each "
                "model learned from."
            )
    of_first, of_second = (len(run.scored().rows) for run in (first, second))
    if pair.rows.size < max(of_first, of_second):
        told.append(
            f"Only {pair.rows.size:,} of {of_first:,} and {of_second:,} scored rows are the same "
            "in both; the others take no part."
        )
    if not pair.weighted and (first.schema.weight or second.schema.weight):
        told.append("The runs weigh rows differently, so every row counts the same here.")
    return told


def _kept(certificate: Mapping[str, Any]) -> set[str]:
    return {
        str(claim["structure"])
        for claim in certificate["claims"]
        if claim["required"] and claim["straddling"] == 0
    }


def _unpaired(first: FinishedRun, second: FinishedRun, level: float) -> list[Line]:
    """The difference of two scores of different rows: as uncertain as both together."""
    lines = []
    names = list(dict.fromkeys([first.metric, *first.summary["out_of_fold"]]))
    for name in names:
        stored = [run.summary["out_of_fold"].get(name) for run in (first, second)]
        if stored[0] is None or stored[1] is None:
            continue
        one, two = (Estimate.from_dict(entry) for entry in stored)
        lines.append(Line(name, one, two, _apart(one, two, metric(name).sign, level)))
    return lines


def _apart(one: Estimate, two: Estimate, sign: float, level: float) -> Estimate:
    value = sign * (two.value - one.value)
    squares = one.standard_error**2, two.standard_error**2
    error = math.sqrt(sum(squares))
    nan = float("nan")
    units = one.num_units + two.num_units
    if math.isnan(error) or error <= 0:
        return Estimate(value, nan, nan, "none", units, level, note="a score has no interval")
    freedom = sum(squares) ** 2 / sum(
        square**2 / entry.freedom for square, entry in zip(squares, (one, two), strict=True)
    ) if not (math.isinf(one.freedom) and math.isinf(two.freedom)) else math.inf  # fmt: skip
    step = student_quantile((1 + level) / 2, freedom) * error
    return Estimate(
        value, value - step, value + step, "unpaired, Welch", units, level, error, freedom
    )


def _unpaired_sentence(first: FinishedRun, second: FinishedRun, lines: Sequence[Line]) -> str:
    head = (
        f"{first.id} and {second.id} scored hardly any row in common, so their scores can only be "
        "set side by side"
    )
    if not lines:
        return f"{head}, and they share no metric."
    line = lines[0]
    return (
        f"{head}: {line.metric} {figure(line.before.value)} on the rows of the one and "
        f"{figure(line.after.value)} on those of the other. Whether the model or the rows make the "
        f"difference of {_size(line.difference)} cannot be told."
    )
