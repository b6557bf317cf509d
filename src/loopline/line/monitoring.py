"""The monitor of a project: answered rows and their labels, judged against training.

`check_stream` takes what a release's service logged since the last look, judges it in windows,
writes one entry into the ledger and tells whoever is to be told. `check_tables` judges one table by
another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from loopline.data.sources import read_table
from loopline.errors import SettingsError
from loopline.frames import as_frame, is_frame
from loopline.line.monitor_stream import Stream
from loopline.line.monitor_telling import tell, write_gauges
from loopline.line.problems import sentences
from loopline.line.project import Project
from loopline.line.reference import reference_of, times_of
from loopline.monitor.alarm import Alarm, in_order, together
from loopline.monitor.receivers import SinkSettings
from loopline.monitor.settings import MonitorSettings
from loopline.monitor.tables import Comparison, compare, compare_files
from loopline.monitor.tasks import WATCHED
from loopline.monitor.watcher import Checked, Watcher
from loopline.monitor.window import Window, cut

S = TypeVar("S", bound=BaseModel)
LARGE_BYTES = 500_000_000
"""Parquet files of this size together are read in blocks."""


@dataclass(frozen=True)
class MonitorReport:
    """What a look at a stream of answered rows found.

    Args:
        name: the line's name.
        release: whose answers were judged.
        windows: what each new window showed, oldest first.
        alarms: those that are open now and those that just closed; pages first.
        labels: how many labels were taken.
        waiting: answered rows that do not fill a window yet.
        remarks: what was odd about rows, labels or the reference, as sentences.
        undelivered: what a receiver did not take, as sentences; it is tried again next time.
    """

    name: str
    release: str
    windows: tuple[Checked, ...]
    alarms: tuple[Alarm, ...]
    labels: int
    waiting: int
    remarks: tuple[str, ...]
    undelivered: tuple[str, ...]

    @property
    def pages(self) -> tuple[Alarm, ...]:
        """Alarms that page and are open."""
        return tuple(alarm for alarm in self.alarms if alarm.page and alarm.state != "closed")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as ``loopline monitor --json`` prints it."""
        return {
            "name": self.name,
            "release": self.release,
            "windows": [checked_facts(each) for each in self.windows],
            "alarms": [alarm.to_dict() for alarm in self.alarms],
            "pages": len(together(self.pages)),
            "labels": self.labels,
            "waiting": self.waiting,
            "remarks": list(self.remarks),
            "undelivered": list(self.undelivered),
        }


def check_stream(
    which: str = "latest",
    *,
    project: Project,
    settings: Mapping[str, Any] | MonitorSettings | None = None,
    alarms: Mapping[str, Any] | SinkSettings | None = None,
    folder: str | Path | None = None,
    end: bool = False,
) -> MonitorReport:
    """Judge what a release's service answered since the last look, and tell what moved.

    Args:
        which: the release by id, line name or alias.
        project: where it was made, and where its service logs.
        settings: budget of false pages, windows, floors; by default one page a month and days.
        alarms: who is told besides the ledger: webhook, email, prometheus.
        folder: where the service keeps labels; by default beside a local store.
        end: judge the rows that do not fill a window, too.

    Raises:
        SettingsError: wrong settings, all told at once.
        NotFoundError: there is no such release.
        DataError: the release was not made here, or too few rows were predicted out of fold.
        ConflictError: another monitor judged the same rows meanwhile; its word counts.
    """
    told_to = checked_settings(SinkSettings, alarms, "alarms")
    chosen = checked_settings(MonitorSettings, settings, "monitor")
    stream = Stream(project, project.release(which), chosen, folder)
    last = stream.last()
    undelivered = [] if last is None else tell(project.ledger, last, told_to)
    memory = stream.remembered(last)
    files = len(memory.files)
    remarks = [*memory.watcher.remarks, *stream.read(memory)]
    checked = [memory.watcher.check(window) for window in stream.windows(memory, end=end)]
    labels = stream.labels(memory)
    looked = [*checked, *([memory.watcher.observe(labels)] if labels else [])]
    remarks += [remark for each in looked for remark in each.remarks]
    every = [alarm for each in looked for alarm in each.alarms]
    if looked or last is None or len(memory.files) != files:
        changed = [alarm for alarm in every if alarm.state != "open"]
        look = stream.keep(memory, last, checked, changed)
        undelivered += tell(project.ledger, look, told_to)
    if told_to.prometheus is not None:
        write_gauges(told_to.prometheus, stream.release.name, memory.watcher)
    closed = [alarm for alarm in every if alarm.state == "closed"]
    return MonitorReport(
        stream.release.name,
        stream.release.id,
        tuple(checked),
        tuple(in_order([*memory.watcher.open.alarms.values(), *closed])),
        len(labels),
        memory.rows.height,
        tuple(dict.fromkeys(remarks)),
        tuple(undelivered),
    )


def check_rows(
    which: str,
    data: Any,
    *,
    project: Project,
    settings: Mapping[str, Any] | MonitorSettings | None = None,
) -> tuple[Checked, ...]:
    """Judge a table of new rows by what a release was trained on, and remember nothing.

    The release predicts the rows. Where they have its target, the outcomes are judged as well;
    where they have its time column, they are cut into windows by it.

    Args:
        which: the release by id, line name or alias.
        data: a path, glob or URL, or a table.
        project: where the release was made.
        settings: as for `check_stream`.

    Returns:
        What each window showed, oldest first; one window where rows have no times.

    Raises:
        SettingsError: wrong settings, all told at once.
        DataError: the rows break the release's contract, or its training rows are not here.
    """
    chosen = checked_settings(MonitorSettings, settings, "monitor")
    release = project.release(which)
    watcher = Watcher.learn(reference_of(project, release), chosen)
    frame = as_frame(data) if is_frame(data) else release.read(data).frame
    repaired = release.repaired(frame)
    kept = [name for name in repaired.columns if name not in release.expected]
    checked, remarks = release.contract.check(repaired.select(kept))
    kind, losses, labels = WATCHED[release.task], watcher.learned.losses, None
    if losses is not None and kind.labels_come and release.answered_in(repaired):
        labels = losses.outcomes(release.with_target(repaired)[release.schema.target].to_list())
    time = times_of(repaired, release.schema)
    told = tuple(remark.text for remark in remarks)
    stated = kind.stated(release.raw(checked), checked, release.schema)
    rows = Window(checked, stated, (), time, labels, None, told)
    if time is None and chosen.window_rows is None:
        return (watcher.check(rows),)
    return tuple(watcher.check(window) for window in cut(rows, chosen, end=True)[0])


def check_tables(
    reference: Any,
    current: Any,
    *,
    settings: Mapping[str, Any] | MonitorSettings | None = None,
    error_rate: float = 0.05,
) -> Comparison:
    """Judge one table by another: which columns moved, how far, and how sure that is.

    Rows count as independent of each other. Large Parquet files are read in blocks, so that memory
    stays bounded; the look at all columns together is left out for them.

    Args:
        reference: what is normal: a frame, path, glob or URL of at least 50 rows.
        current: the rows to be judged, likewise.
        settings: floors, and columns to leave out; windows and budgets have no effect here.
        error_rate: the chance of any word about tables that come from the same world.

    Raises:
        SettingsError: wrong settings, all told at once.
        DataError: too few rows in the reference, or none to be judged.

    >>> import numpy as np, polars as pl
    >>> rng = np.random.default_rng(0)
    >>> before = pl.DataFrame({"age": rng.normal(40, 9, 2000)})
    >>> after = pl.DataFrame({"age": rng.normal(44, 9, 300)})
    >>> [alarm.subject for alarm in check_tables(before, after).alarms]
    ['age']
    """
    chosen = checked_settings(MonitorSettings, settings, "monitor")
    if is_frame(reference):
        written, normal = None, as_frame(reference)
    else:
        read = read_table(reference)
        written, normal = read.format, read.frame
    if is_frame(current):
        return compare(normal, as_frame(current), error_rate=error_rate, settings=chosen)
    files = _large(str(current))
    if files:
        return compare_files(normal, files, error_rate=error_rate, settings=chosen)
    rows = read_table(current, format=written).frame
    return compare(normal, rows, error_rate=error_rate, settings=chosen)


def _large(current: str) -> list[Path]:
    """The Parquet files of a path or glob that are better read in blocks; else none."""
    place = Path(current).expanduser()
    files = [place] if place.is_file() else [Path(name) for name in sorted(glob(str(place)))]
    parquet = all(file.suffix.lower() in (".parquet", ".pq") for file in files)
    large = sum(file.stat().st_size for file in files) >= LARGE_BYTES
    return files if parquet and large else []


def checked_facts(checked: Checked) -> dict[str, Any]:
    """What a window showed as plain data."""
    return {
        "start": checked.start,
        "rows": checked.rows,
        "alarms": [alarm.to_dict() for alarm in checked.alarms],
        "remarks": list(checked.remarks),
        "table": checked.table.to_dicts(),
    }


def checked_settings(kind: type[S], given: Mapping[str, Any] | S | None, where: str) -> S:
    """Plain settings as their typed, frozen value.

    Raises:
        SettingsError: every problem at once.
    """
    if isinstance(given, kind):
        return given
    try:
        return kind.model_validate({} if given is None else dict(given))
    except ValidationError as error:
        raise SettingsError(sentences(error, kind, {}), where) from None
