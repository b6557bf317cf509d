"""What only a store behind a URL can get wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from loopline.digest import bytes_digest
from loopline.errors import EnvironmentProblem, InputError, IntegrityError
from loopline.store.artifacts import Store, open_place
from loopline.store.places import Place
from loopline.store.remote import RemotePlace
from loopline.testing.store import file_names, writing

URL = "memory://remote/store"


@pytest.fixture
def place() -> RemotePlace:
    import fsspec

    fs = fsspec.filesystem("memory")
    if fs.exists("/remote"):
        fs.rm("/remote", recursive=True)
    found = open_place(URL)
    assert isinstance(found, RemotePlace)
    return found


def test_files_are_fetched_when_asked_for(place: Place, cache: Path) -> None:
    """Reading one file of an artifact downloads that file and no other."""
    made = Store.at(place).put("thing", writing(a="1", b="2"))
    for path in sorted(cache.rglob("*.txt")):
        path.unlink()
    found = Store.open(URL).get(made.id)
    assert list(cache.rglob("*.txt")) == []
    found.path("b.txt")
    assert [p.name for p in cache.rglob("*.txt")] == ["b.txt"]


def test_damaged_copy_is_fetched_again(place: Place) -> None:
    """Damage in the local cache heals itself, because the store still has the bytes."""
    made = Store.at(place).put("thing", writing(a="1"))
    made.path("a.txt").write_text("2")
    assert Store.open(URL).get(made.id).path("a.txt").read_text() == "1"


def test_lost_object_is_told(place: RemotePlace) -> None:
    """A file that somebody removed from the bucket is damage that names the file."""
    made = Store.at(place).put("thing", writing(a="1"))
    made.path("a.txt").unlink()
    place._delete([file_names(place, made.id)["a.txt"]])
    with pytest.raises(IntegrityError, match=r"'a\.txt' is missing in the store at memory"):
        Store.open(URL).get(made.id).path("a.txt")


def test_upload_without_manifest_is_no_artifact_and_is_swept(
    place: RemotePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that died before its manifest leaves nothing but something to sweep."""
    store = Store.at(place)

    def die(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RemotePlace, "_mark", die)
        patch.setattr(RemotePlace, "_forget", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            store.put("thing", writing(a="1"))
    assert store.ids() == []
    assert store.collect([], grace_seconds=60).num_leftovers == 0
    assert store.collect([], grace_seconds=0).num_leftovers == 1
    made = store.put("thing", writing(a="1"))
    assert store.collect([made.id], grace_seconds=0).num_leftovers == 0
    store.verify(made.id)


def test_second_writer_between_look_and_mark_loses(
    place: RemotePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two writers that both saw nothing: the manifest is created once, the loser's files go."""
    real = RemotePlace._mark
    inner: list[str] = []

    def late(self: RemotePlace, marker: str, data: bytes, *, replace: bool) -> bool:
        if not inner:
            inner.append("once")
            Store.open(URL).put("thing", writing(a="1", time="first"), unhashed=["time.txt"])
        return real(self, marker, data, replace=replace)

    monkeypatch.setattr(RemotePlace, "_mark", late)
    made = Store.at(place).put("thing", writing(a="1", time="second"), unhashed=["time.txt"])
    assert made.path("time.txt").read_text() == "first"
    assert len([name for name in place._tree("artifacts") if "files-" in name]) == 2


def test_collector_does_not_take_what_is_written_again_beside_it(
    place: RemotePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An artifact that is put again between two steps of its removal stays whole."""
    store = Store.at(place)
    made = store.put("thing", writing(a="1"))
    real = RemotePlace._delete
    once: list[str] = []

    def slow(self: RemotePlace, names: list[str]) -> None:
        real(self, names)
        if not once and names and names[0].endswith("manifest.json"):
            once.append("now")
            Store.open(URL).put("thing", writing(a="1"))

    monkeypatch.setattr(RemotePlace, "_delete", slow)
    store.collect([], grace_seconds=0)
    assert once
    Store.open(URL).verify(made.id)


def test_server_without_conditional_writes_is_served(
    place: RemotePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that refuses ``mode="create"`` still gets its manifest."""
    real: Callable[..., None] = place._fs.pipe_file

    def pipe_file(path: str, data: bytes, mode: str = "overwrite") -> None:
        if mode == "create":
            raise NotImplementedError(mode)
        real(path, data)

    monkeypatch.setattr(place._fs, "pipe_file", pipe_file, raising=False)
    made = Store.at(place).put("thing", writing(a="1"))
    Store.open(URL).verify(made.id)


def test_unknown_protocol_and_missing_extra_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names what to install, and never a password."""
    with pytest.raises(InputError, match="fsspec knows, got 'nosuch://x'"):
        Store.open("nosuch://x")

    import fsspec.core

    def missing(url: str) -> None:
        raise ImportError("install s3fs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'loopline\[s3\]'"):
        Store.open("s3://bucket/x")
    with pytest.raises(EnvironmentProblem) as caught:
        Store.open("ftp://ann:hidden@host/x")
    assert "hidden" not in str(caught.value)


def test_missing_bucket_is_told(s3_url: str) -> None:
    """A bucket that does not exist gives a sentence with the address, not a botocore error."""
    with pytest.raises(EnvironmentProblem, match="store at s3://no-such-bucket-here/x"):
        Store.open("s3://no-such-bucket-here/x")


def test_unreachable_server_is_told(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer gives a sentence with the address."""
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(EnvironmentProblem, match=r"Cannot read format\.json in the store at s3://"):
        Store.open(s3_url)
    s3fs.S3FileSystem.clear_instance_cache()


def test_scratch_of_a_remote_store_is_local(place: RemotePlace, cache: Path) -> None:
    """What can be made again is kept on this machine, apart for each store."""
    assert place.scratch("stat").is_relative_to(cache)
    assert place.scratch("stat") != open_place("memory://other").scratch("stat")
    assert bytes_digest(URL.encode())[:16] in str(place.scratch("stat"))
