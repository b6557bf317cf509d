"""The official test file beside a source: read alike, and labels that are spelt differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from loopline.data.images import image_columns
from loopline.data.sources import Table, TableFormat, read_table
from loopline.errors import InputError
from loopline.line.prepare import check_test_columns

_EDGE = " .;,"


def column_names(given: str) -> tuple[str, ...]:
    """Names of columns: words between commas, or a file with a name a line.

    Raises:
        InputError: a name is empty or stands twice.

    >>> column_names("age, job,income")
    ('age', 'job', 'income')
    """
    place = Path(given).expanduser()
    if "," not in given and place.is_file():
        lines = place.read_text(encoding="utf-8").splitlines()
        names = [line.strip() for line in lines if line.strip()]
        if len(names) == 1:
            names = [name.strip() for name in names[0].split(",")]
    else:
        names = [name.strip() for name in given.split(",")]
    empty = [str(place) for place, name in enumerate(names, start=1) if not name]
    twice = sorted({name for name in names if names.count(name) > 1})
    if empty or not names:
        raise InputError(
            f"`--columns` needs a name for each column; number {(empty or ['1'])[0]} is empty. "
            "Give names with commas between them, or a file with one name a line."
        )
    if twice:
        raise InputError(f"`--columns` names {twice[0]!r} twice. Give each column its own name.")
    return tuple(names)


def read_pair(
    data: str,
    test: str | None,
    columns: Sequence[str] | None,
    *,
    document_bytes: int | None = None,
) -> tuple[Table, Table | None]:
    """The table, and the test table in the same types.

    Args:
        data: path, glob or URL.
        test: the official test file.
        columns: names for a file without a header row.
        document_bytes: as in `TableFormat`.

    Raises:
        DataError: the columns of the two differ.
    """
    names = tuple(columns) if columns else None
    given = TableFormat(columns=names, document_bytes=document_bytes)
    table = read_table(data, format=given)
    pictures = () if "://" in data else image_columns(table.frame, Path(data).expanduser().parent)
    if pictures and table.facts.kind != "folder":
        table = read_table(data, format=replace(given, images=tuple(pictures)))
    if test is None:
        return table, None
    other = read_table(test, format=table.format)
    check_test_columns(table, other, test)
    return table, other


def label_map(train: pl.Series, test: pl.Series) -> dict[str, str]:
    """Test labels that are training labels but for a full stop or blank at their end.

    >>> label_map(pl.Series(["no", "yes"]), pl.Series(["no.", "yes."]))
    {'no.': 'no', 'yes.': 'yes'}
    """
    if train.dtype != pl.String() or test.dtype != pl.String():
        return {}
    known = set(train.drop_nulls().unique().to_list())
    new = [label for label in test.drop_nulls().unique().sort().to_list() if label not in known]
    return {label: label.rstrip(_EDGE) for label in new if label.rstrip(_EDGE) in known}
