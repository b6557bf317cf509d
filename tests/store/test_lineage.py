"""What was made from an artifact: found without reading every manifest again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loopline.release.lineage import lineage
from loopline.store.artifacts import Artifact, Store
from loopline.store.manifest import Manifest


def put(store: Store, name: str, **inputs: str) -> Artifact:
    """A small artifact made from others."""

    def write(folder: Path) -> None:
        (folder / "a.txt").write_text(name)

    return store.put("note", write, inputs=inputs)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The manifests that are read from now on."""
    seen: list[str] = []
    whole = Manifest.from_bytes

    def from_bytes(data: bytes, artifact_id: str) -> Manifest:
        seen.append(artifact_id)
        return whole(data, artifact_id)

    monkeypatch.setattr(Manifest, "from_bytes", staticmethod(from_bytes))
    return seen


def test_later_questions_read_few_manifests(
    tmp_path: Path, no_sync: None, reads: list[str]
) -> None:
    """The second question reads the chain alone, however many artifacts the store has."""
    del no_sync
    store = Store.open(tmp_path)
    first = put(store, "first")
    second = put(store, "second", made=first.id)
    third = put(store, "third", made=second.id)
    for number in range(60):
        put(store, f"other {number}")
    assert [node.id for node in lineage(store, first.id).descendants] == [second.id, third.id]
    reads.clear()
    found = lineage(store, first.id)
    assert [node.id for node in found.descendants] == [second.id, third.id]
    assert len(reads) == 3
    fourth = put(store, "fourth", made=third.id)
    assert lineage(store, first.id).descendants[-1].id == fourth.id


def test_removed_artifacts_are_no_descendants(tmp_path: Path) -> None:
    """What the memory names and the store no longer has is left out."""
    store = Store.open(tmp_path)
    first = put(store, "first")
    second = put(store, "second", made=first.id)
    assert len(lineage(store, first.id).descendants) == 1
    store.collect([first.id], grace_seconds=0)
    assert second.id not in store.ids()
    assert lineage(store, first.id).descendants == ()


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"inputs": {}, "digest": "0"}'])
def test_a_damaged_memory_is_made_again(tmp_path: Path, damage: bytes) -> None:
    """Bytes that are not what was remembered are passed over."""
    store = Store.open(tmp_path)
    first = put(store, "first")
    second = put(store, "second", made=first.id)
    lineage(store, first.id)
    (tmp_path / "lineage" / "inputs.json").write_bytes(damage)
    assert [node.id for node in lineage(store, first.id).descendants] == [second.id]


def test_asking_is_no_use(tmp_path: Path) -> None:
    """Artifacts that the question only passes by may be collected as before."""
    store = Store.open(tmp_path)
    first, other = put(store, "first"), put(store, "other")
    manifest = next((tmp_path / "artifacts").rglob(f"{other.id}/manifest.json"))
    os.utime(manifest, (1, 1))
    lineage(store, first.id)
    assert manifest.stat().st_mtime == 1
