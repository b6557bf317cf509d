"""Where a line's rows come from: paths, environment variables, and digests that are cheap to ask.

A run that finds itself done asks for nothing else, so whatever reads tables is imported only where
a table is read.
"""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopline.errors import NotFoundError, SettingsError
from loopline.line.context import LineContext
from loopline.store.filecache import files_digest, source_digest

if TYPE_CHECKING:
    import polars as pl

    from loopline.data.sources import TableFormat

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def source_key(context: LineContext, frame: pl.DataFrame | None) -> dict[str, Any]:
    """Content digests of the sources, cheap to ask for again; the start of every stage key."""
    spec = context.spec
    if frame is not None:
        from loopline.data.fingerprint import table_digest

        return {"frame": table_digest(frame)}
    key: dict[str, Any] = {}
    for role, source in (("source", spec.data.source), ("test", spec.data.test)):
        if source is None:
            continue
        place = locate(context, source)
        if "://" in place:
            from loopline.data.fingerprint import table_digest
            from loopline.data.sources import read_table

            table = read_table(place, format=table_format(context))
            key[role] = table_digest(table.frame)
        elif (packed := _archive(place)) is not None:
            key[role] = [source_digest(context.store, packed[0]), packed[1]]
        elif Path(place).is_dir():
            key[role] = _folder_key(context, Path(place))
        else:
            files = _files(place)
            key[role] = [source_digest(context.store, file) for file in files]
            if spec.data.format.images:
                key[f"{role}.images"] = [_images_key(context, Path(file)) for file in files]
    return key


def _archive(place: str) -> tuple[str, str] | None:
    """The ZIP file of images that a source names, and the folder in it."""
    if ".zip" not in place.lower():
        return None
    from loopline.data.images import archive_of

    found = archive_of(Path(place))
    return None if found is None else (str(found[0]), found[1])


def _folder_key(context: LineContext, folder: Path) -> str:
    from loopline.data.images import folder_files, read_folder

    files = folder_files(folder)
    if not files:
        read_folder(folder)  # tells what the folder holds
    return files_digest(context.store, folder, files)


def _images_key(context: LineContext, table: Path) -> str:
    """Digest of the images that a table names: they may change while the table does not."""
    from dataclasses import replace

    from loopline.data.images import located, names_images
    from loopline.data.sources import TableFormat, read_table

    plain = replace(table_format(context) or TableFormat(), images=None)
    frame = read_table(table, format=plain).frame
    columns = context.spec.data.format.images or ()
    places = [
        place
        for name in columns
        if name in frame.columns and names_images(frame[name])
        for place in located(frame[name], table.parent, table.name)
    ]
    return files_digest(context.store, table.parent, [place for place in places if place])


def _files(place: str) -> list[str]:
    """The local files that a source names, at least one."""
    path = Path(place)
    found = [place] if path.is_file() else sorted(glob.glob(place, recursive=True))
    files = [file for file in found if Path(file).is_file()]
    if not files:
        from loopline.data.sources import read_table

        read_table(place)  # tells what is wrong, and which names are near
        raise NotFoundError(f"There is no file {place!r}.")
    return files


def locate(context: LineContext, source: str) -> str:
    """The source with `${NAME}` filled from the environment, relative to the settings' folder."""
    source = _VARIABLE.sub(_from_environment, source)
    if "://" in source:
        return source
    return str(context.folder / Path(source).expanduser())


def _from_environment(match: re.Match[str]) -> str:
    value = os.environ.get(match[1])
    if value is None:
        raise SettingsError(
            [
                f"`data.source` uses the environment variable {match[1]}, which is not set. "
                f"Set it ({match[1]}=…), or write the path itself."
            ]
        )
    return value


def table_format(context: LineContext) -> TableFormat | None:
    """The reading format that the settings give, None when they give none."""
    from loopline.data.sources import TableFormat

    given = context.spec.data.format.model_dump(exclude_none=True)
    if context.spec.task == "language":  # a file that says nothing else is plain text
        from loopline.data.documents import DOCUMENT_BYTES

        given.setdefault("document_bytes", DOCUMENT_BYTES)
    return TableFormat.from_dict(given) if given else None
