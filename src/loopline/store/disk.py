"""Files on a local disk that are whole or absent, and disk trouble told in plain words.

POSIX promises that a rename is all or nothing, and that bytes survive a power cut only after
`fsync` of the file *and* of the folder that names it. Everything that the store keeps goes through
the functions here, in that order. Imports the standard library and the ground floor only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from loopline.errors import EnvironmentProblem, InputError

_FILE_SECONDS = 3600.0
_FULL = {errno.ENOSPC, errno.EDQUOT}
_SENTENCES = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EROFS: "the file system is read-only; choose a folder that can be written",
    errno.EACCES: "permission is denied; choose a folder that can be written, or change its owner",
    errno.EPERM: "permission is denied; choose a folder that can be written, or change its owner",
    errno.ENAMETOOLONG: "a name is too long for this file system; use shorter names or folders",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EMFILE: "too many files are open in this process; raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
    errno.EIO: "the disk reports an input/output error; check it before you go on",
}


def disk_problem(error: OSError, doing: str) -> EnvironmentProblem:
    """The error to raise for `error`: what was being done, what the disk said, what to do."""
    said = _SENTENCES.get(error.errno or 0) or error.strerror or str(error)
    return EnvironmentProblem(f"Cannot {doing}: {said}.")


def is_full(error: Exception) -> bool:
    """Whether `error` says that the disk or the quota is used up.

    Libraries written in other languages lose the number and keep the text.
    """
    return getattr(error, "errno", None) in _FULL or "No space left on device" in str(error)


def full_disk(doing: str) -> EnvironmentProblem:
    """The error to raise when the disk is full; `doing` follows "Cannot"."""
    return EnvironmentProblem(f"Cannot {doing}: {_SENTENCES[errno.ENOSPC]}.")


def writing_errors() -> tuple[type[Exception], ...]:
    """What a full disk may be raised as: `OSError`, and the error of polars where it is loaded."""
    polars = sys.modules.get("polars")
    return (OSError,) if polars is None else (OSError, polars.exceptions.PolarsError)


@contextmanager
def disk_problems(doing: str) -> Iterator[None]:
    """Turn every `OSError` of the block into an `EnvironmentProblem` that says what to do.

    Args:
        doing: what the block does, after "Cannot", for example ``"write the store at /x"``.

    Raises:
        EnvironmentProblem: full disk, read-only folder, too long name, and every other refusal.
    """
    try:
        yield
    except OSError as error:
        raise disk_problem(error, doing) from error


def sync(path: Path) -> None:
    """Make the bytes of a file, or the names in a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """`sync` every file and folder below `folder`, then `folder` itself."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(place, name))
        sync(Path(place))


def make_folder(folder: Path) -> None:
    """Create `folder` with its parents so that the new names survive a power cut."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
        sync(folder.parent)


def write_whole(path: Path, data: bytes, aside: Path) -> None:
    """Write `data` so that `path` holds the old bytes or the new ones, never a part.

    Args:
        path: the file; its folder is made when it is missing.
        data: all bytes of the file.
        aside: a folder on the same file system where the bytes are collected first.
    """
    make_folder(path.parent)
    draft = aside / new_token()
    try:
        write_synced(draft, data)
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    sync(path.parent)


@contextmanager
def whole_folder(target: Path, doing: str) -> Iterator[Path]:
    """A folder to fill that gets its name when the block ends well, and is removed when it fails.

    Args:
        target: the name; its parents are made.
        doing: what the block does, after "Cannot".

    Raises:
        InputError: something has that name, or got it meanwhile.
        EnvironmentProblem: a full disk, a folder that cannot be written.
    """
    _refuse_existing(target)
    with disk_problems(doing):
        place = target.absolute()
        make_folder(place.parent)
        draft = place.parent / f".{place.name}-{new_token()}"
        draft.mkdir()
        try:
            yield draft
            sync_tree(draft)
            _refuse_existing(target)
            draft.rename(place)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        sync(place.parent)


def _refuse_existing(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise InputError(f"{str(target)!r} exists. Name a folder that is not there yet.")


def write_synced(path: Path, data: bytes) -> None:
    """Write `data` to a new file and wait until the disk has it."""
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def new_token() -> str:
    """A name that no other process has chosen: 16 random hex characters."""
    return os.urandom(8).hex()


def list_files(folder: Path) -> list[str]:
    """Relative names (with ``/``) of every file below `folder`, sorted.

    Raises:
        InputError: a symbolic link, device or socket: only plain files can be stored.
    """
    names: list[str] = []
    for place, folders, files in os.walk(folder):
        for name in folders:
            if Path(place, name).is_symlink():
                raise InputError(_not_plain(folder, Path(place, name)))
        for name in files:
            path = Path(place, name)
            if not stat.S_ISREG(path.lstat().st_mode):
                raise InputError(_not_plain(folder, path))
            names.append(path.relative_to(folder).as_posix())
    return sorted(names)


def _not_plain(folder: Path, path: Path) -> str:
    name = path.relative_to(folder).as_posix()
    return f"{name!r} is a link or a device; an artifact holds plain files only: copy the content."


@contextmanager
def locked(path: Path, *, exclusive: bool, create: bool = True) -> Iterator[None]:
    """Hold the advisory lock of a file or folder; the kernel frees it when the process dies.

    File systems without locks, and read-only ones, run the block unlocked: the lock closes a
    window of microseconds between a collector and a reader, it does not guard the bytes.
    """
    handle = -1
    with suppress(OSError):
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            if create:
                handle = os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)
        if handle >= 0:
            fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
    try:
        yield
    finally:
        if handle >= 0:
            os.close(handle)


class Drafts:
    """A folder of work in progress, where the drafts of dead processes can be told from live ones.

    A draft is a folder that its process holds locked; `kill -9` frees the lock at once, a long
    write keeps it. So `sweep` needs no guess about how long a write may take.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def open(self) -> Iterator[Path]:
        """An empty folder to write into; whatever is left in it at the end is removed."""
        draft, handle = self._claim()
        try:
            yield draft
        finally:
            os.close(handle)
            shutil.rmtree(draft, ignore_errors=True)

    def _claim(self) -> tuple[Path, int]:
        while True:
            draft = self.folder / f"draft-{new_token()}"
            draft.mkdir()
            try:
                handle = os.open(draft, os.O_RDONLY)
            except FileNotFoundError:
                continue  # swept between mkdir and open: take another name
            except OSError:
                draft.rmdir()
                raise
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            if draft.exists():
                return draft, handle
            os.close(handle)

    def discard(self, path: Path) -> None:
        """Take `path` out of sight in one step, then delete it; a killed delete is swept later."""
        trash = self.folder / f"trash-{new_token()}"
        path.rename(trash)
        sync(path.parent)
        shutil.rmtree(trash, ignore_errors=True)

    def sweep(self, older_than: float, *, dry_run: bool) -> int:
        """Remove trash, and drafts of dead processes that changed last before `older_than`.

        Returns:
            How many entries were (or would be) removed.
        """
        count = 0
        for entry in sorted(self.folder.iterdir()):
            with suppress(FileNotFoundError):
                if entry.name.startswith("trash-"):
                    is_dead = True
                elif entry.is_dir():
                    is_dead = entry.lstat().st_mtime <= older_than
                else:  # a small file is written in moments, and nobody holds it locked
                    is_dead = entry.lstat().st_mtime <= older_than - _FILE_SECONDS
                count += is_dead and self._bury(entry, dry_run=dry_run)
        return count

    def _bury(self, entry: Path, *, dry_run: bool) -> bool:
        """Delete an entry that no process holds; the lock is kept until the name is free."""
        handle = os.open(entry, os.O_RDONLY)
        try:
            with suppress(OSError):
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
            if dry_run:
                return True
            trash = self.folder / f"trash-{new_token()}"
            entry.rename(trash)
        finally:
            os.close(handle)
        if trash.is_dir():
            shutil.rmtree(trash, ignore_errors=True)
        else:
            trash.unlink(missing_ok=True)
        return True
