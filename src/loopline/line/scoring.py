"""Scoring a release on new labelled rows, after a look whether they are new at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from loopline.data.fingerprint import row_digests
from loopline.data.schema import Role, holds_answer
from loopline.data.snapshot import open_snapshot
from loopline.errors import LeakError, NotFoundError
from loopline.frames import as_frame, is_frame
from loopline.line.project import Project
from loopline.release.bundle import Evaluation, Release
from loopline.splits.spec import TEST, TRAIN
from loopline.splits.split import Split
from loopline.splits.vault import EVENT, looks_at, told_openings


def evaluate_release(
    project: Project | None, release: Release, data: Any, *, allow_known: bool = False
) -> Evaluation:
    """Score a release on labelled rows that it has not been trained on.

    Args:
        project: where the release's training rows are kept; without it nothing can be compared, and
            a remark says so.
        release: the release.
        data: a path, or a table, with the target column.
        allow_known: score rows that stand among the training rows too.

    Raises:
        LeakError: some rows equal training rows in all features and the target.
        DataError: the data has no target column, or labels that training did not know.
    """
    frame = as_frame(data) if is_frame(data) else release.read(data).frame
    found_known = None if project is None else known_rows(project, release, frame)
    known, by_chance = (None, 0.0) if found_known is None else found_known
    if known and known > by_chance and not allow_known:
        raise LeakError(
            f"{known:,} of {frame.height:,} rows stand among the rows that this release was "
            "trained on, so their score would be too good. Leave them out, or allow them with "
            "`--allow-training-rows` and do not believe the result."
        )
    looked = "" if project is None else _count_look(project, release, frame)
    found = release.evaluate(frame)
    told = {
        None: "The training rows are not at hand, so whether these rows are new was not checked.",
        0: "",
    }.get(known, f"{known or 0:,} of these rows stand among the training rows.")
    remarks = (*(text for text in (told, looked) if text), *found.remarks)
    return Evaluation(found.metrics, found.num_rows, remarks)


def _count_look(project: Project, release: Release, frame: pl.DataFrame) -> str:
    """Write down that a release without a test score is scored on its test rows; a sentence on it.

    Its run left these labels closed, so whoever brings them along takes one more look.
    """
    certificate = release.facts["certificate"]
    if release.facts["metrics"]["test"] or not certificate["num_test"]:
        return ""
    found = known_rows(project, release, frame, side=TEST)
    if found is None or found[0] <= found[1]:
        return ""
    digest = str(certificate["test_digest"])
    project.ledger.append(
        EVENT,
        subject=digest,
        data={
            "reason": f"evaluate {release.id[:20]} on labelled rows",
            "num_rows": found[0],
            "look": release.id,
        },
    )
    looks = looks_at(project.ledger, digest)
    return (
        f"{found[0]:,} of these rows are test rows that this release was not scored on; that "
        f"counts as a look. {told_openings(looks, '', None)}"
    )


def known_rows(
    project: Project, release: Release, frame: pl.DataFrame, *, side: int = TRAIN
) -> tuple[int, float] | None:
    """How many rows equal a training row, and how many could be expected to by chance.

    Rows are compared in the features and the target, and in whatever the new table has of group,
    time and id columns. Where a table has few distinct values, different people look alike: as many
    training rows as have a twin among themselves, half as many again, are taken for chance.

    Args:
        project: where the release's rows are kept.
        release: the release.
        frame: the new rows.
        side: compare with the rows of this side; the training side by default.

    Returns:
        Both numbers; None when the training rows are no longer in the store.
    """
    schema = release.schema
    texts = holds_answer(schema.task)  # a text is the same wherever it stood
    if not texts:
        frame = release.with_target(frame)
    needed = [*schema.features, *(() if texts else (schema.target,))]
    if any(name not in frame.columns for name in needed):
        return 0, 0.0
    lineage = release.facts["lineage"]
    try:
        snapshot = open_snapshot(project.store, lineage["snapshot"])
        split = Split.load(project.store.get(lineage["split"]).path())
    except NotFoundError:
        return None
    roles: tuple[Role, ...] = () if texts else ("group", "time", "id")
    structure = [name for role in roles for name in schema.with_role(role)]
    columns = [*needed, *(name for name in structure if name in frame.columns)]
    chosen = split.align(np.array(snapshot.rows())).side == side
    train = snapshot.frame().filter(chosen).select(columns)
    new = release.repaired(frame).select(columns).cast(train.schema, strict=False)
    trained = _keys(train)
    _, place, counts = np.unique(trained, return_inverse=True, return_counts=True)
    twins = float(np.mean(counts[place] > 1))
    return int(np.isin(_keys(new), trained).sum()), 1.5 * twins * new.height


def _keys(frame: pl.DataFrame) -> np.ndarray[Any, Any]:
    digests = np.ascontiguousarray(row_digests(frame))
    return digests.view([("high", "<u8"), ("low", "<u8")]).reshape(-1)
