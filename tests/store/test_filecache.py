"""Remembered digests of source files: right when the file changed, quick when it did not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import loopline.store.filecache as module
from loopline.digest import bytes_digest, file_digest
from loopline.errors import DataError
from loopline.store.artifacts import Store
from loopline.store.filecache import source_digest


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read, while every file looks older than 2 s."""
    seen: list[str] = []

    def counted(path: Path) -> str:
        seen.append(path.name)
        return file_digest(path)

    real = time.time_ns
    monkeypatch.setattr(module, "file_digest", counted)
    monkeypatch.setattr(module.time, "time_ns", lambda: real() + 10_000_000_000)
    return seen


def test_unchanged_file_is_read_once(tmp_path: Path, reads: list[str]) -> None:
    """The second digest of an unchanged file costs no read, in another process too."""
    (tmp_path / "a.csv").write_text("x\n1\n")
    for _ in range(3):
        store = Store.open(tmp_path / "store")
        assert source_digest(store, tmp_path / "a.csv") == bytes_digest(b"x\n1\n")
    assert reads == ["a.csv"]


def test_change_of_equal_size_and_restored_time_is_seen(tmp_path: Path, reads: list[str]) -> None:
    """Bytes that changed while size and time of change look the same are read again."""
    store, path = Store.open(tmp_path / "store"), tmp_path / "a.csv"
    path.write_text("x\n1\n")
    facts = path.stat()
    source_digest(store, path)
    path.write_text("x\n2\n")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert source_digest(store, path) == bytes_digest(b"x\n2\n")
    assert reads == ["a.csv", "a.csv"]


def test_replaced_file_is_seen(tmp_path: Path, reads: list[str]) -> None:
    """Another file that was renamed onto the path is read, although it looks the same."""
    store, path, other = Store.open(tmp_path / "store"), tmp_path / "a.csv", tmp_path / "b"
    path.write_text("1")
    other.write_text("2")
    source_digest(store, path)
    other.replace(path)
    assert source_digest(store, path) == bytes_digest(b"2")


def test_young_file_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file younger than 2 s is read each time: a second write could bear the same time."""
    store, path = Store.open(tmp_path / "store"), tmp_path / "a.csv"
    path.write_text("1")
    source_digest(store, path)
    assert not any(p.is_file() for p in (tmp_path / "store" / "stat").rglob("*"))


def test_damaged_memory_costs_a_read_only(tmp_path: Path, reads: list[str]) -> None:
    """A damaged or empty remembered digest is as good as none."""
    store, path = Store.open(tmp_path / "store"), tmp_path / "a.csv"
    path.write_text("1")
    expected = source_digest(store, path)
    (memory,) = (p for p in (tmp_path / "store" / "stat").rglob("*") if p.is_file())
    whole = memory.read_bytes()
    for damaged in (b"", whole[:-9], whole.replace(expected[:8].encode(), b"00000000")):
        memory.write_bytes(damaged)
        assert source_digest(store, path) == expected
    assert len(reads) == 4


def test_file_that_keeps_changing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is still being written has no digest to rely on."""
    path = tmp_path / "a.csv"
    path.write_text("1")

    def growing(path: Path) -> str:
        digest = file_digest(path)
        with path.open("a") as stream:
            stream.write("1")
        return digest

    monkeypatch.setattr(module, "file_digest", growing)
    with pytest.raises(DataError, match=r"a\.csv changes while it is read"):
        source_digest(Store.open(tmp_path / "store"), path)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    """The message names the path."""
    store = Store.open(tmp_path / "store")
    with pytest.raises(DataError, match=r"Cannot read .*none\.csv"):
        source_digest(store, tmp_path / "none.csv")
    with pytest.raises(DataError, match="is not a file"):
        source_digest(store, tmp_path)
