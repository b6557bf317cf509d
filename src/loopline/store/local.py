"""A store in a local folder: written aside, synced, then renamed into its place."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from loopline.store.disk import (
    Drafts,
    disk_problems,
    locked,
    make_folder,
    new_token,
    sync,
    sync_tree,
    write_synced,
    write_whole,
)
from loopline.store.manifest import (
    FILES_FOLDER,
    MANIFEST_NAME,
    Manifest,
    artifact_folder,
    is_id,
)
from loopline.store.places import Place


class LocalPlace(Place):
    """Files below one folder of a local (or POSIX network) file system.

    A collector and a reader meet at the file ``lock``: a use is noted under the shared lock, a
    removal looks at the note and renames under the exclusive one, so an artifact that was just
    found cannot vanish before its grace is over.
    """

    keeps_copies = False

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.address = str(self.root)
        self._tmp = self.root / "tmp"
        self._drafts = Drafts(self._tmp)
        self._lock = self.root / "lock"

    def read(self, name: str) -> bytes | None:
        """All bytes of a small file, None when it is not there."""
        with disk_problems(f"read {name} in the store at {self.address}"):
            try:
                return (self.root / name).read_bytes()
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Write aside, sync, rename."""
        with self._writing():
            make_folder(self._tmp)
            write_whole(self.root / name, data, self._tmp)

    def now(self) -> float:
        """The clock of the file system, which stamps the files."""
        with self._writing():
            make_folder(self._tmp)
            probe = self._tmp / f"clock-{new_token()}"
            with probe.open("xb") as stream:
                seconds = os.fstat(stream.fileno()).st_mtime
            probe.unlink(missing_ok=True)
        return seconds

    def artifacts(self, kind: str | None = None, start: str = "") -> dict[str, float]:
        """Every artifact that has a manifest; a stat each, no file is read."""
        with disk_problems(f"list the store at {self.address}"):
            return dict(sorted(self._walk(kind, start)))

    def _walk(self, kind: str | None, start: str) -> Iterator[tuple[str, float]]:
        top = self.root / "artifacts"
        for kind_name in _names(top) if kind is None else [kind]:
            for shelf in _names(top / kind_name):
                if not (shelf.startswith(start[:2]) or start.startswith(shelf)):
                    continue
                for name in _names(top / kind_name / shelf):
                    if is_id(name) and name.startswith(f"{kind_name}-{start}"):
                        manifest = top / kind_name / shelf / name / MANIFEST_NAME
                        with suppress(FileNotFoundError):
                            yield name, manifest.stat().st_mtime

    def use(self, artifact_id: str) -> bool:
        """Touch the manifest under the shared lock."""
        with locked(self._lock, exclusive=False):
            return self._note_use(artifact_id)

    def _note_use(self, artifact_id: str) -> bool:
        manifest = self._folder(artifact_id) / MANIFEST_NAME
        try:
            os.utime(manifest)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return manifest.exists()  # a read-only store: nobody can collect it either
        return True

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A locked folder below ``tmp/``."""
        with ExitStack() as stack:
            with self._writing():
                make_folder(self._tmp)
                draft = stack.enter_context(self._drafts.open())
            yield draft

    def publish(
        self, draft: Path, manifest: Manifest, check: Callable[[], None], *, replace: bool
    ) -> bool:
        """Sync all, write the manifest, sync, rename, sync the parent."""
        target = self._folder(manifest.id)
        with self._writing():
            if not (draft / MANIFEST_NAME).exists():
                sync_tree(draft / FILES_FOLDER)
                write_synced(draft / MANIFEST_NAME, manifest.to_bytes())
                sync(draft)
            make_folder(target.parent)
            with locked(self._lock, exclusive=replace):
                check()
                if replace and target.exists():
                    self._drafts.discard(target)
                try:
                    draft.rename(target)
                except OSError as error:
                    if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                        return False
                    raise
            sync(target.parent)
        return True

    def file(self, manifest: Manifest, name: str, *, fresh: bool = False) -> Path:
        """The file itself, in its place."""
        del fresh
        folder = self._folder(manifest.id) / manifest.place
        return folder / name if name else folder

    def remove(self, artifact_id: str, unused_since: float) -> bool:
        """Look at the last use and rename into the trash, under the exclusive lock."""
        folder = self._folder(artifact_id)
        with self._writing(), locked(self._lock, exclusive=True):
            try:
                if (folder / MANIFEST_NAME).stat().st_mtime > unused_since:
                    return False
                self._drafts.discard(folder)
            except FileNotFoundError:
                return True  # another collector was faster
        return True

    def sweep_keys(
        self, older_than: float, is_dead: Callable[[str], bool], *, dry_run: bool
    ) -> int:
        """Look at each old key under the exclusive lock."""
        count = 0
        with self._writing():
            for shelf in _names(self.root / "keys"):
                for key in _names(self.root / "keys" / shelf):
                    path = self.root / "keys" / shelf / key
                    with suppress(FileNotFoundError), locked(self._lock, exclusive=True):
                        if path.stat().st_mtime <= older_than and is_dead(key):
                            count += 1
                            if not dry_run:
                                path.unlink()
        return count

    def sweep(self, older_than: float, *, dry_run: bool) -> int:
        """Empty ``tmp/`` of what dead processes left."""
        with self._writing():
            return self._drafts.sweep(older_than, dry_run=dry_run)

    def scratch(self, name: str) -> Path:
        """A folder below the root."""
        folder = self.root / name
        with suppress(OSError):  # a read-only store has no memory
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _folder(self, artifact_id: str) -> Path:
        return self.root / artifact_folder(artifact_id)

    def _writing(self) -> AbstractContextManager[None]:
        return disk_problems(f"write the store at {self.address}")


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
