"""Writing tables to files: whole or absent, in the format that the name says."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import polars as pl

from loopline.errors import EnvironmentProblem, InputError

_WRITERS: dict[str, Callable[[pl.DataFrame, Path], None]] = {
    ".csv": lambda frame, path: frame.write_csv(path),
    ".tsv": lambda frame, path: frame.write_csv(path, separator="\t"),
    ".jsonl": lambda frame, path: frame.write_ndjson(path),
    ".parquet": lambda frame, path: frame.write_parquet(path),
    ".arrow": lambda frame, path: frame.write_ipc(path),
}


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Write a table as .csv, .tsv, .jsonl, .parquet or .arrow; an old file stays until the end.

    Raises:
        InputError: another ending.
        EnvironmentProblem: the folder cannot be written or the disk is full.
    """
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise InputError(
            f"Cannot write {str(path)!r}: the name must end in one of "
            f"{', '.join(_WRITERS)}, got {path.suffix or 'no ending'!r}."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            writer(frame, Path(aside))
            os.chmod(aside, 0o644)
            os.replace(aside, path)
        finally:
            Path(aside).unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentProblem(
            f"Could not write {str(path)!r}: {error.strerror or error}. Nothing was left there."
        ) from error
