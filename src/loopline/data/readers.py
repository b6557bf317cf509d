"""Readers of all that is not delimited text: JSON lines, Parquet, Arrow, workbooks, databases.

These formats carry their types; what they say is kept, in canonical types. Dates that JSON or
SQLite can only write as text are read as dates when every cell is one.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import polars as pl

from loopline.data.cells import CellRules, read_cells
from loopline.data.overrides import near_names
from loopline.data.table_format import UNREADABLE_ADVICE, Kind, TableFormat, dtype_of
from loopline.data.units import find_unit, units_of
from loopline.errors import DataError, EnvironmentProblem
from loopline.frames import as_frame, canonical, refuse_repeated
from loopline.words import counted

_ROWS_A_FETCH = 50_000
_DATE_HEAD = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d|$)")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A frame on its way to a `Table`."""

    frame: pl.DataFrame
    format: TableFormat
    notes: Sequence[str] = ()
    problems: Mapping[str, int] = field(default_factory=dict)


def kind_of_bytes(head: bytes) -> Kind:
    """The kind of a file by its first bytes; delimited text when nothing else is recognised.

    >>> kind_of_bytes(b"PAR1..."), kind_of_bytes(b'{"a": 1}'), kind_of_bytes(b"a,b")
    ('parquet', 'jsonl', 'csv')
    """
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        return "excel"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b'{"') or text.startswith(b"{ "):
        return "jsonl"
    if text.startswith((b"[{", b"[ {", b"[\n")):
        return "json"
    return "csv"


def first_bytes(source: Path | bytes, count: int) -> bytes:
    """The first bytes of a file, or of its content when that is in memory already."""
    if isinstance(source, bytes):
        return source[:count]
    with source.open("rb") as file:
        return file.read(count)


def read_packed(kind: Kind, source: Path | bytes, name: str, fmt: TableFormat) -> Loaded:
    """Read one file of a kind that carries its types.

    Raises:
        DataError: the file cannot be read as that kind, or has no rows.
        EnvironmentProblem: the kind needs an extra that is not installed.
    """
    readers: dict[str, Callable[[Path | bytes, str, TableFormat], pl.DataFrame]] = {
        "jsonl": _read_jsonl,
        "json": _read_json,
        "parquet": _read_parquet,
        "arrow": _read_arrow,
        "excel": _read_excel,
    }
    if kind not in readers:
        raise DataError(f"{name}: a file cannot be of kind {kind!r}.")
    try:
        frame = readers[kind](source, name, fmt)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        lines = str(error).strip().splitlines()
        raise DataError(
            f"{name} cannot be read as {kind}: {lines[0] if lines else type(error).__name__}. Is "
            "it whole, and of that kind? Give `kind` if its ending misleads."
        ) from None
    return finish(frame, name, replace(fmt, kind=kind), written_dates=kind in ("jsonl", "json"))


def finish(frame: pl.DataFrame, name: str, fmt: TableFormat, *, written_dates: bool) -> Loaded:
    """Canonical types, dates from text where asked for, and the types that the format gives."""
    if not frame.width:
        raise DataError(f"{name} has no columns.")
    if frame.is_empty():
        raise DataError(f"{name} has no rows.")
    frame = canonical(frame)
    notes, problems = [], {}
    dates, units = dict(fmt.dates), dict(fmt.units)
    rules = CellRules(missing=fmt.missing or ())
    changed = []
    for series in frame.get_columns():
        wanted = dtype_of(fmt.dtypes[series.name]) if series.name in fmt.dtypes else None
        if wanted is not None and wanted != series.dtype:
            recast, count = _recast(series, wanted, rules, name, fmt)
            if count:
                problems[series.name] = count
                notes.append(
                    f"{count:,} cells of {series.name!r} are not {fmt.dtypes[series.name]} "
                    "and read as missing"
                )
            changed.append(recast)
        elif wanted is None and (unit := _unit_of(series)) is not None:
            read = read_cells(series, rules, unit=unit)
            changed.append(read.series)
            units[series.name] = unit
            notes.extend(read.notes)
        elif (
            wanted is None
            and series.dtype == pl.String()
            and (written_dates or series.name in dates)
        ):
            first = series.drop_nulls().head(1)
            if series.name in dates or (len(first) and _DATE_HEAD.match(first[0])):
                read = read_cells(series, rules, date_format=dates.get(series.name))
                if read.date_format:
                    dates[series.name] = read.date_format
                    changed.append(read.series)
    if changed:
        frame = frame.with_columns(changed)
    return Loaded(frame, replace(fmt, dates=dates, units=units), notes, problems)


def _unit_of(series: pl.Series) -> str | None:
    """How amounts are written in a text column whose every cell is one, such as "$5"."""
    if series.dtype != pl.String() or units_of(series.drop_nulls().head(100)) is None:
        return None
    return find_unit(series.str.strip_chars())


def _recast(
    series: pl.Series, wanted: pl.DataType, rules: CellRules, name: str, fmt: TableFormat
) -> tuple[pl.Series, int]:
    if series.dtype == pl.String():
        read = read_cells(
            series,
            rules,
            dtype=wanted,
            date_format=fmt.dates.get(series.name),
            unit=fmt.units.get(series.name),
        ).series
    elif wanted == pl.Int64() and series.dtype.is_float():
        # Whole numbers may become fractions in a later file.
        whole = (series == series.round(0)).fill_null(value=True).all()
        read = series.cast(wanted, strict=False) if whole else series
    else:
        read = series.cast(wanted, strict=False)
    lost = read.is_null() & series.is_not_null()
    count = int(lost.sum())
    if count and fmt.unreadable == "refuse":
        row = int(lost.arg_true()[0])
        raise DataError(
            f"{name}: {counted(count, 'cell')} of column {series.name!r} cannot be read as "
            f"{fmt.dtypes[series.name]}; the first is {series[row]!r:.60} in data row {row + 1:,}. "
            f"{UNREADABLE_ADVICE}"
        )
    return read, count


def _open(source: Path | bytes) -> Path | io.BytesIO:
    return source if isinstance(source, Path) else io.BytesIO(source)


def _read_jsonl(source: Path | bytes, name: str, fmt: TableFormat) -> pl.DataFrame:
    del name, fmt
    return pl.read_ndjson(_open(source), infer_schema_length=None)


def _read_json(source: Path | bytes, name: str, fmt: TableFormat) -> pl.DataFrame:
    del name, fmt
    return pl.read_json(_open(source), infer_schema_length=None)


def _read_parquet(source: Path | bytes, name: str, fmt: TableFormat) -> pl.DataFrame:
    del name, fmt
    return pl.read_parquet(_open(source), glob=False)


def _read_arrow(source: Path | bytes, name: str, fmt: TableFormat) -> pl.DataFrame:
    del name, fmt
    if first_bytes(source, 6) == b"ARROW1":
        return pl.read_ipc(_open(source))
    return pl.read_ipc_stream(_open(source))


def _read_excel(source: Path | bytes, name: str, fmt: TableFormat) -> pl.DataFrame:
    try:
        import fastexcel
    except ImportError:
        raise EnvironmentProblem(
            f"{name} is a workbook; reading one needs an extra: pip install 'loopline[excel]'."
        ) from None
    try:
        book = fastexcel.read_excel(source)
        sheets = list(book.sheet_names)
        sheet = fmt.sheet or _only_sheet(book, sheets, name)
        if sheet not in sheets:
            near = near_names(sheet, sheets).replace("the table has", "the workbook has")
            raise DataError(f"{name} has no sheet {sheet!r}{near}")
        loaded = book.load_sheet(
            sheet, header_row=None if fmt.header is False else 0, skip_rows=fmt.skip_rows or None
        )
        frame: pl.DataFrame = loaded.to_polars()
    except fastexcel.FastExcelError as error:
        raise DataError(
            f"{name} cannot be read as a workbook: {str(error).splitlines()[0]}"
        ) from None
    return frame


def _only_sheet(book: Any, sheets: Sequence[str], name: str) -> str:
    filled = [sheet for sheet in sheets if book.load_sheet(sheet, n_rows=1).height]
    if len(filled) > 1:
        told = ", ".join(repr(sheet) for sheet in filled[:8])
        raise DataError(
            f"{name} has {len(filled)} sheets with cells ({told}); give one as `sheet`."
        )
    return filled[0] if filled else sheets[0]


# ---- databases ----------------------------------------------------------------------------------


def safe_url(url: str) -> str:
    """The URL without its password and without the values of its options.

    >>> safe_url("postgresql://ann:secret@db/shop?table=t&password=x")
    'postgresql://ann:***@db/shop?table=t&password=***'
    """
    parts = urlsplit(url)
    place = parts.netloc
    if "@" in place:
        user, _, host = place.rpartition("@")
        place = f"{user.partition(':')[0]}{':***' if ':' in user else ''}@{host}"
    options = [
        (key, value if key in ("table", "schema") else "***")
        for key, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    query = urlencode(options, safe="*")
    start = url.partition("://")[0]
    # urlunsplit folds "sqlite:///x" to one slash when there is no host.
    body = urlunsplit(("", "", parts.path, query, ""))
    return f"{start}://{place}{body}"


def read_sql(url: str, fmt: TableFormat) -> Loaded:
    """Read a table or a query from any database that SQLAlchemy knows.

    The table's name stands in the URL (`?table=…`, with `&schema=…` where it is not the default
    one) or in `fmt.table`; a query in `fmt.query`.

    Raises:
        DataError: the database refuses, or there is no such table; never with the password.
        EnvironmentProblem: the database's driver is not installed.
    """
    import sqlalchemy as sa

    told = safe_url(url)
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise DataError(f"{told} is no database URL.") from None
    options = dict(parsed.query)
    table = options.pop("table", None) or fmt.table
    schema = options.pop("schema", None)
    if bool(table) == bool(fmt.query):
        raise DataError(f"{told}: give either `?table=…` in the URL or a `query` in the format.")
    if parsed.drivername.startswith("sqlite") and parsed.database:
        _check_sqlite(parsed.database)
    try:
        engine = sa.create_engine(parsed.set(query=options))
    except (sa.exc.ArgumentError, ImportError) as error:
        if isinstance(error, ImportError):
            raise EnvironmentProblem(
                f"{told} needs a database driver that is not installed ({error.name})."
            ) from None
        raise DataError(f"{told} is no database that is known here.") from None
    try:
        with engine.connect() as connection:
            statement = (
                sa.text(fmt.query) if fmt.query else _select(connection, str(table), schema, told)
            )
            result = connection.execution_options(stream_results=True).execute(statement)
            frame = _fetch(result)
    except sa.exc.SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        secret = parsed.password
        reason = reason.replace(secret, "***") if secret else reason
        raise DataError(f"{told} cannot be read: {reason}") from None
    finally:
        engine.dispose()
    return finish(frame, told, replace(fmt, kind="sql"), written_dates=True)


def _check_sqlite(database: str) -> None:
    # SQLite makes an empty database of any name: a mistyped path would say "no such table".
    if database != ":memory:" and not Path(database).exists():
        raise DataError(f"There is no SQLite file {database!r}.")


def _select(connection: Any, table: str, schema: Any, told: str) -> Any:
    import sqlalchemy as sa

    names = [
        *sa.inspect(connection).get_table_names(schema),
        *sa.inspect(connection).get_view_names(schema),
    ]
    if table not in names:
        near = near_names(table, names).replace("the table has", "the database has")
        raise DataError(f"{told} has no table {table!r}{near if names else '; it has none.'}")
    return sa.select(sa.Table(table, sa.MetaData(), schema=schema, autoload_with=connection))


def _fetch(result: Any) -> pl.DataFrame:
    names = [str(name) for name in result.keys()]  # noqa: SIM118 - a Result is no mapping
    refuse_repeated(names)
    columns: list[list[Any]] = [[] for _ in names]
    for rows in result.partitions(_ROWS_A_FETCH):
        for cells, column in zip(zip(*rows, strict=True), columns, strict=True):
            column.extend(cells)
    if not columns or not columns[0]:
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    return as_frame({name: _cells(column) for name, column in zip(names, columns, strict=True)})


def _cells(column: list[Any]) -> list[Any]:
    kinds = {type(cell) for cell in column if cell is not None}
    if len(kinds) > 1 and str in kinds:
        # SQLite lets one column hold both numbers and text; as text nothing is lost.
        return [None if cell is None else str(cell) for cell in column]
    return column
