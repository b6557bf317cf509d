"""One attempt: rows are set aside and written down, the line is run, champion and challenger meet.

The rows of an attempt are snapshots named by the entry that begins it, so whoever finishes it,
after however many crashes, trains on the same rows and decides with the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loopline.data.fingerprint import row_digests
from loopline.data.schema import has_classes
from loopline.data.snapshot import open_snapshot, write_snapshot
from loopline.digest import value_digest
from loopline.errors import NotFoundError
from loopline.evaluate.rows import Rows
from loopline.evaluate.slices import Slice, slices_of
from loopline.line.finished import FinishedRun, finished_run
from loopline.line.paired import pair_of, same_rows, shared_columns
from loopline.line.project import Project
from loopline.line.runner import Outcome, run_line
from loopline.line.spec import Spec
from loopline.loop.arrivals import source_snapshot
from loopline.loop.bout import Bout
from loopline.loop.cut import Cut, not_among
from loopline.loop.diary import Diary, Entry
from loopline.loop.pool import Pool
from loopline.loop.triggers import Trigger
from loopline.progress import Reporter
from loopline.release.bundle import Release
from loopline.splits.views import target_codes
from loopline.words import counted

KNOWN = "known"
KNOWN_FILE = "rows.npy"


@dataclass(frozen=True)
class Attempt:
    """What was written down before anything was trained.

    Args:
        id: its name: the digest of all that it depends on.
        number: the how-manieth against this champion, from 1.
        champion: the release to be challenged.
        train: snapshot to train on.
        gate: snapshot that decides.
        history: snapshot of the trusted rows that are kept from training.
        known: artifact with the identities of all rows there were.
        event: the number of the entry that began it.
    """

    id: str
    number: int
    champion: str
    train: str
    gate: str
    history: str
    known: str
    event: int = 0


def begin(
    project: Project, diary: Diary, champion: Release, pool: Pool, cut: Cut, trigger: Trigger
) -> Attempt:
    """Set the rows aside and write the attempt down; from here on it can be finished by anybody."""
    parts = {
        name: write_snapshot(project.store, pool.frame[getattr(cut, name)]).id
        for name in ("train", "gate", "history")
    }
    rows = {part: len(getattr(cut, part)) for part in parts}
    parts["known"] = project.store.put(
        KNOWN, lambda place: np.save(place / KNOWN_FILE, pool.digests)
    ).id
    for name in parts.values():
        project.ledger.append("artifact", subject=name)
    before = [e for e in diary.entries("triggered") if e.data["champion"] == champion.id]
    number = len(before) + 1
    facts = {"champion": champion.id, "number": number, **parts}
    attempt = value_digest(facts)[:12]
    sentence = (
        f"Attempt {number} against {champion.id[:20]} begins: {trigger.sentence} "
        f"{counted(rows['train'], 'row')} to train on; the newest {rows['gate']:,} decide and are "
        f"not trained on, nor are {rows['history']:,} trusted older ones."
    )
    entry = diary.tell(
        "triggered", sentence, attempt=attempt, kinds=list(trigger.kinds), rows=rows, **facts
    )
    return read_attempt(entry)


def read_attempt(entry: Entry) -> Attempt:
    """The attempt that an entry began."""
    data = entry.data
    return Attempt(
        data["attempt"], data["number"], data["champion"], data["train"], data["gate"],
        data["history"], data["known"], entry.id,
    )  # fmt: skip


def train(
    project: Project, attempt: Attempt, spec: Spec, folder: Path, reporter: Reporter
) -> Outcome:
    """Run the line on the attempt's rows, or go on with it, or find it done.

    The gate's rows are the test, newer than anything a split could set aside, so no row of the
    window is spent on another one.
    """
    return run_line(
        project,
        retrained(spec),
        folder,
        reporter,
        open_snapshot(project.store, attempt.train).frame(),
    )


def retrained(spec: Spec) -> Spec:
    """The line's settings as the loop runs them: without a test side of their own."""
    if spec.data.test is not None or spec.split.column is not None:
        return spec
    return spec.model_copy(update={"split": spec.split.model_copy(update={"test": 0.0})})


def run_of(project: Project, release: str) -> FinishedRun:
    """The run that made a release.

    Raises:
        NotFoundError: the project knows no run of it.
    """
    made = project.ledger.events(kind="release.made", subject=release, limit=1, newest_first=True)
    if not made or made[0].run is None:
        raise NotFoundError(f"The run that made {release[:20]} is not known in this project.")
    return finished_run(project, made[0].run)


def fresh_bout(spec: Spec, champion: Release, challenger: Release, gate: pl.DataFrame) -> Bout:
    """Champion and challenger on rows that neither was trained on."""
    return Bout(
        answers(champion, gate),
        answers(challenger, gate),
        _units(champion, gate),
        _origins(spec, gate),
    )


def history_bout(
    project: Project, champion: Release, challenger: Release, history: pl.DataFrame
) -> Bout | None:
    """Champion and challenger on trusted rows from before the change; None when there are none.

    Rows that were kept from both, and, where folds do not run forward in time, the rows that both
    runs predicted out of fold: of those the challenger's prediction is as free of its training as
    the champion's.
    """
    parts = [_both_apart(project, champion, challenger, history)]
    first, second = run_of(project, champion.id), run_of(project, challenger.id)
    if not challenger.schema.with_role("time"):
        pair = pair_of(first, second)
        if pair is not None:
            parts.append(Bout(pair.before, pair.after, pair.observed))
    found = [part for part in parts if part is not None]
    return max(found, key=lambda bout: bout.num_rows, default=None)


def _both_apart(
    project: Project, champion: Release, challenger: Release, history: pl.DataFrame
) -> Bout | None:
    """Both on the rows set aside.

    A champion that the loop did not make was trained on some of them: for those its out-of-fold
    predictions stand, and rows without one are left out.
    """
    if history.is_empty():
        return None
    trained = open_snapshot(project.store, source_snapshot(project, champion))
    apart = not_among(row_digests(history), np.asarray(trained.rows()))
    able, mine = _out_of_fold(project, champion, history.filter(~apart))
    parts, guesses = [], []
    if apart.any():
        parts.append(history.filter(apart))
        guesses.append(champion.probabilities(parts[-1])[0])
    if able.height:
        parts.append(able)
        guesses.append(mine)
    if not parts:
        return None
    rows = pl.concat(parts)
    return Bout(
        _rows(champion, rows, np.concatenate(guesses)), answers(challenger, rows),
        _units(champion, rows),
    )  # fmt: skip


def _out_of_fold(
    project: Project, champion: Release, rows: pl.DataFrame
) -> tuple[pl.DataFrame, NDArray[Any]]:
    """Those of the rows that the champion's run predicted out of fold, and its predictions."""
    nothing = rows.clear(), np.zeros(0)
    if rows.is_empty():
        return nothing
    try:
        run = run_of(project, champion.id)
        scored = run.scored()
        table = run.prepared.table[scored.rows]
    except NotFoundError:
        return nothing
    repaired = champion.repaired(rows)
    shared = shared_columns(repaired, table)
    here, there = same_rows(repaired.select(shared), table.select(shared), copies=False)
    return rows[here], scored.prediction[there]


def answers(release: Release, frame: pl.DataFrame) -> Rows:
    """Truth and a release's answers, for labelled rows in the source's form."""
    return _rows(release, frame, release.probabilities(frame)[0])


def _rows(release: Release, frame: pl.DataFrame, raw: NDArray[Any]) -> Rows:
    target = release.schema.target
    y = target_codes(release.repaired(frame.select(target))[target], release.schema)
    threshold = 0.5 if release.threshold is None else release.threshold
    values = None if has_classes(release.task) else release.task
    return Rows.build(y, raw, values=values, threshold=threshold)


def _units(release: Release, frame: pl.DataFrame) -> NDArray[Any] | None:
    groups = [name for name in release.schema.with_role("group") if name in frame.columns]
    return frame[groups[0]].rank("dense").fill_null(0).to_numpy() if groups else None


def _origins(spec: Spec, frame: pl.DataFrame) -> NDArray[Any] | None:
    name = spec.loop.origin
    if name is None or name not in frame.columns:
        return None
    return frame[name].cast(pl.String).fill_null("nobody").to_numpy()


def protected(spec: Spec, champion: Release, gate: pl.DataFrame) -> list[Slice]:
    """The parts of the fresh rows in which a challenger must not be worse."""
    types = {column.name: column.type for column in champion.schema.columns}
    names = [name for name in spec.loop.protect if name in types]
    return slices_of(champion.repaired(gate).select(names), {n: types[n] for n in names})
