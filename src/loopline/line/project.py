"""A project: one store with its ledger, and the questions one asks of it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from loopline.errors import NotFoundError
from loopline.release.aliases import CHAMPION, Aliases, Move, is_alias, resolve
from loopline.release.bundle import Release, is_release_folder, load_release
from loopline.release.promote import promote, rollback
from loopline.release.through import over_http
from loopline.store.artifacts import Artifact, Store
from loopline.store.ledger import Event, Ledger
from loopline.words import counted, nearest

if TYPE_CHECKING:
    from loopline.release.exports.base import Exported

LOGGED = ("predictions", "served")
"""The kinds of artifacts that a service's log is made of: answers, and how the service did."""
LOOKED = "monitor.checked"
"""The ledger's word for a look of the monitor, which names what it remembers."""
FITS = "fits"
"""The folder of a store in which long fits keep what lets them go on after a kill."""
_IDLE_SECONDS = 3600.0
"""A fit that runs writes there every few minutes at least."""


@dataclass(frozen=True)
class RunRecord:
    """One run as the ledger tells it.

    Args:
        id: the run's id.
        name: the line's name.
        started: UTC time of its latest start.
        state: running (or interrupted), failed or finished.
        summary: the summary of a finished run.
        message: the error of a failed one.
    """

    id: str
    name: str
    started: str
    state: str
    summary: Mapping[str, Any] | None = None
    message: str = ""


@dataclass(frozen=True)
class Collection:
    """What a garbage collection removed, or would remove, and what it left.

    Args:
        ids: the removed artifacts, sorted.
        num_bytes: the size of their files.
        kept: reason -> number of artifacts that stay for it; each is counted once.
        num_fits: killed fits that nobody went on with, whose checkpoints are removed too.
    """

    ids: tuple[str, ...]
    num_bytes: int
    kept: Mapping[str, int]
    num_fits: int = 0


class Project:
    """Store and ledger of one folder or URL. Get one with `loopline.open_project`."""

    def __init__(self, store: Store, ledger: Ledger, local_folder: Path | None) -> None:
        self.store = store
        self.ledger = ledger
        self.local_folder = local_folder

    def __enter__(self) -> Project:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the ledger's connection."""
        self.ledger.close()

    def finished(self, run: str) -> dict[str, Any] | None:
        """The summary of a finished run whose release is still there, else None."""
        events = self.ledger.events(kind="run.finished", run=run, limit=1, newest_first=True)
        if not events:
            return None
        summary = dict(events[0].data)
        try:
            self.store.get(summary["release"])
        except NotFoundError:
            return None
        return summary

    def prove_usable(self, summary: Mapping[str, Any]) -> None:
        """Prove a finished run's release, and that all its stages' artifacts are still there.

        Cheap enough for every run that is found done: but for the release only manifests are read.

        Raises:
            NotFoundError: the release, or an artifact that it was made from, has gone.
            IntegrityError: the release, or the manifest of another artifact, is damaged.
        """
        self.store.get(summary["release"]).path()
        seen: set[str] = set()
        queue = list(summary["digests"].values())
        while queue:
            name = queue.pop()
            if name not in seen:
                seen.add(name)
                queue.extend(self.store.get(name).inputs.values())

    def runs(self) -> list[RunRecord]:
        """All runs, newest first."""
        records: dict[str, RunRecord] = {}
        for event in self.ledger.events():
            if event.run is None or not event.kind.startswith("run."):
                continue
            before = records.pop(event.run, None)
            name = str(event.data.get("name") or (before.name if before else ""))
            started = event.time if event.kind == "run.started" or not before else before.started
            records[event.run] = RunRecord(
                event.run,
                name,
                started,
                {"run.started": "unfinished", "run.failed": "failed"}.get(event.kind, "finished"),
                event.data if event.kind == "run.finished" else None,
                str(event.data.get("message", "")) if event.kind == "run.failed" else "",
            )
        return sorted(records.values(), key=lambda record: record.started, reverse=True)

    def run(self, run: str) -> RunRecord:
        """One run by its id, a unique part of it, a line's name, or "latest"."""
        _refuse_nothing(run)
        records = self.runs()
        if run == "latest" and records:
            return records[0]
        matches = [
            record
            for record in records
            if record.id == run
            or record.id.removeprefix("run-").startswith(run.removeprefix("run-"))
        ] or [record for record in records if record.name == run][:1]
        if len({record.id for record in matches}) == 1:
            return matches[0]
        if matches:
            told = ", ".join(record.id for record in matches[:5])
            raise NotFoundError(f"{run!r} fits {len(matches)} runs: {told}. Give more of the id.")
        raise NotFoundError(self._no_such("run", run, [record.id for record in records]))

    def releases(self) -> list[tuple[Event, Release]]:
        """All releases with the ledger event that tells of them, newest first."""
        found: dict[str, tuple[Event, Release]] = {}
        for event in self.ledger.events(kind="release.made", newest_first=True):
            if event.subject is None or event.subject in found:
                continue
            try:
                found[event.subject] = (event, Release(self.store.get(event.subject)))
            except NotFoundError:
                continue
        return list(found.values())

    def release(self, which: str = "latest") -> Release:
        """A release by its folder, id, part of the id, line name, NAME@alias, or "latest"."""
        if is_release_folder(which):
            return load_release(which)
        _refuse_nothing(which)
        events = self.ledger.events(kind="release.made", newest_first=True)
        for event in events:
            if event.subject is not None and which in ("latest", event.subject, event.data["name"]):
                return Release(self.store.get(event.subject))
        if is_alias(which):
            return Release(self.store.get(resolve(self, which)))
        ids = sorted({event.subject for event in events if event.subject})
        matches = [
            name
            for name in ids
            if name.removeprefix("release-").startswith(which.removeprefix("release-"))
        ]
        if len(matches) == 1:
            return Release(self.store.get(matches[0]))
        by_run = [e.subject for e in events if e.run and e.run.startswith(which) and e.subject]
        if by_run:
            return Release(self.store.get(by_run[0]))
        if matches:
            raise NotFoundError(
                f"{which!r} fits {len(matches)} releases: "
                f"{', '.join(name[:20] for name in matches[:5])}. Give more of the id."
            )
        names = sorted({str(event.data["name"]) for event in events})
        raise NotFoundError(self._no_such("release", which, [*names, *ids]))

    @property
    def aliases(self) -> Aliases:
        """Names such as ``churn@champion`` and where they point."""
        return Aliases(self.ledger)

    def promote(
        self,
        which: str,
        alias: str = CHAMPION,
        *,
        why: str = "",
        through: str | None = None,
        token: str | None = None,
    ) -> Move:
        """Point an alias at a release, after it answered its kept rows as in training.

        Args:
            which: the release by id, name or alias.
            alias: champion, challenger or a word of one's own.
            why: the reason, for the history.
            through: the address of a running service that shall answer the rows as well.
            token: that service's token.
        """
        release = self.release(which)
        asked = None if through is None else over_http(release, through, token=token)
        return promote(self.store, self.ledger, release, alias, why=why, through=asked)

    def rollback(
        self, name: str, alias: str = CHAMPION, *, why: str = "", after: int | None = None
    ) -> Move:
        """Point an alias at the release before; `after`: the last move that the caller has seen."""
        return rollback(self.store, self.ledger, name, alias, why=why, after=after)

    def export(
        self, which: str, to: str, folder: str | Path, *, repaired: bool = False
    ) -> Exported:
        """Write a release in another form, proved to answer as it does.

        Args:
            which: the release by id, name, alias or folder.
            to: folder, onnx, docker, kserve, triton or mlflow.
            folder: where to; it must not exist yet.
            repaired: ONNX and Triton: whoever asks makes the line's repairs beforehand.
        """
        from loopline.release.exports.forms import export

        return export(self.release(which), to, folder, store=self.store, repaired=repaired)

    def resolve(self, which: str) -> Artifact:
        """Any artifact by id or unique part of it, or a release by name or alias."""
        _refuse_nothing(which)
        if is_alias(which):
            return self.release(which).artifact
        try:
            return self.store.get(self.store.find(which))
        except NotFoundError:
            try:
                return self.release(which).artifact
            except NotFoundError:
                pass
            try:
                record = self.run(which)
            except NotFoundError:
                raise NotFoundError(
                    f"There is no artifact, release or run {which!r} in {self.store.address}. "
                    "`loopline runs` and `loopline releases` list what there is."
                ) from None
            if record.summary is None:
                raise NotFoundError(
                    f"{record.id} is {record.state}: it has no release yet. "
                    "Run its line again to go on."
                ) from None
            return self.store.get(str(record.summary["release"]))

    def roots(self, keep: int | None = None) -> list[str]:
        """Ids that collection keeps: all releases, and the artifacts of the (newest) runs.

        What an alias points at, or can be rolled back to, is kept by itself.
        """
        kept: list[str] = [
            event.subject for event in self.ledger.events(kind="release.made") if event.subject
        ]
        kept += self.aliases.roots()
        records = self.runs()
        runs = {record.id for record in (records if keep is None else records[:keep])}
        kept += [
            event.subject
            for event in self.ledger.events(kind="stage.finished")
            if event.subject and event.run in runs
        ]
        kept += [
            event.data["artifact"]
            for event in self.ledger.events(kind="trial.finished")
            if event.data["artifact"] and (event.run is None or event.run in runs)
        ]
        kept += [event.subject for event in self.ledger.events(kind="artifact") if event.subject]
        for kind in LOGGED:  # what was answered cannot be made again
            kept += self.store.ids(kind)
        remembered = {
            (event.subject, event.data["settings"]): event.data["state"]
            for event in self.ledger.events(kind=LOOKED)
        }
        kept += remembered.values()
        return sorted(set(kept))

    def collect(
        self, *, keep: int | None = None, grace_seconds: float = 3600.0, dry_run: bool = False
    ) -> Collection:
        """Remove what no release and no kept run needs; safe beside running lines."""
        present = set(self.store.ids())
        roots = [name for name in self.roots(keep) if name in present]
        done = self.store.collect(roots, grace_seconds=grace_seconds, dry_run=dry_run)
        kept = present - set(done.ids)
        fits = _idle_fits(self.store.scratch(FITS), max(grace_seconds, _IDLE_SECONDS))
        num_bytes = done.num_bytes + sum(map(_size, fits))
        for folder in () if dry_run else fits:
            shutil.rmtree(folder, ignore_errors=True)
        reasons = self._reasons(kept, keep, grace_seconds)
        return Collection(done.ids, num_bytes, reasons, len(fits))

    def _reasons(self, kept: set[str], keep: int | None, grace_seconds: float) -> dict[str, int]:
        """Why each kept artifact stays, and how many of them; each is counted for one reason."""
        events = self.ledger.events(kind="release.made")
        releases = {event.subject for event in events if event.subject in kept}
        of_releases = self._made_from(releases, kept)
        of_runs = self._made_from([name for name in self.roots(keep) if name in kept], kept)
        runs = "all runs" if keep is None else f"the newest {counted(keep, 'run')}"
        work = f"the work of {runs} (`--keep N` keeps that of the newest N only)"
        made = "it was" if len(releases) == 1 else "they were"
        reasons = {
            f"{counted(len(releases), 'release')} and what {made} made from": of_releases,
            work if keep != 0 else "taken into use by a run": of_runs,
            f"used within the last {grace_seconds:,.0f} s (`--grace SECONDS`)": kept,
        }
        told: dict[str, int] = {}
        counted_before: set[str] = set()
        for reason, names in reasons.items():
            if more := names - counted_before:
                told[reason] = len(more)
                counted_before |= more
        return told

    def _made_from(self, names: Iterable[str | None], kept: set[str]) -> set[str]:
        """These artifacts and all that they were made from."""
        seen: set[str] = set()
        queue = [name for name in names if name is not None]
        while queue:
            name = queue.pop()
            if name not in kept or name in seen:
                continue
            seen.add(name)
            try:
                queue.extend(self.store.get(name).inputs.values())
            except NotFoundError:  # another collector was faster
                continue
        return seen

    @staticmethod
    def _no_such(what: str, name: str, names: list[str]) -> str:
        if not names:
            return (
                f"There is no {what} {name!r}: nothing has been run here yet. Use `loopline run`."
            )
        return f"There is no {what} {name!r}. {nearest(name, names[:12])}"


def _idle_fits(folder: Path, seconds: float) -> list[Path]:
    """Folders of fits in which nothing was written for so long."""
    before = time.time() - seconds
    found = sorted(path for path in folder.glob("*") if path.is_dir())
    return [path for path in found if max(map(_changed, (path, *path.rglob("*")))) < before]


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # a fit that runs has replaced it
        return time.time()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _refuse_nothing(which: str) -> None:
    """An empty name would fit everything: a script's unset variable must not pick an artifact."""
    if which.rstrip("-") in ("", "run", "release"):
        raise NotFoundError(
            f"{which!r} names nothing. Give an id or the start of one, a line's name, or latest."
        )


def open_project(
    store: str | Path = ".loopline", *, ledger: str | None = None, create: bool = True
) -> Project:
    """Open a project's store and ledger.

    Args:
        store: a folder or any fsspec URL.
        ledger: a database URL; by default a SQLite file inside a local store.
        create: whether to make what is not there yet.

    Raises:
        NotFoundError: `create` is false and there is nothing.
        EnvironmentProblem: the store was written by a newer Loopline, or cannot be written.
    """
    if "://" not in str(store):
        store = Path(store).expanduser()
    opened = Store.open(store, create=create)
    folder = None if "://" in str(store) else Path(store)
    if ledger is None:
        if folder is None:
            from loopline.errors import SettingsError

            raise SettingsError(
                [
                    f"`store` is the URL {str(store)!r}: a ledger beside it needs `ledger`, "
                    "a database URL such as postgresql://… or sqlite:///ledger.db."
                ]
            )
        ledger = f"sqlite:///{folder.resolve() / 'ledger.db'}"
    return Project(opened, Ledger.open(ledger), folder)


def read_json(artifact: Artifact, name: str) -> Any:
    """A JSON file of an artifact."""
    return json.loads(artifact.path(name).read_text(encoding="utf-8"))


def find_release(which: str, project: Callable[[], Project]) -> Release:
    """A release by its folder, or by id, name or "latest" from the project."""
    if is_release_folder(which):
        return load_release(which)
    with project() as opened:
        return opened.release(which)
