"""Writing tables to files: whole or absent, in the format that the name says."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import polars as pl

from loopline.errors import EnvironmentProblem, InputError


def flat_lists(frame: pl.DataFrame) -> pl.DataFrame:
    """Lists as JSON in a text, for formats whose cells are single values."""
    lists = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.List)]
    return frame.with_columns(
        pl.Series(name, [_as_json(cell) for cell in frame[name].to_list()], dtype=pl.String())
        for name in lists
    )


def _as_json(cell: list[object] | None) -> str | None:
    return None if cell is None else json.dumps(cell, ensure_ascii=False, default=str)


_WRITERS: dict[str, Callable[[pl.DataFrame, Path], None]] = {
    ".csv": lambda frame, path: flat_lists(frame).write_csv(path),
    ".tsv": lambda frame, path: flat_lists(frame).write_csv(path, separator="\t"),
    ".jsonl": lambda frame, path: frame.write_ndjson(path),
    ".parquet": lambda frame, path: frame.write_parquet(path),
    ".arrow": lambda frame, path: frame.write_ipc(path),
}


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Write a table as .csv, .tsv, .jsonl, .parquet or .arrow; an old file stays until the end.

    Raises:
        InputError: another ending, or a path that cannot be a file.
        EnvironmentProblem: the folder cannot be written or the disk is full.
    """
    check_table_name(path)
    binary = [name for name, dtype in frame.schema.items() if dtype == pl.Binary()]
    if binary and path.suffix.lower() in (".csv", ".tsv", ".jsonl"):
        raise InputError(
            f"Cannot write {str(path)!r}: {' and '.join(map(repr, binary))} holds the bytes of "
            "files, which text cannot. Leave it out, or give a name that ends in .parquet or "
            ".arrow."
        )
    _whole_or_absent(path, lambda aside: _WRITERS[path.suffix.lower()](frame, aside))


def write_text(text: str, path: Path) -> None:
    """Write a text file in UTF-8; an old file stays until the end.

    Raises:
        InputError: a path that cannot be a file.
        EnvironmentProblem: the folder cannot be written or the disk is full.
    """
    check_file_name(path)

    def write(aside: Path) -> None:
        aside.write_text(text, encoding="utf-8")

    _whole_or_absent(path, write)


def check_table_name(path: Path) -> None:
    """Refuse a name that no table can be written to, before any work is done for it.

    Raises:
        InputError: an ending that is no table's, a folder, or a part of the path that is a file.
    """
    if path.suffix.lower() not in _WRITERS:
        came = repr(path.suffix) if path.suffix else "no ending"
        raise InputError(
            f"Cannot write {str(path)!r}: the name must end in one of "
            f"{', '.join(_WRITERS)}, got {came}."
        )
    check_file_name(path)


def check_file_name(path: Path) -> None:
    """Refuse a path that is a folder, or that leads through a file.

    Raises:
        InputError: with the part of the path that is in the way.
    """
    if path.is_dir():
        raise InputError(f"Cannot write {str(path)!r}: it is a folder. Name a file in it.")
    for part in path.parents:
        if part.exists():
            if not part.is_dir():
                raise InputError(
                    f"Cannot write {str(path)!r}: {str(part)!r} is a file, not a folder."
                )
            return


def _whole_or_absent(path: Path, write: Callable[[Path], None]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=".loopline-")
        os.close(handle)
        try:
            write(Path(aside))
            os.chmod(aside, 0o644)
            os.replace(aside, path)
        finally:
            Path(aside).unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentProblem(
            f"Could not write {str(path)!r}: {error.strerror or error}. Nothing was left there."
        ) from error
