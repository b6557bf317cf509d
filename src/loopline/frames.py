"""Tables in memory: anything table-like becomes one kind of polars frame with a few plain types.

Every later stage sees `Int64` (or `UInt64` for what is larger), `Float64`, `Boolean`, `String`,
`Date`, `Datetime("us")` with or without a time zone, `Time` and `Duration("us")`; lists, structs
and binary columns are kept as they are. So a column means the same whether it came from pandas,
Arrow or a file.

A NaN in a number column is a missing cell and becomes null: pandas writes the one for the other,
and two spellings of "missing" would give one row two digests. Infinities are values and stay.

pandas and pyarrow are never imported here: an object is recognised by the module of its type, and
whoever holds such an object has its library loaded already.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from polars import selectors as cs

from loopline.errors import DataError


def as_frame(obj: Any) -> pl.DataFrame:
    """The polars frame of any table-like object, in canonical types.

    Args:
        obj: a polars `DataFrame` or `LazyFrame`, a pandas `DataFrame` (its index is dropped
            unless it has a name, then it becomes a column), an Arrow `Table` or `RecordBatch`, a
            mapping of column name to values, or a sequence of mappings (rows).

    Returns:
        A frame that shares memory with `obj` where the types allow it; `obj` is never changed.

    Raises:
        DataError: the object is no table, has no column, names a column twice, or a column mixes
            types that no single type holds.

    >>> as_frame({"a": [1, 2], "b": [0.5, float("nan")]}).rows()
    [(1, 0.5), (2, None)]
    >>> as_frame([{"a": 1}, {"a": None, "b": "x"}]).rows()
    [(1, None), (None, 'x')]
    """
    return canonical(_to_polars(obj))


def canonical(frame: pl.DataFrame) -> pl.DataFrame:
    """The same table in canonical types; columns that have them already are not copied.

    Raises:
        DataError: a column of Python objects, which no file could hold.
    """
    casts = []
    for name, dtype in frame.schema.items():
        wanted = canonical_dtype(dtype)
        if wanted == pl.Object():
            raise DataError(
                f"Column {name!r} holds Python objects; a table's cells must be numbers, text, "
                "truth values, dates or times. Convert or drop the column."
            )
        if dtype == pl.UInt64() and not _needs_unsigned(frame[name]):
            wanted = pl.Int64()
        column = pl.col(name)
        if isinstance(dtype, pl.Datetime | pl.Duration) and dtype.time_unit == "ms":
            column = _checked_milliseconds(frame[name])
        if wanted != dtype:
            casts.append(column.cast(wanted))
    if casts:
        frame = frame.with_columns(casts)
    holed = [
        name
        for name, found in frame.select(cs.float().is_nan().any()).to_dict(as_series=False).items()
        if found[0]
    ]
    if holed:
        frame = frame.with_columns(pl.col(holed).fill_nan(None))
    return frame


def canonical_dtype(dtype: pl.DataType) -> pl.DataType:
    """The type that a column of `dtype` has after reading.

    >>> canonical_dtype(pl.Int8()), canonical_dtype(pl.Decimal(10, 2))
    (Int64, Float64)
    """
    if dtype.is_integer():
        return pl.UInt64() if dtype == pl.UInt64() else _large(dtype)
    if dtype.is_numeric():
        return pl.Float64()
    if isinstance(dtype, pl.Categorical | pl.Enum | pl.Null):
        return pl.String()
    if isinstance(dtype, pl.Datetime):
        return pl.Datetime("us", dtype.time_zone)
    if isinstance(dtype, pl.Duration):
        return pl.Duration("us")
    return dtype


def _large(dtype: pl.DataType) -> pl.DataType:
    # 128-bit integers do not fit Int64: a number that long is a label, and text keeps it exactly.
    return pl.String() if dtype in (pl.Int128(), pl.UInt128()) else pl.Int64()


def _needs_unsigned(column: pl.Series) -> bool:
    largest = column.max()
    return isinstance(largest, int) and largest > 2**63 - 1


def _checked_milliseconds(column: pl.Series) -> pl.Expr:
    limit = (2**63 - 1) // 1000
    physical = column.to_physical()
    for edge in (physical.min(), physical.max()):
        if isinstance(edge, int) and abs(edge) > limit:
            raise DataError(
                f"Column {column.name!r} holds a date outside the years that microseconds can "
                "express (about -290,000 to +290,000). Correct or drop that cell."
            )
    return pl.col(column.name)


def _to_polars(obj: Any) -> pl.DataFrame:
    library = type(obj).__module__.partition(".")[0]
    if isinstance(obj, pl.LazyFrame):
        frame = obj.collect()
    elif isinstance(obj, pl.DataFrame):
        frame = obj
    elif library == "pandas":
        frame = _from_pandas(obj)
    elif library == "pyarrow":
        frame = _from_arrow(obj)
    elif isinstance(obj, Mapping):
        frame = _from_columns(obj)
    elif _is_rows(obj):
        frame = _from_rows(list(obj))
    else:
        raise DataError(
            "A table is a polars or pandas frame, an Arrow table, a mapping of columns or a list "
            f"of row mappings, got {type(obj).__module__}.{type(obj).__qualname__}."
        )
    if not frame.width:
        raise DataError("The table has no columns.")
    return frame


def _is_rows(obj: Any) -> bool:
    return (
        isinstance(obj, Sequence)
        and not isinstance(obj, str | bytes)
        and all(isinstance(row, Mapping) for row in obj)
    )


def _from_pandas(obj: Any) -> pl.DataFrame:
    if type(obj).__name__ == "Series":
        raise DataError("A pandas Series is one column, not a table: pass `series.to_frame()`.")
    if any(name is not None for name in obj.index.names):
        obj = obj.reset_index()
    names = ["_".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in obj]
    refuse_repeated(names)
    columns = []
    for place, name in enumerate(names):
        column = obj.iloc[:, place]
        kind = str(column.dtype)
        if kind == "category":
            # Through objects: a category's own values decide the type, not its codes.
            columns.append(
                _series(name, column.astype(object).where(column.notna(), None).tolist())
            )
        elif kind == "object":
            cells = column.where(column.notna(), None).tolist()
            # Lists read from files come as arrays, which polars would take for Python objects.
            lists = [cell.tolist() if getattr(cell, "ndim", 0) == 1 else cell for cell in cells]
            columns.append(_series(name, lists))
        elif kind.startswith(("period", "interval")):
            columns.append(_series(name, column.astype(str).where(column.notna(), None).tolist()))
        else:
            columns.append(pl.Series(name, pl.from_pandas(column)))
    return pl.DataFrame(columns)


def _from_arrow(obj: Any) -> pl.DataFrame:
    names = getattr(getattr(obj, "schema", None), "names", None)
    if names is None:
        raise DataError(
            f"An Arrow {type(obj).__name__} is no table; pass a Table or a RecordBatch."
        )
    refuse_repeated(names)
    with warnings.catch_warnings():
        # polars warns on extension types (UUID, JSON): their storage is what we keep.
        warnings.simplefilter("ignore")
        frame = pl.from_arrow(obj)
    if isinstance(frame, pl.Series):
        return frame.to_frame()
    return frame


def _from_columns(columns: Mapping[Any, Any]) -> pl.DataFrame:
    refuse_repeated([str(name) for name in columns])
    made = {str(name): _series(str(name), values) for name, values in columns.items()}
    lengths = {name: len(series) for name, series in made.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name!r}: {length}" for name, length in list(lengths.items())[:8])
        raise DataError(f"All columns must have the same number of cells, got {told}.")
    return pl.DataFrame(list(made.values()))


def _from_rows(rows: list[Mapping[Any, Any]]) -> pl.DataFrame:
    if not rows:
        raise DataError("The table has no rows, so its columns are unknown.")
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(map(str, row)))
    plain = [{str(name): value for name, value in row.items()} for row in rows]
    return pl.DataFrame([_series(name, [row.get(name) for row in plain]) for name in names])


def _series(name: str, values: Any) -> pl.Series:
    if isinstance(values, pl.Series):
        return values.rename(name)
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise DataError(f"Column {name!r} must be a sequence of cells, got {values!r:.60}.")
    library = type(values).__module__.partition(".")[0]
    if library == "pandas":
        return _from_pandas(values.to_frame(name)).to_series()
    if library == "numpy" and values.dtype.kind != "O":
        return pl.Series(name, values)
    values = list(values)
    try:
        return pl.Series(name, values, strict=True)
    except (TypeError, OverflowError, ValueError, pl.exceptions.PolarsError):
        return _mixed_series(name, values)


def _mixed_series(name: str, values: list[Any]) -> pl.Series:
    """Cells of several Python types: numbers join as floats, whatever else is mixed is refused."""
    kinds = Counter(type(value).__name__ for value in values if value is not None)
    if set(kinds) <= {"int", "float"}:
        if all(isinstance(value, int) for value in values if value is not None):
            try:
                return pl.Series(name, values, dtype=pl.UInt64, strict=True)
            except (TypeError, OverflowError, pl.exceptions.PolarsError):
                return pl.Series(name, [None if v is None else str(v) for v in values])
        return pl.Series(name, values, dtype=pl.Float64, strict=False)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    raise DataError(
        f"Column {name!r} mixes types ({told}); give all its cells one type, for example all text."
    )


def refuse_repeated(names: Sequence[str]) -> None:
    """Raise `DataError` naming every column name that occurs more than once."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        told = ", ".join(repr(name) for name in repeated[:10])
        more = f" and {len(repeated) - 10} more" if len(repeated) > 10 else ""
        raise DataError(
            f"Column names must be unique; repeated: {told}{more}. Rename or drop the copies."
        )


def is_frame(obj: Any) -> bool:
    """Whether an object is a table in memory, rather than the name of one.

    >>> is_frame({"a": [1]}), is_frame("customers.csv")
    (True, False)
    """
    if isinstance(obj, pl.DataFrame | pl.LazyFrame | Mapping):
        return True
    if _is_rows(obj):
        return True
    return type(obj).__module__.split(".")[0] in {"pandas", "pyarrow"}


def like(frame: pl.DataFrame, original: Any) -> Any:
    """A result in the kind of table that the input was: pandas, Arrow, or polars for all others.

    >>> like(pl.DataFrame({"a": [1]}), "customers.csv").shape
    (1, 1)
    """
    library = type(original).__module__.split(".")[0]
    if library == "pandas":
        import pandas as pd

        columns = {name: frame[name].to_numpy() for name in frame.columns}
        return pd.DataFrame(columns, index=original.index)
    if library == "pyarrow":
        return frame.to_arrow()
    return frame
