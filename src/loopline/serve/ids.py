"""Request ids that prove themselves: a label's id is known to be ours without a memory of ids.

An id is ``<version>.<milliseconds>.<sequence>.<rows>.<proof>``. The proof is a keyed hash of the
rest, so that feedback weeks later, to another process, is checked in two microseconds and an id
that was never given is refused. The key lies beside the feedback, readable by its owner only.
"""

from __future__ import annotations

import hmac
import os
import secrets
import time
from dataclasses import dataclass
from hashlib import blake2s
from itertools import count
from pathlib import Path

from loopline.errors import IntegrityError
from loopline.store.disk import disk_problems, make_folder, sync

KEY_FILE = "request.key"
_KEY_BYTES = 32
_PROOF_BYTES = 9
_MAX_ID = 120


@dataclass(frozen=True, slots=True)
class RequestId:
    """What an id says.

    Args:
        version: the first 12 hex digits of the release that answered.
        milliseconds: when, since 1970.
        num_rows: how many rows were answered.
    """

    version: str
    milliseconds: int
    num_rows: int


class RequestIds:
    """Makes and proves ids; one a process.

    >>> ids = RequestIds(b"k" * 32)
    >>> ids.read(ids.make("0123456789ab", 3)).num_rows
    3
    >>> ids.read("0123456789ab.18c.ff.3.AAAAAAAAAAAA") is None
    True
    """

    def __init__(self, key: bytes) -> None:
        self._keyed = blake2s(key=key, digest_size=_PROOF_BYTES)
        self._process = secrets.token_hex(4)
        self._next = count().__next__

    @staticmethod
    def random_key() -> bytes:
        """A key for one process's life."""
        return secrets.token_bytes(_KEY_BYTES)

    def make(self, version: str, num_rows: int) -> str:
        """A new id of an answer by a release to some rows."""
        now = time.time_ns() // 1_000_000
        text = f"{version}.{now:x}.{self._process}{self._next():x}.{num_rows:x}"
        return f"{text}.{self._proof(text)}"

    def read(self, text: str) -> RequestId | None:
        """What an id says, or None where it is none of ours."""
        said, _, proof = text.rpartition(".")
        if len(text) > _MAX_ID or not text.isascii():
            return None
        if not hmac.compare_digest(proof, self._proof(said)):
            return None
        version, milliseconds, _, num_rows = said.split(".")
        return RequestId(version, int(milliseconds, 16), int(num_rows, 16))

    def _proof(self, text: str) -> str:
        proof = self._keyed.copy()
        proof.update(text.encode())
        return proof.hexdigest()


def load_key(folder: Path) -> bytes:
    """The key of a service's folder; made by the first process that asks for it.

    Raises:
        IntegrityError: the file is damaged.
        EnvironmentProblem: it can be neither read nor written.
    """
    path = folder / KEY_FILE
    with disk_problems(f"keep the key of request ids in {folder}"):
        make_folder(folder)
        if not path.exists():
            draft = folder / f".{KEY_FILE}.{secrets.token_hex(6)}"
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, path)  # unlike a rename, it never replaces another process's key
            except FileExistsError:
                pass
            finally:
                draft.unlink()
            sync(folder)
        key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise IntegrityError(
            f"{path} holds {len(key)} bytes instead of {_KEY_BYTES}. Remove it to begin with a "
            "new key; labels for answers before that will then be refused."
        )
    return key
