"""Read a table from anywhere: files, globs, compressed files, URLs, databases, frames.

`read_table` says what it found out in short sentences (`SourceFacts.notes`) and gives back the
resolved `TableFormat`, so that the next file of the same kind is read alike.
"""

from __future__ import annotations

import glob
import gzip
import sys
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import polars as pl

from loopline.data.csv_reader import read_text_table
from loopline.data.documents import DOCUMENT_BYTES, read_documents
from loopline.data.images import (
    FILE,
    IMAGE,
    SUFFIXES,
    archive_of,
    image_columns,
    read_archive,
    read_folder,
    read_images,
)
from loopline.data.overrides import near_names
from loopline.data.readers import (
    Loaded,
    finish,
    first_bytes,
    kind_of_bytes,
    read_packed,
    read_sql,
    safe_url,
)
from loopline.data.table_format import Kind, TableFormat, dtype_name
from loopline.errors import DataError, NotFoundError
from loopline.frames import as_frame
from loopline.progress import Reporter

__all__ = ["SourceFacts", "Table", "TableFormat", "read_table"]

_KIND_OF_ENDING: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".psv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".xlsx": "excel",
    ".xls": "excel",
    ".xlsb": "excel",
    ".ods": "excel",
}
_PACKED = (".gz", ".zst")
_GLOB_MARKS = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """Where a table came from and what reading it found out.

    Args:
        source: what was asked for, without a password.
        files: the files read, in order; empty for a database or a frame.
        kind: the kind of source.
        encoding: of a text table.
        num_rows: rows read.
        notes: what was detected, a short sentence each.
        problems: column to number of cells that were not of its type and became missing.
    """

    source: str
    kind: str
    num_rows: int
    files: tuple[str, ...] = ()
    encoding: str | None = None
    notes: tuple[str, ...] = ()
    problems: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        plain = asdict(self)
        plain["files"], plain["notes"] = list(self.files), list(self.notes)
        return plain


@dataclass(frozen=True, slots=True)
class Table:
    """A table in memory: its frame, where it came from, the format to read the next one with."""

    frame: pl.DataFrame
    facts: SourceFacts
    format: TableFormat


def read_table(
    source: Any,
    *,
    format: TableFormat | None = None,
    reporter: Reporter | None = None,
) -> Table:
    """Read a table into canonical types.

    Args:
        source: a path, a glob, a list of paths, an fsspec URL ("s3://…", "https://…"), a database
            URL ("postgresql://…?table=orders", "sqlite:///shop.db?table=orders"), or a frame
            (polars, pandas, Arrow, mapping of columns, list of rows).
        format: what is known of the source; everything else is detected.
        reporter: hears what was detected.

    Returns:
        The table; `Table.format` reads further files of the same kind into the same types.

    Raises:
        NotFoundError: there is no such file; near names are told.
        DataError: the source is no table, or breaks a rule; the message names file, row and column.
        EnvironmentProblem: an extra that the source needs is not installed.

    >>> table = read_table({"age": [31, 45], "paid": ["yes", "no"]})
    >>> table.frame.shape, table.facts.kind
    ((2, 2), 'frame')
    """
    fmt = format or TableFormat()
    if isinstance(source, Path) or (
        isinstance(source, Sequence)
        and not isinstance(source, str | bytes)
        and source
        and all(isinstance(entry, str | Path) for entry in source)
    ):
        table = _read_files(source, fmt)
    elif isinstance(source, str):
        table = _read_database(source, fmt) if _is_database(source) else _read_files(source, fmt)
    else:
        table = _read_frame(source, fmt)
    if reporter is not None:
        for note in table.facts.notes:
            reporter.note(note)
    return table


# ---- frames and databases -----------------------------------------------------------------------


def _read_frame(source: Any, fmt: TableFormat) -> Table:
    frame = as_frame(source)
    if frame.is_empty():
        raise DataError("The frame has no rows.")
    told = f"{type(source).__module__.partition('.')[0]} {type(source).__name__}"
    return _table(
        finish(frame, "the frame", replace(fmt, kind="frame"), written_dates=False), told, ()
    )


def _is_database(source: str) -> bool:
    scheme = source.partition("://")[0]
    return "://" in source and scheme.partition("+")[0] in {
        *("sqlite", "postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle", "duckdb"),
        *("snowflake", "bigquery", "redshift", "trino", "cockroachdb", "clickhouse", "databricks"),
    }


def _read_database(url: str, fmt: TableFormat) -> Table:
    return _table(read_sql(url, fmt), safe_url(url), ())


def _table(loaded: Loaded, source: str, files: Sequence[str]) -> Table:
    fmt = loaded.format
    if not fmt.dtypes:
        named = {name: dtype_name(dtype) for name, dtype in loaded.frame.schema.items()}
        fmt = replace(fmt, dtypes={name: told for name, told in named.items() if told is not None})
    facts = SourceFacts(
        source=source,
        kind=fmt.kind or "frame",
        num_rows=loaded.frame.height,
        files=tuple(files),
        encoding=fmt.encoding,
        notes=tuple(loaded.notes),
        problems=dict(loaded.problems),
    )
    return Table(loaded.frame, facts, fmt)


# ---- files --------------------------------------------------------------------------------------


def _read_files(source: str | Path | Sequence[str | Path], fmt: TableFormat) -> Table:
    asked = [source] if isinstance(source, str | Path) else list(source)
    names: list[str] = []
    for entry in asked:
        name = str(entry)
        names.extend(_expand(name if "://" in name else str(Path(name).expanduser())))
    loaded = [_read_one(name, fmt) for name in names]
    told = ", ".join(str(entry) for entry in asked[:3]) + (" …" if len(asked) > 3 else "")
    return _table(_joined(loaded, names), told, names)


def _expand(name: str) -> list[str]:
    if "://" in name:
        if not _GLOB_MARKS & set(name.partition("://")[2].partition("?")[0]):
            return [name]
        scheme = name.partition("://")[0]
        system, path = fsspec.core.url_to_fs(name)
        found = [f"{scheme}://{entry}" for entry in sorted(system.glob(path))]
    elif Path(name).exists() or not _GLOB_MARKS & set(name):
        return [name]
    else:
        found = sorted(glob.glob(name, recursive=True))
    if not found:
        raise NotFoundError(f"No file fits {name!r}.")
    return found


def _read_one(name: str, fmt: TableFormat) -> Loaded:
    if "://" in name:
        return _read_remote(name, fmt)
    path = Path(name)
    packed = archive_of(path) if fmt.kind in (None, "folder") else None
    if packed is not None:
        frame, notes = read_archive(*packed, *(fmt.images or ())[:1])
        return Loaded(frame, replace(fmt, kind="folder"), notes)
    if path.is_dir() and fmt.kind in (None, "folder"):
        return _read_image_folder(path, fmt)
    _check_file(path)
    if path.suffix.lower() in SUFFIXES and fmt.kind in (None, "folder"):
        return _read_image_file(path, fmt)
    return _with_images(_read_local(path, path.name, fmt), path.parent, path.name, fmt)


def _read_remote(url: str, fmt: TableFormat) -> Loaded:
    told = safe_url(url)
    with tempfile.TemporaryDirectory(prefix="loopline-") as folder:
        target = Path(folder) / (PurePosixPath(url.partition("?")[0]).name or "table")
        try:
            system, path = fsspec.core.url_to_fs(url)
            system.get_file(path, str(target))
        except FileNotFoundError:
            raise NotFoundError(f"There is no file {told!r}.") from None
        except _fetch_errors() as error:
            raise DataError(
                f"{told!r} cannot be fetched: {type(error).__name__}: {error}"
            ) from None
        loaded = _read_local(target, told, fmt)
        return _with_images(loaded, None, told, fmt)


def _fetch_errors() -> tuple[type[Exception], ...]:
    """What fetching may raise; S3's client has errors of its own, such as missing credentials."""
    known: tuple[type[Exception], ...] = (OSError, ValueError, ImportError)
    client = sys.modules.get("botocore.exceptions")
    return known if client is None else (*known, client.BotoCoreError)


def _check_file(path: Path) -> None:
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir() if entry.is_file())
        told = ", ".join(names[:8]) + (" …" if len(names) > 8 else "") if names else "no files"
        raise DataError(
            f"{str(path)!r} is a folder (it holds {told}); name a file, or a glob such as "
            f"{str(path / '*.csv')!r}."
        )
    if not path.exists():
        parent = path.parent if path.parent.is_dir() else None
        if parent is None:
            raise NotFoundError(f"There is no file {str(path)!r}; its folder is not there either.")
        names = sorted(entry.name for entry in parent.iterdir() if entry.is_file())
        near = near_names(path.name, names).replace("the table has", "its folder has")
        raise NotFoundError(f"There is no file {str(path)!r}{near if names else '.'}")
    if path.stat().st_size == 0 and path.is_file():
        raise DataError(f"{path.name} is empty (0 bytes).")


def _read_local(path: Path, name: str, fmt: TableFormat) -> Loaded:
    endings = [ending.lower() for ending in path.suffixes]
    packed = endings[-1] if endings and endings[-1] in _PACKED else None
    source: Path | bytes = path
    if packed or first_bytes(path, 2) == b"\x1f\x8b":
        source = _unpacked(path, name, packed or ".gz")
    ending = next((end for end in reversed(endings) if end not in _PACKED), "")
    kind = fmt.kind or _KIND_OF_ENDING.get(ending)
    if kind is None and fmt.document_bytes is not None:
        kind = "text"
    if kind == "text":
        return _read_text(source, name, fmt)
    if kind is None:
        kind = kind_of_bytes(first_bytes(source, 4096))
    if kind == "csv":
        if fmt.delimiter is None and ending in (".tsv", ".tab"):
            fmt = replace(fmt, delimiter="\t")
        read = read_text_table(source, name, fmt)
        return Loaded(read.frame, read.format, read.notes, read.problems)
    return read_packed(kind, source, name, fmt)


def _read_text(source: Path | bytes, name: str, fmt: TableFormat) -> Loaded:
    size = fmt.document_bytes or DOCUMENT_BYTES
    frame, notes, encoding = read_documents(source, name, size=size, encoding=fmt.encoding)
    return Loaded(frame, replace(fmt, kind="text", document_bytes=size, encoding=encoding), notes)


def _read_image_folder(folder: Path, fmt: TableFormat) -> Loaded:
    frame, notes = read_folder(folder, *(fmt.images or ())[:1])
    return Loaded(frame, replace(fmt, kind="folder"), notes)


def _read_image_file(path: Path, fmt: TableFormat) -> Loaded:
    cells = {(fmt.images or (IMAGE,))[0]: [path.read_bytes()], FILE: [path.name]}
    return Loaded(pl.DataFrame(cells), replace(fmt, kind="folder"))


def _with_images(loaded: Loaded, folder: Path | None, name: str, fmt: TableFormat) -> Loaded:
    """The table with its columns of paths read as images, where the format names them."""
    frame = loaded.frame
    if fmt.images is None:
        here = [] if folder is None else image_columns(frame, folder)
        told = [
            f"{column!r} names images that lie beside the table; they are read with "
            f"`images: [{column}]` under `data.format`"
            for column in here
        ]
        return replace(loaded, notes=[*loaded.notes, *told])
    for column in fmt.images:
        if column not in frame.columns:
            near = near_names(column, frame.columns)
            raise DataError(f"{name} has no column {column!r} of images{near}")
        if frame[column].dtype == pl.Binary():
            continue
        if folder is None:
            raise DataError(
                f"{name}: the images that column {column!r} names can be read only beside a local "
                "file. Bring table and images to this machine, or give a column of bytes."
            )
        frame = frame.with_columns(read_images(frame[column], folder, name))
    return replace(loaded, frame=frame)


def _unpacked(path: Path, name: str, ending: str) -> bytes:
    if ending == ".zst":
        try:
            lines = pl.read_lines(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{name} cannot be unpacked: {str(error).splitlines()[0]}") from None
        return "\n".join(lines.to_series().to_list()).encode() + b"\n"
    try:
        with gzip.open(path, "rb") as file:
            return file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name} cannot be unpacked: {error}") from None


# ---- several files ------------------------------------------------------------------------------


def _joined(loaded: Sequence[Loaded], names: Sequence[str]) -> Loaded:
    first = loaded[0]
    if len(loaded) == 1:
        return first
    schema: dict[str, pl.DataType] = dict(first.frame.schema)
    for part, name in zip(loaded[1:], names[1:], strict=True):
        _join_schema(schema, part.frame, names[0], name)
    frame = pl.concat([part.frame.cast(pl.Schema(schema)) for part in loaded])
    notes: dict[str, None] = {}
    problems: dict[str, int] = {}
    for part, name in zip(loaded, names, strict=True):
        notes.update(dict.fromkeys(f"{Path(name).name}: {note}" for note in part.notes))
        for column, count in part.problems.items():
            problems[column] = problems.get(column, 0) + count
    told = {column: dtype_name(dtype) for column, dtype in schema.items()}
    dates = {column: written for part in loaded for column, written in part.format.dates.items()}
    units = {column: unit for part in loaded for column, unit in part.format.units.items()}
    fmt = replace(
        first.format,
        dtypes={column: word for column, word in told.items() if word is not None},
        dates=dates,
        units=units,
    )
    return Loaded(frame, fmt, tuple(notes), problems)


def _join_schema(
    schema: dict[str, pl.DataType], frame: pl.DataFrame, first: str, name: str
) -> None:
    """Widen `schema` to hold `frame` too, or say how the two files differ."""
    present = set(frame.columns)
    missing = [column for column in schema if column not in present]
    extra = [column for column in frame.columns if column not in schema]
    if missing or extra:
        parts = []
        if missing:
            parts.append(f"lacks {', '.join(map(repr, missing[:5]))}")
        if extra:
            parts.append(f"has {', '.join(map(repr, extra[:5]))} besides")
        raise DataError(
            f"All files must have the same columns; {name!r} differs from {first!r}: it "
            f"{' and '.join(parts)}."
        )
    if list(schema) != frame.columns:
        raise DataError(
            f"All files must have their columns in the same order; {name!r} differs from {first!r}."
        )
    for column, dtype in frame.schema.items():
        known = schema[column]
        if dtype == known or frame[column].null_count() == frame.height:
            continue
        if {dtype, known} == {pl.Int64(), pl.Float64()}:
            schema[column] = pl.Float64()
            continue
        raise DataError(
            f"All files must have the same types; column {column!r} is "
            f"{dtype_name(known) or known} in {first!r} and {dtype_name(dtype) or dtype} in "
            f"{name!r}. Say its type in `dtypes`."
        )
