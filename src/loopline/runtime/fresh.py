"""An exported folder answering in a process without polars and the like, to prove that it can.

    python -m loopline.runtime.fresh FOLDER

reads JSON rows from its input and writes what the model says of them, row by row and all at once.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loopline.errors import LooplineError
from loopline.processes import said_by

ABSENT = (
    "polars", "pydantic", "sqlalchemy", "sklearn", "pandas", "pyarrow", "scipy", "blake3",
    "safetensors", "fsspec", "typer", "rich", "yaml", "plotly", "optuna", "torch",
)  # fmt: skip
"""Packages that the process must do without; those that the model's own library needs stay."""
_OF_LIBRARIES = {"xgboost": ("scipy",), "catboost": ("scipy", "pandas", "plotly", "pyarrow")}


def answered(
    folder: Path, rows: Sequence[Mapping[str, Any]], packages: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """What the exported model says of JSON rows in a process without any package of `ABSENT`.

    Args:
        folder: the exported model.
        rows: the rows.
        packages: the libraries that the model needs.

    Returns:
        ``rows_raw`` and ``table_raw`` (rows, classes) or (rows, 1), and ``codes`` (rows,).

    Raises:
        IntegrityError: it cannot answer; the message holds what it said.
    """
    needed = {name for package in packages for name in _OF_LIBRARIES.get(package, ())}
    absent = [name for name in ABSENT if name not in needed]
    said = said_by(
        "loopline.runtime.fresh",
        [str(folder), ",".join(absent)],
        json.dumps(list(rows)).encode(),
        "The exported model cannot answer in a process of its own",
    )
    with np.load(io.BytesIO(said), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


class Without(MetaPathFinder):
    """Makes importing some packages fail, as where they are not installed.

    Args:
        names: the packages.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        """Refuse the packages; all others are found by whoever comes next."""
        del path, target
        if fullname.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def main(folder: str, absent: str) -> None:
    """Answer the rows of the input."""
    sys.meta_path.insert(0, Without(absent.split(",")))
    from loopline.runtime import load

    model = load(folder)
    rows = json.loads(sys.stdin.buffer.read())
    single = [model.predict_one(row) for row in rows]
    if model.task == "regression":
        raw = np.array([[answer["prediction"]] for answer in single]).reshape(len(rows), 1)
        codes = np.empty(0, dtype=np.int64)
    else:
        raw = np.array([list(answer["probability"].values()) for answer in single])
        raw = raw.reshape(len(rows), len(model.classes))
        codes = np.array([model.classes.index(answer["prediction"]) for answer in single], int)
    stream = io.BytesIO()
    np.savez(stream, rows_raw=raw, table_raw=model.probabilities(rows), codes=codes)
    sys.stdout.buffer.write(stream.getvalue())


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2])
    except LooplineError as error:
        sys.exit(str(error).replace("\n", " "))
