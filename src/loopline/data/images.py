"""Images in tables: a column of bytes, read from a folder or from a column of paths.

A table holds the bytes of image files as they lie on disk, so digests cover what they show and a
snapshot needs nothing beside it. They are decoded only where pixels are needed.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl

from loopline.errors import DataError
from loopline.words import counted

SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Endings of the files that count as images, in any case."""
IMAGE, LABEL, FILE = "image", "label", "file"
"""The columns of a folder: the files' bytes, the subfolder's name, the file's name inside it."""
_SIDES = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev"})
_SHOWN = 5
_LARGEST_BYTES = 1 << 28
"""An entry of an archive that claims more is not unpacked."""


def begins_like_an_image(content: bytes) -> bool:
    """Whether bytes start as an image file of a common format does.

    >>> begins_like_an_image(b"GIF89a..."), begins_like_an_image(b"no image")
    (True, False)
    """
    starts = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"P5", b"P6")
    return content.startswith(starts) or content[8:12] == b"WEBP"


def holds_images(values: pl.Series) -> bool:
    """Whether most of the first cells of a column of bytes start as image files do.

    >>> holds_images(pl.Series([b"GIF89a", None, b"GIF89a"]))
    True
    """
    if values.dtype != pl.Binary():
        return False
    known = values.drop_nulls().head(20).to_list()
    return bool(known) and sum(map(begins_like_an_image, known)) * 2 > len(known)


def names_images(values: pl.Series) -> bool:
    """Whether the first cells of a column of words all end as the names of image files do.

    >>> names_images(pl.Series(["a/1.png", "a/2.PNG", None]))
    True
    """
    if values.dtype != pl.String():
        return False
    paths = values.drop_nulls().head(100).to_list()
    return bool(paths) and all(path.lower().endswith(SUFFIXES) for path in paths)


def image_columns(frame: pl.DataFrame, folder: Path) -> list[str]:
    """Columns that name images, the first of which lies where its path says.

    Args:
        frame: the table.
        folder: where relative paths start.
    """
    found = []
    for name, dtype in frame.schema.items():
        if dtype == pl.String() and names_images(frame[name]):
            first = frame[name].drop_nulls()[0]
            inside = _inside(first, Path(os.path.abspath(folder)))
            if inside is not None and inside.is_file():
                found.append(name)
    return found


def located(paths: pl.Series, folder: Path, table: str) -> list[Path | None]:
    """Where the files of a column of paths lie; None for missing cells.

    Args:
        paths: relative to `folder`, or absolute and inside it.
        folder: the data's folder: the one that the table lies in.
        table: the table's name, for messages.

    Raises:
        DataError: the column holds no text, or a path is not there or leaves the folder; the row
            and the path are told.
    """
    if paths.dtype != pl.String():
        raise DataError(
            f"{table}: column {paths.name!r} is to hold paths of images or their bytes, but its "
            f"cells are {paths.dtype}."
        )
    root = Path(os.path.abspath(folder))
    found: list[Path | None] = []
    outside: list[int] = []
    for row, path in enumerate(paths):
        place = None if path is None else _inside(path, root)
        if path is not None and place is None:
            outside.append(row)
        found.append(place)
    if outside:
        raise DataError(
            f"{table}: {counted(len(outside), 'path')} of column {paths.name!r} leave the folder "
            f"of the data ({root}): {_listed(paths, outside)}. Images are read from that folder "
            "only; bring them there."
        )
    gone = [row for row, place in enumerate(found) if place is not None and not place.is_file()]
    if gone:
        raise DataError(
            f"{table}: {counted(len(gone), 'path')} of column {paths.name!r} name no file in "
            f"{root}: {_listed(paths, gone)}. Correct the paths (they start at the table's "
            "folder), or leave those rows out."
        )
    return found


def read_images(paths: pl.Series, folder: Path, table: str) -> pl.Series:
    """A column of paths as the bytes of the files that they name.

    Args:
        paths: as for `located`.
        folder: as for `located`.
        table: as for `located`.

    Raises:
        DataError: as `located`, or a file cannot be read.
    """
    return pl.Series(paths.name, _contents(located(paths, folder, table)), dtype=pl.Binary)


def folder_files(folder: Path) -> list[Path]:
    """The images of a folder and its subfolders, in the order of their paths."""
    return [path for path in _files(folder) if path.suffix.lower() in SUFFIXES]


def read_folder(folder: Path, column: str = IMAGE) -> tuple[pl.DataFrame, list[str]]:
    """A folder of images as a table: bytes, the subfolder's name as label, the file's name.

    The rows stand in the order of the files' names, whatever their subfolder, so that neither order
    nor name tells the label.

    Args:
        folder: with one subfolder a class, or with images only.
        column: name of the column of bytes.

    Returns:
        The table, without a label column when the folder has no subfolders; what a person should
        know of it.

    Raises:
        DataError: there is no image, images lie both in the folder and in subfolders, or the
            subfolders are sides of a split rather than classes.
    """
    names = [path.relative_to(folder).as_posix() for path in _files(folder)]
    return _as_table(
        folder, names, lambda found: _contents([folder / name for name in found]), column
    )


def archive_of(place: Path) -> tuple[Path, str] | None:
    """The ZIP file that a place names, and the folder inside it; None when it names no such file.

    >>> archive_of(Path("pictures/train")) is None
    True
    """
    for archive in (place, *place.parents):
        if archive.suffix.lower() == ".zip" and archive.is_file():
            return archive, place.relative_to(archive).as_posix().removeprefix(".")
    return None


def read_archive(archive: Path, inside: str, column: str = IMAGE) -> tuple[pl.DataFrame, list[str]]:
    """A ZIP file of images as a table, like a folder; nothing is unpacked to the disk.

    Args:
        archive: the file.
        inside: a folder in it; empty for all of it.
        column: name of the column of bytes.

    Raises:
        DataError: as `read_folder`, or the archive is damaged, or claims too much.
    """
    head = f"{inside}/" if inside else ""
    try:
        with zipfile.ZipFile(archive) as file:
            entries = {
                entry.filename.removeprefix(head): entry
                for entry in file.infolist()
                if entry.filename.startswith(head) and not entry.is_dir()
            }
            large = [entry for entry in entries.values() if entry.file_size > _LARGEST_BYTES]
            if large:
                raise DataError(
                    f"{archive}: {large[0].filename!r} claims {large[0].file_size:,} bytes; an "
                    f"image has at most {_LARGEST_BYTES:,}."
                )
            return _as_table(
                archive / inside,
                sorted(entries),
                lambda found: [file.read(entries[name]) for name in found],
                column,
            )
    except (zipfile.BadZipFile, OSError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{archive} cannot be read as a ZIP file: {error}.") from error


def _as_table(
    folder: Path, names: Sequence[str], read: Callable[[list[str]], Sequence[Any]], column: str
) -> tuple[pl.DataFrame, list[str]]:
    """The table of the images among some file names, which are relative to a folder."""
    images = [name for name in names if name.lower().endswith(SUFFIXES)]
    if not images:
        told = ", ".join(names[:8]) + (" …" if len(names) > 8 else "") if names else "no files"
        raise DataError(
            f"{str(folder)!r} is a folder (it holds {told}) without images, whose names end with "
            f"{', '.join(SUFFIXES)}. Name a file, a glob such as {str(folder / '*.csv')!r}, or a "
            "folder of images."
        )
    flat = sum("/" not in name for name in images)
    if flat and flat < len(images):
        raise DataError(
            f"{str(folder)!r} has {flat:,} images beside its subfolders and "
            f"{len(images) - flat:,} in them. A folder of images has one subfolder a class, or "
            "images only; move the others away."
        )
    parts = sorted(("", name) if flat else tuple(name.split("/", 1))[::-1] for name in images)
    if flat:
        parts = [(name, "") for _, name in parts]
    classes = sorted({label for _, label in parts})
    if not flat and set(map(str.lower, classes)) <= _SIDES:
        raise DataError(
            f"The subfolders of {str(folder)!r} ({', '.join(classes)}) are sides of a split, not "
            f"classes. Give {str(folder / classes[-1])!r} as the data, and the folder of the test "
            "images as the test (`test` under `data`, or --test)."
        )
    found = read([name if flat else f"{label}/{name}" for name, label in parts])
    columns = {column: pl.Series(found, dtype=pl.Binary)}
    notes = [f"{counted(len(images), 'image')} in a folder"]
    if not flat:
        columns[LABEL] = pl.Series([label for _, label in parts])
        notes = [f"{counted(len(images), 'image')} in {counted(len(classes), 'subfolder')}"]
    columns[FILE] = pl.Series([name for name, _ in parts])
    others = [name for name in names if not name.lower().endswith(SUFFIXES)]
    if others:
        kinds = Counter(Path(name).suffix.lower() or Path(name).name for name in others)
        told = ", ".join(kind for kind, _ in kinds.most_common(3))
        notes.append(f"passed over what is no image: {counted(len(others), 'file')} ({told})")
    return pl.DataFrame(columns), notes


def _inside(path: str, root: Path) -> Path | None:
    """The file that a path names, if its path stays inside the folder."""
    whole = Path(os.path.normpath(root / path.replace("\\", "/")))
    return whole if whole != root and whole.is_relative_to(root) else None


def _files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for place, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found += [Path(place) / name for name in sorted(names) if not name.startswith(".")]
    return sorted(found)


def _listed(paths: pl.Series, rows: Sequence[int]) -> str:
    shown = ", ".join(f"row {row + 1:,}: {paths[row]!r}" for row in rows[:_SHOWN])
    return shown + (", …" if len(rows) > _SHOWN else "")


def _contents(files: Sequence[Path | None]) -> list[bytes | None]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(_content, files))


def _content(file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from error
