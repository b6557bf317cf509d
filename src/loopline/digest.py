"""Content identity of bytes, files and plain data (tables: see `loopline.data.fingerprint`).

Every digest is BLAKE3-256 in lower-case hex: cryptographic, and faster than reading the bytes.
Plain data is digested as canonical JSON: sorted keys, no blanks, shortest round-trip floats.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from blake3 import blake3


def bytes_digest(data: bytes | memoryview) -> str:
    """Digest of a run of bytes, 64 hex characters.

    >>> bytes_digest(b"")[:16]
    'af1349b9f5f9a1a6'
    """
    return blake3(data).hexdigest()


def file_digest(path: Path) -> str:
    """Digest of a file's bytes, read through a memory map with all threads."""
    hasher = blake3(max_threads=blake3.AUTO)
    hasher.update_mmap(path)
    return hasher.hexdigest()


def canonical_json(value: Any) -> str:
    """The one spelling of plain data (dict, list, str, int, finite float, bool, None).

    Raises:
        ValueError: a NaN or infinity, which JSON cannot hold.
        TypeError: anything that is not plain data.

    >>> canonical_json({"b": 1, "a": [1.0, None]})
    '{"a":[1.0,null],"b":1}'
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def value_digest(value: Any) -> str:
    """Digest of plain data, equal for equal data whatever the order of its keys."""
    return bytes_digest(canonical_json(value).encode())


def combined_digest(parts: Iterable[str]) -> str:
    """Digest of a sequence of digests, in their order."""
    return bytes_digest("\n".join(parts).encode())
