"""What an artifact is made of, written so that one flipped bit is seen.

A manifest is the last file of an artifact to be written and the first to be read. It names every
file with its size and digest, carries the lineage, and is sealed with a digest of itself. The
artifact's id is computed from it, so an id proves what it names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from loopline.digest import canonical_json, file_digest, value_digest
from loopline.errors import EnvironmentProblem, InputError, IntegrityError
from loopline.store.disk import list_files

FORMAT = 1
MANIFEST_NAME = "manifest.json"
FILES_FOLDER = "files"

_ID = re.compile(r"([a-z][a-z0-9_]{0,31})-([0-9a-f]{64})")
_KIND = re.compile(r"[a-z][a-z0-9_]{0,31}")
_HEX = re.compile(r"[0-9a-f]{64}")


def seal(body: Mapping[str, Any]) -> bytes:
    """Plain data as JSON with a digest of itself, so that damage is seen when it is read.

    >>> unseal(seal({"format": 1}), "x")
    {'format': 1}
    """
    return canonical_json({**body, "digest": value_digest(dict(body))}).encode() + b"\n"


def unseal(data: bytes, what: str) -> dict[str, Any]:
    """The plain data that `seal` wrote.

    Raises:
        IntegrityError: the bytes are not what `seal` wrote; names `what`.
    """
    try:
        body = json.loads(data)
        found = body.pop("digest")
        expected = value_digest(body)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{what} is damaged: it is not sealed JSON ({error}).") from error
    if found != expected:
        raise IntegrityError(
            f"{what} is damaged: it says that its digest is {found}, its content has {expected}."
        )
    return dict(body)


def is_id(text: str) -> bool:
    """Whether `text` is a full artifact id: a kind, a hyphen and 64 hex characters."""
    return _ID.fullmatch(text) is not None


def split_id(artifact_id: str) -> tuple[str, str]:
    """Kind and hex digest of a full id."""
    kind, _, digest = artifact_id.partition("-")
    return kind, digest


def artifact_folder(artifact_id: str) -> str:
    """Where an artifact lies in its store, relative and with ``/``."""
    kind, digest = split_id(artifact_id)
    return f"artifacts/{kind}/{digest[:2]}/{artifact_id}"


def check_kind(kind: str) -> None:
    """Refuse a kind that could not be a part of an id and of a path.

    Raises:
        InputError: not 1 to 32 lower-case letters, digits and underscores.
    """
    if not _KIND.fullmatch(kind):
        raise InputError(
            f"The kind of an artifact is 1 to 32 lower-case letters, digits and underscores "
            f"and starts with a letter; got {kind!r}."
        )


def is_safe_name(name: str) -> bool:
    """Whether a file name from a manifest stays inside the artifact's folder.

    >>> is_safe_name("part/0.parquet"), is_safe_name("../x"), is_safe_name("/etc/passwd")
    (True, False, False)
    """
    if not name or "\\" in name or any(ord(char) < 32 for char in name):
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return all(part not in {"", ".", ".."} for part in name.split("/"))


@dataclass(frozen=True)
class FileEntry:
    """One file of an artifact.

    Attributes:
        size: bytes, 0 or more.
        digest: BLAKE3 of the bytes, 64 hex characters.
        hashed: whether the file takes part in the artifact's id; measured times do not.
    """

    size: int
    digest: str
    hashed: bool = True


@dataclass(frozen=True)
class Manifest:
    """Everything that is known of an artifact without reading its files.

    Attributes:
        kind: what it is, for example ``"snapshot"``.
        meta: plain data, read-only at the top.
        inputs: role -> artifact id, the lineage.
        files: relative name -> entry, in name order.
        identity: the content's own digest where it has one, else None.
        place: the folder that holds the files, beside the manifest.
    """

    kind: str
    meta: Mapping[str, Any]
    inputs: Mapping[str, str]
    files: Mapping[str, FileEntry]
    identity: str | None = None
    place: str = FILES_FOLDER

    @property
    def id(self) -> str:
        """``<kind>-<64 hex>``, computed from the content or from its own identity."""
        if self.identity is not None:
            return f"{self.kind}-{value_digest({'kind': self.kind, 'identity': self.identity})}"
        content = {
            "kind": self.kind,
            "meta": dict(self.meta),
            "inputs": dict(self.inputs),
            "files": {
                name: [entry.size, entry.digest]
                for name, entry in self.files.items()
                if entry.hashed
            },
        }
        return f"{self.kind}-{value_digest(content)}"

    @property
    def num_bytes(self) -> int:
        """Size of all files together."""
        return sum(entry.size for entry in self.files.values())

    def to_bytes(self) -> bytes:
        """The sealed manifest file."""
        files = {
            name: {"size": entry.size, "digest": entry.digest, "hashed": entry.hashed}
            for name, entry in self.files.items()
        }
        return seal(
            {
                "format": FORMAT,
                "id": self.id,
                "kind": self.kind,
                "meta": dict(self.meta),
                "inputs": dict(self.inputs),
                "files": files,
                "identity": self.identity,
                "place": self.place,
            }
        )

    @staticmethod
    def from_bytes(data: bytes, artifact_id: str) -> Manifest:
        """Read a manifest and prove that it is the one of `artifact_id`.

        Raises:
            IntegrityError: damaged, unsafe, or of another artifact.
            EnvironmentProblem: written by a newer Loopline.
        """
        what = f"{MANIFEST_NAME} of {artifact_id}"
        body = unseal(data, what)
        if isinstance(body.get("format"), int) and body["format"] > FORMAT:
            raise EnvironmentProblem(
                f"{what} has format {body['format']}, this Loopline reads up to {FORMAT}: "
                "install a newer Loopline."
            )
        try:
            manifest = _manifest(body)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise IntegrityError(f"{what} is damaged: {error!r}.") from error
        unsafe = [name for name in manifest.files if not is_safe_name(name)]
        if unsafe or not is_safe_name(manifest.place) or "/" in manifest.place:
            name = (unsafe or [manifest.place])[0]
            raise IntegrityError(f"{what} names {name!r}, which leads out of the artifact.")
        if manifest.id != artifact_id or body["id"] != artifact_id:
            raise IntegrityError(f"{what} describes another artifact: {manifest.id}.")
        return manifest


def _manifest(body: Mapping[str, Any]) -> Manifest:
    files = {
        str(name): FileEntry(int(entry["size"]), str(entry["digest"]), bool(entry["hashed"]))
        for name, entry in sorted(body["files"].items())
    }
    if any(not _HEX.fullmatch(entry.digest) or entry.size < 0 for entry in files.values()):
        raise ValueError("a file's digest or size is no digest or size")
    inputs = {str(role): str(value) for role, value in sorted(body["inputs"].items())}
    return Manifest(
        kind=str(body["kind"]),
        meta=MappingProxyType(dict(body["meta"])),
        inputs=MappingProxyType(inputs),
        files=MappingProxyType(files),
        identity=body["identity"],
        place=str(body["place"]),
    )


def describe_folder(
    folder: Path,
    kind: str,
    *,
    meta: Mapping[str, Any],
    inputs: Mapping[str, str],
    identity: str | None,
    unhashed: frozenset[str],
) -> Manifest:
    """The manifest of a folder that has just been filled; reads and digests every file.

    Raises:
        InputError: a file that cannot be stored, meta that is not plain data, a malformed input
            id, or an `unhashed` name that is no file.
    """
    files: dict[str, FileEntry] = {}
    for name in list_files(folder):
        if not is_safe_name(name):
            raise InputError(f"{name!r} cannot be a file of an artifact: use plain UTF-8 names.")
        path = folder / name
        files[name] = FileEntry(path.stat().st_size, file_digest(path), name not in unhashed)
    unknown = sorted(unhashed - files.keys())
    if unknown:
        raise InputError(f"`unhashed` names {unknown[0]!r}, which was not written: {list(files)}.")
    body = {
        "kind": kind,
        "meta": plain_data(meta, "meta of an artifact"),
        "inputs": dict(inputs),
        "identity": identity,
        "place": FILES_FOLDER,
        "files": {},
    }
    empty = _manifest(body)
    return Manifest(kind, empty.meta, empty.inputs, MappingProxyType(files), identity, FILES_FOLDER)


def plain_data(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    """`value` as it will be read again: a copy through JSON.

    Raises:
        InputError: NaN, infinity, or anything that JSON cannot hold.
    """
    try:
        text = canonical_json(dict(value))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"The {what} must be plain data (text, finite numbers, booleans, None, lists and "
            f"mappings of these): {error}."
        ) from error
    copy: dict[str, Any] = json.loads(text)
    return copy
