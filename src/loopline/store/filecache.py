"""Digests of source files, remembered so that an unchanged file is not read twice."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from loopline.digest import bytes_digest, file_digest, value_digest
from loopline.errors import DataError, IntegrityError
from loopline.store.artifacts import Store
from loopline.store.disk import new_token
from loopline.store.manifest import seal, unseal

SETTLE_SECONDS = 2.0
_NUM_TRIES = 3


def source_digest(store: Store, path: str | Path) -> str:
    """Content digest of a source file, from memory when the file has not changed since.

    A file counts as unchanged when its absolute path, size, time of change, inode and device are
    the same. That is not believed when the file was younger than 2 s when it was digested: on a
    coarse clock a second write in the same tick would look like the first.

    Args:
        store: where the digests are remembered (below ``stat/``); damage there costs a read only.
        path: a plain file.

    Returns:
        BLAKE3 of the bytes, 64 hex characters.

    Raises:
        DataError: the file is not there, is not readable, or keeps changing while it is read.
    """
    path = Path(os.path.abspath(path))
    memory = _memory_file(store, path)
    for _ in range(_NUM_TRIES):
        before = _signature(path)
        remembered = _recall(memory, before)
        if remembered is not None:
            return remembered
        now_ns = time.time_ns()
        try:
            digest = file_digest(path)
        except OSError as error:
            raise DataError(f"Cannot read {path}: {error.strerror}.") from error
        if _signature(path) == before:
            if max(before["mtime_ns"], before["ctime_ns"]) < now_ns - SETTLE_SECONDS * 1e9:
                _remember(memory, before, digest)
            return digest
    raise DataError(f"{path} changes while it is read; wait until it is written, then run again.")


def files_digest(store: Store, folder: str | Path, paths: Sequence[Path]) -> str:
    """Content digest of many files below a folder, from memory when none has changed since.

    Args:
        store: as for `source_digest`.
        folder: what the files' names in the digest are relative to.
        paths: plain files.

    Returns:
        BLAKE3 over the files' names and contents, 64 hex characters; the order of `paths` takes no
        part.

    Raises:
        DataError: as `source_digest`.
    """
    folder = Path(os.path.abspath(folder))
    ordered = sorted({Path(os.path.abspath(path)) for path in paths})
    signatures = [_signature(path) for path in ordered]
    names = [os.path.relpath(path, folder) for path in ordered]
    state = {"files": value_digest([names, [list(each.values()) for each in signatures]])}
    memory = _memory_file(store, folder / f"{len(ordered)} files {value_digest(names)}")
    remembered = _recall(memory, state)
    if remembered is not None:
        return remembered
    now_ns = time.time_ns()
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(_content_digest, ordered))
    digest = value_digest([names, contents])
    youngest = max((max(each["mtime_ns"], each["ctime_ns"]) for each in signatures), default=0)
    unchanged = [_signature(path) for path in ordered] == signatures
    if unchanged and youngest < now_ns - SETTLE_SECONDS * 1e9:
        _remember(memory, state, digest)
    return digest


def _content_digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error


def _signature(path: Path) -> dict[str, int]:
    try:
        facts = path.stat()
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error
    if not path.is_file():
        raise DataError(f"{path} is not a file; a digest of a source is taken file by file.")
    return {
        "size": facts.st_size,
        "mtime_ns": facts.st_mtime_ns,
        "ctime_ns": facts.st_ctime_ns,
        "inode": facts.st_ino,
        "device": facts.st_dev,
    }


def _memory_file(store: Store, path: Path) -> Path:
    name = bytes_digest(os.fsencode(path))
    return store.scratch("stat") / name[:2] / name


def _recall(memory: Path, signature: Mapping[str, int | str]) -> str | None:
    try:
        body = unseal(memory.read_bytes(), "a remembered digest")
    except (OSError, IntegrityError):
        return None
    digest = body.pop("content", None)
    return digest if body == signature and isinstance(digest, str) else None


def _remember(memory: Path, signature: Mapping[str, int | str], digest: str) -> None:
    with suppress(OSError):  # a read-only store forgets, and that is all
        memory.parent.mkdir(parents=True, exist_ok=True)
        draft = memory.with_name(f"{memory.name}.{new_token()}")
        draft.write_bytes(seal({**signature, "content": digest}))
        draft.replace(memory)
