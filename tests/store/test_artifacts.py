"""The local store: ids worked by hand, its layout, and what a person is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.digest import bytes_digest, canonical_json
from loopline.errors import IntegrityError, NotFoundError
from loopline.store.artifacts import Store
from loopline.store.local import LocalPlace
from loopline.store.manifest import is_safe_name, seal, unseal
from loopline.testing.store import flip_byte, writing


def test_id_is_the_digest_of_kind_meta_files_and_inputs(tmp_path: Path) -> None:
    """An id can be recomputed with BLAKE3 and JSON alone."""
    made = Store.open(tmp_path).put("note", writing(a="hi"), meta={"b": 1})
    text = (
        '{"files":{"a.txt":[2,"' + bytes_digest(b"hi") + '"]},"inputs":{},'
        '"kind":"note","meta":{"b":1}}'
    )
    assert made.id == f"note-{bytes_digest(text.encode())}"


def test_id_of_a_content_with_an_identity_is_the_digest_of_kind_and_identity(
    tmp_path: Path,
) -> None:
    """Files, meta and inputs take no part in the id of a content that has its own digest."""
    made = Store.open(tmp_path).put("table", writing(a="hi"), meta={"b": 1}, identity="abc")
    assert made.id == "table-" + bytes_digest(b'{"identity":"abc","kind":"table"}')


def test_layout_is_the_documented_one(tmp_path: Path) -> None:
    """A person finds the files of an artifact under kind, two hex characters and id."""
    store = Store.open(tmp_path / "new" / "store")
    made = store.put("note", writing(a="hi"))
    store.bind("k1", made.id)
    files = [p for p in (tmp_path / "new" / "store").rglob("*") if p.is_file()]
    shelf = f"artifacts/note/{made.id[5:7]}/{made.id}"
    assert sorted(p.relative_to(tmp_path / "new" / "store").as_posix() for p in files) == [
        f"{shelf}/files/a.txt",
        f"{shelf}/manifest.json",
        "format.json",
        "keys/k1/k1",
        "lock",
    ]


def test_same_artifact_has_the_same_bytes_in_two_stores(tmp_path: Path) -> None:
    """Nothing random and no time of day gets into an artifact."""
    seen = []
    for name in ("one", "two"):
        made = Store.open(tmp_path / name).put("note", writing(a="hi"), meta={"x": [1.5]})
        folder = made.path().parent
        seen.append({p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.*")})
    assert seen[0] == seen[1]


def test_relative_folder_stays_the_same_store_after_a_change_of_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store opened by a relative path does not move with the process."""
    monkeypatch.chdir(tmp_path)
    store = Store.open("store")
    made = store.put("note", writing(a="hi"))
    monkeypatch.chdir("/")
    assert store.get(made.id).path("a.txt").is_relative_to(tmp_path)


def test_file_url_is_the_local_folder(tmp_path: Path) -> None:
    """``file://`` opens the same store as the path."""
    made = Store.open(tmp_path).put("note", writing(a="hi"))
    assert Store.open(f"file://{tmp_path}", create=False).ids() == [made.id]


def test_damage_message_names_file_expected_and_found(tmp_path: Path) -> None:
    """The message of a flipped byte lets a person act without another command."""
    made = Store.open(tmp_path).put("note", writing(a="hi"))
    (made.path() / "a.txt").write_text("ho")
    with pytest.raises(IntegrityError) as caught:
        Store.open(tmp_path).get(made.id).path("a.txt")
    assert str(caught.value) == (
        f"{made.id} is damaged: file 'a.txt' has digest {bytes_digest(b'ho')}, "
        f"expected {bytes_digest(b'hi')}. "
        "Remove the artifact and run the line again, or bring the file back from a copy."
    )


@pytest.mark.parametrize("damage", ["missing", "shorter", "link", "extra", "extra link"])
def test_other_damage_is_found_too(tmp_path: Path, damage: str) -> None:
    """A missing, cut, linked or added file is told when the folder is asked for."""
    made = Store.open(tmp_path).put("note", writing(a="hello", b="there"))
    file = made.path() / "a.txt"
    words = {
        "missing": "cannot be read",
        "shorter": "has 4 bytes, expected 5",
        "link": "not a plain file",
        "extra": "is not in its manifest",
        "extra link": "link",
    }
    if damage == "missing":
        file.unlink()
    elif damage == "shorter":
        file.write_text("hell")
    elif damage == "link":
        (tmp_path / "same").write_text("hello")
        file.unlink()
        file.symlink_to(tmp_path / "same")
    elif damage == "extra":
        (file.parent / "c.txt").write_text("x")
    else:
        (file.parent / "c").symlink_to("/etc")
    for ask in (lambda s: s.verify(made.id), lambda s: s.get(made.id).path()):
        with pytest.raises(IntegrityError, match=words[damage]):
            ask(Store.open(tmp_path))


def test_digest_is_computed_once_per_process_and_again_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second path of an unchanged file costs no read; a changed file is read again."""
    import loopline.store.artifacts as module

    store = Store.open(tmp_path)
    made = store.put("note", writing(a="hello"))
    real, calls = module.file_digest, []

    def counted(path: Path) -> str:
        calls.append(path.name)
        return real(path)

    monkeypatch.setattr(module, "file_digest", counted)
    for _ in range(3):
        store.get(made.id).path("a.txt")
    assert calls == ["a.txt"]
    (made.path() / "a.txt").write_text("jello")
    with pytest.raises(IntegrityError):
        store.get(made.id).path("a.txt")


def test_swapped_artifacts_are_noticed(tmp_path: Path) -> None:
    """A whole artifact in the folder of another one is not taken for it."""
    store = Store.open(tmp_path)
    one, two = store.put("note", writing(a="1")), store.put("note", writing(a="2"))
    target = two.path().parent
    manifest = (one.path().parent / "manifest.json").read_bytes()
    (target / "manifest.json").write_bytes(manifest)
    with pytest.raises(IntegrityError, match="describes another artifact"):
        store.get(two.id)


def test_lookup_of_a_removed_artifact_is_none(tmp_path: Path) -> None:
    """A folder that somebody deleted by hand counts as gone, and can be made again."""
    import shutil

    store = Store.open(tmp_path)
    made = store.put("note", writing(a="1"))
    store.bind("key", made.id)
    shutil.rmtree(made.path().parent)
    assert store.lookup("key") is None
    with pytest.raises(NotFoundError, match="not in the store"):
        store.verify(made.id)
    assert store.put("note", writing(a="1")) == made
    assert store.lookup("key") == made.id


def test_lost_manifest_is_healed_by_making_the_artifact_again(tmp_path: Path) -> None:
    """A folder without a manifest is no artifact and does not stand in the way of one."""
    store = Store.open(tmp_path)
    made = store.put("note", writing(a="1"))
    (made.path().parent / "manifest.json").unlink()
    assert store.ids() == []
    assert store.put("note", writing(a="1")) == made
    store.verify(made.id)


def test_artifact_used_while_a_collector_looks_stays_with_its_lineage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is found between listing and removal stays, and so does what it was made from."""
    store = Store.open(tmp_path)
    base = store.put("note", writing(a="base"))
    middle = store.put("note", writing(a="middle"), inputs={"from": base.id})
    top = store.put("note", writing(a="top"), inputs={"from": middle.id})
    loose = store.put("note", writing(a="loose"), inputs={"from": middle.id})
    real = LocalPlace.artifacts

    def listed(self: LocalPlace, kind: str | None = None, start: str = "") -> dict[str, float]:
        found = real(self, kind, start)
        time.sleep(0.05)
        assert self.use(top.id)
        return found

    time.sleep(0.05)
    monkeypatch.setattr(LocalPlace, "artifacts", listed)
    assert store.collect([], grace_seconds=0).ids == (loose.id,)
    for kept in (base, middle, top):
        store.verify(kept.id)


def test_opening_finding_and_getting_take_milliseconds(tmp_path: Path, no_sync: None) -> None:
    """A second run that finds all its answers spends no noticeable time in the store."""
    store = Store.open(tmp_path)
    for number in range(200):
        made = store.put("note", writing(a=str(number)))
        store.bind(f"key{number}", made.id)
    started = time.perf_counter()
    for number in range(200):
        again = Store.open(tmp_path)
        again.get(again.lookup(f"key{number}") or "").path()
    assert (time.perf_counter() - started) / 200 < 0.010


def test_local_store_imports_nothing_heavy() -> None:
    """A local store needs neither fsspec nor SQLAlchemy nor polars to start."""
    program = (
        "import sys, tempfile; from loopline.store.artifacts import Store;"
        "import loopline.store.ledger, loopline.store.filecache;"
        "Store.open(tempfile.mkdtemp());"
        "print([m for m in ('fsspec', 'sqlalchemy', 'polars', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_artifacts_can_be_read_by_the_group(tmp_path: Path) -> None:
    """Folders get the permissions that the umask gives, not those of a private draft."""
    made = Store.open(tmp_path).put("note", writing(a="1"))
    mask = os.umask(0)
    os.umask(mask)
    assert made.path().parent.stat().st_mode & 0o777 == 0o777 & ~mask


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda children: st.lists(children, max_size=3)
    | st.dictionaries(st.text(st.characters(codec="utf-8")), children, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), plain, max_size=4))
@settings(max_examples=60, deadline=None)
def test_sealed_data_comes_back_equal(body: dict[str, object]) -> None:
    """Whatever plain data is sealed is read back equal."""
    body.pop("digest", None)
    assert canonical_json(unseal(seal(body), "x")) == canonical_json(body)


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
@settings(max_examples=100, deadline=None)
def test_no_changed_byte_of_a_sealed_file_goes_unseen(position: int, change: int) -> None:
    """Any other byte at any place of a sealed file gives an error or the same data."""
    body = {"format": 1, "files": {"ä": [1.5, None, True]}, "text": "x y"}
    data = bytearray(seal(body))
    data[position % len(data)] ^= change
    try:
        assert unseal(bytes(data), "x") == body
    except IntegrityError:
        return


@pytest.mark.parametrize(
    "name",
    ["..", "../a", "a/..", "/a", "a//b", "a/", "./a", "a\\b", "a\x00b", "a\nb", "\udcff", ""],
)
def test_names_that_leave_the_folder_are_unsafe(name: str) -> None:
    """Traversal, absolute, odd and undecodable names are not names of files."""
    assert not is_safe_name(name)


def test_cut_or_empty_sealed_files_are_damage(tmp_path: Path) -> None:
    """Every cut of a manifest is told as damage."""
    store = Store.open(tmp_path)
    made = store.put("note", writing(a="1"))
    where = made.path().parent / "manifest.json"
    whole = where.read_bytes()
    for length in range(0, len(whole) - 1, 17):
        where.write_bytes(whole[:length])
        with pytest.raises(IntegrityError, match=r"manifest\.json"):
            store.get(made.id)
    where.write_bytes(whole)
    flip_byte(store._place, where.relative_to(tmp_path).as_posix(), 3)
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        store.get(made.id)


def test_an_unknown_input_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """Minutes of work are not begun for an artifact that could not be kept."""
    store, begun = Store.open(tmp_path), []
    with pytest.raises(NotFoundError, match="input 'data'"):
        store.put("fit", begun.append, inputs={"data": "snapshot-" + "0" * 64})
    assert begun == []


def test_an_input_that_vanishes_while_writing_makes_no_artifact(tmp_path: Path) -> None:
    """The lineage is looked at once more before the new artifact is put in its place."""
    store = Store.open(tmp_path)
    base = store.put("snapshot", writing(a="1"))

    def write(folder: Path) -> None:
        (folder / "b.txt").write_text("2")
        shutil.rmtree(base.path().parent)

    with pytest.raises(NotFoundError, match="input 'data'"):
        store.put("fit", write, inputs={"data": base.id})
    assert store.ids() == []


def test_an_input_counts_as_used(tmp_path: Path) -> None:
    """What something was just made from is kept by a collector for the grace."""
    store = Store.open(tmp_path)
    base = store.put("snapshot", writing(a="1"))
    manifest = base.path().parent / "manifest.json"
    os.utime(manifest, (1.0, 1.0))
    store.put("fit", writing(b="2"), inputs={"data": base.id})
    assert manifest.stat().st_mtime > 1e9


def test_verify_reads_every_byte_whatever_was_proved_before(tmp_path: Path) -> None:
    """A changed byte behind the same size and time is passed by `path` and found by `verify`."""
    store = Store.open(tmp_path)
    made = store.put("note", writing(a="12345"))
    file = made.path("a.txt")
    before = file.stat()
    with file.open("r+b") as stream:
        stream.write(b"9")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert made.path("a.txt").read_bytes() == b"92345"
    with pytest.raises(IntegrityError, match=r"file 'a\.txt' has digest"):
        store.verify(made.id)


def test_a_key_under_another_name_answers_nothing(tmp_path: Path) -> None:
    """A file of keys that was copied to another key's place is not that key's answer."""
    store = Store.open(tmp_path)
    store.bind("aa-one", store.put("note", writing(a="1")).id)
    (tmp_path / "keys" / "aa" / "aa-two").write_bytes(
        (tmp_path / "keys" / "aa" / "aa-one").read_bytes()
    )
    assert store.lookup("aa-one") is not None
    assert store.lookup("aa-two") is None
