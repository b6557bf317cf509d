"""An artifact in a folder of its own, outside any store: a release that was copied elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

from loopline.digest import file_digest
from loopline.errors import IntegrityError, NotFoundError
from loopline.store.artifacts import Artifact
from loopline.store.disk import whole_folder
from loopline.store.manifest import FILES_FOLDER, MANIFEST_NAME, Manifest, unseal


def open_folder(folder: str | Path) -> Artifact:
    """Open the artifact in a folder: one of a store, or a copy of it anywhere.

    Args:
        folder: the folder that holds ``manifest.json``, or the folder of files beside it.

    Raises:
        NotFoundError: there is no manifest.
        IntegrityError: the manifest is damaged; a damaged file is told when its path is asked for.
    """
    place = Path(folder)
    if not (place / MANIFEST_NAME).is_file() and (place.parent / MANIFEST_NAME).is_file():
        place = place.parent
    file = place / MANIFEST_NAME
    if not file.is_file():
        raise NotFoundError(f"There is no artifact in {str(folder)!r}: it has no {MANIFEST_NAME}.")
    data = file.read_bytes()
    name = str(unseal(data, str(file)).get("id"))
    manifest = Manifest.from_bytes(data, name)
    root = place / manifest.place

    def path(wanted: str) -> Path:
        inside = [
            entry
            for entry in manifest.files
            if not wanted or entry == wanted or entry.startswith(f"{wanted}/")
        ]
        if wanted and not inside:
            raise NotFoundError(f"{name} has no file {wanted!r}; it has {list(manifest.files)}.")
        for entry in inside:
            _check(name, root / entry, manifest.files[entry].digest)
        return root / wanted if wanted else root

    return Artifact(
        id=name,
        kind=manifest.kind,
        meta=manifest.meta,
        inputs=manifest.inputs,
        files=manifest.files,
        _path=path,
    )


def copy_artifact(artifact: Artifact, target: Path) -> None:
    """Copy an artifact, from any kind of store, into a folder that `open_folder` opens.

    The folder gets its name when every byte is in it.

    Raises:
        InputError: the folder exists.
        IntegrityError: a file is damaged.
        EnvironmentProblem: a full disk, a folder that cannot be written.
    """
    manifest = Manifest(artifact.kind, artifact.meta, artifact.inputs, artifact.files)
    assert manifest.id == artifact.id, "an artifact with an identity of its own"
    with whole_folder(target, f"copy {artifact.id} to {target}") as draft:
        (draft / FILES_FOLDER).mkdir()
        for name in artifact.files:
            file = draft / FILES_FOLDER / name
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact.path(name), file)
        (draft / MANIFEST_NAME).write_bytes(manifest.to_bytes())


def _check(name: str, path: Path, digest: str) -> None:
    if path.is_symlink() or not path.is_file():
        raise IntegrityError(f"{name} is damaged: {path} is missing or no plain file.")
    found = file_digest(path)
    if found != digest:
        raise IntegrityError(
            f"{name} is damaged: {path} has the digest {found}, its manifest says {digest}. "
            "Bring the file back from a copy."
        )
