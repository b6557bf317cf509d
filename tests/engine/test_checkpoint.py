"""Checkpoints: whole or absent, proved before use, the last good one never lost."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from loopline.engine.checkpoint import Checkpoints
from loopline.errors import EnvironmentProblem, IntegrityError

Tensors = dict[str, torch.Tensor]


def _tensors(value: float) -> Tensors:
    return {
        "matrix": torch.full((5, 3), value),
        "step": torch.tensor(value),
        "half": torch.full((4,), value, dtype=torch.bfloat16),
        "none": torch.zeros(0, 2),
    }


def _saved(folder: Path, *values: int, keep: int = 9) -> Checkpoints:
    store = Checkpoints(folder, keep=keep)
    for value in values:
        store.save(f"step-{value:09d}", _tensors(value), {"value": value})
    store.settle()
    return store


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    """Tensors of any type and shape and the facts are read as they were."""
    _saved(tmp_path, 3).close()
    found, refused = Checkpoints(tmp_path).newest()
    assert found is not None
    assert refused == []
    assert found.facts == {"value": 3}
    target = _tensors(0)
    found.load_into(target)
    assert all(torch.equal(target[name], value) for name, value in _tensors(3).items())


def test_a_snapshot_is_taken_at_the_call(tmp_path: Path) -> None:
    """What training changes after the call is not in the checkpoint."""
    store = Checkpoints(tmp_path)
    tensors = _tensors(1)
    store.save("step-1", tensors, {})
    tensors["matrix"].fill_(7)
    store.settle()
    target = _tensors(0)
    store.open("step-1").load_into(target)
    assert float(target["matrix"][0, 0]) == 1


def test_a_flipped_byte_is_refused_and_the_one_before_is_used(tmp_path: Path) -> None:
    """Any flipped byte of any file of the newest checkpoint makes the last good one count."""
    store = _saved(tmp_path, 1, 2)
    for file in sorted((tmp_path / "step-000000002").iterdir()):
        whole = file.read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 1):
            damaged = bytearray(whole)
            damaged[place] ^= 1
            file.write_bytes(bytes(damaged))
            found, refused = store.newest()
            assert found is not None
            assert found.facts["value"] == 1
            assert len(refused) == 1
            assert str(file.name) in refused[0]
        file.write_bytes(whole)
    assert store.newest()[1] == []


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    """A file that lost its end is named."""
    store = _saved(tmp_path, 1, 2)
    file = tmp_path / "step-000000002" / "rank-00000.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="another length than when written"):
        store.open("step-000000002")
    assert store.newest()[0] is not None


def test_without_any_good_one_there_is_none(tmp_path: Path) -> None:
    """When the only checkpoint is damaged, nothing is loaded, and it is told."""
    store = _saved(tmp_path, 1)
    (tmp_path / "step-000000001" / "manifest.json").write_text("{}")
    found, refused = store.newest()
    assert found is None
    assert "manifest.json cannot be read" in refused[0]


def test_the_newest_are_kept_and_the_best_besides(tmp_path: Path) -> None:
    """Of five checkpoints two stay; of two best ones the later; `latest` names the newest."""
    store = _saved(tmp_path, 1, 2, keep=2)
    for value in (3, 4):
        store.save(f"best-{value:09d}", _tensors(value), {"value": value})
    store.save("step-000000005", _tensors(5), {"value": 5})
    store.settle()
    assert _files(tmp_path) == ["best-000000004", "latest", "step-000000002", "step-000000005"]
    assert (tmp_path / "latest").read_text() == "step-000000005"
    best = store.best()
    assert best is not None
    assert best.facts == {"value": 4}


def test_latest_moves_only_after_the_commit(tmp_path: Path) -> None:
    """Where another rank has not written, there is no new checkpoint and `latest` stays."""
    _saved(tmp_path, 1)
    store = Checkpoints(tmp_path, rank=0, world=2)
    store.save("step-000000002", _tensors(2), {})
    store.poll()
    assert (tmp_path / "latest").read_text() == "step-000000001"
    assert store.names() == ["step-000000001"]
    other = Checkpoints(tmp_path, rank=1, world=2)
    other.save("step-000000002", {}, {})
    other.settle()
    store.settle()
    assert (tmp_path / "latest").read_text() == "step-000000002"


def test_a_commit_that_fails_leaves_latest_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk fills while the manifest is written, `latest` names the last good one."""
    store = _saved(tmp_path, 1)

    def full(path: Path) -> None:
        if path.name == "manifest.json":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("loopline.engine.checkpoint._sync", full)
    store.save("step-000000002", _tensors(2), {})
    with pytest.raises(EnvironmentProblem, match="No space left on device"):
        store.settle()
    assert (tmp_path / "latest").read_text() == "step-000000001"
    found = store.newest()[0]
    assert found is not None
    assert found.facts == {"value": 1}


def test_leftovers_of_a_killed_save_are_never_part_of_a_later_one(tmp_path: Path) -> None:
    """Half-written pieces are swept before anything is written."""
    store = Checkpoints(tmp_path, rank=1, world=2)
    store.save("step-000000002", _tensors(9), {})
    store.settle()
    assert [name for name in _files(tmp_path) if name.endswith(".part")]
    Checkpoints(tmp_path).sweep()
    assert _files(tmp_path) == []


def test_saving_a_name_again_replaces_it(tmp_path: Path) -> None:
    """A run that went back behind a damaged checkpoint writes it anew."""
    _saved(tmp_path, 1)
    file = tmp_path / "step-000000001" / "rank-00000.safetensors"
    file.write_bytes(b"damaged")
    store = _saved(tmp_path, 1)
    assert store.open("step-000000001").facts == {"value": 1}
    assert _files(tmp_path) == ["latest", "step-000000001"]


def test_a_run_that_went_back_keeps_what_it_writes(tmp_path: Path) -> None:
    """Saved at 10 behind a damaged 12, with one to keep: 10 stays, 8 and 12 go."""
    _saved(tmp_path, 8, 12)
    (tmp_path / "step-000000012" / "rank-00000.safetensors").write_bytes(b"damaged")
    store = _saved(tmp_path, 10, keep=1)
    assert _files(tmp_path) == ["latest", "step-000000010"]
    found, refused = store.newest()
    assert found is not None
    assert (found.facts, refused) == ({"value": 10}, [])


@contextmanager
def _disk_of(size: int) -> Iterator[None]:
    """Writing more than `size` bytes into a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_failing_write_is_told_and_harms_nothing(tmp_path: Path) -> None:
    """A disk that fills during a save: a clear error, the last good checkpoint untouched."""
    store = _saved(tmp_path, 1)
    with _disk_of(2_000):
        store.save("step-000000002", {"big": torch.ones(4_000)}, {})
        with pytest.raises(EnvironmentProblem, match="The last good one is untouched; make room"):
            store.settle()
    found, refused = store.newest()
    assert found is not None
    assert found.facts == {"value": 1}
    assert refused == []
    store.save("step-000000003", _tensors(3), {"value": 3})
    store.settle()
    again = store.newest()[0]
    assert again is not None
    assert again.facts == {"value": 3}


def test_another_shape_and_a_missing_tensor_are_refused(tmp_path: Path) -> None:
    """The message names the tensor and both shapes."""
    saved = _saved(tmp_path, 1).open("step-000000001")
    with pytest.raises(
        IntegrityError, match=r"'matrix' has the shape \(5, 3\) and the model wants"
    ):
        saved.load_into({"matrix": torch.zeros(3, 5)})
    with pytest.raises(IntegrityError, match="holds no tensor 'other'"):
        saved.load_into({"other": torch.zeros(1)})


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """A checkpoint of a later version says so."""
    from loopline.digest import value_digest

    store = _saved(tmp_path, 1)
    file = tmp_path / "step-000000001" / "manifest.json"
    data = json.loads(file.read_text())
    del data["seal"]
    data["format"] = 99
    file.write_text(json.dumps(data | {"seal": value_digest(data)}))
    with pytest.raises(IntegrityError, match="format 99; this version reads up to 1"):
        store.open("step-000000001")


def test_pieces_of_four_ranks_are_read_by_one(tmp_path: Path) -> None:
    """A matrix written in pieces of unequal size is put together again."""
    whole = torch.arange(30.0).reshape(10, 3)
    stores = [Checkpoints(tmp_path, rank, 3) for rank in range(3)]
    for rank, (start, rows) in enumerate([(0, 4), (4, 4), (8, 2)]):
        place = {"w": {"offsets": (start, 0), "shape": (rows, 3), "whole": (10, 3)}}
        piece = {"w": whole[start : start + rows].clone()}
        part = tmp_path / ".step-1.1.part"
        stores[rank]._write(part, piece, place)
    stores[0]._commit("step-1", tmp_path / ".step-1.1.part", {})
    target = torch.zeros(10, 3)
    Checkpoints(tmp_path).open("step-1").load_into({"w": target})
    assert torch.equal(target, whole)


KILLED = """
import sys, torch
from pathlib import Path
from loopline.engine.checkpoint import Checkpoints
store = Checkpoints(Path(sys.argv[1]), keep=2)
print("ready", flush=True)
for number in range(1, 10_000):
    tensors = {f"t{k}": torch.full((200, 50), float(number)) for k in range(5)}
    store.save(f"step-{number:09d}", tensors, {"value": number})
    store.settle()
    print(number, flush=True)
"""


def test_a_kill_during_saves_never_loses_the_last_good_one(tmp_path: Path) -> None:
    """Killed at three moments of saving, the newest whole checkpoint is the last told one."""
    for trial in range(3):
        folder = tmp_path / str(trial)
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            told = 0
            for line in process.stdout:
                told = int(line) if line != "ready\n" else 0
                if told >= 3 + 2 * trial:
                    break
            os.kill(process.pid, signal.SIGKILL)
            rest = process.stdout.read().split()
        told = max([told, *map(int, rest)])
        found, refused = Checkpoints(folder).newest()
        assert found is not None
        assert refused == []
        assert found.facts["value"] in (told, told + 1)
        target = {f"t{k}": torch.zeros(200, 50) for k in range(5)}
        found.load_into(target)
        assert all(bool((value == found.facts["value"]).all()) for value in target.values())
