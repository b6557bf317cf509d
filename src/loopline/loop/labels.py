"""Rows that the service answered and whose labels came later, as rows of the line's own table.

The prediction log holds the cells as the model saw them, the feedback the newest label of each
answered row; both know the request. What cannot be used is counted and told: labels of requests
that the log does not hold, and logs that leave out or hash columns the model needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import orjson
import polars as pl

from loopline.errors import DataError, NotFoundError
from loopline.line.project import Project
from loopline.line.serving import state_folder
from loopline.loop.arrivals import as_source, source_types
from loopline.release.bundle import Release
from loopline.serve.feedback import read_feedback
from loopline.serve.log import ANSWERED, read_log
from loopline.serve.model import version_of
from loopline.words import counted


@dataclass(frozen=True, eq=False)
class Answered:
    """What the service knows.

    Args:
        rows: answered rows in the source's columns, oldest first; without a label it is null.
        remarks: what could not be used, a sentence each.
    """

    rows: pl.DataFrame
    remarks: tuple[str, ...] = ()


def answered_rows(project: Project, champion: Release, folder: Path | None = None) -> Answered:
    """Join the prediction log of a line with its labels.

    Args:
        project: whose store holds the log.
        champion: the release whose columns the rows shall have.
        folder: where the service keeps labels (default: beside a local store).
    """
    types = source_types(project, champion)
    nothing = Answered(pl.DataFrame(schema=types))
    log = read_log(project.store, name=champion.name)
    if log.is_empty():
        return nothing
    log = log.filter(pl.col("role").is_in(ANSWERED)).unique(
        ["request_id", "row"], keep="first", maintain_order=True
    )
    needed = [column.name for column in champion.contract.columns]
    lacking = [name for name in needed if f"input.{name}" not in log.columns]
    if lacking:
        told = ", ".join(lacking)
        return Answered(
            nothing.rows, (f"The prediction log leaves out {told}: its rows cannot be used.",)
        )
    labels, remarks = _labels(project, champion, folder, types[champion.schema.target])
    if labels is None:
        return Answered(_as_table(log, champion, types), remarks)
    unknown = labels.join(log, on=["request_id", "row"], how="anti").height
    if unknown:
        told = "is" if unknown == 1 else "are"
        remarks += (
            f"{counted(unknown, 'label')} {told} of requests that the log does not hold "
            "(a sampled log, or rows that were dropped); they are not used.",
        )
    joined = log.join(labels, on=["request_id", "row"], how="left", maintain_order="left")
    return Answered(_as_table(joined, champion, types), remarks)


def _labels(
    project: Project, champion: Release, folder: Path | None, dtype: pl.DataType
) -> tuple[pl.DataFrame | None, tuple[str, ...]]:
    place = state_folder(project.local_folder, folder)
    try:
        found = None if place is None else read_feedback(place)
    except NotFoundError:
        found = None
    if found is None:
        return None, ()
    made = project.ledger.events(kind="release.made")
    own = {version_of(str(each.subject)) for each in made if each.data["name"] == champion.name}
    found = found.filter(pl.col("version").is_in(own))  # a service may answer for several lines
    values = [orjson.loads(text) for text in found["label"].to_list()]
    target = champion.schema.target
    series = pl.Series(target, values, dtype=dtype, strict=False)
    odd = int(series.null_count())
    remarks: tuple[str, ...] = ()
    if odd:
        remarks += (f"{counted(odd, 'label')} cannot be read as {dtype}; not used.",)
    changed = int((found["changes"] > 0).sum())
    if changed:
        remarks += (f"{counted(changed, 'label')} replaced an earlier one; the newest counts.",)
    labels = found.select("request_id", pl.col("row").cast(pl.Int32)).with_columns(series)
    return labels.filter(pl.col(target).is_not_null()), remarks


def _as_table(
    joined: pl.DataFrame, champion: Release, types: dict[str, pl.DataType]
) -> pl.DataFrame:
    columns = {
        name.removeprefix("input."): joined[name]
        for name in joined.columns
        if name.startswith("input.")
    }
    if champion.schema.target in joined.columns:
        columns[champion.schema.target] = joined[champion.schema.target]
    for name in champion.schema.with_role("time"):
        dtype = types.get(name)
        if dtype is not None and name not in columns and dtype in (pl.Datetime, pl.Date):
            columns[name] = joined["time"].dt.replace_time_zone(None).cast(dtype)
    try:
        return as_source(pl.DataFrame(columns), types)
    except DataError:
        return pl.DataFrame(schema=types)
