"""Artifacts: what a stage made, kept under a name that proves its content.

A store is a folder, or any URL that fsspec knows (``s3://…``). It promises:

- *Whole or absent.* `kill -9`, a full disk or a power cut during `put` leave nothing that could be
  taken for an artifact.
- *First writer wins.* The id is a digest of kind, meta, files and inputs. Who makes the same again
  gets what is there.
- *Damage is told, never used.* `get` proves the manifest, `Artifact.path` digests a file before
  it hands it out.
- *Nothing reachable is removed.* `collect` keeps the roots, everything they were made from, and
  everything that was made or used within the grace.

Layout: ``format.json``, ``artifacts/<kind>/<ab>/<id>/{manifest.json, files/…}``,
``keys/<ab>/<key>``, ``tmp/`` for work in progress, ``stat/`` for remembered digests of sources.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopline.digest import file_digest
from loopline.errors import EnvironmentProblem, InputError, IntegrityError, NotFoundError
from loopline.store.address import shown
from loopline.store.disk import disk_problems, full_disk, is_full, list_files, writing_errors
from loopline.store.local import LocalPlace
from loopline.store.manifest import (
    FILES_FOLDER,
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    artifact_folder,
    check_kind,
    describe_folder,
    is_id,
    seal,
    split_id,
    unseal,
)
from loopline.store.places import Place

__all__ = ["Artifact", "Collected", "FileEntry", "Store", "open_place"]

FORMAT = 1
_FORMAT_NAME = "format.json"
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{1,199}")
_NUM_NEAR = 5


@dataclass(frozen=True)
class Artifact:
    """A finished piece of work: its files, what they mean, and what they were made from.

    Attributes:
        id: ``<kind>-<64 hex>``; equal ids mean equal content.
        kind: what it is, for example ``"snapshot"``.
        meta: plain data.
        inputs: role -> artifact id: the lineage.
        files: relative name -> `FileEntry`.
    """

    id: str
    kind: str
    meta: Mapping[str, Any]
    inputs: Mapping[str, str]
    files: Mapping[str, FileEntry]
    _path: Callable[[str], Path] = field(repr=False, compare=False)

    def path(self, name: str = "") -> Path:
        """A local path to read from, after its bytes were proved against the manifest.

        The digest is computed once per process and file; a store behind a URL downloads the file
        into ``$LOOPLINE_CACHE`` (``~/.cache/loopline``) first.

        Args:
            name: a file, a folder of files, or ``""`` for the folder of all files.

        Returns:
            A path of which only reading is allowed.

        Raises:
            NotFoundError: the artifact has no such file.
            IntegrityError: the bytes are not those that were written.
        """
        return self._path(name)


@dataclass(frozen=True)
class Collected:
    """What a garbage collection removed, or would remove.

    Attributes:
        ids: the artifacts, sorted.
        num_bytes: the size of their files.
        num_keys: remembered answers that pointed to removed artifacts.
        num_leftovers: unfinished work of dead processes.
    """

    ids: tuple[str, ...]
    num_bytes: int
    num_keys: int
    num_leftovers: int


class Store:
    """Content-addressed artifacts in a folder or behind a URL; see the module for its promises.

    Safe for any number of threads and processes on one folder. Behind a URL the same holds but
    for one window: an artifact that is older than the grace and is used in the same moment in
    which a collector removes it may vanish; the stage that needs it is then simply run again.

    >>> import tempfile
    >>> store = Store.open(tempfile.mkdtemp())
    >>> made = store.put("note", lambda folder: (folder / "a.txt").write_text("hi") and None)
    >>> store.get(made.id).path("a.txt").read_text()
    'hi'
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._checked: dict[tuple[str, str], tuple[int, ...]] = {}

    @staticmethod
    def open(url: str | Path, *, create: bool = True) -> Store:
        """Open the store at a folder path or an fsspec URL.

        Args:
            url: ``"runs/store"``, ``file:///…``, ``s3://bucket/prefix``, ``memory://…``.
            create: make it when it is not there.

        Raises:
            NotFoundError: there is no store, and `create` is False.
            EnvironmentProblem: written by a newer Loopline, not writable, or a missing extra.
            IntegrityError: its ``format.json`` is damaged.
            InputError: a URL that nothing can open.
        """
        return Store.at(open_place(url), create=create)

    @staticmethod
    def at(place: Place, *, create: bool = True) -> Store:
        """Open the store at a place of your own kind; see `Store.open`."""
        data = place.read(_FORMAT_NAME)
        if data is None:
            if not create:
                raise NotFoundError(f"There is no store at {place.address}.")
            place.write(_FORMAT_NAME, seal({"format": FORMAT}))
        else:
            _check_format(data, place.address)
        return Store(place)

    @property
    def address(self) -> str:
        """The folder or URL, fit to be shown: passwords are blanked."""
        return self._place.address

    def put(
        self,
        kind: str,
        write: Callable[[Path], None],
        *,
        meta: Mapping[str, Any] | None = None,
        inputs: Mapping[str, str] | None = None,
        identity: str | None = None,
        unhashed: Collection[str] = (),
    ) -> Artifact:
        """Store what `write` puts into an empty folder, whole or not at all.

        Args:
            kind: 1 to 32 lower-case letters, digits and underscores.
            write: fills the local folder that it is given; plain files and folders only.
            meta: plain data about the content; a part of the id.
            inputs: role -> id of the artifacts it was made from; they must be in the store.
            identity: the content's own digest where it has one (a table's does not depend on how
                its files are cut): the id is then computed from kind and identity alone.
            unhashed: names of files whose bytes are checked but take no part in the id, such as
                measured times.

        Returns:
            The new artifact, or the one that was there before.

        Raises:
            NotFoundError: an input is not in the store.
            InputError: a kind, file name or meta that cannot be stored.
            EnvironmentProblem: a full disk, a read-only folder, a too long name.
        """
        check_kind(kind)
        lineage = dict(inputs or {})
        self._use_inputs(lineage)
        with self._place.draft() as draft:
            folder = draft / FILES_FOLDER
            try:
                folder.mkdir()
                write(folder)
            except writing_errors() as error:
                if is_full(error):
                    raise full_disk(f"write a {kind} to {self.address}") from error
                raise
            with disk_problems(f"read what was written to {self.address}"):
                manifest = describe_folder(
                    folder,
                    kind,
                    meta=meta or {},
                    inputs=lineage,
                    identity=identity,
                    unhashed=frozenset(unhashed),
                )
            self._publish(draft, manifest, lineage)
        return self.get(manifest.id)

    def _publish(self, draft: Path, manifest: Manifest, lineage: Mapping[str, str]) -> None:
        def check() -> None:
            self._require_inputs(lineage)

        if self._place.publish(draft, manifest, check, replace=False):
            return
        try:
            self.verify(manifest.id)
        except (IntegrityError, NotFoundError):
            self._place.publish(draft, manifest, check, replace=True)

    def _use_inputs(self, lineage: Mapping[str, str]) -> None:
        for role, artifact_id in lineage.items():
            if not is_id(artifact_id) or not self._place.use(artifact_id):
                raise self._not_found(artifact_id, f"input {role!r}")

    def _require_inputs(self, lineage: Mapping[str, str]) -> None:
        for role, artifact_id in lineage.items():
            if not self._exists(artifact_id):
                raise self._not_found(artifact_id, f"input {role!r}")

    def get(self, artifact_id: str) -> Artifact:
        """The artifact with this full id, its manifest proved; files are proved by `path`.

        Raises:
            NotFoundError: it is not there; names near ids.
            IntegrityError: its manifest is damaged.
        """
        if not is_id(artifact_id) or not self._place.use(artifact_id):
            raise self._not_found(artifact_id)
        manifest = self._manifest(artifact_id)
        return Artifact(
            id=artifact_id,
            kind=manifest.kind,
            meta=manifest.meta,
            inputs=manifest.inputs,
            files=manifest.files,
            _path=lambda name: self._local_path(artifact_id, manifest, name),
        )

    def find(self, prefix: str) -> str:
        """The full id of the only artifact whose id, or its hex part, begins with `prefix`.

        Raises:
            NotFoundError: none or several do; names up to five near ones.
        """
        if is_id(prefix) and self._exists(prefix):
            return prefix
        found = self._matches(prefix) if prefix else []
        if len(found) == 1:
            return found[0]
        if found:
            raise NotFoundError(
                f"{prefix!r} stands for {len(found)} artifacts: {_short(found)}. "
                "Give more characters."
            )
        raise self._not_found(prefix)

    def _matches(self, prefix: str) -> list[str]:
        kind, hyphen, start = prefix.partition("-")
        if hyphen:
            return list(self._place.artifacts(kind, start)) if _is_kind(kind) else []
        found = dict.fromkeys(self._place.artifacts(None, prefix))
        found.update(dict.fromkeys(i for i in self._place.artifacts() if i.startswith(prefix)))
        return sorted(found)

    def ids(self, kind: str | None = None) -> list[str]:
        """Every full id, of one kind or of all, sorted."""
        if kind is not None:
            check_kind(kind)
        return list(self._place.artifacts(kind))

    def inputs(self, artifact_id: str) -> Mapping[str, str]:
        """What an artifact was made from, without counting as a use of it.

        Raises:
            NotFoundError: it is not in the store.
            IntegrityError: its manifest is damaged.
        """
        if not is_id(artifact_id) or not self._exists(artifact_id):
            raise self._not_found(artifact_id)
        return self._manifest(artifact_id).inputs

    def bind(self, key: str, artifact_id: str) -> None:
        """Remember that the stage with cache key `key` made this artifact; the last binding holds.

        Raises:
            InputError: a key that is not 2 to 200 letters, digits, ``_``, ``-`` and ``.``.
            NotFoundError: the artifact is not in the store.
        """
        if not is_id(artifact_id) or not self._place.use(artifact_id):
            raise self._not_found(artifact_id)
        self._place.write(_key_name(key), seal({"key": key, "id": artifact_id}))

    def lookup(self, key: str) -> str | None:
        """The artifact that was made for `key`; None when there is none or it has gone.

        A hit is kept from collection for the grace, as if it had just been made. A damaged key
        counts as unknown: the stage runs again and gives the same artifact.
        """
        artifact_id = self._bound(key)
        if artifact_id is None or not self._place.use(artifact_id):
            return None
        return artifact_id

    def _bound(self, key: str) -> str | None:
        data = self._place.read(_key_name(key))
        if data is None:
            return None
        try:
            body = unseal(data, f"key {key}")
        except IntegrityError:
            return None
        artifact_id = body.get("id")
        if body.get("key") != key or not isinstance(artifact_id, str) or not is_id(artifact_id):
            return None
        return artifact_id

    def verify(self, artifact_id: str) -> None:
        """Prove every byte again, whatever was proved before.

        Raises:
            NotFoundError: it is not in the store.
            IntegrityError: names the artifact, the file, the expected and the found digest.
        """
        if not is_id(artifact_id) or not self._exists(artifact_id):
            raise self._not_found(artifact_id)
        manifest = self._manifest(artifact_id)
        for name in manifest.files:
            self._checked.pop((artifact_id, name), None)
        self._local_path(artifact_id, manifest, "", fresh=self._place.keeps_copies)

    def collect(
        self, roots: Iterable[str], *, grace_seconds: float, dry_run: bool = False
    ) -> Collected:
        """Remove what no root was made from and nobody used within the grace.

        May be killed at any point and run beside writers, readers and other collectors.

        Args:
            roots: full ids to keep with all their inputs; those already gone are ignored.
            grace_seconds: 0 or more; what was made or used within it stays, with its inputs.
            dry_run: only tell what would be removed.

        Raises:
            InputError: a root that is no full id, or a negative grace.
            IntegrityError: a manifest that must be kept is damaged, so its inputs are unknown;
                nothing is removed.
        """
        named = sorted(set(roots))
        wrong = [root for root in named if not is_id(root)]
        if wrong:
            raise InputError(f"A root of a collection is a full artifact id, got {wrong[0]!r}.")
        if not grace_seconds >= 0:
            raise InputError(f"grace_seconds must be 0 or more, got {grace_seconds}.")
        limit = self._place.now() - grace_seconds
        used = self._place.artifacts()
        keep = self._reachable([i for i in used if used[i] > limit or i in set(named)], {})
        manifests = {i: self._readable(i) for i in used if i not in keep}
        removed: list[str] = []
        for artifact_id in _consumers_first(manifests):
            if artifact_id in keep:
                continue
            if dry_run or self._place.remove(artifact_id, limit):
                removed.append(artifact_id)
            else:  # used in this moment: it stays, and so does all that it was made from
                keep |= self._reachable([artifact_id], manifests)
        gone = set(removed)

        def is_dead(key: str) -> bool:
            target = self._bound(key)
            return target is None or target in gone or not self._exists(target)

        return Collected(
            ids=tuple(sorted(removed)),
            num_bytes=sum(m.num_bytes for i in removed if (m := manifests[i]) is not None),
            num_keys=self._place.sweep_keys(limit, is_dead, dry_run=dry_run),
            num_leftovers=self._place.sweep(limit, dry_run=dry_run),
        )

    def _reachable(self, starts: Iterable[str], known: Mapping[str, Manifest | None]) -> set[str]:
        seen: set[str] = set()
        stack = list(starts)
        while stack:
            artifact_id = stack.pop()
            if artifact_id in seen:
                continue
            seen.add(artifact_id)
            manifest = known.get(artifact_id)
            if manifest is None:
                try:
                    manifest = self._manifest(artifact_id)
                except NotFoundError:
                    continue  # collected by another collector
            stack.extend(manifest.inputs.values())
        return seen

    def _readable(self, artifact_id: str) -> Manifest | None:
        try:
            return self._manifest(artifact_id)
        except (IntegrityError, NotFoundError):
            return None

    def scratch(self, name: str) -> Path:
        """A folder of this store on this machine for things that can be made again."""
        return self._place.scratch(name)

    def _exists(self, artifact_id: str) -> bool:
        return self._place.read(f"{artifact_folder(artifact_id)}/{MANIFEST_NAME}") is not None

    def _manifest(self, artifact_id: str) -> Manifest:
        data = self._place.read(f"{artifact_folder(artifact_id)}/{MANIFEST_NAME}")
        if data is None:
            raise self._not_found(artifact_id)
        return Manifest.from_bytes(data, artifact_id)

    def _local_path(
        self, artifact_id: str, manifest: Manifest, name: str, *, fresh: bool = False
    ) -> Path:
        if name in manifest.files:
            return self._checked_file(artifact_id, manifest, name, fresh=fresh)
        inside = [f for f in manifest.files if not name or f.startswith(f"{name}/")]
        if name and not inside:
            raise NotFoundError(
                f"{artifact_id} has no file {name!r}; it has {', '.join(manifest.files) or 'none'}."
            )
        for file_name in inside:
            self._checked_file(artifact_id, manifest, file_name, fresh=fresh)
        folder = self._place.file(manifest, "")
        self._refuse_foreign_files(artifact_id, manifest, folder)
        return folder / name if name else folder

    def _refuse_foreign_files(self, artifact_id: str, manifest: Manifest, folder: Path) -> None:
        try:
            present = list_files(folder)
        except InputError as error:
            raise IntegrityError(f"{artifact_id} is damaged: {error}") from error
        foreign = [name for name in present if name not in manifest.files]
        if foreign:
            raise IntegrityError(
                f"{artifact_id} is damaged: {folder / foreign[0]} is not in its manifest; "
                "remove it, or remove the artifact and run the line again."
            )

    def _checked_file(
        self, artifact_id: str, manifest: Manifest, name: str, *, fresh: bool
    ) -> Path:
        path = self._place.file(manifest, name, fresh=fresh)
        try:
            return self._check(artifact_id, manifest.files[name], name, path)
        except IntegrityError:
            if not self._place.keeps_copies or fresh:
                raise
        path = self._place.file(manifest, name, fresh=True)
        return self._check(artifact_id, manifest.files[name], name, path)

    def _check(self, artifact_id: str, entry: FileEntry, name: str, path: Path) -> Path:
        what = f"{artifact_id} is damaged: file {name!r}"
        remedy = "Remove the artifact and run the line again, or bring the file back from a copy."
        try:
            facts = path.lstat()
            signature = (facts.st_size, facts.st_mtime_ns, facts.st_ino)
            if self._checked.get((artifact_id, name)) == signature:
                return path
            if path.is_symlink() or not path.is_file():
                raise IntegrityError(f"{what} is not a plain file. {remedy}")
            if facts.st_size != entry.size:
                raise IntegrityError(
                    f"{what} has {facts.st_size} bytes, expected {entry.size}. {remedy}"
                )
            found = file_digest(path)
        except OSError as error:
            raise IntegrityError(f"{what} cannot be read ({error.strerror}). {remedy}") from error
        if found != entry.digest:
            raise IntegrityError(f"{what} has digest {found}, expected {entry.digest}. {remedy}")
        self._checked[artifact_id, name] = signature
        return path

    def _not_found(self, asked: str, what: str = "artifact") -> NotFoundError:
        return NotFoundError(
            f"The {what} {asked!r} is not in the store at {self.address}. {self._near(asked)}"
        )

    def _near(self, asked: str) -> str:
        ids = list(self._place.artifacts())
        if not ids:
            return "The store is empty."
        kinds = sorted({split_id(i)[0] for i in ids})
        kind, hyphen, start = asked.partition("-")
        if not hyphen:
            kind, start = "", asked
        if kind and kind not in kinds:
            return f"It holds these kinds: {', '.join(kinds)}."
        same = [i for i in ids if not kind or split_id(i)[0] == kind]
        same.sort(key=lambda i: (-_num_common(split_id(i)[1], start), i))
        return f"Near: {_short(same)}."


def open_place(url: str | Path) -> Place:
    """The place that a folder path or URL stands for; nothing is read or written yet.

    Raises:
        InputError: an empty text or a URL that fsspec does not know.
        EnvironmentProblem: the package behind the URL is not installed.
    """
    text = str(url)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" in text:
        from loopline.store.remote import RemotePlace

        return RemotePlace(text)
    if not text:
        raise InputError("The store needs a folder or a URL, got an empty text.")
    return LocalPlace(Path(text))


def _check_format(data: bytes, address: str) -> None:
    what = f"{_FORMAT_NAME} of the store at {address}"
    found = unseal(data, what).get("format")
    if not isinstance(found, int) or found < 1:
        raise IntegrityError(f"{what} is damaged: its format is {found!r}.")
    if found > FORMAT:
        raise EnvironmentProblem(
            f"The store at {address} has format {found}, this Loopline reads up to {FORMAT}: "
            "install a newer Loopline."
        )


def _key_name(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise InputError(
            f"A key of the store is 2 to 200 letters, digits, '_', '-' and '.', got {shown(key)!r}."
        )
    return f"keys/{key[:2]}/{key}"


def _is_kind(kind: str) -> bool:
    try:
        check_kind(kind)
    except InputError:
        return False
    return True


def _consumers_first(manifests: Mapping[str, Manifest | None]) -> Iterator[str]:
    """Ids ordered so that whatever was made from an artifact comes before the artifact."""
    order: list[str] = []
    seen: set[str] = set()
    for start in manifests:
        stack = [(start, False)]
        while stack:
            artifact_id, is_done = stack.pop()
            if is_done:
                order.append(artifact_id)
            elif artifact_id not in seen and artifact_id in manifests:
                seen.add(artifact_id)
                stack.append((artifact_id, True))
                manifest = manifests[artifact_id]
                stack.extend((i, False) for i in (manifest.inputs.values() if manifest else ()))
    return reversed(order)


def _num_common(left: str, right: str) -> int:
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count


def _short(ids: list[str]) -> str:
    names = [f"{split_id(i)[0]}-{split_id(i)[1][:12]}" for i in ids[:_NUM_NEAR]]
    return ", ".join(names) + (", …" if len(ids) > _NUM_NEAR else "")
