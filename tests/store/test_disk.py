"""Full disks, read-only folders and failing calls: told in words, nothing left behind."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from loopline.errors import EnvironmentProblem, NotFoundError
from loopline.store.artifacts import Store
from loopline.store.disk import write_whole
from loopline.store.filecache import source_digest
from loopline.store.ledger import Ledger
from loopline.testing.store import writing


def test_full_disk_is_told_and_leaves_nothing(small_disk: Callable[[str], Path]) -> None:
    """A `write` that fills the disk gives exit code 5, no artifact, and its space back."""
    disk = small_disk("size=2m")
    store = Store.open(disk / "store")
    kept = store.put("thing", writing(a="small"))

    def fill(folder: Path) -> None:
        for number in range(9):
            (folder / f"{number}.bin").write_bytes(os.urandom(400_000))

    with pytest.raises(EnvironmentProblem, match=r"Cannot write a thing .*disk is full; free"):
        store.put("thing", fill)
    assert store.ids() == [kept.id]
    assert list((disk / "store" / "tmp").iterdir()) == []
    assert store.put("thing", lambda f: (f / "a").write_bytes(bytes(900_000)) and None).files


def test_full_disk_inside_polars_is_told_too(small_disk: Callable[[str], Path]) -> None:
    """A Parquet writer that meets a full disk gives the same sentence as plain Python."""
    import numpy as np
    import polars as pl

    store = Store.open(small_disk("size=1m") / "store")
    frame = pl.DataFrame({"x": np.random.default_rng(0).random(400_000)})
    with pytest.raises(EnvironmentProblem, match="the disk is full"):
        store.put("table", lambda folder: frame.write_parquet(folder / "part.parquet"))
    assert store.ids() == []


def test_no_room_for_names_is_told(small_disk: Callable[[str], Path]) -> None:
    """A disk without free inodes is a full disk, at whatever step it shows."""
    disk = small_disk("size=4m,nr_inodes=24")
    store = Store.open(disk / "store")
    made: list[str] = []

    def put_many() -> None:
        for number in range(30):
            made.append(store.put("thing", writing(a=str(number))).id)

    with pytest.raises(EnvironmentProblem, match="the disk is full"):
        put_many()
    assert store.ids() == sorted(made)
    for artifact_id in made:
        store.verify(artifact_id)


def test_read_only_store_can_be_read(small_disk: Callable[[str], Path], tmp_path: Path) -> None:
    """On a read-only disk every reading call works and every writing call says why not."""
    disk = small_disk("size=2m")
    store = Store.open(disk)
    made = store.put("thing", writing(a="1"))
    store.bind("key", made.id)
    small_disk("ro")
    store = Store.open(disk)
    assert store.lookup("key") == made.id
    assert store.get(made.id).path("a.txt").read_text() == "1"
    store.verify(made.id)
    (tmp_path / "source").write_text("x")
    assert len(source_digest(store, tmp_path / "source")) == 64
    for write in (
        lambda: store.put("thing", writing(a="2")),
        lambda: store.bind("other", made.id),
        lambda: store.collect([], grace_seconds=0),
        lambda: Store.open(disk / "new"),
    ):
        with pytest.raises(EnvironmentProblem, match="read-only; choose a folder"):
            write()
    with pytest.raises(NotFoundError):
        Store.open(disk / "new", create=False)


def test_ledger_on_a_read_only_or_full_disk(small_disk: Callable[[str], Path]) -> None:
    """A ledger that cannot be written says so, and keeps what it had."""
    disk = small_disk("size=300k")
    url = f"sqlite:///{disk}/ledger.db"

    def append_many(ledger: Ledger) -> None:
        for number in range(100):
            ledger.append("note", data={"number": number, "text": "x" * 9000})

    with Ledger.open(url) as ledger:
        with pytest.raises(EnvironmentProblem, match="full"):
            append_many(ledger)
        count = len(ledger.events())
        assert 0 < count < 100
    small_disk("ro,size=300k")
    with pytest.raises(EnvironmentProblem, match="cannot be"):
        Ledger.open(url).append("note")


class FailsOnce:
    """A call that fails as on a full disk when it is made for the n-th time."""

    def __init__(self, real: Callable[..., object], number: int) -> None:
        self.real, self.left = real, number

    def __call__(self, *arguments: object, **named: object) -> object:
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.real(*arguments, **named)


def test_every_failing_call_leaves_whole_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th call of each kind fails, for every n: an error in words, and no half artifact."""
    store = Store.open(tmp_path / "store")
    base = store.put("base", writing(a="1"))
    num_failures = 0

    def attempt(number: int) -> str:
        try:
            made = store.put("thing", writing(a=str(number)), inputs={"base": base.id})
            store.bind(f"key-{number}", made.id)
        except EnvironmentProblem as error:
            return str(error)
        return "done"

    for module, name in [(os, "fsync"), (os, "rename"), (os, "replace"), (os, "mkdir"),
                         (os, "open"), (io, "open")]:  # fmt: skip
        for number in range(1, 60):
            call = FailsOnce(getattr(module, name), number)
            with monkeypatch.context() as patch:
                patch.setattr(module, name, call)
                said = attempt(number)
            for artifact_id in store.ids("thing"):
                store.verify(artifact_id)
            # a removal that fails itself leaves a draft, and the next collection takes it
            store.collect(store.ids(), grace_seconds=0)
            assert [p for p in (tmp_path / "store" / "tmp").iterdir() if p.is_dir()] == []
            if call.left > 0:
                assert said == "done"
                break
            assert "the disk is full" in said or said == "done", (name, number)
            num_failures += said != "done"
        assert call.left > 0, f"{name} was called more than 60 times"
    assert num_failures > 20


def test_too_long_name_is_told(tmp_path: Path) -> None:
    """A store folder or a key with a name that the file system cannot hold is told."""
    with pytest.raises(EnvironmentProblem, match="too long"):
        Store.open(tmp_path / ("x" * 300))


def test_store_below_a_file_is_told(tmp_path: Path) -> None:
    """A store cannot lie below a plain file."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(EnvironmentProblem, match="a part of the path is a file"):
        Store.open(tmp_path / "file" / "store")


def test_other_errors_of_write_come_through(tmp_path: Path) -> None:
    """An `OSError` of the caller's own code is not dressed up as trouble of the store."""
    store = Store.open(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent"):
        store.put("thing", lambda folder: (folder / "absent").read_text() and None)


def test_bytes_are_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file, the folders and the manifest are synced, in this order, before the one rename."""
    store = Store.open(tmp_path / "store")
    told: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(handle: int) -> None:
        told.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    def renamed(*names: object, **options: object) -> None:
        told.append(f"rename {Path(str(names[1])).name}")
        rename(*names, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    made = store.put("thing", writing(a="1", b="2"))
    order = [told.index(name) for name in ("a.txt", "files", "manifest.json", f"rename {made.id}")]
    assert order == sorted(order)
    assert told.index("b.txt") < told.index("files")
    after = told[order[-1] + 1 :]
    assert made.id.partition("-")[2][:2] in after  # the folder that names it


def test_a_small_file_is_written_aside_synced_and_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads a key sees the old bytes or the new ones: the last step is one rename."""
    target = tmp_path / "key"
    target.write_bytes(b"old")
    seen: list[bytes] = []
    fsync = os.fsync

    def synced(handle: int) -> None:
        seen.append(target.read_bytes())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    aside = tmp_path / "aside"
    aside.mkdir()
    write_whole(target, b"new", aside)
    assert (seen, target.read_bytes()) == ([b"old", b"new"], b"new")
