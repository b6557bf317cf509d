"""A store behind an fsspec URL: an object store has no rename, so the manifest is the marker.

Each writer uploads its files below a folder of its own (``files-<token>``) and writes
``manifest.json`` last; the manifest names the folder. So two writers never mix, and what a killed
writer uploaded is never read. Files are read through a copy in a local cache, which is
proved against the manifest before use.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace as replaced
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loopline.digest import bytes_digest
from loopline.errors import EnvironmentProblem, InputError, IntegrityError
from loopline.store.address import shown
from loopline.store.disk import Drafts, disk_problems, make_folder, new_token
from loopline.store.manifest import (
    FILES_FOLDER,
    MANIFEST_NAME,
    Manifest,
    artifact_folder,
    is_id,
    split_id,
)
from loopline.store.places import Place

CACHE_VARIABLE = "LOOPLINE_CACHE"
_TOUCH_SECONDS = 60.0
_EXTRAS = {"s3": "s3", "s3a": "s3"}
# no folders there, and making one would make a bucket of a misspelt name
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss"}


def cache_folder() -> Path:
    """Where copies of remote files are kept: ``$LOOPLINE_CACHE``, else ``~/.cache/loopline``."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "loopline"


class RemotePlace(Place):
    """Objects below one fsspec URL.

    Without locks, a use is noted by an object ``used/<id>`` that the collector looks at just
    before it removes the manifest.
    """

    keeps_copies = True

    def __init__(self, url: str) -> None:
        self.address = shown(url)
        self._fs, self._root = _connect(url, self.address)
        self._is_memory = url.startswith("memory://")
        self._has_folders = url.partition("://")[0] not in _OBJECT_STORES
        self._cache = cache_folder() / bytes_digest(self.address.encode())[:16]
        self._drafts = Drafts(self._cache / "tmp")
        self._noted: dict[str, float] = {}

    def read(self, name: str) -> bytes | None:
        """All bytes of a small object, None when it is not there."""
        with self._asking(f"read {name} in"):
            try:
                data: bytes = self._fs.cat_file(self._at(name))
            except FileNotFoundError:
                return None
        return data

    def write(self, name: str, data: bytes) -> None:
        """One upload; object stores make it visible whole."""
        with self._asking("write"):
            self._put_bytes(name, data)

    def _put_bytes(self, name: str, data: bytes) -> None:
        self._make_parent(name)
        self._fs.pipe_file(self._at(name), data)

    def _make_parent(self, name: str) -> None:
        if self._has_folders:
            self._fs.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)

    def now(self) -> float:
        """The clock of the server, which stamps the objects."""
        name = f"tmp/clock-{new_token()}"
        with self._asking("write"):
            self._put_bytes(name, b"")
            seconds = self._modified(name)
            self._delete([name])
        if seconds is None:
            raise EnvironmentProblem(f"The store at {self.address} does not keep what is written.")
        return seconds

    def artifacts(self, kind: str | None = None, start: str = "") -> dict[str, float]:
        """Every artifact whose manifest is there, with the later of its making and last use."""
        folder = "artifacts" if kind is None else f"artifacts/{kind}"
        if kind is not None and len(start) >= 2:
            folder = f"{folder}/{start[:2]}"
        found: dict[str, float] = {}
        with self._asking("list"):
            for name, seconds in self._tree(folder).items():
                parts = name.split("/")
                is_manifest = len(parts) == 5 and parts[4] == MANIFEST_NAME and is_id(parts[3])
                if is_manifest and split_id(parts[3])[1].startswith(start):
                    found[parts[3]] = seconds
            for name, seconds in self._tree("used").items():
                artifact_id = name.rpartition("/")[2]
                if artifact_id in found:
                    found[artifact_id] = max(found[artifact_id], seconds)
        return dict(sorted(found.items()))

    def use(self, artifact_id: str) -> bool:
        """Note the use once a minute, best effort; True when the manifest is there."""
        with self._asking("read"):
            if not self._fs.exists(self._at(f"{artifact_folder(artifact_id)}/{MANIFEST_NAME}")):
                return False
        seconds = datetime.now(UTC).timestamp()
        if abs(seconds - self._noted.get(artifact_id, 0.0)) > _TOUCH_SECONDS:
            with suppress(EnvironmentProblem):  # read-only: nobody can collect it either
                self.write(f"used/{artifact_id}", b"")
            self._noted[artifact_id] = seconds
        return True

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A locked folder in the local cache."""
        with ExitStack() as stack:
            with disk_problems(f"write the cache at {self._cache} (set {CACHE_VARIABLE})"):
                make_folder(self._drafts.folder)
                self._drafts.sweep(self._local_day_ago(), dry_run=False)
                draft = stack.enter_context(self._drafts.open())
            yield draft

    def _local_day_ago(self) -> float:
        return datetime.now(UTC).timestamp() - 86_400.0

    def publish(
        self, draft: Path, manifest: Manifest, check: Callable[[], None], *, replace: bool
    ) -> bool:
        """Upload the files below a new folder, then the manifest that names it."""
        target = artifact_folder(manifest.id)
        marker = f"{target}/{MANIFEST_NAME}"
        placed = replaced(manifest, place=f"{FILES_FOLDER}-{new_token()}")
        uploaded: list[str] = []
        try:
            with self._asking("write"):
                if not replace and self._fs.exists(self._at(marker)):
                    return False
                for name in manifest.files:
                    remote = f"{target}/{placed.place}/{name}"
                    uploaded.append(remote)
                    self._make_parent(remote)
                    self._fs.put_file(str(draft / FILES_FOLDER / name), self._at(remote))
            check()
            with self._asking("write"):
                won = self._mark(marker, placed.to_bytes(), replace=replace)
        except BaseException:
            self._forget(uploaded)
            raise
        if won:
            self._keep_copy(draft, placed)
        else:
            self._forget(uploaded)
        return won

    def _mark(self, marker: str, data: bytes, *, replace: bool) -> bool:
        path = self._at(marker)
        self._make_parent(marker)
        if replace:
            self._fs.pipe_file(path, data)
            return True
        try:
            self._fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        except (NotImplementedError, OSError) as error:
            if "NotImplemented" not in f"{error!r}":
                raise
            self._fs.pipe_file(path, data)  # a server without conditional writes: the last wins
        return True

    def _keep_copy(self, draft: Path, manifest: Manifest) -> None:
        folder = self._copy_folder(manifest)
        with suppress(OSError):  # file by file: a reader may be filling the same folder
            for name in manifest.files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (draft / FILES_FOLDER / name).replace(folder / name)

    def file(self, manifest: Manifest, name: str, *, fresh: bool = False) -> Path:
        """The copy in the cache, downloaded aside and renamed when it is missing or `fresh`."""
        folder = self._copy_folder(manifest)
        path = folder / name
        with disk_problems(f"write the cache at {self._cache} (set {CACHE_VARIABLE})"):
            if not name:
                folder.mkdir(parents=True, exist_ok=True)
                return folder
            if path.exists() and not fresh:
                return path
            path.parent.mkdir(parents=True, exist_ok=True)
            make_folder(self._drafts.folder)
        aside = self._drafts.folder / f"copy-{new_token()}"
        try:
            self._download(manifest, name, aside)
            with disk_problems(f"write the cache at {self._cache} (set {CACHE_VARIABLE})"):
                aside.replace(path)
        finally:
            with suppress(OSError):
                aside.unlink()
        return path

    def _download(self, manifest: Manifest, name: str, aside: Path) -> None:
        remote = f"{artifact_folder(manifest.id)}/{manifest.place}/{name}"
        with self._asking("read"):
            try:
                if self._is_memory:  # its open files share one position between threads
                    aside.write_bytes(self._fs.cat_file(self._at(remote)))
                else:
                    self._fs.get_file(self._at(remote), str(aside))
            except FileNotFoundError as error:
                raise IntegrityError(
                    f"{manifest.id} is damaged: file {name!r} is missing in the store at "
                    f"{self.address}. Remove the artifact and run the line again."
                ) from error

    def _copy_folder(self, manifest: Manifest) -> Path:
        return self._cache / "artifacts" / manifest.id / manifest.place

    def remove(self, artifact_id: str, unused_since: float) -> bool:
        """The manifest first, then what was below it before: a new upload has other names."""
        target = artifact_folder(artifact_id)
        with self._asking("write"):
            below = sorted(self._tree(target))
            times = [self._modified(f"{target}/{MANIFEST_NAME}"),
                     self._modified(f"used/{artifact_id}")]  # fmt: skip
            if any(seconds is not None and seconds > unused_since for seconds in times):
                return False
            marker = f"{target}/{MANIFEST_NAME}"
            self._delete([marker])
            self._delete([name for name in below if name != marker])
            self._delete([f"used/{artifact_id}"])
        shutil.rmtree(self._cache / "artifacts" / artifact_id, ignore_errors=True)
        return True

    def sweep_keys(
        self, older_than: float, is_dead: Callable[[str], bool], *, dry_run: bool
    ) -> int:
        """Look at each old key once."""
        count = 0
        with self._asking("list"):
            keys = self._tree("keys")
        for name, seconds in sorted(keys.items()):
            if seconds <= older_than and is_dead(name.rpartition("/")[2]):
                count += 1
                if not dry_run:
                    with self._asking("write"):
                        self._delete([name])
        return count

    def sweep(self, older_than: float, *, dry_run: bool) -> int:
        """Remove old uploads that no manifest names, and notes of use of what has gone."""
        with self._asking("list"):
            names = {**self._tree("artifacts"), **self._tree("used"), **self._tree("tmp")}
        old = [name for name, seconds in sorted(names.items()) if seconds <= older_than]
        named: dict[str, str | None] = {}
        dead = [name for name in old if self._is_orphan(name, named)]
        if not dry_run:
            with self._asking("write"):
                self._delete(dead)
        return len(dead)

    def _is_orphan(self, name: str, named: dict[str, str | None]) -> bool:
        parts = name.split("/")
        if parts[0] == "tmp":
            return True
        artifact_id = parts[1] if parts[0] == "used" else (parts + [""] * 4)[3]
        if not is_id(artifact_id):
            return False
        if artifact_id not in named:
            named[artifact_id] = self._place_of(artifact_id)
        place = named[artifact_id]
        if parts[0] == "used" or place is None:
            return place is None
        return place != "" and len(parts) > 5 and parts[4] != place

    def _place_of(self, artifact_id: str) -> str | None:
        """The folder that the manifest names; None without manifest, ``""`` when it is damaged."""
        data = self.read(f"{artifact_folder(artifact_id)}/{MANIFEST_NAME}")
        if data is None:
            return None
        try:
            return Manifest.from_bytes(data, artifact_id).place
        except IntegrityError:
            return ""

    def scratch(self, name: str) -> Path:
        """A folder of this store in the local cache."""
        folder = self._cache / name
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _tree(self, folder: str) -> dict[str, float]:
        """Relative name -> time of change, of every object below `folder`."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.find(self._at(folder), detail=True)
        except FileNotFoundError:
            return {}
        start = self._root.lstrip("/") + "/"
        return {
            path.lstrip("/").removeprefix(start): self._seconds(path, facts)
            for path, facts in found.items()
            if facts["type"] == "file"
        }

    def _modified(self, name: str) -> float | None:
        self._fs.invalidate_cache()
        try:
            return self._seconds(self._at(name), self._fs.info(self._at(name)))
        except FileNotFoundError:
            return None

    def _seconds(self, path: str, facts: dict[str, Any]) -> float:
        for name in ("LastModified", "last_modified", "modified", "mtime", "updated", "created"):
            value = facts.get(name)
            if isinstance(value, str):
                value = datetime.fromisoformat(value)
            if isinstance(value, datetime):
                return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
            if isinstance(value, int | float):
                return float(value)
        raise EnvironmentProblem(
            f"The store at {self.address} does not tell when {path} was written, so it cannot be "
            "listed or collected: use a file system that keeps times."
        )

    def _delete(self, names: list[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError):
                self._fs.rm_file(self._at(name))

    def _forget(self, names: list[str]) -> None:
        with suppress(EnvironmentProblem), self._asking("write"):
            self._delete(names)

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        try:
            yield
        except _client_errors() as error:
            said = shown(str(error)) or type(error).__name__
            raise EnvironmentProblem(
                f"Cannot {doing} the store at {self.address}: {said}. "
                "Check the address, the credentials and the network."
            ) from error


def _client_errors() -> tuple[type[Exception], ...]:
    """`OSError`, and the errors of those clients in this process that do not derive from it."""
    found: list[type[Exception]] = [OSError]
    for module, name in (("botocore.exceptions", "BotoCoreError"), ("aiohttp", "ClientError")):
        if module in sys.modules:
            found.append(getattr(sys.modules[module], name))
    return tuple(found)


def _connect(url: str, address: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    protocol = url.partition("://")[0]
    try:
        fs, root = url_to_fs(url)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        remedy = f"pip install 'loopline[{extra}]'" if extra else str(error)
        raise EnvironmentProblem(f"The store {address} needs another package: {remedy}.") from error
    except ValueError as error:
        raise InputError(
            f"The store needs a folder or a URL that fsspec knows, got {address!r} ({error})."
        ) from error
    return fs, str(root).rstrip("/")
