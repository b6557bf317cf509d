"""One release's stream of answered rows: what is new in it, cut into windows, with a memory.

What is remembered between two looks is an artifact, and the ledger's entry of a look names it. The
entry also names the look before. Of two looks that follow the same one, the first written counts:
so a look that is killed is made again, and two monitors at once give one word.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from loopline.digest import value_digest
from loopline.errors import ConflictError, NotFoundError
from loopline.line.project import LOOKED, Project
from loopline.line.reference import reference_of
from loopline.line.serving import state_folder
from loopline.monitor.alarm import Alarm
from loopline.monitor.reference import Reference, as_seconds
from loopline.monitor.settings import MonitorSettings
from loopline.monitor.tasks import WATCHED
from loopline.monitor.watcher import Checked, Watcher
from loopline.monitor.window import Service, Window, cut
from loopline.release.bundle import Release
from loopline.serve.feedback import read_feedback
from loopline.serve.health import Served, read_served, summed
from loopline.serve.log import ANSWERED, log_files, read_files
from loopline.serve.model import version_of
from loopline.store.ledger import Event

_ROWS, _FACTS = "rows.parquet", "stream.json"
_ID, _TIME, _INPUT = "::id", "::time", "input."


@dataclass
class Memory:
    """What a stream remembers.

    Args:
        watcher: its statistics.
        rows: logged rows that do not fill a window yet.
        labels: labels of these, by row id.
        files: log files that were read.
        served: service counts that were read.
        counts: those of them that belong to no window yet.
        place: of the last label that was read.
    """

    watcher: Watcher
    rows: pl.DataFrame = field(default_factory=pl.DataFrame)
    labels: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    counts: list[Served] = field(default_factory=list)
    place: int = 0


class Stream:
    """The answers of one release, as its service logged them.

    Args:
        project: where the release was made and its service logs.
        release: whose answers.
        settings: of the watch; other settings are another stream, from the first row on.
        folder: where the service keeps labels; by default beside a local store.
    """

    def __init__(
        self,
        project: Project,
        release: Release,
        settings: MonitorSettings,
        folder: str | Path | None = None,
    ) -> None:
        self.project, self.release, self.settings = project, release, settings
        self.folder = state_folder(project.local_folder, folder)
        self.key = value_digest(settings.model_dump(mode="json"))

    def last(self) -> Event | None:
        """The last look that counts."""
        looks = self.project.ledger.events(kind=LOOKED, subject=self.release.id)
        followed: dict[int, Event] = {}
        for look in looks:
            if look.data["settings"] == self.key:
                followed.setdefault(look.data["after"], look)
        found, place = None, 0
        while place in followed:
            found = followed[place]
            place = found.id
        return found

    def remembered(self, last: Event | None) -> Memory:
        """The memory as the last look left it; a fresh one before the first."""
        reference = self._reference()
        if last is None:
            return Memory(Watcher.learn(reference, self.settings))
        folder = self.project.store.get(last.data["state"]).path()
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        counts = [Served(**{**each, "seconds": tuple(each["seconds"])}) for each in facts["counts"]]
        rows = folder / _ROWS
        return Memory(
            Watcher.load(folder, reference),
            pl.read_parquet(rows) if rows.exists() else pl.DataFrame(),
            **{**facts, "counts": counts},
        )

    def read(self, memory: Memory) -> list[str]:
        """Take what was logged since into the memory; what is odd about it, as sentences."""
        store = self.project.store
        files = log_files(store, release=self.release.id, known=memory.files)
        memory.files = sorted({*memory.files, *(file.id for file in files)})
        counts = read_served(store, known=memory.served)
        memory.served = sorted({*memory.served, *(served.id for served in counts)})
        memory.counts += counts
        table = read_files(store, files)
        if table.is_empty():
            return []
        table = table.filter(pl.col("role").is_in(ANSWERED))
        table = table.with_columns(
            (pl.col("request_id") + "/" + pl.col("row").cast(pl.String)).alias(_ID),
            pl.Series(_TIME, as_seconds(table["time"])),
        )
        memory.rows = pl.concat([memory.rows, table], how="diagonal_relaxed")
        watched = memory.watcher.learned.columns
        hidden = [each.name for each in watched if f"{_INPUT}{each.name}" not in table.columns]
        if not hidden:
            return []
        return [
            f"The log leaves out {', '.join(hidden)}: not watched. Keep it in the log, or name it "
            "under `ignore` of `monitor`."
        ]

    def windows(self, memory: Memory, *, end: bool) -> list[Window]:
        """Whole windows of the rows in memory; what does not fill one stays there."""
        if memory.rows.is_empty():
            return []
        rows = self._window(memory.rows)
        windows, rest = cut(rows, self.settings, end=end)
        left = set() if rest is None else set(rest.ids)
        memory.rows = memory.rows.filter(pl.col(_ID).is_in(left))
        return [self._with_service(memory, window) for window in windows]

    def labels(self, memory: Memory) -> dict[str, Any]:
        """Labels of judged rows that came since; those of rows that wait, wait with them."""
        given = dict(memory.labels)
        if self.folder is not None:
            try:
                found = read_feedback(self.folder, after=memory.place)
            except NotFoundError:
                found = pl.DataFrame()
            if not found.is_empty():
                memory.place = int(found["place"].to_numpy().max())
                mine = found.filter(pl.col("version") == version_of(self.release.id))
                names = mine["request_id"] + "/" + mine["row"].cast(pl.String)
                given |= dict(zip(names, map(orjson.loads, mine["label"]), strict=True))
        waiting = set() if memory.rows.is_empty() else set(memory.rows[_ID])
        memory.labels = {name: label for name, label in given.items() if name in waiting}
        return {name: label for name, label in given.items() if name not in waiting}

    def keep(
        self,
        memory: Memory,
        last: Event | None,
        checked: Sequence[Checked],
        alarms: Sequence[Alarm],
    ) -> Event:
        """Put the memory into the store and the look into the ledger.

        Args:
            memory: as it is now.
            last: the look that it followed.
            checked: what the windows showed.
            alarms: that began or ended.

        Raises:
            ConflictError: another look followed the same one and was written first.
        """

        def write(folder: Path) -> None:
            memory.watcher.save_state(folder)
            if not memory.rows.is_empty():
                memory.rows.write_parquet(folder / _ROWS)
            names = ("labels", "files", "served", "place")
            facts = {name: getattr(memory, name) for name in names}
            facts["counts"] = [asdict(each) for each in memory.counts]
            (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")

        state = self.project.store.put("watch", write, inputs={"release": self.release.id})
        look = self.project.ledger.append(
            LOOKED,
            subject=self.release.id,
            data={
                "name": self.release.name,
                "settings": self.key,
                "after": 0 if last is None else last.id,
                "state": state.id,
                "windows": len(checked),
                "rows": sum(each.rows for each in checked),
                "alarms": [alarm.to_dict() for alarm in alarms],
            },
        )
        counts = self.last()
        if counts is None or counts.id != look.id:
            raise ConflictError(
                f"Another monitor judged the same rows of {self.release.name} meanwhile; its word "
                "counts, and nothing is lost. Run one monitor of a release at a time."
            )
        return look

    def _reference(self) -> Reference:
        store = self.project.store
        key = value_digest(["monitor reference", 1, self.release.id])
        known = store.lookup(key)
        if known is not None:
            return Reference.load(store.get(known).path())
        reference = reference_of(self.project, self.release)
        inputs = {"release": self.release.id}
        store.bind(key, store.put("reference", reference.save, inputs=inputs).id)
        return reference

    def _window(self, table: pl.DataFrame) -> Window:
        """Logged rows as the watcher wants them."""
        columns = [name for name in table.columns if name.startswith(_INPUT)]
        frame = table.select(pl.col(name).alias(name.removeprefix(_INPUT)) for name in columns)
        ids = tuple(table[_ID].to_list())
        kind, release = WATCHED[self.release.task], self.release
        stated = kind.stated(self._raw(table), frame, release.schema)
        watched = release.contract.columns
        left_out = frozenset(each.name for each in watched) - frozenset(frame.columns)
        return Window(frame, stated, ids, table[_TIME].to_numpy(), left_out=left_out)

    def _raw(self, table: pl.DataFrame) -> NDArray[np.float64]:
        names = [f"probability_{label}" for label in self.release.classes]
        if names:
            return table.select(names).to_numpy()
        return table["prediction"].cast(pl.Float64).to_numpy()

    def _with_service(self, memory: Memory, window: Window) -> Window:
        """The window with what was counted of the service until its last row."""
        assert window.time is not None
        until = float(np.nanmax(window.time)) + 1.0
        used = [each for each in memory.counts if _seconds(each.end) <= until]
        memory.counts = [each for each in memory.counts if each not in used]
        did = summed(used)
        if did is None:
            return window
        latency = {"p50": did.quantile(0.5), "p99": did.quantile(0.99)}
        known = {name: seconds for name, seconds in latency.items() if seconds is not None}
        return replace(window, service=Service(did.requests, did.errors, known))


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
