"""Checkpoints: whole or absent, proved before they are used, readable by any layout.

Each rank writes the pieces of tensors that it holds into one safetensors file of its own, with a
JSON file that says where in the whole tensor each piece lies and what the bytes' digest is. The
leading rank commits once all ranks' files are there: manifest, fsync, rename, and only then does
`latest` move. No rank waits for another and nothing of it is code, which is why this is not torch's
own distributed checkpoint: that keeps its index as a pickle and needs a process group of its own to
write in the background.

A reader asks for the part of each tensor that it holds in its own layout and gets it from whatever
pieces there are, so a run saved on two processes goes on on one, and the other way round.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from loopline.digest import file_digest, value_digest
from loopline.errors import EnvironmentProblem, IntegrityError

FORMAT = 1
MANIFEST = "manifest.json"
LATEST = "latest"
BEST = "best"
Box = tuple[tuple[int, ...], tuple[int, ...]]
"""Where a piece lies in its tensor: offsets and shape."""


@dataclass
class Checkpoints:
    """The checkpoints of one run, in a folder.

    Args:
        folder: where they lie.
        rank: of this process.
        world: number of processes that write.
        keep: how many committed ones to keep, at least 1.
    """

    folder: Path
    rank: int = 0
    world: int = 1
    keep: int = 2
    _pool: ThreadPoolExecutor = field(init=False, repr=False)
    _waiting: list[tuple[str, Path, Future[None], dict[str, Any]]] = field(
        default_factory=list, repr=False
    )
    _saves: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")

    def save(self, name: str, tensors: Mapping[str, torch.Tensor], facts: dict[str, Any]) -> None:
        """Copy this rank's pieces now, and write them while training goes on.

        Args:
            name: of the checkpoint, ``kind-number``, the same on all ranks. Of the kind "best" the
                newest is kept; of the others the newest `keep`.
            tensors: whole tensors (written by rank 0) or sharded ones, by name.
            facts: plain data for the manifest, the same on all ranks.

        Raises:
            EnvironmentProblem: an earlier checkpoint could not be written.
        """
        self.settle()
        pieces: dict[str, torch.Tensor] = {}
        places: dict[str, Any] = {}
        for label, tensor in tensors.items():
            box = box_of(tensor, self.rank)
            if box is None:
                continue
            pieces[label] = _here(tensor).to("cpu", copy=True).contiguous()
            places[label] = {"offsets": box[0], "shape": box[1], "whole": tuple(tensor.shape)}
        self._saves += 1
        part = self.folder / f".{name}.{self._saves}.part"
        future = self._pool.submit(self._write, part, pieces, places)
        self._waiting.append((name, part, future, facts))

    def settle(self) -> None:
        """Wait for what is being written, and commit it."""
        while self._waiting:
            name, part, future, facts = self._waiting.pop(0)
            try:
                future.result()
                if self.rank == 0:
                    self._commit(name, part, facts)
            except (OSError, SafetensorError) as problem:
                raise EnvironmentProblem(
                    f"The checkpoint {name} could not be written to {self.folder}: {problem}. "
                    "The last good one is untouched; make room and run again."
                ) from problem

    def wait(self) -> None:
        """Wait for this rank's writer and commit nothing; what it wrote is swept later."""
        wait([future for _, _, future, _ in self._waiting])

    def poll(self) -> None:
        """Commit what has been written meanwhile; never waits."""
        if self._waiting:
            _, part, future, _ = self._waiting[0]
            if future.done() and (self.rank != 0 or self._all_there(part)):
                self.settle()

    def sweep(self) -> None:
        """Remove what an interrupted save has left; on one rank, before anything is written."""
        for path in self.folder.glob(".*.part"):
            shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Wait for everything and stop the writer."""
        self.settle()
        self._pool.shutdown()

    # --- writing ---------------------------------------------------------------------------------

    def _write(self, part: Path, pieces: dict[str, torch.Tensor], places: dict[str, Any]) -> None:
        part.mkdir(parents=True, exist_ok=True)
        file = part / f"rank-{self.rank:05d}.safetensors"
        save_file(pieces, file)
        _sync(file)
        facts = {"digest": file_digest(file), "size": file.stat().st_size, "places": places}
        note = part / f"rank-{self.rank:05d}.json"
        scratch = note.with_suffix(".tmp")
        scratch.write_text(json.dumps(facts), encoding="utf-8")
        _sync(scratch)
        scratch.rename(note)

    def _all_there(self, part: Path) -> bool:
        return all((part / f"rank-{rank:05d}.json").exists() for rank in range(self.world))

    def _commit(self, name: str, part: Path, facts: dict[str, Any]) -> None:
        began = time.monotonic()
        while not self._all_there(part):
            if time.monotonic() - began > 600:
                raise EnvironmentProblem(
                    f"The checkpoint {name} was not finished by all {self.world} processes within "
                    "ten minutes; the last good one is untouched."
                )
            time.sleep(0.01)
        parts = {}
        for rank in range(self.world):
            note = json.loads((part / f"rank-{rank:05d}.json").read_text(encoding="utf-8"))
            parts[f"rank-{rank:05d}.safetensors"] = note
            (part / f"rank-{rank:05d}.json").unlink()
        data = {"format": FORMAT, "name": name, "facts": facts, "parts": parts}
        data["seal"] = value_digest(json.loads(json.dumps(data)))
        manifest = part / MANIFEST
        manifest.write_text(json.dumps(data), encoding="utf-8")
        _sync(manifest)
        _sync(part)
        final = self.folder / name
        old = part.with_suffix(".old.part")
        if final.exists():  # a damaged one, or one of a run that went back behind it
            final.rename(old)
        part.rename(final)
        _sync(self.folder)
        shutil.rmtree(old, ignore_errors=True)
        self._point_to(name)
        self._forget(name)

    def _point_to(self, name: str) -> None:
        if name.startswith(BEST):
            return
        scratch = self.folder / f".{LATEST}"
        scratch.write_text(name, encoding="utf-8")
        _sync(scratch)
        scratch.rename(self.folder / LATEST)
        _sync(self.folder)

    def _forget(self, newest: str) -> None:
        """Remove what is old, and what lies behind the newest: damaged, or of an earlier try."""
        best = newest.startswith(BEST)
        names = [name for name in self.names() if name.startswith(BEST) == best]
        kept = [name for name in names if name <= newest][-(1 if best else self.keep) :]
        for name in set(names) - set(kept):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def best(self) -> Saved | None:
        """The best checkpoint, proved; None where none was kept."""
        names = [name for name in self.names() if name.startswith(BEST)]
        return self.open(names[-1]) if names else None

    # --- reading ---------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The committed checkpoints, oldest first."""
        return sorted(
            path.name
            for path in self.folder.iterdir()
            if not path.name.startswith(".") and (path / MANIFEST).exists()
        )

    def newest(self) -> tuple[Saved | None, list[str]]:
        """The newest checkpoint whose every byte is as written, and what was refused on the way."""
        refused: list[str] = []
        latest = self.folder / LATEST
        names = [name for name in self.names() if not name.startswith(BEST)]
        if latest.exists():
            first = latest.read_text(encoding="utf-8").strip()
            names = [name for name in names if name != first] + [first] * (first in names)
        for name in reversed(names):
            try:
                return self.open(name), refused
            except IntegrityError as problem:
                refused.append(str(problem))
        return None, refused

    def open(self, name: str, *, prove: bool = True) -> Saved:
        """Read one checkpoint and prove its bytes, unless another process has done so just now.

        Raises:
            IntegrityError: a byte of it is not as written; the message names the file.
        """
        folder = self.folder / name
        try:
            data = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            seal = data.pop("seal")
        except (OSError, ValueError, KeyError) as problem:
            raise IntegrityError(f"{folder / MANIFEST} cannot be read: {problem}.") from problem
        if value_digest(data) != seal:
            raise IntegrityError(f"{folder / MANIFEST} is not as it was written.")
        if data["format"] > FORMAT:
            raise IntegrityError(
                f"{folder} has format {data['format']}; this version reads up to {FORMAT}."
            )
        for file, note in data["parts"].items():
            if not prove:
                break
            path = folder / file
            if not path.exists() or path.stat().st_size != note["size"]:
                raise IntegrityError(f"{path} is missing or has another length than when written.")
            if file_digest(path) != note["digest"]:
                raise IntegrityError(f"{path} is damaged: its bytes are not those written.")
        return Saved(folder, data)


@dataclass(frozen=True)
class Saved:
    """One proved checkpoint.

    Args:
        folder: where it lies.
        data: its manifest.
    """

    folder: Path
    data: Mapping[str, Any]

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was saved beside the tensors."""
        facts: Mapping[str, Any] = self.data["facts"]
        return facts

    def names(self) -> set[str]:
        """Names of the stored tensors."""
        return {name for note in self.data["parts"].values() for name in note["places"]}

    @torch.no_grad()
    def load_into(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Fill tensors, whole or sharded in any way, with what was saved.

        Raises:
            IntegrityError: a tensor is not in the checkpoint, or has another shape there.
        """
        pieces: dict[str, list[tuple[str, Box, tuple[int, ...]]]] = {}
        for file, note in self.data["parts"].items():
            for name, place in note["places"].items():
                box = (tuple(place["offsets"]), tuple(place["shape"]))
                pieces.setdefault(name, []).append((file, box, tuple(place["whole"])))
        files: dict[str, Any] = {
            name: safe_open(self.folder / name, "pt") for name in self.data["parts"]
        }
        for name, tensor in tensors.items():
            if name not in pieces:
                raise IntegrityError(f"{self.folder} holds no tensor {name!r}; the model differs.")
            whole = pieces[name][0][2]
            if whole != tuple(tensor.shape):
                raise IntegrityError(
                    f"{self.folder}: {name!r} has the shape {whole} and the model wants "
                    f"{tuple(tensor.shape)}."
                )
            wanted = box_of(tensor, 0, every=True)
            if wanted is None:
                continue
            here = _here(tensor)
            for file, box, _ in pieces[name]:
                _copy_common(here, wanted, files[file].get_slice(name), box)


def _copy_common(here: torch.Tensor, wanted: Box, stored: Any, box: Box) -> None:
    if not wanted[1]:
        here.copy_(stored[...] if hasattr(stored, "__getitem__") else stored)
        return
    into, out_of = [], []
    for start, size, begin, length in zip(*wanted, *box, strict=True):
        low, high = max(start, begin), min(start + size, begin + length)
        if low >= high:
            return
        into.append(slice(low - start, high - start))
        out_of.append(slice(low - begin, high - begin))
    here[tuple(into)].copy_(stored[tuple(out_of)])


def box_of(tensor: torch.Tensor, rank: int, *, every: bool = False) -> Box | None:
    """Where this rank's part lies in a tensor; None when there is none, or another writes it.

    Args:
        tensor: plain or sharded.
        rank: this process.
        every: also give parts that another rank holds as well (for reading).
    """
    if not isinstance(tensor, DTensor):
        return ((0,) * tensor.ndim, tuple(tensor.shape)) if every or rank == 0 else None
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    mesh = tensor.device_mesh
    shape, offsets = compute_local_shape_and_global_offset(tensor.shape, mesh, tensor.placements)
    coordinate: Any = mesh.get_coordinate() or []
    copy = any(
        where and place.is_replicate()
        for where, place in zip(coordinate, tensor.placements, strict=True)
    )
    if (copy and not every) or 0 in tuple(shape):
        return None
    return tuple(offsets), tuple(shape)


def _here(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor.detach()


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Entries of nested mappings by dotted name.

    >>> dict(flat({"a": {"b": 1}, "c": 2}))
    {'a.b': 1, 'c': 2}
    """
    for key, value in data.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            yield from flat(value, name)
        else:
            yield name, value
