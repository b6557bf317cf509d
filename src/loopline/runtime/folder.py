"""The exported folder: what lies in it, written and read with numpy and the standard library.

    runtime.json     contract, repairs, readings of the columns, model, calibration, threshold
    arrays.npz       learned arrays
    model.*          the model in its library's own format, where it has one
    digests.json     BLAKE2b digest of each of the files above

Nothing in it is code, and nothing is executed when it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.errors import EnvironmentProblem, IntegrityError, NotFoundError
from loopline.features.readers import Reading
from loopline.models.portable import Portable, PortableModel

FORMAT = 1
FACTS, ARRAYS, DIGESTS = "runtime.json", "arrays.npz", "digests.json"


def write_folder(folder: Path, facts: Mapping[str, Any], model: PortableModel) -> None:
    """Write a model with all that its rows go through into an empty folder.

    Args:
        folder: where to.
        facts: JSON values beside the model: contract, repairs, classes, …
        model: the model.
    """
    arrays = {f"model.{name}": array for name, array in model.estimator.arrays.items()}
    readings = []
    for place, (column, reading) in enumerate(zip(model.columns, model.readings, strict=True)):
        arrays |= {f"{place:05d}.{name}": array for name, array in reading.arrays.items()}
        readings.append({"column": column, "kind": reading.kind, "data": _packed(reading.data)})
    content = {
        **facts,
        "format": FORMAT,
        "readings": readings,
        "model": {
            "kind": model.estimator.kind,
            "data": dict(model.estimator.data),
            "files": sorted(model.estimator.files),
            "packages": list(model.estimator.packages),
        },
    }
    text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=False)
    (folder / FACTS).write_text(text + "\n", encoding="utf-8")
    np.savez(folder / ARRAYS, **arrays)  # type: ignore[arg-type]  # names of arrays, none of a flag
    for name, data in model.estimator.files.items():
        (folder / name).write_bytes(data)
    names = [FACTS, ARRAYS, *sorted(model.estimator.files)]
    digests = {name: _digest((folder / name).read_bytes()) for name in names}
    (folder / DIGESTS).write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")


def read_folder(folder: Path) -> tuple[dict[str, Any], PortableModel]:
    """What `write_folder` wrote, every file proved against its digest.

    Raises:
        NotFoundError: there is no such folder.
        IntegrityError: a file is missing, damaged or no plain file.
        EnvironmentProblem: a newer Loopline wrote it.
    """
    if not (folder / DIGESTS).is_file():
        raise NotFoundError(
            f"There is no exported model in {str(folder)!r} (no {DIGESTS}). "
            "`loopline export RELEASE --to folder -o DIR` writes one."
        )
    files = _proved(folder)
    try:
        facts = json.loads(files[FACTS])
        if facts["format"] > FORMAT:
            raise EnvironmentProblem(
                f"{folder} has format {facts['format']}, this Loopline reads up to {FORMAT}. "
                "Install the version that wrote it, or a newer one."
            )
        with np.load(folder / ARRAYS, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return facts, _model_of(facts, arrays, files)
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise IntegrityError(
            f"The exported model in {folder} cannot be read ({type(error).__name__}: {error}). "
            "Export it again."
        ) from error


def _model_of(
    facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], files: Mapping[str, bytes]
) -> PortableModel:
    model = facts["model"]
    estimator = Portable(
        model["kind"],
        model["data"],
        _starting_with("model.", arrays),
        {name: files[name] for name in model["files"]},
        tuple(model["packages"]),
    )
    readings = tuple(
        Reading(part["kind"], _unpacked(part["data"]), _starting_with(f"{place:05d}.", arrays))
        for place, part in enumerate(facts["readings"])
    )
    return PortableModel(tuple(part["column"] for part in facts["readings"]), readings, estimator)


def _proved(folder: Path) -> dict[str, bytes]:
    try:
        digests = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
        names = dict(digests).items()
    except (OSError, ValueError, TypeError) as error:
        raise IntegrityError(f"{folder / DIGESTS} cannot be read: {error}.") from error
    files = {}
    for name, digest in names:
        path = folder / name
        if Path(name).name != name or path.is_symlink() or not path.is_file():
            raise IntegrityError(f"{path} is missing or no plain file. Export the model again.")
        files[name] = path.read_bytes()
        if _digest(files[name]) != digest:
            raise IntegrityError(f"{path} is damaged: it has another digest. Export it again.")
    return files


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def _starting_with(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _packed(data: Mapping[str, Any]) -> dict[str, Any]:
    """JSON of a reading: NaN among the outputs of a missing cell is null."""
    packed = dict(data)
    if packed.get("absent") is not None:
        packed["absent"] = [None if value != value else value for value in packed["absent"]]  # noqa: PLR0124 - NaN
    return packed


def _unpacked(data: Mapping[str, Any]) -> dict[str, Any]:
    given = dict(data)
    if given.get("absent") is not None:
        given["absent"] = [float("nan") if value is None else value for value in given["absent"]]
    return given
